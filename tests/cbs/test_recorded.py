"""Every table recorded in ../shared/data/cbs, fetched with `cbs fetch` and compared cell by cell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from assets.cbs.client import CbsClient, Endpoints, Options
from datafabriek.cli import main
from datafabriek.sample.server import ServedTable, StandIn, TableStore

Fetch = Callable[..., duckdb.DuckDBPyConnection]
Recorded = dict[str, tuple[ServedTable, str | None]]

SLICES = {
    "03759ned": 13_568,
    "37789ksz": 6_470,
    "80590ned": 5_586,
    "82610NED": 3_863,
    "83625NED": 8_195,
    "85828NED": 12_096,
    "85880NED": 22_230,
}
CODES_ONLY = ("80416ned", "85554NED", "85615NED")


@pytest.fixture(scope="module")
def server(recorded_store: TableStore) -> Iterator[StandIn]:
    with StandIn(recorded_store, page_v4=5_000) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for the module: a table that was fetched before is answered from disk."""
    return tmp_path_factory.mktemp("fetched")


@pytest.fixture
def fetch(server: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetch]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DATAFABRIEK_CBS__ODATA4_URL", server.odata4)
    monkeypatch.setenv("DATAFABRIEK_CBS__ODATA3_URL", server.odata3)
    monkeypatch.setenv("DATAFABRIEK_CBS__DERDEN_URL", server.derden)
    opened = []

    def run(table_id: str, filter_text: str | None = None) -> duckdb.DuckDBPyConnection:
        chosen = ["--filter", filter_text] if filter_text else []
        monkeypatch.setattr(sys, "argv", ["datafabriek", "cbs", "fetch", table_id, *chosen])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        opened.append(duckdb.connect(str(folder / f"{table_id}.duckdb"), read_only=True))
        return opened[-1]

    yield run
    for connection in opened:
        connection.close()


def test_no_recording_is_left_out(shared_data: Path) -> None:
    found = {
        path.name for kind in ("odata3", "odata4") for path in (shared_data / "cbs" / kind).iterdir() if path.is_dir()
    }
    over_v3 = {"84799NED", "85067NED", "85318NED"}
    assert found == {*SLICES, *CODES_ONLY, *over_v3}, "a recording that no test here fetches"


def differing(connection: duckdb.DuckDBPyConnection, recorded: pa.Table) -> int:
    """Rows that stand in one of the two alone."""
    connection.register("recorded", recorded)
    columns = ", ".join(
        f'"{name}"::{"VARCHAR" if kind == pa.string() else "DOUBLE"}'
        for name, kind in zip(recorded.column_names, recorded.schema.types, strict=True)
    )
    one, other = (f"SELECT {columns} FROM {name}" for name in ("observations", "recorded"))
    query = f"SELECT count(*) FROM ((({one}) EXCEPT ALL ({other})) UNION ALL (({other}) EXCEPT ALL ({one})))"
    return int(connection.execute(query).fetchall()[0][0])


@pytest.mark.parametrize("table_id", SLICES)
def test_v4_recording_is_fetched_exactly(table_id: str, recorded: Recorded, fetch: Fetch) -> None:
    table, slice_filter = recorded[table_id]
    connection = fetch(table_id, slice_filter)
    assert (
        connection.execute("SELECT count(*), count(DISTINCT Id) FROM observations").fetchone()
        == (SLICES[table_id],) * 2
    )
    assert differing(connection, table.observations) == 0
    for dimension in table.meta.dimensions:
        found = connection.execute(
            f'SELECT Identifier, Title FROM "codes_{dimension.identifier}" ORDER BY "Index"'
        ).fetchall()
        assert found == [
            (code.identifier, code.title.strip()) for code in sorted(dimension.codes, key=lambda c: c.index)
        ]
    measures = connection.execute("SELECT Identifier, Title, Unit FROM measures").fetchall()
    assert measures == [(m.identifier, m.title, m.unit) for m in table.meta.measures]
    title = connection.execute("SELECT Value FROM properties WHERE Name = 'Title'").fetchone()
    assert title == (table.meta.properties["Title"],)


def test_known_figures_of_population(recorded: Recorded, fetch: Fetch) -> None:
    connection = fetch("03759ned", recorded["03759ned"][1])
    query = (
        "SELECT Value FROM observations JOIN codes_Perioden p ON p.Identifier = Perioden::VARCHAR "
        "WHERE Measure = 'M000352' AND RegioS = ? AND p.StartDate = ?::DATE AND p.Frequency = 'jaar'"
    )
    for region, day, wanted in (
        ("GM0518", "2025-01-01", 568_945),
        ("GM1916", "2025-01-01", 78_318),
        ("NL01", "2019-01-01", 17_282_163),
    ):
        assert connection.execute(query, [region, day]).fetchall() == [(wanted,)]
    why = connection.execute("SELECT DISTINCT ValueAttribute::VARCHAR FROM observations WHERE Value IS NULL").fetchall()
    assert why == [("Impossible",)]


def test_kerncijfers_2020_over_v3(recorded: Recorded, fetch: Fetch) -> None:
    connection = fetch("84799NED")
    assert connection.execute("SELECT count(*), count(DISTINCT Id) FROM observations").fetchone() == (17_341 * 116,) * 2
    query = "SELECT Value FROM observations WHERE Measure = 'AantalInwoners_5' AND WijkenEnBuurten = ?"
    for region, wanted in (("NL00", 17_407_585), ("GM0518", 545_838), ("GM1916", 76_534)):
        assert connection.execute(query, [region]).fetchall() == [(wanted,)]
    below = (
        "SELECT sum(Value) FROM observations "
        "WHERE Measure = 'AantalInwoners_5' AND starts_with(WijkenEnBuurten::VARCHAR, 'BU0518')"
    )
    assert connection.execute(below).fetchone() == (545_485,)
    path = connection.execute(
        "SELECT TitlePath FROM measures WHERE Identifier = 'PersonenPerSoortUitkeringBijstand_83'"
    ).fetchone()
    assert path is not None and path[0].startswith("Sociale zekerheid > ") and "bijstand" in path[0].lower()


@pytest.mark.parametrize(("table_id", "wide_rows", "topics"), [("84799NED", 17_341, 116), ("85067NED", 345, 55)])
def test_v3_cells_are_fetched_exactly(
    table_id: str, wide_rows: int, topics: int, recorded: Recorded, fetch: Fetch
) -> None:
    connection = fetch(table_id)
    table = recorded[table_id][0]
    connection.register("wide", table.wide)
    assert connection.execute("SELECT count(*) FROM wide").fetchone() == (wide_rows,)
    assert len(table.meta.measures) == topics
    key = table.meta.dimensions[0].identifier
    columns = ", ".join(
        f'trim("{m.identifier}"::VARCHAR) AS "{m.identifier}"'
        if m.is_text
        else f'"{m.identifier}"::DOUBLE::VARCHAR AS "{m.identifier}"'
        for m in table.meta.measures
    )
    on = ", ".join(f'"{m.identifier}"' for m in table.meta.measures)
    cells = (
        f'SELECT region, measure, cell FROM (SELECT trim("{key}") AS region, {columns} FROM wide) '
        f"UNPIVOT INCLUDE NULLS (cell FOR measure IN ({on}))"
    )
    found = f'SELECT "{key}"::VARCHAR, Measure::VARCHAR, coalesce(StringValue, Value::VARCHAR) FROM observations'
    query = f"SELECT count(*) FROM ((({cells}) EXCEPT ALL ({found})) UNION ALL (({found}) EXCEPT ALL ({cells})))"
    assert connection.execute(query).fetchone() == (0,)


@pytest.mark.parametrize("table_id", CODES_ONLY)
def test_recordings_without_observations_give_their_codes(table_id: str, recorded: Recorded, server: StandIn) -> None:
    endpoints = Endpoints(server.odata4, server.odata3, server.derden)
    with CbsClient(endpoints, Options(retries=1, backoff_s=0.01)) as client:
        meta = client.table(table_id)
    wanted = recorded[table_id][0].meta
    assert {d.identifier: len(d.codes) for d in meta.dimensions} == {
        d.identifier: len(d.codes) for d in wanted.dimensions
    }


def test_merger_history_survives_in_region_codes(recorded: Recorded, fetch: Fetch) -> None:
    connection = fetch("03759ned", recorded["03759ned"][1])
    told = connection.execute("SELECT Description FROM codes_RegioS WHERE Identifier = 'GM0548'").fetchone()
    assert told is not None and "17560 woningen en 35868 inwoners" in told[0]
    assert connection.execute("SELECT count(*) FROM codes_RegioS WHERE starts_with(Identifier, 'GM')").fetchone() == (
        835,
    )


def test_region_codes_of_2022_over_v3_pages(shared_data: Path, regions_2022: ServedTable, server: StandIn) -> None:
    server.store.add(regions_2022)
    with CbsClient(Endpoints(server.odata4, server.odata3, server.derden), Options(retries=1)) as client:
        (dimension,) = client.table("85318NED").dimensions
    assert len(dimension.codes) == 18_003
    assert dimension.width == 10
    assert dimension.by_identifier["GM0518"].title == "'s-Gravenhage"


def test_bulk_download_of_83841ned_is_served_and_fetched_exactly(
    poverty: ServedTable, server: StandIn, fetch: Fetch
) -> None:
    server.store.add(poverty)
    connection = fetch("83841NED")
    assert connection.execute("SELECT count(*) FROM observations").fetchone() == (11_460,)
    assert differing(connection, poverty.observations) == 0


def test_fetched_file_opens_in_the_format_of_duckdb_1_0(recorded: Recorded, fetch: Fetch, folder: Path) -> None:
    connection: Any = fetch("37789ksz")
    assert (
        connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'observations'")
        .fetchone()[0]
        .endswith("(StatLine 37789ksz, CC BY 4.0)")
    )
    connection.close()
    # the storage version stands in the file's main header; 64 is that of DuckDB 0.9 to 1.1
    assert int.from_bytes((folder / "37789ksz.duckdb").read_bytes()[12:20], "little") == 64
