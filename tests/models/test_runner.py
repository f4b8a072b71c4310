"""How dbt is run: when the manifest is made, what a failure leaves, and that no value is told."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assets.models import runner
from assets.models.runner import ModelError, NodeResult, masked
from datafabriek.config import Settings
from datafabriek.warehouse import safeguards, warehouse

Factory = Callable[..., Settings]
OwnModels = Callable[[dict[str, str]], Settings]


def by_name(results: dict[str, NodeResult]) -> dict[str, NodeResult]:
    return {unique_id.split(".")[2]: result for unique_id, result in results.items()}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Runtime Error in model x (models/x.sql)\n  Conversion Error: Could not convert string '123456782' to INT32"
            "\n\nLINE 1: select",
            "Conversion Error: Could not convert string … to INT32",
        ),
        ('Binder Error: Referenced column "foo" not found', 'Binder Error: Referenced column "foo" not found'),
        ('Constraint Error: Duplicate key "id: 6f1b2c3d-aaaa-bbbb-cccc-123456789012" violates', None),
        ("Invalid Input Error: value O'Brien, 19701231 is wrong", None),
        ("Got 3 results, configured to fail if != 0", "Got 3 results, configured to fail if != 0"),
        ("", ""),
    ],
)
def test_messages_tell_the_cause_and_no_value(message: str, told: str | None) -> None:
    result = masked(message)
    assert told is None or result == told
    assert "\n" not in result
    assert not any(value in result for value in ("123456782", "6f1b2c3d", "19701231"))


def test_the_manifest_is_made_once(built: tuple[Settings, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = built
    monkeypatch.setattr(runner, "_dbt", lambda _settings: pytest.fail("dbt was started for a fresh manifest"))
    assert runner.manifest(settings)["nodes"]


def test_nothing_that_dbt_leaves_behind_holds_messages_or_values(built: tuple[Settings, dict[str, Any]]) -> None:
    settings, _ = built
    assert not [path for path in settings.paths.dbt.rglob("*.log") if path.stat().st_size]
    assert "DBT_WAREHOUSE" not in os.environ
    with warehouse(settings.paths, settings.resources) as connection:
        schemas = connection.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall()
    assert not [name for (name,) in schemas if "audit" in name or "test" in name]


def test_a_delivery_that_the_factory_lacks_disables_what_needs_it(make_factory: Factory) -> None:
    settings = make_factory("bedrijven, adressen")
    results = by_name(runner.build(settings))
    assert all(result.is_good for result in results.values())
    assert "bijstand_per_regio" not in results
    with warehouse(settings.paths, settings.resources) as connection:
        rows = connection.execute("SELECT DISTINCT indicator FROM marts.zzp_per_regio ORDER BY 1").fetchall()
        known = connection.execute("SELECT count(*) FROM marts.indicatoren WHERE thema = 'Werk en inkomen'").fetchone()
    assert rows == [("zzp_vestigingen",), ("zzp_vestigingen_per_1000_inwoners",)]
    assert known == (0,)


def test_a_factory_adds_models_of_its_own(own_models: OwnModels) -> None:
    settings = own_models(
        {
            "marts/gemeenten.sql": "select regio_code from {{ ref('regios') }} where regio_niveau = 'GM'",
            "marts/gemeenten.yml": "models: [{name: gemeenten, columns: [{name: regio_code, data_type: varchar}]}]",
            "staging/stg_fout.sql": "select cast('123456782x' as integer) as getal from {{ ref('stg_cbs__regios') }}",
            "intermediate/int_fout.sql": "{{ config(materialized='table') }} select * from {{ ref('stg_fout') }}",
        }
    )
    results = by_name(runner.build(settings))
    assert results["gemeenten"].status == "success"
    assert results["int_fout"].status == "error"
    assert "Conversion Error" in results["int_fout"].message
    assert "123456782" not in results["int_fout"].message
    assert results["bijstand_per_regio"].is_good
    noted = json.loads((settings.paths.dbt / "target" / "run_results.json").read_text())
    assert "123456782" not in json.dumps(noted)
    with warehouse(settings.paths, settings.resources) as connection:
        assert connection.execute("SELECT count(*) FROM marts.gemeenten").fetchone() == (2,)


def test_a_name_taken_twice_is_refused(own_models: OwnModels) -> None:
    settings = own_models({"marts/regios.sql": "select 1 as een"})
    with pytest.raises(ModelError, match=r"models/marts/regios\.sql has the name of .*another name"):
        runner.manifest(settings)


def test_a_model_that_cannot_be_read_is_named(own_models: OwnModels) -> None:
    settings = own_models({"marts/stuk.sql": "select * from {{ ref('bestaat_niet') }}"})
    with pytest.raises(ModelError, match="bestaat_niet"):
        runner.manifest(settings)


def test_a_model_that_stands_in_no_layer_is_refused(own_models: OwnModels) -> None:
    settings = own_models({"los.sql": "select 1 as een"})
    with pytest.raises(ModelError, match=r"los\.sql stands in no layer: put it in staging, intermediate, marts"):
        runner.manifest(settings)


def test_a_factory_for_one_purpose_has_the_models_of_that_purpose(make_factory: Factory) -> None:
    settings = make_factory()
    settled = "omschrijving: proef, grondslag: wet, verwerkingsactiviteit: VA-1, bewaartermijn_maanden: 12"
    kept = ", ".join(f"{name}: {{bewaartermijn_maanden: 12}}" for name in settings.deliveries)
    policy = settings.source.parent / "policy" / "doelen.yaml"
    policy.parent.mkdir()
    policy.write_text(
        f"versie: 1\nleveringen: {{{kept}}}\ndoelen:\n  bijstand: {{{settled}, leveringen: [brp, bus]}}\n"
        f"  zzp: {{{settled}, leveringen: [bedrijven]}}\n"
    )
    assert runner.dbt_vars(settings)["doelen"] == {"bijstand": ["brp", "bus"], "zzp": ["bedrijven"]}
    names = {node["name"] for node in runner.manifest(settings)["nodes"].values()}
    assert {"bijstand_per_regio", "zzp_per_regio", "zzp_per_sector"} <= names
    assert not names & {"stg_zzp__brp", "int_zzp__per_eigenaar_en_peildatum"}  # zzp may not use the register


def test_the_project_is_copied_by_one_process_at_a_time(own_models: OwnModels, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = own_models({"marts/gemeenten.sql": "select 1 as een"})
    assemble, held = runner._assemble, []

    def watched(of: Settings) -> Any:
        with (of.paths.dbt / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
        return assemble(of)

    monkeypatch.setattr(runner, "_assemble", watched)
    runner.manifest(settings)
    assert held == [True]


def test_a_build_that_is_killed_leaves_no_good_result_behind(
    make_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_factory()
    runner.build(settings)
    before = {name: result.good_at for name, result in by_name(runner.last_results(settings.paths)).items()}
    assert before["regios"]
    monkeypatch.setattr(runner, "_note", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        runner.build(settings, ["regios"])
    after = by_name(runner.last_results(settings.paths))
    assert (after["regios"].is_good, after["regios"].good_at) == (False, before["regios"])
    assert after["zzp_per_regio"].is_good


def test_buurten_of_different_origin_count_once_and_the_weakest_shows(make_factory: Factory) -> None:
    settings = make_factory()
    with warehouse(settings.paths, settings.resources) as connection:
        connection.execute("UPDATE raw_cbs.regios SET herkomst = 'herrekend' WHERE regio_code = 'BU05181785'")
        connection.execute("UPDATE raw_cbs.regios SET herkomst = 'geschat' WHERE regio_code = 'BU05181786'")
    results = by_name(runner.build(settings))
    assert all(result.is_good for result in results.values())
    with warehouse(settings.paths, settings.resources) as connection:
        found = connection.execute(
            "SELECT DISTINCT regio_code, herkomst FROM intermediate.int_regios__niveaus "
            "WHERE gemeente_code = 'GM0518' AND regio_niveau <> 'BU' ORDER BY 1"
        ).fetchall()
    assert found == [
        ("GM0518", "geschat"),
        ("ONB0518", "geschat"),
        ("WK051801", "gemeten"),
        ("WK051817", "geschat"),
    ]


OUTSIDE = {
    "read_csv": "select * from read_csv('{file}')",
    "read_text": "select content from read_text('{file}')",
    "read_blob": "select 1 as een from read_blob('/proc/self/environ')",
    "copy": "{{% do run_query(\"copy (select 1) to '{file}.out'\") %}} select 1 as een",
    "attach": "{{% do run_query(\"attach '{file}.db' as elders\") %}} select 1 as een",
    "undo": "{{% do run_query('set enable_external_access = true') %}} select 1 as een",
}
"""Models that would reach a file, by the way in which they try."""


def test_a_model_reaches_nothing_but_the_warehouse(
    own_models: OwnModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the reading of its template and of its SQL are other lines of defence
    monkeypatch.setattr(runner, "read_relations", lambda *_: {})
    monkeypatch.setattr(runner, "unsteady", lambda *_: [])
    file = tmp_path / "brp_20201231.csv"
    file.write_text("bsn\n999990019\n")
    settings = own_models({f"intermediate/int_{way}.sql": sql.format(file=file) for way, sql in OUTSIDE.items()})
    results = by_name(runner.build(settings, [f"int_{way}" for way in OUTSIDE]))
    assert results.keys() == {f"int_{way}" for way in OUTSIDE}
    for way, result in results.items():
        assert result.status == "error", way
        assert "disabled" in result.message or "Cannot enable external access" in result.message, way
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_models_run_under_the_safeguards_of_every_connection(
    own_models: OwnModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "read_relations", lambda *_: {})  # a table of settings is no table of the warehouse
    settings = own_models({"intermediate/int_instellingen.sql": "select name, value from duckdb_settings()"})
    small = settings.resources.model_copy(update={"memory_limit": "300MB", "threads": 1})
    settings = settings.model_copy(update={"resources": small})
    assert by_name(runner.build(settings, ["int_instellingen"]))["int_instellingen"].is_good
    with warehouse(settings.paths, settings.resources) as connection:
        told = connection.execute("SELECT name, value FROM intermediate.int_instellingen").fetchall()
        own = connection.execute("SELECT name, value FROM duckdb_settings()").fetchall()
    set_here = safeguards(settings.paths, settings.resources)
    assert {"temp_file_encryption", "memory_limit", "threads"} <= set_here.keys()
    assert [row for row in told if row[0] in set_here] == [row for row in own if row[0] in set_here]


def test_a_model_that_outgrows_its_memory_spills(own_models: OwnModels) -> None:
    model = "select i, hash(i) as h, 'naam' || i as naam from range(1500000) t(i) order by h, naam"
    settings = own_models({"intermediate/int_groot.sql": model})
    small = settings.resources.model_copy(update={"memory_limit": "60MB", "threads": 1})
    result = by_name(runner.build(settings.model_copy(update={"resources": small}), ["int_groot"]))["int_groot"]
    assert result.is_good, result.message


def test_a_test_that_keeps_failing_rows_is_refused(own_models: OwnModels) -> None:
    ways = {"leeftijd": "store_failures: true", "jaren": "store_failures_as: table", "dagen": "store_failures_as: view"}
    columns = ", ".join(
        f"{{name: {name}, data_tests: [{{not_null: {{config: {{{kept}}}}}}}]}}" for name, kept in ways.items()
    )
    settings = own_models(
        {
            "intermediate/int_ouderen.sql": "select 1 as leeftijd, 2 as jaren, 3 as dagen",
            "intermediate/int_ouderen.yml": f"models: [{{name: int_ouderen, columns: [{columns}]}}]",
        }
    )
    with pytest.raises(ModelError, match=r"not_null_int_ouderen_\w+ .* keeps the rows that it finds wrong"):
        runner.build(settings)
    # each of them by itself
    known = runner.manifest(settings)
    for name in ways:
        alone = {key: node for key, node in known["nodes"].items() if node["name"] == f"not_null_int_ouderen_{name}"}
        assert len(alone) == 1
        with pytest.raises(ModelError, match=rf"not_null_int_ouderen_{name} .* keeps the rows that it finds wrong"):
            runner._refuse_kept_rows({"nodes": alone})
    with warehouse(settings.paths, settings.resources) as connection:
        assert not connection.execute("FROM duckdb_tables() WHERE schema_name LIKE '%audit%'").fetchall()
