"""The releases of a factory: immutable folders, a link per audience, and the ledger that answers for both.

Belongs here: moving a checked candidate into place, and putting ledger, folders and links right after a stop at
any moment. Does not belong here: what a release holds (assets.release.candidate).

Order of publishing, each step atomic by itself: (1) the ledger notes the release, (2) the candidate's folder is
renamed to `releases/<audience>/<id>`, (3) the link `published/<audience>` is swapped, (4) the ledger notes the
publication. So whatever anyone may have seen stands in the ledger; `reconcile` finishes what a stop left undone.
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
from datafabriek.ledger import Event, Ledger
from quality.norms import AUDIENCES, Audience

DATABASE = "datafabriek.duckdb"
RECORD = "release.json"
"""The release's own record: id, fingerprints, norms, state per table, the ledger's head when it was made."""

CANDIDATE = ".kandidaat"


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
    """All releases ever made, oldest first per audience."""
    found = [
        read_release(folder)
        for audience in AUDIENCES
        for folder in sorted((home.releases / audience).glob(f"{audience}-*"))
    ]
    return sorted(found, key=lambda release: (release.audience, str(release.record["gemaakt"])))


def find_release(home: Home, name: str) -> Release:
    """A release by its id, or what is current by the name of its audience.

    Raises:
        UnknownReleaseError: there is none of that name; the message lists those that there are.
    """
    if name in AUDIENCES and (found := current(home, name)):
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


def publish(home: Home, ledger: Ledger, audience: Audience) -> tuple[Release, bool]:
    """Publish the candidate of an audience; the caller has checked it.

    Returns:
        The current release, and whether it is new: a candidate that shows what is already shown is dropped.

    Raises:
        ReleaseError: there is no complete candidate, or a file of it is not what its record says.
    """
    reconcile(home, ledger)
    candidate = read_release(candidate_folder(home, audience))
    verify_files(candidate)
    now = current(home, audience)
    if now is not None and now.content == candidate.content:
        shutil.rmtree(candidate.folder)
        return now, False
    record = candidate.record
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
    for file in candidate.folder.iterdir():
        file.chmod(0o444)
        _sync(file)
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
        ReleaseError: a release's folder stands in no ledger, or a published release is gone or was changed.
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
    for audience in AUDIENCES:
        events = ledger.events("release", audience)
        gone = {event.payload.get("release") for event in ledger.events("withdrawal", audience)}
        live = [event for event in events if event.payload["release"] not in gone]
        if live and _finish(home, ledger, live[-1]):
            done.append(f"{audience}: {live[-1].payload['release']} was left half published, and is published now")
        for stray in (home.published / f".{audience}.nieuw",):
            stray.unlink(missing_ok=True)
    return done


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
    present = {file.name for file in release.folder.iterdir()} - {RECORD}
    wrong = sorted(present ^ set(expected))
    wrong += [name for name in sorted(present & set(expected)) if fingerprint(release.folder / name) != expected[name]]
    if wrong:
        raise ReleaseError(f"{release.folder}: {', '.join(wrong)} not as recorded; nothing is published from it")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
