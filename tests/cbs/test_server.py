"""The stand-in speaks the protocols with their quirks: what a plain client would see."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from datafabriek.sample.server import ServedTable, StandIn

Serve = Callable[..., StandIn]


def get(url: str) -> Any:
    with urllib.request.urlopen(quote(url, safe=":/?&=$'(),%"), timeout=10) as reply:
        body = reply.read().decode()
    return json.loads(body) if body[:1] in "{[" else body


@pytest.fixture
def server(serve: Serve, make_table: Callable[..., ServedTable]) -> StandIn:
    return serve(make_table(rows=24_000), page_v4=10_000, page_v3=5_000)


def test_v4_pages_by_link(server: StandIn) -> None:
    url, sizes = f"{server.odata4}/CBS/99999NED/Observations", []
    while url:
        page = get(url)
        sizes.append(len(page["value"]))
        url = page.get("@odata.nextLink")
    assert sizes == [10_000, 10_000, 4_000]
    assert list(page["value"][0]) == ["Id", "Measure", "ValueAttribute", "Value", "StringValue", "RegioS", "Perioden"]


def test_v4_options(server: StandIn) -> None:
    base = f"{server.odata4}/CBS/99999NED"
    condition = "$filter=(RegioS eq 'GM0518' or contains(RegioS,'1916')) and Perioden ge '2050JJ00'"
    assert get(f"{base}/Observations/$count?{condition}") == str(len(get(f"{base}/Observations?{condition}")["value"]))
    assert get(f"{base}/Observations?$top=2&$skip=4&$select=Id,RegioS")["value"] == [
        {"Id": 12, "RegioS": "GM0518"},
        {"Id": 15, "RegioS": "GM0518"},
    ]
    assert get(f"{base}/Properties")["ObservationCount"] == 24_000
    assert [row["Kind"] for row in get(f"{base}/Dimensions")["value"]] == ["GeoDimension", "TimeDimension"]
    assert get(f"{base}/RegioSCodes?$filter=Identifier eq 'GM0518'")["value"][0]["Title"] == "naam GM0518"
    assert {row["name"] for row in get(base)["value"]} >= {"Observations", "RegioSCodes", "MeasureGroups"}


def test_v3_pads_and_limits(server: StandIn) -> None:
    feed = f"{server.odata3}/ODataFeed/odata/99999NED"
    page = get(f"{feed}/TypedDataSet?$format=json&$top=3")
    assert page["value"][0]["RegioS"] == "NL01      "
    assert list(page["value"][0]) == ["ID", "RegioS", "Perioden", "Inwoners_1", "Toelichting_2"]
    assert get(f"{feed}/TypedDataSet?$filter=RegioS eq 'GM0518'")["value"] == [], "a wrong width finds nothing"
    assert len(get(f"{feed}/TypedDataSet?$filter=RegioS eq 'GM0518    '")["value"]) == 100
    types = [row["Type"] for row in get(f"{feed}/DataProperties")["value"]]
    assert types == ["GeoDimension", "TimeDimension", "TopicGroup", "Topic", "Topic"]


def test_v3_query_service_refuses_what_the_feed_serves(
    serve: Serve, make_table: Callable[..., ServedTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datafabriek.sample.server.API_LIMIT", 100)
    server = serve(make_table())
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"{server.odata3}/ODataApi/odata/99999NED/TypedDataSet")
    assert caught.value.code == 500
    assert "10000 records" in json.loads(caught.value.read())["odata.error"]["message"]["value"]
    assert get(f"{server.odata3}/ODataApi/odata/99999NED/TypedDataSet/$count") == "125"
    assert len(get(f"{server.odata3}/ODataApi/odata/99999NED/TypedDataSet?$top=5")["value"]) == 5


def test_catalogues(server: StandIn) -> None:
    listed = get(f"{server.odata4}/CBS/Datasets?$select=Identifier,Title")["value"]
    assert listed == [{"Identifier": "99999NED", "Title": "Proeftabel"}]
    found = get(f"{server.odata3}/ODataCatalog/Tables?$format=json&$filter=Identifier eq '99999NED'")["value"]
    assert [row["Catalog"] for row in found] == ["CBS"]
    assert get(f"{server.derden}/ODataCatalog/Tables")["value"] == []


@pytest.mark.parametrize("path", ["/CBS/99999ned/Properties", "/CBS/99999NED/Nothing", "/elsewhere"])
def test_nothing_there(server: StandIn, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server.odata4 + path)
    assert caught.value.code == 404


def test_binds_to_loopback_alone(server: StandIn) -> None:
    assert all(s.http.server_address[0] == "127.0.0.1" for s in server._servers.values())
