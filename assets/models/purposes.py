"""Purpose binding in the models: who reaches persons of two purposes needs a registered linkage (DESIGN, decision 3).

A walk over dbt's manifest. A pseudonym holds within one purpose, so a join across two finds nothing; this check says
so before anything runs, with the reason, and keeps aggregates of two purposes from meeting below the marts unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from datafabriek.errors import FactoryError

LINKAGES_FILE = "koppelingen.yaml"
RAW = "raw_"
IMPERSONAL = frozenset({"raw_cbs", "raw_leveringen"})
"""Sources without persons; every other raw schema is that of a purpose."""

PSEUDONYM = "_pseudoniem"


class PurposeError(FactoryError):
    """Models that reach further than their purpose: the message names the model, the purposes and the remedy."""


def registered_linkages(policy_folder: Path | None, today: date | None = None) -> frozenset[frozenset[str]]:
    """The sets of purposes that the organisation lets meet today, from koppelingen.yaml.

    Each stands there as `{doelen: [a, b], tot: 2027-12-31, …}`; `tot` is its last day (none: until further notice).

    Raises:
        PurposeError: the file cannot be read as such.
    """
    path = policy_folder / LINKAGES_FILE if policy_folder else None
    if path is None or not path.is_file():
        return frozenset()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return frozenset(
            frozenset(map(str, linkage["doelen"]))
            for linkage in document.get("koppelingen") or ()
            if linkage.get("tot") is None or linkage["tot"] >= (today or datetime.now(UTC).date())
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise PurposeError(
            f"{path} cannot be read: expected `koppelingen:` with a list of linkages, each with `doelen: [a, b]` and, "
            "where it ends, `tot: JJJJ-MM-DD`"
        ) from None


def reached_purposes(manifest: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Per model (unique id) the purposes whose persons it reaches, directly or through other models.

    The walk stops at marts: they hold aggregates, and whoever builds on them reaches no person.
    """
    nodes, sources = manifest["nodes"], manifest["sources"]
    found: dict[str, frozenset[str]] = {}

    def reached(unique_id: str) -> frozenset[str]:
        if unique_id in sources:
            name = sources[unique_id]["schema"]
            personal = name.startswith(RAW) and name not in IMPERSONAL
            return frozenset({name.removeprefix(RAW)}) if personal else frozenset()
        if unique_id not in nodes:
            return frozenset()
        if unique_id not in found:
            parents = nodes[unique_id]["depends_on"].get("nodes", [])
            found[unique_id] = frozenset().union(
                *(reached(parent) for parent in parents if not _is_mart(nodes.get(parent)))
            )
        return found[unique_id]

    return {unique_id: reached(unique_id) for unique_id, node in nodes.items() if node["resource_type"] == "model"}


def check_purposes(manifest: Mapping[str, Any], linkages: frozenset[frozenset[str]]) -> None:
    """See to it that no model reaches two purposes without a linkage, and that no mart holds a pseudonym.

    Raises:
        PurposeError: one does; all of them are named.
    """
    told = []
    for unique_id, purposes in sorted(reached_purposes(manifest).items()):
        node = manifest["nodes"][unique_id]
        if len(purposes) > 1 and not any(purposes <= linkage for linkage in linkages):
            names = " and ".join(sorted(purposes))
            told.append(
                f"model {node['name']} reaches persons of the purposes {names}, and no linkage of these is registered: "
                f"register it in {LINKAGES_FILE} of the policy folder, or build on the marts of each"
            )
        if _is_mart(node):
            columns = node["columns"].items()
            personal = [
                name for name, column in columns if PSEUDONYM in name or str(column.get("data_type")).lower() == "uuid"
            ]
            if personal:
                told.append(f"mart {node['name']} holds {', '.join(personal)}: a mart holds aggregates only")
    if told:
        raise PurposeError("\n".join(told))


def _is_mart(node: Mapping[str, Any] | None) -> bool:
    return node is not None and node["schema"] == "marts"
