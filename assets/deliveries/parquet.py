"""Parquet deliveries: typed columns become the text that a contract judges.

A date becomes jjjjmmdd, a moment jjjj-mm-dd uu:mm:ss, a truth J or N, a number its plain digits; so that one contract
holds for a delivery whether it comes as text, from a database or as Parquet.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.deliveries.delivered import LINE, DeliveryError
from assets.deliveries.layouts import Piece, Source, _broken, _mended
from quality.contracts.model import Contract

_ROWS = 100_000
_MOST_COLUMNS = 2_000
_LARGEST_GROUP = 1 << 30


def read(source: Source, contract: Contract) -> Iterator[Piece]:
    """The rows of a Parquet file; `LINE` counts them from 1.

    Raises:
        DeliveryError: it is no Parquet, lacks or adds columns, or unpacks to more than fits.
    """
    if not len(source.data):
        return
    name = source.name
    try:
        file = _opened(source)
        columns = _columns(source, contract, file.schema_arrow.names)
        if any(_nested(file.schema_arrow.field(column).type) for column in columns):
            raise DeliveryError(f"{name}: a column holds lists or objects: deliver plain columns")
        for number in range(file.metadata.num_row_groups):
            if file.metadata.row_group(number).total_byte_size > _LARGEST_GROUP:
                raise DeliveryError(f"{name}: row group {number + 1} unpacks to more than 1 GB: write smaller groups")
        line = 1
        for batch in file.iter_batches(_ROWS, columns=columns):
            if _unpacked(batch) > _LARGEST_GROUP:
                raise DeliveryError(f"{name}: rows from {line} unpack to more than 1 GB: that is no delivery of rows")
            plain = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in batch.columns]
            named = [contract.names[columns.index(c)] for c in batch.schema.names]
            frame = pl.from_arrow(pa.RecordBatch.from_arrays(plain, names=named))
            assert isinstance(frame, pl.DataFrame)
            text = frame.select(map(_text, frame.schema.items()))
            if text.select(pl.any_horizontal(pl.all().str.contains("\0", literal=True).any())).item():
                raise DeliveryError(f"{name}: a NUL character stands where text belongs: the file is damaged")
            numbers = pl.Series(LINE, np.arange(line, line + len(frame), dtype=np.int64))
            yield Piece(text.with_columns(numbers), _broken([]), _mended([]))
            line += len(frame)
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError):
        raise DeliveryError(f"{name} cannot be read: is it the agreed Parquet, whole and unchanged?") from None


def render(frame: pl.DataFrame, contract: Contract) -> bytes:
    """Text as a Parquet file of text columns; empty text is null."""
    sink = pa.BufferOutputStream()
    text = frame.select(pl.col(contract.names).replace("", None)).to_arrow()
    pq.write_table(text.rename_columns([column.header for column in contract.columns]), sink, compression="zstd")
    return bytes(sink.getvalue())


def _opened(source: Source) -> pq.ParquetFile:
    """The file, with text as a dictionary and places in it: one long word for a million rows stays one word."""
    data = pa.py_buffer(source.data)
    kinds = pq.read_schema(pa.BufferReader(data))
    texts = [field.name for field in kinds if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
    texts += [field.name for field in kinds if pa.types.is_large_string(field.type)]
    return pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts[:_MOST_COLUMNS])


def _unpacked(batch: pa.RecordBatch) -> int:
    """Bytes of a batch once each row has its own text."""
    size = batch.nbytes
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.binary_length(column.dictionary)
            size += pc.sum(pc.take(lengths.cast(pa.int64()), column.indices)).as_py() or 0
    return int(size)


def _columns(source: Source, contract: Contract, names: Sequence[str]) -> list[str]:
    if len(names) > _MOST_COLUMNS:
        raise DeliveryError(f"{source.name} has {len(names)} columns: is this the agreed file?")
    fields = {name.lower(): name for name in names}
    agreed = {column.header.lower(): column.header for column in contract.columns}
    told = [f"column `{name}` is missing" for low, name in agreed.items() if low not in fields]
    often = Counter(name.lower() for name in names)
    told += [f"column `{name}` stands there twice" for low, name in agreed.items() if often[low] > 1]
    for place, name in [(place, name) for place, name in enumerate(names, 1) if name.lower() not in agreed][:5]:
        close = difflib.get_close_matches(name.lower()[:100], agreed, n=1)
        told.append(f"column {place} is not in the contract{f' (was `{close[0]}` renamed?)' if close else ''}")
    if told:
        remedy = f"deliver by contract {contract.name} {contract.version}, or agree on a new version"
        raise DeliveryError(f"{source.name}: {'; '.join(told)}: {remedy}")
    return [fields[low] for low in agreed]


def _nested(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_union(kind))


def _text(item: tuple[str, pl.DataType]) -> pl.Expr:
    name, kind = item
    value = pl.col(name)
    if kind == pl.Date:
        return value.dt.strftime("%Y%m%d").alias(name)
    if isinstance(kind, pl.Datetime):
        local = value.dt.convert_time_zone("Europe/Amsterdam") if kind.time_zone else value
        return local.dt.strftime("%Y-%m-%d %H:%M:%S").alias(name)
    if kind == pl.Time:
        return value.dt.strftime("%H:%M").alias(name)
    if kind == pl.Boolean:
        return pl.when(value).then(pl.lit("J")).when(~value).then(pl.lit("N")).alias(name)
    if isinstance(kind, pl.Decimal):
        return value.cast(pl.String).str.replace(r"\.0+$", "").str.replace(r"(\.[0-9]*?)0+$", "${1}").alias(name)
    if kind == pl.Binary:
        return value.cast(pl.String, strict=False).alias(name)
    return value.cast(pl.String).alias(name)
