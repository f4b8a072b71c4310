"""A table of national size: protected to width 5 and audited within the time and memory that a night run has."""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest

from quality.disclosure import join, protect
from quality.disclosure.synthetic import national
from quality.disclosure.verify import given_away


def test_twenty_generated_gemeenten() -> None:
    table, spec = national(20, 160, 800)
    done = protect([table], spec.norms())
    assert done.summary["narrowest"] >= 5
    assert done.certificate["exact"]
    assert not given_away(join([table]).with_values([done.tables[0].value]), 1.0).any()


@pytest.mark.slow
def test_the_whole_country() -> None:
    table, spec = national()
    start = time.process_time()
    done = protect([table], spec.norms())
    assert len(table) == 156_159
    assert done.summary["narrowest"] >= 5
    assert not given_away(join([table]).with_values([done.tables[0].value]), 1.0).any()
    assert not np.isnan(done.tables[0].value[table.value == 0]).any()
    assert time.process_time() - start < 40, "20 s on an idle machine; CPU time leaves room for a busy one"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * 1024 * 1024
