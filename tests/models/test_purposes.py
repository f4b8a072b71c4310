"""The shipped models keep to their purpose, and a build that does not never starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assets.models.runner import build, manifest
from datafabriek.config import Settings
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
