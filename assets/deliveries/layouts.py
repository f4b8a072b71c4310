"""Readers of delivered files, by layout: bytes in, columns of text out, a bounded piece at a time.

Belongs here: how a file is taken apart, and what makes it unreadable. Does not belong here: what a value may be.
Every reader yields the contract's columns as text with the number of the line or record that each row stood on, and
beside them the lines that could not be taken apart. No message holds a delivered value.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import hashlib
import importlib
import io
import mmap
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from assets.deliveries.delivered import LINE, DeliveryError
from quality.coded import coded
from quality.contracts.model import Contract

Buffer = bytes | mmap.mmap

_PIECE = 32 << 20  # bytes of a file that are in work at once
_RECORDS, _RECORD_BYTES = 245_760, 64 << 20  # the same of records of fixed width; so many make two of DuckDB's groups
_CACHED = 256 << 10  # bytes that are looked through at once: they stay in the processor's cache
_BLOCK = 4096  # records that are taken apart at once
_NUMBERS = {1: pa.uint8(), 2: pa.uint16(), 4: pa.uint32(), 8: pa.uint64()}  # bytes that are compared as one number
_SAMPLE = 1024
_LONGEST_HEADER = 64 << 10
_MOST_BREAKS_IN_A_FIELD = 20
_TELLING_WIDTH = 4  # columns from which on so many delimiters are no chance
_MOST_BROKEN = 1_000_000  # lines of a piece that cannot be taken apart: each takes memory until it is told
_MOST_EMPTY = 10_000_000
_CHUNK = 4 << 20


@dataclass(frozen=True)
class Piece:
    """A part of a delivery.

    Attributes:
        rows: the contract's columns as text (null: the field is absent), and `LINE`.
        broken: lines that could not be taken apart: `LINE`, `regel` (the rule they break), `record` (as delivered).
        mended: rows that the layout itself had to mend: `LINE`, `regel`.
        noted: what is told of the file and touches no row: by rule, how often.
    """

    rows: pl.DataFrame
    broken: pl.DataFrame
    mended: pl.DataFrame
    noted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """The bytes of a delivery and the name under which its messages speak of it."""

    name: str
    data: Buffer

    @classmethod
    def open(cls, path: Path, told: str | None = None) -> Source:
        """Map a file into memory.

        Args:
            path: where it is.
            told: what messages call it, where its own name may not be told.

        Raises:
            DeliveryError: it is missing, no file, or not to be read.
        """
        try:
            # a pipe would wait for ever for someone to write
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise DeliveryError(f"{told or path} is a folder, pipe or device: deliver a file")
                empty = file.seek(0, io.SEEK_END) == 0
                return cls(told or path.name, b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise DeliveryError(
                f"{told or path} cannot be read ({error.strerror}): check the path and its rights"
            ) from None

    def fingerprint(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for place in range(0, len(self.data), _PIECE):
            digest.update(memoryview(self.data)[place : place + _PIECE])
            self.done_with(place)
        return digest.hexdigest()

    def done_with(self, end: int) -> None:
        """Let go of the memory that holds the file up to here; it is read again where that is asked for."""
        if isinstance(self.data, mmap.mmap) and (whole := end // mmap.PAGESIZE * mmap.PAGESIZE):
            self.data.madvise(mmap.MADV_DONTNEED, 0, whole)


def read(source: Source, contract: Contract) -> Iterator[Piece]:
    """Take a delivery apart as its contract says.

    Raises:
        DeliveryError: the encoding, header or structure is not the agreed one; before or while reading.
    """
    if contract.layout.format in ELSEWHERE:
        pieces: Iterator[Piece] = _elsewhere(contract, "read")(source, contract)
        return pieces
    return READERS[contract.layout.format](source, contract)


def _elsewhere(contract: Contract, function: str) -> Callable[..., Any]:
    # imported when met: a factory without such deliveries need not load what they take
    found: Callable[..., Any] = getattr(importlib.import_module(ELSEWHERE[contract.layout.format]), function)
    return found


# --- encoding --------------------------------------------------------------------------------------------------


def _checked_encoding(source: Source, contract: Contract) -> int:
    """Whether the bytes are text in the agreed encoding.

    Returns:
        Where the text starts: behind a byte order mark, which is no data.

    Raises:
        DeliveryError: they are not; the message says on which line, and which encoding it looks like.
    """
    data, agreed = source.data, contract.layout.encoding
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DeliveryError(f"{source.name} is UTF-16: deliver it as {agreed}")
    for signature, kind in _SIGNATURES.items():
        if data[: len(signature)] == signature:
            raise DeliveryError(f"{source.name} is {kind}, not the agreed text file: deliver it unpacked, as {agreed}")
    start = len(codecs.BOM_UTF8) if data[:3] == codecs.BOM_UTF8 else 0
    strict, utf8 = codecs.getincrementaldecoder(agreed)(), codecs.getincrementaldecoder("utf-8")()
    is_ascii, is_utf8 = True, True
    for place in range(start, len(data), _PIECE):
        raw = np.frombuffer(data, np.uint8, min(_PIECE, len(data) - place), place)
        if not raw.min():
            line = _line_of(data, place + int(raw.argmin()))
            raise DeliveryError(
                f"{source.name}, line {line}: a NUL byte stands where text belongs: the file is damaged"
            )
        source.done_with(place)
        if raw.max() < 128 and not (strict.getstate()[0] or utf8.getstate()[0]):
            continue
        is_ascii = False
        piece = raw.tobytes()
        last = place + _PIECE >= len(data)
        pending = len(strict.getstate()[0])
        try:
            strict.decode(piece, last)
        except UnicodeDecodeError as error:
            line = _line_of(data, max(0, place - pending + error.start))
            raise DeliveryError(f"{source.name}, line {line}: not {agreed}: save it as {agreed}") from None
        if is_utf8:
            try:
                utf8.decode(piece, last)
            except UnicodeDecodeError:
                is_utf8 = False
    if not is_ascii and is_utf8 and not _same(agreed, "utf-8"):
        # nearly every byte is some letter in a single-byte encoding, so reading on would garble names silently
        raise DeliveryError(f"{source.name} is UTF-8 where {agreed} was agreed: save it as {agreed}")
    return start


_SIGNATURES: Mapping[bytes, str] = {
    b"PK\x03\x04": "a ZIP or XLSX file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "a 7-Zip file",
}


def _same(one: str, other: str) -> bool:
    return codecs.lookup(one).name == codecs.lookup(other).name


def _line_of(data: Buffer, place: int) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8, count=place) == ord("\n"))) + 1


# --- delimited -------------------------------------------------------------------------------------------------


def read_delimited(source: Source, contract: Contract) -> Iterator[Piece]:
    """Text with a delimiter, a header line, and double quotes where needed (RFC 4180).

    The order of the columns is free; their names are not. A row with too few or too many fields is told apart. Empty
    lines are no rows but count as lines; a row counts as one line, also where a field in it holds line breaks.
    """
    import pyarrow.csv as pc

    start = _checked_encoding(source, contract)
    header, rest = _header(source, contract, start)
    broken: list[tuple[int, str, str]] = []
    seen_broken: set[int] = set()
    run_on: list[int] = []

    def not_taken_apart(row: pc.InvalidRow) -> str:
        number = (row.number or 0) + 1  # the header is line 1
        # told below: nothing can be raised from here
        if _holds_rows(row.text.count("\n"), row.text.count(contract.layout.delimiter), len(header)):
            run_on.append(number + int(np.searchsorted(empty, number)))
        broken.append((number, "aantal_velden", row.text))
        return "skip" if len(broken) < _MOST_BROKEN else "error"

    if not len(memoryview(source.data)[rest:]):
        return
    empty = _empty_lines(source, rest)
    body = pa.BufferReader(pa.py_buffer(source.data).slice(rest))
    try:
        reader = pc.open_csv(
            body,
            # one thread: the line number of a broken row is known to it alone
            pc.ReadOptions(
                use_threads=False, block_size=_PIECE, column_names=header, encoding=contract.layout.encoding
            ),
            pc.ParseOptions(
                delimiter=contract.layout.delimiter, newlines_in_values=True, invalid_row_handler=not_taken_apart
            ),
            pc.ConvertOptions(
                column_types=dict.fromkeys(header, pa.large_string()),
                include_columns=contract.names,
                strings_can_be_null=False,
            ),
        )
        line = 2
        for batch in reader:
            if run_on:
                raise DeliveryError(_open_quote(source, run_on[0]))
            numbers = _lines_without(line, batch.num_rows, seen_broken, broken)
            line = int(numbers[-1]) + 1 if len(numbers) else line
            frame, lines = pl.from_arrow(batch), _lines(numbers, empty)
            assert isinstance(frame, pl.DataFrame)
            _refuse_open_quote(source, frame, contract.layout.delimiter, lines)
            told, broken = broken, []
            yield Piece(frame.with_columns(lines), _apart(told, contract, empty), _mended([]))
    except pa.ArrowInvalid as error:
        if run_on or "straddling" in str(error):
            raise DeliveryError(_open_quote(source, run_on[0] if run_on else 0)) from None
        if len(broken) >= _MOST_BROKEN:
            raise DeliveryError(
                f"{source.name} holds over {_MOST_BROKEN} lines that cannot be taken apart: is this the agreed file?"
            ) from None
        raise DeliveryError(
            f"{source.name} cannot be taken apart: is it the agreed CSV, whole and unchanged?"
        ) from None
    if run_on:
        raise DeliveryError(_open_quote(source, run_on[0]))
    if broken:
        yield Piece(
            pl.DataFrame(schema={**dict.fromkeys(contract.names, pl.String), LINE: pl.Int64}),
            _apart(broken, contract, empty),
            _mended([]),
        )


def _header(source: Source, contract: Contract, start: int) -> tuple[list[str], int]:
    """Names in the header line, as the contract spells them, and where the first record starts."""
    agreed, delimiter = contract.layout.encoding, contract.layout.delimiter
    end = source.data.find(b"\n", start, start + _LONGEST_HEADER)
    if end < 0:
        end = len(source.data)
        if end - start > _LONGEST_HEADER:
            raise DeliveryError(f"{source.name}: the header line is longer than 64 kB: is this the agreed file?")
    text = bytes(source.data[start:end]).decode(agreed).rstrip("\r")
    try:
        found = next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        raise DeliveryError(f"{source.name}, line 1: the header cannot be taken apart at `{delimiter}`") from None
    named = spelled(found, contract)
    if len(named) == 1 and len(contract.names) > 1:
        raise DeliveryError(f"{source.name}, line 1: no `{delimiter}` found: it was agreed as the separator")
    refuse_header(named, contract, f"{source.name}, line 1")
    return named, min(end + 1, len(source.data))


def refuse_header(named: Sequence[str], contract: Contract, where: str, places: Sequence[str] = ()) -> None:
    """Hold the columns of a file to those of the contract.

    Args:
        named: the columns, from `spelled`.
        contract: what was agreed.
        where: begins the message.
        places: what each column is called by where it stands; its number where there are none.

    Raises:
        DeliveryError: one is missing, unknown or there twice; the message tells which, and what it may have been. An
            unknown one is told by its place: what stands in a header may be a row, or the name of a person.
    """
    missing = [name for name in contract.names if name not in named]
    unknown = [(place, name) for place, name in enumerate(named) if name not in contract.names]
    twice = sorted(name for name, count in Counter(named).items() if count > 1)
    if missing and not set(named) & set(contract.names):
        start = contract.layout.delimiter.join(column.header for column in contract.columns[:3])
        raise DeliveryError(f"{where}: the header is missing: start with {start}…")
    if missing or unknown or twice:
        told = [f"column `{contract[name].header}` is missing" for name in missing]
        for place, name in unknown[:5]:
            at = places[place] if places else place + 1
            if not name:
                told.append(f"column {at} has no name")
                continue
            close = difflib.get_close_matches(name[:100], missing or contract.names, n=1)
            hint = f" (was `{contract[close[0]].header}` renamed?)" if close else ""
            told.append(f"column {at} is not in the contract{hint}")
        if len(unknown) > 5:
            told.append(f"and {len(unknown) - 5} more columns are not in the contract")
        told += [f"column `{name}` stands there twice" for name in twice if name in contract.names]
        remedy = f"deliver by contract {contract.name} {contract.version}, or agree on a new version"
        raise DeliveryError(f"{where}: {'; '.join(told)}: {remedy}")


def spelled(names: Sequence[str], contract: Contract) -> list[str]:
    """Names in a file as the contract's own, whatever their case; unknown ones in lower case."""
    known = {column.header.lower(): column.name for column in contract.columns}
    return [known.get(name.strip().lower(), name.strip().lower()) for name in names]


def _lines_without(first: int, count: int, seen: set[int], broken: list[tuple[int, str, str]]) -> npt.NDArray[np.int64]:
    """Line numbers of the next `count` good rows, broken ones left out; `seen` keeps those that lie further on."""
    seen.update(number for number, _, _ in broken)
    seen.difference_update([number for number in seen if number < first])
    skipped = np.fromiter(seen, np.int64, len(seen))
    span = np.arange(first, first + count + len(skipped), dtype=np.int64)
    return span[~np.isin(span, skipped)][:count]


def _empty_lines(source: Source, start: int) -> npt.NDArray[np.int64]:
    """Per empty line how many lines with something on them, the header included, come before it; ascending."""
    data, found = source.data, [np.zeros(0, np.int64)]
    if data.find(b"\n\n", start - 1) < 0 and data.find(b"\n\r\n", start - 1) < 0:
        return found[0]
    whole = np.frombuffer(data, np.uint8)
    inside, last, lines, count = 0, start - 1, 1, 0
    for place in range(start, len(whole), _CHUNK):
        raw = whole[place : place + _CHUNK]
        quotes, ends = np.flatnonzero(raw == ord('"')), np.flatnonzero(raw == ord("\n"))
        ends = ends[(np.searchsorted(quotes, ends) + inside) % 2 == 0] + place  # the others stand in a field
        inside = (inside + len(quotes)) % 2
        if not len(ends):
            continue
        lengths = np.diff(ends, prepend=last) - 1
        bare = (lengths == 0) | ((lengths == 1) & (whole[ends - 1] == ord("\r")))
        before = lines + np.cumsum(~bare)
        found.append(before[bare])
        last, lines, count = int(ends[-1]), int(before[-1]), count + len(found[-1])
        if count > _MOST_EMPTY:
            raise DeliveryError(f"{source.name} holds over {_MOST_EMPTY} empty lines: is this the agreed file?")
        source.done_with(place)
    return np.concatenate(found)


def _lines(numbers: npt.NDArray[np.int64], empty: npt.NDArray[np.int64]) -> pl.Series:
    """Numbers among the lines with something on them as numbers among all lines."""
    return pl.Series(LINE, numbers + np.searchsorted(empty, numbers))


def _apart(
    broken: list[tuple[int, str, str]], contract: Contract, empty: npt.NDArray[np.int64] | None = None
) -> pl.DataFrame:
    """Lines that could not be taken apart; of a print's head and foot it is told that they are just that."""
    told = _broken(broken)
    if contract.print_line:
        is_print = pl.col("record").str.contains(contract.print_line)
        told = told.with_columns(regel=pl.when(is_print).then(pl.lit("afdrukregel")).otherwise("regel"))
    return told if empty is None else told.with_columns(_lines(told[LINE].to_numpy(), empty))


def _holds_rows(breaks: Any, delimiters: Any, width: int) -> Any:
    """Whether text (numbers, or expressions) is rows that a quote swallowed: each brings a break and its delimiters."""
    return (breaks > _MOST_BREAKS_IN_A_FIELD) | (
        (breaks > 0) & (delimiters >= breaks * (width - 1)) & (width >= _TELLING_WIDTH)
    )


def _refuse_open_quote(source: Source, frame: pl.DataFrame, delimiter: str, lines: pl.Series) -> None:
    """One quote that is never closed swallows the rows behind it into a single field: that is no row to refuse."""
    break_in = frame.select(pl.all().str.contains("\n", literal=True).any())
    for name in [column.name for column in break_in if column.item()]:
        breaks, delimiters = (
            pl.col(name).str.count_matches(sign, literal=True).cast(pl.Int64) for sign in ("\n", delimiter)
        )
        first = frame.select(_holds_rows(breaks, delimiters, frame.width).arg_true().first()).item()
        if first is not None:
            raise DeliveryError(_open_quote(source, lines[first]))


def _open_quote(source: Source, line: int) -> str:
    where = f", record {line}" if line else ""
    return f"{source.name}{where}: a field runs on over many lines: a double quote is opened and never closed"


# --- fixed width -----------------------------------------------------------------------------------------------


def read_fixed(source: Source, contract: Contract) -> Iterator[Piece]:
    """Records of fixed width, one a line (LF or CRLF); spaces around a value are padding.

    Spaces behind the record are mended; any other length is told apart.
    """
    if len(bytes(range(256)).decode(contract.layout.encoding, "replace")) != 256:
        raise DeliveryError(f"contract {contract.name}: fixed positions need a single-byte encoding, as cp1252")
    place = _checked_encoding(source, contract)
    width = sum(column.width or 0 for column in contract.columns)
    view = memoryview(source.data)
    line, most = 1, min(_RECORD_BYTES, _RECORDS * (width + 2))
    while place < len(view):
        end = min(place + most, len(view))
        if end < len(view):
            end = source.data.rfind(b"\n", place, end) + 1
            if end <= place:
                raise DeliveryError(f"{source.name}, line {line}: longer than {most} bytes: is this the agreed file?")
        raw = np.frombuffer(view[place:end], np.uint8)
        piece, lines = _fixed_piece(raw, contract, width, line)
        source.done_with(end)
        yield piece
        place, line = end, line + lines


def _fixed_piece(raw: npt.NDArray[np.uint8], contract: Contract, width: int, first: int) -> tuple[Piece, int]:
    parts = [np.flatnonzero(raw[at : at + _CACHED] == ord("\n")) + at for at in range(0, len(raw), _CACHED)]
    ends = np.concatenate(parts)
    if not len(ends) or ends[-1] != len(raw) - 1:
        ends = np.append(ends, len(raw))
    starts = np.concatenate([[0], ends[:-1] + 1])
    has_return = (ends > starts) & (raw[np.maximum(ends - 1, 0)] == ord("\r"))
    lengths = ends - starts - has_return
    numbers = first + np.arange(len(starts), dtype=np.int64)
    fits = lengths == width
    mended: list[tuple[int, str]] = []
    broken: list[tuple[int, str, str]] = []
    if not fits.all():
        for row in np.flatnonzero(~fits & (lengths > 0)):
            record = raw[starts[row] : starts[row] + lengths[row]]
            if lengths[row] > width and not (record[width:] != ord(" ")).any():
                fits[row] = True
                mended.append((int(numbers[row]), "spaties_achter_record"))
                continue
            text = record.tobytes().decode(contract.layout.encoding, "replace")
            broken.append((int(numbers[row]), "regellengte", text))
    records = _records(raw, starts[fits], width)
    rows = _columns(records, contract)
    lines = pl.Series(LINE, numbers[fits])
    return Piece(rows.with_columns(lines), _apart(broken, contract), _mended(mended)), len(starts)


def _records(raw: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint8]:
    """The good records as an (n, width) array; without a copy where they stand at one distance."""
    if not len(starts):
        return np.zeros((0, width), np.uint8)
    step = int(starts[1] - starts[0]) if len(starts) > 1 else width
    if (np.diff(starts) == step).all():
        tail = raw[int(starts[0]) :]
        records: npt.NDArray[np.uint8] = np.lib.stride_tricks.as_strided(
            tail, (len(starts), width), (step, 1), writeable=False
        )
        return records
    inside = np.zeros(len(raw) + 1, np.int8)
    np.add.at(inside, starts, 1)
    np.add.at(inside, starts + width, -1)
    kept: npt.NDArray[np.uint8] = raw[np.cumsum(inside[:-1]).astype(bool)].reshape(-1, width)
    return kept


def _columns(records: npt.NDArray[np.uint8], contract: Contract) -> pl.DataFrame:
    """The columns of records, coded where few values stand in them."""
    widths = [column.width or 0 for column in contract.columns]
    made = []
    for column, cells in zip(contract.columns, _cells(records, widths), strict=True):
        distinct, places = _distinct(cells)
        text = _text(distinct[:, : column.width], contract.layout.encoding).str.strip_chars(" ").alias(column.name)
        made.append(text if places is None else coded(text, places))
    return pl.DataFrame(made)


def _cells(records: npt.NDArray[np.uint8], widths: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
    """The bytes of every column apart, those of narrow ones filled up with NUL to a whole number (`_NUMBERS`)."""
    room = [next((size for size in _NUMBERS if width <= size), width) for width in widths]
    cells = [np.zeros((len(records), size), np.uint8) for size in room]
    for start in range(0, len(records), _BLOCK):  # a block stays in the processor's cache while it is taken apart
        block, place = records[start : start + _BLOCK], 0
        for cell, width in zip(cells, widths, strict=True):
            cell[start : start + _BLOCK, :width] = block[:, place : place + width]
            place += width
    return cells


def _distinct(cells: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], pl.Series | None]:
    """The distinct rows of bytes and per row the place of its own; the rows as they are where most of them differ."""
    count, width = cells.shape
    if width in _NUMBERS:
        # from its buffer: `pa.array` would load pandas to look whether it is handed a series of that
        words = pa.Array.from_buffers(_NUMBERS[width], count, [None, pa.py_buffer(cells)])
    else:
        sample = cells[:: count // _SAMPLE + 1].view(f"V{width}").ravel().tolist()
        if len(set(sample)) > len(sample) // 2:
            return cells, None
        words = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), count, [None, pa.py_buffer(cells)])
    made = words.dictionary_encode()
    if len(made.dictionary) > count // 4:
        return cells, None
    distinct = np.frombuffer(made.dictionary.buffers()[1], np.uint8, len(made.dictionary) * width)
    return distinct.reshape(-1, width), pl.Series(made.indices)


def _text(cells: npt.NDArray[np.uint8], encoding: str) -> pl.Series:
    """Rows of bytes as text, one character a byte: only single-byte encodings have fixed positions."""
    count, width = cells.shape
    if (cells > 127).any():
        points = np.array([ord(char) for char in bytes(range(256)).decode(encoding, "replace")], "<u4")
        return pl.Series(pa.array(points[cells].view(f"<U{width}").ravel(), pa.large_string()))
    offsets = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * width)
    return pl.Series(pa.LargeStringArray.from_buffers(count, offsets, pa.py_buffer(np.ascontiguousarray(cells))))


# --- rendering -------------------------------------------------------------------------------------------------


def render(frame: pl.DataFrame, contract: Contract, **extra: Any) -> bytes:
    """A frame of text as a file in the contract's layout: what a supplier would have sent.

    Args:
        frame: the contract's columns.
        contract: says the layout.
        extra: what a layout with a module of its own can add, as a footer.

    Raises:
        DeliveryError: a value does not fit its width.
    """
    text = frame.select(pl.col(contract.names).cast(pl.String).fill_null(""))
    if contract.layout.format in ELSEWHERE:
        made: bytes = _elsewhere(contract, "render")(text, contract, **extra)
        return made
    if contract.layout.format == "gescheiden":
        text = text.rename({column.name: column.header for column in contract.columns})
        body = text.write_csv(separator=contract.layout.delimiter, line_terminator="\r\n")
        return body.encode(contract.layout.encoding)
    for column in contract.columns:
        longest = text[column.name].str.len_chars().max()
        if isinstance(longest, int) and longest > (column.width or 0):
            raise DeliveryError(f"column `{column.name}`: a value is longer than {column.width} positions")
    line = text.select(pl.concat_str(pl.col(c.name).str.pad_end(c.width or 0) for c in contract.columns))
    records = line.to_series().to_list()
    return "".join(f"{record}\r\n" for record in records).encode(contract.layout.encoding)


def _broken(rows: list[tuple[int, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={LINE: pl.Int64, "regel": pl.String, "record": pl.String}, orient="row")


def _mended(rows: list[tuple[int, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={LINE: pl.Int64, "regel": pl.String}, orient="row")


READERS: Mapping[str, Callable[[Source, Contract], Iterator[Piece]]] = {
    "gescheiden": read_delimited,
    "vaste_breedte": read_fixed,
}
"""A reader per layout of this module; a contract names one of them, or of those elsewhere."""

ELSEWHERE: Mapping[str, str] = {
    "werkblad": "assets.deliveries.xlsx",
    "xml": "assets.deliveries.xml",
    "json": "assets.deliveries.jsons",
    "parquet": "assets.deliveries.parquet",
}
"""Layouts with a module of their own, which has `read(source, contract)` and `render(text frame, contract)`."""
