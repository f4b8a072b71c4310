"""Each well-known way in which a hidden figure gets out is caught."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import polars as pl
import pytest

from quality.disclosure import (
    Demand,
    DisclosureError,
    Earlier,
    Fact,
    MalformedTable,
    NotProtected,
    Rounding,
    audit,
    check_certificate,
    check_margins,
    figure,
    join,
    joint_system,
    protect,
    rate,
    table_from_frame,
)

VALUES = [[2, 20, 31], [40, 53, 60], [71, 80, 94]]
SQUARE = [0, 1, 3, 4]
"""Rows of a pattern that protects the cell of 2: itself and the corners of a rectangle."""


def _narrow(system, norms, rounded=None):
    """Cells whose value the attacker finds exactly."""
    result = audit(system, norms, rounded=rounded)
    return np.flatnonzero(result.hidden & (result.upper - result.lower < 1))


def _published(table, rows):
    value = table.value.copy()
    value[rows] = np.nan
    return replace(table, value=value)


def test_a_pattern_without_leak_is_not_accused(table, spec, hide) -> None:
    assert not len(_narrow(hide(table(VALUES), SQUARE), spec().norms()))


def test_margin(table, spec, hide) -> None:
    """A cell hidden alone in its row follows from the margin."""
    assert 0 in _narrow(hide(table(VALUES), [0, 4]), spec().norms())


def test_linked_table(table, spec) -> None:
    """A second table by another breakdown shows the very cell under another name."""
    one = _published(table(VALUES), SQUARE)
    frame = pl.DataFrame(
        {"geo": ["g0", "g1", "g2"] * 2, "cat": ["c0"] * 3 + ["rest"] * 3, "n": [2, 40, 71, 51, 113, 174]}
    )
    other = table_from_frame(frame, spec(), name="u", add_margins=True)
    system, _ = joint_system([one, other])
    assert not np.isnan(system.value[system.cell_of[0][0]])
    done = protect([table(VALUES), other], spec().norms())
    assert done.hidden[1][0]


def test_linked_table_with_a_difference(spec, table) -> None:
    """Wijken as sums of buurten and postcodes as other sums of the same buurten: the difference is one buurt."""
    frame = pl.DataFrame({"geo": ["b1", "b2", "b3", "b4"], "n": [2, 30, 50, 70]})
    tree = {"w1": "", "w2": "", "b1": "w1", "b2": "w1", "b3": "w2", "b4": "w2"}
    full = table_from_frame(frame, spec(1), name="wijk", hierarchies={"geo": tree}, add_margins=True)
    fact = Fact(
        ((0, {"geo": "w1"}, 1.0), (0, {"geo": "b1"}, -1.0)), 30, 30, "the postcode that is wijk w1 without buurt b1"
    )
    with pytest.raises(NotProtected):
        protect([full], spec(1).norms(), facts=[fact, Fact(((0, {"geo": "w1"}, 1.0),), 32, 32, "wijk w1")])


def test_earlier_release_from_the_same_data(table, spec) -> None:
    """Hidden now, shown then: it cannot be hidden any more, and the release is refused."""
    full = table(VALUES)
    before = Earlier(_published(full, [4, 5, 7, 8]), release="2020-1")
    with pytest.raises(NotProtected, match="earlier release"):
        protect([full], spec().norms(), earlier=[before])


def test_earlier_release_with_another_pattern(table, spec) -> None:
    """Two patterns that are each safe show together what either hides; the second follows the first."""
    full = table(VALUES)
    norms = spec().norms()
    first = _published(full, [0, 2, 6, 8])
    done = protect([full], norms, earlier=[Earlier(first, release="2020-1")])
    assert done.hidden[0][[0, 2, 6, 8]].all()
    assert not done.hidden[0][[1, 3, 4]].any()
    assert done.certificate["earlier"] == ["2020-1"]


def test_earlier_release_of_figures_revised_since(table, spec) -> None:
    """The old year was revised by at most 1: the old margin and cells pin the new cell, so more is hidden."""
    full = table(VALUES)
    norms = spec(protection={"width": 5}).norms()
    old = table(np.array(VALUES) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1]]), version="before")
    bare = Earlier(_published(old, [4, 5, 7, 8]), release="2019-1", revision=1)
    with pytest.raises(NotProtected):
        protect([full], norms, earlier=[bare])
    wide = Earlier(_published(old, [4, 5, 7, 8]), release="2019-1", revision=40)
    assert protect([full], norms, earlier=[wide]).audit.passed
    unbound = Earlier(_published(old, [4, 5, 7, 8]), release="2019-1", revision=None)
    assert protect([full], norms, earlier=[unbound]).audit.passed


def test_rate_with_known_denominator(table, spec) -> None:
    """2 of 400 inhabitants is published as 5.0 per 1000: the hidden 2 is found, and more cells do not help."""
    full = table(VALUES)
    facts = rate((0, {"geo": "g0", "cat": "c0"}), 400.0, 5.0, per=1000, decimals=1)
    system, _ = joint_system([_published(full, SQUARE)], facts=facts)
    assert 0 in _narrow(system, spec().norms())
    with pytest.raises(NotProtected):
        protect([full], spec().norms(), facts=facts)


def test_rate_with_a_hidden_denominator(table, spec) -> None:
    """A rate of a hidden cell in its hidden total is a relation between both."""
    full = table(VALUES)
    total = full.rows_of(np.array([[1, 0]]))[0]
    facts = rate((0, {"geo": "g0", "cat": "c0"}), (0, {"geo": "g0"}), 100 * 2 / 53, per=100, decimals=3)
    system, _ = joint_system([_published(full, [*SQUARE, total])], facts=facts)
    result = audit(system, spec(attacker={"lower": 1}).norms())
    loose, _ = joint_system([_published(full, [*SQUARE, total])])
    before = audit(loose, spec(attacker={"lower": 1}).norms())
    assert result.upper[0] - result.lower[0] <= before.upper[0] - before.lower[0]


def test_rounding_that_pins_a_value(table, spec) -> None:
    """Four parts of at most 2 each under a total of at least 8 are all 2: rounding alone does not hide them."""
    full = table([[2, 2, 2, 2]])
    norms = spec(rounding={"base": 5, "suppress": False}, protection=None).norms()
    with pytest.raises(NotProtected):
        protect([full], norms)
    system = join([full])
    value = np.floor(full.value / 5 + 0.5) * 5
    result = audit(system.with_values([value]), norms, rounded=np.ones(system.cells, bool))
    assert (result.upper - result.lower)[0] == 0


def test_zero_cells(table, spec, hide) -> None:
    """Zeros are shown, so hidden is at least 1: two hidden cells under a margin of 2 are both 1."""
    full = table([[1, 1], [7, 9]])
    system = hide(full, [0, 1, 2, 3])
    assert not len(_narrow(system, spec(attacker={"lower": 0}).norms()))
    assert 0 in _narrow(system, spec().norms())


def test_complement_group(spec) -> None:
    """Everyone, and everyone but one group: the remainder is a figure, so it should stand in the table."""
    frame = pl.DataFrame({"geo": ["Total", "under_65"], "n": [100, 98]})
    with pytest.raises(MalformedTable, match=r"differ from it by -?2"):
        check_margins(join([table_from_frame(frame, spec(1), name="t")]))
    full = pl.DataFrame({"geo": ["Total", "under_65", "rest"], "n": [100, 98, 2]})
    done = protect([table_from_frame(full, spec(1), name="t")], spec(1).norms())
    assert done.hidden[0].tolist() == [False, True, True]


def test_known_norm(table, spec) -> None:
    """Everything else hidden is clearly above the norm, so the one that is not lies under it."""
    full = table([[2, 90], [60, 80]])
    rated = Fact(((0, {"geo": "g0", "cat": "c0"}, 1.0),), 0, 30, "a rate of at most 6 in 100")
    system, _ = joint_system([_published(full, [0, 1, 2, 3])], facts=[rated])
    none = np.full(system.cells, np.nan)
    demand = Demand(none, none, np.where(np.isnan(system.value), 5.0, np.nan))
    assert audit(system, spec(attacker={"lower": 1}).norms(), demand=demand).passed
    assert not audit(system, spec().norms(), demand=demand).passed


def test_a_suppliers_own_records(table, spec) -> None:
    """A supplier who knows the corner cells finds the 2; protection against it hides another way round."""
    full = table(VALUES)
    norms = spec(attacker={"lower": 1}).norms()
    plain = protect([full], norms)
    corner = [int(c) for c in np.flatnonzero(plain.hidden[0] & ~plain.unsafe[0])][:1]
    leaking = audit(join([full]).with_values([plain.tables[0].value]), norms, truth=full.value, own=np.array(corner))
    assert leaking.upper[0] - leaking.lower[0] == 0
    done = protect([full], norms, known_cells={"leverancier": [(0, np.array(corner))]})
    system = join([full]).with_values([done.tables[0].value])
    result = audit(system, norms, truth=full.value, own=np.array(corner))
    assert result.upper[0] - result.lower[0] >= 2


def test_a_single_contributor_knows_its_own_cell(spec) -> None:
    """Of two hidden cells in a row one has a single contributor, who would compute the other."""
    rows = [
        ("a", "p", 100.0, 1), ("a", "q", 120.0, 2), ("a", "r", 900.0, 30), ("b", "p", 400.0, 12), ("b", "q", 500.0, 20),
        ("b", "r", 700.0, 30), ("c", "p", 800.0, 30), ("c", "q", 650.0, 30), ("c", "r", 990.0, 40),
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["geo", "cat", "n", "frequency"], orient="row")
    shape = spec(
        primary=[{"rule": "frequency", "minimum": 3}],
        protection={"percent": 20},
        attacker={"lower": 0, "contributors": True},
    )
    full = table_from_frame(frame, shape, name="t", add_margins=True)
    done = protect([full], shape.norms())
    system = join([full]).with_values([done.tables[0].value])
    result = audit(system, shape.norms(), truth=full.value, own=np.array([0]))
    assert result.lower[1] <= 96 + 1e-6
    assert result.upper[1] >= 144 - 1e-6


def test_a_confidence_interval(table, spec) -> None:
    """A Wilson limit printed to three decimals tells the count behind it."""

    def wilson_upper(count: float, n: float = 500.0, z: float = 1.96) -> float:
        p = count / n
        return (p + z * z / (2 * n) + z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)

    fact = figure((0, {"geo": "g0", "cat": "c0"}), wilson_upper, round(wilson_upper(2), 3), decimals=3, largest=500)
    assert (fact.lower, fact.upper) == (2, 2)
    system, _ = joint_system([_published(table(VALUES), SQUARE)], facts=[fact])
    assert 0 in _narrow(system, spec().norms())


# -- attacks through time and space ----------------------------------------------------------------------------------
def test_two_patterns_of_one_earlier_input(table, spec) -> None:
    """Each release of last year was safe; together they showed that year whole, and this year hardly differs."""
    last = table(np.array(VALUES) + np.array([[0, 1, 0], [0, 0, 0], [0, 0, 1]]), version="2019")
    releases = [Earlier(_published(last, rows), release=str(rows), revision=2) for rows in (SQUARE, [0, 2, 6, 8])]
    norms = spec(protection={"width": 5}).norms()
    assert protect([table(VALUES)], norms, earlier=releases[:1]).audit.passed
    with pytest.raises(NotProtected):
        protect([table(VALUES)], norms, earlier=releases)


def test_a_withdrawn_release_still_counts(table, spec) -> None:
    """Withdrawn is not forgotten: with its figures the hidden cells of today can be computed."""
    full, norms = table(VALUES), spec().norms()
    done = protect([full], norms)
    withdrawn = Earlier(_published(full, [0, 2, 6, 8]), release="ingetrokken")
    system, _ = joint_system([done.tables[0]], [withdrawn])
    assert len(_narrow(system, norms))
    again = protect([full], norms, earlier=[withdrawn])
    system, _ = joint_system([again.tables[0]], [withdrawn])
    assert not len(_narrow(system, norms))


@pytest.mark.parametrize(("tie", "code"), [(0.0, False), (5.0, True)], ids=["same borders", "borders moved"])
def test_a_merger_of_gemeenten(tie: float, code: bool, spec) -> None:
    """Last year a and b apart, one hidden; this year together: the sum tells what was hidden, unless it may differ."""
    old = table_from_frame(
        pl.DataFrame({"geo": ["Total", "a", "b", "c"], "n": [133, 30, None, None]}), spec(1), name="o", version="2019"
    )
    new = table_from_frame(pl.DataFrame({"geo": ["ab", "c"], "n": [33, 100]}), spec(1), name="n", add_margins=True)
    terms = ((0, {"geo": "ab"}, 1.0), (1, {"geo": "a"}, -1.0), (1, {"geo": "b"}, -1.0))
    merged = Fact(terms, -tie, tie, "a and b became ab")
    earlier = [Earlier(old, release="2019-1")]
    system, _ = joint_system([new], earlier, [merged])
    alone = audit(system, spec(1).norms())
    assert bool((alone.upper - alone.lower)[alone.hidden].min() >= 2) is code
    done = protect([new], spec(1).norms(), earlier=earlier, facts=[merged])
    assert done.audit.passed
    assert done.hidden[0].tolist()[:2] == [not code, not code]


def test_wijk_and_postcode_over_the_same_ground(spec) -> None:
    """Postcode p1 is just buurt b2: hidden among the wijken, told among the postcodes."""
    tree = {"w1": "", "w2": "", "b1": "w1", "b2": "w1", "b3": "w2", "b4": "w2"}
    frame = pl.DataFrame({"geo": ["b1", "b2", "b3", "b4"], "n": [2, 30, 50, 70]})
    wijken = table_from_frame(frame, spec(1), name="wijken", hierarchies={"geo": tree}, add_margins=True)
    shape = spec(dimensions={"postcode": {"total": "Total"}})
    frame = pl.DataFrame({"postcode": ["p1", "p2"], "n": [30, 122]})
    postcodes = table_from_frame(frame, shape, name="postcodes", add_margins=True)
    same = Fact(((1, {"postcode": "p1"}, 1.0), (0, {"geo": "b2"}, -1.0)), 0, 0, "p1 has the borders of b2")
    norms = spec(1).norms()
    apart = [protect([one], norms).tables[0] for one in (wijken, postcodes)]
    system, _ = joint_system(apart, facts=[same])
    assert len(_narrow(system, norms))
    done = protect([wijken, postcodes], norms, facts=[same])
    system, _ = joint_system(done.tables, facts=[same])
    assert not len(_narrow(system, norms))
    assert done.hidden[1].tolist() == [True, True, False]


def test_one_figure_under_two_roundings(table, spec) -> None:
    """2 is 0 in fives and 4 in fours: between 2 and 2."""
    full = table(VALUES)
    old = full.value.copy()
    rounded = np.floor(old / 4 + 0.5) * 4
    fours = Rounding(base=4, suppress=False)
    before = Earlier(replace(full, value=rounded), "in vieren", rounded=np.ones(len(old), bool), rounding=fours)
    norms = spec(rounding={"base": 5, "suppress": False}, protection=None).norms()
    assert protect([full], norms).audit.passed
    with pytest.raises(NotProtected):
        protect([full], norms, earlier=[before])


@pytest.mark.parametrize("method", ["conventional", "controlled"])
@pytest.mark.parametrize(("version", "revision"), [("now", None), ("2019", 3.0)])
def test_a_rounded_release_counts_as_intervals(method: str, version: str, revision: float | None, table, spec) -> None:
    """Rounded figures need not add up, nor equal today's; what they leave open is what the attacker is left with."""
    norms = spec(rounding={"base": 5, "method": method}).norms()
    first = protect([table(VALUES)], norms)
    old = replace(first.tables[0], version=version)
    again = protect(
        [table(VALUES)], norms, earlier=[Earlier(old, release="1", rounded=first.rounded[0], revision=revision)]
    )
    assert again.hidden[0][first.hidden[0]].all() or version != "now"
    before = Earlier(old, rounding=norms.rounding, rounded=first.rounded[0], revision=revision)
    exact = protect([table(VALUES)], spec().norms(), earlier=[before])
    assert exact.audit.passed


@pytest.mark.parametrize(
    "forged",
    [
        {"tables": []},
        {"tables": [{}]},
        {"tables": [{"fingerprint": "", "row": "x", "lower": [], "upper": []}]},
        {"tables": 3},
        {"format": "other"},
    ],
)
def test_a_certificate_that_is_none_is_refused(forged, table, spec) -> None:
    done = protect([table(VALUES)], spec().norms())
    system, _ = joint_system(done.tables)
    none = np.zeros(system.cells, bool)
    with pytest.raises(DisclosureError, match="certificate"):
        check_certificate({**done.certificate, **forged}, system, none, done.audit)


def test_a_certificate_that_leaves_a_hidden_cell_out_is_told(table, spec) -> None:
    done = protect([table(VALUES)], spec().norms())
    system, _ = joint_system(done.tables)
    part = {**done.certificate["tables"][0], "row": [], "lower": [], "upper": []}
    wrong = check_certificate({**done.certificate, "tables": [part]}, system, np.zeros(system.cells, bool), done.audit)
    assert any("every hidden cell" in line for line in wrong)


@pytest.mark.parametrize("rule", ["group_disclosure", "minimum_population"])
def test_where_no_zero_can_be_hidden_a_hidden_count_is_at_least_one(table, spec, rule: str) -> None:
    """Zeros are hidden where one category holds (nearly) all, or few live; a shown part, or a public figure on the
    population, tells that neither is so here. Under 4 in two hidden cells of 1 and 3 next to each other there is then
    less room than in 0 to 4.
    """
    other = {"rule": rule, **({"dimension": "cat"} if rule == "group_disclosure" else {"minimum": 5})}
    shape = spec(primary=[{"rule": "frequency", "minimum": 4}, other], protection={"width": 3})
    full = table([[1, 3, 20], [30, 40, 50], [70, 80, 90]], shape)
    if rule == "minimum_population":
        full = replace(full, columns={"population": np.full(len(full), 1000.0)})
    hidden = {("g0", "c0"), ("g0", "c1"), ("g1", "c0"), ("g1", "c1")}
    rows = [k for k, row in enumerate(full.frame().select("geo", "cat").iter_rows()) if row in hidden]
    result = audit(join([_published(full, rows)]), shape.norms())
    assert (result.lower[rows[0]], result.upper[rows[0]]) == (1, 3)
    done = protect([full], shape.norms())
    assert done.audit.narrowest >= 3
    assert {tuple(row[:2]) for row in done.frame().filter(pl.col("status") == "geheim").iter_rows()} != hidden


def test_the_norm_holds_in_a_region_that_no_other_rule_can_have_hidden(table, spec) -> None:
    """Another rule in the policy takes nothing from what the norm tells where that rule was not at work."""
    rules = [{"rule": "frequency", "minimum": 4}, {"rule": "group_disclosure", "dimension": "cat"}]
    full = table([[2, 9, 20], [9, 2, 50], [70, 80, 90]], spec())
    rows = [k for k, row in enumerate(full.codes.tolist()) if set(row) <= {1, 2}]
    plain, also = (audit(join([_published(full, rows)]), spec(primary=p).norms()) for p in (rules[:1], rules))
    assert np.array_equal(plain.lower, also.lower)
    assert np.array_equal(plain.upper, also.upper)


def test_a_cell_that_is_shown_in_a_group_that_is_hidden_is_refused(table, spec) -> None:
    shape = spec(primary=[{"rule": "group_disclosure", "dimension": "cat"}])
    full = table([[20, 0, 0], [10, 20, 30]], shape)
    marks = np.where((full.codes == [1, 1]).all(axis=1), "S", "")
    with pytest.raises(DisclosureError, match=r"geo=g0, cat=c0\] has the status S"):
        protect([replace(full, status=marks)], shape.norms())


def test_what_an_earlier_release_tells_of_a_figure_that_is_rounded_now(table, spec) -> None:
    """Shown exactly before it is known exactly, and a 2 that was hidden, and is shown as 0 now, is no zero."""
    norms = spec(rounding={"base": 5, "suppress": False, "width": 2}).norms()
    full = table(VALUES)
    done = protect([full], norms)
    published = replace(done.tables[0], status=np.array(done.status()))
    before = Earlier(_published(full, SQUARE), "1")
    system, current = joint_system([published], [before], policy=norms)
    result, cells = audit(system, norms, rounded=current), system.cell_of[0]
    assert np.array_equal(result.lower[np.delete(cells, SQUARE)], np.delete(full.value, SQUARE))
    assert np.array_equal(result.upper[np.delete(cells, SQUARE)], np.delete(full.value, SQUARE))
    assert (done.audit.lower[0], done.audit.upper[0], published.value[0]) == (0, 2, 0)
    system, current = joint_system(
        [published], [replace(before, table=_published(full, np.arange(len(full))))], policy=norms
    )
    assert audit(system, norms, rounded=current).lower[system.cell_of[0][0]] == 1
    with pytest.raises(NotProtected):
        protect([full], norms, earlier=[replace(before, table=_published(full, [0]))])
