"""What the vault holds: the register of deliveries, accepted rows per delivery kind, and the quarantine.

Belongs here: the tables of the encrypted vault and the questions asked of them. Every function takes a connection
with the vault attached (`datafabriek.warehouse.vault`); nothing here commits by itself.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.deliveries.delivered import LINE, DeliveryError
from datafabriek.config import Delivery, Settings
from datafabriek.errors import DISK_FULL, FactoryError, is_disk_full
from datafabriek.ledger import Ledger
from datafabriek.warehouse import VAULT, quoted
from quality.contracts.model import Contract
from quality.privacy.approvals import FILE, ApprovalError, versions

if TYPE_CHECKING:
    import duckdb
    import polars as pl

DELIVERY = "_levering"
"""Column with the id of the delivery that a row came in."""

NAMES_ONE = ("direct_identificerend", "administratief_nummer")
"""Privacy classes of columns whose values name one person or thing."""

RECEIVED, REFUSED, REPEATED, EXPIRED = "ontvangen", "geweigerd", "herhaald", "verlopen"
"""`EXPIRED`: once received, its rows and original removed when the retention term had passed."""

_TABLES = f"""
CREATE SCHEMA IF NOT EXISTS {VAULT}.beheer;
CREATE SCHEMA IF NOT EXISTS {VAULT}.aanvoer;
CREATE SCHEMA IF NOT EXISTS {VAULT}.quarantaine;
CREATE TABLE IF NOT EXISTS {VAULT}.beheer.leveringen (
    levering_id VARCHAR, levering VARCHAR, contract VARCHAR, contract_versie VARCHAR, periode VARCHAR,
    vingerafdruk VARCHAR, bestand VARCHAR, status VARCHAR, geleverd BIGINT, geaccepteerd BIGINT, geweigerd BIGINT,
    hersteld BIGINT, buurt_onbekend BIGINT, ontvangen_op TIMESTAMP, geaccepteerd_op TIMESTAMP, reden VARCHAR,
    bevindingen VARCHAR
);
CREATE TABLE IF NOT EXISTS {VAULT}.beheer.rollen (vingerafdruk VARCHAR, gezien_op TIMESTAMP);
"""


@dataclass(frozen=True)
class Entry:
    """One delivery as the register has it. `reason` says why it was refused; `findings` are counts and shapes."""

    levering_id: str
    levering: str
    contract: str
    contract_versie: str
    periode: str
    vingerafdruk: str
    bestand: str
    status: str
    geleverd: int
    geaccepteerd: int
    geweigerd: int
    hersteld: int
    buurt_onbekend: int | None
    ontvangen_op: datetime
    geaccepteerd_op: datetime | None
    reden: str | None = None
    bevindingen: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def masked(what: str) -> Iterator[None]:
    """Let out no message but our own: an engine's, Python's or the system's may quote a value or the name of a file.

    Raises:
        DeliveryError: names the work, the kind of failure and where in the code it was, nothing else.
    """
    try:
        yield
    except FactoryError:
        raise
    except Exception as error:  # noqa: BLE001
        kind = type(error).__name__
        if is_disk_full(error):
            told = f"{what}: {DISK_FULL}"
        elif _OUT_OF_MEMORY.search(f"{kind} {error}"):
            told = f"{what}: out of memory: raise `resources.memory_limit` in factory.yaml"
        else:
            kind = (isinstance(error, OSError) and error.strerror) or kind
            place = traceback.extract_tb(error.__traceback__)[-1]
            told = (
                f"{what} failed ({kind}, {Path(place.filename).name} line {place.lineno}); what was there before is "
                "unchanged. The message itself is kept back because it may hold personal values"
            )
        raise DeliveryError(told) from None


_OUT_OF_MEMORY = re.compile(r"Out of ?Memory|MemoryError|could not allocate|failed to (pin|allocate)", re.IGNORECASE)


def prepare(con: duckdb.DuckDBPyConnection) -> None:
    """Make the vault's own tables where they are missing."""
    con.execute(_TABLES)


def hold_roles(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Hold who may approve to what the vault saw of it last, and note what holds now.

    Whoever replaces rollen.yaml and the ledger's note of it together cannot replace this without the vault's key.

    Raises:
        ApprovalError: by the ledger that version never was.
    """
    if settings.sample:
        return
    known = [version.print for version in versions(Ledger(settings.paths.ledger))]
    seen = con.execute(f"SELECT * FROM {VAULT}.beheer.rollen ORDER BY gezien_op DESC LIMIT 1").fetchone()
    if seen is not None and seen[0] not in known:
        raise ApprovalError(
            f"the ledger does not know the version of {FILE} ({seen[0][:16]}) that the vault saw on "
            f"{seen[1]:%Y-%m-%d}: restore the newest backup of the ledger, or put that version back where the ledger "
            "is lost; what came in since stays in the inbox"
        )
    if known and (seen is None or seen[0] != known[-1]):
        now = datetime.now(UTC).replace(tzinfo=None)
        con.execute(f"INSERT INTO {VAULT}.beheer.rollen VALUES (?, ?)", [known[-1], now])


def table(name: str) -> str:
    """Accepted rows of a delivery, in the vault."""
    return f"{VAULT}.aanvoer.{quoted(name)}"


def quarantine(name: str) -> str:
    """Refused rows of a delivery, in the vault."""
    return f"{VAULT}.quarantaine.{quoted(name)}"


def prepare_delivery(con: duckdb.DuckDBPyConnection, name: str, contract: Contract) -> None:
    """Make the tables of one delivery; columns that a new contract version brings are added."""
    # a number that few rows share compresses badly, and trying takes longer than writing it as it is
    keys = [contract[name] for name in contract.key]
    rare = {key.name for key in keys if key.type == "string" and key.privacy in NAMES_ONE}
    columns = ", ".join(
        f"{quoted(column.name)} {column.sql_type}{' USING COMPRESSION uncompressed' if column.name in rare else ''}"
        for column in contract.columns
    )
    con.execute(f"CREATE TABLE IF NOT EXISTS {table(name)} ({columns}, {LINE} BIGINT, {DELIVERY} VARCHAR)")
    query = (
        "SELECT column_name FROM duckdb_columns() WHERE (database_name, schema_name, table_name) = (?, 'aanvoer', ?)"
    )
    there = {row[0] for row in con.execute(query, [VAULT, name]).fetchall()}
    for column in contract.columns:
        if column.name not in there:
            con.execute(f"ALTER TABLE {table(name)} ADD COLUMN {quoted(column.name)} {column.sql_type}")
    con.execute(
        f"CREATE TABLE IF NOT EXISTS {quarantine(name)} "
        f"({LINE} BIGINT, regels VARCHAR[], record VARCHAR, {DELIVERY} VARCHAR)"
    )


def add_rows(con: duckdb.DuckDBPyConnection, target: str, rows: pl.DataFrame, delivery_id: str) -> None:
    """Append rows of one delivery, matched by column name."""
    import polars as pl

    if not len(rows):
        return
    # found by its name: a view of it, as `register` makes, would hold every piece in memory until the commit
    _rows = rows.to_arrow(compat_level=pl.CompatLevel.newest())
    con.execute(f"INSERT INTO {target} BY NAME SELECT *, ? AS {DELIVERY} FROM _rows", [delivery_id])


def enter(con: duckdb.DuckDBPyConnection, entry: Entry) -> None:
    """Write a delivery in the register; an earlier judgement of the same file for the same delivery is replaced."""
    con.execute(f"DELETE FROM {VAULT}.beheer.leveringen WHERE levering_id = ?", [entry.levering_id])
    values = [*list(vars(entry).values())[:-1], json.dumps(entry.bevindingen, ensure_ascii=False)]
    marks = ", ".join("?" for _ in values)
    con.execute(f"INSERT INTO {VAULT}.beheer.leveringen VALUES ({marks})", values)


def remove(con: duckdb.DuckDBPyConnection, entry: Entry) -> None:
    """Take a delivery's line and rows out, so that another judgement of it may take their place."""
    con.execute(f"DELETE FROM {VAULT}.beheer.leveringen WHERE levering_id = ?", [entry.levering_id])
    for where in (table(entry.levering), quarantine(entry.levering)):
        con.execute(f"DELETE FROM {where} WHERE {DELIVERY} = ?", [entry.levering_id])


def place(con: duckdb.DuckDBPyConnection, delivery_id: str, unknown_buurt: int | None) -> None:
    """Note how many accepted rows of a delivery have no buurt by the address files there are now."""
    query = f"UPDATE {VAULT}.beheer.leveringen SET buurt_onbekend = ? WHERE levering_id = ?"
    con.execute(query, [unknown_buurt, delivery_id])


def rename(con: duckdb.DuckDBPyConnection, delivery_id: str, file: str) -> None:
    """Give the file that a delivery came in another name: the one it had named a person who was erased."""
    con.execute(f"UPDATE {VAULT}.beheer.leveringen SET bestand = ? WHERE levering_id = ?", [file, delivery_id])


def entries(con: duckdb.DuckDBPyConnection, name: str | None = None) -> list[Entry]:
    """All deliveries in the register, in order of arrival."""
    where, values = ("WHERE levering = ?", [name]) if name else ("", [])
    query = f"SELECT * FROM {VAULT}.beheer.leveringen {where} ORDER BY ontvangen_op, levering_id"
    rows = con.execute(query, values).fetchall()
    names = list(Entry.__dataclass_fields__)
    return [Entry(**{**dict(zip(names, row, strict=True)), "bevindingen": json.loads(row[-1])}) for row in rows]


def holds_refused(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a delivery has a quarantine at all."""
    exists = "SELECT 1 FROM duckdb_tables() WHERE (database_name, schema_name, table_name) = (?, 'quarantaine', ?)"
    return con.execute(exists, [VAULT, name]).fetchone() is not None


def holds(con: duckdb.DuckDBPyConnection, name: str, delivery_id: str) -> bool:
    """Whether any row of a delivery, accepted or refused, stands in the vault."""
    exists = "SELECT schema_name FROM duckdb_tables() WHERE (database_name, table_name) = (?, ?)"
    places = {"aanvoer": table(name), "quarantaine": quarantine(name)}
    found = [places[row[0]] for row in con.execute(exists, [VAULT, name]).fetchall() if row[0] in places]
    return any(con.execute(f"FROM {place} WHERE {DELIVERY} = ? LIMIT 1", [delivery_id]).fetchone() for place in found)


def refused_rows(
    con: duckdb.DuckDBPyConnection, name: str, period: str | None, limit: int
) -> list[tuple[str, int, list[str], str]]:
    """Refused rows of a delivery as they were delivered, newest delivery first: period, line, rules broken, record."""
    exists = "SELECT 1 FROM duckdb_tables() WHERE (database_name, schema_name, table_name) = (?, 'quarantaine', ?)"
    if con.execute(exists, [VAULT, name]).fetchone() is None:
        return []
    query = f"""SELECT l.periode, q.{LINE}, q.regels, q.record
        FROM {quarantine(name)} q JOIN {VAULT}.beheer.leveringen l ON q.{DELIVERY} = l.levering_id
        WHERE ? IS NULL OR l.periode = ? ORDER BY l.ontvangen_op DESC, q.{LINE} LIMIT ?"""
    return con.execute(query, [period, period, limit]).fetchall()


def current(found: Sequence[Entry], contract: Contract) -> list[Entry]:
    """The deliveries that count, by the contract's correction rule.

    `vervangt_alles`: the newest period, and of that the latest to arrive. `vervangt_periode`: per period the latest
    to arrive. `toevoegen`, `per_record`: all. Deliveries that have expired since are among them: what replaced what
    stays so.
    """
    accepted = [entry for entry in found if entry.status in (RECEIVED, EXPIRED)]
    if contract.correction in ("toevoegen", "per_record"):
        return accepted
    per_period = {entry.periode: entry for entry in accepted}  # later arrivals overwrite
    latest = [per_period[period] for period in sorted(per_period)]
    return latest[-1:] if contract.correction == "vervangt_alles" else latest


def due(contract: Contract, period: str) -> date:
    """The last day on which a delivery over a period comes in time: its end and the promised term."""
    return contract.period.end(period) + timedelta(days=contract.promised_days or 0)


def expected(contract: Contract, delivery: Delivery, today: datetime | None = None) -> list[str]:
    """Periods for which a delivery should be in by now: from `expected_from`, as far as the promised term has passed.

    Empty where the factory expects none in particular.
    """
    if delivery.expected_from is None or contract.period.kind == "dag":
        return []
    now = (today or datetime.now(UTC)).date()
    step = {"maand": 1, "halfjaar": 6, "jaar": 12}[contract.period.kind]
    begin = delivery.expected_from.replace("-H1", "-01").replace("-H2", "-07")
    year, month = int(begin[:4]), int((begin + "-01")[5:7])
    found: list[str] = []
    while True:
        period = {1: f"{year}-{month:02}", 6: f"{year}-H{1 + month // 7}", 12: f"{year}"}[step]
        if delivery.expected_until is not None and period > delivery.expected_until:
            return found
        if now <= due(contract, period):
            return found
        found.append(period)
        year, month = (year + (month + step - 1) // 12, (month + step - 1) % 12 + 1)
