"""Kerncijfers wijken en buurten: one StatLine table a year, made into one table over the years.

Belongs here: which table holds which year, which measures the models name, how the years are joined, and how full
each measure is per year.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import duckdb

from assets.cbs.measures import Known, match_years, name_known, require, slug
from assets.cbs.model import CatalogueEntry, Landed, Measure, TableMeta
from assets.cbs.raw import LayoutError, replace_table, stage
from datafabriek.warehouse import literal
from quality.schemas.cbs import DEKKING, KERNCIJFERS

TABLES = {
    2013: "82339NED",
    2014: "82931NED",
    2015: "83220NED",
    2016: "83487NED",
    2017: "83765NED",
    2018: "84286NED",
    2019: "84583NED",
    2020: "84799NED",
    2021: "85039NED",
    2022: "85318NED",
    2023: "85618NED",
    2024: "85984NED",
    2025: "86165NED",
}
"""Year → StatLine table (source: the StatLine catalogue). A year that is not here is looked up by its title."""

TITLE = "Kerncijfers wijken en buurten"

_AGES = (("0_tot_15", "jaar"), ("15_tot_25", "jaar"), ("25_tot_45", "jaar"), ("45_tot_65", "jaar"))

KNOWN = (
    Known("aantal_inwoners", ("aantal_inwoners",)),
    *(Known(f"inwoners_{ages}", (f"{ages}_{word}",), within="leeftijd") for ages, word in _AGES),
    Known("inwoners_65_en_ouder", ("65_jaar_of_ouder",), within="leeftijd"),
    Known("huishoudens_totaal", ("huishoudens_totaal",)),
    Known("gemiddelde_huishoudensgrootte", ("gemiddelde_huishoudensgrootte",)),
    Known("woningvoorraad", ("woningvoorraad",)),
    Known("netto_arbeidsparticipatie_pct", ("netto_arbeidsparticipatie",)),
    Known("zelfstandigen_pct", ("percentage_zelfstandigen",)),
    Known("inkomensontvangers", ("aantal_inkomensontvangers",)),
    Known("gemiddeld_inkomen_per_ontvanger_eur1000", ("gemiddeld_inkomen_per_inkomensontvanger",)),
    Known("gemiddeld_inkomen_per_inwoner_eur1000", ("gemiddeld_inkomen_per_inwoner",)),
    Known("bijstand_personen", ("personen_per_soort_uitkering_bijstand",)),
    Known("ao_personen", ("personen_per_soort_uitkering_ao",)),
    Known("ww_personen", ("personen_per_soort_uitkering_ww",)),
    Known("aow_personen", ("personen_per_soort_uitkering_aow",)),
    Known("vestigingen_totaal", ("bedrijfsvestigingen_totaal",)),
    Known("oppervlakte_land_ha", ("oppervlakte_land",)),
    Known("stedelijkheid_code", ("mate_van_stedelijkheid",)),
)
"""The measures that the models name, by the titles that CBS has given them since 2013."""

REQUIRED = ("aantal_inwoners",)
"""Without these a year is of no use: every rate divides by them."""

_NOT_A_MEASURE = "regioaanduiding"
"""Group of v3 topics that repeat the region's name, kind and code."""


def find_by_title(title: str, catalogue: Iterable[CatalogueEntry]) -> str:
    """Id of the one table with exactly this title (apart from case and spaces).

    Raises:
        LayoutError: there is none.
    """
    found = [entry.id for entry in catalogue if slug(entry.title) == slug(title)]
    if not found:
        raise LayoutError(
            f"CBS has no table titled '{title}': take the year out of `cbs.kwb_years` in factory.yaml until CBS has it"
        )
    return found[0]


def check_title(meta: TableMeta, title: str, year: int) -> None:
    """See to it that a table is the one meant: ids are carried over by hand, titles come from CBS.

    Raises:
        LayoutError: its title is another.
    """
    if not (slug(title) in slug(meta.title) and re.search(rf"\b{year}\b", meta.title)):
        raise LayoutError(
            f"CBS table {meta.id} should be '{title} {year}' and is titled '{meta.title}': correct its id in assets/cbs"
        )


def build(connection: duckdb.DuckDBPyConnection, years: Mapping[int, Landed]) -> int:
    """Make `raw_cbs.kerncijfers_wijken_en_buurten` from landed years.

    Measures that repeat the region (v3's Regioaanduiding) are left out; a region that is no country, gemeente, wijk
    or buurt is too.

    Returns:
        The number of rows.

    Raises:
        MeasureError, LayoutError: a year is not what it should be.
    """
    keys: dict[tuple[str, str], str] = {}
    for year, landed in years.items():
        check_title(landed.meta, TITLE, year)
        named = name_known(landed.meta, KNOWN)
        require(landed.meta, named, REQUIRED)
        keys |= named
    codes = match_years({year: landed.meta for year, landed in years.items()})
    stage(connection, list(years.values()), keys=keys, codes=codes, keep=lambda m: not _repeats_region(m))
    table_of = " UNION ALL ".join(f"SELECT {literal(landed.meta.id)}, {year}" for year, landed in years.items())
    return replace_table(connection, KERNCIJFERS, _LONG.format(table_of=table_of))


def build_coverage(connection: duckdb.DuckDBPyConnection) -> int:
    """Make `raw_cbs.kerncijfers_dekking` from the kerncijfers in the warehouse; return its number of rows."""
    return replace_table(connection, DEKKING, _COVERAGE)


_LONG = """
WITH years(tabel_id, jaar) AS ({table_of})
SELECT
    tabel_id, jaar, regio_code, regio_naam, left(regio_code, 2) AS regio_niveau,
    CASE WHEN left(regio_code, 2) <> 'NL' THEN 'GM' || substr(regio_code, 3, 4) END AS gemeente_code,
    measure_code, measure_titel, eenheid, indicator_sleutel,
    Value AS waarde, coalesce(ValueAttribute, 'None') AS value_attribute, nullif(trim(StringValue), '') AS string_value,
    NULL AS periode_status, herkomst
FROM facts
JOIN years USING (tabel_id)
JOIN measures USING (tabel_id) JOIN regions USING (tabel_id)
WHERE facts.Measure = measures.identifier AND facts.regio = regions.identifier
    AND left(regio_code, 2) IN ('NL', 'GM', 'WK', 'BU')
ORDER BY jaar, regio_code, measure_code
"""

COMPLETE = 0.9
"""A measure is complete in a year if each level is at least this part as full as in the measure's best year:
CBS leaves out small buurten, differently each year, but a measure that is still to come is empty throughout."""

_COVERAGE = f"""
WITH long AS (
    SELECT *, waarde IS NOT NULL OR string_value IS NOT NULL AS is_gevuld
    FROM raw_cbs.kerncijfers_wijken_en_buurten WHERE regio_niveau <> 'NL'
),
regions AS (SELECT jaar, regio_niveau, count(DISTINCT regio_code) AS regios FROM long GROUP BY ALL),
shares AS (
    SELECT measure_code, jaar, regio_niveau, count(*) FILTER (is_gevuld) / any_value(regios) AS deel,
        any_value(measure_titel) AS measure_titel, any_value(indicator_sleutel) AS indicator_sleutel
    FROM long JOIN regions USING (jaar, regio_niveau) GROUP BY measure_code, jaar, regio_niveau
),
judged AS (
    SELECT *, max(deel) OVER (PARTITION BY measure_code, regio_niveau) AS beste FROM shares
),
years AS (
    SELECT measure_code, jaar, any_value(measure_titel) AS measure_titel,
        any_value(indicator_sleutel) AS indicator_sleutel,
        max(deel) FILTER (regio_niveau = 'GM') AS gevuld_gm,
        max(deel) FILTER (regio_niveau = 'WK') AS gevuld_wk,
        max(deel) FILTER (regio_niveau = 'BU') AS gevuld_bu,
        bool_and(deel >= {COMPLETE} * beste) AND max(deel) > 0 AS is_volledig
    FROM judged GROUP BY measure_code, jaar
)
SELECT *, max(jaar) FILTER (is_volledig) OVER (PARTITION BY measure_code) AS laatste_volledige_jaar
FROM years ORDER BY measure_code, jaar
"""


def _repeats_region(measure: Measure) -> bool:
    return any(slug(title) == _NOT_A_MEASURE for title in measure.path)
