"""How a raw_cbs table gets into the warehouse: whole, typed, described, in one transaction.

Belongs here: the swap, and the relations over a landed table that every raw table starts from (`stage`). What a
table holds stands in quality/schemas/cbs.py; how it is made stands in the module of its subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from assets.cbs.errors import CbsError
from assets.cbs.landing import observations
from assets.cbs.model import Code, Dimension, Landed, Measure, TableMeta
from assets.cbs.periods import parse_period
from datafabriek.warehouse import literal, quoted
from quality.schemas.cbs import REGION, duckdb_types

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

SCHEMA = "raw_cbs"
NATION = "NL00"
"""The code of the country in every raw_cbs table with regions; CBS writes NL00 in some tables and NL01 in others."""


class LayoutError(CbsError):
    """A CBS table whose dimensions are not what the factory expects: what was expected, what there is, the remedy."""


def replace_table(connection: duckdb.DuckDBPyConnection, schema: DataFrameSchema, query: str) -> int:
    """Put the rows of a query in the table's place.

    Args:
        connection: the warehouse; within a transaction readers see the old table or the new one, never a part.
        schema: columns, types and descriptions of the table.
        query: a SELECT that yields those columns by name.

    Returns:
        The number of rows.
    """
    target = f"{SCHEMA}.{quoted(str(schema.name))}"
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in duckdb_types(schema).items())
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.execute(f"CREATE OR REPLACE TABLE {target} ({columns})")
    connection.execute(f"INSERT INTO {target} BY NAME {query}")
    connection.execute(f"COMMENT ON TABLE {target} IS {literal(schema.description or '')}")
    for name, column in schema.columns.items():
        connection.execute(f"COMMENT ON COLUMN {target}.{quoted(name)} IS {literal(column.description or '')}")
    row = connection.execute(f"SELECT count(*) FROM {target}").fetchone()
    return int(row[0]) if row else 0


def origin(meta: TableMeta) -> str:
    """`synthetisch` for a table that the sample made up, else `gemeten`."""
    return "synthetisch" if meta.is_synthetic else "gemeten"


Named = Mapping[tuple[str, str], str]
"""(table id, measure identifier) → a name for it."""


def stage(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[Landed],
    *,
    keys: Named | None = None,
    codes: Named | None = None,
    keep: Callable[[Measure], bool] = lambda measure: True,
) -> None:
    """Lay landed tables ready for SQL: temporary tables on their metadata and a view on all their observations.

    - `measures`: tabel_id, identifier, measure_code, measure_titel (groups and title joined by ` > `), eenheid,
      indicator_sleutel, herkomst.
    - `regions`: tabel_id, identifier, regio_code (`NATION` for the country), regio_naam; only codes of the levels
      that the factory knows, not "Buitenland" or a table's own total.
    - `periods`: tabel_id, identifier, periode_code, periode_start, periode_frequentie, periode_status.
    - `labels`: tabel_id, dimensie, identifier, label, of every dimension.
    - `facts`: tabel_id, regio and periode (identifiers; NULL where a table has no such dimension) and all columns
      of the observations.

    Args:
        connection: where they are made; an earlier stage is replaced.
        tables: tables that landed.
        keys: the factory's own names of measures.
        codes: codes of measures; the identifier where not given.
        keep: which measures are wanted.

    Raises:
        LayoutError: a table landed without observations.
    """
    keys, codes = keys or {}, codes or {}
    metas = [landed.meta for landed in tables]
    measures = [(meta, measure) for meta in metas for measure in meta.measures if keep(measure)]
    temporary(
        connection,
        "measures",
        tabel_id=[meta.id for meta, _ in measures],
        identifier=[measure.identifier for _, measure in measures],
        measure_code=[codes.get((meta.id, m.identifier), m.identifier) for meta, m in measures],
        measure_titel=[clean(measure.title_path) for _, measure in measures],
        eenheid=[measure.unit for _, measure in measures],
        indicator_sleutel=[keys.get((meta.id, measure.identifier)) for meta, measure in measures],
        herkomst=[origin(meta) for meta, _ in measures],
    )
    regions = [(m, code) for m in metas if (geo := geo_of(m)) for code in geo.codes if is_region(code.identifier)]
    temporary(
        connection,
        "regions",
        tabel_id=[meta.id for meta, _ in regions],
        identifier=[code.identifier for _, code in regions],
        regio_code=[region_code(code.identifier) for _, code in regions],
        regio_naam=[clean(code.title) for _, code in regions],
    )
    codes_of_time = [(meta, code) for meta in metas if meta.time for code in meta.time.codes]
    periods = [parse_period(code.identifier) for _, code in codes_of_time]
    temporary(
        connection,
        "periods",
        tabel_id=[meta.id for meta, _ in codes_of_time],
        identifier=[code.identifier for _, code in codes_of_time],
        periode_code=[code.identifier for _, code in codes_of_time],
        periode_start=pa.array([period.start for period in periods], pa.date32()),
        periode_frequentie=[period.frequency for period in periods],
        periode_status=[code.status for _, code in codes_of_time],
    )
    labels = [(meta, dimension, code) for meta in metas for dimension in meta.dimensions for code in dimension.codes]
    temporary(
        connection,
        "labels",
        tabel_id=[meta.id for meta, _, _ in labels],
        dimensie=[dimension.identifier for _, dimension, _ in labels],
        identifier=[code.identifier for _, _, code in labels],
        label=[clean(code.title) for _, _, code in labels],
    )
    facts = " UNION ALL BY NAME ".join(map(_observations, tables))
    connection.execute(f"CREATE OR REPLACE TEMP VIEW facts AS {facts}")


def _observations(landed: Landed) -> str:
    """All observations of a landed table, with its region and period under one name."""
    meta = landed.meta
    if not landed.parts or not landed.rows:
        raise LayoutError(
            f"CBS table {meta.id} has no observations for {landed.filter or 'the whole table'}: check the region "
            "codes in factory.yaml (`datafabriek cbs show` lists what a table holds)"
        )
    regio = quoted(geo.identifier) if (geo := geo_of(meta)) else "NULL::VARCHAR"
    periode = quoted(meta.time.identifier) if meta.time else "NULL::VARCHAR"
    told = f"{literal(meta.id)} AS tabel_id, {regio} AS regio, {periode} AS periode"
    return f"SELECT {told}, * FROM ({observations(landed)})"


def temporary(connection: duckdb.DuckDBPyConnection, name: str, **columns: Sequence[str | None] | pa.Array) -> None:
    """A temporary table from columns of text (or ready Arrow columns)."""
    arrays = {
        key: column if isinstance(column, pa.Array) else pa.array(column, pa.string())
        for key, column in columns.items()
    }
    connection.register("staged", pa.table(arrays))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS SELECT * FROM staged")
    connection.unregister("staged")


def geo_of(meta: TableMeta) -> Dimension | None:
    """The dimension of regions; 85067NED calls it a plain dimension, so its codes are looked at too."""
    return meta.geo or next((d for d in meta.dimensions if d.codes and is_region(d.codes[0].identifier)), None)


def clean(title: str) -> str:
    """A title without the double and hard spaces that CBS leaves in some."""
    return " ".join(title.split())


def is_region(code: str) -> bool:
    """Whether a code names a region of a level that the factory knows."""
    return re.match(REGION, region_code(code)) is not None


def region_code(code: str) -> str:
    """A region code as raw_cbs writes it."""
    return NATION if code.startswith("NL0") else code.strip()


def total(meta: TableMeta, dimension: Dimension) -> Code:
    """The code that stands for all categories of a dimension together.

    Raises:
        LayoutError: no code's title reads like a total.
    """
    for start in ("totaal", "total", "alle", "a-u alle", "a-x alle", "a-v alle"):
        found = next((code for code in dimension.codes if code.title.strip().lower().startswith(start)), None)
        if found is not None:
            return found
    first = ", ".join(f"{code.identifier} ({code.title})" for code in dimension.codes[:5])
    raise LayoutError(
        f"CBS table {meta.id} has a dimension `{dimension.identifier}` without a total ('Totaal …', 'Alle …'); its "
        f"codes begin with {first}. Take the table in through `cbs.tables` with a filter of your own"
    )


def named_like(meta: TableMeta, word: str) -> Dimension | None:
    """The dimension whose identifier or title holds a word."""
    return next((d for d in meta.dimensions if word in f"{d.identifier} {d.title}".lower()), None)
