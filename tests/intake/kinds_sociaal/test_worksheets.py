"""Worksheets: read back as rendered, habits of exports borne, and what would fill the memory never opened."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import polars as pl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import Source, read, render
from assets.deliveries.reasons import in_dutch
from quality.contracts.model import load

GWS = load("gws_trajecten")
HEADERS = [column.header for column in GWS.columns]
GOOD = ["00000001", "00000002", "1980", "M", "hoofdpersoon", "01-01-2019", "", "01", "Gehuwd", "02", "14", "01-01-2019"]


def _book(write: Callable[[xlsxwriter.worksheet.Worksheet], None]) -> bytes:
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True, "default_date_format": "dd-mm-yyyy"}) as book:
        write(book.add_worksheet())
    return out.getvalue()


def _read(data: bytes) -> tuple[pl.DataFrame, pl.DataFrame]:
    pieces = list(read(Source("export.xlsx", data), GWS))
    return pl.concat(piece.rows for piece in pieces), pl.concat(piece.broken for piece in pieces)


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(rows=st.lists(st.tuples(words, words), min_size=1, max_size=20))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25, deadline=None)
def test_a_worksheet_is_read_back_as_rendered(rows: list[tuple[str, str]]) -> None:
    frame = pl.DataFrame({name: [""] * len(rows) for name in GWS.names}).with_columns(
        pl.Series("dossiernr", [row[0] for row in rows]), pl.Series("type", [row[1] for row in rows])
    )
    found, broken = _read(render(frame, GWS))
    assert found.drop(LINE).fill_null("").equals(frame)
    assert found[LINE].to_list() == list(range(3, 3 + len(rows)))
    assert not len(broken)


def test_blank_rows_a_title_and_typed_cells_are_borne() -> None:
    def write(sheet: xlsxwriter.worksheet.Worksheet) -> None:
        import datetime

        sheet.write(1, 0, "Selectie Dossiernr")
        sheet.write_row(4, 1, HEADERS)
        typed = [1, 2, 1980, "M", "partner", None, None, 1, "Gehuwd", 2, 14, None]
        sheet.write_row(5, 1, typed)
        sheet.write_datetime(5, 6, datetime.datetime(2019, 5, 3))
        sheet.write(8, 1, "Printdatum 03-05-2020 09:14")

    data = _book(write)
    found, broken = _read(data)
    assert found.select(LINE, "dossiernr", "startdatum").rows() == [(6, "1", "2019-05-03")]
    assert broken.select(LINE, "regel").rows() == [(9, "afdrukregel")]
    tally = Tally()
    list(judged(Source("export.xlsx", data), GWS, "2020-05-03", tally))
    assert (tally.accepted, tally.refused) == (1, 1)  # the printed line is told, and fails no delivery
    assert tally.findings["dossiernr", "voorloopnullen", "hersteld"].count == 1


def test_no_row_of_a_worksheet_vanishes() -> None:
    """Above the header, or where every cell is an error: what stood there is told and counted."""

    def write(sheet: xlsxwriter.worksheet.Worksheet) -> None:
        sheet.write_row(0, 0, GOOD)
        sheet.write_row(1, 0, ["Selectie", "2020-05-03"])
        sheet.write_row(2, 0, HEADERS)
        sheet.write_row(3, 0, ["00000003", *GOOD[1:]])
        for place in range(len(HEADERS)):
            sheet.write_formula(4, place, "=NA()", None, "#N/A")
        sheet.write_row(5, 0, ["00000004", *GOOD[1:]])
        sheet.write_formula(5, 8, "=1/0", None, "#DIV/0!")  # a column that may be empty

    data = _book(write)
    found, broken = _read(data)
    assert found.select(LINE, "dossiernr").rows() == [(4, "00000003")]
    assert broken.select(LINE, "regel").rows() == [(1, "boven_kop"), (5, "foutwaarde"), (6, "foutwaarde")]
    assert broken["record"].to_list()[0].startswith("00000001\t00000002\t1980")
    tally = Tally()
    with pytest.raises(DeliveryError, match="3 of 4 rows are refused"):
        list(judged(Source("export.xlsx", data), GWS, "2020-05-03", tally))
    assert all(finding["told"].startswith("Rij ") for finding in tally.as_json() if finding["severity"] == "error")


def _spilled(*further: list[list[str]]) -> bytes:
    """A table, a legend on the next sheet, and what further sheets hold; the last is hidden."""
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        for rows in ([HEADERS, GOOD], [["Dossiernr", "nummer van het dossier"]], *further):
            sheet = book.add_worksheet()
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
        book.worksheets()[-1].hide()
    return out.getvalue()


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ((3, 4, 4, 4), "E4:E5"),
        ((3, 6, 3, 7), "G4:H4"),
        ((1, 0, 1, 5), None),  # a title
        ((2, 2, 2, 3), None),  # of the header
        ((7, 0, 7, 5), None),  # the foot of the print
        ((20, 0, 22, 5), None),  # where nothing stands
    ],
)
@pytest.mark.parametrize("legend", [False, True])
def test_merged_cells_of_a_record_are_refused_by_name(
    place: tuple[int, int, int, int], told: str | None, *, legend: bool
) -> None:
    """All but the first of them are empty in the file: optional columns lost their values without a word."""

    def write(sheet: xlsxwriter.worksheet.Worksheet) -> None:
        sheet.merge_range(*place, "")
        sheet.write_row(2, 0, HEADERS)
        for row in range(3, 7):
            sheet.write_row(row, 0, GOOD)
        sheet.write(7, 0, "Einde bestand")

    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        write(book.add_worksheet())
        if legend:
            book.add_worksheet("legenda").merge_range("A1:C9", "uitleg")
    if told is None:
        assert len(_read(out.getvalue())[0]) == 4
        return
    with pytest.raises(DeliveryError, match=f"cells {told} are merged") as caught:
        _read(out.getvalue())
    assert in_dutch(str(caught.value)).startswith(f"De cellen {told} zijn samengevoegd")


def test_a_legend_on_another_sheet_is_borne() -> None:
    found, broken = _read(_spilled())
    assert (len(found), len(broken)) == (1, 0)


def test_a_full_sheet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.deliveries.xlsx._MOST_ROWS", 3)
    with pytest.raises(DeliveryError, match="the sheet is full"):
        _read(_inline([GOOD, GOOD]))


def test_a_formula_is_never_evaluated_only_its_last_value_is_read() -> None:
    def write(sheet: xlsxwriter.worksheet.Worksheet) -> None:
        sheet.write_row(1, 0, HEADERS)
        sheet.write_row(2, 0, GOOD)
        sheet.write_formula(2, 2, '=WEBSERVICE("http://127.0.0.1/")', None, "1980")
        sheet.write_string(2, 4, "=cmd|' /C calc'!A0")

    found, _ = _read(_book(write))
    assert found.select("geboortejaar", "type").rows() == [("1980", "=cmd|' /C calc'!A0")]


def _with_part(name: str, content: bytes) -> bytes:
    """A good workbook with one part replaced."""
    good = zipfile.ZipFile(io.BytesIO(_book(lambda sheet: sheet.write_row(1, 0, HEADERS))))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in good.namelist():
            archive.writestr(part, content if part == name else good.read(part))
    return out.getvalue()


UNPACKED = 32 << 20
"""What a workbook may unpack to in these tests, in bytes: a bomb of the real limit takes seconds to make."""

SHEET = "xl/worksheets/sheet1.xml"
MAIN = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'


def _inline(records: list[list[str]]) -> bytes:
    """A workbook with the header and these records, its cells written by hand."""
    lines = []
    for number, record in enumerate([HEADERS, *records], 2):
        cells = (
            f'<c r="{chr(65 + place)}{number}" t="inlineStr"><is><t>{value}</t></is></c>'
            for place, value in enumerate(record)
        )
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    return _with_part(SHEET, MAIN + f"<sheetData>{''.join(lines)}</sheetData></worksheet>".encode())


def _far_cell() -> bytes:
    row = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c   r = "XFD1048576"><v>1</v></c></row>'
    return _with_part(SHEET, MAIN + b"<sheetData>" + row + b"</sheetData></worksheet>")


def _bomb() -> bytes:
    return _with_part(SHEET, MAIN + b" " * (UNPACKED + 1) + b"<sheetData/></worksheet>")


def _lying_bomb() -> bytes:
    """A part that says it is small: sizes and checksum of its directory entry are those of its first bytes."""
    data = bytearray(_bomb())
    place = data.index(b"PK\x01\x02")
    while data[place + 46 : place + 46 + len(SHEET)] != SHEET.encode():
        place = data.index(b"PK\x01\x02", place + 4)
    struct.pack_into("<I", data, place + 16, zlib.crc32(MAIN))
    struct.pack_into("<I", data, place + 24, len(MAIN))
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_far_cell, "spans 1048576 rows by 16384 columns"),
        (_bomb, "unpacks to more than 32 MB"),
        (_lying_bomb, "unpacks to more than 32 MB"),
        (lambda: _with_part(SHEET, b'<!DOCTYPE x [<!ENTITY a "b">]>' + MAIN), "declares a document type"),
        (lambda: _with_part("xl/workbook.xml", b"<workbook"), "cannot be read as XLSX"),
        (lambda: b"PK\x03\x04 afgebroken", "is no XLSX file"),
        (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "old XLS or protected with a password"),
        (lambda: b"Dossiernr;Clientnummer\n1;2\n", "is no XLSX file"),
        (lambda: _book(lambda sheet: sheet.write_row(1, 0, HEADERS)), "holds no rows"),
        (lambda: _book(lambda sheet: None), "no header within"),
        (lambda: _book(lambda sheet: sheet.write_row(1, 0, HEADERS[1:])), "column `Dossiernr` is missing"),
        (lambda: _book(lambda sheet: sheet.write_row(1, 0, [*HEADERS, "BSN"])), "column M is not in the contract"),
        (lambda: _book(lambda sheet: sheet.write_row(1, 0, [*HEADERS, *map(str, range(9000))])), "and 8995 more"),
        (lambda: _inline([[*GOOD[:4], "hoofd\0persoon", *GOOD[5:]]]), "NUL character"),
        (lambda: _spilled([HEADERS, GOOD]), "another sheet holds the agreed columns too"),
        (lambda: _with_part(SHEET, MAIN + b'<c r="A1"><f>B1</f>\n</c></worksheet>'), "no value was ever computed"),
        (lambda: _with_part(SHEET, MAIN + b'<c r="A1"><x:f t="shared" si="0"/></c>'), "no value was ever computed"),
        (lambda: _with_part(SHEET, MAIN + b'<c r="A1" t="e"/>' * 100_001), "over 100000 cells with an error"),
    ],
    ids=[
        "far cell", "zip bomb", "lying zip bomb", "entities", "damaged", "cut off", "password", "CSV", "no rows",
        "empty", "missing", "unknown", "9,000 columns", "NUL", "spilled over",
        "not computed", "not computed, shared", "errors",
    ],
)  # fmt: skip
def test_a_dangerous_or_other_workbook_is_refused_with_the_remedy(
    make: Callable[[], bytes], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.deliveries.xlsx._MOST_UNPACKED", UNPACKED)
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(DeliveryError) as caught:
            list(judged(Source("export.xlsx", data), GWS, "2020-05-03", Tally()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in str(caught.value)
    assert peak < 100 << 20


def test_a_cell_of_ten_megabytes_refuses_its_row_alone() -> None:
    data = _inline([GOOD, ["00000009", *GOOD[1:4], "x" * (10 << 20), *GOOD[5:]]])
    tally = Tally()
    with pytest.raises(DeliveryError, match="rule `lengte`"):  # one of two is more than the agreed share
        list(judged(Source("export.xlsx", data), GWS, "2020-05-03", tally))
    assert (tally.accepted, tally.refused) == (1, 1)
    assert "xxx" not in str(tally.as_json())
