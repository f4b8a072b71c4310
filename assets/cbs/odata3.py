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

from assets.cbs.feed import Feed
from assets.cbs.filters import Node, render, split, to_sql
from assets.cbs.http import NotFoundError, RefusedError, Wire, address
from assets.cbs.model import CatalogueEntry, Code, Dimension, Group, Location, Measure, TableMeta
from assets.cbs.odata4 import path_of
from datafabriek.warehouse import literal, quoted

FEED, API, CATALOGUE = "ODataFeed/odata", "ODataApi/odata", "ODataCatalog"
DIMENSIONS = ("Dimension", "TimeDimension", "GeoDimension", "GeoDetail")
FLOATS = ("float", "double", "decimal", "single")
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
        asked = pool.map(lambda name: wire.entities(address(f"{url}/{name}", format="json")), names)
        codes = dict(zip(names, asked, strict=True))
    try:
        categories = wire.entities(address(f"{url}/CategoryGroups", format="json"))
    except (NotFoundError, RefusedError):
        categories = []
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
    """How the rows are asked for; what the filter says of dimensions goes to the server, the rest is done here."""
    names = [dimension.identifier for dimension in meta.dimensions]
    widths = {dimension.identifier: dimension.width for dimension in meta.dimensions}
    pushed, local = split(node, frozenset(names)) if node else (None, None)
    condition = render(pushed, "v3", widths) if pushed else None
    where, values = to_sql(local) if local else ("true", [])
    columns = {"ID": "BIGINT"} | dict.fromkeys(names, "VARCHAR")
    columns |= {m.identifier: "VARCHAR" if m.is_text else "DOUBLE" for m in meta.measures}
    table_url = f"{meta.location.url}/{FEED}/{meta.id}/TypedDataSet"
    api_url = f"{meta.location.url}/{API}/{meta.id}/TypedDataSet"
    return Feed(
        url=table_url,
        count_urls=tuple(address(f"{url}/$count", filter=condition) for url in (api_url, table_url)),
        filter=condition,
        format="json",
        key="ID",
        columns=columns,
        select="SELECT * FROM {page}",
        spread=tuple(f"SELECT * FROM ({_long(meta, coded=coded)}) WHERE {where}" for coded in (True, False)),
        values=tuple(values),
        width=len(meta.measures),
    )


def _long(meta: TableMeta, *, coded: bool) -> str:
    """SELECT that turns wide rows into observations; Id counts through rows and topics.

    Each row's topics become a list, from which a join with the topics takes one at a time: three times as fast as
    UNPIVOT, as the names of measures are then never copied per row. With `coded` the keys become numbers (ENUM)
    before they are repeated; that fails on a key that CBS does not list.
    """

    def key(dimension: Dimension) -> str:
        kind = f"::ENUM ({', '.join(literal(code) for code in dimension.by_identifier)})" if coded else ""
        return (
            f", trim({quoted(dimension.identifier)}){kind if dimension.codes else ''} AS {quoted(dimension.identifier)}"
        )

    dimensions = "".join(key(dimension) for dimension in meta.dimensions)
    kept = "".join(f", {quoted(dimension.identifier)}" for dimension in meta.dimensions)
    numbers = ", ".join(_value(m) for m in meta.measures if not m.is_text)
    texts = ", ".join(f"trim({quoted(m.identifier)})" for m in meta.measures if m.is_text)
    measures = ", ".join(literal(m.identifier) for m in meta.measures)
    counters = {False: itertools.count(1), True: itertools.count(1)}
    places = ", ".join(str(next(counters[m.is_text])) for m in meta.measures)
    kinds = ", ".join(str(m.is_text).lower() for m in meta.measures)
    return (
        f"SELECT ID * {len(meta.measures)} + number AS Id, Measure, (CASE "
        "WHEN Value IS NULL AND StringValue IS NULL THEN 'Missing' WHEN StringValue = 'x' THEN 'Confidential' "
        "WHEN StringValue = '' THEN 'Impossible' WHEN StringValue = '.' THEN 'NotAvailable' ELSE 'None' END"
        ")::ENUM ('None', 'Missing', 'Confidential', 'Impossible', 'NotAvailable') AS ValueAttribute, "
        f"Value, StringValue{kept} FROM (SELECT ID, number, Measure{kept}, "
        "CASE WHEN NOT is_text THEN numbers[place] END AS Value, "
        "CASE WHEN is_text THEN texts[place] END AS StringValue "
        f"FROM (SELECT unnest(range({len(meta.measures)})) AS number, unnest([{places}]) AS place, "
        f"unnest([{kinds}]) AS is_text, unnest([{measures}])::ENUM ({measures}) AS Measure), "
        f"(SELECT ID{dimensions}, [{numbers}]::DOUBLE[] AS numbers, [{texts}]::VARCHAR[] AS texts FROM {{page}}))"
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
