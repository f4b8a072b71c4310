"""The simple protection: a threshold and rounding on the smallest parts, and totals and rates made from those alone.

Everything shown is a function of parts that were each masked by themselves, so no sum, difference, rate or
repetition tells more about a part than its own masked value does (docs/adr/004-simple-protection.md, with the
limits). Belongs here: the disclosure spec of a table, and protecting tables inside a DuckDB connection. Does not
belong here: reading marts, norms or the ledger, and Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datafabriek.errors import FactoryError
from datafabriek.mistakes import explain
from datafabriek.warehouse import literal, quoted
from quality.norms import AudienceNorms, Level

UNKNOWN_BUURT = "ONB"
"""Level of the rows that count what has no known buurt: a part of its municipality beside the wijken."""

HEIGHT: dict[str, int] = {"BU": 0, "WK": 1, "GM": 2}


class ProtectionError(FactoryError):
    """A table or spec that cannot be protected: the message names the table and what is wrong."""


class Rate(BaseModel):
    """How a rate follows from two other columns: per × numerator / denominator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numerator: str
    denominator: str
    per: Annotated[int, Field(gt=0)] = 1000


class DisclosureSpec(BaseModel):
    """What a mart says about its own figures, in `config.meta.disclosure` of its dbt model.

    Attributes:
        policy: `frequentie`: counts of persons or establishments; `openbaar`: CBS's public figures only.
        count: the column with the frequency to protect.
        rates: columns that follow from others.
        geo: the column with the region's code.
        levels: the levels shown, lowest first; the lowest one holds the parts that totals are made from.
        by: columns that make separate tables (period, indicator, …).
        total_of: per further classification its total's code.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Literal["frequentie", "openbaar"]
    count: str | None = None
    rates: dict[str, Rate] = {}
    geo: str = "regio_code"
    levels: tuple[Level, ...] = ()
    by: tuple[str, ...] = ()
    total_of: dict[str, str] = {}

    @model_validator(mode="after")
    def _counts_need_more(self) -> DisclosureSpec:
        if self.policy == "frequentie":
            lacking = [name for name in ("count", "levels", "by") if not getattr(self, name)]
            lacking += [name for name in ("periode", "indicator") if name not in self.by]
            if lacking:
                raise ValueError(f"policy frequentie needs {', '.join(lacking)}")
        return self

    @property
    def lowest(self) -> Level:
        """The lowest level shown."""
        return min(self.levels, key=HEIGHT.__getitem__)


def parse_spec(table: str, meta: Mapping[str, Any] | None) -> DisclosureSpec:
    """The disclosure spec of a mart.

    Raises:
        ProtectionError: there is none, or it is wrong: such a table is never released.
    """
    if not meta:
        raise ProtectionError(
            f"{table} says nothing about disclosure, so it is not released: "
            "state `config: meta: disclosure:` beside its dbt model"
        )
    try:
        return DisclosureSpec(**meta)
    except ValidationError as error:
        told = explain(f"the disclosure spec of {table}", error, DisclosureSpec)
        raise ProtectionError(f"{told}; such a table is never released") from None


def codebook(connection: duckdb.DuckDBPyConnection, name: str, steps: Sequence[AudienceNorms], largest: int) -> None:
    """Make a table that says what each count is shown as, after every audience's norms in turn.

    A later audience is shown a function of what an earlier one is shown, so a reader of both learns nothing
    from the later. Shown as a value is only what surely reaches the minimum.

    Columns: `n` the count; `waarde` what is shown, NULL when hidden; `laag`, `hoog` the smallest and largest
    count that is shown the same (for hidden counts: above zero).

    Args:
        connection: where the table is made.
        name: of the table.
        steps: norms in turn, the best informed audience's first.
        largest: the largest count to hold.
    """
    reach = largest + 2 * max(step.afronding for step in steps) + max(step.minimum for step in steps)
    sql = f"SELECT range AS n, range AS waarde FROM range({reach})"
    for step in steps:
        base = step.afronding
        sql = f"""
            SELECT n, CASE
                WHEN waarde = 0 THEN 0
                WHEN waarde IS NULL OR min(n) OVER (PARTITION BY waarde) < {step.minimum} THEN NULL
                ELSE (2 * waarde + {base}) // (2 * {base}) * {base}
            END AS waarde FROM ({sql})"""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {quoted(name)} AS
        SELECT n, waarde, min(n) OVER same AS laag, max(n) OVER same AS hoog FROM ({sql})
        WINDOW same AS (PARTITION BY waarde)""")


def _region(spec: DisclosureSpec) -> tuple[str, str, str]:
    """SQL for the code of a row's own region, its wijk (NULL above it) and its municipality."""
    code, level = quoted(spec.geo), "regio_niveau"
    wijk = f"CASE {level} WHEN 'BU' THEN 'WK' || substr({code}, 3, 6) WHEN 'WK' THEN {code} END"
    gemeente = f"CASE {level} WHEN '{UNKNOWN_BUURT}' THEN 'GM' || substr({code}, 4, 4) "
    return code, wijk, f"{gemeente} ELSE 'GM' || substr({code}, 3, 4) END"


def mask(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    spec: DisclosureSpec,
    steps: Sequence[AudienceNorms],
    lowest: Level,
    periods: Sequence[str],
) -> None:
    """Mask the smallest parts of some periods of a table, each by itself, into `<table>_delen`.

    Columns of `<table>_delen`: `rij` (row of `table`), the columns of `by` and `total_of`, `code`, `wijk`,
    `gemeente`, `is_bekend`, `waarde` (what is shown, NULL hidden), `laag` and `hoog` (what the attacker knows
    of it), `vervanging` (what a hidden part counts for in a total), `basis`, `minimum`, `laagste`.

    Args:
        connection: holds `table` as a physical table.
        table: name of the unprotected table.
        spec: its disclosure spec.
        steps: norms in turn, the best informed audience's first.
        lowest: the level whose rows are the parts.
        periods: values of `periode` that these norms are in force for.
    """
    parts, book = quoted(f"{table}_delen"), f"{table}_codeboek"
    count = quoted(spec.count or "")
    row = connection.execute(f"SELECT coalesce(max({count}), 0) FROM {quoted(table)}").fetchone()
    codebook(connection, book, steps, int(row[0]) if row else 0)
    code, wijk, gemeente = _region(spec)
    keys = [*spec.by, *(name for name in spec.total_of if name not in spec.by)]
    levels = [literal(lowest)] + ([literal(UNKNOWN_BUURT)] if lowest != "GM" else [])
    finest = "".join(f" AND {quoted(name)} <> {literal(total)}" for name, total in spec.total_of.items())
    hidden = f"(SELECT (1 + max(n)) / 2 FROM {quoted(book)} WHERE waarde IS NULL)"
    select = f"""
        SELECT m.rowid AS rij, {", ".join(f"m.{quoted(key)}" for key in keys)}, m.{code} AS code,
            {wijk} AS wijk, {gemeente} AS gemeente, m.{count} IS NOT NULL AS is_bekend,
            b.waarde::BIGINT AS waarde, b.laag::BIGINT AS laag, b.hoog::BIGINT AS hoog,
            {hidden}::DOUBLE AS vervanging, {steps[-1].afronding}::BIGINT AS basis,
            {steps[-1].minimum}::BIGINT AS minimum, {literal(lowest)} AS laagste, false AS is_dicht
        FROM {quoted(table)} AS m LEFT JOIN {quoted(book)} AS b ON b.n = m.{count}
        WHERE m.regio_niveau IN ({", ".join(levels)}){finest}
            AND list_contains(?, m.periode)"""
    exists = connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [f"{table}_delen"]).fetchone()
    into = f"INSERT INTO {parts} BY NAME" if exists else f"CREATE TEMP TABLE {parts} AS"
    connection.execute(f"{into} {select}", [list(periods)])


def close_blocks(connection: duckdb.DuckDBPyConnection, total: str, breakdown: str) -> int:
    """Hide a breakdown where it and the table that it breaks down tell more together than apart.

    Both count the same: in every block (a period, an indicator, a region of the coarser of both lowest levels)
    the parts of one add up to the parts of the other. One relation, each part in it once, so the attacker's
    exact interval is closed-form: what the other side leaves after all others took their least or their most.
    Where any part would become narrower than its own masked value says, all of the breakdown's block is hidden.

    Args:
        connection: holds `<table>_delen` of both.
        total: the table without the breakdown.
        breakdown: the table with it.

    Returns:
        The number of blocks hidden.
    """
    parts, others = quoted(f"{breakdown}_delen"), quoted(f"{total}_delen")
    region = """CASE WHEN least_height = 2 THEN gemeente WHEN least_height = 1 THEN coalesce(wijk, code)
        ELSE code END"""
    height = "CASE laagste WHEN 'BU' THEN 0 WHEN 'WK' THEN 1 ELSE 2 END"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE blokken AS
        WITH zijden AS (
            SELECT 1 AS kant, periode, {same_count("indicator")} AS telling, indicator, code, wijk, gemeente,
                is_bekend, laag, hoog, {height} AS hoogte, rij FROM {parts}
            UNION ALL BY NAME
            SELECT 2 AS kant, periode, {same_count("indicator")} AS telling, '' AS indicator, code, wijk, gemeente,
                is_bekend, laag, hoog, {height} AS hoogte, rij FROM {others}
            QUALIFY row_number() OVER (PARTITION BY periode, {same_count("indicator")}, code ORDER BY indicator) = 1
        ), plaats AS (
            SELECT *, max(hoogte) OVER (PARTITION BY periode, telling) AS least_height FROM zijden
        ), delen AS (SELECT *, {region} AS blok FROM plaats), som AS (
            SELECT periode, telling, blok, indicator, kant, sum(laag) AS laag, sum(hoog) AS hoog,
                bool_and(is_bekend) AS is_bekend
            FROM delen GROUP BY ALL
        ), paar AS (
            SELECT a.periode, a.telling, a.blok, a.indicator, a.laag AS laag_1, a.hoog AS hoog_1,
                b.laag AS laag_2, b.hoog AS hoog_2
            FROM som AS a JOIN som AS b USING (periode, telling, blok)
            WHERE a.kant = 1 AND b.kant = 2 AND a.is_bekend AND b.is_bekend
        )
        SELECT p.periode, p.indicator, p.blok, list(d.rij) FILTER (d.kant = 1) AS rijen
        FROM paar AS p JOIN delen AS d
            ON d.periode = p.periode AND d.telling = p.telling AND d.blok = p.blok
            AND (d.kant = 2 OR d.indicator = p.indicator)
        GROUP BY ALL
        HAVING bool_or(CASE d.kant
            WHEN 1 THEN laag_2 - (hoog_1 - d.hoog) > d.laag OR hoog_2 - (laag_1 - d.laag) < d.hoog
            ELSE laag_1 - (hoog_2 - d.hoog) > d.laag OR hoog_1 - (laag_2 - d.laag) < d.hoog END)""")
    connection.execute(f"""
        UPDATE {parts} SET waarde = NULL, is_dicht = true
        WHERE rij IN (SELECT unnest(rijen) FROM blokken)""")
    row = connection.execute("SELECT count(*) FROM blokken").fetchone()
    return int(row[0]) if row else 0


def same_count(column: str) -> str:
    """SQL for what an indicator counts: a rate per so many counts the same as its numerator."""
    return f"regexp_replace({column}, '_per_[0-9]+_.*$', '')"


def assemble(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    target: str,
    spec: DisclosureSpec,
    largest_estimated_pct: float,
    totals_from: str | None = None,
) -> None:
    """Make the protected table from the masked parts: every total a sum of shown parts, every rate from those.

    A hidden part counts for the middle of what hidden may mean, whatever it really is. A total of which more
    than `largest_estimated_pct` stands for hidden parts is hidden itself. All rows keep their keys; `status`
    has one mark, `geheim`, for all that is hidden, and `geheime_delen` tells how many hidden parts a total has.

    Args:
        connection: holds `table` and `<table>_delen`.
        table: the unprotected table.
        target: name of the protected table to make.
        spec: the disclosure spec of the table.
        largest_estimated_pct: see above.
        totals_from: the protected table that this one breaks down: its figures are shown as the totals here.
    """
    count, parts = quoted(spec.count or ""), quoted(f"{table}_delen")
    keys = [*spec.by, *(name for name in spec.total_of if name not in spec.by)]
    spread = [
        f"unnest([{quoted(key)}, {literal(spec.total_of[key])}]) AS {quoted(key)}"
        if key in spec.total_of
        else quoted(key)
        for key in keys
    ]
    code, _, gemeente = _region(spec)
    on = " AND ".join(f"m.{quoted(key)} IS NOT DISTINCT FROM t.{quoted(key)}" for key in keys)
    columns = [row[0] for row in connection.execute(f"DESCRIBE {quoted(table)}").fetchall()]
    gemeente_column = "" if "gemeente_code" in columns else f"{gemeente} AS gemeente_code,"
    rate_of = rates_per_indicator(connection, table, spec)
    shown = [_column(name, spec, rate_of) for name in columns]
    taken = "SELECT NULL AS periode, NULL AS regio, NULL AS telling, NULL AS teller WHERE false"
    if totals_from:
        taken = f"""SELECT periode, {quoted(spec.geo)} AS regio, {same_count("indicator")} AS telling,
            any_value({count}) AS teller FROM {quoted(totals_from)} GROUP BY ALL"""
    is_total = " AND ".join(f"m.{quoted(name)} = {literal(code)}" for name, code in spec.total_of.items())
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {quoted(target)} AS
        WITH ouders AS (
            SELECT {", ".join(spread)}, waarde, is_bekend, is_dicht, vervanging, basis, minimum, regio
            FROM (SELECT *, unnest(list_distinct([code, wijk, gemeente])) AS regio FROM {parts})
            WHERE regio IS NOT NULL
        ), sommen AS (
            SELECT {", ".join(quoted(key) for key in keys)}, regio, count(*) AS delen,
                bool_and(is_bekend) AS is_bekend, bool_or(is_dicht) AS is_dicht,
                count(*) FILTER (is_bekend AND waarde IS NULL) AS geheim,
                coalesce(sum(waarde), 0) AS zichtbaar, any_value(vervanging) AS vervanging,
                any_value(basis) AS basis, any_value(minimum) AS minimum
            FROM ouders GROUP BY ALL
        ), totalen AS (
            SELECT *, zichtbaar + geheim * vervanging AS totaal,
                floor((zichtbaar + geheim * vervanging) / basis + 0.5)::BIGINT * basis AS afgerond
            FROM sommen
        ), overgenomen AS ({taken}), beeld AS (
            SELECT m.rowid AS rij, coalesce(t.is_bekend, true) AS is_bekend,
                CASE WHEN o.regio IS NOT NULL THEN o.teller
                    WHEN d.rij IS NOT NULL THEN d.waarde
                    WHEN t.is_bekend AND NOT t.is_dicht
                        AND 100 * t.geheim * t.vervanging <= {largest_estimated_pct} * t.totaal
                        AND (t.totaal = 0 OR t.afgerond >= t.minimum) THEN t.afgerond
                END AS getoond,
                CASE WHEN d.rij IS NULL AND o.regio IS NULL THEN coalesce(t.geheim, 0) ELSE 0 END AS geheime_delen
            FROM {quoted(table)} AS m
            LEFT JOIN {parts} AS d ON d.rij = m.rowid
            LEFT JOIN totalen AS t ON {on} AND t.regio = m.{code}
            LEFT JOIN overgenomen AS o ON {is_total or "false"} AND o.periode = m.periode AND o.regio = m.{code}
                AND o.telling = {same_count("m.indicator")}
        ), nieuw AS (
            SELECT m.*, b.getoond AS _getoond, b.geheime_delen::INTEGER AS _delen,
                CASE WHEN m.{count} IS NULL OR NOT b.is_bekend
                        THEN CASE WHEN m.status = 'nvt' THEN 'nvt' ELSE 'onbekend' END
                    WHEN b.getoond IS NULL THEN 'geheim'
                    WHEN m.status IN ('nvt', 'onbekend') THEN m.status
                    WHEN b.getoond = 0 THEN 'verstrekt' ELSE 'afgerond' END AS _status
            FROM {quoted(table)} AS m JOIN beeld AS b ON b.rij = m.rowid
        )
        SELECT {", ".join(shown)},{gemeente_column}
            CASE WHEN _status IN ('geheim', 'onbekend') THEN 0 ELSE _delen END AS geheime_delen
        FROM nieuw""")


def _column(name: str, spec: DisclosureSpec, rate_of: Mapping[str, Sequence[str]]) -> str:
    """SQL for one column of the protected table."""
    column = quoted(name)
    teller = "CASE WHEN _status <> 'geheim' THEN _getoond END"
    if name == spec.count:
        return f"({teller}) AS {column}"
    if name == "status":
        return "_status AS status"
    if name in spec.rates:
        rate = spec.rates[name]
        indicators = ", ".join(map(literal, rate_of[name])) or "NULL"
        value = f"""CASE WHEN indicator IN ({indicators})
            THEN {rate.per} * _getoond::DOUBLE / nullif({quoted(rate.denominator)}, 0) ELSE _getoond END"""
        return f"""(CASE WHEN _status IN ('verstrekt', 'afgerond') THEN {value} END)::DECIMAL(18, 2) AS {column}"""
    return column


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
                f"{table}.{name} of {', '.join(odd)} follows neither from {rate.numerator} alone nor from "
                f"{rate.per} × {rate.numerator} / {rate.denominator}: correct the model or its disclosure spec"
            )
        found[name] = [indicator for indicator, is_count, _ in rows if not is_count]
    return found
