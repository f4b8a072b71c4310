"""Columns of text that name each distinct value once, so that a rule looks at values and not at rows.

A coded column is a polars `Enum`: its categories are the distinct values it holds, its rows are places among them.
Deliveries are full of codes, dates and amounts; of a million rows a column seldom has more than some thousand values.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl


def coded(values: pl.Series, places: pl.Series) -> pl.Series:
    """A coded column.

    Args:
        values: texts, of which some may be equal or null.
        places: per row the place of its value among `values`; null where the row has none.
    """
    distinct = values.drop_nulls().unique(maintain_order=True)
    return values.cast(pl.Enum(distinct)).gather(places)


def is_coded(column: pl.Series) -> bool:
    """Whether a column names each of its values once."""
    return isinstance(column.dtype, pl.Enum)


def values_of(column: pl.Series) -> pl.Series:
    """The distinct texts of a coded column, nulls left out; of any other column its rows."""
    return column.dtype.categories.alias(column.name) if isinstance(column.dtype, pl.Enum) else column


def places_of(column: pl.Series) -> pl.Series:
    """Per row of a coded column the place of its value among `values_of`."""
    return column.to_physical()


def each(column: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """What `change` makes of every row, worked out once for every value of a coded column; null stays null."""
    return change(values_of(column)).gather(places_of(column)) if is_coded(column) else change(column)
