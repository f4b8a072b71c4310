"""Self-employed and benefits as CBS counts them: zzp income by gemeente, benefits by wijk and buurt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import duckdb

from assets.cbs.filters import both, regions_filter
from assets.cbs.measures import Known, name_known, require
from assets.cbs.model import Code, Landed, TableMeta
from assets.cbs.raw import LayoutError, named_like, replace_table, stage, total
from datafabriek.warehouse import literal
from quality.schemas.cbs import BIJSTAND, ZZP_INKOMEN

ZZP_TABLE = "86163NED"
"""Zelfstandigen; inkomen, vermogen, regio (indeling 2025). CBS gives each classification a table of its own."""

BENEFIT_TITLE = "Personen met een uitkering; soort uitkering, wijken en buurten"
BENEFIT_TABLES = {
    2016: "83577NED",
    2017: "83759NED",
    2018: "84417NED",
    2019: "84692NED",
    2020: "84897NED",
    2021: "85042NED",
    2022: "85317NED",
    2023: "85586NED",
    2024: "86003NED",
    2025: "86113NED",
}
"""Year → StatLine table; the title is checked at run time. A year that is not here is looked up by its title."""

_MEND = "CBS may have laid it out anew: mend `zelfstandige_zonder_personeel` in assets/cbs/incomes.py"

_MAIN, _ALL = "voornaamste_inkomen", "alle_inkomens"

ZZP_KNOWN = tuple(
    Known(f"{key}{suffix}", (title,), within=within, outside=outside)
    for key, title in (
        ("zzp_personen", "zelfstandigen"),
        ("zzp_gemiddeld_inkomen_eur1000", "gemiddeld_persoonlijk_inkomen"),
        ("zzp_mediaan_inkomen_eur1000", "mediaan_persoonlijk_inkomen"),
        ("zzp_gemiddeld_inkomen_als_zelfstandige_eur1000", "gemiddeld_inkomen_als_zelfstandige"),
        ("zzp_mediaan_inkomen_als_zelfstandige_eur1000", "mediaan_inkomen_als_zelfstandige"),
        ("zzp_mediaan_vermogen_eur1000", "mediaan_vermogen"),
    )
    # older editions have no such groups: what stands outside both is the main one
    for suffix, within, outside in (("", "", _ALL), ("_alle_inkomens", _ALL, _MAIN))
)
"""`…_alle_inkomens` counts all with any income as self-employed, the others those who live on it mostly. Persons
are counted in thousands, as their unit says."""

BENEFIT_KNOWN = (
    Known("bijstand_personen", ("bijstandsuitkering",), outside="relatief"),
    Known("bijstand_pct", ("bijstandsuitkering",), within="relatief"),
    Known("ww_personen", ("werkloosheidsuitkering",), outside="relatief"),
    Known("ao_personen", ("arbeidsongeschiktheidsuitkering",), outside="relatief"),
    Known("aow_personen", ("aow_uitkering",), outside="relatief"),
    Known("inwoners_15_en_ouder", ("inwoners_vanaf_15_jaar",)),
)


def zelfstandige_zonder_personeel(meta: TableMeta) -> tuple[str, Code] | None:
    """Dimension and code that single out those without personnel; None for a table on them alone.

    Raises:
        LayoutError: the table has a type of self-employed but not this one, or is not about them at all.
    """
    kind = named_like(meta, "zelfstandige")
    if kind is None:
        if "zzp" in meta.title.lower() or "zonder personeel" in meta.title.lower():
            return None
        raise LayoutError(
            f"CBS table {meta.id} ({meta.title}) was expected to have a dimension 'Type zelfstandige' and has "
            f"{', '.join(d.title for d in meta.dimensions)}. {_MEND}"
        )
    for code in kind.codes:
        if "zzp" in code.title.lower() or "zonder personeel" in code.title.lower():
            return kind.identifier, code
    types = ", ".join(code.title for code in kind.codes)
    expected = "a type 'zonder personeel (zzp)'"
    raise LayoutError(f"CBS table {meta.id} was expected to have {expected} and has {types}. {_MEND}")


def choose_zzp(meta: TableMeta, gemeenten: Sequence[str], provincie: str) -> str | None:
    """The filter on zzp'ers in the factory's regions, every other dimension at its total.

    Raises:
        LayoutError: the table is not laid out as expected, or knows none of the gemeenten.
    """
    text = regions_filter(meta, gemeenten, provincie)
    if text is None:
        raise LayoutError(
            f"CBS table {meta.id} has no figures for {', '.join(gemeenten)}: check `region` in factory.yaml"
        )
    chosen = zelfstandige_zonder_personeel(meta)
    if chosen is not None:
        text = both(text, f"{chosen[0]} eq {literal(chosen[1].identifier)}")
    for dimension in meta.dimensions:
        if not dimension.is_geo and not dimension.is_time and (chosen is None or dimension.identifier != chosen[0]):
            text = both(text, f"{dimension.identifier} eq {literal(total(meta, dimension).identifier)}")
    return text


_QUERY = """
SELECT facts.tabel_id, regio_code, periode_code, periode_start, periode_frequentie, periode_status,
    measure_code, measure_titel, eenheid, indicator_sleutel,
    Value AS waarde, coalesce(ValueAttribute, 'None') AS value_attribute, herkomst
FROM facts
JOIN measures ON facts.tabel_id = measures.tabel_id AND facts.Measure = measures.identifier
JOIN regions ON facts.tabel_id = regions.tabel_id AND facts.regio = regions.identifier
JOIN periods ON facts.tabel_id = periods.tabel_id AND facts.periode = periods.identifier
ORDER BY regio_code, periode_start, measure_code
"""


def build_zzp(connection: duckdb.DuckDBPyConnection, landed: Landed) -> int:
    """Make `raw_cbs.zzp_inkomen`; return its number of rows.

    Raises:
        MeasureError: the table lacks the number of self-employed or their mean income.
    """
    named = name_known(landed.meta, ZZP_KNOWN)
    require(landed.meta, named, ("zzp_personen", "zzp_gemiddeld_inkomen_eur1000"))
    stage(connection, [landed], keys=named)
    return replace_table(connection, ZZP_INKOMEN, _QUERY)


def build_benefits(connection: duckdb.DuckDBPyConnection, tables: Iterable[Landed]) -> int:
    """Make `raw_cbs.bijstand_wijken_buurten` from one or more years; return its number of rows.

    Raises:
        MeasureError: a table lacks the number of persons on bijstand.
    """
    tables = list(tables)
    keys: dict[tuple[str, str], str] = {}
    for landed in tables:
        named = name_known(landed.meta, BENEFIT_KNOWN)
        require(landed.meta, named, ("bijstand_personen",))
        keys |= named
    stage(connection, tables, keys=keys, keep=lambda measure: not measure.is_text)
    return replace_table(connection, BIJSTAND, _QUERY)
