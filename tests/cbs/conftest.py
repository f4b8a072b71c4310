"""Recorded CBS tables (../shared/data/cbs) served by the stand-in, and a small table of the tests' own."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.cbs.client import CbsClient, Endpoints, Options
from assets.cbs.http import forget_outages
from assets.cbs.model import Code, Dimension, Group, Location, Measure, TableMeta
from datafabriek.sample.server import Fault, ServedTable, StandIn, TableStore

HASTY = Options(timeout_s=2.0, retries=3, parallel=3, backoff_s=0.01)
NOWHERE = Location("", "v4", "")


def open_text(path: Path) -> str:
    if path.with_name(path.name + ".gz").exists():
        path = path.with_name(path.name + ".gz")
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text("utf-8-sig")


def read_json(path: Path) -> Any:
    return json.loads(open_text(path))


def code4(row: dict[str, Any]) -> Code:
    return Code(
        row["Identifier"],
        row["Index"],
        row["Title"],
        row["Description"] or "",
        row["DimensionGroupId"],
        row.get("Status"),
        row.get("DetailRegionCode"),
    )


def measure4(row: dict[str, Any]) -> Measure:
    return Measure(
        row["Identifier"],
        row["Index"],
        row["Title"],
        row["Description"],
        row["MeasureGroupId"],
        (),
        row["DataType"],
        row["Unit"],
        row["Decimals"],
        row["PresentationType"],
    )


def long_table(rows: list[dict[str, Any]], dimensions: list[str]) -> pa.Table:
    types = [("Id", pa.int64()), ("Measure", pa.string()), ("ValueAttribute", pa.string()), ("Value", pa.float64())]
    types += [("StringValue", pa.string()), *((name, pa.string()) for name in dimensions)]
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def recorded4(folder: Path) -> tuple[ServedTable, str | None]:
    """A v4 recording and the filter that it is a slice for."""
    index = read_json(folder / "index.json")
    dimensions = tuple(
        Dimension(
            row["Identifier"],
            row["Title"],
            row["Kind"],
            row["Description"],
            codes=tuple(code4(code) for code in read_json(folder / f"codes-{row['Identifier']}.json")["value"]),
        )
        for row in read_json(folder / "dimensions.json")["value"]
    )
    meta = TableMeta(
        NOWHERE.__class__(index["tableId"], "v4", ""),
        {k: v for k, v in read_json(folder / "properties.json").items() if not k.startswith("@")},
        dimensions,
        tuple(measure4(row) for row in read_json(folder / "measure-codes.json")["value"]),
    )
    rows = [row for page in index["observationPages"] for row in read_json(folder / page)["value"]]
    table = long_table(rows, [d.identifier for d in dimensions])
    return ServedTable(meta, table, hosts=frozenset({"odata4"})), index["sliceFilter"]


def properties3(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[Group, ...], tuple[Measure, ...]]:
    """Dimensions (rows), headings and topics of v3's DataProperties."""

    def number(value: Any) -> int | None:
        return None if value in (None, "") else int(value)

    def name(value: Any) -> str | None:
        return None if number(value) is None else str(number(value))

    groups = tuple(
        Group(str(r["ID"]), r["Title"], name(r["ParentID"]), r["Description"] or "")
        for r in rows
        if r["Type"] == "TopicGroup"
    )
    measures = tuple(
        Measure(
            r["Key"],
            number(r["Position"]) or 0,
            r["Title"],
            r["Description"] or "",
            name(r["ParentID"]),
            (),
            r["Datatype"],
            r["Unit"] or "",
            number(r["Decimals"]),
            default=r["Default"],
        )
        for r in rows
        if r["Type"] == "Topic"
    )
    return [r for r in rows if r["Type"] not in ("Topic", "TopicGroup")], groups, measures


def served3(
    table_id: str,
    infos: dict[str, Any],
    properties: list[dict[str, Any]],
    codes: list[dict[str, Any]],
    wide: pa.Table,
    **more: Any,
) -> ServedTable:
    dimensions, groups, measures = properties3(properties)
    (row,) = dimensions
    keys = [code["Key"] for code in codes]
    dimension = Dimension(
        row["Key"],
        row["Title"],
        row["Type"],
        codes=tuple(
            Code(c["Key"].strip(), n, c["Title"], c["Description"] or "", c.get("Municipality") or None)
            for n, c in enumerate(codes, 1)
        ),
        width=max(map(len, keys)),
    )
    meta = TableMeta(Location(table_id, "v3", ""), infos, (dimension,), measures, groups)
    return ServedTable(meta, wide=wide, hosts=frozenset({"odata3"}), **more)


def read_csv(path: Path) -> list[dict[str, Any]]:
    import io

    return list(csv.DictReader(io.StringIO(open_text(path), newline="")))


def typed(rows: list[dict[str, Any]], measures: list[dict[str, Any]]) -> pa.Table:
    """v3 rows read from CSV, in the types of their topics."""
    kinds = {"Long": pa.int64(), "Integer": pa.int64(), "Double": pa.float64(), "Float": pa.float64()}
    types = {m["Key"]: kinds.get(m["Datatype"], pa.string()) for m in measures if m["Type"] == "Topic"}
    columns = {}
    for name in rows[0]:
        kind = pa.int64() if name == "ID" else types.get(name, pa.string())
        values = [row[name] for row in rows]
        numbers = (
            [None if v == "" else float(v) if kind == pa.float64() else int(v) for v in values]
            if (kind != pa.string())
            else values
        )
        columns[name] = pa.array(numbers, kind)
    return pa.table(columns)


@pytest.fixture(scope="session")
def recorded(shared_data: Path) -> dict[str, tuple[ServedTable, str | None]]:
    """Every recorded table by id, with the filter that it is a slice for."""
    cbs = shared_data / "cbs"
    tables = {folder.name: recorded4(folder) for folder in sorted((cbs / "odata4").iterdir()) if folder.is_dir()}
    kwb = cbs / "odata3" / "84799NED"
    tables["84799NED"] = (
        served3(
            "84799NED",
            read_json(kwb / "cbs.v3.84799NED_Metadata.json"),
            pq.read_table(kwb / "cbs.v3.84799NED_DataProperties.parquet").to_pylist(),
            pq.read_table(kwb / "cbs.v3.84799NED_WijkenEnBuurten.parquet").to_pylist(),
            pq.read_table(kwb / "cbs.v3.84799NED_TypedDataSet.parquet"),
        ),
        None,
    )
    areas = cbs / "odata3" / "85067NED"
    properties = read_csv(areas / "DataProperties.csv")
    tables["85067NED"] = (
        served3(
            "85067NED",
            read_csv(areas / "TableInfos.csv")[0],
            properties,
            read_csv(areas / "RegioS.csv"),
            typed(read_csv(areas / "data.csv"), properties),
        ),
        None,
    )
    return tables


@pytest.fixture(scope="session")
def recorded_store(recorded: dict[str, tuple[ServedTable, str | None]]) -> TableStore:
    store = TableStore()
    for table, _ in recorded.values():
        store.add(table)
    return store


def own_table(rows: int = 250, **properties: Any) -> ServedTable:
    """A table of the tests' own: two measures (one a text), regions, periods; every seventh value is missing."""
    regions = ["NL01", "PV28", "GM0518", "GM1916"]
    periods = [f"{year}JJ00" for year in range(2000, 2100)]
    measures = (
        Measure("M000001", 1, "Inwoners", "", "G1", ("Bevolking",), "Long", "aantal", 0),
        Measure("M000002", 2, "Toelichting", "", "G1", ("Bevolking",), "String", "tekst", 0),
    )
    observations = [
        {
            "Id": 3 * n,
            "Measure": measures[n % 2].identifier,
            "ValueAttribute": "Confidential" if n % 7 == 3 else "None",
            "Value": None if n % 7 == 3 or n % 2 else n * 1.5,
            "StringValue": None if n % 7 == 3 or not n % 2 else f"tekst ] {n} é",
            "RegioS": regions[n // 2 % 4],
            "Perioden": periods[n // 8 % 100],
        }
        for n in range(rows)
    ]
    dimensions = (
        Dimension(
            "RegioS",
            "Regio's",
            "GeoDimension",
            codes=tuple(Code(code, n, f"naam {code}", "", "G") for n, code in enumerate(regions, 1)),
            groups=(Group("G", "Regio's"),),
            width=10,
        ),
        Dimension(
            "Perioden",
            "Perioden",
            "TimeDimension",
            codes=tuple(Code(c, n, c[:4], "", None, "Definitief") for n, c in enumerate(periods, 1)),
            width=8,
        ),
    )
    told = {
        "Identifier": "99999NED",
        "Title": "Proeftabel",
        "Modified": "2026-01-01T02:00:00",
        "ObservationsModified": "2026-01-01T02:00:00",
        "ObservationCount": rows,
        "Source": "Synthetisch: tests",
    } | properties
    meta = TableMeta(Location("99999NED", "v4", ""), told, dimensions, measures, (Group("G1", "Bevolking"),))
    return ServedTable(meta, long_table(observations, ["RegioS", "Perioden"]))


@pytest.fixture
def make_table() -> Callable[..., ServedTable]:
    return own_table


@pytest.fixture(autouse=True)
def _no_outage_of_before() -> None:
    """A port that was closed in one test may serve the next."""
    forget_outages()


@pytest.fixture
def faults() -> list[Fault]:
    """Faults to commit; a test adds its own."""
    return []


@pytest.fixture
def serve(faults: list[Fault]) -> Iterator[Callable[..., StandIn]]:
    """Start the stand-in with tables (or a store); it stops at the end of the test."""
    with ExitStack() as stack:

        def start(*tables: ServedTable, store: TableStore | None = None, **options: Any) -> StandIn:
            store = store or TableStore()
            for table in tables:
                store.add(table)
            return stack.enter_context(StandIn(store, faults, **options))

        yield start


@pytest.fixture
def client_of() -> Iterator[Callable[..., CbsClient]]:
    """A hasty client of a stand-in."""
    with ExitStack() as stack:

        def make(server: StandIn, options: Options = HASTY) -> CbsClient:
            endpoints = Endpoints(server.odata4, server.odata3, server.derden)
            return stack.enter_context(CbsClient(endpoints, options))

        yield make


@pytest.fixture(scope="session")
def regions_2022(shared_data: Path) -> ServedTable:
    """The codes of kerncijfers 2022 over v3, without rows."""
    folder = shared_data / "cbs" / "odata3" / "85318NED"
    codes = read_csv(folder / "WijkenEnBuurten.csv")
    none = pa.table({"ID": pa.array([], pa.int64()), "WijkenEnBuurten": pa.array([], pa.string())})
    infos = read_csv(folder / "TableInfos.csv")[0]
    return served3("85318NED", infos, read_csv(folder / "DataProperties.csv"), codes, none)


@pytest.fixture(scope="session")
def poverty(shared_data: Path) -> ServedTable:
    """83841NED as its bulk CSV download gives it (decimal comma), with the codes that occur in it."""
    import io

    folder = shared_data / "cbs" / "bulkcsv"
    found = list(csv.DictReader(io.StringIO(open_text(folder / "Observations.csv")), delimiter=";"))
    dimensions = [name for name in found[0] if name not in ("Id", "Measure", "Value", "StringValue", "ValueAttribute")]
    rows = [
        row
        | {
            "Id": int(row["Id"]),
            "Value": float(row["Value"].replace(",", ".")) if row["Value"] else None,
            "StringValue": row["StringValue"] or None,
        }
        for row in found
    ]

    def occurring(name: str) -> list[str]:
        return list(dict.fromkeys(str(row[name]) for row in rows))

    meta = TableMeta(
        Location("83841NED", "v4", ""),
        {"Identifier": "83841NED", "Title": "83841NED", "Modified": "2025", "ObservationCount": len(rows)},
        tuple(
            Dimension(
                name,
                name,
                "TimeDimension" if name == "Perioden" else "Dimension",
                codes=tuple(Code(code, n, code, "", None) for n, code in enumerate(occurring(name), 1)),
            )
            for name in dimensions
        ),
        tuple(Measure(code, n, code, "", None, (), "Double", "", 1) for n, code in enumerate(occurring("Measure"), 1)),
    )
    return ServedTable(meta, long_table(rows, dimensions), hosts=frozenset({"odata4"}))
