"""Who reaches persons of two purposes needs a registered linkage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from assets.models.purposes import PurposeError, check_purposes, reached_purposes, registered_linkages
from assets.models.runner import build, manifest
from datafabriek.config import Settings

NONE: frozenset[frozenset[str]] = frozenset()
BOTH = frozenset({frozenset({"bijstand", "zzp"})})


def graph(**parents: list[str]) -> dict[str, Any]:
    """A manifest of models named layer__name, on sources named raw_x.table."""
    nodes = {
        f"model.{name}": {
            "name": name,
            "resource_type": "model",
            "schema": name.split("__")[0],
            "depends_on": {"nodes": [f"source.{item}" if "." in item else f"model.{item}" for item in items]},
            "columns": {},
        }
        for name, items in parents.items()
    }
    raw = {item for items in parents.values() for item in items if "." in item}
    return {"nodes": nodes, "sources": {f"source.{item}": {"schema": item.split(".")[0]} for item in raw}}


DIRECT = graph(staging__beide=["raw_bijstand.bus", "raw_zzp.bedrijven"])
THROUGH = graph(
    staging__b=["raw_bijstand.bus"],
    staging__z=["raw_zzp.bedrijven"],
    intermediate__z=["staging__z", "raw_cbs.regios", "raw_leveringen.stand"],
    marts__beide=["intermediate__z", "staging__b"],
)
MARTS_ONLY = graph(
    marts__b=["raw_bijstand.bus"],
    marts__z=["raw_zzp.bedrijven"],
    marts__beide=["marts__b", "marts__z", "raw_cbs.regios"],
)


@pytest.mark.parametrize("known", [DIRECT, THROUGH], ids=["direct", "through others"])
def test_two_purposes_are_refused_without_a_linkage(known: dict[str, Any]) -> None:
    with pytest.raises(PurposeError, match=r"__beide reaches persons of the purposes bijstand and zzp.*koppelingen"):
        check_purposes(known, NONE)
    check_purposes(known, BOTH)
    with pytest.raises(PurposeError):
        check_purposes(known, frozenset({frozenset({"bijstand", "jeugd"})}))


def test_aggregates_may_meet_above_the_marts() -> None:
    check_purposes(MARTS_ONLY, NONE)
    assert reached_purposes(MARTS_ONLY)["model.marts__beide"] == frozenset()


@pytest.mark.parametrize("column", [{"persoon_pseudoniem": {}}, {"wie": {"data_type": "uuid"}}])
def test_no_mart_holds_a_pseudonym(column: dict[str, Any]) -> None:
    known = graph(marts__m=["raw_bijstand.bus"])
    known["nodes"]["model.marts__m"]["columns"] = column
    with pytest.raises(PurposeError, match="aggregates only"):
        check_purposes(known, BOTH)


def test_linkages_come_from_the_policy_folder(tmp_path: Path) -> None:
    assert registered_linkages(None) == registered_linkages(tmp_path) == NONE
    path = tmp_path / "koppelingen.yaml"
    path.write_text("koppelingen:\n  - {naam: proef, doelen: [bijstand, zzp]}\n")
    assert registered_linkages(tmp_path) == BOTH
    path.write_text("koppelingen:\n  - {doelen: [bijstand, zzp], tot: 2026-06-30}\n")
    assert registered_linkages(tmp_path, date(2026, 6, 30)) == BOTH
    assert registered_linkages(tmp_path, date(2026, 7, 1)) == NONE
    path.write_text("koppelingen: [bijstand]")
    with pytest.raises(PurposeError, match=r"koppelingen\.yaml cannot be read"):
        registered_linkages(tmp_path)


def test_the_shipped_models_keep_to_one_purpose_each(built: tuple[Settings, dict[str, Any]]) -> None:
    known = manifest(built[0])
    check_purposes(known, NONE)
    reached = {known["nodes"][name]["name"]: purposes for name, purposes in reached_purposes(known).items()}
    assert reached["bijstand_per_regio"] == {"bijstand"}
    assert reached["zzp_per_sector"] == {"zzp"}
    assert reached["regios"] == reached["zzp_inkomen_per_regio"] == frozenset()


def test_a_build_with_an_unregistered_linkage_does_not_start(own_models: Callable[[dict[str, str]], Settings]) -> None:
    sql = """
        select bus.persoon_pseudoniem from {{ ref("stg_bijstand__bus") }} as bus
        inner join {{ ref("stg_zzp__brp") }} as brp on bus.persoon_pseudoniem = brp.persoon_pseudoniem"""
    settings = own_models({"intermediate/int_bijstand_en_zzp.sql": sql})
    with pytest.raises(PurposeError, match="int_bijstand_en_zzp reaches persons"):
        build(settings)
    assert not (settings.paths.dbt / "target" / "run_results.json").exists()
