"""The models in Dagster: lineage, checks, subsets, and what a failure leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from assets.models import assets
from datafabriek.config import Settings
from datafabriek.warehouse import warehouse

MART = dg.AssetKey(["marts", "bijstand_per_regio"])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(
    settings: Settings, instance: dg.DagsterInstance, selection: Any = None, *, raises: bool = True
) -> dg.ExecuteInProcessResult:
    definitions, _ = assets.build(settings)
    return dg.materialize(definitions, instance=instance, selection=selection, raise_on_error=raises)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {item.check_name: item for item in result.get_asset_check_evaluations()}


def made(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    events = result.get_asset_materialization_events()
    return {event.asset_key.path[-1]: event.materialization.metadata for event in events if event.asset_key}


def change(settings: Settings, sql: str) -> None:
    with warehouse(settings.paths, settings.resources) as connection:
        connection.execute(sql)


def test_the_lineage_starts_at_the_raw_tables(built: tuple[Settings, Any]) -> None:
    (definition,), _ = assets.build(built[0])
    deps = {spec.key: {dep.asset_key for dep in spec.deps} for spec in definition.specs}
    assert deps[dg.AssetKey(["staging", "stg_bijstand__bus"])] == {dg.AssetKey(["raw_bijstand", "bus"])}
    assert dg.AssetKey(["staging", "stg_zzp__bedrijven"]) in deps[dg.AssetKey(["intermediate", "int_zzp__vestigingen"])]
    outside = {key for keys in deps.values() for key in keys} - deps.keys()
    assert {key.path[0] for key in outside} == {"raw_cbs", "raw_bijstand", "raw_zzp", "raw_leveringen"}


def test_every_model_says_what_it_is_and_is_checked(built: tuple[Settings, Any]) -> None:
    (definition,), _ = assets.build(built[0])
    checked = {spec.asset_key for spec in definition.check_specs}
    for spec in definition.specs:
        assert spec.description
        assert spec.group_name == "modellen"
        assert spec.owners == ["team:datafabriek"]
        assert {"dbt", "duckdb"} <= spec.kinds
        assert spec.key in checked or spec.key.path[-1].startswith("stg_leveringen")


def test_a_run_tells_rows_columns_and_verdicts(built: tuple[Settings, Any], instance: dg.DagsterInstance) -> None:
    result = run(built[0], instance)
    metadata = made(result)["bijstand_per_regio"]
    assert metadata["dagster/row_count"].value == 4 * 12 * 2
    columns = {column.name: column for column in metadata["dagster/column_schema"].value.columns}
    assert columns["waarde"].type == "DECIMAL(18,2)"
    assert columns["waarde"].description
    verdicts = checks(result)
    assert all(verdict.passed for verdict in verdicts.values())
    assert {"bijstand_telt_iedereen_mee", "bijstand_per_regio_is_vernieuwd"} <= verdicts.keys()


def test_a_selection_makes_and_checks_only_itself(built: tuple[Settings, Any], instance: dg.DagsterInstance) -> None:
    result = run(built[0], instance, dg.AssetSelection.assets(MART))
    assert made(result).keys() == {"bijstand_per_regio"}
    assert "bijstand_per_regio_heeft_elke_regio" in checks(result)
    only = dg.AssetSelection.checks(dg.AssetCheckKey(MART, "bijstand_per_regio_heeft_elke_regio"))
    result = run(built[0], instance, only)
    assert made(result) == {}
    assert checks(result).keys() == {"bijstand_per_regio_heeft_elke_regio"}


def test_a_failure_stays_with_what_rests_on_it(
    make_factory: Callable[..., Settings], instance: dg.DagsterInstance
) -> None:
    settings = make_factory()
    # a mart that was never made well has no version to go on with: the others go on, and an ERROR says so
    change(settings, "UPDATE raw_bijstand.bus SET gemeente_code = 'GM0599' WHERE gemeente_code = 'GM1916'")
    first = run(settings, instance)
    assert first.success
    verdicts = checks(first)
    assert not verdicts["bijstand_telt_iedereen_mee"].passed
    never = verdicts["bijstand_per_regio_is_vernieuwd"]
    assert (never.passed, never.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "bijstand_telt_iedereen_mee" in str(never.description)
    assert verdicts["zzp_per_regio_is_vernieuwd"].passed
    assert made(first)["bijstand_per_regio"]["verouderd_sinds"].value == "nooit goed geweest"

    change(settings, "UPDATE raw_bijstand.bus SET gemeente_code = 'GM1916' WHERE gemeente_code = 'GM0599'")
    assert run(settings, instance).success

    # once it was, a failure leaves the last good version and the run goes on
    change(settings, "ALTER TABLE raw_bijstand.bus ALTER statistiekmaand TYPE VARCHAR")
    change(settings, "UPDATE raw_bijstand.bus SET statistiekmaand = '999990123'")
    result = run(settings, instance)
    assert result.success
    told_of, verdicts = made(result), checks(result)
    assert "int_bijstand__per_persoon_en_peildatum" not in told_of
    assert "verouderd_sinds" in told_of["bijstand_per_regio"]
    assert "verouderd_sinds" not in told_of["zzp_per_regio"]
    renewed = verdicts["bijstand_per_regio_is_vernieuwd"]
    assert (renewed.passed, renewed.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert verdicts["zzp_per_regio_is_vernieuwd"].passed
    events = json.dumps([str(event) for event in result.all_events])
    assert "999990123" not in events
    noted = (settings.paths.dbt / "target" / "run_results.json").read_text()
    assert "999990123" not in noted


def test_a_source_that_is_not_there_stops_only_what_rests_on_it(
    make_factory: Callable[..., Settings], instance: dg.DagsterInstance
) -> None:
    settings = make_factory()
    change(settings, "DROP TABLE raw_zzp.bedrijven")
    result = run(settings, instance)
    assert result.success
    verdicts = checks(result)
    assert verdicts["bijstand_per_regio_is_vernieuwd"].passed
    for mart in ("zzp_per_regio", "zzp_per_sector"):
        renewed = verdicts[f"{mart}_is_vernieuwd"]
        assert (renewed.passed, renewed.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert str(renewed.description).endswith("raw_zzp.bedrijven is er niet")


def test_a_seed_of_an_older_version_is_made_anew(
    make_factory: Callable[..., Settings], instance: dg.DagsterInstance
) -> None:
    settings = make_factory()
    change(settings, "CREATE SCHEMA intermediate; CREATE TABLE intermediate.sbi_secties AS SELECT 'A' AS sector_code")
    verdicts = checks(run(settings, instance))
    assert verdicts["zzp_per_sector_is_vernieuwd"].passed


def test_loading_the_assets_does_not_import_dbt(built: tuple[Settings, Any]) -> None:
    code = (
        "import sys; from pathlib import Path; from datafabriek.config import load_settings; "
        f"from assets.models import assets; assets.build(load_settings(Path({str(built[0].source)!r}))); "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'dbt', 'dagster_dbt'}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
