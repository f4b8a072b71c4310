"""Regions and their hierarchy per year's borders.

Wijken and buurten carry their gemeente in their code. To which province and COROP area a gemeente belongs stands in
"Gebieden in Nederland" (one table for some years) and, for the province, at every gemeente of 03759ned, abolished
ones too: the first is used where it knows the gemeente, the second otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from assets.cbs.measures import Known, name_known
from assets.cbs.model import Landed, TableMeta
from assets.cbs.raw import NATION, clean, is_region, origin, region_code, replace_table, stage, temporary
from datafabriek.warehouse import literal
from quality.schemas.cbs import REGIOS

AREA_TABLES = {2022: "85067NED", 2026: "86247NED"}
"""Gebieden in Nederland: year → StatLine table."""

LANDSDELEN = {
    "LD01": ("PV20", "PV21", "PV22"),
    "LD02": ("PV23", "PV24", "PV25"),
    "LD03": ("PV26", "PV27", "PV28", "PV29"),
    "LD04": ("PV30", "PV31"),
}
"""Provinces per landsdeel (NUTS 1 and 2), unchanged since Flevoland began in 1986 (source: CBS, 85067NED)."""

_AREAS = (
    Known("provincie_code", ("code",), within="provincies"),
    Known("provincie_naam", ("naam",), within="provincies"),
    Known("corop_code", ("code",), within="corop_gebieden"),
    Known("corop_naam", ("naam",), within="corop_gebieden"),
    Known("landsdeel_code", ("code",), within="landsdelen"),
    Known("landsdeel_naam", ("naam",), within="landsdelen"),
)


def area_table(year: int) -> str:
    """The table of areas nearest to a year (of two as near, the later)."""
    return AREA_TABLES[min(AREA_TABLES, key=lambda known: (abs(known - year), -known))]


def build(
    connection: duckdb.DuckDBPyConnection,
    years: Mapping[int, TableMeta],
    population: TableMeta | None = None,
    areas: Landed | None = None,
) -> int:
    """Make `raw_cbs.regios` from the region codes of each year's kerncijfers; return its number of rows.

    A region whose next level up is unknown keeps its row, with an empty or dangling `ouder_code`: the check
    `regios_zijn_een_boom` counts those.

    Args:
        connection: the warehouse.
        years: metadata of Kerncijfers wijken en buurten, by year of the borders.
        population: metadata of 03759ned.
        areas: Gebieden in Nederland.
    """
    _own(connection, years)
    _above(connection, population, areas)
    return replace_table(connection, REGIOS, _TREE)


def _own(connection: duckdb.DuckDBPyConnection, years: Mapping[int, TableMeta]) -> None:
    """Temporary table `own`: country, gemeenten, wijken and buurten of each year."""
    rows = [
        (year, region_code(code.identifier), clean(code.title), origin(meta))
        for year, meta in years.items()
        if meta.geo
        for code in meta.geo.codes
        if is_region(code.identifier)
    ]
    rows += [(year, NATION, "Nederland", origin(meta)) for year, meta in years.items()]
    temporary(
        connection,
        "own",
        jaar=pa.array([year for year, *_ in rows], pa.int32()),
        regio_code=[code for _, code, _, _ in rows],
        regio_naam=[name for _, _, name, _ in rows],
        herkomst=[source for *_, source in rows],
    )


def _above(connection: duckdb.DuckDBPyConnection, population: TableMeta | None, areas: Landed | None) -> None:
    """Temporary tables `above` (gemeente → province, COROP area) and `names` of what lies above gemeenten."""
    codes = population.geo.codes if population and population.geo else ()
    known = [(code.identifier.strip(), code.title.strip(), (code.group_id or "").strip()) for code in codes]
    temporary(
        connection,
        "known",
        regio_code=[code for code, _, _ in known],
        regio_naam=[name for _, name, _ in known],
        groep=[group for _, _, group in known],
    )
    connection.execute(
        """CREATE OR REPLACE TEMP TABLE areas (gemeente_code VARCHAR, provincie_code VARCHAR, provincie_naam VARCHAR,
        corop_code VARCHAR, corop_naam VARCHAR, landsdeel_code VARCHAR, landsdeel_naam VARCHAR)"""
    )
    if areas is not None:
        named = name_known(areas.meta, _AREAS)
        stage(connection, [areas], keys=named, keep=lambda measure: (areas.meta.id, measure.identifier) in named)
        picks = ", ".join(
            f"max(trim(StringValue)) FILTER (indicator_sleutel = {literal(k.key)}) AS {k.key}" for k in _AREAS
        )
        connection.execute(
            f"""INSERT INTO areas BY NAME SELECT regio_code AS gemeente_code, {picks}
            FROM facts JOIN measures ON facts.Measure = measures.identifier
            JOIN regions ON facts.regio = regions.identifier GROUP BY regio_code"""
        )
    temporary(
        connection,
        "landsdelen",
        landsdeel=[part for part, provinces in LANDSDELEN.items() for _ in provinces],
        provincie=[province for provinces in LANDSDELEN.values() for province in provinces],
    )


_TREE = r"""
WITH levels AS (
    SELECT DISTINCT ON (jaar, regio_code) *, left(regio_code, 2) AS niveau,
        'GM' || substr(regio_code, 3, 4) AS gemeente FROM own
),
gemeenten AS (
    SELECT levels.*, areas.corop_code,
        coalesce(areas.provincie_code, nullif(regexp_extract(known.groep, 'PV\d\d'), '')) AS provincie
    FROM levels
    LEFT JOIN areas ON areas.gemeente_code = regio_code
    LEFT JOIN known USING (regio_code)
    WHERE niveau = 'GM'
),
names AS (
    SELECT regio_code, regexp_replace(regio_naam, ' \((LD|PV|CR)\)$', '') AS regio_naam FROM known
    UNION ALL SELECT provincie_code, provincie_naam FROM areas
    UNION ALL SELECT corop_code, corop_naam FROM areas
    UNION ALL SELECT landsdeel_code, landsdeel_naam FROM areas
),
one_name AS (SELECT regio_code, any_value(regio_naam) AS regio_naam FROM names GROUP BY regio_code),
above AS (
    SELECT jaar, provincie AS regio_code, any_value(landsdeel) AS ouder_code, 'gemeten' AS herkomst
    FROM gemeenten LEFT JOIN landsdelen USING (provincie) WHERE provincie IS NOT NULL GROUP BY ALL
    UNION ALL
    SELECT jaar, corop_code, any_value(provincie), 'gemeten' FROM gemeenten WHERE corop_code IS NOT NULL GROUP BY ALL
    UNION ALL
    SELECT DISTINCT jaar, landsdeel, 'NL00', 'gemeten' FROM gemeenten JOIN landsdelen USING (provincie)
),
tree AS (
    SELECT jaar, regio_code, regio_naam, CASE niveau
            WHEN 'WK' THEN gemeente
            WHEN 'BU' THEN 'WK' || substr(regio_code, 3, 6)
        END AS ouder_code,
        CASE WHEN niveau <> 'NL' THEN gemeente END AS gemeente_code, NULL AS corop_code, herkomst
    FROM levels WHERE niveau IN ('NL', 'WK', 'BU')
    UNION ALL
    SELECT jaar, regio_code, regio_naam, provincie, regio_code, corop_code, herkomst FROM gemeenten
    UNION ALL
    SELECT jaar, regio_code, coalesce(regio_naam, regio_code), ouder_code, NULL, NULL, herkomst
    FROM above LEFT JOIN one_name USING (regio_code)
)
SELECT jaar AS indeling_jaar, regio_code, regio_naam, left(regio_code, 2) AS regio_niveau, ouder_code, gemeente_code,
    corop_code, herkomst
FROM tree ORDER BY indeling_jaar, regio_code
"""
