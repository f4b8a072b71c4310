"""What a mart says about its own figures, and putting what may be shown in the place of what was counted.

Belongs here: the disclosure spec beside a dbt model, and the protected table that follows from the counts that may be
shown: every rate and status is made from those. Does not belong here: deciding which those are (quality.disclosure,
assets.release.views), reading marts, norms or the ledger, and Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datafabriek.errors import FactoryError
from datafabriek.warehouse import literal, quoted
from quality.norms import Level

UNKNOWN_BUURT = "ONB"
"""Level of the rows that count what has no known buurt: a part of its municipality beside the wijken."""

HEIGHT: dict[str, int] = {"BU": 0, "WK": 1, "P6": 0, "PC": 1, "GM": 2}

POSTCODES: tuple[Level, ...] = ("P6", "PC")
"""Levels that cut a municipality up by postcode, whole or the four digits: a table has these or buurten and wijken."""

TOP: Level = "GM"


class ProtectionError(FactoryError):
    """A table or spec that cannot be protected: the message names the table and what is wrong."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rate(_Part):
    """How a rate follows from two other columns: per × numerator / denominator.

    Attributes:
        cbs: per indicator of the mart which figure of CBS its denominator is (`indicator_sleutel` in
            `raw_cbs.kerncijfers_wijken_en_buurten`), of the same region and the year of the borders. Any other
            denominator could tell what it was divided by.
    """

    numerator: str
    denominator: str
    per: Annotated[int, Field(gt=0)] = 1000
    cbs: dict[str, str] = {}


class CbsFigure(_Part):
    """A figure that CBS publishes about the same people or establishments, in Kerncijfers wijken en buurten.

    Attributes:
        telling: which count of the mart it is about.
        indicator: name of CBS's figure in `raw_cbs.kerncijfers_wijken_en_buurten` (`indicator_sleutel`).
        soort: `gelijk`: it counts the same; `hoogstens`: those who are counted are part of it.
        afronding: the base that CBS rounded it to.
        tolerantie: by how much it may differ besides, because definitions or days differ.
        maand: at the end of which month of its year it was counted, as the mart counts at the end of a month; 0 is the
            first of January, which is the end of December of the year before; None: any period of the year.
        verandering: by how much it differs at most from that of the year before or after, as anyone may reckon: the
            figures of those years then tell of the count too. None: nothing is known of that, and they tell nothing.
    """

    telling: str
    indicator: str
    soort: Literal["gelijk", "hoogstens"]
    afronding: Annotated[int, Field(ge=1)]
    tolerantie: Annotated[int, Field(ge=0)] = 0
    maand: Annotated[int, Field(ge=0, le=12)] | None = None
    verandering: Annotated[int, Field(ge=0)] | None = None

    def year_of(self, period: str) -> int | None:
        """Of which year's figure the moment is that a period is about; None where it is that of no year."""
        year, month = int(period[:4]), period[5:7]
        if self.maand is None:
            return year
        if not month or (int(month) - self.maand) % 12:
            return None
        return year + (int(month) - self.maand) // 12


class Amount(_Part):
    """A sum, in whole units above zero, over those who are counted.

    Attributes:
        naam: which amount; tables that sum the same under one name are protected together.
        kolom: the column with the sum.
        grootste: columns with the largest and the second largest contribution (of a holding, where contributors belong
            to one); they never leave the gate.
        per_persoon: the least and the most that one contributor can have, as anyone may know.
    """

    naam: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    kolom: str
    grootste: tuple[str, str]
    per_persoon: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0, allow_inf_nan=False)]]

    @model_validator(mode="after")
    def _least_before_most(self) -> Amount:
        if self.per_persoon[0] > self.per_persoon[1]:
            raise ValueError("per_persoon: het laagste bedrag hoort voor het hoogste")
        return self


class DisclosureSpec(_Part):
    """What a mart says about its own figures, in `config.meta.disclosure` of its dbt model.

    Attributes:
        policy: `frequentie`: counts of persons or establishments; `bedrag`: what those have together, and how many they
            are; `openbaar`: CBS's public figures only.
        telling: per thing that is counted the indicators that show it; tables that count the same under one name are
            protected together.
        count: the column with the count to protect.
        bedrag: with the policy of that name, the amount to protect beside its count.
        rates: columns that follow from others: from the count, or an amount per counted.
        geo: the column with the region's code.
        levels: the levels shown, lowest first; the highest is the municipality, which all others add up to.
        by: columns that make separate tables: period and indicator.
        total_of: per further classification its total's code.
        cbs: what CBS publishes about the same.
        uit: per column that says what is counted (`count` and those of `total_of`) the delivery that it comes from.
            Whoever supplied the count and a classification knows those counts by that classification.
    """

    policy: Literal["frequentie", "bedrag", "openbaar"]
    telling: dict[str, tuple[str, ...]] = {}
    count: str | None = None
    bedrag: Amount | None = None
    rates: dict[str, Rate] = {}
    geo: str = "regio_code"
    levels: tuple[Level, ...] = ()
    by: tuple[str, ...] = ()
    total_of: dict[str, str] = {}
    cbs: tuple[CbsFigure, ...] = ()
    uit: dict[str, str] = {}

    @model_validator(mode="after")
    def _counts_need_more(self) -> DisclosureSpec:
        if (self.policy == "bedrag") != (self.bedrag is not None):
            raise ValueError("bedrag hoort bij policy bedrag, en bij geen andere")
        if self.policy == "openbaar":
            return self
        lacking = [name for name in ("telling", "count", "levels", "by") if not getattr(self, name)]
        lacking += [name for name in ("periode", "indicator") if name not in self.by]
        if lacking:
            raise ValueError(f"bij policy {self.policy} ontbreekt {', '.join(lacking)}")
        if odd := [name for name in self.telling if "." in name]:
            raise ValueError(f"telling: in {', '.join(odd)} staat een punt, en die hoort voor de naam van een bedrag")
        if TOP not in self.levels:
            raise ValueError(f"levels: {TOP} ontbreekt, het totaal waartoe alle delen optellen")
        if 0 < len(set(self.levels) & set(POSTCODES)) < len(self.levels) - 1:
            mixed = ", ".join(self.levels)
            raise ValueError(f"levels: {mixed} haalt postcodes en wijken of buurten door elkaar: maak twee tabellen")
        if others := sorted(set(self.by) - {"periode", "indicator", *self.total_of}):
            raise ValueError(f"by: {', '.join(others)} splitst een aantal: noem de code van het totaal onder total_of")
        shown = [indicator for indicators in self.telling.values() for indicator in indicators]
        if len(shown) > len(set(shown)):
            raise ValueError("telling: een indicator toont één aantal, en staat dus onder één naam")
        if unknown := sorted({figure.telling for figure in self.cbs} - set(self.telling)):
            raise ValueError(f"cbs: {', '.join(unknown)} staat niet onder telling")
        told = {str(self.count), *self.total_of}
        if self.uit and set(self.uit) != told:
            raise ValueError(f"uit: noem de levering van elk van {', '.join(sorted(told))}, en van niets anders")
        return self

    @property
    def figures(self) -> set[str]:
        """What it counts and, of those, the amounts, by the names of the systems that they are in."""
        amounts = [] if self.bedrag is None else [f"{name}.{self.bedrag.naam}" for name in self.telling]
        return {*self.telling, *amounts}

    @property
    def contributions(self) -> dict[str, str]:
        """Of an amount the columns that say who contributes, under the names that the disclosure engine gives them."""
        if self.bedrag is None:
            return {}
        return {"frequency": str(self.count), "top1": self.bedrag.grootste[0], "top2": self.bedrag.grootste[1]}

    @property
    def lowest(self) -> Level:
        """The lowest level shown."""
        return min(self.levels, key=HEIGHT.__getitem__)

    def shown_levels(self, lowest: Level) -> list[Level]:
        """The levels from `lowest` up, lowest first."""
        return sorted((x for x in self.levels if HEIGHT[x] >= HEIGHT[lowest]), key=HEIGHT.__getitem__)


def parse_spec(meta: Mapping[str, Any] | None) -> DisclosureSpec:
    """The disclosure spec of a mart.

    Raises:
        ProtectionError: there is none, or it is wrong: such a table is never released. In Dutch, without the name of
            the table: it is told on the page of a release.
    """
    if not meta:
        raise ProtectionError("het dbt-model heeft geen disclosure-spec: zet er `config: meta: disclosure:` bij")
    if (named := meta.get("policy")) and named not in ("frequentie", "bedrag", "openbaar"):
        raise ProtectionError(
            f"policy {named} in de disclosure-spec: een levering bestaat uit aantallen (frequentie), bedragen met hun "
            "aantallen (bedrag) en openbare cijfers van het CBS (openbaar)"
        )
    try:
        return DisclosureSpec(**meta)
    except ValidationError as error:
        wrong = dict.fromkeys(_in_dutch(mistake) for mistake in error.errors(include_url=False))
        raise ProtectionError(f"de disclosure-spec bij het dbt-model klopt niet: {'; '.join(wrong)}") from None


def _in_dutch(mistake: Any) -> str:
    """One of pydantic's errors, as the page of a release tells it."""
    key = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "value_error":
        return str(mistake["msg"]).removeprefix("Value error, ")
    if mistake["type"] == "missing":
        return f"`{key}` ontbreekt"
    if mistake["type"] == "extra_forbidden":
        return f"`{key}` is daar geen sleutel"
    listed = str(mistake.get("ctx", {}).get("expected", "")).replace(" or ", " of ")
    return f"bij `{key}` staat iets dat er niet kan staan{f' (verwacht: {listed})' if listed else ''}"


def municipality(spec: DisclosureSpec, row: str = "") -> str:
    """SQL for the code of the municipality that a row's region lies in; `row` names the row's table."""
    at = f"{row}." if row else ""
    code = f"{at}{quoted(spec.geo)}"
    unknown = f"WHEN {at}regio_niveau = '{UNKNOWN_BUURT}' THEN 'GM' || substr({code}, 4, 4)"
    return f"CASE {unknown} ELSE 'GM' || substr({code}, 3, 4) END"


def counted(spec: DisclosureSpec) -> str:
    """SQL values `(telling, indicator)`, of everything that the spec says an indicator counts."""
    pairs = [
        f"({literal(name)}, {literal(indicator)})"
        for name, indicators in sorted(spec.telling.items())
        for indicator in indicators
    ]
    return f"(VALUES {', '.join(pairs)}) AS geteld(telling, indicator)"


def show(connection: duckdb.DuckDBPyConnection, table: str, shown: str, target: str, spec: DisclosureSpec) -> None:
    """Make the protected table: every count and amount as it may be shown, every rate from what is shown.

    All rows keep their keys; `status` has one mark, `geheim`, for all that is hidden. Of amounts it is about these, and
    they are hidden wherever their count is; largest contributions are left out.

    Args:
        connection: holds `table` and `shown`.
        table: the unprotected table.
        shown: a table with, per cell that may be shown, `telling`, `periode`, `code`, a column for each of
            `spec.total_of`, `getoond` (the count or amount to show) and `is_afgerond`.
        target: name of the protected table to make.
        spec: the disclosure spec of the table.
    """
    count = quoted(spec.count or "")
    columns = [row[0] for row in connection.execute(f"DESCRIBE {quoted(table)}").fetchall()]
    rate_of = rates_per_indicator(connection, table, spec)
    same = "".join(f" AND {{0}}.{quoted(name)} = m.{quoted(name)}" for name in spec.total_of)
    joined = f"{{0}}.periode = m.periode AND {{0}}.code = m.{quoted(spec.geo)}{same}"
    hidden, exact, amount, amounts = "b.getoond IS NULL", "false", "", ""
    if spec.bedrag is not None:
        rates = ", ".join(literal(indicator) for own in rate_of.values() for indicator in own) or "NULL"
        hidden, exact = "b.getoond IS NULL OR a.getoond IS NULL", f"m.indicator NOT IN ({rates})"
        amount = ", a.getoond::BIGINT AS _bedrag"
        amounts = f"""LEFT JOIN {quoted(shown)} AS a
            ON a.telling = geteld.telling || {literal("." + spec.bedrag.naam)} AND {joined.format("a")}"""
        columns = [name for name in columns if name not in spec.bedrag.grootste]
    added = "" if "gemeente_code" in columns else f", {municipality(spec)} AS gemeente_code"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {quoted(target)} AS
        WITH nieuw AS (
            SELECT m.*, b.getoond::BIGINT AS _getoond{amount},
                CASE WHEN m.{count} IS NULL THEN CASE WHEN m.status = 'nvt' THEN 'nvt' ELSE 'onbekend' END
                    WHEN {hidden} THEN 'geheim'
                    WHEN m.status IN ('nvt', 'onbekend') THEN m.status
                    WHEN {exact} THEN 'verstrekt'
                    WHEN b.is_afgerond THEN 'afgerond' ELSE 'verstrekt' END AS _status
            FROM {quoted(table)} AS m
            JOIN {counted(spec)} ON geteld.indicator = m.indicator
            LEFT JOIN {quoted(shown)} AS b ON b.telling = geteld.telling AND {joined.format("b")}
            {amounts}
        )
        SELECT {", ".join(_column(name, spec, rate_of) for name in columns)}{added} FROM nieuw""")


def _column(name: str, spec: DisclosureSpec, rate_of: Mapping[str, Sequence[str]]) -> str:
    """SQL for one column of the protected table."""
    column = quoted(name)
    if spec.bedrag is not None and name == spec.count:
        return f"_getoond AS {column}"
    if name in (spec.count, spec.bedrag and spec.bedrag.kolom):
        return f"(CASE WHEN _status <> 'geheim' THEN {_shown(name, spec)} END) AS {column}"
    if name == "status":
        return "_status AS status"
    if name in spec.rates:
        rate = spec.rates[name]
        indicators = ", ".join(map(literal, rate_of[name])) or "NULL"
        value = f"""CASE WHEN indicator IN ({indicators})
            THEN {rate.per} * {_shown(rate.numerator, spec)}::DOUBLE / nullif({_shown(rate.denominator, spec)}, 0)
            ELSE {_shown(rate.numerator, spec)} END"""
        return f"""(CASE WHEN _status IN ('verstrekt', 'afgerond') THEN {value} END)::DECIMAL(18, 2) AS {column}"""
    return column


def _shown(name: str, spec: DisclosureSpec) -> str:
    """SQL for a column that a rate is made from, as it may be shown."""
    protected = {spec.count: "_getoond"} | ({} if spec.bedrag is None else {spec.bedrag.kolom: "_bedrag"})
    return protected.get(name, quoted(name))


def rates_per_indicator(
    connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec
) -> dict[str, list[str]]:
    """Which indicators of a table are rates, per column of `rates`; the others show the count itself.

    Raises:
        ProtectionError: a column of an indicator is neither, so it may say something that no norm looked at.
    """
    found: dict[str, list[str]] = {}
    for name, rate in spec.rates.items():
        column, top, bottom = quoted(name), quoted(rate.numerator), quoted(rate.denominator)
        rows = connection.execute(f"""
            SELECT indicator,
                bool_and(coalesce({column} = {top}, false)) AS is_telling,
                bool_and(coalesce(abs({column} - {rate.per} * {top}::DOUBLE / nullif({bottom}, 0)) < 0.051, false))
            FROM {quoted(table)} WHERE {column} IS NOT NULL GROUP BY indicator ORDER BY indicator""").fetchall()
        odd = [indicator for indicator, is_count, is_rate in rows if not (is_count or is_rate)]
        if odd:
            raise ProtectionError(
                f"{name} van {', '.join(odd)} volgt niet uit {rate.numerator} alleen, en niet uit {rate.per} × "
                f"{rate.numerator} / {rate.denominator}: verbeter het model of zijn disclosure-spec"
            )
        found[name] = [indicator for indicator, is_count, _ in rows if not is_count]
    return found
