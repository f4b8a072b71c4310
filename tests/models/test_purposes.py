"""The shipped models keep to their purpose, and a build that does not never starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pytest

from assets.models.runner import ModelError, ancestors, build, manifest
from datafabriek.config import Settings
from quality.contracts.model import find_contracts, load
from quality.privacy.linkages import reached, refuse_unregistered
from quality.privacy.policy import PolicyError


def test_the_shipped_models_keep_to_one_purpose_each(built: tuple[Settings, dict[str, Any]]) -> None:
    known = manifest(built[0])
    refuse_unregistered(known, [])
    schemas = {known["nodes"][name]["name"]: found for name, found in reached(known).items()}
    assert schemas["bijstand_per_regio"] == {"raw_bijstand"}
    assert schemas["zzp_per_sector"] == {"raw_zzp"}
    assert schemas["regios"] == schemas["zzp_inkomen_per_regio"] == frozenset()


def test_a_build_with_an_unregistered_linkage_does_not_start(own_models: Callable[[dict[str, str]], Settings]) -> None:
    sql = """
        select bus.persoon_pseudoniem from {{ ref("stg_bijstand__bus") }} as bus
        inner join {{ ref("stg_zzp__brp") }} as brp on bus.persoon_pseudoniem = brp.persoon_pseudoniem"""
    settings = own_models({"intermediate/int_bijstand_en_zzp.sql": sql})
    with pytest.raises(PolicyError, match="int_bijstand_en_zzp reaches persons"):
        build(settings)
    assert not (settings.paths.dbt / "target" / "run_results.json").exists()


def test_a_table_that_lineage_does_not_show_is_seen_before_anything_is_built(
    own_models: Callable[[dict[str, str]], Settings],
) -> None:
    """The shipped models pass the same look: a purpose's name is hidden from dbt's lineage in one model alone."""
    sql = """
        select bus.persoon_pseudoniem from {{ ref("stg_bijstand__bus") }} as bus
        inner join {{ "raw_" ~ "zzp" }}.brp as brp on bus.persoon_pseudoniem = brp.persoon_pseudoniem"""
    settings = own_models({"intermediate/int_stiekem.sql": sql})
    for _ in range(2):  # seen afresh, and remembered
        with pytest.raises(PolicyError) as told:
            build(settings)
        assert str(told.value).splitlines() == [
            "model int_stiekem reads raw_zzp.brp by name: declare it as a source, and use source() or ref()",
            "model int_stiekem reaches persons of the purposes bijstand and zzp, and no linkage makes that lawful: "
            "register one in koppelingen.yaml of the policy folder and build on its tables (koppeling_<naam>), or "
            "build on the marts of each and join on region",
        ]
    assert not (settings.paths.dbt / "target" / "run_results.json").exists()


TELLING_RUNS_APART = {
    "which command": '{{ ("raw_" ~ "zzp.brp") if flags.WHICH == "build" else "raw_bijstand.bus" }}',
    "whether it runs": '{{ ("raw_" ~ "zzp.brp") if execute else ref("stg_bijstand__bus") }}',
    "a query": '{{ ref("stg_bijstand__bus") }} where {{ run_query("from raw_zzp.brp").rows | length }} > 0',
    "what ref() is made of": '(select {{ ref.db_wrapper.execute("from raw_zzp.brp", fetch=True)[1].rows[0][0] }})',
    "its own parts by name": '(select {{ ref["db_wrapper"] }})',
    "an object under another name": "{% set r = ref %}(select {{ r.db_wrapper }})",
    "the environment": '{{ env_var("WAAR", "raw_bijstand.bus") }}',
    "chance": '{{ ["raw_zzp.brp", "raw_bijstand.bus"] | random }}',
    "the clock": '{{ "raw_zzp.brp" if run_started_at.minute % 2 else "raw_bijstand.bus" }}',
    "a place in memory": '{{ "raw_zzp.brp" if ("x".upper | string)[-3] == "0" else "raw_bijstand.bus" }}',
    "a statement": '{% call statement("x") %}from raw_zzp.brp{% endcall %}{{ ref("stg_bijstand__bus") }}',
    "a macro of its own": '{% macro x() %}{{ execute }}{% endmacro %}{{ ref("stg_bijstand__bus") }}',
    "the adapter": '{{ adapter.get_relation(none, "raw_zzp", "brp") }}',
}


@pytest.mark.parametrize("way", TELLING_RUNS_APART)
def test_a_template_that_could_read_something_else_when_it_runs_is_refused(
    way: str, own_models: Callable[[dict[str, str]], Settings]
) -> None:
    """What is judged is the SQL that a template comes to; each of these could come to other SQL afterwards."""
    settings = own_models({"intermediate/int_stiekem.sql": f"select * from {TELLING_RUNS_APART[way]}"})
    with pytest.raises(ModelError, match=r"int_stiekem\.sql, line 1 .*cannot be told before it runs"):
        build(settings)
    assert not (settings.paths.dbt / "target").exists()


def test_a_template_in_a_description_of_a_model_is_refused(own_models: Callable[[dict[str, str]], Settings]) -> None:
    told = "sources: [{name: x, schema: \"{{ 'raw_zzp' if flags.WHICH == 'build' else 'raw_bijstand' }}\"}]"
    settings = own_models({"staging/stg_x.sql": "select 1 as een", "staging/stg_x.yml": told})
    with pytest.raises(ModelError, match=r"stg_x\.yml holds a template other than doc"):
        build(settings)


def test_what_a_model_may_use_is_not_refused(own_models: Callable[[dict[str, str]], Settings]) -> None:
    sql = """
        {{ config(materialized="ephemeral", enabled=heeft_leveringen("bus", doel="bijstand")) }}
        {% set jaren = [2019, 2020] %}
        {% for jaar in jaren %}select {{ jaar }} as jaar, '{{ var("gemeenten") | join(",") }}' as gemeenten
        from {{ ref("stg_bijstand__bus") }}{% if not loop.last %} union all {% endif %}{% endfor %}"""
    settings = own_models({"intermediate/int_jaren.sql": sql})
    assert "model.datafabriek.int_jaren" in manifest(settings)["nodes"]


WRITTEN = {
    "a condition": ({"config": {"materialized": "incremental"}}, "is made as incremental"),
    "a type": ({"columns": {"x": {"data_type": "int); create table t as (from raw_zzp.brp"}}}, "data_type is no type"),
    "a constraint": ({"columns": {"x": {"constraints": [{"expression": "x in (from raw_zzp.brp)"}]}}}, "in words"),
    "a constraint of the whole": ({"constraints": [{"expression": "1 = 1"}]}, "in words"),
    "a name": ({"alias": 'x" as from raw_zzp.brp; --'}, "is no name"),
    "a description": ({"description": "$dbt_comment_literal_block$; from raw_zzp.brp"}, "ends the comment"),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_no_statement_is_slipped_in_beside_the_model(way: str, built: tuple[Settings, dict[str, Any]]) -> None:
    changes, told = WRITTEN[way]
    known = manifest(built[0])
    node = known["nodes"]["model.datafabriek.int_bijstand__peildata"]
    changed = {**known, "nodes": {**known["nodes"], "model.datafabriek.int_bijstand__peildata": {**node, **changes}}}
    refuse_unregistered(known, [])
    with pytest.raises(PolicyError, match=told):
        refuse_unregistered(changed, [])


# --- only what is read -------------------------------------------------------------------------------------------

MODELLED = {("bijstand", "brp"), ("bijstand", "bus"), ("zzp", "brp"), ("zzp", "bedrijven")}
"""What shipped models read. The other purposes of shipped contracts are for models of a factory's own: what they get
is what the description of the kind promises (docs/layouts.md), and a factory that names none of them gets none."""


def test_a_purpose_gets_no_column_that_no_model_reads(built: tuple[Settings, dict[str, Any]]) -> None:
    """To hand a column on is not to read it: a model beyond staging reads it, or what staging made of it."""
    settings, _ = built
    known = manifest(settings)
    shipped = {(purpose, name) for name in find_contracts() for purpose in load(name).purposes}
    sources = {
        (source["schema"].removeprefix("raw_"), source["name"]): unique_id
        for unique_id, source in known["sources"].items()
    }
    assert sources.keys() & shipped == MODELLED
    models = {name: _tree(settings, node) for name, node in known["nodes"].items() if node["resource_type"] == "model"}
    for purpose, name in MODELLED:
        (staging,) = (child for child in known["child_map"][sources[purpose, name]] if child in models)
        beyond = [tree for each, tree in models.items() if staging in ancestors(known, each) - {each}]
        read = {column for tree in beyond for column in _columns(tree)}
        made = _made(models[staging])
        assert made.keys() <= read, f"{staging} hands on what no model reads: {made.keys() - read}"
        given = {column.name for column in load(name).purposes[purpose].columns}
        used = {column for each in made.values() for column in each}
        assert given <= used, f"{name} gives {purpose} what no model reads: {given - used}"


def _tree(settings: Settings, node: dict[str, Any]) -> Any:
    """The syntax of a model, as the build filled it in."""
    sql = (settings.paths.dbt / "target/compiled/datafabriek" / node["original_file_path"]).read_text()
    with duckdb.connect() as con:
        (text,) = con.execute("SELECT json_serialize_sql(?)", [sql]).fetchone() or ("",)
    tree = json.loads(text)
    assert not tree["error"], node["name"]
    return tree


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _walk(part)


def _columns(tree: Any) -> set[str]:
    return {node["column_names"][-1] for node in _walk(tree) if node.get("class") == "COLUMN_REF"}


def _made(tree: Any) -> dict[str, set[str]]:
    """Per column that a staging model makes: what it is made of."""
    listed = [item for node in _walk(tree) for item in node.get("select_list") or () if item["class"] != "STAR"]
    return {item["alias"] or item["column_names"][-1]: _columns(item) for item in listed}
