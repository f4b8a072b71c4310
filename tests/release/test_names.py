"""Figures in disguise: ranks, scores, intervals, words and names that would tell a count beside its protected one."""

from __future__ import annotations

import pytest

from assets.release.marts import read_marts
from assets.release.verify import verify
from quality.norms import load_norms

COUNTS = {"BU19160000": 3, "BU19160001": 24, "BU19160002": 31, "BU19160100": 8, "BU19160101": 11}
TABLE = "marts.bijstand_per_regio"
RATE = "bijstand_aantal_per_1000_inwoners"

DISGUISED = {
    "een rang als kolom": f"ALTER TABLE {TABLE} ADD COLUMN rang BIGINT; UPDATE {TABLE} SET rang = teller",
    "een rang als indicator": f"INSERT INTO {TABLE} SELECT * REPLACE ('bijstand_rang' AS indicator, "
    "rank() OVER (ORDER BY teller) AS waarde, NULL AS teller, NULL AS noemer) "
    f"FROM {TABLE} WHERE indicator = 'bijstand_aantal'",
    "een score in waarde": f"UPDATE {TABLE} SET waarde = round(10.0 * teller / 31, 2) WHERE indicator = '{RATE}'",
    "een betrouwbaarheidsinterval": f"ALTER TABLE {TABLE} ADD COLUMN ondergrens DOUBLE; "
    f"ALTER TABLE {TABLE} ADD COLUMN bovengrens DOUBLE; "
    f"UPDATE {TABLE} SET ondergrens = teller - 1.96 * sqrt(teller), bovengrens = teller + 1.96 * sqrt(teller)",
    "een verschil met het CBS": f"ALTER TABLE {TABLE} ADD COLUMN verschil DOUBLE; UPDATE {TABLE} SET verschil = teller",
    "het aantal in de eenheid": f"UPDATE {TABLE} SET eenheid = 'aantal (' || teller || ')' WHERE noemer IS NULL",
    "het aantal in de naam": f"UPDATE {TABLE} SET regio_naam = regio_naam || ' (' || teller || ')'",
    "het aantal in de vaststelling": f"UPDATE {TABLE} SET vaststelling = teller::VARCHAR",
    "het aantal in de herkomst": f"UPDATE {TABLE} SET herkomst = 'geschat op ' || teller",
    "het aantal in de status": f"UPDATE {TABLE} SET status = 'minder dan ' || (teller + 1)",
    "het aantal in de dag": f"UPDATE {TABLE} SET periode_start = periode_start + teller::INTEGER WHERE teller < 28",
    "een dag die iets zegt": f"UPDATE {TABLE} SET periode_start = periode_start + 3",
    "een periode van een andere naam": f"UPDATE {TABLE} SET periode = replace(periode, '-', '.')",
    "een dertiende maand": f"UPDATE {TABLE} SET periode = '2020-13'",
    "grenzen van geen jaar": f"UPDATE {TABLE} SET indeling_jaar = NULL",
    "een gemeente die iets zegt": f"ALTER TABLE {TABLE} ADD COLUMN gemeente_code VARCHAR; "
    f"UPDATE {TABLE} SET gemeente_code = 'GM' || lpad(teller::VARCHAR, 4, '0')",
    "een naam die het CBS niet kent": f"UPDATE {TABLE} SET regio_naam = 'Drie' WHERE regio_code = 'BU19160000'",
    "een getal bij de onbekende buurt": f"UPDATE {TABLE} SET regio_naam = regio_naam || teller "
    "WHERE regio_niveau = 'ONB'",
}


@pytest.mark.parametrize("way", DISGUISED)
def test_a_figure_in_disguise_is_refused(factory, way):
    factory.bijstand({"2020-01": COUNTS})
    factory.zzp({})
    factory.sql(DISGUISED[way])
    factory.manifest()
    release, _ = factory.release("intern")
    facts = release.record["tabellen"]["bijstand_per_regio"]
    assert facts["staat"] == "ontbreekt"
    assert not any(str(count) in facts["reden"] for count in (24, 31, 11)), "the reason tells no count"
    assert release.record["tabellen"]["zzp_per_regio"]["staat"] == "actueel"


@pytest.mark.parametrize("unit", ["euro", "1.000 euro", "EUR per maand", "bedrag"])
def test_an_amount_is_no_count(factory, unit):
    """A euro is no person: 5 of them may all be one's own, so no minimum on them protects anyone."""
    factory.bijstand({"2020-01": COUNTS})
    factory.zzp({})
    factory.sql(f"UPDATE {TABLE} SET eenheid = '{unit}' WHERE indicator = 'bijstand_aantal'")
    reason = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]["reden"]
    assert "bedragen zijn geen aantallen" in reason
    factory.specs["bijstand_per_regio"] = factory.specs["bijstand_per_regio"] | {"policy": "bedragen"}
    factory.manifest()
    reason = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]["reden"]
    assert "bedragen met hun aantallen (bedrag)" in reason


def test_a_rank_that_the_spec_calls_a_count_is_refused(factory):
    """Named under `telling` the rank still is no count of its own row."""
    factory.bijstand({"2020-01": COUNTS})
    factory.zzp({})
    factory.sql(DISGUISED["een rang als indicator"])
    spec = factory.specs["bijstand_per_regio"]
    factory.specs["bijstand_per_regio"] = spec | {"telling": spec["telling"] | {"rang": ["bijstand_rang"]}}
    factory.manifest()
    facts = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]
    assert facts["staat"] == "ontbreekt"
    assert "bijstand_rang volgt niet uit teller" in facts["reden"]


def test_the_order_of_rows_tells_no_rank(factory):
    """A mart sorted by its counts gives the same files, byte for byte, as one that is not."""
    factory.bijstand({"2020-01": COUNTS})
    contents = []
    for order in ("teller", "teller DESC", "hash(regio_code)"):
        factory.sql(f"CREATE OR REPLACE TABLE {TABLE} AS SELECT * FROM {TABLE} ORDER BY {order}")
        candidate = factory.candidate("intern")
        contents.append((candidate.folder / "bijstand_per_regio.csv").read_bytes())
    assert contents[0] == contents[1] == contents[2]
    lines = contents[0].decode().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == sorted(line.split(",")[0] for line in lines)


def twin(factory, sql, telling="hulp", unknown=12):
    """A second mart of bijstand's shape, whose count is called otherwise."""
    factory.bijstand({"2020-01": COUNTS}, unknown=unknown)
    factory.sql(f"CREATE OR REPLACE TABLE marts.hulp_per_regio AS SELECT * REPLACE (replace(indicator, 'bijstand', "
                f"'hulp') AS indicator, {sql}) FROM {TABLE} WHERE indicator = 'bijstand_aantal'")  # fmt: skip
    spec = factory.specs["bijstand_per_regio"]
    factory.specs["hulp_per_regio"] = spec | {"telling": {telling: ["hulp_aantal"]}}
    factory.manifest()


SAME = {
    "dezelfde telling": ("teller AS teller", "hulp volgt cel voor cel uit bijstand"),
    "tweemaal de telling": ("2 * teller AS teller, 2 * teller AS waarde", "hulp volgt cel voor cel uit bijstand"),
    "wat van duizend overblijft": ("rest AS teller, rest AS waarde", "hulp volgt cel voor cel uit bijstand"),
}


@pytest.mark.parametrize("way", SAME)
def test_one_count_under_two_names_is_refused(factory, way):
    sql, told = SAME[way]
    rest = (
        "(1000 * CASE left(regio_code, 2) WHEN 'BU' THEN 1 WHEN 'WK' THEN CASE regio_code WHEN 'WK051800' THEN 3 WHEN "
        "'WK051801' THEN 3 ELSE 4 END ELSE CASE regio_code WHEN 'GM0518' THEN 6 ELSE 12 END END - teller)"
    )
    twin(factory, sql.replace("rest", rest), unknown=0)
    factory.sql("UPDATE marts.hulp_per_regio SET teller = 0, waarde = 0 WHERE regio_niveau = 'ONB'")
    tables = factory.candidate("intern").record["tabellen"]
    assert tables["bijstand_per_regio"]["staat"] == "actueel"
    assert tables["hulp_per_regio"]["staat"] == "ontbreekt"
    assert told in tables["hulp_per_regio"]["reden"]


def test_who_was_first_keeps_its_name(factory):
    """The table that is shown already stays; the twin that comes later goes, whatever it is called."""
    factory.bijstand({"2020-01": COUNTS}, unknown=12)
    factory.release("intern")
    twin(factory, "teller AS teller", telling="algemene_hulp")
    tables = factory.candidate("intern").record["tabellen"]
    assert (tables["bijstand_per_regio"]["staat"], tables["hulp_per_regio"]["staat"]) == ("actueel", "ontbreekt")
    assert "onder één naam" in tables["hulp_per_regio"]["reden"]


def test_a_sum_of_two_other_counts_is_refused(factory):
    twin(factory, "teller AS teller")
    factory.sql("UPDATE marts.hulp_per_regio SET teller = teller + ascii(right(regio_code, 1)) - 45, waarde = teller "
                "WHERE regio_niveau = 'BU'; "
                "UPDATE marts.hulp_per_regio AS h SET teller = s.n, waarde = s.n FROM (SELECT o, sum(teller)::BIGINT "
                "AS n FROM (SELECT teller, unnest(['WK' || substr(regio_code, 3, 6), 'GM' || "
                "substr(regio_code, 3, 4)]) AS o FROM marts.hulp_per_regio "
                "WHERE regio_niveau = 'BU') GROUP BY o) AS s WHERE s.o = h.regio_code; "
                "UPDATE marts.hulp_per_regio SET teller = teller + 12 WHERE regio_niveau = 'GM'; "
                "UPDATE marts.hulp_per_regio SET waarde = teller")  # fmt: skip
    factory.sql("CREATE TABLE marts.samen_per_regio AS SELECT h.* REPLACE (h.teller + b.teller AS teller, "
                "(h.teller + b.teller)::DECIMAL(18, 2) AS waarde, 'samen_aantal' AS indicator) FROM "
                f"marts.hulp_per_regio AS h JOIN {TABLE} AS b ON b.regio_code = h.regio_code "
                "AND b.indicator = 'bijstand_aantal'")  # fmt: skip
    factory.specs["samen_per_regio"] = factory.specs["hulp_per_regio"] | {"telling": {"samen": ["samen_aantal"]}}
    factory.manifest()
    tables = factory.candidate("intern").record["tabellen"]
    states = {name: facts["staat"] for name, facts in tables.items()}
    assert states == {"bijstand_per_regio": "actueel", "hulp_per_regio": "actueel", "samen_per_regio": "ontbreekt"}
    assert "samen is de som van bijstand en hulp" in tables["samen_per_regio"]["reden"]


def test_the_second_look_holds_denominators_to_cbs(factory):
    """The figure that the spec names, of that region: looked up again on what was written."""
    factory.bijstand({"2020-01": COUNTS})
    candidate = factory.candidate("intern")
    norms, marts = load_norms(factory.folder / "policy"), read_marts(factory.settings)
    assert verify(candidate, factory.settings, "intern", norms, marts) == []
    factory.sql("UPDATE raw_cbs.kerncijfers_wijken_en_buurten SET waarde = 1005 WHERE regio_code = 'BU19160002'")
    found = verify(candidate, factory.settings, "intern", norms, marts)
    assert [(item.check, item.told) for item in found] == [("noemers_zijn_van_het_cbs", "1 cellen")]


def test_the_reason_names_the_figure_and_how_many_cells(factory):
    factory.bijstand({"2020-01": COUNTS})
    factory.zzp({})
    factory.sql(f"UPDATE {TABLE} SET noemer = 997, waarde = round(1000 * teller / 997, 2) WHERE noemer IS NOT NULL "
                "AND regio_niveau = 'WK'")  # fmt: skip
    reason = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]["reden"]
    assert reason.startswith(f"openbare_noemers: 5 cellen van {RATE} hebben een andere noemer dan aantal_inwoners")
    spec = factory.specs["bijstand_per_regio"]
    factory.specs["bijstand_per_regio"] = spec | {"rates": {"waarde": spec["rates"]["waarde"] | {"cbs": {}}}}
    factory.manifest()
    reason = factory.candidate("intern").record["tabellen"]["bijstand_per_regio"]["reden"]
    assert "en de spec zegt niet welk CBS-cijfer dat is" in reason
    assert f"rates.*.cbs in de disclosure-spec: {{{RATE}: …}}" in reason
