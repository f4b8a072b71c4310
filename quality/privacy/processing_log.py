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
from functools import cache
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
    """An OpenLineage run event: what went in, the table that came out, column by column, and the ground."""
    ol = _openlineage()
    space = f"datafabriek://{uuid.uuid5(_SPACE, settings.name)}"
    fields, columns = {}, []
    for column in done.columns:
        how = ol.lineage.Transformation("DIRECT", "TRANSFORMATION", column.derivation, column.masking)
        columns.append(ol.schema.SchemaDatasetFacetFields(column.name, column.sql_type, column.description))
        from_ = [ol.lineage.InputField(space, source, name, [how]) for source, name in column.sources]
        if from_:
            fields[column.name] = ol.lineage.Fields(from_)
    table = ol.event.OutputDataset(
        space,
        done.table,
        {"outputStatistics": ol.statistics.OutputStatisticsOutputDatasetFacet(done.rows, producer=PRODUCER)},
        facets={
            "schema": ol.schema.SchemaDatasetFacet(columns, producer=PRODUCER),
            "columnLineage": ol.lineage.ColumnLineageDatasetFacet(fields, producer=PRODUCER),
        },
    )
    told = f"{done.activity}: {done.description} Grondslag: {done.ground}"
    documentation = ol.documentation.DocumentationJobFacet(told, producer=PRODUCER)
    event = ol.event.RunEvent(
        eventTime=done.at.isoformat(timespec="milliseconds"),
        producer=PRODUCER,
        run=ol.event.Run(str(_PROCESS)),
        job=ol.event.Job(space, done.table, {"documentation": documentation}),
        eventType=ol.event.RunState.COMPLETE,
        inputs=[ol.event.InputDataset(space, source) for source in done.inputs],
        outputs=[table],
    )
    return dict(json.loads(ol.serde.to_json(event)))


def _sources(contract: Contract, column: Derived) -> tuple[str, ...]:
    """Columns of the delivery that a purpose's column follows from; a buurt follows from the address."""
    return column.sources or (tuple(contract.address.values()) if column.derivation == "buurt" else ())


@dataclass(frozen=True)
class _Library:
    event: Any
    lineage: Any
    schema: Any
    documentation: Any
    statistics: Any
    serde: Any


@cache
def _openlineage() -> _Library:
    """The library, imported at first use: it takes half a second."""
    from openlineage.client import event_v2
    from openlineage.client.generated import (
        column_lineage_dataset,
        documentation_job,
        output_statistics_output_dataset,
        schema_dataset,
    )
    from openlineage.client.serde import Serde

    return _Library(
        event_v2, column_lineage_dataset, schema_dataset, documentation_job, output_statistics_output_dataset, Serde
    )
