"""Reader of worksheets (XLSX), as systems of record export them.

Belongs here: how a table stands on a worksheet, and what makes a workbook dangerous to open. What stands above the
header (blank rows, a title) is no data, but a row there that is filled as a record is told apart; so are rows that a
print function left below, by the contract's `afdrukregel`, and rows with an error (#N/A) where a value belongs. Of a
formula only the value last computed is read; nothing is ever evaluated or fetched.

Layout options: `blad` (name of the sheet; the first where unset), `eerste_record` (row of the first record, as the
supplier's export has it; the reader finds the header by its names).
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Piece, Source, refuse_header, spelled
from quality.contracts.model import Contract

if TYPE_CHECKING:
    import fastexcel

_LARGEST_FILE = 256 << 20  # bytes
_MOST_UNPACKED = 1 << 29  # bytes, all parts together
_MOST_PARTS = 2_000
_MOST_CELLS = 20_000_000  # the rectangle from A1 to the last cell is held in memory
_MOST_ROWS = 1_048_576  # of a sheet; Excel's own limit
_MOST_FAULTS = 100_000  # cells with an error: each is told with its place
_MOST_IN_A_CELL = 32_767  # characters; Excel's own limit
_LARGEST_LIST = 1 << 20  # bytes, of the list of sheets
_LINKS = "xl/_rels/workbook.xml.rels"
_HEADER_WITHIN = 30  # rows
_ROWS = 200_000  # in a piece

_CELL = re.compile(rb"""\br\s?=\s?["']([A-Za-z]{1,3})([0-9]{1,10})["']""")
_FAULT = re.compile(rb"""\bt\s?=\s?["']e["']""")
_UNCOMPUTED = re.compile(rb"(?:</(?:\w+:)?f>|<(?:\w+:)?f(?: [^<>]*)?/>) ?</(?:\w+:)?c>")
_MERGED = re.compile(rb"""mergeCell [^<>]*?\bref ?= ?["']([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})["']""")
_SPACE = re.compile(rb"\s+")
Range = tuple[int, str, int, str]
"""Cells that are merged: first row and column, last row and column."""

_MIDNIGHT = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}) 00:00:00$"


def read(source: Source, contract: Contract) -> Iterator[Piece]:
    """The records of one worksheet, all cells as text; dates as jjjj-mm-dd.

    Raises:
        DeliveryError: it is no workbook, is protected, unpacks to more than is safe, has no such sheet, or its header
            is not the agreed one.
    """
    if len(source.data) > _LARGEST_FILE:
        raise DeliveryError(f"{source.name} is larger than {_LARGEST_FILE >> 20} MB: deliver it in parts, or as CSV")
    data = bytes(source.data)
    merged = _refuse_bomb(source.name, data)
    cells, faulty = _cells(source.name, data, contract)
    header = _header_row(cells, contract, source.name)
    if merged:
        _refuse_merged(source.name, cells, header, contract, merged.get(_part(source.name, data, contract), set()))
    names = spelled([str(value or "") for value in cells.row(header)], contract)
    body = cells.slice(header + 1).with_row_index(LINE, header + 2).cast({LINE: pl.Int64})
    used = [place for place, name in enumerate(names) if name or not _is_empty(body.to_series(place + 1))]
    letters = [_letters(place) for place in used]
    refuse_header([names[place] for place in used], contract, f"{source.name}, row {header + 1}", letters)
    columns = {names[place]: pl.col(cells.columns[place]) for place in used}
    body = body.filter(~pl.all_horizontal(pl.exclude(LINE).is_null()) | pl.col(LINE).is_in(faulty.implode()))
    record = pl.concat_str(cells.columns, separator="\t", ignore_nulls=True).alias("record")
    mended = pl.DataFrame(schema={LINE: pl.Int64, "regel": pl.String})
    above = _above(cells.head(header), contract)
    if len(above):
        none = pl.DataFrame(schema={**dict.fromkeys(contract.names, pl.String), LINE: pl.Int64})
        yield Piece(none, above.select(LINE, "regel", record), mended)
    for start in range(0, max(len(body), 1), _ROWS):
        part = body.slice(start, _ROWS).with_columns(_rule(cells.columns, faulty, contract))
        good = part.filter(pl.col("regel").is_null())
        rows = good.select(*(columns[name].alias(name) for name in contract.names), LINE)
        yield Piece(rows, part.filter(pl.col("regel").is_not_null()).select(LINE, "regel", record), mended)


def render(frame: pl.DataFrame, contract: Contract, footer: str | None = None) -> bytes:
    """A workbook with the records as text cells, the header right above the first record.

    Raises:
        DeliveryError: a value is longer than a cell can hold.
    """
    import xlsxwriter

    longest = frame.select(pl.max_horizontal(pl.all().str.len_chars().max())).item()
    if longest is not None and longest > _MOST_IN_A_CELL:
        raise DeliveryError(f"a value is longer than the {_MOST_IN_A_CELL} characters that a cell holds")
    out = io.BytesIO()
    first = int(contract.layout.options.get("eerste_record", 2)) - 1
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet(contract.layout.options.get("blad"))
        for place, column in enumerate(contract.columns):
            sheet.write_string(first - 1, place, column.header)
        for number, row in enumerate(frame.iter_rows(), first):
            for place, value in enumerate(row):
                if value:
                    sheet.write_string(number, place, value)
        if footer is not None:
            sheet.write_string(first + len(frame), 0, footer)
    return out.getvalue()


def _cells(name: str, data: bytes, contract: Contract) -> tuple[pl.DataFrame, pl.Series]:
    """Every cell of the sheet from A1 on, as text, and the rows that hold an error; an empty cell is null, so is it."""
    import fastexcel

    agreed = contract.layout.options.get("blad")
    try:
        book = fastexcel.read_excel(data)
        if agreed is not None and agreed not in book.sheet_names:
            raise DeliveryError(f"{name}: no sheet is called `{agreed}`: name it so, as was agreed")
        sheet, faulty = _sheet(book, 0 if agreed is None else agreed)
        places = range(1, len(book.sheet_names)) if agreed is None else ()
        others = [_sheet(book, place, _HEADER_WITHIN)[0] for place in places]
    except fastexcel.FastExcelError:
        # the reader's own words may quote a cell
        raise DeliveryError(f"{name} cannot be read as XLSX: save it again from the program it was made in") from None
    if len(sheet) >= _MOST_ROWS:
        raise DeliveryError(f"{name}: the sheet is full, and what came after it is lacking: deliver it as CSV")
    if any(max(_scores(other, contract), default=0) > len(contract.names) / 2 for other in others):
        raise DeliveryError(f"{name}: another sheet holds the agreed columns too: deliver all records on the first")
    if not sheet.width:
        return sheet, faulty  # told below: it has no header either
    frame = sheet.cast(dict.fromkeys(sheet.columns, pl.String))
    if frame.select(pl.any_horizontal(pl.all().str.contains("\0", literal=True).any())).item():
        raise DeliveryError(f"{name}: a NUL character stands where text belongs: the file is damaged")
    text = pl.all().str.replace(_MIDNIGHT, "${1}")
    return frame.select(pl.when(text != "").then(text)), faulty


def _sheet(book: fastexcel.ExcelReader, which: int | str, rows: int | None = None) -> tuple[pl.DataFrame, pl.Series]:
    found = book.load_sheet(which, header_row=None, skip_rows=0, n_rows=rows, dtypes="string")
    record, faults = found.to_arrow_with_errors()
    cells = pl.from_arrow(record)
    assert isinstance(cells, pl.DataFrame)
    return cells, pl.Series([fault.position[0] + 1 for fault in faults.errors] if faults else [], dtype=pl.Int64)


def _is_empty(column: pl.Series) -> bool:
    return column.null_count() == len(column)


def _scores(cells: pl.DataFrame, contract: Contract) -> list[int]:
    """Per row near the top how many of the agreed names stand in it."""
    agreed = {column.header.lower() for column in contract.columns}
    top = cells.head(_HEADER_WITHIN).iter_rows()
    return [len(agreed & {str(value).strip().lower() for value in row if value}) for row in top]


def _header_row(cells: pl.DataFrame, contract: Contract, name: str) -> int:
    """The row, near the top, with most of the agreed names."""
    scores = _scores(cells, contract)
    if not scores or max(scores) == 0:
        told = ", ".join(column.header for column in contract.columns[:3])
        raise DeliveryError(f"{name}: no header within {_HEADER_WITHIN} rows: name the columns {told}…")
    return scores.index(max(scores))


def _above(cells: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows above the header that are filled as a record is, told apart: of a title they have too many cells."""
    filled = pl.sum_horizontal(pl.all().is_not_null()) > len(contract.names) / 2
    told = cells.with_row_index(LINE, 1).cast({LINE: pl.Int64}).filter(filled)
    return told.with_columns(pl.lit("boven_kop").alias("regel"))


def _rule(columns: list[str], faulty: pl.Series, contract: Contract) -> pl.Expr:
    """Why a row is no record; null where it is one."""
    printed = pl.coalesce(columns).str.contains(contract.print_line) if contract.print_line else pl.lit(False)
    is_faulty = pl.col(LINE).is_in(faulty.implode())
    return pl.when(is_faulty).then(pl.lit("foutwaarde")).when(printed).then(pl.lit("afdrukregel")).alias("regel")


# --- what makes a workbook dangerous ---------------------------------------------------------------------------


def _refuse_merged(name: str, cells: pl.DataFrame, header: int, contract: Contract, merged: set[Range]) -> None:
    """Let no cell be empty because it was merged with one above or beside it.

    The header, what stands above it and the lines of a print may well be merged.

    Raises:
        DeliveryError: cells of a record are; the message names the first.
    """
    text = cells.select(pl.coalesce(cells.columns).alias("text")).to_series()
    filled = text.is_not_null() & (pl.int_range(len(text), eager=True) > header)
    if contract.print_line:
        filled &= ~text.str.contains(contract.print_line).fill_null(value=False)
    for top, left, bottom, right in sorted(merged):
        if filled.slice(top - 1, bottom - top + 1).any():
            raise DeliveryError(
                f"{name}: cells {left}{top}:{right}{bottom} are merged, and only the first of them holds a value: "
                "split them and fill in each"
            )


def _part(name: str, data: bytes, contract: Contract) -> str:
    """In which part of the workbook the sheet stands that is read.

    Raises:
        DeliveryError: the list of sheets is larger than any workbook needs.
    """
    from lxml import etree

    archive = zipfile.ZipFile(io.BytesIO(data))
    if any(archive.getinfo(part).file_size > _LARGEST_LIST for part in ("xl/workbook.xml", _LINKS)):
        raise DeliveryError(f"{name} is packed in an unusual way: save it again from the program it was made in")
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True)
    sheets = etree.fromstring(archive.read("xl/workbook.xml"), parser).findall("{*}sheets/{*}sheet")
    agreed = contract.layout.options.get("blad")
    sheet = next(one for one in sheets if agreed in (None, one.get("name")))
    (which,) = [value for key, value in sheet.items() if etree.QName(key).localname == "id"]
    links = etree.fromstring(archive.read(_LINKS), parser)
    target = next(str(link.get("Target")) for link in links if link.get("Id") == which)
    return target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _refuse_bomb(name: str, data: bytes) -> dict[str, set[Range]]:
    """Hold a workbook to what it may unpack to, by unpacking it: what it says of itself can be a lie.

    Returns:
        By part of the workbook, which cells are merged there.

    Raises:
        DeliveryError: it is no unprotected XLSX, or one that would fill the memory.
    """
    if data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise DeliveryError(f"{name} is an old XLS or protected with a password: save it as XLSX without one")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError):
        raise DeliveryError(f"{name} is no XLSX file: deliver the workbook itself, whole and unchanged") from None
    parts = archive.infolist()
    if "xl/workbook.xml" not in archive.NameToInfo:
        raise DeliveryError(f"{name} is a ZIP file but no XLSX: deliver the workbook itself")
    if len(parts) > _MOST_PARTS:
        raise DeliveryError(f"{name} holds {len(parts)} parts, more than any workbook needs: it is not opened")
    left = _MOST_UNPACKED
    merged: dict[str, set[Range]] = {}
    for part in parts:
        rows = columns = faults = 0
        tail = b""
        for piece in _unpacked(name, data, part):
            left -= len(piece)
            if left < 0:
                raise DeliveryError(
                    f"{name} unpacks to more than {_MOST_UNPACKED >> 20} MB: it is not opened; deliver it in parts, "
                    "or as CSV"
                )
            text = tail + _SPACE.sub(b" ", piece)
            if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
                raise DeliveryError(f"{name} declares a document type, which no workbook does: it is not opened")
            if _UNCOMPUTED.search(text):
                raise DeliveryError(
                    f"{name} holds formulas of which no value was ever computed: open it in the program it was made "
                    "in, and save it again"
                )
            faults += len(_FAULT.findall(text))
            for one in _MERGED.finditer(text):
                found = int(one[2]), one[1].decode(), int(one[4]), one[3].decode()
                merged.setdefault(part.filename, set()).add(found)
            for letters, digits in set(_CELL.findall(text)):
                rows, columns = max(rows, int(digits)), max(columns, _number(letters))
            tail = text[-64:]
        if faults > _MOST_FAULTS:
            raise DeliveryError(f"{name} holds over {_MOST_FAULTS} cells with an error (#N/A, #REF!): mend them first")
        if rows * columns > _MOST_CELLS:
            raise DeliveryError(
                f"{name}: a sheet spans {rows} rows by {columns} columns: remove the stray cells far outside the "
                "table, or deliver it as CSV"
            )
        if len(merged.get(part.filename, ())) > _MOST_FAULTS:
            raise DeliveryError(f"{name}: over {_MOST_FAULTS} ranges of cells are merged: split them")
    return merged


def _unpacked(name: str, data: bytes, part: zipfile.ZipInfo) -> Iterator[bytes]:
    """The bytes of a part, a bounded piece at a time, whatever size its directory entry claims."""
    header = data[part.header_offset : part.header_offset + 30]
    if len(header) < 30 or header[:4] != b"PK\x03\x04" or part.flag_bits & 0x1:
        raise DeliveryError(f"{name} is damaged or protected: save it again, without a password")
    start = part.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    packed = data[start : start + part.compress_size]
    if part.compress_type == zipfile.ZIP_STORED:
        yield from (packed[place : place + (1 << 22)] for place in range(0, len(packed), 1 << 22))
        return
    if part.compress_type != zipfile.ZIP_DEFLATED:
        raise DeliveryError(f"{name} is packed in an unusual way: save it again from the program it was made in")
    unpack = zlib.decompressobj(-15)
    try:
        for place in range(0, len(packed), 1 << 20):
            waiting = packed[place : place + (1 << 20)]
            while waiting and not unpack.eof:
                yield unpack.decompress(waiting, 1 << 22)
                waiting = unpack.unconsumed_tail
    except zlib.error:
        raise DeliveryError(f"{name} is damaged: have it delivered again") from None


def _number(letters: bytes) -> int:
    """Column A is 1, Z 26, AA 27."""
    number = 0
    for letter in letters.upper():
        number = number * 26 + letter - ord("A") + 1
    return number


def _letters(place: int) -> str:
    """Column 0 is A, 25 Z, 26 AA."""
    before, last = divmod(place, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
