"""Linkages, by attack: persons meet in the tables of a registered linkage, as long as it holds, and nowhere else."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from assets.deliveries.assets import build
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.erasure import erase, find
from assets.deliveries.intake import take_inbox
from assets.deliveries.linking import link
from assets.deliveries.purposes import derive
from assets.deliveries.retention import UNLINKED, expire
from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.ledger import Ledger
from datafabriek.sample.deliveries import Manifest
from datafabriek.warehouse import vault, warehouse
from quality.contracts.model import load
from quality.privacy.keys import ensure_key
from quality.privacy.linkages import FILE, Linkage, load_linkages
from quality.privacy.policy import PolicyError
from quality.privacy.processing import register
from quality.privacy.pseudonyms import KINDS, pseudonymise

POLICY = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy" / "doelen.yaml"
TODAY = datetime.now(UTC).date()
DAY = timedelta(days=1)

STATES: dict[str, Any] = {
    "naam": "ondernemend", "omschrijving": "Wie uit de bijstand onderneemt.", "grondslag": "Gemeentewet art. 108",
    "dpia": "DPIA-7", "verwerkingsactiviteit": "VA-77", "van": date(2026, 1, 1), "tot": TODAY + timedelta(days=300),
    "doelen": {
        "bijstand": {"bus": ["persoon_pseudoniem", "statistiekmaand"]},
        "zzp": {"bedrijven": ["eigenaar_pseudoniem", "sbi_sectie"]},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(shared_factory: Settings, delivered: tuple[Path, Manifest]) -> Path:
    """A factory with the tables of its purposes made, to be copied."""
    shutil.copytree(delivered[0], shared_factory.paths.inbox, dirs_exist_ok=True)
    _derive(shared_factory, "adressen", "bus", "bedrijven", "brp")
    return shared_factory.source.parent


def _derive(settings: Settings, *names: str) -> None:
    for name in names:
        take_inbox(settings, name)
        for purpose in load(name).purposes:
            derive(settings, ensure_key(settings.paths), name, purpose)


@pytest.fixture
def settle(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """That factory under linkages (and a key version of bijstand) of one's own."""
    folder = tmp_path / "fabriek"
    shutil.copytree(prepared, folder)

    def made(*changes: dict[str, Any], version: int = 1) -> Settings:
        beleid = folder / "beleid"
        beleid.mkdir(exist_ok=True)
        policy = yaml.safe_load(POLICY.read_text())
        policy["doelen"]["bijstand"]["sleutelversie"] = version
        (beleid / "doelen.yaml").write_text(yaml.safe_dump(policy))
        (beleid / FILE).write_text(yaml.safe_dump({"koppelingen": [STATES | change for change in changes]}))
        source = folder / "factory.yaml"
        source.write_text(source.read_text().replace(str(POLICY.parent), str(beleid)))
        monkeypatch.setenv(FACTORY_ENV, str(source))
        return load_settings(source)

    return made


def _link(settings: Settings) -> list[Any]:
    key = ensure_key(settings.paths)
    return [link(settings, key, table) for linkage in load_linkages(settings) for table in linkage.tables]


def _ask(settings: Settings, query: str) -> pl.DataFrame:
    with warehouse(settings.paths, settings.resources) as con:
        return con.execute(query).pl()


def _truth(settings: Settings) -> int:
    """Entrepreneurs who have or had a benefit, counted in the vault by number."""
    query = """SELECT count(DISTINCT b.eigenaar_bsn) FROM vault.aanvoer.bedrijven b
        JOIN vault.aanvoer.bus u ON u.bsn = b.eigenaar_bsn WHERE b.indicatie_zzp = 'J'"""
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        row = con.execute(query).fetchone()
    return int(row[0]) if row else -1


LINKED = """SELECT count(DISTINCT persoon_pseudoniem) FROM koppeling_ondernemend.bijstand__bus
    JOIN koppeling_ondernemend.zzp__bedrijven ON eigenaar_pseudoniem = persoon_pseudoniem"""

VALUES = """SELECT DISTINCT unnest([{columns}])::VARCHAR AS value FROM {table}"""


def _pseudonyms(settings: Settings, table: str, *columns: str) -> set[str]:
    return set(_ask(settings, VALUES.format(columns=", ".join(columns), table=table))["value"].drop_nulls())


def test_a_linkage_joins_exactly_the_persons_it_is_for_and_gets_no_more(settle: Any) -> None:
    settings = settle({})
    _link(settings)
    truth = _truth(settings)
    assert truth > 3
    assert _ask(settings, LINKED).item() == truth
    left = _ask(settings, "FROM koppeling_ondernemend.bijstand__bus")
    assert left.columns == ["persoon_pseudoniem", "statistiekmaand", "herkomst"]
    assert left.n_unique() == len(left)  # not even how often something stood there
    told = _ask(settings, "SELECT comment FROM duckdb_tables() WHERE schema_name = 'koppeling_ondernemend'")
    assert all(str(STATES["tot"]) in comment for comment in told["comment"])
    assert not any(table.renewed for table in _link(settings))


def test_no_pseudonym_of_a_purpose_or_another_linkage_stands_in_it(settle: Any) -> None:
    """Two linkages that share a purpose cannot be joined with one another, nor either with the purposes."""
    settings = settle({}, {"naam": "ander"})
    _link(settings)
    sets = [
        _pseudonyms(settings, table, *columns)
        for table, columns in {
            "raw_bijstand.bus": ["persoon_pseudoniem"],
            "raw_bijstand.brp": ["persoon_pseudoniem"],
            "raw_zzp.bedrijven": ["eigenaar_pseudoniem", "vestiging_pseudoniem"],
            "raw_zzp.brp": ["persoon_pseudoniem"],
        }.items()
    ]
    ours, other = (
        _pseudonyms(settings, f"koppeling_{name}.bijstand__bus", "persoon_pseudoniem")
        | _pseudonyms(settings, f"koppeling_{name}.zzp__bedrijven", "eigenaar_pseudoniem")
        for name in ("ondernemend", "ander")
    )
    assert ours
    assert len(ours) == len(other)
    assert not ours & other
    assert not any((ours | other) & each for each in sets)


def test_no_order_of_rows_joins_it_with_a_purpose_or_another_linkage(settle: Any) -> None:
    """The same persons stand in the same place as often as chance has it: about once."""
    settings = settle({}, {"naam": "ander"})
    _link(settings)
    key = ensure_key(settings.paths)
    query = "SELECT DISTINCT eigenaar_bsn FROM vault.aanvoer.bedrijven WHERE eigenaar_bsn IS NOT NULL"
    with vault(settings.paths, settings.resources, key.vault) as con:
        numbers = [number for (number,) in con.execute(query).fetchall()]
    orders = []
    for schema, table, secret in (
        ("raw_zzp", "bedrijven", key.purpose("zzp")),
        ("koppeling_ondernemend", "zzp__bedrijven", key.linkage("ondernemend")),
        ("koppeling_ander", "zzp__bedrijven", key.linkage("ander")),
    ):
        whose = {_pseudonym(secret, number): number for number in numbers}
        rows = _ask(settings, f"SELECT eigenaar_pseudoniem::VARCHAR AS p FROM {schema}.{table}")["p"].drop_nulls()
        orders.append([whose[p] for p in rows.unique(maintain_order=True)])
    assert len(numbers) > 50
    for one, other in itertools.combinations(orders, 2):
        assert sorted(one) == sorted(other)
        assert sum(left == right for left, right in zip(one, other, strict=True)) <= 8


def _pseudonym(secret: bytes, number: str) -> str:
    return str(UUID(bytes=pseudonymise(pa.array([number]), KINDS["bsn"], secret).storage[0].as_py()))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tot": TODAY - timedelta(days=1)}, "not today"), ({"van": TODAY + timedelta(days=1)}, "not today"),
        ({"doelen": STATES["doelen"] | {"zzp": {"bedrijven": ["eigenaar_bsn"]}}}, "no column eigenaar_bsn"),
        ({"doelen": STATES["doelen"] | {"zzp": {"bedrijven": ["sbi_sectie"]}}}, "no pseudonym"),
        ({"doelen": STATES["doelen"] | {"zzp": {"bedrijven": ["vestiging_pseudoniem"]}}}, "in all of its tables"),
        ({"doelen": STATES["doelen"] | {"zzp": {"bus": ["persoon_pseudoniem"]}}}, "may not use delivery `bus`"),
        ({"doelen": STATES["doelen"] | {"jeugd": {"jw301": ["client_pseudoniem"]}}}, "names no delivery jw301"),
        ({"k": 100_000}, "policy asks at least 100000"),
    ],
)  # fmt: skip
def test_what_it_may_not_have_is_refused_and_leaves_no_table(settle: Any, change: dict[str, Any], told: str) -> None:
    settings = settle(change)
    with pytest.raises(PolicyError, match=told):
        _link(settings)
    assert not len(_ask(settings, "SELECT 1 FROM duckdb_tables() WHERE schema_name LIKE 'koppeling%'"))


def test_pseudonyms_that_cannot_be_turned_are_refused(settle: Any) -> None:
    settings = settle({})
    _ask(settings, "UPDATE raw_bijstand.bus SET persoon_pseudoniem = gen_random_uuid() WHERE rowid = 0")
    with pytest.raises(DeliveryError, match=r"persoon_pseudoniem.*cannot be turned"):
        _link(settings)
    _ask(settings, "DROP TABLE raw_bijstand.bus")
    with pytest.raises(DeliveryError, match=r"raw_bijstand\.bus is not there"):
        _link(settings)


@pytest.mark.parametrize("change", [None, {"tot": TODAY - timedelta(days=1)}], ids=["withdrawn", "expired"])
def test_an_ended_linkage_leaves_neither_table_nor_block(settle: Any, change: dict[str, Any] | None) -> None:
    settings = settle({})
    _link(settings)
    key = ensure_key(settings.paths)
    with warehouse(settings.paths, settings.resources) as con:
        con.execute("CREATE SCHEMA intermediate")
        con.execute(
            "CREATE TABLE intermediate.samen AS SELECT statistiekmaand FROM koppeling_ondernemend.bijstand__bus"
        )
        row = con.execute("SELECT persoon_pseudoniem FROM koppeling_ondernemend.bijstand__bus LIMIT 1").fetchone()
    assert row is not None
    stored = (bytes([row[0].bytes[0] ^ 0x80]) + row[0].bytes[1:])[::-1]
    assert stored in settings.paths.warehouse.read_bytes()
    settings = settle(*([change] if change else []))
    gone = expire(settings, key)
    assert {(one.place, one.reason) for one in gone} == {
        ("koppeling_ondernemend.bijstand__bus", UNLINKED), ("koppeling_ondernemend.zzp__bedrijven", UNLINKED),
    }  # fmt: skip
    assert stored not in settings.paths.warehouse.read_bytes()
    there = _ask(settings, "SELECT schema_name FROM duckdb_tables() WHERE schema_name NOT LIKE 'raw%'")
    assert not len(there)
    assert {event.subject for event in Ledger(settings.paths.ledger).events("retention")} == {
        "bijstand__bus", "zzp__bedrijven"
    }  # fmt: skip


def test_rotation_of_a_purpose_or_of_the_linkage_keeps_what_is_linked(settle: Any) -> None:
    settings = settle({})
    _link(settings)
    truth, before = _truth(settings), _pseudonyms(settings, "koppeling_ondernemend.bijstand__bus", "persoon_pseudoniem")
    settings = settle({}, version=2)
    derive(settings, ensure_key(settings.paths), "bus", "bijstand")
    assert [table.renewed for table in _link(settings)] == [True, False]
    same = _pseudonyms(settings, "koppeling_ondernemend.bijstand__bus", "persoon_pseudoniem")
    assert same == before  # the purpose's key stands between no more
    assert _ask(settings, LINKED).item() == truth
    settings = settle({"sleutelversie": 2}, version=2)
    done = CliRunner().invoke(app, ["key", "rotate", "koppeling_ondernemend"])
    assert done.exit_code == 0, done.output
    assert not before & _pseudonyms(settings, "koppeling_ondernemend.bijstand__bus", "persoon_pseudoniem")
    assert _ask(settings, LINKED).item() == truth
    raw = bytes.fromhex(min(before).replace("-", ""))
    assert (bytes([raw[0] ^ 0x80]) + raw[1:])[::-1] not in settings.paths.warehouse.read_bytes()
    again = CliRunner().invoke(app, ["key", "rotate", "koppeling_ondernemend"])
    assert "raise `sleutelversie`" in str(again.exception)


def test_a_person_is_found_in_it_and_erased(settle: Any) -> None:
    settings = settle({})
    _link(settings)
    key = ensure_key(settings.paths)
    with vault(settings.paths, settings.resources, key.vault) as con:
        row = con.execute("""SELECT b.eigenaar_bsn FROM vault.aanvoer.bedrijven b
            JOIN vault.aanvoer.bus u ON u.bsn = b.eigenaar_bsn LIMIT 1""").fetchone()
    assert row is not None
    places = {place.place for place in find(settings, key, row[0])}
    assert places >= {"koppeling_ondernemend.bijstand__bus", "koppeling_ondernemend.zzp__bedrijven"}
    truth = _truth(settings)
    erase(settings, key, row[0], "AVG 17 lid 1 onder d, besluit 2026-17", "fg")
    raw = bytes.fromhex(_pseudonym(key.linkage("ondernemend"), row[0]).replace("-", ""))
    assert (bytes([raw[0] ^ 0x80]) + raw[1:])[::-1] not in settings.paths.warehouse.read_bytes()
    _link(settings)
    assert find(settings, key, row[0]) == []
    assert _ask(settings, LINKED).item() == truth - 1


def test_only_a_linkage_in_force_has_assets(settle: Any) -> None:
    settings = settle({}, {"naam": "later", "van": TODAY + timedelta(days=1)}, {"naam": "eerder", "tot": TODAY - DAY})
    assets, _ = build(settings)
    assert {key.path[0] for asset in assets for key in asset.keys if key.path[0].startswith("koppeling")} == {
        "koppeling_ondernemend"
    }


def test_the_run_makes_it_and_log_and_register_tell_of_it(settle: Any) -> None:
    settings = settle({"tot": TODAY + timedelta(days=3)})
    assets, checks = build(settings)
    result = dg.materialize([*assets, *checks], raise_on_error=False)
    assert result.success
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed == {
        "stand_heeft_alle_verwachte_perioden", "koppeling_ondernemend_bijstand__bus_geldt_nog_even",
        "koppeling_ondernemend_zzp__bedrijven_geldt_nog_even",
    }  # fmt: skip
    assert _ask(settings, LINKED).item() == _truth(settings)
    (log,) = settings.paths.ledger.parent.glob("verwerkingen-*.jsonl")
    assert "koppeling_ondernemend.zzp__bedrijven opnieuw gemaakt" in log.read_text()
    (told,) = [each for each in register(settings) if each.doel == "koppeling ondernemend"]
    assert (told.verwerkingsactiviteit, told.levering) == ("VA-77", "bijstand (bus), zzp (bedrijven)")
    assert "DPIA-7" in told.grondslag
    assert str(TODAY + timedelta(days=3)) in told.omschrijving
    assert Linkage.model_validate(STATES).in_force(TODAY)
