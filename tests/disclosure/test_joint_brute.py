"""Releases judged together agree with an attacker who tries every pair of tables that fits them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from quality.disclosure import Earlier, Rounding, System, audit, joint_system
from quality.disclosure.auditor import rounding_interval
from quality.disclosure.table import Table

MOST = 4
LEAVES = np.array(list(itertools.product(range(MOST + 1), repeat=4)), dtype=np.int64)


def _every(table: Table) -> np.ndarray:
    """The value of each cell (columns) in every table of 2 × 2 finest cells from 0 to MOST (rows)."""
    grid = LEAVES.reshape(-1, 2, 2)
    out = np.empty((len(grid), len(table)), dtype=np.int64)
    for row, codes in enumerate(table.codes):
        part = grid
        for axis, (d, code) in enumerate(zip(table.dimensions, codes, strict=True)):
            if code:
                part = np.take(part, [int(d.codes[code][1:])], axis=axis + 1)
        out[:, row] = part.reshape(len(grid), -1).sum(axis=1)
    return out


def _published(table: Table, hidden: np.ndarray) -> Table:
    return replace(table, value=np.where(hidden, np.nan, table.value))


def _fits(table: Table, every: np.ndarray, rounding: Rounding | None) -> np.ndarray:
    hidden = np.isnan(table.value)
    good = (every[:, hidden] >= 1).all(axis=1)
    if rounding is None:
        return np.asarray(good & (every[:, ~hidden] == table.value[~hidden]).all(axis=1))
    shown = table.value[~hidden]
    low, high = rounding_interval(shown, rounding, np.ones(len(shown), bool))
    return np.asarray(good & ((every[:, ~hidden] >= low) & (every[:, ~hidden] <= high)).all(axis=1))


def _brute(now: Table, old: Table, revision: int | None, rounding: Rounding | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value of each cell of `now`; without `revision` both releases hold the same figures."""
    every = _every(now)
    new_fits, old_fits = _fits(now, every, None), _fits(old, every, rounding)
    if revision is None:
        left = every[new_fits & old_fits]
    else:
        new, before = every[new_fits], every[old_fits]
        tied = (np.abs(new[:, None, :] - before[None, :, :]) <= revision).all(axis=2).any(axis=1)
        left = new[tied]
    return left.min(axis=0), left.max(axis=0)


def _joint(now: Table, old: Table, revision: int | None, rounding: Rounding | None) -> System:
    rounded = None if rounding is None else np.ones(len(old), dtype=bool)
    return joint_system([now], [Earlier(old, "r", revision, rounded, rounding=rounding)])[0]


@pytest.mark.parametrize("revision", [None, 0, 1])
@pytest.mark.parametrize("base", [0, 3])
def test_two_releases_leave_what_brute_force_leaves(revision: int | None, base: int, table, spec) -> None:
    norms = spec(attacker={"lower": 1}, rounding=None).norms()
    rounding = Rounding(base=base) if base else None
    equal = tried = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        new = random.integers(1, MOST, (2, 2))
        old = new if not revision else new + np.array([[random.integers(0, 2), 0], [0, 0]])
        now, before = table(new), table(old, version="now" if revision is None else "old")
        now = _published(now, random.random(9) < 0.8)
        if rounding is None:
            before = _published(before, random.random(9) < 0.8)
        else:
            before = replace(before, value=np.floor(before.value / base + 0.5) * base)
        system = _joint(now, before, revision, rounding)
        result = audit(system, norms)
        cells = system.cell_of[0]
        low, high = _brute(now, before, revision, rounding)
        finest = (now.codes != 0).all(axis=1)
        if result.upper[cells[finest]].max() > MOST:
            continue
        tried += 1
        assert (result.lower[cells] <= low).all()
        assert (result.upper[cells] >= high).all()
        equal += int(np.array_equal(result.lower[cells], low) and np.array_equal(result.upper[cells], high))
    assert tried >= 5
    assert equal >= 0.9 * tried, "whole numbers tell hardly more than the programs find"
