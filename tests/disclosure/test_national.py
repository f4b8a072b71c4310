"""A table of national size: protected to width 5 and audited within the time and memory that a night run has."""

from __future__ import annotations

import resource
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from quality.disclosure import Earlier, join, parse_spec, protect, table_from_frame
from quality.disclosure.readers import with_margins
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


def test_three_dimensions_are_protected_in_layers() -> None:
    table, spec = national(2, 6, 40, ages=2)
    done = protect([table], spec.norms())
    assert len(table) > 1200
    assert done.summary["narrowest"] >= 5


def test_linked_tables_larger_than_one_region() -> None:
    """By category and by age over the same areas: one system that is no network, solved block by block."""
    table, spec = national(4, 20, 100, ages=2)
    frame = table.frame()
    tables = []
    for other in ("cat", "age"):
        shape = parse_spec({**spec.model_dump(exclude_none=True), "dimensions": {"geo": {}, other: {}}})
        left_out = ({"cat", "age"} - {other}).pop()
        rows = frame.filter(pl.col(left_out) == "Total").drop(left_out)
        tree = {d: table.dimensions[0].codes[p] for d, p in zip(*_tree(table), strict=True)}
        tables.append(table_from_frame(rows, shape, name=other, hierarchies={"geo": tree}))
    done = protect(tables, spec.norms())
    system = join(tables)
    assert system.cells > 1200
    assert done.summary["narrowest"] >= 5


def test_last_year_binds_this_year_block_by_block() -> None:
    """Figures revised by at most 60, of which a few became small: ties within an area need no wider programs."""
    table, spec = national(3, 25, 120)
    norms = spec.norms()
    first = protect([table], norms)
    finest = np.flatnonzero(~table.dimensions[0].inner[table.codes[:, 0]] & (table.codes[:, 1] != 0))
    random = np.random.default_rng(5)
    value = table.value[finest]
    value = np.where(
        (value > 2) & (random.random(len(value)) < 0.05), value + random.integers(-2, 3, len(value)), value
    )
    again = with_margins(replace(table, codes=table.codes[finest], value=value))
    before = Earlier(replace(first.tables[0], version="2019"), release="2019", revision=60)
    done = protect([again], norms, earlier=[before])
    assert len(again) > 1200, "more than one region"
    assert done.summary["narrowest"] >= 5


def _tree(table):
    geo = table.dimensions[0]
    return geo.codes[1:], geo.parent[1:]
