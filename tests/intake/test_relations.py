"""What a delivery refers to in another, and the window of its dates: judged, told, and as grave as was agreed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets.deliveries.assets import build
from assets.deliveries.intake import Outcome, deliver, rejudge, take_inbox
from assets.deliveries.judging import Tally, hashed, judged
from assets.deliveries.layouts import Source
from datafabriek.config import Settings, load_settings
from datafabriek.warehouse import vault
from quality.coded import coded
from quality.contracts.model import SHIPPED, ContractError, Window, load
from quality.privacy.keys import ensure_key
from quality.schemas.deliveries import WINDOW, delivery_rules, judge

FACTORY = """
name: Proef
sample: true
home: home
region: {gemeenten: [GM0518], provincie: PV28}
policy: policy
deliveries: {wijken: {}, straten: {}}
"""
POLICY = """
versie: 1
doelen: {proef: {omschrijving: Proef, grondslag: Proef, verwerkingsactiviteit: P-1, leveringen: [wijken, straten],
         bewaartermijn_maanden: 1200}}
leveringen: {wijken: {bewaartermijn_maanden: 1200}, straten: {bewaartermijn_maanden: 1200}}
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
customProperties:
  - {{property: leverancier, value: Proef}}
  - {{property: layout, value: {{formaat: gescheiden}}}}
  - {{property: periode, value: {{soort: jaar, bestandsnaam: '^{name}_(?P<jaar>\\d{{4}})\\.csv$'}}}}
  - {{property: correctie, value: vervangt_alles}}
  - {{property: max_foutaandeel, value: {most}}}
  - {{property: doelen, value: {{proef: {{kolommen: {{naam: {{bewerking: kopie, van: naam}}}}}}}}}}
schema:
  - name: {name}
    {whole}
    properties:
      - {{name: nummer, logicalType: string, required: true, primaryKey: true, classification: open}}
      - name: naam
        logicalType: string
        classification: open
        {column}
      - name: gebouwd
        logicalType: date
        classification: open
        customProperties:
          - {{property: venster, value: {{vanaf: begin_periode-100j, tot_en_met: einde_periode+1m}}}}
"""


def _told(severity: str) -> str:
    return f"""relationships: [{{type: foreignKey, to: wijken.nummer}}]
        customProperties: [{{property: ernst, value: {{relatie_wijken: {severity}}}}}]"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Settings]:
    """A factory with two deliveries of its own, of which `straten` refers to `wijken`."""

    def factory(severity: str = "error", whole: str = "", of_wijken: str = "", most: float = 0.5) -> Settings:
        (tmp_path / "contracts").mkdir(exist_ok=True)
        (tmp_path / "policy").mkdir(exist_ok=True)
        column = "" if whole else _told(severity)
        for name, told in (("wijken", of_wijken), ("straten", column)):
            text = CONTRACT.format(name=name, column=told, whole=whole if name == "straten" else "", most=most)
            (tmp_path / "contracts" / f"{name}.yaml").write_text(text)
        (tmp_path / "policy" / "doelen.yaml").write_text(POLICY)
        (tmp_path / "factory.yaml").write_text(FACTORY)
        settings = load_settings(tmp_path / "factory.yaml")
        settings.paths.create()
        return settings

    return factory


def _deliver(settings: Settings, name: str, *rows: str, year: int = 2020) -> Outcome:
    path = settings.source.parent / f"{name}_{year}.csv"
    path.write_text("nummer;naam;gebouwd\n" + "".join(f"{row}\n" for row in rows))
    return deliver(settings, path, name)


def _found(outcome: Outcome) -> dict[str, int]:
    return {f"{each['column']}.{each['rule']}": each["count"] for each in outcome.findings}


def _kept(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        return con.execute(query).fetchall()


def test_a_row_that_refers_to_what_is_not_there_is_refused(make: Callable[..., Settings]) -> None:
    settings = make()
    _deliver(settings, "wijken", "W1;Noord;", "W2;Zuid;")
    outcome = _deliver(settings, "straten", "1;W1;", "2;W3;", "3;;", "4;W2;")
    assert (outcome.accepted, outcome.refused, _found(outcome)) == (3, 1, {"naam.relatie_wijken": 1})
    assert outcome.findings[0]["told"] == "Waarde verwijst naar levering wijken en komt daar niet in voor"
    assert _kept(settings, "SELECT regels, record FROM vault.quarantaine.straten") == [
        (["naam.relatie_wijken"], '{"nummer":"2","naam":"W3","gebouwd":""}')
    ]


@pytest.mark.parametrize(("severity", "accepted"), [("warning", 2), ("error", 1), ("fatal", None)])
def test_it_is_as_grave_as_was_agreed(make: Callable[..., Settings], severity: str, accepted: int | None) -> None:
    settings = make(severity)
    _deliver(settings, "wijken", "W1;Noord;")
    outcome = _deliver(settings, "straten", "1;W1;", "2;W3;")
    if accepted is None:
        assert outcome.status == "geweigerd"
        assert "rule `relatie_wijken` on column `naam`" in (outcome.reason or "")
    else:
        assert (outcome.status, outcome.accepted) == ("ontvangen", accepted)


def test_its_share_counts_for_the_delivery_as_a_whole(make: Callable[..., Settings]) -> None:
    settings = make(most=0.25)
    _deliver(settings, "wijken", "W1;Noord;")
    outcome = _deliver(settings, "straten", "1;W1;", "2;W3;")
    assert (outcome.status, outcome.accepted) == ("geweigerd", 0)
    assert "most often column `naam`, rule `relatie_wijken`" in (outcome.reason or "")


def test_only_what_counts_of_the_other_delivery_is_there(make: Callable[..., Settings]) -> None:
    """A later delivery replaced the earlier one: what stood in that alone is no longer there."""
    settings = make()
    _deliver(settings, "wijken", "W1;Noord;", year=2019)
    _deliver(settings, "wijken", "W2;Zuid;", year=2020)
    assert _found(_deliver(settings, "straten", "1;W1;", "2;W2;")) == {"naam.relatie_wijken": 1}


def test_what_could_not_be_judged_yet_is_told_and_can_be_judged_again(make: Callable[..., Settings]) -> None:
    settings = make(most=0.9)
    outcome = _deliver(settings, "straten", "1;W1;", "2;x;", "3;y;2020")
    assert (outcome.accepted, _found(outcome)) == (2, {"naam.relatie_wijken_niet_getoetst": 3, "gebouwd.datum": 1})
    _deliver(settings, "wijken", "W1;Noord;")
    outcome = rejudge(settings, f"straten-2020-{outcome.fingerprint[:12]}", "proef")
    assert _found(outcome) == {"naam.relatie_wijken": 1, "gebouwd.datum": 1}


def test_several_columns_refer_together(make: Callable[..., Settings]) -> None:
    settings = make(
        whole="relationships: [{type: foreignKey, from: [straten.nummer, straten.naam], "
        "to: [wijken.nummer, wijken.naam]}]"
    )
    _deliver(settings, "wijken", "1;Noord;", "2;Zuid;")
    outcome = _deliver(settings, "straten", "1;Noord;", "2;Noord;")
    assert _found(outcome) == {"nummer.relatie_wijken": 1}


def test_relations_that_go_round_are_refused(make: Callable[..., Settings]) -> None:
    settings = make(of_wijken="relationships: [{type: foreignKey, to: straten.nummer}]")
    with pytest.raises(ContractError, match="relationships go round"):
        build(settings)


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ("relationships: [{type: foreignKey, to: nummer}]", "<delivery>.<column>"),
        ("relationships: [{type: foreignKey, to: [a.b, a.c]}]", "one for each"),
        ("relationships: [{type: foreignKey, to: wijken.nummer}]", "not held to itself"),
        ("customProperties: [{property: venster, value: {tot_en_met: vandaag}}]", "only a date"),
        ("customProperties: [{property: venster, value: {tot: vandaag}}]", "venster: expected"),
        ("customProperties: [{property: venster, value: {tot_en_met: morgen}}]", "venster: expected"),
    ],
)
def test_a_relation_or_window_that_is_none_is_told(make: Callable[..., Settings], told: str, match: str) -> None:
    settings = make(of_wijken=told)
    with pytest.raises(ContractError, match=match):
        load("wijken", settings.contract_folders)


def test_a_relation_to_a_column_that_is_not_there_is_told(make: Callable[..., Settings]) -> None:
    settings = make(whole="relationships: [{type: foreignKey, from: straten.naam, to: wijken.bestaat_niet}]")
    with pytest.raises(ContractError, match="bestaat_niet"):
        _deliver(settings, "straten", "1;W1;")


def test_a_person_of_the_bus_who_is_not_in_the_brp_is_told(filled: Settings) -> None:
    """The shipped contracts: a warning, for who is not in the register still gets a benefit."""
    take_inbox(filled, "brp")
    outcomes = take_inbox(filled, "bus")
    rows = _kept(
        filled,
        "SELECT count(*) FROM vault.aanvoer.bus WHERE bsn NOT IN (SELECT bsn FROM vault.aanvoer.brp)",
    )
    told = sum(_found(outcome).get("bsn.relatie_brp", 0) for outcome in outcomes)
    assert told == rows[0][0] > 0
    assert all(outcome.status == "ontvangen" for outcome in outcomes)


# --- windows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("built", "is_good"),
    [("19200101", True), ("19191231", False), ("20210131", True), ("20210201", False), ("29991231", False), ("", True)],
)
def test_a_date_outside_its_window_is_refused(make: Callable[..., Settings], built: str, is_good: bool) -> None:
    outcome = _deliver(make(), "wijken", f"W1;Noord;{built}", "W2;Zuid;")
    assert _found(outcome) == ({} if is_good else {"gebouwd.venster": 1})


@pytest.mark.parametrize(
    ("bound", "day"),
    [
        ("20240229", date(2024, 2, 29)), ("begin_periode", date(2024, 2, 1)), ("einde_periode+1m", date(2024, 3, 29)),
        ("einde_periode-1j", date(2023, 2, 28)), ("vandaag-90d", date(2024, 3, 3)), ("begin_periode-2m",
        date(2023, 12, 1)), ("einde_periode+11m", date(2025, 1, 29)),
    ],
)  # fmt: skip
def test_an_end_of_a_window_is_a_day(bound: str, day: date) -> None:
    ends = Window(bound, None).days(date(2024, 2, 1), date(2024, 2, 29), date(2024, 6, 1))
    assert ends == (day, None)


@pytest.mark.parametrize(
    ("kind", "period", "column", "value", "told"),
    [
        ("brp", "2020-12-31", "geboortedatum", "20210101", True),
        ("brp", "2020-12-31", "geboortedatum", "20201231", False),
        ("srg", "2020-03", "geboortedatum", "20200401", True), ("bdfs", "2020-03", "datum_besluit", "20200401", True),
        ("laadsessies_ocpi", "2020-03", "begin", "2008-12-31 23:59:59", True),
        ("laadsessies_ocpi", "2020-03", "begin", "2009-01-01 00:00:00", False),
        ("inkomenstoeslag", "2020", "besluitdatum", "20191231", True),
    ],
)  # fmt: skip
def test_the_shipped_windows(kind: str, period: str, column: str, value: str, told: bool) -> None:
    contract = load(kind)
    row = {name: [value if name == column else None] for name in contract.names}
    frame = pl.DataFrame(row, schema=dict.fromkeys(contract.names, pl.String))
    found = judge(frame, delivery_rules(contract, period)).filter(kolom=column, regel=WINDOW)
    assert (found.height == 1) is told


def test_every_relation_of_a_shipped_contract_leads_somewhere() -> None:
    contracts = [load(path.stem) for path in sorted(SHIPPED.glob("*.yaml"))]
    relations = [(contract, relation) for contract in contracts for relation in contract.relations]
    assert {contract.name for contract, _ in relations} >= {"bus", "stadspas", "jw305", "jw307", "jw323"}
    for contract, relation in relations:
        assert set(relation.to) <= set(load(relation.delivery).names), contract.name
        assert contract[relation.columns[0]].severity(relation.rule) == "warning", contract.name


def test_a_coded_column_is_held_to_it_as_its_rows_are() -> None:
    """Fixed width gives coded columns; a relation looks at their texts."""
    values = pl.Series("x", ["W1", "W2", None, "W1"])
    own = coded(pl.Series("x", ["W1", "W2"]), pl.Series([0, 1, None, 0], dtype=pl.UInt32)).alias("x")
    assert hashed(own.to_frame(), ["x"], 0).to_list() == hashed(values.to_frame(), ["x"], 0).to_list()


def test_an_unjudged_relation_of_an_empty_delivery_says_nothing() -> None:
    contract = load("srg")
    tally = Tally()
    assert list(judged(Source("SRG", b""), contract, "2020-03", tally)) == []
    assert not tally.findings
