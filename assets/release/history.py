"""The memory of the gate: what was ever released, sealed in the vault, and who knows it.

Sealed per release (`vault/bewijs/<release>.sealed`, AES-SIV under a key of the master key): of every block that it was
the first to show so, what was shown, a keyed mark per cell of the count behind it, and the engine's own evidence. A
plain mark of a small count could be found by trying. Cells with the same mark have the same count behind them, so they
are one unknown to whoever reckons with several releases, also where the block around them changed.

Belongs here: keeping and reading those, checked against the ledger and the release folders. Does not belong here:
protecting a block (assets.release.views), public evidence (assets.release.evidence), publishing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from assets.release.blocks import Block, Part, Sum, Told, View
from assets.release.borders import Borders, Group
from assets.release.publish import RECORD, Release, audiences, fingerprint, releases
from datafabriek.config import Home, Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from quality.norms import Audience, AudienceNorms, Chain, Level
from quality.privacy.keys import MasterKey, ensure_key
from quality.protection import DisclosureSpec

SEALED = "bewijs"
"""Folder in the vault."""

FORMAT = "datafabriek-verzegeld/2"
MARK = 16
"""Digits of a mark; two counts of one cell share one once in 2⁶⁴."""
LARGEST = 10_000_000
"""Counts under this are found back from their marks."""
COMBINATIONS = 256
"""Of versions of municipalities that changed borders with each other, at most."""
NOTHING = -1
"""Stands for a cell of which nothing was known; a hidden one is null."""
_OLDER = "het bewijs van levering {} is van een oudere fabriek: begin in een nieuwe map"


class EvidenceError(FactoryError):
    """Evidence or an earlier release that is missing or was changed: nothing that rests on it may be released."""


@dataclass(frozen=True)
class Version:
    """A version of a block, as it was once released to an audience.

    Attributes:
        release: the release that first showed it.
        indeling: year of the borders.
        normen: label of the norms in force.
        aanvaller: whom it was proved against (`Norms.attackers`).
        marts: per mart the fingerprint of its shape (`opzet`), its lowest level shown (`vanaf`), the marks of its
            counts (`merken`), what was shown (`getoond`), and the fingerprint of the rows that these are of (`rijen`);
            of amounts also a keyed mark of all that decides what may be shown of them (`grond`).
        specs: per `opzet` the disclosure spec.
        rows: per `rijen` the keys and levels.
    """

    release: str
    indeling: int
    normen: str
    aanvaller: str
    marts: Mapping[str, Mapping[str, Any]]
    specs: Mapping[str, Any]
    rows: Mapping[str, Any]

    def covers(self, shapes: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it holds all these marts, of the same shape and the same counts."""
        return all(
            mart in self.marts and {key: self.marts[mart][key] for key in shape} == shape
            for mart, shape in shapes.items()
        )

    def block(self, now: Block, gemeente: str | None = None) -> Block:
        """What was shown of the same count and period, here or in another municipality; its cells bear names."""
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
        return replace(now, gemeente=gemeente or now.gemeente, parts=tuple(parts))


@dataclass(frozen=True)
class Made:
    """A block as it is now shown to an audience.

    Attributes:
        reused: the version that was taken over; None for one made now.
        shapes: per mart what `Version.covers` compares.
        attackers: whom it was proved against (`Norms.attackers`).
        sealed: the engine's evidence; empty for one that was taken over, and for amounts.
        steps: the views of the audiences in the chain that were at hand, its own too.
    """

    block: Block
    view: View
    chain: Chain
    shapes: dict[str, dict[str, str]]
    attackers: str
    reused: Version | None = None
    sealed: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[Audience, View] = field(default_factory=dict)

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
        self._known: dict[tuple[str, str], float] = {}

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

    def ground(self, *told: Any) -> str:
        """The keyed mark of anything that a view rests on."""
        plain = hashlib.sha256(repr(told).encode()).digest()
        return hmac.digest(self._marks, b"grond\n" + plain, "sha256").hex()

    def count(self, block: Block, name: str) -> float:
        """The count behind the name of a cell, found by trying; NaN where nothing was known.

        Raises:
            EvidenceError: none fits.
        """
        about = (f"{block.telling}/{block.periode}", name)
        if about not in self._known:
            cell, _, mark = name.partition("#")
            fits = (n for n in chain([np.nan], range(LARGEST)) if self.mark(block, cell, n) == mark)
            self._known[about] = float(next(fits, -1))
        if self._known[about] < 0:
            raise EvidenceError(f"bij een merk van {block.periode} hoort geen aantal onder {LARGEST}")
        return self._known[about]

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
            plain = self._cipher.decrypt(sealed, [name.encode()])
        except InvalidTag:
            raise EvidenceError(
                f"het verzegelde bewijs {name} gaat niet open met deze sleutel: zet het terug uit de reservekopie"
            ) from None
        try:
            content: dict[str, Any] = json.loads(zlib.decompress(plain))
        except (ValueError, zlib.error):
            raise EvidenceError(_OLDER.format(name)) from None
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
    # what a table does not have is left out, so that its older versions keep their fingerprint
    told = spec.model_dump(mode="json", exclude={"cbs", "rates", *(["bedrag"] if spec.bedrag is None else [])})
    told["vanaf"] = lowest
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
        seal: of this factory.
    """

    def __init__(self, settings: Settings, ledger: Ledger, own: Seal) -> None:
        """Read it.

        Raises:
            EvidenceError: a folder or sealed evidence is missing or was changed.
        """
        self._home, self.seal = settings.paths, own
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
        content = self.seal.open(release.id, path.read_bytes())
        if content["formaat"] != FORMAT:
            raise EvidenceError(_OLDER.format(release.id))
        return versions(content)

    @property
    def counted(self) -> set[tuple[str, str]]:
        """Every count and period that was ever shown."""
        names = {name for blocks in self.versions.values() for name in blocks}
        return {(telling, period) for telling, period, _ in (name.rsplit("/", 2) for name in names)}

    @property
    def levels(self) -> set[str]:
        """Every level of regions that was ever shown."""
        every = (version for blocks in self.versions.values() for found in blocks.values() for version in found)
        return {level for version in every for spec in version.specs.values() for level in spec["levels"]}

    @property
    def marts(self) -> set[str]:
        """Every table that was ever shown."""
        every = (version for blocks in self.versions.values() for found in blocks.values() for version in found)
        return {mart for version in every for mart in version.marts}

    def shown_to(self, block: Block) -> list[Audience]:
        """The audiences that the count of a block was ever released to for its period."""
        return list(dict.fromkeys(audience for audience, *_ in self.about(block)))

    def about(self, block: Block) -> list[tuple[Audience, str, Version]]:
        """Every version of the count of a block in its period: audience, municipality, version."""
        return self._about.get((block.telling, block.periode), [])

    @cached_property
    def _about(self) -> dict[tuple[str, str], list[tuple[Audience, str, Version]]]:
        found: dict[tuple[str, str], list[tuple[Audience, str, Version]]] = {}
        for audience, blocks in self.versions.items():
            for name, versions in blocks.items():
                telling, period, gm = name.rsplit("/", 2)
                found.setdefault((telling, period), []).extend((audience, gm, version) for version in versions)
        return found


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
        blocks[item.block.id] = {
            "indeling": item.block.indeling,
            "normen": item.chain.label,
            "aanvaller": item.attackers,
            "marts": marts,
        }
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


def read_refusals(home: Home, own: Seal, audience: Audience) -> dict[str, dict[str, Any]]:
    """Per table that the last candidate was refused the norm, and the cells that stood in the way.

    Raises:
        EvidenceError: it does not open with this key.
    """
    path = sealed_file(home, refusals(audience))
    return own.open(refusals(audience), path.read_bytes()) if path.is_file() else {}


@dataclass(frozen=True)
class Fresh:
    """A block of another municipality as it is about to be shown to an audience; its cells bear names."""

    audience: Audience
    shown: Block
    norms: AudienceNorms
    least: int


def known_told(
    history: History,
    readers: Mapping[Audience, Sequence[Audience]],
    block: Block,
    now: Sequence[Block],
    borders: Borders,
    fresh: Sequence[Fresh] = (),
) -> tuple[dict[Audience, list[Told]], list[Sum]]:
    """Per reader every version of a block that it knows, and what ties versions in other borders to those of now.

    Where a period was released in other borders, the versions of all municipalities that this one came from count, and
    of those that took over another part of these.

    Args:
        history: of all releases.
        readers: per audience those whose releases it knows.
        block: as it is now, with names.
        now: all blocks about the same count and period, with counts.
        borders: what is known of changes of borders.
        fresh: what is shown anew of the others of them.

    Raises:
        EvidenceError, BordersError: it is not known how the borders lie over each other.
    """
    about = history.about(block)
    ties = [_tie(about, year, block, now, borders, history.seal) for year in {v.indeling for *_, v in about}]
    ties = [tie for tie in ties if tie.before]
    near = {block.gemeente}.union(*(tie.after for tie in ties))
    same = [(who, version, version.block(block, gm)) for who, gm, version in about
            if version.indeling == block.indeling and gm in near]  # fmt: skip
    other = [(tie, who, version, version.block(block, gm)) for tie in ties for who, gm, version in about
             if version.indeling == tie.year and gm in tie.before]  # fmt: skip
    shown = same + [(who, version, tie.renamed(old)) for tie, who, version, old in other]
    found: dict[Audience, list[Told]] = {reader: [] for reader in readers}
    for reader, others in readers.items():
        for who, version, old in shown:
            if who in others:
                norms, least = norms_of(version.normen, who)
                found[reader].append(Told(version.release, old, norms, least, who == reader))
        for one in fresh:
            if one.audience in others and one.shown.gemeente in near - {block.gemeente}:
                found[reader].append(Told("van nu", one.shown, one.norms, one.least, one.audience == reader))
    sums: list[Sum] = []
    for tie in ties:
        sums += tie.sums([old for its, _, _, old in other if its is tie], [*(old for *_, old in same), *tie.now])
    return found, sums


def norms_of(label: str, audience: Audience) -> tuple[AudienceNorms, int]:
    """The norms that a label gives an audience, and the least count above zero that it is shown under them."""
    found = Chain.parse(label)
    return found.steps(audience)[-1][1], found.least_shown(audience)[-1]


@dataclass(frozen=True)
class _Tie:
    """How the regions of some municipalities in the borders of another year lie over those of now.

    Attributes:
        year: of the other borders.
        before: municipalities of then.
        after: municipalities of now that any of their area is in.
        alias: per region of then the region of now that is the same area.
        groups: other sets of regions that are the same area together.
        now: the blocks of now of these municipalities, with names.
    """

    year: int
    seal: Seal
    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    alias: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    now: tuple[Block, ...] = ()

    @cached_property
    def _present(self) -> set[str]:
        return {name for block in self.now for part in block.parts for name in part.names}

    def renamed(self, old: Block) -> Block:
        """A version of then, in which a region that is the same area as one of now bears the name of that."""
        parts = [replace(part, names=tuple(map(self._renamer(old), part.keys, part.names))) for part in old.parts]
        return replace(old, parts=tuple(parts))

    def _renamer(self, old: Block) -> Callable[[Sequence[str], str], str]:
        def rename(key: Sequence[str], name: str) -> str:
            (cell, _, mark), code, same = name.partition("#"), key[0], self.alias.get(key[0])
            # a region that kept its code and its count is taken to be known as the same, whatever moved at its edges
            if same == code or (same is None and name in self._present):
                return name
            moved = (same or f"{code}@{self.year}") + cell[len(code) :]
            return f"{moved}#{mark if same is None else self.seal.mark(old, moved, self.seal.count(old, name))}"

        return rename

    def sums(self, old: Sequence[Block], new: Sequence[Block]) -> list[Sum]:
        """What the regions of each group count together, in any version of then and any of now."""
        found: dict[tuple[tuple[str, ...], tuple[str, ...]], Sum] = {}
        for group in self.groups:
            befores = self._totals([(one, self._renamer(one)) for one in old], group.before)
            afters = self._totals([(one, lambda _, name: name) for one in new], group.after)
            for rest in befores.keys() & afters.keys():
                for (was, one), (became, other) in product(befores[rest].items(), afters[rest].items()):
                    if was != became:
                        found[was, became] = Sum(was, became, other - one, group.is_whole)
        return list(found.values())

    def _totals(
        self, versions: Sequence[tuple[Block, Callable[[Sequence[str], str], str]]], codes: frozenset[str]
    ) -> dict[str, dict[tuple[str, ...], float]]:
        """Per class: names of some regions and their sum, for every combination of versions of their municipalities."""
        of_municipality: dict[str, dict[tuple[Any, ...], dict[str, dict[str, tuple[str, float]]]]] = {}
        for block, rename in versions:
            classes: dict[str, dict[str, tuple[str, float]]] = {}
            for part in block.parts:
                for key, name in zip(part.keys, part.names, strict=True):
                    if key[0] in codes:
                        rest = name.partition("#")[0].partition("|")[2]
                        classes.setdefault(rest, {})[key[0]] = (rename(key, name), self.seal.count(block, name))
            if classes:
                known = tuple(sorted(name for told in classes.values() for name, _ in told.values()))
                of_municipality.setdefault(block.gemeente, {})[known] = classes
        choices = [list(found.values()) for found in of_municipality.values()]
        if prod(map(len, choices)) > COMBINATIONS:
            raise EvidenceError(
                f"{len(choices)} gemeenten zijn te vaak herzien om alles in andere grenzen naast elkaar te leggen"
            )
        totals: dict[str, dict[tuple[str, ...], float]] = {}
        for chosen in product(*choices):
            for rest in {rest for classes in chosen for rest in classes}:
                cells = {code: told for classes in chosen for code, told in classes.get(rest, {}).items()}
                counts = [count for _, count in cells.values()]
                if cells.keys() == codes and not any(count != count for count in counts):
                    totals.setdefault(rest, {})[tuple(sorted(name for name, _ in cells.values()))] = sum(counts)
        return totals


def _tie(
    about: Sequence[tuple[Audience, str, Version]],
    year: int,
    block: Block,
    now: Sequence[Block],
    borders: Borders,
    own: Seal,
) -> _Tie:
    """How a block lies over the versions of a year's borders; without any municipality where it does not."""
    if year == block.indeling:
        return _Tie(year, own)
    old = [(gm, version) for _, gm, version in about if version.indeling == year]
    whole = borders.groups(year, block.indeling, {gm for gm, _ in old}, {one.gemeente for one in now})
    mine = next((group for group in whole if block.gemeente in group.after), None)
    if mine is None:
        return _Tie(year, own)
    before: dict[str, set[str]] = {}
    after: dict[str, set[str]] = {}
    for gm, version in old:
        if gm in mine.before:
            for told in version.marts.values():
                for key, level in zip(*version.rows[told["rijen"]], strict=True):
                    before.setdefault(level, set()).add(key[0])
    here = tuple(own.named(one) for one in now if one.gemeente in mine.after)
    for one in here:
        for part in one.parts:
            for key, level in zip(part.keys, part.heights, strict=True):
                after.setdefault(level, set()).add(key[0])
    alias: dict[str, str] = {}
    groups: list[Group] = []
    for level in sorted(before.keys() & after.keys()):
        for group in borders.groups(year, block.indeling, before[level], after[level]):
            is_same = len(group.before) == len(group.after) == 1
            if is_same:
                alias |= dict(zip(group.before, group.after, strict=True))
            if not (is_same and group.is_whole):
                groups.append(group)
    return _Tie(year, own, mine.before, mine.after, alias, tuple(groups), here)
