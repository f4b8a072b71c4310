"""The correction rules, from delivery to table: what supersedes what, and which delivery a figure came from."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from assets.deliveries import register, superseding
from assets.deliveries.checking import check
from assets.deliveries.delivered import LINE
from assets.deliveries.intake import Outcome, contract_of, deliver, rejudge, standing, take_inbox
from assets.deliveries.judging import Tally
from assets.deliveries.purposes import derive
from assets.deliveries.reasons import in_dutch
from assets.deliveries.register import RECEIVED, Entry
from assets.deliveries.superseding import IDLE, OVERTAKEN, REMOVES, REPLACES
from datafabriek.config import Settings, load_settings
from datafabriek.warehouse import vault, warehouse
from quality.contracts.model import Contract, ContractError, load
from quality.privacy.keys import ensure_key
from quality.schemas.deliveries import EARLIER

FACTORY = """
name: Proef
sample: true
home: home
region: {gemeenten: [GM0518], provincie: PV28}
policy: policy
deliveries: {bomen: {expected_from: "2018", expected_until: "2020"}}
"""
POLICY = """
versie: 1
doelen: {proef: {omschrijving: Proef, grondslag: Proef, verwerkingsactiviteit: P-1, leveringen: [bomen],
         bewaartermijn_maanden: 1200}}
leveringen: {bomen: {bewaartermijn_maanden: 1200}}
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bomen
name: Bomen
version: 1.0.0
status: active
customProperties:
  - {{property: leverancier, value: Proef}}
  - {{property: layout, value: {{formaat: gescheiden}}}}
  - {{property: periode, value: {{soort: jaar, bestandsnaam: '^bomen_(?P<jaar>\\d{{4}})\\w*\\.csv$'}}}}
  - {{property: correctie, value: {rule}}}
  - {{property: leeg_toegestaan, value: {empty}}}
  - {{property: doelen, value: {{proef: {{kolommen: {{soort: {{bewerking: kopie, van: soort}}}}}}}}}}
schema:
  - name: bomen
    properties:
      - {{name: nummer, logicalType: string, required: true, primaryKey: true, classification: open}}
      - {{name: soort, logicalType: string, classification: open}}
"""


def _factory(folder: Path, rule: str, empty: str = "false") -> Settings:
    (folder / "contracts").mkdir()
    (folder / "policy").mkdir()
    (folder / "contracts" / "bomen.yaml").write_text(CONTRACT.format(rule=rule, empty=empty))
    (folder / "policy" / "doelen.yaml").write_text(POLICY)
    (folder / "factory.yaml").write_text(FACTORY)
    settings = load_settings(folder / "factory.yaml")
    settings.paths.create()
    return settings


def _deliver(settings: Settings, file: str, *kinds: str, first: int = 0) -> Outcome:
    """Deliver trees of these kinds, numbered on from the first."""
    path = settings.source.parent / file
    path.write_text("nummer;soort\n" + "".join(f"{number};{kind}\n" for number, kind in enumerate(kinds, first)))
    return deliver(settings, path, "bomen")


def _table(settings: Settings) -> list[tuple[str, str]]:
    """What stands in the table of the purpose, and the period of the delivery that each row came in."""
    derive(settings, ensure_key(settings.paths), "bomen", "proef")
    with warehouse(settings.paths, settings.resources) as con:
        query = "SELECT soort, split_part(levering, '-', 2) FROM raw_proef.bomen ORDER BY ALL"
        return con.execute(query).fetchall()


@pytest.mark.parametrize(
    ("rule", "after_both", "after_correction"),
    [
        ("vervangt_alles", [("els", "2020")], [("els", "2020")]),
        ("vervangt_periode", [("eik", "2018"), ("els", "2020")], [("els", "2020"), ("iep", "2018")]),
        ("toevoegen", [("eik", "2018"), ("els", "2020")], [("eik", "2018"), ("els", "2020"), ("iep", "2018")]),
    ],
)
def test_a_later_delivery_supersedes_by_the_rule_of_its_contract(
    tmp_path: Path, rule: str, after_both: list[tuple[str, str]], after_correction: list[tuple[str, str]]
) -> None:
    settings = _factory(tmp_path, rule)
    _deliver(settings, "bomen_2018.csv", "eik")
    _deliver(settings, "bomen_2020.csv", "els", first=1)
    assert _table(settings) == after_both
    _deliver(settings, "bomen_2018_verbeterd.csv", "iep", first=2)
    assert _table(settings) == after_correction
    assert _deliver(settings, "bomen_2018_verbeterd.csv", "iep", first=2).status == "herhaald"
    assert _table(settings) == after_correction
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        kept = con.execute("SELECT periode, status FROM vault.beheer.leveringen ORDER BY ALL").fetchall()
    assert kept == [("2018", "ontvangen"), ("2018", "ontvangen"), ("2020", "ontvangen")]


def test_a_full_replacement_of_the_newest_period_counts(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_alles")
    for file, kind in (("bomen_2019.csv", "eik"), ("bomen_2020.csv", "els"), ("bomen_2020_verbeterd.csv", "iep")):
        _deliver(settings, file, kind)
    assert _table(settings) == [("iep", "2020")]


def test_an_empty_delivery_is_in_where_agreed_and_a_missing_one_is_a_gap(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_periode", empty="true")
    _deliver(settings, "bomen_2018.csv", "eik")
    assert _deliver(settings, "bomen_2020.csv").status == "ontvangen"
    told = standing(settings, ensure_key(settings.paths))
    assert [(row["periode"], row["status"], row["geaccepteerd"]) for row in told] == [
        ("2018", "ontvangen", 1), ("2019", "ontbreekt", None), ("2020", "ontvangen", 0),
    ]  # fmt: skip
    assert _table(settings) == [("eik", "2018")]


def test_deliveries_of_one_period_that_add_up_are_counted_together(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "toevoegen")
    _deliver(settings, "bomen_2018.csv", "eik", "els")
    last = _deliver(settings, "bomen_2018_b.csv", "iep", first=2)
    told = {row["periode"]: row for row in standing(settings, ensure_key(settings.paths))}["2018"]
    assert (told["geleverd"], told["geaccepteerd"], told["geweigerd"]) == (3, 3, 0)
    assert told["levering_id"] == f"bomen-2018-{last.fingerprint[:12]}"


@pytest.mark.parametrize("rule", ["vervangt_periode", "vervangt_alles"])
def test_a_file_that_was_corrected_and_comes_again_is_told_what_counts(tmp_path: Path, rule: str) -> None:
    """A, its correction B, A again: B stands, and whoever wants A back is told how; that way works."""
    settings = _factory(tmp_path, rule)
    _deliver(settings, "bomen_2018.csv", "eik")
    _deliver(settings, "bomen_2018_b.csv", "iep")
    path = tmp_path / "bomen_2018.csv"
    looked = check(path, contract_of(settings, "bomen"), settings=settings)
    again = deliver(settings, path, "bomen")
    assert (again.status, _table(settings)) == ("herhaald", [("iep", "2018")])
    (told,) = again.remarks
    assert told in looked.remarks
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        first, second = register.entries(con, "bomen")
    assert first.levering_id in told
    assert f"{second.levering_id}, ontvangen op" in told
    page = settings.paths.reports / "op-orde" / "bomen" / f"{second.levering_id}.html"
    assert told in page.read_text()
    assert deliver(settings, tmp_path / "bomen_2018_b.csv", "bomen").remarks == []  # that one counts
    path.write_text(path.read_text() + "\n")
    assert deliver(settings, path, "bomen").status == "ontvangen"
    assert _table(settings) == [("eik", "2018")]


HALF = "toevoegen}\n  - {property: max_foutaandeel, value: 0.9"


@pytest.mark.parametrize("kind", ["string", "integer", "date"])
def test_a_record_that_was_added_before_is_refused_and_not_counted_twice(tmp_path: Path, kind: str) -> None:
    """Whatever the type of the key: 5 and 05, 20200101 in both, are one record in the vault."""
    settings = _factory(tmp_path, HALF)
    contract = tmp_path / "contracts" / "bomen.yaml"
    contract.write_text(contract.read_text().replace("nummer, logicalType: string", f"nummer, logicalType: {kind}"))
    first = 20200101 if kind == "date" else 5
    _deliver(settings, "bomen_2018.csv", "eik", "els", first=first)
    path = tmp_path / "bomen_2019.csv"
    path.write_text(f"nummer;soort\n{'0' if kind == 'integer' else ''}{first};iep\n{first + 2};den\n")
    looked = check(path, contract_of(settings, "bomen"), settings=settings)
    outcome = deliver(settings, path, "bomen")
    assert looked.findings == outcome.findings
    assert (outcome.delivered, outcome.accepted, outcome.refused) == (2, 1, 1)
    assert [(f["rule"], f["count"], f["lines"]) for f in outcome.findings] == [(EARLIER, 1, [2])]
    assert "andere levering die is aangenomen" in outcome.findings[0]["told"]
    assert [kind for kind, _ in _table(settings)] == ["den", "eik", "els"]


def test_two_deliveries_of_one_night_and_one_judged_again_add_no_record_twice(tmp_path: Path) -> None:
    settings = _factory(tmp_path, HALF)
    folder = settings.paths.inbox / "bomen"
    folder.mkdir(parents=True)
    for name, rows in (("bomen_2018", "0;eik\n1;\n"), ("bomen_2019", "0;iep\n1;els\n")):
        path = folder / f"{name}.csv"
        path.write_text(f"nummer;soort\n{rows}")
        os.utime(path, (1, 1))
    strict = tmp_path / "contracts" / "bomen.yaml"
    lenient = strict.read_text()
    strict.write_text(lenient.replace("soort, logicalType: string,", "soort, logicalType: string, required: true,"))
    night = take_inbox(settings, "bomen")
    assert [(o.accepted, o.refused) for o in night] == [(1, 1), (1, 1)]
    assert _table(settings) == [("eik", "2018"), ("els", "2019")]
    strict.write_text(lenient)  # now the row without a kind is good, but another delivery brought it since
    for _ in range(2):
        again = rejudge(settings, f"bomen-2018-{night[0].fingerprint[:12]}", "jan")
        assert (again.delivered, again.accepted, again.refused) == (2, 1, 1)
        assert [f["rule"] for f in again.findings] == [EARLIER]
    assert _table(settings) == [("eik", "2018"), ("els", "2019")]


@pytest.mark.parametrize("mark", ["\ufeff", "\u200b", "\u00ad", "\u2060\u202e"])
def test_what_nobody_sees_makes_no_second_key_of_one(tmp_path: Path, mark: str) -> None:
    """Two files made one leave a BOM in a value that no pattern binds."""
    settings = _factory(tmp_path, HALF)
    path = tmp_path / "bomen_2018.csv"
    path.write_text(f"nummer;soort\n1;eik\n{mark}1;els\n2{mark};iep{mark}\n{mark};den\n3;é\n", encoding="utf-8")
    outcome = deliver(settings, path, "bomen")
    assert (outcome.delivered, outcome.accepted, outcome.refused, outcome.repaired) == (5, 3, 2, 1)
    told = {(f["column"], f["rule"]): f["count"] for f in outcome.findings}
    assert told == {("nummer", "onzichtbare_tekens"): 3, ("soort", "onzichtbare_tekens"): 1, ("nummer", "sleutel"): 1,
                    ("nummer", "verplicht"): 1}  # fmt: skip
    assert [kind for kind, _ in _table(settings)] == ["eik", "iep", "é"]


def test_a_file_that_only_repeats_is_refused_with_the_reason_in_dutch(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "toevoegen")
    _deliver(settings, "bomen_2018.csv", "eik", "els")
    outcome = _deliver(settings, "bomen_2019.csv", "eik", "els")  # the same rows under the name of another period
    assert (outcome.status, outcome.accepted, outcome.refused) == ("geweigerd", 0, 2)
    assert "2 van 2 rijen zijn geweigerd" in in_dutch(outcome.reason or "")
    assert _table(settings) == [("eik", "2018"), ("els", "2018")]


def test_a_period_that_is_none_is_told_of_a_file_that_is_in_too(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "toevoegen")
    _deliver(settings, "bomen_2018.csv", "eik")
    outcome = deliver(settings, tmp_path / "bomen_2018.csv", "bomen", "2018-13")
    assert (outcome.status, "--period 2018-13 is no jaar" in (outcome.reason or "")) == ("geweigerd", True)


def test_an_empty_correction_takes_the_rows_of_its_period_away(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_periode", empty="true")
    _deliver(settings, "bomen_2018.csv", "eik")
    _deliver(settings, "bomen_2018_verbeterd.csv")
    assert _table(settings) == []


def test_an_empty_delivery_is_refused_where_it_was_not_agreed(tmp_path: Path) -> None:
    settings = _factory(tmp_path, "vervangt_periode")
    _deliver(settings, "bomen_2018.csv", "eik")
    outcome = _deliver(settings, "bomen_2018_verbeterd.csv")
    assert (outcome.status, "holds no rows" in (outcome.reason or "")) == ("geweigerd", True)
    assert _table(settings) == [("eik", "2018")]


# --- per record ------------------------------------------------------------------------------------------------------

PER_RECORD = '{per_record: {vervalt_bij: {soort: ["weg"]}}}'


def _told(outcome: Outcome) -> dict[str, tuple[int, dict[str, int]]]:
    """By rule, how many records did it, and to how many of which period."""
    return {
        each["rule"]: (each["count"], {name.split("-")[1]: n for name, n in each["earlier"].items()})
        for each in outcome.findings
    }


def test_a_record_is_replaced_and_taken_back_and_told_of(tmp_path: Path) -> None:
    settings = _factory(tmp_path, PER_RECORD)
    assert _told(_deliver(settings, "bomen_2017.csv", "eik", "els", "iep")) == {}
    assert _table(settings) == [("eik", "2017"), ("els", "2017"), ("iep", "2017")]
    outcome = _deliver(settings, "bomen_2018.csv", "weg", "den", "iep", "weg")
    assert (outcome.delivered, outcome.accepted, outcome.refused, outcome.repaired) == (4, 4, 0, 0)
    assert _told(outcome) == {REMOVES: (1, {"2017": 1}), REPLACES: (2, {"2017": 2}), IDLE: (1, {})}
    assert _table(settings) == [("den", "2018"), ("iep", "2018")]
    assert _told(_deliver(settings, "bomen_2019.csv", "vlier")) == {}  # it is new again
    assert _told(_deliver(settings, "bomen_2020.csv", "weg")) == {REMOVES: (1, {"2019": 1})}
    assert _table(settings) == [("den", "2018"), ("iep", "2018")]
    with vault(settings.paths, settings.resources, ensure_key(settings.paths).vault) as con:
        query = "SELECT count(*), count(DISTINCT _levering) FROM vault.aanvoer.bomen"
        assert con.execute(query).fetchall() == [(9, 4)]  # nothing leaves the vault by it


def test_a_correction_that_is_judged_again_does_the_same_once(tmp_path: Path) -> None:
    settings = _factory(tmp_path, f"{PER_RECORD}}}\n  - {{property: max_foutaandeel, value: 0.9")
    _deliver(settings, "bomen_2018.csv", "eik", "els")
    path = tmp_path / "bomen_2019.csv"
    path.write_text("nummer;soort\n0;weg\n;els\n")
    before = deliver(settings, path, "bomen")
    after = rejudge(settings, f"bomen-2019-{before.fingerprint[:12]}", "jan")
    assert (after.accepted, after.refused, after.findings) == (before.accepted, before.refused, before.findings)
    assert _told(after)[REMOVES] == (1, {"2018": 1})
    assert _table(settings) == [("els", "2018")]


def test_a_removal_that_arrives_before_what_it_removes_does_so_all_the_same(tmp_path: Path) -> None:
    settings = _factory(tmp_path, PER_RECORD)
    assert _told(_deliver(settings, "bomen_2019.csv", "weg")) == {IDLE: (1, {})}
    assert _told(_deliver(settings, "bomen_2018.csv", "eik", "els")) == {OVERTAKEN: (1, {})}
    assert _table(settings) == [("els", "2018")]


def test_only_a_record_of_the_same_key_is_touched_within_what_the_contract_names(tmp_path: Path) -> None:
    """Who delivers another kind cannot take out what is not his: the columns of `binnen` are part of the key."""
    settings = _factory(tmp_path, '{per_record: {binnen: [soort], vervalt_bij: {soort: ["weg"]}}}')
    _deliver(settings, "bomen_2018.csv", "eik")
    assert _told(_deliver(settings, "bomen_2019.csv", "weg")) == {IDLE: (1, {})}
    assert _table(settings) == [("eik", "2018")]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[duckdb.DuckDBPyConnection, Contract]:
    """A vault in memory, and the contract of what stands in it."""
    contract = load("bomen", _factory(tmp_path_factory.mktemp("bomen"), PER_RECORD).contract_folders)
    con = duckdb.connect()
    con.execute("ATTACH ':memory:' AS vault")
    register.prepare(con)
    register.prepare_delivery(con, "bomen", contract)
    return con, contract


@given(
    deliveries=st.lists(
        st.tuples(st.integers(2000, 2004), st.lists(st.sampled_from(["eik", "els", "weg"]), max_size=4)),
        min_size=1,
        max_size=6,
    )
)
@tried(max_examples=25, deadline=None)
def test_what_counts_is_the_last_of_each_key_and_the_numbers_add_up(
    opened: tuple[duckdb.DuckDBPyConnection, Contract], deliveries: list[tuple[int, list[str]]]
) -> None:
    con, contract = opened
    con.execute("DELETE FROM vault.aanvoer.bomen; DELETE FROM vault.beheer.leveringen")
    for place, (year, kinds) in enumerate(deliveries):
        numbers = list(range(len(kinds)))
        rows = pl.DataFrame({"nummer": list(map(str, numbers)), "soort": kinds, LINE: numbers})
        register.add_rows(con, register.table("bomen"), rows, f"d{place}")
        entry = Entry(
            f"d{place}", "bomen", "bomen", "1", str(year), "", "", RECEIVED, len(kinds), len(kinds), 0, 0, None,
            datetime(2021, 1, 1) + timedelta(days=place), None,
        )  # fmt: skip
        tally = Tally(delivered=len(kinds), accepted=len(kinds))
        superseding.tell(con, contract, entry, tally)  # holds that its counts add up to what was accepted
        register.enter(con, entry)
    last: dict[str, str] = {}
    for _, _, kinds in sorted((year, place, kinds) for place, (year, kinds) in enumerate(deliveries)):
        last |= {str(number): kind for number, kind in enumerate(kinds)}
    found = con.execute(f"SELECT nummer, soort FROM {superseding.counting(contract, 'bomen')} ORDER BY 1").fetchall()
    assert found == sorted((number, kind) for number, kind in last.items() if kind != "weg")


@pytest.mark.parametrize(
    "rule",
    [
        "per_record", "{per_record: {}}", "{per_record: {vervalt_bij: {}}}", "{per_record: {vervalt_bij: {soort: []}}}",
        "{per_record: {vervalt_bij: {kleur: [weg]}}}", "{per_record: {binnen: [kleur], vervalt_bij: {soort: [weg]}}}",
        "{per_record: {wie: soort, vervalt_bij: {soort: [weg]}}}", "per_rekord",
    ],
)  # fmt: skip
def test_a_rule_that_says_too_little_is_refused(tmp_path: Path, rule: str) -> None:
    settings = _factory(tmp_path, rule)
    with pytest.raises(ContractError, match="correctie"):
        load("bomen", settings.contract_folders)
