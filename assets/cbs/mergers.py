"""The history of municipal mergers, read from what CBS writes at its region codes.

CBS publishes no table of mergers. The codes of RegioS in 03759ned (population by region) tell the history in their
`Description`: per date what a gemeente gave to and received from which other, in hectares, dwellings and
inhabitants. Those texts are read here into one row per transfer. Belongs here: the grammar of those texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby

import duckdb
import pyarrow as pa

from assets.cbs.raw import replace_table
from datafabriek.warehouse import literal
from quality.schemas.cbs import HERINDELINGEN

SCHEMA = pa.schema(
    [
        pa.field("datum", pa.date32()),
        pa.field("soort", pa.string()),
        pa.field("van_code", pa.string()),
        pa.field("van_naam", pa.string()),
        pa.field("naar_code", pa.string()),
        pa.field("naar_naam", pa.string()),
        pa.field("hectare", pa.int64()),
        pa.field("woningen", pa.int64()),
        pa.field("inwoners", pa.int64()),
    ]
)

OPGEHEVEN, ONTSTAAN, GRENSWIJZIGING, NAAMSWIJZIGING = "opgeheven", "ontstaan", "grenswijziging", "naamswijziging"

_KINDS = {
    "opgeheven": OPGEHEVEN,
    "ontstaan": ONTSTAAN,
    "grenswijziging": GRENSWIJZIGING,
    # the two older names for the same thing: territory changed hands, both gemeenten may live on
    "wijziging": GRENSWIJZIGING,
    "gemeentelijke herindeling": GRENSWIJZIGING,
    "naamswijziging": NAAMSWIJZIGING,
    "provinciale wijziging": None,
}
# at the giver a transfer may read "opgeheven", at the receiver "ontstaan" or "grenswijziging": the end of a
# gemeente says most, then the start of one
_PRECEDENCE = (OPGEHEVEN, ONTSTAAN, NAAMSWIJZIGING, GRENSWIJZIGING)

_HEADER = re.compile(
    r"(?P<kind>[A-Z][a-z]+(?: [a-z]+)?) per (?P<day>\d\d)-(?P<month>\d\d)-(?P<year>\d{4})"
    r",?\s*(?P<side>overgegaan naar|ontvangen van|uit)?:?"
)
_PARTY = re.compile(r"-\s+(?P<name>.+) \((?P<code>GM\d{4})\),?")
_RENAME = re.compile(r"(?P<side>oude|nieuwe) naam:\s*(?P<name>.+) \((?P<code>GM\d{4})\),?")
_FIGURES = re.compile(
    r"\.\.\.\s*(?:(?P<hectare>\d+(?:,\d+)?) hectare)?(?: met)?\s*(?:(?P<woningen>\d+) woning(?:en)?)?"
    r"(?: en)?\s*(?:(?P<inwoners>\d+) inwoners?)?"
)
# what the texts tell besides transfers: a date of birth, a change of province, and prose on the register that
# held persons without a fixed address until 1994
_NO_TRANSFER = re.compile(r"Begindatum .*|- overgegaan van provincie .*|\.|Register waarin .*|Het centraal .*|Sinds .*")


@dataclass(frozen=True)
class Region:
    """A region code of CBS with its name and the text of its history."""

    code: str
    name: str
    description: str


@dataclass(frozen=True)
class Transfer:
    """Territory and inhabitants that went from one gemeente to another, as one of them tells it.

    `van_code` or `naar_code` is None where a gemeente ended or began without another; the figures are None where
    CBS gives none (a change of name). `hectare` is rounded to whole hectares.
    """

    datum: date
    soort: str
    van_code: str | None
    van_naam: str | None
    naar_code: str | None
    naar_naam: str | None
    hectare: int | None = None
    woningen: int | None = None
    inwoners: int | None = None
    told_by: str = ""

    @property
    def key(self) -> tuple[date, str, str]:
        """What makes two accounts one transfer."""
        return self.datum, self.van_code or "", self.naar_code or ""

    @property
    def figures(self) -> tuple[int | None, int | None, int | None]:
        """Hectares, dwellings, inhabitants."""
        return self.hectare, self.woningen, self.inwoners


@dataclass(frozen=True)
class Mergers:
    """All transfers, once each, and what is odd about their accounts.

    Attributes:
        transfers: by date, giver and receiver.
        unread: (region code, line) of text that fits no known form; empty unless CBS writes something new.
        one_sided: transfers that only one of two known gemeenten tells.
        unequal: pairs of accounts of one transfer that differ in their figures, the giver's first.
    """

    transfers: list[Transfer]
    unread: list[tuple[str, str]]
    one_sided: list[Transfer]
    unequal: list[tuple[Transfer, Transfer]]

    def table(self) -> pa.Table:
        """The transfers as an Arrow table with `SCHEMA`."""
        return pa.table({name: [getattr(t, name) for t in self.transfers] for name in SCHEMA.names}, schema=SCHEMA)


def read_history(region: Region) -> tuple[list[Transfer], list[str]]:
    """What one gemeente's text tells: its transfers as this gemeente counts them, and lines that fit no form."""
    transfers: list[Transfer] = []
    unread: list[str] = []
    datum, soort, giving, open_party = date.min, "", False, False
    for line in filter(None, (part.strip() for part in region.description.splitlines())):
        if header := _HEADER.fullmatch(line):
            kind, day = header["kind"].lower(), _date(header)
            if kind not in _KINDS or day is None:
                unread.append(line)
            datum, soort = day or date.min, (_KINDS.get(kind) or "") if day else ""
            giving = header["side"] == "overgegaan naar" or soort == OPGEHEVEN
            open_party = False
            if soort == OPGEHEVEN and header["side"] is None:
                transfers.append(Transfer(datum, soort, region.code, region.name, None, None, told_by=region.code))
        elif rename := _RENAME.fullmatch(line):
            transfers.append(_between(region, rename, datum, NAAMSWIJZIGING, giving=rename["side"] == "nieuwe"))
            open_party = False
        elif soort and (party := _PARTY.fullmatch(line)):
            transfers.append(_between(region, party, datum, soort, giving=giving))
            open_party = True
        elif open_party and (figures := _FIGURES.fullmatch(line)) and any(figures.groups()):
            transfers[-1] = replace(
                transfers[-1],
                hectare=_whole(figures["hectare"]),
                woningen=_whole(figures["woningen"]),
                inwoners=_whole(figures["inwoners"]),
            )
            open_party = False
        elif not _NO_TRANSFER.fullmatch(line):
            unread.append(line)
    return transfers, unread


def _between(region: Region, other: re.Match[str], datum: date, soort: str, *, giving: bool) -> Transfer:
    here, there = (region.code, region.name), (other["code"], other["name"])
    (van_code, van_naam), (naar_code, naar_naam) = (here, there) if giving else (there, here)
    return Transfer(datum, soort, van_code, van_naam, naar_code, naar_naam, told_by=region.code)


def _date(header: re.Match[str]) -> date | None:
    try:
        return date(int(header["year"]), int(header["month"]), int(header["day"]))
    except ValueError:
        return None


def _whole(number: str | None) -> int | None:
    return None if number is None else round(float(number.replace(",", ".")))


def read_mergers(regions: Iterable[Region]) -> Mergers:
    """Every transfer between gemeenten once, from the histories of all of them.

    Both gemeenten may tell of one transfer: the giver's figures are kept, the receiver's where the giver is
    silent; names are those of the region codes where known (a history writes the name of its day).
    """
    known = {region.code: region for region in regions if region.code.startswith("GM")}
    accounts: list[Transfer] = []
    unread: list[tuple[str, str]] = []
    for region in known.values():
        told, odd = read_history(region)
        accounts += told
        unread += [(region.code, line) for line in odd]
    merged = list(_merge(accounts, set(known)))
    return Mergers(
        transfers=[transfer for transfer, _, _ in merged],
        unread=unread,
        one_sided=[transfer for transfer, lone, _ in merged if lone],
        unequal=[pair for _, _, pairs in merged for pair in pairs],
    )


_Merged = tuple[Transfer, bool, list[tuple[Transfer, Transfer]]]


def _merge(accounts: list[Transfer], known: set[str]) -> Iterator[_Merged]:
    """One transfer per key, whether one known side is silent, and the accounts whose figures differ."""

    def order(account: Transfer) -> tuple[tuple[date, str, str], bool]:
        return account.key, account.told_by != account.van_code

    for (datum, van, naar), same in groupby(sorted(accounts, key=order), key=lambda a: a.key):
        told = list(same)
        soort = min((t.soort for t in told), key=_PRECEDENCE.index)
        figures = next((t for t in told if t.figures != (None, None, None)), told[0])
        sides = {t.told_by for t in told}
        unequal = [(told[0], other) for other in told[1:] if other.figures != told[0].figures]
        name = {side: next((t for t in told if t.told_by == side), told[0]) for side in (van, naar)}
        merged = replace(figures, soort=soort, van_naam=name[van].van_naam, naar_naam=name[naar].naar_naam)
        yield replace(merged, datum=datum), len(sides & known) < len({van, naar} & known), unequal


def build(connection: duckdb.DuckDBPyConnection, found: Mergers, herkomst: str) -> int:
    """Make `raw_cbs.herindelingen`; return its number of rows."""
    connection.register("transfers", found.table())
    try:
        query = f"SELECT *, {literal(herkomst)} AS herkomst FROM transfers ORDER BY datum, van_code, naar_code"
        return replace_table(connection, HERINDELINGEN, query)
    finally:
        connection.unregister("transfers")
