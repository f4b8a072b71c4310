"""Names for people, streets and places in the made-up deliveries.

Belongs here: how the lists of `data/names.yaml` are combined. Does not belong here: the lists.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from datafabriek.sample.figures import FOLDER

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NOT_ISSUED = ("SA", "SD", "SS")


@cache
def lists() -> dict[str, Any]:
    """All of names.yaml."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "names.yaml").read_text(encoding="utf-8"))
    return found


def first_names(rng: np.random.Generator, man: npt.NDArray[np.bool_]) -> pl.Series:
    """One or two first names each."""
    women, men = lists()["vrouwen"], lists()["mannen"]
    both, number = pl.Series(women + men), len(man)

    def draw() -> pl.Series:
        index = np.where(man, len(women) + rng.integers(0, len(men), number), rng.integers(0, len(women), number))
        return both.gather(index)

    frame = pl.DataFrame({"a": draw(), "b": draw(), "twice": rng.random(number) < 0.35})
    return frame.select(n=pl.when("twice").then(pl.format("{} {}", "a", "b")).otherwise("a"))["n"]


def surnames() -> tuple[pl.Series, pl.Series]:
    """Prefix (`van der`, often empty) and name, one row a surname."""
    split = [name.rpartition(" ") if name[0].islower() else ("", "", name) for name in lists()["geslachtsnamen"]]
    return pl.Series([parts[0] for parts in split]), pl.Series([parts[2] for parts in split])


def stems() -> pl.Series:
    """First halves of street names, which do for trade names too."""
    return pl.Series(lists()["straat_begin"])


def streets(number: int) -> pl.Series:
    """As many distinct street names (at most 6,000)."""
    before, first, last = (pl.Series(lists()[f"straat_{part}"]) for part in ("voor", "begin", "eind"))
    # both halves change from street to street; a word comes before them once all combinations were used
    index, pairs = np.arange(number), len(first) * len(last)
    frame = pl.DataFrame({
        "before": before.gather(index // pairs), "first": first.gather(index % len(first)),
        "last": last.gather((index // len(first) + index % len(first)) % len(last)),
    })  # fmt: skip
    return frame.select(n=pl.concat_str("before", pl.concat_str("first", "last"), separator=" ").str.strip_chars())["n"]


def postcodes(number: int) -> pl.Series:
    """Distinct well-formed postcodes from 2780 up: in neither municipality (at most 13,460).

    The letter pairs SA, SD and SS are left out, as they are in real postcodes.
    """
    pairs = [a + b for a in _LETTERS for b in _LETTERS if a + b not in _NOT_ISSUED]
    index = np.arange(number)
    return pl.Series(2780 + index // len(pairs)).cast(pl.String) + pl.Series(pairs).gather(index % len(pairs))


def residences(gemeenten: pl.Series, buurten: pl.Series) -> pl.Series:
    """The place name of each buurt (null: somewhere in the gemeente): Leidschendam-Voorburg has three."""
    frame = pl.DataFrame({"gemeente": gemeenten, "wijk": buurten.str.slice(6, 2).cast(pl.Int64)})
    place = (
        pl.when(pl.col("gemeente") == "GM0518").then(pl.lit("'s-Gravenhage"))
        .when(pl.col("wijk") == 4).then(pl.lit("Stompwijk"))
        .when(pl.col("wijk") >= 7).then(pl.lit("Voorburg"))
        .otherwise(pl.lit("Leidschendam"))
    )  # fmt: skip
    return frame.select(n=place)["n"]
