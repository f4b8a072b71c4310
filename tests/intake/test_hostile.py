"""Files that mean harm are refused with a message that holds no value, or taken for the plain text they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.deliveries.intake import check
from assets.deliveries.layouts import DeliveryError
from quality.contracts.model import load

BRP = load("brp")
HEAD = ";".join(BRP.names)


def _row(**values: str) -> str:
    given = {"bsn": "999990019", "gemeente_code": "0518", "datum_aanvang_adres": "20200115"} | values
    return ";".join(given.get(name, "") for name in BRP.names)


def _told(path: Path) -> str:
    """What is said of a file, refused or not."""
    try:
        outcome = check(path, BRP)
    except DeliveryError as error:
        return str(error)
    assert outcome.delivered == outcome.accepted + outcome.refused
    return f"{outcome.reason}"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ((";".join(f"kolom{at}" for at in range(100_000)) + "\n").encode(), "header line is longer"),
        (f"{HEAD}\n{_row(geslachtsnaam='x' * 10_000_000)}\n".encode(), "None|refused|max"),
        (f"{HEAD}\n{_row(geslachtsnaam='a')}\0\n".encode(), "NUL byte"),
        (HEAD.encode() + b"\n" + _row(geslachtsnaam="\u00e9").encode("cp1252") + b"\n", "not utf-8"),
        (b"PK\x03\x04" + bytes(100), "ZIP"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (f"{HEAD}\n{_row(geslachtsnaam=chr(34) + 'open')}\n{(_row() + chr(10)) * 100}".encode(), "double quote"),
    ],
    ids=["100,000 columns", "10 MB field", "NUL", "mixed encodings", "zip", "gzip", "open quote"],
)
def test_hostile_files_are_refused_with_a_clear_message(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "brp_20201231.csv"
    path.write_bytes(data)
    said = _told(path)
    assert any(part in said for part in told.split("|")), said
    assert len(said) < 1_000
    assert "999990019" not in said


@pytest.mark.parametrize("value", ["'; DROP TABLE vault.aanvoer.brp; --", "=cmd|' /C calc'!A0", "../../etc/passwd"])
def test_sql_formulas_and_paths_are_plain_text(tmp_path: Path, value: str) -> None:
    path = tmp_path / "brp_20201231.csv"
    path.write_text(f"{HEAD}\n" + "\n".join(_row(geslachtsnaam=f'"{value}"') for _ in range(1)) + "\n")
    outcome = check(path, BRP)
    assert outcome.delivered == 1
    assert value not in str(outcome.as_json())
