"""From tables of purposes to the tables of a registered linkage: the columns it lists, under pseudonyms of its own.

A purpose's pseudonym of one block is turned back and made anew under the key of the linkage (no identifier is needed,
and none is written), so that a person has one pseudonym in all tables of that linkage and no table holds two kinds of
them. Rows that do not differ in what is listed are one row; the order is that of the new pseudonyms. See docs/adr/006.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import duckdb
import pyarrow as pa

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.derived import (
    STATE_SCHEMA,
    Made,
    RawTable,
    derived_before,
    describe,
    fingerprint,
    hold_to_k,
    key_version,
    measured,
    replaced,
)
from assets.deliveries.register import masked
from datafabriek.config import Settings
from datafabriek.warehouse import quoted, warehouse
from quality.contracts.model import Derived, load
from quality.privacy.keys import MasterKey
from quality.privacy.linkages import FILE, LINKED, Linkage, LinkedTable, load_linkages
from quality.privacy.policy import PolicyError, load_policy
from quality.privacy.processing_log import Processing, record
from quality.privacy.pseudonyms import KINDS, is_one_block, recode, uuids

VERSION = 1
"""Raised with every change of this module that changes a table, so that all are made anew."""

_BATCH = 200_000


def link(settings: Settings, key: MasterKey, wanted: LinkedTable) -> RawTable:
    """Make one table of a linkage anew where anything it follows from has changed, and log the processing.

    Args:
        settings: the factory.
        key: the master key.
        wanted: which table, as the register of linkages had it when it was asked for.

    Returns:
        The table, in `koppeling_<naam>`.

    Raises:
        PolicyError: the linkage is not registered, approved or in force (any more), asks for what a purpose does not
            have, or has a group smaller than its k.
        DeliveryError: the purpose's table is not there, or a pseudonym cannot be turned into another.
    """
    linkage = next((each for each in load_linkages(settings) if each.naam == wanted.linkage), None)
    if linkage is None or wanted not in linkage.tables:
        raise PolicyError(f"{wanted.schema}.{wanted.name}: {FILE} registers no such table of a linkage (any more)")
    if not linkage.in_force():
        raise PolicyError(f"linkage {linkage.naam} holds from {linkage.van} to {linkage.tot}, and not today")
    columns = {table: _columns(settings, linkage, table) for table in linkage.tables}
    _refuse_without_common_kind(linkage, columns.values())
    with masked(f"{wanted.schema}.{wanted.name}"), warehouse(settings.paths, settings.resources) as con:
        result = _linked(con, key, linkage, wanted, columns[wanted])
    done = Processing.of_linkage(linkage, wanted, columns[wanted], result.rows, renewed=result.renewed)
    record(settings, done)
    return result


def withdrawn(con: duckdb.DuckDBPyConnection, linkages: Collection[Linkage]) -> list[RawTable]:
    """Drop every table of a linkage that no registered linkage in force asks for; what was dropped.

    What models made of them goes with `retention.drop_persons_between`; old blocks stay until the file is rewritten.
    """
    asked = {(table.schema, table.name) for linkage in linkages if linkage.in_force() for table in linkage.tables}
    there = con.execute(
        "SELECT schema_name, table_name, estimated_size FROM duckdb_tables() WHERE starts_with(schema_name, ?)",
        [LINKED],
    ).fetchall()
    gone = [RawTable(schema, name, int(rows), None, None, renewed=False) for schema, name, rows in there]
    gone = [table for table in gone if (table.schema, table.name) not in asked]
    for table in gone:
        con.execute(f"DROP TABLE {quoted(table.schema)}.{quoted(table.name)}")
    return gone


def _columns(settings: Settings, linkage: Linkage, table: LinkedTable) -> tuple[Derived, ...]:
    """What the contract says of the columns that a table of a linkage takes.

    Raises:
        PolicyError: the purpose may not use the delivery, has no such column, or no pseudonym is among them.
    """
    where = f"linkage {linkage.naam}, {table.purpose}.{table.delivery}"
    if table.delivery not in settings.deliveries:
        raise PolicyError(f"{where}: factory.yaml names no delivery {table.delivery}")
    load_policy(settings).purpose(table.purpose, table.delivery)
    contract = load(settings.deliveries[table.delivery].contract or table.delivery, settings.contract_folders)
    purpose = contract.purposes.get(table.purpose)
    known = {column.name: column for column in purpose.columns} if purpose else {}
    if unknown := [name for name in table.columns if name not in known]:
        raise PolicyError(f"{where}: the purpose has no column {', '.join(unknown)} (it has: {', '.join(known)})")
    found = tuple(known[name] for name in table.columns)
    if not any(column.derivation == "pseudoniem" for column in found):
        raise PolicyError(f"{where}: no pseudonym is among its columns, so that nothing could be linked")
    return found


def _refuse_without_common_kind(linkage: Linkage, tables: Collection[Sequence[Derived]]) -> None:
    kinds = [{column.kind for column in columns if column.derivation == "pseudoniem"} for columns in tables]
    if not set.intersection(*kinds):
        raise PolicyError(
            f"linkage {linkage.naam}: no kind of pseudonym (bsn, kvknummer, …) stands in all of its tables: list one"
        )


def _linked(
    con: duckdb.DuckDBPyConnection, key: MasterKey, linkage: Linkage, table: LinkedTable, columns: Sequence[Derived]
) -> RawTable:
    what, source = f"{table.schema}.{table.name}", f"raw_{table.purpose}.{table.delivery}"
    row = None
    if con.execute(_EXISTS, [STATE_SCHEMA, "afleiding"]).fetchone():
        query = f"SELECT staat, gemaakt_op::VARCHAR FROM {STATE_SCHEMA}.afleiding WHERE tabel = ?"
        row = con.execute(query, [source]).fetchone()
    if row is None or not con.execute(_EXISTS, source.split(".")).fetchone():
        raise DeliveryError(f"{what}: {source} is not there to take it from")
    before = key_version(con, source)
    form = fingerprint([VERSION, table.schema, table.columns, key.id, linkage.sleutelversie])
    made = Made(fingerprint([form, *row]), form, linkage.sleutelversie)
    known = derived_before(con, what, made.state)
    if known is not None:
        hold_to_k(known, linkage.k)  # it may have been settled since
        return known
    old, new = key.purpose(table.purpose, before or 1), key.linkage(linkage.naam, linkage.sleutelversie)
    listed = ", ".join(quoted(column.name) for column in columns)
    origin = con.cursor()
    try:
        reader = origin.execute(f"SELECT {listed}, herkomst FROM {_quoted(source)}").to_arrow_reader(_BATCH)
        turned = _Turned(reader, columns, old, new)
        named = (table.schema, table.name)
        return replaced(con, named, made, linkage.k, lambda full: _fill(con, full, linkage, table, columns, turned))
    finally:
        origin.close()


class _Turned:
    """Rows of a purpose with pseudonyms under another key, a batch at a time; `failed` names a column that resisted."""

    def __init__(self, reader: pa.RecordBatchReader, columns: Sequence[Derived], old: bytes, new: bytes) -> None:
        self._reader, self._old, self._new = reader, old, new
        self._kinds = {column.name: KINDS[column.kind or ""] for column in columns if column.derivation == "pseudoniem"}
        self.failed: str | None = None

    def reader(self) -> pa.RecordBatchReader:
        """As a stream of Arrow."""
        schema = pa.schema([(f.name, pa.uuid() if f.name in self._kinds else f.type) for f in self._reader.schema])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            arrays = [
                self._turned(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def refuse_failed(self, linkage: Linkage) -> None:
        """Hold what was read to what can be turned.

        Raises:
            DeliveryError: a pseudonym is no single block under the purpose's key.
        """
        if self.failed:
            raise DeliveryError(
                f"linkage {linkage.naam}: column `{self.failed}` holds pseudonyms of long identifiers, or of another "
                f"key, which cannot be turned into those of a linkage: leave it out in {FILE}"
            )

    def _turned(self, name: str, column: pa.Array) -> pa.Array:
        if name not in self._kinds:
            return column
        values = uuids(column)
        if not is_one_block(values, self._kinds[name], self._old):
            self.failed = name
        return recode(values, self._old, self._new)


def _fill(
    con: duckdb.DuckDBPyConnection,
    full: str,
    linkage: Linkage,
    table: LinkedTable,
    columns: Sequence[Derived],
    turned: _Turned,
) -> RawTable:
    keyed = [column.name for column in columns if column.derivation == "pseudoniem"]
    rest = [column.name for column in columns if column.derivation != "pseudoniem"]
    con.register("_turned", turned.reader())
    order = ", ".join(map(quoted, [*keyed, *rest]))
    somebody = f"coalesce({', '.join([*map(quoted, keyed), 'NULL'])}) IS NOT NULL"
    con.execute(f"CREATE OR REPLACE TABLE {full} AS SELECT DISTINCT * FROM _turned WHERE {somebody} ORDER BY {order}")
    con.unregister("_turned")
    turned.refuse_failed(linkage)
    told = f"Koppeling {linkage.naam}: {linkage.omschrijving} Uit {table.purpose}, {table.delivery}; tot {linkage.tot}."
    own = "Pseudoniem dat alleen binnen deze koppeling geldt."
    describe(con, full, told, {each.name: own if each.name in keyed else each.description for each in columns})
    rows, smallest = measured(con, full, rest)
    return RawTable(table.schema, table.name, rows, None, smallest, renewed=True)


_EXISTS = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"


def _quoted(what: str) -> str:
    return ".".join(quoted(part) for part in what.split("."))
