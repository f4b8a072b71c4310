"""Sources: what a database or feature service has becomes a delivery as any other; what goes wrong is told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import contract_of, take_inbox
from assets.deliveries.purposes import derive
from assets.deliveries.sources import fetch, period_of
from datafabriek.config import PostgresSource, Settings
from datafabriek.ledger import Ledger
from datafabriek.status import read_status
from datafabriek.warehouse import warehouse
from quality.contracts.model import load
from quality.privacy.keys import ensure_key

TODAY = date(2024, 3, 15)
VARIABLE = "PROEF_DSN"


def _raw(settings: Settings) -> list[tuple[Any, ...]]:
    derive(settings, ensure_key(settings.paths), "meetpunten", "proef")
    with warehouse(settings.paths, settings.resources) as con:
        columns = "telling, vierkant, dag::VARCHAR, uur"
        return con.execute(f"SELECT {columns} FROM raw_proef.meetpunten ORDER BY telling").fetchall()


def _left(settings: Settings) -> list[str]:
    return [path.name for path in settings.paths.inbox.rglob("*") if path.is_file()]


def _stale_since(settings: Settings) -> str | None:
    return next(source.stale_since for source in read_status(settings).sources if source.name == "meetpunten")


# --- PostgreSQL ------------------------------------------------------------------------------------------------

QUERY = "SELECT nummer, aantal AS telling, moment, lat, lon FROM punten WHERE moment::date BETWEEN :begin AND :eind"


@pytest.fixture
def database(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server with a table of measuring points, and its address in the environment."""
    monkeypatch.setenv(VARIABLE, postgres.dsn)
    postgres.execute("""DROP TABLE IF EXISTS punten;
        CREATE TABLE punten (nummer text, aantal int, moment timestamp, lat numeric(12,6), lon numeric(12,6));
        INSERT INTO punten VALUES ('Robert''); DROP TABLE punten;--', 7, date_trunc('month', now()), 52.08, 4.31),
            ('b', 8, date_trunc('month', now()) + interval '23 hours', 455183.8, 81160.0),
            ('c', -1, date_trunc('month', now()), 52.08, 4.31), ('d', 9, '2001-01-01', 52.08, 4.31)""")
    return postgres


def _postgres(query: str = QUERY, **more: Any) -> dict[str, Any]:
    return {"meetpunten": {"source": {"kind": "postgres", "dsn_env": VARIABLE, "query": query, **more}}}


@pytest.mark.postgres
def test_a_query_becomes_a_delivery_and_an_unchanged_one_is_recognised(make: Any, database: Any) -> None:
    settings = make(_postgres(), own=True)
    outcome = take_inbox(settings, "meetpunten")[0]
    assert (outcome.status, outcome.delivered, outcome.accepted, outcome.refused) == ("ontvangen", 3, 2, 1)
    assert [found["rule"] for found in outcome.findings] == ["bereik", "coordinaten_rd"]
    rows = _raw(settings)
    assert [(row[0], row[1], row[3]) for row in rows] == [(7, "E0810N4550", 0), (8, "E0810N4550", 23)]
    assert take_inbox(settings, "meetpunten")[0].status == "herhaald"
    assert _left(settings) == []
    database.execute("UPDATE punten SET aantal = 70 WHERE aantal = 7")
    assert take_inbox(settings, "meetpunten")[0].status == "ontvangen"
    assert [row[0] for row in _raw(settings)] == [8, 70]


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("DROP TABLE punten", "the query fails"),
        ("SELECT nummer FROM punten; DROP TABLE punten", "the query fails"),
        ("WITH weg AS (DELETE FROM punten RETURNING *) SELECT *, aantal AS telling FROM weg", "the query fails"),
        ("SELECT nummer, aantal AS telling, moment, lat FROM punten", "gives no column `lon`"),
        ("SELECT nummers FROM punten", 'column "nummers" does not exist'),
        ("SELECT nummer::int AS nummer, aantal AS telling, moment, lat, lon FROM punten", "the query fails"),
    ],
)
def test_a_query_that_is_wrong_or_writes_is_refused(make: Any, database: Any, query: str, told: str) -> None:
    settings = make(_postgres(query), own=True)
    outcome = take_inbox(settings, "meetpunten")[0]
    assert outcome.status == "geweigerd"
    assert told in (outcome.reason or "")
    assert database.password not in str(outcome)
    assert "Robert" not in str(outcome)
    assert _left(settings) == []
    stale = Ledger(settings.paths.ledger).events("stale", "vault/meetpunten")
    assert stale[-1].payload["reason"] == outcome.reason
    settings = make(_postgres(), own=True)
    assert take_inbox(settings, "meetpunten")[0].delivered == 3  # the table is as it was


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("lezer:", "lezer:x"), "user or password is wrong"),
        (("/postgres", "/nietes"), "no such database"),
        (("@127.0.0.1:", "@127.0.0.1:1"), "does not answer|IOException"),
        (("postgresql://", "'; ATTACH 'x.db"), "IOException|does not answer"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_without_its_password(
    make: Any, database: Any, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], told: str
) -> None:
    monkeypatch.setenv(VARIABLE, database.dsn.replace(*change))
    settings = make(_postgres(), own=True)
    with pytest.raises(DeliveryError, match=told) as caught:
        fetch(settings, "meetpunten", contract_of(settings, "meetpunten"))
    assert database.password not in str(caught.value)
    assert caught.value.__suppress_context__
    assert _left(settings) == []


def test_without_the_variable_it_says_which_to_set(make: Any) -> None:
    settings = make(_postgres(), own=True)
    assert VARIABLE in (take_inbox(settings, "meetpunten")[0].reason or "")


@pytest.mark.parametrize(
    ("name", "which", "period"),
    [("bus", "current", "2024-03"), ("bus", "previous", "2024-02"), ("adressen", "previous", "2023"),
     ("brp", "current", "2024-03-15"), ("brp", "previous", "2024-03-14")],
)  # fmt: skip
def test_the_period_that_is_fetched(name: str, which: Any, period: str) -> None:
    source = PostgresSource(kind="postgres", dsn_env="X", query="SELECT 1", period=which)
    assert period_of(load(name), source, TODAY) == period


# --- features --------------------------------------------------------------------------------------------------


def _feature(number: int, **more: Any) -> dict[str, Any]:
    properties = {"nummer": f"p{number}", "aantal": number, "moment": "2024-03-01 12:00:00"}
    return {
        "type": "Feature", "id": number, "properties": properties | more,
        "geometry": {"type": "Point", "coordinates": [4.31, 52.08]},
    }  # fmt: skip


def _ogc(service: Any, **more: Any) -> dict[str, Any]:
    source = {"kind": "ogc", "url": service.url + "/ogc/v1", "layer": "punten", "columns": {"telling": "aantal"}}
    return {"meetpunten": {"source": source | {"page_size": 2, "retries": 2, "timeout_s": 2} | more}}


def _paged(features: list[dict[str, Any]], change: Callable[[int, dict[str, Any]], Any] = lambda _, page: page) -> Any:
    """An OGC API Features server in the manner of PDOK: `limit`, `cursor`, a `next` link."""

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        assert path == "/ogc/v1/collections/punten/items"
        begin, limit = int(query.get("cursor", 0)), int(query["limit"])
        part = features[begin : begin + limit]
        page: Any = {"type": "FeatureCollection", "numberReturned": len(part), "features": part, "links": []}
        if begin + limit < len(features):
            page["links"] = [{"rel": "next", "href": f"{path}?limit={limit}&f=json&cursor={begin + limit}"}]
        page = change(begin, page)
        body = page if isinstance(page, bytes) else json.dumps(page).encode()
        packed = gzip.compress(body, 1)  # a bomb is to be ready before anyone grows tired of waiting
        return 200, packed, {"Content-Encoding": "gzip", "Content-Length": str(len(packed))}

    return answer


def test_all_pages_of_a_layer_become_a_delivery(make: Any, service: Any) -> None:
    service.answer = _paged([_feature(n) for n in range(5)])
    settings = make(_ogc(service), own=True)
    outcome = take_inbox(settings, "meetpunten")[0]
    assert (outcome.status, outcome.accepted) == ("ontvangen", 5)
    assert len(service.asked) == 3
    assert _raw(settings) == [(n, "E0810N4550", "2024-03-01", 12) for n in range(5)]
    assert take_inbox(settings, "meetpunten")[0].status == "herhaald"


def test_a_server_that_stumbles_is_asked_again(make: Any, service: Any) -> None:
    good, stumbles = _paged([_feature(n) for n in range(3)]), iter([503, 429])

    def answer(path: str, query: dict[str, str]) -> Any:
        status = next(stumbles, 200)
        return good(path, query) if status == 200 else (status, b"", {})

    service.answer = answer
    settings = make(_ogc(service), own=True)
    assert take_inbox(settings, "meetpunten")[0].accepted == 3


FAULTS: dict[str, tuple[Any, str]] = {
    "page again": (lambda _, page: page | {"links": [{"rel": "next", "href": "?f=json&limit=2"}]}, "that were read"),
    "other host": (lambda _, page: page | {"links": [{"rel": "next", "href": "http://127.0.0.2/x"}]}, "another host"),
    "file": (lambda _, page: page | {"links": [{"rel": "next", "href": "file:///etc/passwd"}]}, "another host"),
    "short page": (lambda _, page: page | {"numberReturned": 3}, "says a page has 3 features, and it has"),
    "fewer in all": (lambda _, page: page | {"numberMatched": 9}, "says there are 9 features and gave 5"),
    "cut off": (lambda _, page: json.dumps(page).encode()[:-9], "something else than GeoJSON"),
    "a page of words": (lambda _, __: b"<html>onderhoud</html>", "something else than GeoJSON"),
    "deep": (lambda _, __: b"[" * 100_000, "something else than GeoJSON"),
    "gzip bomb": (lambda _, __: b" " * (70 << 20), "larger than 64 MB"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_service_that_does_not_keep_its_word_is_refused(make: Any, service: Any, fault: str) -> None:
    change, told = FAULTS[fault]
    service.answer = _paged([_feature(n) for n in range(5)], change)
    settings = make(_ogc(service), own=True)
    outcome = take_inbox(settings, "meetpunten")[0]
    assert outcome.status == "geweigerd"
    assert told in (outcome.reason or "")
    assert _left(settings) == []


@pytest.mark.parametrize(("status", "headers"), [(404, {}), (500, {}), (302, {"Location": "http://127.0.0.2/"})])
def test_another_status_is_told(make: Any, service: Any, status: int, headers: dict[str, str]) -> None:
    service.answer = lambda _path, _query: (status, b"", headers)
    settings = make(_ogc(service, retries=1), own=True)
    assert f"status {status}" in (take_inbox(settings, "meetpunten")[0].reason or "")


def test_a_service_that_is_gone_leaves_what_there_is(make: Any, service: Any) -> None:
    service.answer = _paged([_feature(n) for n in range(3)])
    settings = make(_ogc(service), own=True)
    take_inbox(settings, "meetpunten")
    settings = make(_ogc(service, url="http://127.0.0.1:9/ogc/v1", retries=0), own=True)
    assert "does not answer" in (take_inbox(settings, "meetpunten")[0].reason or "")
    assert len(_raw(settings)) == 3
    assert _stale_since(settings) is not None
    settings = make(_ogc(service), own=True)
    assert [outcome.status for outcome in take_inbox(settings, "meetpunten")] == ["herhaald"]
    assert _stale_since(settings) is None


# --- WFS -------------------------------------------------------------------------------------------------------


def _wfs_page(features: list[dict[str, Any]], matched: int | str, output: str) -> bytes:
    if output == "geojson":
        return json.dumps({"type": "FeatureCollection", "numberMatched": matched, "features": features}).encode()
    members = "".join(
        f"""<wfs:member><p:punten gml:id="punten.{f["id"]}"><p:nummer>{f["properties"]["nummer"]}</p:nummer>
        <p:aantal>{f["properties"]["aantal"]}</p:aantal><p:moment>{f["properties"]["moment"]}</p:moment>
        <p:geom><gml:Point srsName="urn:ogc:def:crs:EPSG::4326"><gml:pos>52.08 4.31</gml:pos></gml:Point></p:geom>
        </p:punten></wfs:member>"""
        for f in features
    )
    return f"""<?xml version="1.0"?><wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs/2.0"
        xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:p="urn:p" numberMatched="{matched}">{members}
        </wfs:FeatureCollection>""".encode()


def _wfs(service: Any, output: str) -> dict[str, Any]:
    return _ogc(service, kind="wfs", url=service.url + "/wfs", output=output)


@pytest.mark.parametrize("output", ["geojson", "gml"])
def test_a_wfs_layer_becomes_a_delivery(make: Any, service: Any, output: str) -> None:
    features = [_feature(n) for n in range(5)]

    def answer(_: str, query: dict[str, str]) -> Any:
        begin = int(query["startIndex"])
        return 200, _wfs_page(features[begin : begin + int(query["count"])], len(features), output), {}

    service.answer = answer
    settings = make(_wfs(service, output), own=True)
    outcome = take_inbox(settings, "meetpunten")[0]
    assert (outcome.status, outcome.accepted) == ("ontvangen", 5)
    assert _raw(settings) == [(n, "E0810N4550", "2024-03-01", 12) for n in range(5)]


@pytest.mark.parametrize("knows_start", [True, False], ids=["by the page", "all at once"])
def test_a_wfs_that_does_not_say_how_many_there_are_is_read_to_its_end(
    make: Any, service: Any, knows_start: bool
) -> None:
    """It gives one at a time, whatever is asked for; or all of them, wherever it is asked to begin."""
    features = [_feature(n) for n in range(5 if knows_start else 1)]

    def answer(_: str, query: dict[str, str]) -> Any:
        begin = int(query["startIndex"]) if knows_start else 0
        return 200, _wfs_page(features[begin : begin + 1], "unknown", "gml"), {}

    service.answer = answer
    outcome = take_inbox(make(_wfs(service, "gml"), own=True), "meetpunten")[0]
    assert (outcome.status, outcome.accepted) == ("ontvangen", len(features))


ENTITY = (
    b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><w:FeatureCollection xmlns:w="w">&e;</w:FeatureCollection>'
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (ENTITY, "declares entities"),
        (ENTITY.decode().encode("utf-16"), "declares entities"),
        (ENTITY.decode().encode("utf-16-be"), "declares entities"),
        (b'<ows:ExceptionReport xmlns:ows="o"><ows:Exception/></ows:ExceptionReport>', "refuses the question"),
        (b"<html/>", "answers with `html`"),
        (_wfs_page([_feature(1)], 1, "gml")[:-40], "cut off"),
        (_wfs_page([_feature(1), _feature(2)], 5, "gml"), "gives the same page again"),
        (b"<a>" * 10_000, "answers with `a`|cut off"),
    ],
    ids=[
        "XXE",
        "XXE in UTF-16",
        "XXE in UTF-16 without a mark",
        "exception",
        "HTML",
        "cut off",
        "no startIndex",
        "deep",
    ],
)
def test_a_wfs_that_does_not_keep_its_word_is_refused(make: Any, service: Any, body: bytes, told: str) -> None:
    service.answer = lambda _path, _query: (200, body, {})
    settings = make(_wfs(service, "gml"), own=True)
    with pytest.raises(DeliveryError, match=told):
        fetch(settings, "meetpunten", contract_of(settings, "meetpunten"))
    assert _left(settings) == []
