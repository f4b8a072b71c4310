"""Audit for those who know some cells themselves: a single contributor, a holding, a supplier.

Belongs to the auditor's side. For each of them the audit would have to be done again with its own cells known. Mostly
that can be spared: the truth is a table that none of them can rule out, and neither is any movement away from it that
keeps all that is published and leaves their own cells alone. So movements are sought, each as small as can be, and one
that serves a cell before somebody serves it before everybody whose cells it does not touch. Only for the cells that
are left an audit is done. Nothing of this is published, so that it may lean on the truth.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import highspy
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from quality.disclosure.auditor import TOLERANCE, Demand, audit, known_beforehand, norm_of_sets, rows_of
from quality.disclosure.errors import NotProtected
from quality.disclosure.spec import Policy
from quality.disclosure.table import Bools, Floats, Ints, System

_Highs: Any = highspy.Highs

FAR = 1e4
"""What it is worth to move a cell by one, beside moving another: more than what any movement is long."""


def audit_coalitions(
    system: System,
    policy: Policy,
    truth: Floats,
    coalitions: Sequence[Ints],
    demand: Demand,
    *,
    rounded: Bools | None = None,
    time_limit: float = 600.0,
) -> list[tuple[int, Ints]]:
    """Audit again for everyone who knows some hidden or rounded cells.

    Returns:
        For each coalition that learns too much: its number, and the cells it uncovers, worst first.

    Raises:
        NotProtected: no time left; it tells for how many the audit was done. No verdict is a refusal.
    """
    deadline = time.monotonic() + time_limit
    rounded = np.zeros(system.cells, dtype=bool) if rounded is None else rounded & ~np.isnan(system.value)
    veiled = system.hidden | rounded
    # what someone knows tells only of cells that a chain of cells without a known value ties to it
    part = _tied(system, veiled | system.blurred)
    movements = _Movements(system, policy, truth, rounded, demand, part, deadline)
    found: list[tuple[int, Ints]] = []
    for number, known in enumerate(coalitions):
        own = known[veiled[known]]
        if not len(own):
            continue
        only = np.isin(part, part[own])
        try:
            doubtful = movements.left_open(own, only)
            if not len(doubtful):
                continue
            left = max(deadline - time.monotonic(), 0.0)
            result = audit(
                system, policy, rounded=rounded, demand=demand.of(doubtful), exact=False, truth=truth, own=own,
                only=only, time_limit=left,
            )  # fmt: skip
        except NotProtected as error:
            raise NotProtected(
                f"{number} of {len(coalitions)} who know their own cells were judged, of whom {len(found)} learn too "
                f"much, and nothing is proved of the others: {error}"
            ) from None
        if not result.passed:
            found.append((number, result.failing))
    return found


def _tied(system: System, loose: Bools) -> Ints:
    """Per cell the number of the set that relations tie it into; −1 for cells with a known value."""
    matrix = sparse.vstack([system.relations.matrix, system.known.matrix], format="csr")[:, np.flatnonzero(loose)]
    graph = sparse.bmat([[None, matrix], [matrix.T, None]], format="csr")
    _, label = csgraph.connected_components(graph, directed=False)
    out = np.full(system.cells, -1)
    out[loose] = label[matrix.shape[0] :]
    return out


class _Movements:
    """Movements away from the truth that keep what is published, and how far each takes which cell."""

    def __init__(
        self,
        system: System,
        policy: Policy,
        truth: Floats,
        rounded: Bools,
        demand: Demand,
        part: Ints,
        deadline: float,
    ) -> None:
        self.system, self.truth, self.demand, self.part, self.deadline = system, truth, demand, part, deadline
        self.minimum = norm_of_sets(policy)
        lower, upper = known_beforehand(system, policy, rounded, truth)
        self.rise, self.fall = np.maximum(upper - truth, 0.0), np.maximum(truth - lower, 0.0)
        near = TOLERANCE * np.maximum(1.0, np.abs(truth))
        # where the truth is none of the tables that are believed, nothing follows from movements away from it
        with np.errstate(invalid="ignore"):
            odd = (part >= 0) & ~((truth >= lower - near) & (truth <= upper + near))
        self.strange = set(part[odd].tolist())
        self.asked = ~(np.isnan(demand.low) & np.isnan(demand.high) & np.isnan(demand.width))
        self.matrix, self.row_low, self.row_high = rows_of(system)
        self.place = np.zeros(0, dtype=np.int64)
        self.number = np.zeros(0, dtype=np.int64)
        self.amount = np.zeros(0)
        self.count = 0
        self._programs: dict[int, _Program] = {}

    def left_open(self, own: Ints, only: Bools) -> Ints:
        """The cells in `only` for which no movements were found that leave `own` alone and meet what is demanded."""
        judged = self.asked & only
        judged[own] = False
        cells, parts = np.flatnonzero(judged), np.unique(self.part[own])
        # who knows cells cuts the sets that tie the others into smaller ones, and each of those holds one under the
        # norm: a movement that leaves one elsewhere in the larger set is none that he believes
        if self.minimum is not None:
            return cells
        if self.strange & set(parts.tolist()) or not self._norm_holds(np.zeros(0, dtype=np.int64), np.zeros(0), parts):
            return cells
        low, high = self._reach(own)
        short = cells[self._short(cells, low, high) > 0]
        return np.array([cell for cell in short.tolist() if not self._meet(cell, own, low, high)], dtype=np.int64)

    def _short(self, cells: Ints, low: Floats, high: Floats) -> Floats:
        d = self.demand
        part = Demand(d.low[cells], d.high[cells], d.width[cells])
        return part.short(self.truth[cells] + low[cells], self.truth[cells] + high[cells])

    def _reach(self, own: Ints) -> tuple[Floats, Floats]:
        """How far down and up each cell is taken by movements that leave `own` alone."""
        bad = np.zeros(self.count, dtype=bool)
        bad[self.number[np.isin(self.place, own)]] = True
        good = ~bad[self.number]
        low, high = np.zeros(self.system.cells), np.zeros(self.system.cells)
        np.minimum.at(low, self.place[good], self.amount[good])
        np.maximum.at(high, self.place[good], self.amount[good])
        return low, high

    def _meet(self, cell: int, own: Ints, low: Floats, high: Floats) -> bool:
        """Find movements that meet what is demanded of one cell, and note what they do for all."""
        number, d, truth = int(self.part[cell]), self.demand, self.truth[cell]
        if number not in self._programs:
            self._programs[number] = _Program(self, np.flatnonzero(self.part == number))
        program = self._programs[number]

        def go(amount: float, *, most: bool = False) -> bool:
            y = program.shortest(cell, own, float(amount), most=most)
            return y is not None and self._take(program.cells, y, low, high)

        for amount in (d.high[cell] - truth, d.low[cell] - truth):
            if not (np.isnan(amount) or low[cell] <= amount <= high[cell] or go(amount)):
                return False
        one, width = np.array([cell]), d.width[cell]
        if self._short(one, low, high)[0] == 0 or go(width + low[cell]) or go(high[cell] - width):
            return True
        # neither way goes all of the width: as far up as can be, and down for the rest
        return go(width + low[cell], most=True) and go(high[cell] - width)

    def _take(self, cells: Ints, y: Floats, low: Floats, high: Floats) -> bool:
        """Note a movement; False where what it leads to is not believed: parts of counts, or none under the norm."""
        moved = np.flatnonzero(y)
        at, by = cells[moved], y[moved]
        counts = self.system.is_count[at]
        if (counts & (np.abs(by - np.round(by)) > 1e-5)).any():
            return False
        by = np.where(counts, np.round(by), by)
        if not self._norm_holds(at, by, np.unique(self.part[at])):
            return False
        self.place, self.amount = np.concatenate([self.place, at]), np.concatenate([self.amount, by])
        self.number = np.concatenate([self.number, np.full(len(at), self.count)])
        self.count += 1
        low[at], high[at] = np.minimum(low[at], by), np.maximum(high[at], by)
        return True

    def _norm_holds(self, at: Ints, by: Floats, parts: Ints) -> bool:
        """Whether each of these sets of connected cells still holds one under the norm."""
        if self.minimum is None:
            return True
        value = self.truth.copy()
        value[at] += by
        marked = self.system.hidden & self.system.is_count
        under = marked & (value <= self.minimum - 1 + 1e-5)
        return bool(np.isin(parts, np.concatenate([self.part[under], np.setdiff1d(parts, self.part[marked])])).all())


class _Program:
    """The shortest movement of a set of connected cells that takes one of them so far."""

    def __init__(self, movements: _Movements, cells: Ints) -> None:
        self.movements, self.cells = movements, cells
        matrix = movements.matrix[:, cells].tocsr()
        rows = np.flatnonzero(np.diff(matrix.indptr))
        at = movements.matrix[rows] @ np.nan_to_num(movements.truth)
        both = sparse.hstack([matrix[rows], -matrix[rows]], format="csc")
        largest = float(np.abs(movements.truth[cells]).max(initial=1.0))
        self.scale = 1.0 if bool(movements.system.is_count[cells].all()) or largest < 1e5 else largest / 1e4
        room = np.concatenate([movements.rise[cells], movements.fall[cells]])
        self.room = np.minimum(room, largest * 1e3) / self.scale
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.room), len(rows)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.ones(len(self.room)), np.zeros(len(self.room)), self.room
        lp.row_lower_ = np.minimum(movements.row_low[rows] - at, 0.0) / self.scale
        lp.row_upper_ = np.maximum(movements.row_high[rows] - at, 0.0) / self.scale
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = both.indptr, both.indices, both.data
        self.highs: Any = _Highs()
        for option, value in (("output_flag", False), ("presolve", "off"), ("solver", "simplex"), ("threads", 1)):
            self.highs.setOptionValue(option, value)
        self.highs.passModel(lp)

    def shortest(self, cell: int, own: Ints, amount: float, *, most: bool = False) -> Floats | None:
        """The shortest movement that takes a cell by `amount`, or with `most` as far up to that as can be.

        None where none was found.

        Raises:
            NotProtected: out of time.
        """
        n, place = len(self.cells), int(np.searchsorted(self.cells, cell))
        up, down = (place, place + n) if amount > 0 else (place + n, place)
        size = abs(amount) / self.scale
        if size > self.room[up] + TOLERANCE and not most:
            return None
        held = np.searchsorted(self.cells, own[np.isin(own, self.cells)])
        changed = np.unique(np.concatenate([held, held + n, [up, down]])).astype(np.int32)
        low, high = np.zeros(len(self.room)), self.room.copy()
        high[np.concatenate([held, held + n, [down]])] = 0.0
        high[up] = min(size, self.room[up])
        low[up] = 0.0 if most else high[up]
        self.highs.changeColsBounds(len(changed), changed, low[changed], high[changed])
        self.highs.changeColCost(up, -FAR if most else 1.0)
        left = self.movements.deadline - time.monotonic()
        if left <= 0:
            raise NotProtected("the audit ran out of time; give it more, or publish less")
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + left)
        self.highs.run()
        status = self.highs.getModelStatus()
        self.highs.changeColCost(up, 1.0)
        self.highs.changeColsBounds(len(changed), changed, np.zeros(len(changed)), self.room[changed])
        if status == highspy.HighsModelStatus.kTimeLimit:
            raise NotProtected("the audit ran out of time; give it more, or publish less")
        if status != highspy.HighsModelStatus.kOptimal:
            return None
        x = np.array(self.highs.getSolution().col_value) * self.scale
        y: Floats = x[:n] - x[n:]
        y[np.abs(y) <= 10 * TOLERANCE * max(1.0, size * self.scale)] = 0.0
        return y
