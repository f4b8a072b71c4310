"""What changed between two versions of a contract, and whether a supplier's file would still be taken in.

Belongs here: comparing contracts as the factory reads them. Breaking is what makes a good old delivery refused, a good
new one unreadable, or a table that a purpose gets different; the rest is harmless.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from quality.contracts.model import Column, Contract


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
    if old.layout != new.layout:
        yield Change("layout", f"{old.layout} became {new.layout}", True)
    if old.key != new.key:
        yield Change("key", f"{', '.join(old.key)} became {', '.join(new.key)}", True)
    if old.correction != new.correction:
        yield Change("correctie", f"{old.correction} became {new.correction}", True)
    if (old.period.kind, old.period.pattern.pattern) != (new.period.kind, new.period.pattern.pattern):
        yield Change("periode", "the period or the agreed file name changed", True)
    if old.max_refused != new.max_refused:
        told = f"{old.max_refused:.1%} became {new.max_refused:.1%}"
        yield Change("max_foutaandeel", told, new.max_refused < old.max_refused)
    for rule in {item.name for item in new.rules} - {item.name for item in old.rules}:
        yield Change(rule, "rule over several columns added", True)
    for rule in {item.name for item in old.rules} - {item.name for item in new.rules}:
        yield Change(rule, "rule over several columns removed", False)


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
    for column in new.columns:
        if column.name in old.names:
            yield from _column(old[column.name], column)
    kept_old = [name for name in old.names if name in new.names]
    kept_new = [name for name in new.names if name in old.names]
    if new.layout.format == "vaste_breedte" and kept_old != kept_new:
        yield Change("layout", "the order of the columns changed", True)


def _alike(one: Column, other: Column) -> bool:
    same_shape = (one.type, one.physical, one.privacy) == (other.type, other.physical, other.privacy)
    return same_shape and (
        one.description == other.description or difflib.SequenceMatcher(None, one.name, other.name).ratio() > 0.6
    )


def _column(old: Column, new: Column) -> Iterator[Change]:
    name = new.name
    if (old.type, old.width) != (new.type, new.width):
        yield Change(name, f"{old.type} {old.physical} became {new.type} {new.physical}", True)
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
    if old.repairs != new.repairs:
        lost = [step.rule for step in old.repairs if step not in new.repairs]
        yield Change(
            name, f"dirt rules no longer applied: {', '.join(lost)}" if lost else "dirt rules added", bool(lost)
        )
    rules = {rule.name for rule in new.rules} - {rule.name for rule in old.rules}
    if rules:
        yield Change(name, f"rules added: {', '.join(sorted(rules))}", True)


def _purposes(old: Contract, new: Contract) -> Iterator[Change]:
    for name in sorted({*old.purposes, *new.purposes}):
        if name not in new.purposes:
            yield Change(f"doel {name}", "removed: its table is no longer made", True)
        elif name not in old.purposes:
            yield Change(f"doel {name}", "added: it needs a lawful basis in the policy folder", False)
        else:
            before = {column.name: column for column in old.purposes[name].columns}
            after = {column.name: column for column in new.purposes[name].columns}
            for column in sorted(before.keys() - after.keys()):
                yield Change(f"doel {name}", f"no longer gets {column}", True)
            for column in sorted(after.keys() - before.keys()):
                yield Change(f"doel {name}", f"gets {column} as well", False)
            for column in sorted(before.keys() & after.keys()):
                if (before[column].derivation, before[column].sources, before[column].kind) != (
                    after[column].derivation,
                    after[column].sources,
                    after[column].kind,
                ):
                    yield Change(f"doel {name}", f"{column} follows from the delivery in another way", True)
