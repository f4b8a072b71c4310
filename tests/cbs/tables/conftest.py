"""Landed tables to build from: small ones made by hand, and the real recordings."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assets.cbs.model import Code, Dimension, Landed, Location, Measure, TableMeta

Land = Callable[[TableMeta, pa.Table], Landed]


def measure(identifier: str, title: str, *path: str, unit: str = "aantal", kind: str = "Long") -> Measure:
    return Measure(identifier, 0, title, "", None, path, kind, unit, 0)


def dimension(identifier: str, kind: str, codes: dict[str, str], **more: Any) -> Dimension:
    made = tuple(Code(code, i, title, "", None, **more) for i, (code, title) in enumerate(codes.items(), 1))
    return Dimension(identifier, identifier, kind, codes=made)


@pytest.fixture(scope="session")
def make_measure() -> Callable[..., Measure]:
    """A measure: identifier, title, titles of its groups."""
    return measure


@pytest.fixture(scope="session")
def make_dimension() -> Callable[..., Dimension]:
    """A dimension: identifier, kind, code → title."""
    return dimension


@pytest.fixture(scope="session")
def make_meta() -> Callable[..., TableMeta]:
    """Metadata of a table: id, title, measures, dimensions."""

    def make(
        table_id: str,
        title: str,
        measures: Iterable[Measure],
        dimensions: Iterable[Dimension] = (),
        protocol: Any = "v4",
        source: str = "CBS.",
    ) -> TableMeta:
        properties = {"Title": title, "Source": source, "Modified": "2026-01-01"}
        return TableMeta(Location(table_id, protocol, ""), properties, tuple(dimensions), tuple(measures))

    return make


@pytest.fixture(scope="session")
def land(tmp_path_factory: pytest.TempPathFactory) -> Land:
    """Put observations on disk as the client leaves them."""

    def write(meta: TableMeta, observations: pa.Table) -> Landed:
        folder = tmp_path_factory.mktemp(meta.id)
        pq.write_table(observations, folder / "part-0.parquet")
        return Landed(meta, folder, None, observations.num_rows, True, "2026-01-01", (folder / "part-0.parquet",))

    return write


@pytest.fixture(scope="session")
def land_values(land: Land) -> Callable[..., Landed]:
    """Land a table from {(measure, code of each dimension …): value}; a text lands as StringValue, None as missing."""

    def write(meta: TableMeta, values: dict[tuple[str, ...], float | str | None]) -> Landed:
        rows = list(values.items())
        table = pa.table(
            {
                "Id": pa.array(range(len(rows)), pa.int64()),
                "Measure": [key[0] for key, _ in rows],
                "ValueAttribute": ["Confidential" if value is None else "None" for _, value in rows],
                "Value": pa.array([v if isinstance(v, int | float) else None for _, v in rows], pa.float64()),
                "StringValue": pa.array([v if isinstance(v, str) else None for _, v in rows], pa.string()),
                **{d.identifier: [key[i] for key, _ in rows] for i, d in enumerate(meta.dimensions, 1)},
            }
        )
        return land(meta, table)

    return write


@pytest.fixture
def warehouse() -> Iterable[duckdb.DuckDBPyConnection]:
    """An empty warehouse in memory."""
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def kwb_2020(shared_data: Path, land: Land) -> Landed:
    """The real Kerncijfers wijken en buurten 2020 as recorded over v3: the whole country."""
    folder = shared_data / "cbs/odata3/84799NED"
    source = {
        name: str(folder / f"cbs.v3.84799NED_{name}.parquet")
        for name in ("DataProperties", "TypedDataSet", "WijkenEnBuurten")
    }
    properties = json.loads((folder / "cbs.v3.84799NED_Metadata.json").read_text())
    topics = duckdb.sql(
        f"""WITH RECURSIVE p AS (SELECT * FROM '{source["DataProperties"]}'),
        path AS (SELECT ID, [Title] AS titles FROM p WHERE ParentID IS NULL
            UNION ALL SELECT p.ID, list_append(titles, Title) FROM p JOIN path ON p.ParentID = path.ID)
        SELECT Key, titles, Unit, Datatype FROM p JOIN path USING (ID) WHERE Type = 'Topic' ORDER BY ID"""
    ).fetchall()
    measures = [measure(key, titles[-1], *titles[:-1], unit=unit, kind=kind) for key, titles, unit, kind in topics]
    codes = duckdb.sql(f"SELECT trim(Key), Title, trim(Municipality) FROM '{source['WijkenEnBuurten']}'").fetchall()
    geo = Dimension(
        "WijkenEnBuurten",
        "Wijken en buurten",
        "GeoDetail",
        codes=tuple(Code(k, i, t, "", gm) for i, (k, t, gm) in enumerate(codes)),
    )
    meta = TableMeta(Location("84799NED", "v3", ""), properties, (geo,), tuple(measures))
    kinds = {"Value": [m for m in measures if not m.is_text], "StringValue": [m for m in measures if m.is_text]}
    parts = []
    for column, some in kinds.items():
        kind = "DOUBLE" if column == "Value" else "VARCHAR"
        cells = ", ".join(f'"{m.identifier}"::{kind} AS "{m.identifier}"' for m in some)
        wide = f"SELECT trim(WijkenEnBuurten) AS WijkenEnBuurten, {cells} FROM '{source['TypedDataSet']}'"
        parts.append(
            f"""SELECT WijkenEnBuurten, Measure, {column}, if({column} IS NULL, 'Missing', 'None') AS ValueAttribute
            FROM ({wide}) UNPIVOT INCLUDE NULLS ({column} FOR Measure IN (COLUMNS(* EXCLUDE WijkenEnBuurten)))"""
        )
    query = f"SELECT row_number() OVER () AS Id, * FROM ({' UNION ALL BY NAME '.join(parts)})"
    observations = duckdb.sql(query).arrow()
    return land(meta, observations if isinstance(observations, pa.Table) else observations.read_all())


def _recorded(folder: Path, name: str) -> Any:
    path = folder / f"{name}.json"
    if path.exists():
        return json.loads(path.read_text())
    return json.loads(gzip.decompress(path.with_suffix(".json.gz").read_bytes()))


@pytest.fixture(scope="session")
def population_recorded(shared_data: Path, land: Land) -> Landed:
    """The recorded slice of 03759ned (population by region)."""
    folder = shared_data / "cbs/odata4/03759ned"
    dimensions = []
    for d in _recorded(folder, "dimensions")["value"]:
        codes = _recorded(folder, f"codes-{d['Identifier']}")["value"]
        made = (
            Code(
                c["Identifier"], c["Index"], c["Title"], c["Description"] or "", c["DimensionGroupId"], c.get("Status")
            )
            for c in codes
        )
        dimensions.append(Dimension(d["Identifier"], d["Title"], d["Kind"], codes=tuple(made)))
    measures = [
        Measure(
            m["Identifier"],
            m["Index"],
            m["Title"],
            "",
            m["MeasureGroupId"],
            (),
            m["DataType"],
            m["Unit"],
            m["Decimals"],
        )
        for m in _recorded(folder, "measure-codes")["value"]
    ]
    meta = TableMeta(
        Location("03759ned", "v4", ""), _recorded(folder, "properties"), tuple(dimensions), tuple(measures)
    )
    rows = pa.Table.from_pylist(_recorded(folder, "observations-page-1")["value"])
    return land(meta, rows.set_column(rows.column_names.index("Value"), "Value", rows["Value"].cast(pa.float64())))


@pytest.fixture(scope="session")
def gebieden_2022(shared_data: Path, land: Land) -> Landed:
    """The real Gebieden in Nederland 2022 (85067NED), recorded over v3."""
    folder = shared_data / "cbs/odata3/85067NED"
    with (folder / "DataProperties.csv").open(newline="") as lines:
        properties = list(csv.DictReader(lines))
    by_id = {row["ID"]: row for row in properties}

    def path(row: dict[str, str]) -> tuple[str, ...]:
        parent = by_id.get(row["ParentID"])
        return (*path(parent), parent["Title"]) if parent else ()

    topics = [row for row in properties if row["Type"] == "Topic"]
    measures = [measure(row["Key"], row["Title"], *path(row), unit=row["Unit"], kind=row["Datatype"]) for row in topics]
    with gzip.open(folder / "data.csv.gz", "rt", newline="") as lines:
        rows = list(csv.DictReader(lines))
    with (folder / "TableInfos.csv").open(newline="") as lines:
        infos = next(csv.DictReader(lines))
    codes = tuple(Code(row["RegioS"].strip(), i, row["Naam_2"].strip(), "", None) for i, row in enumerate(rows))
    geo = Dimension("RegioS", "Regio's", "GeoDimension", codes=codes)
    meta = TableMeta(Location("85067NED", "v3", ""), infos, (geo,), tuple(measures))
    long = [(row["RegioS"].strip(), m, row[m.identifier].strip()) for row in rows for m in measures]
    observations = pa.table(
        {
            "Id": pa.array(range(len(long)), pa.int64()),
            "Measure": [m.identifier for _, m, _ in long],
            "ValueAttribute": ["None" if value else "Impossible" for _, _, value in long],
            "Value": pa.array([float(v) if v and not m.is_text else None for _, m, v in long], pa.float64()),
            "StringValue": pa.array([v if v and m.is_text else None for _, m, v in long], pa.string()),
            "RegioS": [code for code, _, _ in long],
        }
    )
    return land(meta, observations)
