"""Registered linkages: the only way in which persons of two purposes may be put side by side.

A linkage stands in `koppelingen.yaml` of the policy folder: which purposes, on what ground, under which DPIA, from when
until when. A model that reaches pseudonyms of two purposes without one is refused before anything is built. Marts
join on region and hold no pseudonyms: they are free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datafabriek.config import Settings
from quality.privacy.policy import PolicyError

FILE = "koppelingen.yaml"

Filled = Annotated[str, Field(min_length=3)]


class Linkage(BaseModel):
    """A linkage that was settled: `doelen` may be joined on persons from `van` up to and including `tot`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    naam: Filled
    doelen: frozenset[str] = Field(min_length=2)
    grondslag: Filled
    dpia: Filled
    van: date
    tot: date

    def covers(self, purposes: Collection[str], on: date) -> bool:
        """Whether these purposes may be joined on that day."""
        return set(purposes) <= self.doelen and self.van <= on <= self.tot


def load_linkages(settings: Settings) -> list[Linkage]:
    """The registered linkages of a factory; none where the policy folder holds no koppelingen.yaml.

    Raises:
        PolicyError: the file is not in order; the message names the entry and key.
    """
    path = settings.policy_folder / FILE if settings.policy_folder else None
    if path is None or not path.is_file():
        return []
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return [Linkage.model_validate(item) for item in document.get("koppelingen") or []]
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError):
        raise PolicyError(f"{path}: not valid YAML with a list under `koppelingen`") from None
    except ValidationError as error:
        told = [f"`{'.'.join(str(p) for p in item['loc'])}`: {item['msg']}" for item in error.errors(include_url=False)]
        raise PolicyError(f"{path}: {'; '.join(told)}") from None


def reached_purposes(manifest: Mapping[str, Any], purposes: Collection[str]) -> dict[str, frozenset[str]]:
    """Of whose pseudonyms every model can hold some: those of its parents, marts not looked through.

    Args:
        manifest: dbt's, parsed.
        purposes: names of all purposes; their sources have schema `raw_<purpose>`.

    Returns:
        unique_id of each model that is no mart → purposes it reaches.
    """
    schemas = {f"raw_{purpose}": purpose for purpose in purposes}
    sources = {key: schemas[node["schema"]] for key, node in manifest["sources"].items() if node["schema"] in schemas}
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] in {"model", "snapshot"}}
    known: dict[str, frozenset[str]] = {key: frozenset({purpose}) for key, purpose in sources.items()}

    def reach(key: str) -> frozenset[str]:
        if key not in known:
            known[key] = frozenset()  # dbt refuses cycles; this keeps a broken manifest from looping
            parents = nodes[key]["depends_on"]["nodes"] if key in nodes and not _is_mart(nodes[key]) else []
            known[key] = frozenset().union(*(reach(parent) for parent in parents))
        return known[key]

    return {key: reach(key) for key, node in nodes.items() if not _is_mart(node)}


def refuse_unregistered(
    manifest: Mapping[str, Any], purposes: Collection[str], linkages: Collection[Linkage], on: date | None = None
) -> None:
    """Refuse models that put persons of two purposes side by side without a linkage that is in force.

    Raises:
        PolicyError: names each such model, the purposes, and what to register.
    """
    today = on or datetime.now(UTC).date()
    told = []
    for key, reached in sorted(reached_purposes(manifest, purposes).items()):
        if len(reached) > 1 and not any(linkage.covers(reached, today) for linkage in linkages):
            both = " and ".join(sorted(reached))
            expired = any(reached <= linkage.doelen for linkage in linkages)
            why = "the linkage is not in force today" if expired else "no linkage is registered"
            told.append(f"model `{key.rpartition('.')[2]}` reaches persons of {both}: {why}")
    if told:
        raise PolicyError(
            f"{'; '.join(told)}. Register it in {FILE} of the policy folder (doelen, grondslag, dpia, van, tot), or "
            "let the model use one purpose and join in a mart on region"
        )


def _is_mart(node: Mapping[str, Any]) -> bool:
    return bool(node["schema"] == "marts")
