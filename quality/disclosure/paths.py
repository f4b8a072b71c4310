"""Movements of a table along cycles: what the protector uses instead of a solver where it can.

Relations are vertices and cells are edges when each cell stands in at most two of them: a movement that keeps all
margins is then a sum of cycles, and the cheapest one through a cell is a shortest path (Fischetti & Salazar 2000,
"Models and algorithms for optimizing cell suppression in tabular data with linear constraints"). A table with more
dimensions is no network, but a cycle in a layer with its mirror image in another layer keeps all margins as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from quality.disclosure.table import Floats, Ints, System

CYCLES = 200
"""Cycles that a movement is made of at most."""


class Step(NamedTuple):
    """One way to move: the places that move together with each position, shape (corners, positions), and their signs.

    A plain network has one corner: every position moves alone.
    """

    places: Ints
    signs: Floats


class Grid(NamedTuple):
    """A table seen as layers of a network: each cell's position in the network and its code per further dimension."""

    position: Ints
    layer: Ints
    sizes: tuple[int, ...]
    tail: Ints
    head: Ints


def network(matrix: sparse.csc_matrix) -> tuple[Ints, Ints] | None:
    """Tail and head vertex of every cell where the relations form a network, else None.

    Some relations may have to be turned around to get opposite signs; a cell in fewer than two relations runs to a
    common ground.
    """
    rows, cells = matrix.shape
    count = np.diff(matrix.indptr)
    if not rows or count.max(initial=0) > 2 or not np.all(np.abs(matrix.data) == 1.0):
        return None
    two = np.flatnonzero(count == 2)
    a, b = matrix.indices[matrix.indptr[two]], matrix.indices[matrix.indptr[two] + 1]
    same = matrix.data[matrix.indptr[two]] == matrix.data[matrix.indptr[two] + 1]
    doubled = sparse.csr_matrix(
        (
            np.ones(2 * len(two)),
            (
                np.concatenate([a, a + rows]),
                np.concatenate([np.where(same, b + rows, b), np.where(same, b, b + rows)]),
            ),
        ),
        shape=(2 * rows, 2 * rows),
    )
    _, label = csgraph.connected_components(doubled, directed=False)
    if (label[:rows] == label[rows:]).any():
        return None
    turned = np.where(label[:rows] < label[rows:], 1.0, -1.0)
    tail, head = np.full(cells, rows), np.full(cells, rows)
    column = np.repeat(np.arange(cells), count)
    sign = matrix.data * turned[matrix.indices]
    tail[column[sign < 0]] = matrix.indices[sign < 0]
    head[column[sign > 0]] = matrix.indices[sign > 0]
    return tail, head


def layered(system: System) -> Grid | None:
    """The layers of a single table of a tree and two or more flat dimensions, None for any other system."""
    if len(system.tables) != 1 or system.known.matrix.shape[0]:
        return None
    table = system.tables[0]
    size = [(-int(d.depth.max()), -len(d.codes), i) for i, d in enumerate(table.dimensions)]
    order = [i for *_, i in sorted(size)]
    if len(order) < 3 or any(int(table.dimensions[i].depth.max()) > 1 for i in order[1:]):
        return None
    tree, flat = table.dimensions[order[0]], table.dimensions[order[1]]
    g, c = table.codes[:, order[0]], table.codes[:, order[1]]
    width = len(flat.codes)
    below = np.where(tree.inner[g], g * width + c, g * width)
    above = np.where(tree.parent[g] >= 0, tree.parent[g] * width + c, len(tree.codes) * width)
    return Grid(
        g * width + c,
        table.codes[:, order[2:]],
        tuple(len(table.dimensions[i].codes) for i in order[2:]),
        np.where(c == 0, below, above),
        np.where(c == 0, above, below),
    )


class Cycles:
    """Cheapest movements of the cells of a region; every cell is known by its place in the region."""

    def __init__(self, rise: Floats, fall: Floats, tail: Ints, head: Ints, hidden_cost: float, eps: float) -> None:
        self.rise, self.fall, self.hidden_cost, self.eps = rise, fall, hidden_cost, eps
        self.grid: Grid | None = None
        self.known: dict[tuple[int, ...], list[Step]] = {}
        self.at = self.layer = self.place = np.zeros(0, dtype=np.int64)
        self._build(tail, head)

    @classmethod
    def in_layers(cls, rise: Floats, fall: Floats, grid: Grid, cells: Ints, hidden_cost: float, eps: float) -> Cycles:
        """Movements of some cells of a layered table: a cycle in one layer, mirrored in others."""
        position, first, at = np.unique(grid.position[cells], return_index=True, return_inverse=True)
        out = cls(rise, fall, grid.tail[cells][first], grid.head[cells][first], hidden_cost, eps)
        out.grid = grid
        out.at, out.layer = np.asarray(at), grid.layer[cells]
        out.place = np.full((len(position), *grid.sizes), len(cells))
        out.place[(out.at, *out.layer.T)] = np.arange(len(cells))
        return out

    def _build(self, tail: Ints, head: Ints) -> None:
        names, ends = np.unique(np.concatenate([tail, head]), return_inverse=True)
        n = len(tail)
        self.edges = n
        self.tail, self.head = ends[:n], ends[n:]
        pair = np.minimum(self.tail, self.head) * len(names) + np.maximum(self.tail, self.head)
        _, first = np.unique(pair, return_index=True)
        twin = np.ones(n, dtype=bool)
        twin[first] = False
        extra, plain = np.flatnonzero(twin), np.flatnonzero(~twin)
        middle = len(names) + np.arange(len(extra))
        size = len(names) + len(extra)
        start = np.concatenate([self.tail[plain], self.head[plain], self.tail[extra], self.head[extra], middle, middle])
        end = np.concatenate([self.head[plain], self.tail[plain], middle, middle, self.head[extra], self.tail[extra]])
        # what leads on from the middle of a twin edge costs nothing of its own: it is known by the arc before it
        arc = np.concatenate([plain, plain + n, extra, extra + n, np.full(2 * len(extra), 2 * n)])
        order = np.lexsort((end, start))
        self.key = (start * size + end)[order]
        self.arc, self.size = arc[order], size
        pointer = np.searchsorted(start[order], np.arange(size + 1)).astype(np.int32)
        self.graph = sparse.csr_matrix((np.ones(len(order)), end[order].astype(np.int32), pointer), shape=(size, size))

    def movement(
        self, place: int, amount: float, price: Floats, *, split: bool, within: float = np.inf
    ) -> tuple[float, Floats] | None:
        """A movement in which the cell moves by `amount`, with its price; None when none was found.

        Args:
            place: the cell.
            amount: how far, and which way.
            price: of touching each cell, infinite where it may not move.
            split: take cheapest cycles one after another, however narrow, until the whole amount is moved;
                otherwise a single cycle that is wide enough. In a network splitting finds any movement there is.
            within: a cycle that costs this much or more is not wanted, which shortens the search.
        """
        near = self.eps * max(1.0, abs(amount))
        y, left, paid = np.zeros(len(price) + 1), abs(amount), 0.0
        price = np.append(price, np.inf)
        rise, fall = np.append(self.rise, 0.0), np.append(self.fall, 0.0)
        edge = place if self.grid is None else int(self.at[place])
        for _ in range(CYCLES if split else 1):
            best: tuple[float, Ints, Ints, Step, float] | None = None
            least = near if split else left - near
            room_up, room_down = rise - y, fall + y
            for step in self._steps(place):
                up, down, cost = self._capacities(step, step.places[:, edge], room_up, room_down, price)
                room, alone = float(up if amount > 0 else down), float(cost - price[place])
                most = within if best is None else min(within, best[0] - 1e-12)
                if room < least or not alone < most:
                    continue
                up, down, cost = self._capacities(step, step.places, room_up, room_down, price)
                rising, falling = np.where(up >= least, cost, np.inf), np.where(down >= least, cost, np.inf)
                found = self._cheapest(edge, amount > 0, rising, falling, most - alone)
                if found is not None:
                    wide = min(up[found[1]].min(initial=left), down[found[2]].min(initial=left))
                    best = found[0] + alone, found[1], found[2], step, float(min(wide, room, left))
            if best is None:
                return None
            total, ups, downs, step, width = best
            paid += total
            ups, downs = (np.append(ups, edge), downs) if amount > 0 else (ups, np.append(downs, edge))
            for edges, way in ((ups, width), (downs, -width)):
                moved = step.places[:, edges]
                y[moved] += way * step.signs[:, None]
                price[moved] = self.hidden_cost
            left -= width
            if left <= near:
                y = y[:-1]
                y[np.abs(y) <= 10 * near] = 0.0
                y[place] = amount
                return paid, y
        return None

    def _steps(self, place: int) -> list[Step]:
        """The cell's own network, or every pair (in more dimensions: cube) of layers that it is in."""
        own = () if self.grid is None else tuple(self.layer[place].tolist())
        if own not in self.known:
            self.known[own] = [self._step(own, mirror) for mirror in self._mirrors(own)]
        return self.known[own]

    def _mirrors(self, own: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        sizes = () if self.grid is None else self.grid.sizes
        return product(*([b for b in range(size) if b != mine] for size, mine in zip(sizes, own, strict=True)))

    def _step(self, own: tuple[int, ...], mirror: tuple[int, ...]) -> Step:
        """What moves together in all corners between two layers; children mirror with the other sign."""
        if self.grid is None:
            return Step(np.arange(self.edges)[None, :], np.ones(1))
        flat = self.place.reshape(len(self.place), -1)
        places, signs = [], []
        for corner in product((False, True), repeat=len(own)):
            code = tuple(b if far else a for a, b, far in zip(own, mirror, corner, strict=True))
            turns = sum(far and a != 0 and b != 0 for a, b, far in zip(own, mirror, corner, strict=True))
            places.append(flat[:, np.ravel_multi_index(code, self.grid.sizes)])
            signs.append(-1.0 if turns % 2 else 1.0)
        return Step(np.array(places), np.array(signs))

    @staticmethod
    def _capacities(step: Step, at: Ints, rise: Floats, fall: Floats, price: Floats) -> tuple[Any, Any, Any]:
        """How far the places at `at` (a corner a row) can rise and fall together, and what that costs."""
        up, down, cost = rise[at[0]], fall[at[0]], price[at[0]]
        for sign, other in zip(step.signs[1:], at[1:], strict=True):
            with_it, against = (rise, fall) if sign > 0 else (fall, rise)
            up, down = np.minimum(up, with_it[other]), np.minimum(down, against[other])
            cost = cost + price[other]
        return up, down, cost

    def _cheapest(
        self, edge: int, rising: bool, up: Floats, down: Floats, within: float
    ) -> tuple[float, Ints, Ints] | None:
        """The cheapest way round that closes a cycle with `edge`: its price, the edges that rise and that fall."""
        source, target = (self.head[edge], self.tail[edge]) if rising else (self.tail[edge], self.head[edge])
        cost = np.concatenate([up, down, [0.0]])
        cost[edge] = cost[edge + self.edges] = np.inf
        self.graph.data[:] = cost[self.arc]
        distance, before = csgraph.dijkstra(self.graph, indices=int(source), return_predecessors=True, limit=within)
        if not distance[target] < within:
            return None
        vertices = [int(target)]
        while vertices[-1] != source:
            vertices.append(int(before[vertices[-1]]))
        way = np.array(vertices)
        arcs = self.arc[np.searchsorted(self.key, way[1:] * self.size + way[:-1])]
        ups, downs = arcs[arcs < self.edges], arcs[(arcs >= self.edges) & (arcs < 2 * self.edges)] - self.edges
        return float(distance[target]), ups, downs
