"""The assets as Dagster runs them: against the sample's CBS, with CBS gone, and one year at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from assets.cbs import assets as cbs
from assets.cbs.client import Landed, previous
from assets.cbs.freshness import checked
from datafabriek.config import CbsTable, Settings, load_settings
from datafabriek.ledger import Ledger
from datafabriek.sample.resources import SampleCbsSource

Run = Callable[..., dg.ExecuteInProcessResult]
TABLES = {
    "kerncijfers_wijken_en_buurten",
    "kerncijfers_dekking",
    "bevolking_per_regio",
    "regios",
    "herindelingen",
    "zzp_inkomen",
    "bijstand_wijken_buurten",
}


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """The sample factory in a home of its own, with changes to its `cbs` settings."""
    monkeypatch.chdir(tmp_path)

    def make(**changes: Any) -> Settings:
        settings = load_settings()
        settings.paths.create()
        changed = settings.model_copy(
            update={"cbs": settings.cbs.model_copy(update={"retries": 0, "timeout_s": 5.0} | changes)}
        )
        changed._source = settings.source
        return changed

    return make


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Run:
    """Materialise assets with all their checks, or only those of one table."""

    caplog.set_level(logging.CRITICAL)

    def go(settings: Settings, *only: str, **more: Any) -> dg.ExecuteInProcessResult:
        assets, checks = cbs.build(settings)
        assets = [a for a in assets if (a.key.path[-1] in only if only else a.partitions_def is None)]
        keys = {a.key for a in assets}
        chosen = [check for check in checks if all(key.asset_key in keys for key in check.check_keys)]
        return dg.materialize([*assets, *chosen], resources={"cbs": SampleCbsSource()}, raise_on_error=False, **more)

    return go


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {f"{e.asset_key.path[-1]}.{e.check_name}": e.passed for e in result.get_asset_check_evaluations()}


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.path[-1]: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def test_every_asset_is_described_and_checked(factory: Callable[..., Settings]) -> None:
    settings = factory(tables=(CbsTable(id="37789ksz"),))
    assets, checks = cbs.build(settings)
    specs = {spec.key: spec for asset in assets for spec in asset.specs}
    assert {key.to_user_string() for key in specs} == {
        *(f"raw_cbs/{table}" for table in TABLES), "raw_cbs/tabel_37789ksz", "cbs/kerncijfers_per_jaar",
    }  # fmt: skip
    checked = {key.asset_key for check in checks for key in check.check_keys}
    assert checked == set(specs)
    assert all(
        spec.description and spec.group_name == "aanvoer_cbs" and spec.owners and spec.kinds for spec in specs.values()
    )
    (yearly,) = [asset for asset in assets if asset.partitions_def]
    assert yearly.backfill_policy == dg.BackfillPolicy.single_run()


@pytest.fixture
def filled(factory: Callable[..., Settings], run: Run) -> tuple[Settings, dg.ExecuteInProcessResult]:
    settings = factory(tables=(CbsTable(id="86163NED"),))
    return settings, run(settings)


def test_a_run_fills_every_table_and_a_night_without_cbs_keeps_them(
    filled: tuple[Settings, dg.ExecuteInProcessResult], run: Run
) -> None:
    settings, result = filled
    assert result.success
    assert [name for name, passed in checks_of(result).items() if not passed] == []
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        before = dict(
            connection.sql(
                "SELECT table_name, estimated_size FROM duckdb_tables() WHERE schema_name = 'raw_cbs'"
            ).fetchall()
        )
        assert connection.sql(
            "SELECT DISTINCT herkomst FROM raw_cbs.kerncijfers_wijken_en_buurten WHERE jaar = 2020"
        ).fetchall() == [("gemeten",)]
    parts = [
        event.materialization.partition
        for event in result.filter_events(lambda event: event.is_step_materialization)
        if event.asset_key == dg.AssetKey(cbs.YEARLY)
    ]
    assert sorted(parts) == ["2019", "2020", "2021"], "the UI shows each year that landed as made"
    assert set(before) == TABLES | {"tabel_86163ned"}
    assert all(before.values())
    ledger = Ledger(settings.paths.ledger)
    loaded = ledger.last("cbs_load", "raw_cbs.kerncijfers_wijken_en_buurten")
    assert loaded is not None
    assert set(loaded.payload["tabellen"]) == {"84583NED", "84799NED", "85039NED"}
    assert metadata_of(result)["kerncijfers_wijken_en_buurten"]["dagster/row_count"] == loaded.payload["rijen"]

    noted, events = checked(settings.paths.checked_cbs), len(ledger.events())
    assert set(noted) == {event.subject for event in ledger.events("cbs_load")}
    assert run(settings, "zzp_inkomen", "herindelingen").success
    assert len(ledger.events()) == events, "a night on which nothing changed tells nothing"
    later = checked(settings.paths.checked_cbs)
    assert later["raw_cbs.zzp_inkomen"] > noted["raw_cbs.zzp_inkomen"]

    gone = settings.cbs.model_copy(
        update={f"{kind}_url": "http://127.0.0.1:9/odata/v1" for kind in ("odata4", "odata3", "derden")}
    )
    outage = settings.model_copy(update={"cbs": gone})
    outage._source = settings.source
    again = run(outage)
    assert again.success
    failed = {name for name, passed in checks_of(again).items() if not passed}
    kept = (
        "kerncijfers_wijken_en_buurten",
        "bevolking_per_regio",
        "zzp_inkomen",
        "bijstand_wijken_buurten",
        "tabel_86163ned",
    )
    assert failed == {f"{table}.{table}_is_actueel" for table in kept}
    stale = ledger.last("stale", "raw_cbs.zzp_inkomen")
    assert stale is not None
    assert metadata_of(again)["zzp_inkomen"]["verouderd_sinds"] == stale.payload["sinds"]
    assert checked(settings.paths.checked_cbs)["raw_cbs.zzp_inkomen"] == later["raw_cbs.zzp_inkomen"]
    assert run(settings, "zzp_inkomen").success
    back = ledger.last("cbs_load", "raw_cbs.zzp_inkomen")
    assert back is not None
    assert back.seq > stale.seq, "an unchanged table that answers again is stale no more"
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        after = dict(
            connection.sql(
                "SELECT table_name, estimated_size FROM duckdb_tables() WHERE schema_name = 'raw_cbs'"
            ).fetchall()
        )
    assert after == before


def test_without_cbs_and_without_an_earlier_version_the_tables_are_refused_and_nothing_is_skipped(
    factory: Callable[..., Settings], run: Run
) -> None:
    settings = factory(
        odata4_url="http://127.0.0.1:9", odata3_url="http://127.0.0.1:9", derden_url="http://127.0.0.1:9"
    )
    result = run(settings, "kerncijfers_wijken_en_buurten", "kerncijfers_dekking", "regios", "herindelingen")
    wrong = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    for table in ("kerncijfers_wijken_en_buurten", "kerncijfers_dekking", "regios", "herindelingen"):
        assert wrong[f"{table}_is_actueel"].severity == dg.AssetCheckSeverity.ERROR
        assert table in metadata_of(result)
        assert Ledger(settings.paths.ledger).last("stale", f"raw_cbs.{table}") is not None
    assert Ledger(settings.paths.ledger).events("cbs_load") == []


def break_builder(patch: pytest.MonkeyPatch, statement: str) -> None:
    """Let the builder of zzp_inkomen do something else after its work."""
    build_zzp = cbs.incomes.build_zzp

    def build(connection: duckdb.DuckDBPyConnection, landed: Landed) -> int:
        rows = build_zzp(connection, landed)
        connection.execute(statement)
        return rows

    patch.setattr(cbs.incomes, "build_zzp", build)


@pytest.mark.parametrize("was_good_before", [True, False])
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT CAST('x' AS INTEGER)", "ConversionException"),
        ("UPDATE raw_cbs.zzp_inkomen SET regio_code = 'onbekend'", "is not as it must be"),
    ],
    ids=["engine", "schema"],
)
def test_a_table_that_cannot_be_built_or_is_wrong_leaves_its_last_good_version(
    factory: Callable[..., Settings],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    told: str,
    was_good_before: bool,
) -> None:
    settings = factory()
    if was_good_before:
        assert run(settings, "zzp_inkomen").success
    break_builder(monkeypatch, statement)
    result = run(settings, "zzp_inkomen")
    (renewed,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "zzp_inkomen_is_actueel"]
    assert not renewed.passed
    assert renewed.severity.value == ("WARN" if was_good_before else "ERROR")
    assert told in metadata_of(result)["zzp_inkomen"]["reden"]
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        found = connection.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 'zzp_inkomen'").fetchall()
        assert bool(found) is was_good_before
        if was_good_before:
            wrong = "SELECT count(*) FROM raw_cbs.zzp_inkomen WHERE regio_code = 'onbekend'"
            assert connection.sql(wrong).fetchall() == [(0,)]


def test_a_year_that_cbs_does_not_have_leaves_the_other_years(factory: Callable[..., Settings], run: Run) -> None:
    settings = factory(kwb_years=(2020, 2099))
    # the sample makes any year, so its store is asked for 2020 alone
    source = SampleCbsSource()
    assets, _ = cbs.build(settings)
    one = [a for a in assets if a.key.path[-1] == "kerncijfers_wijken_en_buurten"]
    with pytest.MonkeyPatch.context() as patch:
        from datafabriek.sample import cbs as sample

        store = sample.store((2020,))
        patch.setattr(sample, "store", lambda years: store)
        result = dg.materialize(one, resources={"cbs": source}, raise_on_error=False)
    assert result.success
    assert (
        "no table titled 'Kerncijfers wijken en buurten 2099'"
        in metadata_of(result)["kerncijfers_wijken_en_buurten"]["reden"]
    )
    with duckdb.connect(str(settings.paths.warehouse), read_only=True) as connection:
        assert connection.sql("SELECT DISTINCT jaar FROM raw_cbs.kerncijfers_wijken_en_buurten").fetchall() == [(2020,)]


def test_a_backfill_lands_its_years_in_one_run(factory: Callable[..., Settings], run: Run) -> None:
    settings = factory()
    tags = {"dagster/asset_partition_range_start": "2020", "dagster/asset_partition_range_end": "2021"}
    result = run(settings, "kerncijfers_per_jaar", tags=tags)
    assert result.success
    assert checks_of(result) == {"kerncijfers_per_jaar.gelande_jaren_hebben_waarnemingen": True}
    landed = {table for table in ("84583NED", "84799NED", "85039NED") if previous(settings.paths.landing_cbs / table)}
    assert landed == {"84799NED", "85039NED"}
