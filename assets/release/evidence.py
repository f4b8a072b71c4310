"""Public evidence of a release, which anyone can check: `bewijs.zip`.

Per block it holds the published cells, the spec, and a certificate with the interval of each hidden cell, computed from
the published values alone:

    unzip bewijs.zip -d bewijs
    datafabriek audit --table bewijs/BLOK --spec bewijs/BLOK/spec.yaml --certificate bewijs/BLOK/certificaat.json

Belongs here: writing and reading it. Does not belong here: what the organisation keeps sealed (assets.release.history),
protecting a block (assets.release.views) and publishing (assets.release.publish).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from assets.release.blocks import Block, place
from assets.release.history import Made
from assets.release.publish import Release
from quality.norms import policy

if TYPE_CHECKING:
    from quality.disclosure.auditor import Audit
    from quality.disclosure.spec import Policy

PUBLIC = "bewijs.zip"
INDEX = "index.json"


def picture(block: Block, values: Sequence[Any]) -> str:
    """Fingerprint of what is shown of a block: value, hidden or unknown per cell."""
    lines = []
    for part, shown in zip(block.parts, values, strict=True):
        for key, count, value, hidden in zip(part.keys, part.count, shown, part.is_hidden, strict=True):
            mark = "?" if np.isnan(count) and not hidden else "-" if np.isnan(value) else str(int(value))
            lines.append("|".join([part.mart, *part.classes, *key, mark]))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


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

    shown = item.block.shown(item.view.values)
    norms = item.view.norms
    groups = sorted({name for part in shown.parts for name in part.spec.total_of})
    rules = policy(norms, item.view.least, groups).model_copy(update={"version": versie})
    if item.block.is_amount:  # of counts alone a norm tells the reader what hidden ones are at most
        rules = rules.model_copy(update={"primary": rules.primary[:1]})
    system, rounded, result = audited(shown, rules)
    placed = place(shown)
    # of amounts no width is promised: what they need follows from the largest contributions
    width = None if item.block.is_amount else float(norms.bescherming)
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
            "dimensions": {
                geo.name: {"total": geo.codes[0], "hierarchy": f"{name}.regio.csv"}
                | ({"open": list(geo.open)} if geo.open else {})
            }
            | {d.name: {"total": d.codes[0]} for d in entry.table.dimensions[1:]},
            "measure": entry.table.measure,
            "kind": "magnitude" if item.block.is_amount else "count",
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
