"""The processing log: in the shapes of the standards, column by column, and without a person."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from openlineage.client import event_v2
from openlineage.client.generated import column_lineage_dataset as lines
from openlineage.client.generated import documentation_job as documentation
from openlineage.client.generated import output_statistics_output_dataset as statistics
from openlineage.client.generated import schema_dataset as shape
from openlineage.client.serde import Serde

from datafabriek.config import SAMPLE_FACTORY, Settings, load_settings
from quality.contracts.model import load
from quality.privacy.linkages import Linkage
from quality.privacy.policy import load_policy
from quality.privacy.processing_log import PRODUCER, Processing, action, lineage, record


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load_settings(SAMPLE_FACTORY)


def _done(settings: Settings, *, renewed: bool = True) -> Processing:
    contract = load("brp")
    policy = load_policy(settings).purpose("bijstand", "brp")
    done = Processing.of_purpose("brp", contract, contract.purposes["bijstand"], policy, 12, renewed=renewed)
    return replace(done, at=datetime(2026, 5, 1, 3, tzinfo=UTC))


def _linked() -> Processing:
    until = datetime.now(UTC).date() + timedelta(days=30)
    doelen = {"bijstand": {"bus": ["persoon_pseudoniem"]}, "zzp": {"brp": ["persoon_pseudoniem"]}}
    linkage = Linkage(
        naam="proef", omschrijving="Een proef", doelen=doelen, grondslag="Gemeentewet art. 108", dpia="D-1",
        verwerkingsactiviteit="VA-9", van=date(2026, 1, 1), tot=until,
    )  # fmt: skip
    columns = load("brp").purposes["zzp"].pseudonyms
    return Processing.of_linkage(linkage, linkage.tables[1], columns, 7, renewed=True)


def test_an_action_has_the_shape_of_the_vng_standard(settings: Settings, shared_data: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = shared_data / "standards" / "verwerkingenlogging"
    spec = yaml.safe_load((path / "api-write_oas-specification_logging-verwerkingen-api_openapi.yaml").read_text())
    schemas = spec["components"]["schemas"]
    schema = {"$ref": "#/components/schemas/VerwerkingsactieUitgebreidBasis", "components": {"schemas": schemas}}
    document = action(settings, _done(settings))
    jsonschema.validate(document, schema)
    jsonschema.validate(action(settings, _linked()), schema)
    assert set(document) <= set(schemas["Verwerkingsactie"]["properties"]) | {"verwerkteObjecten"}
    broken = document | {"vertrouwelijkheid": "geheim"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_lineage_is_a_valid_openlineage_event(settings: Settings, shared_data: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((shared_data / "standards" / "openlineage" / "OpenLineage.json").read_text())
    document = lineage(settings, _done(settings))
    jsonschema.validate(document, schema)
    jsonschema.validate(lineage(settings, _linked()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "run": {}}, schema)


def test_lineage_is_what_the_library_of_openlineage_makes_of_the_same(settings: Settings) -> None:
    done = _done(settings)
    event = lineage(settings, done)
    space, (table,) = event["job"]["namespace"], event["outputs"]
    fields = {}
    for column in done.columns:
        how = lines.Transformation("DIRECT", "TRANSFORMATION", column.derivation, column.masking)
        fields[column.name] = lines.Fields([lines.InputField(space, *source, [how]) for source in column.sources])
    columns = [shape.SchemaDatasetFacetFields(c.name, c.sql_type, c.description) for c in done.columns]
    made = event_v2.OutputDataset(
        space,
        done.table,
        {"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(done.rows, producer=PRODUCER)},
        facets={
            "schema": shape.SchemaDatasetFacet(columns, producer=PRODUCER),
            "columnLineage": lines.ColumnLineageDatasetFacet(
                {name: each for name, each in fields.items() if each.inputFields}, producer=PRODUCER
            ),
        },
    )
    told = documentation.DocumentationJobFacet(
        event["job"]["facets"]["documentation"]["description"], producer=PRODUCER
    )
    expected = event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=PRODUCER,
        run=event_v2.Run(event["run"]["runId"]),
        job=event_v2.Job(space, done.table, {"documentation": told}),
        eventType=event_v2.RunState.COMPLETE,
        inputs=[event_v2.InputDataset(space, source) for source in done.inputs],
        outputs=[made],
    )
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 12
    assert event == json.loads(Serde.to_json(expected))


def test_every_column_goes_back_to_its_source_and_ground(settings: Settings) -> None:
    event = lineage(settings, _done(settings))
    (table,) = event["outputs"]
    fields: dict[str, Any] = table["facets"]["columnLineage"]["fields"]
    (person,) = fields["persoon_pseudoniem"]["inputFields"]
    assert (person["name"], person["field"]) == ("vault.brp", "bsn")
    assert person["transformations"][0]["masking"] is True
    assert {field["field"] for field in fields["buurt_code"]["inputFields"]} >= {"postcode", "huisnummer"}
    assert "Participatiewet" in event["job"]["facets"]["documentation"]["description"]
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 12


def test_a_linkage_tells_its_own_ground_term_and_sources(settings: Settings) -> None:
    told, event = action(settings, _linked()), lineage(settings, _linked())
    assert (told["bewaartermijn"], told["handelingNaam"].split()[0]) == ("P30D", "Koppelen")
    assert told["verwerkingsactiviteitUrl"].endswith("VA-9")
    (person,) = event["outputs"][0]["facets"]["columnLineage"]["fields"]["persoon_pseudoniem"]["inputFields"]
    assert (person["name"], person["transformations"][0]["masking"]) == ("raw_zzp.brp", True)
    assert "DPIA D-1" in event["job"]["facets"]["documentation"]["description"]


def test_kinds_of_data_are_told_and_nobody_by_number(settings: Settings) -> None:
    (kind,) = action(settings, _done(settings))["verwerkteObjecten"]
    assert (kind["soortObjectId"], kind["objectId"]) == ("alle personen in de levering", "brp")
    assert len(kind["verwerkteSoortenGegevens"]) == len(load("brp").purposes["bijstand"].columns)
    assert action(settings, _done(settings, renewed=False))["verwerkteObjecten"] == []


def test_both_are_written_a_line_at_a_time_for_the_owner_alone(settings: Settings) -> None:
    for _ in range(2):
        record(settings, _done(settings))
    for name in ("verwerkingen", "lineage"):
        path = settings.paths.ledger.parent / f"{name}-2026-05.jsonl"
        assert [json.loads(line) for line in path.read_text().splitlines()][1]
        assert path.stat().st_mode & 0o077 == 0
