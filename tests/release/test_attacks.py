"""Attacks on what is released. Each is tried on a released file, as a reader of it would."""

from __future__ import annotations

import itertools

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quality.norms import AudienceNorms
from quality.protection import assemble, close_blocks, codebook, mask, parse_spec

INTERN = AudienceNorms(minimum=5, afronding=5)
OPEN = AudienceNorms(minimum=10, afronding=5)


def shown_as(steps, largest=400):
    """What each count is shown as."""
    with duckdb.connect() as connection:
        codebook(connection, "boek", steps, largest)
        return dict(connection.execute("SELECT n, waarde FROM boek ORDER BY n").fetchall())


@pytest.mark.parametrize("hidden", range(1, 13))
def test_any_other_hidden_count_gives_the_same_file(factory, hidden):
    """Gemeente minus wijken, wijk minus buurten, rates, zeros: whatever is computed, 1 gives the same as 12."""
    before = factory.candidate("open").content
    factory.bijstand(
        {"2020-01": {"BU19160000": hidden, "BU19160001": 24, "BU19160100": 0, "BU19160101": 3}}, unknown=12
    )
    assert factory.candidate("open").content == before


def test_a_visible_count_is_known_to_the_base_and_no_better(factory):
    before = factory.candidate("intern").content
    for count, same in ((23, True), (27, True), (22, False), (28, False)):
        factory.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": count, "BU19160101": 3, "BU19160100": 0}}, 12)
        assert (factory.candidate("intern").content == before) is same


SPEC = {
    "policy": "frequentie",
    "count": "teller",
    "geo": "regio_code",
    "levels": ["BU", "WK", "GM"],
    "by": ["periode", "indicator"],
    "rates": {"waarde": {"numerator": "teller", "denominator": "noemer", "per": 1000}},
}


def protected(counts, steps, lowest="BU"):
    """All that a release of these counts per buurt (wijk, buurt) shows, as a set of rows."""
    leaves = [(f"BU0001{wijk:02}{buurt:02}", count) for (wijk, buurt), count in counts.items()]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE leaf (code VARCHAR, n BIGINT)")
        connection.executemany("INSERT INTO leaf VALUES (?, ?)", leaves)
        connection.execute("""
            CREATE TABLE t AS SELECT regio_code, left(regio_code, 2) AS regio_niveau, '2020' AS periode,
                'x' AS indicator, sum(n)::DECIMAL(18,2) AS waarde, sum(n)::BIGINT AS teller, NULL::BIGINT AS noemer,
                'verstrekt' AS status
            FROM (SELECT n, unnest([code, 'WK' || substr(code, 3, 6), 'GM' || substr(code, 3, 4)]) AS regio_code
                FROM leaf) GROUP BY ALL ORDER BY 1""")
        spec = parse_spec("t", SPEC)
        mask(connection, "t", spec, steps, lowest, ["2020"])
        assemble(connection, "t", "uit", spec, 100.0)
        return connection.execute("SELECT * FROM uit ORDER BY ALL").fetchall()


COUNTS = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 3)), st.integers(0, 60), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=COUNTS, data=st.data(), steps=st.sampled_from([[INTERN], [INTERN, OPEN], [OPEN]]))
def test_what_is_shown_is_a_function_of_parts_masked_by_themselves(counts, data, steps):
    """Swap every count for any other that is masked the same: nothing that is shown may change."""
    image = shown_as(steps, 80)
    alike = {
        key: [n for n, value in image.items() if value == image[count] and (n > 0) == (count > 0)]
        for key, count in counts.items()
    }
    other = {key: data.draw(st.sampled_from(choices)) for key, choices in alike.items()}
    assert protected(counts, steps) == protected(other, steps)


def test_a_reader_of_both_files_learns_nothing_from_the_open_one():
    intern, both = shown_as([INTERN]), shown_as([INTERN, AudienceNorms(minimum=10, afronding=15)])
    for one, other in itertools.combinations(range(300), 2):
        if intern[one] == intern[other] and (one > 0) == (other > 0):
            assert both[one] == both[other]


def test_nothing_below_the_norm_hides_behind_a_shown_value():
    for steps in ([INTERN], [INTERN, OPEN], [AudienceNorms(minimum=10, afronding=10)]):
        image = shown_as(steps)
        assert image[0] == 0
        assert all(image[n] is None for n in range(1, steps[-1].minimum))
        assert all(value is None or value % steps[-1].afronding == 0 for value in image.values())


def test_the_same_count_every_month_gives_nothing_to_average(factory, ask):
    factory.bijstand({f"2020-{month:02}": {"BU19160000": 23} for month in range(1, 13)})
    release, _ = factory.release("intern")
    query = "SELECT DISTINCT teller FROM bijstand_per_regio WHERE regio_code = 'BU19160000'"
    assert ask(release, query) == [(25,)]


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
        assert not columns & {"primair", "reden", "laag", "hoog", "is_dicht", "rij"}


class TestBreakdown:
    """Sectors per wijk beside establishments per buurt: the same count twice, masked each on its own."""

    def test_sectors_that_would_pin_the_buurten_are_hidden(self, factory, ask):
        # four buurten of 22 show 20 each: at most 88; all in sector A shows 90: at least 88. So 88, and 22 each.
        factory.zzp({f"BU191600{b:02}": 22 for b in range(4)}, {"WK191600": {"A": 88}})
        release, _ = factory.release("intern")
        query = "SELECT sector_code, teller, status FROM zzp_per_sector WHERE regio_code = 'WK191600' ORDER BY 1"
        assert ask(release, query) == [
            ("A", None, "geheim"),
            ("B", None, "geheim"),
            ("C", None, "geheim"),
            ("T001081", 80, "afgerond"),
        ]
        gemeente = "SELECT teller FROM zzp_per_sector WHERE regio_code = 'GM1916' AND sector_code = 'A'"
        assert ask(release, gemeente) == [(None,)], "a total with a closed block would stand for it"

    def test_a_total_is_the_figure_of_the_table_that_is_broken_down(self, factory, ask):
        factory.zzp({"BU19160000": 44}, {"WK191600": {"A": 60, "B": 41, "C": 3}})
        release, _ = factory.release("intern")
        totals = ask(release, "SELECT regio_code, teller FROM zzp_per_sector WHERE sector_code = 'T001081' ORDER BY 1")
        whole = ask(
            release,
            "SELECT regio_code, teller FROM zzp_per_regio WHERE indicator = 'zzp_vestigingen_aantal' "
            "AND regio_niveau <> 'BU' ORDER BY 1",
        )
        assert totals == whole

    @settings(max_examples=25, deadline=None)
    @given(buurten=st.lists(st.integers(0, 30), min_size=1, max_size=3), share=st.floats(0, 1))
    def test_every_part_keeps_the_interval_of_its_own_mask(self, buurten, share):
        """Brute force: of every set of counts that fits what is shown, take the least and most of each part."""
        first = round(sum(buurten) * share)
        sectors = [first, sum(buurten) - first]
        with duckdb.connect() as connection:
            columns = "regio_code, regio_niveau, periode, indicator, sector_code, waarde, teller, noemer, status"
            for table, rows in (
                ("t", [(f"BU000100{i:02}", "BU", "x", n) for i, n in enumerate(buurten)]),
                ("s", [("WK000100", "WK", code, n) for code, n in zip("AB", sectors, strict=True)]),
            ):
                values = ", ".join(
                    f"('{code}', '{level}', '2020', 'i', '{sector}', {n}::DECIMAL(18,2), {n}::BIGINT, "
                    "NULL::BIGINT, 'verstrekt')"
                    for code, level, sector, n in rows
                )
                connection.execute(f"CREATE TABLE {table} AS SELECT * FROM (VALUES {values}) AS v({columns})")
            whole = parse_spec("t", SPEC)
            broken = parse_spec("s", SPEC | {"levels": ["WK", "GM"], "total_of": {"sector_code": "T"}})
            mask(connection, "t", whole, [INTERN], "BU", ["2020"])
            mask(connection, "s", broken, [INTERN], "WK", ["2020"])
            closed = close_blocks(connection, "t", "s")
        image = shown_as([INTERN], 120)
        alike = [[n for n in range(110) if image[n] == image[c] and (n > 0) == (c > 0)] for c in (*buurten, *sectors)]
        k = len(buurten)
        fits = [v for v in itertools.product(*alike) if sum(v[:k]) == sum(v[k:])]
        narrowed = any({v[i] for v in fits} != set(choices) for i, choices in enumerate(alike))
        assert bool(closed) == narrowed


class TestEarlierReleases:
    """Knowledge does not go away: what was shown under a norm stays known."""

    def test_new_norms_do_not_show_an_old_period_on_another_grid(self, factory, ask):
        factory.bijstand({"2020-01": {"BU19160000": 24}})
        factory.release("intern")
        factory.norms(
            "{versie: 2, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, "
            "doelgroepen: {intern: {minimum: 3, afronding: 3}}}"
        )
        factory.bijstand({"2020-01": {"BU19160000": 24}, "2020-02": {"BU19160000": 23}})
        release, _ = factory.release("intern")
        query = "SELECT DISTINCT periode, teller FROM bijstand_per_regio WHERE regio_code = 'BU19160000' ORDER BY 1"
        assert ask(release, query) == [("2020-01", 25), ("2020-02", 24)]

    def test_norms_that_open_would_see_first_hold_for_intern_too(self, factory):
        factory.norms(
            "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, "
            "doelgroepen: {open: {minimum: 10, afronding: 10}}}"
        )
        factory.release("open")
        factory.norms(
            "{versie: 2, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, "
            "doelgroepen: {intern: {minimum: 3, afronding: 3}, open: {minimum: 10, afronding: 9}}}"
        )
        release, _ = factory.release("intern")
        assert list(release.record["normen"]["bijstand_per_regio"]) == ["open:10/10 vanaf:BU"]

    def test_other_lowest_parts_are_not_shown_for_an_old_period(self, factory):
        """Wijken rounded from the truth beside wijken summed from buurten would be a second look at both."""
        factory.release("intern")
        factory.specs["bijstand_per_regio"] = SPEC | {"levels": ["WK", "GM"]}
        factory.manifest()
        factory.sql("DELETE FROM marts.bijstand_per_regio WHERE regio_niveau = 'BU'")
        release, _ = factory.release("intern")
        facts = release.record["tabellen"]["bijstand_per_regio"]
        assert facts["staat"] == "verouderd"
        assert "eerdere leveringen begonnen bij BU" in facts["reden"]


LEAKS = {
    "een extra kolom": "ALTER TABLE marts.bijstand_per_regio ADD COLUMN teller_exact BIGINT",
    "de telling in waarde": "UPDATE marts.bijstand_per_regio SET waarde = teller + 0.5 WHERE waarde IS NOT NULL",
    "een eigen noemer": "UPDATE marts.bijstand_per_regio SET noemer = 997, waarde = round(1000 * teller / 997, 2) "
    "WHERE noemer IS NOT NULL",
    "gebroken aantallen": "ALTER TABLE marts.bijstand_per_regio ALTER teller TYPE DOUBLE USING teller + 0.25",
    "negatieve aantallen": "UPDATE marts.bijstand_per_regio SET teller = -teller WHERE regio_niveau = 'BU'",
    "dezelfde cel tweemaal": "INSERT INTO marts.bijstand_per_regio SELECT * FROM marts.bijstand_per_regio LIMIT 3",
    "een eigen gebied": "UPDATE marts.bijstand_per_regio SET regio_niveau = 'PC6' WHERE regio_code = 'BU19160000'",
    "een code van een ander niveau": "UPDATE marts.bijstand_per_regio SET regio_code = 'BU1234' "
    "WHERE regio_code = 'BU19160000'",
    "een jaar naast zijn maanden": "INSERT INTO marts.bijstand_per_regio SELECT * REPLACE ('2020' AS periode) "
    "FROM marts.bijstand_per_regio",
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
    assert "says nothing about disclosure" in reason


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


def test_the_same_count_in_a_second_table_is_refused(factory):
    factory.sql("CREATE TABLE marts.nog_eens AS SELECT * FROM marts.bijstand_per_regio")
    factory.specs["nog_eens"] = SPEC
    factory.manifest()
    facts = factory.candidate("open").record["tabellen"]["nog_eens"]
    assert facts["staat"] == "ontbreekt"
    assert "staat ook al in bijstand_per_regio" in facts["reden"]
