"""Admission: what must hold of a mart as a whole before any figure of it is protected.

Belongs here: copying marts into the gate's connection, and every norm that is about a table and not about a cell: its
columns, words, denominators, sources and quality. Does not belong here: protecting figures (assets.release.gate).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import duckdb

from assets.release.marts import SCHEMA, Mart, registers
from datafabriek.config import Settings
from datafabriek.warehouse import literal, quoted, warehouse
from quality.expectations import FINDINGS, ORIGINS, STATUSES
from quality.norms import Level, Norms, NormsError, amount_policy
from quality.protection import (
    HEIGHT,
    UNKNOWN_BUURT,
    Amount,
    DisclosureSpec,
    Rate,
    counted,
    municipality,
    parse_spec,
    rates_per_indicator,
)
from quality.regions import form

CBS = "_cbs"
"""CBS's public figures in the gate's connection: jaar, regio_code, indicator, waarde."""

REGIONS = "_regios"
"""CBS's names of regions in the gate's connection: jaar, regio_code, regio_naam."""

KEY_COLUMNS = ("regio_code", "regio_naam", "regio_niveau", "indeling_jaar", "periode", "periode_start", "indicator")
FACT_COLUMNS = ("eenheid", "status", "vaststelling", "herkomst", "gemeente_code")


class UnmetError(Exception):
    """A norm that a table does not meet."""

    def __init__(self, norm: str, reason: str) -> None:
        super().__init__(reason)
        self.norm, self.reason = norm, reason


@dataclass(frozen=True)
class Checked:
    """A mart that may be protected.

    Attributes:
        lowest: the lowest level that is shown of it.
        waived: quality norms that it does not meet and that were accepted.
        suppliers: per supplier which of the columns that say what is counted come from it.
    """

    mart: Mart
    spec: DisclosureSpec
    lowest: Level
    waived: tuple[str, ...]
    suppliers: Mapping[str, frozenset[str]]


def load(settings: Settings, connection: duckdb.DuckDBPyConnection, marts: Sequence[Mart]) -> set[str]:
    """Copy the marts, in plain types, and CBS's public figures; return the names that exist."""
    present: set[str] = set()
    with warehouse(settings.paths, settings.resources, read_only=True) as source:
        for mart in marts:
            described = source.execute(
                "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? "
                "ORDER BY column_index",
                [SCHEMA, mart.name],
            ).fetchall()
            if not described:
                continue
            present.add(mart.name)
            columns = ", ".join(f"{quoted(name)}::{_plain_type(kind)} AS {quoted(name)}" for name, kind in described)
            rows = source.execute(f"SELECT {columns} FROM {quoted(SCHEMA)}.{quoted(mart.name)}").to_arrow_table()
            connection.register("_geladen", rows)
            connection.execute(f"CREATE TABLE {quoted(mart.name)} AS SELECT * FROM _geladen")
            connection.unregister("_geladen")
        known = source.execute(
            "SELECT 1 FROM duckdb_columns() WHERE schema_name = 'raw_cbs' "
            "AND table_name = 'kerncijfers_wijken_en_buurten' AND column_name = 'indicator_sleutel'"
        ).fetchone()
        query = "SELECT 0 AS jaar, '' AS regio_code, '' AS indicator, 0.0::DOUBLE AS waarde WHERE false"
        if known:
            query = """SELECT DISTINCT jaar::INTEGER AS jaar, regio_code::VARCHAR AS regio_code,
                indicator_sleutel::VARCHAR AS indicator, waarde::DOUBLE AS waarde
                FROM raw_cbs.kerncijfers_wijken_en_buurten WHERE indicator_sleutel IS NOT NULL AND waarde IS NOT NULL"""
        connection.register("_geladen", source.execute(query).to_arrow_table())
        connection.execute(f"CREATE TABLE {CBS} AS SELECT * FROM _geladen")
        connection.unregister("_geladen")
        named = "SELECT 0 AS jaar, '' AS regio_code, '' AS regio_naam WHERE false"
        if source.execute(
            "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'raw_cbs' AND table_name = 'regios'"
        ).fetchone():
            named = "SELECT DISTINCT indeling_jaar::INTEGER AS jaar, regio_code, regio_naam FROM raw_cbs.regios"
        connection.register("_geladen", source.execute(named).to_arrow_table())
        connection.execute(f"CREATE TABLE {REGIONS} AS SELECT * FROM _geladen")
        connection.unregister("_geladen")
    return present


def _plain_type(kind: str) -> str:
    """The plain type that every reader of a published file knows."""
    if kind in ("HUGEINT", "UBIGINT", "UHUGEINT", "UINTEGER"):
        return "BIGINT"
    if kind in ("SMALLINT", "TINYINT", "USMALLINT", "UTINYINT"):
        return "INTEGER"
    if kind == "FLOAT":
        return "DOUBLE"
    plain = ("VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "DATE", "BOOLEAN")
    return kind if kind in plain or kind.startswith("DECIMAL(") else "VARCHAR"


def spec_of(
    mart: Mart, present: Collection[str], failed: Mapping[str, str], closed: Mapping[str, str]
) -> DisclosureSpec:
    """The spec of a mart that is there and approved; one that calls itself public must prove it by its lineage.

    Raises:
        UnmetError: it is not there, not made well, not approved, or not as public as it says.
        ProtectionError: a spec that is missing or wrong.
    """
    if mart.name in failed:
        raise UnmetError("model", failed[mart.name])
    if mart.name not in present:
        raise UnmetError("model", "de tabel is niet gemaakt")
    spec = parse_spec(mart.disclosure)
    if mart.name in closed:
        raise UnmetError("goedkeuring", closed[mart.name])
    if spec.policy == "openbaar" and not mart.is_public:
        raise UnmetError("openbare_bron", "de tabel noemt zich openbaar, maar rust ook op andere dan openbare bronnen")
    return spec


def admit(
    connection: duckdb.DuckDBPyConnection,
    mart: Mart,
    spec: DisclosureSpec,
    norms: Norms,
    waivers: Collection[str],
    whose: Mapping[str, str],
) -> Checked:
    """A mart that meets every norm that is about the table as a whole.

    Raises:
        UnmetError: the first norm that it does not meet.
        ProtectionError: a column that follows from nothing that is protected.
    """
    if spec.bedrag is not None:
        _amount_norms(norms)
    described(connection, mart)
    _privacy_norms(connection, mart.name, spec)
    waived = _quality_norms(connection, mart.name, spec, norms, waivers)
    lowest = max(norms.laagste_niveau.get(mart.name, spec.lowest), spec.lowest, key=HEIGHT.__getitem__)
    return Checked(mart, spec, lowest, waived, supplied_columns(mart, spec, norms, whose))


def _amount_norms(norms: Norms) -> None:
    """Norms on amounts are set, and every number that they point to can be read."""
    if norms.bedragen is None:
        raise UnmetError("bedragen", "normen.yaml zegt niet wanneer een bedrag getoond mag worden: vul bedragen in")
    try:
        amount_policy(norms.bedragen, min(own.minimum for own in norms.doelgroepen.values()))
    except NormsError:  # which number it is stays untold
        reason = "een getal waar bedragen in normen.yaml naar wijst ({env: …} of {file: …}) is er niet, of is er geen"
        raise UnmetError("bedragen", reason) from None


def supplied_columns(
    mart: Mart, spec: DisclosureSpec, norms: Norms, whose: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Per supplier that counts which columns come from it: count and classifications, as `uit` in the spec says.

    Raises:
        UnmetError: it does not follow from the spec.
    """
    named, rests_on = norms.aanvaller.leveranciers, registers(mart)
    if named == "geen" or not rests_on:
        return {}
    columns = {str(spec.count), *spec.total_of}
    if spec.bedrag is not None and spec.total_of and len(rests_on) > 1:
        reason = "bedragen met een indeling uit een ander register: wat wie levert er zelf van kent, telt nog niet mee"
        raise UnmetError("leveranciers", reason)
    if odd := sorted(set(spec.uit.values()) - rests_on):
        reason = f"uit noemt {', '.join(odd)}, en daar rust de tabel niet op"
        raise UnmetError("leveranciers", f"{reason}: noem een van {', '.join(sorted(rests_on))}")
    if not spec.uit and len(rests_on) > 1 and spec.total_of:
        wanted = ", ".join(f"{column}: …" for column in sorted(columns))
        raise UnmetError(
            "leveranciers",
            f"de tabel rust op {', '.join(sorted(rests_on))}; zeg in de disclosure-spec waaruit elk deel komt, want "
            f"wie een register levert kent zijn eigen cijfers: uit: {{{wanted}}}",
        )
    # without a word on it all who supplied a part are taken to know the count
    pairs = list(spec.uit.items()) or [(column, register) for column in columns for register in rests_on]
    found: dict[str, frozenset[str]] = {}
    for column, register in pairs:
        who = whose[register]
        if named == "allen" or who in named:
            found[who] = found.get(who, frozenset()) | {column}
    return found


def described(connection: duckdb.DuckDBPyConnection, mart: Mart) -> None:
    """Refuse a mart of which anything bears no description.

    Raises:
        UnmetError: it names those columns.
    """
    columns = [row[0] for row in connection.execute(f"DESCRIBE {quoted(mart.name)}").fetchall()]
    bare = [name for name in columns if not mart.columns.get(name)] + ([] if mart.description else ["de tabel zelf"])
    if bare:
        raise UnmetError("alleen_beschreven_kolommen", f"zonder beschrijving: {', '.join(bare)}")


def _privacy_norms(connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec) -> None:
    """What must hold of the figures before any is shown; none of it can be waived."""
    name, count = quoted(table), quoted(spec.count or "")
    columns = {row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()}
    dimensions = {*spec.by, *spec.total_of}
    labels = {f"{column.removesuffix('_code')}_naam" for column in dimensions if column.endswith("_code")}
    ratios = {rate.denominator for rate in spec.rates.values()} | {rate.numerator for rate in spec.rates.values()}
    measured = {spec.count or "", *spec.contributions.values(), *([spec.bedrag.kolom] if spec.bedrag else [])}
    known = {*KEY_COLUMNS, *FACT_COLUMNS, spec.geo, *measured, *dimensions, *labels, *ratios, *spec.rates}
    if foreign := sorted(columns - known):
        raise UnmetError("alleen_beschreven_kolommen", f"niet in de disclosure-spec: {', '.join(foreign)}")
    if lacking := sorted(known - columns - labels - {"gemeente_code"}):
        raise UnmetError("alleen_beschreven_kolommen", f"ontbrekende kolommen: {', '.join(lacking)}")
    protected = spec.bedrag.kolom if spec.bedrag else spec.count
    if any(rate.numerator != protected for rate in spec.rates.values()):
        raise UnmetError("alleen_beschreven_kolommen", "een verhouding rust op een andere teller dan de beschermde")
    if spec.bedrag and any(rate.denominator != spec.count for rate in spec.rates.values()):
        reason = "een gemiddelde deelt door iets anders dan het aantal waar het bedrag van is"
        raise UnmetError("alleen_beschreven_kolommen", reason)
    levels = ", ".join(map(literal, (*spec.levels, UNKNOWN_BUURT)))
    code = quoted(spec.geo)
    keys = ", ".join(quoted(key) for key in sorted({spec.geo, "indeling_jaar", *dimensions}))
    forms = " ".join(f"WHEN {literal(level)} THEN {literal(form(level))}" for level in (*spec.levels, UNKNOWN_BUURT))
    shape = f"regexp_matches({code}, CASE regio_niveau {forms} END)"
    rules = {
        "regio's op een niveau dat de spec niet noemt": f"regio_niveau NOT IN ({levels})",
        "regiocodes die niet bij hun niveau passen": f"NOT coalesce({shape}, false)",
        "lege sleutels": f"{code} IS NULL OR indeling_jaar IS NULL OR periode IS NULL OR indicator IS NULL "
        "OR status IS NULL",
        # the same count under a period of another name would stand in no one block with it
        "perioden anders dan JJJJ of JJJJ-MM": r"NOT regexp_full_match(periode, '\d{4}(-(0[1-9]|1[0-2]))?')",
        "aantallen die negatief of gebroken zijn": f"{count} < 0 OR {count} <> floor({count})",
    }
    for reason, rule in rules.items():
        if number(connection, f"SELECT count(*) FROM {name} WHERE {rule}"):
            raise UnmetError("minimum", reason)
    if number(connection, f"SELECT count(*) - count(DISTINCT ({keys})) FROM {name}"):
        raise UnmetError("minimum", "dezelfde cel staat er meer dan eens in")
    # the same figure in two borders, or of two frequencies, tells more than each alone
    per_period = f"SELECT periode, indicator FROM {name} GROUP BY ALL HAVING count(DISTINCT indeling_jaar) > 1"
    if number(connection, f"SELECT count(*) FROM ({per_period})"):
        raise UnmetError("minimum", "een periode staat er in meer dan één indeling in")
    per_year = f"""SELECT left(m.periode, 4), geteld.telling FROM {name} AS m JOIN {counted(spec)}
        ON geteld.indicator = m.indicator GROUP BY ALL HAVING count(DISTINCT length(m.periode)) > 1"""
    if number(connection, f"SELECT count(*) FROM ({per_year})"):
        raise UnmetError("minimum", "hetzelfde jaar staat er in verschillende periodelengten in")
    rates_per_indicator(connection, table, spec)
    _words(connection, table, spec, columns)
    if spec.bedrag is not None:
        _contributions(connection, name, spec, spec.bedrag)
        return
    for rate in spec.rates.values():
        _denominators(connection, table, spec, rate)


def _contributions(connection: duckdb.DuckDBPyConnection, name: str, spec: DisclosureSpec, amount: Amount) -> None:
    """Amounts, their counts and the largest contributions fit each other, so that none of these can be understated.

    The largest of n is at least the mean, and with the second largest for all others it reaches the sum.
    """
    n, total, (first, second) = quoted(spec.count or ""), quoted(amount.kolom), map(quoted, amount.grootste)
    low, high = amount.per_persoon
    rules = {
        "bedragen die negatief of gebroken zijn: neem hele euro's": f"{total} < 0 OR {total} <> floor({total})",
        "bedragen zonder aantal, of aantallen zonder bedrag of grootste bijdragen": (
            f"({total} IS NULL) <> ({n} IS NULL) OR {n} IS NOT NULL AND ({first} IS NULL OR {second} IS NULL)"
        ),
        "aantallen met samen niets, of bedragen van niemand: tel alleen wie een bedrag boven nul heeft": (
            f"({total} = 0) <> ({n} = 0)"
        ),
        "grootste bijdragen die niet bij bedrag en aantal passen": f"""{second} > {first} OR {second} < 0
            OR {first} + {second} > {total} OR {n} = 1 AND {first} <> {total}
            OR {n} = 2 AND {first} + {second} <> {total}
            OR {first} + ({n} - 1) * {second} < {total} AND {n} > 0 OR {n} > 1 AND {second} = 0""",
        "bedragen buiten per_persoon in de disclosure-spec": (
            f"{total} < {low} * {n} OR {total} > {high} * {n} OR {first} > {high}"
        ),
    }
    for reason, rule in rules.items():
        if number(connection, f"SELECT count(*) FROM {name} WHERE {rule}"):
            raise UnmetError("bedragen", reason)
    whole = " AND ".join(["regio_niveau = 'GM'", *(f"{quoted(c)} = {literal(t)}" for c, t in spec.total_of.items())])
    larger = f"""SELECT count(*) FROM (
        SELECT max({first}) > max({first}) FILTER ({whole}) AS is_groter FROM {name}
        GROUP BY periode, indicator, {municipality(spec)}) WHERE coalesce(is_groter, true)"""
    if number(connection, larger):
        raise UnmetError("bedragen", "een deel heeft een grotere bijdrage dan de gemeente waar het in ligt")


def _words(connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec, columns: Collection[str]) -> None:
    """No text or date says more than the keys do: one per code, period or indicator, or from a list."""
    code = quoted(spec.geo)
    listed = {"vaststelling": FINDINGS, "herkomst": ORIGINS, "status": STATUSES}
    per = {"regio_naam": f"{code}, indeling_jaar", "eenheid": "indicator", "periode_start": "periode"}
    per |= {
        f"{name.removesuffix('_code')}_naam": quoted(name)
        for name in (*spec.by, *spec.total_of)
        if name.endswith("_code")
    }
    rules = {
        f"in {name} staat iets anders dan {', '.join(words)}": (
            f"SELECT count(*) FROM {quoted(table)} WHERE {quoted(name)} NOT IN ({', '.join(map(literal, words))})"
        )
        for name, words in listed.items()
        if name in columns
    }
    rules |= {
        f"{name} verschilt binnen {key.replace(chr(34), '')}": (
            f"SELECT count(*) FROM (SELECT 1 FROM {quoted(table)} GROUP BY {key} "
            f"HAVING count(DISTINCT {quoted(name)}) > 1 OR count({quoted(name)}) NOT IN (0, count(*)))"
        )
        for name, key in per.items()
        if name in columns
    }
    if spec.bedrag is None:
        rules["bedragen zijn geen aantallen: wat één persoon ervan heeft kan groot zijn (policy: bedrag)"] = (
            f"SELECT count(*) FROM {quoted(table)} "
            "WHERE regexp_matches(eenheid, '\\b(euro|eur|bedrag(en)?)\\b|€', 'i') "
            f"OR regexp_matches({literal(spec.count or '')}, '_eur$|bedrag', 'i')"
        )
    rules["periode_start is niet de eerste dag van de periode"] = (
        f"SELECT count(*) FROM {quoted(table)} WHERE periode_start::DATE <> "
        "try_strptime(periode || CASE length(periode) WHEN 4 THEN '-01' ELSE '' END || '-01', '%Y-%m-%d')::DATE"
    )
    rules["regio_naam is niet de naam die het CBS de regio geeft"] = (
        # a region that CBS does not know is the unknown buurt, whose name holds no number, or a postcode
        f"SELECT count(*) FROM (SELECT DISTINCT {code} AS code, regio_naam, indeling_jaar FROM {quoted(table)}) AS m "
        f"LEFT JOIN (SELECT jaar, regio_code, list(regio_naam) AS namen FROM {REGIONS} GROUP BY ALL) AS r "
        "ON r.regio_code = m.code AND r.jaar = m.indeling_jaar "
        "WHERE NOT coalesce(list_contains(r.namen, m.regio_naam), m.regio_naam = 'Postcode ' || substr(m.code, 7) "
        "OR NOT regexp_matches(m.regio_naam, '[0-9]'), true)"
    )
    if "gemeente_code" in columns:
        rules["gemeente_code is niet die van de regio"] = (
            f"SELECT count(*) FROM {quoted(table)} WHERE gemeente_code IS DISTINCT FROM {municipality(spec)}"
        )
    for reason, query in rules.items():
        if number(connection, query):
            raise UnmetError("alleen_beschreven_kolommen", reason)


def _denominators(connection: duckdb.DuckDBPyConnection, table: str, spec: DisclosureSpec, rate: Rate) -> None:
    """Every denominator is the figure of CBS that the spec names, and stands wherever CBS gives that figure."""
    below, count = quoted(rate.denominator), quoted(spec.count or "")
    pairs = ", ".join(f"({literal(own)}, {literal(figure)})" for own, figure in sorted(rate.cbs.items()))
    named = f"(VALUES {pairs or '(NULL, NULL)'}) AS genoemd(indicator, cijfer)"
    rows = f"""SELECT m.indicator, m.periode, genoemd.cijfer, m.{below} AS noemer, m.{count} AS teller,
            list(round(c.waarde)) FILTER (c.waarde IS NOT NULL) AS openbaar
        FROM (SELECT row_number() OVER () AS rij, * FROM {quoted(table)}) AS m
        LEFT JOIN {named} ON genoemd.indicator = m.indicator
        LEFT JOIN {CBS} AS c ON c.indicator = genoemd.cijfer AND c.regio_code = m.{quoted(spec.geo)}
            AND c.jaar = m.indeling_jaar AND left(m.periode, 4) = m.indeling_jaar::VARCHAR
        GROUP BY m.rij, m.indicator, m.periode, genoemd.cijfer, m.{below}, m.{count}"""
    told = connection.execute(f"""SELECT indicator, cijfer,
            count(*) FILTER (noemer IS NOT NULL AND NOT coalesce(list_contains(openbaar, noemer), false)),
            count(*) FILTER (noemer IS NULL AND teller IS NOT NULL AND openbaar IS NOT NULL), count(noemer)
        FROM ({rows}) GROUP BY indicator, cijfer, periode ORDER BY ALL""").fetchall()
    for indicator, figure, other, lacking, given in told:
        where = f"rates.*.cbs in de disclosure-spec: {{{indicator}: …}}"
        if other and figure is None:
            reason = f"{other} cellen van {indicator} hebben een noemer, en de spec zegt niet welk CBS-cijfer dat is"
            raise UnmetError("openbare_noemers", f"{reason}; noem het onder {where}")
        if other:
            reason = f"{other} cellen van {indicator} hebben een andere noemer dan {figure} van het CBS"
            raise UnmetError("openbare_noemers", f"{reason} voor die regio en dat jaar; verbeter model of {where}")
        if lacking and given:
            # without their number: it could be that of the small counts
            reason = f"cellen van {indicator} missen de noemer {figure} die het CBS wel geeft"
            raise UnmetError("openbare_noemers", f"{reason}; neem hem in het model overal over")


def _quality_norms(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    spec: DisclosureSpec,
    norms: Norms,
    waivers: Collection[str],
) -> tuple[str, ...]:
    """The waivable norms; returns those that are not met and were accepted."""
    name, count, code = quoted(table), quoted(spec.count or ""), quoted(spec.geo)
    keys = ", ".join(quoted(key) for key in dict.fromkeys((*spec.by, *spec.total_of)))
    levels = sorted(spec.levels, key=HEIGHT.__getitem__)
    unmet: list[str] = []
    if norms.kwaliteit.marges_tellen_op:
        wrong = 0
        for level, above in pairwise(levels):
            digits = {"WK": 6, "PC": 8}.get(above, 4)
            aside = f" OR regio_niveau = '{UNKNOWN_BUURT}'" if above == "GM" else ""
            parent = f"""'{above}' || CASE regio_niveau WHEN '{UNKNOWN_BUURT}' THEN substr({code}, 4, 4)
                ELSE substr({code}, 3, {digits}) END"""
            wrong += number(
                connection,
                f"""WITH delen AS (SELECT {keys}, {parent} AS ouder, sum({count}) AS som,
                        bool_and({count} IS NOT NULL) AS is_bekend
                    FROM {name} WHERE regio_niveau = '{level}'{aside} GROUP BY ALL)
                SELECT count(*) FROM (SELECT * FROM {name} WHERE regio_niveau = '{above}') AS m
                LEFT JOIN delen AS d ON {" AND ".join(f"m.{k.strip()} = d.{k.strip()}" for k in keys.split(","))}
                    AND d.ouder = m.{code}
                WHERE m.{count} IS NOT NULL AND (d.ouder IS NULL OR d.is_bekend AND d.som <> m.{count})""",
            )
        if wrong:
            unmet.append("marges_tellen_op")
    unplaced = f"""SELECT count(*) FROM (
        SELECT sum({count}) FILTER (regio_niveau = '{UNKNOWN_BUURT}') AS onbekend,
            sum({count}) FILTER (regio_niveau = 'GM') AS totaal
        FROM {name} GROUP BY periode, indicator,
            CASE regio_niveau WHEN '{UNKNOWN_BUURT}' THEN substr({code}, 4, 4) ELSE substr({code}, 3, 4) END)
        WHERE 100 * onbekend > {norms.kwaliteit.onbekende_buurt_pct} * totaal"""
    if number(connection, unplaced):
        unmet.append("onbekende_buurt_pct")
    if norms.kwaliteit.regios_compleet:
        shown = ", ".join(map(literal, spec.levels))
        holes = f"""SELECT count(*) FROM (
            SELECT DISTINCT periode, indicator, indeling_jaar, left(regio_niveau, 2) AS niveau,
                substr({code}, 3, 4) AS gemeente FROM {name} WHERE regio_niveau IN ({shown})) AS m
            JOIN (SELECT DISTINCT jaar, regio_code FROM {CBS}) AS c
                ON c.jaar = m.indeling_jaar AND left(c.regio_code, 2) = m.niveau
                AND substr(c.regio_code, 3, 4) = m.gemeente
            WHERE NOT EXISTS (SELECT 1 FROM {name} AS h WHERE h.periode = m.periode
                AND h.indicator = m.indicator AND h.{code} = c.regio_code)"""
        if number(connection, holes):
            unmet.append("regios_compleet")
    for norm in unmet:
        if norm not in waivers:
            raise UnmetError(norm, _REASONS[norm])
    return tuple(unmet)


_REASONS = {
    "marges_tellen_op": "een gemeente of wijk is niet de som van haar delen",
    "onbekende_buurt_pct": "van te veel gevallen is de buurt onbekend",
    "regios_compleet": "niet elke regio die het CBS dat jaar kent heeft een rij",
}


def number(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """The only number that a query gives; 0 where it gives none."""
    row = connection.execute(query).fetchone()
    return int(row[0] or 0) if row else 0
