"""Releases looked at again as they lie: ledger, files, links, approvals and public evidence, long after they were made.

Belongs here: what anyone may ask of a release afterwards, from the release and the ledger alone; nothing is mended
(assets.release.publish does that) and neither warehouse nor vault is opened. Does not belong here: the second look at a
candidate before it goes out (assets.release.verify).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assets.release import approval
from assets.release.evidence import PUBLIC, unpack
from assets.release.history import sealed_file
from assets.release.publish import (
    RECORD,
    WITHDRAWN,
    Release,
    ReleaseError,
    fingerprint,
    read_release,
    verify_files,
    withdrawal,
)
from assets.release.publish import audiences as every
from datafabriek.config import Home, Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger, LedgerError
from quality.privacy import approvals


@dataclass
class Rechecked:
    """One release, how much of it was checked, and what is wrong with it.

    Attributes:
        withdrawn: since when it is shown to nobody.
        files: whose fingerprints were compared.
        approvals: tables whose signatures were verified.
        certificates: blocks of which every interval was worked out again from what is published.
    """

    release: str
    audience: str
    withdrawn: str | None = None
    files: int = 0
    approvals: int = 0
    certificates: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Report:
    """All that was looked at. `head` is the ledger's newest event: note it elsewhere to hold the ledger to it later."""

    events: int
    head: tuple[int, str]
    releases: list[Rechecked]
    wrong: list[str]

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong and not any(release.wrong for release in self.releases)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {"goed": self.is_good} | asdict(self)


def recheck(
    settings: Settings, audiences: Iterable[str] | None, *, everything: bool, known: Iterable[tuple[int, str]] = ()
) -> Report:
    """Look at the ledger and at releases again.

    Args:
        settings: of the factory.
        audiences: whose releases; None: of all who ever got any.
        everything: every release ever made, withdrawn ones too; else what is published now.
        known: heads of the ledger that were noted outside the factory.
    """
    home, ledger = settings.paths, Ledger(settings.paths.ledger)
    folders = {folder.name: folder for folder in _folders(home)}
    records: dict[str, Release] = {}
    broken: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            records[name] = read_release(folder)
        except ReleaseError as error:
            broken[name] = str(error)
    wrong = _ledger(settings, ledger, records.values(), known)
    is_sound = not wrong
    try:
        noted = {event.payload["release"]: event for event in ledger.events("release")}
        count, head = len(ledger.events()), ledger.head()
    except LedgerError as error:
        return Report(0, (0, ""), [], list(dict.fromkeys([*wrong, str(error)])))
    wrong += [f"{folder} stands in no line of the ledger" for name, folder in folders.items() if name not in noted]
    found = []
    for audience in every(home, ledger) if audiences is None else audiences:
        last = ledger.last("publication", audience)
        current = last.payload["release"] if last else None
        # a ledger that lacks events says nothing of what should be published
        wrong += _link(home, audience, current) if is_sound else []
        for name, event in noted.items():
            if event.subject != audience or not (everything or name == current):
                continue
            if name not in folders:
                # what the ledger noted and a stop kept from being made was never there
                gone = withdrawal(ledger, audience, name)
                if gone is None or "map" in gone.payload:
                    found.append(Rechecked(name, audience, wrong=["its folder is gone: restore it from a backup"]))
            elif name in broken:
                found.append(Rechecked(name, audience, wrong=[broken[name]]))
            else:
                found.append(_release(home, records[name], ledger, event.payload["bestanden"]))
    return Report(count, head, found, wrong)


def _folders(home: Home) -> list[Path]:
    places = [home.releases / audience / aside for audience in every(home) for aside in ("", WITHDRAWN)]
    return [folder for place in places for folder in sorted(place.glob("*-*")) if folder.is_dir()]


def _ledger(settings: Settings, ledger: Ledger, made: Iterable[Release], known: Iterable[tuple[int, str]]) -> list[str]:
    """What is wrong with the chain, against every head that releases, signatures and whoever asks know."""
    heads = [(int(seq), str(digest)) for seq, digest in (release.record["logboek"] for release in made)] + list(known)
    wrong = []
    if settings.policy_folder is not None and not settings.sample:
        try:
            heads += approvals.anchors(settings.policy_folder, approvals.load_roles(settings, tell=False))
        except (LedgerError, approvals.ApprovalError) as error:
            wrong.append(str(error))
    try:
        ledger.verify(*heads)
    except LedgerError as error:
        wrong.append(str(error))
    return list(dict.fromkeys(wrong))


def _link(home: Home, audience: str, current: str | None) -> list[str]:
    """What is wrong with the link of an audience: it must lead to what the ledger says is published."""
    link = home.published / audience
    shown = link.resolve().name if link.is_symlink() else None
    if shown == current and (current is None or link.resolve().parent == (home.releases / audience).resolve()):
        return []
    return [f"{link} leads to {shown or 'nothing'}, the ledger says {current or 'nothing'}: `datafabriek run` mends it"]


def _sealed(home: Home, release: Release) -> list[str]:
    """Whether the vault still holds the sealed evidence as it was; it stays closed."""
    path = sealed_file(home, release.id)
    if not os.access(path.parent, os.R_OK | os.X_OK):
        return []  # the vault is not for everyone who may check releases
    if path.is_file() and fingerprint(path) == release.record["bewijs"]["verzegeld"]:
        return []
    return [f"its sealed evidence {path} is gone or was changed: restore it from a backup, or nothing is released"]


def _release(home: Home, release: Release, ledger: Ledger, noted: dict[str, str]) -> Rechecked:
    event = withdrawal(ledger, release.audience, release.id)
    enclosed = release.record.get(approval.RECORD_KEY, {}).get("tabellen", {})
    found = Rechecked(release.id, release.audience, event.at if event else None, len(noted), len(enclosed))
    if noted.get(RECORD) != fingerprint(release.folder / RECORD):
        found.wrong.append(f"{RECORD} is not what the ledger noted")
    try:
        verify_files(release)
    except ReleaseError as error:
        found.wrong.append(str(error))
    found.wrong += approval.recheck(release, ledger)
    # only bytes that are as recorded are opened: a bundle that was changed may name any path
    if "bewijs" in release.record and not found.wrong:
        found.certificates = int(release.record["bewijs"]["blokken"])
        found.wrong += certificates(release)
        if found.certificates and not (release.folder / PUBLIC).is_file():
            found.wrong.append(f"{PUBLIC} is not there, though its record tells of {found.certificates} certificates")
        found.wrong += _sealed(home, release)
    if release.is_withdrawn != (event is not None):
        found.wrong.append("its folder and the ledger differ on whether it was withdrawn: `datafabriek run` mends it")
    return found


def certificates(release: Release) -> list[str]:
    """Everything in the public evidence of a release that does not hold, recomputed from that evidence alone.

    Returns:
        Per block that fails what is wrong, in Dutch; empty when all holds.
    """
    import numpy as np

    from quality.disclosure.auditor import audit
    from quality.disclosure.certificate import check_certificate
    from quality.disclosure.readers import read_specs, read_table
    from quality.disclosure.table import join

    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for block, files in unpack(release):
            place_of = Path(folder) / block
            place_of.mkdir(parents=True)
            for name, text in files.items():
                (place_of / name).write_text(text, encoding="utf-8")
            try:
                parts = read_specs(place_of / "spec.yaml", None)
                tables = [read_table(path, spec) for spec, path in parts]
                system = join(tables)
                rounded = np.zeros(system.cells, dtype=bool)
                for table, cells in zip(tables, system.cell_of, strict=True):
                    assert table.status is not None
                    rounded[cells] = table.status == "afgerond"
                result = audit(system, parts[0][0].norms(), rounded=rounded)
                certificate = json.loads((place_of / "certificaat.json").read_text(encoding="utf-8"))
                told = check_certificate(certificate, system, rounded, result)
                least = float(certificate["minimum_width"] or 0)
                if told or result.narrowest < least:
                    wrong.append(f"{block}: {len(told) or 'de smalste'} intervallen zijn nauwer dan het bewijs zegt")
            except (FactoryError, KeyError, ValueError) as error:
                wrong.append(f"{block}: het bewijs is niet te lezen ({type(error).__name__})")
    return wrong
