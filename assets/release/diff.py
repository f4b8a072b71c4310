"""What changed between two releases, in counts of cells per table; both files are public to who asks."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from assets.release.publish import Release
from datafabriek.warehouse import literal, quoted

VALUES = ("waarde", "teller", "noemer", "status", "vaststelling", "herkomst", "eenheid")
"""Columns that say what a cell shows; the others say which cell it is."""


@dataclass(frozen=True)
class TableDiff:
    """Cells of one table: in both with other values, only in the second, only in the first, and the same."""

    table: str
    changed: int
    added: int
    removed: int
    same: int


def diff(first: Release, second: Release) -> list[TableDiff]:
    """Compare two releases table by table.

    Tables in one alone count as wholly added or removed, and so does one that was broken down in another way.
    """
    with duckdb.connect(":memory:") as connection:
        for name, release in (("a", first), ("b", second)):
            connection.execute(f"ATTACH {literal(str(release.database))} AS {name} (READ_ONLY)")
        tables = connection.execute(
            "SELECT DISTINCT table_name FROM duckdb_tables() WHERE table_name <> 'release_info' ORDER BY 1"
        ).fetchall()
        return [_table(connection, name) for (name,) in tables]


def _table(connection: duckdb.DuckDBPyConnection, name: str) -> TableDiff:
    columns = {
        side: [
            row[0]
            for row in connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE database_name = ? AND table_name = ? "
                "ORDER BY column_index",
                [side, name],
            ).fetchall()
        ]
        for side in ("a", "b")
    }
    for side, other in (("a", "b"), ("b", "a")):
        if not columns[side]:
            row = connection.execute(f"SELECT count(*) FROM {other}.main.{quoted(name)}").fetchone()
            count = int(row[0]) if row else 0
            return TableDiff(name, 0, count if side == "a" else 0, count if side == "b" else 0, 0)
    shared = [column for column in columns["a"] if column in columns["b"]]
    keys = [column for column in shared if column not in VALUES]
    values = [column for column in shared if column in VALUES]
    sides = [f"{side}.main.{quoted(name)}" for side in ("a", "b")]
    per_cell = ", ".join(map(quoted, keys))
    counts = [
        connection.execute(f"SELECT count(*), count(DISTINCT ({per_cell})) FROM {side}").fetchone() for side in sides
    ]
    rows, cells = zip(*(count for count in counts if count is not None), strict=True)
    if rows != cells:  # what they share does not tell their cells apart, so none is the same cell
        return TableDiff(name, 0, rows[1], rows[0], 0)
    on = " AND ".join(f"x.{quoted(key)} IS NOT DISTINCT FROM y.{quoted(key)}" for key in keys)
    other = " OR ".join(f"x.{quoted(value)} IS DISTINCT FROM y.{quoted(value)}" for value in values) or "false"
    row = connection.execute(f"""
        SELECT count(*) FILTER (x._ AND y._ AND ({other})), count(*) FILTER (x._ IS NULL),
            count(*) FILTER (y._ IS NULL), count(*) FILTER (x._ AND y._ AND NOT ({other}))
        FROM (SELECT *, true AS _ FROM {sides[0]}) AS x
        FULL JOIN (SELECT *, true AS _ FROM {sides[1]}) AS y ON {on}""").fetchone()
    assert row is not None
    return TableDiff(name, *map(int, row))
