"""A client for any StatLine table: found by its id, landed as Parquet, loaded into DuckDB.

::

    with CbsClient(Endpoints.of(settings.cbs), Options(parallel=4)) as cbs:
        cbs.locate("03759ned")                       # Location: v4 first, then v3, then third parties' v3
        meta = cbs.table("03759ned")                 # TableMeta: dimensions, codes, measures, properties
        own = regions_filter(meta, ["GM0518"])       # assets.cbs.filters
        landed = cbs.land("03759ned", root, filter=own)
        landed.rows, landed.changed, landed.parts    # Parquet files
        observations(landed)                         # SELECT of its observations out of them
        landed.entity("codes_RegioS")                # metadata as Parquet, see assets.cbs.landing.entities
        load(landed, connection, schema="cbs")       # all of it as DuckDB tables, codes as ENUM

    previous(root / "03759ned")                      # the last good version, without a network; None if none

`land` answers an unchanged table from disk. When it raises, the version that landed before is still in force.
All errors are `CbsError`: `CbsUnreachableError` (exit code 4), `UnknownTableError` and `BadFilterError` (2),
`BadReplyError` (4), `LandingError` (1).
"""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from assets.cbs import odata3, odata4
from assets.cbs.errors import BadFilterError, BadReplyError, CbsUnreachableError, UnknownTableError
from assets.cbs.feed import REASONS, Coding, Feed, enum_of
from assets.cbs.filters import Node, check, regions_filter, unknown_codes
from assets.cbs.http import NotFoundError, Options, RefusedError, Wire, filter_blamed
from assets.cbs.landing import Landing, has_texts, landed, observations, previous, read_state
from assets.cbs.model import CatalogueEntry, Landed, Location, Progress, TableMeta
from datafabriek.locking import factory_lock
from datafabriek.warehouse import OFFLINE, literal, quoted, tuned

if TYPE_CHECKING:
    from datafabriek.config import Cbs

__all__ = [
    "CatalogueEntry",
    "CbsClient",
    "Endpoints",
    "Landed",
    "Location",
    "Options",
    "TableMeta",
    "load",
    "observations",
    "previous",
    "regions_filter",
]

log = logging.getLogger(__name__)

PER_THREAD = 500_000
"""Observations that are worth a thread of their own when a table is written."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses: v4 up to and including /odata/v1, the v3 hosts up to the host."""

    odata4: str
    odata3: str
    derden: str

    @classmethod
    def of(cls, cbs: Cbs) -> Endpoints:
        """The addresses in factory.yaml."""
        return cls(cbs.odata4_url, cbs.odata3_url, cbs.derden_url)


def options_of(cbs: Cbs) -> Options:
    """Patience and limits in factory.yaml."""
    return Options(timeout_s=cbs.timeout_s, retries=cbs.retries, parallel=cbs.max_parallel, ca_bundle=cbs.ca_bundle)


class CbsClient:
    """Reads StatLine tables; a context manager that closes its connections."""

    def __init__(self, endpoints: Endpoints, options: Options | None = None) -> None:
        self.endpoints = endpoints
        self.options = options or Options()
        self._wire = Wire(self.options)
        self._found: dict[str, tuple[Location, Mapping[str, Any]]] = {}
        self._memory: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> CbsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()
        if self._memory is not None:
            self._memory.close()

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        if self._memory is None:
            # pages are converted side by side, each by one thread: more would wait for one another, spinning
            limits: dict[str, Any] = {"memory_limit": "512MB", "threads": 1, "preserve_insertion_order": "false"}
            spill = {"temp_directory": str(Path(tempfile.gettempdir()) / f"datafabriek-cbs-{os.getpid()}")}
            self._memory = duckdb.connect(":memory:", config={**limits, **OFFLINE, **spill})
        return self._memory

    # --- where -------------------------------------------------------------------------------------------------

    def locate(self, table_id: str) -> Location:
        """Where a table is read: v4, else v3 at CBS, else v3 at third parties.

        Raises:
            UnknownTableError: no catalogue has it; names ids that differ in case or resemble it.
            CbsUnreachableError: it was not found where CBS answers, and not every host does.
        """
        return self._locate(table_id)[0]

    def _locate(self, table_id: str) -> tuple[Location, Mapping[str, Any]]:
        if table_id in self._found:
            return self._found[table_id]
        outage: CbsUnreachableError | None = None
        url = f"{self.endpoints.odata4}/CBS/{table_id}"
        try:
            found = odata4.properties(self._wire, url, table_id)
            if found is not None:
                return self._keep(Location(table_id, "v4", url), found)
        except (CbsUnreachableError, BadReplyError, RefusedError) as error:
            outage = CbsUnreachableError(str(error))
        for host, name in ((self.endpoints.odata3, "v3"), (self.endpoints.derden, "v3 of third parties")):
            try:
                found = odata3.properties(self._wire, host, table_id)
            except (CbsUnreachableError, BadReplyError) as error:
                outage = outage or CbsUnreachableError(str(error))
                continue
            if found is not None:
                why = f"v4 does not answer ({outage})" if outage else "v4 does not have it"
                note = f"table {table_id} is read over OData {name}: {why}"
                log.warning(note) if outage else log.info(note)
                return self._keep(Location(table_id, "v3", host, note, outage is not None), found)
        if outage is not None:
            raise outage
        raise UnknownTableError(f"CBS has no table {table_id}{self._suggestion(table_id)}")

    def _keep(self, location: Location, found: Mapping[str, Any]) -> tuple[Location, Mapping[str, Any]]:
        self._found[location.table_id] = (location, found)
        return location, found

    def _suggestion(self, table_id: str) -> str:
        try:
            titles = {entry.id: entry.title for entry in self.catalogue()}
        except CbsUnreachableError:
            return ": check the id on opendata.cbs.nl"
        import difflib

        same = [known for known in titles if known.lower() == table_id.lower()]
        near = same or difflib.get_close_matches(table_id, titles, n=3, cutoff=0.7)
        if not near:
            return ": look for it with `datafabriek cbs search WORD`"
        told = ", ".join(f"{known} ({titles[known]})" for known in near)
        return f"; ids are case-sensitive: did you mean {told}?" if same else f"; ids that resemble it: {told}"

    # --- what --------------------------------------------------------------------------------------------------

    def table(self, table_id: str) -> TableMeta:
        """All metadata of a table.

        Raises:
            UnknownTableError, CbsUnreachableError: as `locate`.
            BadReplyError: the metadata cannot be right.
        """
        location, found = self._locate(table_id)
        try:
            read = odata4.table if location.protocol == "v4" else odata3.table
            with _collecting_later():
                meta = read(self._wire, location, found)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadReplyError(f"the metadata of table {table_id} lacks {error}: try again later") from None
        except (NotFoundError, RefusedError) as error:
            raise BadReplyError(f"the metadata of table {table_id} is incomplete: {error}") from None
        if not meta.measures:
            raise BadReplyError(f"table {table_id} comes without measures: try again later")
        return meta

    def catalogue(self) -> list[CatalogueEntry]:
        """All tables that CBS lists: v4's, then those that only v3 has; a host that is out of reach is left out.

        Raises:
            CbsUnreachableError: no catalogue answers.
        """
        asked = [
            lambda: odata4.catalogue(self._wire, self.endpoints.odata4),
            lambda: odata3.catalogue(self._wire, self.endpoints.odata3),
            lambda: odata3.catalogue(self._wire, self.endpoints.derden),
        ]
        entries: dict[str, CatalogueEntry] = {}
        failures: list[Exception] = []
        with ThreadPoolExecutor(len(asked)) as pool:
            for future in [pool.submit(ask) for ask in asked]:
                try:
                    for entry in future.result():
                        entries.setdefault(entry.id, entry)
                except (CbsUnreachableError, BadReplyError, NotFoundError, RefusedError) as error:
                    failures.append(error)
        if len(failures) == len(asked):
            raise CbsUnreachableError(str(failures[0]))
        for failure in failures:
            log.warning("a catalogue is left out: %s", failure)
        return list(entries.values())

    def covers(self, table_id: str, region: str) -> bool:
        """Whether a table has figures coded for a region (`GM1916`)."""
        location, _ = self._locate(table_id)
        if location.protocol == "v4":
            return odata4.has_region(self._wire, location.url, region)
        return odata3.has_region(self._wire, location.url, table_id, region)

    # --- rows --------------------------------------------------------------------------------------------------

    def land(self, table_id: str, root: Path, *, filter: str | None = None, progress: Progress | None = None) -> Landed:
        """Bring a table to disk, complete and checked, or answer from disk where nothing changed.

        Args:
            table_id: the id, in CBS's own case.
            root: the folder of all landed tables; the table gets `root/<id>`.
            filter: an OData v4 filter, translated where the table is on v3.
            progress: called with observations so far and expected.

        Raises:
            CbsError: see the top of this module; what landed before is then still in force (`previous`).
            FactoryBusyError: another process is landing this table.
        """
        self._found.pop(table_id, None)  # what was found a while ago may have changed since
        location, found = self._locate(table_id)
        folder = root / table_id
        with factory_lock(root / ".locks" / table_id, f"landing of CBS table {table_id}"):
            state = read_state(folder)
            if state and location.by_outage and state.fingerprint["protocol"] == "v4":
                # v3 would bring other measure ids than the version in force
                raise CbsUnreachableError(f"{location.note}; the version of {state.landed_at} is kept")
            quick = TableMeta(location, found, (), ())
            fingerprint: dict[str, Any] = {
                "table": table_id,
                "protocol": location.protocol,
                "filter": filter,
                "modified": quick.observations_modified,
                "count": quick.observation_count,
            }
            landing = Landing(self._wire, self._connection, root, progress)
            if state and state.fingerprint == fingerprint and location.protocol == "v4":
                if state.modified == quick.modified:
                    return landed(folder, state, changed=False)
                return landing.refresh(self.table(table_id), folder, state)
            meta = self.table(table_id)
            node = check(filter, meta) if filter else None
            feed, expected = self._feed(meta, filter, node)
            if state and state.fingerprint == fingerprint and state.wire_rows == expected:
                return landed(folder, state, changed=False)
            if expected == 0 and node is not None:
                self._doubt_nothing(meta, node, filter, known=state is not None and state.rows > 0)
            return landing.load(meta, feed, fingerprint, expected, lambda: self._refuse_changed(quick))

    def _refuse_changed(self, before: TableMeta) -> None:
        """Raise BadReplyError where CBS changed a table while it was loaded: its pages are then of two versions."""
        location = before.location
        properties = odata4.properties if location.protocol == "v4" else odata3.properties
        now = TableMeta(location, properties(self._wire, location.url, location.table_id) or {}, (), ())
        if now.observations_modified != before.observations_modified:
            kept = "what landed before is still in force, and the next attempt loads the new version"
            raise BadReplyError(f"CBS changed table {location.table_id} while it was being loaded: {kept}")

    def count(self, meta: TableMeta, filter: str | None = None) -> int | None:
        """Observations under a filter (v3: wide rows); None where the server does not count."""
        return self._feed(meta, filter, check(filter, meta) if filter else None)[1]

    def _feed(self, meta: TableMeta, filter_text: str | None, node: Node | None) -> tuple[Feed, int | None]:
        """How rows are asked for, and how many there should be."""
        if meta.location.protocol == "v4":
            feed = odata4.feed(meta, filter_text)
            if filter_text is None and meta.observation_count is not None:
                return feed, meta.observation_count
            return feed, self._counted(feed)
        feed = odata3.feed(meta, node)
        expected = self._counted(feed)
        if expected == 0 and feed.filter and any(d.width for d in meta.dimensions):
            # padding differs between dimensions and rows now and then: a wrong width finds nothing
            bare = replace(meta, dimensions=tuple(replace(d, width=0) for d in meta.dimensions))
            other = odata3.feed(bare, node)
            found = self._counted(other)
            if found:
                return other, found
        return feed, expected

    def _counted(self, feed: Feed) -> int | None:
        for url in feed.count_urls:
            try:
                with filter_blamed(feed.filter):
                    text = self._wire.text(url)
            except NotFoundError:
                continue
            except RefusedError as error:
                log.info("no count: %s", error)
                continue
            if not text.isdigit():
                raise BadReplyError(f"{url} answers {text[:40]!r} where a number is due: try again later")
            return int(text)
        log.warning("%s does not count its rows: they are checked for uniqueness alone", feed.url)
        return None

    def _doubt_nothing(self, meta: TableMeta, node: Node, filter_text: str | None, *, known: bool) -> None:
        """Refuse an empty table that is more likely a mistake.

        Raises:
            BadFilterError: the filter names a code that the table does not have.
            BadReplyError: the same filter found rows before.
        """
        unknown = unknown_codes(node, meta)
        if unknown:
            raise BadFilterError(f"table {meta.id} has nothing under {filter_text!r}: {'; '.join(unknown)}")
        if known:
            raise BadReplyError(f"table {meta.id} is suddenly empty under {filter_text!r}: what landed before is kept")
        log.warning("table %s has no observations under %s", meta.id, filter_text)


def load(table: Landed, connection: duckdb.DuckDBPyConnection, schema: str = "main") -> None:
    """Load a landed table into DuckDB, replacing what is there.

    Makes `observations` (v4's columns; Measure, ValueAttribute and the dimensions as ENUM in CBS's own order),
    `measures`, `dimensions`, `properties` and `codes_<dimension>`, with comments. Some thirty statements: within one
    transaction they are much faster, and all of them happen or none.
    """
    name = quoted(schema)
    codes = {"Measure": [m.identifier for m in table.meta.measures]}
    codes |= {d.identifier: [c.identifier for c in d.codes] for d in table.meta.dimensions}
    codes["ValueAttribute"] = list(REASONS)
    target = f"{name}.observations"
    with _unordered(connection, table.rows // PER_THREAD):
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
        for entity in (
            "measures",
            "dimensions",
            "properties",
            *(f"codes_{d.identifier}" for d in table.meta.dimensions),
        ):
            source = literal(str(table.entity(entity)))
            connection.execute(
                f"CREATE OR REPLACE TABLE {name}.{quoted(entity)} AS SELECT * FROM read_parquet({source})"
            )
        codes |= _listed(table, connection, codes, [column for column, listed in codes.items() if not listed])
        rows, strange = _fill(table, connection, target, codes)
        if strange:
            rows, _ = _fill(table, connection, target, codes | _listed(table, connection, codes, strange))
        if rows != table.rows:
            raise BadReplyError(f"table {table.meta.id} loads as {rows} rows instead of {table.rows}: land it again")
        _comment(table, connection, target)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Let no garbage be looked for while thousands of codes are made, of which none is garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _unordered(connection: duckdb.DuckDBPyConnection, threads: int) -> AbstractContextManager[None]:
    """Let statements write rows as they come, with at most so many threads.

    Kept in order, rows take two threads half as much CPU again and make a larger file.
    """
    most = connection.execute("SELECT current_setting('threads')").fetchall()[0][0]
    return tuned(connection, {"threads": max(1, min(most, threads)), "preserve_insertion_order": False})


def _fill(
    table: Landed, connection: duckdb.DuckDBPyConnection, target: str, codes: Mapping[str, Sequence[str]]
) -> tuple[int, list[str]]:
    """Make the table of observations; how many rows, and in which columns some have no code or one not listed."""
    connection.execute(f"DROP TABLE IF EXISTS {target}")
    coded = {}
    for column, listed in codes.items():
        if listed:  # told once: some thousands of codes take long to be read
            coded[column] = Coding(listed, quoted(f"code of {column}"))
            connection.execute(f"CREATE OR REPLACE TEMP TYPE {coded[column].type} AS {enum_of(listed)}")
    kinds = {"Id": "BIGINT", "Measure": "VARCHAR", "ValueAttribute": "VARCHAR", "Value": "DOUBLE"}
    kinds |= {"StringValue": "VARCHAR"} | dict.fromkeys((d.identifier for d in table.meta.dimensions), "VARCHAR")
    kinds |= {column: coding.type for column, coding in coded.items()}
    stored = "*"
    if not has_texts(table, connection):  # as most tables: two million times NULL take a sixth of the time to write
        kinds["StringValue"], stored = "VARCHAR GENERATED ALWAYS AS (NULL::VARCHAR) VIRTUAL", "* EXCLUDE (StringValue)"
    columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in kinds.items())
    connection.execute(f"CREATE TABLE {target} ({columns})")
    connection.execute(f"INSERT INTO {target} BY NAME SELECT {stored} FROM ({observations(table, coded)})")
    for coding in coded.values():
        connection.execute(f"DROP TYPE {coding.type}")
    counts = ", ".join(f"count({quoted(column)})" for column in coded)
    rows, *known = connection.execute(f"SELECT count(*), {counts} FROM {target}").fetchall()[0]
    return rows, [column for column, count in zip(coded, known, strict=True) if count < rows]


def _listed(
    table: Landed, connection: duckdb.DuckDBPyConnection, codes: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> dict[str, list[str]]:
    """Codes in CBS's order, then those that occur in the rows alone."""
    found = {}
    for column in columns:
        query = (
            f"SELECT DISTINCT {quoted(column)} AS code FROM ({observations(table)}) WHERE code IS NOT NULL ORDER BY 1"
        )
        found[column] = list(dict.fromkeys((*codes[column], *(row[0] for row in connection.execute(query).fetchall()))))
    return found


def _comment(table: Landed, connection: duckdb.DuckDBPyConnection, target: str) -> None:
    told = f"{table.meta.title}. Bron: {table.meta.source.strip()} (StatLine {table.meta.id}, CC BY 4.0)"
    texts = {
        "Id": "number of the observation at CBS",
        "Measure": "measure: see table measures",
        "ValueAttribute": "why a value is missing, in CBS's words; None where it is not",
        "Value": "value, in the unit of its measure",
        "StringValue": "value of a measure that is a text",
    } | {d.identifier: f"{d.title}: see table codes_{d.identifier}" for d in table.meta.dimensions}
    connection.execute(f"COMMENT ON TABLE {target} IS {literal(told)}")
    for column, text in texts.items():
        connection.execute(f"COMMENT ON COLUMN {target}.{quoted(column)} IS {literal(text)}")
