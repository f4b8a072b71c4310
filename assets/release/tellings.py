"""Whether marts give one count two names, or split it over several: those are one system, whatever they are called.

Figures are protected together per `telling`. A count that is shown again under another name, its multiple, a sum of
others, what CBS's figure leaves of them, or a class that is made of those of another classification would each be
protected alone, and one would tell the other. So every count and every class is a column of figures by region and
period, and what is sought are linear relations between columns that their tables do not state themselves.

A handful of small figures agrees by chance. So a relation counts when its figures say more than was chosen to make it
fit (`_bits`); which counts have too few figures for that is told (`Compared.unjudged`).

Belongs here: finding that in the counts themselves. Does not belong here: what is done about it (assets.release.gate).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import numpy.typing as npt

from assets.release.blocks import Key, Part
from quality.protection import HEIGHT, UNKNOWN_BUURT

CHANCE = 8.0
"""Bits that a relation must say beyond what was chosen to make it fit: one in 2⁸ that do is chance."""

MOST_SETS, MOST_COLUMNS = 64, 800
"""How many sets of figures are compared, and how many columns of one; what is more is told as not judged."""

PRIME = 2**31 - 1
"""Relations are solved for modulo this prime: exact, and no product leaves 64 bits."""

TOLD = 6
"""How many columns a message names."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Clash:
    """Counts of which one follows from the others, though no table says so.

    Attributes:
        tellingen: the counts; one alone where its classifications are made of each other.
        marts: the tables that show any of the columns.
        told: how, in Dutch, without figures.
    """

    tellingen: tuple[str, ...]
    marts: frozenset[str]
    told: str


@dataclass(frozen=True)
class Compared:
    """What came of it; `unjudged` are the sets of counts with too few figures to tell every relation from chance."""

    clashes: tuple[Clash, ...]
    unjudged: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Column:
    """A count by region and period, or one class of it; a figure of CBS stands in no mart."""

    telling: str
    classes: tuple[tuple[str, str], ...] = ()
    marts: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        if not self.marts:
            return f"{self.telling} van het CBS"
        return f"{self.telling} ({', '.join(code for _, code in self.classes)})" if self.classes else self.telling


@dataclass(frozen=True, eq=False)
class _Grid:
    """Columns side by side; a row per place (period and region), NaN where nothing is known."""

    places: Sequence[tuple[str, str]]
    heights: npt.NDArray[np.str_]
    columns: Sequence[_Column]
    count: Floats


def compare(read: Mapping[str, Mapping[Key, Part]], connection: duckdb.DuckDBPyConnection, cbs: str) -> Compared:
    """Every count that follows from others that are in no one system with it.

    Args:
        read: per mart what it tells (`blocks.read_parts`).
        connection: holds `cbs`.
        cbs: a table with `jaar`, `regio_code`, `indicator` and `waarde` of CBS's figures.
    """
    grid = _side_by_side(read)
    names = tuple(sorted({column.telling for column in grid.columns}))
    public = _public(grid, connection, cbs) if len(names) > 1 else replace(grid, columns=(), count=grid.count[:, :0])
    sets = _row_sets(~np.isnan(grid.count))
    found: dict[frozenset[_Column], Clash] = {}
    unjudged = {names} if len(sets) > MOST_SETS else set()
    for rows, of in sets[:MOST_SETS]:
        columns = [grid.columns[at] for at in of]
        if not _are_apart(columns):
            continue
        kept = _finest(grid, rows)
        if len(of) > MOST_COLUMNS or len(np.unique(grid.count[np.ix_(kept, of)], axis=0)) <= len(of):
            unjudged.add(tuple(sorted({column.telling for column in columns})))
        if len(of) > MOST_COLUMNS:
            continue
        for at, beside in _with_public(public, kept):
            figures = np.concatenate([grid.count[np.ix_(at, of)], public.count[np.ix_(at, beside)]], axis=1)
            for about, told in _relations(figures, [*columns, *(public.columns[i] for i in beside)]):
                own = [column for column in about if column.marts]
                marts = frozenset().union(*(column.marts for column in own))
                found.setdefault(frozenset(about), Clash(tuple(sorted({c.telling for c in own})), marts, told))
    return Compared(tuple(found.values()), tuple(sorted(unjudged)))


def _side_by_side(read: Mapping[str, Mapping[Key, Part]]) -> _Grid:
    places: dict[tuple[str, str], int] = {}
    heights: dict[int, str] = {}
    columns: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    marts: dict[int, set[str]] = {}
    cells: list[tuple[list[int], list[int], Floats]] = []
    for mart, parts in read.items():
        for (telling, period, _), part in parts.items():
            totals = part.spec.total_of
            at: dict[tuple[str, ...], int] = {}
            for tail in sorted({key[1:] for key in part.keys}):
                split = zip(totals.items(), tail, strict=True)
                classes = tuple(sorted((name, code) for (name, total), code in split if code != total))
                at[tail] = columns.setdefault((telling, classes), len(columns))
                marts.setdefault(at[tail], set()).add(mart)
            rows = [places.setdefault((period, key[0]), len(places)) for key in part.keys]
            heights.update(zip(rows, part.heights, strict=True))
            cells.append((rows, [at[key[1:]] for key in part.keys], part.count))
    count = np.full((len(places), len(columns)), np.nan)
    for rows, of, counts in cells:
        known = ~np.isnan(counts)
        count[np.array(rows, dtype=int)[known], np.array(of, dtype=int)[known]] = counts[known]
    told = [_Column(telling, classes, frozenset(marts[at])) for (telling, classes), at in columns.items()]
    return _Grid(list(places), np.array([heights[at] for at in range(len(places))]), told, count)


def _public(grid: _Grid, connection: duckdb.DuckDBPyConnection, cbs: str) -> _Grid:
    """CBS's whole figures of the year, at the same places."""
    import pyarrow as pa

    years, codes = ([place[0][:4] for place in grid.places], [place[1] for place in grid.places])
    connection.register(
        "_plaatsen", pa.table({"plaats": range(len(years)), "jaar": [int(year) for year in years], "code": codes})
    )
    rows = connection.execute(f"""SELECT plaats, indicator, waarde
        FROM {cbs} AS c JOIN _plaatsen AS p ON p.jaar = c.jaar AND p.code = c.regio_code
        QUALIFY bool_and(waarde = floor(waarde) AND waarde >= 0) OVER (PARTITION BY indicator)""").fetchnumpy()
    connection.unregister("_plaatsen")
    names, of = np.unique(rows["indicator"].astype(str), return_inverse=True)
    count = np.full((len(grid.places), len(names)), np.nan)
    count[rows["plaats"], of] = rows["waarde"]
    return replace(grid, columns=[_Column(str(name)) for name in names], count=count)


def _row_sets(known: Bools) -> list[tuple[Ints, Ints]]:
    """Places at which the same columns are known, with those: for any columns all places that they share.

    One more than may be compared where there are more.
    """
    patterns = {column.tobytes(): column for column in known.T}
    shared: dict[bytes, Bools] = {}
    for pattern in sorted(patterns.values(), key=lambda one: -int(one.sum())):
        for both in (pattern, *(one & pattern for one in list(shared.values()))):
            if both.any() and len(shared) <= MOST_SETS:
                shared.setdefault(both.tobytes(), both)
    return [(np.flatnonzero(rows), np.flatnonzero(known[rows].all(axis=0))) for rows in shared.values()]


def _finest(grid: _Grid, rows: Ints) -> Ints:
    """The rows of the lowest level among these, and of unknown buurten: all others are sums of them."""
    heights = grid.heights[rows]
    lowest = min(set(heights.tolist()) - {UNKNOWN_BUURT}, key=HEIGHT.__getitem__, default=UNKNOWN_BUURT)
    return rows[np.isin(heights, (lowest, UNKNOWN_BUURT))]


def _with_public(public: _Grid, rows: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The rows without any figure of CBS, and the parts of them at which the same figures of CBS are known."""
    yield rows, np.array([], dtype=np.int64)
    groups: dict[bytes, list[int]] = {}
    known = ~np.isnan(public.count[rows])
    for at in np.flatnonzero(known.any(axis=0)):
        groups.setdefault(known[:, at].tobytes(), []).append(int(at))
    for pattern, of in list(groups.items())[:MOST_SETS]:
        yield rows[np.frombuffer(pattern, dtype=bool)], np.array(of, dtype=np.int64)


def _are_apart(columns: Iterable[_Column]) -> bool:
    """Whether no one system holds all these columns: they are of several counts, or no one mart shows them all."""
    every = list(columns)
    own = [column.marts for column in every if column.marts]
    if len({column.telling for column in every if column.marts}) > 1:
        return True
    # what CBS says of one count is `cbs` in its spec
    return len(own) == len(every) > 0 and not frozenset.intersection(*own)


@dataclass(frozen=True, eq=False)
class _Relation:
    """Columns that add up to nothing, or to one fixed number, in every row.

    Attributes:
        terms: weight per column; where weights were solved for, 1 for every column in it.
        solved: how many numbers were solved for to make it fit.
        tried: in bits, how many others were tried beside it.
        told: how the columns hang together, in Dutch.
    """

    terms: Ints
    solved: int
    tried: float
    told: str


def _relations(figures: Floats, columns: Sequence[_Column]) -> Iterator[tuple[list[_Column], str]]:
    """Relations between columns that hold in every row, with what is told of them.

    Args:
        figures: a row per place, a column each; no value is unknown.
        columns: what they are; those of CBS at the end.
    """
    # amounts may be told in cents
    scale = 1 if np.array_equal(figures, np.floor(figures)) else 100
    whole = np.unique(np.rint(scale * figures), axis=0).astype(np.int64)
    own = sum(bool(column.marts) for column in columns)
    stated = _stated(whole, columns)
    for finder in (_twins, _sums, _spans):
        for found in finder(whole, columns, own, stated):
            used = np.flatnonzero(found.terms)
            # once what the tables state is taken out, what is left is what they do not state
            left = np.flatnonzero(found.terms @ stated)
            if _are_apart(columns[int(at)] for at in left) and _bits(whole[:, used], whole[:, left], found) >= CHANCE:
                yield [columns[int(at)] for at in used], found.told


def _bits(raw: Ints, left: Ints, found: _Relation) -> float:
    """How much a relation says beyond what was chosen: in each row it could have come out at any of so many numbers."""
    said = []
    for figures in (raw, left):
        rows = np.sort(np.log2(1 + np.unique(figures, axis=0).max(axis=1, initial=0)))
        said.append(float(rows[: max(len(rows) - found.solved, 0)].sum()) - found.tried)
    return min(said)


def _stated(figures: Ints, columns: Sequence[_Column]) -> Ints:
    """Per column what the tables say that it is: itself, or what the other classes leave of the whole.

    The latter for the largest class of each classification, so that what rare classes have in common stays rare.
    """
    by = {(column.telling, column.classes): at for at, column in enumerate(columns)}
    parts: dict[tuple[str, int, str], dict[str, int]] = {}
    size: dict[tuple[str, str, str, str], int] = {}
    for at, column in enumerate(columns):
        for name, code in column.classes:
            above = by.get((column.telling, tuple(one for one in column.classes if one[0] != name)))
            for mart in column.marts:
                about = (mart, column.telling, name, code)
                size[about] = size.get(about, 0) + int(figures[:, at].sum())
                if above is not None:
                    parts.setdefault((mart, above, name), {})[code] = at
    rest: dict[int, tuple[int, list[int]]] = {}
    seen: set[tuple[int, str]] = set()
    for (mart, above, name), of in parts.items():
        last = of[max(of, key=lambda code: (size[mart, columns[above].telling, name, code], code))]
        here = {(at, name) for at in of.values()}
        # another table may show the same classes: what is left for one is worked out once
        if (
            last not in rest
            and not here & seen
            and np.array_equal(figures[:, list(of.values())].sum(axis=1), figures[:, above])
        ):
            rest[last] = (above, [at for at in of.values() if at != last])
            seen |= here
    stated: Ints = np.eye(len(columns), dtype=np.int64)
    done: set[int] = set()

    def settle(at: int) -> Ints:
        if at in rest and at not in done:
            above, others = rest[at]
            stated[at] = settle(above)
            for other in others:
                stated[at] -= settle(other)
        done.add(at)
        row: Ints = stated[at]
        return row

    for at in rest:
        settle(at)
    return stated


def _twins(figures: Ints, columns: Sequence[_Column], own: int, stated: Ints) -> Iterator[_Relation]:
    """Counts that are the same, a multiple of each other, or a fixed number apart."""
    moved = figures[:, :own] - figures[:1, :own]
    step = np.gcd.reduce(moved, axis=0)
    sign = np.array([np.sign(column[np.flatnonzero(column)[:1]].sum()) for column in moved.T], dtype=np.int64)
    alike: dict[bytes, list[int]] = {}
    for at in np.flatnonzero(step):
        alike.setdefault((moved[:, at] // (step[at] * sign[at])).tobytes(), []).append(int(at))
    tried = float(np.log2(max(own * (own - 1) / 2, 1)))
    for first, *others in alike.values():
        for other in others:
            one, two = int(step[first] * sign[first]), int(step[other] * sign[other])
            terms = np.zeros(len(columns), dtype=np.int64)
            terms[[first, other]] = two, -one
            solved = int(one != two) + int(two * figures[0, first] != one * figures[0, other])
            told = f"{columns[other].name} volgt cel voor cel uit {columns[first].name}"
            yield _Relation(terms, solved, tried, told)


def _sums(figures: Ints, columns: Sequence[_Column], own: int, stated: Ints) -> Iterator[_Relation]:
    """Counts, and figures of CBS, that are the sum of two others."""
    said = np.log2(1 + figures).sum(axis=0)
    able = np.flatnonzero(figures[:, :own].any(axis=0))
    one, other = (able[at] for at in np.triu_indices(len(able), 1))
    tried = float(np.log2(max(len(one) * len(columns), 1)))
    # the same weighing of the rows for each column, so that weights add up as the columns do
    most = 2**61 // max(int(figures.sum(axis=0).max(initial=0)), 1)
    weight = np.random.default_rng(0).integers(1, max(most, 2), len(figures)) @ figures
    order = np.argsort(weight, kind="stable")
    at = np.minimum(np.searchsorted(weight[order], weight[one] + weight[other]), len(order) - 1)
    whole = order[at]
    likely = (weight[whole] == weight[one] + weight[other]) & (said[whole] >= CHANCE + tried)
    for a, b, y in zip(one[likely], other[likely], whole[likely], strict=True):
        if np.array_equal(figures[:, a] + figures[:, b], figures[:, y]):
            terms = np.zeros(len(columns), dtype=np.int64)
            terms[[a, b, y]] = 1, 1, -1
            names = f"{columns[a].name} en {columns[b].name}"
            is_cbs = not columns[y].marts
            told = f"{names} zijn samen {columns[y].name}" if is_cbs else f"{columns[y].name} is de som van {names}"
            yield _Relation(terms, 0, tried, told)


def _spans(figures: Ints, columns: Sequence[_Column], own: int, stated: Ints) -> Iterator[_Relation]:
    """Counts, and figures of CBS, that follow from any number of others, with any fixed weights."""
    itself = np.flatnonzero((stated == np.eye(len(columns), dtype=np.int64)).all(axis=1) & figures.any(axis=0))
    able, beside = itself[itself < own], itself[itself >= own]
    # a number that stays the same is one more to explain by
    whole = np.concatenate([np.ones((len(figures), 1), dtype=np.int64), figures[:, [*able, *beside]]], axis=1) % PRIME
    pivots, weights = _solved(whole, 1 + len(able))
    for at in range(1, whole.shape[1]):
        if at in pivots:
            continue
        used = [pivot for pivot, weight in zip(pivots, weights[:, at], strict=True) if weight]
        if not np.array_equal(_times(whole[:, pivots], weights[:, at]), whole[:, at]):
            continue  # a figure of CBS that does not follow
        terms = np.zeros(len(columns), dtype=np.int64)
        terms[[itself[one - 1] for one in (at, *used) if one]] = 1
        names = [columns[itself[one - 1]].name for one in used if one]
        more = f" en nog {len(names) - TOLD}" if len(names) > TOLD else ""
        told = f"{columns[itself[at - 1]].name} volgt uit {', '.join(names[:TOLD])}{more} samen"
        yield _Relation(terms, len(used), 0.0, told)


def _solved(whole: Ints, able: int) -> tuple[list[int], Ints]:
    """Columns that do not follow from those before them, of the first `able`, and all others as weights of these.

    From as few rows as tell it: those on which what was found does not hold are added until it holds on all.
    """
    rows = np.random.default_rng(0).permutation(len(whole))[: whole.shape[1] + 64]
    while True:
        pivots, weights = _eliminated(whole[rows], able)
        free = [at for at in range(able) if at not in pivots]
        wrong = np.zeros(len(whole), dtype=bool)
        for at in free:
            wrong |= _times(whole[:, pivots], weights[:, at]) != whole[:, at]
        if not wrong.any():
            return pivots, weights
        rows = np.concatenate([rows, np.flatnonzero(wrong)[:64]])


def _eliminated(rows: Ints, able: int) -> tuple[list[int], Ints]:
    left, pivots = rows.copy(), list[int]()
    for at in range(able):
        below = np.flatnonzero(left[len(pivots) :, at])
        if not len(below):
            continue
        top, found = len(pivots), len(pivots) + int(below[0])
        left[[top, found]] = left[[found, top]]
        left[top] = left[top] * pow(int(left[top, at]), -1, PRIME) % PRIME
        others = np.flatnonzero(left[:, at])
        others = others[others != top]
        left[others] = (left[others] - left[others, at : at + 1] * left[top]) % PRIME
        pivots.append(at)
    return pivots, left[: len(pivots)]


def _times(whole: Ints, weights: Ints) -> Ints:
    """The product modulo the prime, in halves so that no sum leaves 64 bits."""
    high, low = np.divmod(weights, 1 << 16)
    return ((whole @ high % PRIME << 16) + whole @ low) % PRIME
