"""The second look at amounts: what anyone can work out of a hidden one, and of the counts beside them.

Written apart from assets.release.amounts: which amounts the norms call unsafe, how much room these need and what ties
an amount to its count are worked out here anew, and the auditor judges. Belongs here: that. Does not belong here: what
holds of counts (assets.release.verify).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from assets.release.blocks import Block, Part, place
from assets.release.postcodes import of_parts, overlapping
from quality.norms import AmountNorms, amount_policy

if TYPE_CHECKING:
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.table import Table


@dataclass(frozen=True)
class Beside:
    """The counts that amounts stand beside, as whoever reads both knows them.

    Attributes:
        block: as it is shown.
        tables: of the counts as they are shown now.
        earlier: what was shown of them before.
        facts: what ties the cells of both.
        rounding: the base and the method (as the disclosure engine calls it) that they are rounded by.
        least: the smallest count above zero that is shown.
        width: of what can be worked out of a hidden count, at least.
    """

    block: Block
    tables: Sequence[Table]
    earlier: Sequence[Earlier]
    facts: Sequence[Fact]
    rounding: tuple[int, str]
    least: int
    width: float

    def ends(self, part: Part, rows: npt.NDArray[np.int64]) -> tuple[Any, Any]:
        """What each amount is at least and at most, for who reads its count alone: no room is to be had beyond that."""
        base, method = self.rounding
        of = {(one.mart, key): n for one in self.block.parts for key, n in zip(one.keys, one.count, strict=True)}
        shown = np.array([of[part.mart, part.keys[row]] for row in rows])
        below, above = (base - 1, base - 1) if method == "controlled" else (base // 2, (base - 1) // 2)
        fewest = np.where(shown == 0, 0.0, np.maximum(shown - below, self.least if base > 1 else 0))
        assert part.spec.bedrag is not None
        low, high = part.spec.bedrag.per_persoon
        return low * np.where(np.isnan(shown), 1.0, fewest), high * np.where(np.isnan(shown), np.inf, shown + above)

    def published(self) -> list[Earlier]:
        """All tables of counts, as published before the amounts are."""
        from quality.disclosure.engine import Earlier
        from quality.disclosure.spec import Rounding

        base, method = self.rounding
        rounding = Rounding(base=base, method=method) if base > 1 else None
        now = [
            Earlier(one, "nu", None, (np.nan_to_num(one.value) > 0) & (base > 1), self.width, rounding, self.least)
            for one in self.tables
        ]
        return [*now, *self.earlier]


def problem(
    block: Block,
    true: Block,
    beside: Beside,
    earlier: Sequence[Earlier],
    norms: AmountNorms,
    overlaps: Mapping[str, Collection[str]],
    *,
    suspects: bool,
    time_limit: float,
) -> str | None:
    """What does not hold of the amounts of a block, in Dutch; None where all does.

    Args:
        block: as shown, with names.
        true: the amounts, with who contribute.
        beside: the counts.
        earlier: earlier versions of the amounts.
        norms: on amounts.
        overlaps: which postcodes and buurten overlap.
        suspects: whether a reader takes every hidden count for one under the minimum.
        time_limit: seconds.
    """
    from quality.disclosure.auditor import Demand, audit
    from quality.disclosure.engine import joint_system
    from quality.disclosure.spec import Policy

    needs = {part.mart: _needs(part, norms, beside.least) for part in true.parts}
    shown = 0
    for part in block.parts:
        unsafe, _ = needs[part.mart]
        shown += int((unsafe & ~np.isnan(part.count) & (part.count != 0)).sum())
    counts = {(part.mart, key): n for part in beside.block.parts for key, n in zip(part.keys, part.count, strict=True)}
    bare = sum(
        not np.isnan(value) and np.isnan(counts[part.mart, key])
        for part in block.parts
        for key, value in zip(part.keys, part.count, strict=True)
    )
    if shown or bare:
        return f"{shown + bare} bedragen staan er die de norm verbergt"
    placed = place(block)
    tables = [item.table for item in placed]
    parts, sums = overlapping(tables, earlier, overlaps)
    earlier, counted = [*earlier, *parts], beside.published()
    offset = len(tables) + len(earlier)
    facts = [
        replace(fact, terms=tuple((number + offset, at, weight) for number, at, weight in fact.terms))
        for fact in beside.facts
    ]
    facts += [*sums, *_per_person(block, placed, beside, offset)]
    for low_high in {part.spec.bedrag.per_persoon for part in block.parts if part.spec.bedrag}:
        facts += of_parts(earlier, counted, (len(tables), offset), low_high)
    rules = Policy.model_validate(
        {"primary": [{"rule": "frequency", "minimum": beside.least}], "attacker": {"suspects_primary": suspects}}
    )
    system, _ = joint_system(tables, [*earlier, *counted], facts, rules)
    low, high, width = (np.full(system.cells, np.nan) for _ in range(3))
    for item, cells in zip(placed, system.cell_of, strict=False):
        part = block.parts[item.part]
        unsafe, need = (column[item.rows] for column in needs[part.mart])
        truth = true.parts[item.part].count[item.rows]
        asked = unsafe & np.isnan(item.table.value)
        least, most = beside.ends(part, item.rows)
        low[cells[asked]] = np.maximum(truth - need, least)[asked]
        high[cells[asked]] = np.minimum(truth + need, most)[asked]
    for table, cells in zip(beside.tables, system.cell_of[offset:], strict=False):
        width[cells[np.isnan(table.value)]] = beside.width
    hidden = system.hidden
    demand = Demand(*(np.where(hidden, one, np.nan) for one in (low, high, width)))
    result = audit(system, rules, demand=demand, exact=False, time_limit=time_limit)
    if not result.passed:
        return f"{len(result.failing)} geheime bedragen of aantallen zijn nauwer te berekenen dan de norm"
    return None


def _needs(part: Any, norms: AmountNorms, least: int) -> tuple[Any, Any]:
    """Which amounts of a table the norms hide, and how far from each the ends must lie of what can be worked out."""
    total, n = part.count, part.columns["frequency"]
    first, second = part.columns["top1"], part.columns["top2"]
    unsafe, need = (n > 0) & (n < least), np.full(len(total), float(norms.bescherming))
    for rule in amount_policy(norms, least).primary:
        if rule.rule == "p_percent":
            short = rule.p * first / 100 - (total - first - second)
        elif rule.rule == "dominance":
            short = (first + second * (rule.n == 2)) * 100 / rule.k - total
        else:
            continue
        unsafe, need = unsafe | ((total > 0) & (short > 1e-6 * total)), np.maximum(need, short)
    return unsafe, need


def _per_person(block: Block, placed: Sequence[Any], beside: Beside, offset: int) -> list[Fact]:
    """What one contributor can have at least and at most ties each amount to its count."""
    from quality.disclosure.facts import Fact

    def codes(table: Table, row: int) -> dict[str, str]:
        return {d.name: d.codes[c] for d, c in zip(table.dimensions, table.codes[row], strict=True) if c}

    where = {}
    for number, item in enumerate(place(beside.block)):
        part = beside.block.parts[item.part]
        where.update({(part.mart, part.keys[at]): (offset + number, codes(item.table, row))
                      for row, at in enumerate(item.rows)})  # fmt: skip
    found = []
    for number, item in enumerate(placed):
        part = block.parts[item.part]
        assert part.spec.bedrag is not None
        for row, at in enumerate(item.rows):
            amount, count = (number, codes(item.table, row), 1.0), where[part.mart, part.keys[at]]
            for bound, ends in zip(part.spec.bedrag.per_persoon, ((0.0, np.inf), (-np.inf, 0.0)), strict=True):
                if not bound:
                    continue  # that an amount is not negative is known
                found.append(Fact((amount, (*count, -bound)), *ends, "per contributor"))
    return found
