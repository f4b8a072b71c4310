"""Kerncijfers of several years as one table, and how full each measure is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from assets.cbs.errors import CbsError
from assets.cbs.kerncijfers import build, build_coverage, check_title, find_by_title
from assets.cbs.measures import MeasureError
from assets.cbs.model import CatalogueEntry, Landed

REGIONS = {
    "NL01": "Nederland",
    "GM0518": "'s-Gravenhage  ",
    "WK051801": "Wijk 01",
    "BU05180101": "Oostduinen",
    "BU0518AF02": "Letters",
    "NL98": "Buitenland",
}


@pytest.fixture(scope="module")
def year(
    make_meta: Callable[..., Any],
    make_measure: Callable[..., Any],
    make_dimension: Callable[..., Any],
    land_values: Callable[..., Landed],
) -> Callable[..., Landed]:
    def make(
        jaar: int, table_id: str, protocol: str, keys: tuple[str, str, str], values: dict[str, tuple[Any, ...]]
    ) -> Landed:
        inhabitants, benefits, postcode = keys
        meta = make_meta(
            table_id,
            f"Kerncijfers wijken en buurten {jaar}",
            [
                make_measure("Soort_1", "Soort regio", "Regioaanduiding", kind="String"),
                make_measure(inhabitants, "Aantal inwoners", "Bevolking"),
                make_measure(benefits, "Personen per soort uitkering; Bijstand", "Sociale zekerheid"),
                make_measure(postcode, "Meest voorkomende postcode", "Postcode", unit="code", kind="String"),
            ],
            [make_dimension("WijkenEnBuurten", "GeoDetail", REGIONS)],
            protocol,
        )
        cells: dict[tuple[str, str], Any] = {("Soort_1", code): "Buurt" for code in values}
        for code, row in values.items():
            cells |= {(key, code): value for key, value in zip(keys, row, strict=True)}
        return land_values(meta, cells)

    return make


@pytest.fixture(scope="module")
def two_years(year: Callable[..., Landed]) -> dict[int, Landed]:
    full = {
        "NL01": (1000, 50, None),
        "GM0518": (100, 20, None),
        "WK051801": (95, 20, None),
        "BU05180101": (60, 10, "2597"),
    }
    empty = {
        "GM0518": (110, None, None),
        "WK051801": (105, None, None),
        "BU0518AF02": (70, None, "2597"),
        "NL98": (1, 1, None),
    }
    return {
        2020: year(2020, "84799NED", "v3", ("AantalInwoners_5", "Bijstand_83", "Postcode_113"), full),
        2021: year(2021, "85039NED", "v4", ("T001036", "D006842", "PC0001"), empty),
    }


def test_two_years_over_two_protocols_make_one_table(
    warehouse: duckdb.DuckDBPyConnection, two_years: dict[int, Landed]
) -> None:
    rows = build(warehouse, two_years)
    query = "SELECT * EXCLUDE (measure_titel, eenheid) FROM raw_cbs.kerncijfers_wijken_en_buurten"
    table = warehouse.sql(f"{query} WHERE jaar = 2020 AND regio_code = 'GM0518' ORDER BY measure_code").fetchall()
    name = "'s-Gravenhage"
    common = ("84799NED", 2020, "GM0518", name, "GM", "GM0518")
    assert table == [
        (*common, "D006842", "bijstand_personen", 20.0, "None", None, None, "gemeten"),
        (*common, "PC0001", None, None, "Confidential", None, None, "gemeten"),
        (*common, "T001036", "aantal_inwoners", 100.0, "None", None, None, "gemeten"),
    ]
    assert rows == 7 * 3  # four regions of 2020 and three of 2021; neither "Buitenland" nor the region's own topics


def test_the_country_has_one_code(warehouse: duckdb.DuckDBPyConnection, two_years: dict[int, Landed]) -> None:
    build(warehouse, two_years)
    table = "raw_cbs.kerncijfers_wijken_en_buurten"
    assert warehouse.sql(
        f"SELECT DISTINCT regio_code, gemeente_code FROM {table} WHERE regio_niveau = 'NL'"
    ).fetchall() == [("NL00", None)]


def test_the_latest_complete_year_differs_per_measure(
    warehouse: duckdb.DuckDBPyConnection, two_years: dict[int, Landed]
) -> None:
    build(warehouse, two_years)
    build_coverage(warehouse)
    columns = "indicator_sleutel, jaar, gevuld_gm, is_volledig, laatste_volledige_jaar"
    query = f"SELECT {columns} FROM raw_cbs.kerncijfers_dekking"
    assert warehouse.sql(f"{query} WHERE indicator_sleutel IS NOT NULL ORDER BY ALL").fetchall() == [
        ("aantal_inwoners", 2020, 1.0, True, 2021),
        ("aantal_inwoners", 2021, 1.0, True, 2021),
        ("bijstand_personen", 2020, 1.0, True, 2020),
        ("bijstand_personen", 2021, 0.0, False, 2020),
    ]


def test_every_column_is_described(warehouse: duckdb.DuckDBPyConnection, two_years: dict[int, Landed]) -> None:
    build(warehouse, two_years)
    assert warehouse.sql(
        "SELECT count(*) FROM duckdb_columns() WHERE schema_name = 'raw_cbs' AND comment IS NULL"
    ).fetchall() == [(0,)]


def test_a_year_without_inhabitants_is_refused_and_the_table_stays(
    warehouse: duckdb.DuckDBPyConnection,
    two_years: dict[int, Landed],
    make_meta: Callable[..., Any],
    make_measure: Callable[..., Any],
    make_dimension: Callable[..., Any],
    land_values: Callable[..., Landed],
) -> None:
    rows = build(warehouse, two_years)
    geo = make_dimension("WijkenEnBuurten", "GeoDetail", REGIONS)
    meta = make_meta("85318NED", "Kerncijfers wijken en buurten 2022", [make_measure("X", "Iets anders")], [geo])
    with pytest.raises(MeasureError, match=r"85318NED .* has no measure, or more than one, for aantal_inwoners"):
        build(warehouse, {**two_years, 2022: land_values(meta, {("X", "GM0518"): 1})})
    assert warehouse.sql("SELECT count(*) FROM raw_cbs.kerncijfers_wijken_en_buurten").fetchone() == (rows,)


def test_a_table_with_another_title_is_refused(make_meta: Callable[..., Any]) -> None:
    with pytest.raises(CbsError, match="should be 'Kerncijfers wijken en buurten 2023'"):
        check_title(
            make_meta("85618NED", "Kerncijfers wijken en buurten 2022", []), "Kerncijfers wijken en buurten", 2023
        )


def test_a_year_that_the_factory_does_not_know_is_found_by_title() -> None:
    entries = [
        CatalogueEntry("90000NED", "Regionale kerncijfers 2031", "", ""),
        CatalogueEntry("90001NED", "Kerncijfers  wijken en buurten 2031", "", ""),
    ]
    assert find_by_title("Kerncijfers wijken en buurten 2031", entries) == "90001NED"
    with pytest.raises(CbsError, match="no table titled 'Kerncijfers wijken en buurten 2032'"):
        find_by_title("Kerncijfers wijken en buurten 2032", entries)


def test_the_real_figures_of_2020_are_exact(warehouse: duckdb.DuckDBPyConnection, kwb_2020: Landed) -> None:
    build(warehouse, {2020: kwb_2020})
    table = "raw_cbs.kerncijfers_wijken_en_buurten"
    counts = f"SELECT regio_code, waarde FROM {table} WHERE indicator_sleutel = 'aantal_inwoners'"
    inhabitants = dict(warehouse.sql(counts).fetchall())
    assert (inhabitants["NL00"], inhabitants["GM0518"], inhabitants["GM1916"]) == (17_407_585, 545_838, 76_534)
    assert sum(n for code, n in inhabitants.items() if code.startswith("BU0518")) == 545_485
    levels = warehouse.sql(f"SELECT regio_niveau, count(DISTINCT regio_code) FROM {table} GROUP BY 1").fetchall()
    assert dict(levels) == {"NL": 1, "GM": 355, "WK": 3177, "BU": 13808}
    build_coverage(warehouse)
    empty = warehouse.sql("SELECT count(*) FROM raw_cbs.kerncijfers_dekking WHERE NOT is_volledig").fetchone()
    assert empty == (68,)
