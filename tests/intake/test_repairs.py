"""Dirt rules: what each mends, that it mends once, and that its glance misses nothing."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.coded import coded, is_coded
from quality.contracts.model import load
from quality.repairs import RULES, repair

ARGUMENTS: dict[str, Any] = {
    "voorloopnullen": 9,
    "onbekend_code": ("9", "99", "999999999"),
    "code_vertaald": {"000000000": "ongeboren", "999999999": "onbekend"},
}

CASES = [
    ("spaties_weg", "  x y ", "x y"),
    ("spaties_weg", "   ", None),
    ("voorloopnullen", "12345672", "012345672"),
    ("voorloopnullen", "a1", "a1"),
    ("gemeentecode", "518", "0518"),
    ("gemeentecode", " 518", "0518"),
    ("gemeentecode", "GM0518", "0518"),
    ("gemeentecode", "gm518", "0518"),
    ("gemeentecode", "Den Haag", "Den Haag"),
    ("datum_onbekend", "00000000", None),
    ("datum_onbekend", "20200101", "20200101"),
    ("datum_deels_onbekend", "19800500", "19800501"),
    ("datum_deels_onbekend", "19800000", "19800101"),
    ("datum_deels_onbekend", "00000000", "00000000"),
    ("datum_deels_onbekend", "19801300", "19801300"),
    ("open_einde", "29991231", None),
    ("datum_iso", "2020-12-31", "20201231"),
    ("datum_iso", "31-12-2020", "31-12-2020"),
    ("datum_dmj", "31-12-2020", "20201231"),
    ("datum_dmj", "2020-12-31", "20201231"),
    ("postcode", "2511 ab", "2511AB"),
    ("hoofdletters", "a", "A"),
    ("kleine_letters", "SOC", "soc"),
    ("ja_nee", "Ja", "J"),
    ("ja_nee", "2", "N"),
    ("ja_nee", "misschien", "misschien"),
    ("min_achteraan", "123-", "-123"),
    ("min_achteraan", "-123", "-123"),
    ("min_achteraan", "1.234,50-", "-1.234,50"),
    ("min_achteraan", "12,5+", "12,5"),
    ("min_achteraan", "12-13-", "12-13-"),
    ("teken_los", "-   123", "-123"),
    ("teken_los", "+ 12,50", "+12,50"),
    ("teken_los", "- x", "- x"),
    ("centen", "63343", "633.43"),
    ("centen", "-5", "-0.05"),
    ("centen", "12", "0.12"),
    ("centen", "633.43", "633.43"),
    ("centen", "n.v.t.", "n.v.t."),
    ("decimale_komma", "1.234,50", "1234.50"),
    ("decimale_komma", "12,5", "12.5"),
    ("onbekend_code", "99", None),
    ("code_vertaald", "000000000", "ongeboren"),
    ("code_vertaald", "123456782", "123456782"),
    ("null_tekst", "NULL", None),
    ("sbi_code", "01.11.3", "01113"),
    ("tijd_2400", "2400", "0000"),
    ("dubbele_spaties", "Lus   3  noord", "Lus 3 noord"),
    ("geheel_getal", "2511.0", "2511"),
    ("geheel_getal", "2511.5", "2511.5"),
    ("moment_dmj", "31/12/2020 23:59", "2020-12-31 23:59:00"),
    ("moment_dmj", "2020-12-31 23:59:10", "2020-12-31 23:59:10"),
    ("moment_lokaal", "2020-07-01T22:30:00Z", "2020-07-02 00:30:00"),
    ("moment_lokaal", "2020-01-01T12:00:00.250+00:00", "2020-01-01 13:00:00"),
    ("moment_lokaal", "2020-01-01T12:00:00", "2020-01-01 12:00:00"),
    ("moment_lokaal", "2020-02-30T12:00:00Z", "2020-02-30T12:00:00Z"),
]


def _apply(rule: str, values: list[str | None]) -> list[str | None]:
    frame = pl.DataFrame({"x": values}, schema={"x": pl.String})
    return frame.select(RULES[rule].apply(pl.col("x"), ARGUMENTS.get(rule)).alias("x"))["x"].to_list()


@pytest.mark.parametrize(("rule", "value", "mended"), CASES, ids=lambda value: str(value))
def test_rule_mends(rule: str, value: str, mended: str | None) -> None:
    assert _apply(rule, [value]) == [mended]


def test_every_rule_has_a_case_and_words() -> None:
    assert {rule for rule, _, _ in CASES} == set(RULES)
    assert all(rule.told for rule in RULES.values())


awkward = st.text("0123456789 -+.,:/GMgmJaNeeNULL\té", min_size=1, max_size=14)


@pytest.mark.parametrize("rule", sorted(RULES))
@given(values=st.lists(awkward, min_size=1, max_size=20))
@settings(max_examples=60)
def test_rule_is_idempotent_and_its_glance_misses_nothing(rule: str, values: list[str]) -> None:
    once = _apply(rule, list(values))
    assert _apply(rule, once) == once
    glance = RULES[rule].concerns
    if glance is not None:
        frame = pl.DataFrame({"x": values}, schema={"x": pl.String})
        seen = frame.select(glance(pl.col("x"), ARGUMENTS.get(rule)))["x"].to_list()
        assert all(concerned or before == after for concerned, before, after in zip(seen, values, once, strict=True))


def test_counts_values_per_column_and_rule_and_marks_rows() -> None:
    column = load("brp")["bsn"]
    mended = repair(pl.DataFrame({"bsn": ["123456782", " 12345672", "", "12345672"]}), [column])
    assert mended.rows["bsn"].to_list() == ["123456782", "012345672", None, "012345672"]
    assert mended.counts == {("bsn", "spaties_weg"): 1, ("bsn", "voorloopnullen"): 2}
    assert mended.touched.to_list() == [False, True, False, True]


def test_what_was_agreed_is_read_and_is_no_repair() -> None:
    column = load("jw301")["ingangsdatum"]
    mended = repair(pl.DataFrame({"ingangsdatum": ["2020-03-16", "16-03-2020"]}), [column])
    assert mended.rows["ingangsdatum"].to_list() == ["20200316", "20200316"]
    assert mended.counts == {("ingangsdatum", "datum_dmj"): 1}
    assert mended.touched.to_list() == [False, True]


def test_an_agreed_code_is_read_and_told_and_another_is_mended() -> None:
    column = load("bdfs")["einddatum_vordering"]
    mended = repair(pl.DataFrame({column.name: ["99999999", "99991231", "20200131", "99999999"]}), [column])
    assert mended.rows[column.name].to_list() == [None, None, "20200131", None]
    assert mended.read == {(column.name, "open_einde"): 2}
    assert mended.counts == {(column.name, "open_einde"): 1}
    assert mended.touched.to_list() == [False, True, False, False]


def test_what_the_layout_takes_for_nothing_is_no_repair() -> None:
    column = load("bus")["einddatum_persoon"]
    mended = repair(pl.DataFrame({"einddatum_persoon": ["00000000", "20200131"]}), [column])
    assert mended.rows["einddatum_persoon"].to_list() == [None, "20200131"]
    assert not mended.counts


@given(
    st.lists(st.none() | st.sampled_from(["1", "01", " 1", "x", "", "12345672", "012345672", "123456782"]), max_size=30)
)
@settings(max_examples=60)
def test_a_coded_column_is_mended_as_its_rows_are(values: list[str | None]) -> None:
    column = load("brp")["bsn"]
    rows = pl.DataFrame({"bsn": values}, schema={"bsn": pl.String})
    distinct = rows["bsn"].unique(maintain_order=True)
    places = [distinct.to_list().index(value) for value in values]
    own = coded(distinct, pl.Series(places, dtype=pl.UInt32))
    assert own.cast(pl.String).to_list() == values
    plain, few = repair(rows, [column]), repair(own.to_frame(), [column])
    assert is_coded(few.rows["bsn"])
    assert few.rows["bsn"].cast(pl.String).to_list() == plain.rows["bsn"].to_list()
    assert (few.counts, few.read, few.touched.to_list()) == (plain.counts, plain.read, plain.touched.to_list())
