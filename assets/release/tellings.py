"""Whether marts give one count two names, or split it over several: those are one system, whatever they are called.

Figures are protected together per `telling`. A count that is shown again under another name, its multiple, the sum of
two others, or what CBS's figure leaves of another would each be protected alone, and one would tell the other.

Belongs here: finding that in the counts themselves. Does not belong here: what is done about it (assets.release.gate).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import duckdb
import numpy as np
import numpy.typing as npt

from assets.release.blocks import Key, Part

ENOUGH = 3
"""Cells above zero that must agree before it is no chance."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Clash:
    """Counts under different names of which one follows from the others; `told` says how, in Dutch, without figures."""

    tellingen: tuple[str, ...]
    told: str


@dataclass(frozen=True, eq=False)
class _Series:
    """One count by region and period: all of it, or one category of a classification."""

    telling: str
    tail: tuple[str, ...]
    is_total: bool
    count: Floats

    @property
    def name(self) -> str:
        return self.telling if self.is_total else f"{self.telling} ({', '.join(self.tail)})"


def clashes(read: Mapping[str, Mapping[Key, Part]], connection: duckdb.DuckDBPyConnection, cbs: str) -> Iterator[Clash]:
    """Every count that follows from counts under other names, over all periods and regions that they share.

    Args:
        read: per mart what it tells (`blocks.read_parts`).
        connection: holds `cbs`.
        cbs: a table with `jaar`, `regio_code`, `indicator` and `waarde` of CBS's figures.
    """
    places: dict[tuple[str, str], int] = {}
    years: list[int] = []
    found: dict[tuple[str, tuple[str, ...], bool], dict[int, float]] = {}
    for parts in read.values():
        for (telling, period, _), part in parts.items():
            for key, count, is_total in zip(part.keys, part.count, part.is_total, strict=True):
                at = places.setdefault((period, key[0]), len(places))
                if at == len(years):
                    years.append(part.indeling)
                if not np.isnan(count):
                    tail = () if is_total else key[1:]
                    found.setdefault((telling, tail, bool(is_total)), {})[at] = float(count)
    series = []
    for (telling, tail, is_total), counts in found.items():
        column = np.full(len(places), np.nan)
        column[list(counts)] = list(counts.values())
        series.append(_Series(telling, tail, is_total, column))
    yield from _same(series)
    totals = [one for one in series if one.is_total]
    yield from _sums(series, totals)
    yield from _complements(totals, list(places), years, connection, cbs)


def _same(series: Sequence[_Series]) -> Iterator[Clash]:
    for one, other in combinations(series, 2):
        if one.telling != other.telling and _agree(one.count, other.count, scaled=True):
            yield Clash((one.telling, other.telling), f"{other.name} volgt cel voor cel uit {one.name}")


def _sums(series: Sequence[_Series], totals: Sequence[_Series]) -> Iterator[Clash]:
    for one, other in combinations(series, 2):
        for whole in totals:
            names = (whole.telling, one.telling, other.telling)
            # the parts of one count are a system already
            apart = len(set(names)) > 1 and whole not in (one, other) and _moves(one.count, other.count)
            if apart and _agree(whole.count, one.count + other.count):
                yield Clash(names, f"{whole.name} is de som van {one.name} en {other.name}")


def _complements(
    totals: Sequence[_Series],
    places: Sequence[tuple[str, str]],
    years: Sequence[int],
    connection: duckdb.DuckDBPyConnection,
    cbs: str,
) -> Iterator[Clash]:
    if len(totals) < 2:
        return
    known: dict[str, dict[tuple[int, str], float]] = {}
    for year, code, indicator, value in connection.execute(f"SELECT * FROM {cbs}").fetchall():
        known.setdefault(indicator, {})[year, code] = value
    for indicator, figures in sorted(known.items()):
        column = np.array([figures.get((year, code), np.nan) for (_, code), year in zip(places, years, strict=True)])
        for one, other in combinations(totals, 2):
            if _moves(one.count, other.count) and _agree(column, one.count + other.count):
                told = f"{one.name} en {other.name} zijn samen {indicator} van het CBS"
                yield Clash((one.telling, other.telling), told)


def _agree(one: Floats, other: Floats, *, scaled: bool = False) -> bool:
    """Whether two counts are the same (or a fixed multiple) wherever both are known, and enough is above zero."""
    both = ~np.isnan(one) & ~np.isnan(other)
    a, b = one[both], other[both]
    if (a > 0).sum() < ENOUGH or ((a > 0) != (b > 0)).any():
        return False
    if not scaled or np.array_equal(a, b):
        return bool(np.array_equal(a, b))
    ratio = a.sum() / b.sum()
    return len(np.unique(a[a > 0])) > 1 and bool(np.allclose(a, ratio * b, rtol=1e-9, atol=1e-9))


def _moves(one: Floats, other: Floats) -> bool:
    """Whether both add something somewhere: a sum with nothing is the same count."""
    return bool((np.nan_to_num(one) > 0).any() and (np.nan_to_num(other) > 0).any())
