"""The protector: which further cells to hide so that every hidden cell keeps the interval it needs.

For a cell that needs to be able to rise by u, the attacker's own program is turned around: find a table y, with the
same margins, in which the cell is u higher, at the least cost of touching cells that are still shown (Fischetti &
Salazar 2001, section 5; Castro 2012). What it touches is hidden and costs nothing afterwards. Every y found is kept
as a witness for all cells it moves, in both directions and as far as it can be stretched, so that most cells need
no program of their own. Then cells are shown again, dearest first, as long as every need keeps a witness.

The programs are local: a block is a node right under the total of the deepest hierarchy with everything below it,
whose own margins are held still. Only what a block cannot solve by itself goes to a wider region.
Everything is in a fixed order, so that the same input gives the same pattern.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from scipy import sparse

from quality.disclosure.errors import NotProtected
from quality.disclosure.paths import Cycles, layered, network
from quality.disclosure.table import Bools, Floats, Ints, System

_Highs: Any = highspy.Highs

WHOLE = 1200
"""Cells up to which a system is one region."""
NEIGHBOURS = 8
"""Blocks that help a block whose top cells need to move."""
EPS = 1e-6
HIDDEN_COST = 1e-4
"""Of moving a hidden cell by one: little, so that witnesses stay short."""
PARTS = 8
"""Ways in which a width is split into down and up, where a cell cannot move over all of it one way."""
FREE = 1e-2
"""A witness that costs less touches hidden cells only."""


@dataclass
class Needs:
    """What each cell must be able to do: fall by `down`, rise by `up`, or move over `width` in all.

    Attributes:
        point: a table that fits everything known: the truth, or for earlier releases any that the attacker allows.
        lower: what the attacker knows a hidden cell to be at least.
        upper: and at most.
        down: asked of the cells in `asked`.
        up: idem.
        width: idem; 0 where not asked.
        asked: unsafe cells.
        every_width: width asked of every hidden cell, also of those hidden to protect others.
        fixed: cells that cannot be hidden: zeros, must be shown, published before.
        free: cells that are known as an interval only and need nothing: they move at no cost.
        coalitions: sets of hidden cells that someone knows: a single contributor, a holding, a supplier.
    """

    point: Floats
    lower: Floats
    upper: Floats
    down: Floats
    up: Floats
    width: Floats
    asked: Bools
    every_width: float
    fixed: Bools
    free: Bools
    coalitions: tuple[Ints, ...] = ()

    def part(self, cells: Ints) -> Needs:
        """The needs of some cells, without coalitions."""
        return Needs(
            self.point[cells], self.lower[cells], self.upper[cells], self.down[cells], self.up[cells],
            self.width[cells], self.asked[cells], self.every_width, self.fixed[cells], self.free[cells],
        )  # fmt: skip

    def width_of(self, cells: Ints) -> Floats:
        """The width that cells need when they are hidden."""
        width = np.where(self.asked[cells], np.maximum(self.width[cells], self.every_width), self.every_width)
        return np.where(self.free[cells], 0.0, width)


@dataclass(frozen=True)
class Pattern:
    """Which cells are hidden in the end, and how it came about.

    Attributes:
        hidden: all hidden cells.
        programs: linear programs solved.
        widened: needs that a block could not meet by itself.
        seconds: wall-clock time.
        cost: of what is hidden besides what was asked, where that was weighed exactly.
        bound: no valid pattern costs less, where that was proved.
    """

    hidden: Bools
    programs: int
    widened: int
    seconds: float
    cost: float = float("nan")
    bound: float = float("nan")


def protect_cells(system: System, needs: Needs, cost: Floats, *, time_limit: float = 600.0) -> Pattern:
    """Choose the cells to hide besides those asked for.

    Args:
        system: tables with true values.
        needs: what must hold.
        cost: of hiding each cell, positive.
        time_limit: seconds.

    Raises:
        NotProtected: a need that no pattern meets, or no time left; the cell is named.
    """
    start = time.monotonic()
    work = Work(system, needs, cost, start + time_limit)
    block = _blocks(system)
    number = int(block.max(initial=-1)) + 1
    if system.cells <= WHOLE or number <= 1:
        region = _Region(work, np.arange(system.cells))
        left = region.meet(region.open_needs())
        _refuse(system, left)
        region.show_again()
        region.exchange()
        region.show_again()
        return Pattern(work.hidden, work.programs, 0, time.monotonic() - start)
    members = _members(block, number)
    top = np.flatnonzero(crossing(system, block) | (block < 0))
    at_top = np.zeros(system.cells, dtype=bool)
    at_top[top] = True
    widened = 0
    for cell in np.flatnonzero(needs.asked & at_top).tolist():
        widened += _meet_wide(work, cell, block, members, top)

    lost: list[int] = []
    for cells in members:
        region = _Region(work, cells)
        lost += region.meet([place for place in region.open_needs() if not at_top[region.cells[place]]])
        region.show_again(keep=work.pinned, skip=at_top)
    for cell in sorted(lost):
        widened += _meet_wide(work, cell, block, members, top)
    for cell in np.flatnonzero(work.hidden & at_top & ~work.met).tolist():
        widened += _meet_wide(work, cell, block, members, top)
    return Pattern(work.hidden, work.programs, widened, time.monotonic() - start)


def repair(system: System, needs: Needs, cost: Floats, hidden: Bools, *, deadline: float) -> Pattern | None:
    """A valid pattern from one that may lack cells or hold too many; None when there is none."""
    start = time.monotonic()
    work = Work(system, needs, cost, deadline)
    work.hidden = hidden.copy()
    region = _Region(work, np.arange(system.cells))
    if region.meet(region.open_needs()):
        return None
    region.show_again()
    return Pattern(work.hidden, work.programs, 0, time.monotonic() - start)


def _refuse(system: System, cells: Iterable[int]) -> None:
    names = tuple(system.name(int(c)) for c in cells)
    if names:
        raise NotProtected(
            f"no pattern protects {names[0]}"
            + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            + "; let more cells be hidden (status Z, zeros, earlier releases), or coarsen the table",
            names,
        )


def _blocks(system: System) -> Ints:
    """Per cell the node right under the total of the deepest hierarchy; −1 above it."""
    best, where = 1, None
    for table in system.tables:
        for d in table.dimensions:
            if int(d.depth.max()) > best:
                best, where = int(d.depth.max()), d.name
    out = np.full(system.cells, -1)
    if where is None:
        return out
    numbers: dict[str, int] = {}
    for table, cells in zip(system.tables, system.cell_of, strict=True):
        for i, d in enumerate(table.dimensions):
            if d.name == where:
                head = np.arange(len(d.codes))
                for _ in range(int(d.depth.max())):
                    head = np.where(d.depth[head] > 1, d.parent[head], head)
                block = np.array([numbers.setdefault(d.codes[h], len(numbers)) if h else -1 for h in head])
                out[cells] = np.maximum(out[cells], block[table.codes[:, i]])
    return out


def regions(system: System) -> list[Ints]:
    """The cells of each node right under the total of the deepest hierarchy, with everything below it."""
    block = _blocks(system)
    return _members(block, int(block.max(initial=-1)) + 1)


def _members(block: Ints, number: int) -> list[Ints]:
    order = np.argsort(block, kind="stable")
    cut = np.searchsorted(block[order], np.arange(number + 1))
    return [order[cut[b] : cut[b + 1]] for b in range(number)]


def crossing(system: System, block: Ints) -> Bools:
    """Cells that take part in a relation over more than one block, so that no block can move them."""
    out = np.zeros(system.cells, dtype=bool)
    for matrix in (system.relations.matrix, system.known.matrix):
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        low, high = np.full(matrix.shape[0], 2**40), np.full(matrix.shape[0], -2)
        np.minimum.at(low, row, block[matrix.indices])
        np.maximum.at(high, row, block[matrix.indices])
        out[matrix.indices[(low != high)[row]]] = True
    return out


class Work:
    """What all regions share: which cells are hidden, what they cost, how far each is known to move."""

    def __init__(self, system: System, needs: Needs, cost: Floats, deadline: float) -> None:
        self.system, self.needs, self.deadline = system, needs, deadline
        keep = system.relations.enough
        self.matrix = sparse.vstack([system.relations.matrix[keep], system.known.matrix], format="csc")
        at = system.known.matrix @ needs.point
        self.row_low = np.concatenate([np.zeros(int(keep.sum())), np.minimum(system.known.lower - at, 0.0)])
        self.row_high = np.concatenate([np.zeros(int(keep.sum())), np.maximum(system.known.upper - at, 0.0)])
        self.network = network(self.matrix)
        self.ranged = bool((self.row_low < 0).any() or (self.row_high > 0).any())
        self.grid = layered(system) if self.network is None and system.cells > WHOLE else None
        self.by_cell = system.relations.matrix.tocsc()
        self.hidden = needs.asked | needs.free
        self.cost = cost / max(float(np.median(cost[cost > 0])) if (cost > 0).any() else 1.0, 1e-12)
        self.rise = np.where(needs.fixed & ~needs.asked, 0.0, needs.upper - needs.point)
        self.fall = np.where(needs.fixed & ~needs.asked, 0.0, needs.point - needs.lower)
        self.rise, self.fall = np.maximum(self.rise, 0.0), np.maximum(self.fall, 0.0)
        if self.ranged:
            self._hold_to_what_stands()
        self.high, self.low = np.zeros(system.cells), np.zeros(system.cells)
        self.pinned = np.zeros(system.cells, dtype=bool)
        self.met = np.zeros(system.cells, dtype=bool)
        self.programs = 0
        largest = float(np.abs(needs.point).max(initial=1.0))
        self.cap = max(largest, 10.0) * 10
        self.scale = 1.0 if bool(system.is_count.all()) or largest < 1e6 else largest / 1e5

    def _hold_to_what_stands(self) -> None:
        """Narrow cells that are tied to others that cannot move, and do not hide what cannot be as wide as asked."""
        known, needs = self.system.known.matrix, self.needs
        low, high = self.row_low[-known.shape[0] :], self.row_high[-known.shape[0] :]
        row = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
        for _ in range(2):
            loose = (self.rise > EPS) | (self.fall > EPS)
            alone = np.bincount(row, loose[known.indices], known.shape[0]) == 1
            at = alone[row] & loose[known.indices]
            cell, ends = known.indices[at], np.sort(np.array([low[row[at]], high[row[at]]]) / known.data[at], axis=0)
            np.minimum.at(self.rise, cell, np.maximum(ends[1], 0.0))
            np.minimum.at(self.fall, cell, np.maximum(-ends[0], 0.0))
            tight = (self.rise + self.fall < needs.every_width - EPS) & ~needs.asked & ~needs.free
            self.rise[tight] = self.fall[tight] = 0.0


def _meet_wide(work: Work, cell: int, block: Ints, members: list[Ints], top: Ints) -> int:
    """Meet the need of one cell with its own block, the top and some neighbours; then with everything."""
    column_cost = np.where(work.hidden[top], 0.0, work.cost[top])
    order = top[np.lexsort((top, column_cost))]
    own = [int(block[cell])] if block[cell] >= 0 else []
    helpers: list[int] = []
    related = np.unique(work.matrix[work.matrix[:, [cell]].nonzero()[0]].nonzero()[1])
    for other in [*np.intersect1d(order, related, assume_unique=False).tolist(), *order.tolist()]:
        b = int(block[other])
        if b >= 0 and b not in own and b not in helpers and not work.needs.fixed[other]:
            helpers.append(b)
        if len(helpers) >= NEIGHBOURS:
            break
    for cells in (
        np.unique(np.concatenate([top, *[members[b] for b in own + helpers]])),
        np.arange(work.system.cells),
    ):
        region = _Region(work, cells)
        place = int(np.searchsorted(region.cells, cell))
        if region.is_met(place):
            return 0
        added = work.hidden.copy()
        if not region.meet([place], follow=False):
            work.pinned[region.supports()] = True
            fresh = np.flatnonzero(work.hidden & ~added)
            more = [int(np.searchsorted(region.cells, c)) for c in fresh]
            left = region.meet([m for m in more if not region.is_met(m)])
            work.pinned[region.supports()] = True
            if not left:
                return 1
    _refuse(work.system, [cell])
    return 1


class _Witnesses:
    """Movements that were found, as one long list: which cell each moves, how far up and how far down."""

    def __init__(self, cells: int) -> None:
        self.cells, self.count = cells, 0
        self.number = self.place = np.zeros(0, dtype=np.int64)
        self.high = self.low = np.zeros(0)

    def add(self, place: Ints, high: Floats, low: Floats) -> None:
        """One more movement."""
        self.number = np.concatenate([self.number, np.full(len(place), self.count)])
        self.place = np.concatenate([self.place, place])
        self.high, self.low = np.concatenate([self.high, high]), np.concatenate([self.low, low])
        self.count += 1

    def without(self, places: Ints) -> _Witnesses:
        """Those that leave the cells at `places` alone."""
        moves = np.zeros(self.cells, dtype=bool)
        moves[places] = True
        bad = np.zeros(self.count, dtype=bool)
        bad[self.number[moves[self.place]]] = True
        keep = ~bad[self.number]
        out = _Witnesses(self.cells)
        out.count = self.count
        out.number, out.place = self.number[keep], self.place[keep]
        out.high, out.low = self.high[keep], self.low[keep]
        return out

    def reach(self) -> tuple[Floats, Floats]:
        """How far up and down each cell is moved by any of them."""
        high, low = np.zeros(self.cells), np.zeros(self.cells)
        np.maximum.at(high, self.place, self.high)
        np.minimum.at(low, self.place, self.low)
        return high, low


class _Region:
    """Some cells with the relations among them, everything else held still; one program that is solved again."""

    def __init__(self, work: Work, cells: Ints) -> None:
        cells = cells[(work.rise[cells] > EPS) | (work.fall[cells] > EPS) | work.hidden[cells]]
        self.work, self.cells = work, cells
        part = work.matrix[:, cells].tocsc()
        counts = np.diff(part.tocsr().indptr)
        rows = np.flatnonzero(counts > 0)
        self.part = part.tocsr()[rows].tocsc()
        self.row_low, self.row_high = work.row_low[rows] / work.scale, work.row_high[rows] / work.scale
        self.rise, self.fall = work.rise[cells], work.fall[cells]
        self.high, self.low = work.high[cells].copy(), work.low[cells].copy()
        self.base = (self.high.copy(), self.low.copy())
        self.witness = _Witnesses(len(cells))
        self.blocked: Ints | None = None
        self._highs: Any = None
        self.paths: Cycles | None = None
        if work.network is not None:
            tail, head = work.network
            self.paths = Cycles(self.rise, self.fall, tail[cells], head[cells], HIDDEN_COST, EPS)
        elif work.grid is not None:
            self.paths = Cycles.in_layers(self.rise, self.fall, work.grid, cells, HIDDEN_COST, EPS)

    # -- needs ---------------------------------------------------------------------------------------------------
    def satisfied(self, places: Ints) -> Bools:
        """Whether the cells at `places` can move as they need to, by the witnesses so far."""
        high, low = self.high, self.low
        needs, cells = self.work.needs, self.cells[places]
        asked = needs.asked[cells]
        width = needs.width_of(cells)
        up, down = np.where(asked, needs.up[cells], 0.0), np.where(asked, needs.down[cells], 0.0)
        near = EPS * np.maximum(1.0, np.maximum(np.maximum(up, down), width))
        up_ok, down_ok = high[places] >= up - near, -low[places] >= down - near
        return up_ok & down_ok & (high[places] - low[places] >= width - near)

    def is_met(self, place: int) -> bool:
        """The same for one cell."""
        needs, cell = self.work.needs, self.cells[place]
        high, low = float(self.high[place]), float(self.low[place])
        up = down = 0.0
        width = self._width(cell)
        if needs.asked[cell]:
            up, down = float(needs.up[cell]), float(needs.down[cell])
        near = EPS * max(1.0, up, down, width)
        return bool(high >= up - near and -low >= down - near and high - low >= width - near)

    def _width(self, cell: int) -> float:
        needs = self.work.needs
        if needs.free[cell]:
            return 0.0
        return max(needs.every_width, float(needs.width[cell]) if needs.asked[cell] else 0.0)

    def hidden(self) -> Ints:
        """Places of the hidden cells."""
        return np.flatnonzero(self.work.hidden[self.cells])

    def open_needs(self) -> list[int]:
        """Places of hidden cells whose need has no witness yet, in the order to meet them."""
        places = self.hidden()
        places = places[~self.satisfied(places)]
        cells = self.cells[places]
        size = np.maximum(self.work.needs.up[cells], self.work.needs.width[cells])
        # along paths small needs first share what they hide; a program splits large ones better before the rest
        return [int(place) for place in places[np.lexsort((places, size if self.paths else -size))]]

    def meet(self, places: list[int], *, follow: bool = True) -> list[int]:
        """Hide what is needed for the cells at `places`; returns the cells that cannot be helped here."""
        lost: list[int] = []
        queue = list(places)
        while queue:
            place = queue.pop(0)
            if self.is_met(place):
                continue
            before = self.work.hidden[self.cells].copy()
            if not self._help(place):
                lost.append(int(self.cells[place]))
            if follow and self.work.needs.every_width > 0:
                fresh = np.flatnonzero(self.work.hidden[self.cells] & ~before)
                queue += fresh[~self.satisfied(fresh)].tolist()
        if not lost and len(self.work.needs.coalitions):
            lost = self._withstand_coalitions()
        places_met = self.hidden()
        self.work.met[self.cells[places_met[self.satisfied(places_met)]]] = True
        return lost

    def _help(self, place: int) -> bool:
        """Find witnesses for one cell, hiding what they touch."""
        needs, cell = self.work.needs, self.cells[place]
        asked = bool(needs.asked[cell])
        width = self._width(int(cell))
        up, down = (float(needs.up[cell]), float(needs.down[cell])) if asked else (0.0, 0.0)
        if self.high[place] < up - EPS * max(1.0, up) and not self._move(place, up):
            return False
        if -self.low[place] < down - EPS * max(1.0, down) and not self._move(place, -down):
            return False
        if self.high[place] - self.low[place] >= width - EPS * max(1.0, width):
            return True
        moves = [width + float(self.low[place])]
        if width - self.high[place] <= self.fall[place]:
            moves.append(float(self.high[place]) - width)
        best = self._cheapest(place, moves)
        if best is not None:
            self._take(best)
            return True
        return not self._strict and self._partly(place, width)

    def _partly(self, place: int, width: float) -> bool:
        """Move a cell down as far as goes, and up for the rest of the width, where neither way goes all of it."""
        furthest = np.floor(min(float(self.fall[place]), width) + EPS)
        for down in np.arange(furthest, 0.0, -max(1.0, np.floor(furthest / PARTS))):
            if self._move(place, -float(down)):
                return self._move(place, width + float(self.low[place]))
        return False

    def _move(self, place: int, amount: float) -> bool:
        found = self._solve(place, amount)
        if found is None:
            return False
        self._take(found[1])
        return True

    def _cheapest(self, place: int, moves: list[float]) -> Floats | None:
        """The witness of least cost among those that move the cell by one of the amounts."""
        best: tuple[float, Floats] | None = None
        for amount in moves:
            found = self._solve(place, amount)
            if found is not None and (best is None or found[0] < best[0] - 1e-9):
                best = found
            if best is not None and best[0] < FREE:
                break
        return None if best is None else best[1]

    def _take(self, y: Floats) -> None:
        """Hide what a witness moves, and remember how far it moves each cell."""
        support = np.flatnonzero(np.abs(y) > EPS)
        self.work.hidden[self.cells[support]] = True
        self._remember(support, y[support])

    def _remember(self, support: Ints, y: Floats) -> None:
        """Stretch a witness as far as bounds allow, both ways, and note how far it moves each cell."""
        far, near = 1.0, 0.0
        if not self.work.system.known.matrix.shape[0]:
            size = np.abs(y)
            forth = float((np.where(y > 0, self.rise[support], self.fall[support]) / size).min())
            back = float((np.where(y > 0, self.fall[support], self.rise[support]) / size).min())
            far, near = max(1.0, min(forth, self.work.cap)), min(back, self.work.cap)
        high, low = np.maximum(y * far, -y * near), np.minimum(y * far, -y * near)
        self.witness.add(support, high, low)
        self.high[support] = np.maximum(self.high[support], high)
        self.low[support] = np.minimum(self.low[support], low)
        cells = self.cells[support]
        self.work.high[cells] = np.maximum(self.work.high[cells], high)
        self.work.low[cells] = np.minimum(self.work.low[cells], low)

    def supports(self) -> Ints:
        """The cells that the witnesses of this region move."""
        return self.cells[np.unique(self.witness.place)]

    # -- showing again -------------------------------------------------------------------------------------------
    def show_again(self, keep: Bools | None = None, skip: Bools | None = None) -> None:
        """Show cells that no need depends on, dearest first; cells in `keep` stay, needs of `skip` are not judged."""
        work = self.work
        places = self.hidden()
        cells = self.cells[places]
        loose = ~work.needs.asked[cells] & ~work.needs.free[cells]
        if keep is not None:
            loose &= ~keep[cells]
        if skip is not None:
            loose &= ~skip[cells]
        candidates = places[loose]
        order = np.lexsort((candidates, -work.cost[self.cells[candidates]]))
        for place in candidates[order]:
            if not self._leaves_one_alone(int(self.cells[place])):
                self._try_without(int(place), skip)

    def exchange(self) -> None:
        """Show a cell again where hiding others in its place costs less, dearest first; needs stay met."""
        places = self.hidden()
        cells = self.cells[places]
        candidates = places[~self.work.needs.asked[cells] & ~self.work.needs.free[cells]]
        if not len(self.work.needs.coalitions):
            for place in candidates[np.lexsort((candidates, -self.work.cost[self.cells[candidates]]))]:
                self._try_others(int(place))

    def _try_others(self, place: int) -> None:
        work = self.work
        before = work.hidden[self.cells].copy()
        kept, state = self.witness, (self.high, self.low)
        self.witness = kept.without(np.array([place]))
        self.high, self.low = self._reach(self.witness)
        work.hidden[self.cells[place]] = False
        limit = float(work.cost[self.cells[place]]) - 1e-9
        self.blocked = np.array([place])
        good = True
        while good:
            places = self.hidden()
            wanting = places[~self.satisfied(places)]
            if not len(wanting):
                break
            good = self._help(int(wanting[0]))
            fresh = work.hidden[self.cells] & ~before
            good = good and float(work.cost[self.cells[fresh]].sum()) < limit
        self.blocked = None
        if not good:
            work.hidden[self.cells] = before
            self.witness, (self.high, self.low) = kept, state

    def _leaves_one_alone(self, cell: int) -> bool:
        """Whether some relation would keep a single hidden cell, one that needs protection: then it is in vain."""
        work, margins = self.work, self.work.system.relations.matrix
        if work.system.slack.any():
            return False
        by_cell = work.by_cell
        for row in by_cell.indices[by_cell.indptr[cell] : by_cell.indptr[cell + 1]]:
            others = margins.indices[margins.indptr[row] : margins.indptr[row + 1]]
            left = others[work.hidden[others]]
            if len(left) == 2:
                other = left[0] if left[1] == cell else left[1]
                if self._width(int(other)) > 0 or work.needs.asked[other]:
                    return True
        return False

    def _try_without(self, place: int, skip: Bools | None) -> bool:
        work = self.work
        kept, state = self.witness, (self.high, self.low)
        self.witness = kept.without(np.array([place]))
        self.high, self.low = self._reach(self.witness)
        work.hidden[self.cells[place]] = False
        places = self.hidden()
        if skip is not None:
            places = places[~skip[self.cells[places]]]
        if self._still(places) and self._still_against_coalitions(places):
            return True
        work.hidden[self.cells[place]] = True
        self.witness, (self.high, self.low) = kept, state
        return False

    def _reach(self, witness: _Witnesses) -> tuple[Floats, Floats]:
        """By these witnesses and those of wider regions, whose cells stay hidden."""
        high, low = witness.reach()
        return np.maximum(high, self.base[0]), np.minimum(low, self.base[1])

    def _still(self, places: Ints) -> bool:
        """Whether every need can be met by hidden cells alone."""
        while True:
            wanting = places[~self.satisfied(places)]
            if not len(wanting):
                return True
            if not self._help_strictly(int(wanting[0])):
                return False

    def _help_strictly(self, place: int) -> bool:
        kept = self._strict
        self._strict = True
        try:
            return self._help(place)
        finally:
            self._strict = kept

    _strict = False

    # -- coalitions ----------------------------------------------------------------------------------------------
    def _withstand_coalitions(self) -> list[int]:
        """Meet every need also without moving the cells that a coalition knows."""
        lost: list[int] = []
        for known in self.work.needs.coalitions:
            at = np.flatnonzero(np.isin(self.cells, known))
            if self.work.hidden[self.cells[at]].any():
                lost += self._without_moving(at)
        return lost

    def _without_moving(self, blocked: Ints) -> list[int]:
        state = (self.high, self.low)
        self.high, self.low = self.witness.without(blocked).reach()
        self.blocked = blocked
        needy = self.work.needs.asked[self.cells] & self.work.hidden[self.cells]
        needy[blocked] = False
        places = np.flatnonzero(needy)
        lost = [
            int(self.cells[place])
            for place in places[~self.satisfied(places)]
            if not self.is_met(place) and not self._help(int(place))
        ]
        self.blocked = None
        self.high, self.low = np.maximum(self.high, state[0]), np.minimum(self.low, state[1])
        return lost

    def _still_against_coalitions(self, places: Ints) -> bool:
        if not len(self.work.needs.coalitions):
            return True
        self._strict = True
        try:
            return not self._withstand_coalitions()
        finally:
            self._strict = False

    # -- programs ------------------------------------------------------------------------------------------------
    def _start(self) -> Any:
        work, n = self.work, len(self.cells)
        lp: Any = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = 2 * n, self.part.shape[0]
        both = sparse.hstack([self.part, -self.part], format="csc")
        self._upper = np.minimum(np.concatenate([self.rise, self.fall]), work.cap) / work.scale
        lp.col_cost_ = np.ones(2 * n)
        lp.col_lower_, lp.col_upper_ = np.zeros(2 * n), self._upper
        lp.row_lower_, lp.row_upper_ = self.row_low, self.row_high
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = both.indptr, both.indices, both.data
        highs: Any = _Highs()
        for option, value in (("output_flag", False), ("presolve", "off"), ("solver", "simplex"), ("threads", 1)):
            highs.setOptionValue(option, value)
        highs.passModel(lp)
        self._now = (np.ones(2 * n), np.zeros(2 * n), self._upper)
        return highs

    def _solve(self, place: int, amount: float) -> tuple[float, Floats] | None:
        """The cheapest movement found in which the cell moves by `amount`: its cost and the movement per cell.

        Along one cycle or several where the table allows that; elsewhere by a program.
        """
        work = self.work
        if abs(amount) > (self.rise if amount > 0 else self.fall)[place] + EPS:
            return None
        if time.monotonic() > work.deadline:
            raise NotProtected("protection ran out of time; give it more, or coarsen the table")
        hidden = work.hidden[self.cells]
        price = np.where(hidden, HIDDEN_COST, np.inf if self._strict else work.cost[self.cells])
        if self.blocked is not None:
            price[self.blocked] = np.inf
        if self.paths is not None:
            work.programs += 1
            free = self.paths.movement(place, amount, price, split=False, within=FREE)
            if free is not None:
                return free
            found = None
            if not work.ranged:
                found = self.paths.movement(place, amount, price, split=True)
                found = found or self.paths.movement(place, amount, price, split=False)
            # cycles leave known sums as they are, though those may move within a range; in layers not every movement
            # is a sum of mirrored cycles, and showing cells again does without the rest
            if found is not None or ((self._strict or work.network is not None) and not work.ranged):
                return found
        y = self._program(place, amount, price)
        if y is None:
            return None
        touched = np.abs(y) > 0
        cost = float(np.where(touched & ~hidden, work.cost[self.cells], 0.0).sum())
        return cost + HIDDEN_COST * float(touched.sum()), y

    def _program(self, place: int, amount: float, price: Floats) -> Floats | None:
        """The movement of least cost per unit over all tables; None when there is none."""
        work, n = self.work, len(self.cells)
        if self._highs is None:
            self._highs = self._start()
        highs = self._highs
        left = work.deadline - time.monotonic()
        if left <= 0:
            raise NotProtected("protection ran out of time; give it more, or coarsen the table")
        highs.setOptionValue("time_limit", highs.getRunTime() + left)
        free = np.isfinite(price)
        size = abs(amount) / work.scale
        forward, backward = (place, place + n) if amount > 0 else (place + n, place)
        cost = np.tile(np.where(free, price, 1.0), 2)
        lower, upper = np.zeros(2 * n), np.where(np.tile(free, 2), self._upper, 0.0)
        lower[forward] = upper[forward] = size
        upper[backward] = 0.0
        self._change(cost, lower, upper)
        highs.run()
        work.programs += 1
        status = highs.getModelStatus()
        if status == highspy.HighsModelStatus.kTimeLimit:
            raise NotProtected("protection ran out of time; give it more, or coarsen the table")
        if status != highspy.HighsModelStatus.kOptimal:
            return None
        x = np.array(highs.getSolution().col_value)
        y: Floats = (x[:n] - x[n:]) * work.scale
        y[np.abs(y) <= 10 * EPS * max(1.0, abs(amount))] = 0.0
        return y

    def _change(self, cost: Floats, lower: Floats, upper: Floats) -> None:
        """Tell the solver only what differs from the last program."""
        moved = np.flatnonzero(cost != self._now[0]).astype(np.int32)
        if len(moved):
            self._highs.changeColsCost(len(moved), moved, cost[moved])
        moved = np.flatnonzero((lower != self._now[1]) | (upper != self._now[2])).astype(np.int32)
        if len(moved):
            self._highs.changeColsBounds(len(moved), moved, lower[moved], upper[moved])
        self._now = (cost, lower, upper)
