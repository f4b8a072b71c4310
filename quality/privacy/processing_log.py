"""The processing log: per run, contract and purpose what was done with personal data, on what ground; no person in it.

Two files a month under `ledger/`, one JSON document a line, that a log service can take in as they are:
`verwerkingen-<month>.jsonl` in the shape of the VNG verwerkingenlogging API (Verwerkingsactie), and
`lineage-<month>.jsonl` with OpenLineage events: from which column of which delivery each column of a purpose follows.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from datafabriek import __version__
from datafabriek.config import Settings
from quality.contracts.model import Contract, Purpose
from quality.privacy.policy import PurposePolicy

PRODUCER = f"urn:datafabriek:{__version__}"

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:datafabriek:verwerkingen")
_PROCESS = uuid.uuid4()


@dataclass(frozen=True)
class Processing:
    """A purpose's table that was made, or looked at and found unchanged.

    Attributes:
        delivery: kind of delivery.
        contract: what was agreed on it.
        purpose: for what.
        policy: on what ground.
        rows: in the purpose's table.
        renewed: False where nothing had changed, so that no personal data was touched.
        at: when, UTC.
    """

    delivery: str
    contract: Contract
    purpose: Purpose
    policy: PurposePolicy
    rows: int
    renewed: bool
    at: datetime

    @property
    def table(self) -> str:
        """The purpose's table."""
        return f"raw_{self.purpose.name}.{self.delivery}"


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
        "handelingNaam": "Pseudonimiseren en minimaliseren",
        "verwerkingNaam": done.policy.omschrijving[:242],
        "verwerkingId": str(_PROCESS),
        "verwerkingsactiviteitId": str(uuid.uuid5(_SPACE, done.policy.verwerkingsactiviteit)),
        "verwerkingsactiviteitUrl": f"urn:verwerkingsactiviteit:{done.policy.verwerkingsactiviteit}",
        "vertrouwelijkheid": "normaal",
        "bewaartermijn": f"P{done.policy.bewaartermijn_maanden}M",
        "systeem": f"datafabriek {__version__}, {settings.name}"[:242],
        "gebruiker": getpass.getuser()[:40],
        "gegevensbron": f"{done.contract.title} ({done.contract.supplier})"[:242],
        "tijdstip": at,
        "tijdstipRegistratie": at,
        "verwerkteObjecten": [
            {
                "objecttype": "persoon",
                "soortObjectId": "alle personen in de levering",
                "objectId": done.delivery[:40],
                "betrokkenheid": "betrokkene",
                "verwerkteSoortenGegevens": [
                    {"soortGegeven": f"{column.name}: {column.description}"[:242]} for column in done.purpose.columns
                ],
            }
        ]
        if done.renewed
        else [],
    }


def lineage(settings: Settings, done: Processing) -> dict[str, Any]:
    """An OpenLineage run event: the delivery in, the purpose's table out, column by column, and the ground."""
    ol = _openlineage()
    space = f"datafabriek://{uuid.uuid5(_SPACE, settings.name)}"
    source = f"vault.{done.delivery}"
    fields, columns = {}, []
    for column in done.purpose.columns:
        masking = column.derivation == "pseudoniem"
        how = ol.lineage.Transformation("DIRECT", "TRANSFORMATION", column.derivation, masking)
        columns.append(ol.schema.SchemaDatasetFacetFields(column.name, column.sql_type, column.description))
        from_ = [ol.lineage.InputField(space, source, name, [how]) for name in _sources(done.contract, column)]
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
    told = f"{done.policy.verwerkingsactiviteit}: {done.policy.omschrijving} Grondslag: {done.policy.grondslag}"
    documentation = ol.documentation.DocumentationJobFacet(told, producer=PRODUCER)
    event = ol.event.RunEvent(
        eventTime=done.at.isoformat(timespec="milliseconds"),
        producer=PRODUCER,
        run=ol.event.Run(str(_PROCESS)),
        job=ol.event.Job(space, done.table, {"documentation": documentation}),
        eventType=ol.event.RunState.COMPLETE,
        inputs=[ol.event.InputDataset(space, source)],
        outputs=[table],
    )
    return dict(json.loads(ol.serde.to_json(event)))


def _sources(contract: Contract, column: Any) -> tuple[str, ...]:
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
