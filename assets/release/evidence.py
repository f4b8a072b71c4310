"""Evidence of releases: what the organisation keeps sealed, and what anyone can check.

Sealed (`vault/bewijs/<release>.sealed`, AES-SIV under a key of the master key): per block a keyed fingerprint of the
counts behind it and of what was shown, for every version that was ever released. A plain fingerprint of small counts
could be found by trying. Public (`bewijs.zip` in a release): per block the published cells, the spec, and a
certificate with the interval of each hidden cell, computed from the published values alone:

    unzip bewijs.zip -d bewijs
    datafabriek audit --table bewijs/BLOK --spec bewijs/BLOK/spec.yaml --certificate bewijs/BLOK/certificaat.json

Belongs here: keeping and reading evidence, and reading back what earlier releases showed. Does not belong here:
protecting a block (assets.release.blocks) and publishing (assets.release.publish).
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from assets.release.blocks import Block, Key, Part, Told, View, place, read_parts
from assets.release.publish import DATABASE, RECORD, Release, fingerprint, releases
from datafabriek.config import Home, Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import literal, quoted
from quality.norms import AUDIENCES, Audience, Chain, Level, policy
from quality.privacy.keys import MasterKey, ensure_key
from quality.protection import DisclosureSpec

if TYPE_CHECKING:
    from quality.disclosure.auditor import Audit
    from quality.disclosure.spec import Policy

PUBLIC = "bewijs.zip"
INDEX = "index.json"
SEALED = "bewijs"
"""Folder in the vault."""


class EvidenceError(FactoryError):
    """Evidence or an earlier release that is missing or was changed: nothing that rests on it may be released."""


@dataclass(frozen=True)
class Version:
    """A version of a block, as it was once released to an audience.

    Attributes:
        release: the release that first showed it.
        indeling: year of the borders.
        normen: label of the norms in force.
        marts: per mart the fingerprint of its shape (`opzet`), the keyed fingerprints per level of its counts
            (`afdruk`) and of its totals, which any mart of that count shares (`totalen`), and its lowest level shown
            (`vanaf`).
        beeld: fingerprint of what was shown.
    """

    release: str
    indeling: int
    normen: str
    marts: dict[str, dict[str, Any]]
    beeld: str

    def covers(self, shapes: Mapping[str, dict[str, Any]]) -> bool:
        """Whether it holds all these marts, of the same shape and the same counts."""
        return all(self.marts.get(mart) == shape for mart, shape in shapes.items())

    def is_same(self, shapes: Mapping[str, dict[str, Any]]) -> bool:
        """Whether it was made from the same counts, as far as both hold them: in this table or in another."""
        pairs = [
            (its[kind][cells], mine)
            for mart, shape in shapes.items()
            for other, its in self.marts.items()
            for kind in (("afdruk", "totalen") if other == mart else ("totalen",))
            for cells, mine in shape[kind].items()
            if cells in its.get(kind, {})
        ]
        return bool(pairs) and all(hmac.compare_digest(*pair) for pair in pairs)


@dataclass(frozen=True)
class Made:
    """A block as it is now shown to an audience.

    Attributes:
        reused: the version that was taken over; None for one made now.
        shapes: per mart what `Version.marts` holds.
        sealed: the engine's evidence; empty for one that was taken over.
    """

    block: Block
    view: View
    chain: Chain
    shapes: dict[str, dict[str, Any]]
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


class Seal:
    """Fingerprints and seals under the master key."""

    def __init__(self, key: MasterKey) -> None:
        self._fingerprints, self._cipher = key.released(), AESSIV(key.evidence())

    def shapes(self, block: Block, lowest: Mapping[str, Level]) -> dict[str, dict[str, Any]]:
        """Per mart of a block its shape and the keyed fingerprints of its counts and totals per level."""
        found = {}
        for part in block.parts:
            every: dict[str, list[tuple[str, str]]] = {}
            totals: dict[str, list[tuple[str, str]]] = {}
            for key, level, count, whole in zip(part.keys, part.heights, part.count, part.is_total, strict=True):
                value = "?" if np.isnan(count) else str(int(count))
                every.setdefault(level, []).append(("|".join(key), value))
                if whole:
                    totals.setdefault(level, []).append((key[0], value))
            names = (block.id, str(block.indeling))
            found[part.mart] = {
                "opzet": shape_of(part.spec, lowest[part.mart]),
                "vanaf": lowest[part.mart],
                "afdruk": self._told(every, (*names, part.mart)),
                "totalen": self._told(totals, names),
            }
        return found

    def _told(self, cells: Mapping[str, list[tuple[str, str]]], names: Sequence[str]) -> dict[str, str]:
        """Per level, and the very cells that it is about, the keyed fingerprint of their counts."""
        found = {}
        for level, counts in sorted(cells.items()):
            about = hashlib.sha256("\n".join(key for key, _ in counts).encode()).hexdigest()[:12]
            lines = (*names, *("|".join(pair) for pair in counts))
            found[f"{level} {about}"] = hmac.digest(self._fingerprints, "\n".join(lines).encode(), "sha256").hex()
        return found

    def close(self, name: str, content: Mapping[str, Any]) -> bytes:
        """Content, encrypted under its name: the same gives the same bytes."""
        plain = json.dumps(content, ensure_ascii=False, sort_keys=True, default=str).encode()
        return self._cipher.encrypt(plain, [name.encode()])

    def open(self, name: str, sealed: bytes) -> dict[str, Any]:
        """The content that was sealed under a name.

        Raises:
            EvidenceError: it was changed, sealed under another name or with another key.
        """
        try:
            content: dict[str, Any] = json.loads(self._cipher.decrypt(sealed, [name.encode()]))
        except (InvalidTag, ValueError):
            raise EvidenceError(
                f"het verzegelde bewijs {name} gaat niet open met deze sleutel: zet het terug uit de reservekopie"
            ) from None
        return content


def shape_of(spec: DisclosureSpec, lowest: Level) -> str:
    """Fingerprint of what a spec says about which cells there are."""
    told = spec.model_dump(mode="json", exclude={"cbs", "rates"}) | {"vanaf": lowest}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def picture(block: Block, values: Sequence[Any]) -> str:
    """Fingerprint of what is shown of a block: value, hidden or unknown per cell."""
    lines = []
    for part, shown in zip(block.parts, values, strict=True):
        for key, count, value, hidden in zip(part.keys, part.count, shown, part.is_hidden, strict=True):
            mark = "?" if np.isnan(count) and not hidden else "-" if np.isnan(value) else str(int(value))
            lines.append(f"{part.mart}|{'|'.join(key)}|{mark}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


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
        self._home = settings.paths
        self._made = {release.id: release for release in releases(settings.paths)}
        self._files: dict[str, dict[str, str]] = {}
        self._specs: dict[str, dict[str, Any]] = {}
        self._read: dict[tuple[str, str, str], dict[Key, Part]] = {}
        self.versions: dict[Audience, dict[str, list[Version]]] = {}
        self.bare: set[tuple[str, str]] = set()
        for audience in AUDIENCES:
            self.versions[audience] = self._of(audience, ledger, own)
        # a release is read back for the periods that it was the first to show so, not for all that it repeats
        self._periods: dict[str, set[str]] = {}
        for blocks in self.versions.values():
            for block, versions in blocks.items():
                for version in versions:
                    self._periods.setdefault(version.release, set()).add(block.rsplit("/", 2)[1])

    def _of(self, audience: Audience, ledger: Ledger, own: Seal) -> dict[str, list[Version]]:
        # a withdrawal that names no folder is of a release that a stop kept anyone from seeing
        unseen = {e.payload["release"] for e in ledger.events("withdrawal", audience) if "map" not in e.payload}
        last: Release | None = None
        for event in ledger.events("release", audience):
            name, files = str(event.payload["release"]), event.payload["bestanden"]
            if name in unseen:
                continue
            release = self._made.get(name)
            if release is None or not release.database.is_file():
                raise EvidenceError(f"de map van levering {name} ontbreekt: zet haar terug uit de reservekopie")
            if fingerprint(release.folder / RECORD) != files.get(RECORD):
                raise EvidenceError(f"levering {name} is na het publiceren veranderd: zet haar terug")
            self._files[name] = files
            if "bewijs" in release.record:
                last = release
            else:
                for table, labels in release.record.get("normen", {}).items():
                    self.bare |= {(table, period) for covered in labels.values() for period in covered}
        if last is None:
            return {}
        path = sealed_file(self._home, last.id)
        if not path.is_file() or fingerprint(path) != last.record["bewijs"]["verzegeld"]:
            raise EvidenceError(
                f"het verzegelde bewijs van levering {last.id} ontbreekt of is veranderd: zet {path} terug uit de "
                "reservekopie"
            )
        content = own.open(last.id, path.read_bytes())
        self._specs |= content["specs"]
        return {
            block: [Version(**item) for item in versions if item["release"] not in unseen]
            for block, versions in content["blokken"].items()
        }

    def told(self, connection: duckdb.DuckDBPyConnection, version: Version, now: Block) -> Block:
        """A version of a block as its release shows it, checked against the evidence.

        Raises:
            EvidenceError: the release does not show what was sealed.
        """
        key = (now.telling, now.periode, now.gemeente)
        parts = []
        for mart, facts in sorted(version.marts.items()):
            found = self._table(connection, version.release, mart, facts)
            if key in found:
                parts.append(found[key])
        old = Block(*key, tuple(parts))
        if picture(old, [part.count for part in parts]) != version.beeld:
            raise EvidenceError(f"levering {version.release} toont niet wat verzegeld is: zet haar terug")
        return old

    def _table(
        self, connection: duckdb.DuckDBPyConnection, name: str, mart: str, facts: Mapping[str, Any]
    ) -> dict[Key, Part]:
        at = (name, mart, str(facts["opzet"]))
        if at not in self._read:
            release = self._made.get(name)
            if release is None or fingerprint(release.database) != self._files.get(name, {}).get(DATABASE):
                raise EvidenceError(f"levering {name} is na het publiceren veranderd: zet haar terug")
            connection.execute(f"ATTACH {literal(str(release.database))} AS eerder (READ_ONLY)")
            try:
                spec = DisclosureSpec(**self._specs[at[2]])
                relation, periods = f"eerder.main.{quoted(mart)}", sorted(self._periods[name])
                self._read[at] = read_parts(connection, relation, mart, spec, facts["vanaf"], periods=periods)
            finally:
                connection.execute("DETACH eerder")
        return self._read[at]

    @property
    def counted(self) -> set[tuple[str, str]]:
        """Every count and period that was ever shown."""
        names = {name for blocks in self.versions.values() for name in blocks}
        return {(telling, period) for telling, period, _ in (name.rsplit("/", 2) for name in names)}

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

    def content(self, audience: Audience, release: str, made: Sequence[Made]) -> dict[str, Any]:
        """What is to be sealed with a release: all versions so far, and those that it adds."""
        blocks = {
            name: [version.__dict__ for version in versions] for name, versions in self.versions[audience].items()
        }
        specs = dict(self._specs)
        proofs = {}
        for item in made:
            for part in item.block.parts:
                dumped = part.spec.model_dump(mode="json")
                specs[item.shapes[part.mart]["opzet"]] = dumped
            if item.reused is None:
                picked = picture(item.block, item.view.values)
                version = Version(release, item.block.indeling, item.chain.label, item.shapes, picked)
                blocks.setdefault(item.block.id, []).append(version.__dict__)
                proofs[item.block.id] = dict(item.sealed)
        return {
            "formaat": "datafabriek-verzegeld/1",
            "levering": release,
            "doelgroep": audience,
            "specs": specs,
            "blokken": blocks,
            "bewijzen": proofs,
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


# -- public ------------------------------------------------------------------------------------------------------


def write_public(target: Path, made: Sequence[Made], versie: str, previous: Release | None) -> dict[str, Any]:
    """Write the public evidence of all blocks; what an earlier release proved already is taken over.

    Args:
        target: the zip file.
        made: the blocks.
        versie: version of the norms.
        previous: the release whose evidence may be taken over.

    Returns:
        Counts: `blokken`, `nagerekend` (worked out now) and `smalste_interval` (None where nothing is hidden).
    """
    before = _entries(previous)
    index: dict[str, Any] = {}
    fresh = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as bundle:
        for item in sorted(made, key=lambda one: one.block.id):
            if item.block.is_empty:
                continue
            facts = {"beeld": picture(item.block, item.view.values), "normen": item.chain.label}
            known = before.get(item.block.id)
            # under the version of the norms that it was first proved under: a period keeps its norms
            if known and {name: known[0].get(name) for name in facts} == facts:
                index[item.block.id], files = known
            else:
                files, narrowest = _certified(item, versie)
                index[item.block.id] = facts | {"versie": versie, "smalste": narrowest, "bestanden": sorted(files)}
                fresh += 1
            for name, text in sorted(files.items()):
                _add(bundle, f"{item.block.id}/{name}", text)
        _add(bundle, INDEX, json.dumps(index, ensure_ascii=False, sort_keys=True, indent=1))
    widths = [facts["smalste"] for facts in index.values() if facts["smalste"] is not None]
    return {"blokken": len(index), "nagerekend": fresh, "smalste_interval": min(widths, default=None)}


def _add(bundle: zipfile.ZipFile, name: str, text: str) -> None:
    # a fixed moment: the same evidence gives the same bytes
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    bundle.writestr(entry, text)


def _entries(release: Release | None) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    if release is None or not (release.folder / PUBLIC).is_file():
        return {}
    with zipfile.ZipFile(release.folder / PUBLIC) as bundle:
        index = json.loads(bundle.read(INDEX))
        return {
            block: (facts, {name: bundle.read(f"{block}/{name}").decode() for name in facts["bestanden"]})
            for block, facts in index.items()
        }


def _certified(item: Made, versie: str) -> tuple[dict[str, str], float | None]:
    """The files of one block, and the width of its narrowest interval."""
    from quality.disclosure.certificate import dumps, public_certificate

    shown = Block(
        item.block.telling,
        item.block.periode,
        item.block.gemeente,
        tuple(
            replace(part, count=values, is_hidden=np.isnan(values) & ~np.isnan(part.count))
            for part, values in zip(item.block.parts, item.view.values, strict=True)
        ),
    )
    norms = item.view.norms
    groups = sorted({name for part in shown.parts for name in part.spec.total_of})
    rules = policy(norms, item.view.least, groups).model_copy(update={"version": versie})
    system, rounded, result = audited(shown, rules)
    placed = place(shown)
    width = float(norms.bescherming)
    certificate = public_certificate(system, rules, result, rounded=rounded, minimum_width=width, tables=len(placed))
    files = {"certificaat.json": dumps(certificate)}
    specs = [f"{re.sub('[^A-Za-z0-9_]', '_', entry.table.name)}" for entry in placed]
    for number, (entry, name) in enumerate(zip(placed, specs, strict=True)):
        geo = entry.table.dimensions[0]
        lines = [
            f"{code},{geo.codes[geo.parent[i]] if geo.parent[i] > 0 else ''}" for i, code in enumerate(geo.codes) if i
        ]
        files[f"{name}.regio.csv"] = "code,parent\n" + "\n".join(lines) + "\n"
        spec = {
            "table": f"{name}.csv",
            "dimensions": {geo.name: {"total": geo.codes[0], "hierarchy": f"{name}.regio.csv"}}
            | {d.name: {"total": d.codes[0]} for d in entry.table.dimensions[1:]},
            "measure": entry.table.measure,
            "kind": "count",
            **_rules(rules),
        }
        if number == 0:
            spec["linked"] = [f"{other}.yaml" for other in specs[1:]]
        files["spec.yaml" if number == 0 else f"{name}.yaml"] = yaml.safe_dump(
            spec, sort_keys=False, allow_unicode=True
        )
        files[f"{name}.csv"] = _csv(entry.table, rounded_rows(entry.table.value, norms.afronding))
    narrow = result.narrowest
    return files, None if np.isinf(narrow) else float(narrow)


def _rules(rules: Policy) -> dict[str, Any]:
    told: dict[str, Any] = {
        "primary": [rule.model_dump(mode="json") for rule in rules.primary],
        "protection": rules.protection.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        if rules.protection
        else None,
    }
    if rules.rounding is not None:
        told["rounding"] = {"base": rules.rounding.base, "method": rules.rounding.method}
    return told


def rounded_rows(values: Any, base: int) -> Any:
    """Which published values are rounded: all that is shown, but zeros, which are shown as they are."""
    return (base > 1) & (np.nan_to_num(values) > 0)


def _csv(table: Any, rounded: Any) -> str:
    out = io.StringIO()
    out.write(",".join([*(d.name for d in table.dimensions), table.measure, "status"]) + "\n")
    for codes, value, is_rounded in zip(table.codes, table.value, rounded, strict=True):
        names = [d.codes[code] for d, code in zip(table.dimensions, codes, strict=True)]
        hidden = np.isnan(value)
        status = "geheim" if hidden else "afgerond" if is_rounded else "verstrekt"
        out.write(",".join([*names, "" if hidden else str(int(value)), status]) + "\n")
    return out.getvalue()


def audited(shown: Block, rules: Policy) -> tuple[Any, Any, Audit]:
    """What anyone can compute from the published values of a block alone."""
    from quality.disclosure.auditor import audit
    from quality.disclosure.table import join

    placed = place(shown)
    system = join([entry.table for entry in placed])
    rounded = np.zeros(system.cells, dtype=bool)
    if rules.rounding is not None:
        for entry, cells in zip(placed, system.cell_of, strict=True):
            rounded[cells] = rounded_rows(entry.table.value, rules.rounding.base)
    return system, rounded, audit(system, rules, rounded=rounded)


def unpack(release: Release) -> Iterator[tuple[str, dict[str, str]]]:
    """The public evidence of a release: per block its files by name."""
    for block, (_, files) in _entries(release).items():
        yield block, files


def known_told(
    history: History, connection: duckdb.DuckDBPyConnection, audience: Audience, block: Block, shapes: Mapping[str, Any]
) -> dict[Audience, list[Told]]:
    """Per audience of the chain up to `audience` every version of a block that its readers know.

    A reader of one audience knows what every later one was shown as well.

    Raises:
        EvidenceError: a version cannot be read back, or shows the period in other borders than now.
    """
    found: dict[Audience, list[Told]] = {}
    if borders := history.borders(block) - {block.indeling}:
        raise EvidenceError(
            f"{block.periode} is eerder geleverd in de grenzen van {', '.join(map(str, sorted(borders)))} en staat nu "
            f"in die van {block.indeling}: beide naast elkaar zeggen te veel"
        )
    for place_in_chain, reader in enumerate(AUDIENCES[: AUDIENCES.index(audience) + 1]):
        found[reader] = []
        for other in AUDIENCES[place_in_chain:]:
            for version in history.versions[other].get(block.id, []):
                chain = Chain.parse(version.normen)
                norms, least = chain.steps(other)[-1][1], chain.least_shown(other)[-1]
                old = history.told(connection, version, block)
                found[reader].append(Told(version.release, old, norms, least, version.is_same(shapes), other == reader))
    return found
