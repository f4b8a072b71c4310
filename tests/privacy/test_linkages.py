"""Linkages: persons of two purposes meet in the tables of a registered linkage alone, however it is tried otherwise."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from datafabriek.config import load_settings
from quality.privacy.linkages import FILE, Linkage, load_linkages, reached, refuse_unregistered, relations
from quality.privacy.policy import PolicyError

TODAY = date(2026, 6, 1)
PURPOSES = ("bijstand", "zzp")
SCHEMAS = (
    "raw_bijstand", "raw_zzp", "raw_cbs", "raw_leveringen", "koppeling_proef", "koppeling_ander", "RAW_ZZP",
    "intermediate", "elders",
)  # fmt: skip
MART = {"contract": {"enforced": True}}


def _manifest(*taken: str, **models: tuple[str, list[str]]) -> dict[str, Any]:
    """Models by name: (schema, parents); a parent that is a schema stands for a source in it."""

    def ident(name: str) -> str:
        return f"source.{name}" if name in SCHEMAS else f"model.fabriek.{name}"

    nodes = {
        ident(name): {
            "name": name, "resource_type": "model", "schema": schema, "columns": {}, "language": "sql",
            "config": MART if schema == "marts" else {}, "depends_on": {"nodes": [ident(each) for each in parents]},
        }
        for name, (schema, parents) in models.items()
    }  # fmt: skip
    used = {parent for _, parents in models.values() for parent in parents if parent in SCHEMAS} | set(taken)
    sources = {ident(name): {"schema": name, "name": "brp", "identifier": "brp"} for name in used}
    return {"sources": sources, "nodes": nodes}


def _linkage(**changes: Any) -> Linkage:
    settled = {
        "naam": "proef", "omschrijving": "een proef", "grondslag": "wet", "dpia": "DPIA-1",
        "verwerkingsactiviteit": "VA-9", "van": "2026-01-01", "tot": "2026-12-31",
        "doelen": {"bijstand": {"bus": ["persoon_pseudoniem"]}, "zzp": {"brp": ["persoon_pseudoniem"]}},
    }  # fmt: skip
    return Linkage.model_validate({**settled, **changes})


def _refused(manifest: dict[str, Any], *linkages: Linkage, match: str, **more: Any) -> None:
    with pytest.raises(PolicyError, match=match):
        refuse_unregistered(manifest, linkages, TODAY, **more)


BOTH = _manifest(
    stg_a=("staging", ["raw_bijstand"]),
    stg_b=("staging", ["raw_zzp"]),
    int_both=("intermediate", ["stg_a", "stg_b"]),
)


def test_two_purposes_in_one_model_are_refused_with_the_remedy() -> None:
    _refused(BOTH, match=r"int_both reaches .*bijstand and zzp.*koppelingen.yaml.*koppeling_<naam>")


def test_a_linkage_gives_its_own_tables_and_no_others() -> None:
    _refused(BOTH, _linkage(), match="int_both reaches persons of the purposes bijstand and zzp")
    through = _manifest(stg=("staging", ["koppeling_proef"]), int_x=("intermediate", ["stg", "raw_cbs"]))
    refuse_unregistered(through, [_linkage()], TODAY)
    assert reached(through)["model.fabriek.int_x"] == {"koppeling_proef"}


def test_it_is_seen_through_other_models() -> None:
    manifest = _manifest(
        stg_a=("staging", ["raw_bijstand"]),
        int_a=("intermediate", ["stg_a", "raw_cbs"]),
        int_b=("intermediate", ["int_a"]),
        int_c=("intermediate", ["int_b", "raw_zzp"]),
    )
    assert reached(manifest)["model.fabriek.int_c"] == {"raw_bijstand", "raw_zzp"}
    _refused(manifest, match="int_c")


def test_aggregates_may_meet_above_the_marts() -> None:
    manifest = _manifest(
        stg_a=("staging", ["raw_bijstand", "raw_leveringen"]),
        stg_b=("staging", ["raw_zzp"]),
        een_per_regio=("marts", ["stg_a", "raw_cbs"]),
        ander_per_regio=("marts", ["stg_b"]),
        beide_per_regio=("marts", ["een_per_regio", "ander_per_regio", "raw_cbs"]),
        int_later=("intermediate", ["een_per_regio", "raw_zzp"]),
    )
    refuse_unregistered(manifest, [], TODAY)
    assert reached(manifest)["model.fabriek.beide_per_regio"] == frozenset()


def test_a_mart_that_reads_persons_of_two_purposes_is_refused() -> None:
    manifest = _manifest(
        stg_a=("staging", ["raw_bijstand"]), int_b=("intermediate", ["raw_zzp"]), samen=("marts", ["stg_a", "int_b"])
    )
    _refused(manifest, match="model samen reaches")


@pytest.mark.parametrize("other", ["raw_bijstand", "raw_zzp", "koppeling_ander"])
def test_what_a_linkage_made_is_joined_with_nothing_but_itself(other: str) -> None:
    """Neither with a purpose of its own, nor with another linkage that shares a purpose."""
    manifest = _manifest(stg=("staging", [other]), int_x=("intermediate", ["koppeling_proef", "stg"]))
    _refused(manifest, _linkage(), _linkage(naam="ander"), match="int_x .* joined with nothing but itself")


@pytest.mark.parametrize("changes", [{"tot": "2026-05-31"}, {"van": "2026-06-02"}], ids=["expired", "not yet"])
def test_a_linkage_out_of_force_is_of_no_use(changes: dict[str, str]) -> None:
    manifest = _manifest(stg=("staging", ["koppeling_proef"]), int_x=("intermediate", ["stg"]))
    _refused(manifest, _linkage(**changes), match=r"int_x reaches koppeling_proef, and that linkage holds from .* to")
    _refused(manifest, match="int_x reaches koppeling_proef, and no such linkage is registered")


@pytest.mark.parametrize("column", [{"persoon_pseudoniem": {}}, {"wie": {"data_type": "uuid"}}])
def test_no_mart_holds_a_pseudonym(column: dict[str, Any]) -> None:
    manifest = _manifest(m=("marts", ["raw_bijstand"]))
    manifest["nodes"]["model.fabriek.m"]["columns"] = column
    _refused(manifest, _linkage(), match="aggregates only")


def _hidden(**changes: Any) -> dict[str, Any]:
    manifest = _manifest(int_x=("intermediate", ["raw_bijstand"]))
    manifest["nodes"]["model.fabriek.int_x"] |= changes
    return manifest


ATTACKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a test": (
        {**BOTH, "nodes": {**BOTH["nodes"], "model.fabriek.int_both": {
            **BOTH["nodes"]["model.fabriek.int_both"], "resource_type": "test", "schema": "audit"}}},
        {}, "test int_both reaches"),
    "capitals": (_manifest(int_x=("intermediate", ["raw_bijstand", "RAW_ZZP"])), {}, "int_x reaches"),
    "a source on another model's table": (
        _manifest(brp=("intermediate", ["raw_zzp"]), int_x=("intermediate", ["raw_bijstand", "intermediate"])),
        {}, "int_x reaches persons of the purposes bijstand and zzp"),
    "a source that nothing fills": (_manifest(int_x=("intermediate", ["elders"])), {}, "lies in elders"),
    "the schema of marts without a contract": (
        _manifest(rijen=("marts", ["raw_bijstand"]), int_x=("intermediate", ["rijen", "raw_zzp"])), {"config": {}},
        "without an enforced contract"),
    "the schema of a source": (_manifest(regios=("raw_cbs", ["raw_bijstand"])), {}, "schema raw_cbs"),
    "python": (_hidden(language="python"), {}, "written in python"),
    "failing rows that are kept": (_hidden(config={"store_failures": True}), {}, "keeps the rows"),
    "failing rows as a view": (_hidden(config={"store_failures_as": "view"}), {}, "keeps the rows"),
    "a hook": (_hidden(config={"post-hook": [{"sql": "create table x as from raw_zzp.brp"}]}), {}, "post-hook"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_ways_round_the_lineage_are_refused(attack: str) -> None:
    manifest, changes, told = ATTACKS[attack]
    for node in manifest["nodes"].values() if changes else ():
        node.update(changes)
    _refused(manifest, match=told)


def test_a_table_named_in_the_text_counts_as_read() -> None:
    manifest = _manifest("raw_zzp", int_x=("intermediate", ["raw_bijstand"]), int_y=("intermediate", []))
    read = {"model.fabriek.int_x": relations('select * from "raw_bijstand".bus join db.Raw_ZZP.brp using (a)')}
    _refused(manifest, match="int_x reaches persons of the purposes bijstand and zzp", read=read)
    _refused(manifest, match="reads main.restjes by name", read={"model.fabriek.int_y": [("main", "restjes")]})
    through = {"model.fabriek.int_y": [("raw_zzp", "brp"), ("intermediate", "int_x")]}
    _refused(manifest, match="int_y reaches", read=through)
    _refused(manifest, match="cannot be told", read={"model.fabriek.int_y": None})


@pytest.mark.parametrize(
    "sql",
    ["from query('select * from raw_zzp.brp')", "from query_table('raw_zzp.brp')", "from read_csv('x.csv')",
     "select * from 'x.parquet'", "pivot raw_zzp.brp on buurt_code", "select 1; select 2 from", "attach 'x' as y"],
)  # fmt: skip
def test_sql_that_hides_what_it_reads_is_not_followed(sql: str) -> None:
    assert relations(sql) is None


def test_sql_that_can_be_followed_is() -> None:
    sql = "with a as (select unnest([1]) as x from A.B) select (select max(x) from c.d) from a, generate_series(1, 3)"
    assert relations(sql) == {("a", "b"), ("c", "d")}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"naam": "raw zzp; drop"}, "naam"), ({"doelen": {"bijstand": {"bus": ["x"]}}}, "at least 2"),
        ({"doelen": {"a": {"b": []}, "c": {"d": ["x"]}}}, "at least 1"), ({"tot": "2025-01-01"}, "before it begins"),
        ({"doelen": {"a": {"b__c": ["x"]}, "a__b": {"c": ["x"]}}}, "one name"), ({"grondslag": ""}, "grondslag"),
    ],
)  # fmt: skip
def test_a_linkage_that_does_not_hold_together_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    document = _linkage().model_dump(mode="json") | changes
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / FILE).write_text(yaml.safe_dump({"koppelingen": [document]}))
    (tmp_path / "factory.yaml").write_text("name: x\nregion: {gemeenten: [GM0518], provincie: PV28}\n")
    with pytest.raises(PolicyError, match=told):
        load_linkages(load_settings(tmp_path / "factory.yaml"))


def test_two_linkages_of_one_name_would_share_a_key(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    document = {"koppelingen": [_linkage().model_dump(mode="json")] * 2}
    (tmp_path / "policy" / FILE).write_text(yaml.safe_dump(document))
    (tmp_path / "factory.yaml").write_text("name: x\nregion: {gemeenten: [GM0518], provincie: PV28}\n")
    with pytest.raises(PolicyError, match="one name"):
        load_linkages(load_settings(tmp_path / "factory.yaml"))
