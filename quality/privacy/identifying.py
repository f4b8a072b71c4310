"""Whether text in a table looks like a number of a person or a postcode: counts only, never the values.

Pure SQL over the warehouse: what makes the tables holds them to it before they count, and a check looks again later.
"""

from __future__ import annotations

import duckdb

from datafabriek.warehouse import quoted

_IDENTIFYING = {
    "bsn_of_rsin": r"\b\d{8,9}\b",
    "nummer": r"\b\d{10,12}\b",
    "postcode": r"\b[1-9]\d{3} ?[A-Z]{2}\b",
}
"""Shapes that no text in a raw table may hold."""

_BSN_SHARE = 0.3
"""Share of whole numbers of 8 or 9 digits that pass the eleven-test, above which they are no chance (1 in 11)."""

_FEWEST = 5  # values; of fewer a share says nothing

OWN = ("levering", "herkomst")
"""Columns that every raw table has besides those of its purpose; the factory fills them, not the supplier."""


def identifying_values(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> dict[str, int]:
    """Numbers of values that look like an identifier or a postcode, per column and shape; of numeric columns, a BSN.

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
    texts = [row[0] for row in con.execute(query, [schema, name]).fetchall() if row[0] not in OWN]
    found: dict[str, int] = {}
    for column in texts:
        # codes repeat: every value is looked at once, not every row
        values = f"SELECT {quoted(column)} AS value, count(*) AS n FROM {quoted(schema)}.{quoted(name)} GROUP BY 1"
        counts = ", ".join("sum(n) FILTER (WHERE regexp_matches(value, ?))" for _ in _IDENTIFYING)
        row = con.execute(f"SELECT {counts} FROM ({values})", list(_IDENTIFYING.values())).fetchone() or ()
        found |= {f"{column}:{shape}": int(n) for shape, n in zip(_IDENTIFYING, row, strict=True) if n}
    return found | _numeric(con, schema, name)


def _numeric(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> dict[str, int]:
    """Numeric columns that hold BSNs: a contract may have called them an open number."""
    query = """SELECT column_name FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?
        AND regexp_full_match(data_type, 'U?(INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|DECIMAL.*')"""
    found: dict[str, int] = {}
    for (column,) in con.execute(query, [schema, name]).fetchall():
        digits = " + ".join(f"{weight} * (v // {10 ** (weight - 1)} % 10)" for weight in range(9, 1, -1))
        row = con.execute(
            f"""SELECT count(*), count(*) FILTER (WHERE ({digits} - v % 10) % 11 = 0) FROM (
                SELECT DISTINCT {quoted(column)}::BIGINT AS v FROM {quoted(schema)}.{quoted(name)}
                WHERE {quoted(column)} BETWEEN 10000000 AND 999999999 AND {quoted(column)} % 1 = 0)"""
        ).fetchone()
        values, passing = row or (0, 0)
        if passing >= _FEWEST and passing > _BSN_SHARE * values:
            found[f"{column}:bsn"] = int(passing)
    return found
