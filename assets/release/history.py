"""The memory of the gate: what was ever released, sealed in the vault, and who knows it.

Sealed per release (`vault/bewijs/<release>.sealed`, AES-SIV under a key of the master key): of every block that it was
the first to show so, what was shown, a keyed mark per cell of the count behind it, and the engine's own evidence. A
plain mark of a small count could be found by trying. Cells with the same mark have the same count behind them, so they
are one unknown to whoever reckons with several releases, also where the block around them changed.

Belongs here: keeping and reading those, checked against the ledger and the release folders. Does not belong here:
protecting a block (assets.release.blocks), public evidence (assets.release.evidence), publishing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from assets.release.blocks import Block, Part, Told, View
from assets.release.publish import RECORD, Release, audiences, fingerprint, releases
from datafabriek.config import Home, Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from quality.norms import Audience, Chain, Level
from quality.privacy.keys import MasterKey, ensure_key
from quality.protection import DisclosureSpec

SEALED = "bewijs"
"""Folder in the vault."""

FORMAT = "datafabriek-verzegeld/2"
MARK = 16
"""Digits of a mark; two counts of one cell share one once in 2⁶⁴."""
NOTHING = -1
"""Stands for a cell of which nothing was known; a hidden one is null."""


class EvidenceError(FactoryError):
    """Evidence or an earlier release that is missing or was changed: nothing that rests on it may be released."""


@dataclass(frozen=True)
class Version:
    """A version of a block, as it was once released to an audience.

    Attributes:
        release: the release that first showed it.
        indeling: year of the borders.
        normen: label of the norms in force.
        marts: per mart the fingerprint of its shape (`opzet`), its lowest level shown (`vanaf`), the marks of its
            counts (`merken`), what was shown (`getoond`), and the fingerprint of the rows that these are of (`rijen`).
        specs: per `opzet` the disclosure spec.
        rows: per `rijen` the keys and levels.
    """

    release: str
    indeling: int
    normen: str
    marts: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, Any]
    rows: Mapping[str, Any]

    def covers(self, shapes: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it holds all these marts, of the same shape and the same counts."""
        return all(
            mart in self.marts and {key: self.marts[mart][key] for key in shape} == shape
            for mart, shape in shapes.items()
        )

    def block(self, now: Block) -> Block:
        """What was shown, as a block whose cells bear the names of the figures behind them."""
        parts = []
        for mart, told in sorted(self.marts.items()):
            spec, (keys, heights) = DisclosureSpec(**self.specs[told["opzet"]]), self.rows[told["rijen"]]
            marks = [told["merken"][at : at + MARK] for at in range(0, len(told["merken"]), MARK)]
            parts.append(
                Part(
                    mart,
                    spec,
                    tuple(spec.shown_levels(told["vanaf"])),
                    self.indeling,
                    tuple(map(tuple, keys)),
                    tuple(heights),
                    np.array([np.nan if n in (None, NOTHING) else n for n in told["getoond"]], dtype=np.float64),
                    np.array([n is None for n in told["getoond"]], dtype=bool),
                    tuple(f"{cell}#{mark}" for cell, mark in zip(_cells(spec, keys), marks, strict=True)),
                )
            )
        return replace(now, parts=tuple(parts))


@dataclass(frozen=True)
class Made:
    """A block as it is now shown to an audience.

    Attributes:
        reused: the version that was taken over; None for one made now.
        shapes: per mart what `Version.covers` compares.
        sealed: the engine's evidence; empty for one that was taken over.
    """

    block: Block
    view: View
    chain: Chain
    shapes: dict[str, dict[str, str]]
    reused: Version | None = None
    sealed: Mapping[str, Any] = field(default_factory=dict)

    def only(self, marts: Collection[str]) -> Made:
        """The same for some marts alone: what was proved of more tables holds for fewer."""
        kept = [at for at, part in enumerate(self.block.parts) if part.mart in marts]
        if len(kept) == len(self.block.parts):
            return self
        return replace(
            self,
            block=replace(self.block, parts=tuple(self.block.parts[at] for at in kept)),
            view=replace(self.view, values=tuple(self.view.values[at] for at in kept)),
            shapes={mart: shape for mart, shape in self.shapes.items() if mart in marts},
        )


def _cells(spec: DisclosureSpec, keys: Sequence[Sequence[str]]) -> list[str]:
    """What each row is about, in whichever table it stands: the region, and the classes that are no totals."""
    classes = sorted((name, at, total) for at, (name, total) in enumerate(spec.total_of.items(), start=1))
    return ["|".join([key[0], *(f"{n}={key[at]}" for n, at, total in classes if key[at] != total)]) for key in keys]


class Seal:
    """Marks of counts, and seals, under the master key."""

    def __init__(self, key: MasterKey) -> None:
        self._marks, self._cipher = key.released(), AESSIV(key.evidence())

    def named(self, block: Block) -> Block:
        """The same block, in which the name of each cell tells which figure it is without telling the figure."""
        parts = []
        for part in block.parts:
            cells = _cells(part.spec, part.keys)
            marks = [self.mark(block, cell, count) for cell, count in zip(cells, part.count, strict=True)]
            parts.append(replace(part, names=tuple(f"{c}#{m}" for c, m in zip(cells, marks, strict=True))))
        return replace(block, parts=tuple(parts))

    def mark(self, block: Block, cell: str, count: float) -> str:
        """The keyed mark of a count of a cell; it does not depend on the borders of the day."""
        told = "?" if count != count else str(int(count))
        line = f"{block.telling}\n{block.periode}\n{cell}\n{told}"
        return hmac.digest(self._marks, line.encode(), "sha256").hex()[:MARK]

    def close(self, name: str, content: Mapping[str, Any]) -> bytes:
        """Content, encrypted under its name: the same gives the same bytes."""
        plain = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str).encode()
        return self._cipher.encrypt(zlib.compress(plain, 6), [name.encode()])

    def open(self, name: str, sealed: bytes) -> dict[str, Any]:
        """The content that was sealed under a name.

        Raises:
            EvidenceError: it was changed, sealed under another name or with another key.
        """
        try:
            content: dict[str, Any] = json.loads(zlib.decompress(self._cipher.decrypt(sealed, [name.encode()])))
        except (InvalidTag, ValueError, zlib.error):
            raise EvidenceError(
                f"het verzegelde bewijs {name} gaat niet open met deze sleutel: zet het terug uit de reservekopie"
            ) from None
        return content


def shapes(block: Block, lowest: Mapping[str, Level]) -> dict[str, dict[str, str]]:
    """Per mart of a named block what tells whether it was released so before."""
    return {
        part.mart: {
            "opzet": shape_of(part.spec, lowest[part.mart]),
            "vanaf": lowest[part.mart],
            "merken": "".join(name[-MARK:] for name in part.names),
        }
        for part in block.parts
    }


def shape_of(spec: DisclosureSpec, lowest: Level) -> str:
    """Fingerprint of what a spec says about which cells there are."""
    told = spec.model_dump(mode="json", exclude={"cbs", "rates"}) | {"vanaf": lowest}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def seal(settings: Settings) -> Seal:
    """The seal of this factory; its key is made where there is none yet."""
    return Seal(ensure_key(settings.paths))


def sealed_file(home: Home, name: str) -> Path:
    """Where the sealed evidence of a release (or of a candidate, by the audience) lies."""
    return home.vault / SEALED / f"{name}.sealed"


class History:
    """Everything that was ever released, as the ledger, the sealed evidence and the release folders tell it.

    Attributes:
        versions: per audience and block all distinct versions, oldest first.
        bare: tables and periods that were released without evidence.
    """

    def __init__(self, settings: Settings, ledger: Ledger, own: Seal) -> None:
        """Read it.

        Raises:
            EvidenceError: a folder or sealed evidence is missing or was changed.
        """
        self._home, self._own = settings.paths, own
        self._made = {release.id: release for release in releases(settings.paths)}
        self.versions: dict[Audience, dict[str, list[Version]]] = {}
        self.bare: set[tuple[str, str]] = set()
        for audience in audiences(settings.paths, ledger):
            self.versions[audience] = self._of(audience, ledger)

    def _of(self, audience: Audience, ledger: Ledger) -> dict[str, list[Version]]:
        # a withdrawal that names no folder is of a release that a stop kept anyone from seeing
        unseen = {e.payload["release"] for e in ledger.events("withdrawal", audience) if "map" not in e.payload}
        found: dict[str, list[Version]] = {}
        for event in ledger.events("release", audience):
            name, files = str(event.payload["release"]), event.payload["bestanden"]
            if name in unseen:
                continue
            release = self._made.get(name)
            if release is None or not release.database.is_file():
                raise EvidenceError(f"de map van levering {name} ontbreekt: zet haar terug uit de reservekopie")
            if fingerprint(release.folder / RECORD) != files.get(RECORD):
                raise EvidenceError(f"levering {name} is na het publiceren veranderd: zet haar terug")
            if "bewijs" in release.record:
                for block, version in self._first_shown(release).items():
                    found.setdefault(block, []).append(version)
            else:
                for table, labels in release.record.get("normen", {}).items():
                    self.bare |= {(table, period) for covered in labels.values() for period in covered}
        return found

    def _first_shown(self, release: Release) -> Mapping[str, Version]:
        """The versions that a release was the first to show."""
        path, expected = sealed_file(self._home, release.id), release.record["bewijs"]["verzegeld"]
        if not path.is_file() or fingerprint(path) != expected:
            raise EvidenceError(
                f"het verzegelde bewijs van levering {release.id} ontbreekt of is veranderd: zet {path} terug uit de "
                "reservekopie"
            )
        content = self._own.open(release.id, path.read_bytes())
        if content["formaat"] != FORMAT:
            raise EvidenceError(
                f"het bewijs van levering {release.id} is van een oudere fabriek: begin in een nieuwe map"
            )
        return versions(content)

    @property
    def counted(self) -> set[tuple[str, str]]:
        """Every count and period that was ever shown."""
        names = {name for blocks in self.versions.values() for name in blocks}
        return {(telling, period) for telling, period, _ in (name.rsplit("/", 2) for name in names)}

    def shown_to(self, block: Block) -> list[Audience]:
        """The audiences that any version of a block was ever released to."""
        return [audience for audience, blocks in self.versions.items() if block.id in blocks]

    def borders(self, block: Block) -> set[int]:
        """The years of all borders in which the count of a block was ever shown for its period."""
        about = f"{block.telling}/{block.periode}/"
        return {
            version.indeling
            for blocks in self.versions.values()
            for name, versions in blocks.items()
            if name.startswith(about)
            for version in versions
        }


def versions(content: Mapping[str, Any]) -> dict[str, Version]:
    """Per block the version that a release seals."""
    return {
        block: Version(content["levering"], **told, specs=content["specs"], rows=content["rijen"])
        for block, told in content["blokken"].items()
    }


def content(audience: Audience, release: str, made: Sequence[Made]) -> dict[str, Any]:
    """What is to be sealed with a release: the versions that it is the first to show."""
    blocks: dict[str, Any] = {}
    specs: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    for item in made:
        if item.reused is not None:
            continue
        marts = {}
        for part, values in zip(item.block.parts, item.view.values, strict=True):
            own = [list(map(list, part.keys)), list(part.heights)]
            about = hashlib.sha256(json.dumps(own).encode()).hexdigest()[:MARK]
            shown = [
                int(value) if value == value else NOTHING if count != count else None
                for value, count in zip(values, part.count, strict=True)
            ]
            marts[part.mart] = item.shapes[part.mart] | {"rijen": about, "getoond": shown}
            specs[item.shapes[part.mart]["opzet"]] = part.spec.model_dump(mode="json")
            rows[about] = own
        blocks[item.block.id] = {"indeling": item.block.indeling, "normen": item.chain.label, "marts": marts}
    return {
        "formaat": FORMAT,
        "levering": release,
        "doelgroep": audience,
        "specs": specs,
        "rijen": rows,
        "blokken": blocks,
        "bewijzen": {item.block.id: dict(item.sealed) for item in made if item.sealed},
    }


def write_sealed(home: Home, own: Seal, name: str, content: Mapping[str, Any], slot: str | None = None) -> str:
    """Seal content under a release's name, in its own file or in a slot until it is published; its fingerprint."""
    target = sealed_file(home, slot or name)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = target.with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(own.close(name, content))
        file.flush()
        os.fsync(file.fileno())
    shutil.move(fresh, target)
    return fingerprint(target)


def waiting(home: Home, own: Seal, candidate: Release) -> dict[str, Version]:
    """Per block the version that is sealed for a candidate.

    Raises:
        EvidenceError: it is not there, or not that of this candidate.
    """
    path = sealed_file(home, slot(candidate.audience))
    if not path.is_file() or fingerprint(path) != candidate.record.get("bewijs", {}).get("verzegeld"):
        raise EvidenceError(f"het verzegelde bewijs van {candidate.id} ontbreekt: maak de kandidaat opnieuw")
    return versions(own.open(candidate.id, path.read_bytes()))


def keep_sealed(home: Home, release: Release) -> None:
    """Give the sealed evidence of a candidate its release's name, before the ledger tells of the release.

    Raises:
        EvidenceError: it is not there, or not that of this candidate.
    """
    if "bewijs" not in release.record:
        raise EvidenceError(f"{release.id} heeft geen bewijs: maak de kandidaat opnieuw")
    waiting, target = sealed_file(home, slot(release.audience)), sealed_file(home, release.id)
    expected = release.record["bewijs"]["verzegeld"]
    if target.is_file() and fingerprint(target) == expected:
        return
    if not waiting.is_file() or fingerprint(waiting) != expected:
        raise EvidenceError(f"het verzegelde bewijs van {release.id} ontbreekt: maak de kandidaat opnieuw")
    shutil.move(waiting, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def slot(audience: str) -> str:
    """The name under which a candidate's evidence waits."""
    return f"kandidaat-{audience}"


def refusals(audience: str) -> str:
    """The name under which lies which cells stood in the way of a table."""
    return f"weigering-{audience}"


def known_told(
    history: History, readers: Mapping[Audience, Sequence[Audience]], block: Block
) -> dict[Audience, list[Told]]:
    """Per reader every version of a block that it knows.

    Args:
        history: of all releases.
        readers: per audience those whose releases it knows.
        block: as it is now.

    Raises:
        EvidenceError: a version shows the period in other borders than now.
    """
    found: dict[Audience, list[Told]] = {}
    if borders := history.borders(block) - {block.indeling}:
        raise EvidenceError(
            f"{block.periode} is eerder geleverd in de grenzen van {', '.join(map(str, sorted(borders)))} en staat nu "
            f"in die van {block.indeling}: beide naast elkaar zeggen te veel"
        )
    for reader, others in readers.items():
        found[reader] = []
        for other in others:
            for version in history.versions.get(other, {}).get(block.id, []):
                chain = Chain.parse(version.normen)
                norms, least = chain.steps(other)[-1][1], chain.least_shown(other)[-1]
                found[reader].append(Told(version.release, version.block(block), norms, least, other == reader))
    return found
