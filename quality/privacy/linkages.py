"""Registered linkages: the only way in which persons of two purposes may be put side by side.

A linkage stands in `koppelingen.yaml` of the policy folder: which purposes, on what ground, under which DPIA, from when
until when. A model that reaches persons of two purposes without one is refused before anything is built: a pseudonym
holds within one purpose, so that such a join finds nothing, and where it does find something it should not. Marts hold
aggregates and no pseudonyms; whoever builds on them reaches no person.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datafabriek.config import Settings
from datafabriek.mistakes import explain
from quality.privacy.approvals import require
from quality.privacy.policy import PolicyError

FILE = "koppelingen.yaml"
RAW = "raw_"
IMPERSONAL = frozenset({"raw_cbs", "raw_leveringen"})
"""Sources without persons; every other raw schema is that of a purpose."""

_PSEUDONYM = "_pseudoniem"

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


class _Register(BaseModel):
    """All of koppelingen.yaml; as long as it registers nothing, nobody need have settled it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versie: str | int | float | None = None
    vastgesteld_op: date | None = None
    vastgesteld_door: str | None = None
    koppelingen: tuple[Linkage, ...] | None = None


def load_linkages(settings: Settings) -> list[Linkage]:
    """The registered linkages of a factory; none where the policy folder holds no koppelingen.yaml.

    Raises:
        PolicyError: the file is not in order (the message names the entry and key), or holds linkages that nobody with
            the role `koppelingen` approved.
    """
    path = settings.policy_folder / FILE if settings.policy_folder else None
    if path is None or not path.is_file():
        return []
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found = _Register.model_validate(document).koppelingen or ()
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PolicyError(f"{path}: not valid YAML with a list under `koppelingen`") from None
    except ValidationError as error:
        raise PolicyError(explain(path, error, _Register)) from None
    if found:
        require(settings, path, "koppelingen")
    return list(found)


def reached_purposes(manifest: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """Per model (unique id) the purposes whose persons it reaches, directly or through other models.

    Args:
        manifest: dbt's, parsed. The walk stops at marts.
    """
    nodes, sources = manifest["nodes"], manifest["sources"]
    found: dict[str, frozenset[str]] = {}

    def reached(unique_id: str) -> frozenset[str]:
        if unique_id in sources:
            schema = sources[unique_id]["schema"]
            personal = schema.startswith(RAW) and schema not in IMPERSONAL
            return frozenset({schema.removeprefix(RAW)}) if personal else frozenset()
        if unique_id not in nodes:
            return frozenset()
        if unique_id not in found:
            found[unique_id] = frozenset()  # dbt refuses cycles; this keeps a broken manifest from looping
            parents = nodes[unique_id]["depends_on"].get("nodes", [])
            below = (reached(parent) for parent in parents if not _is_mart(nodes.get(parent)))
            found[unique_id] = frozenset().union(*below)
        return found[unique_id]

    return {key: reached(key) for key, node in nodes.items() if node["resource_type"] in {"model", "snapshot"}}


def refuse_unregistered(manifest: Mapping[str, Any], linkages: Collection[Linkage], on: date | None = None) -> None:
    """Refuse models that put persons of two purposes side by side without a linkage in force, and marts with persons.

    Raises:
        PolicyError: names each such model, the purposes or columns, and the remedy.
    """
    today = on or datetime.now(UTC).date()
    told = []
    for unique_id, reached in sorted(reached_purposes(manifest).items()):
        node = manifest["nodes"][unique_id]
        if len(reached) > 1 and not any(linkage.covers(reached, today) for linkage in linkages):
            known = any(reached <= linkage.doelen for linkage in linkages)
            why = "their linkage is not in force today" if known else "no linkage of these is registered"
            told.append(
                f"model {node['name']} reaches persons of the purposes {' and '.join(sorted(reached))}, and {why}: "
                f"register it in {FILE} of the policy folder (doelen, grondslag, dpia, van, tot), or build on the "
                "marts of each and join on region"
            )
        if _is_mart(node) and (personal := _personal_columns(node)):
            told.append(f"mart {node['name']} holds {', '.join(personal)}: a mart holds aggregates only")
    if told:
        raise PolicyError("\n".join(told))


def _personal_columns(node: Mapping[str, Any]) -> list[str]:
    columns = node["columns"].items()
    return [name for name, told in columns if _PSEUDONYM in name or str(told.get("data_type")).lower() == "uuid"]


def _is_mart(node: Mapping[str, Any] | None) -> bool:
    return node is not None and node["schema"] == "marts"
