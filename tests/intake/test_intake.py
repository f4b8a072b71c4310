"""The intake as a whole: whole or not at all, recognised, corrected, carried on after a kill; gaps are no zeros."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from assets.deliveries import intake, layouts, purposes, register
from assets.deliveries.assets import build
from assets.deliveries.checking import check
from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.intake import Outcome, deliver, original, take_inbox, write_standing
from assets.deliveries.layouts import Source, read, render
from assets.deliveries.purposes import _expression, derive, in_order
from datafabriek.config import Settings, load_settings
from datafabriek.ledger import Ledger
from datafabriek.sample.deliveries import FILES, Manifest
from datafabriek.warehouse import vault, warehouse
from quality.contracts.model import Contract, ContractError, Needed, load
from quality.privacy.keys import KeyFileError, ensure_key
from quality.privacy.policy import PolicyError
from quality.schemas import deliveries

BUS = load("bus")


def _rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with warehouse(settings.paths, settings.resources) as con:
        return con.execute(query).fetchall()


def _secret(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        return con.execute(query).fetchall()


def _derive(settings: Settings, name: str, purpose: str) -> int:
    return derive(settings, ensure_key(settings.paths), name, purpose).rows


def test_everything_is_taken_in_counted_and_gone_from_the_inbox(
    filled: Settings, delivered: tuple[Path, Manifest]
) -> None:
    outcomes = [outcome for name in filled.deliveries for outcome in take_inbox(filled, name)]
    assert {outcome.status for outcome in outcomes} == {"ontvangen"}
    assert all(o.delivered == o.accepted + o.refused for o in outcomes)
    assert [path for path in filled.paths.inbox.rglob("*") if path.is_file()] == []
    for outcome in outcomes:
        kept = _secret(filled, f"SELECT count(*) FROM vault.aanvoer.{outcome.delivery}")[0][0]
        assert kept == sum(o.accepted for o in outcomes if o.delivery == outcome.delivery)
    events = Ledger(filled.paths.ledger).events("delivery")
    assert {e.payload["fingerprint"] for e in events} == {file.sha256 for file in delivered[1].files}
    assert sum(o.unknown_buurt or 0 for o in outcomes if o.delivery == "brp") > 0


def test_the_same_file_twice_is_recognised(filled: Settings) -> None:
    file = filled.paths.inbox / "bus" / FILES["bus"][0]
    again = filled.paths.root / "again.txt"
    shutil.copy(file, again)
    take_inbox(filled, "bus")
    before = _secret(filled, "SELECT count(*) FROM vault.aanvoer.bus")
    outcome = deliver(filled, again, "bus", "2020-01")
    assert outcome.status == "herhaald"
    assert again.exists()
    assert _secret(filled, "SELECT count(*) FROM vault.aanvoer.bus") == before


def _corrected(settings: Settings, file: str, rows: int) -> Path:
    """The first rows of a BUS file, as a correction."""
    source = Source.open(settings.paths.inbox / "bus" / file)
    frame = pl.concat(piece.rows for piece in read(source, BUS)).drop(LINE).head(rows)
    path = settings.paths.root / file
    path.write_bytes(render(frame, BUS))
    return path


def test_a_correction_replaces_its_period_and_history_is_kept(filled: Settings) -> None:
    fixed = _corrected(filled, "BUS_202003.txt", 40)
    take_inbox(filled, "bus")
    _derive(filled, "bus", "bijstand")
    months = "SELECT strftime(statistiekmaand, '%m'), count(*) FROM raw_bijstand.bus GROUP BY 1 ORDER BY 1"
    before = dict(_rows(filled, months))
    outcome = deliver(filled, fixed, "bus")
    _derive(filled, "bus", "bijstand")
    after = dict(_rows(filled, months))
    assert after.pop("03") <= outcome.accepted < before.pop("03")
    assert after == before
    kept = _secret(filled, "SELECT count(*) FROM vault.beheer.leveringen WHERE periode = '2020-03'")
    assert kept == [(2,)]


def test_a_missing_month_is_a_gap_and_told_once(filled: Settings) -> None:
    take_inbox(filled, "bus")
    for _ in range(2):
        rows = write_standing(filled, ensure_key(filled.paths))
    assert [r["periode"] for r in rows if r["status"] == "ontbreekt" and r["levering"] == "bus"] == ["2020-08"]
    gaps = Ledger(filled.paths.ledger).events("gap", "bus")
    assert [event.payload["period"] for event in gaps] == ["2020-08"]
    found = _rows(filled, "SELECT status, geleverd FROM raw_leveringen.stand WHERE periode = '2020-08'")
    assert found == [("ontbreekt", None)]


def test_a_refused_delivery_fails_alone_and_the_last_good_one_stays(filled: Settings) -> None:
    take_inbox(filled, "bus")
    rows = _derive(filled, "bus", "bijstand")
    bad = filled.paths.inbox / "bus" / "BUS_202012.txt"
    bad.write_bytes(b"dit is geen BUS\r\n" * 20)
    good = filled.paths.inbox / "brp" / "brp_20201231.csv"
    outcome = take_inbox(filled, "bus")[0]
    assert outcome.status == "geweigerd"
    assert "regellengte" in (outcome.reason or "")
    assert not bad.exists()
    assert _derive(filled, "bus", "bijstand") == rows
    stale = Ledger(filled.paths.ledger).events("stale", "vault/bus")
    assert stale[-1].payload["period"] == "2020-12"
    stand = write_standing(filled, ensure_key(filled.paths))
    assert [r["status"] for r in stand if (r["levering"], r["periode"]) == ("bus", "2020-12")] == ["verouderd"]
    assert good.exists()
    assert original(filled.paths, ensure_key(filled.paths), outcome.fingerprint).startswith(b"dit is geen BUS")


@pytest.mark.parametrize("moment", ["_keep_original", "_take", "_tell"])
def test_a_run_killed_at_any_moment_is_carried_on(
    filled: Settings, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        pass

    real = getattr(intake, moment)

    def killed(*args: Any, **kwargs: Any) -> Outcome:
        if moment != "_tell":
            real(*args, **kwargs)  # the work is done, what follows is not
        raise Killed

    monkeypatch.setattr(intake, moment, killed)
    with pytest.raises(Killed):
        take_inbox(filled, "bedrijven")
    assert list((filled.paths.inbox / "bedrijven").iterdir())
    monkeypatch.undo()
    settings = load_settings(filled.source)
    take_inbox(settings, "bedrijven")
    assert not list((settings.paths.inbox / "bedrijven").iterdir())
    events = Ledger(settings.paths.ledger).events("delivery", "bedrijven")
    assert len(events) == 1
    kept = _secret(settings, "SELECT count(*) FROM vault.aanvoer.bedrijven")[0][0]
    assert kept == events[0].payload["accepted"]
    assert not list(settings.paths.originals.glob("*.part"))


def test_every_named_table_exists_empty_where_nothing_came(factory: Settings) -> None:
    for name, purpose in (("brp", "bijstand"), ("bus", "bijstand"), ("brp", "zzp"), ("bedrijven", "zzp")):
        assert _derive(factory, name, purpose) == 0
    types = dict(_rows(factory, "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'bus'"))
    assert types["persoon_pseudoniem"] == "UUID"
    assert types["statistiekmaand"] == "DATE"
    assert types["is_lopend"] == "BOOLEAN"


def test_a_table_is_made_anew_only_when_something_changed(filled: Settings) -> None:
    take_inbox(filled, "bedrijven")
    key = ensure_key(filled.paths)
    first = derive(filled, key, "bedrijven", "zzp")
    assert first.renewed
    assert first.unknown_buurt == first.rows  # the address file has not come yet
    assert not derive(filled, key, "bedrijven", "zzp").renewed
    take_inbox(filled, "adressen")
    placed = derive(filled, key, "bedrijven", "zzp")
    assert placed.renewed
    assert (placed.unknown_buurt or 0) < placed.rows * 0.1


def test_addresses_are_placed_as_the_reference_says(filled: Settings) -> None:
    for name in ("adressen", "brp", "bus"):
        take_inbox(filled, name)
    _derive(filled, "bus", "bijstand")
    _derive(filled, "brp", "bijstand")
    expected = _secret(
        filled,
        """SELECT a.buurt_code, count(*) FROM vault.aanvoer.brp b JOIN vault.aanvoer.adressen a
        ON b.bsn IN (SELECT bsn FROM vault.aanvoer.bus) AND b.postcode = a.postcode AND b.huisnummer = a.huisnummer
        AND b.huisletter IS NOT DISTINCT FROM a.huisletter
        AND b.huisnummertoevoeging IS NOT DISTINCT FROM a.huisnummertoevoeging GROUP BY 1""",
    )
    found = dict(_rows(filled, "SELECT buurt_code, count(*) FROM raw_bijstand.brp GROUP BY 1"))
    held = "SELECT count(*) FROM raw_bijstand.brp WHERE geldig_van >= geldig_tot OR day(geldig_van) <> 1"
    assert _rows(filled, held) == [(0,)]
    assert sum(found.values()) >= sum(count for _, count in expected) * 0.98
    assert set(found) - {None} >= {code for code, count in expected if count > 20}


def test_a_purpose_gets_only_the_persons_it_has_to_do_with(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else, and of them where they were when it asks; what joins on them is the same as with everything."""
    for name in ("adressen", "brp", "bus", "bedrijven"):
        take_inbox(filled, name)
    key = ensure_key(filled.paths)
    joined = """SELECT u.*, b.* EXCLUDE (persoon_pseudoniem, geldig_van, geldig_tot) FROM raw_bijstand.bus u
        LEFT JOIN raw_bijstand.brp b ON u.persoon_pseudoniem = b.persoon_pseudoniem
        AND b.geldig_van <= last_day(statistiekmaand) + 1
        AND last_day(statistiekmaand) + 1 < coalesce(b.geldig_tot, DATE '9999-12-31') ORDER BY ALL"""
    accepted = _secret(filled, "SELECT count(*) FROM vault.aanvoer.brp")[0][0]
    made = derive(filled, key, "brp", "bijstand")  # nobody yet: the table by which they are known comes first
    assert (made.rows, made.left_out) == (0, accepted)
    for name, purpose in in_order(filled):
        made = derive(filled, key, name, purpose.name)
        if name == "brp":
            # a move within a buurt is none, so that fewer rows may be there than were needed
            assert 0 < made.rows <= accepted - (made.left_out or 0) < 0.2 * accepted
    for purpose, other in (("bijstand", "bus.persoon_pseudoniem"), ("zzp", "bedrijven.eigenaar_pseudoniem")):
        table, column = other.split(".")
        known = f"SELECT {column} FROM raw_{purpose}.{table} WHERE {column} IS NOT NULL"
        outside = f"SELECT count(*) FROM raw_{purpose}.brp WHERE persoon_pseudoniem NOT IN ({known})"
        assert _rows(filled, outside) == [(0,)]
    dates = "SELECT DISTINCT unnest([geldig_van, geldig_tot]) AS dag FROM raw_bijstand.brp"
    asked = "SELECT last_day(statistiekmaand) + 1 FROM raw_bijstand.bus"
    assert _rows(filled, f"FROM ({dates}) WHERE dag NOT IN ({asked})") == []
    assert _rows(filled, "SELECT DISTINCT geldig_van, geldig_tot FROM raw_zzp.brp") == [(date(2020, 1, 1), None)]
    assert _rows(filled, "SELECT DISTINCT is_zzp FROM raw_zzp.bedrijven") == [(True,)]
    found, contract = _rows(filled, joined), load("brp")
    everyone = {name: replace(each, needed=None) for name, each in contract.purposes.items()}
    _with_contract(monkeypatch, replace(contract, purposes=everyone))
    assert derive(filled, key, "brp", "bijstand").rows > 0.9 * accepted
    assert _rows(filled, joined) == found


def _with_contract(monkeypatch: pytest.MonkeyPatch, contract: Contract) -> None:
    monkeypatch.setattr(purposes, "load", lambda name, *rest: contract if name == contract.name else load(name, *rest))


def test_rows_that_get_lost_on_their_way_to_a_purpose_stop_the_load(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_inbox(filled, "bus")
    real = purposes._placed
    monkeypatch.setattr(purposes, "_placed", lambda *a: f"FROM ({real(*a)}) LIMIT 100")
    with pytest.raises(DeliveryError, match=r"of \d+ accepted rows 0 lapsed and 100 came by"):
        _derive(filled, "bus", "bijstand")


def test_persons_are_known_by_the_same_kind_of_pseudonym_only(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = load("brp")
    for purpose, needed, told in (
        ("zzp", Needed("persoon_pseudoniem", "bedrijven", "vestiging_pseudoniem"), "of a bsn"),
        ("bijstand", Needed("persoon_pseudoniem", "bus", "leeftijd"), "no pseudonym `leeftijd`"),
        ("bijstand", Needed("persoon_pseudoniem", "bus", "persoon_pseudoniem", "regeling_code"), "no date `regeling_"),
    ):
        wrong = replace(contract.purposes[purpose], needed=needed)
        _with_contract(monkeypatch, replace(contract, purposes={purpose: wrong}))
        with pytest.raises(ContractError, match=told):
            _derive(filled, "brp", purpose)


def test_judging_alone_keeps_nothing(factory: Settings, delivered: tuple[Path, Manifest]) -> None:
    outcome = check(delivered[0] / "brp" / FILES["brp"][0], load("brp"))
    assert outcome.status == "ontvangen"
    assert outcome.findings
    assert not factory.paths.vault_database.exists()
    assert not factory.paths.key_file.exists()


def test_a_file_whose_name_says_no_period_is_told_how_to_deliver_it(filled: Settings) -> None:
    odd = filled.paths.inbox / "bus" / "levering maart.txt"
    (filled.paths.inbox / "bus" / "BUS_202003.txt").rename(odd)
    outcome = next(o for o in take_inbox(filled, "bus") if o.file == odd.name)
    assert outcome.status == "geweigerd"
    assert "--period 2024-05" in (outcome.reason or "")


def test_without_policy_nothing_is_taken_in(tmp_path: Path, delivered: tuple[Path, Manifest]) -> None:
    source = tmp_path / "factory.yaml"
    source.write_text("name: Proef\nregion: {gemeenten: [GM0518], provincie: PV28}\ndeliveries: {brp: }\n")
    settings = load_settings(source)
    file = delivered[0] / "brp" / FILES["brp"][0]
    with pytest.raises(PolicyError, match="no policy folder"):
        deliver(settings, file, "brp")
    assert not settings.paths.vault.exists()


def test_a_lost_key_stops_the_intake_and_is_told(filled: Settings) -> None:
    take_inbox(filled, "adressen")
    filled.paths.key_file.unlink()
    with pytest.raises(KeyFileError, match="lost"):
        take_inbox(filled, "bedrijven")
    assert not filled.paths.key_file.exists()


def test_a_write_that_fails_beside_the_judging_leaves_nothing(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces are written while the next is judged: a failure there must undo them all and tell its own cause."""
    real, calls = register.add_rows, list[str]()

    def failing(con: duckdb.DuckDBPyConnection, target: str, rows: pl.DataFrame, delivery_id: str) -> None:
        calls.append(target)
        real(con, target, rows, delivery_id)
        if len(calls) == 3:
            con.execute("SELECT error('123456782 Jansen')")

    monkeypatch.setattr(layouts, "_RECORDS", 50)
    monkeypatch.setattr(register, "add_rows", failing)
    file = filled.paths.inbox / "bus" / FILES["bus"][0]
    with pytest.raises(DeliveryError) as caught:
        deliver(filled, file, "bus")
    assert "Jansen" not in str(caught.value)
    assert file.exists()
    assert len(calls) >= 3
    monkeypatch.undo()
    outcome = deliver(filled, file, "bus")
    assert outcome.status == "ontvangen"
    assert _secret(filled, "SELECT count(*) FROM vault.aanvoer.bus") == [(outcome.accepted,)]
    assert _secret(filled, "SELECT count(*) FROM vault.quarantaine.bus") == [(outcome.refused,)]


def test_a_table_that_breaks_its_schema_is_not_written(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    take_inbox(filled, "bus")
    rows = _derive(filled, "bus", "bijstand")
    held = "SELECT count(*) FROM raw_bijstand.bus"
    before = _rows(filled, held)
    monkeypatch.setitem(deliveries._RAW_PATTERNS, "gemeente", "^BU")
    monkeypatch.setattr(purposes, "VERSION", 0)
    with pytest.raises(DeliveryError, match=rf"column `gemeente_code` breaks `.*` {rows} time"):
        _derive(filled, "bus", "bijstand")
    assert _rows(filled, held) == before


def test_an_engines_own_words_never_get_out() -> None:
    with pytest.raises(DeliveryError) as caught, register.masked("the intake"):
        duckdb.connect().execute("SELECT CAST('123456782 Jansen' AS INTEGER)")
    assert "Jansen" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_one_purpose_alone_can_be_settled(filled: Settings, tmp_path: Path) -> None:
    policy = tmp_path / "beleid"
    policy.mkdir()
    text = (filled.policy_folder or tmp_path).joinpath("doelen.yaml").read_text()
    begin, end = text.index("  zzp:"), text.index("# Hoe lang een levering")
    (policy / "doelen.yaml").write_text(text[:begin] + text[end:])
    filled.source.write_text(filled.source.read_text().replace(str(filled.policy_folder), str(policy)))
    settings = load_settings(filled.source)
    assert take_inbox(settings, "brp")[0].status == "ontvangen"
    made, _ = build(settings)
    keys = {key.to_user_string() for definition in made for key in definition.keys}
    assert "raw_bijstand/brp" in keys
    assert not [key for key in keys if key.startswith("raw_zzp")]
    with pytest.raises(PolicyError, match=r"zzp.*no lawful basis"):
        take_inbox(settings, "bedrijven")


def test_a_shipped_contract_keeps_its_name(factory: Settings) -> None:
    factory.source.write_text(factory.source.read_text().replace("  bedrijven:", "  winkels: {contract: bedrijven}"))
    with pytest.raises(DeliveryError, match="call it `bedrijven`"):
        take_inbox(load_settings(factory.source), "winkels")


def _settle(settings: Settings, folder: Path, old: str, new: str) -> Settings:
    """The same factory under a policy in which something was settled anew."""
    folder.mkdir(exist_ok=True)
    text = (settings.policy_folder or folder).joinpath("doelen.yaml").read_text()
    assert old in text
    (folder / "doelen.yaml").write_text(text.replace(old, new))
    settings.source.write_text(settings.source.read_text().replace(str(settings.policy_folder), str(folder)))
    return load_settings(settings.source)


def test_a_k_that_is_settled_later_holds_for_a_table_that_stands(filled: Settings, tmp_path: Path) -> None:
    take_inbox(filled, "bedrijven")
    assert _derive(filled, "bedrijven", "zzp")
    stricter = _settle(filled, tmp_path / "beleid", "    k: null\n", "    k: 1000\n")
    with pytest.raises(PolicyError, match="at least 1000"):
        _derive(stricter, "bedrijven", "zzp")


def test_another_way_of_placing_makes_tables_anew(filled: Settings) -> None:
    own = filled.source.parent / "contracts" / "plaatsen.yaml"
    own.parent.mkdir()
    text = load("adressen").source.read_text().replace("id: adressen", "id: plaatsen", 1)
    own.write_text(text)
    terms = "  adressen: {bewaartermijn_maanden: 60, vanaf: ontvangst}\n"
    settings = _settle(filled, filled.source.parent / "beleid", terms, terms.replace("adressen", "plaatsen"))
    settings.source.write_text(settings.source.read_text().replace("  adressen:", "  plaatsen:"))
    settings = load_settings(settings.source)
    (settings.paths.inbox / "adressen").rename(settings.paths.inbox / "plaatsen")
    for name in ("plaatsen", "bedrijven"):
        assert take_inbox(settings, name)[0].status == "ontvangen"
    key = ensure_key(settings.paths)
    assert derive(settings, key, "bedrijven", "zzp").renewed
    assert not derive(settings, key, "bedrijven", "zzp").renewed
    own.write_text(text.replace("huisletter: huisletter", "huisletter: huisnummertoevoeging"))
    assert own.read_text() != text
    assert derive(settings, key, "bedrijven", "zzp").renewed


def test_parts_of_a_number_do_not_run_together() -> None:
    contract = load("srg")
    column = next(c for c in contract.purposes["reintegratie"].pseudonyms if len(c.sources) == 2)
    first, second = column.sources
    query = f"SELECT {_expression(column, contract)} FROM (VALUES ('1', '23'), ('12', '3')) r ({first}, {second})"
    one, other = duckdb.sql(query).fetchall()
    assert one != other
