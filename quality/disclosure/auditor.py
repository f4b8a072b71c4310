"""The auditor: what an attacker can compute about every hidden cell, proved with linear programs.

Written apart from the protector; both share the table reader and the declared policy and nothing else, so that a
mistake in the one is not repeated in the other.

The attacker solves, for each hidden cell i, min and max x_i subject to A·x = 0, the published values, rounded
values as intervals, and what is known of hidden ones (Fischetti & Salazar 2001; Hundepool et al. 2012, 4.4).
Published cells split the hidden ones into small independent components, many of which go into one program, and
every solution is a witness for all cells in it: it is a table the attacker cannot rule out, so each cell's
interval reaches at least from the least to the largest witness. Only what no witness settles is solved for.

Witnesses come from the published values alone, never from the truth, so intervals may be published.
For counts the intervals are rounded inward to whole numbers, since the attacker knows that counts are whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from quality.disclosure.errors import DisclosureError, NotProtected
from quality.disclosure.spec import FrequencyRule, GroupRule, Policy, PopulationRule, Rounding
from quality.disclosure.table import Bools, Floats, Ints, System

_Highs: Any = highspy.Highs

TOLERANCE = 1e-6
BATCH_CELLS = 1500
"""Cells a program holds at least, so that many small components share the cost of a call."""
JOINTLY = 8
"""Cells whose demand is open from which tables are sought that meet many of them at once."""


def room(lower: Floats, upper: Floats) -> Floats:
    """Width of intervals; none where no table was found yet, or only tables with a cell beyond all bounds."""
    return np.asarray(np.where(np.isposinf(lower), 0.0, upper - np.where(np.isposinf(lower), 0.0, lower)))


@dataclass(frozen=True)
class Demand:
    """What must be proved for a cell: lower ≤ `low`, upper ≥ `high`, width ≥ `width` (NaN: not asked)."""

    low: Floats
    high: Floats
    width: Floats

    @staticmethod
    def none(cells: int) -> Demand:
        """Nothing asked of any cell."""
        return Demand(np.full(cells, np.nan), np.full(cells, np.nan), np.full(cells, np.nan))

    def of(self, cells: Ints) -> Demand:
        """The same of some cells alone."""
        out = Demand.none(len(self.low))
        for mine, all_of in ((out.low, self.low), (out.high, self.high), (out.width, self.width)):
            mine[cells] = all_of[cells]
        return out

    def short(self, lower: Floats, upper: Floats) -> Floats:
        """By how much each cell's interval falls short of what is asked; 0 where it does not."""
        with np.errstate(invalid="ignore"):
            gaps = (lower - self.low, self.high - upper, self.width - room(lower, upper))
        gap = np.maximum.reduce([np.where(np.isnan(g), 0.0, g) for g in gaps])
        return np.where(gap > self._slack(), gap, 0.0)

    def _slack(self) -> Floats:
        size = np.maximum.reduce([np.nan_to_num(np.abs(v)) for v in (self.low, self.high, self.width)])
        return np.asarray(TOLERANCE * np.maximum(1.0, size), dtype=np.float64)


@dataclass(frozen=True)
class Audit:
    """What the attacker can compute.

    Attributes:
        lower: per cell the least value the attacker cannot rule out (the value itself where published).
        upper: per cell the largest such value; infinite where nothing bounds it.
        exact: whether both ends are optima; otherwise the interval is proved to be at least this wide.
        hidden: which cells are hidden.
        short: by how much a cell of which something is demanded falls short.
        programs: linear programs solved.
        seconds: wall-clock time.
    """

    lower: Floats
    upper: Floats
    exact: Bools
    hidden: Bools
    short: Floats
    programs: int
    seconds: float

    @property
    def failing(self) -> Ints:
        """Under-protected cells, worst first."""
        cells = np.flatnonzero(self.short > 0)
        return cells[np.lexsort((cells, -self.short[cells]))]

    @property
    def passed(self) -> bool:
        """Whether every judged cell is protected."""
        return not (self.short > 0).any()

    @property
    def width(self) -> Floats:
        """How wide each cell's interval is."""
        return room(self.lower, self.upper)

    @property
    def narrowest(self) -> float:
        """Width of the narrowest interval over all hidden cells (infinite when nothing is hidden)."""
        return float(self.width[self.hidden].min(initial=np.inf))


def bounds(
    system: System, policy: Policy, hidden: Bools, rounded: Bools, truth: Floats | None = None
) -> tuple[Floats, Floats]:
    """What is known of each cell beforehand: published values, rounding intervals, the attacker's bounds.

    Raises:
        DisclosureError: a percentage attacker without the truth.
    """
    lower, upper = system.value.copy(), system.value.copy()
    attacker = policy.attacker
    if attacker.percent is not None:
        if truth is None:
            raise DisclosureError("an attacker who knows values within a percentage is judged only with --truth")
        lower[hidden] = truth[hidden] * (1 - attacker.percent / 100)
        upper[hidden] = truth[hidden] * (1 + attacker.percent / 100)
    else:
        least = attacker.lower
        if least is None:
            lower[hidden] = np.where((system.is_count & ~with_zeros(system, policy, hidden))[hidden], 1.0, 0.0)
        else:
            lower[hidden] = least
        upper[hidden] = np.inf if attacker.upper is None else attacker.upper
    if rounded.any():
        if policy.rounding is None:
            raise DisclosureError("the table holds rounded values, but neither spec nor policy names `rounding`")
        low, high = rounding_interval(system.value[rounded], policy.rounding, system.is_count[rounded])
        lower[rounded], upper[rounded] = known_minimum(told_by_norm(policy), low, high, system.is_count[rounded])
    return lower, upper


def with_zeros(system: System, policy: Policy, hidden: Bools) -> Bools:
    """Cells that a rule may have hidden zeros and all, since it hides everything that stands beside them too.

    Group disclosure hides all parts of a total, and a small population all figures of an area: who sees one of these
    knows that the rule was not at work. How many live somewhere is public, so it counts where the tables tell it.
    """
    out = np.zeros(system.cells, dtype=bool)
    for rule in policy.primary:
        if not isinstance(rule, GroupRule | PopulationRule):
            continue
        people = system.column(rule.column) if isinstance(rule, PopulationRule) else None
        if isinstance(rule, PopulationRule) and people is not None:
            out |= ~(people >= rule.minimum)
            continue
        for table, cells in zip(system.tables, system.cell_of, strict=True):
            for i, d in enumerate(table.dimensions):
                beside = table.codes.copy()
                if isinstance(rule, GroupRule):
                    rows = (table.codes[:, i] != 0) & (d.name == rule.dimension)
                    beside[:, i] = d.parent[beside[:, i]]
                else:  # any dimension may be that of the areas
                    rows = np.ones(len(table), dtype=bool)
                    beside = beside[:, [i]]
                _, set_of = np.unique(beside[rows], axis=0, return_inverse=True)
                set_of = set_of.ravel()
                some_shown = np.bincount(set_of, ~hidden[cells[rows]]) > 0
                out[cells[rows]] |= ~some_shown[set_of]
    return out & hidden


def known_beforehand(
    system: System, policy: Policy, rounded: Bools, truth: Floats | None = None
) -> tuple[Floats, Floats]:
    """The same with every interval that was published about a single cell."""
    lower, upper = bounds(system, policy, system.hidden, rounded, truth)
    blurred = np.isnan(lower)
    lower, upper = np.where(blurred, 0.0, lower), np.where(blurred, np.inf, upper)
    near = TOLERANCE * np.maximum(1.0, np.abs(lower))
    apart = np.flatnonzero((system.floor > upper + near) | (system.ceiling < lower - near))
    if len(apart):
        raise contradiction(system, int(apart[0]))
    known = lower == upper
    low, high = np.maximum(lower, system.floor), np.minimum(upper, system.ceiling)
    return np.where(known, lower, low), np.where(known, upper, np.maximum(low, high))


def contradiction(system: System, cell: int) -> DisclosureError:
    """What to tell when published values cannot all be true."""
    return DisclosureError(
        f"the published values contradict each other at {system.name(cell)}; margins, rounding, rates and "
        "earlier releases must fit together"
    )


def rounding_interval(value: Floats, rounding: Rounding, is_count: Bools) -> tuple[Floats, Floats]:
    """The values that may stand behind a published multiple.

    Conventional: halves go up, so [r − b/2, r + b/2), for whole numbers the whole numbers in it. Controlled
    (zero-restricted): either neighbouring multiple, so (r − b, r + b), and a multiple stays itself. By cell key:
    at most b away, and only a zero or what was moved to zero is published as zero.
    """
    base = float(rounding.base)
    if rounding.method == "cell_key":
        return np.maximum(value - base, np.where(is_count & (value > 0), 1.0, 0.0)), value + base
    if rounding.method == "controlled":
        step = np.where(is_count, 1.0, 0.0)
        return np.maximum(value - base + step, 0.0), value + base - step
    low, high = value - base / 2, value + base / 2
    low = np.where(is_count, np.ceil(low), low)
    high = np.where(is_count, np.ceil(high) - 1, high)
    return np.maximum(low, 0.0), high


def known_minimum(least: int | None, low: Floats, high: Floats, is_count: Bools) -> tuple[Floats, Floats]:
    """What a rounded value stands for to someone who knows the norm: nothing from 1 to under the minimum is shown.

    So a rounded value whose interval ends before the minimum is a zero, and any other but one that may be zero is at
    least the minimum.
    """
    if least is None:
        return low, high
    none = is_count & (high < least)
    return np.where(is_count & (low > 0), np.maximum(low, least), low), np.where(none, 0.0, high)


def norm_of_sets(policy: Policy) -> int | None:
    """Under what one of each set of connected hidden cells must lie; None where the attacker cannot tell."""
    known = all(isinstance(rule, FrequencyRule | GroupRule | PopulationRule) for rule in policy.primary)
    return policy.minimum if known and policy.attacker.knows_norm else None


def rows_of(system: System) -> tuple[sparse.csr_matrix, Floats, Floats]:
    """All that ties cells, as rows with their least and their largest value."""
    enough = system.relations.enough
    slack = system.slack[enough]
    matrix = sparse.vstack([system.relations.matrix[enough], system.known.matrix], format="csr")
    return matrix, np.concatenate([-slack, system.known.lower]), np.concatenate([slack, system.known.upper])


def told_by_norm(policy: Policy) -> int | None:
    """The least count, besides zero, that is shown rounded; None where the attacker cannot tell."""
    hides = policy.rounding is not None and policy.rounding.suppress and policy.attacker.knows_norm
    return policy.minimum if hides else None


def audit(
    system: System,
    policy: Policy,
    *,
    rounded: Bools | None = None,
    demand: Demand | None = None,
    exact: bool = True,
    truth: Floats | None = None,
    own: Ints | None = None,
    only: Bools | None = None,
    time_limit: float = 600.0,
) -> Audit:
    """Compute the attacker's interval of every hidden cell and compare it with what is demanded.

    Args:
        system: the published tables (hidden is NaN), linked and with all that is known besides.
        policy: norms and attacker.
        rounded: cells whose published value is rounded.
        demand: what must be proved; None asks nothing.
        exact: solve every end; otherwise stop at a cell once its demand is proved by witnesses.
        truth: the true values, for attackers that are described around them.
        own: cells that an attacker knows besides, at their true value (needs `truth`).
        only: judge these alone; nothing may tie them to cells that are left out.
        time_limit: seconds.

    Raises:
        DisclosureError: the published values contradict each other.
        NotProtected: the time limit, or a solver that fails: no verdict is a refusal.
    """
    start = time.monotonic()
    hidden = system.hidden
    rounded = np.zeros(system.cells, dtype=bool) if rounded is None else rounded & ~np.isnan(system.value)
    lower, upper = known_beforehand(system, policy, rounded, truth)
    if own is not None and len(own):
        if truth is None:
            raise DisclosureError("cells known to a contributor are judged only with the truth at hand")
        lower[own] = upper[own] = truth[own]
    demand = demand or Demand.none(system.cells)
    minimum = norm_of_sets(policy)
    solver = _Solver(system, lower, upper, demand, exact, start + time_limit, minimum, hidden & system.is_count)
    solver.otherwise = with_zeros(system, policy, hidden)
    solver.solve_all(only)
    judged = ~(np.isnan(demand.low) & np.isnan(demand.high) & np.isnan(demand.width))
    if own is not None:
        judged[own] = False
    if only is not None:
        judged &= only
    short = demand.short(solver.sure_low, solver.sure_high)
    if policy.attacker.suspects_primary and own is None and minimum is not None:
        short = np.maximum(short, solver.suspected(lower))
    short = np.where(judged, short, 0.0)
    return Audit(
        solver.inner_low, solver.inner_high, solver.done_low & solver.done_high, hidden, short, solver.programs,
        time.monotonic() - start,
    )  # fmt: skip


class _Solver:
    """Intervals of all cells: outer ones by propagation, inner ones by witnesses, what is left by programs.

    With a `minimum` (the norm) a witness counts only in components where it has a `marked` cell under that; an optimum
    that has none is sought anew for each cell that may be the one. Intervals come from linear programs; that a demand
    is met is proved by witnesses of whole numbers, which are sought in whole numbers where the programs give none.
    """

    def __init__(
        self,
        system: System,
        lower: Floats,
        upper: Floats,
        demand: Demand,
        exact: bool,
        deadline: float,
        minimum: int | None,
        marked: Bools,
    ) -> None:
        self.matrix, self.row_low, self.row_high = rows_of(system)
        self.system = system
        self.whole = system.is_count
        self.low, self.high = lower.copy(), upper.copy()
        self.demand, self.exact, self.deadline = demand, exact, deadline
        self.programs = 0
        self.component = np.full(len(lower), -1)
        self.minimum, self.marked = minimum, marked
        self.no_norm: set[int] = set()
        self.otherwise = np.zeros(len(lower), dtype=bool)
        self._alone: tuple[int, _Program] | None = None
        self._propagate(self.matrix, self.row_low, self.row_high)
        free = ~self._settled()
        self.inner_low = np.where(free, np.inf, self.low)
        self.inner_high = np.where(free, -np.inf, self.high)
        self.sure_low, self.sure_high = self.inner_low.copy(), self.inner_high.copy()
        self.done_low, self.done_high = ~free, ~free

    def _settled(self) -> Bools:
        return self.high - self.low <= 1e-9 * np.maximum(1.0, np.abs(self.low))

    def _propagate(self, matrix: sparse.csr_matrix, row_low: Floats, row_high: Floats, rounds: int = 12) -> None:
        """Tighten what is known of each cell by each relation alone, until nothing moves."""
        touched = np.flatnonzero(np.asarray(abs(matrix) @ (self.high > self.low).astype(float)) > 0)
        matrix, row_low, row_high = matrix[touched].tocsr(), row_low[touched], row_high[touched]
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        column, weight = matrix.indices, matrix.data
        positive = weight > 0
        for _ in range(rounds):
            least = np.where(positive, weight * self.low[column], weight * self.high[column])
            most = np.where(positive, weight * self.high[column], weight * self.low[column])
            open_least, open_most = np.isinf(least), np.isinf(most)
            least, most = np.where(open_least, 0.0, least), np.where(open_most, 0.0, most)
            n = matrix.shape[0]
            sum_least, sum_most = np.bincount(row, least, n), np.bincount(row, most, n)
            no_least, no_most = np.bincount(row, open_least, n), np.bincount(row, open_most, n)
            rest_least = np.where(no_least[row] - open_least > 0, -np.inf, sum_least[row] - least)
            rest_most = np.where(no_most[row] - open_most > 0, np.inf, sum_most[row] - most)
            high = (row_high[row] - rest_least) / weight
            low = (row_low[row] - rest_most) / weight
            high, low = np.where(positive, high, low), np.where(positive, low, high)
            size = TOLERANCE * np.maximum(1.0, np.where(np.isfinite(sum_most[row]), np.abs(sum_most[row]), 1.0)) * 1e-2
            high, low = high + size * 1e-3, low - size * 1e-3
            whole = self.whole[column]
            high = np.where(whole, np.floor(high + TOLERANCE), high)
            low = np.where(whole, np.ceil(low - TOLERANCE), low)
            new_high, new_low = self.high.copy(), self.low.copy()
            np.minimum.at(new_high, column, high)
            np.maximum.at(new_low, column, low)
            crossed = new_low > new_high + 10 * TOLERANCE * np.maximum(1.0, np.abs(new_low))
            if crossed.any():
                self._contradiction(int(np.flatnonzero(crossed)[0]))
            new_high = np.maximum(new_high, new_low)
            moved = (new_high < self.high - TOLERANCE) | (new_low > self.low + TOLERANCE)
            fixed = self.high == self.low
            self.high = np.where(fixed, self.high, new_high)
            self.low = np.where(fixed, self.low, new_low)
            if not moved.any():
                break

    def _contradiction(self, cell: int) -> None:
        raise contradiction(self.system, cell)

    def solve_all(self, only: Bools | None = None) -> None:
        """Split what is open into components and settle them, small ones many at a time."""
        free = ~self._settled()
        if only is not None:
            free &= only
        cells = np.flatnonzero(free)
        if not len(cells):
            return
        part = self.matrix[:, cells].tocsr()
        rows = np.flatnonzero(np.diff(part.indptr) > 0)
        part = part[rows]
        graph = sparse.bmat([[None, part], [part.T, None]], format="csr")
        _, label = csgraph.connected_components(graph, directed=False)
        label = label[len(rows) :]
        _, label = np.unique(label, return_inverse=True)
        self.component[cells] = label
        self.no_norm.update(label[self.otherwise[cells]].tolist())
        size = np.bincount(label)
        by_size = np.argsort(size, kind="stable")
        batch_of = np.empty(len(size), dtype=np.int64)
        batch_of[by_size] = np.cumsum(size[by_size]) // BATCH_CELLS
        batch = batch_of[label]
        order = np.lexsort((label, batch))
        for group in np.split(order, np.flatnonzero(np.diff(batch[order])) + 1):
            self._solve(cells[group], label[group])

    def _solve(self, cells: Ints, label: Ints) -> None:
        """Settle all cells of some whole components."""
        program = _Program(self, cells)
        _, label = np.unique(label, return_inverse=True)
        if not self.exact:
            self._far_out(program, label, lambda mine: np.asarray(self._pending(mine).any(axis=1)), whole=False)
        doubtful = self._every_end(program, label)
        for place, rises in sorted(doubtful, key=lambda end: label[end[0]]):
            cell = int(cells[place])
            done = self.done_high if rises else self.done_low
            done[cell] = False
            if self._pending(cells[[place]])[0, int(rises)]:
                self._settle(cells[label == label[place]], cell, rises, whole=False)
            done[cell] = True
        for number in np.unique(label[self._unproved(cells)]):
            mine = cells[label == number]
            self._far_out(self._program(mine), np.zeros(len(mine), dtype=np.int64), self._unproved, whole=True)
        for place in np.flatnonzero(self._unproved(cells)).tolist():
            for rises in (True, False):
                if self._unproved(cells[[place]])[0]:
                    self._settle(cells[label == label[place]], int(cells[place]), rises, whole=True)

    def _every_end(self, program: _Program, label: Ints) -> list[tuple[int, bool]]:
        """Solve for every end that no witness settles, one a component at a time; those that the norm leaves open."""
        cells = program.cells
        doubtful: list[tuple[int, bool]] = []
        while True:
            pending = self._pending(cells)
            if not pending.any():
                return doubtful
            side = np.flatnonzero(pending.ravel())
            _, first = np.unique(label[side // 2], return_index=True)
            chosen, up = side[first] // 2, side[first] % 2 == 1
            direction = np.zeros(len(cells))
            direction[chosen] = np.where(up, 1.0, -1.0)
            x = program.run(direction)
            odd = ~self._widen(cells, label, x)[chosen]
            doubtful += zip(chosen[odd].tolist(), up[odd].tolist(), strict=True)
            self.done_high[cells[chosen[up]]] = True
            self.done_low[cells[chosen[~up]]] = True

    def _far_out(self, program: _Program, label: Ints, left: Callable[[Ints], Bools], *, whole: bool) -> None:
        """Look for tables that are far out in many of the cells that are left, as long as they settle some."""
        cells, chance = program.cells, np.random.default_rng(len(program.cells))
        now = left(cells)
        while now.sum() >= JOINTLY:
            direction = np.where(now, chance.choice((-1.0, 1.0), len(cells)), 0.0)
            for way in (direction, -direction):
                x = program.furthest(way, None, whole=whole, gap=0.1)
                if x is None:
                    return
                self._widen(cells, label, x)
            before, now = now, left(cells)
            if now.sum() > 0.95 * before.sum():
                return

    def _program(self, cells: Ints) -> _Program:
        """The program of one component alone."""
        number = int(self.component[cells[0]])
        if self._alone is None or self._alone[0] != number:
            self._alone = (number, _Program(self, cells))
        return self._alone[1]

    def _able(self, cells: Ints) -> list[int]:
        """The cells of a component that may be the one under the norm, likeliest first; none where none need be."""
        if self.minimum is None or int(self.component[cells[0]]) in self.no_norm:
            return []
        under = np.flatnonzero(self.marked[cells] & (self.low[cells] < self.minimum))
        return [int(i) for i in under[np.argsort(self.inner_low[cells[under]], kind="stable")]]

    def _settle(self, cells: Ints, cell: int, rises: bool, *, whole: bool) -> None:
        """Solve for one end in its component; where it breaks the norm for each cell that may be the one under it.

        Args:
            cells: the component.
            cell: whose end.
            rises: the upper end.
            whole: look for a table of whole numbers, until the demand is met.
        """
        program, able = self._program(cells), self._able(cells)
        place = int(np.searchsorted(cells, cell))
        direction = np.zeros(len(cells))
        direction[place] = sign = 1.0 if rises else -1.0
        one = np.zeros(len(cells), dtype=np.int64)
        x = program.furthest(direction, None, whole=whole)
        if x is None:
            return
        furthest, found = float(x[place]), self._widen(cells, one, x)[place]
        if found:
            return
        for other in able:
            x = program.furthest(direction, other, whole=whole)
            if x is None:
                continue
            found = True
            self._widen(cells, one, x)
            if sign * (x[place] - furthest) >= -1e-5 or (whole and not self._unproved(np.array([cell]))[0]):
                return
        if not found:  # no hidden cell here can be under the norm, so it tells nothing of them
            self.no_norm.add(int(self.component[cell]))
            self._settle(cells, cell, rises, whole=whole)

    def suspected(self, before: Floats) -> Floats:
        """By how much cells fall short before one who takes every hidden count for one under the minimum that can be.

        Component by component, wherever such a table exists; `before` is the least that is known beforehand.
        """
        assert self.minimum is not None
        short = np.zeros(len(self.low))
        most, d = float(self.minimum - 1), self.demand
        asked = np.fmax(d.width, d.high - d.low)
        least = self.inner_low if self.exact else self.low
        for number in range(int(self.component.max(initial=-1)) + 1):
            cells = np.flatnonzero(self.component == number)
            if not (self.marked[cells] & (asked[cells] > 0)).any():
                continue
            can = cells[self.marked[cells] & (least[cells] <= most)]
            bold = copy(self)
            bold.high = self.high.copy()
            bold.high[can] = np.minimum(bold.high[can], most)
            width = asked.copy()
            width[can] = np.minimum(width[can], np.maximum(most - before[can], 0.0))
            none = np.full(len(width), np.nan)
            bold.demand, bold.minimum, bold.exact, bold._alone = Demand(none, none, width), None, False, None
            for name in ("inner_low", "sure_low"):
                setattr(bold, name, np.full(len(width), np.inf))
            for name in ("inner_high", "sure_high"):
                setattr(bold, name, np.full(len(width), -np.inf))
            bold.done_low, bold.done_high = np.zeros(len(width), dtype=bool), np.zeros(len(width), dtype=bool)
            try:
                bold._solve(cells, np.zeros(len(cells), dtype=np.int64))
            except NotProtected:
                raise
            except DisclosureError:  # what is published rules it out
                continue
            finally:
                self.programs = bold.programs
            part = Demand(none[cells], none[cells], width[cells])
            short[cells] = part.short(bold.sure_low[cells], bold.sure_high[cells])
        return short

    def _unproved(self, cells: Ints) -> Bools:
        """Whose demand is met by what programs find, and not yet by whole numbers."""
        d = self.demand
        part = Demand(d.low[cells], d.high[cells], d.width[cells])
        met = part.short(self.inner_low[cells], self.inner_high[cells]) == 0
        return np.asarray(met & (part.short(self.sure_low[cells], self.sure_high[cells]) > 0))

    def _pending(self, cells: Ints) -> Bools:
        """Which ends are still to be solved for, shape (cells, 2): low, high."""
        low, high = self.inner_low[cells], self.inner_high[cells]
        near = TOLERANCE * np.maximum(1.0, np.abs(np.where(np.isfinite(low), low, 0.0)))
        self.done_low[cells] |= low <= self.low[cells] + near
        self.done_high[cells] |= high >= self.high[cells] - near
        need_low, need_high = ~self.done_low[cells], ~self.done_high[cells]
        if not self.exact:
            d = self.demand
            with np.errstate(invalid="ignore"):
                narrow = room(low, high) < d.width[cells] - TOLERANCE
                need_low &= (low > d.low[cells] + TOLERANCE) | narrow
                need_high &= (high < d.high[cells] - TOLERANCE) | narrow
        return np.column_stack([need_low, need_high])

    def _widen(self, cells: Ints, label: Ints, x: Floats) -> Bools:
        """Take a table as witness in the components where it can be one; per cell whether it is."""
        whole = self.whole[cells]
        fits: Bools = np.ones(len(cells), dtype=bool)
        if self.minimum is not None:
            marked = self.marked[cells]
            if self.no_norm:
                marked &= ~np.isin(self.component[cells], list(self.no_norm))
            under = np.bincount(label, marked & (x < self.minimum - 1 + 1e-5))
            fits = ((under > 0) | (np.bincount(label, marked) == 0))[label]
        with np.errstate(invalid="ignore"):
            broken = np.bincount(label, whole & (np.abs(x - np.round(x)) > 1e-5)) > 0
        low = np.where(whole, np.ceil(x - 1e-5), x)
        high = np.where(whole, np.floor(x + 1e-5), x)
        low, high = np.maximum(low, self.low[cells]), np.minimum(high, self.high[cells])
        for at, ends in (
            (fits, (self.inner_low, self.inner_high)),
            (fits & ~broken[label], (self.sure_low, self.sure_high)),
        ):
            ends[0][cells[at]] = np.minimum(ends[0][cells[at]], low[at])
            ends[1][cells[at]] = np.maximum(ends[1][cells[at]], high[at])
        return fits


class _Program:
    """One linear program over some whole components; only its objective changes between runs."""

    def __init__(self, solver: _Solver, cells: Ints) -> None:
        self.solver, self.cells = solver, cells
        part = solver.matrix[:, cells].tocsr()
        rows = np.flatnonzero(np.diff(part.indptr) > 0)
        part = part[rows].tocsc()
        rest = np.where(np.isfinite(solver.low), solver.low, 0.0)
        rest[cells] = 0.0
        fixed = solver.matrix[rows] @ rest
        low, high = solver.row_low[rows] - fixed, solver.row_high[rows] - fixed
        finite = np.concatenate([solver.low[cells], solver.high[cells], low, high])
        largest = float(np.abs(finite[np.isfinite(finite)]).max(initial=1.0))
        whole = bool(solver.whole[cells].all())
        self.scale = 1.0 if whole or largest < 1e5 else largest / 1e4
        self.cap = largest * 1e3
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(cells), len(rows)
        lp.col_cost_ = np.zeros(len(cells))
        self.low, self.high = solver.low[cells] / self.scale, np.minimum(solver.high[cells], self.cap) / self.scale
        lp.col_lower_, lp.col_upper_ = self.low, self.high
        lp.row_lower_, lp.row_upper_ = low / self.scale, high / self.scale
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = part.indptr, part.indices, part.data
        lp.sense_ = highspy.ObjSense.kMaximize
        self.highs: Any = _Highs()
        for option, value in (
            ("output_flag", False), ("presolve", "off"), ("solver", "simplex"), ("simplex_strategy", 4), ("threads", 1),
            ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.5),
        ):  # fmt: skip
            self.highs.setOptionValue(option, value)
        self.highs.passModel(lp)
        self.index = np.arange(len(cells), dtype=np.int32)

    def run(self, direction: Floats) -> Floats:
        """The table that is furthest in `direction`: a value per cell, infinite where nothing bounds it.

        Raises:
            DisclosureError: no table fits what is published.
            NotProtected: out of time, or the solver gave no optimum.
        """
        x = self._run(direction)
        if x is None:
            self.solver._contradiction(int(self.cells[0]))
        assert x is not None
        return x

    def furthest(self, direction: Floats, under: int | None, *, whole: bool, gap: float = 0.0) -> Floats | None:
        """The table that is furthest in `direction`; None where there is none.

        Args:
            direction: a weight per cell.
            under: the cell that is taken to be under the norm.
            whole: counts are whole numbers.
            gap: by what share a table of whole numbers may lie short of the furthest.
        """
        if under is not None:
            assert self.solver.minimum is not None
            most = (self.solver.minimum - 1) / self.scale
            self.highs.changeColBounds(under, self.low[under], min(self.high[under], most))
        integer = whole and self.scale == 1.0
        if integer:
            self._whole(highspy.HighsVarType.kInteger, gap)
        x = self._run(direction)
        if integer:
            self._whole(highspy.HighsVarType.kContinuous)
        if under is not None:
            self.highs.changeColBounds(under, self.low[under], self.high[under])
        return x

    def _whole(self, kind: highspy.HighsVarType, gap: float = 0.0) -> None:
        """Let counts be whole numbers, or no longer; what was solved last is a good start for the latter alone."""
        counts = self.index[self.solver.whole[self.cells]]
        self.highs.changeColsIntegrality(len(counts), counts, np.full(len(counts), kind))
        self.highs.setOptionValue("mip_rel_gap", gap)
        self.highs.setOptionValue("presolve", "on" if kind == highspy.HighsVarType.kInteger else "off")

    def _run(self, direction: Floats) -> Floats | None:
        left = self.solver.deadline - time.monotonic()
        if left <= 0:
            raise NotProtected("the audit ran out of time; give it more, or publish less")
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + left)
        self.highs.changeColsCost(len(self.index), self.index, direction)
        self.highs.run()
        self.solver.programs += 1
        status = self.highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return None
        if status != highspy.HighsModelStatus.kOptimal:
            raise NotProtected(f"the solver gave no optimum ({self.highs.modelStatusToString(status)})")
        x = np.array(self.highs.getSolution().col_value) * self.scale
        return np.where(x >= self.cap * 0.5, np.inf, x)


def demand_from_truth(
    system: System, truth: Floats, hidden: Bools, lpl: Floats, upl: Floats, lower: Floats, upper: Floats
) -> Demand:
    """Each hidden cell's interval must hold [x − lpl, x + upl], cut off at what the attacker knows beforehand."""
    out = Demand.none(system.cells)
    asked = hidden & ((lpl > 0) | (upl > 0))
    low = np.where(asked, np.maximum(truth - lpl, np.minimum(lower, truth)), np.nan)
    high = np.where(asked, np.minimum(truth + upl, np.maximum(upper, truth)), np.nan)
    return replace(out, low=low, high=high)
