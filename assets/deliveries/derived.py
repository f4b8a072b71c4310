"""What is kept of the tables that follow from the vault: from what each was made, so that it is made anew in time.

Belongs here: the administration of tables of purposes and linkages (`raw_leveringen.afleiding`). Does not belong here:
how their rows are made (purposes, linking).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from datafabriek.warehouse import literal, quoted, transaction
from quality.privacy.identifying import OWN
from quality.privacy.linkages import IMPERSONAL, LINKED, RAW
from quality.privacy.policy import PolicyError

STATE_SCHEMA = "raw_leveringen"


@dataclass(frozen=True)
class RawTable:
    """A table of a purpose or a linkage after a run.

    Attributes:
        schema: `raw_<purpose>` or `koppeling_<naam>`.
        name: the table.
        rows: number of rows.
        unknown_buurt: rows without a buurt; None where the table has none.
        smallest_group: fewest rows that share all values other than pseudonyms; None for an empty table.
        renewed: False where nothing had changed since the table was made.
        left_out: accepted rows that the purpose has no need of; None where they were not counted anew.
        lapsed: accepted rows that a later record replaced or took back, and those that do so; None as above.
    """

    schema: str
    name: str
    rows: int
    unknown_buurt: int | None
    smallest_group: int | None
    renewed: bool
    left_out: int | None = None
    lapsed: int | None = None


@dataclass(frozen=True)
class Made:
    """From what a table is made: everything it follows from, the form of its rows, the version of its key."""

    state: str
    form: str
    key_version: int


@dataclass(frozen=True)
class Groups:
    """How many rows of a table share all their values, pseudonyms aside: what could tell a person from another.

    Attributes:
        table: schema and name.
        rows: in the table.
        smallest: rows of the smallest group; None for an empty table.
        alone: rows that no other row equals.
        few: rows in groups of fewer than `FEW`, those alone among them.
        beside: rows that, by some of the columns it shares with a table of another purpose, stand alone here and there
            with the same values, of those columns and that table where these are most: who has both may take them for
            one and the same person.
    """

    table: str
    rows: int
    smallest: int | None
    alone: int
    few: int
    beside: int


FEW = 5


def groups(con: duckdb.DuckDBPyConnection) -> list[Groups]:
    """The measure of every table with persons in the warehouse, as it stands."""
    query = """SELECT schema_name, table_name,
            list(column_name) FILTER (WHERE data_type <> 'UUID' AND column_name NOT IN (SELECT unnest(?)))
        FROM duckdb_columns() WHERE (starts_with(schema_name, ?) OR starts_with(schema_name, ?))
        AND schema_name NOT IN (SELECT unnest(?)) GROUP BY ALL ORDER BY ALL"""
    found = []
    tables = con.execute(query, [list(OWN), RAW, LINKED, list(IMPERSONAL)]).fetchall()
    for schema, name, columns in tables:
        full = f"{quoted(schema)}.{quoted(name)}"
        by = f"GROUP BY {', '.join(map(quoted, columns))}" if columns else ""
        row = con.execute(
            f"""SELECT coalesce(sum(n), 0), min(n), coalesce(sum(n) FILTER (n = 1), 0),
            coalesce(sum(n) FILTER (n < {FEW}), 0) FROM (SELECT count(*) AS n FROM {full} {by}) WHERE n > 0"""
        ).fetchone() or (0, None, 0, 0)
        beside = max((_beside(con, full, columns, *other) for other in tables if other[0] != schema), default=0)
        found.append(Groups(f"{schema}.{name}", int(row[0]), row[1], int(row[2]), int(row[3]), beside))
    return found


_MOST_SHARED = 8
"""Of so many shared columns every combination is tried (256); of more, all together."""


def _beside(
    con: duckdb.DuckDBPyConnection, full: str, columns: Sequence[str], schema: str, name: str, theirs: Sequence[str]
) -> int:
    shared = ", ".join(listed := [quoted(column) for column in columns or () if column in (theirs or ())])
    if not shared:
        return 0
    sets = f"CUBE ({shared})" if len(listed) <= _MOST_SHARED else shared
    alone = [
        f"SELECT {shared}, grouping_id({shared}) AS _by FROM {table} GROUP BY {sets} HAVING count(*) = 1"
        for table in (full, f"{quoted(schema)}.{quoted(name)}")
    ]
    found = f"SELECT count(*) AS n FROM ({' INTERSECT '.join(alone)}) GROUP BY _by"
    row = con.execute(f"SELECT coalesce(max(n), 0) FROM ({found})").fetchone()
    return int(row[0]) if row else 0


def hold_to_k(result: RawTable, k: int | None) -> None:
    """Hold a table to the smallest group that policy allows.

    Raises:
        PolicyError: a group is smaller.
    """
    if k is not None and result.smallest_group is not None and result.smallest_group < k:
        raise PolicyError(
            f"{result.schema}.{result.name}: the smallest group over its columns has {result.smallest_group} rows, the "
            f"policy asks at least {k}: coarsen a column in the contract, or settle another k"
        )


def replaced(
    target: duckdb.DuckDBPyConnection,
    what: tuple[str, str],
    made: Made,
    k: int | None,
    fill: Callable[[str], RawTable],
) -> RawTable:
    """Make a table anew and keep from what it was made, in one transaction.

    Args:
        target: the warehouse.
        what: schema and name.
        made: from what.
        k: the smallest group that policy allows.
        fill: makes, describes and measures the table of the (quoted) name that it is given.

    Raises:
        PolicyError: a group is smaller than k. The table is as it was, then and whenever `fill` fails.
    """
    schema, name = what
    with transaction(target):
        target.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        result = fill(f"{quoted(schema)}.{quoted(name)}")
        hold_to_k(result, k)
        note(target, f"{schema}.{name}", made, result)
    return result


def measured(target: duckdb.DuckDBPyConnection, full: str, over: Sequence[str]) -> tuple[int, int | None]:
    """Rows of a table, and of the smallest group that shares its values in some columns; None where it is empty."""
    by = ", ".join(map(quoted, over))
    smallest = f"(SELECT min(n) FROM (SELECT count(*) AS n FROM {full} GROUP BY {by}))" if by else "NULL"
    return target.execute(f"SELECT count(*), {smallest} FROM {full}").fetchone() or (0, None)


def describe(target: duckdb.DuckDBPyConnection, full: str, told: str, columns: Mapping[str, str]) -> None:
    """Say of a table and its columns what they are."""
    target.execute(f"COMMENT ON TABLE {full} IS {literal(told)}")
    for column, description in ({**columns, "herkomst": "gemeten of synthetisch (voorbeeld)."}).items():
        target.execute(f"COMMENT ON COLUMN {full}.{quoted(column)} IS {literal(description)}")


def key_version(target: duckdb.DuckDBPyConnection, what: str) -> int | None:
    """Version of the key under which a table was made; None where there is none yet."""
    row = target.execute(f"SELECT sleutelversie FROM {STATE_SCHEMA}.afleiding WHERE tabel = ?", [what]).fetchone()
    return row[0] if row else None


def key_versions(target: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Version of the key under which each table was made, by schema and name."""
    target.execute(_STATE)
    query = f"SELECT tabel, sleutelversie FROM {STATE_SCHEMA}.afleiding WHERE sleutelversie IS NOT NULL"
    return dict(target.execute(query).fetchall())


def fingerprint(of: object) -> str:
    """A fingerprint of plain data."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


_STATE = f"""
CREATE SCHEMA IF NOT EXISTS {STATE_SCHEMA};
CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.afleiding (
    tabel VARCHAR, staat VARCHAR, rijen BIGINT, buurt_onbekend BIGINT, kleinste_groep BIGINT, gemaakt_op TIMESTAMP
);
ALTER TABLE {STATE_SCHEMA}.afleiding ADD COLUMN IF NOT EXISTS vorm VARCHAR;
ALTER TABLE {STATE_SCHEMA}.afleiding ADD COLUMN IF NOT EXISTS sleutelversie INTEGER;
"""


def derived_before(target: duckdb.DuckDBPyConnection, what: str, state: str) -> RawTable | None:
    """The table as it stands, where it was made from this very state."""
    schema, name = what.split(".")
    target.execute(_STATE)
    row = target.execute(
        f"""SELECT rijen, buurt_onbekend, kleinste_groep FROM {STATE_SCHEMA}.afleiding
        WHERE tabel = ? AND staat = ?
        AND EXISTS (FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?)""",
        [what, state, schema, name],
    ).fetchone()
    return RawTable(schema, name, row[0], row[1], row[2], renewed=False) if row else None


def note(target: duckdb.DuckDBPyConnection, what: str, made: Made, result: RawTable) -> None:
    """Keep from what a table was made."""
    now = datetime.now(UTC).replace(tzinfo=None)
    target.execute(f"DELETE FROM {STATE_SCHEMA}.afleiding WHERE tabel = ?", [what])
    values = [what, made.state, result.rows, result.unknown_buurt, result.smallest_group, now]
    values += [made.form, made.key_version]
    target.execute(f"INSERT INTO {STATE_SCHEMA}.afleiding VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
