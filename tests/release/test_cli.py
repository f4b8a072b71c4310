"""`datafabriek release …` and `datafabriek accept`, as a user calls them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from assets.release.publish import ReleaseError
from assets.release.waivers import WaiverError
from datafabriek.cli import app


@pytest.fixture
def call(factory, monkeypatch):
    monkeypatch.setenv("DATAFABRIEK_FACTORY", str(factory.folder / "factory.yaml"))

    def run(*words):
        result = CliRunner().invoke(app, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return run


def test_list_show_and_diff(factory, call):
    assert "nothing was released yet" in call("release", "list")
    first, _ = factory.release("open")
    factory.bijstand({"2020-01": {"BU19160001": 50}, "2020-02": {}})
    second, _ = factory.release("open")
    listed = json.loads(call("release", "list", "--json"))
    assert [(item["release"], item["gepubliceerd"]) for item in listed] == [(first.id, False), (second.id, True)]
    assert second.id in call("release", "show", "open")
    assert json.loads(call("release", "show", second.id, "--json"))["inhoud"] == second.content
    (table,) = json.loads(call("release", "diff", first.id, "open", "--json"))
    assert table["table"] == "bijstand_per_regio"
    assert table["added"] == 2 * 27
    assert table["removed"] == 0
    assert table["changed"] + table["same"] == 2 * 27
    assert table["changed"] > 0
    assert "bijstand_per_regio" in call("release", "diff", first.id, second.id)
    (same,) = json.loads(call("release", "diff", second.id, second.id, "--json"))
    assert (same["changed"], same["added"], same["removed"]) == (0, 0, 0)


def test_diff_names_the_releases_that_there_are(factory, call):
    release, _ = factory.release("open")
    with pytest.raises(ReleaseError, match=release.id):
        call("release", "diff", "open", "nothing")


def test_accept_notes_a_waiver(factory, call):
    assert "is accepted until 2099-12-31" in call(
        "accept", "onbekende_buurt_pct", "--reason", "verhuizing", "--until", "2099-12-31"
    )
    assert factory.ledger.last("waiver", "onbekende_buurt_pct").payload["reden"] == "verhuizing"
    for words, told in (
        (("minimum", "--reason", "x", "--until", "2099-12-31"), "protects people"),
        (("onbekend", "--reason", "x", "--until", "2099-12-31"), "known are"),
        (("regios_compleet", "--reason", " ", "--until", "2099-12-31"), "needs a reason"),
        (("regios_compleet", "--reason", "x", "--until", "2001-01-01"), "has passed"),
        (("regios_compleet", "--reason", "x", "--until", "morgen"), "is no date"),
    ):
        with pytest.raises(WaiverError, match=told):
            call("accept", *words)
    assert len(factory.ledger.events("waiver")) == 1


def test_an_unknown_release_is_bad_input_and_moments_say_their_zone(factory, call):
    factory.release("open")
    assert " UTC" in call("release", "list")
    assert " UTC, norms" in call("release", "show", "open")
    with pytest.raises(ReleaseError, match="there is no release a") as told:
        call("release", "diff", "a", "b")
    assert told.value.exit_code == 2
