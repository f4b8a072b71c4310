"""CBS over OData v4 into DuckDB: ours against requests + pandas, and against dlt's rest_api.

`python -m bench.cbs_v4` measures; the other words are the processes that it measures. With dlt the whole table takes
ten minutes: `DATAFABRIEK_BENCH_DLT=3 python -m bench cbs_v4` adds three pairs of that.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

PAGE = 100_000
PAGES = 22
ROWS = 2_160_000
SMALL = 200_000
"""Observations in the quick pair with dlt, of which ours spends a third on starting up."""

TOTALS = {"00001NED": ROWS, "00002NED": SMALL}

REGIONS, AGES, YEARS = 180, 100, 30


def main() -> None:
    from bench.harness import pairs, serving

    script = Path(__file__)
    with tempfile.TemporaryDirectory() as folder, serving(script, "serve") as url:

        def command(who: str, table: str) -> list[str]:
            return [sys.executable, str(script), who, url, table, folder]

        pairs(
            f"CBS v4, {ROWS:,} observations in {PAGES} gzip pages into DuckDB; peer: requests + pandas",
            command("ours", "00001NED"),
            command("pandas", "00001NED"),
            warm=True,
            at_least=4,
            at_most_mb=450,
        )
        pairs(
            f"CBS v4, {SMALL:,} observations into DuckDB; peer: dlt rest_api, defaults",
            command("ours", "00002NED"),
            command("dlt", "00002NED"),
            warm=True,
            at_least=50,
        )
        times = int(os.environ.get("DATAFABRIEK_BENCH_DLT", "0"))
        if times:
            pairs(
                f"CBS v4, {ROWS:,} observations into DuckDB; peer: dlt rest_api, defaults",
                command("ours", "00001NED"),
                command("dlt", "00001NED"),
                times=times,
                at_least=50,
            )


def ours(url: str, table: str, folder: Path) -> None:
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


def with_pandas(url: str, table: str, folder: Path) -> None:
    import duckdb
    import pandas as pd
    import requests

    target = folder / f"pandas-{table}.duckdb"
    target.unlink(missing_ok=True)
    base = f"{url}/odata/v1/CBS/{table}"
    frames, link = [], f"{base}/Observations"
    while link:
        page = requests.get(link, timeout=60).json()
        frames.append(pd.DataFrame(page["value"]))
        link = page.get("@odata.nextLink")
    observations = pd.concat(frames, ignore_index=True)
    assert len(observations) == requests.get(f"{base}/Properties", timeout=60).json()["ObservationCount"]
    assert observations["Id"].is_unique
    with duckdb.connect(str(target)) as connection:
        connection.execute("CREATE TABLE observations AS SELECT * FROM observations")
        for name in ("MeasureCodes", "RegioSCodes", "LeeftijdCodes", "PeriodenCodes"):
            codes = pd.DataFrame(requests.get(f"{base}/{name}", timeout=60).json()["value"])
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM codes")
            assert len(codes)


def with_dlt(url: str, table: str, folder: Path) -> None:
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    from dlt.sources.rest_api import rest_api_source

    target = folder / f"dlt-{table}.duckdb"
    target.unlink(missing_ok=True)
    endpoint = {"path": "Observations", "data_selector": "value"}
    paginator = {"type": "json_link", "next_url_path": "'@odata.nextLink'"}
    source = rest_api_source(
        {
            "client": {"base_url": f"{url}/odata/v1/CBS/{table}/", "paginator": paginator},
            "resources": [{"name": "observations", "endpoint": endpoint}],
        }
    )
    pipeline = dlt.pipeline(
        "bench", pipelines_dir=str(folder / "dlt"), destination=dlt.destinations.duckdb(str(target)), dataset_name="cbs"
    )
    pipeline.run(source, write_disposition="replace")
    with pipeline.sql_client() as client:
        assert client.execute_sql("SELECT count(*) FROM observations")[0][0] == TOTALS[table]


def serve() -> None:
    import duckdb

    from bench.static_server import Answer, zipped
    from bench.static_server import serve as run

    def make(address: str) -> Answer:
        connection = duckdb.connect()
        codes = {
            "Measure": [f"M{n:06}" for n in range(4)],
            "RegioS": [f"GM{n:04}" for n in range(REGIONS)],
            "Leeftijd": [f"{10000 + 10 * n}" for n in range(AGES)],
            "Perioden": [f"{1990 + n}JJ00" for n in range(YEARS)],
        }

        def page(table: str, skip: int, total: int) -> bytes:
            rows = connection.execute(
                "SELECT string_agg('{\"Id\":' || i || ',\"Measure\":\"M' || lpad((i % 4)::VARCHAR, 6, '0') || "
                "'\",\"ValueAttribute\":\"' || if(i % 11 = 0, 'Impossible', 'None') || '\",\"Value\":' || "
                'if(i % 11 = 0, \'null\', (hash(i) % 1000000)::VARCHAR) || \',"StringValue":null,"RegioS":"GM\' || '
                f"lpad((i // 4 % {REGIONS})::VARCHAR, 4, '0') || '\",\"Leeftijd\":\"' || "
                f'(10000 + 10 * (i // {4 * REGIONS} % {AGES})) || \'","Perioden":"\' || '
                f"(1990 + i // {4 * REGIONS * AGES} % {YEARS}) || 'JJ00\"}}', ',' ORDER BY i) FROM range(?, ?) t(i)",
                [skip, min(skip + PAGE, total)],
            ).fetchall()[0][0]
            link = f"{address}/odata/v1/CBS/{table}/Observations?$skip={skip + PAGE}"
            tail = f',"@odata.nextLink":"{link}"' if skip + PAGE < total else ""
            return zipped(f'{{"@odata.context":"{address}","value":[{rows}]{tail}}}'.encode())

        def listed(rows: list[dict[str, object]]) -> bytes:
            return zipped(json.dumps({"@odata.context": address, "value": rows}).encode())

        bodies = {}
        for table, total in TOTALS.items():
            told = {"Identifier": table, "Title": table, "Modified": "2026", "ObservationsModified": "2026"}
            told |= {"ObservationCount": total, "Source": "Synthetisch"}  # type: ignore[dict-item]
            bodies[table, "Properties"] = zipped(json.dumps(told).encode())
            bodies[table, "MeasureGroups"] = listed([])
            bodies[table, "Dimensions"] = listed(
                [
                    {"Identifier": name, "Title": name, "Kind": kind}
                    for name, kind in (
                        ("RegioS", "GeoDimension"),
                        ("Leeftijd", "Dimension"),
                        ("Perioden", "TimeDimension"),
                    )
                ]
            )
            for name, known in codes.items():
                rows = [{"Identifier": c, "Index": n, "Title": f"naam {c}", "Unit": ""} for n, c in enumerate(known)]
                bodies[table, f"{name}Codes"] = listed(rows)  # type: ignore[arg-type]
            for skip in range(0, total, PAGE):
                bodies[table, f"Observations {skip}"] = page(table, skip, total)

        def answer(path: str, query: dict[str, str]) -> bytes | None:
            *_, table, name = path.split("/")
            return bodies.get((table, f"{name} {query.get('$skip', 0)}" if name == "Observations" else name))

        return answer

    run(make)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) == 5:
        {"ours": ours, "pandas": with_pandas, "dlt": with_dlt}[sys.argv[1]](*sys.argv[2:4], Path(sys.argv[4]))
    else:
        main()
