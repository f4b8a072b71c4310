"""Deliveries about youth: Beleidsinformatie Jeugd, iJw messages and invoices of Zorgned.

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
    unpadded,
    wrong_check_digit,
)
from datafabriek.sample.dirt import Spot
from datafabriek.sample.population import START, YEAR, Population, Rng
from quality.contracts.model import load

PROTOCOLS = {2015: ("000000000", "999999999"), 2016: ("999999999", "000000000")}
"""What stands for an unknown and for an unborn BSN, per protocol of Beleidsinformatie Jeugd."""


YOUNG = pl.col("geboren") > START - 18 * 365


def residents(people: Population, who: pl.Expr, rng: Rng, share: float) -> pl.DataFrame:
    """Some persons with their address, a share of them, in the order of the population."""
    home = people.stays.group_by("persoon", maintain_order=True).last()
    frame = pl.concat(
        [people.persons.drop("huishouden")[home["persoon"]], people.addresses[home["adres"]]], how="horizontal"
    ).filter(who)
    return frame.filter(pl.Series(rng.random(frame.height) < share))


def beleidsinformatie_jeugd(people: Population, seed: int) -> Iterator[Made]:
    """Two half-years, one under each protocol: the later one replaces the earlier."""
    for year, half in ((2015, "H2"), (2016, "H1")):
        rng = np.random.default_rng([seed, 31, year])
        unknown, unborn = PROTOCOLS[year]
        youth = residents(people, YOUNG, rng, 0.12)
        number = youth.height
        shift = (YEAR - year) * 365
        who = rng.choice(3, number, p=[0.95, 0.03, 0.02])
        form = rng.choice([1, 2, 3, 4, 11, 12, 13, 14, 0], number, p=[0.1, 0.4, 0.1, 0.1, 0.1, 0.05, 0.02, 0.03, 0.1])
        begin = np.maximum(youth["geboren"].to_numpy(), START - 900) - shift + rng.integers(0, 180, number)
        last = int(np.datetime64(f"{year}-12-31" if half == "H2" else f"{year}-06-30", "D").astype(int))
        begin, born = np.minimum(begin, last), np.minimum(youth["geboren"].to_numpy() - shift, last)
        frame = youth.select(
            bsn=pl.when(pl.Series(who == 1)).then(pl.lit(unknown)).when(pl.Series(who == 2)).then(pl.lit(unborn))
            .otherwise("bsn"),
            geboortedatum=pl.when(pl.Series(who == 2)).then(pl.lit("99999999")).otherwise(
                day(pl.Series(born))
            ),
            geslacht="geslacht",
            woonplaats=pl.when(pl.Series(rng.random(number) < 0.8)).then("postcode").otherwise(
                pl.col("gemeente_code").str.slice(2)
            ),
            verwijzer=pl.Series(rng.choice([1, 2, 3, 4, 5, 6, 7], number)), hulpvorm=pl.Series(form),
            perspectief=pl.Series(np.where(form == 0, 0, rng.integers(1, 5, number))),
            datum_aanvang=day(pl.Series(begin)),
            datum_einde=pl.when(pl.Series(rng.random(number) < 0.3)).then(day(pl.Series(begin + 60))).otherwise(
                pl.lit("0")
            ),
            reden_beeindiging=0, maatregel=pl.Series(np.where(form == 0, 11, 0)), jeugdreclassering=0,
        )  # fmt: skip
        known = pl.col("geboortedatum") != "99999999"
        spots = [
            Spot("dag_onbekend", 0.005, "read", "geboortedatum", lambda c: c.str.slice(0, 6) + "00", known),
            Spot("maand_onbekend", 0.005, "read", "geboortedatum", lambda c: c.str.slice(0, 4) + "0000", known),
            Spot("nullen_weg", 0.002, "repaired", "bsn", lambda c: unpadded(c).str.pad_start(9),
                 padded("bsn") & (pl.col("bsn") != "000000000")),
            Spot("kleine_letters", 0.002, "repaired", "geslacht", lambda c: c.str.to_lowercase()),
            Spot("ander_protocol", 0.002, "quarantined", "bsn", always(unborn), known),
            Spot("datum_bestaat_niet", 0.002, "quarantined", "datum_aanvang", june_31),
            Spot("elfproef", 0.002, "quarantined", "bsn", wrong_check_digit, known & (pl.col("bsn") != unknown)),
            Spot("te_kort", 0.001, "quarantined", None, lambda line: line.str.slice(0, 40)),
            Spot("geslacht_onbekend", 0.002, "warned", "geslacht", always("X")),
        ]  # fmt: skip
        yield made(load("beleidsinformatie_jeugd"), f"BJ_{year}{half}.txt", frame, spots, rng, duplicates=0.0)


def zorgned_facturen(people: Population, seed: int) -> Iterator[Made]:
    """A month of invoice lines: a few voorzieningen per client."""
    rng = np.random.default_rng([seed, 32])
    number = max(residents(people, YOUNG, rng, 0.05).height, 50)
    cents = rng.integers(1_000, 90_000, number)
    frame = pl.DataFrame({"client": rng.integers(0, number // 2, number)}).select(
        client_id=pl.format("C-{}", 500_000 + pl.col("client")),
        voorziening_id=pl.format("V-{}", 900_000 + pl.int_range(pl.len())),
        zorgaanbieder=pl.format("Kinderopvang {}", pl.col("client") % 9 + 1),
        postcode_zorgaanbieder=pl.lit("2599ZZ"), voorziening=pl.lit("Kinderopvang op sociaal-medische indicatie"),
        voorzieningsoort=pl.Series(rng.choice(["SMI", "BSO"], number)), productcategorie=pl.lit("07"),
        product_code=pl.lit("07A01"), leveringsvorm=pl.Series(rng.choice(["ZIN", "PGB"], number, p=[0.9, 0.1])),
        jaar_start_recht=YEAR, datum_start_recht=pl.lit(f"{YEAR}0101"), datum_eind_recht=pl.lit("29991231"),
        datum_export=pl.lit(f"{YEAR}0405"),
        bedrag_goedgekeurd=pl.format(
            "{},{}", pl.Series(cents // 100), pl.Series(cents % 100).cast(pl.String).str.zfill(2)
        ),
        datum_start_factuurregel=pl.lit(f"{YEAR}0301"), datum_eind_factuurregel=pl.lit(f"{YEAR}0331"),
        mta_laad_datum=pl.lit(f"{YEAR}-04-06T03:00:00"),
    )  # fmt: skip
    spots = [
        Spot("min_achteraan", 0.01, "repaired", "bedrag_goedgekeurd", always("12-")),
        Spot("centen", 0.01, "repaired", "bedrag_goedgekeurd", lambda c: c.str.replace(",", "", literal=True)),
        Spot("kleine_letters", 0.01, "repaired", "leveringsvorm", lambda c: c.str.to_lowercase()),
        Spot("nullen_weg", 0.01, "repaired", "productcategorie", unpadded),
        Spot("geen_bedrag", 0.005, "quarantined", "bedrag_goedgekeurd", always("n.v.t.")),
        Spot("datum_bestaat_niet", 0.005, "quarantined", "datum_eind_factuurregel", june_31),
        *BROKEN_LINES,
    ]
    file = f"zorgned_facturen_{YEAR}03.csv"
    yield made(load("zorgned_facturen"), file, frame, spots, rng, duplicates=0.001)


MAKERS: Mapping[str, Callable[[Population, int], Iterator[Made]]] = {
    "beleidsinformatie_jeugd": beleidsinformatie_jeugd, "zorgned_facturen": zorgned_facturen,
}  # fmt: skip
"""A maker per delivery kind."""
