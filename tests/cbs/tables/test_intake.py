"""Landing what assets want: few requests where nothing changed, and the last good version where CBS fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from assets.cbs.client import CbsClient, regions_filter
from assets.cbs.errors import BadFilterError, CbsError, LandingError
from assets.cbs.intake import Wanted, take
from assets.cbs.model import TableMeta
from datafabriek.sample.server import ServedTable, StandIn, TableStore

Serve = Callable[..., StandIn]


@pytest.fixture
def wanted() -> Wanted:
    return Wanted(lambda client: "99999NED", lambda meta: regions_filter(meta, ["GM0518"]))


def test_an_unchanged_table_is_not_described_again(
    serve: Serve,
    client_of: Callable[..., CbsClient],
    make_table: Callable[..., ServedTable],
    tmp_path: Path,
    wanted: Wanted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = client_of(serve(make_table()))
    first = take(client, tmp_path, {0: wanted})
    assert first.landed[0].changed
    assert first.failures == {}

    def describe(table_id: str) -> TableMeta:
        raise AssertionError("asked for metadata of an unchanged table")

    monkeypatch.setattr(client, "table", describe)
    second = take(client, tmp_path, {0: wanted})
    assert not second.landed[0].changed
    assert second.failures == {}


def test_codes_that_changed_with_the_figures_make_another_filter(
    serve: Serve,
    client_of: Callable[..., CbsClient],
    make_table: Callable[..., ServedTable],
    tmp_path: Path,
    wanted: Wanted,
) -> None:
    store = TableStore()
    table = make_table()
    gone = replace(table.meta.dimensions[0], codes=table.meta.dimensions[0].codes[1:])  # without NL01
    store.add(table)
    client = client_of(serve(store=store))
    assert "NL01" in (take(client, tmp_path, {0: wanted}).landed[0].filter or "")
    newer = {**table.meta.properties, "ObservationsModified": "2026-02-02", "Modified": "2026-02-02"}
    store.add(replace(table, meta=replace(table.meta, properties=newer, dimensions=(gone, table.meta.dimensions[1]))))
    landed = take(client, tmp_path, {0: wanted}).landed[0]
    assert landed.changed
    assert landed.filter == "RegioS eq 'GM0518'"


@pytest.mark.parametrize("error", [LandingError("disk full"), BadFilterError("unknown code")], ids=["disk", "filter"])
def test_a_failure_keeps_what_landed_before(
    serve: Serve,
    client_of: Callable[..., CbsClient],
    make_table: Callable[..., ServedTable],
    tmp_path: Path,
    wanted: Wanted,
    monkeypatch: pytest.MonkeyPatch,
    error: CbsError,
) -> None:
    client = client_of(serve(make_table()))
    before = take(client, tmp_path, {0: wanted}).landed[0]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(client, "land", fail)
    after = take(client, tmp_path, {0: wanted})
    assert after.landed[0].parts == before.parts
    assert after.failures[0] is error


def test_a_table_that_is_not_the_one_meant_is_not_landed(
    serve: Serve,
    client_of: Callable[..., CbsClient],
    make_table: Callable[..., ServedTable],
    tmp_path: Path,
    wanted: Wanted,
) -> None:
    def verify(meta: TableMeta) -> None:
        raise CbsError(f"{meta.id} is not the one meant")

    taken = take(client_of(serve(make_table())), tmp_path, {0: replace(wanted, verify=verify)})
    assert taken.landed == {}
    assert not (tmp_path / "99999NED").exists()
