"""Whoever is alone in a cell is alone in every total of one above it: one attacker, not two who know each other's."""

from __future__ import annotations

import numpy as np
import pytest

from quality.disclosure.auditor import Demand, audit
from quality.disclosure.engine import protect
from quality.disclosure.errors import NotProtected
from quality.disclosure.insiders import audit_coalitions
from quality.disclosure.needs import coalitions
from quality.disclosure.spec import Policy
from quality.disclosure.table import Table, dimension, join

NORM = {"primary": [{"rule": "frequency", "minimum": 5}], "protection": {"width": 3}}
OWN = Policy.model_validate(NORM | {"attacker": {"contributors": True}})


def cross(counts):
    """Areas × categories with margins; `counts` has a row an area."""
    counts = np.array(counts, dtype=float)
    full = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1))
    full[1:, 1:] = counts
    full[0, 1:], full[1:, 0], full[0, 0] = counts.sum(0), counts.sum(1), counts.sum()
    geo = dimension("geo", "T", [f"a{i}" for i in range(1, len(full))])
    cat = dimension("cat", "T", [f"c{j}" for j in range(1, full.shape[1])])
    codes = np.array([(i, j) for i in range(len(full)) for j in range(full.shape[1])])
    return Table("t", "n", (geo, cat), codes, full.ravel())


def test_one_contributor_has_all_cells_of_one_that_are_its_own():
    system = join([cross([[63, 1, 1], [60, 0, 0], [60, 0, 4]])])
    found = {
        tuple(sorted(system.name(int(cell)) for cell in cells))
        for cells in coalitions(system, OWN, np.ones(system.cells, bool), {}).values()
    }
    alone = "t[geo=a1, cat=c3]"
    column = tuple(sorted(f"t[geo={geo}, cat=c2]" for geo in ("T", "a1", "a2", "a3")))
    assert found == {(alone,), column}, "the zeros beside it too: whoever is all of a total knows that"


@pytest.mark.parametrize("share", [None, 90])
def test_who_is_alone_in_a_part_and_its_total_does_not_stand_in_the_way(share):
    """The one of c2 stands alone in area and total; taken for two people the one would tell the other."""
    group = [{"rule": "group_disclosure", "dimension": "cat", "share": share}] if share else []
    policy = OWN.model_copy(update={"primary": (*OWN.primary, *Policy.model_validate({"primary": group}).primary)})
    table = cross([[63, 1, 1], [60, 0, 0], [60, 0, 0]])
    done = protect([table], policy)
    assert done.hidden[0].any()
    system = join([table])
    for cells in coalitions(system, policy, np.ones(system.cells, bool), {}).values():
        shown = join(done.tables)
        width = np.where(done.hidden[0], 3.0, np.nan)
        unsafe = np.where(done.unsafe[0], width, np.nan)
        demand = Demand(np.full(system.cells, np.nan), np.full(system.cells, np.nan), unsafe)
        assert not audit_coalitions(shown, policy, system.value, [cells], demand)


def test_a_cell_beside_rules_a_suspicion_out(monkeypatch):
    """Two fours beside shown figures are 4 each for who takes both for small; with a third hidden that cannot be."""
    monkeypatch.setattr("quality.disclosure.engine._asking_more", lambda wanted, *_: wanted)
    geo = dimension("geo", "T", ["a", "b", "c", "d"])
    table = Table("t", "n", (geo,), np.arange(5)[:, None], np.array([59.0, 4, 4, 31, 20]))
    bold = Policy.model_validate(NORM | {"attacker": {"suspects_primary": True}, "cost": "value"})
    assert protect([table], Policy.model_validate(NORM)).hidden[0].tolist() == [False, True, True, False, False]
    done = protect([table], bold)
    assert done.audit.passed
    assert done.hidden[0].tolist() == [False, True, True, False, True], "the cheapest beside them"


@pytest.mark.parametrize("shape", [(4, 5), (3, 3, 2)])
def test_movements_spare_no_audit_that_would_fail(shape, table):
    """What each of many parties learns is what an audit of its own finds, besides what everybody learns anyhow."""
    learning = 0
    for seed in range(5):
        chance = np.random.default_rng(seed)
        full = table(chance.integers(0, 9, shape))
        hidden = (full.value > 0) & (chance.random(len(full)) < 0.7)
        truth = join([full]).value
        shown = join([full]).with_values([np.where(hidden, np.nan, full.value)])
        policy = Policy.model_validate(NORM | {"attacker": {"lower": 1}})
        ends = np.where(hidden, [np.maximum(full.value - 1, 1), full.value + 1, np.full(len(full), 3.0)], np.nan)
        parties = [np.flatnonzero(hidden & (chance.random(len(full)) < share)) for share in (0.03, 0.05, 0.1, 0.2, 0.3)]
        found = dict(audit_coalitions(shown, policy, truth, parties, Demand(*ends)))
        anybody = set(audit(shown, policy, demand=Demand(*ends)).failing.tolist())
        for number, own in enumerate(parties):
            alone = set(audit(shown, policy, demand=Demand(*ends), truth=truth, own=own).failing.tolist())
            learned = set(found.get(number, ()))
            assert alone - anybody <= learned <= alone
            learning += bool(alone - anybody) and bool(set(np.flatnonzero(hidden)) - alone - set(own))
    assert learning >= 5, "somebody learns of some cells, and not of others"


def test_time_that_runs_out_tells_how_many_were_judged(table):
    full = table([[4, 2], [3, 5]])
    hidden = np.ones(len(full), dtype=bool)
    shown = join([full]).with_values([np.full(len(full), np.nan)])
    demand = Demand(*np.where(hidden, [full.value - 1, full.value + 1, np.full(len(full), 2.0)], np.nan))
    with pytest.raises(NotProtected, match=r"0 of 2 who know their own cells were judged.*ran out of time"):
        audit_coalitions(shown, OWN, join([full]).value, [np.array([0]), np.array([1])], demand, time_limit=0.0)
