"""Population, self-employed and benefits: filters found from metadata, figures under the factory's own names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from assets.cbs import incomes, population
from assets.cbs.errors import CbsError
from assets.cbs.measures import MeasureError
from assets.cbs.model import Landed, TableMeta
from assets.cbs.raw import LayoutError

GROUP_MAIN, GROUP_ALL, INCOME = (
    "Zelfstandige, voornaamste inkomen",
    "Zelfstandige, alle inkomens",
    "Inkomen van zelfstandigen",
)
REGIOS = {"NL01": "Nederland", "PV28": "Zuid-Holland (PV)", "GM0518": "'s-Gravenhage (gemeente)"}


@pytest.fixture(scope="module")
def zzp(
    make_meta: Callable[..., Any], make_measure: Callable[..., Any], make_dimension: Callable[..., Any]
) -> TableMeta:
    """Laid out as 86163NED: types of self-employed, sectors, regions, years; two groups with the same titles."""
    measures = [
        make_measure(f"M{i}{j}", title, group, *below, unit="1 000 euro")
        for i, group in enumerate((GROUP_MAIN, GROUP_ALL))
        for j, (title, *below) in enumerate((("Zelfstandigen",), ("Gemiddeld persoonlijk inkomen", INCOME)))
    ]
    dimensions = [
        make_dimension(
            "TypeZelfstandige", "Dimension", {"T1": "Zelfstandige", "Z2": "Zelfstandige zonder personeel (zzp)"}
        ),
        make_dimension(
            "BedrijfstakkenBranches", "Dimension", {"T001081": "A-U Alle economische activiteiten", "A": "A Landbouw"}
        ),
        make_dimension("RegioS", "GeoDimension", REGIOS),
        make_dimension("Perioden", "TimeDimension", {"2020JJ00": "2020"}, status="Voorlopig"),
    ]
    meta: TableMeta = make_meta("86163NED", "Zelfstandigen; inkomen, vermogen, regio", measures, dimensions)
    return meta


def test_the_filter_singles_out_zzp_and_totals(zzp: TableMeta) -> None:
    text = incomes.choose_zzp(zzp, ["GM0518"], "PV28") or ""
    assert "TypeZelfstandige eq 'Z2'" in text
    assert "BedrijfstakkenBranches eq 'T001081'" in text
    assert "RegioS eq 'GM0518'" in text


def test_main_income_and_any_income_get_names_of_their_own(
    warehouse: duckdb.DuckDBPyConnection, zzp: TableMeta, land_values: Callable[..., Landed]
) -> None:
    cells = {(m.identifier, "Z2", "T001081", "GM0518", "2020JJ00"): float(i) for i, m in enumerate(zzp.measures)}
    assert incomes.build_zzp(warehouse, land_values(zzp, cells)) == 4
    columns = "indicator_sleutel, waarde, periode_start::VARCHAR, periode_status"
    assert warehouse.sql(f"SELECT {columns} FROM raw_cbs.zzp_inkomen ORDER BY waarde").fetchall() == [
        ("zzp_personen", 0.0, "2020-01-01", "Voorlopig"),
        ("zzp_gemiddeld_inkomen_eur1000", 1.0, "2020-01-01", "Voorlopig"),
        ("zzp_personen_alle_inkomens", 2.0, "2020-01-01", "Voorlopig"),
        ("zzp_gemiddeld_inkomen_eur1000_alle_inkomens", 3.0, "2020-01-01", "Voorlopig"),
    ]


def test_a_table_without_the_type_is_refused_with_what_was_expected(
    make_meta: Callable[..., Any], make_measure: Callable[..., Any], make_dimension: Callable[..., Any]
) -> None:
    geo = make_dimension("RegioS", "GeoDimension", REGIOS)
    other = make_meta("12345NED", "Inkomen van personen", [make_measure("A", "Inkomen")], [geo])
    with pytest.raises(LayoutError, match=r"'Type zelfstandige' and has RegioS.*mend .* in assets/cbs/incomes\.py"):
        incomes.choose_zzp(other, ["GM0518"], "PV28")


def test_a_reworded_measure_is_told_with_what_there_is_and_what_to_mend(
    warehouse: duckdb.DuckDBPyConnection,
    make_meta: Callable[..., Any],
    make_measure: Callable[..., Any],
    make_dimension: Callable[..., Any],
    land_values: Callable[..., Landed],
) -> None:
    geo = make_dimension("WijkenEnBuurten", "GeoDetail", {"BU05180101": "Oostduinen"})
    time = make_dimension("Perioden", "TimeDimension", {"2020MM12": "december"})
    reworded = [make_measure("B", "Algemene bijstand", "Personen per soort uitkering")]
    meta = make_meta("84897NED", f"{incomes.BENEFIT_TITLE} 2020", reworded, [geo, time])
    told = r"84897NED .*for bijstand_personen; its measures begin with: Algemene bijstand\..*mend its entry"
    with pytest.raises(MeasureError, match=told):
        incomes.build_benefits(warehouse, [land_values(meta, {("B", "BU05180101", "2020MM12"): 1})])


def test_a_dimension_without_a_total_is_refused(
    make_meta: Callable[..., Any], make_measure: Callable[..., Any], make_dimension: Callable[..., Any]
) -> None:
    odd = make_dimension("Herkomst", "Dimension", {"1": "Nederland", "2": "Elders"})
    table = make_meta(
        "12345NED", "Zzp naar herkomst", [make_measure("A", "X")], [odd, make_dimension("R", "GeoDimension", REGIOS)]
    )
    with pytest.raises(LayoutError, match="`Herkomst` without a total"):
        incomes.choose_zzp(table, ["GM0518"], "PV28")


def test_benefits_of_two_years_make_one_table(
    warehouse: duckdb.DuckDBPyConnection,
    make_meta: Callable[..., Any],
    make_measure: Callable[..., Any],
    make_dimension: Callable[..., Any],
    land_values: Callable[..., Landed],
) -> None:
    def year(jaar: int, table_id: str) -> Landed:
        measures = [
            make_measure("Naam_1", "Gemeentenaam", "Regioaanduiding", kind="String"),
            make_measure("B", "Bijstandsuitkering", "Personen per soort uitkering"),
            make_measure("BR", "Bijstandsuitkering", "Personen per soort uitkering, relatief"),
        ]
        geo = make_dimension("WijkenEnBuurten", "GeoDetail", {"T001": "Totaal", "BU05180101": "Oostduinen"})
        time = make_dimension("Perioden", "TimeDimension", {f"{jaar}MM03": "maart", f"{jaar}MM12": "december"})
        meta = make_meta(table_id, f"{incomes.BENEFIT_TITLE} {jaar}", measures, [geo, time])
        cells = {
            ("B", "BU05180101", f"{jaar}MM03"): 20,
            ("B", "BU05180101", f"{jaar}MM12"): None,
            ("B", "T001", f"{jaar}MM03"): 9,
        }
        return land_values(meta, {**cells, ("BR", "BU05180101", f"{jaar}MM03"): 2})

    assert incomes.build_benefits(warehouse, [year(2020, "84897NED"), year(2021, "85042NED")]) == 6
    query = """SELECT regio_code, periode_start::VARCHAR, indicator_sleutel, waarde, value_attribute
        FROM raw_cbs.bijstand_wijken_buurten WHERE tabel_id = '84897NED' ORDER BY ALL"""
    assert warehouse.sql(query).fetchall() == [
        ("BU05180101", "2020-03-01", "bijstand_pct", 2.0, "None"),
        ("BU05180101", "2020-03-01", "bijstand_personen", 20.0, "None"),
        ("BU05180101", "2020-12-01", "bijstand_personen", None, "Confidential"),
    ]


def test_a_table_without_rows_for_the_region_is_told(
    warehouse: duckdb.DuckDBPyConnection, zzp: TableMeta, land_values: Callable[..., Landed]
) -> None:
    with pytest.raises(CbsError, match="86163NED has no observations"):
        incomes.build_zzp(warehouse, land_values(zzp, {}))


def test_population_is_asked_for_own_regions_and_all_marital_states_together(population_recorded: Landed) -> None:
    text = population.choose(population_recorded.meta, ["GM0518", "GM1916"], "PV28", 2019)
    conditions = text.replace("(", "").replace(")", "").replace(" or ", " and ").split(" and ")
    assert {c for c in conditions if c.startswith("RegioS")} == {
        f"RegioS eq '{code}'" for code in ("NL01", "PV28", "GM0518", "GM1916")
    }
    assert {c for c in conditions if not c.startswith("RegioS")} == {
        "BurgerlijkeStaat eq 'T001019'",
        "Perioden ge '2019JJ00'",
    }


def test_a_gemeente_that_cbs_does_not_know_is_told(population_recorded: Landed) -> None:
    with pytest.raises(LayoutError, match="no figures by period for GM9998"):
        population.choose(population_recorded.meta, ["GM9998"], "PV28", 2019)


def test_the_real_population_is_exact(warehouse: duckdb.DuckDBPyConnection, population_recorded: Landed) -> None:
    rows = population.build(warehouse, population_recorded)
    query = """SELECT regio_code, year(periode_start), waarde FROM raw_cbs.bevolking_per_regio
        WHERE measure_titel = 'Bevolking op 1 januari'"""
    found = {(code, year): value for code, year, value in warehouse.sql(query).fetchall()}
    assert (found["GM0518", 2025], found["GM1916", 2025], found["NL00", 2019]) == (568_945, 78_318, 17_282_163)
    assert rows == 13_568
    labels = warehouse.sql(
        "SELECT DISTINCT geslacht_label, leeftijd_label, burgerlijke_staat_label FROM raw_cbs.bevolking_per_regio"
    )
    assert labels.fetchall() == [("Totaal mannen en vrouwen", "Totaal", "Totaal burgerlijke staat")]
