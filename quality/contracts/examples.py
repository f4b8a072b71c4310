"""An example of a delivery as a table of text, whatever it comes in, with the layout in which its reader finds it.

Belongs here: telling formats apart, and where records, columns and positions lie. Does not belong here: what a column
may be (drafting), and reading deliveries (assets.deliveries). Examples come from a supplier too: nothing in them is
evaluated or fetched, and what unpacks to more than an example needs is not opened. No message holds a value.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from quality.contracts.model import ContractError
from quality.schemas.deliveries import eleven_test

MOST_ROWS = 200_000
"""So many rows of the example are looked at."""

_LARGEST = 64 << 20  # bytes of a document that is read whole
_MOST_UNPACKED = 512 << 20
_MOST_COLUMNS = 2_000
_HEADER_WITHIN = 30  # rows of a sheet
_MOST_SHARE = 0.95


@dataclass(frozen=True)
class Column:
    """Where a column stands in the file: its name (or path) there where it differs, and its width in positions."""

    physical_name: str = ""
    width: int | None = None


@dataclass(frozen=True)
class Example:
    """An example taken apart.

    Attributes:
        rows: all text, missing values empty; columns under names that a contract may use.
        columns: where each stands.
        layout: the contract's property of that name.
        kind: of file, as ODCS's `physicalType` names it.
        print_line: pattern of lines that are no records; None where none were seen.
        found: what is to be said of the file as a whole.
    """

    rows: pl.DataFrame
    columns: Mapping[str, Column]
    layout: Mapping[str, Any]
    kind: str
    print_line: str | None = None
    found: Sequence[str] = field(default_factory=tuple)


def read_example(path: Path, widths: Sequence[int] | None = None) -> Example:
    """Take an example apart.

    Args:
        path: the file.
        widths: widths of the columns of a file of fixed width; guessed where None.

    Raises:
        ContractError: it cannot be read, or is nothing that a contract describes.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            size = path.stat().st_size
    except OSError as error:
        raise ContractError(f"{path} cannot be read ({error.strerror}): check the path") from None
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:4] == b"PAR1":
        return _parquet(path)
    if size > _LARGEST and (head[:2] == b"PK" or bare[:1] in (b"<", b"{", b"[")):
        raise ContractError(f"{path.name} is larger than {_LARGEST >> 20} MB: draft from a smaller example")
    if head[:4] == b"PK\x03\x04":
        return _sheet(path)
    if b"\0" in head:
        raise ContractError(f"{path.name} is no text, and no XLSX or Parquet: ask for one of those, or for CSV")
    if bare[:1] == b"<":
        return _xml(path)
    if bare[:1] in (b"{", b"["):
        return _json(path)
    return _text(path, widths)


def named(text: str) -> str:
    """A name as contracts have it: small letters, digits and _, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_")
    return name if not name or name[0].isalpha() else f"kolom_{name}"


def _held(path: Path, names: Sequence[str], where: str) -> list[str]:
    """Names for columns, one each.

    Raises:
        ContractError: a column has none, or two have one.
    """
    made = [named(one) for one in names]
    twice = [one for one, count in Counter(made).items() if count > 1]
    if twice or any(not one or not re.search("[a-z]", text.lower()) for one, text in zip(made, names, strict=True)):
        raise ContractError(f"{path.name}{where}: not every column has a name of its own: put a header above the rows")
    return made


def _columns(names: Sequence[str], there: Sequence[str]) -> dict[str, Column]:
    """Columns whose name in the file is another than in the contract, capitals aside."""
    bare = (text.strip() for text in there)
    return {
        name: Column("" if text.lower() == name else text) for name, text in zip(names, bare, strict=True)
    }  # fmt: skip


def _refuse_empty(path: Path, rows: pl.DataFrame) -> pl.DataFrame:
    if not len(rows):
        raise ContractError(f"{path.name} holds no rows: a draft needs some")
    return rows


# --- text ------------------------------------------------------------------------------------------------------


def _text(path: Path, widths: Sequence[int] | None) -> Example:
    data = path.read_bytes()
    found = ["de markering van UTF-8 (BOM) voorop"] if data[:3] == b"\xef\xbb\xbf" else []
    try:
        text, encoding = data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = data.decode("cp1252", "replace"), "cp1252"
    head, _, body = text.partition("\n")
    head = head.rstrip("\r")
    delimiter = max(";,\t|", key=head.count)
    lengths = Counter(len(line.rstrip("\r")) for line in text.split("\n")[:MOST_ROWS] if line.strip())
    width, common = lengths.most_common(1)[0] if lengths else (0, 0)
    is_fixed = common > 1 and common >= 0.9 * sum(lengths.values()) and len(head) == width
    first = [line.count(delimiter) for line in text.split("\n")[:50] if line.strip()]
    if widths is not None or (is_fixed and len(set(first)) > 1) or (is_fixed and not first[0]):
        return _fixed(path, text, width, widths, found)
    if not head.count(delimiter):
        raise ContractError(
            f"{path.name}, line 1: no header with ; , | or tabs, and no lines of one length: a draft needs one of both"
        )
    if not body.strip():
        raise ContractError(f"{path.name} holds a header and no rows: a draft needs some")
    header = next(csv.reader([head], delimiter=delimiter))
    names = _held(path, header, ", line 1")
    try:
        rows = pl.read_csv(
            io.BytesIO(body.encode()), separator=delimiter, has_header=False, new_columns=names,
            infer_schema=False, n_rows=MOST_ROWS, truncate_ragged_lines=True,
        ).fill_null("")  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"{path.name} cannot be taken apart at `{delimiter}` ({type(error).__name__})") from None
    if rows.width != len(names) or not len(rows):
        raise ContractError(f"{path.name}: {len(names)} names in the header and {rows.width} columns below it")
    rows, print_line = _without_print(rows)
    if print_line:
        found.append("regels van een afdrukfunctie onder de tabel: `afdrukregel`")
    layout = {"formaat": "gescheiden", "scheiding": delimiter, "codering": encoding}
    return Example(_refuse_empty(path, rows), _columns(names, header), layout, "csv", print_line, found)


PRINTED = r"^\s*(Afgedrukt op|Pagina \d|Einde bestand|Printdatum|Totaal)"
"""What print functions are known to leave below a table."""


def _without_print(rows: pl.DataFrame) -> tuple[pl.DataFrame, str | None]:
    """The rows without those that a print function left, and the pattern that tells them."""
    is_print = (
        rows.to_series(0).str.contains(PRINTED)
        & rows.select(
            pl.all_horizontal(pl.all().exclude(rows.columns[0]) == "") if rows.width > 1 else pl.lit(True)
        ).to_series()
    )
    return (rows.filter(~is_print), PRINTED) if is_print.any() else (rows, None)


def _fixed(path: Path, text: str, width: int, widths: Sequence[int] | None, found: list[str]) -> Example:
    lines = [line.rstrip("\r") for line in text.split("\n")[:MOST_ROWS] if line.strip()]
    told = sum(widths) if widths else width
    if widths and (min(widths) < 1 or told != width):
        raise ContractError(f"{path.name}: the widths add up to {told} positions and most lines have {width}")
    kept = [line for line in lines if len(line) == width]
    letters = np.array(kept, dtype=f"<U{width}").view("<U1").reshape(len(kept), width)
    cuts = list(np.cumsum([0, *widths])) if widths else _boundaries(letters)
    spans = [(int(one), int(other)) for one, other in itertools.pairwise(cuts)]
    size = len(str(len(spans)))
    names = [f"veld_{number:0{size}}" for number in range(1, len(spans) + 1)]
    values = pl.Series("regel", kept)
    rows = pl.DataFrame(
        [
            values.str.slice(start, end - start).str.strip_chars(" ").rename(name)
            for name, (start, end) in zip(names, spans, strict=True)
        ]
    )
    if not widths:
        found.append("posities geraden: vergelijk ze met de beschrijving van de leverancier")
    if len(kept) < len(lines):
        found.append(f"{len(lines) - len(kept)} regels van een andere lengte dan {width}")
    columns = {name: Column(width=end - start) for name, (start, end) in zip(names, spans, strict=True)}
    # fixed positions need a single-byte encoding
    layout = {"formaat": "vaste_breedte", "codering": "cp1252"}
    return Example(_refuse_empty(path, rows), columns, layout, "txt", None, found)


def _boundaries(letters: npt.NDArray[np.str_]) -> list[int]:
    """Where columns begin, from what stands on each position of all lines; the last is the width.

    A column begins behind positions that are always blank, and where digits turn to letters or back. Within digits a
    number that passes the eleven-test and a date are told apart from what is beside them.
    """
    points = letters.view(np.uint32)
    is_space = points == ord(" ")
    is_digit = (points >= ord("0")) & (points <= ord("9"))
    blank = is_space.all(axis=0)
    digits = ~blank & (is_digit | is_space).all(axis=0)
    kind = np.where(blank, 0, np.where(digits, 1, 2))
    begins = np.flatnonzero((kind[1:] != kind[:-1]) & (kind[1:] != 0)) + 1
    cuts = [0, *begins.tolist(), letters.shape[1]]
    made: list[int] = []
    for start, end in itertools.pairwise(cuts):
        made.append(start)
        if kind[start] == 1:
            made += _within_digits(letters[:, start:end], start)
    return [*made, letters.shape[1]]


def _within_digits(letters: npt.NDArray[np.str_], start: int) -> list[int]:
    """Boundaries within digits: around citizen service numbers and dates."""
    texts = pl.Series(["".join(row) for row in letters[:10_000]])
    found: list[int] = []
    place, length = 0, letters.shape[1]
    while place + 8 <= length:
        fitting = ((size, holds) for size, holds in _SHAPES if place + size <= length)
        span = next((size for size, holds in fitting if holds(texts.str.slice(place, size))), 0)
        if span:
            found += [start + place, start + place + span]
        place += span or 1
    return sorted({cut for cut in found if start < cut < start + length})


def _are_dates(values: pl.Series) -> bool:
    some = values.filter(~values.is_in(["00000000", "99999999", " " * 8]))
    pattern = r"^(19|20)\d{2}(0\d|1[0-2])([0-2]\d|3[01])$"
    return len(some) > 1 and int(some.str.contains(pattern).sum()) > _MOST_SHARE * len(some)


def _are_numbers(values: pl.Series) -> bool:
    some = values.filter(values.str.contains(r"^\d{9}$") & ~values.is_in(["000000000", "999999999"]))
    if len(some) < 10 or len(some) < 0.9 * len(values) or some.n_unique() < 5:
        return False
    return bool(some.to_frame("n").select(eleven_test(pl.col("n")).mean()).item() > _MOST_SHARE)


_SHAPES = ((9, _are_numbers), (8, _are_dates))


# --- worksheets and Parquet --------------------------------------------------------------------------------------


def _sheet(path: Path) -> Example:
    import fastexcel

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > _MOST_UNPACKED:
                raise ContractError(f"{path.name} unpacks to more than {_MOST_UNPACKED >> 20} MB: it is not opened")
        book = fastexcel.read_excel(str(path))
        sheet = book.load_sheet(0, header_row=None, skip_rows=0, dtypes="string", n_rows=MOST_ROWS).to_polars()
    except (zipfile.BadZipFile, fastexcel.FastExcelError):
        raise ContractError(f"{path.name} cannot be read as XLSX: save it again, or save the sheet as CSV") from None
    cells = sheet.select(pl.all().cast(pl.String).str.replace(r"^(\d{4}-\d{2}-\d{2}) 00:00:00$", "${1}").fill_null(""))
    filled = [sum(bool(str(value).strip()) for value in row) for row in cells.head(_HEADER_WITHIN).iter_rows()]
    if not filled or max(filled) == 0:
        raise ContractError(f"{path.name}: the first sheet is empty: put the table there")
    top = next(place for place, count in enumerate(filled) if count >= 0.8 * max(filled))
    used = [name for name, value in zip(cells.columns, cells.row(top), strict=True) if str(value).strip()]
    header = [str(value) for value in cells.row(top) if str(value).strip()]
    names = _held(path, header, f", row {top + 1}")
    rows = cells.slice(top + 1).select(pl.col(old).alias(new) for old, new in zip(used, names, strict=True))
    rows, print_line = _without_print(rows.filter(~pl.all_horizontal(pl.all() == "")))
    found = [f"de kop staat op rij {top + 1}"] if top else []
    found += ["regels van een afdrukfunctie onder de tabel: `afdrukregel`"] if print_line else []
    layout: dict[str, Any] = {"formaat": "werkblad"}
    layout |= {"blad": book.sheet_names[0]} if len(book.sheet_names) > 1 else {}
    layout |= {"eerste_record": top + 2} if top else {}
    return Example(_refuse_empty(path, rows), _columns(names, header), layout, "xlsx", print_line, found)


def _parquet(path: Path) -> Example:
    try:
        frame = pl.scan_parquet(path).head(MOST_ROWS).collect()
    except (pl.exceptions.PolarsError, OSError):
        raise ContractError(f"{path.name} cannot be read as Parquet: is it whole?") from None
    if nested := [name for name, kind in frame.schema.items() if kind.is_nested()]:
        raise ContractError(f"{path.name}: {len(nested)} column(s) hold lists or objects: ask for plain columns")
    names = _held(path, frame.columns, "")
    rows = frame.select(_plain(name, kind).fill_null("") for name, kind in frame.schema.items())
    rows.columns = names
    return Example(_refuse_empty(path, rows), _columns(names, frame.columns), {"formaat": "parquet"}, "parquet")


def _plain(name: str, kind: pl.DataType) -> pl.Expr:
    """A typed column as the text by which a contract judges it."""
    value = pl.col(name)
    if kind == pl.Date:
        return value.dt.strftime("%Y%m%d")
    if isinstance(kind, pl.Datetime):
        return value.dt.strftime("%Y-%m-%d %H:%M:%S")
    if kind == pl.Boolean:
        return pl.when(value).then(pl.lit("J")).when(~value).then(pl.lit("N")).alias(name)
    return value.cast(pl.String, strict=False)


# --- documents ---------------------------------------------------------------------------------------------------

Record = dict[str, str]


def _of_records(path: Path, records: Sequence[Record]) -> tuple[pl.DataFrame, dict[str, Column]]:
    """Records by path as a table; a column is called after the end of its path, with what is above it where needed."""
    paths = list(dict.fromkeys(key for record in records for key in record))
    if not paths or len(paths) > _MOST_COLUMNS:
        raise ContractError(
            f"{path.name}: its records have {len(paths)} values each: is this an example of a delivery?"
        )
    ends = Counter(_end(key) for key in paths)
    names = [_end(key) if ends[_end(key)] == 1 and _end(key) else key.replace("../", "") for key in paths]
    names = _held(path, names, "")
    rows = pl.DataFrame(
        {name: [record.get(key, "") for record in records] for name, key in zip(names, paths, strict=True)},
        schema=dict.fromkeys(names, pl.String),
    )
    columns = {name: Column("" if key == name else key) for name, key in zip(names, paths, strict=True)}
    return rows, columns


def _end(key: str) -> str:
    return named(key.rsplit("/", 1)[-1])


def _json(path: Path) -> Example:
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ContractError(f"{path.name} is no whole JSON document in UTF-8: ask for it again") from None
    lists = [found for found in _lists(document, ()) if found[1]]
    if not lists:
        raise ContractError(f"{path.name} holds no list of records: a draft needs some")
    # not the longest list: records hold small lists of their own
    keys, pairs = max(lists, key=lambda found: (_most_values(found[1]), len(found[1])))
    skipped: set[str] = set()
    records = [
        dict(_leaves(record, "", skipped)) | {f"../{key}": value for key, value in _leaves(around, "", set())}
        for record, around in pairs[:MOST_ROWS]
    ]
    rows, columns = _of_records(path, records)
    found = [f"niet overgenomen, want een lijst binnen een record: {name}" for name in sorted(skipped)[:20]]
    layout = {"formaat": "json", "records": list(keys), "overig": "negeren"}
    return Example(rows, columns, layout, "json", None, found)


Pair = tuple[dict[str, Any], dict[str, Any]]


def _most_values(pairs: Sequence[Pair]) -> int:
    return len({path for record, _ in pairs[:200] for path, _ in _leaves(record, "", set())})


def _lists(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Pair]]]:
    """Every list of objects that keys lead to, with the object around each record; keys lead through lists only."""
    if len(keys) > 4:
        return
    if isinstance(value, list):
        if not keys:
            yield (), [(one, {}) for one in value if isinstance(one, dict)]
        return
    for key, below in value.items() if isinstance(value, dict) else ():
        if isinstance(below, dict):
            continue
        if isinstance(below, list) and below and all(isinstance(one, dict) for one in below):
            yield (*keys, str(key)), [(one, value) for one in below]
            deeper: dict[tuple[str, ...], list[Pair]] = {}
            for one in below:
                for path, pairs in _lists(one, (*keys, str(key))):
                    deeper.setdefault(path, []).extend(pairs)
            yield from deeper.items()


def _leaves(value: Any, path: str, skipped: set[str]) -> Iterator[tuple[str, str]]:
    """Plain values by path; of a short list of plain values each place; lists of objects are named in `skipped`."""
    if isinstance(value, dict):
        for key, below in value.items():
            if "/" not in key and '"' not in key:
                yield from _leaves(below, f"{path}/{key}" if path else key, skipped)
    elif isinstance(value, list):
        if len(value) <= 4 and not any(isinstance(one, dict | list) for one in value):
            for place, one in enumerate(value):
                yield from _leaves(one, f"{path}/{place}", skipped)
        else:
            skipped.add(path)
    elif value is not None:
        yield path, {True: "J", False: "N"}[value] if isinstance(value, bool) else str(value)


def _xml(path: Path) -> Example:
    from lxml import etree

    data = path.read_bytes()
    if b"<!DOCTYPE" in data[: 64 << 10]:
        raise ContractError(f"{path.name} declares a document type, which no message needs: it is not read")
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise ContractError(f"{path.name} is no well-formed XML: ask for it again") from None
    declared = (root.getroottree().docinfo.encoding or "utf-8").lower()
    counts: Counter[tuple[str, ...]] = Counter()
    for element in root.iterdescendants():
        if len(element):
            counts[_place(element)] += 1
    if not counts:
        raise ContractError(f"{path.name} holds no records: a draft needs some")
    # the element under which most can be told; the highest of those with as much
    record = max(counts, key=lambda place: (len(_records(root, place, 200)[1]), -len(place)))
    records, kept, twice = _records(root, record, MOST_ROWS)
    rows, columns = _of_records(path, [{key: value for key, value in one.items() if key in kept} for one in records])
    found = [f"niet overgenomen, want vaker in een record: {name}" for name in sorted(twice)[:20]]
    name = etree.QName(root)
    layout = {
        "formaat": "xml", "codering": declared, "wortel": name.localname, "naamruimte": name.namespace or "",
        "record": "/".join(record),
    }  # fmt: skip
    return Example(rows, columns, layout, "xml", None, found)


def _records(root: Any, record: tuple[str, ...], most: int) -> tuple[list[Record], set[str], set[str]]:
    """Records of a message: their values by path, the paths there are, and those that stand twice in one record."""
    twice: set[str] = set()
    records = []
    for element in root.iterfind("/".join(f"{{*}}{name}" for name in record)):
        values: Record = {}
        for above in element.iterancestors():
            values |= dict(_texts(itertools.takewhile(lambda one: not _leads_to(one, record), above), twice))
        records.append(values | dict(_texts(element, twice)))
        if len(records) == most:
            break
    return records, {path for one in records for path in one} - twice, twice


def _leads_to(element: Any, record: tuple[str, ...]) -> bool:
    place = _place(element)
    return place == record[: len(place)]


def _place(element: Any) -> tuple[str, ...]:
    """Names on the way from the root, itself left out, to an element."""
    from lxml import etree

    above = [etree.QName(one).localname for one in element.iterancestors()]
    return (*reversed(above[:-1]), etree.QName(element).localname)


def _texts(elements: Iterable[Any], twice: set[str]) -> Iterator[tuple[str, str]]:
    """Text by path of what stands in elements; a path that comes again is put in `twice`."""
    seen: set[str] = set()
    stack = list(elements)[::-1]
    while stack:
        one = stack.pop()
        if len(one):
            stack += reversed(one)
            continue
        name = "/".join(_place(one))
        if name in seen:
            twice.add(name)
        seen.add(name)
        yield name, (one.text or "").strip()
