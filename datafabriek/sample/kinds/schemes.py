"""Deliveries about municipal schemes for low incomes: the stadspas and the inkomenstoeslag.

Belongs here: how the made-up population fills them, and which dirt goes in. Does not belong here: their layouts, which
come from the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl

from datafabriek.sample.deliveries import (
    BROKEN_LINES,
    Made,
    always,
    day,
    june_31,
    made,
    padded,
    spaces,
    unpadded,
    wrong_check_digit,
    zero_lost,
)  # fmt: skip
from datafabriek.sample.dirt import Spot
from datafabriek.sample.population import START, YEAR, Population, Rng
from quality.contracts.model import load

_DAY_FIRST = r"^(\d{4})(\d{2})(\d{2})$"

_SPOTS = [
    zero_lost("bsn", 0.002),
    Spot("gemeente_zonder_nul", 0.005, "repaired", "gemeente_code", unpadded, padded("gemeente_code")),
    Spot("spaties", 0.005, "repaired", "postcode", spaces),
    Spot("dag_onbekend", 0.005, "repaired", "geboortedatum", lambda c: c.str.slice(0, 6) + "00"),
    Spot("elfproef", 0.003, "quarantined", "bsn", wrong_check_digit),
    *BROKEN_LINES,
]
"""Dirt that both have."""


def _poor(people: Population, rng: Rng, share: float) -> pl.DataFrame:
    """Members of households with bijstand, each with person, address and household; a share of them."""
    helped = people.persons["huishouden"].gather(people.benefits["persoon"]).unique()
    home = people.stays.group_by("persoon", maintain_order=True).last()
    frame = pl.concat([people.persons[home["persoon"]], people.addresses[home["adres"]]], how="horizontal")
    frame = frame.filter(pl.col("huishouden").is_in(helped.implode()))
    return frame.filter(pl.Series(rng.random(frame.height) < share))


def _address() -> dict[str, pl.Expr]:
    return {
        "postcode": pl.col("postcode"), "huisnummer": pl.col("huisnummer"), "huisletter": pl.col("huisletter"),
        "huisnummertoevoeging": pl.col("toevoeging"), "gemeente_code": pl.col("gemeente_code").str.slice(2),
    }  # fmt: skip


def stadspas(people: Population, seed: int) -> Iterator[Made]:
    """A year of passes: for four in five members of households with bijstand, children too."""
    rng = np.random.default_rng([seed, 41])
    holders = _poor(people, rng, 0.8)
    number = holders.height
    frame = holders.select(
        pasnummer=pl.format("{}", 2_500_000_000 + 37 * pl.int_range(pl.len())), bsn="bsn",
        geboortedatum=day("geboren"),
        soort_pas=pl.when(pl.col("geboren") > START - 18 * 365).then(pl.lit("K")).otherwise(pl.lit("V")),
        ingangsdatum=day(pl.Series(START + rng.integers(0, 300, number))), einddatum=pl.lit(f"{YEAR}1231"),
        is_gebruikt=pl.Series(rng.choice(["J", "N"], number, p=[0.7, 0.3])), **_address(),
    )  # fmt: skip
    spots = [
        *_SPOTS,
        Spot("ja_nee", 0.01, "repaired", "is_gebruikt", always("Ja")),
        Spot("datum_dmj", 0.01, "repaired", "ingangsdatum", lambda c: c.str.replace(_DAY_FIRST, "${3}-${2}-${1}")),
        Spot("open_einde", 0.005, "repaired", "einddatum", always("29991231")),
        Spot("onbekende_code", 0.002, "quarantined", "soort_pas", always("X")),
    ]
    footer = f"Afgedrukt op 10-01-{YEAR + 1}"
    yield made(load("stadspas"), f"stadspas_{YEAR}.csv", frame, spots, rng, duplicates=0.001, footer=footer)


def inkomenstoeslag(people: Population, seed: int) -> Iterator[Made]:
    """A year of decisions: on the applications of a third of the adults in households with bijstand."""
    rng = np.random.default_rng([seed, 42])
    asked = _poor(people, rng, 0.33).filter(pl.col("geboren") < START - 21 * 365)
    number = asked.height
    granted = rng.random(number) < 0.85
    frame = asked.select(
        zaaknummer=pl.format("Z{}", 20_200_000 + pl.int_range(pl.len())), bsn="bsn", geboortedatum=day("geboren"),
        besluitdatum=day(pl.Series(START + rng.integers(0, 360, number))),
        besluit=pl.Series(np.where(granted, "toegekend", "afgewezen")),
        bedrag=pl.Series(np.where(granted, rng.choice(["404,00", "518,00", "577,50"], number), "0,00")),
        huishouden=pl.Series(rng.integers(1, 5, number)),
        eerder_toegekend=pl.Series(rng.choice(["J", "N"], number)), **_address(),
    )  # fmt: skip
    spots = [
        *_SPOTS,
        Spot("hoofdletters", 0.01, "repaired", "besluit", lambda c: c.str.to_uppercase()),
        Spot("een_of_twee", 0.01, "repaired", "eerder_toegekend", always("2")),
        Spot("datum_bestaat_niet", 0.003, "quarantined", "besluitdatum", june_31),
        Spot("samenstelling_onbekend", 0.003, "warned", "huishouden", always("7")),
    ]
    file = f"inkomenstoeslag_{YEAR}.csv"
    yield made(load("inkomenstoeslag"), file, frame, spots, rng, duplicates=0.001)


MAKERS: Mapping[str, Callable[[Population, int], Iterator[Made]]] = {
    "stadspas": stadspas, "inkomenstoeslag": inkomenstoeslag,
}  # fmt: skip
"""A maker per delivery kind."""
