"""The release as Dagster runs it, with its checks, suites and pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import dagster as dg
import duckdb
import pytest

from assets.release.assets import build, promises
from assets.release.marts import read_marts
from assets.release.publish import current
from quality.expectations import strip_remote, validate

REMOTE = re.compile(r"""(?:src|href)=["'](?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import\s+["'(]*(?:https?:)?//""")


def run(factory):
    assets, checks = build(factory.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([*assets, *checks], instance=instance, raise_on_error=False)
    return result, {item.check_name: item for item in result.get_asset_check_evaluations()}


def test_the_sample_factory_releases_to_both_and_the_pages_load_nothing(factory):
    factory.zzp({})
    result, checks = run(factory)
    assert result.success
    assert {name for name, item in checks.items() if not item.passed} == set()
    assert {f"{who}_kandidaat_haalt_alle_verwachtingen" for who in ("intern", "open")} <= set(checks)
    known = current(factory.settings.paths, "open").record["logboek"][0]
    assert factory.ledger.last("publication", "intern").seq <= known, "each knows what the one before it got"
    for audience in ("intern", "open"):
        assert current(factory.settings.paths, audience) is not None
        (made,) = result.asset_materializations_for_node(f"levering__{audience}")
        assert isinstance(made.metadata["geheime_cellen"].value, int)
        pages = list((factory.settings.paths.reports / "data_docs" / audience).rglob("*.html"))
        assert len(pages) >= 1 + 2 * 3
        styles = (factory.settings.paths.reports / "data_docs" / audience).rglob("*.css")
        assert [page for page in (*pages, *styles) if REMOTE.search(page.read_text())] == []
        assert not any("<script" in page.read_text() for page in pages)
        text = " ".join(page.read_text() for page in pages)
        assert "bijstand_per_regio" in text


def test_a_suite_that_fails_blocks_the_release(factory, monkeypatch):
    import assets.release.assets as wiring

    def tampering(settings, audience):
        made = build_candidate(settings, audience)
        with duckdb.connect(str(made.database)) as connection:
            connection.execute("UPDATE bijstand_per_regio SET teller = 3 WHERE status = 'geheim'")
        return made

    build_candidate = wiring.build_candidate
    monkeypatch.setattr(wiring, "build_candidate", tampering)
    result, checks = run(factory)
    assert not result.success
    assert not checks["open_kandidaat_haalt_alle_verwachtingen"].passed
    assert current(factory.settings.paths, "open") is None
    assert current(factory.settings.paths, "intern") is None


def test_a_run_in_which_something_went_wrong_releases_the_rest_and_ends_as_failed(factory):
    @dg.asset(key=["raw_zzp", "bedrijven"], check_specs=[dg.AssetCheckSpec("actueel", asset=["raw_zzp", "bedrijven"])])
    def refused():
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="actueel", passed=False)])

    assets, checks = build(factory.settings)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([refused, *assets, *checks], instance=instance, raise_on_error=False)
    assert not result.success
    assert current(factory.settings.paths, "open") is not None
    told = {item.check_name: item.description for item in result.get_asset_check_evaluations()}
    assert told["open_komt_uit_een_run_zonder_fouten"] == "raw_zzp.bedrijven: actueel"


def test_an_agreement_that_is_over_makes_nothing_and_breaks_nothing(factory, monkeypatch):
    over = "naam: GGD, overeenkomst: convenant 3, geldig_tot: 2026-01-31, tabellen: [bijstand_per_regio]"
    text = (factory.folder / "policy" / "normen.yaml").read_text()
    own = f"  partner_ggd: {{{over}, minimum: 7, afronding: 5, bescherming: 4}}\n  open:"
    factory.norms(text.replace("  open:", own))
    monkeypatch.setattr("assets.release.assets.served", lambda _: ("partner_ggd",))
    result, checks = run(factory)
    assert result.success
    assert (result.get_asset_materialization_events(), checks) == ([], {})
    assert current(factory.settings.paths, "partner_ggd") is None


def test_metadata_tells_counts_of_what_was_solved_and_taken_over(factory):
    result, _ = run(factory)
    (made,) = result.asset_materializations_for_node("levering__open_kandidaat")
    told = {name: value.value for name, value in made.metadata.items()}
    assert told["blokken_opgelost"] == 2
    assert told["blokken_overgenomen"] == 0
    assert told["geheime_cellen"] > 0
    assert told["smalste_interval"] >= 5
    assert told["seconden"] >= 0
    assert 0 < told["aandeel_waarde_geheim_pct"] < 20
    result, _ = run(factory)
    (made,) = result.asset_materializations_for_node("levering__open_kandidaat")
    assert made.metadata["blokken_opgelost"].value == 0
    assert made.metadata["blokken_overgenomen"].value == 2


def test_every_asset_has_group_owner_kinds_and_a_check(factory):
    assets, checks = build(factory.settings)
    checked = {key.asset_key for check in checks for key in check.check_keys}
    for asset in assets:
        (spec,) = asset.specs
        assert spec.group_name == "levering"
        assert spec.owners == ["team:datafabriek"]
        assert spec.description
        assert "duckdb" in spec.kinds
        assert spec.key in checked


def test_remote_references_of_any_kind_are_stripped(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<html><head><link rel='stylesheet' href='//cdn.example/x.css'><style>@import url(https://e.example/a.css);"
        "b { background: url('https://e.example/i.png') }</style></head><body>"
        '<script src="https://e.example/x.js" integrity="x"></script><script>\nfetch("https://e.example")\n</script>'
        '<img\n src="https://e.example/pixel.gif"><a href="https://e.example">kept text</a></body></html>'
    )
    strip_remote(tmp_path)
    text = page.read_text()
    assert not REMOTE.search(text)
    assert "e.example" not in text
    assert "kept text" in text


@pytest.mark.browser
def test_pages_are_readable_in_a_browser(factory, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: apt install chromium")
    candidate = factory.candidate("open")
    site = tmp_path / "data_docs"
    validate(candidate.database, promises(candidate, read_marts(factory.settings)), site, "open")
    page = next((site / "validations").rglob("*.html"))
    index = site / "index.html"
    assert page.relative_to(site).as_posix() in index.read_text()
    pages = (
        (page, "bijstand_per_regio"),
        (index, "verwachtingen gehaald"),
        (candidate.folder / "index.html", candidate.id),
    )
    for target, expected in pages:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command = [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", target.as_uri()]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        assert expected in found


def test_evidence_and_metadata_hold_counts_alone(factory):
    candidate = factory.candidate("open")
    evidence = json.loads((candidate.folder / "bewijs.json").read_text())
    for counts in evidence["tabellen"].values():
        assert all(isinstance(value, int) for value in counts.values())
