"""The releases of a factory: immutable folders, a link per audience, and the ledger that answers for both.

Belongs here: moving a checked candidate into place, and putting ledger, folders and links right after a stop at
any moment. Does not belong here: what a release holds (assets.release.candidate).

Order of publishing, each step atomic by itself: (1) the ledger notes the release, (2) the candidate's folder is
renamed to `releases/<audience>/<id>`, (3) the link `published/<audience>` is swapped, (4) the ledger notes the
publication. So whatever anyone may have seen stands in the ledger; `reconcile` finishes what a stop left undone.

Withdrawing begins with the ledger too: (1) it notes the withdrawal, (2) the link is swapped to the newest release
that is left, or taken away, and the ledger notes that, (3) the folder moves to `releases/<audience>/ingetrokken/<id>`,
where nobody opens it by accident. It is kept as it is: who saw it still knows it, and so does the attacker on later
releases.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafabriek.config import Home
from datafabriek.errors import FactoryError
from datafabriek.folders import private_folder
from datafabriek.ledger import Event, Ledger
from quality.norms import Audience
from quality.norms import audiences as ordered

DATABASE = "datafabriek.duckdb"
RECORD = "release.json"
"""The release's own record: id, fingerprints, norms, state per table, the ledger's head when it was made."""

CANDIDATE = ".kandidaat"
WITHDRAWN = "ingetrokken"
"""Where the folders of withdrawn releases lie, per audience."""


class ReleaseError(FactoryError):
    """A release that cannot be made, found or trusted: the message says why and what to do."""


class UnknownReleaseError(ReleaseError):
    """A release was asked for that there is not."""

    exit_code = 2


@dataclass(frozen=True)
class Release:
    """A release in its folder, with its record."""

    folder: Path
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """Name to cite it by, as `open-2026-11-21-1a2b3c`."""
        return str(self.record["release"])

    @property
    def audience(self) -> str:
        """Who it was made for."""
        return str(self.record["doelgroep"])

    @property
    def is_withdrawn(self) -> bool:
        """Whether its folder was put aside; the ledger tells why."""
        return self.folder.parent.name == WITHDRAWN

    @property
    def content(self) -> str:
        """Fingerprint of everything it shows: equal content is never released twice in a row."""
        return str(self.record["inhoud"])

    @property
    def catalogue(self) -> dict[str, Any]:
        """Its catalogue: every table and column described."""
        found: dict[str, Any] = json.loads((self.folder / "catalogus.json").read_text(encoding="utf-8"))
        return found

    @property
    def database(self) -> Path:
        """Its DuckDB file."""
        return self.folder / DATABASE


def candidate_folder(home: Home, audience: Audience) -> Path:
    """Where the candidate of an audience is built: on the same file system as its releases."""
    return home.releases / audience / CANDIDATE


def audiences(home: Home, ledger: Ledger | None = None) -> tuple[Audience, ...]:
    """Every audience that can have releases: those of every factory, and each partner that ever got one.

    Args:
        home: of the factory: a partner's folder under `releases` tells.
        ledger: tells too, of a partner whose folder is gone.
    """
    folders = [path.name for path in home.releases.iterdir()] if home.releases.is_dir() else []
    noted = [event.subject for event in ledger.events("release")] if ledger is not None else []
    return ordered([*folders, *noted])


def read_release(folder: Path) -> Release:
    """A release or candidate by its folder.

    Raises:
        ReleaseError: the folder has no readable record.
    """
    try:
        return Release(folder, json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise ReleaseError(f"{folder} is no release: its {RECORD} cannot be read") from None


def current(home: Home, audience: str) -> Release | None:
    """What is published to an audience now; None before its first release."""
    link = home.published / audience
    return read_release(link.resolve()) if link.is_symlink() and link.exists() else None


def releases(home: Home) -> list[Release]:
    """All releases ever made, withdrawn ones too, oldest first per audience."""
    found = [
        read_release(folder)
        for audience in audiences(home)
        for place in (home.releases / audience, home.releases / audience / WITHDRAWN)
        for folder in sorted(place.glob(f"{audience}-*"))
    ]
    return sorted(found, key=lambda release: (release.audience, str(release.record["gemaakt"])))


def find_release(home: Home, name: str) -> Release:
    """A release by its id, withdrawn or not, or what is current by the name of its audience.

    Raises:
        UnknownReleaseError: there is none of that name; the message lists those that there are.
    """
    if name in audiences(home) and (found := current(home, name)):
        return found
    for release in releases(home):
        if release.id == name:
            return release
    known = ", ".join(release.id for release in releases(home)) or "none yet"
    raise UnknownReleaseError(f"there is no release {name}: known are {known}")


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a release's folder but its record, by its path in the folder."""
    found = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_symlink() or path.is_file()
    }
    # a link may show something else tomorrow: it has no fingerprint
    return {
        name: "" if path.is_symlink() else fingerprint(path) for name, path in sorted(found.items()) if name != RECORD
    }


def publish(home: Home, ledger: Ledger, audience: Audience) -> tuple[Release, bool]:
    """Publish the candidate of an audience; the caller has checked it.

    Returns:
        The current release, and whether it is new: a candidate that shows what is already shown is dropped.

    Raises:
        ReleaseError: there is no complete candidate, a file of it is not what its record says, or it shows exactly
            what the sample factory withdrew before.
    """
    reconcile(home, ledger)
    candidate = read_release(candidate_folder(home, audience))
    verify_files(candidate)
    now = current(home, audience)
    if now is not None and now.content == candidate.content:
        shutil.rmtree(candidate.folder)
        return now, False
    record = candidate.record
    # elsewhere a table of a withdrawn release needs an approval that came after it; a sample has none
    again = next((r for r in releases(home) if r.is_withdrawn and r.content == candidate.content), None)
    if again and record["voorbeeld"]:
        raise ReleaseError(
            f"{candidate.id} is not published: it shows exactly what {again.id} showed, which was withdrawn; "
            "mend the delivery, the model or the norms that made it so"
        )
    payload = {
        "release": candidate.id,
        "inhoud": candidate.content,
        "voorbeeld": record["voorbeeld"],
        "normen_versie": record["normen_versie"],
        "normen": record["normen"],
        "afwijkingen": record["afwijkingen"],
        "tabellen": record["tabellen"],
        "bestanden": record["bestanden"] | {RECORD: fingerprint(candidate.folder / RECORD)},
    }
    for path in candidate.folder.rglob("*"):
        if not path.is_dir():
            path.chmod(0o444)
        _sync(path)
    _sync(candidate.folder)
    event = ledger.append("release", audience, payload)
    _finish(home, ledger, event)
    published = current(home, audience)
    assert published is not None
    return published, True


def reconcile(home: Home, ledger: Ledger) -> list[str]:
    """Put folders, links and ledger right after a stop at any moment; returns what was done, in words.

    Raises:
        LedgerError: the ledger was tampered with or rolled back: a release knows of an event that it lacks.
        ReleaseError: a release's folder stands in no ledger, or a release is gone or was changed: what anyone ever
            saw must be known to whoever judges the next.
    """
    done: list[str] = []
    noted = {event.payload["release"]: event for event in ledger.events("release")}
    made = releases(home)
    # the whole chain once, for all heads that the releases know
    ledger.verify(*((int(seq), str(digest)) for seq, digest in (release.record["logboek"] for release in made)))
    for release in made:
        event = noted.get(release.id)
        if event is None or event.payload["bestanden"].get(RECORD) != fingerprint(release.folder / RECORD):
            raise ReleaseError(
                f"{release.folder} stands in no line of the ledger {ledger.path}: nothing is released until "
                "the newest backup of the ledger is restored"
            )
    folders = {release.id: release.folder for release in made}
    for audience in audiences(home, ledger):
        withdrawals = {event.payload["release"]: event for event in ledger.events("withdrawal", audience)}
        events = ledger.events("release", audience)
        live = [event for event in events if event.payload["release"] not in withdrawals]
        for event in events:
            name = event.payload["release"]
            was_made = name not in withdrawals or "map" in withdrawals[name].payload
            if was_made and event not in live[-1:] and name not in folders:
                raise ReleaseError(f"the release {home.releases / audience / name} is gone: restore it from a backup")
        if live and _finish(home, ledger, live[-1]):
            done.append(f"{audience}: {live[-1].payload['release']} was left half published, and is published now")
        elif not live and _unpublish(home, ledger, audience):
            done.append(f"{audience}: nothing is published any more")
        for name, event in withdrawals.items():
            if "map" in event.payload and not read_release(folders[name]).is_withdrawn:
                _put_aside(folders[name])
                done.append(f"{audience}: {name} was withdrawn, and is put aside now")
        (home.published / f".{audience}.nieuw").unlink(missing_ok=True)
    return done


def withdraw(home: Home, ledger: Ledger, audience: Audience, name: str, reason: str, who: str) -> Release | None:
    """Take a release back: nobody is shown it any more, and whoever judges later releases still knows it.

    Args:
        home: of the factory; the caller holds its lock.
        ledger: notes it.
        audience: to whom it was released.
        name: the release's id.
        reason: why, for whoever looks later; no personal value.
        who: did it.

    Returns:
        What is published to the audience now: the newest release that was not withdrawn; None where none is left.

    Raises:
        UnknownReleaseError: there is no such release of this audience, or it was withdrawn before.
        ReleaseError, LedgerError: ledger and releases do not fit each other.
    """
    reconcile(home, ledger)
    release = find_release(home, name)
    if release.id != name or release.audience != audience:
        raise UnknownReleaseError(f"{name} is no release to {audience}: name one by its id, as `release list` shows it")
    if release.is_withdrawn:
        raise UnknownReleaseError(f"{name} was withdrawn before")
    _note_withdrawal(home, ledger, release, reason, who)
    reconcile(home, ledger)
    return current(home, audience)


def withdraw_all(home: Home, ledger: Ledger, audience: Audience, reason: str, who: str) -> list[str]:
    """Take back every release to an audience that still lies there; returns their ids. See `withdraw`."""
    reconcile(home, ledger)
    left = [release for release in releases(home) if release.audience == audience and not release.is_withdrawn]
    for release in left:
        _note_withdrawal(home, ledger, release, reason, who)
    reconcile(home, ledger)
    return [release.id for release in left]


def _note_withdrawal(home: Home, ledger: Ledger, release: Release, reason: str, who: str) -> None:
    place = home.releases / release.audience / WITHDRAWN / release.id
    shown = sorted(table for table, facts in release.record["tabellen"].items() if facts["staat"] != "ontbreekt")
    facts = {"release": release.id, "reden": reason, "wie": who, "tabellen": shown}
    ledger.append("withdrawal", release.audience, facts | {"map": place.relative_to(home.published_root).as_posix()})


def withdrawal(ledger: Ledger, audience: str, name: str) -> Event | None:
    """When, why and by whom a release was withdrawn, by its id; None where it was not."""
    events = ledger.events("withdrawal", audience)
    return next((event for event in events if event.payload["release"] == name), None)


def _unpublish(home: Home, ledger: Ledger, audience: str) -> bool:
    """Take away the link of an audience for which nothing is left; True when there was something to do."""
    link, noted = home.published / audience, ledger.last("publication", audience)
    if link.is_symlink():
        link.unlink()
        _sync(home.published)
    if noted is None or noted.payload["release"] is None:
        return False
    ledger.append("publication", audience, {"release": None})
    return True


def _put_aside(folder: Path) -> None:
    """Move the folder of a withdrawn release, as it is, to where only the factory looks."""
    place = private_folder(folder.parent / WITHDRAWN) / folder.name
    folder.rename(place)
    _sync(place.parent)
    _sync(folder.parent)


def _finish(home: Home, ledger: Ledger, event: Event) -> bool:
    """Take the steps after the ledger's note that have not been taken; True when there were any."""
    audience, name = event.subject, str(event.payload["release"])
    folder, waiting = home.releases / audience / name, home.releases / audience / CANDIDATE
    took = False
    if not folder.is_dir():
        record = waiting / RECORD
        if not record.is_file() or fingerprint(record) != event.payload["bestanden"][RECORD]:
            if any(past.payload["release"] == name for past in ledger.events("publication", audience)):
                raise ReleaseError(f"the published release {folder} is gone: restore it from a backup")
            ledger.append("withdrawal", audience, {"release": name, "reden": "nooit voltooid"})
            return True
        waiting.rename(folder)
        _sync(folder.parent)
        took = True
    link = home.published / audience
    target = os.path.relpath(folder, home.published)
    if not link.is_symlink() or str(link.readlink()) != target:
        verify_files(read_release(folder))
        new = home.published / f".{audience}.nieuw"
        new.unlink(missing_ok=True)
        new.symlink_to(target, target_is_directory=True)
        new.replace(link)
        _sync(home.published)
        took = True
    published = ledger.last("publication", audience)
    if published is None or published.payload["release"] != name:
        ledger.append("publication", audience, {"release": name})
        took = True
    return took


def verify_files(release: Release) -> None:
    """Compare every file with the fingerprint in the record.

    Raises:
        ReleaseError: a file is missing, changed, or not in the record.
    """
    expected: dict[str, str] = release.record["bestanden"]
    present = fingerprints(release.folder)
    wrong = sorted(name for name in present.keys() | expected.keys() if present.get(name) != expected.get(name))
    if wrong:
        raise ReleaseError(f"{release.folder}: {', '.join(wrong)} not as recorded; nothing is published from it")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
