"""A stand-in for CBS: a small HTTP server that speaks OData v4 and v3 from tables registered with it.

Belongs here: the protocol, with its quirks and (for tests) its faults. Does not belong here: any figure.

Three hosts are bound on 127.0.0.1, as with CBS: v4, v3 and v3 of third parties. ::

    store = TableStore()
    store.add(ServedTable(meta, observations))          # long observations in v4 columns (Arrow table)
    with StandIn(store) as server:
        server.odata4, server.odata3, server.derden      # the three addresses for factory.yaml

`ServedTable.observations` has the columns Id, Measure, ValueAttribute, Value, StringValue and one column for each
dimension, as v4 serves them; v3's wide rows are made from it unless `wide` gives them. Filters are evaluated on
the rows, so a slice of a table answers any filter that lies within it.
"""

from __future__ import annotations

import gzip
import json
import operator
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

import duckdb
import orjson

from assets.cbs.errors import BadFilterError
from assets.cbs.filters import Join, Node, Not, Text, parse, to_sql
from assets.cbs.model import Code, Dimension, Group, Measure, TableMeta

if TYPE_CHECKING:
    import pyarrow as pa

Host = Literal["odata4", "odata3", "derden"]

PAGE_V4 = 100_000
PAGE_V3 = 10_000
API_LIMIT = 10_000
"""ODataApi refuses a query that yields more records than this."""


@dataclass(frozen=True)
class ServedTable:
    """A table as the stand-in serves it.

    Attributes:
        meta: metadata in the shared model; `properties` are served as they are (v4 Properties, v3 TableInfos).
        observations: long rows in v4's columns; None for a table of v3 alone.
        wide: v3's typed rows (ID, padded dimension keys, topic columns); None makes them from the long rows.
        hosts: where it is served.
        catalog: the catalogue that it is listed under.
    """

    meta: TableMeta
    observations: pa.Table | None = None
    wide: pa.Table | None = None
    hosts: frozenset[Host] = frozenset({"odata4", "odata3"})
    catalog: str = "CBS"

    @property
    def id(self) -> str:
        """The table id."""
        return self.meta.id


FaultKind = Literal["reset", "error", "busy", "hang", "truncate", "duplicate", "count", "empty", "slow"]


@dataclass
class Fault:
    """A fault that the server commits.

    Attributes:
        kind: `reset` cuts the connection halfway the body, `error` answers 500, `busy` 429 with Retry-After,
            `hang` never answers, `truncate` sends half the JSON as if it were all, `duplicate` repeats the first
            page, `count` counts one too many, `empty` answers without rows, `slow` waits `seconds` first.
        match: regular expression on the unquoted path and query.
        times: how often; after that the server behaves.
        after: how many matching requests are served well first.
        seconds: Retry-After, or how long to wait.
    """

    kind: FaultKind
    match: str = "Observations|TypedDataSet"
    times: int = 1
    after: int = 0
    seconds: float = 0.0


@dataclass
class TableStore:
    """Tables to serve, in one DuckDB memory database that filters and pages them."""

    tables: dict[str, ServedTable] = field(default_factory=dict)
    _connection: duckdb.DuckDBPyConnection = field(default_factory=lambda: duckdb.connect(":memory:"))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, table: ServedTable) -> None:
        """Register a table; the same id replaces the one before."""
        with self._lock:
            name = f"long_{table.id}"
            if table.observations is not None:
                self._put(name, table.observations)
            if table.wide is not None:
                self._put(f"wide_{table.id}", table.wide)
            elif table.observations is not None and table.hosts != {"odata4"}:
                self._widen(table.meta)
            self.tables[table.id] = table

    def _put(self, name: str, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        self._connection.execute(f'CREATE OR REPLACE TABLE "{name}" AS SELECT * FROM incoming')
        self._connection.unregister("incoming")

    def _widen(self, meta: TableMeta) -> None:
        """Make v3's wide, padded rows from the long ones."""
        keys = ", ".join(f'rpad("{d.identifier}", {d.width or 1}, \' \') AS "{d.identifier}"' for d in meta.dimensions)
        group = ", ".join(f'"{d.identifier}"' for d in meta.dimensions)
        topics = ", ".join(
            f'any_value({"StringValue" if m.is_text else "Value"}) FILTER (WHERE "Measure" = {_quoted(m.identifier)}) '
            f'AS "{topic_key(m, position)}"'
            for position, m in enumerate(meta.measures, 1)
        )
        self._connection.execute(
            f'CREATE OR REPLACE TABLE "wide_{meta.id}" AS SELECT row_number() OVER (ORDER BY first_id) - 1 AS "ID", '
            f'* EXCLUDE (first_id) FROM (SELECT {keys}, {topics}, min("Id") AS first_id FROM "long_{meta.id}" '
            f"GROUP BY {group})"
        )

    def count(self, name: str, condition: str | None) -> int:
        """Rows of a stored table under an OData filter."""
        where, values = _where(condition)
        row = self._connection.cursor().execute(f'SELECT count(*) FROM "{name}"{where}', values).fetchone()
        return int(row[0]) if row else 0

    def page(self, name: str, order: str, condition: str | None, select: str | None, skip: int, top: int) -> list[str]:
        """Rows as JSON objects, in order, from `skip` on."""
        where, values = _where(condition)
        columns = ", ".join(f'"{c.strip()}"' for c in select.split(",")) if select else "*"
        rows = self._connection.cursor().execute(
            f'SELECT to_json(page) FROM (SELECT {columns} FROM (SELECT * FROM "{name}"{where} ORDER BY "{order}" '
            f"LIMIT {top} OFFSET {skip})) page",
            values,
        )
        return [row[0] for row in rows.fetchall()]


def topic_key(measure: Measure, position: int) -> str:
    """The key of a measure as a v3 topic: its own where it is one already, else its title and column number."""
    if re.search(r"[A-Za-z]\w*_\d+$", measure.identifier) and not re.match(r"[A-Z]\d{6}_\d$", measure.identifier):
        return measure.identifier
    words = re.findall(r"[A-Za-z0-9]+", measure.title)
    return "".join(word[:1].upper() + word[1:] for word in words)[:40] + f"_{position}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _where(condition: str | None) -> tuple[str, list[Any]]:
    if not condition:
        return "", []
    sql, values = to_sql(parse(condition))
    return f" WHERE {sql}", list(values)


class _NotFoundError(Exception):
    """Nothing at this address."""


class _BadRequestError(Exception):
    """A query that the server does not take; carries status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class _Reply:
    """What is sent: a JSON object with `rows` as its `value` array, or plain text."""

    envelope: dict[str, Any] = field(default_factory=dict)
    rows: list[str] | None = None
    tail: dict[str, Any] = field(default_factory=dict)
    text: str | None = None

    def body(self) -> bytes:
        if self.text is not None:
            return self.text.encode()
        if self.rows is None:
            return orjson.dumps({**self.envelope, **self.tail})
        head = orjson.dumps(self.envelope)[:-1] + (b"," if self.envelope else b"") + b'"value":['
        tail = b"," + orjson.dumps(self.tail)[1:-1] if self.tail else b""
        return head + ",".join(self.rows).encode() + b"]" + tail + b"}"


class StandIn:
    """The three hosts, serving while the `with` block lasts.

    Args:
        store: what is served.
        faults: faults to commit; the list may be changed while serving.
        page_v4: rows a page on v4.
        page_v3: rows a page on v3's feed.
    """

    def __init__(
        self,
        store: TableStore,
        faults: list[Fault] | None = None,
        page_v4: int = PAGE_V4,
        page_v3: int = PAGE_V3,
    ) -> None:
        self.store = store
        self.faults = faults if faults is not None else []
        self.page_v4 = page_v4
        self.page_v3 = page_v3
        self.requests: list[str] = []
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        hosts: tuple[Host, ...] = ("odata4", "odata3", "derden")
        self._servers = {host: _Server(host, self) for host in hosts}

    @property
    def odata4(self) -> str:
        """Address of v4, up to and including /odata/v1."""
        return self._servers["odata4"].address + "/odata/v1"

    @property
    def odata3(self) -> str:
        """Address of v3, up to the host."""
        return self._servers["odata3"].address

    @property
    def derden(self) -> str:
        """Address of v3 of third parties, up to the host."""
        return self._servers["derden"].address

    def __enter__(self) -> StandIn:
        for server in self._servers.values():
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for server in self._servers.values():
            server.stop()

    def stop(self, host: Host) -> None:
        """Take one host down, as in an outage."""
        self._servers[host].stop()

    def fault(self, target: str) -> Fault | None:
        """The fault to commit on this request, if any."""
        with self._lock:
            self.requests.append(target)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, target):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def reply(self, host: Host, path: str, query: Mapping[str, str]) -> _Reply:
        """What an address answers.

        Raises:
            _NotFoundError: nothing is served there.
            _BadRequestError: the query is refused.
        """
        parts = [part for part in path.split("/") if part]
        try:
            return self._odata4(parts, query) if host == "odata4" else self._odata3(host, parts, query)
        except (BadFilterError, duckdb.BinderException) as error:
            raise _BadRequestError(400, str(error)) from None

    # --- OData v4 -------------------------------------------------------------------------------------------

    def _odata4(self, parts: list[str], query: Mapping[str, str]) -> _Reply:
        if parts[:2] != ["odata", "v1"]:
            raise _NotFoundError
        match parts[2:]:
            case ["CBS", "Datasets"] | ["Datasets"]:
                return self._listed([_dataset(t) for t in self._on("odata4")], query, "odata4")
            case ["CBS", table_id, *entity]:
                table = self._table("odata4", table_id)
                return self._entity4(table, entity, query)
        raise _NotFoundError

    def _entity4(self, table: ServedTable, entity: list[str], query: Mapping[str, str]) -> _Reply:
        meta, base = table.meta, f"{self.odata4}/CBS/{table.id}"
        context = {"@odata.context": f"{base}/$metadata#{'/'.join(entity)}"}
        match entity:
            case []:
                names = ["Properties", "Dimensions", "MeasureGroups", "MeasureCodes", "Observations"]
                names += [f"{d.identifier}{kind}" for d in meta.dimensions for kind in ("Codes", "Groups")]
                return self._listed([{"name": n, "kind": "EntitySet", "url": n} for n in names], {}, "odata4")
            case ["Properties"]:
                return _Reply({**context, **meta.properties})
            case ["Dimensions"]:
                return self._listed([_dimension4(d, base) for d in meta.dimensions], query, "odata4")
            case ["MeasureCodes"]:
                return self._listed([_measure4(m) for m in meta.measures], query, "odata4")
            case ["MeasureGroups"]:
                return self._listed([_group4(g) for g in meta.measure_groups], query, "odata4")
            case ["Observations", "$count"]:
                return _Reply(text=str(self.store.count(f"long_{table.id}", query.get("$filter"))))
            case ["Observations"]:
                if table.observations is None:
                    raise _NotFoundError
                return self._rows(f"long_{table.id}", "Id", f"{base}/Observations", query, self.page_v4, "@odata")
            case [name]:
                for dimension in meta.dimensions:
                    if name == f"{dimension.identifier}Codes":
                        return self._listed([_code4(dimension, c) for c in dimension.codes], query, "odata4")
                    if name == f"{dimension.identifier}Groups":
                        return self._listed([_group4(g) for g in dimension.groups], query, "odata4")
        raise _NotFoundError

    # --- OData v3 -------------------------------------------------------------------------------------------

    def _odata3(self, host: Host, parts: list[str], query: Mapping[str, str]) -> _Reply:
        match [parts[0].lower(), *(part for part in parts[1:])] if parts else []:
            case ["odatacatalog", "Tables"]:
                return self._listed([_catalogue3(t) for t in self._on(host)], query, "odata3")
            case ["odatafeed" | "odataapi" as service, _, table_id, *entity]:
                table = self._table(host, table_id)
                return self._entity3(table, service, f"{self._servers[host].address}/{'/'.join(parts)}", entity, query)
        raise _NotFoundError

    def _entity3(
        self, table: ServedTable, service: str, url: str, entity: list[str], query: Mapping[str, str]
    ) -> _Reply:
        meta, name = table.meta, f"wide_{table.id}"
        names = ["TableInfos", "UntypedDataSet", "TypedDataSet", "DataProperties", "CategoryGroups"]
        match entity:
            case []:
                names += [d.identifier for d in meta.dimensions]
                return self._listed([{"name": n, "url": f"{url}/{n}"} for n in names], {}, "odata3")
            case ["TableInfos"]:
                return self._listed([dict(meta.properties)], query, "odata3")
            case ["DataProperties"]:
                return self._listed(_data_properties(meta), query, "odata3")
            case ["CategoryGroups"]:
                return self._listed(_category_groups(meta), query, "odata3")
            case ["TypedDataSet" | "UntypedDataSet", "$count"]:
                return _Reply(text=str(self.store.count(name, query.get("$filter"))))
            case ["TypedDataSet" | "UntypedDataSet"]:
                if service == "odataapi":
                    if "$skip" in query:
                        raise _BadRequestError(500, "The 'Skip' query option is not supported on the ODataApi.")
                    asked = min(int(query.get("$top", API_LIMIT + 1)), API_LIMIT + 1)
                    if min(self.store.count(name, query.get("$filter")), asked) > API_LIMIT:
                        raise _BadRequestError(500, "The query returns more than 10000 records.")
                return self._rows(name, "ID", url, query, self.page_v3, "odata")
            case [key]:
                for dimension in meta.dimensions:
                    if key == dimension.identifier:
                        return self._listed([_code3(dimension, c) for c in dimension.codes], query, "odata3")
        raise _NotFoundError

    # --- both -----------------------------------------------------------------------------------------------

    def _on(self, host: Host) -> list[ServedTable]:
        return [table for table in self.store.tables.values() if host in table.hosts]

    def _table(self, host: Host, table_id: str) -> ServedTable:
        table = self.store.tables.get(table_id)
        if table is None or host not in table.hosts:
            raise _NotFoundError
        return table

    def _rows(self, name: str, order: str, url: str, query: Mapping[str, str], size: int, prefix: str) -> _Reply:
        condition, skip = query.get("$filter"), int(query.get("$skip", 0))
        total = self.store.count(name, condition)
        wanted = min(int(query["$top"]), total - skip) if "$top" in query else total - skip
        rows = self.store.page(name, order, condition, query.get("$select"), skip, max(0, min(size, wanted)))
        envelope: dict[str, Any] = {f"{prefix}.{'context' if prefix[0] == '@' else 'metadata'}": f"{url}#rows"}
        if query.get("$count") == "true" or query.get("$inlinecount") == "allpages":
            envelope[f"{prefix}.count"] = total if prefix[0] == "@" else str(total)
        tail = {}
        if len(rows) < wanted:
            kept = {k: v for k, v in query.items() if k not in ("$skip", "$top")}
            kept["$skip"] = str(skip + len(rows))
            if "$top" in query:
                kept["$top"] = str(wanted - len(rows))
            tail = {f"{prefix}.nextLink": url + "?" + "&".join(f"{k}={_escaped(v)}" for k, v in kept.items())}
        return _Reply(envelope, rows, tail)

    def _listed(self, rows: list[dict[str, Any]], query: Mapping[str, str], host: Host) -> _Reply:
        """A small entity set: filtered, selected and cut in Python."""
        if query.get("$filter"):
            rows = [row for row in rows if _holds(parse(query["$filter"]), row)]
        rows = rows[int(query.get("$skip", 0)) :]
        if "$top" in query:
            rows = rows[: int(query["$top"])]
        if query.get("$select"):
            wanted = [name.strip() for name in query["$select"].split(",")]
            rows = [{name: row.get(name) for name in wanted} for row in rows]
        prefix = "@odata.context" if host == "odata4" else "odata.metadata"
        return _Reply({prefix: "#rows"}, [orjson.dumps(row).decode() for row in rows])


def _escaped(text: str) -> str:
    return quote(text, safe="(),'$")


def _holds(node: Node, row: Mapping[str, Any]) -> bool:
    """Whether a filter holds for one row of a small entity set."""
    if isinstance(node, Join):
        return (all if node.word == "and" else any)(_holds(part, row) for part in node.parts)
    if isinstance(node, Not):
        return not _holds(node.part, row)
    value = row.get(node.field)
    if isinstance(node, Text):
        tests: dict[str, Callable[[str, str], bool]] = {
            "contains": lambda text, part: part in text,
            "startswith": str.startswith,
            "endswith": str.endswith,
        }
        return isinstance(value, str) and tests[node.function](value, node.value)
    if value is None or node.value is None:
        return (value is node.value) == (node.op == "eq")
    return bool(getattr(operator, node.op)(value, node.value))


# --- how v4 and v3 write the shared model ----------------------------------------------------------------------


def _dataset(table: ServedTable) -> dict[str, Any]:
    properties = table.meta.properties
    row = {name: properties.get(name) for name in ("Description", "Language", "Title", "Modified", "Status")}
    return {"Identifier": table.id, **row, "DatasetType": properties.get("DatasetType", "Numeric")}


def _dimension4(dimension: Dimension, base: str) -> dict[str, Any]:
    row: dict[str, Any] = {} if dimension.kind == "Dimension" else {"@odata.type": f"#Cbs.Ccb.Models.{dimension.kind}"}
    groups = bool(dimension.groups)
    return row | {
        "Identifier": dimension.identifier,
        "Title": dimension.title,
        "Description": dimension.description,
        "MapYear": dimension.map_year,
        "ReleasePolicy": None,
        "Kind": dimension.kind,
        "ContainsGroups": groups,
        "ContainsCodes": True,
        "CodesUrl": f"{base}/{dimension.identifier}Codes",
        "GroupsUrl": f"{base}/{dimension.identifier}Groups" if groups else None,
    }


def _measure4(measure: Measure) -> dict[str, Any]:
    return {
        "Identifier": measure.identifier,
        "Index": measure.index,
        "Title": measure.title,
        "Description": measure.description,
        "MeasureGroupId": measure.group_id,
        "DataType": measure.data_type,
        "Unit": measure.unit,
        "Decimals": measure.decimals,
        "PresentationType": measure.presentation,
    }


def _group4(group: Group) -> dict[str, Any]:
    return {
        "Id": group.id,
        "Index": group.index,
        "Title": group.title,
        "Description": group.description,
        "ParentId": group.parent,
    }


def _code4(dimension: Dimension, code: Code) -> dict[str, Any]:
    row: dict[str, Any] = {
        "Identifier": code.identifier,
        "Index": code.index,
        "Title": code.title,
        "Description": code.description,
        "DimensionGroupId": code.group_id,
    }
    if dimension.is_time:
        row["Status"] = code.status
    if dimension.kind == "GeoDetail":
        row["DetailRegionCode"] = code.detail_region
    return row


def _catalogue3(table: ServedTable) -> dict[str, Any]:
    properties = table.meta.properties
    return {
        "Updated": properties.get("Modified"),
        "Identifier": table.id,
        "Title": properties.get("Title"),
        "ShortTitle": properties.get("ShortTitle") or properties.get("Title"),
        "Summary": properties.get("Summary") or "",
        "Modified": properties.get("Modified"),
        "OutputStatus": properties.get("OutputStatus", "Regulier"),
        "Catalog": table.catalog,
        "Frequency": properties.get("Frequency"),
    }


def _data_properties(meta: TableMeta) -> list[dict[str, Any]]:
    """Dimensions, headings and topics in one list with numbers of its own, as v3 tells them."""
    blank: dict[str, Any] = dict.fromkeys(
        ("ID", "Position", "ParentID", "Type", "Key", "Title", "Description", "Datatype", "Unit", "Decimals", "Default")
    )
    rows: list[dict[str, Any]] = []
    for dimension in meta.dimensions:
        row = {"odata.type": f"Cbs.OData.{dimension.kind}", **blank, "ID": len(rows), "Position": len(rows)}
        row |= {"Type": dimension.kind, "Key": dimension.identifier, "Title": dimension.title}
        rows.append(row | {"Description": dimension.description, "MapYear": dimension.map_year})
    number: dict[str | None, int | None] = {None: None}
    for group in meta.measure_groups:
        number[group.id] = len(rows)
        row = {"odata.type": "Cbs.OData.TopicGroup", **blank, "ID": len(rows), "Type": "TopicGroup", "Key": ""}
        parent = number.get(group.parent)
        rows.append(row | {"ParentID": parent, "Title": group.title, "Description": group.description})
    for position, measure in enumerate(meta.measures, 1):
        row = {"odata.type": "Cbs.OData.Topic", **blank, "ID": len(rows), "Position": position, "Type": "Topic"}
        row |= {"ParentID": number.get(measure.group_id), "Key": topic_key(measure, position), "Title": measure.title}
        row |= {"Description": measure.description, "Datatype": measure.data_type, "Unit": measure.unit}
        rows.append(row | {"Decimals": measure.decimals, "Default": measure.default or "Impossible"})
    return rows


def _category_groups(meta: TableMeta) -> list[dict[str, Any]]:
    numbers = {(d.identifier, g.id): n for n, (d, g) in enumerate((d, g) for d in meta.dimensions for g in d.groups)}
    return [
        {
            "ID": numbers[dimension.identifier, group.id],
            "DimensionKey": dimension.identifier,
            "Title": group.title,
            "Description": group.description or None,
            "ParentID": numbers.get((dimension.identifier, group.parent or "")),
        }
        for dimension in meta.dimensions
        for group in dimension.groups
    ]


def _code3(dimension: Dimension, code: Code) -> dict[str, Any]:
    row: dict[str, Any] = {"Key": code.identifier.ljust(dimension.width), "Title": code.title}
    row["Description"] = code.description or None
    if dimension.is_time:
        row["Status"] = code.status
    if dimension.kind == "GeoDetail":
        return row | {"Municipality": code.group_id or "", "DetailRegionCode": code.detail_region or ""}
    groups = [group.id for group in dimension.groups]
    return row | {"CategoryGroupID": groups.index(code.group_id) if code.group_id in groups else None}


# --- the wire --------------------------------------------------------------------------------------------------


class _Server:
    """One host: a threaded HTTP/1.1 server on a port of its own."""

    def __init__(self, host: Host, stand_in: StandIn) -> None:
        handler = type("Handler", (_Handler,), {"host": host, "stand_in": stand_in})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        if self.thread is not None:
            self.http.shutdown()
            self.thread.join()
            self.thread = None
        self.http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host: Host
    stand_in: StandIn

    def log_message(self, format: str, *args: object) -> None:
        """Keep the console quiet."""

    def do_GET(self) -> None:
        """Answer one request, or commit the fault that waits for it."""
        address = urlsplit(self.path)
        path = unquote(address.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        fault = self.stand_in.fault(unquote(self.path))
        kind = fault.kind if fault else None
        if fault and kind == "busy":
            self._send(429, b"too many requests", {"Retry-After": f"{fault.seconds:g}"})
            return
        if kind == "error":
            self._send(500, b"internal server error")
            return
        if kind == "hang":
            self.stand_in.stopping.wait(fault.seconds if fault and fault.seconds else 3600)
            self.close_connection = True
            return
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        if kind == "duplicate":
            query.pop("$skip", None)
        try:
            reply = self.stand_in.reply(self.host, path, query)
        except _NotFoundError:
            self._send(404, b'{"error":{"code":"404","message":"Resource not found"}}')
            return
        except _BadRequestError as error:
            body = {"odata.error": {"code": "", "message": {"lang": "en-US", "value": str(error)}}}
            self._send(error.status, json.dumps(body).encode())
            return
        if kind == "count" and reply.text is not None:
            reply.text = str(int(reply.text) + 1)
        if kind == "empty":
            reply.rows, reply.tail = [], {}
        body_bytes = reply.body()
        if kind == "truncate":
            body_bytes = body_bytes[: len(body_bytes) // 2]
        content = "text/plain" if reply.text is not None else "application/json;odata.metadata=minimal"
        self._send(200, body_bytes, {"Content-Type": content}, cut=kind == "reset")

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        headers = dict(headers or {"Content-Type": "application/json"})
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(body) > 256:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if cut:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                # linger 0 makes the close a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            else:
                self.wfile.write(body)
        except OSError:
            self.close_connection = True
