"""JSON and GeoJSON deliveries: a list of records somewhere in a document, found without parsing the whole.

Belongs here: where the records are, how deep and large they may be, and which of their values are the columns. A
first look at the bytes (strings, braces, nothing else) finds the records; their text then goes to DuckDB a piece at a
time, so that memory follows the piece and the largest record, never the file.

The contract's layout says `records`: the keys that lead to the list (`[features]`, `[leveringen, schuldhulptrajecten]`;
none where the list is the whole document), and `overig: negeren` where records may have keys that no column names. A
column's `physicalName` is its path in the record, keys and list places divided by `/`; `..` leads to the object around
the list: `geometry/coordinates/0`, `../aanleverende_organisatie/KvK-nummer`.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Piece, Source, _broken, _checked_encoding, _mended
from datafabriek.warehouse import OFFLINE
from quality.contracts.model import Column, Contract

DEEPEST = 64
"""Deeper nesting than this is no delivery."""

LARGEST_RECORD = 16 << 20
_MOST_AROUND = 1 << 20  # bytes of the document outside its records
_MOST_LISTS = 10_000
_MOST_STRAYS = 100_000  # values in a piece where records belong: each is told
_CHUNK = 4 << 20
_PIECE = 16 << 20
_MOST_IN_A_PIECE = 50_000

_ENGINE: dict[str, Any] = {
    "threads": 1,
    "memory_limit": "1GB",
    "temp_directory": "",  # records may name persons: nothing is spilled
    **OFFLINE,
}

_BLANK = " \t\r\n"
_SIGN = re.compile(r'"(?:[^"\\]|\\.)*+"|[][{},]', re.DOTALL)

Places = npt.NDArray[np.int64]

_STEP = np.zeros(256, np.int8)
_STEP[[ord("{"), ord("[")]], _STEP[[ord("}"), ord("]")]] = 1, -1


@dataclass(frozen=True)
class RecordList:
    """One list of records: the place of its brackets, and where each record starts."""

    opens: int
    closes: int
    starts: Places


def read(source: Source, contract: Contract) -> Iterator[Piece]:
    """The records of a JSON document; `LINE` counts them from 1.

    A record that is no JSON, no object, or has an object where a value was agreed is told apart.

    Raises:
        DeliveryError: the document is cut off, too deep, holds a record over 16 MB, has its records elsewhere, or has
            keys that were not agreed.
    """
    start = _checked_encoding(source, contract)
    escaped_nul = source.data.find(b"\\u0000")
    if escaped_nul >= 0:
        raise DeliveryError(f"{source.name}: a NUL character stands where text belongs: the file is damaged")
    if not len(bytes(source.data[start : start + 4096]).strip()):
        return
    keys = _keys(contract)
    lists = _lists(source, start, keys)
    around = _around(source, start, lists, keys)
    number = 1
    with duckdb.connect(":memory:", config=_ENGINE) as con:
        for found, outer in zip(lists, around, strict=True):
            for texts in _texts(source, found):
                yield _piece(con, source, contract, texts, outer, number)
                number += len(texts)


def render(frame: pl.DataFrame, contract: Contract) -> bytes:
    """Text as a JSON document; empty text is an absent key, numbers and truths stand without quotes.

    Columns from around the list are taken from the first row.
    """
    lines = frame.select(record(contract)).to_series().to_list()
    return document(lines, contract, frame.head(1).to_dicts()[0] if len(frame) else {})


def document(records: Sequence[str], contract: Contract, around: Mapping[str, str] | None = None) -> bytes:
    """Records in the document that the contract says, one a line."""
    keys = _keys(contract)
    outer: dict[str, Any] = {}
    for column in contract.columns:
        path = _path(column)
        if path[0] == ".." and around and around.get(column.name):
            place = outer
            for key in path[1:-1]:
                place = place.setdefault(str(key), {})
            place[str(path[-1])] = around[column.name]
    body = "[\n" + ",\n".join(records) + "\n]"
    for level, key in enumerate(reversed(keys)):
        inner = json.dumps(outer, ensure_ascii=False)[1:-1] if level == 0 else ""
        body = "{" + inner + (", " if inner else "") + json.dumps(key) + ": " + body + "}"
        if level < len(keys) - 1:
            body = "[" + body + "]"
    return body.encode(contract.layout.encoding)


def record(contract: Contract) -> pl.Expr:
    """A row of text as a JSON object."""
    tree: dict[str, Any] = {}
    for column in contract.columns:
        path = _path(column)
        if path[0] == "..":
            continue
        place = tree
        for key in path[:-1]:
            place = place.setdefault(str(key), {})
        place[str(path[-1])] = column
    return _object(tree)


def split(source: Source, keys: Sequence[str]) -> tuple[list[RecordList], list[Any]]:
    """The lists of records under the keys, and the object around each, in which the list itself is empty.

    Raises:
        DeliveryError: it is no whole JSON document with such lists.
    """
    lists = _lists(source, 0, keys)
    return lists, _around(source, 0, lists, keys)


# --- where the records are -------------------------------------------------------------------------------------


def _keys(contract: Contract) -> tuple[str, ...]:
    return tuple(str(key) for key in contract.layout.options.get("records") or ())


def _path(column: Column) -> list[str | int]:
    return [int(key) if key.isdecimal() else key for key in column.header.split("/")]


def _lists(source: Source, start: int, keys: Sequence[str]) -> list[RecordList]:
    """Every list under the last of the keys, and where its records start, from the bytes alone."""
    enclosing = max(1, 2 * len(keys))
    shallow: list[tuple[int, int]] = []  # brackets of what lies where the lists do: place, and +1 or -1
    items: list[Places] = []
    depth, inside, slashes = 0, False, 0
    view = memoryview(source.data)
    for place in range(start, len(view), _CHUNK):
        raw = np.frombuffer(view[place : place + _CHUNK], np.uint8)
        quotes = np.flatnonzero(raw == ord('"'))
        slash = raw == ord("\\")
        if slashes or slash.any():
            before, slashes = _slashes_before(slash, slashes)
            quotes = quotes[before[quotes] % 2 == 0]
        brackets = np.flatnonzero(_STEP[raw])
        brackets = brackets[(np.searchsorted(quotes, brackets) + inside) % 2 == 0]
        inside = bool((len(quotes) + inside) % 2)
        if not len(brackets):
            continue
        steps = _STEP[raw[brackets]]
        levels = depth + np.cumsum(steps, dtype=np.int64)
        depth = int(levels[-1])
        if levels.max() > DEEPEST:
            raise DeliveryError(f"{source.name}: nested deeper than {DEEPEST} levels: is this the agreed file?")
        if levels.min() < 0:
            raise DeliveryError(f"{source.name}: closes more brackets than it opens: it is no whole JSON document")
        places = brackets.astype(np.int64) + place
        of_list = np.where(steps > 0, levels == enclosing, levels == enclosing - 1)
        shallow += zip(places[of_list].tolist(), steps[of_list].tolist(), strict=True)
        if len(shallow) > 2 * _MOST_LISTS:
            raise DeliveryError(f"{source.name}: has more than {_MOST_LISTS} lists of records: deliver them as one")
        items.append(places[(steps > 0) & (levels == enclosing + 1)])
    if depth or inside:
        raise DeliveryError(f"{source.name} ends in the middle of a record: it was cut off, have it delivered again")
    starts = np.concatenate(items) if items else np.zeros(0, np.int64)
    found = []
    for (opens, _), (closes, _) in zip(shallow[::2], shallow[1::2], strict=True):
        if source.data[opens : opens + 1] == b"[" and _is_under(source, opens, keys[-1] if keys else None, start):
            found.append(
                RecordList(opens, closes, starts[np.searchsorted(starts, opens) : np.searchsorted(starts, closes)])
            )
    return found


def _slashes_before(slash: npt.NDArray[np.bool_], carried: int) -> tuple[Places, int]:
    """How many backslashes stand right before each byte; and before the next chunk."""
    index = np.arange(len(slash), dtype=np.int64)
    other = np.maximum.accumulate(np.where(slash, -1 - carried, index))  # the last byte that is none
    upto = index - other
    return np.concatenate([[carried], upto[:-1]]), int(upto[-1])


def _is_under(source: Source, bracket: int, key: str | None, start: int) -> bool:
    """Whether a list stands under that key; without one, whether it is the document itself."""
    before = bytes(source.data[max(start, bracket - 256) : bracket]).rstrip()
    if key is None:
        return not before
    return before.endswith(b":") and before[:-1].rstrip().endswith(json.dumps(key, ensure_ascii=False).encode())


def _around(source: Source, start: int, lists: Sequence[RecordList], keys: Sequence[str]) -> list[Any]:
    """The object around each list; holds the whole document to being JSON with its lists where they were agreed."""
    where = f"under `{' / '.join(keys)}`" if keys else "at the top"
    if len(source.data) - start - sum(found.closes - found.opens for found in lists) > _MOST_AROUND:
        raise DeliveryError(f"{source.name}: no list of records {where}: deliver the agreed document")
    parts, place = [], start
    for found in lists:
        parts.append(bytes(source.data[place : found.opens + 1]))
        place = found.closes
    parts.append(bytes(source.data[place:]))
    try:
        document: Any = orjson.loads(b"".join(parts))
    except orjson.JSONDecodeError:
        raise DeliveryError(f"{source.name} is no valid JSON around its records: have it delivered again") from None
    objects: list[Any] = [document if keys else None]
    for place, key in enumerate(keys, 1):
        # one without a list has its records under another key, where nobody would miss them
        inner: list[Any] = [one.get(key) if isinstance(one, dict) else None for one in objects]
        if not all(isinstance(one, list) for one in inner):
            raise DeliveryError(f"{source.name}: no list of records {where}: deliver the agreed document")
        if place < len(keys):
            objects = [item for one in inner for item in one]
    if len(objects) != len(lists) or not lists:
        raise DeliveryError(f"{source.name}: no list of records {where}: deliver the agreed document")
    return objects


# --- what the records say --------------------------------------------------------------------------------------


def _texts(source: Source, found: RecordList) -> Iterator[pl.Series]:
    """The elements of a list as text, a bounded piece at a time, records or not."""
    # without a first record, what is in the list is one that cannot be read
    edges = np.concatenate([[found.opens + 1], found.starts[1:], [found.closes]])
    if not len(found.starts) and not bytes(source.data[found.opens + 1 : found.closes]).strip():
        return
    sizes = np.diff(edges)
    if sizes.max() > LARGEST_RECORD:
        number = int(sizes.argmax()) + 1
        raise DeliveryError(f"{source.name}, record {number}: larger than {LARGEST_RECORD >> 20} MB: that is no record")
    first = 0
    while first < len(sizes):
        last = int(np.searchsorted(edges, edges[first] + _PIECE, side="right")) - 1
        last = min(max(last, first + 1), first + _MOST_IN_A_PIECE, len(sizes))
        body = pa.py_buffer(bytes(source.data[int(edges[first]) : int(edges[last])]))
        offsets = pa.py_buffer((edges[first : last + 1] - edges[first]).astype(np.int64))
        yield _elements(source.name, pl.Series(pa.LargeStringArray.from_buffers(last - first, offsets, body)))
        first = last


def _elements(name: str, texts: pl.Series) -> pl.Series:
    """Each element on its own: a number or text between two records came along with the first of them."""
    # the comma belongs to no record; a second one is not stripped, so that it shows
    texts = texts.str.strip_chars(_BLANK).str.strip_suffix(",").str.strip_chars_end(_BLANK)
    begins = texts.str.starts_with("{") | texts.str.starts_with("[")
    ends = texts.str.ends_with("}") | texts.str.ends_with("]")
    alone = begins & ends
    if alone.all():
        return texts
    parts = [[text] if one else _parted(text) for text, one in zip(texts, alone, strict=True)]
    if sum(map(len, parts)) - len(parts) > _MOST_STRAYS:
        raise DeliveryError(f"{name}: over {_MOST_STRAYS} values stand among the records: is this the agreed file?")
    return pl.Series(itertools.chain.from_iterable(parts), dtype=pl.String)


def _parted(text: str) -> list[str]:
    """The elements in a text, by its commas; the whole where one of them is empty, which is no JSON."""
    depth, begin, parts = 0, 0, []
    for found in _SIGN.finditer(text):
        sign = found[0]
        depth += (sign in "{[") - (sign in "}]")
        if sign == "," and not depth:
            parts.append(text[begin : found.start()].strip(_BLANK))
            begin = found.end()
    parts.append(text[begin:].strip(_BLANK))
    return parts if all(parts) else [text]


def _piece(
    con: duckdb.DuckDBPyConnection, source: Source, contract: Contract, texts: pl.Series, outer: Any, number: int
) -> Piece:
    inner = [column for column in contract.columns if _path(column)[0] != ".."]
    records = texts.to_frame("record")
    con.register("_records", records.to_arrow())
    # one pass a record: DuckDB finds all paths together
    paths = [_json_path(column) for column in inner]
    frame = con.execute(
        """SELECT record, coalesce(json_type(record) = 'OBJECT', false) AS is_object, keys,
            len(keys) <> len(list_distinct(keys)) AS twice,
            list_has_any(json_type(record, $paths), ['OBJECT', 'ARRAY']) AS nested,
            json_extract_string(record, $paths) AS found
        FROM (
            SELECT CASE WHEN json_valid(record) THEN record END AS record,
                CASE WHEN json_valid(record) AND json_type(record) = 'OBJECT' THEN json_keys(record) ELSE [] END AS keys
            FROM _records
        )""",
        {"paths": paths},
    ).pl()
    con.unregister("_records")
    if contract.layout.options.get("overig") != "negeren":
        _refuse_unknown(source, contract, inner, frame["keys"], number)
    rule = (
        pl.when(~pl.col("is_object")).then(pl.lit("json"))
        .when("twice").then(pl.lit("dubbele_sleutel"))
        .when("nested").then(pl.lit("geneste_waarde"))
    )  # fmt: skip
    numbers = pl.Series(LINE, np.arange(number, number + len(frame), dtype=np.int64))
    told = frame.select(numbers, rule.alias("regel"), records["record"])
    good = told["regel"].is_null()
    values = frame.filter(good).select(pl.col("found").list.to_struct(fields=[c.name for c in inner])).unnest("found")
    around = {column.name: _outer(outer, _path(column)) for column in contract.columns if column not in inner}
    rows = values.with_columns(
        [pl.lit(value, pl.String).alias(name) for name, value in around.items()]
    ).select(pl.col(contract.names).cast(pl.String), numbers.filter(good))  # fmt: skip
    broken = told.filter(~good)
    return Piece(rows, broken if len(broken) else _broken([]), _mended([]))


def _json_path(column: Column) -> str:
    """A column's path as DuckDB writes it; a name in quotes may hold anything but a quote."""
    parts = (f"[{key}]" if isinstance(key, int) else f'."{key}"' for key in _path(column))
    return "$" + "".join(parts)


def _outer(outer: Any, path: Sequence[str | int]) -> str | None:
    """A value from the object around a list."""
    for key in path[1:]:
        if isinstance(outer, dict):
            outer = outer.get(key)
        elif isinstance(outer, list) and isinstance(key, int) and key < len(outer):
            outer = outer[key]
        else:
            return None
    if isinstance(outer, bool):
        return str(outer).lower()
    return None if outer is None or isinstance(outer, dict | list) else str(outer)


def _refuse_unknown(
    source: Source, contract: Contract, columns: Sequence[Column], keys: pl.Series, number: int
) -> None:
    agreed = {str(_path(column)[0]) for column in columns} | set(contract.layout.options.get("ook") or ())
    unknown = keys.explode().drop_nulls().unique(maintain_order=True)
    unknown = unknown.filter(~unknown.is_in(list(agreed)))
    if not len(unknown):
        return
    told = []
    for name in unknown.head(5).to_list():
        # by its place: a list of persons may have become keys
        first = keys.list.contains(name).arg_max() or 0
        close = difflib.get_close_matches(name[:100], sorted(agreed), n=1)
        hint = f" (was `{close[0]}` renamed?)" if close else ""
        told.append(
            f"key {keys[first].to_list().index(name) + 1} of record {number + first} is not in the contract{hint}"
        )
    if len(unknown) > 5:
        told.append(f"and {len(unknown) - 5} more")
    raise DeliveryError(
        f"{source.name}: {'; '.join(told)}: deliver by contract {contract.name} {contract.version}, or agree on a new "
        "version"
    )


# --- rendering -------------------------------------------------------------------------------------------------

_NUMBER = r"^(0|-?[1-9][0-9]{0,14}|-?0\.[0-9]{0,3}[1-9]|-?[1-9][0-9]{0,6}\.[0-9]{0,6}[1-9])$"
"""Numbers of which a reader gives back the very same text."""


def _object(tree: Mapping[str, Any]) -> pl.Expr:
    """A tree of columns as JSON text; absent values leave no key, and list places follow one another."""
    as_list = all(key.isdecimal() for key in tree)
    parts = []
    for key, item in tree.items():
        value = _object(item) if isinstance(item, dict) else _value(item)
        label = "" if as_list else json.dumps(key, ensure_ascii=False) + ": "
        parts.append(pl.lit(label) + value)
    inner = pl.concat_str(pl.concat_list(parts).list.drop_nulls().list.join(", "))
    begin, end = ("[", "]") if as_list else ("{", "}")
    return pl.lit(begin) + inner + pl.lit(end)


def _value(column: Column) -> pl.Expr:
    text = pl.col(column.name)
    quoted = pl.struct(text.alias("v")).struct.json_encode().str.slice(5).str.strip_suffix("}")
    bare = text.is_in(["true", "false"]) if column.type == "boolean" else pl.lit(False)
    if column.type in {"integer", "number"}:
        bare = text.str.contains(_NUMBER)
    return pl.when(text == "").then(None).when(bare).then(text).otherwise(quoted)
