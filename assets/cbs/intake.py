"""From what an asset wants of CBS to what it has to build from, whether or not CBS answers.

Failure is per StatLine table: one that does not come in leaves its last landed version in force. Only an asset that
has nothing at all to go on fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from assets.cbs.client import CbsClient, Landed, previous
from assets.cbs.errors import BadFilterError, CbsError
from assets.cbs.model import TableMeta
from assets.cbs.raw import SCHEMA, has_table
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import warehouse

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
        rows: rows now in the warehouse.
        tables: StatLine tables behind it.
        failures: what CBS or its layout withheld; empty for a table that is up to date.
        stale_since: UTC time (ISO 8601) of the first failure since the last success; None if up to date.
    """

    table: str
    rows: int
    tables: tuple[Landed, ...]
    failures: tuple[str, ...]
    stale_since: str | None


Build = Callable[[duckdb.DuckDBPyConnection, Mapping[int, Landed]], int]


def renew(settings: Settings, table: str, taken: Taken, build: Build) -> Renewal:
    """Build a raw_cbs table from what came in, and write in the ledger how that went.

    Raises:
        CbsError: nothing landed and the warehouse has no earlier version: there is nothing to go on with.
    """
    failures = list(taken.failures.values())
    with warehouse(settings.paths, settings.resources) as connection:
        if taken.landed:
            try:
                rows = build(connection, taken.landed)
            except CbsError as error:
                if not has_table(connection, table):
                    raise
                failures.append(error)
                rows = _count(connection, table)
        elif has_table(connection, table):
            rows = _count(connection, table)
        else:
            raise failures[0] if failures else CbsError(f"nothing is configured to build {SCHEMA}.{table} from")
    told = tuple(str(error) for error in failures)
    landed = tuple(taken.landed.values())
    return Renewal(table, rows, landed, told, _record(settings, table, rows, landed, told))


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {SCHEMA}.{table}").fetchone()
    return int(row[0]) if row else 0


def _record(
    settings: Settings, table: str, rows: int, landed: tuple[Landed, ...], failures: tuple[str, ...]
) -> str | None:
    """Put the outcome in the ledger; return since when the table is stale."""
    ledger, subject = Ledger(settings.paths.ledger), f"{SCHEMA}.{table}"
    if not failures:
        tables = {
            one.meta.id: {
                "rijen": one.rows,
                "gewijzigd": one.meta.observations_modified,
                "overgeslagen": not one.changed,
            }
            for one in landed
        }
        ledger.append(LOADED, subject, {"rijen": rows, "tabellen": tables})
        return None
    good = ledger.last(LOADED, subject)
    earlier = [event.at for event in ledger.events(STALE, subject) if good is None or event.seq > good.seq]
    since = earlier[0] if earlier else datetime.now(UTC).isoformat(timespec="milliseconds")
    ledger.append(STALE, subject, {"sinds": since, "redenen": list(failures), "rijen": rows})
    return since
