"""The dirt that municipal deliveries really have, in the column that has it: mended by a rule of a name, or refused.

Each case is a shipped contract's own column: a value that its declared rules mend, with the rule that tells of it, and
one that they leave alone and that is then refused (or told, where the contract says warning).
"""

from __future__ import annotations

import polars as pl
import pytest

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source
from quality.contracts.model import Contract, load
from quality.repairs import repair
from quality.schemas.deliveries import delivery_rules, judge

PERIOD = {"dag": "2020-03-31", "maand": "2020-03", "halfjaar": "2020-H1", "jaar": "2020"}

MENDED: dict[str, tuple[str, str, str, str | None, str]] = {
    "spaces": ("brp", "woonplaats", "  Den Haag ", "Den Haag", "spaties_weg"),
    "a code without its zeros": ("bus", "statistiekcode", "1", "01", "voorloopnullen"),
    "a BSN without its zeros": ("brp", "bsn", "12345672", "012345672", "voorloopnullen"),
    "a municipality as 363": ("brp", "gemeente_code", "363", "0363", "gemeentecode"),
    "a municipality as GM0363": ("bus", "gemeente_code", "GM0363", "0363", "gemeentecode"),
    "N8 of 99999999": ("bus", "geboortedatum", "99999999", None, "datum_onbekend"),
    "N8 of 0": ("brp", "datum_einde_adres", "0", None, "datum_onbekend"),
    "N8 without a day": ("srg", "geboortedatum", "19800500", "19800501", "datum_deels_onbekend"),
    "N8 without a month": ("bdfs", "geboortedatum_debiteur", "19800000", "19800101", "datum_deels_onbekend"),
    "an open end": ("bus", "einddatum_persoon", "29991231", None, "open_einde"),
    "a date with dashes": ("brp", "geboortedatum", "31-12-1980", "19801231", "datum_dmj"),
    "a minus behind": ("bus", "bedrag_afstemming", "0123-", "-0123", "min_achteraan"),
    "a minus behind decimals": ("zorgned_facturen", "bedrag_goedgekeurd", "12,50-", "-12.50", "min_achteraan"),
    "a sign apart": ("bus", "bedrag_inkomsten", "- 123", "-123", "teken_los"),
    "a sign apart in the BDFS": ("bdfs", "saldo_schuld", "-   500", "-500", "teken_los"),
    "cents": ("zorgned_facturen", "bedrag_goedgekeurd", "63343", "633.43", "centen"),
    "a decimal comma": ("laadpalen", "vermogen_kw", "11,5", "11.5", "decimale_komma"),
    "whole euros with decimals": ("hotelovernachtingen", "kamers", "12.0", "12", "geheel_getal"),
    "a sentinel of nines": ("bedrijven", "werkzame_personen_fulltime", "999999", None, "onbekend_code"),
    "a sentinel BSN": ("bedrijven", "eigenaar_bsn", "999999999", None, "onbekend_code"),
    "Ja": ("bedrijven", "indicatie_zzp", "Ja", "J", "ja_nee"),
    "1 and 2": ("stadspas", "is_gebruikt", "2", "N", "ja_nee"),
    "NULL as text": ("verkeerstellingen", "licht", "NULL", None, "null_tekst"),
    "the time 2400": ("evenementen", "eindtijd", "2400", "0000", "tijd_2400"),
    "a postcode with a space": ("brp", "postcode", "2511 ab", "2511AB", "postcode"),
}
"""What it is: contract, column, as delivered, as mended, the rule that is told."""

REFUSED: dict[str, tuple[str, str, str, str]] = {
    "a code that is none": ("bus", "statistiekcode", "77", "codelijst"),
    "a BSN that fails the eleven test": ("brp", "bsn", "123456783", "elfproef"),
    "a municipality in words": ("brp", "gemeente_code", "Den Haag", "patroon"),
    "31 June": ("srg", "begindatum_voorziening", "20200631", "datum"),
    "month 13": ("brp", "datum_aanvang_adres", "19801300", "datum"),
    "a date in words": ("brp", "geboortedatum", "mei 1980", "datum"),
    "two signs": ("zorgned_facturen", "bedrag_goedgekeurd", "-12-", "getal"),
    "two commas": ("zorgned_facturen", "bedrag_goedgekeurd", "1,2,3", "getal"),
    "an amount in words": ("zorgned_facturen", "bedrag_goedgekeurd", "n.v.t.", "getal"),
    "two signs in the BUS (told, as CBS does)": ("bus", "bedrag_inkomsten", "--123", "getal"),
    "half a person": ("hotelovernachtingen", "gasten", "12.5", "getal"),
    "a sentinel that is none here": ("brp", "bsn", "999999999", "elfproef"),
    "perhaps": ("bedrijven", "indicatie_zzp", "misschien", "codelijst"),
    "the time 2560": ("evenementen", "eindtijd", "2560", "datum"),
    "half a postcode": ("laadpalen", "postcode", "2511", "patroon"),
    "latitude in metres that are none": ("laadpalen", "breedtegraad", "999999", "bereik"),
}
"""What it is: contract, column, as delivered, the rule that it breaks."""


def _of(contract: Contract, column: str, value: str) -> pl.DataFrame:
    row = {name: [value if name == column else None] for name in contract.names}
    return pl.DataFrame(row, schema=dict.fromkeys(contract.names, pl.String))


@pytest.mark.parametrize("dirt", MENDED)
def test_a_declared_rule_mends_it_and_is_told(dirt: str) -> None:
    kind, column, delivered, mended, rule = MENDED[dirt]
    contract = load(kind)
    period = PERIOD[contract.period.kind]
    found = repair(_of(contract, column, delivered), [contract[column]], period)
    assert found.rows[column].to_list() == [mended]
    assert found.counts[column, rule] == 1
    assert found.touched.to_list() == [True]
    broken = judge(found.rows, delivery_rules(contract, period)).filter(kolom=column)["regel"].to_list()
    assert broken == (["verplicht"] if mended is None and contract[column].required else [])


AGREED: dict[str, tuple[str, str, str, str]] = {
    "a day in a message": ("jw315", "toewijzing_ingangsdatum", "2020-03-16", "20200316"),
    "a day in a workbook": ("gws_trajecten", "startdatum", "2020-03-16", "20200316"),
    "an amount with a comma": ("zorgned_facturen", "bedrag_goedgekeurd", "1.234,50", "1234.50"),
    "a moment in OCPI": ("laadsessies_ocpi", "begin", "2020-03-16T11:00:00Z", "2020-03-16 12:00:00"),
    "a moment of ElaadNL": ("laadsessies_elaad", "begin", "16/03/2020 12:00", "2020-03-16 12:00:00"),
    "a postcode in OCPI": ("laadsessies_ocpi", "postcode", "2511 AB", "2511AB"),
    "who is unknown by protocol 2016": ("beleidsinformatie_jeugd", "bsn", "999999999", "onbekend"),
    "who is unborn by protocol 2016": ("beleidsinformatie_jeugd", "bsn", "000000000", "ongeboren"),
}
"""What it is: contract, column, as agreed, as read."""


@pytest.mark.parametrize("notation", AGREED)
def test_what_was_agreed_is_read_and_nobody_is_told_of_a_repair(notation: str) -> None:
    kind, column, delivered, read = AGREED[notation]
    contract = load(kind)
    found = repair(_of(contract, column, delivered), [contract[column]], PERIOD[contract.period.kind])
    assert found.rows[column].to_list() == [read]
    assert (found.counts, found.touched.to_list()) == ({}, [False])


@pytest.mark.parametrize("dirt", REFUSED)
def test_what_no_rule_mends_is_refused_under_a_name(dirt: str) -> None:
    kind, column, delivered, rule = REFUSED[dirt]
    contract = load(kind)
    period = PERIOD[contract.period.kind]
    found = repair(_of(contract, column, delivered), [contract[column]], period)
    broken = judge(found.rows, delivery_rules(contract, period)).filter(kolom=column)["regel"].to_list()
    assert rule in broken
    assert contract[column].severity(rule) == ("warning" if "told" in dirt else "error")


def test_rules_apply_in_the_order_of_the_contract() -> None:
    """First the minus, then the comma, then what has neither: cents."""
    column = load("zorgned_facturen")["bedrag_goedgekeurd"]
    assert [step.rule for step in column.repairs] == ["min_achteraan", "decimale_komma", "centen"]
    found = repair(_of(load("zorgned_facturen"), column.name, "1.234,50-"), [column])
    assert found.rows[column.name].to_list() == ["-1234.50"]
    assert list(found.counts) == [(column.name, "min_achteraan")]  # the comma is as agreed


def _brp(*lines: str) -> bytes:
    contract = load("brp")
    return ("\ufeff" + "\r\n".join([";".join(contract.names), *lines]) + "\r\n").encode()


def _row(**values: str) -> str:
    given = {"bsn": "999990019", "gemeente_code": "0518", "datum_aanvang_adres": "20200115"} | values
    return ";".join(given.get(name, "") for name in load("brp").names)


def test_a_mark_line_breaks_in_quotes_and_print_rows_in_one_file() -> None:
    """A byte order mark, CRLF inside quotes, and the head and foot of a print: the rows between them are good."""
    rows = [_row(straatnaam='"Lange\r\nVoorhout"'), _row(bsn="999990020", straatnaam="Plein")]
    body = _brp("Pagina 1", *rows, "Afgedrukt op 01-04-2020 om 12:00", "Einde bestand")
    tally = Tally()
    kept = pl.concat(part.accepted for part in judged(Source("brp", body), load("brp"), None, tally))
    assert kept.select("bsn", "straatnaam").rows() == [("999990019", "Lange\r\nVoorhout"), ("999990020", "Plein")]
    assert {rule: finding.count for (_, rule, _), finding in tally.findings.items()} == {"afdrukregel": 3}
    assert (tally.delivered, tally.accepted, tally.refused) == (5, 2, 3)


def test_print_rows_alone_are_an_empty_delivery() -> None:
    with pytest.raises(DeliveryError, match="holds no rows"):
        list(judged(Source("brp", _brp("Pagina 1", "Einde bestand")), load("brp"), None, Tally()))
    tally = Tally()
    list(judged(Source("SRG", b"Einde bestand\r\n"), load("srg"), "2020-03", tally))
    assert (tally.delivered, tally.refused) == (1, 1)


def test_print_rows_hide_no_bad_ones() -> None:
    body = _brp("Pagina 1", _row(), _row(bsn="123456783"), "Einde bestand")
    with pytest.raises(DeliveryError, match="column `bsn`, rule `elfproef`"):
        list(judged(Source("brp", body), load("brp"), None, Tally()))
