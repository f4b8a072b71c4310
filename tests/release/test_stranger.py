"""Attacks by someone who did not make the gate: what two tables, or a table and its gaps, tell side by side."""

from __future__ import annotations

import pytest

from assets.release.gate import GateError
from datafabriek.ledger import Ledger
from quality.privacy.linkages import refuse_unregistered
from quality.privacy.policy import PolicyError

EXACT = (
    "{{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, doelgroepen: {{intern: {{minimum: 5, "
    "afronding: 1, bescherming: 3}}}}, herziening_maximaal: {revision}}}"
)
TOTALS = {
    "zzp_per_regio": "SELECT regio_code, teller FROM zzp_per_regio WHERE indicator = 'zzp_vestigingen_aantal'",
    "zzp_per_sector": "SELECT regio_code, teller FROM zzp_per_sector WHERE sector_code = 'T001081'",
}


def three_wijken(factory):
    """One wijk of 3; hiding a second one costs least in another wijk by buurt than by sector."""
    buurten = {f"BU1916{wijk:02}{b:02}": 5 if wijk == 1 else 0 for wijk in range(3) for b in range(4)}
    sectors = {"WK191600": {"A": 3}, "WK191601": {"A": 20}, "WK191602": {"A": 6, "B": 6, "C": 6}}
    factory.zzp(buurten | {"BU19160000": 3, "BU19160200": 18}, sectors)


def pinned(ask, *tables):
    """What the shown totals of tables leave for the wijk of 3, or None where too much is hidden."""
    shown = {}
    for release, table in tables:
        shown |= {code: n for code, n in ask(release, TOTALS[table]) if n is not None}
    others = ("WK191601", "WK191602", "ONB1916")
    whole = {"GM1916", *others} <= shown.keys()
    return shown["GM1916"] - sum(shown[code] for code in others) if whole else None


@pytest.mark.parametrize("revision", ["geen", 25])
@pytest.mark.parametrize("late", ["zzp_per_regio", "zzp_per_sector"])
def test_the_same_count_in_a_table_that_stayed_and_one_that_is_new_is_one_system(factory, ask, revision, late):
    """Each table fails dbt in turn, so each is protected alone; a release then holds both."""
    factory.norms(EXACT.format(revision=revision))
    three_wijken(factory)
    factory.dbt_results(**{f"model__f__{late}": "error"})
    factory.release("intern")
    (early,) = set(TOTALS) - {late}
    factory.dbt_results(**{f"model__f__{early}": "error"})
    release, _ = factory.release("intern")
    states = {name: facts["staat"] for name, facts in release.record["tabellen"].items()}
    assert states[early] == "verouderd"
    assert states[late] == "actueel", "it can be shown, as the other one is"
    assert pinned(ask, (release, early), (release, late)) is None


@pytest.mark.parametrize("at_once", [True, False])
def test_a_year_beside_its_month_is_no_way_round(factory, ask, at_once):
    """One table of a count per month and one per year are no block together: only one of them is shown."""
    factory.norms(EXACT.format(revision="geen"))
    three_wijken(factory)
    factory.sql("UPDATE marts.zzp_per_sector SET periode = '2020-01'")
    if not at_once:
        factory.dbt_results(model__f__zzp_per_sector="error")
        factory.release("intern")
        factory.dbt_results(model__f__zzp_per_sector="success")
    release, _ = factory.release("intern")
    facts = release.record["tabellen"]
    assert facts["zzp_per_regio"]["staat"] == "actueel"
    assert facts["zzp_per_sector"]["staat"] == "ontbreekt"
    told = Ledger(factory.settings.paths.ledger).events("refusal")[-1].payload
    assert "periodelengten" in str(told)


def test_a_renamed_table_is_the_same_count(factory, ask):
    factory.norms(EXACT.format(revision="geen"))
    three_wijken(factory)
    sector = factory.specs.pop("zzp_per_sector")
    factory.manifest()
    first, _ = factory.release("intern")
    del factory.specs["zzp_per_regio"]
    factory.specs["zzp_per_sector"] = sector
    factory.manifest()
    second, _ = factory.release("intern")
    assert second.record["tabellen"]["zzp_per_sector"]["staat"] == "actueel"
    assert pinned(ask, (first, "zzp_per_regio"), (second, "zzp_per_sector")) is None


def test_a_wijk_bounds_a_small_buurt_beside_one_that_is_not_known(factory, ask):
    """62 in the wijk, 30 and 30, one buurt not known and one of 2: shown together they would tell 1 or 2."""
    factory.norms(EXACT.format(revision="geen"))
    factory.zzp({})
    factory.bijstand({"2020-01": {"BU19160000": None, "BU19160001": 2, "BU19160002": 30, "BU19160003": 30}})
    for code, known, people in (("WK191600", 62, 4000), ("GM1916", 222, 12000)):
        factory.sql(
            f"UPDATE marts.bijstand_per_regio SET teller = {known}, status = 'verstrekt', waarde = CASE indicator "
            f"WHEN 'bijstand_aantal' THEN {known} ELSE round(1000.0 * {known} / {people}, 2) END, "
            f"noemer = CASE indicator WHEN 'bijstand_aantal' THEN NULL ELSE {people} END WHERE regio_code = '{code}'"
        )
    release, _ = factory.release("intern")
    assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
    told = "SELECT regio_code, teller FROM bijstand_per_regio WHERE indicator = 'bijstand_aantal'"
    shown = dict(ask(release, told))
    hidden = [code for code in ("BU19160001", "BU19160002", "BU19160003") if shown[code] is None]
    assert "BU19160001" in hidden
    assert shown["WK191600"] is None or len(hidden) > 1


def test_a_table_cannot_pass_for_public_by_hiding_what_it_reads():
    """A mart that names a declared table of persons without source() would have CBS's lineage, or none at all."""
    mart = {
        "resource_type": "model",
        "schema": "marts",
        "name": "openbaar",
        "config": {"contract": {"enforced": True}},
        "columns": {},
        "depends_on": {"nodes": []},
    }
    sources = {"source.f.raw_bijstand.bus": {"schema": "raw_bijstand", "name": "bus"}}
    manifest = {"nodes": {"model.f.openbaar": mart}, "sources": sources}
    read = {"model.f.openbaar": [("raw_bijstand", "bus")]}
    with pytest.raises(PolicyError, match=r"reads raw_bijstand\.bus by name"):
        refuse_unregistered(manifest, [], read=read)
    mart["depends_on"]["nodes"].append("source.f.raw_bijstand.bus")
    refuse_unregistered(manifest, [], read=read)


@pytest.mark.parametrize(
    "odd",
    [
        "ALTER TABLE marts.bijstand_per_regio ALTER noemer TYPE VARCHAR",
        "ALTER TABLE marts.bijstand_per_regio ALTER teller TYPE VARCHAR USING 'n ' || teller",
        "UPDATE marts.bijstand_per_regio SET status = NULL WHERE regio_niveau = 'BU'",
    ],
)
def test_a_table_that_cannot_be_reckoned_with_does_not_stop_the_others(factory, odd):
    factory.zzp({})
    factory.sql(odd)
    factory.manifest()
    states = {name: facts["staat"] for name, facts in factory.candidate("intern").record["tabellen"].items()}
    assert states == {"bijstand_per_regio": "ontbreekt", "zzp_per_regio": "actueel", "zzp_per_sector": "actueel"}


@pytest.mark.parametrize("sector", ["", "AND sector_code = 'B'"])
def test_what_one_table_does_not_know_takes_no_sum_from_who_reads_the_other(factory, ask, sector):
    """A wijk that is not known by sector still is the sum of its buurten in the table beside it."""
    factory.norms(EXACT.format(revision="geen"))
    factory.zzp({"BU19160000": 3}, {"WK191600": {"A": 63}})
    factory.sql(
        "UPDATE marts.zzp_per_sector SET teller = NULL, waarde = NULL, status = 'onbekend' "
        f"WHERE regio_code = 'WK191600' {sector}"
    )
    release, _ = factory.release("intern")
    states = {name: facts["staat"] for name, facts in release.record["tabellen"].items()}
    assert states["zzp_per_regio"] == states["zzp_per_sector"] == "actueel"
    shown = dict(ask(release, TOTALS["zzp_per_regio"]))
    buurten = [f"BU1916000{b}" for b in range(4)]
    assert shown["BU19160000"] is None
    assert shown["WK191600"] is None or sum(shown[code] is None for code in buurten) > 1


def test_which_rows_there_are_under_the_lowest_level_tells_nothing(factory, ask):
    """A buurt has a row of a sector only where somebody is: counting rows would bound the wijk from below."""
    factory.norms(EXACT.format(revision="geen")[:-1] + ", laagste_niveau: {zzp_per_sector: WK}}")
    factory.zzp({}, {"WK191600": {"A": 76, "B": 4}})
    factory.specs["zzp_per_sector"] = factory.specs["zzp_per_sector"] | {"levels": ["BU", "WK", "GM"]}
    wijk = [f"BU1916000{b}" for b in range(4)]
    cells = [(code, "A", 19) for code in wijk] + [(code, "B", 2) for code in wijk[:2]] + [(wijk[0], "C", 0)]
    others = ", ".join(map(str, cells))
    factory.sql(f"""INSERT INTO marts.zzp_per_sector
        SELECT code, 'Regio ' || code, 'BU', 2020, '2020', DATE '2020-01-01', 'zzp_vestigingen_aantal', sector,
            'Sector ' || sector, n, n, NULL, 'aantal', 'verstrekt', 'definitief', 'synthetisch'
        FROM (SELECT * FROM (VALUES {others}) UNION ALL
            SELECT regio_code, s, CASE s WHEN 'A' THEN 20 WHEN 'T001081' THEN 20 ELSE 0 END
            FROM marts.zzp_per_regio, (VALUES ('A'), ('B'), ('C'), ('T001081')) AS sectors(s)
            WHERE regio_niveau = 'BU' AND indicator = 'zzp_vestigingen_aantal'
                AND (s = 'T001081' OR regio_code NOT LIKE 'BU191600%')) AS cell(code, sector, n)""")
    factory.manifest()
    release, _ = factory.release("intern")
    levels = "SELECT regio_niveau, count(*) > 0 FROM zzp_per_sector GROUP BY 1 ORDER BY 1"
    assert ask(release, levels) == [("GM", True), ("ONB", True), ("WK", True)]


def test_a_cbs_figure_of_the_year_counts_in_other_borders_too(factory, ask):
    """CBS tells both buurten of 2020 exactly; the table shows 2020 in the borders of 2021, under the same codes."""
    factory.norms(EXACT.format(revision="geen"))
    factory.bijstand({"2020-12": {"BU19160000": 3, "BU19160001": 4}}, year=2021)
    factory.sql("INSERT INTO raw_cbs.kerncijfers_wijken_en_buurten VALUES (2020, 'BU19160000', 'telling', 3)")
    figure = {"telling": "bijstand", "indicator": "telling", "soort": "gelijk", "afronding": 1}
    factory.specs["bijstand_per_regio"] = factory.specs["bijstand_per_regio"] | {"cbs": [figure]}
    factory.manifest()
    with pytest.raises(GateError, match="niet bewezen"):
        factory.release("intern")


def test_a_sum_of_two_classes_under_another_name_is_refused(factory, ask):
    """80 in the wijk and 77 of sectors A and B together leave the 3 of sector C, which is hidden."""
    factory.norms(EXACT.format(revision="geen"))
    split = {"WK191600": (60, 17, 3), "WK191601": (50, 15, 15), "WK191602": (40, 20, 20)}
    split |= {"WK051800": (30, 15, 15), "WK051801": (30, 14, 16)}
    factory.zzp({}, {wijk: dict(zip("ABC", counts, strict=True)) for wijk, counts in split.items()})
    factory.sql("""CREATE TABLE marts.samen AS SELECT * EXCLUDE (sector_code, sector_naam, waarde, teller, noemer)
            REPLACE ('samen' AS indicator), sum(waarde)::DECIMAL(18, 2) AS waarde, sum(teller)::BIGINT AS teller,
            NULL::BIGINT AS noemer
        FROM marts.zzp_per_sector WHERE sector_code IN ('A', 'B') GROUP BY ALL""")
    factory.specs["samen"] = factory.specs["zzp_per_regio"] | {"telling": {"samen": ["samen"]}, "levels": ["WK", "GM"]}
    factory.manifest()
    facts = factory.candidate("intern").record["tabellen"]
    shown = {name for name in ("samen", "zzp_per_sector") if facts[name]["staat"] == "actueel"}
    assert len(shown) == 1, facts


def test_a_second_classification_made_of_the_first_is_refused(factory):
    """Sector A and B are one group in another table of the same count: no system knows that group and sectors nest."""
    factory.norms(EXACT.format(revision="geen"))
    split = {"WK191600": (60, 17, 3), "WK191601": (50, 15, 15), "WK191602": (40, 20, 20)}
    split |= {"WK051800": (30, 15, 15), "WK051801": (30, 14, 16)}
    factory.zzp({}, {wijk: dict(zip("ABC", counts, strict=True)) for wijk, counts in split.items()})
    factory.sql("""CREATE TABLE marts.zzp_per_groep AS
        SELECT * EXCLUDE (sector_code, sector_naam, waarde, teller, noemer), groep_code AS groep_naam,
            sum(teller)::DECIMAL(18, 2) AS waarde, sum(teller)::BIGINT AS teller, NULL::BIGINT AS noemer
        FROM (SELECT *, CASE sector_code WHEN 'T001081' THEN 'T' WHEN 'C' THEN 'rest' ELSE 'AB' END AS groep_code
            FROM marts.zzp_per_sector) GROUP BY ALL""")
    factory.specs["zzp_per_groep"] = factory.specs["zzp_per_sector"] | {"total_of": {"groep_code": "T"}}
    factory.manifest()
    facts = factory.candidate("intern").record["tabellen"]
    states = {name: facts[name]["staat"] for name in ("zzp_per_regio", "zzp_per_groep", "zzp_per_sector")}
    assert states == {"zzp_per_regio": "actueel", "zzp_per_groep": "actueel", "zzp_per_sector": "ontbreekt"}
    assert "laat een van beide indelingen weg" in facts["zzp_per_sector"]["reden"]
