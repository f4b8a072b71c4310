"""Any further StatLine table that factory.yaml lists, in long form: `raw_cbs.tabel_<id>`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb

from assets.cbs.model import Landed, TableMeta
from assets.cbs.raw import replace_table, stage
from datafabriek.warehouse import literal, quoted
from quality.schemas.cbs import tabel

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z]([a-z]|[A-Z]))")


def stem(identifier: str) -> str:
    """The column name that a dimension gives: `WijkenEnBuurten` → `wijken_en_buurten`, `RegioS` → `regios`."""
    return _WORD.sub("_", identifier).lower()


def table_name(table_id: str) -> str:
    """Name in raw_cbs of a listed table."""
    return f"tabel_{table_id.lower()}"


def schema_of(meta: TableMeta) -> DataFrameSchema:
    """Columns, types and descriptions of the table's long form."""
    dimensions = {stem(d.identifier): d.title for d in meta.dimensions}
    return tabel(meta.id, meta.title, dimensions, stem(meta.time.identifier) if meta.time else None)


def build(connection: duckdb.DuckDBPyConnection, landed: Landed) -> int:
    """Make `raw_cbs.tabel_<id>`; return its number of rows. Codes are CBS's own, spaces around them removed.

    Raises:
        LayoutError: there are no observations under the table's filter.
    """
    meta = landed.meta
    stage(connection, [landed])
    columns, joins = [], []
    for dimension in meta.dimensions:
        name = stem(dimension.identifier)
        columns += [f"facts.{quoted(dimension.identifier)} AS {quoted(f'{name}_code')}"]
        columns += [f"{quoted(name)}.label AS {quoted(f'{name}_label')}"]
        joins.append(
            f"LEFT JOIN labels {quoted(name)} ON {quoted(name)}.dimensie = {literal(dimension.identifier)} "
            f"AND {quoted(name)}.identifier = facts.{quoted(dimension.identifier)}"
        )
    if meta.time:
        columns += ["periode_start", "periode_frequentie", "periode_status"]
        joins.append("LEFT JOIN periods ON periods.identifier = facts.periode")
    query = f"""
        SELECT Id AS id, measure_code, measure_titel, eenheid, Value AS waarde,
            coalesce(ValueAttribute, 'None') AS value_attribute, StringValue AS string_value, herkomst,
            {", ".join(columns)}
        FROM facts JOIN measures ON facts.Measure = measures.identifier {" ".join(joins)}
        ORDER BY id, measure_code
    """
    return replace_table(connection, schema_of(meta), query)
