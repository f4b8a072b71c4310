"""What the roof puts around assets: jobs, schedule, sensors, the executor with the lock. The assets are small ones."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from datafabriek import executor
from datafabriek.alerts import Alert
from datafabriek.cli.run import PERIODS_CHECK, summarise
from datafabriek.config import Settings
from datafabriek.definitions import INTAKE_JOB, NIGHTLY_JOB, Part, join
from datafabriek.errors import FactoryError
from datafabriek.instance import PROCESS_TAG, close_abandoned_runs, open_instance, prepare_instance
from datafabriek.ledger import Event, Ledger
from datafabriek.locking import FactoryBusyError, factory_lock, process_mark
from datafabriek.running import AssetOutcome, CheckOutcome, RunReport, execute, explain, noise_to


class BrokenError(FactoryError):
    """Something a user can mend."""


@dg.asset(key=["raw_cbs", "regios"], group_name="aanvoer_cbs")
def regios() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"dagster/row_count": 3})


@dg.asset_check(asset=regios, blocking=True)
def regios_zijn_compleet() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="two are missing")


@dg.asset(
    key=["raw_cbs", "per_jaar"],
    group_name="aanvoer_cbs",
    partitions_def=dg.StaticPartitionsDefinition(["2019", "2020"]),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def per_jaar(context) -> dg.MaterializeResult:  # type: ignore[no-untyped-def]
    return dg.MaterializeResult(metadata={"jaren": list(context.partition_keys)})


@dg.asset(key=["raw_bijstand", "bus"], group_name="aanvoer_leveringen")
def bus() -> None:
    raise BrokenError("bus: line 3: no month: fill it in")


@dg.asset(key=["marts", "bijstand"], group_name="modellen", deps=[bus, regios])
def bijstand() -> None:
    pass


@dg.asset(key=["levering", "open"], group_name="levering", deps=[bijstand])
def levering() -> None:
    pass


PARTS: list[Part] = [([regios, per_jaar], [regios_zijn_compleet]), ([bus], []), ([bijstand], []), ([levering], [])]


@pytest.fixture
def joined(factory: Callable[..., Settings]) -> tuple[Settings, dg.Definitions]:
    settings = factory("deliveries: {bus: }\n")
    return settings, join(settings, PARTS, {})


def keys(definitions: dg.Definitions, job: str) -> set[str]:
    return {key.to_user_string() for key in definitions.resolve_job_def(job).asset_layer.selected_asset_keys}


def test_the_nightly_job_holds_all_that_has_no_partitions(joined: tuple[Settings, dg.Definitions]) -> None:
    expected = {"raw_cbs/regios", "raw_bijstand/bus", "marts/bijstand", "levering/open"}
    assert keys(joined[1], NIGHTLY_JOB) == expected


def test_a_delivery_takes_along_what_follows_from_it(joined: tuple[Settings, dg.Definitions]) -> None:
    assert keys(joined[1], INTAKE_JOB) == {"raw_bijstand/bus", "marts/bijstand", "levering/open"}


def test_partitioned_assets_have_a_job_of_their_own(joined: tuple[Settings, dg.Definitions]) -> None:
    assert keys(joined[1], "inhalen_per_jaar") == {"raw_cbs/per_jaar"}
    with dg.DagsterInstance.ephemeral() as instance:
        job = joined[1].resolve_job_def("inhalen_per_jaar")
        assert job.execute_in_process(instance=instance, partition_key="2020").success


@pytest.mark.parametrize(
    ("extra", "cron", "zone", "status"),
    [
        ("", "0 3 * * *", "Europe/Amsterdam", "RUNNING"),
        ("schedule: {cron: '30 1 * * 1', timezone: UTC, enabled: false}", "30 1 * * 1", "UTC", "STOPPED"),
    ],
)
def test_the_schedule_follows_factory_yaml(
    factory: Callable[..., Settings], extra: str, cron: str, zone: str, status: str
) -> None:
    schedule = join(factory(extra), PARTS, {}).resolve_schedule_def("nachtelijk")
    assert (schedule.cron_schedule, schedule.execution_timezone) == (cron, zone)
    assert schedule.default_status.value == status


def test_unpartitioned_assets_carry_a_freshness_policy(joined: tuple[Settings, dg.Definitions]) -> None:
    graph = joined[1].resolve_asset_graph()
    assert graph.get(regios.key).freshness_policy is not None
    assert graph.get(per_jaar.key).freshness_policy is None


def test_a_run_is_reported_with_what_failed_and_why(joined: tuple[Settings, dg.Definitions]) -> None:
    settings, definitions = joined
    heard: list[tuple[str, str]] = []

    def listen(asset: AssetOutcome, phase: str) -> None:
        heard.append((asset.name, phase))

    with open_instance(settings) as instance:
        report = execute(instance, definitions.resolve_job_def(NIGHTLY_JOB), listen, None)
        run = instance.get_run_by_id(report.run_id)
    assert not report.ok
    assert report.failures == {"raw_bijstand.bus": "bus: line 3: no month: fill it in"}
    outcomes = {asset.name: (asset.outcome, asset.rows) for asset in report.assets}
    assert outcomes["raw_cbs.regios"] == ("done", 3)
    assert outcomes["raw_bijstand.bus"] == ("failed", None)
    assert outcomes["levering.open"] == ("skipped", None)
    assert run is not None
    assert run.remote_job_origin is not None, "the UI shows a run with its job only where it knows whose it is"
    assert run.remote_job_origin.repository_origin.get_label() == "__repository__@datafabriek"
    assert [check.name for check in report.checks_failed] == ["regios_zijn_compleet"]
    assert ("raw_cbs.regios", "start") in heard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_no_failure(factory: Callable[..., Settings], number: signal.Signals) -> None:
    @dg.asset(key=["raw_cbs", "regios"], group_name="aanvoer_cbs")
    def interrupted() -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)

    settings = factory()
    definitions = join(settings, [([interrupted], []), ([], []), ([], []), ([levering], [])], {})
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with open_instance(settings) as instance:
            report = execute(instance, definitions.resolve_job_def(NIGHTLY_JOB), lambda _asset, _phase: None, None)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (report.ok, report.stopped, report.failures) == (False, number, {})
    assert {asset.name: asset.outcome for asset in report.assets}["raw_cbs.regios"] == "skipped"


@pytest.mark.parametrize(("severity", "outcome"), [("WARN", "stale"), ("ERROR", "failed")])
def test_a_table_that_was_not_renewed_is_not_told_as_done(
    factory: Callable[..., Settings], severity: str, outcome: str
) -> None:
    @dg.asset(
        key=["raw_cbs", "regios"],
        group_name="aanvoer_cbs",
        check_specs=[
            dg.AssetCheckSpec(name, asset=["raw_cbs", "regios"])
            for name in ("regios_is_actueel", "regios_zijn_een_boom")
        ],
    )
    def outdated() -> dg.MaterializeResult:  # type: ignore[type-arg]
        metadata = {"dagster/row_count": 0, "verouderd_sinds": "2026-01-01T00:00:00"}
        checks = [
            dg.AssetCheckResult(
                check_name=name, passed=False, severity=dg.AssetCheckSeverity(severity), description=why
            )
            for name, why in (("regios_is_actueel", "CBS is away"), ("regios_zijn_een_boom", "De tabel is er niet."))
        ]
        return dg.MaterializeResult(metadata=metadata, check_results=checks)

    settings = factory()
    definitions = join(settings, [([outdated], []), ([], []), ([], []), ([levering], [])], {})
    with open_instance(settings) as instance:
        report = execute(instance, definitions.resolve_job_def(NIGHTLY_JOB), lambda _asset, _phase: None, None)
    (asset,) = [asset for asset in report.assets if asset.name == "raw_cbs.regios"]
    assert asset.outcome == outcome
    screen = Console(file=io.StringIO(), width=100)
    summarise(screen, settings, report)
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    assert ("stays in use" in told) == (outcome == "stale")
    assert ("never taken in or made (1 check had nothing to judge)\n  CBS is away" in told) == (outcome == "failed")
    assert ("regios_zijn_een_boom" in told) == (outcome == "stale"), "a table that is there is still judged"
    others = {"stale": "regios_zijn_een_boom (warn, see above)", "failed": "1 with nothing to judge"}
    assert f"checks: 0 held, 2 did not: regios_is_actueel ({outcome}, see above); {others[outcome]}\n" in told


def test_tables_that_lack_for_one_reason_are_told_in_one_breath(factory: Callable[..., Settings]) -> None:
    report = RunReport("r", "2026-01-01", None, times={"run": 1.0})
    for name, why in (("a", "CBS is away"), ("b", "CBS is away"), ("c", "raw_cbs.a is er niet")):
        report.assets.append(AssetOutcome(f"raw_cbs.{name}", "aanvoer_cbs", "failed", facts={"verouderd_sinds": "x"}))
        report.checks_failed.append(CheckOutcome(f"{name}_is_actueel", f"raw_cbs.{name}", "ERROR", False, why))
    settings = factory("deliveries: {bus: }\n")
    facts = {"fingerprint": "abcdef012345", "period": "2020-08"}
    counts = dict.fromkeys(("delivered", "accepted", "refused", "repaired", "unknown_buurt"), 0)
    report.events = [
        Event(1, "2020-09-01", "delivery", "bus", {**facts, **counts, "status": "geweigerd"}, ""),
        Event(
            2, "2020-09-01", "stale", "vault/bus", {**facts, "reason": "BUS.txt is UTF-16: deliver it as cp1252"}, ""
        ),
    ]
    report.checks_failed.append(CheckOutcome("bus_voldoet_aan_contract", "vault.bus", "WARN", False, ""))
    page = settings.paths.reports / "op-orde" / "bus" / "bus-2020-08-abcdef012345.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    page.with_name("bus-2020-07-abcdef012345.html").write_text("")  # the same file for another month
    (settings.paths.inbox / "bss").mkdir()
    (settings.paths.inbox / "bss" / "BUS.txt").write_text("x")
    screen = Console(file=io.StringIO(), width=100)
    summarise(screen, settings, report)
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "failed raw_cbs.a, raw_cbs.b: never taken in or made\n  CBS is away\n" in told
    assert told.count("CBS is away") == 1
    assert f"refused bus 2020-08: BUS.txt is UTF-16: deliver it as cp1252\n  for the supplier: {page}\n" in told
    assert told.count("for the supplier:") == 1
    assert told.count("voldoet_aan_contract") == 1
    assert "\nchecks: 0 held, 4 did not: " in told
    assert told.count("bus_voldoet_aan_contract (refused, see above)") == 1
    assert "1 file in inbox/bss: no run takes it in; did you mean `bus`?" in told


@pytest.mark.parametrize("sample", [True, False])
def test_the_check_that_did_not_hold_is_named_with_what_to_do(factory: Callable[..., Settings], sample: bool) -> None:
    report = RunReport("r", "2026-01-01", None, times={"run": 1.0}, checks_held=124)
    gap = CheckOutcome(PERIODS_CHECK, "raw_leveringen.stand", "WARN", False, "", {"ontbreekt": "bus 2020-08"})
    report.checks_failed.append(gap)
    settings = factory(f"sample: {str(sample).lower()}\n")
    screen = Console(file=io.StringIO(), width=100)
    summarise(screen, settings, report)
    told = screen.file.getvalue()  # type: ignore[attr-defined]
    assert f"checks: 124 held, 1 did not: {PERIODS_CHECK} (missing, see above)\n" in told
    remedy = "nothing to do" if sample else f"until it lies in {settings.paths.inbox / 'bus'}"
    assert re.search(rf"^missing bus 2020-08: .*{re.escape(remedy)}$", told, flags=re.MULTILINE)


def test_an_unexpected_error_is_told_by_its_kind_alone(joined: tuple[Settings, dg.Definitions]) -> None:
    from dagster._utils.error import serializable_error_info_from_exc_info

    try:
        int("bsn 123456782")
    except ValueError:
        told = explain(serializable_error_info_from_exc_info(sys.exc_info()))
    assert "123456782" not in told
    assert "ValueError" in told


def test_the_instance_keeps_to_one_run_and_tells_nobody(joined: tuple[Settings, dg.Definitions]) -> None:
    with open_instance(joined[0]) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 1
        assert Path(instance.storage_directory()).is_relative_to(joined[0].paths.dagster)


def test_a_dagster_yaml_of_ones_own_is_kept(joined: tuple[Settings, dg.Definitions]) -> None:
    own = prepare_instance(joined[0]) / "dagster.yaml"
    own.write_text("telemetry: {enabled: false}\n")
    prepare_instance(joined[0])
    assert own.read_text() == "telemetry: {enabled: false}\n"


HOLDER = """
import sys, time
from pathlib import Path
from datafabriek.ledger import Event, Ledger
from datafabriek.locking import factory_lock
with factory_lock(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(joined: tuple[Settings, dg.Definitions]) -> Callable[[float], subprocess.Popen[str]]:
    def start(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(joined[0].paths.lock), str(seconds)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    return start


def _execute(settings: Settings, patience_s: float) -> tuple[bool, str]:
    """Run the job under the locked executor; success and the messages of its event log."""

    @dg.executor(name="een_tegelijk")
    def patient(_context: dg.InitExecutorContext) -> executor.LockedInProcessExecutor:
        return executor.LockedInProcessExecutor(settings, patience_s)

    definitions = dg.Definitions(assets=[regios], jobs=[dg.define_asset_job("klein")], executor=patient)
    with open_instance(settings) as instance:
        job = definitions.resolve_job_def("klein")
        run = instance.create_run_for_job(job)
        from dagster._core.definitions.job_base import InMemoryJob
        from dagster._core.execution.api import execute_run

        result = execute_run(InMemoryJob(job), run, instance)
        logs = instance.all_logs(run.run_id)
        told = "\n".join(f"{log.message} {getattr(log.dagster_event, 'event_specific_data', '')}" for log in logs)
        assert instance.get_run_by_id(run.run_id).tags[PROCESS_TAG].startswith(f"{os.getpid()}:")
    return result.success, told


def test_a_run_from_the_ui_waits_for_its_turn(
    joined: tuple[Settings, dg.Definitions], hold: Callable[[float], subprocess.Popen[str]]
) -> None:
    with hold(8):  # longer than a busy machine needs to start the run
        success, told = _execute(joined[0], 30)
    assert success
    assert "Waiting for its turn" in told
    assert "a test" in told


def test_a_run_from_the_ui_gives_up_and_names_the_holder(
    joined: tuple[Settings, dg.Definitions], hold: Callable[[float], subprocess.Popen[str]]
) -> None:
    holder = hold(60)
    try:
        success, told = _execute(joined[0], 0)
    finally:
        holder.kill()
        holder.communicate()
    assert not success
    assert "this factory is in use by process" in told


def test_a_killed_holder_leaves_no_lock(
    joined: tuple[Settings, dg.Definitions], hold: Callable[[float], subprocess.Popen[str]]
) -> None:
    holder = hold(60)
    with pytest.raises(FactoryBusyError, match="a test"), factory_lock(joined[0].paths.lock, "second"):
        pass
    holder.kill()
    holder.communicate()
    with factory_lock(joined[0].paths.lock, "third"):
        pass


def test_a_run_whose_process_is_gone_is_closed(joined: tuple[Settings, dg.Definitions]) -> None:
    settings, definitions = joined
    with open_instance(settings) as instance:
        job = definitions.resolve_job_def(NIGHTLY_JOB)
        started = dg.DagsterRunStatus.STARTED
        gone = instance.create_run_for_job(job, status=started, tags={PROCESS_TAG: "999999999:1"})
        alive = instance.create_run_for_job(job, status=started, tags={PROCESS_TAG: process_mark()})
        assert close_abandoned_runs(instance) == 1
        assert instance.get_run_by_id(gone.run_id).status == dg.DagsterRunStatus.FAILURE
        assert instance.get_run_by_id(alive.run_id).status == started


def test_the_inbox_is_seen_once_and_only_when_it_is_still(joined: tuple[Settings, dg.Definitions]) -> None:
    settings, definitions = joined
    look = definitions.resolve_sensor_def("inbox")
    folder = settings.paths.inbox / "bus"
    folder.mkdir()
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> object:
            return look(dg.build_sensor_context(instance))

        assert isinstance(tick(), dg.SkipReason)
        file = folder / "BUS_202003.txt"
        file.write_text("x")
        assert isinstance(tick(), dg.SkipReason), "a file that is still being written must wait"
        old = time.time() - 3600
        os.utime(file, (old, old))
        first, again = tick(), tick()
        assert isinstance(first, dg.RunRequest)
        assert isinstance(again, dg.RunRequest)
        assert first.run_key == again.run_key
        file.write_text("another")
        os.utime(file, (old, old))
        changed = tick()
        assert isinstance(changed, dg.RunRequest)
        assert changed.run_key != first.run_key
        assert "BUS" not in str(changed), "names of files stay in the inbox"
        with factory_lock(settings.paths.lock, "a run"):
            assert isinstance(tick(), dg.SkipReason)


def test_noise_goes_to_the_log_and_the_screen_stays_ours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "run-1.log"
    with noise_to(log) as screen:
        os.write(1, b"noise of a child\n")
        print("noise of python")
        print("for the user", file=screen)
    print("after", flush=True)
    assert log.read_text() == "noise of a child\nnoise of python\n"
    captured = capfd.readouterr()
    assert captured.err == "for the user\n"
    assert captured.out == "after\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_failed_run_is_told_unless_it_will_be_tried_again(
    joined: tuple[Settings, dg.Definitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, definitions = joined
    told: list[Alert] = []
    monkeypatch.setattr("datafabriek.definitions.alert", lambda _settings, message: told.append(message))
    sensor = definitions.resolve_sensor_def("storing")
    with open_instance(settings) as instance:
        job = definitions.resolve_job_def(NIGHTLY_JOB)
        for retries in ("1", "0"):
            tags = {"dagster/max_retries": retries}
            result = job.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
            run, event = instance.get_run_by_id(result.run_id), result.get_run_failure_event()
            assert run is not None
            context = dg.build_run_status_sensor_context("storing", event, instance, run).for_run_failure()
            sensor(context)
    assert [message.facts["stappen"] for message in told] == [["raw_bijstand__bus"]]


def test_a_headless_run_that_told_of_itself_is_not_told_again(
    joined: tuple[Settings, dg.Definitions], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, definitions = joined
    told: list[Alert] = []
    monkeypatch.setattr("datafabriek.definitions.alert", lambda _settings, message: told.append(message))
    sensor, job = definitions.resolve_sensor_def("storing"), definitions.resolve_job_def(NIGHTLY_JOB)

    def tick(instance: dg.DagsterInstance, run_id: str) -> object:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        event = dg.DagsterEvent("PIPELINE_FAILURE", NIGHTLY_JOB)
        return sensor(dg.build_run_status_sensor_context("storing", event, instance, run).for_run_failure())

    with open_instance(settings) as instance:
        alive = execute(instance, job, lambda _asset, _phase: None, None)
        assert isinstance(tick(instance, alive.run_id), dg.SkipReason), "its process is still about to tell"
        gone = execute(instance, job, lambda _asset, _phase: None, None)
        instance.add_run_tags(gone.run_id, {PROCESS_TAG: "999999999:1"})
        tick(instance, gone.run_id)
        assert [message.facts["run_id"] for message in told] == [gone.run_id], "nobody else tells of a killed run"
        Ledger(settings.paths.ledger).append("run", NIGHTLY_JOB, {"run_id": gone.run_id, "ok": False, "failures": []})
        assert isinstance(tick(instance, gone.run_id), dg.SkipReason)
