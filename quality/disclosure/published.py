"""Judge tables as they were published: by their norm, their certificate, or the truth where that is at hand.

Belongs here: what is asked of each cell of a published table, and the audit against it. This is what the command
`audit` does; `protect` has its own way to the same auditor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from quality.disclosure.auditor import (
    Audit,
    Demand,
    audit,
    bounds,
    demand_from_truth,
    rounding_interval,
)
from quality.disclosure.certificate import check_certificate, claimed_width
from quality.disclosure.engine import NOT_TOLD, STATUS_ROUNDED, Earlier, joint_system
from quality.disclosure.errors import DisclosureError
from quality.disclosure.insiders import audit_coalitions
from quality.disclosure.knowledge import Knowledge
from quality.disclosure.needs import coalitions, protection_levels
from quality.disclosure.primary import unsafe_cells
from quality.disclosure.spec import Policy
from quality.disclosure.table import VERSION_NOW, Bools, Floats, Ints, System, Table, check_margins, join


def judge(
    tables: Sequence[Table],
    norms: Policy,
    besides: Knowledge,
    *,
    truth: Sequence[Table] = (),
    certificate: dict[str, Any] | None = None,
    time_limit: float = 600.0,
) -> tuple[System, Audit, list[str]]:
    """Audit published tables together with all that is known besides.

    Args:
        tables: as published, NaN where hidden.
        norms: the policy, with the attacker.
        besides: earlier releases, other figures, and who knows which cells.
        truth: the same tables in full; then each unsafe cell's interval must hold [x − lpl, x + upl].
        certificate: the public certificate; then no interval may be narrower than it says.
        time_limit: seconds.

    Returns:
        The joint system, its audit, and what else is wrong, a line each.

    Raises:
        MalformedTable: a table that is none.
        DisclosureError: nothing says what to ask, figures that contradict each other, or a truth of another table.
        NotProtected: no time left.
    """
    system, _ = joint_system(tables, besides.earlier, besides.facts, norms)
    rounded = _rounded(system, len(tables))
    true = join(truth) if truth else None
    if true is not None:
        check_margins(true)
        empty = np.flatnonzero(np.isnan(true.value))
        if len(empty):
            raise DisclosureError(f"{true.name(int(empty[0]))} is empty in the truth; give the table in full")
    widths = (
        None if norms.protection is None else norms.protection.width,
        claimed_width(certificate),
    )
    width = max((w for w in widths if w is not None), default=None)
    if true is None and certificate is None and width is None and not rounded.any():
        raise DisclosureError(
            "nothing says how wide an interval should be: give --truth, a --certificate, or protection: {width: ...}"
        )
    if width is None and certificate is not None:
        width = NOT_TOLD  # the certificate tells per cell how wide it is
    values = None if true is None else _aligned(system, true)
    if values is not None and norms.rounding is not None:
        low, high = rounding_interval(system.value[rounded], norms.rounding, system.is_count[rounded])
        off = np.flatnonzero(rounded)[(values[rounded] < low - 1e-6) | (values[rounded] > high + 1e-6)]
        if len(off):
            raise DisclosureError(f"{system.name(int(off[0]))} is not the truth, rounded")
    asked = _by_width(system, norms, rounded, width) if true is None else _by_truth(system, norms, rounded, true)
    demand = replace(asked, width=np.fmax(asked.width, _kept(system, besides.earlier)))
    result = audit(system, norms, rounded=rounded, demand=demand, truth=values, time_limit=time_limit)
    wrong = [] if certificate is None else check_certificate(certificate, system, rounded, result, tables=len(tables))
    if norms.rounding is not None:
        told = rounded & (result.lower > 0) & (result.upper < (norms.minimum or 0))
        told &= result.upper - result.lower < norms.rounding.width
        wrong += [f"{system.name(int(c))} is rounded, but can be computed" for c in np.flatnonzero(told)]
    if true is not None:
        wrong += _own_knowledge(system, norms, rounded, true, demand, besides.known_cells, time_limit)
    return system, result, wrong


def _rounded(system: System, tables: int) -> Bools:
    out: Bools = np.zeros(system.cells, dtype=bool)
    for table, cells in list(zip(system.tables, system.cell_of, strict=True))[:tables]:
        if table.status is not None:
            out[cells[table.status == STATUS_ROUNDED]] = True
    return out


def _aligned(system: System, true: System) -> Floats:
    """The true values of the published cells, NaN for those of earlier releases alone.

    Raises:
        DisclosureError: a published cell that the truth does not have, or with another value.
    """
    out = np.full(system.cells, np.nan)
    for table, cells, full in zip(system.tables, system.cell_of, true.tables, strict=False):
        rows = _rows_in(table, full)
        if (rows < 0).any():
            raise DisclosureError(f"{table.cell(int(np.flatnonzero(rows < 0)[0]))} is not in the truth")
        out[cells] = full.value[rows]
        step = 10.0**-table.decimals if table.decimals else 0.0
        exact = ~np.isnan(table.value) & (table.status != STATUS_ROUNDED if table.status is not None else True)
        off = np.flatnonzero(exact & (np.abs(table.value - full.value[rows]) > 2 * step + 1e-9 * full.value[rows]))
        if len(off):
            raise DisclosureError(f"{table.cell(int(off[0]))} has another value than in the truth")
    return out


def _rows_in(table: Table, other: Table) -> Ints:
    """The row of each cell in another reading of the same table, −1 where that lacks it."""
    columns = []
    for i, d in enumerate(table.dimensions):
        place = {code: k for k, code in enumerate(other.dimensions[i].codes)}
        columns.append(np.array([place.get(code, -1) for code in d.codes])[table.codes[:, i]])
    codes = np.column_stack(columns)
    return np.where((codes < 0).any(axis=1), -1, other.rows_of(np.maximum(codes, 0)))


def _kept(system: System, earlier: Sequence[Earlier]) -> Floats:
    """The width that what earlier releases hid must keep; NaN for other cells."""
    out = np.full(system.cells, np.nan)
    for one, cells in zip(earlier, system.cell_of[len(system.tables) - len(earlier) :], strict=True):
        if one.width != 0:
            np.fmax.at(out, cells[np.isnan(one.table.value)], one.width or 1.0)
    return out


def _by_truth(system: System, norms: Policy, rounded: Bools, true: System) -> Demand:
    """That the interval of each unsafe cell holds [x − lpl, x + upl], or is as wide as the norm says."""
    value, hidden = _aligned(system, true), system.hidden
    levels = protection_levels(true, norms)
    unsafe = _moved(system, true, unsafe_cells(true, norms).astype(np.float64)) > 0
    lpl, upl, width = (_moved(system, true, column) for column in levels)
    lower, upper = bounds(system, norms, hidden, rounded, value)
    judged = unsafe & hidden
    out = demand_from_truth(system, value, judged, np.where(judged, lpl, 0.0), np.where(judged, upl, 0.0), lower, upper)
    least = np.where(judged & (width > 0), width, np.nan)
    if norms.rounding is not None:
        least = np.where(unsafe & rounded, norms.rounding.width, least)
    return replace(out, width=np.where(unsafe & ~hidden & ~rounded, np.inf, least))


def _by_width(system: System, norms: Policy, rounded: Bools, least: float | None) -> Demand:
    """That every hidden cell's interval is as wide as was published, and that no count under the norm is shown."""
    hidden = system.hidden
    shown = _counted(system) & ~hidden & ~rounded & (system.value > 0) & (system.value < (norms.minimum or 0))
    width = np.where(hidden & (least is not None), least or 0.0, np.nan)
    return replace(Demand.none(system.cells), width=np.where(shown, np.inf, width))


def _counted(system: System) -> Bools:
    """Cells of the published tables whose value is itself the number of contributors."""
    out: Bools = np.zeros(system.cells, dtype=bool)
    for table, cells in zip(system.tables, system.cell_of, strict=True):
        if table.version == VERSION_NOW and table.is_count and "frequency" not in table.columns:
            out[cells] = True
    return out


def _own_knowledge(
    system: System,
    norms: Policy,
    rounded: Bools,
    true: System,
    demand: Demand,
    known_cells: Mapping[str, Sequence[tuple[int, Ints]]],
    time_limit: float,
) -> list[str]:
    """What suppliers and single contributors learn who know their own cells; a line for each that learns too much."""
    rows = [_rows_in(table, full) for table, full in zip(system.tables, true.tables, strict=False)]
    in_truth = {who: [(t, rows[t][mine]) for t, mine in parts] for who, parts in known_cells.items()}
    knowing = coalitions(true, norms, np.ones(true.cells, dtype=bool), in_truth)
    own = [
        np.flatnonzero(_moved(system, true, np.isin(np.arange(true.cells), cells).astype(np.float64)))
        for cells in knowing.values()
    ]
    if not own:
        return []
    found = audit_coalitions(system, norms, _aligned(system, true), own, demand, rounded=rounded, time_limit=time_limit)
    names = list(knowing)
    return [
        f"{names[k]}, who knows its own cells, learns too much of {system.name(int(cells[0]))}" for k, cells in found
    ]


def _moved(system: System, true: System, column: Floats) -> Floats:
    out = np.zeros(system.cells, dtype=np.float64)
    for table, cells, full, there in zip(system.tables, system.cell_of, true.tables, true.cell_of, strict=False):
        out[cells] = column[there[_rows_in(table, full)]]
    return out
