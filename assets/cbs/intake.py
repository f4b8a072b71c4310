"""From what an asset wants of CBS to what it has to build from, whether or not CBS answers.

Failure is per table: one that does not come in, cannot be built or is found wrong leaves its last good version in
force. Where there is none the warehouse lacks the table, and only the models that rest on it are not made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from assets.cbs.client import CbsClient, Landed, previous
from assets.cbs.errors import BadFilterError, CbsError
from assets.cbs.freshness import note_checked
from assets.cbs.model import TableMeta
from assets.cbs.raw import SCHEMA
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import quoted, transaction, warehouse
from quality.checks.cbs import has_table, refuted
from quality.schemas.cbs import SCHEMAS

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

LOADED, STALE = "cbs_load", "stale"


@dataclass(frozen=True)
class Wanted:
    """One StatLine table that an asset builds from.

    Attributes:
        find: its id, looked up in the catalogue where need be.
        choose: the filter, from its metadata; None for all of it.
        verify: raises CbsError where the table is not the one meant.
    """

    find: Callable[[CbsClient], str]
    choose: Callable[[TableMeta], str | None] = lambda meta: None
    verify: Callable[[TableMeta], None] = lambda meta: None


@dataclass
class Taken:
    """What came in: landed tables (kept ones too) and the failures, both by the caller's key."""

    landed: dict[int, Landed] = field(default_factory=dict)
    failures: dict[int, CbsError] = field(default_factory=dict)


def take(client: CbsClient, root: Path, wanted: Mapping[int, Wanted]) -> Taken:
    """Land every wanted table; where that fails, keep the version that landed before.

    Args:
        client: an open client.
        root: the folder of all landed tables.
        wanted: tables by year (or any number that orders them).
    """
    taken = Taken()
    for key, table in wanted.items():
        table_id: str | None = None
        try:
            table_id = table.find(client)
            taken.landed[key] = _land(client, root, table_id, table)
        except CbsError as error:
            taken.failures[key] = error
            kept = previous(root / table_id) if table_id else None
            if kept is not None:
                taken.landed[key] = kept
    return taken


def _land(client: CbsClient, root: Path, table_id: str, table: Wanted) -> Landed:
    """Land one table, with the filter that its metadata call for.

    An unchanged table costs one request: the filter is then made from the metadata that landed before.
    """
    kept = previous(root / table_id)
    if kept is not None:
        table.verify(kept.meta)
        try:
            landed = client.land(table_id, root, filter=table.choose(kept.meta))
        except BadFilterError:
            landed = None  # its codes are others now
        if landed is not None and (not landed.changed or table.choose(landed.meta) == landed.filter):
            return landed
    meta = client.table(table_id)
    table.verify(meta)
    return client.land(table_id, root, filter=table.choose(meta))


@dataclass(frozen=True)
class Renewal:
    """How a raw_cbs table came out of a run.

    Attributes:
        table: its name.
        rows: rows now in the warehouse; None where it has no good version of the table.
        tables: StatLine tables behind it.
        failures: what CBS or its layout withheld, or what was found wrong; empty for a table that is up to date.
        stale_since: UTC time (ISO 8601) of the first failure since the last success; None if up to date.
    """

    table: str
    rows: int | None
    tables: tuple[Landed, ...]
    failures: tuple[str, ...]
    stale_since: str | None


Build = Callable[[duckdb.DuckDBPyConnection, Mapping[int, Landed]], int]


def renew(settings: Settings, table: str, taken: Taken, build: Build, schema: DataFrameSchema | None = None) -> Renewal:
    """Build a raw_cbs table from what came in, and write in the ledger how that went.

    What is built counts once it keeps to its schema and its blocking facts; else the last good version stays. That one
    too must hold by today's measure: a table that does not is dropped, so that no model rests on it.

    Args:
        settings: of the factory.
        table: its name in raw_cbs.
        taken: what landed, and what did not.
        build: makes the table; returns its number of rows.
        schema: what its columns must be, for a table that is not in quality.schemas.cbs.
    """
    schema = schema or SCHEMAS.get(table)
    failures = list(dict.fromkeys(str(error) for error in taken.failures.values()))
    rows: int | None = None
    with warehouse(settings.paths, settings.resources) as connection:
        if taken.landed:
            try:
                with transaction(connection):
                    rows = build(connection, taken.landed)
                    _hold(connection, settings, table, schema)
            except CbsError as error:
                failures.append(str(error))
                rows = None
            except duckdb.Error as error:
                failures.append(f"{SCHEMA}.{table} cannot be built: {type(error).__name__}: {_first_line(error)}")
                rows = None
        elif not failures:
            failures.append(f"nothing is configured to build {SCHEMA}.{table} from")
        if rows is None and has_table(connection, table):
            try:
                _hold(connection, settings, table, schema)
                rows = _count(connection, table)
            except CbsError as error:
                failures.append(f"{error}; its earlier version was dropped")
                connection.execute(f"DROP TABLE {SCHEMA}.{quoted(table)}")
    landed = tuple(taken.landed.values())
    since = _record(settings, table, rows, landed, tuple(failures))
    return Renewal(table, rows, landed, tuple(failures), since)


def _hold(
    connection: duckdb.DuckDBPyConnection, settings: Settings, table: str, schema: DataFrameSchema | None
) -> None:
    """Raises CbsError where a table is not fit to model."""
    wrong = refuted(connection, settings, table, schema) if schema else []
    if wrong:
        raise CbsError(f"{SCHEMA}.{table} is not as it must be: {', '.join(wrong)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {SCHEMA}.{quoted(table)}").fetchone()
    return int(row[0]) if row else 0


def _record(
    settings: Settings, table: str, rows: int | None, landed: tuple[Landed, ...], failures: tuple[str, ...]
) -> str | None:
    """Put in the ledger what changed, and in the home when it was looked at; return since when the table is stale."""
    ledger, subject = Ledger(settings.paths.ledger), f"{SCHEMA}.{table}"
    told = [event for event in ledger.events(subject=subject) if event.kind in (LOADED, STALE)]
    last = told[-1] if told else None
    if not failures:
        tables = {one.meta.id: {"rijen": one.rows, "gewijzigd": one.meta.observations_modified} for one in landed}
        facts: dict[str, object] = {"rijen": rows, "tabellen": tables}
        if last is None or last.kind != LOADED or last.payload != facts or any(one.changed for one in landed):
            ledger.append(LOADED, subject, facts)
        note_checked(settings.paths.checked_cbs, subject, _now())
        return None
    since = str(last.payload["sinds"]) if last is not None and last.kind == STALE else _now()
    facts = {"sinds": since, "redenen": list(failures), "rijen": rows}
    if last is None or last.payload != facts:
        ledger.append(STALE, subject, facts)
    return since


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
