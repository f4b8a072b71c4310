"""The shipped models keep to their purpose, and a build that does not never starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from assets.models.runner import build, manifest
from datafabriek.config import Settings
from quality.privacy.linkages import reached_purposes, refuse_unregistered
from quality.privacy.policy import PolicyError


def test_the_shipped_models_keep_to_one_purpose_each(built: tuple[Settings, dict[str, Any]]) -> None:
    known = manifest(built[0])
    refuse_unregistered(known, [])
    reached = {known["nodes"][name]["name"]: purposes for name, purposes in reached_purposes(known).items()}
    assert reached["bijstand_per_regio"] == {"bijstand"}
    assert reached["zzp_per_sector"] == {"zzp"}
    assert reached["regios"] == reached["zzp_inkomen_per_regio"] == frozenset()


def test_a_build_with_an_unregistered_linkage_does_not_start(own_models: Callable[[dict[str, str]], Settings]) -> None:
    sql = """
        select bus.persoon_pseudoniem from {{ ref("stg_bijstand__bus") }} as bus
        inner join {{ ref("stg_zzp__brp") }} as brp on bus.persoon_pseudoniem = brp.persoon_pseudoniem"""
    settings = own_models({"intermediate/int_bijstand_en_zzp.sql": sql})
    with pytest.raises(PolicyError, match="int_bijstand_en_zzp reaches persons"):
        build(settings)
    assert not (settings.paths.dbt / "target" / "run_results.json").exists()
