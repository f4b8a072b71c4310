"""Declared dirt rules: what may be mended in a delivered value, by name, and nothing else.

A contract lists, per column and in order, which of these apply. Each is a polars expression from text to text
(null for "not there"), idempotent, and leaves alone what it does not recognise: judging is for
`quality.schemas.deliveries`. Every change is counted per column and rule, and told to the supplier.

The dirt itself was seen in practice in Dutch municipal deliveries: partial dates and open ends in BRP and BUS,
numbers that lost their leading zeros in a spreadsheet, signs behind the number, municipality codes with and
without GM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from quality.contracts.model import Column, Step

Repair = Callable[["pl.Expr", Any], "pl.Expr"]


@dataclass(frozen=True)
class DirtRule:
    """A dirt rule.

    Attributes:
        apply: text to text.
        concerns: a cheap test that holds for every value the rule might change, so that a clean column costs a
            glance; None where the rule itself is as cheap.
        told: what the supplier reads.
        means: it reads what a code stands for, and not the same value in another notation: told where it was agreed
            too, since something else is kept than was written.
    """

    apply: Repair
    concerns: Repair | None
    told: str
    means: bool = False


@dataclass(frozen=True)
class Repaired:
    """Rows after repair.

    Attributes:
        rows: the same columns and order; text that the layout takes for "nothing here" is null.
        counts: (column, rule) → how many values it mended; rules that changed nothing are left out.
        read: the same of codes that were agreed, which is no repair.
        touched: per row whether any rule mended it.
    """

    rows: pl.DataFrame
    counts: dict[tuple[str, str], int]
    read: dict[tuple[str, str], int]
    touched: pl.Series


RULES: dict[str, DirtRule] = {}


def _rule(concerns: Repair | None = None, *, means: bool = False) -> Callable[[Repair], Repair]:
    """Enter a rule under its function's name; its docstring is what the supplier reads."""

    def enter(function: Repair) -> Repair:
        RULES[function.__name__] = DirtRule(function, concerns, (function.__doc__ or "").strip().rstrip("."), means)
        return function

    return enter


def repair(rows: pl.DataFrame, columns: Sequence[Column], period: str | None = None) -> Repaired:
    """Apply the declared rules, column by column and in order.

    Args:
        rows: delivered text, some of it coded; columns that are not in `columns` pass as they are.
        columns: the contract's.
        period: what the delivery covers; a rule that is for other periods is passed over.
    """
    import numpy as np
    import polars as pl

    from quality.coded import coded, is_coded, places_of, values_of

    touched = np.zeros(len(rows), dtype=np.bool_)
    counts: dict[tuple[str, str], int] = {}
    read: dict[tuple[str, str], int] = {}
    outcome = []
    for column in columns:
        before = rows[column.name]
        delivered = values_of(before)
        values, changes = _mended(delivered, column, period)
        for step, changed in changes:
            hit = changed
            if is_coded(before):
                hit = places_of(before).is_in(changed.implode()).arg_true()
            into, name = read if step.agreed else counts, (column.name, step.rule)
            into[name] = into.get(name, 0) + len(hit)
            if not step.agreed:
                touched[hit.to_numpy()] = True
        if values is not delivered:
            outcome.append(coded(values, places_of(before)) if is_coded(before) else values)
    return Repaired(rows.with_columns(outcome), counts, read, pl.Series("touched", touched))


def _mended(values: pl.Series, column: Column, period: str | None) -> tuple[pl.Series, list[tuple[Step, pl.Series]]]:
    """The values after every rule of a column, and per rule of which that is told at which places it changed any.

    Where nothing changed they are the very values that came in.
    """
    import polars as pl

    name = pl.col(column.name)
    if (nothing := values.is_in(["", *column.empty])).any():
        values = values.set(nothing.fill_null(False), None)
    changes = []
    for step in column.repairs:
        rule = RULES[step.rule]
        if not step.term.holds(period):
            continue
        concerned = name.is_not_null() if rule.concerns is None else rule.concerns(name, step.argument)
        places = values.to_frame().select(concerned.fill_null(False).arg_true()).to_series()
        if not len(places):
            continue
        before = values if len(places) == len(values) else values.gather(places)
        after = before.to_frame().select(rule.apply(name, step.argument).alias(column.name)).to_series()
        changed = before.ne_missing(after)
        if changed.any():
            places = places.filter(changed)
            values = after if before is values else values.clone().scatter(places, after.filter(changed))
            if rule.means or not step.agreed:
                changes.append((step, places))
    return values, changes


def _when(condition: pl.Expr, then: pl.Expr | None, otherwise: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(condition).then(pl.lit(None, pl.String) if then is None else then).otherwise(otherwise)


def _filled(value: pl.Expr) -> pl.Expr:
    """Text with something in it; nothing left is null."""
    return _when(value == "", None, value)


@_rule(lambda v, _: v.str.strip_chars().str.len_bytes() != v.str.len_bytes())
def spaties_weg(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Spaties vóór en achter de waarde weggehaald."""
    return _filled(value.str.strip_chars())


@_rule(lambda v, width: v.str.len_bytes() < width)
def voorloopnullen(value: pl.Expr, width: int) -> pl.Expr:
    """Voorloopnullen aangevuld die verloren waren gegaan."""
    return _when(value.str.contains(r"^[0-9]+$"), value.str.zfill(width), value)


@_rule(lambda v, _: ~v.str.contains(r"^[0-9]{4}$"))
def gemeentecode(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Gemeentecode op vier cijfers gebracht (zonder GM, met voorloopnul)."""
    bare = _filled(value.str.strip_chars()).str.replace(r"^(?i:GM)([0-9]{1,4})$", "${1}")
    return _when(bare.str.contains(r"^[0-9]{1,4}$"), bare.str.zfill(4), bare)


@_rule(means=True)
def datum_onbekend(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Geheel onbekende datum (0, 00000000, 99999999) leeg gemaakt."""
    return _when(value.is_in(["0", "00000000", "99999999"]), None, value)


@_rule(lambda v, _: v.str.ends_with("00"), means=True)
def datum_deels_onbekend(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Onbekende dag of maand in een datum op de eerste gezet."""
    return value.str.replace(r"^([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)0000$", "${1}0101").str.replace(
        r"^([0-9]{4}(?:0[1-9]|1[0-2]))00$", "${1}01"
    )


@_rule(means=True)
def open_einde(value: pl.Expr, codes: Sequence[str] | None) -> pl.Expr:
    """Open einde (zoals 99991231, 29991231 of 99999999) leeg gemaakt."""
    return _when(value.is_in(list(codes or ("99991231", "29991231", "99999999"))), None, value)


@_rule(lambda v, _: v.str.len_bytes() == 10)
def datum_iso(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Datum jjjj-mm-dd omgezet naar jjjjmmdd."""
    return value.str.replace(r"^([0-9]{4})-([0-9]{2})-([0-9]{2})$", "${1}${2}${3}")


@_rule(lambda v, _: v.str.len_bytes() == 10)
def datum_dmj(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Datum dd-mm-jjjj of jjjj-mm-dd omgezet naar jjjjmmdd."""
    return value.str.replace(r"^([0-9]{2})[-/.]([0-9]{2})[-/.]([0-9]{4})$", "${3}${2}${1}").str.replace(
        r"^([0-9]{4})-([0-9]{2})-([0-9]{2})$", "${1}${2}${3}"
    )


@_rule(lambda v, _: ~v.str.contains(r"^[0-9]{4}[A-Z]{2}$"))
def postcode(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Postcode zonder spaties en in hoofdletters gezet."""
    return _filled(value.str.replace_all(r"\s", "").str.to_uppercase())


@_rule()
def hoofdletters(value: pl.Expr, _argument: Any) -> pl.Expr:
    """In hoofdletters gezet."""
    return value.str.to_uppercase()


@_rule()
def kleine_letters(value: pl.Expr, _argument: Any) -> pl.Expr:
    """In kleine letters gezet."""
    return value.str.to_lowercase()


@_rule(lambda v, _: ~v.is_in(["J", "N"]))
def ja_nee(value: pl.Expr, words: Sequence[str] | None) -> pl.Expr:
    """Ja/Nee of 1/2 omgezet naar J/N."""
    known = {"ja": "J", "j": "J", "1": "J", "true": "J", "nee": "N", "n": "N", "2": "N", "0": "N", "false": "N"}
    meant = {word: said for word, said in known.items() if words is None or word in words}
    return value.str.to_lowercase().replace_strict(meant, default=value)


@_rule(lambda v, _: v.str.ends_with("-") | v.str.ends_with("+"))
def min_achteraan(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Teken achter een bedrag naar voren gehaald."""
    amount = r"^([0-9]+(?:[.,][0-9]+)*)\s*"
    return value.str.replace(amount + "-$", "-${1}").str.replace(amount + r"\+$", "${1}")


@_rule()
def teken_los(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Spaties tussen teken en bedrag weggehaald."""
    return value.str.replace(r"^([+-])\s+([0-9]+(?:[.,][0-9]+)*)$", "${1}${2}")


@_rule(lambda v, _: v.str.contains(",", literal=True))
def decimale_komma(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Decimale komma vervangen door een punt."""
    bare = value.str.replace_all(r"\.([0-9]{3})\b", "${1}")
    return _when(value.str.contains(r"^-?[0-9.]*,[0-9]+$"), bare.str.replace(",", ".", literal=True), value)


@_rule(lambda v, _: v.str.contains(r"^[+-]?[0-9]+$"))
def centen(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Bedrag in hele centen, zonder komma of punt, omgezet naar euro's met twee decimalen."""
    long = value.str.replace(r"^([+-]?)([0-9])$", "${1}0${2}").str.replace(r"^([+-]?)([0-9]{2})$", "${1}0${2}")
    return long.str.replace(r"^([+-]?[0-9]+)([0-9]{2})$", "${1}.${2}")


@_rule(means=True)
def onbekend_code(value: pl.Expr, codes: Sequence[str]) -> pl.Expr:
    """Code voor onbekend of niet van toepassing leeg gemaakt."""
    return _when(value.is_in(list(codes)), None, value)


@_rule(means=True)
def code_vertaald(value: pl.Expr, words: Mapping[str, str]) -> pl.Expr:
    """Bijzondere code vervangen door wat zij in deze periode betekent."""
    return value.replace(dict(words))


@_rule(means=True)
def null_tekst(value: pl.Expr, _argument: Any) -> pl.Expr:
    """De tekst NULL leeg gemaakt."""
    return _when(value.str.to_uppercase().is_in(["NULL", "NONE", "N/A", "NA"]), None, value)


@_rule(lambda v, _: v.str.contains(".", literal=True))
def sbi_code(value: pl.Expr, _argument: Any) -> pl.Expr:
    """SBI-code zonder punten gezet."""
    return value.str.replace(r"^([0-9]{2})\.([0-9]{1,2})(?:\.([0-9]{1,2}))?$", "${1}${2}${3}")


@_rule()
def tijd_2400(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Tijd 2400 als 0000 gelezen."""
    return _when(value.is_in(["2400", "24:00"]), value.str.replace("24", "00", literal=True), value)


@_rule(lambda v, _: v.str.contains("  ", literal=True))
def dubbele_spaties(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Dubbele spaties door één vervangen."""
    return value.str.replace_all(r" {2,}", " ")


@_rule(lambda v, _: v.str.contains(".", literal=True))
def geheel_getal(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Decimalen .0 van een geheel getal weggehaald."""
    return value.str.replace(r"^(-?[0-9]+)\.0+$", "${1}")


@_rule(lambda v, _: v.str.len_bytes().is_in([16, 19]))
def moment_dmj(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Tijdstip dd/mm/jjjj uu:mm omgezet naar jjjj-mm-dd uu:mm:ss."""
    turned = value.str.replace(r"^([0-9]{2})[-/]([0-9]{2})[-/]([0-9]{4}) ", "${3}-${2}-${1} ")
    return turned.str.replace(r"^([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2})$", "${1}:00")


@_rule(lambda v, _: v.str.contains("T", literal=True))
def moment_lokaal(value: pl.Expr, _argument: Any) -> pl.Expr:
    """Tijdstip in ISO 8601 omgezet naar Nederlandse tijd."""
    import polars as pl

    # a moment without an offset is taken for local time, as ISO 8601 has it
    bare = value.str.replace(r"^([0-9-]{10})T([0-9:]{8})(\.[0-9]+)?$", "${1} ${2}")
    local = instant(value).dt.convert_time_zone("Europe/Amsterdam").dt.strftime("%Y-%m-%d %H:%M:%S")
    return pl.coalesce(local, bare)


def instant(value: pl.Expr) -> pl.Expr:
    """A moment in ISO 8601 with its offset, as UTC; null where it has none."""
    return value.str.replace("Z$", "+00:00").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_unit="us")
