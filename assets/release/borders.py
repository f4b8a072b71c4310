"""Areas through time: which regions of one year's borders are, together, which regions of another year's.

Three sources, all of them known to whoever reads releases: the organisation's `grenzen.yaml`, CBS's own statement per
wijk and buurt that nothing changed in a year (`IndelingswijzigingWijkenEnBuurten`), and for municipalities the history
of their mergers. A code of which none of these tells what became of it is unknown, and then nothing is released that
would stand beside it: somebody may know what the factory does not.

    - van: 2020
      naar: 2021
      bron: CBS, buurtindeling 2021
      overige: zelfde_code            # every code that is not named below is the same area in both years
      gebieden:                       # per old code every new one that it overlaps
        BU19160000: [BU05180901]
        BU19160001: [BU05180901, BU05180902]

Belongs here: reading those and joining them. Does not belong here: what follows for counts (assets.release.history).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from datafabriek import mistakes
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from quality.privacy import approvals
from quality.protection import UNKNOWN_BUURT

FILE = "grenzen.yaml"
"""In the policy folder, approved in the role `normen`: a change that it leaves out would leave an attacker unseen."""

UNCHANGED = "1"
"""What CBS says of a wijk or buurt whose code and borders are those of the year before."""

Code = Annotated[str, Field(pattern=r"^(BU\d{8}|WK\d{6}|GM\d{4})$")]


class BordersError(FactoryError):
    """Areas of which nobody said what became of them: nothing in the new borders may stand beside the old."""


class Change(BaseModel):
    """What became of areas from one year's borders to another's, as the organisation says.

    Attributes:
        van: year of the old borders.
        naar: year of the new ones.
        bron: where this is known from.
        overige: what holds for codes that are not named: `zelfde_code`, the same area, or `onbekend`.
        gebieden: per old code every new code that it overlaps, at the same level.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    van: int
    naar: int
    bron: Annotated[str, Field(min_length=1)]
    overige: Literal["zelfde_code", "onbekend"] = "onbekend"
    gebieden: dict[Code, tuple[Code, ...]] = {}


@dataclass(frozen=True)
class Group:
    """Regions that cover the same area in two years, and no smaller set of them does.

    Attributes:
        before: old codes of which figures are at hand.
        after: idem new codes.
        is_whole: whether these are surely all; otherwise some of the area may lie in regions without figures, as where
            a new municipality took over others: nothing tells that it was not there before.
    """

    before: frozenset[str]
    after: frozenset[str]
    is_whole: bool


@dataclass(frozen=True)
class Borders:
    """All that is known of changes of borders.

    Attributes:
        changes: as the organisation tells them.
        unchanged: per year the wijken and buurten of which CBS says that nothing changed since the year before.
        transfers: year, kind, giver and receiver of everything that municipalities handed over; None: not known.
    """

    changes: tuple[Change, ...] = ()
    unchanged: Mapping[int, frozenset[str]] = field(default_factory=dict)
    transfers: tuple[tuple[int, str, str, str], ...] | None = None

    def groups(self, old: int, new: int, before: Collection[str], after: Collection[str]) -> list[Group]:
        """The smallest sets of regions that cover the same area in both years.

        Args:
            old: year of the borders of `before`.
            new: year of the borders of `after`.
            before: codes of one level.
            after: codes of the same level.

        Raises:
            BordersError: of a code it is not known what it was or became.
        """
        if old > new:
            return [Group(g.after, g.before, g.is_whole) for g in self.groups(new, old, after, before)]
        listed = {code for change in self.changes for code in change.gebieden}
        kind = {code[:2] for code in before}
        # areas without figures count as well: a new region may come from one
        now = {code: frozenset({code}) for code in {*before, *after, *(c for c in listed if c[:2] in kind)}}
        year = old
        while year < new:
            change = self._change(year, new)
            until = change.naar if change else year + 1
            now = {
                code: frozenset(to for at in places for to in self._became(at, year, until, change))
                for code, places in now.items()
            }
            year = until
        lost = [code for code in before if not now[code]]
        found = set(after) - {place for places in now.values() for place in places}
        if lost or found:
            raise BordersError(
                f"van {len(lost) + len(found)} regio's is niet bekend wat zij in de grenzen van {old} en {new} waren: "
                f"vul {FILE} in de beleidsmap aan (van: {old}, naar: {new}) en laat het goedkeuren"
            )
        joined = [
            Group(frozenset(before) & was, frozenset(after) & became, was <= set(before) and became <= set(after))
            for was, became in _joined(now)
        ]
        return [group for group in joined if group.before and group.after]

    def _change(self, year: int, until: int) -> Change | None:
        """What the organisation says of a step from a year, the longest that does not go too far."""
        able = [change for change in self.changes if change.van == year and change.naar <= until]
        return max(able, key=lambda change: change.naar, default=None)

    def _became(self, code: str, year: int, until: int, change: Change | None) -> frozenset[str]:
        """The codes, of the same level, that hold any of an area; none where that is not known."""
        if code.startswith(UNKNOWN_BUURT):
            whole = self._became("GM" + code[3:], year, until, change)
            return frozenset(UNKNOWN_BUURT + place[2:] for place in whole)
        named: set[str] = set()
        if change is not None:
            for of, places in change.gebieden.items():
                # a higher region is where its parts are
                if of[2:].startswith(code[2:]):
                    named |= {code[:2] + place[2 : len(code)] for place in places}
            if change.overige == "zelfde_code" and code not in change.gebieden and not self._ended(code, year, until):
                named.add(code)
        if code.startswith("GM") and self.transfers is not None:
            named |= {to for at, _, of, to in self.transfers if year < at <= until and of == code and to}
            if not self._ended(code, year, until):
                named.add(code)
        elif not named and until == year + 1 and code in self.unchanged.get(until, ()):
            named.add(code)
        return frozenset(named)

    def _ended(self, code: str, year: int, until: int) -> bool:
        """Whether a municipality, or that of a wijk or buurt, was no more at the end of these years."""
        ends = ("opgeheven", "naamswijziging")
        steps = [step for step in self.transfers or () if year < step[0] <= until and step[2][2:] == code[2:6]]
        return any(kind in ends and to != of for _, kind, of, to in steps)


def _joined(became: Mapping[str, Collection[str]]) -> list[tuple[set[str], set[str]]]:
    """Join what overlaps: per connected set its old and its new codes."""
    groups: list[tuple[set[str], set[str]]] = []
    for code, places in sorted(became.items()):
        if not places:
            continue
        own = ({code}, set(places))
        apart = [group for group in groups if not group[1] & own[1]]
        for group in groups:
            if group[1] & own[1]:
                own[0].update(group[0])
                own[1].update(group[1])
        groups = [*apart, own]
    return groups


def load(settings: Settings, connection: duckdb.DuckDBPyConnection) -> Borders:
    """What organisation and CBS say of changes of borders.

    Args:
        settings: of the factory.
        connection: of the warehouse.

    Raises:
        BordersError: `grenzen.yaml` cannot be used.
        ApprovalError: nobody who may approved it.
    """
    path = settings.policy_folder / FILE if settings.policy_folder is not None else None
    changes: tuple[Change, ...] = ()
    if path is not None and path.is_file():
        approvals.require(settings, path, "normen")
        changes = _read(path)
    elif Ledger(settings.paths.ledger).last(approvals.KIND, FILE):
        raise BordersError(
            f"{FILE} was approved before and is gone from the policy folder: put it back, or have one that holds no "
            "changes (`[]`) approved"
        )
    told = "raw_cbs.kerncijfers_wijken_en_buurten"
    unchanged: dict[int, set[str]] = {}
    if {"measure_titel", "string_value"} <= _columns(connection, told):
        for year, code in connection.execute(
            f"SELECT jaar::INTEGER, regio_code FROM {told} WHERE trim(string_value) = ? "
            "AND lower(measure_titel) LIKE 'indelingswijziging%' AND left(regio_code, 2) IN ('WK', 'BU')",
            [UNCHANGED],
        ).fetchall():
            unchanged.setdefault(year, set()).add(code)
    transfers = None
    if _columns(connection, "raw_cbs.herindelingen"):
        # borders of a year are those of its first of January
        query = """SELECT year(datum) + (datum > make_date(year(datum), 1, 1))::INTEGER, soort, van_code,
            coalesce(naar_code, '') FROM raw_cbs.herindelingen WHERE van_code IS NOT NULL ORDER BY ALL"""
        transfers = tuple(connection.execute(query).fetchall())
    return Borders(changes, {year: frozenset(codes) for year, codes in unchanged.items()}, transfers)


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    schema, name = table.split(".")
    query = "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?"
    return {row[0] for row in connection.execute(query, [schema, name]).fetchall()}


def _read(path: Path) -> tuple[Change, ...]:
    try:
        changes = TypeAdapter(tuple[Change, ...]).validate_python(mistakes.load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise BordersError(f"{path} cannot be read: {' '.join(str(error).split())[:400]}") from None
    odd = [f"{c.van}-{c.naar}" for c in changes if c.van >= c.naar]
    odd += [code for c in changes for code, to in c.gebieden.items() if not to or {p[:2] for p in to} != {code[:2]}]
    if odd:
        raise BordersError(f"{path}: {', '.join(odd[:5])}: expected van before naar, and codes of one level each")
    return changes
