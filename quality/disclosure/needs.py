"""What hidden cells need and what hiding costs, from the norms: the protector's side of the bargain.

Belongs here: protection levels, costs, who knows which cells, and what an attacker is taken to know of a cell, all
written apart from the auditor, which works out the last from the published tables by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from quality.disclosure.errors import DisclosureError
from quality.disclosure.primary import contributors
from quality.disclosure.spec import Policy
from quality.disclosure.table import Bools, Floats, Ints, System


def believed(system: System, policy: Policy) -> tuple[Floats, Floats]:
    """Between which values an attacker places each cell once it is hidden, before looking at anything published."""
    attacker, value = policy.attacker, system.value
    if attacker.percent is not None:
        around = np.abs(value) * attacker.percent / 100
        return value - around, value + around
    if attacker.lower is not None:
        least = np.full(len(value), attacker.lower)
    else:
        least = np.where(system.is_count & (not policy.hides_zeros), 1.0, 0.0)
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
        single = np.flatnonzero((contributors(system) == 1) & among)
        holding = system.column("holding")
        for cell in single:
            same = np.array([cell])
            if holding is not None and not np.isnan(holding[cell]):
                same = single[holding[single] == holding[cell]]
            out.setdefault(f"contributor {same[0]}", same)
    for who, parts in known_cells.items():
        out[who] = np.unique(np.concatenate([system.cell_of[t][rows] for t, rows in parts]))
    return out
