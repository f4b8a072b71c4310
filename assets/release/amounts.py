"""Amounts: what each audience may be shown of a sum of money beside the count of those it is of.

An amount is hidden wherever its count is, where too few contribute, and where the rules on concentration say so (p%,
dominance; Hundepool et al., Handbook on SDC, 4.2). Whoever reads both puts them together: an amount lies between so
many times the least and the most that one contributor can have, so that amounts and counts are one system, and what is
hidden of either must stay so. Amounts are shown exactly as they are or not at all; a mean follows from what is shown.

The first audience's view is made from the amounts and the largest contributions. A later one's is made from that view:
what it hides stays hidden, and so does what goes with a count that the later audience does not see.

Belongs here: saying that to the disclosure engine. Does not belong here: counts (assets.release.views), and reading
either (assets.release.blocks).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from assets.release.blocks import Block, BlockError, Bools, Floats, Placed, Told, View, place
from assets.release.postcodes import of_parts, overlapping
from assets.release.views import Knowledge, as_published, at_row, earlier_versions, fitting
from quality.norms import AmountNorms, Audience, AudienceNorms, Chain, amount_policy

if TYPE_CHECKING:
    from quality.disclosure.engine import Earlier, Protected
    from quality.disclosure.facts import Fact
    from quality.disclosure.spec import Policy
    from quality.disclosure.table import Table

MANY = 1e6
"""Contributors of cells of which their number does not matter."""


@dataclass(frozen=True)
class Counted:
    """The counts of those whose amounts are shown.

    Attributes:
        block: the counts.
        views: per audience how they are shown.
    """

    block: Block
    views: Mapping[Audience, View]

    def rows(self, block: Block, values: Sequence[Floats]) -> list[Floats]:
        """Per part of a block of amounts the values (one list per part of the counts) of its rows."""
        at = {part.mart: i for i, part in enumerate(self.block.parts)}
        assert all(part.keys == self.block.parts[at[part.mart]].keys for part in block.parts)
        return [values[at[part.mart]] for part in block.parts]

    def hidden(self, block: Block, who: Audience) -> list[Bools]:
        """Per part of a block of amounts which rows have a count that an audience does not see."""
        seen = self.rows(block, self.views[who].values)
        true = self.rows(block, [part.count for part in self.block.parts])
        return [np.isnan(shown) & ~np.isnan(count) for shown, count in zip(seen, true, strict=True)]

    def within(self, block: Block, who: Audience) -> list[tuple[Floats, Floats]]:
        """Per part of a block of amounts what each can be at least and at most, by its count as an audience sees it.

        Whoever is hidden is at least one.
        """
        view, found = self.views[who], []
        for part, values in zip(block.parts, self.rows(block, view.values), strict=True):
            assert part.spec.bedrag is not None
            ends = [view.norms.interval(int(n), view.least) if n == n else (1.0, np.inf) for n in values]
            low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
            found.append((part.spec.bedrag.per_persoon[0] * low, part.spec.bedrag.per_persoon[1] * high))
        return found


def as_norms(norms: AudienceNorms, own: AmountNorms) -> AudienceNorms:
    """The norms of an audience as they are for amounts: not rounded, and as wide as norms on amounts say."""
    return norms.model_copy(update={"afronding": 1, "afrondingsmethode": "gewoon", "bescherming": own.bescherming})


def amount_views(
    block: Block,
    counted: Counted,
    known: Knowledge,
    chain: Chain,
    audience: Audience,
    told: Mapping[Audience, Sequence[Told]],
    ready: Mapping[Audience, View],
    norms: AmountNorms,
    *,
    suspects: bool,
    time_limit: float,
) -> View:
    """What an audience may be shown of amounts, proved against what it knows, by the chain of audiences before it.

    Args:
        block: with the amounts and, in `columns`, who contribute.
        counted: their counts, as every audience in the chain sees them.
        known: what else readers know of these counts.
        chain: the norms in force.
        audience: who is served.
        told: per audience what its readers know of earlier releases of these amounts.
        ready: per audience a view of these very amounts that was released before: it is taken over.
        norms: on amounts.
        suspects: whether a reader takes every hidden count for one under the minimum.
        time_limit: seconds for all.

    Raises:
        FactoryError: no safe pattern, no time, or figures that contradict each other: nothing may be released.
    """
    from quality.disclosure.engine import protect

    if any(np.isnan(part.count).any() for part in block.parts):
        raise BlockError("van niet elke regio is het bedrag bekend, en de rest zou er een zijn van onbekende mensen")
    deadline = time.monotonic() + time_limit
    placed = place(block)
    view: View | None = None
    for (who, own), least in zip(chain.steps(audience), chain.least_shown(audience), strict=True):
        if who in ready:
            view = ready[who]
            continue
        exact = as_norms(own, norms)
        tables = [item.table for item in placed]
        before = [replace(one, norms=as_norms(one.norms, norms)) for one in told.get(who, ())]
        earlier, facts = earlier_versions(before, tables, None, hides_zeros=False)
        parts, sums = overlapping(tables, earlier, known.overlaps)
        many = [replace(one, table=_of_many(one.table)) for one in (*earlier, *parts)]
        counts, more = as_published(counted.block, counted.views[who], known, who, len(tables) + len(many))
        offset = len(tables) + len(many)
        facts = [*facts, *sums, *more, *_bounds(block, placed, counted.block, offset)]
        for low, high in {part.spec.bedrag.per_persoon for part in block.parts if part.spec.bedrag}:
            facts += of_parts(many, counts, (len(tables), offset), (low, high))
        rules = amount_policy(norms, least)
        fit = (
            []
            if view is None
            else fitting(placed, replace(view, least=1), tables, [*many, *counts], facts, hides_zeros=False)
        )
        if view is not None:
            plain = rules.attacker.model_copy(update={"contributors": False})
            rules = rules.model_copy(update={"primary": rules.primary[:1], "attacker": plain})
        veiled, within = counted.hidden(block, who), counted.within(block, who)
        while True:
            asked = [
                _contributed(item, veiled[item.part], rules, norms.bescherming, within[item.part])
                if view is None
                else _shown_before(item, fit[at], view, veiled[item.part], norms.bescherming)
                for at, item in enumerate(placed)
            ]
            left = max(deadline - time.monotonic(), 0.0)
            done = protect(asked, rules, earlier=[*many, *counts], facts=facts, time_limit=left)
            told_of = _told(asked, done, many, counts, facts, rules, suspects, deadline)
            if not told_of:
                break
            veiled = _wider(block, veiled, told_of)
        values = [np.full(len(part.keys), np.nan) for part in block.parts]
        for item, table in zip(placed, done.tables, strict=True):
            values[item.part][item.rows] = table.value
        view = View(tuple(values), exact, least)
    assert view is not None
    return view


def _of_many(table: Table) -> Table:
    """An earlier table, which shows nobody who contributes."""
    return replace(table, columns={"frequency": np.full(len(table), MANY)})


def _contributed(item: Placed, veiled: Bools, rules: Policy, width: float, within: tuple[Floats, Floats]) -> Table:
    """A table of true amounts, of which those that go with a hidden count are unsafe, and what unsafe ones need.

    No room can be had beyond what anyone knows of each amount by its count alone (`within`).
    """
    table = item.table
    columns = dict(table.columns)
    hidden = veiled[item.rows]
    columns["frequency"] = np.where(hidden, np.minimum(columns["frequency"], 2.0), columns["frequency"])
    need = np.full(len(table), float(width))
    for rule in rules.primary:
        if rule.rule == "p_percent":
            need = np.maximum(need, rule.p / 100 * columns["top1"] - (table.value - columns["top1"] - columns["top2"]))
        if rule.rule == "dominance":
            largest = columns["top1"] + (columns["top2"] if rule.n == 2 else 0.0)
            need = np.maximum(need, 100 / rule.k * largest - table.value)
    low, high = (ends[item.rows] for ends in within)
    room = {"lpl": np.minimum(need, table.value - low), "upl": np.minimum(need, high - table.value)}
    return replace(table, columns=columns | {name: np.maximum(most, 0.0) for name, most in room.items()})


def _shown_before(item: Placed, table: Table, before: View, veiled: Bools, width: float) -> Table:
    """A table that fits the view before: unsafe is what that hides, and what goes with a count that is hidden now.

    What the view before hides is protected already from who saw more; what it shows needs room of its own.
    """
    gone = np.isnan(before.values[item.part][item.rows])
    unsafe = gone | veiled[item.rows]
    need = np.where(gone, 0.0, float(width))
    frequency = np.where(unsafe, 2.0, MANY)
    frequency = np.where(table.value == 0, 0.0, frequency)
    return replace(table, columns={"frequency": frequency, "lpl": need, "upl": need})


def _bounds(block: Block, placed: Sequence[Placed], counts: Block, offset: int) -> list[Fact]:
    """That an amount lies between so many times the least and the most that one contributor can have."""
    from quality.disclosure.facts import Fact

    place_of: dict[tuple[str, tuple[str, ...]], tuple[int, dict[str, str]]] = {}
    for number, item in enumerate(place(counts)):
        part = counts.parts[item.part]
        for row, at in enumerate(item.rows):
            place_of.setdefault((part.mart, part.keys[at]), (offset + number, at_row(item.table, row)))
    found = []
    for number, item in enumerate(placed):
        part = block.parts[item.part]
        assert part.spec.bedrag is not None
        low, high = part.spec.bedrag.per_persoon
        for row, at in enumerate(item.rows):
            amount, count = (number, at_row(item.table, row), 1.0), place_of[part.mart, part.keys[at]]
            if low:
                found.append(Fact((amount, (*count, -low)), 0.0, np.inf, "the least of each contributor"))
            found.append(Fact((amount, (*count, -high)), -np.inf, 0.0, "the most of each contributor"))
    return found


def _wider(block: Block, veiled: Sequence[Bools], told_of: Collection[str]) -> list[Bools]:
    """Hide the amounts around regions of which they tell what is hidden; where those are hidden already, all of them.

    Raises:
        NotProtected: all of them are hidden already.
    """
    from quality.disclosure.errors import NotProtected

    found = []
    for part, rows in zip(block.parts, veiled, strict=True):
        above = {key[0]: part.above(key[0], level) for key, level in zip(part.keys, part.heights, strict=True)}
        near = {code for region in told_of for code in (region, above.get(region, ""))}
        found.append(rows | np.array([key[0] in near or above[key[0]] in near for key in part.keys]))
    if all(np.array_equal(rows, before) for rows, before in zip(found, veiled, strict=True)):
        found = [np.ones(len(rows), dtype=bool) for rows in veiled]
        if all(rows.all() for rows in veiled):
            raise NotProtected("hidden counts or amounts follow from the amounts of those who are counted")
    return found


def _told(
    asked: Sequence[Table],
    done: Protected,
    earlier: Sequence[Earlier],
    counts: Sequence[Earlier],
    facts: Sequence[Fact],
    rules: Policy,
    suspects: bool,
    deadline: float,
) -> set[str]:
    """The regions with a hidden count or amount that loses its room to who reads both, and knows the norm on counts."""
    from quality.disclosure.auditor import Demand, audit
    from quality.disclosure.engine import joint_system
    from quality.disclosure.spec import Attacker

    by_norm = rules.model_copy(
        update={"primary": rules.primary[:1], "attacker": Attacker(suspects_primary=suspects), "protection": None}
    )
    system, _ = joint_system(done.tables, [*earlier, *counts], facts, by_norm)
    low, high, width = (np.full(system.cells, np.nan) for _ in range(3))
    for table, unsafe, cells in zip(asked, done.unsafe, system.cell_of, strict=False):
        at = cells[unsafe]
        low[at] = np.fmin(low[at], (table.value - table.columns["lpl"])[unsafe])
        high[at] = np.fmax(high[at], (table.value + table.columns["upl"])[unsafe])
    for one, cells in zip(counts, system.cell_of[len(asked) + len(earlier) :], strict=True):
        empty = cells[np.isnan(one.table.value)]
        width[empty] = np.fmax(width[empty], one.width or np.nan)
    demand = Demand(*(np.where(system.hidden, end, np.nan) for end in (low, high, width)))
    left = max(deadline - time.monotonic(), 0.0)
    failing = audit(system, by_norm, demand=demand, exact=False, time_limit=left).failing
    return {
        table.dimensions[0].codes[table.codes[row, 0]]
        for table, cells in zip([*asked, *(one.table for one in (*earlier, *counts))], system.cell_of, strict=True)
        for row in np.flatnonzero(np.isin(cells, failing))
    }
