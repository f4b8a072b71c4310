"""Judging: the labelled dirt is found exactly, nothing is dropped, and no value gets out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandera.errors import SchemaErrors

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.judging import Keys, Tally, judged, shape
from assets.deliveries.layouts import Source, render
from datafabriek.sample.deliveries import FILES, Manifest
from quality.coded import coded
from quality.contracts.model import load
from quality.schemas.deliveries import delivery_rules, eleven_test, judge, typed

BRP = load("brp")


def _judge(source: Source, name: str, period: str | None) -> tuple[Tally, pl.DataFrame, pl.DataFrame]:
    tally = Tally()
    parts = list(judged(source, load(name), period, tally))
    return tally, pl.concat([p.accepted for p in parts]), pl.concat([p.refused for p in parts])


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
def test_the_labelled_dirt_is_found_exactly(
    name: str, file: str, delivered: tuple[Path, Manifest], labels: pl.DataFrame
) -> None:
    folder, manifest = delivered
    tally, accepted, refused = _judge(Source.open(folder / name / file), name, load(name).period.of_file(file))
    spoiled = labels.filter(bestand=file)
    assert set(refused[LINE]) == set(spoiled.filter(uitkomst="quarantined")["regel"])
    assert tally.repaired == spoiled.filter(uitkomst="repaired").height
    printed = spoiled.filter(soort="afdrukregel").height
    records = next(one.records for one in manifest.files if one.name == file)
    assert tally.delivered == records + printed == len(accepted) + len(refused)


@given(
    st.lists(st.sampled_from(["123456782", "12345672", "111111110", "", "x", "999990019"]), min_size=1, max_size=40),
    st.integers(0, 3),
)
@settings(max_examples=30, deadline=None)
def test_delivered_is_accepted_plus_refused(numbers: list[str], broken: int) -> None:
    fill = {"gemeente_code": "518", "datum_aanvang_adres": "20200101"}
    rows = [{**dict.fromkeys(BRP.names, ""), **fill, "bsn": number} for number in numbers]
    data = render(pl.DataFrame(rows), BRP) + b"te;weinig\r\n" * broken
    tally = Tally()
    kept = 0
    try:
        for part in judged(Source("brp", data), BRP, "2020-12-31", tally):
            kept += len(part.accepted) + len(part.refused)
    except DeliveryError:
        pass
    assert tally.delivered == tally.accepted + tally.refused == kept == len(numbers) + broken


def test_the_first_of_a_key_counts_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.deliveries import layouts

    monkeypatch.setattr(layouts, "_PIECE", 4096)
    fill = {"gemeente_code": "0518", "datum_aanvang_adres": "20200101"}
    numbers = [f"{number:09}" for number in range(10_000, 60_000)]
    valid = pl.DataFrame({"bsn": numbers}).filter(eleven_test(pl.col("bsn")))["bsn"].to_list()[:800]
    rows = [{**dict.fromkeys(BRP.names, ""), **fill, "bsn": number} for number in [*valid, valid[0], valid[-1]]]
    tally, accepted, refused = _judge(Source("brp", render(pl.DataFrame(rows), BRP)), "brp", None)
    assert accepted["bsn"].to_list() == valid
    assert refused.select(LINE, pl.col("regels").list.first()).rows() == [(802, "bsn.sleutel"), (803, "bsn.sleutel")]
    assert tally.findings["bsn", "sleutel", "error"].count == 2


@pytest.mark.parametrize(("number", "good"), [("123456782", True), ("999990019", True), ("123456783", False)])
def test_the_eleven_test(number: str, good: bool) -> None:
    assert pl.DataFrame({"n": [number]}).select(eleven_test(pl.col("n"))).item() is good


def test_zero_is_no_bsn_and_a_null_is_not_judged() -> None:
    found = pl.DataFrame({"n": ["000000000", None, "x"]}).select(eleven_test(pl.col("n"))).to_series().to_list()
    assert found == [False, None, None]


def test_findings_hold_shapes_and_no_values() -> None:
    secret = {"bsn": "123456789", "geslachtsnaam": "Zeldzaamheid" * 30, "geslacht": "Q", "postcode": "geheim adres"}
    fill = {"gemeente_code": "0518", "datum_aanvang_adres": "20200101"}
    data = render(pl.DataFrame([{**dict.fromkeys(BRP.names, ""), **fill, **secret}]), BRP)
    tally = Tally()
    with pytest.raises(DeliveryError) as caught:
        list(judged(Source("brp", data), BRP, None, tally))
    told = str(tally.as_json()) + str(caught.value)
    assert "999999999" in told
    for value in secret.values():
        assert value not in told.replace("'A'", "")


def test_a_shape_moves_no_cursor() -> None:
    assert shape("\x1b[31mJan\n\r\x9b\u202e7\N{EM DASH}") == "?[99aAaa????9\N{EM DASH}"


def test_a_name_that_moved_into_an_open_column_is_not_shown() -> None:
    contract = load("bedrijven")
    fill = {"peildatum": "20200101", "kvknummer": "12345678", "gemeente_code": "0518"}
    data = render(pl.DataFrame([{**dict.fromkeys(contract.names, ""), **fill, "sbi_code": "Jansen J.P."}]), contract)
    tally = Tally()
    with pytest.raises(DeliveryError):
        list(judged(Source("bedrijven", data), contract, None, tally))
    examples = {finding["column"]: finding["examples"] for finding in tally.as_json()}
    assert examples["sbi_code"] == ["Aaaaaa A.A."]


BUS = load("bus")
RULES = delivery_rules(BUS, "2020-01")


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_coded_columns_are_judged_as_their_rows_are(data: st.DataObject) -> None:
    drawn = {
        "statistiekmaand": st.sampled_from(["01", "02"]),
        "statistiekcode": st.sampled_from(["01", "99", None]),
        "leefvorm": st.sampled_from(["1", "8", None]),
        "bedrag_norm": st.sampled_from(["1052", "a", None]),
        "bsn": st.sampled_from(["123456782", "123456789", None]),
        "aanvangsdatum_persoon": st.sampled_from(["20200101", "20200230", "17000101"]),
        "einddatum_persoon": st.sampled_from(["20191231", "20210101", None]),
    }
    height = data.draw(st.integers(0, 12))
    rows = {name: data.draw(st.lists(values, min_size=height, max_size=height)) for name, values in drawn.items()}
    plain = pl.DataFrame(
        {name: rows.get(name, ["0518"] * height) for name in BUS.names},
        schema_overrides=dict.fromkeys(BUS.names, pl.String),
    )
    of_values = {name: plain[name].unique(maintain_order=True) for name in BUS.names}
    few = pl.DataFrame(
        [coded(v, pl.Series([v.to_list().index(x) for x in plain[n]], dtype=pl.UInt32)) for n, v in of_values.items()]
    )
    found, expected = judge(few, RULES), judge(plain, RULES)
    assert found.sort("kolom", "regel", "index").equals(expected.sort("kolom", "regel", "index"))
    assert [*found["kolom"].unique(maintain_order=True)] == [*expected["kolom"].unique(maintain_order=True)]
    assert typed(few, BUS.columns).equals(typed(plain, BUS.columns))
    assert sorted(expected.rows()) == sorted(_by_pandera_alone(plain))


def _by_pandera_alone(frame: pl.DataFrame) -> list[tuple[int, str, str]]:
    """What the schema finds without a glance beforehand."""
    try:
        RULES.schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        names = {"not_nullable": "verplicht"}
        cases = error.failure_cases.select("index", "column", "check").rows()
        return [(index, column, names.get(check, check)) for index, column, check in cases]
    return []


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=12))
@settings(deadline=None)
def test_a_key_is_repeated_when_it_came_before_in_any_piece(pieces: list[list[int]]) -> None:
    keys, seen = Keys(), set[int]()
    for piece in pieces:
        halves = np.array(piece, np.uint64)
        found = keys.repeated(halves * np.uint64(7919), halves)
        expected = []
        for key in piece:
            expected.append(key in seen)
            seen.add(key)
        assert found.tolist() == expected


def test_keys_that_share_half_a_hash_are_two_keys() -> None:
    keys = Keys()
    one, two = np.array([5], np.uint64), np.array([6], np.uint64)
    assert [keys.repeated(one, one).item(), keys.repeated(one, two).item(), keys.repeated(one, one).item()] == [
        False, False, True,
    ]  # fmt: skip
