"""`ROWS FILE [DIRT]`: a month of BUS in which codes, dates and amounts vary; DIRT is the share of rows with a fault.

Every person has one benefit and stands there once. Of ten faults seven can be mended; the others each cost a row.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from assets.deliveries.layouts import render
from quality.contracts.model import load

CONTRACT = load("bus")
AT_ONCE = 200_000
RANDOM = np.random.default_rng(2020)


def write(rows: int, file: Path, dirt: float) -> None:
    body = 10_000_000  # the first eight digits of the numbers
    with file.open("wb") as out:
        for start in range(0, rows, AT_ONCE):
            count = min(AT_ONCE, rows - start)
            numbers = _numbers(body, count)
            body = int(numbers[-1]) // 10 + 1
            frame = _records(numbers, start)
            out.write(render(_spoiled(frame, dirt) if dirt else frame, CONTRACT))


def _numbers(body: int, count: int) -> npt.NDArray[np.int64]:
    """The next numbers that pass the eleven-test."""
    bodies = np.arange(body, body + 2 * count)
    last = sum((9 - place) * (bodies // 10 ** (7 - place) % 10) for place in range(8)) % 11
    return (bodies * 10 + last)[last < 10][:count]


def _records(numbers: npt.NDArray[np.int64], start: int) -> pl.DataFrame:
    count = len(numbers)
    is_ended, is_exempt = RANDOM.random(count) < 0.05, RANDOM.random(count) < 0.2
    columns = {
        "statistiekjaar": "2020",
        "statistiekmaand": "01",
        "berichtgevercode": "0518",
        "gemeente_code": "0518",
        "softwarepakket": "gws",
        "softwareversie": "1.0",
        "registratienummer_uitkering": pl.Series(np.arange(start + 1, start + count + 1)).cast(pl.String).str.zfill(10),
        "statistiekcode": _code(count, "01", "02", "03", "14", often="01"),
        "leefvorm": _code(count, "1", "2", "3", "4", often="1"),
        "aantal_kostendelers": _code(count, "01", "02", "03", "04", often="01"),
        "bedrag_norm": _code(count, "1052", "1503", "0751", "1177", "0260", "0520", often="1052"),
        "bedrag_afstemming": _amount(count, 5, 400, zeros=0.95),
        "bedrag_inkomsten": _amount(count, 5, 1500, zeros=0.7),
        "bedrag_betaalbaar": _amount(count, 6, 2000, zeros=0.05),
        "datum_invoering": _day(count, "2010-01-01", "2020-02-01"),
        "bsn": pl.Series(numbers).cast(pl.String),
        "geboortedatum": _day(count, "1953-09-01", "2002-01-01"),
        "geslacht": _code(count, "1", "2"),
        "huisvesting": _code(count, "1", "2", "3", "4", "5", "6", often="1"),
        "aanvangsdatum_persoon": _day(count, "2004-01-01", "2020-01-01"),
        "einddatum_persoon": np.where(is_ended, _day(count, "2020-01-01", "2020-02-01"), "00000000"),
        "ontheffing": _code(count, "2", "4", "5", "6", often="2"),
        "einddatum_ontheffing": np.where(is_exempt, _day(count, "2020-02-01", "2022-02-01"), "00000000"),
        "aanvangsdatum_vermindering": "00000000",
        "einddatum_vermindering": "00000000",
        "soort_inkomsten": _code(count, "11", "18", "23", "31", often="00"),
        "bedrag_inkomsten_persoon": _amount(count, 5, 1500, zeros=0.7),
        "vrijlating": _code(count, "1", "2", often="2"),
        "reden_beeindiging": np.where(is_ended, _code(count, "02", "03", "11", "32"), "00"),
    }
    return pl.select(
        (pl.lit(value) if isinstance(value, str) else pl.lit(pl.Series(value))).alias(name)
        for name in CONTRACT.names
        for value in [columns.get(name, "")]
    )


def _code(count: int, *codes: str, often: str | None = None) -> npt.NDArray[np.str_]:
    """A code at random; one of them in four of five rows."""
    values = RANDOM.choice(np.array(codes), count)
    return values if often is None else np.where(RANDOM.random(count) < 0.8, often, values)


def _amount(count: int, width: int, most: int, zeros: float) -> pl.Series:
    value = np.where(RANDOM.random(count) < zeros, 0, RANDOM.integers(1, most, count))
    return pl.Series(value).cast(pl.String).str.zfill(width)


def _day(count: int, first: str, last: str) -> pl.Series:
    days = np.arange(np.datetime64(first), np.datetime64(last))
    return (
        pl.Series(np.datetime_as_string(days))
        .str.replace_all("-", "", literal=True)
        .gather(RANDOM.integers(0, len(days), count))
    )


def _spoiled(frame: pl.DataFrame, dirt: float) -> pl.DataFrame:
    """The rows with faults; the file stays of fixed width."""
    fault = pl.Series("fault", np.where(RANDOM.random(len(frame)) < dirt, RANDOM.integers(0, 10, len(frame)), -1))
    new = {
        "geboortedatum": {(0, 1): pl.col("geboortedatum").str.slice(0, 4) + "0000"},
        "statistiekcode": {(2, 3): pl.col("statistiekcode").str.strip_chars_start("0")},
        "softwarepakket": {(4,): pl.lit("GWS")},
        "bedrag_inkomsten_persoon": {(5, 6): pl.col("bedrag_inkomsten_persoon").str.slice(1) + "-"},
        "bsn": {(7,): pl.lit("123456789"), (8,): pl.col("bsn").first()},
        "registratienummer_uitkering": {(8,): pl.col("registratienummer_uitkering").first()},
        "soort_inkomsten": {(8,): pl.col("soort_inkomsten").first()},
        "einddatum_persoon": {(9,): pl.lit("19990101")},
    }
    changed = []
    for name, faults in new.items():
        value = pl.col(name)
        for which, other in faults.items():
            value = pl.when(fault.is_in(which)).then(other).otherwise(value)
        changed.append(value.alias(name))
    return frame.with_columns(changed)


write(int(sys.argv[1]), Path(sys.argv[2]), float((sys.argv[3:] or ["0"])[0]))
