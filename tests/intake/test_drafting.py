"""A drafted contract finds what is in an example, tells no value of it, and takes nothing in as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

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
        (b"PK\x03\x04rest", "no delimited text"),
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
