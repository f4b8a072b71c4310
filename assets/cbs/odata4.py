"""OData v4 (datasets.cbs.nl): metadata into the shared model, and how observations are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from assets.cbs.feed import ENUM_OF, REASONS, Feed, enum_of
from assets.cbs.http import NotFoundError, Wire, address
from assets.cbs.model import CatalogueEntry, Code, Dimension, Group, Location, Measure, TableMeta
from datafabriek.warehouse import quoted


def properties(wire: Wire, url: str, table_id: str) -> Mapping[str, Any] | None:
    """The table's Properties; None where v4 does not have it (also when it answers for another, or for nothing)."""
    try:
        found = wire.json(f"{url}/Properties")
    except NotFoundError:
        return None
    if isinstance(found, dict) and isinstance(found.get("value"), list):
        found = next(iter(found["value"]), None)
    if not isinstance(found, dict) or found.get("Identifier", table_id) != table_id or "Title" not in found:
        return None
    return {name: value for name, value in found.items() if not name.startswith("@odata.context")}


def table(wire: Wire, location: Location, found: Mapping[str, Any]) -> TableMeta:
    """All metadata of a table on v4; `found` are its Properties."""
    url = location.url
    dimensions = wire.entities(f"{url}/Dimensions")
    wanted: dict[str, Callable[[], list[dict[str, Any]]]] = {
        name: (lambda name=name: _optional(wire, f"{url}/{name}"))  # type: ignore[misc]
        for name in ("MeasureCodes", "MeasureGroups")
    }
    for row in dimensions:
        name = row["Identifier"]
        wanted[f"{name}Codes"] = lambda name=name: _optional(wire, f"{url}/{name}Codes")  # type: ignore[misc]
        if row.get("ContainsGroups"):
            wanted[f"{name}Groups"] = lambda name=name: _optional(wire, f"{url}/{name}Groups")  # type: ignore[misc]
    with ThreadPoolExecutor(wire.options.parallel) as pool:
        parts = dict(zip(wanted, pool.map(lambda ask: ask(), wanted.values()), strict=True))
    groups = _groups(parts["MeasureGroups"])
    return TableMeta(
        location=location,
        properties=found,
        dimensions=tuple(_dimension(row, parts) for row in dimensions),
        measures=tuple(_measure(row, groups) for row in parts["MeasureCodes"]),
        measure_groups=groups,
    )


def _optional(wire: Wire, url: str) -> list[dict[str, Any]]:
    """Rows of an entity set that not every table has."""
    try:
        return wire.entities(url)
    except NotFoundError:
        return []


def _dimension(row: Mapping[str, Any], parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Dimension:
    name = row["Identifier"]
    keys = [str(code["Identifier"]) for code in parts[f"{name}Codes"]]
    return Dimension(
        identifier=name,
        title=row.get("Title") or name,
        kind=row.get("Kind") or "Dimension",
        description=row.get("Description") or "",
        map_year=str(row["MapYear"]) if row.get("MapYear") else None,
        codes=tuple(_code(code, index) for index, code in enumerate(parts[f"{name}Codes"], 1)),
        groups=_groups(parts.get(f"{name}Groups", ())),
        width=max(map(len, keys)) if any(key != key.strip() for key in keys) else 0,
    )


def _code(row: Mapping[str, Any], index: int) -> Code:
    return Code(
        identifier=str(row["Identifier"]).strip(),
        index=row["Index"] if row.get("Index") is not None else index,
        title=(row.get("Title") or "").strip(),
        description=row.get("Description") or "",
        group_id=row.get("DimensionGroupId"),
        status=row.get("Status"),
        detail_region=row.get("DetailRegionCode"),
    )


def _groups(rows: Sequence[Mapping[str, Any]]) -> tuple[Group, ...]:
    return tuple(
        Group(
            id=str(row["Id"]),
            title=row.get("Title") or "",
            parent=row.get("ParentId"),
            description=row.get("Description") or "",
            index=row.get("Index") or 0,
        )
        for row in rows
    )


def path_of(group_id: str | None, groups: Mapping[str, Group]) -> tuple[str, ...]:
    """Titles of a heading and those above it, from the top down."""
    titles: list[str] = []
    while group_id is not None and group_id in groups and len(titles) < len(groups):
        titles.append(groups[group_id].title)
        group_id = groups[group_id].parent
    return tuple(reversed(titles))


def _measure(row: Mapping[str, Any], groups: tuple[Group, ...]) -> Measure:
    return Measure(
        identifier=str(row["Identifier"]).strip(),
        index=row.get("Index") or 0,
        title=row.get("Title") or "",
        description=row.get("Description") or "",
        group_id=row.get("MeasureGroupId"),
        path=path_of(row.get("MeasureGroupId"), {group.id: group for group in groups}),
        data_type=row.get("DataType") or "",
        unit=row.get("Unit") or "",
        decimals=row.get("Decimals"),
        presentation=row.get("PresentationType"),
    )


def feed(meta: TableMeta, filter_text: str | None) -> Feed:
    """How the observations are asked for; the filter goes to the server as it is."""
    names = [dimension.identifier for dimension in meta.dimensions]
    columns = {"Id": "BIGINT", "Measure": "VARCHAR", "ValueAttribute": "VARCHAR", "Value": "DOUBLE"}
    columns |= {"StringValue": "VARCHAR"} | dict.fromkeys(names, "VARCHAR")
    # v4 gives its keys without padding; to trim them all the same would cost as much as reading them
    keys = {d.identifier: f"trim({quoted(d.identifier)})" if d.width else quoted(d.identifier) for d in meta.dimensions}
    kinds = {d.identifier: _cast(tuple(d.by_identifier)) for d in meta.dimensions}
    measure = _cast([m.identifier for m in meta.measures])

    def select(measure: str, reason: str, kinds: Mapping[str, str]) -> str:
        chosen = [f"{key}{kinds.get(name, '')} AS {quoted(name)}" for name, key in keys.items()]
        fixed = f"Id, Measure{measure} AS Measure, ValueAttribute{reason} AS ValueAttribute, Value, StringValue"
        return f"SELECT {', '.join((fixed, *chosen))} FROM {{page}}"

    url = f"{meta.location.url}/Observations"
    return Feed(
        url=url,
        count_urls=(address(f"{url}/$count", filter=filter_text),),
        filter=filter_text,
        format=None,
        key="Id",
        columns=columns,
        select=select("", "", {}),
        coded=select(measure, _cast(REASONS), kinds),
    )


def _cast(codes: Sequence[str]) -> str:
    """A cast to an ENUM; none where there are so many codes that telling them costs more than it saves."""
    return f"::{enum_of(codes)}" if 0 < len(codes) <= ENUM_OF else ""


def catalogue(wire: Wire, base: str) -> list[CatalogueEntry]:
    """All tables that v4 lists."""
    rows = wire.entities(address(f"{base}/CBS/Datasets", select="Identifier,Title,Modified,Status,Description"))
    return [
        CatalogueEntry(
            id=row["Identifier"],
            title=(row.get("Title") or "").strip(),
            modified=row.get("Modified") or "",
            status=row.get("Status") or "",
            summary=row.get("Description") or "",
        )
        for row in rows
    ]


def has_region(wire: Wire, url: str, region: str) -> bool:
    """Whether a table on v4 has figures coded for a region."""
    for row in wire.entities(f"{url}/Dimensions"):
        if row.get("Kind") in ("GeoDimension", "GeoDetail"):
            codes = address(f"{url}/{row['Identifier']}Codes", filter=f"Identifier eq '{region}'")
            if any(str(code.get("Identifier")).strip() == region for code in _optional(wire, codes)):
                return True
    return False
