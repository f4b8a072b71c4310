"""Facts that must hold for the raw_cbs tables, and the Dagster checks that assert them.

A fact is one SQL statement that yields one row: `fouten`, the number of violations, and further counts that Dagster
plots over time. Facts about the shape of values stand in quality/schemas/cbs.py and are asserted with pandera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import duckdb

from datafabriek.config import Settings
from datafabriek.warehouse import literal, warehouse
from quality.schemas.cbs import SCHEMAS
from quality.schemas.frames import eager, violations

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

SCHEMA = "raw_cbs"

ROUNDING = 5
"""CBS rounds the inhabitants of wijken and buurten at random to a multiple of 5: each is off by less than this."""
UNKNOWN_BUURT = 0.02
"""Inhabitants without a known buurt count in their gemeente alone: at most this part (0.7% in 2020 at the most)."""


@dataclass(frozen=True)
class Fact:
    """What must hold for one table.

    Attributes:
        table: name in raw_cbs.
        name: the asserted fact, the check's name.
        description: for people, in Dutch.
        sql: yields one row with `fouten` (violations; NULL counts as 0) and other counts.
        blocking: whether later tables would be wrong without it: a load in which it does not hold is undone, and
            its check is an ERROR. The check stops no step: all models are one, and only some rest on this table.
    """

    table: str
    name: str
    description: str
    sql: str
    blocking: bool = False


def facts(gemeenten: Sequence[str], years: Sequence[int]) -> list[Fact]:
    """The facts of a factory for these municipalities and years of kerncijfers."""
    own = ", ".join(f"({literal(code)})" for code in gemeenten)
    wanted = ", ".join(f"({year})" for year in years)
    kern, schema = "kerncijfers_wijken_en_buurten", SCHEMA
    return [
        Fact(
            kern,
            "kerncijfers_heeft_alle_gemeenten",
            "Elke eigen gemeente heeft in het nieuwste jaar een inwonertal; ouder ontbreken mag na een herindeling.",
            f"""WITH own(code) AS (VALUES {own}),
            years AS (SELECT DISTINCT jaar FROM {schema}.{kern}),
            found AS (SELECT jaar, regio_code FROM {schema}.{kern}
                WHERE indicator_sleutel = 'aantal_inwoners' AND waarde IS NOT NULL),
            missing AS (SELECT jaar, code FROM years CROSS JOIN own
                WHERE NOT EXISTS (SELECT 1 FROM found WHERE found.jaar = years.jaar AND regio_code = code))
            SELECT count(*) FILTER (jaar = (SELECT max(jaar) FROM years)) AS fouten,
                count(*) AS ontbrekend_in_alle_jaren, (SELECT count(*) FROM own) AS gemeenten FROM missing""",
            blocking=True,
        ),
        Fact(
            kern,
            "kerncijfers_heeft_alle_jaren",
            "Alle jaren uit factory.yaml zijn er.",
            f"""WITH wanted(jaar) AS (VALUES {wanted})
            SELECT count(*) FILTER (jaar NOT IN (SELECT jaar FROM {schema}.{kern})) AS fouten,
                count(*) AS jaren FROM wanted""",
        ),
        Fact(
            kern,
            "buurten_tellen_op_tot_gemeente",
            "De inwoners van buurten tellen op tot die van hun gemeente, op afronding en onbekende buurt na.",
            f"""WITH inhabitants AS (SELECT * FROM {schema}.{kern} WHERE indicator_sleutel = 'aantal_inwoners'),
            sums AS (SELECT jaar, gemeente_code, sum(waarde) AS som, count(*) AS buurten
                FROM inhabitants WHERE regio_niveau = 'BU' GROUP BY ALL),
            pairs AS (SELECT abs(som - waarde) AS verschil, {ROUNDING} * buurten + {UNKNOWN_BUURT} * waarde AS marge
                FROM sums JOIN inhabitants AS gm ON gm.jaar = sums.jaar AND gm.regio_code = sums.gemeente_code)
            SELECT count(*) FILTER (verschil > marge) AS fouten, count(*) AS vergeleken,
                coalesce(max(verschil), 0) AS grootste_verschil FROM pairs""",
            blocking=True,
        ),
        Fact(
            "kerncijfers_dekking",
            "inwoners_zijn_in_elk_jaar_volledig",
            "Het inwonertal, de noemer van elk cijfer per inwoner, is in elk jaar op elk niveau gevuld.",
            f"""SELECT count(*) FILTER (NOT is_volledig) AS fouten, count(*) AS jaren,
                max(laatste_volledige_jaar) AS laatste_volledige_jaar
            FROM {schema}.kerncijfers_dekking WHERE indicator_sleutel = 'aantal_inwoners'""",
            blocking=True,
        ),
        Fact(
            "regios",
            "regios_zijn_een_boom",
            "Elke regio hangt via haar ouder aan Nederland; wezen blijven staan en worden geteld.",
            f"""WITH own(code) AS (VALUES {own}),
            strays AS (SELECT * FROM {schema}.regios AS child WHERE regio_niveau <> 'NL' AND NOT EXISTS (
                SELECT 1 FROM {schema}.regios AS parent
                WHERE parent.indeling_jaar = child.indeling_jaar AND parent.regio_code = child.ouder_code))
            SELECT count(*) FILTER (gemeente_code IN (SELECT code FROM own)) AS fouten, count(*) AS wezen,
                (SELECT count(*) FROM {schema}.regios) AS regios FROM strays""",
            blocking=True,
        ),
        Fact(
            "regios",
            "regios_heeft_alle_gemeenten",
            "Elke eigen gemeente komt in het nieuwste jaar voor, met wijken en buurten.",
            f"""WITH own(code) AS (VALUES {own}),
            newest AS (SELECT * FROM {schema}.regios
                WHERE indeling_jaar = (SELECT max(indeling_jaar) FROM {schema}.regios)),
            counted AS (SELECT code, count(DISTINCT regio_niveau) AS niveaus FROM own
                LEFT JOIN newest ON gemeente_code = code GROUP BY code)
            SELECT count(*) FILTER (niveaus < 3) AS fouten, count(*) AS gemeenten FROM counted""",
            blocking=True,
        ),
        Fact(
            "herindelingen",
            "herindelingen_hebben_twee_kanten",
            "Elke overdracht heeft een gever en een ontvanger; alleen een einde kan zonder opvolger zijn.",
            f"""SELECT count(*) FILTER (van_code IS NULL OR (naar_code IS NULL AND soort <> 'opgeheven')) AS fouten,
                count(*) AS overdrachten
            FROM {schema}.herindelingen""",
        ),
        Fact(
            "bevolking_per_regio",
            "bevolking_heeft_alle_gemeenten",
            "Elke eigen gemeente heeft in de nieuwste periode een bevolking.",
            f"""WITH own(code) AS (VALUES {own}),
            newest AS (SELECT * FROM {schema}.bevolking_per_regio WHERE waarde IS NOT NULL AND periode_start =
                (SELECT max(periode_start) FROM {schema}.bevolking_per_regio WHERE waarde IS NOT NULL))
            SELECT count(*) FILTER (code NOT IN (SELECT regio_code FROM newest)) AS fouten,
                count(*) AS gemeenten FROM own""",
            blocking=True,
        ),
        Fact(
            "bevolking_per_regio",
            "mannen_en_vrouwen_tellen_op",
            "Mannen en vrouwen tellen op tot het totaal (op het halve cijfer van een gemiddelde na).",
            f"""WITH sexes AS (SELECT regio_code, periode_code, leeftijd_code, measure_code,
                    sum(waarde) FILTER (lower(geslacht_label) IN ('mannen', 'vrouwen')) AS samen,
                    count(waarde) FILTER (lower(geslacht_label) IN ('mannen', 'vrouwen')) AS geslachten,
                    max(waarde) FILTER (starts_with(lower(geslacht_label), 'totaal')) AS totaal
                FROM {schema}.bevolking_per_regio GROUP BY ALL)
            SELECT count(*) FILTER (abs(samen - totaal) > 1) AS fouten, count(*) AS vergeleken
            FROM sexes WHERE geslachten = 2""",
            blocking=True,
        ),
        Fact(
            "zzp_inkomen",
            "zzp_heeft_alle_gemeenten",
            "Elke eigen gemeente heeft een aantal zelfstandigen zonder personeel.",
            f"""WITH own(code) AS (VALUES {own})
            SELECT count(*) FILTER (code NOT IN (SELECT regio_code FROM {schema}.zzp_inkomen
                WHERE indicator_sleutel = 'zzp_personen' AND waarde IS NOT NULL)) AS fouten,
                count(*) AS gemeenten FROM own""",
        ),
        Fact(
            "bijstand_wijken_buurten",
            "bijstand_heeft_alle_gemeenten",
            "Elke eigen gemeente heeft een aantal personen met bijstand.",
            f"""WITH own(code) AS (VALUES {own})
            SELECT count(*) FILTER (code NOT IN (SELECT regio_code FROM {schema}.bijstand_wijken_buurten
                WHERE indicator_sleutel = 'bijstand_personen' AND waarde IS NOT NULL)) AS fouten,
                count(*) AS gemeenten FROM own""",
        ),
        Fact(
            "bijstand_wijken_buurten",
            "bijstand_is_afgerond_op_tien",
            "Het CBS rondt personen met een uitkering af op tientallen; een ander cijfer is geen afgerond cijfer.",
            f"""SELECT count(*) FILTER (waarde % 10 <> 0) AS fouten, count(*) AS waarden
            FROM {schema}.bijstand_wijken_buurten WHERE indicator_sleutel = 'bijstand_personen'""",
        ),
        *(_reasons(table) for table, schema_ in SCHEMAS.items() if "value_attribute" in schema_.columns),
    ]


def _reasons(table: str) -> Fact:
    text = " AND string_value IS NULL" if "string_value" in SCHEMAS[table].columns else ""
    missing = f"waarde IS NULL{text}"
    return Fact(
        table,
        "waarden_missen_niet_zonder_reden",
        "Waar een waarde ontbreekt zegt het CBS waarom.",
        f"""SELECT count(*) FILTER ({missing} AND value_attribute = 'None') AS fouten,
            count(*) FILTER ({missing}) AS ontbrekend, count(*) AS waarden FROM {SCHEMA}.{table}""",
    )


def judge(connection: duckdb.DuckDBPyConnection, fact: Fact) -> dict[str, float]:
    """The counts of a fact, `fouten` among them; it holds where that is 0."""
    result = connection.execute(fact.sql)
    names = [column[0] for column in result.description]
    row = result.fetchone() or ()
    return {name: float(value or 0) for name, value in zip(names, row, strict=True)}


def has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the warehouse holds a raw_cbs table of that name."""
    query = "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"
    row = connection.execute(query, [SCHEMA, name]).fetchone()
    return bool(row and row[0])


def refuted(
    connection: duckdb.DuckDBPyConnection, settings: Settings, table: str, schema: DataFrameSchema
) -> list[str]:
    """What makes a table unfit to model: rules of its schema that are broken, and its blocking facts that do not hold.

    Args:
        connection: where the table stands; not yet committed, so that a last good version can stay.
        settings: names the municipalities and years.
        table: its name in raw_cbs.
        schema: what its columns must be.
    """
    found = [f"{rule} ({count})" for rule, count in violations(schema, eager(connection, f"{SCHEMA}.{table}")).items()]
    if found:
        return found  # facts may not even be askable of it
    known = facts(settings.region.gemeenten, settings.cbs.kwb_years)
    blocking = [fact for fact in known if fact.table == table and fact.blocking]
    return [fact.name for fact in blocking if judge(connection, fact)["fouten"]]


def build(settings: Settings, tables: Sequence[str]) -> list[dg.AssetChecksDefinition]:
    """The checks on the named raw_cbs tables: one on the schema of each, and their facts."""
    known = facts(settings.region.gemeenten, settings.cbs.kwb_years)
    checks = [schema_check(settings, table, lambda table=table: SCHEMAS[table]) for table in tables]  # type: ignore[misc]
    return checks + [_fact_check(settings, fact) for fact in known if fact.table in tables]


def schema_check(settings: Settings, table: str, schema_of: Callable[[], DataFrameSchema]) -> dg.AssetChecksDefinition:
    """The check that a table keeps to its schema: types, keys, codes, ranges. A load that does not is undone."""

    @dg.asset_check(
        asset=[SCHEMA, table],
        name=f"{table}_sluit_aan_op_schema",
        description="Elke kolom heeft het juiste type, elke code de juiste vorm, en de sleutel is uniek.",
    )
    def check() -> dg.AssetCheckResult:
        with warehouse(settings.paths, settings.resources, read_only=True) as connection:
            if not has_table(connection, table):
                return _absent()
            frame = eager(connection, f"{SCHEMA}.{table}")
        broken = violations(schema_of(), frame)
        return dg.AssetCheckResult(
            passed=not broken,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"rijen": frame.height, "fouten": sum(broken.values()), "regels": {**broken}},
        )

    return check


def _fact_check(settings: Settings, fact: Fact) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=[SCHEMA, fact.table], name=fact.name, description=fact.description)
    def check() -> dg.AssetCheckResult:
        with warehouse(settings.paths, settings.resources, read_only=True) as connection:
            if not has_table(connection, fact.table):
                return _absent()
            counts = judge(connection, fact)
        severity = dg.AssetCheckSeverity.ERROR if fact.blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(passed=counts["fouten"] == 0, severity=severity, metadata={**counts})

    return check


def _absent() -> dg.AssetCheckResult:
    """Nothing to judge: the check of the load itself tells why."""
    told = "De tabel is er niet."
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.ERROR, description=told)
