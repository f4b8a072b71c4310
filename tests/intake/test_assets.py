"""The deliveries in Dagster: only what factory.yaml names, lineage from vault to purpose, refusals that warn."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.deliveries.assets import build, since
from assets.deliveries.delivered import DeliveryError
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import warehouse
from quality.privacy.policy import PolicyError


def _run(settings: Settings) -> dg.ExecuteInProcessResult:
    assets, checks = build(settings)
    return dg.materialize([*assets, *checks], raise_on_error=False)


def test_a_factory_without_deliveries_has_no_assets(factory: Settings) -> None:
    assert build(factory.model_copy(update={"deliveries": {}})) == ([], [])


def test_assets_are_those_of_the_named_deliveries_and_their_purposes(factory: Settings) -> None:
    assets, checks = build(factory)
    found = {key.to_user_string(): asset for asset in assets for key in asset.keys}
    assert set(found) == {
        "vault/adressen", "vault/brp", "vault/bus", "vault/bedrijven", "raw_bijstand/brp", "raw_bijstand/bus",
        "raw_zzp/brp", "raw_zzp/bedrijven", "raw_leveringen/stand", "raw_leveringen/bewaring",
    }  # fmt: skip
    parents = {
        dep.to_user_string() for dep in found["raw_bijstand/brp"].asset_deps[dg.AssetKey(["raw_bijstand", "brp"])]
    }
    assert parents == {"vault/brp", "vault/adressen", "raw_bijstand/bus"}
    checked = {spec.asset_key for asset in assets for spec in asset.check_specs}
    checked |= {key.asset_key for check in checks for key in check.check_keys}
    assert checked == {key for asset in assets for key in asset.keys}


def test_a_full_run_holds_its_checks_and_tells_the_gap(filled: Settings) -> None:
    result = _run(filled)
    assert result.success
    failed = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
    assert failed == ["stand_heeft_alle_verwachte_perioden"]


@pytest.mark.parametrize("was_good_before", [True, False])
def test_a_refusal_stops_no_other_delivery(filled: Settings, was_good_before: bool) -> None:
    if was_good_before:
        assert _run(filled).success
    for path in (filled.paths.inbox / "bedrijven").iterdir():
        path.unlink()
    (filled.paths.inbox / "bedrijven" / "bedrijven_20210101.csv").write_bytes(b"geen;kop\n1;2\n")
    for again in (_run(filled), _run(filled)):  # also when nothing new came since
        assert again.success
        checks = {check.check_name: check for check in again.get_asset_check_evaluations()}
        assert not checks["bedrijven_voldoet_aan_contract"].passed
        assert checks["bedrijven_voldoet_aan_contract"].severity.value == ("WARN" if was_good_before else "ERROR")
        assert checks["raw_zzp_bedrijven_is_actueel"].passed is was_good_before
        assert checks["bus_voldoet_aan_contract"].passed
    assert ("bedrijven" in _tables(filled, "raw_zzp")) is was_good_before
    assert _tables(filled, "raw_bijstand") == {"brp", "bus"}


def _tables(settings: Settings, schema: str) -> set[str]:
    with warehouse(settings.paths, settings.resources) as con:
        rows = con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = ?", [schema]).fetchall()
    return {name for (name,) in rows}


@pytest.mark.parametrize("error", [DeliveryError("the disk is full"), PolicyError("a group is too small")])
def test_a_table_that_cannot_be_made_stays_stale_until_it_can_and_what_policy_forbids_goes(
    filled: Settings, monkeypatch: pytest.MonkeyPatch, error: FactoryError
) -> None:
    assert _run(filled).success
    ledger, stays = Ledger(filled.paths.ledger), isinstance(error, DeliveryError)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("assets.deliveries.assets.derive", fail)
        result = _run(filled)
    assert result.success
    failed = {check.check_name: check for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed["raw_zzp_brp_is_actueel"].severity.value == ("WARN" if stays else "ERROR")
    assert since(ledger, "raw_zzp.brp") is not None
    assert ("brp" in _tables(filled, "raw_zzp")) is stays
    assert _run(filled).success
    assert since(ledger, "raw_zzp.brp") is None
    assert "brp" in _tables(filled, "raw_zzp")
