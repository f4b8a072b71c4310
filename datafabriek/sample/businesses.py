"""A made-up business register around the population: where the self-employed live, and where their businesses stand.

Belongs here: owners, establishments and their activities on the first of January. Does not belong here: the layout,
and dirt. CBS's figures of 2020 hold no establishments per buurt, so their number is assumed: fewer self-employed
where more people are on bijstand.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from datafabriek.sample import figures, names
from datafabriek.sample.population import CHILD, START, YEAR, Ints, Population

FORMS = {
    "Besloten vennootschap": ("B.V.", 0.68), "Vennootschap onder firma": ("V.O.F.", 0.12),
    "Stichting": ("Stichting", 0.12), "Vereniging": ("Vereniging", 0.06), "Naamloze vennootschap": ("N.V.", 0.02),
}  # fmt: skip
"""Legal forms other than eenmanszaak: how they stand in a trade name, and their share (assumed)."""

AT_HOME = 0.8
"""Share of the self-employed whose business stands at their own address (assumed)."""


def generate(people: Population, rng: np.random.Generator) -> pl.DataFrame:
    """One row an establishment, with the columns of the delivery's contract; one-person businesses come first."""
    owners = _owners(people, rng)
    own, other = owners.height, max(owners.height // 3, 1)
    number = own + other
    form = rng.choice(len(FORMS), other, p=[share for _, share in FORMS.values()])
    code, word = _activities(rng, own, other)
    alone = rng.random(own) < 0.93
    staff = np.floor(rng.lognormal(0.9, 1.2, other)).astype(np.int64)
    kvk = pl.Series(90_000_000 + rng.choice(9_999_999, number, replace=False))
    since = START - 1 - np.minimum(rng.exponential(7 * 365, number), 40 * 365).astype(np.int64)
    business = pl.DataFrame({
        "kvknummer": kvk, "rsin": (kvk + 810_000_000).cast(pl.String).set(pl.arange(number, eager=True) < own, ""),
        "handelsnaam": pl.concat([_trade_names(owners["naam"], word.head(own)), _firms(rng, word.tail(other), form)]),
        "sbi_code": code,
        "werkzame_personen_fulltime": np.concatenate([1 + ~alone * rng.integers(1, 4, own), 1 + staff // 2]),
        "werkzame_personen_parttime": np.concatenate([np.zeros(own, np.int64), staff - staff // 2]),
        "indicatie_zzp": np.concatenate([np.where(alone, "J", "N"), np.full(other, "N")]),
        "rechtsvorm": np.concatenate([np.full(own, "Eenmanszaak"), np.array(list(FORMS))[form]]),
        "eigenaar_bsn": owners["bsn"].append(pl.Series([""] * other, dtype=pl.String)),
        "datum_vestiging": pl.Series(since).cast(pl.Int32).cast(pl.Date).dt.strftime("%Y%m%d"),
    })  # fmt: skip
    second = np.flatnonzero(rng.random(own) < 0.02)  # a second establishment of the same business
    business = pl.concat([business, business[second]])
    home = owners["adres"].fill_null(-1).to_numpy()
    address = rng.integers(0, people.addresses.height, business.height)
    address[:own] = np.where((rng.random(own) < AT_HOME) & (home >= 0), home, address[:own])
    place = people.addresses[address].select(
        "huisnummer", "huisletter", "postcode", "woonplaats", straatnaam="straat", huisnummertoevoeging="toevoeging",
        gemeente_code=pl.col("gemeente_code").str.slice(2),
    )  # fmt: skip
    branch = pl.Series(10_000_000 + rng.choice(89_999_999, business.height, replace=False))
    return pl.concat([business, place], how="horizontal").with_columns(
        peildatum=pl.lit(f"{YEAR}0101"), vestigingsnummer=branch.cast(pl.String).str.zfill(12)
    )


def _owners(people: Population, rng: np.random.Generator) -> pl.DataFrame:
    """Owners of one-person businesses: `bsn`, `naam`, `adres` (null: lives outside the municipalities)."""
    bijstand = pl.col("bijstand").fill_null(0) / pl.col("inwoners").clip(1)
    chances = figures.buurten().select("buurt_code", kans=(0.125 - 0.9 * bijstand).clip(0.035, 0.125))
    here = people.stays.filter(pl.col("vanaf") <= START, pl.col("tot") > START)
    person, buurt = people.persons[here["persoon"]], people.addresses[here["adres"]].select("buurt_code")
    chance = buurt.join(chances, on="buurt_code", how="left", maintain_order="left")["kans"].fill_null(0.08).to_numpy()
    age = (START - person["geboren"].to_numpy()) / 365.25
    able = (age >= 20) & (age < 76) & (person["rol"].to_numpy() != CHILD)
    chosen = np.flatnonzero(able & (rng.random(len(age)) < chance))
    inside = pl.DataFrame({
        "bsn": person["bsn"].gather(chosen), "naam": person["geslachtsnaam"].gather(chosen),
        "adres": here["adres"].gather(chosen),
    })  # fmt: skip
    strangers = people.strangers.tail(min(len(chosen) // 9, people.strangers.len() // 2))
    _, surname = names.surnames()
    outside = pl.DataFrame({
        "bsn": strangers, "naam": surname.gather(rng.integers(0, surname.len(), strangers.len())),
        "adres": pl.Series([None] * strangers.len(), dtype=pl.Int64),
    })  # fmt: skip
    return pl.concat([inside, outside])


def _activities(rng: np.random.Generator, own: int, other: int) -> tuple[pl.Series, pl.Series]:
    """SBI code and its word for every business."""
    listed = names.lists()["activiteiten"]
    code, word = pl.Series(list(listed)), pl.Series([told[0] for told in listed.values()])
    weights = np.array([told[1:] for told in listed.values()], dtype=np.float64)
    weights /= weights.sum(axis=0)
    drawn = np.concatenate([rng.choice(len(listed), n, p=weights[:, i]) for i, n in enumerate((own, other))])
    return code.gather(drawn), word.gather(drawn)


def _trade_names(surname: pl.Series, word: pl.Series) -> pl.Series:
    # the delivery comes in cp1252, which lacks these letters
    plain = surname.str.replace_many(["ı", "Ş", "ş", "ğ"], ["i", "S", "s", "g"])
    return pl.DataFrame({"a": plain, "b": word}).select(n=pl.format("{} {}", "a", "b"))["n"]


def _firms(rng: np.random.Generator, word: pl.Series, form: Ints) -> pl.Series:
    stems = names.stems()
    short = pl.Series([short for short, _ in FORMS.values()]).gather(form)
    frame = pl.DataFrame({"a": stems.gather(rng.integers(0, stems.len(), word.len())), "b": word, "c": short})
    before = pl.col("c").is_in(["Stichting", "Vereniging"])
    return frame.select(
        n=pl.when(before).then(pl.format("{} {}", "c", "a")).otherwise(pl.format("{} {} {}", "a", "b", "c"))
    )["n"]
