"""Protect tables and prove it: primary rules, protector, rounding and auditor joined into one call that fails closed.

Belongs here: the order of the steps and what is handed from one to the other; no rule, program or bound of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quality.disclosure.auditor import (
    Audit,
    Demand,
    audit,
    demand_from_truth,
    known_minimum,
    rounding_interval,
    told_by_norm,
)
from quality.disclosure.certificate import public_certificate, sealed_certificate
from quality.disclosure.errors import DisclosureError, MalformedTable, NotProtected
from quality.disclosure.exact import INSIST, SMALL, TRY, improve, improve_parts
from quality.disclosure.facts import Fact, check_known, feasible_point, known_rows, ties
from quality.disclosure.insiders import audit_coalitions
from quality.disclosure.needs import believed, coalitions, costs, narrowed, protection_levels
from quality.disclosure.primary import hidden_with_zeros, unsafe_cells
from quality.disclosure.protector import WHOLE, Needs, Pattern, protect_cells, regions
from quality.disclosure.rounding import rounded_values
from quality.disclosure.spec import Policy, Rounding
from quality.disclosure.table import Bools, Floats, Ints, System, Table, check_margins, join, shared_cells

if TYPE_CHECKING:
    import polars as pl

STATUS_SHOWN, STATUS_ROUNDED, STATUS_HIDDEN = "verstrekt", "afgerond", "geheim"
REPAIRS = 5
ROUNDED_REPAIRS = 20
TRIED = 200
"""Audits spent on showing cells again where all had to be hidden first."""
LEAST = 1.0
"""Width that an unsafe cell needs for which the norms ask nothing."""
NOT_TOLD = 1e-3
"""The width under which a hidden cell counts as told, where no norm asks more of it."""
EXACT = 100_000
"""Hidden cells up to which both ends of every interval are optima, where only a width is asked."""


@dataclass(frozen=True)
class Earlier:
    """A table that was published before, as it was published.

    Attributes:
        table: values as published, NaN where hidden. Its `version` tells the input it was made from: the same
            version as a current table means the same figures, so its cells are the same unknowns.
        release: which release, for messages.
        revision: how much a figure can have been revised at most since (absolute); None when nothing binds them.
        rounded: which values were rounded; None: those whose status says `afgerond`.
        width: width that every cell hidden then must keep; 0: it was hidden under the norms of others, to whom the
            tables of now are not shown, so it need not keep any and tells nothing of these norms.
        rounding: how they were rounded; None: as the policy rounds now.
        minimum: the least count besides zero that it showed; None: as the policy says now.
    """

    table: Table
    release: str = ""
    revision: float | None = None
    rounded: Bools | None = None
    width: float | None = None
    rounding: Rounding | None = None
    minimum: int | None = None

    def blurred(self) -> Bools:
        """Which rows were published rounded."""
        if self.rounded is not None:
            return self.rounded & ~np.isnan(self.table.value)
        if self.table.status is None:
            return np.zeros(len(self.table), dtype=bool)
        return np.asarray((self.table.status == STATUS_ROUNDED) & ~np.isnan(self.table.value))


@dataclass(frozen=True)
class Protected:
    """What may be published, with its evidence.

    Attributes:
        tables: the current tables, NaN where hidden, rounded where the policy rounds.
        hidden: per table which rows are hidden.
        rounded: per table which rows are rounded.
        unsafe: per table which rows the norm hides (not for publication).
        audit: the audit that it passed.
        certificate: public evidence.
        sealed: evidence for the vault.
        summary: counts and seconds, without values; where a least-cost pattern was sought `gap_pct` says how far it
            can be from the least (0: proved), and at unit cost `at_least` how many further cells any pattern hides.
    """

    tables: tuple[Table, ...]
    hidden: tuple[Bools, ...]
    rounded: tuple[Bools, ...]
    unsafe: tuple[Bools, ...]
    audit: Audit
    certificate: dict[str, Any]
    sealed: dict[str, Any]
    summary: dict[str, float]

    def status(self, number: int = 0) -> list[str]:
        """`verstrekt`, `afgerond` or `geheim` per row of a table."""
        shown = np.where(self.rounded[number], STATUS_ROUNDED, STATUS_SHOWN)
        return [str(mark) for mark in np.where(self.hidden[number], STATUS_HIDDEN, shown)]

    def frame(self, number: int = 0) -> pl.DataFrame:
        """The dimension columns, the measure (null where hidden) and `status`, rows in the order of the input."""
        import polars as pl

        return self.tables[number].frame().with_columns(pl.Series("status", self.status(number), dtype=pl.String))


@dataclass
class _Case:
    """The joint system of current tables and earlier releases, and who is what in it."""

    system: System
    current: int
    is_current: Bools
    shown_before: Bools
    hidden_before: Bools
    width_before: Floats
    releases: list[str] = field(default_factory=list)


def protect(
    tables: Sequence[Table],
    policy: Policy,
    *,
    earlier: Sequence[Earlier] = (),
    facts: Sequence[Fact] = (),
    known_cells: Mapping[str, Sequence[tuple[int, Ints]]] | None = None,
    exact: bool | None = None,
    time_limit: float = 600.0,
) -> Protected:
    """Hide (and round) what must be, and prove with an independent audit that nobody can compute it.

    Args:
        tables: full tables, all rows with their true value; linked where measure and codes agree.
        policy: norms, attacker, protection, rounding, cost; see `Spec.norms` and `load_policy`.
        earlier: what was published before on the same population; all of it stays known to the attacker.
        facts: other published figures over the cells: rates, intervals, sums over other areas.
        known_cells: per supplier (or other party) the cells it knows, as (table, rows) pairs.
        exact: seek a least-cost pattern by row generation; None tries so for small systems that are not rounded.
        time_limit: seconds for everything together.

    Returns:
        Tables ready for publication, with certificate. The order of rows is kept.

    Raises:
        MalformedTable: a table that is not one.
        DisclosureError: a norm that is missing or contradicts itself.
        NotProtected: no safe pattern, an audit that does not pass, or no time: nothing may be released.
    """
    start = time.monotonic()
    deadline = start + time_limit
    case = _joined(tables, earlier, facts, policy)
    system = case.system
    if not policy.attacker.knows_norm and policy.attacker.percent is not None and earlier:
        raise DisclosureError("an attacker within a percentage cannot be combined with earlier releases")
    empty = np.flatnonzero(np.isnan(system.value) & case.is_current)
    if len(empty):
        raise MalformedTable(f"cell {system.name(int(empty[0]))} is empty; only full tables can be protected")
    unsafe = unsafe_cells(system, policy, case.is_current) & case.is_current
    zeros = hidden_with_zeros(system, policy, case.is_current) | (case.hidden_before & policy.hides_zeros)
    before = believed(system, policy, zeros)
    _check_unsafe(case, policy, unsafe, before[0])
    lower, upper = narrowed(system, *before)
    knowing = coalitions(system, policy, case.is_current, known_cells or {})
    lpl, upl, width = protection_levels(system, policy)
    suppress = policy.rounding is None or policy.rounding.suppress
    point = system.value if not np.isnan(system.value).any() else feasible_point(system, lower, upper)
    system = replace(system, value=point)
    check_known(system)
    asked = (unsafe if suppress else np.zeros(system.cells, dtype=bool)) | case.hidden_before
    every = float(policy.protection.width or 0.0) if policy.protection is not None else 0.0
    needs = Needs(
        point=point,
        lower=lower,
        upper=upper,
        # cut off at what the attacker knew beforehand, never at what was published
        down=np.where(unsafe, np.minimum(lpl, np.maximum(point - before[0], 0.0)), 0.0),
        up=np.where(unsafe, np.minimum(upl, np.maximum(before[1] - point, 0.0)), 0.0),
        # an unsafe zero has no protection level where that is a share of its value; it may not be told either
        width=np.maximum(
            np.where(unsafe, np.where(lpl + upl + width > 0, width, LEAST), 0.0),
            np.where(case.hidden_before, case.width_before, 0.0),
        ),
        asked=asked,
        every_width=every,
        fixed=((point == 0) | system.status("Z") | case.shown_before | ~case.is_current | (point < lower))
        & ~system.blurred,
        free=system.blurred,
        coalitions=tuple(knowing.values()),
    )
    rounded_all = rounded_values(system, policy.rounding, time_limit=time_limit) if policy.rounding else None
    hidden = asked.copy()
    pattern = Pattern(asked, 0, 0, 0.0)
    result: Audit | None = None
    wanted = needs
    if rounded_all is not None:
        result = _audited(case, policy, needs, hidden, rounded_all, knowing, deadline)
        # rounding blurs most margins enough: more is hidden only for the cells that it leaves too narrow
        none = np.zeros(system.cells)
        wanted = replace(needs, every_width=0.0, down=none, up=none, width=none)
    refused: NotProtected | None = None
    first = wanted, result, hidden
    for way in ("wider", "beside") if policy.attacker.suspects_primary else ("wider",):
        refused, (wanted, result, hidden) = None, first
        for _ in range(REPAIRS if rounded_all is None else ROUNDED_REPAIRS):
            if result is not None and (result.passed or not (suppress or case.hidden_before.any())):
                break
            if result is not None:
                wanted = _asking_more(wanted, needs, result)
                if way == "beside":
                    wanted = _against_suspicion(system, policy, wanted, needs, result, hidden)
            try:
                pattern = _choose(system, policy, wanted, exact, deadline)
            except NotProtected as error:
                refused = error
                break
            if wanted is not needs:  # then it is a bound on something else than the norms ask
                pattern = replace(pattern, cost=float("nan"), bound=float("nan"))
            hidden = pattern.hidden & ~system.blurred
            result = _audited(case, policy, needs, hidden, rounded_all, knowing, deadline)
        if refused is None and result is not None and result.passed:
            break
    if refused is not None or result is None or not result.passed:
        found = None
        if suppress and system.cells <= WHOLE:
            found = _shown_again(case, policy, needs, rounded_all, knowing, deadline)
        if found is None and refused is not None:
            raise refused
        if found is None:
            failing = () if result is None else tuple(system.name(int(c)) for c in result.failing)
            raise NotProtected(
                f"the audit does not pass: {failing[0] if failing else 'no verdict'} and {max(len(failing) - 1, 0)} "
                "more cells are under-protected; nothing is released",
                failing,
            )
        hidden, result = found
        pattern = replace(pattern, hidden=hidden, cost=float("nan"), bound=float("nan"))
    return _protected(case, policy, unsafe, lpl, upl, hidden, rounded_all, result, pattern, every, start)


def joint_system(
    tables: Sequence[Table],
    earlier: Sequence[Earlier] = (),
    facts: Sequence[Fact] = (),
    policy: Policy | None = None,
) -> tuple[System, Bools]:
    """The attacker's whole system of published tables, and which of its cells belong to them (not only earlier).

    Args:
        tables: as published, NaN where hidden.
        earlier: what was published before.
        facts: other published figures.
        policy: says how figures are rounded, also earlier ones that do not say it themselves.
    """
    case = _joined(tables, earlier, facts, policy, adds_up=policy is None or policy.rounding is None)
    return case.system, case.is_current


def _joined(
    tables: Sequence[Table],
    earlier: Sequence[Earlier],
    facts: Sequence[Fact],
    policy: Policy | None,
    *,
    adds_up: bool = True,
) -> _Case:
    if not tables:
        raise DisclosureError("there is no table to protect")
    blurs = [e.blurred() for e in earlier]
    # a rounded value is no value but an interval, so it neither has to add up nor to equal today's figure
    over = _rounded_since(tables, earlier)
    old = [
        replace(e.table, value=np.where(b | o, np.nan, e.table.value))
        for e, b, o in zip(earlier, blurs, over, strict=True)
    ]
    system = join([*tables, *old])
    if adds_up:
        check_margins(system)
    cells = system.cells
    is_current, shown, hid, blurred = (np.zeros(cells, dtype=bool) for _ in range(4))
    width = np.zeros(cells)
    for mine in system.cell_of[: len(tables)]:
        is_current[mine] = True
    for e, mine, blur, now in zip(earlier, system.cell_of[len(tables) :], blurs, over, strict=True):
        empty = np.isnan(e.table.value)
        exact = ~empty & ~blur
        shown[mine[exact]] = True
        if policy is not None and policy.rounding is not None:  # then it is known exactly, however it is shown now
            near = 0.0 if e.table.is_count else 0.5 * 10.0**-e.table.decimals
            system = system.within(mine[exact], e.table.value[exact] - near, e.table.value[exact] + near)
        if e.width == 0:
            blurred[mine[empty]] = True
        else:
            hid[mine[empty]] = True
            width[mine[empty]] = np.maximum(width[mine[empty]], e.width or 1.0)
            if policy is not None and policy.attacker.knows_norm and not policy.hides_zeros and e.table.is_count:
                some = mine[empty & ((system.value[mine] != 0) | now)]  # also where it is shown rounded now
                system = system.within(some, np.ones(len(some)), np.full(len(some), np.inf))
        if blur.any():
            how = e.rounding or (policy.rounding if policy is not None else None)
            if how is None:
                raise DisclosureError(f"{e.release or e.table.name} holds rounded values, but nothing names `rounding`")
            least = e.minimum or (told_by_norm(policy.model_copy(update={"rounding": how})) if policy else None)
            counts = np.full(int(blur.sum()), e.table.is_count)
            ends = known_minimum(least, *rounding_interval(e.table.value[blur], how, counts), counts)
            system = system.within(mine[blur], *ends)
            blurred[mine[blur]] = True
    system = replace(system, blurred=blurred & np.isnan(system.value) & ~hid & ~is_current)
    system = system.with_known(known_rows(system, facts)).with_known(
        ties(system, len(tables), [e.revision for e in earlier])
    )
    return _Case(system, len(tables), is_current, shown, hid & ~shown, width, [e.release for e in earlier])


def _rounded_since(tables: Sequence[Table], earlier: Sequence[Earlier]) -> list[Bools]:
    """Per earlier release its rows of which the figure is published rounded now."""
    marks = [np.zeros(len(t), dtype=bool) if t.status is None else t.status == STATUS_ROUNDED for t in tables]
    if not any(mark.any() for mark in marks):
        return [np.zeros(len(e.table), dtype=bool) for e in earlier]
    cell_of, cells = shared_cells([*tables, *(e.table for e in earlier)])
    rounded = np.zeros(cells, dtype=bool)
    for mine, mark in zip(cell_of, marks, strict=False):
        rounded[mine[mark]] = True
    return [rounded[mine] for mine in cell_of[len(tables) :]]


def _check_unsafe(case: _Case, policy: Policy, unsafe: Bools, lower: Floats) -> None:
    system = case.system
    told = np.flatnonzero(unsafe & case.shown_before)
    if len(told):
        raise NotProtected(
            f"{system.name(int(told[0]))} may not be shown, but an earlier release from the same data shows it; "
            "it cannot be hidden any more, so this table is not released",
            tuple(system.name(int(c)) for c in told),
        )
    below = np.flatnonzero(unsafe & (system.value < lower))
    if len(below):
        raise DisclosureError(
            f"{system.name(int(below[0]))} is unsafe but lies under what the attacker assumes of a hidden cell "
            f"({lower[below[0]]:g}); set attacker: {{lower: 0}}, or let zeros be shown"
        )
    must = np.flatnonzero(unsafe & system.status("Z"))
    if len(must):
        raise DisclosureError(f"{system.name(int(must[0]))} is unsafe and must be shown (Z): that cannot both be")
    if unsafe.any() and policy.protection is None and (policy.rounding is None or policy.rounding.suppress):
        raise DisclosureError("the norms do not say what protection a hidden cell needs; name `protection`")


def _choose(system: System, policy: Policy, needs: Needs, exact: bool | None, deadline: float) -> Pattern:
    """A valid pattern, and for a small system (or when asked for) the least costly one."""
    cost = costs(system, policy)
    found = protect_cells(system, needs, cost, time_limit=max(deadline - time.monotonic(), 0.0))
    small = int((~needs.fixed).sum()) <= SMALL
    if exact is False or (exact is None and (not small or policy.rounding is not None)) or needs.coalitions:
        return found
    left = max(deadline - time.monotonic(), 0.0) * 0.5
    parts = regions(system) if system.cells > WHOLE else []
    if len(parts) > 1:
        return improve_parts(system, needs, cost, found, parts, time_limit=left)
    return improve(system, needs, cost, found, time_limit=left, effort=INSIST if exact else TRY)


def _published(case: _Case, hidden: Bools, rounded_all: Floats | None) -> tuple[System, Bools]:
    system = case.system
    value = system.value if rounded_all is None else np.where(case.is_current, rounded_all, system.value)
    rounded = np.zeros(system.cells, dtype=bool) if rounded_all is None else case.is_current & ~hidden
    values = [np.where(hidden[cells], np.nan, value[cells]) for cells in system.cell_of]
    return system.with_values(values), rounded


def _demand(case: _Case, policy: Policy, needs: Needs, hidden: Bools) -> Demand:
    system = case.system
    judged = needs.asked & case.is_current & hidden
    out = demand_from_truth(
        system, needs.point, judged, needs.down, needs.up, np.full(system.cells, -np.inf), np.full(system.cells, np.inf)
    )
    width = np.where(hidden, np.maximum(needs.every_width, needs.width), np.nan)
    if needs.every_width <= 0:
        width = np.where(hidden & (needs.width > 0), needs.width, np.where(hidden, NOT_TOLD, np.nan))
    if policy.rounding is not None and not policy.rounding.suppress:
        width = np.where(unsafe_cells(system, policy, case.is_current), policy.rounding.width, width)
    return replace(out, width=width)


def _audited(
    case: _Case,
    policy: Policy,
    needs: Needs,
    hidden: Bools,
    rounded_all: Floats | None,
    coalitions: Mapping[str, Ints],
    deadline: float,
) -> Audit:
    system, rounded = _published(case, hidden, rounded_all)
    demand = _demand(case, policy, needs, hidden)
    left = max(deadline - time.monotonic(), 0.0)
    truth = needs.point if policy.attacker.percent is not None else None
    # stopping where the width is proved is the same for every hidden cell, so it tells nothing of kinds
    exact = needs.every_width <= 0 or int(hidden.sum()) <= EXACT
    result = audit(system, policy, rounded=rounded, demand=demand, exact=exact, truth=truth, time_limit=left)
    if result.passed and coalitions:
        strict = replace(demand, width=np.where(needs.asked, demand.width, np.nan))
        left = max(deadline - time.monotonic(), 0.0)
        found = audit_coalitions(
            system, policy, needs.point, list(coalitions.values()), strict, rounded=rounded, time_limit=left
        )
        if found:
            short = result.short.copy()
            for _, cells in found:
                short[cells] = np.maximum(short[cells], 1.0)
            result = replace(result, short=short)
    return result


def _shown_again(
    case: _Case,
    policy: Policy,
    needs: Needs,
    rounded_all: Floats | None,
    knowing: Mapping[str, Ints],
    deadline: float,
) -> tuple[Bools, Audit] | None:
    """Where movements of the true table find no pattern: hide all, and show again what the audit lets, dearest first.

    Rounding, the norm and revisions leave room that no movement from the true table sees, since the attacker does not
    know where that lies. None where even hiding all does not do.
    """
    hidden = (needs.asked | ~needs.fixed) & ~case.system.blurred
    result = _audited(case, policy, needs, hidden, rounded_all, knowing, deadline)
    if not result.passed:
        return None
    loose = np.flatnonzero(hidden & ~needs.asked)
    cost = costs(case.system, policy)[loose]
    groups = [loose[np.lexsort((loose, -cost))]]
    for _ in range(TRIED):
        if not groups:
            break
        group = groups.pop()
        fewer = hidden.copy()
        fewer[group] = False
        try:
            tried = _audited(case, policy, needs, fewer, rounded_all, knowing, deadline)
        except NotProtected:  # out of time: what passed stands
            break
        if tried.passed:
            hidden, result = fewer, tried
        elif len(group) > 1:
            groups += [group[len(group) // 2 :], group[: len(group) // 2]]
    return hidden, result


def _asking_more(wanted: Needs, needs: Needs, result: Audit) -> Needs:
    """After a failed audit (the norm gave more away than bounds do): ask more of the cells in question."""
    cells = result.failing
    width, down, up = wanted.width.copy(), wanted.down.copy(), wanted.up.copy()
    span = result.width[cells]
    span = np.where(np.isfinite(span), span, 0.0)  # then it is one end that falls short
    width[cells] = np.maximum(2 * width[cells], span + 2 * result.short[cells] + 1)
    down[cells], up[cells] = needs.down[cells], needs.up[cells]
    return replace(wanted, width=width, down=down, up=up, asked=wanted.asked | (result.short > 0))


def _against_suspicion(
    system: System, policy: Policy, wanted: Needs, needs: Needs, result: Audit, hidden: Bools
) -> Needs:
    """Hide a cell beside each that only a suspicion narrows: with one too many to be small it is ruled out.

    More room for the cell itself would not help, since it has all that was asked for whoever does not guess.
    """
    wide = result.width >= needs.width_of(np.arange(system.cells))
    suspected = (result.short > 0) & wide
    open_ = ~hidden & ~needs.fixed & ~needs.free
    cost = np.where(open_, costs(system, policy), np.inf)
    beside = np.zeros(system.cells, dtype=bool)
    matrix = system.relations.matrix[system.relations.enough]
    for row in np.flatnonzero(abs(matrix) @ suspected.astype(np.float64) > 0):
        cells = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        cheapest = cells[np.lexsort((cells, cost[cells]))[0]]
        beside[cheapest] |= bool(open_[cheapest])
    if not beside.any():
        return wanted
    width = np.where(suspected, needs.width, wanted.width)
    return replace(wanted, width=width, asked=wanted.asked | beside | suspected)


def _protected(
    case: _Case,
    policy: Policy,
    unsafe: Bools,
    lpl: Floats,
    upl: Floats,
    hidden: Bools,
    rounded_all: Floats | None,
    result: Audit,
    pattern: Pattern,
    every: float,
    start: float,
) -> Protected:
    system, rounded = _published(case, hidden, rounded_all)
    mine = list(zip(system.tables, system.cell_of, strict=True))[: case.current]
    seconds = time.monotonic() - start
    secondary = hidden & ~unsafe & case.is_current
    value = np.nan_to_num(case.system.value)
    counts = {
        "cells": float(case.is_current.sum()),
        "unsafe": float(unsafe.sum()),
        "secondary": float(secondary.sum()),
        "hidden": float((hidden & case.is_current).sum()),
        # whole percents and no sums of costs: a precise share of hidden cells is one more equation for an attacker
        "hidden_value_pct": float(round(100 * value[secondary].sum() / max(value[case.is_current].sum(), 1e-9))),
        "narrowest": result.narrowest,
        "programs": float(pattern.programs + result.programs),
        "protect_seconds": pattern.seconds,
        "audit_seconds": result.seconds,
        "seconds": seconds,
    }
    proof: dict[str, float] = {}
    if np.isfinite(pattern.bound):
        proof = {"cost": pattern.cost, "bound": pattern.bound}
        gap = 100 * (pattern.cost - pattern.bound) / max(pattern.cost, 1e-9)
        counts["gap_pct"] = max(float(np.ceil(gap - 1e-4)), 0.0) + 0.0
        if policy.cost == "unit":
            most = float(costs(case.system, policy).max(initial=1.0))
            counts["at_least"] = max(float(np.ceil(pattern.bound / most - 1e-6)), 0.0)
    return Protected(
        tables=tuple(table for table, _ in mine),
        hidden=tuple(hidden[cells] for _, cells in mine),
        rounded=tuple(rounded[cells] for _, cells in mine),
        unsafe=tuple(unsafe[cells] for _, cells in mine),
        audit=result,
        certificate=public_certificate(
            system, policy, result, rounded=rounded, minimum_width=every or None, tables=case.current,
            earlier=[e for e in case.releases if e],
        ),
        sealed=sealed_certificate(
            case.system, hidden, unsafe, lpl, upl,
            {"counts": {k: v for k, v in counts.items() if "seconds" not in k} | proof},
        ),
        summary=counts,
    )  # fmt: skip
