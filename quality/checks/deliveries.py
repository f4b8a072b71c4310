"""What must hold for the tables that purposes get: no identifier, no address, no shared order.

They look at the table as it stands, not at how it was made, so that a mistake in the making shows.
"""

from __future__ import annotations

import dagster as dg
import duckdb

from datafabriek.config import Settings
from datafabriek.warehouse import warehouse
from quality.contracts.model import Contract, Purpose
from quality.privacy.identifying import OWN, identifying_values

_EXISTS = "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?"


def other_columns(con: duckdb.DuckDBPyConnection, schema: str, name: str, purpose: Purpose) -> list[str]:
    """Columns of a raw table that its purpose did not ask for."""
    query = "SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?"
    asked = {column.name for column in purpose.columns} | set(OWN)
    return sorted(row[0] for row in con.execute(query, [schema, name]).fetchall() if row[0] not in asked)


def no_identifiers(settings: Settings, name: str, contract: Contract, purpose: Purpose) -> dg.AssetChecksDefinition:
    """The check that a purpose's table holds its columns and no identifier."""
    schema = f"raw_{purpose.name}"

    @dg.asset_check(
        asset=[schema, name],
        name=f"{schema}_{name}_heeft_geen_identificatie",
        description="Geen BSN, nummer of postcode, en geen kolom die het doel niet vraagt.",
    )
    def check() -> dg.AssetCheckResult:
        with warehouse(settings.paths, settings.resources, read_only=True) as con:
            if not con.execute(_EXISTS, [schema, name]).fetchone():
                return dg.AssetCheckResult(passed=False, description="De tabel is er niet.")
            found = identifying_values(con, schema, name)
            extra = other_columns(con, schema, name, purpose)
        return dg.AssetCheckResult(
            passed=not found and not extra,
            metadata={"waarden": sum(found.values()), "kolommen_te_veel": ", ".join(extra) or "geen"},
        )

    return check
