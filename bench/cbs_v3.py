"""CBS over OData v3 with labels into DuckDB: ours against cbsodata.

`python -m bench.cbs_v3` measures; the other words are the processes that it measures. Two shapes: a long table with
the five dimensions and two topics of 03759ned (population by region), and a wide one in the size of kerncijfers
wijken en buurten, 17,341 rows that hold two million observations. Ours ends with observations and the labels of all
codes in DuckDB, counted and with unique numbers, and with a copy on disk that makes a load resumable. The peer ends

- `same`: with the same observations and labels in DuckDB, counted and with unique numbers, by way of pandas;
- `wide`: with one wide row a region in DuckDB, as cbsodata gives it, where codes have given way to labels;
- `list`: with what cbsodata gives, a list of dicts in memory.

After `same` both files must tell the same of each dimension: rows, sums and missing values by measure and label.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PAGE = 10_000
PEERS = {"same": 4, "wide": None, "list": None}
"""Where the peer ends, and the ratio asked for; see above."""


@dataclass(frozen=True)
class Shape:
    """Codes of each dimension, and topics; the first dimension is one of regions."""

    dimensions: dict[str, int]
    topics: int

    @property
    def rows(self) -> int:
        return math.prod(self.dimensions.values())


LONG, WIDE = "00003NED", "00004NED"
SHAPES = {
    LONG: Shape({"BurgerlijkeStaat": 2, "Geslacht": 3, "Leeftijd": 50, "RegioS": 60, "Perioden": 30}, 2),
    WIDE: Shape({"WijkenEnBuurten": 17_341}, 116),
}


def main() -> None:
    from bench.harness import pairs, serving

    script = Path(__file__)
    with tempfile.TemporaryDirectory() as folder, serving(script, "serve") as url:
        for table, shape in SHAPES.items():
            told = f"CBS v3 with labels, {shape.rows:,} rows, {len(shape.dimensions)} dimensions, {shape.topics} topics"
            for end, target in PEERS.items():
                ours, peer = ([sys.executable, str(script), who, url, table, folder] for who in ("ours", end))
                pairs(f"{told}; peer: cbsodata, {end}", ours, peer, warm=end == "same", at_least=target)
            agree(Path(folder), table)


def agree(folder: Path, table: str) -> None:
    """Both files tell the same of every measure and of every label of each dimension."""
    import duckdb

    told = "count(*), count(Value), sum(Value), sum(Id), count(*) FILTER (ValueAttribute = 'Missing')"
    for name, codes in SHAPES[table].dimensions.items():
        found = []
        for who, label, joined in (
            ("ours", "c.Title", f"JOIN codes_{name} c ON c.Identifier = o.{name}::VARCHAR"),
            ("same", f"trim(o.{name})", ""),
        ):
            with duckdb.connect(str(folder / f"{who}-{table}.duckdb"), read_only=True) as connection:
                query = (
                    f"SELECT Measure::VARCHAR, {label}, {told} FROM observations o {joined} GROUP BY ALL ORDER BY 1, 2"
                )
                found.append(connection.execute(query).fetchall())
        assert found[0] == found[1] and len(found[0]) == SHAPES[table].topics * codes


def ours(url: str, table: str, folder: Path) -> None:
    """Observations with codes, and the labels of all codes beside them."""
    import shutil

    import duckdb

    from assets.cbs.client import CbsClient, Endpoints, load

    target = folder / f"ours-{table}.duckdb"
    target.unlink(missing_ok=True)
    shutil.rmtree(folder / table, ignore_errors=True)
    with CbsClient(Endpoints(f"{url}/odata/v1", url, url)) as client:
        landed = client.land(table, folder)
    with duckdb.connect(str(target)) as connection:
        connection.execute("BEGIN")
        load(landed, connection)
        connection.execute("COMMIT")


def with_cbsodata(url: str, table: str) -> list[dict[str, object]]:
    """Wide rows, labels in the place of codes."""
    import cbsodata

    cbsodata.options.use_https = False
    rows: list[dict[str, object]] = cbsodata.get_data(table, catalog_url=url.removeprefix("http://"))
    shape = SHAPES[table]
    assert len(rows) == shape.rows and len(rows[0]) == len(shape.dimensions) + shape.topics + 1
    assert all(str(rows[0][name]).startswith("naam") for name in shape.dimensions)
    return rows


def as_list(url: str, table: str, folder: Path) -> None:
    with_cbsodata(url, table)


def as_wide(url: str, table: str, folder: Path) -> None:
    import duckdb
    import pandas as pd

    target = folder / f"wide-{table}.duckdb"
    target.unlink(missing_ok=True)
    frame = pd.DataFrame(with_cbsodata(url, table))
    with duckdb.connect(str(target)) as connection:
        connection.execute("CREATE TABLE wide AS SELECT * FROM frame")
        assert connection.execute("SELECT count(*) FROM wide").fetchone() == (len(frame),)


def as_same(url: str, table: str, folder: Path) -> None:
    import cbsodata
    import duckdb
    import pandas as pd
    import requests

    target = folder / f"same-{table}.duckdb"
    target.unlink(missing_ok=True)
    host = url.removeprefix("http://")
    frame = pd.DataFrame(with_cbsodata(url, table))
    properties = cbsodata.get_meta(table, "DataProperties", catalog_url=host)
    topics = [row["Key"] for row in properties if row["Type"] == "Topic"]
    names = [row["Key"] for row in properties if row["Type"] != "Topic"]
    counted = int(requests.get(f"{url}/ODataApi/odata/{table}/TypedDataSet/$count", timeout=60).text)
    assert len(frame) == counted and frame["ID"].is_unique
    observations = frame.melt(["ID", *names], topics, "Measure", "Value")
    place = observations["Measure"].map({topic: n for n, topic in enumerate(topics)})
    observations["Id"] = observations.pop("ID") * len(topics) + place
    observations["ValueAttribute"] = observations["Value"].isna().map({True: "Missing", False: "None"})
    with duckdb.connect(str(target)) as connection:
        connection.execute("CREATE TABLE observations AS SELECT *, NULL::VARCHAR AS StringValue FROM observations")
        assert connection.execute("SELECT count(*) FROM observations").fetchone() == (counted * len(topics),)
        for name in names:
            codes = pd.DataFrame(cbsodata.get_meta(table, name, catalog_url=host))
            codes["Key"] = codes["Key"].str.strip()
            connection.execute(f"CREATE TABLE codes_{name} AS SELECT * FROM codes")
        codes = pd.DataFrame(properties)
        connection.execute("CREATE TABLE measures AS SELECT * FROM codes")


def serve() -> None:
    from bench.static_server import Answer
    from bench.static_server import serve as run

    def make(address: str) -> Answer:
        bodies = {table: _bodies(address, table) for table in SHAPES}

        def answer(path: str, query: dict[str, str]) -> bytes | None:
            parts = path.strip("/").split("/")
            if len(parts) < 3 or parts[1] != "odata" or parts[2] not in bodies:
                return None
            name = parts[-1] if len(parts) > 3 else ""
            return bodies[parts[2]].get(f"{name} {query.get('$skip', 0)}")

        return answer

    run(make)


def _bodies(address: str, table: str) -> dict[str, bytes]:
    """All answers of one table, by entity and `$skip`."""
    import itertools
    import random

    from bench.static_server import zipped

    shape, chance = SHAPES[table], random.Random(20)
    base = f"{address}/ODataFeed/odata/{table}"
    topics = [f"Onderwerp_{n}" for n in range(1, shape.topics + 1)]
    keys = {name: [f"{name[:2].upper()}{n:06}".ljust(10) for n in range(n)] for name, n in shape.dimensions.items()}
    found: dict[str, bytes] = {"$count 0": zipped(str(shape.rows).encode())}

    def put(name: str, rows: list[dict[str, object]]) -> None:
        for skip in range(0, max(1, len(rows)), PAGE):
            told: dict[str, object] = {"odata.metadata": base, "value": rows[skip : skip + PAGE]}
            if skip + PAGE < len(rows):
                told["odata.nextLink"] = f"{base}/{name}?$format=json&$skip={skip + PAGE}"
            found[f"{name} {skip}"] = zipped(json.dumps(told).encode())

    names = ("TableInfos", "UntypedDataSet", "TypedDataSet", "DataProperties", "CategoryGroups", *keys)
    put("", [{"name": name, "url": f"{base}/{name}"} for name in names])
    put("TableInfos", [{"Identifier": table, "Title": table, "Modified": "2026-01-01T02:00:00"}])
    put("CategoryGroups", [])
    kinds = {"RegioS": "GeoDimension", "Perioden": "TimeDimension", "WijkenEnBuurten": "GeoDetail"}
    properties: list[dict[str, object]] = [
        {"Type": kinds.get(name, "Dimension"), "Key": name, "Title": name, "ParentID": None} for name in keys
    ]
    topic = {"Type": "Topic", "ParentID": None, "Datatype": "Long", "Unit": "aantal", "Decimals": 0}
    properties += [{**topic, "Key": name, "Title": name, "Default": "Impossible"} for name in topics]
    put("DataProperties", [{"ID": n, "Position": n, **row} for n, row in enumerate(properties)])
    for name, codes in keys.items():
        put(name, [{"Key": key, "Title": f"naam {key}", "Description": None} for key in codes])
    rows: list[dict[str, object]] = []
    for n, combination in enumerate(itertools.product(*keys.values())):
        values = (None if chance.random() < 0.1 else chance.randrange(100_000) for _ in topics)
        rows.append({"ID": n, **dict(zip(keys, combination, strict=True)), **dict(zip(topics, values, strict=True))})
    put("TypedDataSet", rows)
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) == 5:
        process = {"ours": ours, "same": as_same, "wide": as_wide, "list": as_list}[sys.argv[1]]
        process(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        main()
