"""Matching measures across years: by identifier over v4, by title over v3, never by column number."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.cbs.kerncijfers import KNOWN
from assets.cbs.measures import Known, MeasureError, match_years, name_known, require, slug
from assets.cbs.model import Landed, Location, Measure, TableMeta


def v3(key: str, title: str, *groups: str, unit: str = "aantal") -> Measure:
    return Measure(key, 0, title, "", None, groups, "Long", unit, 0)


v4 = v3


def tables(years: dict[int, list[Measure]]) -> dict[int, TableMeta]:
    """Tables named T<year>, over v3 if the keys look like it."""
    return {
        year: TableMeta(
            Location(f"T{year}", "v3" if any(re.search(r"[a-z]_\d+$", m.identifier) for m in table) else "v4", ""),
            {},
            (),
            tuple(table),
        )
        for year, table in years.items()
    }


def match(years: dict[int, list[Measure]]) -> dict[tuple[int, str], str]:
    return {(int(table[1:]), key): code for (table, key), code in match_years(tables(years)).items()}


def test_a_v3_column_that_moved_is_the_same_measure() -> None:
    codes = match(
        {
            2019: [v3("AantalInwoners_5", "Aantal inwoners", "Bevolking")],
            2020: [v3("AantalInwoners_9", "Aantal inwoners\xa0", "Bevolking")],
        }
    )
    assert codes == {
        (2019, "AantalInwoners_5"): "bevolking/aantal_inwoners",
        (2020, "AantalInwoners_9"): "bevolking/aantal_inwoners",
    }


def test_a_v3_year_takes_the_v4_identifier_of_the_same_title_path() -> None:
    codes = match(
        {2017: [v4("T001036", "Aantal inwoners", "Bevolking")], 2020: [v3("Aantal_5", "Aantal inwoners", "Bevolking")]}
    )
    assert set(codes.values()) == {"T001036"}


def test_a_v4_identifier_survives_a_new_title() -> None:
    codes = match({2020: [v4("M1", "Oude titel", "A")], 2021: [v4("M1", "Nieuwe titel", "B")]})
    assert set(codes.values()) == {"M1"}


def test_a_repeat_number_that_shifted_does_not_mix_measures() -> None:
    electricity, gas = ("Energie", "Elektriciteit"), ("Energie", "Gas")
    codes = match(
        {
            2017: [v4("ZW1_1", "Appartement", *electricity), v4("ZW1_2", "Appartement", *gas)],
            2018: [v4("ZW1_1", "Appartement", *gas), v4("ZW1_2", "Appartement", *electricity)],
        }
    )
    assert codes[2017, "ZW1_1"] == codes[2018, "ZW1_2"] != codes[2017, "ZW1_2"] == codes[2018, "ZW1_1"]


def test_the_same_title_in_two_groups_stays_two_measures() -> None:
    table = [v3("Appartement_48", "Appartement", "Elektriciteit"), v3("Appartement_57", "Appartement", "Gas")]
    assert len(set(match({2020: table}).values())) == 2


drawn = st.builds(
    lambda key, title, groups: v4(key, title, *groups),
    st.sampled_from(["M1", "M2", "M1_1", "M1_2", "M2_1"]),
    st.sampled_from(["Aantal", "Totaal", "aantal "]),
    st.sampled_from([(), ("A",), ("B",)]),
)


@given(
    st.dictionaries(st.integers(2013, 2016), st.lists(drawn, unique_by=lambda m: m.identifier, max_size=5)),
    st.sets(st.integers(2013, 2016)),
)
def test_every_measure_gets_a_code_and_no_two_of_a_year_share_one(
    years: dict[int, list[Measure]], as_v3: set[int]
) -> None:
    metas = {
        year: TableMeta(Location(f"T{year}", "v3" if year in as_v3 else "v4", ""), {}, (), tuple(table))
        for year, table in years.items()
    }
    codes = match_years(metas)
    for meta in metas.values():
        assert len({codes[meta.id, m.identifier] for m in meta.measures}) == len(meta.measures)


def meta(*measures: Measure) -> TableMeta:
    return TableMeta(Location("84799NED", "v4", ""), {"Title": "Kerncijfers"}, (), measures)


def test_an_ambiguous_name_is_given_to_neither() -> None:
    table = meta(v4("A", "Totaal", "X"), v4("B", "Totaal", "Y"))
    assert name_known(table, [Known("totaal", ("totaal",))]) == {}
    assert name_known(table, [Known("totaal", ("totaal",), within="y")]) == {("84799NED", "B"): "totaal"}


def test_a_measure_that_models_need_and_a_table_lacks_is_named() -> None:
    with pytest.raises(MeasureError, match="no measure, or more than one, for aantal_inwoners"):
        require(meta(v4("A", "Totaal")), {}, ["aantal_inwoners"])


@given(st.text())
def test_a_slug_is_stable_and_plain(title: str) -> None:
    assert slug(slug(title)) == slug(title)
    assert set(slug(title)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


@pytest.fixture(scope="module")
def year_2020(kwb_2020: Landed) -> list[Measure]:
    return list(kwb_2020.meta.measures)


@pytest.fixture(scope="module")
def year_2017(shared_data: Path) -> list[Measure]:
    folder = shared_data / "cbs/odata4-metadata/83765NED/cbs.v4.83765NED_"
    rows = duckdb.sql(
        f"""WITH RECURSIVE g AS (SELECT * FROM '{folder}MeasureGroups.parquet'),
        path AS (SELECT Id, [Title] AS titles FROM g WHERE ParentId IS NULL
            UNION ALL SELECT g.Id, list_append(titles, Title) FROM g JOIN path ON g.ParentId = path.Id)
        SELECT Identifier, Title, titles, Unit FROM '{folder}MeasureCodes.parquet'
        LEFT JOIN path ON MeasureGroupId = path.Id ORDER BY "Index" """
    ).fetchall()
    return [v4(key, title, *(groups or ()), unit=unit) for key, title, groups, unit in rows]


def test_real_years_over_both_protocols_match(year_2017: list[Measure], year_2020: list[Measure]) -> None:
    codes = match({2017: year_2017, 2020: year_2020})
    shared = {codes[2020, m.identifier] for m in year_2020} & {codes[2017, m.identifier] for m in year_2017}
    assert codes[2020, "PersonenPerSoortUitkeringBijstand_83"] == "D006842"
    assert codes[2020, "Appartement_48"] == "ZW25810_1"
    assert codes[2020, "Appartement_56"] == "ZW25810_2"
    assert len(shared) >= 80


@pytest.mark.parametrize("year", ["year_2017", "year_2020"])
def test_the_names_that_models_use_are_found_in_real_tables(year: str, request: pytest.FixtureRequest) -> None:
    named = name_known(meta(*request.getfixturevalue(year)), KNOWN)
    expected = {known.key for known in KNOWN}
    if year == "year_2017":
        expected -= {"zelfstandigen_pct", "netto_arbeidsparticipatie_pct"}  # new in the tables of 2020
    assert set(named.values()) == expected
