"""What an attacker knows besides the tables, as a spec declares it: earlier releases, other figures, own records.

Belongs here: reading those files and finding the cells that they are about. What follows from them is worked out by
protector and auditor, each in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from quality.disclosure.engine import Earlier
from quality.disclosure.errors import DisclosureError
from quality.disclosure.facts import Fact, rate
from quality.disclosure.readers import read_columns, read_table
from quality.disclosure.spec import EarlierSpec, FactSpec, FrequencyRule, Policy, Spec, Term, load_spec
from quality.disclosure.table import VERSION_NOW, Ints, Table


@dataclass(frozen=True)
class Knowledge:
    """In the form that `protect` and `joint_system` take."""

    earlier: tuple[Earlier, ...]
    facts: tuple[Fact, ...]
    known_cells: Mapping[str, tuple[tuple[int, Ints], ...]]


def knowledge(parts: Sequence[tuple[Spec, Table]], norms: Policy) -> Knowledge:
    """All that the specs of linked tables declare.

    Args:
        parts: each spec with its table, in the order in which they are protected.
        norms: say whether suppliers and partners count.

    Raises:
        DisclosureError: a file that is not there, or a cell, measure or release that no table has.
    """
    earlier = [
        _earlier(spec, one) for spec, _ in parts for one in spec.earlier if norms.attacker.partners or not one.partner
    ]
    place = _Places([table for _, table in parts], earlier)
    facts = [
        fact for own, (spec, _) in enumerate(parts) for one in spec.facts for fact in _facts(place, own, spec, one)
    ]
    known: dict[str, list[tuple[int, Ints]]] = {}
    for own, (spec, table) in enumerate(parts):
        for who, cells in spec.known.items() if norms.attacker.suppliers else ():
            listed = _records(spec.folder / cells, spec) if isinstance(cells, Path) else cells
            known.setdefault(who, []).append((own, _rows(table, listed, who)))
    return Knowledge(tuple(earlier), tuple(facts), {who: tuple(cells) for who, cells in known.items()})


def _earlier(spec: Spec, one: EarlierSpec) -> Earlier:
    shape = spec if one.spec is None else load_spec(spec.folder / one.spec)
    same = one.input == spec.input
    if same and one.revision is not None:
        raise DisclosureError(f"{one.release} is from the same input, so its figures cannot have been revised")
    table = read_table(spec.folder / one.table, shape, version=VERSION_NOW if same else f"input {one.input}")
    width = shape.protection.width if shape.protection is not None else None
    if one.partner:
        width = 0.0  # what was hidden from another may be shown to this one
    least = [rule.minimum for rule in shape.primary or () if isinstance(rule, FrequencyRule)]
    return Earlier(
        replace(table, name=f"{one.release}: {table.name}"),
        release=one.release,
        revision=one.revision,
        width=width,
        rounding=shape.rounding,
        minimum=max(least) if least and shape.rounding is not None and shape.rounding.suppress else None,
    )


class _Places:
    """Finds the table that a term is about."""

    def __init__(self, tables: Sequence[Table], earlier: Sequence[Earlier]) -> None:
        self.tables = [*tables, *(one.table for one in earlier)]
        self.release = [None] * len(tables) + [one.release for one in earlier]

    def of(self, own: int, term: Term, why: str) -> tuple[int, Mapping[str, str]]:
        """The number of the table, and the codes of the cell."""
        if term.measure is None and term.release is None:
            return own, term.cell
        for number, table in enumerate(self.tables):
            has = {d.name for d in table.dimensions}
            if (
                self.release[number] == term.release
                and table.measure == (term.measure or self.tables[own].measure)
                and set(term.cell) <= has
            ):
                return number, term.cell
        raise DisclosureError(
            f"{why}: no table of measure {term.measure or self.tables[own].measure}"
            + (f" in release {term.release}" if term.release else "")
            + f" has the dimensions {', '.join(term.cell) or 'of this term'}"
        )


def _facts(place: _Places, own: int, spec: Spec, one: FactSpec) -> list[Fact]:
    if one.terms:
        low, high = (one.equals, one.equals) if one.equals is not None else (one.lower, one.upper)
        terms = tuple((*place.of(own, term, one.why), term.weight) for term in one.terms)
        return [Fact(terms, -np.inf if low is None else low, np.inf if high is None else high, one.why)]
    form: dict[str, Any] = {"per": one.per, "decimals": one.decimals, "why": one.why}
    if one.rate is not None:
        below = one.denominator
        assert below is not None and not isinstance(below, str)
        under = place.of(own, below, one.why) if isinstance(below, Term) else below
        return list(rate(place.of(own, one.numerator, one.why), under, one.rate, **form))
    assert one.rates is not None and one.column is not None
    out: list[Fact] = []
    for record in _records(
        spec.folder / one.rates, spec, *(c for c in (one.column, one.denominator) if isinstance(c, str))
    ):
        if not record[one.column]:
            continue
        codes = {name: record[name] for name in spec.dimensions if name in record}
        above = place.of(own, one.numerator.model_copy(update={"cell": {**codes, **one.numerator.cell}}), one.why)
        if isinstance(one.denominator, Term):
            cell = {**codes, **one.denominator.cell}
            under = place.of(own, one.denominator.model_copy(update={"cell": cell}), one.why)
        elif isinstance(one.denominator, str):
            under = _number(record[one.denominator], one.why)
        else:
            under = float(one.denominator or 0.0)
        out += rate(above, under, _number(record[one.column], one.why), **form)
    return out


def _records(path: Path, spec: Spec, *numbers: str) -> list[dict[str, str]]:
    """The rows of a file with some of the table's dimensions (the rest at their total) and the columns named."""
    columns = read_columns(path)
    lacking = [name for name in numbers if name not in columns]
    if lacking or not set(spec.dimensions) & set(columns):
        raise DisclosureError(f"{path} should hold the columns {', '.join([*spec.dimensions, *numbers])}")
    names = [name for name in (*spec.dimensions, *numbers) if name in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*(columns[name] for name in names), strict=True)]


def _rows(table: Table, cells: Sequence[Mapping[str, str]], who: str) -> Ints:
    try:
        odd = {name for cell in cells for name in cell} - {d.name for d in table.dimensions}
        codes = [[d.codes.index(cell.get(d.name) or d.codes[0]) for d in table.dimensions] for cell in cells]
    except ValueError:
        odd = {"code"}
    if odd:
        raise DisclosureError(f"known to {who}: a cell that {table.name or 'the table'} does not have")
    rows = table.rows_of(np.array(codes, dtype=np.int64).reshape(len(cells), len(table.dimensions)))
    return np.asarray(rows[rows >= 0], dtype=np.int64)


def _number(text: str, why: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise DisclosureError(f"{why}: a rate or denominator is not a number") from None
