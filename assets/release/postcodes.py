"""Postcodes beside wijken and buurten: two ways of cutting one municipality up, tied by where addresses lie.

Whoever reads a count by postcode and by buurt subtracts: a wijk less a postcode that covers all of it but one buurt is
that buurt. So what lies in both a postcode and a buurt is one more unknown, which nobody is shown; those of a buurt add
up to it, and so do those of a postcode. Which overlap comes from the addresses in the vault, as every reader may know.

A postcode is one per municipality: `PC` (four digits of it) or `P6` (all of it), the municipality's four digits, and
the postcode. Whose postcode is not known stands under `ONP` and the municipality.

Belongs here: reading what overlaps, and saying it to the disclosure engine. Does not belong here: protecting blocks
(assets.release.views).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from assets.release.blocks import BlockError
from datafabriek.config import Settings
from datafabriek.warehouse import WarehouseError, vault
from quality.privacy.keys import ensure_key
from quality.protection import POSTCODES

if TYPE_CHECKING:
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.table import Table

NO_POSTCODE, NO_BUURT = "ONP", "ONB"
PARTS = "delen"
"""How messages call a table of what lies in both."""

LEVELS = ((*POSTCODES, NO_POSTCODE), ("BU", "WK", NO_BUURT))
"""Codes of parts in the one cut and in the other, the finest first."""


def overlaps(settings: Settings) -> dict[str, set[str]]:
    """Per postcode (of four digits and whole) each buurt and wijk that has an address in it, as codes.

    None where the vault holds no addresses: then no table by postcode may stand beside one by buurt.
    """
    try:
        with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault, read_only=True) as connection:
            rows = connection.execute("""
                SELECT DISTINCT unnest(['P6' || gm || postcode, 'PC' || gm || postcode[:4]]), buurt
                FROM (SELECT upper(replace(postcode, ' ', '')) AS postcode, buurt_code AS buurt,
                    substr(buurt_code, 3, 4) AS gm FROM vault.aanvoer.adressen
                    WHERE postcode IS NOT NULL AND buurt_code IS NOT NULL)""").fetchall()
    except (duckdb.Error, WarehouseError):
        rows = []
    found: dict[str, set[str]] = {}
    for code, buurt in rows:
        found.setdefault(code, set()).update((buurt, f"WK{buurt[2:8]}"))
    return found


def overlapping(
    tables: Sequence[Table], earlier: Sequence[Earlier], places: Mapping[str, Collection[str]]
) -> tuple[list[Earlier], list[Fact]]:
    """What lies in both a postcode and a buurt, as tables of which nothing is shown, and the sums that these make.

    Once for what is known of now, and once for each release that cut the municipality up both ways.

    Args:
        tables: of one block, as they are shown now.
        earlier: as they were shown before; in a system they come after those.
        places: which overlap (`overlaps`).

    Returns:
        The tables, which in a system come after `earlier`; nothing where nothing is told by postcode.

    Raises:
        BlockError: a postcode of which it is not known in which buurten it lies.
    """
    every = [*tables, *(one.table for one in earlier)]
    if not any(code[:2] in POSTCODES for table in every for code in table.dimensions[0].codes):
        return [], []
    groups = {"": list(enumerate(every))}
    for number, one in enumerate(earlier, start=len(tables)):
        groups.setdefault(one.release, []).append((number, one.table))
    found: list[Earlier] = []
    facts: list[Fact] = []
    for release, group in groups.items():
        parts, sums = _both(group, places, len(every) + len(found), release)
        found, facts = found + parts, facts + sums
    return found, facts


def _both(
    tables: Sequence[tuple[int, Table]], places: Mapping[str, Collection[str]], place: int, release: str
) -> tuple[list[Earlier], list[Fact]]:
    """What the tables of one release (or of all: then a cell stands for its first occurrence) have in common."""
    from quality.disclosure.engine import Earlier
    from quality.disclosure.facts import Fact
    from quality.disclosure.table import Dimension, Table

    cells: tuple[dict[str, dict[str, tuple[int, dict[str, str]]]], ...] = ({}, {})
    for number, table in tables:
        geo = table.dimensions[0]
        side = 0 if any(code[:2] in POSTCODES for code in geo.codes) else 1
        for codes in table.codes:
            at = {d.name: d.codes[code] for d, code in zip(table.dimensions, codes, strict=True) if code}
            code = at.get(geo.name, "")
            rest = "|".join(sorted(f"{name}={value}" for name, value in at.items() if name != geo.name))
            if code[:2] in LEVELS[side] or code[:3] in LEVELS[side]:
                cells[side].setdefault(rest, {}).setdefault(code, (number, at))
    names: list[str] = []
    facts: list[Fact] = []
    pairs: dict[str, list[tuple[str, str]]] = {}
    for rest in sorted(cells[0].keys() & cells[1].keys()):
        sides = [_finest(cells[side][rest], LEVELS[side]) for side in (0, 1)]
        if any(code not in places for code in sides[0] if not code.startswith(NO_POSTCODE)):
            raise BlockError("niet van elke postcode is bekend in welke buurten zij ligt: ververs het adressenbestand")
        atoms = pairs[rest] = [
            (p, b)
            for p in sides[0]
            for b in sides[1]
            if b in places.get(p, ()) or p.startswith(NO_POSTCODE) or b.startswith(NO_BUURT)
        ]
        sums: dict[str, list[str]] = {code: [] for side in sides for code in side}
        for pair in atoms:
            for code in pair:
                sums[code].append(_part(*pair, rest, release))
        for side in (0, 1):
            for code in sides[side]:
                terms = tuple((place, {"deel": name}, -1.0) for name in sums[code])
                number, at = cells[side][rest][code]
                facts.append(Fact(((number, at, 1.0), *terms), 0.0, 0.0, "postcodes beside buurten"))
        names += [_part(*pair, rest, release) for pair in atoms]
    if not facts:
        return [], []
    # where of some region nothing is known, neither are all parts of what it is in
    if not any(table.dimensions[0].open for _, table in tables):
        facts += _over_classes(pairs, cells, place, release)
    dimension = Dimension("deel", ("*", *names), np.array([-1, *([0] * len(names))]), ("*",))
    codes = np.arange(1, len(names) + 1)[:, None]
    measured = tables[0][1]
    # an amount and the count of those it is of have the same parts, and are not the same figure
    own = tuple(f"{measured.measure}×{name}" for name in names)
    nothing = np.full(len(names), np.nan)
    table = Table(PARTS, "×", (dimension,), codes, nothing, is_count=measured.is_count, names=own)
    return [Earlier(table, "adressen", None, np.zeros(len(names), dtype=bool), 0.0)], facts


def _over_classes(
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    cells: Sequence[Mapping[str, Mapping[str, object]]],
    place: int,
    release: str,
) -> list[Fact]:
    """That what lies in both a postcode and a buurt adds up over the classes of each classification.

    At the coarser of the levels at which classes and their total are told; where only some classes are told both ways
    their sum is at most the total.
    """
    from quality.disclosure.facts import Fact

    def classes(among: Iterable[str]) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for rest in sorted(among):
            split = [one for one in rest.split("|") if one]
            for one in split:
                above = "|".join(other for other in split if other != one)
                found.setdefault((above, one.partition("=")[0]), []).append(rest)
        return found

    facts: list[Fact] = []
    told = [classes(side) for side in cells]
    for (above, name), under in classes(pairs).items():
        every = [above, *under]
        if above not in pairs:
            continue
        levels = tuple(
            max((_level(cells[side][rest], LEVELS[side]) for rest in every), key=LEVELS[side].index) for side in (0, 1)
        )
        if levels[0] == NO_POSTCODE or levels[1] == NO_BUURT:
            continue
        is_whole = all(side.get((above, name)) == under for side in told)
        sums: dict[tuple[str, str], list[tuple[int, dict[str, str], float]]] = {}
        for rest in every:
            for postcode, buurt in pairs[rest]:
                at = {"deel": _part(postcode, buurt, rest, release)}
                key = (_above(postcode, levels[0]), _above(buurt, levels[1]))
                sums.setdefault(key, []).append((place, at, 1.0 if rest == above else -1.0))
        facts += [
            Fact(tuple(terms), 0.0, 0.0 if is_whole else np.inf, "classes of what lies in both")
            for _, terms in sorted(sums.items())
        ]
    return facts


def _level(codes: Collection[str], levels: Sequence[str]) -> str:
    """The finest level that occurs."""
    return next((level for level in levels if any(code.startswith(level) for code in codes)), levels[-1])


def _above(code: str, level: str) -> str:
    """The region of a level that a code lies in; what is in none stays itself."""
    is_apart = code.startswith((NO_POSTCODE, NO_BUURT))
    return code if is_apart else level + code[2 : {"PC": 10, "WK": 8}.get(level)]


def _part(postcode: str, buurt: str, rest: str, release: str) -> str:
    return f"{postcode}×{buurt}|{rest}@{release}"


def of_parts(
    amounts: Sequence[Earlier], counts: Sequence[Earlier], places: tuple[int, int], per_person: tuple[float, float]
) -> list[Fact]:
    """That what lies in both a postcode and a buurt has an amount that goes with its count, as whole regions have.

    Args:
        amounts: as a system knows them besides what is shown now.
        counts: likewise, of those whose amounts these are.
        places: the number in that system of the first of either.
        per_person: the least and the most that one contributor can have.
    """
    from quality.disclosure.facts import Fact

    def found(tables: Sequence[Earlier], first: int) -> dict[str, int]:
        return {
            name: number
            for number, one in enumerate(tables, start=first)
            if one.table.name == PARTS
            for name in one.table.dimensions[0].codes[1:]
        }

    own, beside = (found(*side) for side in zip((amounts, counts), places, strict=True))
    ends = zip(per_person, ((0.0, np.inf), (-np.inf, 0.0)), strict=True)
    return [
        Fact(((own[name], {"deel": name}, 1.0), (beside[name], {"deel": name}, -bound)), low, high, "per contributor")
        for bound, (low, high) in ends
        if bound
        for name in sorted(own.keys() & beside.keys())
    ]


def _finest(codes: Collection[str], levels: Sequence[str]) -> list[str]:
    """The codes of the finest level that occurs, and that of what is in none."""
    return sorted(code for code in codes if code.startswith((_level(codes, levels), levels[-1])))
