"""Attacks on what is released. Each is tried on released files alone, as a reader of them would.

The attacker here is not the project's: exact programs with scipy over the cells as they stand in the file, with the
norm (shown is zero or at least the minimum, hidden is at least 1), rounding, earlier releases and CBS's figures.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import ClassVar

import duckdb
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, milp

from assets.release.history import EvidenceError, sealed_file
from assets.release.publish import ReleaseError, current, withdraw
from datafabriek.ledger import LedgerError
from quality.protection import ProtectionError, parse_spec

BIJSTAND = (
    "SELECT DISTINCT regio_code, 'T', teller, status, periode FROM bijstand_per_regio "
    "WHERE indicator = 'bijstand_aantal'"
)
ZZP = (
    "SELECT DISTINCT regio_code, 'T', teller, status, periode FROM zzp_per_regio "
    "WHERE indicator = 'zzp_vestigingen_aantal'"
)
SECTOR = "SELECT regio_code, replace(sector_code, 'T001081', 'T'), teller, status, periode FROM zzp_per_sector"


def above(code):
    """The region that a region is a part of."""
    if code.startswith("ONB"):
        return "GM" + code[3:]
    return {"BU": "WK" + code[2:8], "WK": "GM" + code[2:6], "GM": None}[code[:2]]


class Attacker:
    """Everything that was read, as unknowns with bounds and relations between them."""

    def __init__(self, base=5, least=5):
        self.base, self.least = base, least
        self.number, self.low, self.high, self.hidden, self.rows = {}, [], [], set(), []

    def cell(self, key):
        if key not in self.number:
            self.number[key] = len(self.low)
            self.low.append(0.0)
            self.high.append(np.inf)
        return self.number[key]

    def read(self, rows, world="now", least=None, mine=True):
        """Cells of one release; all with the same world have the same counts behind them."""
        least = least or self.least
        keys = set()
        for code, sector, value, status, period in rows:
            key = (world, period, code, sector)
            keys.add(key)
            at = self.cell(key)
            if status == "onbekend":
                continue
            if value is None:
                low, high = 1, np.inf
                if mine:
                    self.hidden.add(key)
            elif value == 0:
                low, high = 0, 0
            else:
                low, high = max(value - self.base // 2, least), value + (self.base - 1) // 2
            self.low[at], self.high[at] = max(self.low[at], low), min(self.high[at], high)
        for world_, period, code, sector in keys:
            parts = [k for k in keys if k[1] == period and k[3] == sector and above(k[2]) == code]
            if parts:
                self.sums((world_, period, code, sector), parts)
            if sector == "T":
                split = [k for k in keys if k[1:3] == (period, code) and k[3] != "T"]
                if split:
                    self.sums((world_, period, code, sector), split)

    def sums(self, total, parts):
        self.rows.append(({self.cell(total): 1.0, **{self.cell(k): -1.0 for k in parts}}, 0.0, 0.0))

    def within(self, one, other, bound):
        """Two unknowns differ by at most so much."""
        self.rows.append(({self.cell(one): 1.0, self.cell(other): -1.0}, -bound, bound))

    def between(self, key, low, high):
        at = self.cell(key)
        self.low[at], self.high[at] = max(self.low[at], low), min(self.high[at], high)

    def around(self, start):
        """The rows that tie a cell to others that are not known for sure, however far."""
        loose = [low < high for low, high in zip(self.low, self.high, strict=True)]
        of_cell = {}
        for i, (weights, *_) in enumerate(self.rows):
            for at in weights:
                of_cell.setdefault(at, []).append(i)
        rows, cells, waiting = set(), {start}, [start]
        while waiting:
            for i in of_cell.get(waiting.pop(), ()):
                if i not in rows:
                    rows.add(i)
                    fresh = {at for at in self.rows[i][0] if loose[at]} - cells
                    cells |= fresh
                    waiting += fresh
        return sorted(rows)

    def interval(self, key):
        """The least and the most that an unknown can be, in whole numbers."""
        at = self.cell(key)
        rows = [self.rows[i] for i in self.around(at)]
        cells = sorted({at, *(cell for weights, *_ in rows for cell in weights)})
        place = {cell: i for i, cell in enumerate(cells)}
        matrix = np.zeros((max(len(rows), 1), len(cells)))
        low, high = np.full(len(matrix), -np.inf), np.full(len(matrix), np.inf)
        for i, (weights, lower, upper) in enumerate(rows):
            for column, weight in weights.items():
                matrix[i, place[column]] = weight
            low[i], high[i] = lower, upper
        ends = []
        for sign in (1.0, -1.0):
            cost = np.zeros(len(cells))
            cost[place[at]] = sign
            found = milp(
                cost,
                constraints=LinearConstraint(matrix, low, high),
                bounds=(np.array(self.low)[cells], np.minimum(np.array(self.high)[cells], 1e6)),
                integrality=np.ones(len(cells)),
            )
            assert found.status == 0, found.message
            ends.append(round(found.fun * sign))
        return ends[0], ends[1]

    def narrowest(self):
        """The width of the narrowest interval of all that is hidden."""
        ends = [self.interval(key) for key in sorted(self.hidden)]
        return min((high - low for low, high in ends), default=np.inf)


def read(attacker, ask, release, **how):
    """All count tables of a release."""
    tables = {row[0] for row in ask(release, "SELECT table_name FROM duckdb_tables()")}
    for table, query in (("bijstand_per_regio", BIJSTAND), ("zzp_per_regio", ZZP), ("zzp_per_sector", SECTOR)):
        if table in tables:
            attacker.read(ask(release, query), **how)
    return attacker


NORM = {"intern": (5, 3), "open": (13, 5)}
"""Per audience the least count that it is shown and the width that a hidden one must keep."""


def withstands(ask, audience, *releases):
    least, width = NORM[audience]
    attacker = Attacker(least=least)
    for release in releases:
        read(attacker, ask, release)
    assert attacker.hidden, "nothing is hidden, so nothing is tried"
    return attacker.narrowest() >= width


def test_the_attacker_finds_what_simple_masking_leaves(ask):
    """A hidden buurt in a wijk of which all the rest is shown: 7 of 31, with everything exact."""
    attacker = Attacker(base=1, least=10)
    rows = [("GM1916", "T", 31, "", "x"), ("WK191600", "T", 31, "", "x"), ("BU19160001", "T", 24, "", "x")]
    attacker.read([*rows, ("BU19160000", "T", None, "geheim", "x")])
    assert attacker.interval(("now", "x", "BU19160000", "T")) == (7, 7)


@pytest.mark.parametrize("audience", ["intern", "open"])
def test_all_tables_of_a_release_together_give_nothing_away(factory, ask, audience):
    factory.zzp({"BU19160000": 3, "BU19160001": 24}, {"WK191600": {"A": 60, "B": 4, "C": 3}})
    release, _ = factory.release(audience)
    assert withstands(ask, audience, release)


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 11, 12, 27]), min_size=8, max_size=8))
def test_margins_of_any_counts_give_nothing_away(factory, ask, buurten, counts):
    factory.bijstand({"2020-01": dict(zip(buurten, counts, strict=False))}, unknown=counts[-1])
    for audience in ("intern", "open"):
        candidate = factory.candidate(audience)
        if candidate.record["tabellen"]["bijstand_per_regio"]["aantallen"]["geheim"]:
            assert withstands(ask, audience, candidate)


def test_a_breakdown_that_pins_its_parts_is_seen(factory, ask):
    """All of a wijk in one sector beside two of 1: totals by buurt and by sector are one system."""
    factory.zzp({f"BU191600{b:02}": n for b, n in enumerate((22, 22, 1, 2))}, {"WK191600": {"A": 45, "B": 1, "C": 1}})
    for audience in ("intern", "open"):
        release, _ = factory.release(audience)
        assert withstands(ask, audience, release)


def test_a_second_breakdown_and_the_same_count_in_a_second_table_are_one_system(factory, ask):
    factory.zzp({"BU19160000": 3}, {"WK191600": {"A": 60, "B": 2, "C": 1}})
    factory.sql(
        "CREATE TABLE marts.zzp_per_soort AS SELECT * REPLACE (CASE sector_code WHEN 'A' THEN 'B' WHEN 'B' THEN 'A' "
        "ELSE sector_code END AS sector_code) FROM marts.zzp_per_sector; "
        "ALTER TABLE marts.zzp_per_soort RENAME sector_code TO soort_code; "
        "ALTER TABLE marts.zzp_per_soort RENAME sector_naam TO soort_naam"
    )
    factory.specs["zzp_per_soort"] = factory.specs["zzp_per_sector"] | {"total_of": {"soort_code": "T001081"}}
    factory.manifest()
    release, _ = factory.release("intern")
    assert {facts["staat"] for facts in release.record["tabellen"].values()} == {"actueel"}
    attacker = read(Attacker(), ask, release)
    rows = ask(release, SECTOR.replace("sector_code", "soort_code").replace("zzp_per_sector", "zzp_per_soort"))
    attacker.read([(code, kind if kind == "T" else f"soort {kind}", *rest) for code, kind, *rest in rows])
    # rows of both breakdowns under one wijk may not be added up together
    attacker.rows = [row for row in attacker.rows if not _mixes(attacker, row[0])]
    assert attacker.narrowest() >= 3


def _mixes(attacker, weights):
    name = {at: key for key, at in attacker.number.items()}
    kinds = {name[at][3].startswith("soort") for at in weights if name[at][3] != "T"}
    return len(kinds) > 1


def test_intern_and_open_together_tell_no_more_than_intern(factory, ask):
    factory.bijstand({"2020-01": {"BU19160000": 3, "BU19160001": 8, "BU19160100": 12, "BU19160101": 11}}, unknown=9)
    intern, _ = factory.release("intern")
    open_, _ = factory.release("open")
    shown = {row[0]: row[2] for row in ask(intern, BIJSTAND)}
    for code, _, value, status, _ in ask(open_, BIJSTAND):
        assert value is None or value == shown[code], "what open shows, intern shows"
        if shown[code] is None:
            assert status == "geheim"
    attacker = read(Attacker(), ask, intern)
    narrowest = attacker.narrowest()
    read(attacker, ask, open_, least=13, mine=False)
    assert attacker.narrowest() == narrowest >= 3


def test_what_is_shown_is_the_same_whatever_is_hidden(factory):
    """Another count behind the same mark, with totals that round the same, changes nothing for anyone."""
    contents = set()
    for hidden in (1, 2, 3):
        factory.bijstand({"2020-01": {"BU19160000": hidden, "BU19160001": 24, "BU19160100": 0}}, unknown=10)
        contents |= {factory.candidate(audience).content for audience in ("intern", "open")}
    assert len(contents) == 2


def test_who_knows_the_norm_knows_what_a_rounded_count_is_at_least(factory, ask):
    release, _ = factory.release("open")
    assert all(row[2] is None or row[2] == 0 or row[2] >= 15 for row in ask(release, BIJSTAND)), "13 rounds to 15"


def test_a_rate_times_its_denominator_gives_the_rounded_count(factory, ask):
    release, _ = factory.release("intern")
    rows = ask(release, "SELECT waarde::DOUBLE * noemer / 1000, teller FROM bijstand_per_regio WHERE noemer > 0")
    assert rows
    assert all(teller is None or abs(count - teller) < 0.05 for count, teller in rows)
    assert all(count is None for count, teller in rows if teller is None)


def test_the_unknown_buurt_is_masked_like_any_other(factory, ask):
    factory.bijstand({"2020-01": {}}, unknown=3)
    release, _ = factory.release("intern")
    query = "SELECT DISTINCT status, teller, waarde FROM bijstand_per_regio WHERE regio_niveau = 'ONB'"
    assert ask(release, query) == [("geheim", None, None)]


def test_one_mark_for_all_that_is_hidden(factory, ask):
    factory.zzp({}, {"WK191600": {"A": 80, "B": 0, "C": 0}})
    release, _ = factory.release("open")
    for table in ("bijstand_per_regio", "zzp_per_sector"):
        marks = {row[0] for row in ask(release, f"SELECT DISTINCT status FROM {table}")}
        assert marks <= {"verstrekt", "afgerond", "geheim", "onbekend", "nvt"}
        columns = {row[0] for row in ask(release, f"SELECT column_name FROM (DESCRIBE {table})")}
        assert not columns & {"primair", "reden", "laag", "hoog", "is_hidden", "geheime_delen"}


class TestCbs:
    """CBS publishes on the same people; its figures are in the attacker's system."""

    def with_cbs(self, factory, figures, room=0):
        fact = {"telling": "bijstand", "indicator": "bijstand_personen", "soort": "gelijk", "afronding": 1}
        factory.bijstand({"2020-12": {"BU19160000": 3, "BU19160001": 4, "BU19160002": 30, "BU19160003": 41}})
        for code, value in figures.items():
            factory.sql(
                "INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten VALUES "
                f"(2020, '{code}', 'bijstand_personen', {value})"
            )
        spec = factory.specs["bijstand_per_regio"]
        factory.specs["bijstand_per_regio"] = spec | {"cbs": [fact | {"tolerantie": room, "maand": 12}]}
        factory.manifest()

    def test_a_figure_that_tells_a_hidden_count_refuses_the_table(self, factory):
        factory.zzp({})
        self.with_cbs(factory, {"BU19160000": 3})
        release, _ = factory.release("intern")
        facts = release.record["tabellen"]["bijstand_per_regio"]
        assert facts["staat"] == "ontbreekt"
        assert facts["reden"].startswith("bescherming: 2020-12")
        assert "BU19160000" not in str(release.record), "cells are named in the vault alone"

    def test_a_total_of_cbs_is_reckoned_with(self, factory, ask):
        """CBS's wijk of 78 beside our rounded parts would pin 3 + 4 = 7: more is hidden."""
        self.with_cbs(factory, {"WK191600": 78})
        release, _ = factory.release("intern")
        assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
        attacker = read(Attacker(), ask, release)
        attacker.between(("now", "2020-12", "WK191600", "T"), 78, 78)
        assert attacker.narrowest() >= 3

    def test_a_figure_of_another_month_says_nothing(self, factory):
        self.with_cbs(factory, {"BU19160000": 3})
        factory.bijstand({"2020-11": {"BU19160000": 3, "BU19160001": 4}})
        spec = factory.specs["bijstand_per_regio"]
        cbs = {"telling": "bijstand", "indicator": "bijstand_personen", "soort": "gelijk", "afronding": 1, "maand": 12}
        factory.specs["bijstand_per_regio"] = spec | {"cbs": [cbs]}
        factory.manifest()
        assert factory.release("intern")[0].record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"


class TestEarlierReleases:
    """Knowledge does not go away: what was ever shown stays known."""

    def norms(self, factory, revision, more=""):
        factory.norms(
            "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, doelgroepen: {intern: {minimum: 5, "
            f"afronding: 1, bescherming: 3}}}}, herziening_maximaal: {revision}{more}}}"
        )

    def test_unchanged_counts_are_shown_as_before_without_solving(self, factory):
        first, _ = factory.release("intern")
        candidate = factory.candidate("intern")
        assert candidate.content == first.content
        assert candidate.record["poort"]["blokken_opgelost"] == 0

    def test_one_arrival_does_not_tell_the_hidden(self, factory, ask):
        """One more in a buurt, everything exact: both versions together, at most one apart per figure."""
        self.norms(factory, 1)
        before = {"BU19160000": 3, "BU19160001": 24, "BU19160002": 31, "BU19160100": 4}
        factory.bijstand({"2020-01": before})
        first, _ = factory.release("intern")
        factory.bijstand({"2020-01": before | {"BU19160001": 25}})
        second, _ = factory.release("intern")
        attacker = Attacker(base=1)
        attacker.read(ask(first, BIJSTAND), world="toen")
        attacker.read(ask(second, BIJSTAND))
        for world, period, code, sector in list(attacker.number):
            if world == "now":
                attacker.within(("now", period, code, sector), ("toen", period, code, sector), 1)
        assert attacker.narrowest() >= 3

    @pytest.mark.parametrize(
        ("code", "count"),
        [
            ("BU19160000", 24),
            ("BU19160000", 4),
            ("BU19160001", 25),
            ("BU19160001", 3),
            ("BU19160101", 0),
            ("ONB1916", 9),
        ],
    )
    @pytest.mark.parametrize("base", [1, 5])
    def test_who_knows_which_cell_was_corrected_learns_no_more_than_was_proved(self, factory, ask, code, count, base):
        """Of two releases only one buurt and what it is a part of differ; the attacker knows that, and subtracts."""
        factory.norms(
            "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, doelgroepen: {intern: {minimum: 5, "
            f"afronding: {base}, bescherming: 3}}}}, herziening_maximaal: geen}}"
        )
        counts = {"BU19160000": 3, "BU19160001": 24, "BU19160002": 31, "BU19160100": 4, "BU19160101": 26}
        versions = [(counts, 12), (counts, count) if code == "ONB1916" else (counts | {code: count}, 12)]
        attacker = Attacker(base=base)
        for number, (cells, unknown) in enumerate(versions):
            factory.bijstand({"2020-01": cells}, unknown=unknown)
            release, is_new = factory.release("intern")
            assert is_new or base == 5, "rounded it may look the same"
            assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
            attacker.read(ask(release, BIJSTAND), world=number)
        changed = {"GM1916", code} | ({"WK" + code[2:8]} if code.startswith("BU") else set())
        if code == "ONB1916":
            changed |= {"GM0518", "ONB0518"}
        for _, period, region, sector in [key for key in attacker.number if key[0] == 0 and key[2] not in changed]:
            attacker.within((0, period, region, sector), (1, period, region, sector), 0)
        assert attacker.narrowest() >= 3

    def test_a_table_that_left_and_came_back_otherwise_is_two_figures(self, factory, ask):
        """Sectors as they first were, then otherwise under the same totals, then gone, then as first: none is lost."""
        first, other = {"WK191600": {"A": 60, "B": 12, "C": 8}}, {"WK191600": {"A": 60, "B": 4, "C": 16}}
        factory.norms(
            "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, doelgroepen: {intern: {minimum: 5, "
            "afronding: 1, bescherming: 3}}, herziening_maximaal: geen}"
        )
        attacker, shown = Attacker(base=1), []
        for sectors in (first, other, None, other):
            factory.zzp({}, sectors)
            if sectors is None:
                factory.specs.pop("zzp_per_sector")
                factory.manifest()
            release, _ = factory.release("intern")
            shown.append(release)
            if sectors is not None:
                assert release.record["tabellen"]["zzp_per_sector"]["staat"] == "actueel"
        for number, release in enumerate((shown[0], shown[1])):
            attacker.read(ask(release, ZZP) + ask(release, SECTOR), world=number)
        for _, period, code, sector in [key for key in attacker.number if key[0] == 0]:
            if (code, sector) not in {(c, s) for c in ("WK191600", "GM1916") for s in "BC"}:
                attacker.within((0, period, code, sector), (1, period, code, sector), 0)
        assert attacker.narrowest() >= 3
        assert ask(shown[3], f"{SECTOR} ORDER BY ALL") == ask(shown[1], f"{SECTOR} ORDER BY ALL")

    def test_a_revision_that_would_tell_is_refused_and_the_last_version_stays(self, factory, ask):
        """Hidden yesterday, and today only it has changed, by more than may be: the difference would be its own."""
        self.norms(factory, 0)
        before = {"BU19160000": 3, "BU19160001": 24, "BU19160100": 4}
        factory.bijstand({"2020-01": before})
        first, _ = factory.release("intern")
        factory.bijstand({"2020-01": before | {"BU19160000": 2}})
        second, is_new = factory.release("intern")
        facts = second.record["tabellen"]["bijstand_per_regio"]
        assert is_new
        assert (facts["staat"], facts["uit"]) == ("verouderd", first.id)
        assert ask(second, f"{BIJSTAND} ORDER BY ALL") == ask(first, f"{BIJSTAND} ORDER BY ALL")
        assert "herziening_maximaal" in facts["reden"]
        told = factory.ledger.last("refusal", "intern").payload["tabellen"]
        assert told == {"bijstand_per_regio": facts["reden"]}
        assert "BU19160000" not in str(second.record)

    def test_a_withdrawn_release_stays_known(self, factory, ask):
        self.norms(factory, 1)
        before = {"BU19160000": 3, "BU19160001": 24, "BU19160100": 4}
        factory.bijstand({"2020-01": before})
        first, _ = factory.release("intern")
        withdraw(factory.settings.paths, factory.ledger, "intern", first.id, "toets", "anna")
        factory.bijstand({"2020-01": before | {"BU19160001": 25}})
        second, _ = factory.release("intern")
        attacker = Attacker(base=1)
        old = factory.settings.paths.releases / "intern" / "ingetrokken" / first.id
        attacker.read(ask(type(first)(old, first.record), BIJSTAND), world="toen")
        attacker.read(ask(second, BIJSTAND))
        for world, period, code, sector in list(attacker.number):
            if world == "now":
                attacker.within(("now", period, code, sector), ("toen", period, code, sector), 1)
        assert attacker.narrowest() >= 3

    def test_new_norms_do_not_show_an_old_period_on_another_grid(self, factory, ask):
        factory.bijstand({"2020-01": {"BU19160000": 24}})
        factory.release("intern")
        factory.norms(
            "{versie: 2, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, "
            "doelgroepen: {intern: {minimum: 3, afronding: 3, bescherming: 1}}}"
        )
        factory.bijstand({"2020-01": {"BU19160000": 24}, "2020-02": {"BU19160000": 23}})
        release, _ = factory.release("intern")
        query = "SELECT DISTINCT periode, teller FROM bijstand_per_regio WHERE regio_code = 'BU19160000' ORDER BY 1"
        assert ask(release, query) == [("2020-01", 25), ("2020-02", 24)]

    def test_norms_that_open_would_see_first_hold_for_intern_too(self, factory):
        factory.norms(
            "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, "
            "doelgroepen: {open: {minimum: 10, afronding: 10, bescherming: 5}}}"
        )
        factory.release("open")
        factory.norms(
            "{versie: 2, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, doelgroepen: "
            "{intern: {minimum: 3, afronding: 3, bescherming: 1}, open: {minimum: 10, afronding: 9, bescherming: 5}}}"
        )
        release, _ = factory.release("intern")
        assert list(release.record["normen"]["bijstand_per_regio"]) == ["open:10/10/gewoon/5/-"]

    def test_other_borders_of_the_same_period_are_refused(self, factory):
        factory.zzp({})
        factory.release("intern")
        factory.sql("UPDATE marts.bijstand_per_regio SET indeling_jaar = 2021, noemer = NULL, waarde = teller")
        release, _ = factory.release("intern")
        facts = release.record["tabellen"]["bijstand_per_regio"]
        assert facts["staat"] == "verouderd"
        assert "in de grenzen van 2020" in facts["reden"]

    def test_a_missing_release_stops_everything(self, factory):
        first, _ = factory.release("intern")
        factory.bijstand({"2020-01": {"BU19160000": 30}})
        second, _ = factory.release("intern")
        first.folder.rename(factory.folder / "weg")
        with pytest.raises((EvidenceError, ReleaseError), match=r"reservekopie|backup"):
            factory.release("intern")
        assert current(factory.settings.paths, "intern").id == second.id

    def test_a_release_that_was_changed_is_not_built_upon(self, factory, ask):
        """What was shown stands in the vault too: a file that was changed since teaches the gate nothing else."""
        self.norms(factory, "geen")
        factory.bijstand({"2020-01": {"BU19160000": 3, "BU19160001": 24}})
        release, _ = factory.release("intern")
        shown = ask(release, f"{BIJSTAND} ORDER BY ALL")
        release.database.chmod(0o600)
        with duckdb.connect(str(release.database)) as connection:
            connection.execute("UPDATE bijstand_per_regio SET teller = 99, waarde = 99, status = 'verstrekt'")
        factory.bijstand({"2020-01": {"BU19160000": 3, "BU19160001": 24}, "2020-02": {}})
        again = ask(factory.candidate("intern"), f"{BIJSTAND} ORDER BY ALL")
        assert [row for row in again if row[-1] == "2020-01"] == shown
        factory.dbt_results(model__f__bijstand_per_regio="error")
        with pytest.raises(ReleaseError, match="was changed after it was published"):
            factory.candidate("intern")

    def test_missing_or_changed_evidence_stops_everything(self, factory):
        release, _ = factory.release("intern")
        path = sealed_file(factory.settings.paths, release.id)
        kept = path.read_bytes()
        for content in (None, kept[:-1] + bytes([kept[-1] ^ 1])):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(EvidenceError, match="reservekopie"):
                factory.release("intern")
            path.write_bytes(kept)
        assert not factory.release("intern")[1]

    def test_a_rolled_back_ledger_stops_everything(self, factory):
        factory.release("intern")
        ledger = factory.settings.paths.ledger
        kept = {path: path.read_bytes() for path in ledger.parent.iterdir() if path.is_file()}
        factory.bijstand({"2020-01": {"BU19160000": 30}})
        factory.release("intern")
        for path in ledger.parent.iterdir():
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
        with pytest.raises((LedgerError, ReleaseError)):
            factory.release("intern")

    def test_no_time_is_no_release(self, factory):
        factory.zzp({})
        first, _ = factory.release("intern")
        self.norms(factory, "geen", ", tijdslimiet_s: 0")
        factory.bijstand({"2020-01": {"BU19160000": 3}, "2020-02": {"BU19160000": 3}})
        second, _ = factory.release("intern")
        facts = second.record["tabellen"]
        assert (facts["bijstand_per_regio"]["staat"], facts["bijstand_per_regio"]["uit"]) == ("verouderd", first.id)
        assert "de tijd was om" in facts["bijstand_per_regio"]["reden"]
        assert facts["zzp_per_regio"]["staat"] == "actueel", "unchanged, so nothing had to be solved"

    def test_whatever_breaks_while_protecting_is_no_release(self, factory, monkeypatch):
        factory.zzp({})

        def broken(*_, **__):
            raise ZeroDivisionError

        monkeypatch.setattr("quality.disclosure.engine.protect", broken)
        with pytest.raises(Exception, match="ZeroDivisionError tijdens het beveiligen"):
            factory.candidate("intern")


def recoded(code):
    """Everything of GM0518 and GM1916 in GM1999, which took them over: wijken 50 and on are those of GM0518."""
    if code.startswith("BU0518"):
        return f"BU19995{code[7:]}"
    return code.replace("1916", "1999").replace("ONB0518", "ONB1999")


class TestBorders:
    """The same period in other borders: what a map of both tells is known to whoever reads both."""

    COUNTS: ClassVar = {"BU19160000": 3, "BU19160001": 24, "BU19160002": 31, "BU19160100": 4, "BU05180002": 2}

    def release(self, factory, base=1, **how):
        factory.norms(
            "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, doelgroepen: {intern: {minimum: 5, "
            f"afronding: {base}, bescherming: 3}}}}, herziening_maximaal: geen}}"
        )
        factory.bijstand({"2020-01": self.COUNTS}, unknown=6, **how)
        return factory.release("intern")[0]

    def borders(self, factory, places, rest="zelfde_code", ended=()):
        told = [{"van": 2020, "naar": 2021, "bron": "toets", "overige": rest, "gebieden": places}]
        (factory.folder / "policy" / "grenzen.yaml").write_text(yaml.safe_dump(told))
        factory.sql(
            "CREATE OR REPLACE TABLE raw_cbs.herindelingen (datum DATE, soort VARCHAR, van_code VARCHAR, "
            "naar_code VARCHAR)"
        )
        for van, naar in ended:
            factory.sql(f"INSERT INTO raw_cbs.herindelingen VALUES ('2021-01-01', 'opgeheven', '{van}', '{naar}')")

    def attack(self, ask, before, after, groups, base=1):
        attacker = Attacker(base=base)
        attacker.read(ask(before, BIJSTAND), world="toen")
        attacker.read(ask(after, BIJSTAND), world="nu")
        for was, became in groups:
            row = {attacker.cell(("toen", "2020-01", code, "T")): 1.0 for code in was}
            row |= {attacker.cell(("nu", "2020-01", code, "T")): -1.0 for code in became}
            attacker.rows.append((row, 0.0, 0.0))
        return attacker.narrowest()

    @pytest.mark.parametrize("base", [1, 5])
    def test_two_municipalities_and_the_one_that_took_them_over_are_one_system(self, factory, ask, buurten, base):
        first = self.release(factory, base)
        regions = [*buurten, *{"WK" + code[2:8] for code in buurten}]
        self.borders(
            factory,
            {code: [recoded(code)] for code in buurten},
            "onbekend",
            [("GM0518", "GM1999"), ("GM1916", "GM1999")],
        )
        became = {code: recoded(code) for code in (*buurten, "ONB1916", "ONB0518")}
        second = self.release(factory, base, year=2021, became=became)
        assert second.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
        groups = [([code], ["WK" + recoded("BU" + code[2:] + "00")[2:8] if code[:2] == "WK" else recoded(code)])
                  for code in regions]  # fmt: skip
        groups += [(["ONB1916", "ONB0518"], ["ONB1999"]), (["GM1916", "GM0518"], ["GM1999"])]
        assert self.attack(ask, first, second, groups, base) >= 3

    @pytest.mark.parametrize("base", [1, 5])
    def test_a_buurt_and_the_parts_that_it_was_split_into_are_one_system(self, factory, ask, buurten, base):
        """24 were shown, and now 21 beside 3 that must be hidden: the difference would tell them."""
        first = self.release(factory, base)
        assert (24 if base == 1 else 25) in {row[2] for row in ask(first, BIJSTAND) if row[0] == "BU19160001"}
        self.borders(factory, {"BU19160001": ["BU19160001", "BU19160009"]})
        became = {"BU19160001": {"BU19160001": 21, "BU19160009": 3}}
        second = self.release(factory, base, year=2021, became=became)
        assert second.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
        same = [code for code in buurten if code != "BU19160001"]
        same += ["WK191600", "WK191601", "WK191602", "WK051800", "WK051801", "GM1916", "GM0518", "ONB1916", "ONB0518"]
        groups = [([code], [code]) for code in same] + [(["BU19160001"], ["BU19160001", "BU19160009"])]
        assert self.attack(ask, first, second, groups, base) >= 3

    @pytest.mark.parametrize("base", [1, 5])
    def test_land_that_went_to_a_neighbour_ties_both(self, factory, ask, buurten, base):
        """3 of 24 went to the next municipality: neither may show what with the other would tell the 3."""
        first = self.release(factory, base)
        self.borders(factory, {"BU19160001": ["BU19160001", "BU05180009"]})
        became = {"BU19160001": {"BU19160001": 21, "BU05180009": 3}}
        second = self.release(factory, base, year=2021, became=became)
        if second.record["tabellen"]["bijstand_per_regio"]["staat"] != "actueel":
            assert base == 1, "exact there may be no safe pattern"
            return
        same = [code for code in buurten if code != "BU19160001"]
        same += ["WK191601", "WK191602", "WK051801", "ONB1916", "ONB0518"]
        groups = [([code], [code]) for code in same]
        groups += [(["BU19160001"], ["BU19160001", "BU05180009"]), (["WK191600", "WK051800"], ["WK191600", "WK051800"])]
        assert self.attack(ask, first, second, [*groups, (["GM1916", "GM0518"], ["GM1916", "GM0518"])], base) >= 3

    def test_what_nobody_explains_is_refused_with_the_remedy(self, factory):
        first = self.release(factory)
        self.borders(factory, {}, "onbekend")
        second = self.release(factory, year=2021)
        facts = second.record["tabellen"]["bijstand_per_regio"]
        assert (facts["staat"], facts["uit"]) == ("verouderd", first.id)
        assert "vul grenzen.yaml in de beleidsmap aan (van: 2020, naar: 2021)" in facts["reden"]

    def test_cbs_says_itself_what_did_not_change(self, factory, buurten):
        self.release(factory)
        self.borders(factory, {}, "onbekend")
        factory.sql("ALTER TABLE raw_cbs.kerncijfers_wijken_en_buurten ADD COLUMN measure_titel VARCHAR")
        factory.sql("ALTER TABLE raw_cbs.kerncijfers_wijken_en_buurten ADD COLUMN string_value VARCHAR")
        connect, kept = factory._connect, "raw_cbs.kerncijfers_wijken_en_buurten"
        for code in [*buurten, *{"WK" + code[2:8] for code in buurten}]:
            factory.sql(
                f"INSERT INTO {kept} VALUES (2021, '{code}', NULL, NULL, 'Indelingswijziging wijken en buurten', '1 ')"
            )
        factory.sql(f"CREATE TABLE raw_cbs.bewaard AS FROM {kept}")
        factory._connect = lambda: _restored(connect, kept)
        second = self.release(factory, year=2021)
        assert second.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"


@contextmanager
def _restored(connect, kept):
    with connect() as connection:
        connection.execute(f"CREATE OR REPLACE TABLE {kept} AS FROM raw_cbs.bewaard")
        yield connection


LEAKS = {
    "een extra kolom": "ALTER TABLE marts.bijstand_per_regio ADD COLUMN teller_exact BIGINT",
    "de telling in waarde": "UPDATE marts.bijstand_per_regio SET waarde = teller + 0.5 WHERE waarde IS NOT NULL",
    "een eigen noemer": "UPDATE marts.bijstand_per_regio SET noemer = 997, waarde = round(1000 * teller / 997, 2) "
    "WHERE noemer IS NOT NULL",
    "een ander CBS-cijfer als noemer": "INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten SELECT jaar, regio_code, "
    "'vestigingen', 500 FROM raw_cbs.kerncijfers_wijken_en_buurten; "
    "UPDATE marts.bijstand_per_regio SET noemer = 500, waarde = round(1000 * teller / 500, 2) WHERE noemer IS NOT NULL",
    "een noemer van een ander jaar": "INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten SELECT 2021, regio_code, "
    "indicator_sleutel, 900 FROM raw_cbs.kerncijfers_wijken_en_buurten; "
    "UPDATE marts.bijstand_per_regio SET noemer = 900, waarde = round(1000 * teller / 900, 2) WHERE noemer IS NOT NULL",
    "een noemer bij het aantal": "UPDATE marts.bijstand_per_regio SET noemer = 1000 "
    "WHERE indicator = 'bijstand_aantal' AND regio_niveau = 'BU'",
    "een noemer alleen waar er genoeg zijn": "UPDATE marts.bijstand_per_regio SET noemer = NULL, waarde = NULL "
    "WHERE teller < 10 AND indicator <> 'bijstand_aantal'",
    "gebroken aantallen": "ALTER TABLE marts.bijstand_per_regio ALTER teller TYPE DOUBLE USING teller + 0.25",
    "negatieve aantallen": "UPDATE marts.bijstand_per_regio SET teller = -teller WHERE regio_niveau = 'BU'",
    "dezelfde cel tweemaal": "INSERT INTO marts.bijstand_per_regio SELECT * FROM marts.bijstand_per_regio LIMIT 3",
    "een eigen gebied": "UPDATE marts.bijstand_per_regio SET regio_niveau = 'PC6' WHERE regio_code = 'BU19160000'",
    "een code van een ander niveau": "UPDATE marts.bijstand_per_regio SET regio_code = 'BU1234' "
    "WHERE regio_code = 'BU19160000'",
    "een jaar naast zijn maanden": "INSERT INTO marts.bijstand_per_regio SELECT * REPLACE ('2020' AS periode) "
    "FROM marts.bijstand_per_regio",
    "een indicator zonder telling": "UPDATE marts.bijstand_per_regio SET indicator = 'anders' "
    "WHERE indicator = 'bijstand_aantal'",
    "een telling die per indicator verschilt": "UPDATE marts.bijstand_per_regio SET teller = teller + 5, "
    "waarde = teller + 5 WHERE noemer IS NULL AND regio_code = 'BU19160001'",
    "twee indelingen": "INSERT INTO marts.bijstand_per_regio SELECT * REPLACE (2021 AS indeling_jaar, NULL AS noemer, "
    "NULL AS waarde) FROM marts.bijstand_per_regio",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_mart_that_could_tell_more_is_refused_and_named(factory, leak):
    factory.zzp({})
    factory.sql(LEAKS[leak])
    factory.manifest()
    release, _ = factory.release("open")
    facts = release.record["tabellen"]["bijstand_per_regio"]
    assert facts["staat"] == "ontbreekt"
    assert release.record["tabellen"]["zzp_per_regio"]["staat"] == "actueel"


def test_a_mart_without_a_spec_is_refused_and_named(factory):
    factory.zzp({})
    factory.specs["bijstand_per_regio"] = None
    factory.manifest()
    reason = factory.candidate("open").record["tabellen"]["bijstand_per_regio"]["reden"]
    assert reason.endswith("het dbt-model heeft geen disclosure-spec: zet er `config: meta: disclosure:` bij")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"levels": ["BU", "WK"]}, "levels: GM ontbreekt"),
        ({"niveaus": ["GM"]}, "`niveaus` is daar geen sleutel"),
        (
            {"levels": ["buurt", "GM"]},
            "bij `levels.0` staat iets dat er niet kan staan (verwacht: 'BU', 'WK', 'P6', 'PC' of 'GM')",
        ),
        ({"telling": {}}, "bij policy frequentie ontbreekt telling"),
        ({"policy": "magnitude"}, "policy magnitude in de disclosure-spec"),
    ],
)
def test_what_is_wrong_with_a_spec_is_told_in_dutch(wrong, told):
    spec = {"policy": "frequentie", "telling": {"n": ["n"]}, "count": "n", "levels": ["GM"]}
    with pytest.raises(ProtectionError, match=re.escape(told)):
        parse_spec(spec | {"by": ["periode", "indicator"]} | wrong)


def test_a_mart_that_calls_itself_public_must_prove_it(factory):
    factory.zzp({})
    factory.specs["bijstand_per_regio"] = {"policy": "openbaar"}
    factory.manifest()
    facts = factory.candidate("open").record["tabellen"]["bijstand_per_regio"]
    assert facts["staat"] == "ontbreekt"
    assert facts["reden"].startswith("openbare_bron")
    factory.extra_parents["bijstand_per_regio"] = ["source.f.raw_cbs.kerncijfers_wijken_en_buurten"]
    factory.manifest()
    assert factory.candidate("open").record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
