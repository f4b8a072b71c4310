"""Attacks by name: one count shown twice under names that no system ties together, and what only looks like it."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest

from assets.release.blocks import Part
from assets.release.tellings import compare
from quality.protection import DisclosureSpec

TOTAL = "T"
WIJKEN, YEARS = 12, 5


@pytest.fixture
def figures():
    """Counts per class that have nothing to do with each other, a row per wijk and year."""
    random = np.random.default_rng(4)
    return {name: random.poisson(mean, WIJKEN * YEARS) for name, mean in zip("abcdefgh", range(4, 36, 4), strict=True)}


def told(telling, counts, mart=None, by="soort"):
    """A mart of one count: its total alone, or a dict of the counts per class."""
    classes = counts | {TOTAL: sum(counts.values())} if isinstance(counts, dict) else None
    spec = DisclosureSpec(
        policy="frequentie",
        telling={telling: (telling,)},
        count="teller",
        levels=("WK", "GM"),
        by=("periode", "indicator"),
        total_of={by: TOTAL} if classes else {},
    )
    parts = {}
    columns = classes or {"": counts}
    wijken = len(next(iter(columns.values()))) // YEARS
    for year in range(YEARS):
        cells = [
            ((f"WK1916{wijk:02}", *([code] if code else [])), column[year * wijken + wijk])
            for wijk in range(wijken)
            for code, column in columns.items()
        ]
        keys, values = zip(*cells, strict=True)
        hidden = np.zeros(len(keys), dtype=bool)
        name, height = mart or telling, ("WK",) * len(keys)
        known = np.array(values, dtype=float)
        part = Part(name, spec, ("WK", "GM"), 2020, tuple(keys), height, known, hidden)
        parts[telling, str(2020 + year), "GM1916"] = part
    return {mart or telling: parts}


def found(*marts, cbs=()):
    """What is told of marts beside CBS's figures (year, code, indicator, value)."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE cbs (jaar INTEGER, regio_code VARCHAR, indicator VARCHAR, waarde DOUBLE)")
        if cbs:
            connection.executemany("INSERT INTO cbs VALUES (?, ?, ?, ?)", cbs)
        return compare({name: parts for mart in marts for name, parts in mart.items()}, connection, "cbs")


WAYS = {
    "drie klassen": lambda f: f["a"] + f["b"] + f["c"],
    "alle klassen op twee na": lambda f: sum(f.values()) - f["c"] - f["g"],
    "met gewichten": lambda f: 2 * f["a"] + 3 * f["b"] + f["d"] + f["e"],
    "met een vast getal erbij": lambda f: f["b"] + f["d"] + 7,
    "één klasse met een vast getal erbij": lambda f: f["e"] + 5,
    "wat van een vast getal overblijft": lambda f: 90 - f["h"],
    "het verschil van sommen": lambda f: f["d"] + f["e"] + f["f"] - np.minimum(f["a"], 0) + f["g"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_count_that_follows_from_others_is_found_whatever_it_is_called(figures, way):
    result = found(told("hulp", figures), told("samen", WAYS[way](figures)))
    assert {clash.tellingen for clash in result.clashes} == {("hulp", "samen")}
    assert "samen" in result.clashes[0].told
    assert result.unjudged == ()


def test_a_sum_over_three_names_is_found(figures):
    marts = [told(name, figures[name]) for name in "abc"]
    (clash,) = found(*marts, told("samen", figures["a"] + figures["b"] + figures["c"])).clashes
    assert clash.tellingen == ("a", "b", "c", "samen")
    assert clash.told == "samen volgt uit a, b, c samen"


def test_what_has_nothing_to_do_with_each_other_is_let_be(figures):
    other = {name: np.roll(column, 7) for name, column in figures.items()}
    assert found(told("hulp", figures), told("anders", other), told("los", figures["b"] * figures["c"])).clashes == ()


def test_a_class_of_one_classification_that_is_made_of_another_s_is_found(figures):
    """Ages by five years in one table and young or old in another: one count, and no system knows that they nest."""
    broad = {"jong": figures["a"] + figures["b"] + figures["c"], "oud": sum(figures[name] for name in "defgh")}
    (clash,) = found(told("hulp", figures, "fijn"), told("hulp", broad, "grof", by="groep")).clashes
    assert (clash.tellingen, clash.marts) == (("hulp",), {"fijn", "grof"})
    assert found(told("hulp", figures, "fijn"), told("hulp", {"jong": figures["a"]}, "fijn2")).clashes == ()


def test_two_hundred_classes_are_no_hiding_place():
    random = np.random.default_rng(1)
    classes = {f"k{at:03}": random.poisson(random.uniform(0.05, 20), 300) for at in range(220)}
    samen = sum(classes[f"k{at:03}"] for at in range(0, 220, 2))
    (clash,) = found(told("hulp", classes), told("samen", samen)).clashes
    assert clash.tellingen == ("hulp", "samen")
    assert "en nog" in clash.told


def test_small_figures_that_agree_by_chance_are_no_relation(figures):
    """A rare class of the one count falls in the same three wijken as a rare class of another."""
    rare = np.zeros(WIJKEN * YEARS, dtype=int)
    rare[[5, 17, 40]] = 1, 2, 1
    one = figures | {"zeldzaam": rare}
    other = {name: np.roll(column, 11) for name, column in figures.items()} | {"ook": rare}
    assert found(told("hulp", one), told("anders", other)).clashes == ()


def test_too_few_figures_are_told_and_not_judged(figures):
    few = {name: column[: 2 * YEARS] for name, column in figures.items()}
    other = {name: np.roll(column, 7)[: 2 * YEARS] for name, column in figures.items()}
    result = found(told("hulp", few), told("anders", other))
    assert (result.clashes, result.unjudged) == ((), (("anders", "hulp"),))


def test_three_counts_that_cbs_gives_together_are_found(figures):
    whole = figures["a"] + figures["b"] + figures["c"]
    cbs = [
        (2020 + year, f"WK1916{wijk:02}", "inwoners", float(whole[year * WIJKEN + wijk]))
        for year in range(YEARS)
        for wijk in range(WIJKEN)
    ]
    marts = [told(name, figures[name]) for name in "abc"]
    (clash,) = found(*marts, cbs=cbs).clashes
    assert clash.tellingen == ("a", "b", "c")
    assert clash.told == "inwoners van het CBS volgt uit a, b, c samen"
    assert found(*marts, cbs=[(*row[:3], row[3] + 0.5) for row in cbs]).clashes == ()


def test_what_one_year_does_not_know_hides_nothing(figures):
    samen = told("samen", figures["a"] + figures["b"] + figures["c"])
    samen["samen"]["samen", "2021", "GM1916"].count[:] = np.nan
    assert [clash.tellingen for clash in found(told("hulp", figures), samen).clashes] == [("hulp", "samen")]
