"""What hidden cells need and what hiding costs, from the norms: the protector's side of the bargain.

Belongs here: protection levels, costs, who knows which cells, and what an attacker is taken to know of a cell, all
written apart from the auditor, which works out the last from the published tables by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from quality.disclosure.errors import DisclosureError
from quality.disclosure.primary import contributors
from quality.disclosure.spec import Policy
from quality.disclosure.table import Bools, Floats, Ints, System


def believed(system: System, policy: Policy, zeros: Bools) -> tuple[Floats, Floats]:
    """Between which values an attacker places each cell once it is hidden, before looking at anything published.

    Args:
        system: the true tables.
        policy: with the attacker.
        zeros: cells that may be hidden while they are zero.
    """
    attacker, value = policy.attacker, system.value
    if attacker.percent is not None:
        around = np.abs(value) * attacker.percent / 100
        return value - around, value + around
    if attacker.lower is not None:
        least = np.full(len(value), attacker.lower)
    else:
        least = np.where(system.is_count & ~zeros, 1.0, 0.0)
    return np.where(system.blurred, 0.0, least), np.full(
        len(value), np.inf if attacker.upper is None else attacker.upper
    )


def narrowed(system: System, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """The same with the intervals that were published about single cells.

    Raises:
        DisclosureError: a value outside such an interval.
    """
    value = system.value
    off = np.flatnonzero((value < system.floor - 1e-6 * (1 + value)) | (value > system.ceiling + 1e-6 * (1 + value)))
    if len(off):
        raise DisclosureError(
            f"{system.name(int(off[0]))} lies outside an interval that was published about it; check the rate, the "
            "rounded figure or the earlier release, and which input each was made from"
        )
    return np.maximum(lower, system.floor), np.minimum(upper, system.ceiling)


def protection_levels(system: System, policy: Policy) -> tuple[Floats, Floats, Floats]:
    """Lower and upper protection level and width that an unsafe cell needs."""
    zero = np.zeros(system.cells)
    value = np.nan_to_num(system.value)
    p = policy.protection
    if p is None:
        return zero, zero, zero
    if p.columns:
        lpl, upl = system.column("lpl"), system.column("upl")
        if lpl is None or upl is None:
            raise DisclosureError("protection: {columns: true} needs the columns lpl and upl")
        return np.nan_to_num(lpl), np.nan_to_num(upl), zero
    if p.absolute is not None:
        return np.full(system.cells, p.absolute), np.full(system.cells, p.absolute), zero
    if p.percent is not None:
        return value * p.percent / 100, value * p.percent / 100, zero
    return zero, zero, np.full(system.cells, float(p.width or 0.0))


def costs(system: System, policy: Policy) -> Floats:
    """What hiding a cell costs; higher cells a little more, so that they are kept when it makes no difference."""
    value = np.nan_to_num(system.value)
    match policy.cost:
        case "unit":
            cost = 1 + 1e-4 * np.log1p(value) / max(float(np.log1p(value.max(initial=1.0))), 1e-9)
        case "frequency":
            cost = np.maximum(contributors(system), 1.0)
        case "column":
            found = system.column("cost")
            if found is None:
                raise DisclosureError("cost: column needs a column `cost`")
            cost = np.maximum(np.where(np.isnan(found), value, found), 1e-6)
        case _:
            cost = np.maximum(value, 1e-6)
    return cost * (1 + 1e-4 * system.height)


def coalitions(
    system: System, policy: Policy, among: Bools, known_cells: Mapping[str, Sequence[tuple[int, Ints]]]
) -> dict[str, Ints]:
    """Who knows which cells: single contributors (joined by holding) where the attacker says so, and suppliers."""
    out: dict[str, Ints] = {}
    if policy.attacker.contributors:
        for cells in _contributors_alone(system, (contributors(system) == 1) & among):
            out[f"contributor {cells[0]}"] = cells
    for who, parts in known_cells.items():
        out[who] = np.unique(np.concatenate([system.cell_of[t][rows] for t, rows in parts]))
    return out


def _contributors_alone(system: System, alone: Bools) -> list[Ints]:
    """Per contributor who is alone in a cell all that follows from it: the same one is alone in a total of one.

    Whoever is the only one in a total is the only one in the part that is not empty, and knows that the others are.
    """
    rows = np.flatnonzero(alone[system.relations.total])
    found = system.relations.matrix[rows].tocoo()
    total, part = system.relations.total[rows][found.row], found.col
    inside = alone[part] & (part != total)
    one, other = total[inside], part[inside]
    holding = system.column("holding")
    if holding is not None:
        held = np.flatnonzero(alone & ~np.isnan(holding))
        held = held[np.argsort(holding[held], kind="stable")]
        same = np.flatnonzero(holding[held][1:] == holding[held][:-1])
        one, other = np.concatenate([one, held[same]]), np.concatenate([other, held[same + 1]])
    graph = sparse.coo_matrix((np.ones(len(one)), (one, other)), shape=(system.cells, system.cells))
    _, label = csgraph.connected_components(graph, directed=False)
    cells = np.concatenate([np.flatnonzero(alone), part])
    whose = np.concatenate([label[alone], label[total]])
    order = np.lexsort((cells, whose))
    groups = np.split(cells[order], np.flatnonzero(np.diff(whose[order])) + 1)
    return [np.unique(group) for group in groups if len(group)]
