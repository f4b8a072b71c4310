"""`datafabriek release …` and `datafabriek accept`, as a user calls them."""

from __future__ import annotations

import json
import shutil
import sqlite3

import duckdb
import pytest
from typer.testing import CliRunner

from assets.release.history import sealed_file
from assets.release.publish import ReleaseError
from assets.release.waivers import WaiverError
from datafabriek.cli import app
from datafabriek.errors import FactoryError
from quality.privacy.approvals import ApprovalError


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
    assert {item["release"]: item["gepubliceerd"] for item in listed} == {first.id: False, second.id: True}
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


def test_diff_knows_withdrawn_releases_and_tables_that_were_made_otherwise(factory, call):
    factory.zzp({}, {"WK191600": {"A": 60, "B": 20, "C": 0}})
    first, _ = factory.release("intern")
    factory.sql("ALTER TABLE marts.zzp_per_sector RENAME sector_code TO soort_code")
    factory.sql("ALTER TABLE marts.zzp_per_sector RENAME sector_naam TO soort_naam")
    factory.specs["zzp_per_sector"] = factory.specs["zzp_per_sector"] | {"total_of": {"soort_code": "T001081"}}
    factory.manifest()
    second, _ = factory.release("intern")
    call("release", "withdraw", "intern", second.id, "--reason", "een toets op verschillen")
    found = {item["table"]: item for item in json.loads(call("release", "diff", first.id, second.id, "--json"))}
    sectors, others = found["zzp_per_sector"], found["zzp_per_regio"]
    assert (sectors["changed"], sectors["same"]) == (0, 0)
    assert sectors["added"] == sectors["removed"] == first.record["tabellen"]["zzp_per_sector"]["aantallen"]["cellen"]
    assert (others["changed"], others["added"], others["removed"]) == (0, 0, 0)
    assert others["same"] > 0


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
    assert "2026-11-21T03:00 UTC" in call("release", "list"), "recorded at 04:00 by the clock of the schedule"
    assert "2026-11-21T03:00 UTC, norms" in call("release", "show", "open")
    with pytest.raises(ReleaseError, match="there is no release a") as told:
        call("release", "diff", "a", "b")
    assert told.value.exit_code == 2


@pytest.fixture
def office(real, monkeypatch):
    """A real factory's commands, each with its exit code; dbt is not asked to parse the made-up manifest."""
    monkeypatch.setenv("DATAFABRIEK_FACTORY", str(real.folder / "factory.yaml"))
    monkeypatch.setattr("assets.models.runner.manifest", lambda _: {})

    def run(*words):
        result = CliRunner().invoke(app, list(words), input="een lang wachtwoord\n")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def key(person):
        return ("--key", str(real.folder.parent / f"{person}.key"))

    run.key = key
    return run


def test_from_proposal_to_withdrawal(real, office):
    code, told = office("release", "propose", "intern", *office.key("anna"), "--as", "anna")
    assert (code, "anna proposes 1 table(s) to intern" in told) == (0, True)
    assert "role normen" not in told, "the norms are signed"
    (path,) = (real.folder / "policy" / "leveringen").glob("*.yaml")
    assert f"release approve policy/leveringen/{path.name} --key KEY" in told
    with pytest.raises(ApprovalError, match="anna proposed it"):
        office("release", "approve", str(path), *office.key("anna"))
    with pytest.raises(ApprovalError, match="is the key of bob, not of cees"):
        office("release", "approve", str(path), *office.key("bob"), "--as", "cees")
    code, told = office("release", "approve", str(path), *office.key("bob"))
    assert "bob approves these for intern" in told
    assert "BU, WK, GM" in told
    release, _ = real.release("intern")
    assert "approved by bob on" in office("release", "show", "intern")[1]
    code, told = office("release", "verify", "--all")
    assert (code, "all in order" in told) == (0, True)
    with pytest.raises(ReleaseError, match="at least ten characters"):
        office("release", "withdraw", "intern", release.id, "--reason", "fout")
    code, told = office("release", "withdraw", "intern", release.id, "--reason", "verkeerde peildatum")
    assert "nothing is published to intern any more" in told
    assert "again only under an approval given from now on: bijstand_per_regio" in told
    (row,) = json.loads(office("release", "list", "--json")[1])
    assert row["ingetrokken"]["reden"] == "verkeerde peildatum"
    assert not row["gepubliceerd"]
    assert "withdrawn" in office("release", "list")[1]
    assert "verkeerde peildatum" in office("release", "show", release.id)[1]
    code, told = office("release", "verify", "--all", "--json")
    report = json.loads(told)
    assert (code, report["goed"]) == (0, True)
    assert [item["release"] for item in report["releases"]] == [release.id]
    assert json.loads(office("release", "verify", "--json")[1])["releases"] == [], "nothing is shown to anyone"


def test_what_cannot_be_proposed_is_told(real, office):
    for words, told in (
        (("intern", "onbekend"), "known are bijstand_per_regio"),
        (("niemand",), "known are intern, open"),
    ):
        with pytest.raises(FactoryError, match=told) as error:
            office("release", "propose", *words, *office.key("anna"))
        assert error.value.exit_code == 2
    next((real.folder / "policy").glob("normen.yaml.*")).unlink()
    told = office("release", "propose", "intern", *office.key("anna"))[1]
    assert "someone with the role normen: `datafabriek privacy approve policy/normen.yaml --key KEY`" in told
    real.specs["bijstand_per_regio"] = None
    real.manifest()
    with pytest.raises(ApprovalError, match="no table to propose"):
        office("release", "propose", "intern", *office.key("anna"))
    with pytest.raises(ApprovalError, match="says nothing about disclosure"):
        office("release", "propose", "intern", "bijstand_per_regio", *office.key("anna"))
    real.specs["bijstand_per_regio"] = {"policy": "frequentie", "levels": ["GM"]}
    real.manifest()
    with pytest.raises(ApprovalError, match=r"bijstand_per_regio: de disclosure-spec .* ontbreekt telling"):
        office("release", "propose", "intern", "bijstand_per_regio", *office.key("anna"))


def tamper_with_file(release, real):
    file = release.folder / "bijstand_per_regio.csv"
    file.chmod(0o600)
    file.write_text("regio_code\n")


def tamper_with_record(release, real):
    file = release.folder / "release.json"
    file.chmod(0o600)
    file.write_text(file.read_text() + " ")


def add_file(release, real):
    (release.folder / "extra.csv").write_text("x")


def link_elsewhere(release, real):
    link = real.settings.paths.published / "intern"
    link.unlink()
    link.symlink_to(release.folder.parent)


def lose_folder(release, real):
    release.folder.rename(real.folder / "weg")


def copy_in(release, real):
    shutil.copytree(release.folder, release.folder.with_name("intern-2026-11-22-abcdef"))


def drop_last_events(release, real):
    with sqlite3.connect(real.settings.paths.ledger) as connection:
        connection.execute("DROP TRIGGER events_are_never_deleted")
        connection.execute("DELETE FROM events WHERE seq > 3")
    real.settings.paths.ledger.with_suffix(".head").unlink()


def tamper_with_parquet(release, real):
    tamper(release.folder / "bijstand_per_regio.parquet")


def tamper_with_database(release, real):
    release.database.chmod(0o600)
    with duckdb.connect(str(release.database)) as connection:
        connection.execute("UPDATE bijstand_per_regio SET waarde = 0")


def tamper_with_evidence(release, real):
    tamper(release.folder / "bewijs.zip")


def tamper_with_proposal(release, real):
    """The spec that was approved, as it lies in the release."""
    (file,) = (release.folder / "goedkeuringen").glob("*.yaml")
    file.chmod(0o600)
    file.write_text(file.read_text().replace("- BU\n", ""))


def tamper_with_signature(release, real):
    tamper(next(iter((release.folder / "goedkeuringen").glob("*.minisig"))))


def tamper_with_sealed(release, real):
    tamper(sealed_file(real.settings.paths, release.id))


def tamper(file):
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"x")


def rewrite_a_line(release, real):
    with sqlite3.connect(real.settings.paths.ledger) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE events SET payload = replace(payload, 'anna', 'eva') WHERE kind = 'approval'")
        assert connection.execute("SELECT changes()").fetchone()[0]


def drop_ledger(release, real):
    real.settings.paths.ledger.unlink()


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (tamper_with_file, "bijstand_per_regio.csv not as recorded"),
        (tamper_with_parquet, "bijstand_per_regio.parquet not as recorded"),
        (tamper_with_database, "datafabriek.duckdb not as recorded"),
        (tamper_with_evidence, "bewijs.zip not as recorded"),
        (tamper_with_proposal, ".yaml not as recorded"),
        (tamper_with_signature, ".minisig not as recorded"),
        (tamper_with_sealed, "its sealed evidence"),
        (rewrite_a_line, "was tampered with"),
        (tamper_with_record, "release.json is not what the ledger noted"),
        (add_file, "extra.csv not as recorded"),
        (link_elsewhere, "the ledger says intern-"),
        (lose_folder, "its folder is gone"),
        (copy_in, "stands in no line of the ledger"),
        (drop_last_events, "restore the newest backup"),
        (drop_ledger, "restore its newest backup"),
    ],
)
def test_verify_tells_what_is_wrong(real, office, attack, told):
    real.let_go()
    release, _ = real.release("intern")
    assert office("release", "verify")[0] == 0
    attack(release, real)
    code, output = office("release", "verify", "--all")
    assert code == 1
    assert told in " ".join(output.split())
    assert json.loads(office("release", "verify", "--json")[1])["goed"] is False


def test_verify_sees_a_ledger_that_was_put_back(real, office):
    """With its mark of the newest event and all: the release that came after knows better."""
    real.let_go()
    real.release("intern")
    folder = real.settings.paths.ledger.parent
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    real.bijstand({"2020-01": {"BU19160000": 7, "BU19160001": 44}}, unknown=12)
    assert real.release("intern")[1]
    for path in folder.iterdir():
        path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    code, output = office("release", "verify")
    assert code == 1
    assert "stands in no line of the ledger" in " ".join(output.split())


def test_who_opens_what_was_refused_stands_in_the_ledger_first(factory, call):
    factory.zzp({})
    factory.norms(
        "{versie: 1, vastgesteld_op: 2026-11-22, vastgesteld_door: toets, herziening_maximaal: geen, tijdslimiet_s: 0, "
        "doelgroepen: {intern: {minimum: 5, afronding: 1, bescherming: 3}}}"
    )
    with pytest.raises(FactoryError, match="ten characters"):
        call("release", "refused", "intern", "--reason", "zomaar")
    assert factory.ledger.last("vault_access", "levering intern") is None
    factory.candidate("intern")
    output = call("release", "refused", "intern", "--reason", "nagaan wat er in de weg staat")
    assert "bijstand_per_regio: bescherming: 2020-01: de tijd was om" in " ".join(output.split())
    assert "bijstand/2020-01/GM" in output
    noted = factory.ledger.last("vault_access", "levering intern").payload
    assert noted["reason"] == "nagaan wat er in de weg staat"
    factory.norms(
        (factory.folder / "policy" / "normen.yaml").read_text().replace("tijdslimiet_s: 0", "tijdslimiet_s: 60")
    )
    factory.candidate("intern")
    assert "no cell stood in the way" in call("release", "refused", "intern", "--reason", "nog eens nagaan, nu goed")


def test_verify_works_every_certificate_out_again(real, office, monkeypatch):
    real.let_go()
    release, _ = real.release("intern")
    (told,) = json.loads(office("release", "verify", "--json")[1])["releases"]
    assert told["certificates"] == release.record["bewijs"]["blokken"] == 2
    monkeypatch.setattr("quality.disclosure.certificate.check_certificate", lambda *_: ["een cel"])
    code, output = office("release", "verify")
    assert code == 1
    assert "1 intervallen zijn nauwer dan het bewijs zegt" in " ".join(output.split())


def test_a_head_noted_elsewhere_holds_the_ledger_to_it(real, office):
    head = "{}:{}".format(*real.ledger.head())
    assert office("release", "verify", "--head", head)[0] == 0
    assert office("release", "verify", "--head", f"1:{'0' * 64}")[0] == 1
    with pytest.raises(FactoryError, match="expected a number and a hash"):
        office("release", "verify", "--head", "iets")
