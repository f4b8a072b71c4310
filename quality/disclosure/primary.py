"""Which cells are unsafe by themselves.

Rules and their sources: frequency, (n,k)-dominance and p% as in Hundepool et al., Handbook on SDC (2024), 4.2;
group disclosure as in its 4.2.1 (a category that holds nearly everyone tells something of everyone in it).
Contributors of one enterprise are to be joined into holdings before `top1` and `top2` are made.
"""

from __future__ import annotations

from collections.abc import Iterable

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
    Rule,
)
from quality.disclosure.table import Bools, Floats, System


def unsafe_cells(system: System, policy: Policy, judged: Bools | None = None) -> Bools:
    """Every cell that a rule of the policy calls unsafe; zeros only where group disclosure or an area says so.

    A cell of which a rule cannot tell is refused, never safe.

    Args:
        system: tables with their values.
        policy: the rules.
        judged: the cells in question; others, as those of earlier releases alone, need no columns.

    Raises:
        DisclosureError: a rule needs a column that no table has, or that is empty in a cell.
    """
    if not any(isinstance(rule, GivenRule) for rule in policy.primary) and system.status("U").any():
        raise DisclosureError(
            f"{system.name(int(np.flatnonzero(system.status('U'))[0]))} has the status U, but no rule of the norm is "
            "`given`; add {rule: given}, or leave out the mark"
        )
    value = system.value if judged is None else np.where(judged, system.value, np.nan)
    return _by_rules(system, policy.primary, value) & ~system.status("S")


def hidden_with_zeros(system: System, policy: Policy, judged: Bools) -> Bools:
    """The cells that a rule hides whatever they hold; elsewhere a zero is always shown.

    Raises:
        DisclosureError: one of them has the status S: who sees one cell of a set takes it that no rule hid the set.
    """
    whatever = [rule for rule in policy.primary if isinstance(rule, GroupRule | PopulationRule)]
    out = _by_rules(system, whatever, np.where(judged, system.value, np.nan))
    safe = np.flatnonzero(out & system.status("S"))
    if len(safe):
        raise DisclosureError(
            f"{system.name(int(safe[0]))} has the status S, but a rule hides it with all that stands beside it; shown "
            "it would tell that no zero is hidden there"
        )
    return out


def _by_rules(system: System, rules: Iterable[Rule], value: Floats) -> Bools:
    out = np.zeros(system.cells, dtype=bool)
    for rule in rules:
        match rule:
            case FrequencyRule():
                frequency = contributors(system, value)
                out |= (frequency > 0) & (frequency < rule.minimum)
            case PPercentRule():
                x1, x2 = _largest(system, value, "top1", rule.rule), _largest(system, value, "top2", rule.rule)
                swapped = np.flatnonzero((value > 0) & (x2 > x1))
                if len(swapped):
                    raise DisclosureError(f"{system.name(int(swapped[0]))} has a top2 larger than its top1")
                out |= (value > 0) & (value - x1 - x2 < rule.p / 100 * x1 - 1e-9 * value)
            case DominanceRule():
                largest = _largest(system, value, "top1", rule.rule)
                if rule.n == 2:
                    largest = largest + _largest(system, value, "top2", "dominance with n: 2")
                out |= (value > 0) & (largest > rule.k / 100 * value)
            case GroupRule():
                out |= _nearly_all(system, rule)
            case PopulationRule():
                inhabitants = system.column(rule.column)
                if inhabitants is None:
                    raise DisclosureError(f"the rule minimum_population needs a column {rule.column!r}")
                _all_known(system, inhabitants, ~np.isnan(value), rule.column, rule.rule)
                out |= inhabitants < rule.minimum
            case GivenRule():
                if all(table.status is None for table in system.tables):
                    raise DisclosureError("the rule `given` needs a column `status` with U for unsafe cells")
                out |= system.status("U")
    return out


def contributors(system: System, value: Floats | None = None) -> Floats:
    """Contributors per cell: the column `frequency`, or the measure itself where it counts.

    Args:
        system: tables with their values.
        value: the same values, NaN for cells that are not in question.

    Raises:
        DisclosureError: a magnitude without `frequency`, or with a value of nobody.
    """
    value = system.value if value is None else value
    frequency = system.column("frequency")
    if frequency is None:
        frequency = np.full(system.cells, np.nan)
    frequency = np.where(np.isnan(frequency) & system.is_count, system.value, frequency)
    lacking = np.flatnonzero(np.isnan(frequency) & ~np.isnan(value))
    if len(lacking):
        raise DisclosureError(
            "a frequency rule needs the column `frequency` where the measure is no count: "
            f"{system.name(int(lacking[0]))}"
        )
    nobody = np.flatnonzero((frequency == 0) & (value > 0))
    if len(nobody):
        raise DisclosureError(f"{system.name(int(nobody[0]))} has a value but, by its frequency, no contributors")
    return frequency


def _largest(system: System, value: Floats, name: str, rule: str) -> Floats:
    found = system.column(name)
    if found is None:
        raise DisclosureError(f"the rule {rule} needs a column {name!r} with the contributions per cell")
    _all_known(system, found, value > 0, name, rule)
    return np.nan_to_num(found)


def _all_known(system: System, column: Floats, asked: Bools, name: str, rule: str) -> None:
    lacking = np.flatnonzero(asked & np.isnan(column))
    if len(lacking):
        raise DisclosureError(f"{system.name(int(lacking[0]))} has no {name}, which the rule {rule} needs")


def _nearly_all(system: System, rule: GroupRule) -> Bools:
    """The parts of every total that lies (nearly) in one category of the rule's dimension, zeros included."""
    out = np.zeros(system.cells, dtype=bool)
    if not any(d.name == rule.dimension for table in system.tables for d in table.dimensions):
        raise DisclosureError(f"the rule group_disclosure names {rule.dimension!r}, which no table has as a dimension")
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
