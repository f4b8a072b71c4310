"""The client against the stand-in: every fault of the wire, and what is left on disk afterwards."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from assets.cbs import http, landing, odata3
from assets.cbs.client import CbsClient, Endpoints, Options, load, observations, previous, regions_filter
from assets.cbs.errors import (
    BadFilterError,
    BadReplyError,
    CbsUnreachableError,
    LandingError,
    UnknownTableError,
)
from assets.cbs.model import Landed
from datafabriek.sample.server import Fault, ServedTable, StandIn, _BadRequestError

TABLE = "99999NED"
Serve = Callable[..., StandIn]
ClientOf = Callable[..., CbsClient]


def rows(table: Landed) -> list[tuple[object, ...]]:
    """Observations, in order of Id."""
    return duckdb.connect().execute(f"FROM ({observations(table)}) ORDER BY Id").fetchall()


def served_rows(table: ServedTable) -> list[tuple[object, ...]]:
    return duckdb.from_arrow(table.observations).order("Id").fetchall()


@pytest.fixture
def table(make_table: Callable[..., ServedTable]) -> ServedTable:
    return make_table()


def test_lands_every_observation_exactly(table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path) -> None:
    server = serve(table, page_v4=60)
    told: list[tuple[int, int]] = []
    landed = client_of(server).land(TABLE, tmp_path, progress=lambda done, due: told.append((done, due)))
    assert rows(landed) == served_rows(table)
    assert (landed.rows, landed.changed, len(landed.parts)) == (250, True, 5)
    assert told[-1] == (250, 250)
    assert landed.meta.is_synthetic


def test_metadata_is_kept_with_codes_labels_status_and_start(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    landed = client_of(serve(table)).land(TABLE, tmp_path)
    connection = duckdb.connect()
    load(landed, connection)
    tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    assert tables == {"observations", "measures", "dimensions", "properties", "codes_RegioS", "codes_Perioden"}
    period = connection.execute("SELECT Title, Status, StartDate::VARCHAR, Frequency FROM codes_Perioden LIMIT 1")
    assert period.fetchone() == ("2000", "Definitief", "2000-01-01", "jaar")
    types = dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'observations'"
        ).fetchall()
    )
    assert types["RegioS"] == "ENUM('NL01', 'PV28', 'GM0518', 'GM1916')"
    assert connection.execute("SELECT count(*) FROM observations WHERE ValueAttribute = 'Confidential'").fetchone() == (
        36,
    )
    measure = connection.execute("SELECT TitlePath FROM measures WHERE Identifier = 'M000001'").fetchone()
    assert measure == ("Bevolking > Inwoners",)
    assert previous(tmp_path / TABLE) == replace(landed, changed=False)


def test_a_table_without_texts_has_its_column_of_texts_in_its_place(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    at = table.observations.schema.get_field_index("StringValue")
    none = table.observations.set_column(at, "StringValue", pa.nulls(250, pa.string()))
    target = tmp_path / "numbers.duckdb"
    for served, texts in ((table, 107), (replace(table, observations=none), 0)):
        landed = client_of(serve(served)).land(TABLE, tmp_path / str(texts))
        with duckdb.connect(str(target)) as connection:
            load(landed, connection)
        with duckdb.connect(str(target), read_only=True) as connection:
            assert connection.execute("FROM observations ORDER BY Id").fetchall() == served_rows(served)
            kind = connection.execute("SELECT any_value(typeof(StringValue)), count(StringValue) FROM observations")
            assert kind.fetchone() == ("VARCHAR", texts)
            assert connection.execute("SELECT count(*) FROM duckdb_types() WHERE NOT internal").fetchone() == (0,)


def test_code_that_cbs_does_not_list_is_kept(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    regions = table.meta.dimension("RegioS")
    shorter = replace(regions, codes=regions.codes[:2])
    server = serve(replace(table, meta=replace(table.meta, dimensions=(shorter, table.meta.dimension("Perioden")))))
    connection = duckdb.connect()
    load(client_of(server).land(TABLE, tmp_path), connection)
    found = connection.execute("SELECT DISTINCT RegioS FROM observations ORDER BY 1").fetchall()
    assert found == [("NL01",), ("PV28",), ("GM0518",), ("GM1916",)], "listed codes come first"


def test_unchanged_is_answered_from_disk_and_changed_is_loaded(
    make_table: Callable[..., ServedTable], serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(make_table())
    client = client_of(server)
    first = client.land(TABLE, tmp_path)
    before = len(server.requests)
    again = client.land(TABLE, tmp_path)
    assert (again.changed, again.parts, len(server.requests) - before) == (False, first.parts, 1)
    server.store.add(make_table(ObservationsModified="2026-02-01T02:00:00", rows=248))
    renewed = client.land(TABLE, tmp_path)
    assert (renewed.changed, renewed.rows) == (True, 248)
    assert not first.folder.exists()
    assert client.land(TABLE, tmp_path, filter="RegioS eq 'GM0518'").changed


def test_a_table_that_cbs_changes_meanwhile_is_not_landed_in_two_versions(
    make_table: Callable[..., ServedTable], serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(make_table())
    client = client_of(server)
    first = client.land(TABLE, tmp_path)
    server.store.add(make_table(ObservationsModified="2026-02-01T02:00:00"))
    asked = client._wire.save

    def save(url: str, target: Path) -> None:
        asked(url, target)
        if "Observations" in url:
            server.store.add(make_table(ObservationsModified="2026-02-02T02:00:00"))

    client._wire.save = save
    with pytest.raises(BadReplyError, match=f"changed table {TABLE} while it was being loaded"):
        client.land(TABLE, tmp_path)
    assert previous(tmp_path / TABLE) == replace(first, changed=False)
    assert client.land(TABLE, tmp_path).meta.observations_modified == "2026-02-02T02:00:00"


def test_edited_metadata_is_renewed_without_fetching_observations(
    make_table: Callable[..., ServedTable], serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(make_table())
    client = client_of(server)
    first = client.land(TABLE, tmp_path)
    server.store.add(make_table(Modified="2026-03-01T02:00:00", Title="Nieuwe titel"))
    server.requests.clear()
    renewed = client.land(TABLE, tmp_path)
    assert (renewed.changed, renewed.meta.title, renewed.rows) == (True, "Nieuwe titel", first.rows)
    assert not any("Observations" in request for request in server.requests)
    assert rows(renewed) == served_rows(make_table())


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset", "Observations.*skip=120"),
        Fault("reset", "Observations$"),
        Fault("error", "Observations", times=2),
        Fault("error", "Properties", times=2),
        Fault("busy", "Observations", seconds=0.05),
        Fault("hang", "Observations.*skip=60", seconds=3),
        Fault("truncate", "Observations"),
        Fault("truncate", "MeasureCodes"),
        Fault("truncate", "RegioSCodes"),
        Fault("duplicate", "Observations.*skip=120"),
        Fault("duplicate", "Observations.*skip=180", times=2),
        Fault("duplicate", "Observations.*skip=180", times=4),
        Fault("empty", "Observations.*skip=60"),
        Fault("empty", "Observations$"),
        Fault("slow", "Observations", seconds=0.2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.match}-{fault.times}",
)
def test_survives(
    fault: Fault, faults: list[Fault], table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    faults.append(fault)
    server = serve(table, page_v4=60)
    landed = client_of(server, Options(timeout_s=0.5, retries=3, parallel=3, backoff_s=0.01)).land(TABLE, tmp_path)
    assert rows(landed) == served_rows(table)
    assert fault.times == 0


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        (Fault("error", "Observations", times=99), CbsUnreachableError, "HTTP 500"),
        (Fault("reset", "Observations", times=99), CbsUnreachableError, "broken|cut short"),
        (Fault("truncate", "Observations", times=99), BadReplyError, "cut short"),
        (Fault("duplicate", "Observations", times=99), BadReplyError, "250"),
        (Fault("empty", "Observations", times=99), BadReplyError, "250"),
        (Fault("truncate", "RegioSCodes", times=99), BadReplyError, "cut short"),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_lasting_fault_leaves_the_version_before(
    fault: Fault,
    error: type[Exception],
    told: str,
    faults: list[Fault],
    make_table: Callable[..., ServedTable],
    serve: Serve,
    client_of: ClientOf,
    tmp_path: Path,
) -> None:
    server = serve(make_table(), page_v4=60)
    before = client_of(server).land(TABLE, tmp_path)
    server.store.add(make_table(ObservationsModified="2026-02-01T02:00:00"))
    faults.append(fault)
    with pytest.raises(error, match=told):
        client_of(server).land(TABLE, tmp_path)
    kept = previous(tmp_path / TABLE)
    assert kept is not None and rows(kept) == rows(before)
    faults.clear()
    assert client_of(server).land(TABLE, tmp_path).changed


def test_wrong_count_is_refused(
    faults: list[Fault], table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    faults.append(Fault("count", r"\$count", times=9))
    with pytest.raises(BadReplyError, match="62 rows came in where CBS counts 63"):
        client_of(serve(table)).land(TABLE, tmp_path, filter="RegioS eq 'GM0518'")
    assert previous(tmp_path / TABLE) is None


def test_takes_up_complete_pages_of_an_attempt_before(
    faults: list[Fault], table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(table, page_v4=60)
    faults.append(Fault("error", "skip=240", times=99))
    with pytest.raises(CbsUnreachableError):
        client_of(server).land(TABLE, tmp_path)
    faults.clear()
    server.requests.clear()
    landed = client_of(server).land(TABLE, tmp_path)
    asked = [request for request in server.requests if "/Observations" in request]
    assert len(asked) == 1
    assert rows(landed) == served_rows(table)


def test_killed_half_way_resumes_and_shows_no_half_table(
    table: ServedTable, serve: Serve, client_of: ClientOf, faults: list[Fault], tmp_path: Path
) -> None:
    server = serve(table, page_v4=60)
    faults.append(Fault("hang", "skip=180", times=99, seconds=30))
    script = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from assets.cbs.client import CbsClient, Endpoints, Options
        endpoints = Endpoints({server.odata4!r}, {server.odata3!r}, {server.derden!r})
        with CbsClient(endpoints, Options(parallel=1)) as client:
            client.land({TABLE!r}, Path({str(tmp_path)!r}))
    """)
    child = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 30
        while not any("skip=180" in request for request in server.requests):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert previous(tmp_path / TABLE) is None
    faults.clear()
    server.requests.clear()
    landed = client_of(server).land(TABLE, tmp_path)
    asked = [request for request in server.requests if "/Observations" in request]
    assert len(asked) == 2, "three of five pages were complete"
    assert rows(landed) == served_rows(table)


def test_full_disk_is_told_and_leaves_the_version_before(
    make_table: Callable[..., ServedTable], serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(make_table())
    client_of(server).land(TABLE, tmp_path)
    server.store.add(make_table(rows=60_000, ObservationsModified="2026-02-01T02:00:00"))
    script = textwrap.dedent(f"""
        import resource, signal
        from pathlib import Path
        from assets.cbs.client import CbsClient, Endpoints
        from assets.cbs.errors import LandingError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        endpoints = Endpoints({server.odata4!r}, {server.odata3!r}, {server.derden!r})
        try:
            with CbsClient(endpoints) as client:
                client.land({TABLE!r}, Path({str(tmp_path)!r}))
        except LandingError as error:
            print(error)
    """)
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "no space left" in told.stdout
    kept = previous(tmp_path / TABLE)
    assert kept is not None and kept.rows == 250


def test_disk_refusal_of_the_engine_is_told(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise duckdb.IOException("Could not write file: No space left on device")

    monkeypatch.setattr(landing._Pages, "_convert", refuse)
    with pytest.raises(LandingError, match="no space left"):
        client_of(serve(table)).land(TABLE, tmp_path)


def test_links_are_followed_where_skip_is_not_how_the_server_pages(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = StandIn._rows

    def with_token(self: StandIn, name: str, order: str, url: str, query: dict[str, str], *rest: object) -> object:
        if "$skip" in query:
            raise AssertionError("this server pages by token")
        if "$skiptoken" in query:
            query = {"$skip": query["$skiptoken"]}
        reply = real(self, name, order, url, query, *rest)  # type: ignore[arg-type]
        reply.tail = {key: link.replace("$skip=", "$skiptoken=") for key, link in reply.tail.items()}
        return reply

    monkeypatch.setattr(StandIn, "_rows", with_token)
    landed = client_of(serve(table, page_v4=60)).land(TABLE, tmp_path)
    assert rows(landed) == served_rows(table)


@pytest.mark.parametrize("answer", ["refused", "ignored"])
@pytest.mark.parametrize("protocol", ["odata4", "odata3"])
def test_links_are_followed_where_pages_cannot_be_asked_by_number(
    answer: str,
    protocol: str,
    table: ServedTable,
    serve: Serve,
    client_of: ClientOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = StandIn._rows

    def bound_to_links(self: StandIn, name: str, order: str, url: str, query: dict[str, str], *rest: object) -> object:
        if "$skip" in query and "seen" not in query:
            if answer == "refused":
                raise _BadRequestError(400, "$skip is not supported")
            query = {key: value for key, value in query.items() if key != "$skip"}
        reply = real(self, name, order, url, {k: v for k, v in query.items() if k != "seen"}, *rest)  # type: ignore[arg-type]
        reply.tail = {key: f"{link}&seen=1" for key, link in reply.tail.items()}
        return reply

    monkeypatch.setattr(StandIn, "_rows", bound_to_links)
    server = serve(replace(table, hosts=frozenset({protocol})), page_v4=60, page_v3=30)  # type: ignore[arg-type]
    landed = client_of(server).land(TABLE, tmp_path)
    ids = [row[0] for row in rows(landed)]
    assert len(ids) == len(set(ids)) == landed.rows == 250
    assert any("seen=1" in request for request in server.requests)


@pytest.fixture(params=[0, 99], ids=["page by page", "pages together"])
def broad(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both ways in which v3's pages are converted, chosen by the columns from which a table is broad."""
    columns: int = request.param
    monkeypatch.setattr(odata3, "BROAD", columns)
    return columns


def test_v3_rows_with_one_number_are_refused(
    broad: int, table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(replace(table, hosts=frozenset({"odata3"})), page_v3=50)
    real = server.store.page
    monkeypatch.setattr(server.store, "page", lambda *a: [real(*a)[0], *real(*a)[:1], *real(*a)[2:]])
    told = "125 rows came in, of which 125 can be read, with 122 numbers" if broad else "1 rows of a page lack an `ID`"
    with pytest.raises(BadReplyError, match=told):
        client_of(server).land(TABLE, tmp_path)
    monkeypatch.undo()
    assert client_of(server).land(TABLE, tmp_path).rows == 250


@pytest.mark.usefixtures("broad")
@pytest.mark.parametrize("lost", [slice(20, 21), slice(49, 50), slice(0, 1), slice(30, 50)])
def test_v3_rows_that_a_page_lost_are_fetched_again(
    lost: slice,
    table: ServedTable,
    serve: Serve,
    client_of: ClientOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(replace(table, hosts=frozenset({"odata3"})), page_v3=50)
    real, asked = server.store.page, []

    def once(name: str, order: str, condition: str | None, select: str | None, skip: int, top: int) -> list[str]:
        found = real(name, order, condition, select, skip, top)
        asked.append(skip)
        if skip == 50 and asked.count(50) == 1:
            del found[lost]
        return found

    monkeypatch.setattr(server.store, "page", once)
    landed = client_of(server).land(TABLE, tmp_path)
    assert landed.rows == len({row[0] for row in rows(landed)}) == 250
    assert asked.count(50) > 1


def test_v3_count_under_a_filter_is_held_against_what_comes_in(
    faults: list[Fault], table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(replace(table, hosts=frozenset({"odata3"})))
    faults.append(Fault("count", r"\$count", times=9))
    with pytest.raises(BadReplyError, match="31 rows came in where CBS counts 32"):
        client_of(server).land(TABLE, tmp_path, filter="RegioS eq 'GM0518'")
    assert previous(tmp_path / TABLE) is None
    faults.clear()
    assert client_of(server).land(TABLE, tmp_path, filter="RegioS eq 'GM0518'").rows == 62


def test_v3_filter_on_observations_holds_for_all_who_read_them(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    client = client_of(serve(replace(table, hosts=frozenset({"odata3"}))))
    every = rows(client.land(TABLE, tmp_path / "all"))
    wanted = "(Measure eq 'Inwoners_1' and Value ge 12.5) or (RegioS eq 'GM0518' and contains(StringValue,'?'))"
    landed = client.land(TABLE, tmp_path / "some", filter=wanted)
    chosen = [r for r in every if r[1] == "Inwoners_1" and isinstance(r[3], float) and r[3] >= 12.5]
    assert rows(landed) == chosen and landed.rows == len(chosen) > 0
    connection = duckdb.connect()
    load(landed, connection)
    loaded = connection.execute("SELECT * FROM observations ORDER BY Id").fetchall()
    assert loaded == chosen


def test_dimension_without_codes_takes_those_of_its_rows(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    bare = tuple(replace(dimension, codes=()) for dimension in table.meta.dimensions)
    connection = duckdb.connect()
    load(client_of(serve(replace(table, meta=replace(table.meta, dimensions=bare)))).land(TABLE, tmp_path), connection)
    kind, count = connection.execute("SELECT any_value(typeof(RegioS)), count(RegioS) FROM observations").fetchall()[0]
    assert kind == "ENUM('GM0518', 'GM1916', 'NL01', 'PV28')" and count == 250


@pytest.mark.usefixtures("broad")
def test_v3_gives_the_same_observations_with_topics_for_measures(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    v3 = replace(table, hosts=frozenset({"odata3"}))
    landed = client_of(serve(v3, page_v3=10)).land(TABLE, tmp_path)
    assert landed.meta.location.protocol == "v3"
    assert [m.title_path for m in landed.meta.measures] == ["Bevolking > Inwoners", "Bevolking > Toelichting"]
    names = {"Inwoners_1": "M000001", "Toelichting_2": "M000002"}
    found = {(names[str(r[1])], r[5], r[6]): (r[3], r[4]) for r in rows(landed)}
    wanted = {(r[1], r[5], r[6]): (r[3], r[4]) for r in served_rows(table)}
    assert {key: value for key, value in found.items() if value != (None, None)} == {
        key: value for key, value in wanted.items() if value != (None, None)
    }
    assert {r[2] for r in rows(landed) if r[3] is None and r[4] is None} == {"Missing"}
    assert not client_of(serve(v3)).land(TABLE, tmp_path).changed


@pytest.mark.usefixtures("broad")
def test_v3_rows_that_cannot_be_read_are_fetched_anew_next_time(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(replace(table, hosts=frozenset({"odata3"})), page_v3=50)
    real = server.store.page
    monkeypatch.setattr(
        server.store, "page", lambda *a: [row.replace('"NL01', '"NL01" "').replace("1.5", "1..5") for row in real(*a)]
    )
    with pytest.raises(BadReplyError, match="damaged"):
        client_of(server).land(TABLE, tmp_path)
    monkeypatch.undo()
    assert client_of(server).land(TABLE, tmp_path).rows == 250


def test_v3_filter_is_padded_translated_and_split(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(replace(table, hosts=frozenset({"derden"})))
    wanted = "RegioS eq 'GM0518' and contains(Perioden,'JJ') and Measure eq 'Inwoners_1'"
    landed = client_of(server).land(TABLE, tmp_path, filter=wanted)
    assert {(r[1], r[5]) for r in rows(landed)} == {("Inwoners_1", "GM0518")}
    assert any("RegioS eq 'GM0518    '" in r and "substringof('JJ',Perioden)" in r for r in server.requests)


def test_v3_width_that_differs_between_codes_and_rows_is_found_out(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(replace(table, hosts=frozenset({"odata3"})))
    client = client_of(server)
    bare = 'UPDATE "wide_99999NED" SET "RegioS" = trim("RegioS")'
    server.store._connection.execute(bare)
    assert client.land(TABLE, tmp_path, filter="RegioS eq 'GM0518'").rows > 0


def test_outage_of_v4_falls_back_with_a_word_and_never_over_a_v4_version(
    make_table: Callable[..., ServedTable], serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(make_table())
    client_of(server).land(TABLE, tmp_path / "one")
    server.stop("odata4")
    location = client_of(server).locate(TABLE)
    assert location.protocol == "v3" and location.note is not None and "does not answer" in location.note
    assert client_of(server).land(TABLE, tmp_path / "two").meta.location.protocol == "v3"
    with pytest.raises(CbsUnreachableError, match="is kept"):
        client_of(server).land(TABLE, tmp_path / "one")


def test_full_outage_is_told_once_for_all_retries(serve: Serve, client_of: ClientOf, tmp_path: Path) -> None:
    server = serve()
    for host in ("odata4", "odata3", "derden"):
        server.stop(host)  # type: ignore[arg-type]
    client = client_of(server)
    with pytest.raises(CbsUnreachableError, match=r"connection refused.*HTTPS_PROXY") as caught:
        client.land(TABLE, tmp_path)
    assert caught.value.exit_code == 4
    start = time.monotonic()
    with pytest.raises(CbsUnreachableError):
        client.land("03759ned", tmp_path)
    assert time.monotonic() - start < 0.1, "a host that is down is not asked again for each table"


def test_a_refused_connection_is_soon_known_to_every_client(
    serve: Serve, client_of: ClientOf, make_table: Callable[..., ServedTable]
) -> None:
    server = serve(make_table())
    for host in ("odata4", "odata3", "derden"):
        server.stop(host)  # type: ignore[arg-type]
    patient = Options(retries=6, backoff_s=0.5)
    start = time.monotonic()
    with pytest.raises(CbsUnreachableError, match="connection refused"):
        client_of(server, patient).table("99999NED")
    assert time.monotonic() - start < 3 * 3.0, "three hosts, few seconds each"
    start = time.monotonic()
    with pytest.raises(CbsUnreachableError, match="connection refused"):
        client_of(server, patient).table("00000NED")
    assert time.monotonic() - start < 0.1


@pytest.mark.parametrize("host", ["odata4", "odata3", "derden"])
def test_unknown_id_gets_the_right_case_suggested(
    host: str, table: ServedTable, serve: Serve, client_of: ClientOf
) -> None:
    client = client_of(serve(replace(table, hosts=frozenset({host}))))  # type: ignore[arg-type]
    with pytest.raises(UnknownTableError, match="did you mean 99999NED") as caught:
        client.locate("99999ned")
    assert caught.value.exit_code == 2
    with pytest.raises(UnknownTableError, match="resemble it: 99999NED"):
        client.locate("99998NED")
    with pytest.raises(UnknownTableError, match="cbs search"):
        client.locate("12345xyz")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("RegioS eq 'GM0519'", "no code 'GM0519' .nearest: 'GM0518'"),
        ("Regios eq 'GM0518'", "did you mean `RegioS`"),
        ("Leeftijd eq '1'", "it has Id, Measure"),
        ("RegioS eq GM0518", "CBS does not take the filter"),
    ],
)
def test_wrong_filter_is_told(
    wanted: str, told: str, table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    with pytest.raises(BadFilterError, match=told):
        client_of(serve(table)).land(TABLE, tmp_path, filter=wanted)
    assert previous(tmp_path / TABLE) is None


def test_own_regions_are_pushed_down(table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path) -> None:
    client = client_of(serve(table))
    own = regions_filter(client.table(TABLE), ["GM0518"], "PV28")
    assert own == "RegioS eq 'NL01' or RegioS eq 'PV28' or RegioS eq 'GM0518'"
    assert {r[5] for r in rows(client.land(TABLE, tmp_path, filter=own))} == {"NL01", "PV28", "GM0518"}
    assert regions_filter(client.table(TABLE), ["GM9999"]) is None
    assert client.covers(TABLE, "GM1916") and not client.covers(TABLE, "GM0363")


def test_parallel_requests_are_capped(
    make_table: Callable[..., ServedTable], serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve(make_table(), page_v4=10)
    under_way, most = 0, 0
    real = server.reply

    def counted(*args: object) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.01)
        try:
            return real(*args)  # type: ignore[arg-type]
        finally:
            under_way -= 1

    server.reply = counted  # type: ignore[assignment, method-assign]
    client_of(server, Options(parallel=2, backoff_s=0.01)).land(TABLE, tmp_path)
    assert most == 2


def test_proxy_and_no_proxy_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "intern.example")
    wire = http.Wire(Options())
    assert wire._pool("https://datasets.cbs.nl/odata/v1").proxy is not None
    assert wire._pool("https://intern.example/").proxy is None


def test_a_proxy_is_told_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://dienst:geheim%40huis@proxy.invalid:3128")
    pool = http.Wire(Options())._pool("https://datasets.cbs.nl/odata/v1")
    told = base64.b64encode(b"dienst:geheim@huis").decode()
    assert pool.proxy_headers == {"proxy-authorization": f"Basic {told}"}


def test_retry_after_takes_seconds_and_dates() -> None:
    assert http._retry_after("7") == 7
    assert http._retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert http._retry_after("soon") == 0


def test_state_look_up_of_many_tables_is_fast(
    table: ServedTable, serve: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    landed = client_of(serve(table)).land(TABLE, tmp_path)
    start = time.perf_counter()
    for _ in range(400):
        landing.read_state(landed.folder.parent)
    assert time.perf_counter() - start < 0.2


def test_endpoints_come_from_the_settings() -> None:
    from datafabriek.config import Cbs

    assert Endpoints.of(Cbs()).odata4 == "https://datasets.cbs.nl/odata/v1"
