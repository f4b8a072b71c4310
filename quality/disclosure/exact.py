"""A least-cost pattern by row generation, with a proved lower bound, where a system is small.

Fischetti & Salazar (2001): a 0–1 variable per cell says whether it is hidden. For every need the attacker's program
is solved with capacities scaled by the variables; when it falls short, its dual gives a capacity constraint

    Σ (α_i · rise_i + β_i · fall_i) · z_i ≥ amount,

where α and β are the reduced costs. Cells that are hidden anyway go to the right-hand side and coefficients are cut
off at what is left, which makes most of these constraints covers. First the relaxation is closed, then the 0–1
program is solved again and again until its solution violates nothing. In a network no cell has to move further
than the need itself, which tightens the capacities.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np
from scipy import sparse

from quality.disclosure.errors import NotProtected
from quality.disclosure.protector import EPS, Needs, Pattern, Work, crossing, repair
from quality.disclosure.table import Bools, Floats, Ints, System

_Highs: Any = highspy.Highs

SMALL = 500
"""Cells that may be hidden up to which the exact way is tried by default."""


@dataclass(frozen=True)
class Effort:
    """How hard to try, in counts and not in seconds, so that a busy machine does not change the outcome.

    Attributes:
        programs: after so many a round is the last.
        nodes: of the tree of one 0–1 program.
        rounds: of 0–1 programs.
    """

    programs: int
    nodes: int
    rounds: int


TRY = Effort(3_000, 100, 12)
INSIST = Effort(10_000_000, 20_000, 60)


@dataclass(frozen=True)
class Cut:
    """Σ weight · z ≥ least, over the cells at `cells`."""

    cells: Ints
    weight: Floats
    least: float


def improve(
    system: System, needs: Needs, cost: Floats, start: Pattern, *, time_limit: float, effort: Effort = INSIST
) -> Pattern:
    """The cheapest pattern that can be found from a valid one, with a lower bound on any pattern's cost.

    Args:
        system: tables with true values.
        needs: what must hold; coalitions are not weighed here.
        cost: of hiding each cell.
        start: a valid pattern.
        time_limit: seconds; when they run out the best pattern so far is returned with its gap.
        effort: when it is used up, idem.

    Returns:
        A valid pattern; `cost` and `bound` tell how far it can be from the optimum (equal: it is optimal).
    """
    begin = time.monotonic()
    master = _Master(system, needs, cost, begin + time_limit, effort.nodes)
    best = replace(start, cost=master.price(start.hidden), bound=0.0)
    bound = 0.0
    for whole in (False, True):
        for _ in range(effort.rounds if whole else INSIST.rounds):
            if time.monotonic() - begin > time_limit or master.programs > effort.programs:
                break
            z, lower = master.solve(whole, best.cost)
            bound = max(bound, lower)
            if bound >= best.cost - 1e-6 * max(1.0, best.cost) or z is None:
                break
            cuts = master.violated(z)
            if whole:
                hidden = needs.asked | needs.free | (z > 0.5)
                try:
                    fixed = repair(system, needs, cost, hidden, deadline=begin + time_limit)
                except NotProtected:  # out of time: the best so far stands
                    break
                if fixed is not None and master.price(fixed.hidden) < best.cost - 1e-9:
                    best = replace(fixed, cost=master.price(fixed.hidden))
            if not cuts:
                break
            master.add(cuts)
    seconds = time.monotonic() - begin
    return replace(
        best,
        bound=min(bound, best.cost),
        programs=start.programs + master.programs,
        widened=start.widened,
        seconds=start.seconds + seconds,
    )


def improve_parts(
    system: System, needs: Needs, cost: Floats, start: Pattern, parts: Sequence[Ints], *, time_limit: float
) -> Pattern:
    """The same for a large system, part by part: a part is a region with everything below it.

    What ties a part to the rest is left out, so its cheapest pattern costs at most what any valid pattern of the
    whole costs within it, and the bounds add up to a bound on the whole. Where that pattern hides no cell that is
    tied to the rest it is valid in the whole as well and takes the place of the first one; elsewhere that one stays.
    """
    begin = time.monotonic()
    hidden = start.hidden.copy()
    bound, programs = 0.0, start.programs
    inside = np.full(system.cells, -1)
    for number, cells in enumerate(parts):
        inside[cells] = number
    tied = crossing(system, inside)
    price = np.where(needs.asked | needs.free, 0.0, cost)
    for number, cells in enumerate(parts):
        left = time_limit - (time.monotonic() - begin)
        if left <= 0:
            break
        own = needs.part(cells)
        first = replace(start, hidden=hidden[cells], programs=0, seconds=0.0)
        found = improve(system.part(cells), own, cost[cells], first, time_limit=left / (len(parts) - number))
        bound, programs = bound + found.bound, programs + found.programs
        # cells that are tied to the rest may be what protects another part
        alone = not ((found.hidden | hidden[cells] | own.asked) & tied[cells]).any()
        if alone and price[cells][found.hidden].sum() < price[cells][hidden[cells]].sum() - 1e-9:
            hidden[cells] = found.hidden
    total = float(price[hidden].sum())
    return replace(
        start, hidden=hidden, cost=total, bound=min(bound, total), programs=programs,
        seconds=start.seconds + time.monotonic() - begin,
    )  # fmt: skip


class _Master:
    """The 0–1 program over the cells that may be hidden, and the attacker's programs that give its rows."""

    def __init__(self, system: System, needs: Needs, cost: Floats, deadline: float, nodes: int) -> None:
        self.needs, self.deadline, self.nodes = needs, deadline, nodes
        self.work = Work(system, needs, cost, deadline)
        able = (self.work.rise > EPS) | (self.work.fall > EPS)
        self.cells = np.flatnonzero(able | needs.asked | needs.free)
        self.place = np.full(system.cells, -1)
        self.place[self.cells] = np.arange(len(self.cells))
        self.asked = (needs.asked | needs.free)[self.cells]
        self.free = needs.free[self.cells]
        self.cost = np.where(self.asked, 0.0, cost[self.cells])
        self.unit = max(float(np.median(cost)), 1e-9)
        self.rise = np.minimum(self.work.rise[self.cells], self.work.cap)
        self.fall = np.minimum(self.work.fall[self.cells], self.work.cap)
        self.programs = 0
        self.highs = self._start()
        self.attacker = _Attacker(self)
        self.add(self._lonely(system))

    def price(self, hidden: Bools) -> float:
        """Cost of what a pattern hides besides what was asked."""
        return float(self.cost[hidden[self.cells]].sum())

    def _start(self) -> Any:
        n = len(self.cells)
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = n, 0
        lp.col_cost_ = self.cost / self.unit
        lp.col_lower_, lp.col_upper_ = np.where(self.asked, 1.0, 0.0), np.ones(n)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        highs: Any = _Highs()
        for option, value in (
            ("output_flag", False),
            ("mip_rel_gap", 0.0),
            ("threads", 1),
            ("mip_max_nodes", self.nodes),
        ):
            highs.setOptionValue(option, value)
        highs.passModel(lp)
        return highs

    def solve(self, whole: bool, incumbent: float) -> tuple[Floats | None, float]:
        """The cheapest choice under the constraints so far, and a lower bound on every valid choice."""
        n = len(self.cells)
        kind = highspy.HighsVarType.kInteger if whole else highspy.HighsVarType.kContinuous
        self.highs.changeColsIntegrality(n, np.arange(n, dtype=np.int32), np.full(n, kind))
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + max(self.deadline - time.monotonic(), 0.05))
        self.highs.run()
        self.programs += 1
        status = self.highs.getModelStatus()
        info = self.highs.getInfo()
        lower = (info.mip_dual_bound if whole else info.objective_function_value) * self.unit
        if status != highspy.HighsModelStatus.kOptimal:
            return None, lower if whole and np.isfinite(lower) else 0.0
        z = np.array(self.highs.getSolution().col_value)
        out = np.zeros(self.place.size)
        out[self.cells] = z
        return out, lower

    def add(self, cuts: list[Cut]) -> None:
        """Put further constraints into the program."""
        if not cuts:
            return
        start = np.concatenate([[0], np.cumsum([len(c.cells) for c in cuts])])[:-1].astype(np.int32)
        index = np.concatenate([c.cells for c in cuts]).astype(np.int32)
        weight = np.concatenate([c.weight for c in cuts])
        least = np.array([c.least for c in cuts])
        self.highs.addRows(len(cuts), least, np.full(len(cuts), np.inf), len(index), start, index, weight)

    def _lonely(self, system: System) -> list[Cut]:
        """In no relation may a single cell be hidden."""
        cuts = []
        matrix = system.relations.matrix
        for row in range(matrix.shape[0]):
            members = self.place[matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]]
            members = members[members >= 0]
            if self.asked[members].sum() > 1 or self.free[members].any():
                continue
            if self.asked[members].any():
                others = members[~self.asked[members]]
                cuts.append(Cut(others, np.ones(len(others)), 1.0))
            else:
                cuts += [Cut(members, np.where(members == i, -1.0, 1.0), 0.0) for i in members]
        return [c for c in cuts if len(c.cells)]

    def violated(self, z: Floats) -> list[Cut]:
        """A constraint for each need that the choice does not meet."""
        z = z[self.cells]
        cuts: list[Cut] = []
        needs = self.needs
        for i, cell in enumerate(self.cells):
            if self.asked[i]:
                up, down = min(needs.up[cell], self.rise[i]), min(needs.down[cell], self.fall[i])
                width = float(needs.width_of(np.array([cell]))[0])
            elif z[i] > 0.01 and needs.every_width > 0:
                up = down = 0.0
                width = needs.every_width
            else:
                continue
            if up > 0:
                cuts += self.attacker.cut(i, z, up, ((1.0, up),))
            if down > 0:
                cuts += self.attacker.cut(i, z, down, ((-1.0, down),))
            if width > 0:
                cuts += self.attacker.cut(i, z, width, ((1.0, width), (-1.0, min(width, self.fall[i]))))
        return cuts


class _Attacker:
    """The attacker's program for one cell at a time, with capacities scaled by how far cells are hidden."""

    def __init__(self, master: _Master) -> None:
        self.master = master
        part = master.work.matrix[:, master.cells].tocsr()
        rows = np.flatnonzero(np.diff(part.indptr) > 0)
        self.part = sparse.csc_matrix(part[rows])
        self.scale = master.work.scale
        n = len(master.cells)
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = n, len(rows)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = np.zeros(n), np.zeros(n), np.zeros(n)
        lp.row_lower_, lp.row_upper_ = master.work.row_low[rows] / self.scale, master.work.row_high[rows] / self.scale
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_ = self.part.indptr, self.part.indices
        lp.a_matrix_.value_ = self.part.data
        lp.sense_ = highspy.ObjSense.kMaximize
        self.highs: Any = _Highs()
        for option, value in (("output_flag", False), ("presolve", "off"), ("solver", "simplex"), ("threads", 1)):
            self.highs.setOptionValue(option, value)
        self.highs.passModel(lp)
        self.every = np.arange(n, dtype=np.int32)

    def cut(self, i: int, z: Floats, amount: float, ways: tuple[tuple[float, float], ...]) -> list[Cut]:
        """The constraint that the need of cell `i` (movements in `ways` adding up to `amount`) puts on the choice."""
        master = self.master
        weight, reached, ground = np.zeros(len(z)), 0.0, 0.0
        for way, furthest in ways:
            if furthest <= 0:
                continue
            best = self._furthest(i, z, way, furthest)
            if best is None:
                return []
            reached += best[0]
            weight += best[1]
            ground += best[2]
        own = 1.0 if master.asked[i] else float(z[i])
        if reached >= amount * own - 1e-5 * max(1.0, amount):
            return []
        least = amount - ground
        if master.asked[i]:
            least -= float(weight[master.asked].sum())
            loose = (weight > 1e-9) & ~master.asked
            if least <= 1e-7 * amount or not loose.any():
                return []
            cells = np.flatnonzero(loose)
            return [Cut(cells, np.minimum(weight[cells], least) / least, 1.0)]
        weight = np.minimum(weight, amount)
        weight[i] -= least
        cells = np.flatnonzero(np.abs(weight) > 1e-9)
        return [Cut(cells, weight[cells] / amount, 0.0)]

    def _furthest(self, i: int, z: Floats, way: float, furthest: float) -> tuple[float, Floats, float] | None:
        """How far the cell gets, the weight of each cell in the dual bound on that, and what rows add to it."""
        master = self.master
        limit = furthest if master.work.network is not None and not master.work.ranged else master.work.cap
        rise = np.minimum(master.rise, limit) / self.scale
        fall = np.minimum(master.fall, limit) / self.scale
        rise[i], fall[i] = min(rise[i], furthest / self.scale), min(fall[i], furthest / self.scale)
        if way > 0:
            fall[i] = 0.0
        else:
            rise[i] = 0.0
        self.highs.changeColsBounds(len(z), self.every, -fall * z, rise * z)
        cost = np.zeros(len(z))
        cost[i] = way
        self.highs.changeColsCost(len(z), self.every, cost)
        self.highs.run()
        master.programs += 1
        if self.highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self.highs.getSolution()
        dual = np.array(solution.col_dual)
        weight = (np.maximum(dual, 0.0) * rise + np.maximum(-dual, 0.0) * fall) * self.scale
        reached = float(way * solution.col_value[i]) * self.scale
        return reached, weight, reached - float(weight @ z)
