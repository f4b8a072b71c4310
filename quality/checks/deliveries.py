"""What must hold for the tables that purposes get: no identifier, no address, no shared order.

Belongs here: the asserted facts, as SQL over the warehouse, and the Dagster checks around them. They look at the table
as it stands, not at how it was made, so that a mistake in the making shows.
"""

from __future__ import annotations

import dagster as dg
import duckdb

from datafabriek.config import Settings
from datafabriek.warehouse import quoted, warehouse
from quality.contracts.model import Contract, Purpose

_IDENTIFYING = {
    "bsn_of_rsin": r"\b\d{8,9}\b",
    "nummer": r"\b\d{10,12}\b",
    "postcode": r"\b[1-9]\d{3} ?[A-Z]{2}\b",
}
"""Shapes that no text in a raw table may hold."""

_OWN = ("levering", "herkomst")
"""Columns that every raw table has besides those of its purpose; the factory fills them, not the supplier."""


def identifying_values(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> dict[str, int]:
    """Numbers of values in text columns that look like an identifier or a postcode, per column and shape.

    Args:
        con: the warehouse.
        schema: `raw_<purpose>`.
        name: the table.

    Returns:
        `<column>:<shape>` → number of values; nothing where all is well.
    """
    query = (
        "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ? AND data_type = 'VARCHAR'"
    )
    texts = [row[0] for row in con.execute(query, [schema, name]).fetchall() if row[0] not in _OWN]
    found: dict[str, int] = {}
    for column in texts:
        # codes repeat: every value is looked at once, not every row
        values = f"SELECT {quoted(column)} AS value, count(*) AS n FROM {quoted(schema)}.{quoted(name)} GROUP BY 1"
        counts = ", ".join("sum(n) FILTER (WHERE regexp_matches(value, ?))" for _ in _IDENTIFYING)
        row = con.execute(f"SELECT {counts} FROM ({values})", list(_IDENTIFYING.values())).fetchone() or ()
        found |= {f"{column}:{shape}": int(n) for shape, n in zip(_IDENTIFYING, row, strict=True) if n}
    return found


def other_columns(con: duckdb.DuckDBPyConnection, schema: str, name: str, purpose: Purpose) -> list[str]:
    """Columns of a raw table that its purpose did not ask for."""
    query = "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?"
    asked = {column.name for column in purpose.columns} | set(_OWN)
    return sorted(row[0] for row in con.execute(query, [schema, name]).fetchall() if row[0] not in asked)


def no_identifiers(settings: Settings, name: str, contract: Contract, purpose: Purpose) -> dg.AssetChecksDefinition:
    """The check that a purpose's table holds its columns and no identifier; it stops everything behind it."""
    schema = f"raw_{purpose.name}"

    @dg.asset_check(
        asset=[schema, name],
        name=f"{schema}_{name}_heeft_geen_identificatie",
        blocking=True,
        description="Geen BSN, nummer of postcode, en geen kolom die het doel niet vraagt.",
    )
    def check() -> dg.AssetCheckResult:
        with warehouse(settings.paths, settings.resources, read_only=True) as con:
            found = identifying_values(con, schema, name)
            extra = other_columns(con, schema, name, purpose)
        return dg.AssetCheckResult(
            passed=not found and not extra,
            metadata={"waarden": sum(found.values()), "kolommen_te_veel": ", ".join(extra) or "geen"},
        )

    return check
