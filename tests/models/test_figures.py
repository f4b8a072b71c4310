"""The marts' figures, worked out by hand from the raw rows in conftest."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from datafabriek.config import Settings

Query = Callable[[str], list[tuple[Any, ...]]]
Built = tuple[Settings, dict[str, Any]]


def test_every_model_test_and_unit_test_is_good(built: Built) -> None:
    _, results = built
    assert {result.unique_id: result.message for result in results.values() if not result.is_good} == {}
    assert len([name for name in results if name.startswith("unit_test.")]) >= 6


@pytest.mark.parametrize(
    ("region", "period", "count", "rate"),
    [
        ("BU05181786", "2020-01", 2, "0.16"),  # persons 1 and 2 on 12,875: 0.1553…
        ("BU05181785", "2020-01", 1, "9.52"),  # person 4 on 105: 9.5238…
        ("WK051817", "2020-01", 3, "0.17"),  # on 18,060: 0.1661…
        ("BU19160201", "2020-01", 0, "0.00"),  # person 8 has IOAW
        ("BU05180170", "2020-01", 0, None),  # nobody lives there: no rate
        ("ONB0518", "2020-01", 1, None),  # person 5
        ("ONB1916", "2020-01", 1, None),  # person 9, whom the BRP does not know
        ("GM0518", "2020-01", 4, "0.01"),
        ("BU05181785", "2020-03", 0, "0.00"),  # person 4 moved during March …
        ("BU19160200", "2020-03", 3, "0.65"),  # … to here, and is paid by both: 4, 6 and 7 on 4,605
        ("GM1916", "2020-03", 3, "0.04"),
        ("GM0518", "2020-04", 0, "0.00"),  # delivered without a single benefit
    ],
)
def test_bijstand(query: Query, region: str, period: str, count: int, rate: str | None) -> None:
    where = f"WHERE regio_code = '{region}' AND periode = '{period}'"
    rows = query(f"SELECT indicator, waarde, teller FROM marts.bijstand_per_regio {where} ORDER BY indicator DESC")
    expected = Decimal(rate) if rate else None
    assert rows == [("bijstand_personen", count, count), ("bijstand_per_1000_inwoners", expected, count)]


def test_a_missing_month_is_unknown_and_never_zero(query: Query) -> None:
    rows = query("SELECT DISTINCT status, waarde, teller FROM marts.bijstand_per_regio WHERE periode = '2020-02'")
    assert rows == [("onbekend", None, None)]


@pytest.mark.parametrize(
    ("indicator", "expected"),
    [
        # owner 1 has two establishments and counts once; owner 5 lives in an unknown buurt; 99 lives elsewhere
        ("zzp_woonachtig", {"BU05181786": 1, "BU19160200": 1, "ONB0518": 1, "GM0518": 2, "GM1916": 1}),
        # establishments 1-5 and 7; 4 stands in an unknown buurt
        (
            "zzp_vestigingen",
            {"BU05181785": 1, "BU05181786": 1, "BU05180170": 1, "BU19160200": 2, "ONB0518": 1}
            | {"GM0518": 4, "GM1916": 2},
        ),
    ],
)
def test_zzp_where_they_live_and_where_they_work(query: Query, indicator: str, expected: dict[str, int]) -> None:
    rows = query(
        f"SELECT regio_code, teller FROM marts.zzp_per_regio WHERE indicator = '{indicator}' "
        "AND teller > 0 AND regio_niveau <> 'WK'"
    )
    assert dict(rows) == expected


def test_sectors_add_up_to_their_total(query: Query) -> None:
    rows = query("SELECT sector_code, teller FROM marts.zzp_per_sector WHERE regio_code = 'GM0518' AND teller > 0")
    assert dict(rows) == {"F": 1, "J": 1, "M": 1, "ONB": 1, "T001081": 4}


def test_income_is_in_euro_and_keeps_cbs_secrets(query: Query) -> None:
    rows = query(
        "SELECT regio_code, waarde, noemer, status FROM marts.zzp_inkomen_per_regio "
        "WHERE indicator = 'zzp_gemiddeld_inkomen' ORDER BY regio_code"
    )
    assert rows == [("GM0518", Decimal("38400.00"), 43200, "verstrekt"), ("GM1916", None, None, "geheim")]


def test_a_wijk_has_the_share_of_self_employed_and_the_income_of_its_inhabitants(query: Query) -> None:
    rows = query(
        "SELECT indicator, regio_code, gemeente_code, periode, waarde, eenheid FROM marts.zzp_inkomen_per_regio "
        "WHERE regio_niveau = 'WK' AND status = 'verstrekt' ORDER BY ALL"
    )
    assert rows == [
        ("gemiddeld_inkomen_per_inwoner", "WK191602", "GM1916", "2020", Decimal("31200.00"), "euro"),
        ("zelfstandigen_pct", "WK191602", "GM1916", "2020", Decimal("16.00"), "procent"),
    ]


def test_what_rests_on_examples_says_so(query: Query) -> None:
    for mart in ("bijstand_per_regio", "zzp_per_regio", "zzp_per_sector", "zzp_inkomen_per_regio"):
        of_registers = "indicator <> ALL (['zelfstandigen_pct', 'gemiddeld_inkomen_per_inwoner'])"
        assert query(f"SELECT DISTINCT herkomst FROM marts.{mart} WHERE {of_registers}") == [("synthetisch",)]
    assert query("SELECT DISTINCT herkomst FROM marts.regios") == [("gemeten",)]


def test_every_table_and_column_is_described(query: Query) -> None:
    schemas = "schema_name IN ('staging', 'intermediate', 'marts') AND NOT internal"
    columns = query(f"SELECT table_name, column_name FROM duckdb_columns() WHERE {schemas} AND comment IS NULL")
    tables = query(f"SELECT table_name FROM duckdb_tables() WHERE {schemas} AND comment IS NULL")
    views = query(f"SELECT view_name FROM duckdb_views() WHERE {schemas} AND comment IS NULL")
    assert columns + tables + views == []


def test_figures_have_types_that_two_runs_agree_on(query: Query) -> None:
    rows = query("SELECT DISTINCT data_type FROM duckdb_columns() WHERE schema_name = 'marts' AND NOT internal")
    assert {kind for (kind,) in rows} == {"VARCHAR", "INTEGER", "BIGINT", "DATE", "DECIMAL(18,2)"}


def test_every_indicator_of_the_factory_is_explained(query: Query) -> None:
    rows = query("SELECT code FROM marts.indicatoren WHERE definitie <> '' AND eenheid <> '' AND bron <> ''")
    assert {code for (code,) in rows} == {
        "bijstand_personen",
        "bijstand_per_1000_inwoners",
        "zzp_woonachtig",
        "zzp_woonachtig_per_1000_inwoners",
        "zzp_vestigingen",
        "zzp_vestigingen_per_1000_inwoners",
        "zzp_gemiddeld_inkomen",
        "zelfstandigen_pct",
        "gemiddeld_inkomen_per_inwoner",
    }


def test_no_model_joins_row_by_row(built: Built, query: Query) -> None:
    settings, _ = built
    compiled = settings.paths.dbt / "target" / "compiled" / "datafabriek" / "models"
    statements = {
        path.stem: path.read_text() for layer in ("intermediate", "marts") for path in compiled.glob(f"{layer}/*.sql")
    }
    assert len(statements) >= 15
    for name, sql in statements.items():
        ((_, plan),) = query(f"EXPLAIN {sql}")
        assert "BLOCKWISE_NL_JOIN" not in plan, name
