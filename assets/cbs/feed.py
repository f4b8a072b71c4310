"""What the landing needs to know of a table's rows, the same for v4 and v3."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datafabriek.warehouse import literal

REASONS = ("None", "Impossible", "Confidential", "NotAvailable", "Missing")
"""Why a value is missing, in CBS's words; `Missing` where v3 does not tell."""

ENUM_OF = 1000
"""Most codes that pages are converted with."""

FEW = 250
"""Codes up to which looking one up by its place in a list is faster than a cast."""


@dataclass(frozen=True, slots=True)
class Feed:
    """How the rows of one table are asked for and turned into observations.

    Attributes:
        url: the entity set with the rows.
        count_urls: addresses of `$count`, the first that exists counts; rows on the wire, under the filter.
        filter: the filter that goes to the server, in its own dialect.
        format: v3's `$format`.
        key: the wire's unique number of a row (`Id` or `ID`).
        columns: the fields of a row on the wire and their DuckDB types.
        select: SELECT that makes what is kept of rows out of the relation `{page}`.
        coded: as `select`, with codes as ENUM, which Parquet takes faster than texts; fails on a code that CBS does not
            list. None where there is none.
        at_once: whether all pages are converted together at the end, where they are small and many.
        is_wide: whether what is kept are rows as they came, of which observations are made when they are read.
        width: observations in one row on the wire.
    """

    url: str
    count_urls: tuple[str, ...]
    filter: str | None
    format: str | None
    key: str
    columns: Mapping[str, str]
    select: str
    coded: str | None = None
    at_once: bool = False
    is_wide: bool = False
    width: int = 1


def enum_of(codes: Iterable[str]) -> str:
    """The DuckDB type of a column of these codes, in this order."""
    return f"ENUM ({', '.join(map(literal, dict.fromkeys(codes)))})"


@dataclass(frozen=True, slots=True)
class Coding:
    """The codes of a column, and the ENUM of them: how it is told in SQL."""

    codes: Sequence[str]
    type: str


def as_code(value: str, coding: Coding) -> str:
    """SQL for a text as an ENUM; NULL where it is none of its codes.

    Of a column that Parquet gives as a dictionary, DuckDB applies a function to the entries alone, where a cast goes
    through all rows: a few codes are looked up by functions.
    """
    if len(coding.codes) > FEW:
        return f"TRY_CAST({value} AS {coding.type})"
    listed = f"[{', '.join(map(literal, coding.codes))}]"
    return f"list_extract({listed}::{coding.type}[], list_position({listed}, {value}))"
