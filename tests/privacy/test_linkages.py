"""Linkages: two purposes meet only where that was registered, and through however many models it is seen."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from quality.privacy.linkages import Linkage, reached_purposes, refuse_unregistered
from quality.privacy.policy import PolicyError

TODAY = date(2026, 6, 1)
PURPOSES = ("bijstand", "zzp")


def _manifest(**models: tuple[str, list[str]]) -> dict[str, Any]:
    """Models by name: (schema, parents)."""
    sources = {f"source.{p}": {"schema": f"raw_{p}"} for p in (*PURPOSES, "cbs", "leveringen")}

    def ident(name: str) -> str:
        return f"source.{name.removeprefix('raw_')}" if name.startswith("raw_") else f"model.fabriek.{name}"

    nodes = {
        ident(name): {
            "name": name, "resource_type": "model", "schema": schema, "columns": {},
            "depends_on": {"nodes": [ident(parent) for parent in parents]},
        }
        for name, (schema, parents) in models.items()
    }  # fmt: skip
    return {"sources": sources, "nodes": nodes}


BOTH = _manifest(
    stg_a=("staging", ["raw_bijstand"]),
    stg_b=("staging", ["raw_zzp"]),
    int_both=("intermediate", ["stg_a", "stg_b"]),
)


def _linkage(**changes: Any) -> Linkage:
    settled = {"naam": "proef", "doelen": PURPOSES, "grondslag": "wet", "dpia": "DPIA-1", "van": "2026-01-01"}
    return Linkage.model_validate({**settled, "tot": "2026-12-31", **changes})


def test_two_purposes_in_one_model_are_refused_with_the_remedy() -> None:
    with pytest.raises(PolicyError, match=r"int_both reaches .*bijstand and zzp.*no linkage.*koppelingen.yaml"):
        refuse_unregistered(BOTH, [], TODAY)


def test_it_is_seen_through_other_models() -> None:
    manifest = _manifest(
        stg_a=("staging", ["raw_bijstand"]),
        int_a=("intermediate", ["stg_a", "raw_cbs"]),
        int_b=("intermediate", ["int_a"]),
        int_c=("intermediate", ["int_b", "raw_zzp"]),
    )
    assert reached_purposes(manifest)["model.fabriek.int_c"] == frozenset(PURPOSES)
    with pytest.raises(PolicyError, match="int_c"):
        refuse_unregistered(manifest, [], TODAY)


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
    assert reached_purposes(manifest)["model.fabriek.beide_per_regio"] == frozenset()


def test_a_mart_that_reads_persons_of_two_purposes_is_refused() -> None:
    manifest = _manifest(
        stg_a=("staging", ["raw_bijstand"]), int_b=("intermediate", ["raw_zzp"]), samen=("marts", ["stg_a", "int_b"])
    )
    with pytest.raises(PolicyError, match="model samen reaches"):
        refuse_unregistered(manifest, [], TODAY)


@pytest.mark.parametrize("column", [{"persoon_pseudoniem": {}}, {"wie": {"data_type": "uuid"}}])
def test_no_mart_holds_a_pseudonym(column: dict[str, Any]) -> None:
    manifest = _manifest(m=("marts", ["raw_bijstand"]))
    manifest["nodes"]["model.fabriek.m"]["columns"] = column
    with pytest.raises(PolicyError, match="aggregates only"):
        refuse_unregistered(manifest, [_linkage()], TODAY)


def test_a_registered_linkage_in_force_allows_it() -> None:
    refuse_unregistered(BOTH, [_linkage()], TODAY)


@pytest.mark.parametrize("changes", [{"tot": "2026-05-31"}, {"van": "2026-06-02"}], ids=["expired", "not yet"])
def test_a_linkage_out_of_force_does_not(changes: dict[str, str]) -> None:
    with pytest.raises(PolicyError, match="not in force"):
        refuse_unregistered(BOTH, [_linkage(**changes)], TODAY)


def test_a_linkage_of_other_purposes_does_not() -> None:
    with pytest.raises(PolicyError, match="no linkage"):
        refuse_unregistered(BOTH, [_linkage(doelen=["bijstand", "jeugd"])], TODAY)
