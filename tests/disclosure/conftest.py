"""Small tables, a brute-force attacker, and a spec to try them with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csgraph

from quality.disclosure import Spec, System, Table, join, parse_spec, table_from_frame


def _spec(ways: int = 2, **changes: Any) -> Spec:
    names = ["geo", "cat", "age"][:ways]
    data = {
        "dimensions": {name: {"total": "Total"} for name in names},
        "measure": "n",
        "primary": [{"rule": "frequency", "minimum": 4}],
        "protection": {"width": 2},
        **changes,
    }
    return parse_spec(data)


def _table(values: Any, spec: Spec | None = None, **options: Any) -> Table:
    """A table with margins from an array of its finest cells."""
    array = np.asarray(values)
    spec = spec or _spec(array.ndim)
    columns: dict[str, list[Any]] = {name: [] for name in spec.dimensions}
    for at in np.ndindex(array.shape):
        for name, place in zip(spec.dimensions, at, strict=True):
            columns[name].append(f"{name[0]}{place}")
    frame = pl.DataFrame({**columns, "n": array.ravel().tolist()})
    return table_from_frame(frame, spec, name="t", add_margins=True, **options)


@cache
def _every(shape: tuple[int, ...], most: int, cells: tuple[tuple[int, ...], ...], names: tuple[tuple[str, ...], ...]):
    """The value of each cell (columns) in every whole table (rows) of finest cells 0..most."""
    leaves = np.array(list(itertools.product(range(most + 1), repeat=int(np.prod(shape)))), dtype=np.int64)
    grid = leaves.reshape(-1, *shape)
    every = np.empty((len(leaves), len(cells)))
    for row, codes in enumerate(cells):
        part = grid
        for axis, (code, known) in enumerate(zip(codes, names, strict=True)):
            if code:
                part = np.take(part, [int(known[code][1:])], axis=axis + 1)
        every[:, row] = part.reshape(len(leaves), -1).sum(axis=1)
    return every


def _brute(
    system: System, shape: tuple[int, ...], least: float, most: int, minimum: int | None = None, bold: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value per cell over all whole tables of finest cells 0..most that fit what is published.

    With `minimum` each set of hidden cells that relations connect holds one under it; `bold` takes all of such a set
    that can be under it to be so, where there is such a table.
    """
    table = system.tables[0]
    every = _every(shape, most, tuple(map(tuple, table.codes.tolist())), tuple(d.codes for d in table.dimensions))
    hidden = np.isnan(table.value)
    fits = (every[:, ~hidden] == table.value[~hidden]).all(axis=1) & (every[:, hidden] >= least).all(axis=1)
    fits &= (every >= system.floor).all(axis=1) & (every <= system.ceiling).all(axis=1)
    if minimum is not None and hidden.any():
        tied = abs(system.relations.matrix[:, np.flatnonzero(hidden)])
        _, part = csgraph.connected_components(tied.T @ tied, directed=False)
        for number in range(part.max() + 1):
            under = every[:, np.flatnonzero(hidden)[part == number]] < minimum
            every_one = under[:, under[fits].any(axis=0)].all(axis=1)
            fits &= every_one if bold and (fits & every_one).any() else under.any(axis=1) | bold
    if not fits.any():
        return np.full(len(table), np.nan), np.full(len(table), np.nan)
    return every[fits].min(axis=0), every[fits].max(axis=0)


@pytest.fixture
def spec() -> Callable[..., Spec]:
    """A spec over geo, cat (and age) with changes."""
    return _spec


@pytest.fixture
def table() -> Callable[..., Table]:
    """A table with margins from an array."""
    return _table


@pytest.fixture
def brute() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """A brute-force attacker."""
    return _brute


@pytest.fixture
def hide() -> Callable[..., System]:
    """A published system from a table in which the named cells (by row) are hidden."""

    def hidden(table: Table, rows: Any) -> System:
        value = table.value.copy()
        value[np.asarray(rows)] = np.nan
        return join([table]).with_values([value])

    return hidden
