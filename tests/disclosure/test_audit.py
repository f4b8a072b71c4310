"""The auditor agrees with an attacker who tries every table, and with the verifier without a solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from quality.disclosure import (
    Attacker,
    Demand,
    DisclosureError,
    Fact,
    Rounding,
    audit,
    join,
    protect,
    table_from_frame,
)
from quality.disclosure.auditor import rounding_interval
from quality.disclosure.facts import known_rows
from quality.disclosure.verify import given_away

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


@st.composite
def hidden_tables(draw: st.DrawFn, shape: tuple[int, ...], most: int):
    values = draw(st.lists(st.integers(0, most), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    seed = draw(st.integers(0, 10_000))
    share = draw(st.sampled_from([0.3, 0.5, 0.8]))
    return np.array(values).reshape(shape), seed, share


def _hide_some(table, seed: int, share: float, least: float) -> np.ndarray:
    able = np.flatnonzero(table.value >= least)
    return able[np.random.default_rng(seed).random(len(able)) < share]


@FEW
@given(case=hidden_tables((2, 3), 3), least=st.sampled_from([0.0, 1.0]))
def test_intervals_of_a_two_way_table_are_those_of_brute_force(case, least, table, hide, brute, spec) -> None:
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, least))
    result = audit(system, spec(attacker={"lower": least}).norms())
    finest = (full.codes != 0).all(axis=1)
    assume(result.upper[finest].max() <= 5)
    low, high = brute(system, (2, 3), least, 5)
    assert np.array_equal(result.lower, low)
    assert np.array_equal(result.upper, high)
    assert result.exact.all()


@FEW
@given(case=hidden_tables((2, 2, 2), 2), least=st.sampled_from([0.0, 1.0]))
def test_intervals_of_a_three_way_table_hold_those_of_brute_force(case, least, table, hide, brute, spec) -> None:
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, least))
    result = audit(system, spec(3, attacker={"lower": least}).norms())
    low, high = brute(system, (2, 2, 2), least, 2)
    assert (result.lower <= low).all()
    assert (result.upper >= high).all()


@FEW
@given(case=hidden_tables((2, 3), 4), bound=st.integers(1, 6), minimum=st.sampled_from([2, 3]))
def test_who_knows_the_norm_finds_what_brute_force_finds(case, bound, minimum, table, hide, brute, spec) -> None:
    """With an interval told about one cell the norm tells of others; each connected set holds one under it."""
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, 1))
    open_cells = np.flatnonzero(system.hidden)
    assume(len(open_cells))
    told = open_cells[seed % len(open_cells)]
    at = np.array([told])
    system = system.within(at, np.maximum(full.value[at] - bound, 0), full.value[at] + bound % 3)
    result = audit(system, spec(primary=[{"rule": "frequency", "minimum": minimum}]).norms())
    finest = (full.codes != 0).all(axis=1)
    assume(result.upper[finest].max() <= 5)
    low, high = brute(system, (2, 3), 1, 5, minimum)
    assume(not np.isnan(low).any())
    # a cell that follows from its own relation parts the rest, so that the auditor may believe a little more
    assert (result.lower >= low).all()
    assert (result.upper <= high).all()
    blind = brute(system, (2, 3), 1, 5)
    assert (result.lower >= blind[0]).all()
    assert (result.upper <= blind[1]).all()


@FEW
@given(case=hidden_tables((2, 2, 2), 3), width=st.sampled_from([1.0, 2.0]))
def test_a_demand_that_is_met_is_met_by_whole_numbers(case, width, table, hide, brute, spec) -> None:
    """In three dimensions a program can leave room that no table of whole numbers has."""
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, 1))
    none = np.full(system.cells, np.nan)
    demand = Demand(none, none, np.where(np.isnan(system.value), width, np.nan))
    low, high = brute(system, (2, 2, 2), 1, 3)
    for exact in (True, False):
        result = audit(system, spec(3, attacker={"lower": 1}).norms(), demand=demand, exact=exact)
        assume(result.upper[(full.codes != 0).all(axis=1)].max() <= 3)
        assert set(np.flatnonzero(result.hidden & (high - low < width))) <= set(result.failing)


@FEW
@given(case=hidden_tables((2, 3), 4), width=st.sampled_from([1.0, 2.0]))
def test_who_takes_every_hidden_count_for_primary_is_judged_as_by_brute_force(
    case, width, table, hide, brute, spec
) -> None:
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, 1))
    none = np.full(system.cells, np.nan)
    demand = Demand(none, none, np.where(np.isnan(system.value), width, np.nan))
    bold = audit(system, spec(attacker={"suspects_primary": True}).norms(), demand=demand)
    plain = audit(system, spec().norms(), demand=demand)
    assume(plain.upper[(full.codes != 0).all(axis=1)].max() <= 5)
    low, high = brute(system, (2, 3), 1, 5, 4, bold=True)
    narrow = system.hidden & (high - low < np.minimum(width, 4 - 2))
    assert set(bold.failing) == set(plain.failing) | set(np.flatnonzero(narrow))
    assert np.array_equal(bold.lower, plain.lower), "what is published of intervals does not change"


def test_four_counts_just_under_the_norm_are_told_to_who_takes_them_for_primary(table, hide, spec) -> None:
    """Two and two under 8, with 5 as minimum: 1 to 7 to anyone, and 4 to who thinks that all four are primary."""
    full = table([[4, 4, 50], [4, 4, 50], [60, 70, 80]])
    norms, plain = (
        spec(attacker=who, primary=[{"rule": "frequency", "minimum": 5}], protection={"width": 3}).norms()
        for who in ({"suspects_primary": True}, {})
    )
    system = hide(full, np.flatnonzero((full.value > 0) & (full.value < 5)))
    none = np.full(system.cells, np.nan)
    demand = Demand(none, none, np.where(system.hidden, 3.0, np.nan))
    assert audit(system, plain, demand=demand).passed
    assert len(audit(system, norms, demand=demand).failing) == 4
    assert protect([full], plain).summary["secondary"] == 0
    done = protect([full], norms)
    assert done.summary["secondary"] > 0
    shown = replace(demand, width=np.where(done.hidden[0], 3.0, np.nan))
    assert audit(system.with_values([done.tables[0].value]), norms, demand=shown).passed


def test_a_cell_that_stands_twice_does_not_veil_the_norm(spec) -> None:
    """The only buurt of a wijk is the wijk: one of the two and the total lies under the norm, so both do."""
    tree = {"w1": "", "b1": "w1", "b2": ""}
    frame = pl.DataFrame({"geo": ["Total", "w1", "b1", "b2"], "n": [None, None, None, 28]})
    system = join([table_from_frame(frame, spec(1), name="t", hierarchies={"geo": tree})])
    result = audit(system, spec(1).norms())
    assert result.lower.tolist() == [29, 1, 1, 28]
    assert result.upper.tolist() == [31, 3, 3, 28]


@FEW
@given(case=hidden_tables((4, 3), 9), least=st.sampled_from([0.0, 1.0]))
def test_the_verifier_without_a_solver_agrees(case, least, table, hide, spec) -> None:
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, least))
    result = audit(system, spec(attacker={"lower": least}).norms())
    exact = result.hidden & (result.upper - result.lower < 0.5)
    assert np.array_equal(given_away(system, least), exact)


@FEW
@given(case=hidden_tables((4, 3), 9))
def test_stopping_early_gives_the_same_verdict(case, table, hide, spec) -> None:
    values, seed, share = case
    full = table(values)
    system = hide(full, _hide_some(full, seed, share, 1))
    norms = spec(attacker={"lower": 1}).norms()
    none = np.full(system.cells, np.nan)
    demand = Demand(none, none, np.where(np.isnan(system.value), 3.0, np.nan))
    exact = audit(system, norms, demand=demand)
    quick = audit(system, norms, demand=demand, exact=False)
    assert set(exact.failing) == set(quick.failing)
    assert (quick.lower >= exact.lower).all()
    assert (quick.upper <= exact.upper).all()


def test_a_single_hidden_cell_is_computed_from_its_margin(table, hide, spec) -> None:
    full = table([[4, 2], [3, 5]])
    result = audit(hide(full, [0]), spec().norms())
    assert (result.lower[0], result.upper[0]) == (4, 4)


def test_hidden_means_at_least_one(table, hide, spec) -> None:
    """Zeros are shown, so the default attacker starts at 1 where a plain one starts at 0."""
    full = table([[1, 7], [8, 1]])
    system = hide(full, [0, 1, 2, 3])
    plain = audit(system, spec(attacker={"lower": 0}).norms())
    assert (plain.upper - plain.lower)[0] == 2 + 6
    aware = audit(system, spec().norms())
    assert aware.lower[0] == 1


def test_the_norm_tells_which_cell_was_primary(table, hide, spec) -> None:
    """A rate leaves the 2 at most 30; no other cell can then lie under the norm of 4, so the 2 is 1, 2 or 3."""
    full = table([[2, 90], [60, 80]])
    system = hide(full, [0, 1, 2, 3])
    system = system.with_known(known_rows(system, [Fact(((0, {"geo": "g0", "cat": "c0"}, 1.0),), 0, 30, "a rate")]))
    blind = audit(system, spec(attacker={"lower": 1}).norms())
    knowing = audit(system, spec().norms())
    assert (blind.lower[0], blind.upper[0]) == (1, 30)
    assert (knowing.lower[0], knowing.upper[0]) == (1, 3)
    assert knowing.upper[1] - knowing.lower[1] == 2


def test_published_values_that_contradict_each_other_are_refused(table, hide, spec) -> None:
    full = table([[4, 2], [3, 5]])
    system = hide(full, [0, 1, 2, 3])
    value = system.tables[0].value.copy()
    value[4] += 50
    with pytest.raises(DisclosureError, match="contradict"):
        audit(system.with_values([value]), spec().norms())


def test_a_percentage_attacker_needs_the_truth(table, hide, spec) -> None:
    system = hide(table([[4, 2], [3, 5]]), [0, 1, 2, 3])
    norms = spec(attacker={"percent": 50}).norms()
    with pytest.raises(DisclosureError, match="--truth"):
        audit(system, norms)
    truth = join([table([[4, 2], [3, 5]])]).value
    assert audit(system, norms, truth=truth).upper[0] <= 6


@pytest.mark.parametrize(
    ("method", "value", "low", "high"),
    [("conventional", 5, 3, 7), ("conventional", 0, 0, 2), ("controlled", 5, 1, 9), ("controlled", 0, 0, 4)],
)
def test_the_values_behind_a_rounded_count(method: str, value: float, low: float, high: float) -> None:
    found = rounding_interval(np.array([float(value)]), Rounding(base=5, method=method), np.array([True]))
    assert (found[0][0], found[1][0]) == (low, high)


def test_an_unknown_rounding_is_refused(table, hide, spec) -> None:
    system = hide(table([[4, 2], [3, 5]]), [0])
    with pytest.raises(DisclosureError, match="rounding"):
        audit(system, spec(attacker=Attacker(lower=0)).norms(), rounded=~np.isnan(system.value))


def test_a_cell_that_was_only_seen_beyond_all_bounds_is_not_proved() -> None:
    """Two tables in which a cell is without bound tell nothing of how low it may be."""
    nan = np.full(3, np.nan)
    ends = np.array([np.inf, 1.0, np.inf]), np.array([np.inf, np.inf, -np.inf])
    assert Demand(nan, nan, np.full(3, 5.0)).short(*ends).tolist() == [5.0, 0.0, 5.0]
