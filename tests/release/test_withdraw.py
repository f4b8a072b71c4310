"""Withdrawing a release: shown to nobody from one step on, known for good to whoever judges what comes after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assets.release.diff import diff
from assets.release.publish import (
    WITHDRAWN,
    ReleaseError,
    UnknownReleaseError,
    current,
    find_release,
    reconcile,
    releases,
    verify_files,
    withdraw,
    withdrawal,
)
from datafabriek.ledger import Ledger
from datafabriek.status import read_status


class Stop(BaseException):
    """The power goes out."""


@pytest.fixture
def two(factory):
    """A factory with two releases to everyone; the second is published."""
    first, _ = factory.release("open")
    factory.bijstand({"2020-01": {"BU19160001": 50}})
    second, _ = factory.release("open")
    return factory, first, second


def take_back(factory, release):
    return withdraw(factory.settings.paths, factory.ledger, "open", release.id, "verkeerde peildatum", "proef")


def test_the_newest_that_is_left_is_published_in_one_step(two, monkeypatch):
    factory, first, second = two
    link = factory.settings.paths.published / "open"
    replace, seen = Path.replace, []

    def watching(self, target):
        if Path(target) == link:
            seen.append(link.resolve().name)
        done = replace(self, target)
        if Path(target) == link:
            seen.append(link.resolve().name)
        return done

    monkeypatch.setattr(Path, "replace", watching)
    assert take_back(factory, second).id == first.id
    assert seen == [second.id, first.id], "never a moment without a release"
    assert current(factory.settings.paths, "open").id == first.id
    assert factory.ledger.last("publication", "open").payload["release"] == first.id


def test_the_last_one_leaves_no_link(factory):
    release, _ = factory.release("open")
    assert take_back(factory, release) is None
    assert not os.path.lexists(factory.settings.paths.published / "open")
    assert factory.ledger.last("publication", "open").payload["release"] is None
    state = read_status(factory.settings)
    assert state.releases == ()
    assert [(item.release, item.reason) for item in state.withdrawn] == [(release.id, "verkeerde peildatum")]


def test_it_is_put_aside_whole_and_stays_known(two):
    factory, first, second = two
    take_back(factory, second)
    home = factory.settings.paths
    noted = withdrawal(factory.ledger, "open", second.id).payload
    assert noted["map"] == f"releases/open/{WITHDRAWN}/{second.id}"
    assert noted["tabellen"] == ["bijstand_per_regio"]
    aside = find_release(home, second.id)
    assert aside.folder == home.published_root / noted["map"]
    assert aside.is_withdrawn
    verify_files(aside)
    assert aside.folder.parent.stat().st_mode & 0o077 == 0
    assert [release.id for release in releases(home)] == [first.id, second.id], "the attacker still knows it"
    (table,) = diff(first, aside)
    assert table.changed > 0


def test_an_older_one_can_be_withdrawn_and_what_is_published_stays(two):
    factory, first, second = two
    assert take_back(factory, first).id == second.id
    assert current(factory.settings.paths, "open").id == second.id
    assert find_release(factory.settings.paths, first.id).is_withdrawn


def stopping(deed, is_here):
    """A method that stops the process just before it does its deed, where it should."""

    def step(self, *given, **named):
        if is_here(self, *given, **named):
            raise Stop
        return deed(self, *given, **named)

    return step


@pytest.mark.parametrize("moment", ["ledger withdrawal", "link", "ledger publication", "put aside"])
@pytest.mark.parametrize("left", [0, 1], ids=["none left", "one left"])
def test_a_stop_at_any_moment_is_put_right(factory, moment, left):
    release, _ = factory.release("open")
    if left:
        factory.bijstand({"2020-01": {"BU19160001": 50}})
        release, _ = factory.release("open")
    home = factory.settings.paths
    link = home.published / "open"
    # each step, known by what a call is asked of or what it is asked to put in its place
    steps = (
        (Ledger, "append", lambda self, kind, *_: moment == f"ledger {kind}"),
        (Path, "rename", lambda self, target: moment == "put aside"),
        (Path, "replace", lambda self, target: moment == "link" and target == link),
        (Path, "unlink", lambda self, **_: moment == "link" and self == link),
    )
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, is_here in steps:
            patch.setattr(owner, name, stopping(getattr(owner, name), is_here))
        with pytest.raises(Stop):
            take_back(factory, release)
    done = reconcile(home, factory.ledger)
    shown = current(home, "open")
    if moment == "ledger withdrawal":
        assert done == []
        assert shown.id == release.id
        return
    assert (shown is None) == (left == 0)
    assert shown is None or shown.id != release.id
    assert find_release(home, release.id).is_withdrawn
    assert factory.ledger.last("publication", "open").payload["release"] == (shown.id if shown else None)
    assert reconcile(home, factory.ledger) == []


def test_a_night_later_the_same_does_not_go_out_again(two):
    factory, first, second = two
    take_back(factory, second)
    with pytest.raises(ReleaseError, match=rf"exactly what {second.id} showed, which was withdrawn"):
        factory.release("open")
    assert current(factory.settings.paths, "open").id == first.id
    factory.bijstand({"2020-01": {"BU19160001": 60}})
    third, is_new = factory.release("open")
    assert is_new
    assert third.id not in (first.id, second.id)


def test_what_cannot_be_withdrawn_is_told(two):
    factory, first, second = two
    home = factory.settings.paths
    take_back(factory, second)
    for name, audience, told in (
        (second.id, "open", "was withdrawn before"),
        ("open-1999-01-01-000000", "open", f"known are .*{first.id}"),
        ("open", "open", "name one by its id"),
        (first.id, "intern", "is no release to intern"),
    ):
        with pytest.raises(UnknownReleaseError, match=told):
            withdraw(home, factory.ledger, audience, name, "reden genoeg", "proef")
    assert len(factory.ledger.events("withdrawal")) == 1


def test_a_withdrawn_release_that_is_gone_or_put_back_refuses_release(two):
    factory, _, second = two
    take_back(factory, second)
    aside = find_release(factory.settings.paths, second.id).folder
    back = factory.settings.paths.releases / "open" / second.id
    aside.rename(back)
    assert reconcile(factory.settings.paths, factory.ledger) == [
        f"open: {second.id} was withdrawn, and is put aside now"
    ]
    for file in aside.iterdir():
        file.unlink()
    aside.rmdir()
    with pytest.raises(ReleaseError, match=rf"{second.id} is gone: restore it from a backup"):
        factory.release("open")


def test_an_old_release_that_is_gone_refuses_release(two):
    """Whoever saw it still knows it; what it showed must be known to whoever judges the next."""
    factory, first, _ = two
    for file in first.folder.iterdir():
        file.unlink()
    first.folder.rmdir()
    with pytest.raises(ReleaseError, match=rf"{first.id} is gone: restore it from a backup"):
        factory.release("open")
