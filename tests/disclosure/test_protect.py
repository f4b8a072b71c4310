"""What the protector gives always passes the audit, holds nothing in vain, and is the same every time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from quality.disclosure import (
    DisclosureError,
    Fact,
    NotProtected,
    audit,
    check_certificate,
    join,
    protect,
    table_from_frame,
)
from quality.disclosure.auditor import Demand, bounds, demand_from_truth
from quality.disclosure.certificate import dumps
from quality.disclosure.verify import given_away

FEW = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


@st.composite
def arrays(draw: st.DrawFn, *shapes: tuple[int, ...], most: int = 30) -> np.ndarray:
    shape = draw(st.sampled_from(shapes))
    seed = draw(st.integers(0, 100_000))
    random = np.random.default_rng(seed)
    return np.where(random.random(shape) < 0.15, 0, random.integers(1, most, shape) ** draw(st.sampled_from([1, 2])))


def _tree_table(random: np.random.Generator, spec):
    """A table of three levels by three categories, unbalanced."""
    tree, leaves = {}, []
    for g in range(3):
        tree[f"G{g}"] = ""
        for w in range(int(random.integers(0, 4))):
            tree[f"W{g}{w}"] = f"G{g}"
            for b in range(int(random.integers(0, 4))):
                tree[f"B{g}{w}{b}"] = f"W{g}{w}"
    inner = set(tree.values())
    leaves = [code for code in tree if code not in inner]
    values = np.where(random.random((len(leaves), 3)) < 0.2, 0, random.integers(1, 40, (len(leaves), 3)))
    frame = pl.DataFrame(
        {"geo": np.repeat(leaves, 3).tolist(), "cat": ["a", "b", "c"] * len(leaves), "n": values.ravel().tolist()}
    )
    return table_from_frame(frame, spec, name="t", hierarchies={"geo": tree}, add_margins=True)


def _passes(table, norms, done) -> bool:
    """A fresh audit of what was published, against the width that was asked."""
    system = join([table]).with_values([done.tables[0].value])
    none = np.full(system.cells, np.nan)
    width = np.where(done.hidden[0], norms.protection.width, np.nan)
    return audit(system, norms, demand=Demand(none, none, width)).passed


@FEW
@given(values=arrays((3, 3), (5, 4), (3, 3, 3), (2, 4, 3)), width=st.sampled_from([1.0, 2.0, 5.0]))
def test_the_outcome_passes_the_audit(values, width, table, spec) -> None:
    full = table(values)
    norms = spec(values.ndim, protection={"width": width}, attacker={"lower": 1}).norms()
    try:
        done = protect([full], norms)
    except NotProtected:
        everything = join([full]).with_values([np.where(full.value > 0, np.nan, 0.0)])
        result = audit(everything, norms)
        unsafe = (full.value > 0) & (full.value < 4)
        assert ((result.upper - result.lower)[unsafe] < width).any(), "a pattern exists but was not found"
        return
    assert _passes(full, norms, done)
    assert not done.hidden[0][full.value == 0].any()
    assert done.hidden[0][(full.value > 0) & (full.value < 4)].all()


@FEW
@given(seed=st.integers(0, 100_000))
def test_part_by_part_costs_no_less_than_the_whole_and_bounds_it(seed, spec) -> None:
    from quality.disclosure import engine

    full = _tree_table(np.random.default_rng(seed), spec())
    norms = spec(attacker={"lower": 0}, protection={"absolute": 2}).norms()
    try:
        whole = protect([full], norms, exact=True)
    except NotProtected:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "WHOLE", 0)
        parts = protect([full], norms, exact=True)
    assert parts.sealed["counts"]["bound"] <= whole.sealed["counts"]["cost"] + 1e-6
    assert parts.sealed["counts"]["cost"] >= whole.sealed["counts"]["bound"] - 1e-6, (
        "the pattern of the parts is one of the whole"
    )


@FEW
@given(seed=st.integers(0, 100_000))
def test_the_outcome_on_a_tree_passes_both_verifiers(seed, spec) -> None:
    norms = spec(protection={"width": 3}, attacker={"lower": 1}).norms()
    full = _tree_table(np.random.default_rng(seed), spec())
    try:
        done = protect([full], norms)
    except NotProtected:
        assume(False)
    assert _passes(full, norms, done)
    assert not given_away(join([full]).with_values([done.tables[0].value]), 1.0).any()


@FEW
@given(values=arrays((3, 3), (4, 3), (3, 3, 3)))
def test_no_cell_is_hidden_in_vain(values, table, spec) -> None:
    full = table(values)
    norms = spec(values.ndim, protection={"absolute": 2}, attacker={"lower": 0}).norms()
    try:
        done = protect([full], norms, exact=False)
    except NotProtected:
        assume(False)
    system = join([full])
    for cell in np.flatnonzero(done.hidden[0] & ~done.unsafe[0]):
        hidden = done.hidden[0].copy()
        hidden[cell] = False
        value = np.where(hidden, np.nan, full.value)
        published = system.with_values([value])
        lower, upper = bounds(published, norms, hidden, np.zeros_like(hidden))
        levels = np.where(done.unsafe[0], 2.0, 0.0)
        demand = demand_from_truth(published, full.value, hidden, levels, levels, lower, upper)
        assert not audit(published, norms, demand=demand).passed


@FEW
@given(values=arrays((3, 4), (4, 4), most=12))
def test_the_exact_way_is_never_dearer(values, table, spec) -> None:
    full = table(values)
    norms = spec(cost="unit", protection={"absolute": 2}, attacker={"lower": 0}).norms()
    try:
        fast = protect([full], norms, exact=False)
    except NotProtected:
        assume(False)
    exact = protect([full], norms, exact=True)
    assert exact.summary["secondary"] <= fast.summary["secondary"]
    if "bound" in exact.sealed["counts"]:
        assert exact.sealed["counts"]["bound"] <= exact.sealed["counts"]["cost"] + 1e-6


def test_the_exact_way_proves_the_least_number(table, spec) -> None:
    """One unsafe cell in a table of 3 × 3 takes three more."""
    done = protect([table([[1, 20, 30], [40, 50, 60], [70, 80, 90]])], spec(cost="unit").norms(), exact=True)
    assert done.summary["secondary"] == 3
    assert done.sealed["counts"]["bound"] == pytest.approx(done.sealed["counts"]["cost"])


def test_the_same_input_gives_the_same_certificate(table, spec) -> None:
    values = np.random.default_rng(5).integers(0, 15, (6, 5))
    one, two = (protect([table(values)], spec().norms()) for _ in range(2))
    assert dumps(one.certificate) == dumps(two.certificate)


def test_a_table_without_unsafe_cells_is_published_whole(table, spec) -> None:
    done = protect([table([[40, 20], [30, 50]])], spec().norms())
    assert done.frame()["status"].unique().to_list() == ["verstrekt"]
    assert done.certificate["tables"][0]["hidden"] == 0


def test_the_public_certificate_tells_nothing_of_kinds(table, spec) -> None:
    full = table([[1, 20, 30], [40, 50, 60], [70, 80, 90]])
    done = protect([full], spec(attacker={"lower": 1}).norms())
    text = dumps(done.certificate)
    assert "unsafe" not in text
    assert "lpl" not in text
    system = join([full]).with_values([done.tables[0].value])
    again = audit(system, spec(attacker={"lower": 1}).norms())
    part = done.certificate["tables"][0]
    assert part["lower"] == again.lower[part["row"]].tolist()
    assert check_certificate(done.certificate, system, np.zeros(system.cells, bool), again) == []


def test_a_changed_table_does_not_fit_its_certificate(table, spec) -> None:
    full = table([[1, 20, 30], [40, 50, 60], [70, 80, 90]])
    done = protect([full], spec().norms())
    value = done.tables[0].value.copy()
    value[np.flatnonzero(done.hidden[0])[0]] = full.value[np.flatnonzero(done.hidden[0])[0]]
    system = join([full]).with_values([value])
    wrong = check_certificate(done.certificate, system, np.zeros(system.cells, bool), audit(system, spec().norms()))
    assert wrong


def test_cells_that_must_be_shown_are_shown(spec) -> None:
    frame = pl.DataFrame(
        {"geo": ["a", "a", "a", "b", "b", "b", "c", "c", "c"], "cat": ["p", "q", "r"] * 3,
         "n": [1, 20, 30, 40, 50, 60, 70, 80, 90], "status": ["", "Z", "", "Z", "", "", "", "", ""]}
    )  # fmt: skip
    done = protect([table_from_frame(frame, spec(), add_margins=True)], spec(cost="unit").norms())
    shown = done.frame()
    assert shown.filter((pl.col("geo") == "a") & (pl.col("cat") == "q"))["n"].item() == 20
    assert shown.filter((pl.col("geo") == "b") & (pl.col("cat") == "p"))["n"].item() == 40


def test_nothing_is_released_when_no_pattern_exists(spec) -> None:
    frame = pl.DataFrame({"geo": ["Total", "a", "b"], "n": [21, 1, 20], "status": ["Z", "", "Z"]})
    with pytest.raises(NotProtected, match="no pattern protects"):
        protect([table_from_frame(frame, spec(1), name="t")], spec(1).norms())


@FEW
@given(values=arrays((3, 3), (4, 3), most=9))
def test_a_bold_reader_is_left_room_at_the_cost_of_some_cells(values, table, spec) -> None:
    """Who takes every hidden cell for one under the minimum finds no less than the protection asked."""
    full, shape = table(values), spec(attacker={"suspects_primary": True})
    try:
        done = protect([full], shape.norms())
    except NotProtected:
        assume(False)
    system = join([full]).with_values([done.tables[0].value])
    none = np.full(system.cells, np.nan)
    demand = Demand(none, none, np.where(system.hidden, 2.0, np.nan))
    assert audit(system, shape.norms(), demand=demand).passed
    assert done.hidden[0].sum() >= protect([full], spec().norms()).hidden[0].sum() - 1


def test_a_bold_reader_knows_the_norm(spec) -> None:
    with pytest.raises(DisclosureError, match="suspects_primary"):
        spec(attacker={"suspects_primary": True, "lower": 0})


def test_room_that_no_movement_of_the_true_table_sees_is_found(table, spec) -> None:
    """5 and 1 of 6, shown in fives: from 6 the total cannot fall by 5, but who sees a 5 takes it for 5, 6 or 7."""
    norms = spec(1, primary=[{"rule": "frequency", "minimum": 5}], protection={"width": 5},
                 rounding={"base": 5}).norms()  # fmt: skip
    done = protect([table([5, 1])], norms)
    assert done.hidden[0].sum() == 2
    assert done.audit.passed


def test_a_width_is_split_where_a_cell_can_fall_just_so_far(monkeypatch, table, spec) -> None:
    """A 3 that was told to lie from 1 to 6 can only fall by 2 and rise by 3 to be 5 wide."""
    monkeypatch.setattr("quality.disclosure.engine._shown_again", lambda *_: None)
    cell = (0, {"geo": "g0", "cat": "c0"}, 1.0)
    told = [Fact((cell,), 1, 6, "told"), Fact((cell, (0, {"geo": "g1", "cat": "c1"}, 1.0)), 0, 999, "a loose sum")]
    norms = spec(protection={"width": 5}, attacker={"lower": 1}).norms()
    done = protect([table([[3, 50], [60, 70]])], norms, facts=told, exact=False)
    assert (done.audit.lower[0], done.audit.upper[0]) == (1, 6)


def test_nothing_is_released_when_time_runs_out(table, spec) -> None:
    values = np.random.default_rng(1).integers(0, 12, (20, 12))
    with pytest.raises(NotProtected, match="time"):
        protect([table(values)], spec().norms(), time_limit=0.0)


def test_a_missing_protection_is_refused(table, spec) -> None:
    with pytest.raises(DisclosureError, match="protection"):
        protect([table([[1, 20], [30, 40]])], spec(protection=None).norms())


@pytest.mark.parametrize("cost", ["value", "unit", "frequency", "column"])
def test_costs_choose_the_pattern(cost: str, spec) -> None:
    frame = pl.DataFrame(
        {"geo": ["a"] * 3 + ["b"] * 3 + ["c"] * 3, "cat": ["p", "q", "r"] * 3,
         "n": [1, 20, 30, 40, 50, 60, 70, 80, 90], "cost": [1, 900, 1, 900, 900, 900, 1, 900, 1]}
    )  # fmt: skip
    table = table_from_frame(frame, spec(), add_margins=True)
    done = protect([table], spec(cost=cost).norms())
    hidden = done.frame().filter(pl.col("status") == "geheim").select("geo", "cat").rows()
    wanted = {("a", "p"), ("a", "r"), ("c", "p"), ("c", "r")} if cost == "column" else None
    assert done.summary["secondary"] == 3
    assert wanted is None or set(hidden) == wanted


# -- rules -----------------------------------------------------------------------------------------------------------
def _magnitude(rows, spec):
    frame = pl.DataFrame(rows, schema=["geo", "cat", "n", "frequency", "top1", "top2"], orient="row")
    return table_from_frame(frame, spec, name="t", add_margins=True)


ROWS = [
    ("a", "p", 100.0, 5, 90.0, 5.0), ("a", "q", 300.0, 9, 40.0, 40.0), ("b", "p", 400.0, 12, 50.0, 45.0),
    ("b", "q", 500.0, 2, 260.0, 240.0), ("c", "p", 700.0, 30, 50.0, 20.0), ("c", "q", 650.0, 30, 40.0, 30.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "unsafe"),
    [
        ({"rule": "dominance", "n": 1, "k": 85}, {("a", "p")}),
        ({"rule": "dominance", "n": 2, "k": 94}, {("a", "p"), ("b", "q")}),
        ({"rule": "p_percent", "p": 10}, {("a", "p"), ("b", "q")}),
        ({"rule": "frequency", "minimum": 3}, {("b", "q")}),
    ],
)
def test_primary_rules(rule, unsafe, spec) -> None:
    shape = spec(primary=[rule], protection={"percent": 10}, attacker={"lower": 0})
    table = _magnitude(ROWS, shape)
    done = protect([table], shape.norms())
    assert set(table.frame().filter(pl.Series(done.unsafe[0])).select("geo", "cat").rows()) == unsafe


def test_a_category_that_holds_everyone_hides_its_neighbours_and_zeros(spec) -> None:
    frame = pl.DataFrame({"geo": ["a", "a", "b", "b", "c", "c"], "cat": ["p", "q"] * 3, "n": [50, 0, 30, 40, 60, 45]})
    shape = spec(primary=[{"rule": "group_disclosure", "dimension": "cat", "share": 90}])
    done = protect([table_from_frame(frame, shape, add_margins=True)], shape.norms())
    hidden = done.frame().filter(pl.col("status") == "geheim").select("geo", "cat").rows()
    assert {("a", "p"), ("a", "q")} <= set(hidden)


def test_small_areas_are_hidden_whole(spec) -> None:
    frame = pl.DataFrame(
        {"geo": ["a", "a", "b", "b", "c", "c"], "cat": ["p", "q"] * 3, "n": [50, 8, 30, 40, 60, 45],
         "population": [40, 40, 500, 500, 900, 900]}
    )  # fmt: skip
    shape = spec(primary=[{"rule": "minimum_population", "minimum": 50}])
    table = table_from_frame(frame, shape, add_margins=True)
    done = protect([table], shape.norms())
    hidden = done.frame().filter(pl.col("status") == "geheim").select("geo", "cat").rows()
    assert {("a", "p"), ("a", "q")} <= set(hidden)


# -- rounding --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["conventional", "controlled"])
def test_rounding_and_suppression_are_audited_together(method: str, table, spec) -> None:
    values = np.random.default_rng(3).integers(0, 60, (6, 4))
    norms = spec(rounding={"base": 5, "method": method}, protection={"width": 3}).norms()
    done = protect([table(values)], norms)
    frame = done.frame()
    shown = frame["n"].drop_nulls()
    assert (shown % 5 == 0).all()
    assert set(frame["status"].unique()) <= {"afgerond", "geheim"}
    assert done.audit.passed


def test_controlled_rounding_adds_up(table, spec) -> None:
    from quality.disclosure import Rounding, check_margins
    from quality.disclosure.rounding import rounded_values

    system = join([table(np.random.default_rng(4).integers(0, 60, (4, 3, 3)))])
    value = rounded_values(system, Rounding(base=5, method="controlled"))
    assert (np.abs(value - system.value) < 5).all()
    check_margins(system.with_values([value]))
