"""Retention: what is past its term is gone from every file, what may stay stays, and nothing is made up again."""

from __future__ import annotations

import functools
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets.deliveries import register
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import deliver, standing, take_inbox, write_standing
from assets.deliveries.purposes import derive, in_order
from assets.deliveries.retention import WITHDRAWN, expire, overdue
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import vault, warehouse
from quality.privacy.keys import ensure_key
from quality.privacy.policy import DeliveryPolicy

POLICY = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy" / "doelen.yaml"
FAR = 1200


@pytest.fixture
def settle(tmp_path: Path) -> Any:
    """Set terms in months after the period: of the vault, and of the purposes."""

    def settle(factory: Settings, *, kept: int = FAR, used: int = FAR, **deliveries: int) -> Settings:
        policy = yaml.safe_load(POLICY.read_text())
        for name, term in policy["leveringen"].items():
            term |= {"bewaartermijn_maanden": deliveries.get(name, kept), "vanaf": "periode"}
        for purpose in policy["doelen"].values():
            purpose |= {"bewaartermijn_maanden": used, "vanaf": "periode"}
        folder = tmp_path / "beleid"
        folder.mkdir(exist_ok=True)
        (folder / "doelen.yaml").write_text(yaml.safe_dump(policy))
        return factory.model_copy(update={"policy": folder})

    return settle


@pytest.fixture
def terms(settle: Any, working: Settings) -> Any:
    """The same of a factory that has taken in all deliveries."""
    return functools.partial(settle, working)


@pytest.fixture
def terms_before(settle: Any, filled: Settings) -> Any:
    """The same of a factory that has all deliveries in its inbox still."""
    return functools.partial(settle, filled)


def _run(settings: Settings) -> None:
    for name in settings.deliveries:
        take_inbox(settings, name)
    for name, purpose in in_order(settings):
        derive(settings, ensure_key(settings.paths), name, purpose.name)


def _count(settings: Settings, table: str, where: str = "true") -> int:
    with warehouse(settings.paths, settings.resources) as con:
        row = con.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()
    return int(row[0]) if row else -1


def _in_vault(settings: Settings, table: str) -> int:
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        row = con.execute(f"SELECT count(*) FROM vault.{table}").fetchone()
    return int(row[0]) if row else -1


@pytest.mark.parametrize(
    ("months", "end", "until"),
    [(1, date(2020, 1, 31), date(2020, 2, 29)), (12, date(2020, 2, 29), date(2021, 2, 28)),
     (24, date(2020, 12, 31), date(2022, 12, 31)), (1, date(2020, 12, 1), date(2021, 1, 1))],
)  # fmt: skip
def test_terms_are_whole_months(months: int, end: date, until: date) -> None:
    assert DeliveryPolicy(bewaartermijn_maanden=months).until(end, date(2026, 1, 1)) == until


def test_nothing_goes_before_its_term(terms: Any) -> None:
    settings = terms()
    assert expire(settings, ensure_key(settings.paths)) == []


def test_the_vault_forgets_and_the_purpose_keeps_what_it_may(terms: Any) -> None:
    settings = terms()
    key = ensure_key(settings.paths)
    months = 11  # of bus; 2020-08 was never delivered
    bus = _count(settings, "raw_bijstand.bus")
    settings = terms(bus=24)  # bus of 2020 is past it, long ago
    assert overdue(settings, key) == months
    removed = expire(settings, key)
    assert {one.place for one in removed} == {"kluis", "origineel"}
    assert len(removed) == 2 * months
    assert overdue(settings, key) == 0
    assert _in_vault(settings, "aanvoer.bus") == _in_vault(settings, "quarantaine.bus") == 0
    assert _in_vault(settings, "aanvoer.brp") > 0
    assert {e.subject for e in Ledger(settings.paths.ledger).events("retention")} == {"bus"}
    assert _count(settings, "raw_leveringen.bewaring") == 2 * months
    derived = derive(settings, key, "bus", "bijstand")
    assert (derived.rows, derived.renewed) == (bus, False)
    assert {row["status"] for row in write_standing(settings, key) if row["levering"] == "bus"} == {
        "ontvangen",
        "ontbreekt",
    }
    assert expire(settings, key) == []


def test_new_rows_join_those_whose_source_is_gone(terms_before: Any) -> None:
    settings = terms_before()
    key = ensure_key(settings.paths)
    late = settings.paths.inbox / "bus" / "BUS_202012.txt"
    kept = late.read_bytes()
    late.unlink()
    _run(settings)
    before = _count(settings, "raw_bijstand.bus")
    expire(terms_before(bus=24), key)
    settings = terms_before()
    late.write_bytes(kept)
    _run(settings)
    assert _count(settings, "raw_bijstand.bus") > before
    assert _count(settings, "raw_bijstand.bus", "statistiekmaand < DATE '2020-12-01'") == before


def test_whom_a_gone_source_would_have_placed_is_told(terms_before: Any) -> None:
    """The register of persons is past its term; a month later others have bijstand, whom nobody can look up there."""
    settings = terms_before()
    key, late = ensure_key(settings.paths), settings.paths.inbox / "bus" / "BUS_202012.txt"
    kept = late.read_bytes()
    late.unlink()
    _run(settings)
    before = _count(settings, "raw_bijstand.brp")
    settings = terms_before(brp=24)
    expire(settings, key)
    assert not derive(settings, key, "brp", "bijstand").renewed
    late.write_bytes(kept)
    take_inbox(settings, "bus")
    derive(settings, key, "bus", "bijstand")
    with pytest.raises(DeliveryError, match=r"for those whom bus names now.*have a newer one delivered"):
        derive(settings, key, "brp", "bijstand")
    assert _count(settings, "raw_bijstand.brp") == before > 0


def test_what_is_gone_is_not_made_anew_in_another_form(terms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = terms()
    key = ensure_key(settings.paths)
    rows = _count(settings, "raw_bijstand.bus")
    settings = terms(bus=24)
    expire(settings, key)
    monkeypatch.setattr("assets.deliveries.purposes.VERSION", 999)
    with pytest.raises(DeliveryError, match="past its retention term"):
        derive(settings, key, "bus", "bijstand")
    assert _count(settings, "raw_bijstand.bus") == rows


def test_addresses_that_are_gone_place_nobody_anew(terms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = terms()
    key = ensure_key(settings.paths)
    settings = terms(adressen=24)
    expire(settings, key)
    assert not derive(settings, key, "brp", "bijstand").renewed
    monkeypatch.setattr("assets.deliveries.purposes.VERSION", 999)
    with pytest.raises(DeliveryError, match="address file adressen-2020"):
        derive(settings, key, "brp", "bijstand")


def test_a_purpose_forgets_too_and_no_block_of_the_warehouse_remembers(terms: Any) -> None:
    settings = terms()
    key = ensure_key(settings.paths)
    with warehouse(settings.paths, settings.resources) as con:
        con.execute("CREATE SCHEMA intermediate")
        con.execute("CREATE TABLE intermediate.personen AS SELECT persoon_pseudoniem FROM raw_bijstand.bus")
        con.execute("CREATE TABLE intermediate.regels AS SELECT statistiekmaand, regeling_code FROM raw_bijstand.bus")
        con.execute("CREATE SCHEMA marts")
        con.execute("CREATE TABLE marts.telling AS SELECT count(*) AS n FROM raw_bijstand.bus")
        one = con.execute("SELECT persoon_pseudoniem FROM raw_bijstand.bus").fetchone()
    assert one is not None
    sought = one[0].bytes  # DuckDB stores a UUID with its first bit turned
    stored = (bytes([sought[0] ^ 0x80]) + sought[1:])[::-1]
    assert stored in settings.paths.warehouse.read_bytes()
    settings = terms(kept=24, used=24)
    expire(settings, key)
    assert _count(settings, "raw_bijstand.bus") == _count(settings, "raw_zzp.brp") == 0
    with warehouse(settings.paths, settings.resources) as con:
        query = "SELECT table_name FROM duckdb_tables() WHERE schema_name IN ('intermediate', 'marts')"
        tables = con.execute(query).fetchall()
    assert tables == [("telling",)]
    assert stored not in settings.paths.warehouse.read_bytes()
    assert list(settings.paths.originals.iterdir()) == []
    # expired: neither there nor missing; what never came stays missing
    assert [row["periode"] for row in standing(settings, key, "bus")] == ["2020-08"]
    derived = derive(settings, key, "bus", "bijstand")
    assert derived.rows == 0


def test_what_is_past_its_term_is_not_taken_in(terms_before: Any) -> None:
    settings = terms_before(bus=24)
    outcome = deliver(settings, settings.paths.inbox / "bus" / "BUS_202001.txt", "bus")
    assert outcome.status == register.REFUSED
    assert "retention term of 2020-01 ended on 2022-01-31" in (outcome.reason or "")
    assert list(settings.paths.originals.iterdir()) == []


def test_a_withdrawn_purpose_leaves_no_table_and_no_block_behind(terms: Any) -> None:
    settings = terms()
    key = ensure_key(settings.paths)
    with warehouse(settings.paths, settings.resources) as con:
        (person,) = con.execute("SELECT eigenaar_pseudoniem FROM raw_zzp.bedrijven ORDER BY 1 LIMIT 1").fetchone() or ()
        rows = con.execute("SELECT count(*) FROM raw_zzp.bedrijven").fetchone()
    assert rows is not None
    stored = (bytes([person.bytes[0] ^ 0x80]) + person.bytes[1:])[::-1]
    assert stored in settings.paths.warehouse.read_bytes()
    path = settings.policy / "doelen.yaml"
    policy = yaml.safe_load(path.read_text())
    del policy["doelen"]["zzp"]
    path.write_text(yaml.safe_dump(policy))
    gone = expire(settings, key)
    assert {(one.place, one.reason) for one in gone} == {
        ("raw_zzp.brp", WITHDRAWN), ("raw_zzp.bedrijven", WITHDRAWN)
    }  # fmt: skip
    assert stored not in settings.paths.warehouse.read_bytes()
    with warehouse(settings.paths, settings.resources) as con:
        left = con.execute("SELECT DISTINCT schema_name FROM duckdb_tables() WHERE schema_name LIKE 'raw%'").fetchall()
    assert sorted(left) == [("raw_bijstand",), ("raw_leveringen",)]
    told = {event.payload["place"]: event.payload for event in Ledger(settings.paths.ledger).events("retention")}
    assert (told["raw_zzp.bedrijven"]["rows"], told["raw_zzp.bedrijven"]["reason"]) == (rows[0], WITHDRAWN)
    assert _count(settings, "raw_leveringen.bewaring", f"reden = '{WITHDRAWN}'") == 2
    assert expire(settings, key) == []


def test_a_delivery_that_is_no_longer_named_goes_from_the_tables_and_by_its_term_from_the_vault(terms: Any) -> None:
    settings = terms()
    key = ensure_key(settings.paths)
    fewer = {name: each for name, each in settings.deliveries.items() if name != "bus"}
    (only_brp,) = expire(settings.model_copy(update={"deliveries": fewer}), key)
    assert (only_brp.place, only_brp.reason) == ("raw_bijstand.bus", WITHDRAWN)
    assert _in_vault(settings, "aanvoer.bus") > 0
    settings = terms(bus=24).model_copy(update={"deliveries": fewer})
    assert overdue(settings, key) == 11
    expire(settings, key)
    assert _in_vault(settings, "aanvoer.bus") == _in_vault(settings, "quarantaine.bus") == overdue(settings, key) == 0


def test_what_has_no_term_is_told_and_counts_as_overdue(terms_before: Any) -> None:
    settings = terms_before()
    key = ensure_key(settings.paths)
    take_inbox(settings, "adressen")
    path = settings.policy / "doelen.yaml"
    policy = yaml.safe_load(path.read_text())
    del policy["leveringen"]["adressen"]
    path.write_text(yaml.safe_dump(policy))
    for _ in range(2):
        assert expire(settings, key) == []
        assert overdue(settings, key) > 0
    (told,) = Ledger(settings.paths.ledger).events("stale", "vault/adressen")
    assert "sets no term" in told.payload["reason"]
