"""OData v3 (opendata.cbs.nl, dataderden.cbs.nl): the legacy protocol, told in v4's words.

v3 gives wide rows: one column a topic, keys padded with spaces. They are turned into observations, with the topic's
key as Measure. The typed set tells that a value is missing but not why: its ValueAttribute is then `Missing`,
CBS's own word in `DataProperties.Default`; a text that holds one of StatLine's marks keeps it in StringValue.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from assets.cbs.feed import ENUM_OF, Coding, Feed, as_code, enum_of
from assets.cbs.filters import Node, check, render, split, to_sql_text
from assets.cbs.http import NotFoundError, RefusedError, Wire, address
from assets.cbs.model import CatalogueEntry, Code, Dimension, Group, Location, Measure, TableMeta
from assets.cbs.odata4 import path_of
from datafabriek.warehouse import literal, quoted

FEED, API, CATALOGUE = "ODataFeed/odata", "ODataApi/odata", "ODataCatalog"
DIMENSIONS = ("Dimension", "TimeDimension", "GeoDimension", "GeoDetail")
FLOATS = ("float", "double", "decimal", "single")
BROAD = 40
"""Columns from which a page of 10,000 rows is worth converting by itself, while the next comes in."""

NOISE = 1e-6
"""Relative error of a float32: some values come as 7888.2002 where the topic has one decimal."""


def properties(wire: Wire, host: str, table_id: str) -> Mapping[str, Any] | None:
    """The table's TableInfos; None where this host does not have it."""
    try:
        rows = wire.entities(address(f"{host}/{FEED}/{table_id}/TableInfos", format="json"))
    except (NotFoundError, RefusedError):
        return None
    found = next(iter(rows), None)
    return None if found is None or found.get("Identifier", table_id) != table_id else found


def table(wire: Wire, location: Location, found: Mapping[str, Any]) -> TableMeta:
    """All metadata of a table on v3; `found` are its TableInfos."""
    url = f"{location.url}/{FEED}/{location.table_id}"
    rows = wire.entities(address(f"{url}/DataProperties", format="json"))
    names = [row["Key"] for row in rows if row["Type"] in DIMENSIONS]
    with ThreadPoolExecutor(wire.options.parallel) as pool:
        grouped = pool.submit(_groups, wire, url)
        asked = pool.map(lambda name: wire.entities(address(f"{url}/{name}", format="json")), names)
        codes = dict(zip(names, asked, strict=True))
        categories = grouped.result()
    headings = tuple(
        Group(str(row["ID"]), row["Title"] or "", _text(row.get("ParentID")), row.get("Description") or "", row["ID"])
        for row in rows
        if row["Type"] == "TopicGroup"
    )
    topics = [row for row in rows if row["Type"] == "Topic"]
    return TableMeta(
        location=location,
        properties=found,
        dimensions=tuple(_dimension(r, codes[r["Key"]], categories) for r in rows if r["Type"] in DIMENSIONS),
        measures=tuple(_topic(row, {group.id: group for group in headings}) for row in topics),
        measure_groups=headings,
    )


def _groups(wire: Wire, url: str) -> list[dict[str, Any]]:
    """Headings of codes, which not every table has."""
    try:
        return wire.entities(address(f"{url}/CategoryGroups", format="json"))
    except (NotFoundError, RefusedError):
        return []


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _dimension(
    row: Mapping[str, Any], codes: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]]
) -> Dimension:
    return Dimension(
        identifier=row["Key"],
        title=row.get("Title") or row["Key"],
        kind=row["Type"],
        description=row.get("Description") or "",
        map_year=_text(row.get("MapYear")),
        codes=tuple(_code(code, index) for index, code in enumerate(codes, 1)),
        groups=tuple(
            Group(str(c["ID"]), c.get("Title") or "", _text(c.get("ParentID")), c.get("Description") or "", c["ID"])
            for c in categories
            if c.get("DimensionKey") == row["Key"]
        ),
        width=max((len(str(code["Key"])) for code in codes), default=0) if _padded(codes) else 0,
    )


def _padded(codes: Sequence[Mapping[str, Any]]) -> bool:
    return any(str(code["Key"]) != str(code["Key"]).strip() for code in codes)


def _code(row: Mapping[str, Any], index: int) -> Code:
    group = row.get("Municipality") or row.get("CategoryGroupID")
    return Code(
        identifier=str(row["Key"]).strip(),
        index=index,
        title=(row.get("Title") or "").strip(),
        description=row.get("Description") or "",
        group_id=_text(group),
        status=row.get("Status"),
        detail_region=(row.get("DetailRegionCode") or "").strip() or None,
    )


def _topic(row: Mapping[str, Any], headings: Mapping[str, Group]) -> Measure:
    return Measure(
        identifier=row["Key"],
        index=row.get("Position") or 0,
        title=(row.get("Title") or "").strip(),
        description=row.get("Description") or "",
        group_id=_text(row.get("ParentID")),
        path=path_of(_text(row.get("ParentID")), headings),
        data_type=row.get("Datatype") or "",
        unit=row.get("Unit") or "",
        decimals=row.get("Decimals"),
        presentation=row.get("PresentationType"),
        default=row.get("Default"),
    )


def feed(meta: TableMeta, node: Node | None) -> Feed:
    """How the rows are asked for; what the filter says of dimensions goes to the server (see `local_filter`)."""
    widths = {dimension.identifier: dimension.width for dimension in meta.dimensions}
    pushed, _ = split(node, frozenset(widths)) if node else (None, None)
    condition = render(pushed, "v3", widths) if pushed else None
    columns = {"ID": "BIGINT"} | dict.fromkeys(widths, "VARCHAR")
    columns |= {m.identifier: "VARCHAR" if m.is_text else "DOUBLE" for m in meta.measures}
    table_url = f"{meta.location.url}/{FEED}/{meta.id}/TypedDataSet"
    api_url = f"{meta.location.url}/{API}/{meta.id}/TypedDataSet"
    # with the spaces they came with: to trim every key costs a third of reading it, see `observations`
    coded = ", ".join(
        f"{quoted(d.identifier)}::{enum_of(code.ljust(d.width) for code in d.by_identifier)} AS {quoted(d.identifier)}"
        for d in meta.dimensions
        if 0 < len(d.codes) <= ENUM_OF
    )
    return Feed(
        url=table_url,
        count_urls=tuple(address(f"{url}/$count", filter=condition) for url in (api_url, table_url)),
        filter=condition,
        format="json",
        key="ID",
        columns=columns,
        select="SELECT * FROM {page}",
        coded=f"SELECT * REPLACE ({coded}) FROM {{page}}" if coded else None,
        at_once=len(columns) < BROAD,
        is_wide=True,
        width=len(meta.measures),
    )


def local_filter(meta: TableMeta, text: str | None) -> str | None:
    """What a filter says of observations that wide rows cannot answer, as an SQL condition; None where nothing."""
    node = check(text, meta) if text else None
    local = split(node, frozenset(d.identifier for d in meta.dimensions))[1] if node else None
    return to_sql_text(local) if local else None


def observations(meta: TableMeta, rows: str, codes: Mapping[str, Coding]) -> str:
    """SELECT that makes observations of a relation of wide rows; Id counts through rows and topics.

    Each row's topics become a list, from which a join with the topics takes one at a time: three times as fast as
    UNPIVOT, as the names of measures are then never copied per row. Keys are cast before they are repeated; Parquet
    gives them as dictionaries, of which DuckDB trims the entries alone.

    Args:
        meta: the table.
        rows: the relation.
        codes: of Measure, ValueAttribute and dimensions that are to be ENUM; what is not among them becomes NULL.
    """

    def cast(value: str, name: str) -> str:
        return as_code(value, codes[name]) if name in codes else value

    def reason(word: str) -> str:
        return cast(literal(word), "ValueAttribute")

    dimensions = [(d.identifier, quoted(d.identifier)) for d in meta.dimensions]
    keys = "".join(f", {cast(f'trim({name})', identifier)} AS {name}" for identifier, name in dimensions)
    kept = "".join(f", {name}" for _, name in dimensions)
    numbers = ", ".join(_value(m) for m in meta.measures if not m.is_text)
    texts = ", ".join(f"trim({quoted(m.identifier)})" for m in meta.measures if m.is_text)
    measures = ", ".join(literal(m.identifier) for m in meta.measures)
    counters = {False: itertools.count(1), True: itertools.count(1)}
    places = ", ".join(str(next(counters[m.is_text])) for m in meta.measures)
    kinds = ", ".join(str(m.is_text).lower() for m in meta.measures)
    value, text = "numbers[place]", "NULL::VARCHAR"
    if texts:
        value, text = f"CASE WHEN NOT is_text THEN {value} END", "CASE WHEN is_text THEN texts[place] END"
    marks = {"x": "Confidential", "": "Impossible", ".": "NotAvailable"} if texts else {}
    marked = "".join(f"WHEN StringValue = {literal(mark)} THEN {reason(word)} " for mark, word in marks.items())
    return (
        f"SELECT ID * {len(meta.measures)} + number AS Id, Measure, CASE "
        f"WHEN Value IS NULL AND StringValue IS NULL THEN {reason('Missing')} {marked}ELSE {reason('None')} END "
        f"AS ValueAttribute, Value, StringValue{kept} "
        f"FROM (SELECT ID, number, Measure{kept}, {value} AS Value, {text} AS StringValue "
        f"FROM (SELECT unnest(range({len(meta.measures)})) AS number, unnest([{places}]) AS place, "
        f"unnest([{kinds}]) AS is_text, {cast(f'unnest([{measures}])', 'Measure')} AS Measure), "
        f"(SELECT ID{keys}, [{numbers}]::DOUBLE[] AS numbers, [{texts}]::VARCHAR[] AS texts FROM {rows}))"
    )


def _value(measure: Measure) -> str:
    """A number, freed of float32's noise where its topic has a known number of decimals."""
    name = quoted(measure.identifier)
    if measure.decimals is None or measure.data_type.lower() not in FLOATS:
        return name
    rounded = f"round({name}, {measure.decimals})"
    return f"CASE WHEN abs({name} - {rounded}) <= {NOISE} * abs({name}) THEN {rounded} ELSE {name} END"


def catalogue(wire: Wire, host: str, *, table_id: str | None = None) -> list[CatalogueEntry]:
    """All tables that a v3 host lists (or the one with this id)."""
    condition = f"Identifier eq '{table_id}'" if table_id else None
    fields = "Identifier,Title,Summary,Modified,OutputStatus,Catalog"
    rows = wire.entities(address(f"{host}/{CATALOGUE}/Tables", format="json", select=fields, filter=condition))
    return [
        CatalogueEntry(
            id=row["Identifier"],
            title=(row.get("Title") or "").strip(),
            modified=row.get("Modified") or "",
            status=row.get("OutputStatus") or "",
            summary=row.get("Summary") or "",
            catalog=row.get("Catalog") or "CBS",
            protocol="v3",
        )
        for row in rows
    ]


def has_region(wire: Wire, host: str, table_id: str, region: str) -> bool:
    """Whether a table on v3 has figures coded for a region."""
    url = f"{host}/{FEED}/{table_id}"
    for row in wire.entities(address(f"{url}/DataProperties", format="json")):
        if row["Type"] in ("GeoDimension", "GeoDetail"):
            codes = address(f"{url}/{row['Key']}", format="json", filter=f"startswith(Key,'{region}')")
            if any(str(code["Key"]).strip() == region for code in wire.entities(codes)):
                return True
    return False
