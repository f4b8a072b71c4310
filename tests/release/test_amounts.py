"""Amounts: sums of money with the rules on concentration, in one system with the count of who contribute."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy.optimize import linprog

from assets.release import amounts
from assets.release.gate import GateError
from assets.release.history import seal, sealed_file
from assets.release.marts import read_marts
from assets.release.verify import verify
from datafabriek.warehouse import vault
from quality.norms import NormsError, load_norms
from quality.privacy.keys import ensure_key

NORMS = """
versie: "toets-1"
vastgesteld_op: 2026-01-01
vastgesteld_door: de toets
doelgroepen:
  intern: {minimum: 5, afronding: 5, bescherming: 3}
  open: {minimum: 10, afronding: 5, bescherming: 5}
bedragen: {p_procent: {env: TOETS_P}, dominantie: [{n: 1, k: {env: TOETS_K}}], bescherming: 500}
herziening_maximaal: geen
kwaliteit: {onbekende_buurt_pct: 20}
"""
SPEC = {
    "policy": "bedrag",
    "telling": {"bijstand": ["uitkering_bedrag", "uitkering_gemiddeld"]},
    "count": "noemer",
    "bedrag": {
        "naam": "uitkering",
        "kolom": "teller",
        "grootste": ["grootste_1", "grootste_2"],
        "per_persoon": [100, 90000],
    },
    "rates": {"waarde": {"numerator": "teller", "denominator": "noemer", "per": 1}},
    "levels": ["BU", "WK", "GM"],
    "by": ["periode", "indicator"],
}
NAME = "bijstand_uitkeringen"
BY_POSTCODE = "uitkeringen_per_postcode"
LARGEST = 61_337
"""A contribution that stands out: no file of the factory may hold it."""


def _write(
    factory: Any,
    buurten: Sequence[str],
    given: Mapping[str, Sequence[int]],
    period: str = "2020",
    postcodes: Mapping[str, str] | None = None,
) -> None:
    """The mart of amounts, from the contribution of every person per buurt; those left out have 20 of about 1,000.

    With `postcodes` (four digits per buurt) the mart by those.
    """
    name, regions, unknown = NAME, "[code, 'WK' || substr(code, 3, 6), 'GM' || substr(code, 3, 4)]", "ONB"
    if postcodes is not None:
        digits = " ".join(f"WHEN '{buurt}' THEN '{four}'" for buurt, four in postcodes.items())
        name, unknown = BY_POSTCODE, "ONP"
        regions = f"['PC' || substr(code, 3, 4) || CASE code {digits} END, 'GM' || substr(code, 3, 4)]"
    people = [
        (code, amount)
        for number, code in enumerate(buurten)
        for amount in given.get(code, [900 + 7 * number + 11 * i for i in range(20)])
    ]
    with factory._connect() as connection:
        connection.execute("CREATE TEMP TABLE person (code VARCHAR, bedrag BIGINT)")
        connection.executemany("INSERT INTO person VALUES (?, ?)", people)
        connection.execute(f"""
            CREATE OR REPLACE TABLE marts.{name} AS
            WITH codes AS (
                SELECT DISTINCT unnest({regions}) AS code
                FROM (SELECT unnest({list(buurten)}) AS code)
                UNION ALL SELECT unnest(['{unknown}1916', '{unknown}0518'])
            ), up AS (
                SELECT bedrag, unnest({regions}) AS code
                FROM person
            ), total AS (
                SELECT code, coalesce(sum(bedrag), 0)::BIGINT AS bedrag, count(bedrag) AS n,
                    coalesce(max(bedrag, 2)[1], 0) AS eerste, coalesce(max(bedrag, 2)[2], 0) AS tweede
                FROM codes LEFT JOIN up USING (code) GROUP BY code
            )
            SELECT code AS regio_code,
                CASE left(code, 2) WHEN 'ON' THEN 'Niet bekend' WHEN 'PC' THEN 'Postcode ' || substr(code, 7)
                    ELSE 'Regio ' || code END AS regio_naam,
                CASE left(code, 2) WHEN 'ON' THEN 'ONB' ELSE left(code, 2) END AS regio_niveau, 2020 AS indeling_jaar,
                '{period}' AS periode, DATE '{period}-01-01' AS periode_start, indicator,
                CASE WHEN is_mean THEN bedrag / nullif(n, 0) ELSE bedrag END::DECIMAL(18, 2) AS waarde,
                bedrag AS teller, n AS noemer, eerste AS grootste_1, tweede AS grootste_2, 'euro' AS eenheid,
                CASE WHEN is_mean AND n = 0 THEN 'nvt' ELSE 'verstrekt' END AS status,
                'definitief' AS vaststelling, 'synthetisch' AS herkomst
            FROM total CROSS JOIN (VALUES ('uitkering_bedrag', false), ('uitkering_gemiddeld', true))
                AS i(indicator, is_mean)""")
    factory.specs[name] = SPEC if postcodes is None else SPEC | {"levels": ["PC", "GM"]}
    factory.manifest()


@pytest.fixture
def paying(make_factory: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, buurten: list[str]) -> Any:
    """A factory with amounts: a small buurt, one in which a single person has most, one in which two have."""
    monkeypatch.setenv("TOETS_P", "15")
    monkeypatch.setenv("TOETS_K", "85")
    made = make_factory()
    made.norms(NORMS)
    _write(
        made,
        buurten,
        {
            buurten[0]: [1000, 1100, 1200],
            buurten[4]: [LARGEST, *[150 + i for i in range(14)]],
            buurten[8]: [30_011, 29_503, *[110 + i for i in range(18)]],
        },
    )
    return made


def _shown(release: Any, ask: Callable[..., Any], column: str = "teller") -> dict[str, Any]:
    query = f"SELECT regio_code, {column} FROM {NAME} WHERE indicator = 'uitkering_bedrag'"
    return dict(ask(release, query))


def _interval(shown: Mapping[str, int | None], of: str, low: float = 0.0) -> tuple[float, float]:
    """What anyone can work out of one amount by adding and subtracting: an attacker apart from the engine."""
    codes = sorted(shown)
    place = {code: i for i, code in enumerate(codes)}
    rows = []
    for whole in codes:
        if whole.startswith("GM"):
            parts = [c for c in codes if c == f"ONB{whole[2:]}" or c.startswith("WK" + whole[2:])]
        elif whole.startswith("WK"):
            parts = [c for c in codes if c.startswith("BU" + whole[2:])]
        else:
            continue
        row = np.zeros(len(codes))
        row[place[whole]] = -1
        row[[place[c] for c in parts]] = 1
        rows.append(row)
    bounds = [(low, None) if shown[c] is None else (shown[c], shown[c]) for c in codes]
    ends = []
    for sign in (1, -1):
        cost = np.zeros(len(codes))
        cost[place[of]] = sign
        found = linprog(cost, A_eq=np.array(rows), b_eq=np.zeros(len(rows)), bounds=bounds)
        ends.append(found.x[place[of]] if found.status == 0 else np.inf)
    return ends[0], ends[1]


def _true(factory: Any, column: str = "teller") -> dict[str, int]:
    with duckdb.connect(str(factory.settings.paths.warehouse), read_only=True) as connection:
        query = f"SELECT regio_code, {column} FROM marts.{NAME} WHERE indicator = 'uitkering_bedrag'"
        return dict(connection.execute(query).fetchall())


@pytest.mark.parametrize("audience", ["intern", "open"])
def test_unsafe_amounts_are_hidden_and_cannot_be_subtracted(
    paying: Any, buurten: list[str], ask: Callable[..., Any], audience: str
) -> None:
    release, is_new = paying.release(audience)
    assert is_new
    shown, true = _shown(release, ask), _true(paying)
    for code, room in ((buurten[0], 500), (buurten[4], 0.15 * LARGEST), (buurten[8], 500)):
        assert shown[code] is None, "few contribute, or one or two have nearly all"
        low, high = _interval(shown, code)
        assert low <= true[code] - min(room, true[code]) + 1
        assert high >= true[code] + room - 1
    assert {code: n for code, n in shown.items() if n is not None}.items() <= true.items(), "what is shown is exact"
    assert sum(n is not None for n in shown.values()) > len(shown) / 2


def test_amounts_are_hidden_wherever_their_count_is(paying: Any, ask: Callable[..., Any]) -> None:
    for audience in ("intern", "open"):
        release, _ = paying.release(audience)
        rows = ask(release, f"SELECT teller, noemer, waarde, status, indicator FROM {NAME}")
        assert all(amount is None or count is not None for amount, count, *_ in rows)
        assert any(amount is None and count is not None for amount, count, *_ in rows), "only its amount is unsafe"
        for amount, count, value, status, indicator in rows:
            if status == "geheim":
                assert amount is None
                assert value is None
            elif indicator == "uitkering_gemiddeld" and value is not None:
                assert float(value) == pytest.approx(amount / count, abs=0.006), "a mean follows from what is shown"


def test_the_largest_contributions_leave_the_gate_nowhere(paying: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for audience in ("intern", "open"):
        paying.release(audience)
    told = capsys.readouterr()
    own = seal(paying.settings)
    texts = {"uitvoer": told.out + told.err}
    for path in paying.settings.paths.root.rglob("*"):
        if not path.is_file() or path == paying.settings.paths.warehouse:
            continue
        texts[str(path)] = path.read_bytes().decode("latin-1")
        if path.suffix == ".sealed":
            texts[str(path)] += json.dumps(own.open(path.stem, path.read_bytes()))
    for path in paying.settings.paths.releases.rglob("datafabriek.duckdb"):
        with duckdb.connect(str(path), read_only=True) as connection:
            texts[f"{path} gelezen"] = "".join(
                str(connection.execute(f"FROM {name}").fetchall())
                for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
            )
            columns = connection.execute("SELECT column_name FROM duckdb_columns()").fetchall()
            assert not [name for (name,) in columns if name.startswith("grootste")]
    for where, text in texts.items():
        assert str(LARGEST) not in text, where
        assert "0.15" not in text.replace("20.15", ""), where
    assert sealed_file(paying.settings.paths, "").parent.is_dir()


def test_two_releases_together_tell_no_hidden_amount(paying: Any, buurten: list[str], ask: Callable[..., Any]) -> None:
    first = _shown(paying.release("intern")[0], ask)
    true = _true(paying)
    # one person moved out of a buurt that is shown; all others have what they had
    _write(
        paying,
        buurten,
        {
            buurten[0]: [1000, 1100, 1200],
            buurten[1]: [907 + 11 * i for i in range(19)],
            buurten[4]: [LARGEST, *[150 + i for i in range(14)]],
            buurten[8]: [30_011, 29_503, *[110 + i for i in range(18)]],
        },
    )
    second = _shown(paying.release("intern")[0], ask)
    assert first != second
    both = {code: second[code] if second[code] is not None else first[code] for code in second}
    now = _true(paying)
    same = {code for code in true if true[code] == now[code]}
    assert all((first[code] is None) == (second[code] is None) for code in same), "patterns do not wander"
    for code in (buurten[0], buurten[4], buurten[8]):
        assert both[code] is None
        for told in (first, second):
            low, high = _interval({c: told[c] if told[c] is not None else None for c in told}, code)
            assert low <= true[code] - min(500, true[code]) + 1
            assert high >= true[code] + 499


def test_an_unchanged_night_takes_amounts_over(paying: Any) -> None:
    paying.release("intern")
    watched = paying.candidate("intern").record["poort"]
    assert watched["blokken_opgelost"] == 0
    assert watched["blokken_overgenomen"] == 4, "two municipalities: counts and amounts"


def test_other_contributions_under_the_same_sums_are_judged_anew(
    paying: Any, buurten: list[str], ask: Callable[..., Any]
) -> None:
    release, _ = paying.release("intern")
    spread = [900 + 7 * 2 + 11 * i for i in range(20)]
    assert _shown(release, ask)[buurten[2]] == sum(spread)
    uneven = [sum(spread) - 19 * 120, *[120] * 19]
    given = {buurten[0]: [1000, 1100, 1200], buurten[4]: [LARGEST, *[150 + i for i in range(14)]]}
    given[buurten[8]] = [30_011, 29_503, *[110 + i for i in range(18)]]
    _write(paying, buurten, given | {buurten[2]: uneven})
    refused = paying.candidate("intern").record["tabellen"][NAME]
    assert refused["staat"] == "verouderd", "what one person has now was shown before and cannot be hidden any more"
    assert "61" not in refused["reden"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("grootste_2 = 0 WHERE noemer > 1", "grootste bijdragen die niet bij bedrag en aantal passen"),
        ("grootste_1 = teller / noemer - 1 WHERE noemer > 1", "grootste bijdragen die niet bij bedrag en aantal"),
        ("teller = -1, waarde = NULL WHERE regio_niveau = 'BU'", "negatief of gebroken"),
        ("noemer = 0, waarde = NULL WHERE regio_niveau = 'ONB' OR indicator > 'uitkering_c'", "samen niets"),
        ("teller = NULL, waarde = NULL WHERE regio_niveau = 'BU'", "bedragen zonder aantal"),
        ("grootste_1 = 95000 WHERE regio_niveau = 'GM'", "buiten per_persoon"),
        ("waarde = grootste_1", "volgt niet uit"),
    ],
)
def test_amounts_that_do_not_fit_their_contributions_are_refused(paying: Any, change: str, reason: str) -> None:
    paying.sql(f"UPDATE marts.{NAME} SET {change}")
    with pytest.raises(GateError, match=reason):
        paying.candidate("intern")


def test_without_norms_on_amounts_none_is_shown(paying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOETS_K")
    with pytest.raises(GateError, match=r"bedragen in normen\.yaml"):
        paying.candidate("intern")
    paying.norms(NORMS.replace("bedragen:", "# bedragen:"))
    with pytest.raises(GateError, match="vul bedragen in"):
        paying.candidate("intern")
    paying.norms(NORMS.replace("{env: TOETS_P}", "17"))
    with pytest.raises(NormsError, match="stands outside the norms") as refused:
        paying.candidate("intern")
    assert "17" not in str(refused.value)


def test_the_second_look_refuses_what_another_rule_let_through(paying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = amounts.amount_policy

    def lax(norms: Any, least: int) -> Any:
        found = real(norms, least)
        return found.model_copy(update={"primary": found.primary[:1]})

    monkeypatch.setattr("assets.release.amounts.amount_policy", lax)
    monkeypatch.setattr("assets.release.joint.amount_policy", lax)
    candidate = paying.candidate("intern")
    norms = load_norms(paying.settings.policy_folder)
    found = verify(candidate, paying.settings, "intern", norms, read_marts(paying.settings))
    assert any("bedragen staan er die de norm verbergt" in item.told for item in found)


def test_a_hidden_count_does_not_follow_from_amounts(paying: Any, buurten: list[str], ask: Callable[..., Any]) -> None:
    tight = SPEC | {"bedrag": SPEC["bedrag"] | {"per_persoon": [980, 1200]}}
    given = {code: [1000 + (3 * i + n) % 90 for i in range(20)] for n, code in enumerate(buurten)}
    given[buurten[0]] = [1000, 1100, 1200]
    given[buurten[1]] = [1010 + i for i in range(24)]
    _write(paying, buurten, given)
    paying.specs[NAME] = tight
    paying.manifest()
    release, _ = paying.release("intern")
    shown, count = _shown(release, ask), _shown(release, ask, "noemer")
    hidden = [code for code, n in count.items() if n is None]
    assert buurten[0] in hidden
    for code in hidden:
        low, high = _interval(shown, code, low=980)
        assert min(high, 1e9) // 980 - np.ceil(low / 1200) >= 3


def test_a_wijk_less_a_postcode_tells_no_hidden_amount(
    paying: Any, buurten: list[str], ask: Callable[..., Any]
) -> None:
    """A postcode covers a wijk but for the one buurt in which a single person has most: that is what they differ by."""
    wijk, alone = buurten[4:8], buurten[4]
    postcodes = {code: "2261" if code in wijk[1:] else "2262" for code in buurten}
    given = {alone: [LARGEST, *[150 + i for i in range(14)]]}
    _write(paying, buurten, given)
    _write(paying, buurten, given, postcodes=postcodes)
    own = paying.settings
    with vault(own.paths, own.resources, ensure_key(own.paths).vault) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS vault.aanvoer")
        told = ", ".join(f"('{four} AB', '{code}')" for code, four in postcodes.items())
        connection.execute(
            f"CREATE OR REPLACE TABLE vault.aanvoer.adressen AS FROM (VALUES {told}) AS a(postcode, buurt_code)"
        )
    release, _ = paying.release("intern")
    assert {facts["staat"] for facts in release.record["tabellen"].values()} == {"actueel"}
    query = f"SELECT regio_code, teller FROM {BY_POSTCODE} WHERE indicator = 'uitkering_bedrag'"
    whole, rest = _shown(release, ask), dict(ask(release, query))["PC19162261"]
    assert whole[alone] is None
    assert rest is None or whole["WK191601"] is None
    assert sum(n is not None for n in whole.values()) > len(whole) / 2


@pytest.mark.parametrize("least", [0, 100])
def test_no_more_room_is_asked_than_anyone_is_known_to_have(
    paying: Any, buurten: list[str], ask: Callable[..., Any], least: int
) -> None:
    """One person with 560, where the norm asks for 500 either way: that it is 0 or more, or 100, everybody knows."""
    _write(paying, buurten, {buurten[0]: [560], buurten[4]: [LARGEST, *[150 + i for i in range(14)]]})
    paying.specs[NAME] = SPEC | {"bedrag": SPEC["bedrag"] | {"per_persoon": [least, 90000]}}
    paying.manifest()
    release, _ = paying.release("intern")
    low, high = _interval(_shown(release, ask), buurten[0], low=least)
    assert low <= max(least, 60)
    assert high >= 1060


def test_what_the_gate_finds_safe_the_second_look_finds_safe(paying: Any, buurten: list[str]) -> None:
    """Who knows the norm on counts, or takes hidden ones for small, learns more of amounts too: that is asked first.

    Of amounts in which the gate reckoned only with plain readers the second look stopped the whole release.
    """
    dice = random.Random(414)  # a table on which the two once differed
    dice.choice([1, 5]), dice.choice([0, 1, 2])

    def person() -> int:
        return dice.randint(10000, 80000) if dice.random() < 0.015 else dice.randint(100, 1450)

    given = {code: [person() for _ in range(dice.choice([0, 1, 3, 9, 14, 25, 25, 25, 30, 40, 40]))] for code in buurten}
    _write(paying, buurten, given)
    for audience in ("intern", "open"):
        release, _ = paying.release(audience)
        assert release.record["tabellen"][NAME]["staat"] == "actueel"
