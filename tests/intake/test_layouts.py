"""Readers: what was rendered is read back, line numbers are right, and what cannot be read is told."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.deliveries import layouts
from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Source, read, render
from quality.contracts.model import Contract, load

BRP, BUS, COMPANIES = load("brp"), load("bus"), load("bedrijven")


def _frame(contract: Contract, **values: list[str]) -> pl.DataFrame:
    height = len(next(iter(values.values())))
    return pl.DataFrame({name: values.get(name, [""] * height) for name in contract.names})


def _read(data: bytes, contract: Contract) -> tuple[pl.DataFrame, pl.DataFrame]:
    pieces = list(read(Source("bestand", data), contract))
    if not pieces:
        return pl.DataFrame(schema=dict.fromkeys(contract.names, pl.String)), pl.DataFrame({LINE: []})
    return pl.concat([p.rows for p in pieces]), pl.concat([p.broken for p in pieces])


latin = st.text(st.characters(codec="cp1252", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), max_size=3)


@given(rows=st.lists(st.tuples(latin, latin), min_size=1, max_size=30))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50, deadline=None)
def test_fixed_width_is_read_back_as_rendered(rows: list[tuple[str, str]]) -> None:
    frame = _frame(BUS, softwarepakket=[r[0] for r in rows], registratienummer_uitkering=[r[1] for r in rows])
    data = render(frame, BUS)
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return  # two letters that happen to be UTF-8: refused as such, see below
    found, broken = _read(data, BUS)
    assert found.select(BUS.names).equals(frame)
    assert found[LINE].to_list() == list(range(1, len(rows) + 1))
    assert not len(broken)


@given(
    rows=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=15),
        min_size=1,
        max_size=30,
    )
)
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50, deadline=None)
def test_delimited_is_read_back_as_rendered(rows: list[str]) -> None:
    frame = _frame(BRP, bsn=["1"] * len(rows), straatnaam=rows)
    found, broken = _read(render(frame, BRP), BRP)
    assert found.select(BRP.names).equals(frame)
    assert not len(broken)


def test_columns_may_come_in_another_order_and_the_header_in_capitals() -> None:
    header = ";".join(reversed(BRP.names)).upper()
    row = ";".join(str(place) for place in range(len(BRP.names)))
    found, _ = _read(f"{header}\n{row}\n".encode(), BRP)
    assert found["bsn"].to_list() == [str(len(BRP.names) - 1)]


def test_a_byte_order_mark_is_no_data() -> None:
    data = b"\xef\xbb\xbf" + render(_frame(BRP, bsn=["123456782"]), BRP)
    assert _read(data, BRP)[0]["bsn"].to_list() == ["123456782"]


def test_broken_rows_are_told_apart_with_their_line() -> None:
    lines = render(_frame(BRP, bsn=[str(n) for n in range(5)]), BRP).split(b"\r\n")
    lines[2] = b"te;weinig"
    lines.insert(4, b"Afgedrukt op 01-01-2021")
    found, broken = _read(b"\r\n".join(lines), BRP)
    assert broken.select(LINE, "regel").rows() == [(3, "aantal_velden"), (5, "afdrukregel")]
    assert found.select(LINE, "bsn").rows() == [(2, "0"), (4, "2"), (6, "3"), (7, "4")]


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_row_is_told_by_its_own_line_where_empty_lines_stand_between(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(layouts, "_CHUNK", 64)
    whole = ["1" + ";" * 17, '2;"' + ending * 3 + '"' + ";" * 16, ";" * 17, "3" + ";" * 17]
    lines = [
        ";".join(BRP.names),
        *whole[:1],
        "",
        "te;weinig",
        *["", ""],
        *whole[1:3],
        *[""] * 40,
        "x",
        whole[3],
        "",
        "",
    ]
    found, broken = _read(ending.join(lines).encode(), BRP)
    assert found[LINE].to_list() == [2, 7, 8, 50]  # a row is one line, whatever stands in its fields
    assert broken[LINE].to_list() == [4, 49]


@pytest.mark.parametrize("closed", [3, 4, None], ids=["one line on", "two lines on", "never"])
def test_no_row_vanishes_in_the_field_of_another(closed: int | None) -> None:
    """A quote opened in one row and closed in a later one leaves as many fields as agreed: no row would be missed."""
    rows = [f"{n};;Jansen" + ";" * 15 for n in range(6)]
    rows[2] = rows[2].replace("Jansen", '"Jansen')
    if closed is not None:
        rows[closed] = rows[closed].replace("Jansen", 'Jansen"')
    with pytest.raises(DeliveryError, match="record 4: a field runs on"):
        _read(_csv(BRP, *rows), BRP)
    told, broken = _read(_csv(BRP, '1;;"Eerst dit; dan dat;\nen tot slot; dit\n;"' + ";" * 15), BRP)
    assert (len(told), len(broken)) == (1, 0)  # a remark of some lines is none


def test_lines_that_no_one_could_read_are_not_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_MOST_BROKEN", 1000)
    with pytest.raises(DeliveryError, match="over 1000 lines that cannot be taken apart"):
        _read(_csv(BRP, *["x"] * 2000), BRP)
    monkeypatch.setattr(layouts, "_MOST_EMPTY", 1000)
    with pytest.raises(DeliveryError, match="over 1000 empty lines"):
        _read(_csv(BRP, *[""] * 2000), BRP)


def test_records_of_another_length_are_told_apart_with_their_line() -> None:
    lines = render(_frame(BUS, softwarepakket=["a", "b", "c", "d"]), BUS).split(b"\r\n")
    lines[1] = lines[1][:-3]
    lines[2] += b"   "
    found, broken = _read(b"\r\n".join(lines), BUS)
    assert broken.select(LINE, "regel").rows() == [(2, "regellengte")]
    assert found.select(LINE, "softwarepakket").rows() == [(1, "a"), (3, "c"), (4, "d")]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("final", [True, False])
def test_line_ends_of_either_kind(ending: bytes, final: bool) -> None:
    data = render(_frame(BUS, softwarepakket=["a", "b"]), BUS).replace(b"\r\n", ending)
    found, broken = _read(data if final else data.removesuffix(ending), BUS)
    assert found["softwarepakket"].to_list() == ["a", "b"]
    assert not len(broken)


def _csv(contract: Contract, *rows: str) -> bytes:
    return ("\n".join([";".join(contract.names), *rows]) + "\n").encode(contract.layout.encoding)


@pytest.mark.parametrize(
    ("contract", "data", "told"),
    [
        (BRP, "é".encode("cp1252") + _csv(BRP), "line 1: not utf-8"),
        (COMPANIES, _csv(COMPANIES).decode().encode() + "café".encode(), "is UTF-8 where cp1252 was agreed"),
        (BRP, _csv(BRP).decode().encode("utf-16"), "is UTF-16"),
        (BRP, b"PK\x03\x04rest", "a ZIP or XLSX file"),
        (BRP, _csv(BRP, "1\0" + ";" * 17), "line 2: a NUL byte"),
        (BRP, _csv(BRP).replace(b"bsn;", b"bsnr;"), "column `bsn` is missing; column 1 is not in the contract (was"),
        (BRP, _csv(BRP).replace(b";straatnaam", b""), "column `straatnaam` is missing"),
        (BRP, _csv(BRP).replace(b"\n", b";extra\n"), "column 19 is not in the contract"),
        (BRP, _csv(BRP).replace(b"\n", b";\n"), "column 19 has no name"),
        (BRP, b"jansen;bsn;piet\n", "column 1 is not in the contract; column 3 is not in the contract"),
        (BRP, _csv(BRP).replace(b";", b","), "no `;` found"),
        (BRP, b"123456782;12;Jan\n", "the header is missing"),
        (BRP, b"a;" * 100_000, "longer than 64 kB"),
        (BRP, _csv(BRP, '"open' + ";" * 17, *["1" + ";" * 17] * 40), "a double quote is opened and never closed"),
    ],
    ids=[
        "cp1252 for UTF-8", "UTF-8 for cp1252", "UTF-16", "zip", "NUL", "renamed", "missing", "unknown", "unnamed",
        "a row for a header", "separator",
        "no header", "too many columns", "open quote",
    ],
)  # fmt: skip
def test_what_cannot_be_taken_in_is_told_with_the_remedy(contract: Contract, data: bytes, told: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        _read(data, contract)
    assert told in str(caught.value)
    assert not re.search("123456782|jansen|piet", str(caught.value))


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "weg.csv", tmp_path):
        with pytest.raises(DeliveryError, match="cannot be read"):
            Source.open(path)


def test_a_file_of_broken_rows_takes_no_more_time_per_row_the_longer_it_is() -> None:
    rows = 100_000
    lines = [";".join(COMPANIES.names), *["te;kort", ";".join("1" for _ in COMPANIES.names)] * rows]
    began = time.process_time()
    found, broken = _read("\n".join(lines).encode("cp1252"), COMPANIES)
    assert time.process_time() - began < 20  # looking each one up among the others took minutes
    assert (len(found), len(broken)) == (rows, rows)
    assert found[LINE].to_list() == list(range(3, 2 * rows + 2, 2))


def test_a_pattern_that_looks_back_and_forth_takes_no_more_time_than_the_line_is_long() -> None:
    line = " x" * 500_000  # 60 signs of it took the engine that was used before over a minute
    for contract, good in ((BRP, _csv(BRP)), (BUS, b"")):
        slow = replace(contract, print_line=r"^(\s*x*)+y$")
        began = time.process_time()
        _, broken = _read(good + f"{line}\n{line}y\n".encode(), slow)
        assert time.process_time() - began < 5
        assert broken["regel"].to_list()[1] == "afdrukregel"
        assert broken["regel"].to_list()[0] != "afdrukregel"


def test_a_header_of_very_many_columns_is_refused_at_once() -> None:
    """Names were counted one by one: the 32,000 that fit in the longest header took eight seconds."""
    contract = load("bedrijven")
    header = ";".join(["peildatum", *("a" for _ in range(32_000))])[:65_000]
    begin = time.process_time()
    with pytest.raises(DeliveryError, match="is missing"):
        list(read(Source("bedrijven.csv", f"{header}\n".encode()), contract))
    assert time.process_time() - begin < 3
