"""A first draft of a contract from an example file: types, key, likely identifiers and the dirt that stands in it.

A draft is a proposal to go through with the supplier. It is careful: what may identify a person is classed as such
until someone says otherwise, and purposes are left open, so that nothing is taken in under it as it is. No value of
the example stands in the draft.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from quality.contracts.model import ContractError
from quality.schemas.deliveries import eleven_test

MOST_ROWS = 200_000
"""So many rows of the example are looked at."""

_MOST = 0.95  # share of filled values that make a column what it looks like
_FEWEST_NUMBERS = 10
_DIRECT = r"naam|voornaam|voorletter|achternaam|straat|adres|telefoon|mail|iban|rekening|a_?nummer|anr"
_NUMBER = r"nummer|nr$|_id$|^id$|kenmerk|dossier|zaak"
_SENSITIVE = r"geslacht|geboorte|nationaliteit|leefvorm|inkom|bedrag|schuld|zorg|diagnose|uitkering"


@dataclass
class Guess:
    """What a column looks like, and why."""

    type: str = "string"
    physical: str = ""
    privacy: str = "quasi_identificerend"
    required: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    repairs: list[Any] = field(default_factory=list)
    eleven_test: bool = False
    found: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Draft:
    """A drafted contract (`text`, YAML) and what was found in the example, per column; no values."""

    text: str
    found: dict[str, list[str]]
    key: list[str]


def draft(path: Path, name: str) -> Draft:
    """Draft a contract from a delimited file with a header.

    Args:
        path: the example.
        name: what the contract is to be called.

    Raises:
        ContractError: the file is no delimited text, or has no header.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ContractError(f"`{name}` cannot be a contract's name: lower-case letters, digits and _")
    rows, delimiter, encoding = _read(path)
    guesses = {column: _guess(column, rows[column]) for column in rows.columns}
    key = _key(rows, guesses)
    document = _document(path, name, guesses, key, delimiter, encoding)
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    told = {column: guess.found for column, guess in guesses.items() if guess.found}
    return Draft(_HEAD.format(rows=len(rows)) + body, told, key)


def _read(path: Path) -> tuple[pl.DataFrame, str, str]:
    """The example as text, with its delimiter and encoding."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ContractError(f"{path} cannot be read ({error.strerror}): check the path") from None
    if b"\0" in data[:4096] or data[:4] in (b"PK\x03\x04", b"PAR1"):
        raise ContractError(f"{path.name} is no delimited text: save one sheet or table as CSV and draft from that")
    try:
        text, encoding = data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = data.decode("cp1252", "replace"), "cp1252"
    head = text.partition("\n")[0].rstrip("\r")
    delimiter = max(";,\t|", key=head.count)
    if not head.count(delimiter):
        raise ContractError(f"{path.name}, line 1: no header with ; , | or tabs: a draft needs one")
    names = [_named(one) for one in next(csv.reader([head], delimiter=delimiter))]
    if not text.partition("\n")[2].strip():
        raise ContractError(f"{path.name} holds a header and no rows: a draft needs some")
    twice = [one for one, count in Counter(names).items() if count > 1]
    if twice or any(re.fullmatch(r"_?\d*", one) for one in names):
        raise ContractError(f"{path.name}, line 1: not every column has a name of its own: put a header above the rows")
    try:
        rows = pl.read_csv(
            io.BytesIO(text.partition("\n")[2].encode()), separator=delimiter, has_header=False, new_columns=names,
            infer_schema=False, n_rows=MOST_ROWS, truncate_ragged_lines=True,
        ).fill_null("")  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"{path.name} cannot be taken apart at `{delimiter}` ({type(error).__name__})") from None
    if rows.width != len(names) or not len(rows):
        raise ContractError(f"{path.name}: {len(names)} names in the header and {rows.width} columns below it")
    return rows, delimiter, encoding


def _named(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")


def _guess(name: str, values: pl.Series) -> Guess:
    guess = Guess()
    bare = values.str.strip_chars()
    if (bare != values).any():
        guess.repairs.append("spaties_weg")
        guess.found.append("spaties om de waarde")
    filled = bare.filter(bare != "")
    guess.required = len(filled) == len(values)
    if not len(filled):
        guess.found.append("altijd leeg")
        return guess
    if _is_bsn(name, filled):
        guess.privacy, guess.eleven_test, guess.physical = "direct_identificerend", True, "N9"
        guess.options = {"pattern": r"^\d{9}$"}
        guess.found.append("lijkt een BSN (elfproef)")
        if (filled.str.len_chars() < 9).any():
            guess.repairs.append({"voorloopnullen": 9})
            guess.found.append("voorloopnullen verloren")
        return guess
    _shape(name, filled, guess)
    if re.search(_DIRECT, name) or _share(filled, r"^[1-9]\d{3} ?[A-Za-z]{2}$") > _MOST or "@" in "".join(filled[:50]):
        guess.privacy = "direct_identificerend"
        guess.found.append("lijkt direct identificerend")
    elif re.search(_SENSITIVE, name):
        guess.privacy = "gevoelig"
    elif re.search(_NUMBER, name):
        guess.privacy = "administratief_nummer"
    return guess


def _is_bsn(name: str, filled: pl.Series) -> bool:
    """Eight or nine digits, nearly all of which pass a test that one in eleven numbers passes by chance."""
    numbers = filled.filter(filled.str.contains(r"^\d{8,9}$"))
    if len(numbers) < _MOST * len(filled):
        return False
    passed = numbers.to_frame("n").select(eleven_test(pl.col("n")).mean()).item()
    return bool(passed > _MOST and (len(numbers) >= _FEWEST_NUMBERS or "bsn" in name)) or "bsn" in name.split("_")


_PARTIAL = r"^(\d{4}|\d{6})(00|0000)$"


def _shape(name: str, filled: pl.Series, guess: Guess) -> None:
    """Type, and the dirt that goes with it."""
    if re.search("datum|_op$|^dat", name) or _share(filled, r"^\d{2}-\d{2}-\d{4}$|^\d{4}-\d{2}-\d{2}$") > _MOST:
        dates = r"^((19|20)\d{6}|\d{1,2}-\d{1,2}-\d{4}|\d{4}-\d{2}-\d{2}|0{1,8}|9{8})$"
        if _share(filled, dates) > _MOST:
            guess.type, guess.physical, guess.options = "date", "N8 jjjjmmdd", {"format": "yyyyMMdd"}
            for rule, pattern, told in (
                ("datum_dmj", "-", "datums met streepjes"),
                ("datum_onbekend", r"^(0{1,8}|9{8})$", "nullen of negens voor een onbekende datum"),
                ("open_einde", r"^[29]9991231$", "een open einde als 99991231"),
                ("datum_deels_onbekend", _PARTIAL, "datums zonder dag of maand"),
            ):
                _mend(guess, filled, rule, pattern, told)
            return
    if _share(filled, r"^-?\d+([.,]\d+)?-?$") > _MOST and not filled.str.contains(r"^0\d").any():
        has_point = filled.str.contains(r"[.,]\d+").any()
        guess.type = "number" if has_point else "integer"
        _mend(guess, filled, "min_achteraan", r"\d-$", "minteken achter het getal")
        _mend(guess, filled, "decimale_komma", ",", "decimale komma")
        if _share(filled, "^9{2,}$") > 0.01:
            guess.found.append("negens die misschien onbekend betekenen: vul `leeg` in")
    elif set(filled.str.to_lowercase().unique()) <= {"j", "n", "ja", "nee"}:
        guess.repairs.append("ja_nee")
        guess.privacy = "quasi_identificerend"
    _mend(guess, filled, "null_tekst", "(?i)^null$", "de tekst NULL")


def _mend(guess: Guess, filled: pl.Series, rule: str, pattern: str, told: str) -> None:
    if filled.str.contains(pattern).any():
        guess.repairs.append(rule)
        guess.found.append(told)


def _share(filled: pl.Series, pattern: str) -> float:
    share = filled.str.contains(pattern).mean()
    return float(share) if isinstance(share, int | float) else 0.0


def _key(rows: pl.DataFrame, guesses: dict[str, Guess]) -> list[str]:
    """The first column, or two that stand together, by which every row differs; none where there is none."""
    full = [name for name, guess in guesses.items() if guess.required and guess.type in {"string", "integer", "date"}]
    for name in full:
        if rows[name].n_unique() == len(rows):
            return [name]
    for first in full[:6]:
        for second in full:
            if second != first and rows.select(first, second).n_unique() == len(rows):
                return [first, second]
    return []


def _document(
    path: Path, name: str, guesses: dict[str, Guess], key: list[str], delimiter: str, encoding: str
) -> dict[str, Any]:
    properties = []
    for column, guess in guesses.items():
        item: dict[str, Any] = {"name": column, "description": "IN TE VULLEN", "logicalType": guess.type}
        item |= {"physicalType": guess.physical} if guess.physical else {}
        item |= {"required": True} if guess.required else {}
        item |= {"primaryKey": True, "primaryKeyPosition": key.index(column) + 1} if column in key else {}
        item["classification"] = guess.privacy
        item |= {"logicalTypeOptions": guess.options} if guess.options else {}
        if guess.eleven_test:
            rule = {"name": "elfproef", "type": "custom", "engine": "datafabriek", "implementation": "elfproef"}
            item["quality"] = [rule | {"severity": "error", "dimension": "accuracy"}]
        item |= {"customProperties": [{"property": "herstel", "value": guess.repairs}]} if guess.repairs else {}
        properties.append(item)
    suffix = re.escape(path.suffix) or r"\.csv"
    custom = {
        "leverancier": "IN TE VULLEN",
        "layout": {"formaat": "gescheiden", "scheiding": delimiter, "codering": encoding},
        "periode": {"soort": "jaar", "bestandsnaam": rf"^{name}_(?P<jaar>\d{{4}}){suffix}$"},
        "correctie": "vervangt_periode",
        "max_foutaandeel": 0.05,
        "doelen": {},
    }
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": name,
        "name": name,
        "version": "0.1.0",
        "status": "draft",
        "team": {"name": "IN TE VULLEN"},
        "slaProperties": [
            {"property": "latency", "value": 31, "unit": "d"},
            {"property": "timeToRepair", "value": 14, "unit": "d"},
        ],
        "customProperties": [{"property": one, "value": value} for one, value in custom.items()],
        "schema": [{"name": name, "physicalType": "csv", "description": "IN TE VULLEN", "properties": properties}],
    }


_HEAD = """# Concept, gemaakt uit een voorbeeldbestand ({rows} regels bekeken); geen waarde daaruit staat hierin.
# Loop het na met de leverancier: beschrijvingen, klassen, codelijsten (`codes`), lege waarden (`leeg`), periode en
# termijnen. Vul onder `doelen` in welk doel welke kolommen nodig heeft en hoe vergroofd; zolang dat leeg is wordt
# niets aangenomen.
"""
