"""Validating a table against its pandera schema, telling how many values break which rule and never which values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema


def eager(connection: duckdb.DuckDBPyConnection, table: str) -> pl.DataFrame:
    """A whole table as an eager frame: of a lazy one pandera would check the columns alone, silently."""
    return pl.from_arrow(connection.execute(f"SELECT * FROM {table}").to_arrow_table())  # type: ignore[return-value]


def violations(schema: DataFrameSchema, frame: pl.DataFrame) -> dict[str, int]:
    """Broken rules and how many values break each: `regio_code: str_matches(…)` → 3. Empty where all holds.

    Args:
        schema: columns, types, keys and rules.
        frame: an eager frame.
    """
    from pandera.errors import SchemaErrors

    if not isinstance(frame, pl.DataFrame):
        raise TypeError("validate an eager frame: pandera looks at no value of a lazy one")
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        told = cases.group_by("column", "check").len().sort("len", descending=True)
        return {f"{column or schema.name}: {check}": int(count) for column, check, count in told.iter_rows()}
    return {}
