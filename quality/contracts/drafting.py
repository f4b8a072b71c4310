"""A first draft of a contract from an example file: types, key, likely identifiers and the dirt that stands in it.

A draft is a proposal to go through with the supplier. It is careful: what may identify a person is classed as such
until someone says otherwise, and purposes are left open, so that nothing is taken in under it as it is. No value of
the example stands in the draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from quality.contracts.examples import Example, read_example
from quality.contracts.model import ContractError
from quality.schemas.deliveries import eleven_test

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


def draft(path: Path, name: str, widths: Sequence[int] | None = None) -> Draft:
    """Draft a contract from an example: text with a header or of fixed width, XLSX, XML, JSON or Parquet.

    Args:
        path: the example.
        name: what the contract is to be called.
        widths: of the columns of a file of fixed width; guessed where None.

    Raises:
        ContractError: the file is none of these, or has no header where it needs one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ContractError(f"`{name}` cannot be a contract's name: lower-case letters, digits and _")
    example = read_example(path, widths)
    guesses = {column: _guess(column, example.rows[column]) for column in example.rows.columns}
    _tell_coordinates(example.rows, guesses)
    key = _key(example.rows, guesses)
    document = _document(path, name, example, guesses, key)
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    told = {"(bestand)": list(example.found)} if example.found else {}
    told |= {column: guess.found for column, guess in guesses.items() if guess.found}
    return Draft(_HEAD.format(rows=len(example.rows)) + body, told, key)


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
    _lost_zeros(name, filled, guess)
    is_postcode = _share(filled, r"^[1-9]\d{3} ?[A-Za-z]{2}$") > _MOST
    if is_postcode:
        _mend(guess, filled, "postcode", r"\s|[a-z]", "postcodes met spatie of kleine letters")
    if re.search(_DIRECT, name) or is_postcode or _share(filled, r"^\S+@\S+\.\w+$") > 0.5:
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
    looks = r"^(\d{2}-\d{2}-\d{4}|\d{4}-\d{2}-\d{2}|(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))$"
    if re.search("datum|_op$|^dat", name) or (_share(filled, looks) > _MOST and len(filled) >= _FEWEST_NUMBERS):
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
    if _is_moment(name, filled, guess):
        return
    if _share(filled, r"^[+-]?\s*\d+([.,]\d+)*-?$") > _MOST and not filled.str.contains(r"^0\d").any():
        has_point = filled.str.contains(r"[.,]\d+").any()
        only_zero = not filled.str.contains(r"[.,]\d*[1-9]").any()
        guess.type = "number" if has_point and not only_zero else "integer"
        _mend(guess, filled, "min_achteraan", r"\d-$", "minteken achter het getal")
        _mend(guess, filled, "teken_los", r"^[+-]\s+\d", "teken los van het getal")
        _mend(guess, filled, "decimale_komma", ",", "decimale komma")
        if only_zero:
            _mend(guess, filled, "geheel_getal", r"\.0+$", "gehele getallen met .0 erachter")
        if _share(filled, "^9{2,}$") > 0.01:
            guess.found.append("negens die misschien onbekend betekenen: vul `leeg` in")
    elif set(filled.str.to_lowercase().unique()) <= {"j", "n", "ja", "nee", "true", "false"}:
        guess.repairs.append("ja_nee")
        guess.privacy = "quasi_identificerend"
    _mend(guess, filled, "null_tekst", "(?i)^null$", "de tekst NULL")


def _is_moment(name: str, filled: pl.Series, guess: Guess) -> bool:
    """Moments and times of day, with the dirt that goes with them."""
    if _share(filled, r"^(\d{4}-\d{2}-\d{2}|\d{2}[-/]\d{2}[-/]\d{4})[ T]\d{2}:\d{2}") > _MOST:
        guess.type = "timestamp"
        _mend(guess, filled, "moment_dmj", r"^\d{2}[-/]|^.{16}$", "tijdstippen als dd/mm/jjjj of zonder seconden")
        _mend(guess, filled, "moment_lokaal", r"\dT\d", "tijdstippen in ISO 8601: nagaan of het lokale tijd is")
        return True
    if "tijd" in name and _share(filled, r"^([01]?\d|2[0-4]):?[0-5]\d$") > _MOST:
        guess.type = "time"
        _mend(guess, filled, "tijd_2400", r"^24:?00$", "tijden 2400")
        return True
    return False


def _lost_zeros(name: str, filled: pl.Series, guess: Guess) -> None:
    """Codes of digits whose leading zeros were lost on the way, as spreadsheets do."""
    if "gemeente" in name and _share(filled, r"^(?i:GM)?\d{1,4}$") > _MOST:
        guess.type, guess.physical, guess.options = "string", "N4", {"pattern": r"^\d{4}$"}
        _mend(guess, filled, "gemeentecode", r"^(\D.*|\d{1,3})$", "gemeentecodes als 518 of GM0518")
        return
    if guess.type != "string" or not filled.str.contains(r"^\d+$").all() or not filled.str.contains("^0").any():
        return
    lengths = filled.str.len_chars()
    width = max(lengths.to_list())
    if 0.5 * len(lengths) < int((lengths == width).sum()) < len(lengths):
        guess.repairs.append({"voorloopnullen": width})
        guess.found.append("voorloopnullen verloren")


_LATITUDE, _LONGITUDE = r"^lat|latitude|breedtegraad", r"^(lon|lng)|longitude|lengtegraad"


def _tell_coordinates(rows: pl.DataFrame, guesses: dict[str, Guess]) -> None:
    """Tell of coordinates that were exchanged, or are in metres (RD) where degrees were to be."""
    first, second = (next((n for n in rows.columns if re.search(p, n)), None) for p in (_LATITUDE, _LONGITUDE))
    if first is None or second is None:
        return
    pair = rows.select(
        pl.col(name).str.replace(",", ".").cast(pl.Float64, strict=False).alias(name) for name in (first, second)
    )
    north, east = pl.col(first), pl.col(second)
    crossed = north.is_between(3, 8) & east.is_between(50, 54)
    for told, wrong in (
        ("lengte- en breedtegraad verwisseld: `coordinaten` met `herstel`", crossed),
        ("meters (RD) waar graden horen: `coordinaten` met `herstel`", (north > 1000) & (east > 1000)),
    ):
        if pair.select(wrong.any()).item():
            guesses[first].found.append(told)


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
    # a number that a supplier gives is a key sooner than a name that happens to differ
    order = {"administratief_nummer": 0, "open": 1, "quasi_identificerend": 1, "gevoelig": 1}
    full.sort(key=lambda name: 0 if guesses[name].eleven_test else order.get(guesses[name].privacy, 2))
    for name in full:
        if rows[name].n_unique() == len(rows):
            return [name]
    for first in full[:6]:
        for second in full:
            if second != first and rows.select(first, second).n_unique() == len(rows):
                return [first, second]
    return []


def _document(path: Path, name: str, example: Example, guesses: dict[str, Guess], key: list[str]) -> dict[str, Any]:
    properties = []
    for column, guess in guesses.items():
        there = example.columns[column]
        item: dict[str, Any] = {"name": column}
        item |= {"physicalName": there.physical_name} if there.physical_name else {}
        item |= {"description": "IN TE VULLEN", "logicalType": guess.type}
        item |= {"physicalType": guess.physical} if guess.physical else {}
        item |= {"required": True} if guess.required else {}
        item |= {"primaryKey": True, "primaryKeyPosition": key.index(column) + 1} if column in key else {}
        item["classification"] = guess.privacy
        item |= {"logicalTypeOptions": guess.options} if guess.options else {}
        if guess.eleven_test:
            rule = {"name": "elfproef", "type": "custom", "engine": "datafabriek", "implementation": "elfproef"}
            item["quality"] = [rule | {"severity": "error", "dimension": "accuracy"}]
        custom = [{"property": "breedte", "value": there.width}] if there.width else []
        custom += [{"property": "herstel", "value": guess.repairs}] if guess.repairs else []
        item |= {"customProperties": custom} if custom else {}
        properties.append(item)
    suffix = re.escape(path.suffix) or r"\.csv"
    whole = {
        "leverancier": "IN TE VULLEN",
        "layout": dict(example.layout),
        "periode": {"soort": "jaar", "bestandsnaam": rf"^{name}_(?P<jaar>\d{{4}}){suffix}$"},
        "correctie": "vervangt_periode",
        "max_foutaandeel": 0.05,
        **({"afdrukregel": example.print_line} if example.print_line else {}),
        "doelen": {},
    }
    table = {"name": name, "physicalType": example.kind, "description": "IN TE VULLEN", "properties": properties}
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
        "customProperties": [{"property": one, "value": value} for one, value in whole.items()],
        "schema": [table],
    }


_HEAD = """# Concept, gemaakt uit een voorbeeldbestand ({rows} regels bekeken); geen waarde daaruit staat hierin.
# Loop het na met de leverancier: beschrijvingen, klassen, codelijsten (`codes`), lege waarden (`leeg`), periode en
# termijnen. Vul onder `doelen` in welk doel welke kolommen nodig heeft en hoe vergroofd; zolang dat leeg is wordt
# niets aangenomen.
"""
