"""The raw_cbs tables: columns, types, meaning and what must hold for each value.

One owner for three uses: the types and comments that the tables are made with, the column schemas that Dagster
shows, and the validation after loading. Frames are validated eagerly: pandera looks at no value of a lazy one.
"""

from __future__ import annotations

from typing import Any

import pandera.polars as pa
import polars as pl

from quality.regions import form

LEVELS = ("NL", "LD", "PV", "CR", "GM", "WK", "BU")
"""Levels of region, widest first; CR (COROP) is a side branch between PV and GM."""

STATUSES = ("Definitief", "NaderVoorlopig", "Voorlopig")
ORIGINS = ("gemeten", "synthetisch")

REGION = form()
GEMEENTE = form("GM")

_DUCKDB = {
    pl.String: "VARCHAR",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.Float64: "DOUBLE",
    pl.Date: "DATE",
    pl.Boolean: "BOOLEAN",
}


def _column(dtype: Any, description: str, *checks: pa.Check, nullable: bool = False) -> pa.Column:
    return pa.Column(dtype, list(checks), nullable=nullable, description=description)


def _text(description: str, *checks: pa.Check, nullable: bool = False) -> pa.Column:
    return _column(pl.String, description, *checks, nullable=nullable)


def _code(description: str, pattern: str, *, nullable: bool = False) -> pa.Column:
    return _text(description, pa.Check.str_matches(pattern), nullable=nullable)


def _one_of(description: str, values: tuple[str, ...], *, nullable: bool = False) -> pa.Column:
    return _text(description, pa.Check.isin(list(values)), nullable=nullable)


TABLE_ID = _code("Tabel van CBS StatLine waaruit de rij komt.", r"^[0-9]{5}[0-9A-Za-z]*$")
REGION_CODE = _code(
    "Regiocode van het CBS zonder spaties; Nederland is overal NL00 (het CBS schrijft ook NL01).", REGION
)
ORIGIN = _one_of("gemeten (cijfer van het CBS) of synthetisch (verzonnen voor de voorbeeldfabriek).", ORIGINS)
MEASURE = {
    "measure_code": _text("Onderwerp: de v4-sleutel van het CBS, of het titelpad waar die er niet is."),
    "measure_titel": _text("Titel van het onderwerp, met de titels van zijn groepen ervoor."),
    "eenheid": _text("Eenheid waarin het CBS de waarde geeft.", nullable=True),
}
VALUE = {
    "waarde": _column(pl.Float64, "Waarde in de genoemde eenheid; leeg als het CBS geen getal geeft.", nullable=True),
    "value_attribute": _text("Waarom een waarde ontbreekt, in de woorden van het CBS; None bij een gewone waarde."),
}
KEY = _text("Eigen, vaste naam van het onderwerp voor de modellen; leeg voor overige onderwerpen.", nullable=True)
STATUS = _one_of("Vaststelling volgens het CBS; leeg waar het CBS er geen geeft.", STATUSES, nullable=True)
PERIOD = {
    "periode_code": _text("Periode zoals het CBS haar schrijft (2020JJ00, 2020MM03)."),
    "periode_start": _column(pl.Date, "Eerste dag van de periode."),
    "periode_frequentie": _text("Soort periode: jaar, kwartaal, maand, week, dag …"),
}
YEAR = _column(pl.Int32, "Jaar van de gebiedsindeling en van de cijfers.", pa.Check.in_range(1995, 2100))


def _schema(name: str, description: str, columns: dict[str, pa.Column], key: list[str]) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(columns, name=name, description=description, unique=key, strict=True)


KERNCIJFERS = _schema(
    "kerncijfers_wijken_en_buurten",
    "CBS Kerncijfers wijken en buurten van meer jaren, een rij per jaar, regio en onderwerp.",
    {
        "tabel_id": TABLE_ID,
        "jaar": YEAR,
        "regio_code": REGION_CODE,
        "regio_naam": _text("Naam van de regio in dat jaar."),
        "regio_niveau": _one_of("Niveau van de regio.", ("NL", "GM", "WK", "BU")),
        "gemeente_code": _code("Gemeente waarin de regio ligt; leeg voor Nederland.", GEMEENTE, nullable=True),
        **MEASURE,
        "indicator_sleutel": KEY,
        **VALUE,
        "string_value": _text("Waarde van een onderwerp dat tekst is, zoals een postcode.", nullable=True),
        "periode_status": STATUS,
        "herkomst": ORIGIN,
    },
    ["jaar", "regio_code", "measure_code"],
)

DEKKING = _schema(
    "kerncijfers_dekking",
    "In hoeverre elk onderwerp van de kerncijfers per jaar gevuld is: de nieuwste jaargangen missen onderwerpen.",
    {
        "measure_code": MEASURE["measure_code"],
        "measure_titel": MEASURE["measure_titel"],
        "indicator_sleutel": KEY,
        "jaar": YEAR,
        **{
            f"gevuld_{level}": _column(
                pl.Float64,
                f"Deel (0-1) van de {words} met een waarde; leeg als die er niet zijn.",
                pa.Check.in_range(0, 1),
                nullable=True,
            )
            for level, words in (("gm", "gemeenten"), ("wk", "wijken"), ("bu", "buurten"))
        },
        "is_volledig": _column(
            pl.Boolean, "Of het onderwerp dat jaar op elk niveau ongeveer zo goed gevuld is als in zijn beste jaar."
        ),
        "laatste_volledige_jaar": _column(pl.Int32, "Nieuwste jaar waarin het onderwerp volledig is.", nullable=True),
    },
    ["measure_code", "jaar"],
)

BEVOLKING = _schema(
    "bevolking_per_regio",
    "CBS bevolking op 1 januari en gemiddeld naar geslacht, leeftijd en regio (03759ned), burgerlijke staat totaal.",
    {
        "tabel_id": TABLE_ID,
        "regio_code": REGION_CODE,
        **PERIOD,
        "periode_status": STATUS,
        **{
            column: _text(description)
            for dimension, words in (
                ("geslacht", "geslacht"),
                ("leeftijd", "leeftijd"),
                ("burgerlijke_staat", "burgerlijke staat"),
            )
            for column, description in (
                (f"{dimension}_code", f"Code van het CBS voor {words}."),
                (f"{dimension}_label", f"Titel van het CBS bij die code voor {words}."),
            )
        },
        **MEASURE,
        **VALUE,
        "herkomst": ORIGIN,
    },
    ["regio_code", "periode_code", "geslacht_code", "leeftijd_code", "burgerlijke_staat_code", "measure_code"],
)

REGIOS = _schema(
    "regios",
    "Regio's en hun hiërarchie per gebiedsindeling: buurt, wijk, gemeente, provincie, landsdeel, land; COROP ernaast.",
    {
        "indeling_jaar": YEAR,
        "regio_code": REGION_CODE,
        "regio_naam": _text("Naam van de regio in dat jaar."),
        "regio_niveau": _one_of("Niveau van de regio.", LEVELS),
        "ouder_code": _code("Regio een niveau hoger; leeg voor Nederland en voor een wees.", REGION, nullable=True),
        "gemeente_code": _code("Gemeente waarin de regio ligt; leeg boven de gemeente.", GEMEENTE, nullable=True),
        "corop_code": _code("COROP-gebied van een gemeente; leeg als onbekend.", r"^CR\d{2}$", nullable=True),
        "herkomst": ORIGIN,
    },
    ["indeling_jaar", "regio_code"],
)

HERINDELINGEN = _schema(
    "herindelingen",
    "Wat gemeenten sinds 1830 aan elkaar overdroegen, gelezen uit de toelichting bij de regiocodes van 03759ned.",
    {
        "datum": _column(pl.Date, "Dag waarop de wijziging inging."),
        "soort": _one_of(
            "Wat er gebeurde: de gevende gemeente hield op, de ontvangende ontstond, de grens of de naam wijzigde.",
            ("opgeheven", "ontstaan", "grenswijziging", "naamswijziging"),
        ),
        "van_code": _code("Gemeente die gaf, of de oude code bij een naamswijziging.", GEMEENTE, nullable=True),
        "van_naam": _text("Naam van die gemeente.", nullable=True),
        "naar_code": _code(
            "Gemeente die ontving, ook zichzelf (wat zij behield); leeg bij een einde zonder opvolger.",
            GEMEENTE,
            nullable=True,
        ),
        "naar_naam": _text("Naam van die gemeente.", nullable=True),
        **{
            name: _column(
                pl.Int64, f"Aantal {name} dat overging; leeg als het CBS het niet zegt.", pa.Check.ge(0), nullable=True
            )
            for name in ("hectare", "woningen", "inwoners")
        },
        "herkomst": ORIGIN,
    },
    ["datum", "van_code", "naar_code"],
)

_BY_REGION_AND_PERIOD = {
    "tabel_id": TABLE_ID,
    "regio_code": REGION_CODE,
    **PERIOD,
    "periode_status": STATUS,
    **MEASURE,
    "indicator_sleutel": KEY,
    **VALUE,
    "herkomst": ORIGIN,
}

ZZP_INKOMEN = _schema(
    "zzp_inkomen",
    "CBS zelfstandigen zonder personeel per regio en jaar: aantal, inkomen en vermogen, alle bedrijfstakken samen.",
    _BY_REGION_AND_PERIOD,
    ["regio_code", "periode_code", "measure_code"],
)

BIJSTAND = _schema(
    "bijstand_wijken_buurten",
    "CBS personen met een uitkering naar soort, per wijk en buurt, kwartaalultimo; aantallen afgerond op tientallen.",
    _BY_REGION_AND_PERIOD,
    ["tabel_id", "regio_code", "periode_code", "measure_code"],
)

SCHEMAS: dict[str, pa.DataFrameSchema] = {
    str(schema.name): schema
    for schema in (KERNCIJFERS, DEKKING, BEVOLKING, REGIOS, HERINDELINGEN, ZZP_INKOMEN, BIJSTAND)
}


def tabel(table_id: str, title: str, dimensions: dict[str, str], time: str | None) -> pa.DataFrameSchema:
    """The schema of any further StatLine table, in long form.

    Args:
        table_id: the table.
        title: its title, the table's comment.
        dimensions: column stem → title of each dimension.
        time: the stem of its time dimension; None where it has none.
    """
    columns: dict[str, pa.Column] = {
        "id": _column(pl.Int64, "Volgnummer van de waarneming bij het CBS."),
        **MEASURE,
        **VALUE,
        "string_value": _text("Waarde van een onderwerp dat tekst is.", nullable=True),
    }
    for stem, words in dimensions.items():
        columns[f"{stem}_code"] = _text(f"{words}: code van het CBS.")
        columns[f"{stem}_label"] = _text(f"{words}: titel van het CBS bij die code.", nullable=True)
    if time is not None:
        columns["periode_start"] = _column(
            pl.Date, "Eerste dag van de periode; leeg als haar soort onbekend is.", nullable=True
        )
        columns["periode_frequentie"] = _text("Soort periode: jaar, kwartaal, maand, week, dag …", nullable=True)
        columns["periode_status"] = STATUS
    columns["herkomst"] = ORIGIN
    return _schema(f"tabel_{table_id.lower()}", f"CBS {table_id}: {title}", columns, ["id", "measure_code"])


def duckdb_types(schema: pa.DataFrameSchema) -> dict[str, str]:
    """Column → DuckDB type, in order."""
    return {name: _DUCKDB[column.dtype.type.base_type()] for name, column in schema.columns.items()}
