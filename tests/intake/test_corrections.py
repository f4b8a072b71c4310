"""The three correction rules, from delivery to table: what supersedes what, and which delivery a figure came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.deliveries.intake import Outcome, deliver, standing
from assets.deliveries.purposes import derive
from datafabriek.config import Settings, load_settings
from datafabriek.warehouse import vault, warehouse
from quality.privacy.keys import ensure_key

FACTORY = """
name: Proef
sample: true
home: home
region: {gemeenten: [GM0518], provincie: PV28}
policy: policy
deliveries: {bomen: {expected_from: "2018", expected_until: "2020"}}
"""
POLICY = """
versie: 1
doelen: {proef: {omschrijving: Proef, grondslag: Proef, verwerkingsactiviteit: P-1, leveringen: [bomen],
         bewaartermijn_maanden: 1200}}
leveringen: {bomen: {bewaartermijn_maanden: 1200}}
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bomen
name: Bomen
version: 1.0.0
status: active
customProperties:
  - {{property: leverancier, value: Proef}}
  - {{property: layout, value: {{formaat: gescheiden}}}}
  - {{property: periode, value: {{soort: jaar, bestandsnaam: '^bomen_(?P<jaar>\\d{{4}})\\w*\\.csv$'}}}}
  - {{property: correctie, value: {rule}}}
  - {{property: leeg_toegestaan, value: {empty}}}
  - {{property: doelen, value: {{proef: {{kolommen: {{soort: {{bewerking: kopie, van: soort}}}}}}}}}}
schema:
  - name: bomen
    properties:
      - {{name: nummer, logicalType: string, required: true, primaryKey: true, classification: open}}
      - {{name: soort, logicalType: string, classification: open}}
"""


def _factory(folder: Path, rule: str, empty: str = "false") -> Settings:
    (folder / "contracts").mkdir()
    (folder / "policy").mkdir()
    (folder / "contracts" / "bomen.yaml").write_text(CONTRACT.format(rule=rule, empty=empty))
    (folder / "policy" / "doelen.yaml").write_text(POLICY)
    (folder / "factory.yaml").write_text(FACTORY)
    settings = load_settings(folder / "factory.yaml")
    settings.paths.create()
    return settings


def _deliver(settings: Settings, file: str, *kinds: str) -> Outcome:
    path = settings.source.parent / file
    path.write_text("nummer;soort\n" + "".join(f"{number};{kind}\n" for number, kind in enumerate(kinds)))
    return deliver(settings, path, "bomen")


def _table(settings: Settings) -> list[tuple[str, str]]:
    """What stands in the table of the purpose, and the period of the delivery that each row came in."""
    derive(settings, ensure_key(settings.paths), "bomen", "proef")
    with warehouse(settings.paths, settings.resources) as con:
        query = "SELECT soort, split_part(levering, '-', 2) FROM raw_proef.bomen ORDER BY ALL"
        return con.execute(query).fetchall()


@pytest.mark.parametrize(
    ("rule", "after_both", "after_correction"),
    [
        ("vervangt_alles", [("els", "2020")], [("els", "2020")]),
        ("vervangt_periode", [("eik", "2018"), ("els", "2020")], [("els", "2020"), ("iep", "2018")]),
        ("toevoegen", [("eik", "2018"), ("els", "2020")], [("eik", "2018"), ("els", "2020"), ("iep", "2018")]),
    ],
)
def test_a_later_delivery_supersedes_by_the_rule_of_its_contract(
    tmp_path: Path, rule: str, after_both: list[tuple[str, str]], after_correction: list[tuple[str, str]]
) -> None:
    settings = _factory(tmp_path, rule)
    _deliver(settings, "bomen_2018.csv", "eik")
    _deliver(settings, "bomen_2020.csv", "els")
    assert _table(settings) == after_both
    _deliver(settings, "bomen_2018_verbeterd.csv", "iep")
    assert _table(settings) == after_correction
    assert _deliver(settings, "bomen_2018_verbeterd.csv", "iep").status == "herhaald"
    assert _table(settings) == after_correction
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        kept = con.execute("SELECT periode, status FROM vault.beheer.leveringen ORDER BY ALL").fetchall()
    assert kept == [("2018", "ontvangen"), ("2018", "ontvangen"), ("2020", "ontvangen")]


def test_a_full_replacement_of_the_newest_period_counts(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_alles")
    for file, kind in (("bomen_2019.csv", "eik"), ("bomen_2020.csv", "els"), ("bomen_2020_verbeterd.csv", "iep")):
        _deliver(settings, file, kind)
    assert _table(settings) == [("iep", "2020")]


def test_an_empty_delivery_is_in_where_agreed_and_a_missing_one_is_a_gap(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_periode", empty="true")
    _deliver(settings, "bomen_2018.csv", "eik")
    assert _deliver(settings, "bomen_2020.csv").status == "ontvangen"
    told = standing(settings, ensure_key(settings.paths))
    assert [(row["periode"], row["status"], row["geaccepteerd"]) for row in told] == [
        ("2018", "ontvangen", 1), ("2019", "ontbreekt", None), ("2020", "ontvangen", 0),
    ]  # fmt: skip
    assert _table(settings) == [("eik", "2018")]


def test_an_empty_correction_takes_the_rows_of_its_period_away(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_periode", empty="true")
    _deliver(settings, "bomen_2018.csv", "eik")
    _deliver(settings, "bomen_2018_verbeterd.csv")
    assert _table(settings) == []


def test_an_empty_delivery_is_refused_where_it_was_not_agreed(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_periode")
    _deliver(settings, "bomen_2018.csv", "eik")
    outcome = _deliver(settings, "bomen_2018_verbeterd.csv")
    assert (outcome.status, "holds no rows" in (outcome.reason or "")) == ("geweigerd", True)
    assert _table(settings) == [("eik", "2018")]
