"""The inbox: no file is taken in half, none is lost, and one that cannot be taken in keeps no other waiting."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from assets.deliveries import inbox, intake
from assets.deliveries.assets import build
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import deliver, standing, take_inbox
from datafabriek.cli import app
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.sample.deliveries import FILES, Manifest
from datafabriek.warehouse import vault, warehouse
from quality.privacy.keys import ensure_key

MARCH, APRIL = "BUS_202003.txt", "BUS_202004.txt"


def _drop(settings: Settings, delivered: tuple[Path, Manifest], name: str, *files: str) -> Path:
    folder = settings.paths.inbox / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(delivered[0] / name / file, folder / file)
    return folder


def _left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_that_is_open_for_writing_waits_and_the_others_do_not(
    factory: Settings, delivered: tuple[Path, Manifest]
) -> None:
    folder = _drop(factory, delivered, "bus", MARCH, APRIL)
    with (folder / MARCH).open("ab"):
        assert [outcome.period for outcome in take_inbox(factory, "bus")] == ["2020-04"]
        assert _left(folder) == [MARCH]
        with pytest.raises(DeliveryError, match="still being written"):
            deliver(factory, folder / MARCH, "bus")
    assert [outcome.period for outcome in take_inbox(factory, "bus")] == ["2020-03"]


def test_where_nobody_can_tell_a_file_is_given_time_to_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "_is_open", lambda path: None)
    monkeypatch.setattr(inbox, "SETTLED_S", 1)
    monkeypatch.setattr(inbox, "_LOOK_S", 0.05)
    young, old = tmp_path / "young", tmp_path / "old"
    for path in (young, old):
        path.write_text("x")
    os.utime(old, (0, 0))
    assert not inbox.is_whole(young)
    began = time.monotonic()
    assert inbox.whole([young, old]) == [young, old]
    assert 0.5 < time.monotonic() - began < 5


def test_unfinished_names_are_known_in_any_case(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv.PART", "c.crdownload", ".d.csv"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in inbox.waiting(tmp_path)] == ["a.csv"]


def test_what_is_not_taken_in_is_told(
    factory: Settings, delivered: tuple[Path, Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    folder = _drop(factory, delivered, "bus", MARCH)
    (folder / "map van jansen").mkdir()
    (folder / "map van jansen" / APRIL).write_text("x")
    for name in (".BUS_202005.txt", ".jansen.txt", "nieuw.csv.part", "oud.csv.part"):
        (folder / name).write_text("x")
    os.utime(folder / "oud.csv.part", (0, 0))
    left = {"folders": 1, "hidden": 2, "unfinished": 1}
    assert inbox.passed_over(folder) == left
    assert [outcome.status for outcome in take_inbox(factory, "bus")] == ["ontvangen"]
    assert "not taken in from its inbox: 1 folders, 2 hidden, 1 unfinished" in caplog.text
    assert "jansen" not in caplog.text, "names of files may tell of persons"
    told = CliRunner().invoke(app, ["status"])
    assert "4 things in inbox/bus that no run takes in: 1 folder, 2 hidden files, 1 unfinished file" in told.output
    assert "jansen" not in told.output
    asset = next(a for a in build(factory)[0] if a.key.to_user_string() == "vault/bus")
    result = dg.materialize([asset], selection=[asset])
    (event,) = result.asset_materializations_for_node("vault__bus")
    assert event.metadata["blijft_in_de_inbox"].value == "1 map, 2 verborgen bestanden, 1 onaf bestand"
    assert result.success


SECRET = b"de sleutel van de kluis"


def _swapped(folder: Path, secret: Path, how: str) -> None:
    """What whoever may write in the folder of a delivery does between two steps of the intake."""
    file, claims = folder / MARCH, folder / ".in_behandeling"
    if how == "a link for the file":
        file.unlink()
        file.symlink_to(secret)
    elif how == "a pipe for the file":
        file.unlink()
        os.mkfifo(file)
    elif how == "a link for the folder of what is in work":
        claims.symlink_to(secret.parent)
    else:
        file.unlink()


@pytest.mark.parametrize(
    "how", ["a link for the file", "a pipe for the file", "a link for the folder of what is in work", "withdrawn"]
)
@pytest.mark.parametrize("moment", ["waiting", "whole"])
def test_what_is_swapped_in_after_a_look_is_never_followed(
    factory: Settings, delivered: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str,
    moment: str,
) -> None:  # fmt: skip
    folder = _drop(factory, delivered, "bus", MARCH, APRIL)
    secret = tmp_path / "elders" / MARCH
    secret.parent.mkdir()
    secret.write_bytes(SECRET)
    real = getattr(inbox, moment)

    def looked(*args: Any) -> Any:
        found = real(*args)
        monkeypatch.setattr(inbox, moment, real)
        _swapped(folder, secret, how)
        return found

    monkeypatch.setattr(inbox, moment, looked)
    found = {outcome.file: outcome for outcome in take_inbox(factory, "bus")}
    assert secret.read_bytes() == SECRET
    for kept in factory.paths.originals.iterdir() if factory.paths.originals.is_dir() else ():
        assert intake.original(factory.paths, ensure_key(factory.paths), kept.stem) != SECRET
    if how.startswith("a link for the folder"):
        assert {outcome.status for outcome in found.values()} == {"geweigerd"}
        assert "a link took the place of" in (found[APRIL].reason or "")
        (folder / ".in_behandeling").unlink()
    else:
        assert found[APRIL].status == "ontvangen"  # what is wrong with one keeps no other waiting
        assert (MARCH in found) == (how != "withdrawn")
        if MARCH in found:
            assert "no file of its own but a link, pipe or device" in (found[MARCH].reason or "")
    assert take_inbox(factory, "bus") is not None


def test_a_link_in_the_place_of_what_a_killed_run_left_deletes_nothing(factory: Settings, tmp_path: Path) -> None:
    """Without the guard the intake would read, and then remove, whatever the link leads to."""
    folder, victim = factory.paths.inbox / "bus", tmp_path / "elders" / "map" / "kostbaar.txt"
    victim.parent.mkdir(parents=True)
    victim.write_bytes(SECRET)
    folder.mkdir(parents=True)
    (folder / ".in_behandeling").symlink_to(victim.parents[1])
    assert inbox.waiting(folder) == []
    assert [outcome.status for outcome in take_inbox(factory, "bus")] == ["geweigerd"]
    (folder / ".in_behandeling").unlink()
    (folder / ".in_behandeling").mkdir()
    (folder / ".in_behandeling" / "1-2").symlink_to(victim.parent)
    assert take_inbox(factory, "bus") == []
    with pytest.raises(inbox.SwappedError), inbox.claimed(folder / ".in_behandeling/1-2/kostbaar.txt", folder.parent):
        pytest.fail("it was opened")
    assert victim.read_bytes() == SECRET


def test_folders_that_change_while_a_file_is_judged_lead_no_removal_astray(factory: Settings, tmp_path: Path) -> None:
    folder, victim = factory.paths.inbox / "bus", tmp_path / "elders" / MARCH
    folder.mkdir(parents=True)
    victim.parent.mkdir()
    victim.write_bytes(SECRET)
    (folder / MARCH).write_bytes(b"een levering")
    with inbox.claimed(folder / MARCH, folder.parent) as claim:
        (place,) = (folder / ".in_behandeling").iterdir()
        place.rename(tmp_path / "weg")
        place.symlink_to(victim.parent)
        assert claim.opened.read_bytes() == b"een levering"
    assert victim.read_bytes() == SECRET
    assert not (tmp_path / "weg" / MARCH).exists()


def test_a_correction_dropped_while_its_predecessor_is_judged_is_not_lost(
    factory: Settings, delivered: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _drop(factory, delivered, "bus", MARCH)
    real, correction = intake._take, b"de correctie"

    def overtaken(*args: Any) -> Any:
        (folder / MARCH).write_bytes(correction)  # cut off and written anew, under the same name
        return real(*args)

    monkeypatch.setattr(intake, "_take", overtaken)
    assert [outcome.status for outcome in take_inbox(factory, "bus")] == ["ontvangen"]
    assert (folder / MARCH).read_bytes() == correction
    assert _left(folder) == [MARCH]


def test_a_file_that_changes_under_the_intake_leaves_no_half_original(
    factory: Settings, delivered: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _drop(factory, delivered, "bus", MARCH, APRIL)
    real = intake._keep_original

    def growing(home: Any, key: Any, path: Path, fingerprint: str) -> bool:
        kept = real(home, key, path, fingerprint)
        for march in folder.glob(f".in_behandeling/*/{MARCH}"):
            with march.open("ab") as file:
                file.write(b"nog meer")
        return kept

    monkeypatch.setattr(intake, "_keep_original", growing)
    assert [outcome.period for outcome in take_inbox(factory, "bus")] == ["2020-04"]
    assert _left(folder) == [MARCH]
    assert len(list(factory.paths.originals.iterdir())) == 1


def test_a_failed_intake_puts_the_file_back(
    factory: Settings, delivered: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _drop(factory, delivered, "bus", MARCH)

    def full(*_: Any) -> None:
        raise DeliveryError("the disk is full")

    monkeypatch.setattr(intake, "_take", full)
    with pytest.raises(DeliveryError, match="full"):
        take_inbox(factory, "bus")
    assert _left(folder) == [MARCH]


def test_the_same_bytes_for_another_period_are_another_delivery(
    factory: Settings, delivered: tuple[Path, Manifest]
) -> None:
    empty = ";".join(["postcode", "huisnummer", "huisletter", "huisnummertoevoeging", "buurt_code", "indeling_jaar"])
    file = factory.paths.root / "adressen_2020.csv"
    shutil.copyfile(delivered[0] / "adressen" / FILES["adressen"][0], file)
    assert empty in file.read_text().splitlines()[0]
    assert deliver(factory, file, "adressen").status == "ontvangen"
    assert deliver(factory, file, "adressen").status == "herhaald"
    other = deliver(factory, file, "adressen", "2021")
    assert (other.period, other.status) == ("2021", "geweigerd")  # judged on its own: its rows say 2020
    assert deliver(factory, file, "adressen").period == "2020"


def test_a_delivery_refused_as_a_whole_has_no_accepted_rows(
    factory: Settings, delivered: tuple[Path, Manifest]
) -> None:
    folder = _drop(factory, delivered, "bus", MARCH)
    lines = (folder / MARCH).read_bytes().splitlines(keepends=True)
    (folder / MARCH).write_bytes(b"".join(lines[:60]) + b"geen BUS\r\n" * 40)
    outcome = take_inbox(factory, "bus")[0]
    assert (outcome.status, outcome.delivered, outcome.accepted, outcome.refused) == ("geweigerd", 100, 0, 100)
    payload = Ledger(factory.paths.ledger).events("delivery")[-1].payload
    assert (payload["accepted"], payload["refused"]) == (0, 100)


def test_a_verdict_that_changed_just_before_a_kill_is_told_and_reported(
    factory: Settings, delivered: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def refuse(con: Any, settings: Any, key: Any, arrival: Any, named: Any) -> Any:
        return intake._refuse(con, arrival, "the contract was not ready")

    def killed(*_: Any) -> None:
        raise Killed

    _drop(factory, delivered, "bus", MARCH)
    with monkeypatch.context() as first:
        first.setattr(intake, "_take", refuse)
        take_inbox(factory, "bus")
    _drop(factory, delivered, "bus", MARCH)
    with monkeypatch.context() as second, pytest.raises(Killed):
        second.setattr(intake, "_report", killed)
        take_inbox(factory, "bus")
    assert [outcome.status for outcome in take_inbox(factory, "bus")] == ["herhaald"]
    events = Ledger(factory.paths.ledger).events("delivery", "bus")
    assert [event.payload["status"] for event in events] == ["geweigerd", "ontvangen"]
    page = next((factory.paths.reports / "op-orde" / "bus").glob("*.json"))
    assert '"Geweigerd."' not in page.read_text()


def test_a_new_address_file_places_what_came_before_it(factory: Settings, delivered: tuple[Path, Manifest]) -> None:
    key = ensure_key(factory.paths)
    _drop(factory, delivered, "bedrijven", *FILES["bedrijven"])
    assert (outcome := take_inbox(factory, "bedrijven")[0]).unknown_buurt == outcome.accepted
    _drop(factory, delivered, "adressen", *FILES["adressen"])
    take_inbox(factory, "adressen")
    row = standing(factory, key, "bedrijven")[0]
    assert row["buurt_onbekend"] < outcome.accepted / 10
    with vault(factory.paths, factory.resources, key.vault) as con:
        assert con.execute("SELECT count(*) FROM vault.beheer.leveringen").fetchone() == (2,)


def test_an_address_file_by_hand_renews_every_table_that_it_places(
    factory: Settings, delivered: tuple[Path, Manifest]
) -> None:
    unplaced = "SELECT count(*) FILTER (WHERE buurt_code IS NULL), count(*) FROM raw_zzp.bedrijven"

    def by_hand(name: str) -> tuple[int, int]:
        file = str(delivered[0] / name / FILES[name][0])
        done = CliRunner().invoke(app, ["intake", "deliver", file, "--contract", name])
        assert done.exit_code == 0, done.output
        with warehouse(factory.paths, factory.resources) as con:
            without, rows = con.execute(unplaced).fetchone() or (0, 0)
        return without, rows

    without, rows = by_hand("bedrijven")
    assert without == rows > 0
    assert by_hand("adressen")[0] < rows / 10
