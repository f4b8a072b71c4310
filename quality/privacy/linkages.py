"""Registered linkages: the only way in which persons of two purposes may be put side by side.

A linkage stands in `koppelingen.yaml` of the policy folder: which columns of which purposes, on what ground, under
which DPIA, from when until when. What it lists is made as tables of its own (`koppeling_<naam>`, see
assets.deliveries.linking and docs/adr/006), keyed by pseudonyms that hold within that linkage alone. So a model reaches
the persons of one purpose or of one linkage in force, never of two: whatever reaches more is refused before anything
is built. Marts hold aggregates and no pseudonyms; whoever builds on them reaches no person.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import duckdb
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from datafabriek.config import Name, Settings
from datafabriek.mistakes import explain, load
from quality.privacy.approvals import require
from quality.privacy.policy import PolicyError

FILE = "koppelingen.yaml"
RAW = "raw_"
LINKED = "koppeling_"
IMPERSONAL = frozenset({"raw_cbs", "raw_leveringen"})
"""Sources without persons; every other raw schema is that of a purpose."""

LAYERS = ("staging", "intermediate", "marts")
"""Folders of models and the schemas they are made in; elsewhere nobody would see who reads them."""

_PSEUDONYM = "_pseudoniem"
_MAKES_ROWS = frozenset({"unnest", "generate_series", "range", "generate_subscripts"})
"""Table functions that read nothing; any other may read what no lineage shows."""

Filled = Annotated[str, Field(min_length=3)]
Listed = Annotated[tuple[Name, ...], Field(min_length=1)]
Relation = tuple[str, str]
"""Schema and table, in small letters: the engine tells no capitals apart."""

Read = Mapping[str, Collection[Relation] | None]
"""Per node (unique id) the relations that its compiled SQL names; None where its SQL cannot be followed."""


@dataclass(frozen=True)
class LinkedTable:
    """One table of a linkage: these columns of `raw_<purpose>.<delivery>`."""

    linkage: str
    purpose: str
    delivery: str
    columns: tuple[str, ...]

    @property
    def schema(self) -> str:
        """`koppeling_<naam>`."""
        return f"{LINKED}{self.linkage}"

    @property
    def name(self) -> str:
        """`<purpose>__<delivery>`."""
        return f"{self.purpose}__{self.delivery}"


class Linkage(BaseModel):
    """A linkage that was settled.

    Attributes:
        naam: names its schema and its key.
        omschrijving: what it is for.
        doelen: per purpose and delivery the columns that it needs, pseudonyms among them; it gets no other.
        grondslag: the lawful basis.
        dpia: reference of the assessment (AVG 35).
        verwerkingsactiviteit: number in the register of processing activities (AVG 30).
        van: first day on which it may be used.
        tot: last day.
        sleutelversie: version of its key; raised to rotate.
        k: smallest group over its other columns under which it is not made; None only measures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    naam: Name
    omschrijving: Filled
    doelen: dict[Name, Annotated[dict[Name, Listed], Field(min_length=1)]] = Field(min_length=2)
    grondslag: Filled
    dpia: Filled
    verwerkingsactiviteit: Filled
    van: date
    tot: date
    sleutelversie: Annotated[int, Field(ge=1)] = 1
    k: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Linkage:
        if self.tot < self.van:
            raise ValueError(f"{self.naam} ends before it begins")
        names = [table.name for table in self.tables]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.naam}: two of its tables would have one name")
        return self

    @property
    def schema_name(self) -> str:
        """Where its tables are."""
        return f"{LINKED}{self.naam}"

    @property
    def tables(self) -> list[LinkedTable]:
        """What is made for it."""
        return [
            LinkedTable(self.naam, purpose, delivery, columns)
            for purpose, deliveries in self.doelen.items()
            for delivery, columns in deliveries.items()
        ]

    def in_force(self, on: date | None = None) -> bool:
        """Whether it may be used on a day; today where None."""
        return self.van <= (on or datetime.now(UTC).date()) <= self.tot


class _Register(BaseModel):
    """All of koppelingen.yaml; as long as it registers nothing, nobody need have settled it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versie: str | int | float | None = None
    vastgesteld_op: date | None = None
    vastgesteld_door: str | None = None
    koppelingen: tuple[Linkage, ...] | None = None

    @field_validator("koppelingen")
    @classmethod
    def _one_of_a_name(cls, found: tuple[Linkage, ...] | None) -> tuple[Linkage, ...] | None:
        names = [linkage.naam for linkage in found or ()]
        if len(set(names)) < len(names):
            raise ValueError("two linkages have one name, and would share a key")
        return found


def load_linkages(settings: Settings) -> list[Linkage]:
    """The registered linkages of a factory; none where the policy folder holds no koppelingen.yaml.

    Raises:
        PolicyError: the file is not in order (the message names the entry and key), or holds linkages that nobody with
            the role `koppelingen` approved.
    """
    found = read_linkages(settings)
    if found and settings.policy_folder:
        require(settings, settings.policy_folder / FILE, "koppelingen")
    return found


def read_linkages(settings: Settings) -> list[Linkage]:
    """The same, whether or not somebody approved them: to look at, never to make anything by.

    Raises:
        PolicyError: the file is not in order.
    """
    path = settings.policy_folder / FILE if settings.policy_folder else None
    if path is None or not path.is_file():
        return []
    try:
        document: Any = load(path.read_text(encoding="utf-8")) or {}
        return list(_Register.model_validate(document).koppelingen or ())
    except (yaml.YAMLError, UnicodeDecodeError):
        raise PolicyError(f"{path}: not valid YAML with a list under `koppelingen`") from None
    except ValidationError as error:
        raise PolicyError(explain(path, error, _Register)) from None


def registered(settings: Settings) -> list[Linkage]:
    """The linkages of which a factory has tables; none where the file cannot be used, which their use then tells."""
    try:
        return load_linkages(settings)
    except PolicyError:
        return []


def reached(manifest: Mapping[str, Any], read: Read | None = None) -> dict[str, frozenset[str]]:
    """Per model, seed and test (unique id) the schemas with persons that it reaches, directly or through others.

    Args:
        manifest: dbt's, parsed. The walk stops at marts.
        read: what nodes read besides what they declare.
    """
    nodes, sources = manifest["nodes"], manifest["sources"]
    made = _made(manifest)
    found: dict[str, frozenset[str]] = {}

    def of_relation(relation: Relation) -> frozenset[str]:
        if relation in made:
            return of(made[relation])
        return frozenset({relation[0]}) if _holds_persons(relation[0]) else frozenset()

    def of(unique_id: str) -> frozenset[str]:
        if unique_id in sources:
            return of_relation(_source(sources[unique_id]))
        if unique_id not in nodes or _is_mart(nodes[unique_id]):
            return frozenset()
        return below(unique_id)

    def below(unique_id: str) -> frozenset[str]:
        if unique_id not in found:
            found[unique_id] = frozenset()  # dbt refuses cycles; this keeps a broken manifest from looping
            parents = [of(parent) for parent in nodes[unique_id].get("depends_on", {}).get("nodes", [])]
            named = [of_relation(relation) for relation in (read or {}).get(unique_id) or ()]
            found[unique_id] = frozenset().union(*parents, *named)
        return found[unique_id]

    return {unique_id: below(unique_id) for unique_id in nodes}


def refuse_unregistered(
    manifest: Mapping[str, Any],
    linkages: Collection[Linkage],
    on: date | None = None,
    read: Read | None = None,
) -> None:
    """Refuse models that reach persons of two purposes, or of a linkage that is not in force, and marts with persons.

    Args:
        manifest: dbt's, parsed.
        linkages: those that are registered and approved.
        on: the day to judge by; today where None.
        read: see `reached`.

    Raises:
        PolicyError: names each such model, what it reaches, and the remedy.
    """
    told = [*_unfollowed(manifest, read or {})]
    by_schema = {linkage.schema_name: linkage for linkage in linkages}
    for unique_id, schemas in sorted(reached(manifest, read).items()):
        node = manifest["nodes"][unique_id]
        who = f"{node['resource_type']} {node['name']}"
        if len(schemas) > 1:
            told.append(_side_by_side(who, schemas))
        for schema in sorted(schemas):
            linkage = by_schema.get(schema)
            if schema.startswith(LINKED) and linkage is None:
                told.append(f"{who} reaches {schema}, and no such linkage is registered: enter it in {FILE}")
            elif linkage is not None and not linkage.in_force(on):
                told.append(
                    f"{who} reaches {schema}, and that linkage holds from {linkage.van} to {linkage.tot}: take the "
                    f"model away, or have the linkage settled anew in {FILE}"
                )
        if node["schema"] == "marts":
            told += _of_mart(who, node)
    if told:
        raise PolicyError("\n".join(told))


def relations(sql: str) -> set[Relation] | None:
    """Relations with a schema that a query reads, by its syntax; None where that cannot be told for certain."""
    with duckdb.connect() as con:
        row = con.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        return None
    found: set[Relation] = set()
    for node in _walk(tree):
        if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"] not in _MAKES_ROWS:
            return None
        if node.get("type") == "BASE_TABLE":
            schema, table = node["schema_name"].casefold(), node["table_name"].casefold()
            if "." in table and not schema:
                return None  # a file, read as a table
            if schema:
                found.add((schema, table))
    return found


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _walk(part)


def _side_by_side(who: str, schemas: Iterable[str]) -> str:
    purposes = sorted(schema.removeprefix(RAW) for schema in schemas if schema.startswith(RAW))
    linked = sorted(schema for schema in schemas if schema.startswith(LINKED))
    told = " and ".join([*(["the purposes " + " and ".join(purposes)] if purposes else []), *linked])
    if linked:
        return f"{who} reaches persons of {told}: what a linkage made is joined with nothing but itself"
    return (
        f"{who} reaches persons of {told}, and no linkage makes that lawful: register one in {FILE} of the policy "
        f"folder and build on its tables ({LINKED}<naam>), or build on the marts of each and join on region"
    )


def _of_mart(who: str, node: Mapping[str, Any]) -> Iterator[str]:
    if node["resource_type"] in {"model", "snapshot", "seed"} and not _is_mart(node):
        yield f"{who} stands in marts without an enforced contract: nobody could tell what it holds"
    if personal := _personal_columns(node):
        yield f"mart {node['name']} holds {', '.join(personal)}: a mart holds aggregates only"


_MADE_AS = ("view", "table", "ephemeral")
_PLAIN_NAME, _PLAIN_TYPE = re.compile(r"\w+"), re.compile(r"[\w ]*(\(\d+(, *\d+)?\))?(\[\])?")
_COMMENT = "$dbt_comment_literal_block$"  # how dbt-duckdb quotes a description


def _unfollowed(manifest: Mapping[str, Any], read: Read) -> Iterator[str]:
    """What would let a model reach something that its lineage does not show."""
    made = _made(manifest)
    relation_of = {unique_id: _source(source) for unique_id, source in manifest["sources"].items()}
    relation_of |= {unique_id: relation for relation, unique_id in made.items()}
    for source in manifest["sources"].values():
        schema, _ = relation = _source(source)
        if not schema.startswith((RAW, LINKED)) and relation not in made:
            yield f"source {source['name']} lies in {schema}, which nothing of this factory fills: take it away"
    for unique_id, node in manifest["nodes"].items():
        who, config = f"{node['resource_type']} {node['name']}", node.get("config") or {}
        if node["resource_type"] in {"model", "snapshot", "seed"} and node["schema"].casefold() not in LAYERS:
            yield f"{who} would be made in schema {node['schema']}: models stand in {', '.join(LAYERS)}"
        if node.get("language", "sql") not in {"sql", None}:
            yield f"{who} is written in {node['language']}: what it reads cannot be followed; write it in SQL"
        if hooks := [name for name in ("pre-hook", "post-hook", "sql_header") if config.get(name)]:
            yield f"{who} has a {hooks[0]}: what that reads cannot be followed; take it away"
        how = config.get("materialized")
        if node["resource_type"] == "model" and how not in {*_MADE_AS, None}:
            yield f"{who} is made as {how}, whose conditions cannot be followed: make it one of {', '.join(_MADE_AS)}"
        is_made = node["resource_type"] in {"model", "snapshot", "seed"}
        if is_made and (broken := _written_into_statements(node)):
            yield f"{who}: {broken}"
        if config.get("store_failures") or config.get("store_failures_as") in {"table", "view"}:
            yield f"{who} keeps the rows that fail: rows of persons would stand where nobody looks; let it count them"
        named = read.get(unique_id, ())
        if named is None:
            yield f"{who}: what it reads cannot be told from its SQL: read tables only, by source() and ref()"
        # what is public follows from lineage, so lineage must show all that is read
        parents = (unique_id, *(node.get("depends_on") or {}).get("nodes", ()))
        for schema, table in sorted(set(named or ()) - {relation_of.get(parent) for parent in parents}):
            yield f"{who} reads {schema}.{table} by name: declare it as a source, and use source() or ref()"


def _written_into_statements(node: Mapping[str, Any]) -> str | None:
    """What of a model dbt writes into statements as it stands, and holds more than it should; None of a good one."""
    columns: Mapping[str, Any] = node.get("columns") or {}
    parts = [node, *columns.values()]
    for name in (node["schema"], node.get("alias") or node["name"], *columns):
        if not _PLAIN_NAME.fullmatch(name):
            return f"`{name[:40]}` is no name: letters, digits and _"
    if wrong := [name for name, told in columns.items() if not _PLAIN_TYPE.fullmatch(told.get("data_type") or "")]:
        return f"column {wrong[0]}: its data_type is no type"
    if any(constraint.get("expression") for part in parts for constraint in part.get("constraints") or ()):
        return "a constraint in words cannot be followed; let a test hold it"
    if any(_COMMENT in (part.get("description") or "") for part in parts):
        return "a description ends the comment that it is to be"
    return None


def _made(manifest: Mapping[str, Any]) -> dict[Relation, str]:
    """Which node makes which relation."""
    return {
        (node["schema"].casefold(), (node.get("alias") or node["name"]).casefold()): unique_id
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] in {"model", "snapshot", "seed"}
    }


def _source(source: Mapping[str, Any]) -> Relation:
    return source["schema"].casefold(), (source.get("identifier") or source.get("name") or "").casefold()


def _holds_persons(schema: str) -> bool:
    return schema.startswith((RAW, LINKED)) and schema not in IMPERSONAL


def _personal_columns(node: Mapping[str, Any]) -> list[str]:
    columns = node["columns"].items()
    return [name for name, told in columns if _PSEUDONYM in name or str(told.get("data_type")).lower() == "uuid"]


def _is_mart(node: Mapping[str, Any]) -> bool:
    is_held = ((node.get("config") or {}).get("contract") or {}).get("enforced")
    return bool(node["resource_type"] == "model" and node["schema"] == "marts" and is_held)
