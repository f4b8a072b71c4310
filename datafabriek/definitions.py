"""The one `Definitions` object: all assets and checks joined, with the jobs, schedule and sensors around them.

Belongs here: what runs when, and what belongs to one run. Does not belong here: any asset of a source or a model
(assets/), and how a run is started without Dagster's UI (datafabriek.running). Loading it reads factory.yaml,
contracts and dbt's manifest; no network, no secret, no database.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from assets.deliveries.inbox import SETTLED_S, is_whole, waiting
from datafabriek import discretion
from datafabriek.alerts import Alert, alert
from datafabriek.config import Settings, load_settings
from datafabriek.executor import locked_executor
from datafabriek.instance import BEGUN_BY_TAG, COMMAND_LINE, PROCESS_TAG
from datafabriek.ledger import Ledger
from datafabriek.locking import is_alive, is_taken
from datafabriek.status import is_anything_released

NIGHTLY_JOB = "nachtelijke_run"
INTAKE_JOB = "leveringen_verwerken"
CBS_GROUP, DELIVERY_GROUP, MODEL_GROUP, RELEASE_GROUP = "aanvoer_cbs", "aanvoer_leveringen", "modellen", "levering"
GROUPS = (CBS_GROUP, DELIVERY_GROUP, MODEL_GROUP, RELEASE_GROUP)
"""Groups in the order of the data's way."""

Part = tuple[Sequence[dg.AssetsDefinition], Sequence[dg.AssetChecksDefinition]]


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster's webserver, daemon and command line load."""
    discretion.install()
    return build(load_settings())


def build(settings: Settings) -> dg.Definitions:
    """The definitions of one factory.

    Raises:
        FactoryError: a contract, policy or model that cannot be used; Dagster's UI shows the message.
    """
    from assets.cbs import assets as cbs
    from assets.cbs.resources import CbsSource
    from assets.deliveries import assets as deliveries
    from assets.models import assets as models
    from assets.release import assets as release

    parts: list[Part] = [part.build(settings) for part in (cbs, deliveries, models, release)]
    resources: dict[str, Any] = {"cbs": CbsSource()}
    if settings.sample:
        from datafabriek.sample.assets import sample_deliveries
        from datafabriek.sample.resources import SampleCbsSource

        parts.append(([sample_deliveries(settings)], []))
        resources["cbs"] = SampleCbsSource()
    return join(settings, parts, resources)


def join(settings: Settings, parts: Iterable[Part], resources: Mapping[str, Any]) -> dg.Definitions:
    """Put jobs, schedule and sensors around the assets and checks of the parts."""
    assets: list[dg.AssetsDefinition] = []
    checks: list[dg.AssetChecksDefinition] = []
    for part_assets, part_checks in parts:
        assets += dg.map_asset_specs(_with_freshness, part_assets)
        checks += part_checks
    partitioned = [key for asset in assets for key in asset.keys if asset.partitions_def]
    # the years of a table with partitions land in the nightly run as well, so their checks belong to it
    whole = dg.AssetSelection.all() - dg.AssetSelection.assets(*partitioned)
    nightly = dg.define_asset_job(
        NIGHTLY_JOB,
        selection=whole | dg.AssetSelection.checks_for_assets(*partitioned),
        description="Alles van aanvoer tot levering: de run van elke nacht.",
        tags={"dagster/max_retries": "1", "dagster/retry_strategy": "ALL_STEPS"}
        | {"dagster/retry_on_asset_or_op_failure": "true"},
    )
    intake = dg.define_asset_job(
        INTAKE_JOB,
        selection=dg.AssetSelection.groups(DELIVERY_GROUP).downstream() - dg.AssetSelection.assets(*partitioned),
        description="Wat er in de inbox ligt aannemen, en alles wat daarop volgt.",
    )
    backfills = [
        dg.define_asset_job(
            f"inhalen_{key.path[-1]}",
            selection=dg.AssetSelection.assets(key),
            description=f"Delen van {key.to_user_string()} opnieuw ophalen, zonder levering.",
        )
        for key in partitioned
    ]
    return dg.Definitions(
        assets=[*assets, *_inboxes(assets)],
        asset_checks=checks,
        jobs=[nightly, intake, *backfills],
        schedules=[_schedule(settings, nightly)],
        sensors=[_inbox_sensor(settings, intake), _failure_sensor(settings), _lateness_sensor(settings)],
        resources=dict(resources),
        executor=locked_executor(settings),
    )


def _inboxes(assets: Sequence[dg.AssetsDefinition]) -> list[dg.AssetSpec]:
    """The inbox of every delivery as an asset that suppliers make: the start of its lineage."""
    made = {key for asset in assets for key in asset.keys}
    wanted = {dep.asset_key for asset in assets for spec in asset.specs for dep in spec.deps}
    return [
        dg.AssetSpec(
            key,
            group_name=DELIVERY_GROUP,
            kinds={"file"},
            owners=["team:datafabriek"],
            description="Aangeleverde bestanden.",
        )
        for key in sorted(wanted - made)
        if key.path[0] == "inbox"
    ]


def _with_freshness(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Every unpartitioned asset is renewed nightly: warn after one missed night, fail after two."""
    if spec.freshness_policy is not None or spec.partitions_def is not None:
        return spec
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50), warn_window=timedelta(hours=26))
    return spec.replace_attributes(freshness_policy=policy)


def _schedule(settings: Settings, job: Any) -> dg.ScheduleDefinition:
    running = dg.DefaultScheduleStatus.RUNNING if settings.schedule.enabled else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name="nachtelijk",
        job=job,
        cron_schedule=settings.schedule.cron,
        execution_timezone=settings.schedule.timezone,
        default_status=running,
        description="De run van elke nacht.",
    )


def _inbox_sensor(settings: Settings, job: Any) -> dg.SensorDefinition:
    @dg.sensor(
        name="inbox",
        job=job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Nieuwe bestanden in de inbox: aannemen en verwerken.",
    )
    def inbox(_context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if is_taken(settings.paths.lock):
            return dg.SkipReason("er loopt een run; die neemt de inbox zelf mee of de volgende blik doet het")
        found = sorted(settled_files(settings.paths.inbox, settings.deliveries))
        if not found:
            return dg.SkipReason("geen nieuwe bestanden in de inbox")
        marks = [f"{path}:{(stat := path.stat()).st_size}:{stat.st_mtime_ns}" for path in found]
        # names of files may tell something of persons: only their fingerprint leaves the inbox
        return dg.RunRequest(run_key=hashlib.sha256("\n".join(marks).encode()).hexdigest()[:32])

    return inbox


def settled_files(inbox: Path, deliveries: Iterable[str]) -> Iterator[Path]:
    """Files of known deliveries that are completely written: no hidden or partial name, untouched for a while."""
    newest = time.time() - SETTLED_S
    for name in deliveries:
        yield from (path for path in waiting(inbox / name) if path.stat().st_mtime <= newest and is_whole(path))


def _failure_sensor(settings: Settings) -> dg.SensorDefinition:
    wanted = settings.alerts.mail is not None or settings.alerts.webhook is not None

    @dg.run_failure_sensor(
        name="storing",
        default_status=dg.DefaultSensorStatus.RUNNING if wanted else dg.DefaultSensorStatus.STOPPED,
        description="Een mislukte run: bericht per mail of webhook (alerts in factory.yaml).",
    )
    def storing(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        run, ledger = context.dagster_run, Ledger(settings.paths.ledger)
        if run.tags.get("dagster/will_retry") == "true":
            return dg.SkipReason("de run wordt opnieuw geprobeerd")
        if run.tags.get(BEGUN_BY_TAG) == COMMAND_LINE:
            ended = any(event.payload["run_id"] == run.run_id for event in ledger.events("run"))
            if ended or is_alive(run.tags.get(PROCESS_TAG, "")):
                return dg.SkipReason("`datafabriek run` vertelt zelf hoe de run afliep; alleen een gedode run zwijgt")
        steps = [event.step_key for event in context.get_step_failure_events() if event.step_key]
        released = is_anything_released(ledger)
        alert(settings, Alert.of_failure(settings.name, run.job_name, run.run_id, steps, released=released))
        return None

    return storing


def _lateness_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="te_laat",
        minimum_interval_seconds=3600,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Leveringen waarvan de afgesproken termijn voorbij is: bericht, één keer per levering en periode.",
    )
    def te_laat(_context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from datafabriek.status import announce_late

        late = announce_late(settings)
        told = ", ".join(f"{item.delivery} {item.period}" for item in late)
        return dg.SkipReason(f"te laat: {told}" if late else "niets is nieuw te laat")

    return te_laat
