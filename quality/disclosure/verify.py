"""A second verifier without a solver, for a tree crossed with one flat dimension: which hidden cells are given away.

Such a table is a network: an inner node of the tree and a category make a vertex whose inflow (the cell) equals its
outflow (the cells below), a leaf of the tree makes one over its categories, and totals flow back (Gusfield 1988,
"A graph theoretic approach to statistical data security"). Take any table that fits what is published, as a flow.
A hidden cell can be changed exactly when its edge lies on a cycle of the residual graph, so it is given away when
its ends lie in different strongly connected components, or when it is a bridge within one. Both are found in
linear time; a fitting flow is found by augmenting paths. Nothing here is shared with the auditor.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from quality.disclosure.errors import DisclosureError
from quality.disclosure.table import Bools, Floats, Ints, System


def given_away(system: System, least: float) -> Bools:
    """Which hidden cells have one possible value, given that a hidden count is at least `least`.

    Args:
        system: one table of counts, NaN where hidden.
        least: what the attacker knows a hidden cell to be at least.

    Raises:
        DisclosureError: not a tree crossed with one flat dimension, or values that fit no table.
    """
    tail, head, vertices = _network(system)
    value = np.concatenate([system.value, np.full(len(tail) - system.cells, np.nan)])
    hidden = np.flatnonzero(np.isnan(value))
    # of parts that do not stand in the table nothing is known but that they are not negative
    floor = np.where(hidden < system.cells, float(least), 0.0)
    out = np.zeros(len(tail), dtype=bool)
    if not len(hidden):
        return out
    tail_h, head_h = tail[hidden], head[hidden]
    flow = _fitting_flow(value, tail, head, vertices, hidden, floor)
    back = flow > floor + 0.5
    residual = sparse.csr_matrix(
        (
            np.ones(len(hidden) + int(back.sum())),
            (np.concatenate([tail_h, head_h[back]]), np.concatenate([head_h, tail_h[back]])),
        ),
        shape=(vertices, vertices),
    )
    _, part = csgraph.connected_components(residual, directed=True, connection="strong")
    inside = part[tail_h] == part[head_h]
    out[hidden[~inside]] = True
    within = np.flatnonzero(inside)
    out[hidden[within[_bridges(tail_h[within], head_h[within], vertices)]]] = True
    return out[: system.cells]


def _network(system: System) -> tuple[Ints, Ints, int]:
    """Every cell as an edge between two vertices, so that each relation is: what flows in flows out."""
    if len(system.tables) != 1 or len(system.tables[0].dimensions) != 2 or not system.is_count.all():
        raise DisclosureError("the verifier without a solver takes one table of counts over two dimensions")
    table = system.tables[0]
    tree_at = 0 if table.dimensions[0].depth.max() >= table.dimensions[1].depth.max() else 1
    tree, flat = table.dimensions[tree_at], table.dimensions[1 - tree_at]
    if flat.depth.max() > 1:
        raise DisclosureError("the verifier without a solver takes a tree and one flat dimension")
    g, c = table.codes[:, tree_at], table.codes[:, 1 - tree_at]
    parent, inner = tree.parent, tree.inner
    # an open code gets one more part, with every code of the other dimension, for all that does not stand in the table
    (more,) = np.nonzero(tree.is_open)
    rest = len(tree.codes) + np.arange(len(more))
    parent, inner = np.concatenate([parent, more]), np.concatenate([inner, np.zeros(len(more), dtype=bool)])
    categories = len(flat.codes) + int(flat.is_open[0])
    inner[more] = True
    every_g, every_c = np.unique(g), np.unique(c)
    g = np.concatenate([g, np.repeat(rest, len(every_c))])
    c = np.concatenate([c, np.tile(every_c, len(rest))])
    if flat.is_open[0]:
        every_g = np.concatenate([every_g, rest])
        g, c = np.concatenate([g, every_g]), np.concatenate([c, np.full(len(every_g), categories - 1)])
    below = np.where(inner[g], g * categories + c, g * categories)
    above = np.where(parent[g] >= 0, parent[g] * categories + c, len(parent) * categories)
    total = c == 0
    return np.where(total, below, above), np.where(total, above, below), len(parent) * categories + 1


def _fitting_flow(value: Floats, tail: Ints, head: Ints, vertices: int, hidden: Ints, floor: Floats) -> Floats:
    """A table that fits what is published, by a maximum flow from what is short to what is left over."""
    known = value.copy()
    known[hidden] = floor
    excess = np.bincount(head, known, vertices) - np.bincount(tail, known, vertices)
    source, sink = vertices, vertices + 1
    give, take = np.flatnonzero(excess > 0), np.flatnonzero(excess < 0)
    room = int(excess[give].sum())
    if room >= 2**31:
        raise DisclosureError("the figures are too large for the verifier without a solver")
    pair = tail[hidden] * vertices + head[hidden]
    _, first = np.unique(pair, return_index=True)
    start = np.concatenate([tail[hidden][first], np.full(len(give), source), take])
    end = np.concatenate([head[hidden][first], give, np.full(len(take), sink)])
    capacity = np.concatenate([np.full(len(first), room), excess[give], -excess[take]]).astype(np.int32)
    graph = sparse.csr_matrix((capacity, (start, end)), shape=(vertices + 2, vertices + 2))
    result = csgraph.maximum_flow(graph, source, sink)
    if result.flow_value != room:
        raise DisclosureError("no table fits the published values: margins do not add up, or a cell is too small")
    moved = np.asarray(result.flow[tail[hidden][first], head[hidden][first]]).ravel()
    flow = floor.copy()
    flow[first] += np.maximum(moved, 0)
    return flow


def _bridges(tail: Ints, head: Ints, vertices: int) -> Bools:
    """Edges whose removal splits the undirected multigraph (Tarjan 1974), without recursion."""
    edges = len(tail)
    ends, others = np.concatenate([tail, head]), np.concatenate([head, tail])
    edge = np.tile(np.arange(edges), 2)
    order = np.argsort(ends, kind="stable")
    pointer = np.searchsorted(ends[order], np.arange(vertices + 1)).tolist()
    to, via = others[order].tolist(), edge[order].tolist()
    seen, low, bridge = [-1] * vertices, [0] * vertices, np.zeros(edges, dtype=bool)
    clock = 0
    for root in np.unique(tail).tolist():
        if seen[root] >= 0:
            continue
        seen[root] = low[root] = clock
        clock += 1
        stack = [(root, -1, pointer[root])]
        while stack:
            vertex, came, at = stack.pop()
            if at < pointer[vertex + 1]:
                stack.append((vertex, came, at + 1))
                if via[at] == came:
                    continue
                other = to[at]
                if seen[other] < 0:
                    seen[other] = low[other] = clock
                    clock += 1
                    stack.append((other, via[at], pointer[other]))
                else:
                    low[vertex] = min(low[vertex], seen[other])
            elif stack:
                above = stack[-1][0]
                low[above] = min(low[above], low[vertex])
                if low[vertex] > seen[above]:
                    bridge[came] = True
    return bridge
