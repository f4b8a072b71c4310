"""CBS's figures that the sample carries (`data/`, see the README there), as polars frames.

Belongs here: reading them. Does not belong here: anything made up.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

FOLDER = Path(__file__).parent / "data"

GEMEENTEN = ("GM0518", "GM1916")
"""'s-Gravenhage and Leidschendam-Voorburg: the municipalities of the sample."""


@cache
def read(name: str) -> pl.DataFrame:
    """One of the data files; types are inferred from the whole file, an empty field is null.

    Args:
        name: file name without `.csv`.
    """
    return pl.read_csv(FOLDER / f"{name}.csv", infer_schema_length=None, null_values=[""])


def kwb_2020() -> pl.DataFrame:
    """Kerncijfers wijken en buurten 2020 (84799NED), 217 regions in CBS's order.

    Columns: `regio_code`, `regio_naam`, `regio_niveau` (NL, GM, WK, BU), `gemeente_code` (null for NL), then CBS's
    own column names of that edition for every measure it fills.
    """
    code = pl.col("regio_code")
    gemeente = pl.when(code != "NL00").then(pl.format("GM{}", code.str.slice(2, 4)))
    return read("kwb_2020").select(
        code,
        "regio_naam",
        code.str.slice(0, 2).alias("regio_niveau"),
        gemeente.alias("gemeente_code"),
        pl.exclude("regio_code", "regio_naam"),
    )


def buurten() -> pl.DataFrame:
    """The buurten of the sample with what the deliveries are calibrated on.

    Columns: `buurt_code`, `gemeente_code`, `inwoners`, `eenpersoons`, `zonder_kinderen`, `met_kinderen`
    (households), `jongeren` (15-25), `jongvolwassenen` (25-45), `middelbaar` (45-65), `ouderen` (65+), `bijstand`
    (persons; null where CBS gives none).
    """
    columns = {
        "regio_code": "buurt_code",
        "gemeente_code": "gemeente_code",
        "AantalInwoners_5": "inwoners",
        "Eenpersoonshuishoudens_29": "eenpersoons",
        "HuishoudensZonderKinderen_30": "zonder_kinderen",
        "HuishoudensMetKinderen_31": "met_kinderen",
        "k_15Tot25Jaar_9": "jongeren",
        "k_25Tot45Jaar_10": "jongvolwassenen",
        "k_45Tot65Jaar_11": "middelbaar",
        "k_65JaarOfOuder_12": "ouderen",
        "PersonenPerSoortUitkeringBijstand_83": "bijstand",
    }
    return kwb_2020().filter(regio_niveau="BU").select(pl.col(old).alias(new) for old, new in columns.items())


def gemeente_totals() -> pl.DataFrame:
    """Inhabitants and persons on bijstand of each gemeente: `gemeente_code`, `inwoners`, `bijstand`."""
    return (
        kwb_2020()
        .filter(regio_niveau="GM")
        .select("gemeente_code", inwoners="AantalInwoners_5", bijstand="PersonenPerSoortUitkeringBijstand_83")
    )
