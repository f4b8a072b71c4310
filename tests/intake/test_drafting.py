"""A drafted contract finds what is in an example, tells no value of it, and takes nothing in as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from assets.deliveries.checking import check
from datafabriek.cli import app
from datafabriek.sample.deliveries import Manifest
from quality.contracts.drafting import draft
from quality.contracts.model import ContractError, read

HEADER = "BSN;Naam;Datum start;Bedrag;Actief;Zaaknummer;Postcode"
NUMBERS = ["999990019", "99999032", "123456782", "111222333", "999990032", "999990044"]


@pytest.fixture
def example(tmp_path: Path) -> Path:
    rows = [
        f"{NUMBERS[at % 6]};Janssen{at} ;{'00000000' if at == 3 else '20200100' if at == 4 else '2020-01-15'};"
        f"{at},50{'-' if at == 2 else ''};{'Ja' if at % 2 else 'Nee'};Z-{at};2511 AB"
        for at in range(30)
    ]
    path = tmp_path / "meldingen.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_types_key_identifiers_and_dirt_are_found(example: Path) -> None:
    made = draft(example, "meldingen")
    columns = {item["name"]: item for item in yaml.safe_load(made.text)["schema"][0]["properties"]}
    assert columns["bsn"]["classification"] == columns["naam"]["classification"] == "direct_identificerend"
    assert columns["postcode"]["classification"] == "direct_identificerend"
    assert columns["zaaknummer"]["classification"] == "administratief_nummer"
    assert made.key == ["zaaknummer"] or made.key == ["naam"]
    assert columns["datum_start"]["logicalType"] == "date"
    assert columns["bedrag"]["logicalType"] == "number"
    mended = {
        name: item["customProperties"][0]["value"] for name, item in columns.items() if "customProperties" in item
    }
    assert mended["bsn"] == [{"voorloopnullen": 9}]
    assert mended["naam"] == ["spaties_weg"]
    assert mended["datum_start"] == ["datum_dmj", "datum_onbekend", "datum_deels_onbekend"]
    assert mended["bedrag"] == ["min_achteraan", "decimale_komma"]
    assert mended["actief"] == ["ja_nee"]


def test_no_value_of_the_example_stands_in_the_draft(example: Path) -> None:
    made = draft(example, "meldingen")
    assert not [value for value in (*NUMBERS, "Janssen", "2511") if value in made.text + str(made.found)]


def test_numbers_that_fail_the_eleven_test_are_no_bsn(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("code;n\n" + "".join(f"{100000000 + at};{at}\n" for at in range(50)))
    assert draft(path, "x").found == {}


def test_a_draft_takes_nothing_in_until_a_purpose_is_named(example: Path, tmp_path: Path) -> None:
    target = tmp_path / "meldingen.yaml"
    target.write_text(draft(example, "meldingen").text)
    with pytest.raises(ContractError, match="no purpose needs this delivery"):
        read(target)
    document = yaml.safe_load(target.read_text())
    purpose = {"proef": {"kolommen": {"jaar": {"bewerking": "jaar", "van": "datum_start"}}}}
    document["customProperties"][-1]["value"] = purpose
    target.write_text(yaml.safe_dump(document, sort_keys=False))
    assert read(target).names[0] == "bsn"


def test_a_sample_delivery_is_recognised(delivered: tuple[Path, Manifest]) -> None:
    made = draft(delivered[0] / "brp" / "brp_20201231.csv", "personen")
    columns = {item["name"]: item for item in yaml.safe_load(made.text)["schema"][0]["properties"]}
    assert "lijkt een BSN (elfproef)" in made.found["bsn"]
    assert columns["geboortedatum"]["logicalType"] == "date"
    assert columns["geslachtsnaam"]["classification"] == "direct_identificerend"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"een kop zonder scheiding\n1\n", "no header"),
        (b"a;a\n1;2\n", "name of its own"),
        (b"a;\n1;2\n", "name of its own"),
        (b"PK\x03\x04rest", "cannot be read as XLSX"),
        (b"PAR1rest", "cannot be read as Parquet"),
        (b'{"a": 1}', "no list of records"),
        (b"[1, 2", "no whole JSON"),
        (b"<a><b/>", "no well-formed XML"),
        (b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a><b>&x;</b></a>", "document type"),
        (b"\x00\x01", "no text"),
        (b"a;b\n", "no rows"),
    ],
)
def test_what_cannot_be_drafted_from_says_why(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=told):
        draft(path, "x")


def test_the_command_writes_a_new_file_alone(example: Path, tmp_path: Path) -> None:
    target = tmp_path / "eigen.yaml"
    done = CliRunner().invoke(app, ["contract", "new", str(example), "--to", str(target)])
    assert done.exit_code == 0, done.output
    assert "elfproef" in done.output
    assert yaml.safe_load(target.read_text())["id"] == "eigen"
    again = CliRunner().invoke(app, ["contract", "new", str(example), "--to", str(target)])
    assert "exists" in str(again.exception)


VALID = [number for number in NUMBERS if len(number) == 9]

RECORDS = [
    {
        "BSN": VALID[at % 5], "Naam cliënt": f"Janssen{at}", "Datum start": "20200115",
        "Zaak nr.": f"Z-{at:03}", "Bedrag": str(at),
    }
    for at in range(30)
]  # fmt: skip
NAMES = list(RECORDS[0])


def _xlsx(path: Path) -> None:
    import xlsxwriter

    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet("Uitdraai")
        book.add_worksheet("Toelichting")
        sheet.write_string(1, 0, "Selectie traject")
        for row, values in enumerate([NAMES, *(list(record.values()) for record in RECORDS)], 3):
            for column, value in enumerate(values):
                sheet.write_string(row, column, value)
        sheet.write_string(3 + len(RECORDS) + 1, 0, "Afgedrukt op 3-5-2024 10:11")


def _xml(path: Path) -> None:
    bodies = "".join(
        f"<Client><Bsn>{record['BSN']}</Bsn><Naam>{record['Naam cliënt']}</Naam><Producten>"
        + "".join(
            f"<Product><Nummer>{record['Zaak nr.']}{part}</Nummer><Omvang><Volume>{part}</Volume></Omvang>"
            f"<Periode><Begindatum>2020-01-15</Begindatum></Periode></Product>"
            for part in range(1, 3)
        )
        + "</Producten></Client>"
        for record in RECORDS
    )
    start = '<?xml version="1.0" encoding="UTF-8"?><b:Bericht xmlns:b="urn:proef" xmlns="urn:proef">'
    path.write_text(f"{start}<Header><Afzender>0518</Afzender></Header>{bodies}</b:Bericht>", encoding="utf-8")


def _json(path: Path) -> None:
    rows = [
        {**record, "bij lagen": [{"soort": "a"}, {"soort": "b"}], "plek": {"xy": [4.3, 52.1]}} for record in RECORDS
    ]
    path.write_text(json.dumps({"leveringen": [{"organisatie": {"KvK-nummer": "1"}, "trajecten": rows}]}))


def _parquet(path: Path) -> None:
    frame = pl.DataFrame(RECORDS).with_columns(pl.col("Bedrag").cast(pl.Int64))
    frame.with_columns(pl.col("Datum start").str.to_date("%Y%m%d")).write_parquet(path)


def _csv(path: Path) -> None:
    pl.DataFrame(RECORDS).write_csv(path, separator=";", quote_style="always")


def _fixed(path: Path) -> None:
    lines = [
        f"{r['BSN']}20200115{r['Zaak nr.']:<8}{r['Bedrag']:>6}{r['Naam cliënt']:<20}" for r in RECORDS
    ]  # fmt: skip
    path.write_text("\r\n".join(lines) + "\r\n")


@pytest.mark.parametrize(
    ("suffix", "write", "columns", "number"),
    [
        ("csv", _csv, {"naam_cli_nt": "Naam cliënt", "zaak_nr": "Zaak nr."}, "bsn"),
        ("xlsx", _xlsx, {"naam_cli_nt": "Naam cliënt", "datum_start": "Datum start"}, "bsn"),
        ("xml", _xml, {"nummer": "Client/Producten/Product/Nummer", "afzender": "Header/Afzender"}, "bsn"),
        ("json", _json, {"kolom_1": "plek/xy/1", "kvk_nummer": "../organisatie/KvK-nummer"}, "bsn"),
        ("parquet", _parquet, {"zaak_nr": "Zaak nr."}, "bsn"),
        ("txt", _fixed, {}, "veld_1"),
    ],
)  # fmt: skip
def test_a_draft_takes_in_the_very_file_it_was_made_from(
    tmp_path: Path, suffix: str, write: Callable[[Path], None], columns: dict[str, str], number: str
) -> None:
    example, contract = tmp_path / f"meldingen_2020.{suffix}", tmp_path / "meldingen.yaml"
    write(example)
    made = draft(example, "meldingen")
    assert not [value for value in (*NUMBERS, "Janssen") if value in made.text + str(made.found)]
    assert "lijkt een BSN (elfproef)" in made.found[number]
    document = yaml.safe_load(made.text)
    there = {item["name"]: item.get("physicalName") for item in document["schema"][0]["properties"]}
    assert {name: there[name] for name in columns} == columns
    person = {"bewerking": "pseudoniem", "van": number, "soort": "bsn"}
    purpose = {"proef": {"kolommen": {"persoon_pseudoniem": person}}}
    next(each for each in document["customProperties"] if each["property"] == "doelen")["value"] = purpose
    contract.write_text(yaml.safe_dump(document, sort_keys=False))
    outcome = check(example, read(contract))
    assert (outcome.status, outcome.reason, outcome.refused) == ("ontvangen", None, int(suffix == "xlsx"))
    assert outcome.accepted == (60 if suffix == "xml" else 30)


def test_a_message_without_a_namespace_is_read_too(tmp_path: Path) -> None:
    path, contract = tmp_path / "klachten_2020.xml", tmp_path / "klachten.yaml"
    rows = "".join(f"<Klacht><Nummer>K{at}</Nummer><Soort>{'AB'[at % 2]}</Soort></Klacht>" for at in range(12))
    path.write_text(f"<Klachten><Gemeente>0518</Gemeente>{rows}</Klachten>")
    document = yaml.safe_load(draft(path, "klachten").text)
    doelen = next(each for each in document["customProperties"] if each["property"] == "doelen")
    taken = {"bewerking": "groep", "van": "soort", "groepen": {"a": ["A"], "b": ["B"]}}
    doelen["value"] = {"proef": {"kolommen": {"soort": taken}}}
    contract.write_text(yaml.safe_dump(document))
    assert check(path, read(contract)).accepted == 12


def test_positions_are_guessed_from_what_stands_on_them_or_told(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    _fixed(path)
    made = draft(path, "x")
    document = yaml.safe_load(made.text)
    widths = [item["customProperties"][0]["value"] for item in document["schema"][0]["properties"]]
    assert widths[:2] == [9, 8]  # a number that passes the eleven-test and a date, though digits follow digits
    assert sum(widths) == 51
    assert "posities geraden" in str(made.found)
    told = draft(path, "x", [9, 8, 8, 6, 20])
    properties = yaml.safe_load(told.text)["schema"][0]["properties"]
    assert [item["customProperties"][0]["value"] for item in properties] == [9, 8, 8, 6, 20]
    assert properties[1]["logicalType"] == "date"
    with pytest.raises(ContractError, match="add up to 12 positions and most lines have 51"):
        draft(path, "x", [9, 3])


@pytest.mark.parametrize(
    ("name", "values", "expected", "told"),
    [
        ("gemeentecode", ["0518", "518", "GM0518"], ["gemeentecode"], "gemeentecodes als"),
        ("artikelcode", ["0123", "0999", "0888", "123"], [{"voorloopnullen": 4}], "voorloopnullen verloren"),
        ("saldo", ["12", "7-", "- 5"], ["min_achteraan", "teken_los"], "teken los"),
        ("aantal_dagen", ["1.0", "2.0", "3"], ["geheel_getal"], ".0 erachter"),
        ("begintijd", ["900", "2400", "1015"], ["tijd_2400"], "tijden 2400"),
        ("begonnen", ["01/02/2024 10:00", "2024-02-01 10:00"], ["moment_dmj"], "dd/mm/jjjj"),
        ("gesloten", ["2024-02-01T10:00:00Z"], ["moment_lokaal"], "ISO 8601"),
        ("postcode", ["2511 AB", "2511ab"], ["postcode"], "postcodes met spatie"),
        ("klaar", ["Ja", "nee"], ["ja_nee"], None),
    ],
)
def test_dirt_is_found_and_the_rule_that_mends_it(
    tmp_path: Path, name: str, values: list[str], expected: list[object], told: str | None
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"{name};n\n" + "".join(f"{value};{at}\n" for at, value in enumerate(values * 3)))
    made = draft(path, "x")
    item = yaml.safe_load(made.text)["schema"][0]["properties"][0]
    assert item["customProperties"] == [{"property": "herstel", "value": expected}]
    assert told is None or told in str(made.found[name])


def test_coordinates_that_are_none_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("lat;lon\n52,1;4,3\n4,3;52,1\n80000;455000\n")
    assert [told.split(":")[0] for told in draft(path, "x").found["lat"] if "`coordinaten`" in told] == [
        "lengte- en breedtegraad verwisseld", "meters (RD) waar graden horen"
    ]  # fmt: skip


def test_print_rows_and_a_byte_order_mark_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfa;b\n1;2\n3;4\nAfgedrukt op 3-5-2024\n")
    made = draft(path, "x")
    assert [told.split(" ")[0] for told in made.found["(bestand)"]] == ["de", "regels"]
    assert "afdrukregel" in made.text
