"""The hierarchy of regions: a tree per year, with strays shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from assets.cbs.model import Code, Dimension, Landed, Location, TableMeta
from assets.cbs.regions import LANDSDELEN, area_table, build

TREE = "SELECT regio_code, ouder_code, gemeente_code FROM raw_cbs.regios WHERE indeling_jaar = 2020 ORDER BY regio_code"


@pytest.fixture
def population_codes() -> TableMeta:
    codes = {"NL01": ("Nederland", "NL"), "LD03": ("West-Nederland (LD)", "LD"), "PV28": ("Zuid-Holland (PV)", "PV")}
    codes |= {"GM0518": ("'s-Gravenhage (gemeente)", "GMPV28"), "GM0548": ("Leidschendam", "GMPV28")}
    made = tuple(Code(code, i, title, "", group) for i, (code, (title, group)) in enumerate(codes.items()))
    return TableMeta(
        Location("03759ned", "v4", ""), {}, (Dimension("RegioS", "Regio's", "GeoDimension", codes=made),), ()
    )


@pytest.fixture
def borders(make_meta: Callable[..., Any], make_dimension: Callable[..., Any]) -> Callable[..., TableMeta]:
    def make(codes: dict[str, str], source: str = "CBS.") -> TableMeta:
        geo = make_dimension("WijkenEnBuurten", "GeoDetail", codes)
        meta: TableMeta = make_meta("84799NED", "Kerncijfers wijken en buurten 2020", [], [geo], source=source)
        return meta

    return make


def test_each_buurt_has_its_way_up_to_the_country(
    warehouse: duckdb.DuckDBPyConnection, borders: Callable[..., TableMeta], population_codes: TableMeta
) -> None:
    meta = borders(
        {"NL00": "Nederland", "GM0518": "'s-Gravenhage", "WK0518AF": "Wijk", "BU0518AF01": "Buurt"}, "Synthetisch"
    )
    build(warehouse, {2020: meta}, population_codes)
    assert warehouse.sql(TREE).fetchall() == [
        ("BU0518AF01", "WK0518AF", "GM0518"),
        ("GM0518", "PV28", "GM0518"),
        ("LD03", "NL00", None),
        ("NL00", None, None),
        ("PV28", "LD03", None),
        ("WK0518AF", "GM0518", "GM0518"),
    ]
    names = warehouse.sql(
        "SELECT regio_naam, herkomst FROM raw_cbs.regios WHERE regio_code IN ('PV28', 'GM0518') ORDER BY 1"
    )
    assert names.fetchall() == [("'s-Gravenhage", "synthetisch"), ("Zuid-Holland", "gemeten")]


def test_a_gemeente_that_no_source_places_is_kept_without_a_parent(
    warehouse: duckdb.DuckDBPyConnection, borders: Callable[..., TableMeta]
) -> None:
    build(warehouse, {2020: borders({"GM9999": "Nergens"})})
    assert warehouse.sql(TREE).fetchall() == [("GM9999", None, "GM9999"), ("NL00", None, None)]


@pytest.mark.parametrize(
    ("year", "table"), [(2013, "85067NED"), (2023, "85067NED"), (2024, "86247NED"), (2030, "86247NED")]
)
def test_areas_come_from_the_nearest_year(year: int, table: str) -> None:
    assert area_table(year) == table


def test_the_real_hierarchy_of_2020_is_a_tree(
    warehouse: duckdb.DuckDBPyConnection, kwb_2020: Landed, population_recorded: Landed, gebieden_2022: Landed
) -> None:
    build(warehouse, {2020: kwb_2020.meta}, population_recorded.meta, gebieden_2022)
    # Delfzijl en omgeving (CR02) is missing: its gemeenten of 2020 were gone in 2022
    levels = dict(warehouse.sql("SELECT regio_niveau, count(*) FROM raw_cbs.regios GROUP BY 1").fetchall())
    assert levels == {"NL": 1, "LD": 4, "PV": 12, "CR": 39, "GM": 355, "WK": 3177, "BU": 13808}
    strays = warehouse.sql(
        """SELECT regio_code FROM raw_cbs.regios AS child WHERE regio_niveau <> 'NL' AND NOT EXISTS (
            SELECT 1 FROM raw_cbs.regios AS parent WHERE parent.regio_code = child.ouder_code)"""
    ).fetchall()
    assert strays == []
    above = "SELECT regio_code, regio_naam, ouder_code, corop_code FROM raw_cbs.regios"
    assert warehouse.sql(f"{above} WHERE regio_code IN ('GM0518', 'CR26', 'PV28', 'GM1916') ORDER BY 1").fetchall() == [
        ("CR26", "Agglomeratie 's-Gravenhage", "PV28", None),
        ("GM0518", "'s-Gravenhage", "PV28", "CR26"),
        ("GM1916", "Leidschendam-Voorburg", "PV28", "CR26"),
        ("PV28", "Zuid-Holland", "LD03", None),
    ]


def test_landsdelen_are_those_of_cbs(
    warehouse: duckdb.DuckDBPyConnection, kwb_2020: Landed, gebieden_2022: Landed
) -> None:
    build(warehouse, {2020: kwb_2020.meta}, None, gebieden_2022)
    real = warehouse.sql("SELECT DISTINCT landsdeel_code, provincie_code FROM areas ORDER BY ALL").fetchall()
    assert real == [(part, province) for part, provinces in LANDSDELEN.items() for province in provinces]
