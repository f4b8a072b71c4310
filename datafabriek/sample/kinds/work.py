"""Deliveries about work and income besides bijstand: SRG, BDFS and the export of the benefits system (GWS).

Belongs here: how the made-up population fills them, and which dirt goes in. Does not belong here: their layouts, which
come from the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import polars as pl

from datafabriek.sample.deliveries import Made, always, day, june_31, made, padded, spaces, unpadded, wrong_check_digit
from datafabriek.sample.dirt import Spot
from datafabriek.sample.population import NEVER, START, YEAR, Population
from quality.contracts.model import load

MONTH = 3
"""The month that the monthly deliveries cover."""

_LAST = int((np.datetime64(f"{YEAR}-{MONTH:02}", "M") + 1).astype("datetime64[D]").astype(int)) - 1

_PRINTED = f"Afgedrukt op 04-{MONTH + 1:02}-{YEAR} 11:32   pagina 1"

_GRANTED_UNDER = {2: 11, 3: 12, 11: 2, 12: 2, 14: 15}
"""BUS's code of a regeling → BDFS's, where they differ."""

_HOUSEHOLDS = {1: "Alleenstaande", 2: "Alleenstaande ouder", 3: "Gehuwd"}

_ZERO_LOST = Spot("nullen_weg", 0.002, "repaired", "bsn", lambda c: unpadded(c).str.pad_start(9), padded("bsn"))
_SHORT = Spot("te_kort", 0.0005, "quarantined", None, lambda line: line.str.slice(0, 60))
_TRAILING = Spot("spaties", 0.001, "repaired", None, lambda line: line + "   ")


def _clients(people: Population) -> pl.DataFrame:
    """Persons on bijstand, a row per uitkering: the columns of `benefits`, bsn, geslacht, geboren, gemeente_code."""
    home = people.stays.group_by("persoon").last()
    place = people.addresses["gemeente_code"].str.slice(2).gather(home["adres"])
    homes = home.select("persoon").with_columns(gemeente_code=place)
    grants = people.benefits.join(homes, on="persoon", maintain_order="left")
    person = people.persons.select("bsn", "geslacht", "geboren")[grants["persoon"]]
    return pl.concat([grants, person], how="horizontal")


def srg(people: Population, seed: int) -> Iterator[Made]:
    """A month of SRG: a voorziening for one in five of those on bijstand, sometimes two."""
    rng = np.random.default_rng([seed, 21])
    clients = _clients(people)
    chosen = rng.choice(clients.height, max(20, clients.height // 5))
    clients = clients[np.sort(chosen)]
    number = clients.height
    begin = pl.Series(_LAST - rng.integers(0, 700, number))
    ends = rng.random(number) < 0.1
    frame = clients.select(
        statistiekjaar=YEAR, statistiekmaand=MONTH, statistiekcode=pl.lit("10"), softwarepakket=pl.lit("soc"),
        softwareversie=pl.lit("2020.1"), gemeente_code="gemeente_code", berichtgevercode="gemeente_code", bsn="bsn",
        geboortedatum=day("geboren"), geslacht=pl.when(pl.col("geslacht") == "M").then(1).otherwise(2),
        positie_ladder=0, begindatum_ladder=0, arbeidsvermogen=0,
        registratienummer_voorziening=pl.format("V{}", 100_000 + pl.int_range(pl.len())),
        type_voorziening=pl.Series(rng.choice([23, 29, 30, 31, 59], number, p=[0.1, 0.4, 0.3, 0.1, 0.1])),
        begindatum_voorziening=day(begin),
        einddatum_voorziening=pl.when(pl.Series(ends)).then(day(pl.lit(_LAST - 3))).otherwise(pl.lit("0")),
        reden_einde=0, loonwaarde=pl.Series(np.where(rng.random(number) < 0.3, rng.integers(30, 100, number), 0)),
    ).with_columns(
        # a voorziening does not end before it begins
        einddatum_voorziening=pl.when(begin > _LAST - 3).then(pl.lit("0")).otherwise("einddatum_voorziening")
    )  # fmt: skip
    spots = [
        _ZERO_LOST, _TRAILING, _SHORT,
        Spot("elfproef", 0.001, "quarantined", "bsn", wrong_check_digit),
        Spot("datum_bestaat_niet", 0.001, "quarantined", "begindatum_voorziening", june_31),
        Spot("code_van_voor_2019", 0.002, "quarantined", "type_voorziening", always("04")),
        Spot("code_onbekend", 0.002, "quarantined", "type_voorziening", always("77")),
    ]  # fmt: skip
    file = f"SRG_{YEAR}{MONTH:02}.txt"
    yield made(load("srg"), file, frame, spots, rng, duplicates=0.001, footer=_PRINTED)


def bdfs(people: Population, seed: int) -> Iterator[Made]:
    """A month of BDFS: a claim on one in four of those on bijstand; partners answer for the same claim."""
    rng = np.random.default_rng([seed, 22])
    clients = _clients(people)
    owes = pl.Series(rng.random(int(clients["uitkering"].max() or 0) + 1) < 0.25)  # type: ignore[arg-type]
    clients = clients.filter(owes.gather(clients["uitkering"]))
    number = clients.height
    debt = rng.integers(50, 12_000, number)
    ground = rng.choice([52, 54, 57, 58, 60, 61, 65], number, p=[0.1, 0.08, 0.45, 0.07, 0.2, 0.02, 0.08])
    corrected = rng.random(number) < 0.05
    begin = START - rng.integers(30, 2_000, number)
    frame = clients.select(
        statistiekjaar=YEAR, statistiekmaand=MONTH, statistiekcode=pl.lit("06"), berichtgevercode="gemeente_code",
        gemeente_code="gemeente_code", softwarepakket=pl.lit("gws"), softwareversie=pl.lit("2020.1"),
        registratienummer_vordering=pl.col("uitkering") + 7_000_000,
        datum_besluit=day(pl.Series(begin + 20)),
        aard_uitkering=pl.col("regeling").replace(_GRANTED_UNDER), ontstaansgrond=pl.Series(ground),
        begindatum_vordering=day(pl.Series(begin)), einddatum_vordering=pl.lit("99999999"),
        beginschuld=pl.Series(debt),
        reden_correctie=pl.Series(np.where(corrected, 3, 99)),
        correctiebedrag=pl.Series(np.where(corrected, "-000050", "9999999")),
        status_vordering=pl.Series(rng.choice([51, 52, 53, 54], number, p=[0.6, 0.2, 0.15, 0.05])),
        saldo_schuld=pl.format("+{}", pl.Series(debt // 2).cast(pl.String).str.zfill(6)),
        ontvangen_bedrag=pl.lit("+000025"), bsn_ontvanger="bsn", recidive=2, robuuste_incasso=9, hoogte_boete=0,
        soort_sanctie=1, zaaksnummer=pl.lit("999999999"), bsn_debiteur="bsn", geboortedatum_debiteur=day("geboren"),
        geslacht_debiteur=pl.when(pl.col("geslacht") == "M").then(1).otherwise(2),
    )  # fmt: skip
    spots = [
        _TRAILING, _SHORT,
        Spot("min_achteraan", 0.005, "repaired", "saldo_schuld", always("000123-")),
        Spot("teken_los", 0.005, "repaired", "saldo_schuld", always("-   123")),
        Spot("elfproef", 0.002, "quarantined", "bsn_debiteur", wrong_check_digit),
        Spot("datum_bestaat_niet", 0.001, "quarantined", "begindatum_vordering", june_31),
        Spot("onbekende_code", 0.001, "quarantined", "ontstaansgrond", always("99")),
    ]  # fmt: skip
    file = f"BDFS_{YEAR}{MONTH:02}.txt"
    yield made(load("bdfs"), file, frame, spots, rng, duplicates=0.001, footer=_PRINTED)


def gws_trajecten(people: Population, seed: int) -> Iterator[Made]:
    """An export of files on bijstand as a worksheet: a blank row, the header, codes as text, a line of print."""
    rng = np.random.default_rng([seed, 23])
    clients = _clients(people).filter(pl.col("regeling") == 1)
    number = clients.height
    ends = pl.col("tot") != NEVER
    frame = clients.select(
        dossiernr=pl.format("{}", pl.col("uitkering") + 1).str.zfill(8),
        clientnummer=pl.format("{}", pl.col("persoon") + 40_000).str.zfill(8),
        geboortejaar=day("geboren").str.slice(0, 4), geslacht=pl.col("geslacht").replace("O", "M"),
        type=pl.when(pl.int_range(pl.len()).over("uitkering") == 0).then(pl.lit("hoofdpersoon")).otherwise(
            pl.lit("partner")
        ),
        startdatum=_dashed("vanaf"), einddatum=pl.when(ends).then(_dashed("tot")).otherwise(pl.lit("")),
        leefvorm=pl.col("leefvorm").cast(pl.String).str.zfill(2),
        leefvorm_omschrijving=pl.col("leefvorm").replace_strict(_HOUSEHOLDS, default="Anders"),
        kode_groep=pl.lit("02"), oorzaak=pl.Series(rng.choice(["14", "02", "11"], number, p=[0.8, 0.1, 0.1])),
        oorspronkelijke_begindatum=_dashed(pl.col("vanaf") - 30),
    )  # fmt: skip
    spots = [
        Spot("code_als_getal", 0.01, "repaired", "kode_groep", always("2")),
        Spot("nullen_weg", 0.01, "repaired", "dossiernr", unpadded),
        Spot("spaties", 0.005, "repaired", "leefvorm_omschrijving", spaces),
        Spot("datum_jjjjmmdd", 0.005, "repaired", "einddatum", always("99991231")),
        Spot("datum_bestaat_niet", 0.002, "quarantined", "startdatum", always("31-06-2019")),
        Spot("formule", 0.002, "quarantined", "clientnummer", always('=HYPERLINK("http://127.0.0.1/?"&A1)')),
        Spot("omschrijving_onbekend", 0.002, "warned", "leefvorm_omschrijving", always("Onbekend")),
    ]
    file = f"{YEAR}-05-03 SZDOS selectie traject bijstand Kode regeling 0 Kode groep 02 Gemeente 0518.xlsx"
    contract = load("gws_trajecten")
    yield made(contract, file, frame, spots, rng, duplicates=0.002, footer=f"Printdatum 03-05-{YEAR} 09:14")


def _dashed(days: str | pl.Expr) -> pl.Expr:
    """A day as dd-mm-jjjj."""
    return day(days).str.replace(r"^(\d{4})(\d{2})(\d{2})$", "${3}-${2}-${1}")


MAKERS: Mapping[str, Callable[[Population, int], Iterator[Made]]] = {
    "srg": srg, "bdfs": bdfs, "gws_trajecten": gws_trajecten,
}  # fmt: skip
"""A maker per delivery kind."""
