"""Contract versions: what breaks is told as breaking, a rename as a rename."""

from __future__ import annotations

from pathlib import Path

import pytest

from quality.contracts.comparison import compare
from quality.contracts.model import SHIPPED, load, read

VOORVOEGSEL = """      - name: voorvoegsel
        description: Voorvoegsel van de geslachtsnaam.
        logicalType: string
        classification: direct_identificerend
        logicalTypeOptions: {maxLength: 20}
        customProperties:
          - {property: herstel, value: [spaties_weg]}
"""


@pytest.mark.parametrize(
    ("change", "into", "where", "what", "breaking"),
    [
        ("- name: voornamen", "- name: voornaam", "voornamen", "renamed to voornaam", True),
        ("logicalType: integer\n        physicalType: N5", "logicalType: string\n        physicalType: A5",
         "huisnummer", "integer N5 became string A5", True),
        ("value: {M: man, V: vrouw, O: onbekend}", "value: {M: man, V: vrouw}", "geslacht", "codes removed: O", True),
        ("value: {M: man, V: vrouw, O: onbekend}", "value: {M: man, V: vrouw, O: onbekend, X: anders}", "geslacht",
         "codes added: X", False),
        ("{voorloopnullen: 9}]", "{voorloopnullen: 9}, null_tekst]", "bsn", "dirt rules added", False),
        ("[spaties_weg, {voorloopnullen: 9}]", "[spaties_weg]", "bsn", "no longer applied: voorloopnullen", True),
        ("max_foutaandeel, value: 0.05", "max_foutaandeel, value: 0.01", "max_foutaandeel", "5.0% became 1.0%", True),
        ("codering: utf-8", "codering: cp1252", "layout", "became", True),
        ("soort: bsn", "soort: dossier", "doel bijstand", "persoon_pseudoniem follows", True),
        ("- name: bsn\n        description: Burgerservicenummer.\n        logicalType: string",
         "- name: bsn\n        description: Burgerservicenummer.\n        logicalType: integer", "bsn",
         "zeros in front are lost", True),
        ("- name: woonplaats\n", "- name: woonplaats\n        physicalName: Woonplaats adres\n", "woonplaats",
         "is called Woonplaats adres in the file", True),
        (VOORVOEGSEL, "", "voorvoegsel", "removed", True),
        ("{property: max_foutaandeel, value: 0.05}", "{property: max_foutaandeel, value: 0.05}\n  "
         "- {property: groei, value: 2}", "groei", "10 became 2", True),
        ("implementation: elfproef, severity: error", "implementation: elfproef, severity: warning", "bsn",
         "elfproef: error became warning", False),
        ("{patroon: warning}", "{patroon: fatal}", "a_nummer", "warning became fatal", True),
        ("'^\\s*(Afgedrukt op|Pagina \\d|Einde bestand)'", "'^Einde'", "afdrukregel", "changed", True),
        ("{voorloopnullen: 9}]", "{voorloopnullen: 9, afgesproken: true}]", "bsn", "counts as agreed changed", False),
        ("{property: venster, value: {tot_en_met: einde_periode}}", "{property: venster, value: {tot_en_met: vandaag}}",
         "geboortedatum", "window of dates changed", True),
        ("    description: Een persoon op een adres gedurende een periode.\n", "    description: Een persoon.\n"
         "    relationships:\n      - {type: foreignKey, from: brp.a_nummer, to: elders.nummer}\n", "a_nummer",
         "must stand in elders.nummer now", True),
        ("[geldig_van, geldig_tot]", "[geldig_tot, geldig_van]", "doel bijstand", "which rows it gets", True),
        (", peildata: bus.statistiekmaand", "", "doel bijstand", "which rows it gets", True),
    ],
)  # fmt: skip
def test_a_change_is_told(tmp_path: Path, change: str, into: str, where: str, what: str, breaking: bool) -> None:
    text = (SHIPPED / "brp.yaml").read_text()
    assert change in text
    (tmp_path / "brp.yaml").write_text(text.replace(change, into, 1))
    found = compare(load("brp"), read(tmp_path / "brp.yaml"))
    assert [(c.where, c.breaking) for c in found] == [(where, breaking)]
    assert what in found[0].what


def test_no_change_is_none() -> None:
    assert compare(load("bus"), load("bus")) == []


def test_a_message_of_another_standard_differs_in_what_its_contract_says() -> None:
    told = [f"{change.where}: {change.what}" for change in compare(load("jw305"), load("wmo305"))]
    spaces = [f"http://www.istandaarden.nl/{name}/schema" for name in ("ijw/3_2/jw305", "iwmo/3_2/wmo305")]
    assert f"layout: naamruimte: {spaces[0]} became {spaces[1]}" in told
    assert not [each for each in told if "layout: record" in each or "became error" in each]
