"""A count by postcode beside the same count by buurt and wijk: who has both subtracts the one from the other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from assets.release.assets import release_candidate
from assets.release.publish import ReleaseError
from datafabriek.warehouse import vault
from quality.privacy.keys import ensure_key

NORMS = (
    "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, "
    "doelgroepen: {intern: {minimum: 5, afronding: 1, bescherming: 3}}, herziening_maximaal: geen, "
    "kwaliteit: {regios_compleet: false}}"
)
WIJK = [f"BU1916000{b}" for b in range(4)]
COUNTS = dict(zip(WIJK, (3, 31, 22, 40), strict=True))
NAME = "bijstand_per_postcode"


def _by_postcode(factory, people, known=True):
    """The mart by postcode: `people` says per (four digits, buurt) how many; the vault knows which overlap."""
    rows, total = {}, {}
    for (digits, buurt), n in people.items():
        code = f"PC{buurt[2:6]}{digits}"
        rows[code] = rows.get(code, 0) + n
        total[f"GM{buurt[2:6]}"] = total.get(f"GM{buurt[2:6]}", 0) + n
    rows |= total | {f"ONP{gm[2:]}": 0 for gm in total}
    told = ", ".join(f"('{code}', {n})" for code, n in rows.items())
    factory.sql(f"""
        CREATE OR REPLACE TABLE marts.{NAME} AS SELECT code AS regio_code,
            CASE left(code, 2) WHEN 'PC' THEN 'Postcode ' || substr(code, 7) WHEN 'GM' THEN 'Regio ' || code
                ELSE 'Onbekende postcode' END AS regio_naam,
            CASE left(code, 2) WHEN 'ON' THEN 'ONB' ELSE left(code, 2) END AS regio_niveau, 2020 AS indeling_jaar,
            '2020-01' AS periode, DATE '2020-01-01' AS periode_start, 'bijstand_aantal' AS indicator,
            n::DECIMAL(18, 2) AS waarde, n::BIGINT AS teller, NULL::BIGINT AS noemer, 'aantal' AS eenheid,
            'verstrekt' AS status,
            'definitief' AS vaststelling, 'synthetisch' AS herkomst
        FROM (VALUES {told}) AS cel(code, n)""")
    factory.specs[NAME] = {
        "policy": "frequentie",
        "telling": {"bijstand": ["bijstand_aantal"]},
        "count": "teller",
        "rates": {"waarde": {"numerator": "teller", "denominator": "noemer"}},
        "levels": ["PC", "GM"],
        "by": ["periode", "indicator"],
    }
    factory.manifest()
    if known:
        own = factory.settings
        with vault(own.paths, own.resources, ensure_key(own.paths).vault) as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS vault.aanvoer")
            pairs = ", ".join(f"('{digits} AB', '{buurt}')" for digits, buurt in people)
            connection.execute(
                f"CREATE OR REPLACE TABLE vault.aanvoer.adressen AS FROM (VALUES {pairs}) AS a(postcode, buurt_code)"
            )


def _narrowest(ask, release, people):
    """The narrowest interval of any hidden count, in whole numbers, for who knows where every address lies."""
    shown = {}
    for table in ("bijstand_per_regio", NAME):
        shown |= dict(ask(release, f"SELECT regio_code, teller FROM {table} WHERE indicator = 'bijstand_aantal'"))
    codes, atoms = sorted(shown), sorted(people)
    size = len(codes) + len(atoms)
    place = {code: i for i, code in enumerate(codes)}
    rows = []
    for code in codes:
        row = np.zeros(size)
        row[place[code]] = -1
        for i, (digits, buurt) in enumerate(atoms, start=len(codes)):
            mine = {buurt, f"WK{buurt[2:8]}", f"GM{buurt[2:6]}", f"PC{buurt[2:6]}{digits}"}
            row[i] = code in mine
        rows.append(row)
    low = np.array([1.0 if shown[c] is None else shown[c] for c in codes] + [0.0] * len(atoms))
    high = np.array([np.inf if shown[c] is None else shown[c] for c in codes] + [np.inf] * len(atoms))
    widths, matrix = [], np.array(rows)
    for code in (c for c in codes if shown[c] is None):
        cost = np.zeros(size)
        cost[place[code]] = 1
        ends = [
            milp(sign * cost, constraints=LinearConstraint(matrix, 0, 0), bounds=Bounds(low, high), integrality=1)
            for sign in (1, -1)
        ]
        widths.append(np.inf if ends[1].x is None else ends[1].x @ cost - ends[0].x @ cost)
    return min(widths)


def _people(buurten, split):
    """Of one wijk a postcode covers all but its small buurt, but for `split` of that; another covers the rest."""
    people = {("2261", code): COUNTS[code] for code in WIJK[1:]}
    people |= {("2262", WIJK[0]): COUNTS[WIJK[0]] - split} | ({("2261", WIJK[0]): split} if split else {})
    rest = [code for code in buurten if code not in WIJK]
    return people | {("2262" if code.startswith("BU1916") else "2491", code): 20 for code in rest}


PARTNER = (
    "{{naam: {0}, overeenkomst: o, geldig_tot: 2999-12-31, tabellen: [{1}], minimum: 7, afronding: 1, bescherming: 4}}"
)


def test_candidates_that_were_made_side_by_side_do_not_both_go_out(factory, buurten):
    """The one partner holds the wijk, the other the postcode: neither candidate knows that the other is to be read."""
    partners = [PARTNER.format(*told) for told in (("ggd", "bijstand_per_regio"), ("uwv", NAME))]
    others = f", partner_ggd: {partners[0]}, partner_uwv: {partners[1]}}}, herziening"
    factory.norms(NORMS.replace("}, herziening", others))
    factory.bijstand({"2020-01": COUNTS})
    _by_postcode(factory, _people(buurten, 0))
    both = ("partner_ggd", "partner_uwv")
    for audience in both:
        factory.candidate(audience)
    release_candidate(factory.settings, both[0])
    with pytest.raises(ReleaseError, match="partner_ggd got a release since it was made"):
        release_candidate(factory.settings, both[1])
    assert factory.release(both[1])[1], "made again it knows what the other got"


@pytest.mark.parametrize("split", [0, 1])
def test_a_wijk_less_a_postcode_tells_no_hidden_buurt(factory, ask, buurten, split):
    people = _people(buurten, split)
    factory.norms(NORMS)
    factory.bijstand({"2020-01": COUNTS})
    _by_postcode(factory, people)
    release, _ = factory.release("intern")
    states = {name: facts["staat"] for name, facts in release.record["tabellen"].items()}
    assert states == {"bijstand_per_regio": "actueel", NAME: "actueel"}, release.record["tabellen"]
    assert _narrowest(ask, release, people) >= 3


def test_a_postcode_beside_a_wijk_that_was_shown_before_is_one_system_too(factory, ask, buurten):
    people = _people(buurten, 0)
    factory.norms(NORMS)
    factory.bijstand({"2020-01": COUNTS})
    factory.release("intern")
    _by_postcode(factory, people)
    factory.specs["bijstand_per_regio"] = {}  # it goes out no more, and its last version stays
    factory.manifest()
    release, _ = factory.release("intern")
    assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "verouderd"
    assert release.record["tabellen"][NAME]["staat"] == "actueel"
    assert _narrowest(ask, release, people) >= 3


def test_where_nobody_says_what_overlaps_they_stand_not_together(factory, buurten):
    factory.norms(NORMS)
    factory.bijstand({"2020-01": COUNTS})
    _by_postcode(factory, _people(buurten, 0), known=False)
    facts = factory.candidate("intern").record["tabellen"]
    assert sorted(one["staat"] for one in facts.values()) == ["actueel", "ontbreekt"]
    assert any("ververs het adressenbestand" in one.get("reden", "") for one in facts.values())


def test_the_second_look_subtracts_too(factory, buurten, monkeypatch):
    factory.norms(NORMS)
    factory.bijstand({"2020-01": COUNTS})
    _by_postcode(factory, _people(buurten, 0))
    monkeypatch.setattr("assets.release.views.overlapping", lambda *_: ([], []))
    factory.candidate("intern")
    with pytest.raises(ReleaseError, match="nauwer te berekenen"):
        release_candidate(factory.settings, "intern")


def test_parts_of_a_class_are_parts_of_the_total(factory, ask, buurten):
    """A postcode lies in a wijk by an empty buurt alone, so what it has of any sector lies in its other wijk."""
    factory.norms(NORMS.replace("}, herziening", "}, aanvaller: {vermoedt_klein: false}, herziening", 1))
    factory.sql("DROP TABLE marts.bijstand_per_regio")
    factory.specs.clear()
    counts = (0, 40, 40, 21, 36, 36, 31, 30, 40, 40, 40, 40)
    wijken = {"WK191600": (1, 40, 60), "WK191601": (22, 41, 70), "WK191602": (30, 50, 80)}
    factory.zzp(
        dict(zip(buurten, counts, strict=False)),
        {code: dict(zip("ABC", of, strict=True)) for code, of in wijken.items()},
    )
    postcodes = {"PC19162261": (22, 20, 30), "PC19162262": (31, 111, 180), "PC05182491": (120, 0, 0)}
    postcodes |= {"ONP1916": (0, 0, 0), "ONP0518": (0, 0, 0)}
    rows = ", ".join(
        f"('{code}', '{s}', {n})" for code, of in postcodes.items() for s, n in zip("ABC", of, strict=True)
    )
    factory.sql(f"""CREATE TABLE marts.zzp_per_postcode AS
        WITH deel AS (SELECT code, n, unnest([sector, 'T001081']) AS sector FROM (VALUES {rows}) AS r(code, sector, n)),
        cel AS (FROM deel UNION ALL SELECT 'GM' || left(code.replace('ONP', 'GM')[3:], 4), n, sector FROM deel)
        SELECT code AS regio_code, CASE left(code, 2) WHEN 'PC' THEN 'Postcode ' || substr(code, 7)
                WHEN 'GM' THEN 'Regio ' || code ELSE 'Onbekende postcode' END AS regio_naam,
            CASE left(code, 2) WHEN 'ON' THEN 'ONB' ELSE left(code, 2) END AS regio_niveau,
            sector AS sector_code, sum(n)::BIGINT AS teller, sum(n)::DECIMAL(18, 2) AS waarde,
            z.* EXCLUDE (regio_code, regio_naam, regio_niveau, sector_code, teller, waarde, sector_naam),
            'Sector ' || sector AS sector_naam
        FROM cel, (FROM marts.zzp_per_sector LIMIT 1) AS z GROUP BY ALL""")
    factory.specs["zzp_per_postcode"] = factory.specs["zzp_per_sector"] | {"levels": ["PC", "GM"]}
    factory.manifest()
    own, first = factory.settings, {buurten[at] for at in (0, 4, 5)}
    with vault(own.paths, own.resources, ensure_key(own.paths).vault) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS vault.aanvoer")
        of = {b: "2261" if b in first else "2262" if b.startswith("BU1916") else "2491" for b in buurten}
        pairs = ", ".join(f"('{digits} AB', '{code}')" for code, digits in of.items())
        connection.execute(f"CREATE TABLE vault.aanvoer.adressen AS FROM (VALUES {pairs}) AS a(postcode, buurt_code)")
    release, _ = factory.release("intern")
    assert {facts["staat"] for facts in release.record["tabellen"].values()} == {"actueel"}
    query = "SELECT regio_code, teller FROM {} WHERE sector_code = 'A' AND regio_code LIKE '%1916%'"
    shown = dict(ask(release, query.format("zzp_per_sector")))
    in_second = dict(ask(release, query.format("zzp_per_postcode")))["PC19162261"] or 1
    assert shown["WK191600"] is None
    rest = shown["GM1916"] - sum(n for code, n in shown.items() if code.startswith("WK") and n is not None)
    others = sum({"WK191601": in_second}.get(code, 1) for code in ("WK191601", "WK191602") if shown[code] is None)
    assert rest - others - 1 >= 3, "it has at least 1, and at most what the others leave of the sum"
