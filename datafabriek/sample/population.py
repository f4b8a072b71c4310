"""A made-up population of the sample's municipalities, sized per buurt on CBS's key figures of 2020.

Belongs here: addresses, households, persons, where they lived in the course of 2020 and who is on bijstand. Does
not belong here: the layout of any delivery, and dirt.

Nobody in it exists. BSNs pass the eleven-test and start with 99 or 00, with which none are issued; postcodes are
well-formed and of neither municipality. Everything is numpy arrays and polars frames; a seed settles every value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from datafabriek.sample import figures, names

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rng = np.random.Generator

YEAR = 2020
START = int(np.datetime64(f"{YEAR}-01-01", "D").astype(int))
DAYS = 366
"""Days in the year that the deliveries cover; dates below are days since 1970-01-01."""

NEVER = np.iinfo(np.int32).max
"""A day that does not come: the stay or benefit goes on."""

STREET = 60
"""Addresses in a street: an odd and an even side of 30, each with a postcode of its own."""

HEAD, PARTNER, CHILD = 0, 1, 2

MOVE, LEAVE = 0.08, 0.045
"""Shares of households that move within the two municipalities, and out of them, in the year (assumed)."""

TURNOVER = 0.15
"""Share of those on bijstand that leaves it in the year, and that comes in (assumed)."""


@dataclass(frozen=True)
class Population:
    """The frames that deliveries are written from; persons and addresses are referred to by row number.

    `addresses`: straat, huisnummer, huisletter, toevoeging, postcode, woonplaats, gemeente_code, buurt_code (null:
    the reference file does not know the address), of which `bekend` says the same.
    `persons`: bsn (9 digits), a_nummer, voornamen, voorvoegsel, geslachtsnaam, geslacht, geboren (days), huishouden,
    rol (HEAD, PARTNER, CHILD), geheim.
    `stays`: persoon, adres, vanaf, tot (days; `tot` is the first day the address no longer holds, NEVER if none).
    `benefits`: uitkering, persoon, vanaf, tot (days; `tot` is the last day), regeling, leefvorm.
    `strangers`: BSNs of persons that live elsewhere.
    """

    addresses: pl.DataFrame
    persons: pl.DataFrame
    stays: pl.DataFrame
    benefits: pl.DataFrame
    strangers: pl.Series


def generate(seed: int, scale: float = 1.0) -> Population:
    """Make the population.

    Args:
        seed: settles everything; the same seed and scale give the same population.
        scale: share of the real size, over 0 and at most 1.
    """
    rng = np.random.default_rng([seed, 1])
    places = _places(rng, scale)
    households = _households(rng, places)
    addresses, home, spare = _addresses(rng, places, households["plaats"])
    people = _people(rng, places, households)
    stays, people = _stays(rng, people, households, home, spare, addresses.height)
    persons, strangers = _identities(rng, people)
    benefits = _benefits(rng, places, persons, people, len(home))
    return Population(addresses, persons, stays, benefits, strangers)


def _places(rng: Rng, scale: float) -> dict[str, Any]:
    """The buurten, and per gemeente one place more for those that the rounded buurten do not account for.

    A buurt's figures are rounded to 5 (bijstand to 10), so that they add up to less or more than the gemeente's own.
    The remainder lives at addresses that the reference file does not know.
    """
    buurten = figures.buurten()
    rest = (
        buurten.group_by("gemeente_code", maintain_order=True)
        .agg(pl.col("inwoners", "bijstand").sum())
        .join(figures.gemeente_totals(), on="gemeente_code", suffix="_totaal", maintain_order="left")
        .select("gemeente_code", inwoners=(pl.col("inwoners_totaal") - pl.col("inwoners")).clip(lower_bound=0),
                bijstand=(pl.col("bijstand_totaal") - pl.col("bijstand")).clip(lower_bound=0))
        .with_columns(eenpersoons="inwoners", bijstand=pl.min_horizontal("bijstand", pl.col("inwoners") // 5))
    )  # fmt: skip
    # where CBS's rounding made the buurten hold more than their gemeente, a few less in each make up for it
    lived_in = pl.col("inwoners") > 5
    surplus = buurten.join(figures.gemeente_totals(), on="gemeente_code", suffix="_totaal").with_columns(
        te_veel=(pl.sum("inwoners") - pl.first("inwoners_totaal")).clip(lower_bound=0).over("gemeente_code"),
        rang=lived_in.cum_sum().over("gemeente_code"), aantal=lived_in.sum().over("gemeente_code"),
    )  # fmt: skip
    less = pl.col("te_veel") // pl.col("aantal") + (pl.col("rang") <= pl.col("te_veel") % pl.col("aantal"))
    buurten = buurten.with_columns(
        surplus.select(pl.when(lived_in).then(pl.col("inwoners") - less).otherwise("inwoners"))
    )
    frame = pl.concat([buurten, rest], how="diagonal").with_columns(pl.col(pl.Int64).fill_null(0))

    def scaled(column: str) -> Ints:
        exact = frame[column].to_numpy() * scale
        return np.floor(exact + rng.random(len(exact)) * (scale < 1)).astype(np.int64)

    inhabitants = scaled("inwoners")
    single = np.minimum(scaled("eenpersoons"), inhabitants)
    couples = np.minimum(scaled("zonder_kinderen"), (inhabitants - single) // 2)
    rest_of = inhabitants - single - 2 * couples
    families = np.minimum(scaled("met_kinderen"), rest_of // 2)
    more = np.minimum(rest_of - 2 * families, 4 * families)  # further members of households with children
    single += rest_of - 2 * families - more  # who is in no private household: homes and institutions
    # CBS rounds to 10, so 0 means up to 4: those few are what disclosure control is about
    rounding = np.rint(rng.integers(-4, 5, frame.height) * scale).astype(np.int64)
    bijstand = np.maximum(scaled("bijstand") + rounding, 0)
    return {
        "buurt_code": frame["buurt_code"], "gemeente_code": frame["gemeente_code"], "inwoners": inhabitants,
        "eenpersoons": single, "zonder_kinderen": couples, "met_kinderen": families, "meer": more,
        "bijstand": np.minimum(bijstand, inhabitants // 3),
        "leeftijden": np.stack(
            [frame[c].to_numpy() for c in ("jongeren", "jongvolwassenen", "middelbaar", "ouderen")], axis=1
        ).astype(np.float64),
    }  # fmt: skip


def _households(rng: Rng, places: dict[str, Any]) -> dict[str, Ints]:
    """A household a row, place by place: `plaats`, `leden` (members), `kinderen` (1 where it has children)."""
    number = len(places["inwoners"])
    kinds = ("eenpersoons", "zonder_kinderen", "met_kinderen")
    place = np.concatenate([np.repeat(np.arange(number), places[kind]) for kind in kinds])
    members = np.concatenate([np.full(places[kind].sum(), n) for kind, n in zip(kinds, (1, 2, 2), strict=True)])
    families = np.concatenate([np.full(places[kind].sum(), kind == "met_kinderen") for kind in kinds])
    first = len(place) - places["met_kinderen"].sum() + np.cumsum(places["met_kinderen"]) - places["met_kinderen"]
    among = np.repeat(np.arange(number), places["meer"])
    lucky = first[among] + (rng.random(len(among)) * places["met_kinderen"][among]).astype(np.int64)
    members += np.bincount(lucky, minlength=len(members))
    order = np.argsort(place, kind="stable")
    return {"plaats": place[order], "leden": members[order], "kinderen": families[order].astype(np.int64)}


def _addresses(rng: Rng, places: dict[str, Any], place_of_household: Ints) -> tuple[pl.DataFrame, Ints, Ints]:
    """Addresses in streets of their place, the address of every household, and those that stand empty."""
    number = len(places["inwoners"])
    occupied = np.bincount(place_of_household, minlength=number)
    unknown = places["buurt_code"].is_null().to_numpy()
    total = occupied + occupied // 20 + 1 + unknown * (20 + occupied // 5)  # unknown: mostly newly built
    place = np.repeat(np.arange(number), total)
    within = np.arange(len(place)) - np.repeat(np.cumsum(total) - total, total)
    streets = -(-total // STREET)
    street = np.repeat(np.cumsum(streets) - streets, total) + within // STREET
    seat = within % STREET
    built = rng.random(int(streets.sum()))[street]
    # flats share a house number by letter or by addition; both occur, so that a join must use all four parts
    lettered, numbered = built < 0.15, (built >= 0.15) & (built < 0.25)
    pair, side = seat // 2, seat % 2
    per_door = np.where(lettered | numbered, 3, 1)
    letter = np.where(lettered, np.array(["A", "B", "C"])[pair % 3], "")
    addition = np.where(numbered, np.array(["HS", "1", "2"])[pair % 3], "")
    frame = pl.DataFrame({
        "straat": names.streets(int(streets.sum())).gather(street),
        "huisnummer": 1 + 2 * (pair // per_door) + side,
        "huisletter": letter, "toevoeging": addition,
        "postcode": names.postcodes(2 * int(streets.sum())).gather(2 * street + side),
        "woonplaats": names.residences(places["gemeente_code"], places["buurt_code"]).gather(place),
        "gemeente_code": places["gemeente_code"].gather(place), "buurt_code": places["buurt_code"].gather(place),
    }).with_columns(bekend=pl.col("buurt_code").is_not_null())  # fmt: skip
    shuffled = np.lexsort((rng.random(len(place)), place))  # stays within its place
    taken = within < np.repeat(occupied, total)
    return frame, shuffled[taken], shuffled[~taken]


def _people(rng: Rng, places: dict[str, Any], households: dict[str, Ints]) -> dict[str, Any]:
    """Persons on the first of January: household, role, sex and birthday, household by household."""
    members = households["leden"]
    household = np.repeat(np.arange(len(members)), members)
    seat = np.arange(len(household)) - np.repeat(np.cumsum(members) - members, members)
    family = households["kinderen"][household] == 1
    couple = np.where(households["kinderen"] == 1, (members > 2) & (rng.random(len(members)) < 0.8), members > 1)
    role = np.where(seat == 0, HEAD, np.where((seat == 1) & couple[household], PARTNER, CHILD))
    weights = places["leeftijden"][households["plaats"]] + np.array([0.2, 1.0, 1.0, 0.5])
    weights[:, 0] *= 0.35  # most of 15 to 25 live with their parents
    weights *= np.where(households["kinderen"][:, None] == 1, [0.1, 1.0, 0.7, 0.02], 1.0)
    share = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    group = (rng.random(len(members))[:, None] > share[:, :3]).sum(axis=1)
    low, high = np.array([18, 25, 45, 65])[group], np.array([25, 45, 65, 98])[group]
    head_age = low + (high - low) * rng.random(len(members)) ** np.where(group == 3, 1.7, 1.0)
    age = head_age[household]
    partner = np.clip(age + rng.normal(-1, 4, len(age)), 18.0, 100.0)
    child = np.clip(22 * rng.random(len(age)), 0, np.maximum(age - 17, 0))
    age = np.select([role == HEAD, role == PARTNER], [age, partner], child)
    man = rng.random(len(age)) < 0.495
    man = np.where((role == PARTNER) & (rng.random(len(age)) < 0.96), ~np.roll(man, 1), man)
    born = START - 1 - np.floor(age * 365.25).astype(np.int64)
    return {"huishouden": household, "rol": role, "man": man, "geboren": born, "gezin": family}


def _stays(
    rng: Rng, people: dict[str, Any], households: dict[str, Ints], home: Ints, spare: Ints, addresses: int
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Who lives where in the year: moves, departures, deaths, arrivals and births; arrivals join the persons."""
    number, household = len(home), people["huishouden"]
    drawn, day = rng.random(number), START + 1 + rng.integers(0, DAYS - 1, number)
    moves, leaves = drawn < MOVE, (drawn >= MOVE) & (drawn < MOVE + LEAVE)
    stays_put = ~(moves | leaves)
    since = START - 1 - np.minimum(rng.exponential(9 * 365, number), 60 * 365).astype(np.int64)
    since = np.maximum(since[household], people["geboren"])
    age = (START - people["geboren"]) / 365.25
    dies = stays_put[household] & (rng.random(len(age)) < np.minimum(6e-5 * np.exp(0.085 * age), 0.4))
    until = np.where((moves | leaves)[household], day[household], NEVER)
    until = np.where(dies, START + 1 + rng.integers(0, DAYS - 1, len(age)), until)
    moved = np.flatnonzero(moves[household])
    target = spare[(rng.random(number) * len(spare)).astype(np.int64)]
    target = np.where(rng.random(number) < 0.3, (rng.random(number) * addresses).astype(np.int64), target)

    arrivals = int(leaves.sum() * 1.1)
    size = rng.choice([1, 2, 3, 4], arrivals, p=[0.62, 0.22, 0.1, 0.06])
    newcomer = np.repeat(np.arange(arrivals), size)
    seat = np.arange(len(newcomer)) - np.repeat(np.cumsum(size) - size, size)
    arrival = START + 1 + rng.integers(0, DAYS - 1, arrivals)
    place = (rng.random(arrivals) * addresses).astype(np.int64)
    grown = 19 + 45 * rng.random(len(newcomer)) ** 1.6
    their_age = np.where(seat < 2, grown, 17 * rng.random(len(newcomer)))

    parents = np.flatnonzero((people["rol"] == PARTNER) & stays_put[household] & (age < 43) & ~dies)
    mothers = parents[rng.random(len(parents)) < 0.011 * len(age) / max(len(parents), 1)]
    birth = START + 1 + rng.integers(0, DAYS - 1, len(mothers))

    old, come, born = len(household), len(newcomer), len(mothers)
    parts = {
        "huishouden": [household, number + newcomer, household[mothers]],
        "rol": [people["rol"], np.where(seat > 1, CHILD, seat), np.full(born, CHILD)],
        "man": [people["man"], rng.random(come) < 0.5, rng.random(born) < 0.512],
        "geboren": [people["geboren"], START - np.floor(their_age * 365.25).astype(np.int64), birth],
        "gezin": [people["gezin"], seat > 1, np.ones(born, dtype=bool)],
        "blijft": [~(leaves[household] | dies), np.zeros(come, dtype=bool), np.zeros(born, dtype=bool)],
    }
    frame = pl.DataFrame({
        "persoon": np.concatenate([np.arange(old), moved, old + np.arange(come), old + come + np.arange(born)]),
        "adres": np.concatenate([home[household], target[household[moved]], place[newcomer],
                                 home[household[mothers]]]),
        "vanaf": np.concatenate([since, day[household[moved]], arrival[newcomer], birth]),
        "tot": np.concatenate([until, np.full(len(moved) + come + born, NEVER)]),
    })  # fmt: skip
    return frame.sort("persoon", "vanaf"), {key: np.concatenate(value) for key, value in parts.items()}


def _identities(rng: Rng, people: dict[str, Any]) -> tuple[pl.DataFrame, pl.Series]:
    """Names and numbers for every person, and BSNs of persons outside the population (a tenth as many)."""
    number = len(people["huishouden"])
    bsn = bsns(rng, number + max(number // 10, 50))
    households = int(people["huishouden"].max()) + 1
    surname = (
        rng.integers(0, len(names.lists()["geslachtsnamen"]), (2, households)) if households else np.zeros((2, 0), int)
    )
    own = (people["rol"] == PARTNER) & (rng.random(number) < 0.6)
    chosen = np.where(own, surname[1][people["huishouden"]], surname[0][people["huishouden"]])
    prefix, name = names.surnames()
    secrecy = rng.choice(8, number, p=[0.98, 0.002, 0.001, 0.002, 0.001, 0.002, 0.001, 0.011])
    frame = pl.DataFrame({
        "bsn": bsn[:number],
        "a_nummer": (1_000_000_000 + (np.arange(number) * 6_700_417 + 12_345) % 8_999_999_993).astype(str),
        "voornamen": names.first_names(rng, people["man"]), "voorvoegsel": prefix.gather(chosen),
        "geslachtsnaam": name.gather(chosen),
        "geslacht": np.where(rng.random(number) < 0.0004, "O", np.where(people["man"], "M", "V")),
        "geboren": people["geboren"], "huishouden": people["huishouden"], "rol": people["rol"], "geheim": secrecy,
    })  # fmt: skip
    return frame, bsn[number:]


def bsns(rng: Rng, number: int) -> pl.Series:
    """Distinct made-up BSNs that pass the eleven-test, in random order.

    As many as fit are from the test range 9999xxxxx (9,091 pass); more come from 99xxxxxxx, and one in forty from
    00xxxxxxx, so that lost leading zeros can occur. No BSN is issued that starts with 99 or 00.

    Raises:
        ValueError: more are asked than these ranges hold (about 930,000).
    """
    zeros = -(-number // 40)
    test = _eleven_proof(np.arange(99_990_000, 100_000_000))
    # 00 and then five digits and a check digit: at least 1 in the third place, so that exactly two zeros are lost
    low = rng.permutation(_eleven_proof(np.arange(100_000, 1_000_000)))[:zeros]
    high = rng.permutation(_eleven_proof(np.arange(99_000_000, 99_990_000)))[: max(number - zeros - len(test), 0)]
    found = np.concatenate([low, rng.permutation(test)[: number - zeros], high])
    if len(found) < number:
        raise ValueError(f"{number} BSNs asked, {len(found)} made-up ones exist")
    return pl.Series("bsn", rng.permutation(found)).cast(pl.String).str.zfill(9)


def _eleven_proof(prefixes: Ints) -> Ints:
    """BSNs with these first eight digits: sum of 9·d1 … 2·d8 − d9 divisible by 11 (Besluit BSN)."""
    digits = prefixes[:, None] // 10 ** np.arange(7, -1, -1) % 10
    check = (digits * np.arange(9, 1, -1)).sum(axis=1) % 11
    proof: Ints = (prefixes * 10 + check)[check < 10]
    return proof


def _benefits(
    rng: Rng, places: dict[str, Any], persons: pl.DataFrame, people: dict[str, Any], households: int
) -> pl.DataFrame:
    """Bijstand in the year: per place as many persons as CBS counts, with a turnover, plus extra grants."""
    born, household = people["geboren"], people["huishouden"]
    able = people["blijft"] & (people["rol"] != CHILD) & (born <= START - 6_800) & (born > START - 66 * 365)
    adults = np.bincount(household[able], minlength=int(household.max(initial=0)) + 1)[:households]
    place = np.repeat(np.arange(len(places["inwoners"])), places["eenpersoons"] + places["zonder_kinderen"]
                      + places["met_kinderen"])  # fmt: skip
    family = np.bincount(household[people["gezin"]], minlength=households)[:households] > 0
    # single persons and one-parent families come first more often, as they do in bijstand
    order = np.lexsort((rng.random(households) * np.where(adults > 1, 6.0, 1.0) + (adults == 0) * 99, place))
    counted = np.cumsum(adults[order])
    start_of_place = np.searchsorted(place[order], np.arange(len(places["inwoners"])))
    before = np.concatenate([[0], counted])[start_of_place]
    rank = counted - before[place[order]]  # persons up to and including this household, in its place
    target = places["bijstand"][place[order]]
    ends = (rank > target * (1 - TURNOVER)) & (rank <= target)
    starts = (rank > target) & (rank <= target * (1 + TURNOVER) + (rng.random(households) < 0.3))
    chosen = (rank <= target) | starts
    chosen &= adults[order] > 0
    day = START + rng.integers(15, DAYS - 1, households)
    earlier = START - 1 - rng.exponential(4 * 365, households).astype(np.int64)
    of_household = {
        "huishouden": order[chosen],
        "vanaf": np.where(starts, day, earlier)[chosen],
        "tot": np.where(ends, day, NEVER)[chosen],
        "regeling": rng.choice([1, 2, 3, 14], int(chosen.sum()), p=[0.95, 0.025, 0.005, 0.02]),
        "leefvorm": np.where(adults > 1, 3, np.where(family, 2, 1))[order][chosen],
    }
    grants = pl.DataFrame(of_household).with_row_index("uitkering").cast({"uitkering": pl.Int64})
    # bijzondere bijstand on top: the same person then has two grants, and must be counted once
    extra = grants.filter(pl.Series(rng.random(grants.height) < 0.03))
    kind = pl.Series("regeling", rng.choice([11, 12], extra.height).astype(np.int64))
    extra = extra.with_columns(kind, uitkering=pl.col("uitkering") + grants.height)
    who = persons.select("huishouden").with_row_index("persoon").filter(pl.Series(able))
    return (
        pl.concat([grants, extra])
        .join(who, on="huishouden", maintain_order="left_right")
        .select("uitkering", pl.col("persoon").cast(pl.Int64), "vanaf", "tot", "regeling", "leefvorm")
    )
