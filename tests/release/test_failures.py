"""Failure is per dataset; norms of quality can be waived, those of privacy cannot; missing norms refuse."""

from __future__ import annotations

import json
from datetime import date

import pytest

from assets.release.gate import GateError
from assets.release.publish import current
from assets.release.waivers import WaiverError, accept
from quality.norms import PRIVACY_NORMS, NormsError, load_norms


def test_a_failed_mart_stays_as_it_was_and_the_rest_goes_on(factory, ask):
    factory.zzp({})
    first, _ = factory.release("open")
    factory.bijstand({"2020-01": {"BU19160001": 50}})
    factory.zzp({"BU05180000": 90})
    factory.dbt_results(model__f__bijstand_per_regio="error")
    factory.now = factory.now.replace(day=22)
    second, is_new = factory.release("open")
    assert is_new
    facts = second.record["tabellen"]["bijstand_per_regio"]
    assert (facts["staat"], facts["sinds"], facts["uit"]) == ("verouderd", "2026-11-22", first.id)
    query = "SELECT teller FROM {} WHERE regio_code = '{}' ORDER BY 1"
    bijstand = query.format("bijstand_per_regio", "BU19160001")
    assert ask(second, bijstand) == ask(first, bijstand)
    assert ask(second, query.format("zzp_per_regio", "BU05180000")) != ask(
        first, query.format("zzp_per_regio", "BU05180000")
    )
    told = ask(second, "SELECT waarde, toelichting FROM release_info WHERE naam = 'bijstand_per_regio'")
    assert told[0][0] == "verouderd"
    assert "2026-11-22" in told[0][1]
    comment = ask(second, "SELECT comment FROM duckdb_tables() WHERE table_name = 'bijstand_per_regio'")
    assert f"[verouderd sinds 2026-11-22, uit {first.id}]" in comment[0][0]


@pytest.mark.parametrize("status", ["error", "skipped", "building", None])
@pytest.mark.parametrize("node", ["model.f.bijstand_per_regio", "test.f.bijstand_per_regio_klopt"])
def test_a_mart_of_which_no_build_tells_that_it_is_good_is_not_released(factory, node, status):
    factory.zzp({})
    path = factory.settings.paths.dbt / "target" / "run_results.json"
    results = [item for item in json.loads(path.read_text())["results"] if item["unique_id"] != node]
    results += [{"unique_id": node, "status": status}] if status else []
    path.write_text(json.dumps({"results": results}))
    states = factory.candidate("open").record["tabellen"]
    assert states["bijstand_per_regio"]["staat"] == "ontbreekt"
    assert states["zzp_per_regio"]["staat"] == "actueel"


def test_without_any_results_nothing_is_released(factory):
    (factory.settings.paths.dbt / "target" / "run_results.json").unlink()
    with pytest.raises(GateError, match="kon niet worden vernieuwd"):
        factory.candidate("open")


def test_a_test_that_is_older_than_the_table_says_nothing_of_it(factory):
    factory.zzp({})
    path = factory.settings.paths.dbt / "target" / "run_results.json"
    results = json.loads(path.read_text())["results"]
    for item in results:
        item["at"] = "2026-11-20" if item["unique_id"] == "test.f.bijstand_per_regio_klopt" else "2026-11-21"
    path.write_text(json.dumps({"results": results}))
    reason = factory.candidate("open").record["tabellen"]["bijstand_per_regio"]["reden"]
    assert "ouder dan de tabel" in reason


def test_it_stays_stale_since_the_first_night_without_a_release_each_night(factory):
    factory.zzp({})
    first, _ = factory.release("open")
    factory.dbt_results(test__f__bijstand_per_regio_klopt="fail")
    factory.now = factory.now.replace(day=22)
    second, is_new = factory.release("open")
    assert is_new
    factory.now = factory.now.replace(day=23)
    assert not factory.release("open")[1]
    facts = second.record["tabellen"]["bijstand_per_regio"]
    assert (facts["sinds"], facts["uit"]) == ("2026-11-22", first.id)
    factory.zzp({"BU05180000": 90})
    third, _ = factory.release("open")
    assert third.record["tabellen"]["bijstand_per_regio"]["sinds"] == "2026-11-22"
    factory.dbt_results()
    fourth, is_new = factory.release("open")
    assert is_new
    assert fourth.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"


def test_a_table_on_a_source_that_was_not_renewed_is_marked_stale(factory, ask):
    factory.release("open")
    told = {"sinds": "2026-11-20T03:00:00.000+00:00"}
    factory.ledger.append("stale", "vault/bus", told)
    release, is_new = factory.release("open")
    assert is_new, "readers must hear of it"
    facts = release.record["tabellen"]["bijstand_per_regio"]
    assert (facts["staat"], facts["sinds"]) == ("verouderd", "2026-11-20")
    assert "raw_bijstand.bus" in facts["reden"]
    told = ask(release, "SELECT toelichting FROM release_info WHERE onderwerp = 'bron'")
    assert told == [("Verouderd sinds 2026-11-20.",)]
    factory.ledger.append("delivery", "bus", {"status": "ontvangen"})
    release, _ = factory.release("open")
    assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"


def test_a_release_names_its_sources_with_the_dates_of_cbs(factory, ask):
    factory.extra_parents["bijstand_per_regio"] = ["source.f.raw_cbs.kerncijfers_wijken_en_buurten"]
    factory.manifest()
    tables = {"84799NED": {"rijen": 1, "gewijzigd": "2021-03-26T02:00:00"}}
    factory.ledger.append("cbs_load", "raw_cbs.kerncijfers_wijken_en_buurten", {"tabellen": tables})
    release, _ = factory.release("open")
    found = ask(release, "SELECT naam, waarde FROM release_info WHERE onderwerp = 'bron'")
    assert found == [("CBS 84799NED", "2021-03-26")]


def test_a_missing_mart_without_an_earlier_version_is_told_as_missing(factory):
    factory.zzp({})
    factory.sql("DROP TABLE marts.bijstand_per_regio")
    release, _ = factory.release("open")
    assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "ontbreekt"


def test_nothing_at_all_to_release_fails_and_leaves_what_is_published(factory):
    with_all, _ = factory.release("open")
    factory.specs = {}
    factory.manifest()
    with pytest.raises(GateError, match="run dbt first"):
        factory.release("open")
    assert current(factory.settings.paths, "open").id == with_all.id


def test_without_norms_nothing_is_released_and_the_message_says_what_to_fill_in(factory):
    (factory.folder / "policy" / "normen.yaml").unlink()
    with pytest.raises(NormsError, match=r"no norms are set.*normen\.yaml.*doelgroepen"):
        factory.candidate("open")


def test_an_audience_without_norms_gets_nothing(factory):
    factory.norms(
        "{versie: 1, vastgesteld_op: 2026-01-01, vastgesteld_door: x, "
        "herziening_maximaal: geen, doelgroepen: {intern: {minimum: 5, afronding: 5, bescherming: 3}}}"
    )
    with pytest.raises(NormsError, match="sets no norms for open"):
        factory.candidate("open")


ONE = "doelgroepen: {intern: {minimum: 5, afronding: 5, bescherming: 3}"


@pytest.mark.parametrize(
    ("norms", "told"),
    [
        (f"{ONE.replace('minimum: 5', 'minimum: 1')}}}", "minimum"),
        (f"{ONE.replace('afronding: 5', 'afronding: 20')}}}", "rounds counts from 5 on to 0"),
        (f"{ONE.replace('bescherming: 3', 'bescherming: 4')}}}", "knows a hidden count to 3 apart"),
        (f"{ONE.replace(', bescherming: 3', '')}}}", "bescherming"),
        (f"{ONE}, open: {{minimum: 4, afronding: 5, bescherming: 2}}}}", "at least as strict"),
        (f"{ONE}, open: {{minimum: 10, afronding: 7, bescherming: 5}}}}", "odd multiple"),
        (f"{ONE}, open: {{minimum: 10, afronding: 10, bescherming: 5}}}}", "odd multiple"),
        (
            f"{ONE}, open: {{minimum: 10, afronding: 5, afrondingsmethode: sluitend, bescherming: 5}}}}",
            "rounding twice",
        ),
        (f"{ONE}}}\nherziening_maximaal: -1", "herziening_maximaal"),
        (f"{ONE.replace('minimum: 5', 'minimum: 5, minimum: 3')}}}", "doelgroepen.intern.minimum` stands on line"),
        ("doelgroepen: {iedereen: {minimum: 5, afronding: 5, bescherming: 3}}", "iedereen"),
        ("doelgroepen: {}", "doelgroepen"),
        ("drempel: 5", "drempel"),
    ],
)
def test_norms_that_cannot_hold_are_refused(tmp_path, norms, told):
    text = f"versie: x\nvastgesteld_op: 2026-01-01\nvastgesteld_door: x\n{norms}\n"
    text += "" if "herziening_maximaal" in norms else "herziening_maximaal: geen\n"
    (tmp_path / "normen.yaml").write_text(text)
    with pytest.raises(NormsError, match=told):
        load_norms(tmp_path)


class TestWaivers:
    """`onbekende_buurt_pct` is 20 here; with 500 unknown it is not met."""

    TODAY = date(2026, 11, 21)

    def _unplaced(self, factory):
        factory.zzp({})
        factory.bijstand({"2020-01": {}}, unknown=500)

    def test_a_quality_norm_that_is_not_met_keeps_the_table_out(self, factory):
        self._unplaced(factory)
        facts = factory.candidate("open").record["tabellen"]["bijstand_per_regio"]
        assert facts["staat"] == "ontbreekt"
        assert facts["reden"].startswith("onbekende_buurt_pct")

    def test_a_waiver_lets_it_through_and_the_release_tells(self, factory, ask):
        self._unplaced(factory)
        accept(factory.ledger, "onbekende_buurt_pct", "verhuizing van systeem", date(2026, 12, 31), self.TODAY)
        release, _ = factory.release("open")
        assert release.record["tabellen"]["bijstand_per_regio"]["staat"] == "actueel"
        told = ask(release, "SELECT naam, waarde, toelichting FROM release_info WHERE onderwerp = 'afwijking'")
        assert told == [("onbekende_buurt_pct", "aanvaard tot en met 2026-12-31", "verhuizing van systeem")]

    def test_an_expired_waiver_does_not_count(self, factory):
        self._unplaced(factory)
        accept(factory.ledger, "onbekende_buurt_pct", "even", self.TODAY, self.TODAY)
        factory.now = factory.now.replace(day=22)
        assert factory.candidate("open").record["tabellen"]["bijstand_per_regio"]["staat"] == "ontbreekt"

    def test_an_unused_waiver_is_not_told(self, factory, ask):
        accept(factory.ledger, "regios_compleet", "even", date(2026, 12, 31), self.TODAY)
        release, _ = factory.release("open")
        assert ask(release, "SELECT count(*) FROM release_info WHERE onderwerp = 'afwijking'") == [(0,)]

    @pytest.mark.parametrize("norm", PRIVACY_NORMS)
    def test_a_privacy_norm_is_never_waived(self, factory, norm):
        with pytest.raises(WaiverError, match="protects people"):
            accept(factory.ledger, norm, "haast", date(2026, 12, 31), self.TODAY)
        assert factory.ledger.events("waiver") == []

    def test_margins_that_do_not_add_up_keep_the_table_out(self, factory):
        factory.zzp({})
        factory.sql(
            "UPDATE marts.bijstand_per_regio SET teller = teller + 1, waarde = CASE WHEN noemer IS NULL "
            "THEN teller + 1 ELSE round(1000 * (teller + 1) / noemer, 2) END WHERE regio_code = 'WK191600'"
        )
        reason = factory.candidate("open").record["tabellen"]["bijstand_per_regio"]["reden"]
        assert reason.startswith("marges_tellen_op")

    def test_a_region_that_is_missing_keeps_the_table_out(self, factory):
        factory.zzp({})
        factory.sql("DELETE FROM marts.bijstand_per_regio WHERE regio_code = 'BU19160100'")
        reason = factory.candidate("open").record["tabellen"]["bijstand_per_regio"]["reden"]
        assert reason.startswith("regios_compleet")
