"""Pandera schemas of deliveries, made from their contracts.

A delivery is judged as text, after the declared repairs and before any value is converted: so a refused row can be
kept as it was delivered, and no conversion error can carry a personal value into a message. Frames are eager:
pandera checks of a lazy frame its column names only.

Whether all of a column is good is seen at a glance, by the same expressions that the schema is made of. Pandera tells
which rows are not, of the columns that have any: loading it alone takes longer than judging half a million rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from quality.coded import each, is_coded, places_of, values_of
from quality.contracts.model import Column, Contract, Derived, Purpose, Rule
from quality.regions import form

if TYPE_CHECKING:
    import pandera.polars as pa

REQUIRED = "verplicht"
KEY = "sleutel"
EARLIER = "sleutel_eerder"
DOUBLED = "dubbel_uur"
PERIOD = "periode"
NO_RECORD = "zonder_record"
WINDOW = "venster"

TOLD: Mapping[str, str] = {
    REQUIRED: "Waarde ontbreekt terwijl zij verplicht is",
    "patroon": "Waarde heeft niet de afgesproken vorm",
    "lengte": "Waarde is korter of langer dan afgesproken",
    "bereik": "Waarde ligt buiten het afgesproken bereik",
    "codelijst": "Code staat niet in de codelijst",
    "code_geldig": "Code geldt niet in de periode van de levering",
    "datum": "Waarde is geen bestaande datum (jjjjmmdd)",
    "getal": "Waarde is geen getal van de afgesproken soort",
    "waarheid": "Waarde is geen J of N",
    "elfproef": "Nummer voldoet niet aan de elfproef",
    "zonder_voorloopnul": "Getal begint met een nul: het lijkt een nummer",
    "volgorde": "Einddatum ligt vóór de begindatum",
    "duur": "Duur is niet de tijd tussen begin en einde",
    "niet_toekomst": "Tijdstip ligt in de toekomst",
    WINDOW: "Datum ligt buiten het afgesproken venster",
    "json": "Record is geen geldig JSON-object",
    "dubbele_sleutel": "Record heeft een sleutel twee keer",
    "geneste_waarde": "Waar één waarde is afgesproken staat een object of lijst",
    PERIOD: "Rij hoort niet bij de periode van de levering",
    KEY: "Sleutel komt vaker voor; de eerste rij telt",
    DOUBLED: "Tijdstip ligt in het uur dat in oktober twee keer komt: lever het met tijdzone (UTC of +01:00) aan",
    EARLIER: "Sleutel staat al in een andere levering die is aangenomen; die telt",
    "aantal_velden": "Rij heeft niet het afgesproken aantal velden",
    "regellengte": "Rij heeft niet de afgesproken lengte",
    "boven_kop": "Rij staat boven de kop en is gevuld als een record",
    "foutwaarde": "Rij heeft een foutmelding (zoals #N/B) waar een waarde hoort",
    NO_RECORD: "Onderdeel van het bericht (zoals een cliënt) heeft geen records: er is niets van overgenomen",
    "afdrukregel": "Rij is geen gegeven maar een kop- of voetregel van een afdruk",
}
"""What each rule means, as told to the supplier."""

_PATTERN_OF_A_NUMBER = {"integer": r"^[+-]?[0-9]{1,18}$", "number": r"^[+-]?[0-9]{1,14}(\.[0-9]{1,9})?$"}
_NOT_NULL = "not_nullable"


@dataclass(frozen=True)
class Held:
    """What the values of a column are held to.

    Attributes:
        type: of every value; None where that is not known beforehand.
        required: whether a null breaks `verplicht`.
        rules: name → expression that holds for a good value; null is as good.
    """

    type: type[pl.DataType] | None
    required: bool
    rules: Mapping[str, pl.Expr]


@dataclass(frozen=True)
class Rules:
    """What the rows of a table are held to, column by column and in order."""

    name: str
    columns: Mapping[str, Held]

    @cached_property
    def together(self) -> set[str]:
        """Columns of which a rule needs more than one."""
        needed = [{name, *r.meta.root_names()} for name, held in self.columns.items() for r in held.rules.values()]
        return {name for names in needed if len(names) > 1 for name in names}

    @cached_property
    def schema(self) -> pa.DataFrameSchema:
        """The same for pandera."""
        import pandera.polars as pa

        def check(name: str, good: pl.Expr) -> pa.Check:
            return pa.Check(lambda data: data.lazyframe.select(good.fill_null(True)), name=name, error=name)

        def column(held: Held) -> pa.Column:
            checks = [check(name, good) for name, good in held.rules.items()]
            return pa.Column(held.type, nullable=not held.required, checks=checks)

        return pa.DataFrameSchema({name: column(held) for name, held in self.columns.items()}, name=self.name)


def eleven_test(number: pl.Expr) -> pl.Expr:
    """Whether nine digits are a BSN: 9a + 8b + … + 2h - i is a multiple of 11 (Regeling BSN); null stays null."""
    value = number.cast(pl.Int64, strict=False)
    total = -(value % 10)
    for place in range(1, 9):
        total = total + (place + 1) * ((value // 10**place) % 10)
    return (total % 11 == 0) & (value > 0) & (value < 10**9)


def _order(rule: Rule, _column: str) -> pl.Expr:
    return pl.col(rule.arguments["van"]) <= pl.col(rule.arguments["tot"])


def _lasting(rule: Rule, _column: str) -> pl.Expr:
    """Whether a number of hours is the time between two moments, a minute and a half more or less."""
    begin, end = (as_moment(pl.col(rule.arguments[part]), "timestamp") for part in ("van", "tot"))
    hours = pl.col(rule.arguments["uren"]).cast(pl.Float64, strict=False)
    return ((end - begin).dt.total_seconds() / 3600 - hours).abs() <= 0.025


def _past(_rule: Rule, column: str) -> pl.Expr:
    """Whether a moment is no later than now; a day of grace for clocks and time zones."""
    return as_moment(pl.col(column), "timestamp") <= datetime.now() + timedelta(days=1)


IMPLEMENTATIONS: Mapping[str, Callable[[Rule, str], pl.Expr]] = {
    "elfproef": lambda _rule, column: eleven_test(pl.col(column)),
    "volgorde": _order,
    "duur": _lasting,
    "niet_toekomst": _past,
    # of eight digits and a nought a BSN may well be
    "zonder_voorloopnul": lambda _rule, column: ~pl.col(column).str.contains(r"^[+-]?0[0-9]"),
    "leeg_bij": lambda rule, column: pl.col(column).is_null() | (pl.col(rule.arguments["bij"]) != rule.arguments["is"]),
}
"""The rules that a contract may name under `quality`, as expressions that hold for a good row."""


def rules_of(column: Column, period: str | None = None) -> dict[str, pl.Expr]:
    """Every rule on one column except `verplicht`: name → expression that holds for a good value (or null)."""
    value = pl.col(column.name)
    options = column.options
    found: dict[str, pl.Expr] = {}
    if column.type in _PATTERN_OF_A_NUMBER:
        found["getal"] = value.str.contains(_PATTERN_OF_A_NUMBER[column.type])
        limits = [(options.get("minimum"), pl.Expr.ge), (options.get("maximum"), pl.Expr.le)]
        number = value.cast(pl.Float64, strict=False)
        tests = [compare(number, float(limit)) for limit, compare in limits if limit is not None]
        if tests:
            found["bereik"] = pl.all_horizontal(tests)
    elif column.type == "date":
        found["datum"] = as_date(value).is_not_null() | value.is_null()
        limits = [(options.get("minimum"), pl.Expr.ge), (options.get("maximum"), pl.Expr.le)]
        tests = [compare(value, pl.lit(str(limit))) for limit, compare in limits if limit is not None]
        if tests:
            found["bereik"] = pl.all_horizontal(tests)
    elif column.type == "boolean":
        found["waarheid"] = value.is_in(["J", "N"])
    elif column.type in {"time", "timestamp"}:
        found["datum"] = as_moment(value, column.type).is_not_null() | value.is_null()
    if "pattern" in options:
        found["patroon"] = value.str.contains(options["pattern"])
    if column.type == "string":
        # without a length of its own no text is longer than this: a runaway quote or a pasted document is no value
        longest, shortest = options.get("maxLength", 10_000), options.get("minLength", 0)
        found["lengte"] = value.str.len_chars().is_between(shortest, longest)
    if column.codes:
        found["codelijst"] = value.is_in(list(column.codes))
    outside = [code for code, term in column.code_terms.items() if period and not term.holds(period)]
    if outside:
        found["code_geldig"] = ~value.is_in(outside)
    for rule in column.rules:
        found[rule.name] = IMPLEMENTATIONS[rule.implementation](rule, column.name)
    return found


def _within(column: Column, begin: date, end: date) -> pl.Expr:
    """Whether a date or moment lies within the window of its column; what is no date is not judged here."""
    assert column.window is not None
    since, until = column.window.days(begin, end, datetime.now(UTC).date())
    text = pl.col(column.name)
    day = as_date(text) if column.type == "date" else as_moment(text, column.type).dt.date()
    return pl.all_horizontal(
        pl.lit(value=True) if since is None else day >= since, pl.lit(value=True) if until is None else day <= until
    )


def as_date(value: pl.Expr) -> pl.Expr:
    """Text jjjjmmdd as a date; null where it is none."""
    return pl.when(value.str.len_bytes() == 8).then(value.str.to_date("%Y%m%d", strict=False))


def as_moment(value: pl.Expr, kind: str) -> pl.Expr:
    """Text as a moment (ISO 8601) or a time of day (HHMM or HH:MM); null where it is none."""
    if kind == "timestamp":
        return value.str.replace("T", " ", literal=True).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    return value.str.replace(":", "", literal=True).str.zfill(4).str.to_time("%H%M", strict=False)


def period_of(contract: Contract, period: str) -> pl.Expr | None:
    """Whether a row belongs to the period; None where the contract's columns do not repeat it."""
    columns = contract.period.columns
    if not columns:
        return None
    if "begin" in columns:
        return pl.col(columns["begin"]).str.replace_all("-", "", literal=True).str.starts_with(period.replace("-", ""))
    if "datum" in columns:
        return pl.col(columns["datum"]) == period.replace("-", "")
    parts = dict(zip(("jaar", "maand", "dag"), period.split("-"), strict=False))
    return pl.all_horizontal(pl.col(column) == parts[part] for part, column in columns.items())


def delivery_rules(contract: Contract, period: str | None = None) -> Rules:
    """The rules of a delivery's text, after repair.

    Args:
        contract: what was agreed.
        period: what the delivery covers, where the rows should say so too.
    """
    found = {column.name: rules_of(column, period) for column in contract.columns}
    for column in contract.columns:
        if column.window is not None and period:
            found[column.name][WINDOW] = _within(column, contract.period.begin(period), contract.period.end(period))
    # a rule over several columns hangs on the first of them, so that a finding names row and column alike
    for rule in contract.rules:
        first = str(next(iter(rule.arguments.values())))
        found[first][rule.name] = IMPLEMENTATIONS[rule.implementation](rule, first)
    within = period_of(contract, period) if period else None
    if within is not None:
        found[next(iter(contract.period.columns.values()))][PERIOD] = within
    return Rules(contract.name, {c.name: Held(pl.String, c.required, found[c.name]) for c in contract.columns})


def judge(frame: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """What is wrong with which row. Of a coded column every value is looked at once, and not every row.

    Args:
        frame: repaired text, eager, columns as the contract has them; some of it coded.
        rules: from `delivery_rules`.

    Returns:
        One row per broken rule: `index` (place in the frame, UInt32), `kolom`, `regel`; in the order of columns and
        rules, then rows. Values stay behind.
    """
    if frame.columns != list(rules.columns):
        wrong = sorted(set(frame.columns) ^ set(rules.columns))
        raise AssertionError(f"a reader gave other columns than contract {rules.name}: {wrong}")
    few = [column.name for column in frame if is_coded(column) and column.name not in rules.together]
    findings = [broken(frame.drop(few).cast(pl.String), rules)]
    values = [_values_and_null(frame[name]) for name in few]
    if values := [own for own in values if _at_fault(own.to_frame(), rules)]:
        # the shorter are filled up with a value of their own: a place behind the last is the place of no row
        longest = np.arange(max(map(len, values)))
        filled = pl.DataFrame([own.gather(np.minimum(longest, len(own) - 1)) for own in values])
        each_rule = broken(filled, rules).group_by("kolom", "regel", maintain_order=True)
        findings += [_rows_with(frame[str(name)], str(rule), group["index"]) for (name, rule), group in each_rule]
    order = {name: place for place, name in enumerate(frame.columns)}
    found = pl.concat(findings)
    assert not found["index"].has_nulls(), f"a rule of contract {rules.name} cannot be worked out"
    return found.sort(pl.col("kolom").replace_strict(order, return_dtype=pl.UInt32), maintain_order=True)


def _values_and_null(column: pl.Series) -> pl.Series:
    """The distinct values of a coded column; a null behind them where some row has none."""
    values = values_of(column)
    return values.extend_constant(None, 1) if column.null_count() else values


def _rows_with(column: pl.Series, rule: str, broken: pl.Series) -> pl.DataFrame:
    """A rule that some values of a coded column break, as findings on the rows that hold them."""
    places = places_of(column).cast(pl.UInt32).fill_null(len(values_of(column)))
    found = pl.DataFrame({"index": places.is_in(broken.implode()).arg_true()}, schema_overrides={"index": pl.UInt32})
    return found.with_columns(kolom=pl.lit(column.name), regel=pl.lit(rule))


def broken(frame: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """What is wrong in the columns that are there: `index` (null for a whole column), `kolom`, `regel`."""
    names = _at_fault(frame, rules)
    if not names:
        return pl.DataFrame(schema={"index": pl.UInt32, "kolom": pl.String, "regel": pl.String})
    import pandera.polars as pa
    from pandera.config import ValidationDepth, config_context

    part = pa.DataFrameSchema({name: rules.schema.columns[name] for name in names}, name=rules.name)
    try:
        # whatever the environment says: a delivery is always judged, data and all
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            part.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases: pl.DataFrame = error.failure_cases
        return cases.select(
            pl.col("index").cast(pl.UInt32),
            pl.col("column").alias("kolom"),
            pl.col("check").replace(_NOT_NULL, REQUIRED).alias("regel"),
        )
    raise AssertionError(f"pandera finds nothing in columns of {rules.name} that are not good: {', '.join(names)}")


def _at_fault(frame: pl.DataFrame, rules: Rules) -> list[str]:
    """The columns that hold anything but good values, in order."""
    good = []
    for name in frame.columns:
        held = rules.columns[name]
        tests = [rule.fill_null(True).all() for rule in held.rules.values()]
        tests += [pl.col(name).is_not_null().all()] if held.required else []
        tests += [pl.lit(held.type is None or frame.schema[name] == held.type)]
        good.append(pl.all_horizontal(tests).alias(name))
    is_good = frame.select(good).row(0)
    return [name for name, whole in zip(frame.columns, is_good, strict=True) if not whole]


def typed(frame: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """Accepted text in the types of its columns; a value that broke a rule of severity warning may become null."""
    types: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "string": lambda value: value,
        "integer": lambda value: value.cast(pl.Int64, strict=False),
        "number": lambda value: value.cast(pl.Decimal(18, 4), strict=False),
        "date": as_date,
        "time": lambda value: as_moment(value, "time"),
        "timestamp": lambda value: as_moment(value, "timestamp"),
        "boolean": lambda value: value == "J",
    }

    def converted(column: Column) -> pl.Series:
        convert = types[column.type](pl.col(column.name))
        return each(frame[column.name], lambda values: values.to_frame().select(convert).to_series())

    return pl.DataFrame([converted(column).alias(column.name) for column in columns])


_RAW_PATTERNS = {
    "buurt": form("BU"),
    "gemeente": form("GM"),
    "sbi_afdeling": r"^\d{2}$",
    "postcode4": r"^[1-9]\d{3}$",
    "vierkant_500m": r"^E\d{4}N\d{4}$",
}
_RAW_NULLABLE = {
    "buurt", "sbi_afdeling", "sbi_sectie", "eerste_peildatum", "ja_nee", "jaar", "dag", "uur", "postcode4",
    "vierkant_500m", "groep", "klasse", "leeftijdsklasse", "hele_euros", "gemeente_of_postcode",
}  # fmt: skip


def raw_rules(contract: Contract, purpose: Purpose) -> Rules:
    """The rules of a purpose's table in the warehouse, pseudonyms left out."""
    types: Mapping[str, type[pl.DataType]] = {
        "VARCHAR": pl.String,
        "INTEGER": pl.Int32,
        "BIGINT": pl.Int64,
        "DATE": pl.Date,
        "BOOLEAN": pl.Boolean,
    }

    def held(derived: Derived) -> Held:
        value = pl.col(derived.name)
        rules = {}
        if derived.derivation in _RAW_PATTERNS:
            rules[derived.derivation] = value.str.contains(_RAW_PATTERNS[derived.derivation])
        if derived.derivation in {"eerste_peildatum", "maand"}:
            rules["eerste_van_de_maand"] = value.dt.day() == 1
        nullable = derived.derivation in _RAW_NULLABLE or derived.derivation == "kopie"
        nullable |= any(not contract[source].required for source in derived.sources)
        return Held(types.get(derived.sql_type), not nullable, rules)

    columns = {item.name: held(item) for item in purpose.columns if item.derivation != "pseudoniem"}
    columns["levering"] = Held(pl.String, True, {})
    columns["herkomst"] = Held(pl.String, True, {"herkomst": pl.col("herkomst").is_in(["gemeten", "synthetisch"])})
    return Rules(f"raw_{purpose.name}.{contract.name}", columns)
