"""Which cells are unsafe by themselves.

Rules and their sources: frequency, (n,k)-dominance and p% as in Hundepool et al., Handbook on SDC (2024), 4.2;
group disclosure as in its 4.2.1 (a category that holds nearly everyone tells something of everyone in it).
Contributors of one enterprise are to be joined into holdings before `top1` and `top2` are made.
"""

from __future__ import annotations

import numpy as np

from quality.disclosure.errors import DisclosureError
from quality.disclosure.spec import (
    DominanceRule,
    FrequencyRule,
    GivenRule,
    GroupRule,
    Policy,
    PopulationRule,
    PPercentRule,
)
from quality.disclosure.table import Bools, Floats, System


def unsafe_cells(system: System, policy: Policy) -> Bools:
    """Every cell that a rule of the policy calls unsafe; zeros only where group disclosure or an area says so.

    Raises:
        DisclosureError: a rule needs a column that no table has.
    """
    value = system.value
    out = np.zeros(system.cells, dtype=bool)
    for rule in policy.primary:
        match rule:
            case FrequencyRule():
                frequency = contributors(system)
                out |= (frequency > 0) & (frequency < rule.minimum)
            case PPercentRule():
                x1, x2 = _column(system, "top1", "p_percent"), _column(system, "top2", "p_percent")
                out |= (value > 0) & (value - x1 - x2 < rule.p / 100 * x1 - 1e-9 * value)
            case DominanceRule():
                largest = _column(system, "top1", "dominance")
                if rule.n == 2:
                    largest = largest + _column(system, "top2", "dominance with n: 2")
                out |= (value > 0) & (largest > rule.k / 100 * value)
            case GroupRule():
                out |= _nearly_all(system, rule)
            case PopulationRule():
                inhabitants = system.column(rule.column)
                if inhabitants is None:
                    raise DisclosureError(f"the rule minimum_population needs a column {rule.column!r}")
                out |= inhabitants < rule.minimum
            case GivenRule():
                if all(table.status is None for table in system.tables):
                    raise DisclosureError("the rule `given` needs a column `status` with U for unsafe cells")
                out |= system.status("U")
    return out & ~system.status("S")


def contributors(system: System) -> Floats:
    """Contributors per cell: the column `frequency`, or the measure itself where it counts.

    Raises:
        DisclosureError: a magnitude without `frequency`.
    """
    frequency = system.column("frequency")
    if frequency is None:
        frequency = np.full(system.cells, np.nan)
    frequency = np.where(np.isnan(frequency) & system.is_count, system.value, frequency)
    lacking = np.flatnonzero(np.isnan(frequency) & ~np.isnan(system.value))
    if len(lacking):
        raise DisclosureError(
            "a frequency rule needs the column `frequency` where the measure is no count: "
            f"{system.name(int(lacking[0]))}"
        )
    return frequency


def _column(system: System, name: str, rule: str) -> Floats:
    found = system.column(name)
    if found is None:
        raise DisclosureError(f"the rule {rule} needs a column {name!r} with the contributions per cell")
    return np.nan_to_num(found)


def _nearly_all(system: System, rule: GroupRule) -> Bools:
    """The parts of every total that lies (nearly) in one category of the rule's dimension, zeros included."""
    out = np.zeros(system.cells, dtype=bool)
    for table, cells in zip(system.tables, system.cell_of, strict=True):
        at = [i for i, d in enumerate(table.dimensions) if d.name == rule.dimension]
        if not at:
            continue
        d, i = table.dimensions[at[0]], at[0]
        child = np.flatnonzero(table.codes[:, i] != 0)
        above = table.codes[child].copy()
        above[:, i] = d.parent[above[:, i]]
        total = table.rows_of(above)
        child, total = child[total >= 0], total[total >= 0]
        full = (table.value[total] > 0) & (table.value[child] >= rule.share / 100 * table.value[total])
        lone = np.bincount(total, minlength=len(table)) == 1
        told = np.zeros(len(table), dtype=bool)
        told[total[full]] = True
        told &= ~lone
        out[cells[child[told[total]]]] = True
    return out
