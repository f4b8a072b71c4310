"""Population by region (03759ned): on 1 January and on average, by sex and age."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from assets.cbs.filters import both, regions_filter
from assets.cbs.model import Dimension, Landed, TableMeta
from assets.cbs.raw import LayoutError, named_like, replace_table, stage, total
from datafabriek.warehouse import literal, quoted
from quality.schemas.cbs import BEVOLKING

TABLE = "03759ned"
"""Bevolking op 1 januari en gemiddeld; geslacht, leeftijd en regio. 100 million observations: never unfiltered."""

_DIMENSIONS = {"geslacht": "geslacht", "leeftijd": "leeftijd", "burgerlijke_staat": "burgerlijkestaat"}


def _dimension(meta: TableMeta, word: str) -> Dimension:
    """The dimension named so.

    Raises:
        LayoutError: there is none.
    """
    found = named_like(meta, word)
    if found is None:
        has = ", ".join(d.identifier for d in meta.dimensions)
        raise LayoutError(f"CBS table {meta.id} was expected to have a dimension `{word}` and has {has}")
    return found


def choose(meta: TableMeta, gemeenten: Sequence[str], provincie: str, since: int) -> str:
    """The filter: own regions, province and country, from a year on, all marital states together.

    Raises:
        LayoutError: the table knows none of the gemeenten, or has other dimensions than expected.
    """
    regions = regions_filter(meta, gemeenten, provincie)
    if regions is None or meta.time is None:
        raise LayoutError(
            f"CBS table {meta.id} has no figures by period for {', '.join(gemeenten)}: check `region` in factory.yaml"
        )
    marital = _dimension(meta, _DIMENSIONS["burgerlijke_staat"])
    together = f"{marital.identifier} eq {literal(total(meta, marital).identifier)}"
    text = both(both(regions, together), f"{meta.time.identifier} ge '{since}JJ00'")
    assert text is not None
    return text


def build(connection: duckdb.DuckDBPyConnection, landed: Landed) -> int:
    """Make `raw_cbs.bevolking_per_regio`; return its number of rows.

    Raises:
        LayoutError: the table has other dimensions than expected.
    """
    dimensions = {stem: _dimension(landed.meta, word) for stem, word in _DIMENSIONS.items()}
    stage(connection, [landed])
    columns = [f"facts.{quoted(d.identifier)} AS {stem}_code" for stem, d in dimensions.items()]
    columns += [f"{stem}.label AS {stem}_label" for stem in dimensions]
    joins = [
        f"LEFT JOIN labels {stem} ON {stem}.dimensie = {literal(d.identifier)} "
        f"AND {stem}.identifier = facts.{quoted(d.identifier)}"
        for stem, d in dimensions.items()
    ]
    query = f"""
        SELECT facts.tabel_id, regio_code, periode_code, periode_start, periode_frequentie, periode_status,
            {", ".join(columns)}, measure_code, measure_titel, eenheid, Value AS waarde,
            coalesce(ValueAttribute, 'None') AS value_attribute, herkomst
        FROM facts
        JOIN measures ON facts.Measure = measures.identifier
        JOIN regions ON facts.regio = regions.identifier
        JOIN periods ON facts.periode = periods.identifier
        {" ".join(joins)}
        ORDER BY regio_code, periode_start, measure_code, geslacht_code, leeftijd_code
    """
    return replace_table(connection, BEVOLKING, query)
