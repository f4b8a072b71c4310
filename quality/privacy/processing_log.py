"""The processing log: what each run did with personal data, per purpose or linkage, on what ground; no person in it.

Two files a month under `ledger/`, one JSON document a line, that a log service can take in as they are:
`verwerkingen-<month>.jsonl` in the shape of the VNG verwerkingenlogging API (Verwerkingsactie), and
`lineage-<month>.jsonl` with OpenLineage events: from which column of which delivery each column of a purpose follows.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from datafabriek import __version__
from datafabriek.config import Settings
from quality.contracts.model import Contract, Derived, Purpose
from quality.privacy.linkages import Linkage, LinkedTable
from quality.privacy.policy import PurposePolicy

PRODUCER = f"urn:datafabriek:{__version__}"

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:datafabriek:verwerkingen")
_PROCESS = uuid.uuid4()


@dataclass(frozen=True)
class Field:
    """A column of what was made.

    Attributes:
        name: its name.
        sql_type: its type.
        description: what it tells.
        derivation: how it follows from its sources.
        sources: columns that it follows from, each with its table.
        masking: whether a key stands between.
    """

    name: str
    sql_type: str
    description: str
    derivation: str
    sources: tuple[tuple[str, str], ...]
    masking: bool


@dataclass(frozen=True)
class Processing:
    """A table that was made for a purpose or a linkage, or looked at and found unchanged.

    Attributes:
        table: schema and name.
        act: what was done.
        persons: of which delivery the persons are.
        origin: title of the delivery and its supplier, or the linkage.
        description: for what.
        ground: the lawful basis.
        activity: number in the register (AVG 30).
        term: how long it may stay, an ISO 8601 duration.
        inputs: what it was made from.
        columns: of the table.
        rows: in the table.
        renewed: False where nothing had changed, so that no personal data was touched.
        at: when, UTC.
    """

    table: str
    act: str
    persons: str
    origin: str
    description: str
    ground: str
    activity: str
    term: str
    inputs: tuple[str, ...]
    columns: tuple[Field, ...]
    rows: int
    renewed: bool
    at: datetime

    @classmethod
    def of_purpose(
        cls, delivery: str, contract: Contract, purpose: Purpose, policy: PurposePolicy, rows: int, *, renewed: bool
    ) -> Processing:
        """The making of `raw_<purpose>.<delivery>`, now."""
        source = f"vault.{delivery}"
        return cls(
            table=f"raw_{purpose.name}.{delivery}",
            act="Pseudonimiseren en minimaliseren",
            persons=delivery,
            origin=f"{contract.title} ({contract.supplier})",
            description=policy.omschrijving,
            ground=policy.grondslag,
            activity=policy.verwerkingsactiviteit,
            term=f"P{policy.bewaartermijn_maanden}M",
            inputs=(source,),
            columns=tuple(
                _field(column, tuple((source, name) for name in _sources(contract, column)))
                for column in purpose.columns
            ),
            rows=rows,
            renewed=renewed,
            at=datetime.now(UTC),
        )

    @classmethod
    def of_linkage(
        cls, linkage: Linkage, table: LinkedTable, columns: Sequence[Derived], rows: int, *, renewed: bool
    ) -> Processing:
        """The making of one table of a linkage, now; `columns` are those of the purpose that it takes."""
        source, now = f"raw_{table.purpose}.{table.delivery}", datetime.now(UTC)
        return cls(
            table=f"{table.schema}.{table.name}",
            act="Koppelen van doelen onder eigen pseudoniemen",
            persons=table.delivery,
            origin=f"Koppeling {linkage.naam}: {', '.join(linkage.doelen)}",
            description=linkage.omschrijving,
            ground=f"{linkage.grondslag} (DPIA {linkage.dpia})",
            activity=linkage.verwerkingsactiviteit,
            term=f"P{max((linkage.tot - now.date()).days, 0)}D",
            inputs=(source,),
            columns=tuple(_field(column, ((source, column.name),)) for column in columns),
            rows=rows,
            renewed=renewed,
            at=now,
        )


def _field(column: Derived, sources: tuple[tuple[str, str], ...]) -> Field:
    masking = column.derivation == "pseudoniem"
    return Field(column.name, column.sql_type, column.description, column.derivation, sources, masking)


def record(settings: Settings, done: Processing) -> None:
    """Write both records of one processing."""
    folder = settings.paths.ledger.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, document in (("verwerkingen", action(settings, done)), ("lineage", lineage(settings, done))):
        line = json.dumps(document, ensure_ascii=False) + "\n"
        descriptor = os.open(
            folder / f"{name}-{done.at:%Y-%m}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(line)


def action(settings: Settings, done: Processing) -> dict[str, Any]:
    """A Verwerkingsactie. The persons are named as a kind (all in the delivery), never one by one."""
    identifier = uuid.uuid4()
    at = done.at.isoformat(timespec="seconds")
    return {
        "url": f"urn:uuid:{identifier}",
        "actieId": str(identifier),
        "actieNaam": f"{done.table} {'opnieuw gemaakt' if done.renewed else 'nagegaan: niets veranderd'}",
        "handelingNaam": done.act,
        "verwerkingNaam": done.description[:242],
        "verwerkingId": str(_PROCESS),
        "verwerkingsactiviteitId": str(uuid.uuid5(_SPACE, done.activity)),
        "verwerkingsactiviteitUrl": f"urn:verwerkingsactiviteit:{done.activity}",
        "vertrouwelijkheid": "normaal",
        "bewaartermijn": done.term,
        "systeem": f"datafabriek {__version__}, {settings.name}"[:242],
        "gebruiker": getpass.getuser()[:40],
        "gegevensbron": done.origin[:242],
        "tijdstip": at,
        "tijdstipRegistratie": at,
        "verwerkteObjecten": [
            {
                "objecttype": "persoon",
                "soortObjectId": "alle personen in de levering",
                "objectId": done.persons[:40],
                "betrokkenheid": "betrokkene",
                "verwerkteSoortenGegevens": [
                    {"soortGegeven": f"{column.name}: {column.description}"[:242]} for column in done.columns
                ],
            }
        ]
        if done.renewed
        else [],
    }


def lineage(settings: Settings, done: Processing) -> dict[str, Any]:
    """An OpenLineage run event: what went in, the table that came out, column by column, and the ground.

    Written out here: loading the library that makes the same takes longer than many a table.
    """
    space = f"datafabriek://{uuid.uuid5(_SPACE, settings.name)}"
    fields = {
        column.name: {"inputFields": [_input_field(space, column, *source) for source in column.sources]}
        for column in done.columns
        if column.sources
    }
    columns = [
        {"name": column.name, "type": column.sql_type, "description": column.description, "fields": []}
        for column in done.columns
    ]
    told = f"{done.activity}: {done.description} Grondslag: {done.ground}"
    table = {
        "namespace": space,
        "name": done.table,
        "facets": {
            "schema": _facet("1-2-0", "SchemaDatasetFacet", fields=columns),
            "columnLineage": _facet("1-2-0", "ColumnLineageDatasetFacet", fields=fields, dataset=[]),
        },
        "outputFacets": {"outputStatistics": _facet("1-0-2", "OutputStatisticsOutputDatasetFacet", rowCount=done.rows)},
    }
    return {
        "eventTime": done.at.isoformat(timespec="milliseconds"),
        "eventType": "COMPLETE",
        "producer": PRODUCER,
        "schemaURL": f"{_OPENLINEAGE}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": str(_PROCESS), "facets": {}},
        "job": {
            "namespace": space,
            "name": done.table,
            "facets": {"documentation": _facet("1-1-0", "DocumentationJobFacet", description=told)},
        },
        "inputs": [{"namespace": space, "name": name, "facets": {}, "inputFacets": {}} for name in done.inputs],
        "outputs": [table],
    }


def _input_field(space: str, column: Field, source: str, name: str) -> dict[str, Any]:
    how = {
        "type": "DIRECT",
        "subtype": "TRANSFORMATION",
        "description": column.derivation,
        "masking": column.masking,
    }
    return {"namespace": space, "name": source, "field": name, "transformations": [how]}


_OPENLINEAGE = "https://openlineage.io/spec"


def _facet(version: str, kind: str, **told: Any) -> dict[str, Any]:
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"{_OPENLINEAGE}/facets/{version}/{kind}.json#/$defs/{kind}",
        **told,
    }


def _sources(contract: Contract, column: Derived) -> tuple[str, ...]:
    """Columns of the delivery that a purpose's column follows from; a buurt follows from the address."""
    return column.sources or (tuple(contract.address.values()) if column.derivation == "buurt" else ())
