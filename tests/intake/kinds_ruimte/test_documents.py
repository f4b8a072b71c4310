"""JSON and Parquet readers: read back as rendered, hostile documents refused with the remedy, memory bounded."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Source, read, render
from quality.contracts.model import Contract, Layout, load

PATHS = {
    "rsin": "../organisatie/KvK nr",
    "straatnaam": "adres/(straat) naam",
    "postcode": "plek/0",
    "woonplaats": "plek/1",
}
BASE = load("bedrijven")


def _as(format_: str, records: list[str], **options: Any) -> Contract:
    """The shipped business register in another layout, with nested names where those are possible."""
    paths = {**PATHS, "rsin": PATHS["rsin"] if records else "rsin"} if format_ == "json" else {}
    columns = tuple(replace(column, physical_name=paths.get(column.name, "")) for column in BASE.columns)
    return replace(BASE, layout=Layout(format_, ";", "utf-8", {"records": records, **options}), columns=columns)


NESTED, FLAT, PARQUET = _as("json", ["leveringen", "vestigingen"]), _as("json", []), _as("parquet", [])


def _read(data: bytes, contract: Contract) -> tuple[pl.DataFrame, pl.DataFrame]:
    pieces = list(read(Source("bestand", data), contract))
    return pl.concat([p.rows for p in pieces]), pl.concat([p.broken for p in pieces])


text = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@pytest.mark.parametrize("contract", [NESTED, FLAT, PARQUET], ids=["nested", "flat", "parquet"])
@given(rows=st.lists(st.tuples(text, text, st.integers(-(10**14), 10**14) | text), min_size=1, max_size=20))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30, deadline=None)
def test_what_was_rendered_is_read_back(contract: Contract, rows: list[tuple[str, str, Any]]) -> None:
    values = {"handelsnaam": [r[0] for r in rows], "straatnaam": [r[1] for r in rows]}
    values |= {"huisnummer": [str(r[2]) for r in rows], "postcode": ["2511AB"] * len(rows)}
    frame = pl.DataFrame({name: values.get(name, [""] * len(rows)) for name in contract.names})
    found, broken = _read(render(frame, contract), contract)
    assert found.select(contract.names).fill_null("").equals(frame)
    assert found[LINE].to_list() == list(range(1, len(rows) + 1))
    assert not len(broken)


def test_values_around_the_list_go_with_its_records() -> None:
    outer = [{"organisatie": {"KvK nr": n}, "vestigingen": [{"kvknummer": str(n)}] * 2} for n in (1, 2)]
    found, _ = _read(json.dumps({"leveringen": outer}).encode(), NESTED)
    assert found.select("rsin", "kvknummer").rows() == [("1", "1"), ("1", "1"), ("2", "2"), ("2", "2")]


def test_records_that_cannot_be_used_are_told_apart_and_none_is_lost() -> None:
    items = ['{"kvknummer": "1"}', '{"kvknummer": nul}', '{"kvknummer": "3"} 7', '{"kvknummer": {"x": 1}}',
             '{"kvknummer": "5", "kvknummer": "6"}', '{"kvknummer": "7"}']  # fmt: skip
    found, broken = _read(f"[{','.join(items)}]".encode(), FLAT)
    assert found.select(LINE, "kvknummer").rows() == [(1, "1"), (6, "7")]
    told = [(2, "json"), (3, "json"), (4, "geneste_waarde"), (5, "dubbele_sleutel")]
    assert broken.select(LINE, "regel").rows() == told


@pytest.mark.parametrize(
    "second", [{"Vestigingen": [{}]}, {"vestigingen": None}, {"vestigingen": {}}, {}, [{}], None], ids=str
)
def test_no_list_of_records_goes_unmissed(second: Any) -> None:
    """Of two organisations one has its records elsewhere: the other's alone would look like a whole delivery."""
    data = json.dumps({"leveringen": [{"vestigingen": [{"kvknummer": "1"}]}, second]}).encode()
    with pytest.raises(DeliveryError, match="no list of records under `leveringen / vestigingen`"):
        _read(data, NESTED)


@pytest.mark.parametrize("stray", [b"7", b'"a } , [ text"', b"null", b"-1.5e3", b"[]", b'["x", {"y": 1}]', b"bare"])
@pytest.mark.parametrize("where", ["{s}, {r}, {r}", "{r}, {s},\n{r}", "{r}, {r}, {s}", "{r}, {s}, {s}, {r}", "{s}"])
def test_every_element_of_a_list_is_a_record(stray: bytes, where: str) -> None:
    """A value between two records took the first of them along: two were counted where three stood."""
    row = {"kvknummer": "1, 2 ]"}
    body = where.format(s=stray.decode(), r=json.dumps(row))
    rows, broken = _read(f"[{body}]".encode(), FLAT)
    records, strays = where.count("{r}"), where.count("{s}")
    assert (len(rows), len(broken)) == (records, strays)
    assert sorted([*rows[LINE], *broken[LINE]]) == list(range(1, records + strays + 1))
    assert set(broken["record"]) == {stray.decode()}
    assert set(broken["regel"]) == {"json"}


def test_a_list_of_numbers_is_no_delivery() -> None:
    with pytest.raises(DeliveryError, match="over 100000 values stand among the records"):
        _read(b"[" + b"1," * 200_000 + b"1]", FLAT)


def test_escapes_over_the_edge_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.deliveries import jsons

    names = ["a\\", 'b"', 'c\\\\"{[', "\\\\\\\\", "]}"]
    data = json.dumps([{"handelsnaam": name} for name in names]).encode()
    for size in range(1, 12):
        monkeypatch.setattr(jsons, "_CHUNK", size)
        monkeypatch.setattr(jsons, "_PIECE", size)
        assert _read(data, FLAT)[0]["handelsnaam"].to_list() == names


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[" * 100_000, "nested deeper than 64"),
        (b'[{"a":' * 40 + b"1" + b"}]" * 40, "nested deeper than 64"),
        (b'[{"kvknummer": "1"}', "was cut off"),
        (b'[{"kvknummer": "1}]', "was cut off"),
        (b'{"kvknummer": "1"}', "no list of records at the top"),
        (b'[{"kvknummer": "1"}]]', "more brackets than it opens"),
        (b'[{"kvknummer": "' + b"x" * (17 << 20) + b'"}]', "record 1: larger than 16 MB"),
        (b'[{"kvknummer": "\\u0000"}]', "a NUL character"),
        (b'[{"kvknummer": "\0"}]', "a NUL byte"),
        (b'[{"kvknumer": "1"}]', "was `kvknummer` renamed?"),
        (json.dumps([{f"k{n}": n for n in range(100_000)}]).encode(), "and 99995 more"),
        (b'[{"x\\": DROP TABLE": "1"}]', "key 1 of record 1 is not in the contract:"),
        ('[{"kvknummer": "é"}]'.encode("cp1252"), "not utf-8"),
        (b"dit is geen JSON", "no valid JSON"),
        (b"PK\x03\x04", "a ZIP or XLSX file"),
    ],
    ids=["brackets", "nesting", "cut off", "open text", "no list", "too many ends", "large record", "escaped NUL",
         "NUL", "renamed", "100,000 keys", "SQL in a key", "encoding", "no JSON", "zip"],
)  # fmt: skip
def test_hostile_json_is_refused_with_the_reason(data: bytes, told: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        _read(data, FLAT)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "document",
    ['{"leveringen": {"vestigingen": [{"kvknummer": "1"}]}}', '{"anders": [{"vestigingen": [{"kvknummer": "1"}]}]}',
     '{"leveringen": [{"vestigingen": [{"kvknummer": "1"}]}, {"vestigingen": []}], "leveringen": []}'],
    ids=["no list around", "other key around", "a key twice"],
)  # fmt: skip
def test_records_elsewhere_are_refused(document: str) -> None:
    with pytest.raises(DeliveryError, match=r"no list of records under `leveringen / vestigingen`"):
        _read(document.encode(), NESTED)


def test_a_field_of_ten_megabytes_costs_no_more_than_its_piece() -> None:
    data = b'[{"kvknummer": "' + b"x" * (10 << 20) + b'"}, {"kvknummer": "2"}]'
    tracemalloc.start()
    found, _ = _read(data, FLAT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["kvknummer"].str.len_chars().to_list() == [10 << 20, 1]
    assert peak < 300 << 20


def test_parquet_types_become_the_agreed_text() -> None:
    import datetime as dt
    from decimal import Decimal
    from io import BytesIO

    typed = {
        "peildatum": [dt.date(2020, 1, 31)],
        "indicatie_zzp": [True],
        "huisnummer": [7],
        "rsin": [Decimal("12.50")],
    }
    sink = BytesIO()
    pl.DataFrame({name: typed.get(name, [None]) for name in PARQUET.names}).write_parquet(sink)
    found, _ = _read(sink.getvalue(), PARQUET)
    assert found.select(list(typed)).row(0) == ("20200131", "J", "7", "12.5")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"kvknumer": ["1"]}, "was `kvknummer` renamed?"),
        ({f"k{n}": [1] for n in range(3000)}, "3000 columns"),
        ({name: [["x"]] for name in BASE.names}, "holds lists or objects"),
        ({name: ["x"] for name in (*BASE.names, "RSIN")}, "column `rsin` stands there twice"),
        ({name: ["x\0"] for name in BASE.names}, "NUL character"),
    ],
)
def test_other_parquet_is_refused_with_the_reason(columns: dict[str, Any], told: str) -> None:
    from io import BytesIO

    sink = BytesIO()
    pl.DataFrame(columns).write_parquet(sink)
    with pytest.raises(DeliveryError) as caught:
        _read(sink.getvalue(), PARQUET)
    assert told in str(caught.value)
    with pytest.raises(DeliveryError, match="is it the agreed Parquet"):
        _read(sink.getvalue()[:-20], PARQUET)
