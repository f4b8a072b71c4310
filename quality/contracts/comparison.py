"""What changed between two versions of a contract, and whether a supplier's file would still be taken in.

Belongs here: comparing contracts as the factory reads them. Breaking is what makes a good old delivery refused, a good
new one unreadable, or a table that a purpose gets different; the rest is harmless.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from quality.contracts.model import Column, Contract, Derived, Purpose, Rule


@dataclass(frozen=True)
class Change:
    """One difference: where, what, and whether it breaks."""

    where: str
    what: str
    breaking: bool


def compare(old: Contract, new: Contract) -> list[Change]:
    """All changes from `old` to `new`, breaking ones first."""
    found = [*_whole(old, new), *_columns(old, new), *_purposes(old, new)]
    return sorted(found, key=lambda change: not change.breaking)


def _whole(old: Contract, new: Contract) -> Iterator[Change]:
    was, comes = (
        {"scheiding": each.delimiter, "codering": each.encoding, **each.options} for each in (old.layout, new.layout)
    )
    for option in sorted(was.keys() | comes.keys()):
        if was.get(option) != comes.get(option):
            yield Change("layout", f"{option}: {was.get(option)} became {comes.get(option)}", True)
    if old.key != new.key:
        yield Change("key", f"{', '.join(old.key)} became {', '.join(new.key)}", True)
    if old.correction != new.correction:
        yield Change("correctie", f"{old.correction} became {new.correction}", True)
    elif old.superseding != new.superseding:
        yield Change("correctie", "which records replace or take back which changed", True)
    if (old.period.kind, old.period.pattern.pattern) != (new.period.kind, new.period.pattern.pattern):
        yield Change("periode", "the period or the agreed file name changed", True)
    if old.max_refused != new.max_refused:
        told = f"{old.max_refused:.1%} became {new.max_refused:.1%}"
        yield Change("max_foutaandeel", told, new.max_refused < old.max_refused)
    if old.most_growth != new.most_growth:
        told = f"{old.most_growth:g} became {new.most_growth:g}"
        yield Change("groei", told, new.most_growth < old.most_growth)
    if old.empty_allowed != new.empty_allowed:
        told = "an empty delivery is one now" if new.empty_allowed else "an empty delivery is refused now"
        yield Change("leeg_toegestaan", told, not new.empty_allowed)
    if old.promised_days != new.promised_days:
        yield Change("latency", f"{old.promised_days} days became {new.promised_days}", False)
    for where, before, after in (
        ("afdrukregel", old.print_line, new.print_line),
        ("coordinaten", old.coordinates, new.coordinates),
        ("adres", dict(old.address), dict(new.address)),
        ("plaatsing", dict(old.placing), dict(new.placing)),
    ):
        if before != after:
            yield Change(where, "added" if not before else "removed" if not after else "changed", bool(before))
    for relation in (each for each in new.relations if each not in old.relations):
        worst = new[relation.columns[0]].severity(relation.rule) != "warning"
        yield Change(relation.columns[0], f"must stand in {relation.delivery}.{', '.join(relation.to)} now", worst)
    for relation in (each for each in old.relations if each not in new.relations):
        yield Change(relation.columns[0], f"need no longer stand in {relation.delivery}", False)
    yield from _rules("", old.rules, new.rules, "rule over several columns")


def _rules(where: str, old: Sequence[Rule], new: Sequence[Rule], told: str) -> Iterator[Change]:
    before, after = ({rule.name: rule for rule in rules} for rules in (old, new))
    for name in sorted(after.keys() - before.keys()):
        yield Change(where or name, f"{told} added{f': {name}' if where else ''}", True)
    for name in sorted(before.keys() - after.keys()):
        yield Change(where or name, f"{told} removed{f': {name}' if where else ''}", False)
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        if (one.implementation, dict(one.arguments)) != (other.implementation, dict(other.arguments)):
            yield Change(where or name, f"{told} computed in another way{f': {name}' if where else ''}", True)
        elif one.severity != other.severity:
            yield Change(where or name, f"{name}: {one.severity} became {other.severity}", _graver(one, other))


def _graver(one: Rule, other: Rule) -> bool:
    order = ("warning", "error", "fatal")
    return order.index(other.severity) > order.index(one.severity)


def _columns(old: Contract, new: Contract) -> Iterator[Change]:
    removed = [column for column in old.columns if column.name not in new.names]
    added = [column for column in new.columns if column.name not in old.names]
    for column in removed:
        twin = next((other for other in added if _alike(column, other)), None)
        if twin is not None:
            added.remove(twin)
            yield Change(column.name, f"renamed to {twin.name}", True)
        else:
            yield Change(column.name, "removed", True)
    for column in added:
        yield Change(column.name, "added: files without it are refused", True)
    # of a relation that came or went it is told elsewhere how grave it is
    passing = {each.rule for each in old.relations} ^ {each.rule for each in new.relations}
    for column in new.columns:
        if column.name in old.names:
            yield from _column(old[column.name], column, passing)
    kept_old = [name for name in old.names if name in new.names]
    kept_new = [name for name in new.names if name in old.names]
    if new.layout.format == "vaste_breedte" and kept_old != kept_new:
        yield Change("layout", "the order of the columns changed", True)


def _alike(one: Column, other: Column) -> bool:
    same_shape = (one.type, one.physical, one.privacy) == (other.type, other.physical, other.privacy)
    return same_shape and (
        one.description == other.description or difflib.SequenceMatcher(None, one.name, other.name).ratio() > 0.6
    )


def _column(old: Column, new: Column, passing: Collection[str]) -> Iterator[Change]:
    name = new.name
    if (old.type, old.width) != (new.type, new.width):
        zeros = "; zeros in front are lost" if old.type == "string" and new.type in {"integer", "number"} else ""
        yield Change(name, f"{old.type} {old.physical} became {new.type} {new.physical}{zeros}", True)
    if old.header != new.header:
        yield Change(name, f"is called {new.header} in the file, was {old.header}", True)
    if set(old.empty) != set(new.empty):
        is_lost = not set(old.empty) <= set(new.empty)
        yield Change(name, "values that mean nothing here changed", is_lost)
    if dict(old.code_terms) != dict(new.code_terms):
        yield Change(name, "the periods for which codes hold changed", True)
    for rule in sorted({*old.severities, *new.severities} - {*passing}):
        if old.severity(rule) != new.severity(rule):
            graver = ("warning", "error", "fatal").index
            worse = graver(new.severity(rule)) > graver(old.severity(rule))
            yield Change(name, f"{rule}: {old.severity(rule)} became {new.severity(rule)}", worse)
    if old.required != new.required:
        yield Change(name, "became required" if new.required else "is no longer required", new.required)
    if old.privacy != new.privacy:
        yield Change(name, f"privacy class {old.privacy} became {new.privacy}", True)
    gone, come = set(old.codes) - set(new.codes), set(new.codes) - set(old.codes)
    if gone and new.codes:
        yield Change(name, f"codes removed: {', '.join(sorted(gone))}", True)
    if come:
        yield Change(name, f"codes added: {', '.join(sorted(come))}", not old.codes)
    if dict(old.options) != dict(new.options):
        yield Change(name, "pattern, length or range changed", True)
    if old.window != new.window:
        told = "added" if old.window is None else "removed" if new.window is None else "changed"
        yield Change(name, f"window of dates {told}", new.window is not None and new.severity("venster") != "warning")
    before, after = ([(step.rule, step.argument, step.term) for step in column.repairs] for column in (old, new))
    if before != after:
        lost = [step[0] for step in before if step not in after]
        yield Change(
            name, f"dirt rules no longer applied: {', '.join(lost)}" if lost else "dirt rules added", bool(lost)
        )
    elif old.repairs != new.repairs:
        yield Change(name, "which notation counts as agreed changed", False)
    yield from _rules(name, old.rules, new.rules, "rule")


def _purposes(old: Contract, new: Contract) -> Iterator[Change]:
    for name in sorted({*old.purposes, *new.purposes}):
        if name not in new.purposes:
            yield Change(f"doel {name}", "removed: its table is no longer made", True)
        elif name not in old.purposes:
            yield Change(f"doel {name}", "added: it needs a lawful basis in the policy folder", False)
        else:
            yield from _purpose(f"doel {name}", old.purposes[name], new.purposes[name])


def _purpose(where: str, old: Purpose, new: Purpose) -> Iterator[Change]:
    before, after = ({column.name: column for column in purpose.columns} for purpose in (old, new))
    if _which_rows(old) != _which_rows(new):
        yield Change(where, "which rows it gets changed", True)
    for column in sorted(before.keys() - after.keys()):
        yield Change(where, f"no longer gets {column}", True)
    for column in sorted(after.keys() - before.keys()):
        yield Change(where, f"gets {column} as well", False)
    for column in sorted(before.keys() & after.keys()):
        if _how(before[column]) != _how(after[column]):
            yield Change(where, f"{column} follows from the delivery in another way", True)


def _which_rows(purpose: Purpose) -> tuple[Any, ...]:
    return purpose.distinct, purpose.valid_between, purpose.needed, purpose.only


def _how(column: Derived) -> tuple[Any, ...]:
    """How a purpose's column is made, its description left out."""
    return column.derivation, column.sources, column.kind, column.sql_type, column.parameters
