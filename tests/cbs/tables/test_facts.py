"""Each fact about raw_cbs tables: first the violation that it must catch."""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl
import pytest

from assets.cbs.raw import replace_table
from quality.checks.cbs import Fact, facts, judge
from quality.schemas.cbs import HERINDELINGEN, REGIOS, SCHEMAS, duckdb_types
from quality.schemas.frames import eager, violations

FACTS = {(fact.table, fact.name): fact for fact in facts(["GM0518"], [2020, 2021])}
KERN = "kerncijfers_wijken_en_buurten"


def fill(connection: duckdb.DuckDBPyConnection, table: str, *rows: dict[str, object]) -> None:
    """The table with these rows; columns that a row leaves out are empty."""
    schema = SCHEMAS[table]
    types = duckdb_types(schema)
    selects = [
        "SELECT "
        + ", ".join(f"{f'${i}' if c in row else 'NULL'}::{t} AS {c}" for i, (c, t) in enumerate(types.items(), 1))
        for row in rows
    ]
    replace_table(connection, schema, "SELECT " + ", ".join(f"NULL::{t} AS {c}" for c, t in types.items()) + " LIMIT 0")
    for select, row in zip(selects, rows, strict=True):
        values = {str(i): row[c] for i, c in enumerate(types, 1) if c in row}
        connection.execute(f"INSERT INTO raw_cbs.{table} BY NAME {select}", values)


def kern(code: str, waarde: float | None, jaar: int = 2021, **more: object) -> dict[str, object]:
    level = code[:2]
    return {
        "jaar": jaar,
        "regio_code": code,
        "regio_niveau": level,
        "gemeente_code": f"GM{code[2:6]}",
        "indicator_sleutel": "aantal_inwoners",
        "waarde": waarde,
        "value_attribute": "None",
        **more,
    }


def regio(code: str, ouder: str | None) -> dict[str, object]:
    gemeente = f"GM{code[2:6]}" if code[:2] in ("GM", "WK", "BU") else None
    return {
        "indeling_jaar": 2021,
        "regio_code": code,
        "regio_niveau": code[:2],
        "ouder_code": ouder,
        "gemeente_code": gemeente,
    }


def bevolking(label: str, waarde: float, code: str = "GM0518") -> dict[str, object]:
    start = date(2021, 1, 1)
    return {
        "regio_code": code,
        "periode_code": "2021JJ00",
        "periode_start": start,
        "geslacht_label": label,
        "waarde": waarde,
    }


TREE = [
    ("NL00", None),
    ("LD03", "NL00"),
    ("PV28", "LD03"),
    ("GM0518", "PV28"),
    ("WK051801", "GM0518"),
    ("BU05180101", "WK051801"),
]
GOOD = {
    (KERN, "kerncijfers_heeft_alle_gemeenten"): [kern("GM0518", 10)],
    (KERN, "kerncijfers_heeft_alle_jaren"): [kern("GM0518", 10, 2020), kern("GM0518", 10)],
    (KERN, "buurten_tellen_op_tot_gemeente"): [kern("GM0518", 1000), kern("BU05180101", 600), kern("BU05180102", 395)],
    (KERN, "waarden_missen_niet_zonder_reden"): [kern("GM0518", None, value_attribute="Confidential")],
    ("kerncijfers_dekking", "inwoners_zijn_in_elk_jaar_volledig"): [
        {"indicator_sleutel": "aantal_inwoners", "jaar": 2021, "is_volledig": True}
    ],
    ("regios", "regios_zijn_een_boom"): [regio(code, parent) for code, parent in TREE],
    ("regios", "regios_heeft_alle_gemeenten"): [regio(code, parent) for code, parent in TREE],
    ("herindelingen", "herindelingen_hebben_twee_kanten"): [
        {"soort": "grenswijziging", "van_code": "GM0518", "naar_code": "GM0603"},
        {"soort": "opgeheven", "van_code": "GM0997"},
    ],
    ("bevolking_per_regio", "bevolking_heeft_alle_gemeenten"): [bevolking("Totaal", 3)],
    ("bevolking_per_regio", "mannen_en_vrouwen_tellen_op"): [
        bevolking("Mannen", 1),
        bevolking("Vrouwen", 2),
        bevolking("Totaal", 3),
    ],
    ("bevolking_per_regio", "waarden_missen_niet_zonder_reden"): [bevolking("Totaal", 3)],
    ("zzp_inkomen", "zzp_heeft_alle_gemeenten"): [
        {"regio_code": "GM0518", "indicator_sleutel": "zzp_personen", "waarde": 1}
    ],
    ("zzp_inkomen", "waarden_missen_niet_zonder_reden"): [{"waarde": 1, "value_attribute": "None"}],
    ("bijstand_wijken_buurten", "bijstand_heeft_alle_gemeenten"): [
        {"regio_code": "GM0518", "indicator_sleutel": "bijstand_personen", "waarde": 10}
    ],
    ("bijstand_wijken_buurten", "bijstand_is_afgerond_op_tien"): [
        {"indicator_sleutel": "bijstand_personen", "waarde": 120}
    ],
    ("bijstand_wijken_buurten", "waarden_missen_niet_zonder_reden"): [{"value_attribute": "NotAvailable"}],
}
BAD = {
    (KERN, "kerncijfers_heeft_alle_gemeenten"): [kern("GM1916", 10)],
    (KERN, "kerncijfers_heeft_alle_jaren"): [kern("GM0518", 10, 2020)],
    (KERN, "buurten_tellen_op_tot_gemeente"): [kern("GM0518", 1000), kern("BU05180101", 600), kern("BU05180102", 300)],
    (KERN, "waarden_missen_niet_zonder_reden"): [kern("GM0518", None)],
    ("kerncijfers_dekking", "inwoners_zijn_in_elk_jaar_volledig"): [
        {"indicator_sleutel": "aantal_inwoners", "jaar": 2021, "is_volledig": False}
    ],
    ("regios", "regios_zijn_een_boom"): [regio("GM0518", None), regio("BU05180101", "WK051801"), regio("GM0001", None)],
    ("regios", "regios_heeft_alle_gemeenten"): [regio("GM0518", "PV28"), regio("WK051801", "GM0518")],
    ("herindelingen", "herindelingen_hebben_twee_kanten"): [{"soort": "ontstaan", "naar_code": "GM0603"}],
    ("bevolking_per_regio", "bevolking_heeft_alle_gemeenten"): [bevolking("Totaal", 3, "GM1916")],
    ("bevolking_per_regio", "mannen_en_vrouwen_tellen_op"): [
        bevolking("Mannen", 1),
        bevolking("Vrouwen", 2),
        bevolking("Totaal", 9),
    ],
    ("bevolking_per_regio", "waarden_missen_niet_zonder_reden"): [{"value_attribute": "None"}],
    ("zzp_inkomen", "zzp_heeft_alle_gemeenten"): [{"regio_code": "GM0518", "indicator_sleutel": "zzp_personen"}],
    ("zzp_inkomen", "waarden_missen_niet_zonder_reden"): [{"value_attribute": "None"}],
    ("bijstand_wijken_buurten", "bijstand_heeft_alle_gemeenten"): [{"regio_code": "GM1916", "waarde": 10}],
    ("bijstand_wijken_buurten", "bijstand_is_afgerond_op_tien"): [
        {"indicator_sleutel": "bijstand_personen", "waarde": 123}
    ],
    ("bijstand_wijken_buurten", "waarden_missen_niet_zonder_reden"): [{"value_attribute": "None"}],
}


def test_every_fact_is_tried() -> None:
    assert set(FACTS) == set(GOOD) == set(BAD)


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: f"{fact.table}-{fact.name}")
def test_a_violation_is_caught_and_good_data_pass(warehouse: duckdb.DuckDBPyConnection, fact: Fact) -> None:
    fill(warehouse, fact.table, *BAD[fact.table, fact.name])
    assert judge(warehouse, fact)["fouten"] > 0
    fill(warehouse, fact.table, *GOOD[fact.table, fact.name])
    assert judge(warehouse, fact)["fouten"] == 0


def test_strays_of_others_are_counted_and_do_not_stop_a_factory(warehouse: duckdb.DuckDBPyConnection) -> None:
    fill(warehouse, "regios", *GOOD["regios", "regios_zijn_een_boom"], regio("GM0001", None))
    assert judge(warehouse, FACTS["regios", "regios_zijn_een_boom"]) == {"fouten": 0, "wezen": 1, "regios": 7}


GOOD_REGION = {
    "indeling_jaar": 2021,
    "regio_code": "WK0363AF",
    "regio_naam": "Wijk",
    "regio_niveau": "WK",
    "ouder_code": "GM0363",
    "gemeente_code": "GM0363",
    "herkomst": "gemeten",
}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"regio_code": "WK0363af "}, "regio_code: str_matches"),
        ({"regio_niveau": "XX"}, "regio_niveau: isin"),
        ({"regio_naam": None}, "regio_naam: not_nullable"),
        ({"herkomst": "verzonnen"}, "herkomst: isin"),
        ({"indeling_jaar": 20}, "indeling_jaar: in_range"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_value_outside_the_schema_is_counted_by_rule(
    warehouse: duckdb.DuckDBPyConnection, change: dict[str, object], rule: str
) -> None:
    fill(warehouse, "regios", GOOD_REGION)
    assert violations(REGIOS, eager(warehouse, "raw_cbs.regios")) == {}
    fill(warehouse, "regios", GOOD_REGION | change)
    ((broken, count),) = violations(REGIOS, eager(warehouse, "raw_cbs.regios")).items()
    assert (broken.startswith(rule), count) == (True, 1)


def test_a_key_that_occurs_twice_is_caught(warehouse: duckdb.DuckDBPyConnection) -> None:
    fill(warehouse, "regios", GOOD_REGION, GOOD_REGION)
    assert sum(violations(REGIOS, eager(warehouse, "raw_cbs.regios")).values()) > 0


def test_a_lazy_frame_is_refused_as_nothing_of_it_would_be_checked() -> None:
    with pytest.raises(TypeError, match="eager"):
        violations(HERINDELINGEN, pl.LazyFrame())  # type: ignore[arg-type]
