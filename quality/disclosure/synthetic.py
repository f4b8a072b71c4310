"""Made-up tables of national size, for measuring and for tests that must not depend on data beside the repository."""

from __future__ import annotations

import numpy as np
import polars as pl

from quality.disclosure.readers import table_from_frame
from quality.disclosure.spec import Spec, parse_spec
from quality.disclosure.table import Table

SHARES = (0.775, 0.078, 0.054, 0.037, 0.025, 0.015, 0.010, 0.006)
"""Sizes of the eight categories, as in the case synthetic_geo20."""


def national(
    gemeenten: int = 350, wijken: int = 3000, buurten: int = 14000, ages: int = 0, seed: int = 1
) -> tuple[Table, Spec]:
    """Inhabitants by area × 8 categories (× age groups), every level from buurt to the country, norm 10, width 5.

    350, 3,000 and 14,000 areas give 156,159 cells of which some 37,700 lie under the norm, as in the country.

    Args:
        gemeenten: how many.
        wijken: how many in all.
        buurten: how many in all.
        ages: groups of a third dimension, 0 for none.
        seed: of the generator.
    """
    random = np.random.default_rng(seed)
    of_wijk = np.sort(np.concatenate([np.arange(gemeenten), random.integers(0, gemeenten, wijken - gemeenten)]))
    of_buurt = np.sort(np.concatenate([np.arange(wijken), random.integers(0, wijken, buurten - wijken)]))
    size = np.maximum(5, random.lognormal(6.2, 1.35, buurten)).astype(np.int64)
    share = np.maximum(random.dirichlet(np.array(SHARES) * 25, buurten), 1e-12)
    counts = random.multinomial(size, share / share.sum(axis=1, keepdims=True))
    columns = {
        "geo": np.repeat([f"B{b:05}" for b in range(buurten)], len(SHARES)),
        "cat": np.tile([f"c{c}" for c in range(len(SHARES))], buurten),
    }
    values = counts.ravel()
    if ages:
        parts = random.multinomial(values, random.dirichlet(np.full(ages, 6.0), len(values)))
        columns = {name: np.repeat(codes, ages) for name, codes in columns.items()}
        columns["age"] = np.tile([f"a{a}" for a in range(ages)], len(values))
        values = parts.ravel()
    tree = {f"G{g:04}": "" for g in range(gemeenten)}
    tree |= {f"W{w:05}": f"G{g:04}" for w, g in enumerate(of_wijk)}
    tree |= {f"B{b:05}": f"W{w:05}" for b, w in enumerate(of_buurt)}
    spec = parse_spec(
        {
            "dimensions": {name: {} for name in columns},
            "measure": "inwoners",
            "primary": [{"rule": "frequency", "minimum": 10}],
            "protection": {"width": 5},
        }
    )
    frame = pl.DataFrame({**columns, "inwoners": values})
    return table_from_frame(frame, spec, name="landelijk", hierarchies={"geo": tree}, add_margins=True), spec
