"""Declared dirt rules: what may be mended in a delivered value, by name, and nothing else.

A contract lists, per column and in order, which of these apply. Each is a polars expression from text to text
(null for "not there"), idempotent, and leaves alone what it does not recognise: judging is for
`quality.schemas.deliveries`. Every change is counted per column and rule, and told to the supplier.

The dirt itself was seen in practice in Dutch municipal deliveries: partial dates and open ends in BRP and BUS,
numbers that lost their leading zeros in a spreadsheet, signs behind the number, municipality codes with and
without GM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from quality.contracts.model import Column

Repair = Callable[["pl.Expr", Any], "pl.Expr"]


@dataclass(frozen=True)
class DirtRule:
    """A dirt rule: how it mends, and how that is told to the supplier."""

    apply: Repair
    told: str


RULES: dict[str, DirtRule] = {}


def _rule(function: Repair) -> Repair:
    """Enter a rule under its function's name; its docstring is what the supplier reads."""
    RULES[function.__name__] = DirtRule(function, (function.__doc__ or "").strip().rstrip("."))
    return function


def repaired(column: Column) -> list[tuple[str, pl.Expr]]:
    """The column after each of its rules in turn.

    Returns:
        (rule, value after it), in order; the first is ("", the delivered value, null where the layout says that
        it means nothing).
    """
    import polars as pl

    value = pl.col(column.name).replace("", None)
    if column.empty:
        value = _when(value.is_in(list(column.empty)), None, value)
    chain = [("", value)]
    for step in column.repairs:
        value = RULES[step.rule].apply(value, step.argument)
        chain.append((step.rule, value))
    return chain


def _when(condition: pl.Expr, then: pl.Expr | None, otherwise: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(condition).then(pl.lit(None, pl.String) if then is None else then).otherwise(otherwise)


@_rule
def spaties_weg(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Spaties vóór en achter de waarde weggehaald."""
    return value.str.strip_chars().replace("", None)


@_rule
def voorloopnullen(value: pl.Expr, width: int) -> pl.Expr:
    """Voorloopnullen aangevuld die verloren waren gegaan."""
    return _when(value.str.contains(r"^[0-9]+$"), value.str.zfill(width), value)


@_rule
def gemeentecode(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Gemeentecode op vier cijfers gebracht (zonder GM, met voorloopnul)."""
    bare = value.str.strip_chars().str.replace(r"^(?i:GM)([0-9]{1,4})$", "${1}").replace("", None)
    return _when(bare.str.contains(r"^[0-9]{1,4}$"), bare.str.zfill(4), bare)


@_rule
def datum_onbekend(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Geheel onbekende datum (0, 00000000, 99999999) leeg gemaakt."""
    return _when(value.is_in(["0", "00000000", "99999999"]), None, value)


@_rule
def datum_deels_onbekend(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Onbekende dag of maand in een datum op de eerste gezet."""
    return value.str.replace(r"^([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)0000$", "${1}0101").str.replace(
        r"^([0-9]{4}(?:0[1-9]|1[0-2]))00$", "${1}01"
    )


@_rule
def open_einde(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Open einde (99991231, 29991231) leeg gemaakt."""
    return _when(value.is_in(["99991231", "29991231", "99999999"]), None, value)


@_rule
def datum_dmj(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Datum dd-mm-jjjj of jjjj-mm-dd omgezet naar jjjjmmdd."""
    return value.str.replace(r"^([0-9]{2})[-/.]([0-9]{2})[-/.]([0-9]{4})$", "${3}${2}${1}").str.replace(
        r"^([0-9]{4})-([0-9]{2})-([0-9]{2})$", "${1}${2}${3}"
    )


@_rule
def postcode(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Postcode zonder spaties en in hoofdletters gezet."""
    return value.str.replace_all(r"\s", "").str.to_uppercase().replace("", None)


@_rule
def hoofdletters(value: pl.Expr, _argument: Any) -> pl.Expr:
    """In hoofdletters gezet."""
    return value.str.to_uppercase()


@_rule
def kleine_letters(value: pl.Expr, _argument: Any) -> pl.Expr:
    """In kleine letters gezet."""
    return value.str.to_lowercase()


@_rule
def ja_nee(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Ja/Nee of 1/2 omgezet naar J/N."""
    known = {"ja": "J", "j": "J", "1": "J", "true": "J", "nee": "N", "n": "N", "2": "N", "0": "N", "false": "N"}
    return value.str.to_lowercase().replace_strict(known, default=value)


@_rule
def min_achteraan(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Teken achter een bedrag naar voren gehaald."""
    return value.str.replace(r"^([0-9]+)\s*-$", "-${1}").str.replace(r"^([0-9]+)\s*\+$", "${1}")


@_rule
def decimale_komma(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Decimale komma vervangen door een punt."""
    bare = value.str.replace_all(r"\.([0-9]{3})\b", "${1}")
    return _when(value.str.contains(r"^-?[0-9.]*,[0-9]+$"), bare.str.replace(",", ".", literal=True), value)


@_rule
def onbekend_code(value: pl.Expr, codes: Sequence[str]) -> pl.Expr:
    """Code voor onbekend of niet van toepassing leeg gemaakt."""
    return _when(value.is_in(list(codes)), None, value)


@_rule
def null_tekst(value: pl.Expr, _argument: Any) -> pl.Expr:
    """De tekst NULL leeg gemaakt."""
    return _when(value.str.to_uppercase().is_in(["NULL", "NONE", "N/A", "NA"]), None, value)


@_rule
def sbi_code(value: pl.Expr, _argument: Any) -> pl.Expr:
    """SBI-code zonder punten gezet."""
    return value.str.replace(r"^([0-9]{2})\.([0-9]{1,2})(?:\.([0-9]{1,2}))?$", "${1}${2}${3}")


@_rule
def tijd_2400(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Tijd 2400 als 0000 gelezen."""
    return _when(value.is_in(["2400", "24:00"]), value.str.replace("24", "00", literal=True), value)
