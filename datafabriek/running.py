"""A headless run of the nightly job, in this process: what `datafabriek run` does between its words.

The job, its checks and its order are Dagster's, the same as the schedule runs. Here stand: what comes before it (the
home, the lock, what a crash left behind, dbt's manifest), where its noise goes, and the report of what it did.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from datafabriek.alerts import Alert, AlertError, alert
from datafabriek.config import Home, Settings
from datafabriek.errors import DISK_FULL, FactoryError, is_disk_full, tells_disk_full
from datafabriek.instance import (
    BEGUN_BY_TAG,
    COMMAND_LINE,
    PROCESS_TAG,
    close_abandoned_runs,
    environment,
    job_origin,
    open_instance,
)
from datafabriek.ledger import Event, Ledger, LedgerError
from datafabriek.locking import factory_lock, process_mark
from datafabriek.status import announce_late, is_anything_released

if TYPE_CHECKING:
    import dagster as dg

RENEWAL_CHECKS = ("_is_actueel", "_is_vernieuwd")
"""How the checks end that tell whether an asset could be renewed."""

LOGS_KEPT = 30
"""Log files of headless runs that stay in the home."""


class RunFailedError(FactoryError):
    """A run in which at least one step failed; the report of the run names them."""


@dataclass
class AssetOutcome:
    """What became of one asset: `done`, `stale` (the last good version stays), `failed` or `skipped`.

    `skipped` where something before it failed, or the run was stopped. `seconds` is None where it was made in one
    step with others that does not tell them apart.
    """

    name: str
    group: str
    outcome: str = "skipped"
    rows: int | None = None
    seconds: float | None = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class CheckOutcome:
    """A check that did not hold; `blocking` ones keep what follows from being made."""

    name: str
    asset: str
    severity: str
    blocking: bool
    description: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunReport:
    """All that a run did; `as_dict` is what `--json` prints. Times are wall-clock seconds.

    `stopped` is the signal (SIGINT, SIGTERM) that ended it before its end; that is no failure. `untold` says why an
    alert about late deliveries did not arrive, or could not be noted; it is tried again next time.
    """

    run_id: str
    started: str
    log: Path | None
    ok: bool = False
    stopped: int | None = None
    seconds: float = 0.0
    times: dict[str, float] = field(default_factory=dict)
    assets: list[AssetOutcome] = field(default_factory=list)
    checks_held: int = 0
    checks_failed: list[CheckOutcome] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    untold: str | None = None
    events: list[Event] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        events = [asdict(event) for event in self.events]
        return asdict(self) | {"log": str(self.log) if self.log else None, "events": events}


Listener = Callable[[AssetOutcome, str], None]
"""Hears of an asset and its phase: `start`, or the outcome as it becomes known."""


def run_nightly(settings: Settings, *, began: float, listen: Listener, log: Path | None = None) -> RunReport:
    """Run the nightly job once and report.

    Args:
        settings: of the factory.
        began: `time.monotonic()` at which the command began; time before the job counts as loading.
        listen: called at the start and the end of every asset.
        log: where the noise of this run goes, to be named in the report.

    Raises:
        FactoryBusyError: another process works on this factory.
        FactoryError: the configuration, a contract or a model cannot be used.
    """
    home = settings.paths
    home.create()
    os.environ.update(environment(settings))
    with factory_lock(home.lock, "datafabriek run"):
        _clear(home.temp)
        times: dict[str, float] = {}
        with _timed(times, "import of the engines"):
            from assets.models.runner import manifest
            from assets.release.agreements import today
            from assets.release.candidate import norms_of
            from assets.release.publish import reconcile
            from datafabriek import definitions
        with _timed(times, "dbt manifest"):
            manifest(settings)
        with _timed(times, "definitions"):
            definitions_object = definitions.build(settings)
            job = definitions_object.resolve_job_def(definitions.NIGHTLY_JOB)
        ledger = Ledger(home.ledger)
        # a release that a killed run left half published is finished before anything else is made
        reconcile(home, ledger)
        head, _ = ledger.head()
        # whatever goes wrong tonight, nothing stays with a partner whose agreement is over; a release tells of norms
        with suppress(FactoryError):
            norms_of(settings, ledger, today(settings))
        with open_instance(settings, headless=True) as instance:
            close_abandoned_runs(instance)
            report = execute(instance, job, listen, log)
        report.events = [event for event in ledger.events() if event.seq > head]
        report.seconds = time.monotonic() - began
        report.times = _shares(report, times)
        failed = sorted(report.failures)
        facts = {"run_id": report.run_id, "ok": report.ok, "seconds": round(report.seconds, 1), "failures": failed}
        try:
            ledger.append("run", definitions.NIGHTLY_JOB, facts | ({"stopped": True} if report.stopped else {}))
        except LedgerError as error:
            report.ok, report.failures["ledger"] = False, str(error)
    if not report.ok and not report.stopped:
        released = is_anything_released(ledger)
        told = Alert.of_failure(settings.name, definitions.NIGHTLY_JOB, report.run_id, failed, released=released)
        try:
            alert(settings, told)
        except AlertError as error:
            report.failures["alerts"] = str(error)
    if not report.stopped:
        try:  # where no daemon runs beside cron, nobody else tells
            announce_late(settings)
        except (AlertError, LedgerError) as error:
            report.untold = str(error)
    return report


def execute(instance: dg.DagsterInstance, job: dg.JobDefinition, listen: Listener, log: Path | None) -> RunReport:
    """Execute a job of assets in this process and gather what its events tell."""
    run_id = str(uuid.uuid4())
    report = RunReport(run_id, datetime.now(UTC).isoformat(timespec="seconds"), log)
    recorder = _Recorder(job, report, listen)
    instance.add_event_listener(run_id, recorder.hear)
    # whoever gave the command sees how it ended: a daemon must not try this run again
    tags = {PROCESS_TAG: process_mark(), BEGUN_BY_TAG: COMMAND_LINE, "dagster/max_retries": "0"}
    start = time.monotonic()
    from dagster import DagsterExecutionInterruptedError
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.execution.api import execute_run

    with stop_signal() as stopped_by:
        try:
            tags, origin = {**job.run_tags, **tags}, job_origin(job.name)
            run = instance.create_run_for_job(job, run_id=run_id, tags=tags, remote_job_origin=origin)
            report.ok = execute_run(InMemoryJob(job), run, instance).success
        except (KeyboardInterrupt, DagsterExecutionInterruptedError):
            report.ok = False
        except Exception as error:
            if not is_disk_full(error):
                raise
            report.failures[job.name] = DISK_FULL  # Dagster's own log found no room
        if not report.ok:
            report.stopped = stopped_by()
    report.times["run"] = time.monotonic() - start
    report.assets = list(recorder.assets.values())
    return report


@contextmanager
def stop_signal() -> Iterator[Callable[[], int | None]]:
    """Yields a way to ask which signal told this process to stop; Dagster's own handlers do not tell them apart.

    Only the main thread hears of signals; elsewhere the answer is None.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    heard, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    known: list[int] = []

    def first() -> int | None:
        with suppress(BlockingIOError):
            known.extend(number for number in os.read(heard, 1024) if number in (signal.SIGINT, signal.SIGTERM))
        return known[0] if known else None

    try:
        yield first
    finally:
        signal.set_wakeup_fd(before)
        # whoever asked before this one hears of it too
        if before != -1 and (number := first()):
            os.write(before, bytes([number]))
        os.close(heard)
        os.close(wake)


class _Recorder:
    """Turns Dagster's events into a report, as they come."""

    def __init__(self, job: dg.JobDefinition, report: RunReport, listen: Listener) -> None:
        layer, self.report, self.listen = job.asset_layer, report, listen
        graph = layer.asset_graph
        selected = [key for key in graph.toposorted_asset_keys if key in layer.selected_asset_keys]
        self.assets = {_name(key): AssetOutcome(_name(key), graph.get(key).group_name or "") for key in selected}
        self.by_step = {str(node.node_handle): [_name(key) for key in node.assets_def.keys] for node in layer.data}
        blocking = (key for key in graph.asset_check_keys if graph.get(key).blocking)
        self.blocking = {(_name(key.asset_key), key.name) for key in blocking}
        self.began: dict[str, float] = {}

    def hear(self, entry: Any) -> None:
        """One entry of Dagster's event log."""
        if not entry.is_dagster_event:
            return
        event, kind = entry.dagster_event, entry.dagster_event.event_type_value
        step = event.step_key or ""
        if kind == "STEP_START":
            self.began[step] = entry.timestamp
            for name in self.by_step.get(step, ()):
                self.listen(self.assets[name], "start")
        elif kind == "ASSET_MATERIALIZATION":
            self._materialized(event.event_specific_data.materialization)
        elif kind == "ASSET_CHECK_EVALUATION":
            self._checked(event.event_specific_data)
        elif kind in ("STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED"):
            self._ended(step, kind, event, entry.timestamp)

    def _materialized(self, materialization: Any) -> None:
        asset = self.assets.get(_name(materialization.asset_key))
        if asset is None:
            return
        asset.outcome = "done"
        asset.facts = {name: value.value for name, value in materialization.metadata.items() if _is_plain(value)}
        rows = asset.facts.get("dagster/row_count")
        asset.rows = rows if isinstance(rows, int) else None

    def _checked(self, evaluation: Any) -> None:
        if evaluation.passed:
            self.report.checks_held += 1
            return
        asset = _name(evaluation.asset_key)
        blocking = (asset, evaluation.check_name) in self.blocking
        told = CheckOutcome(
            evaluation.check_name,
            asset,
            evaluation.severity.value,
            blocking,
            evaluation.description or "",
            {name: value.value for name, value in evaluation.metadata.items() if _is_plain(value)},
        )
        self.report.checks_failed.append(told)

    def _ended(self, step: str, kind: str, event: Any, at: float) -> None:
        names = self.by_step.get(step, [])
        seconds = at - self.began.get(step, at)
        self.report.times[f"step:{step}"] = seconds
        stopped = False
        if kind == "STEP_FAILURE":
            error = event.event_specific_data.error
            stopped = error is not None and error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt")
            if not stopped:
                self._failed(names[0] if len(names) == 1 else step, error)
        for name in names:
            asset = self.assets[name]
            group = f"group:{asset.group}"
            self.report.times[group] = self.report.times.get(group, 0.0) + seconds / len(names)
            asset.seconds = seconds if len(names) == 1 else asset.facts.get("uitvoertijd_s")
            if kind == "STEP_FAILURE" and asset.outcome != "done" and not stopped:
                asset.outcome = "failed"
            elif "verouderd_sinds" in asset.facts:
                asset.outcome, asset.rows = ("failed", None) if self._never_made(asset) else ("stale", asset.rows)
            if not stopped:
                self.listen(asset, asset.outcome)

    def _never_made(self, asset: AssetOutcome) -> bool:
        """Whether there is no good version to go on with: its check on renewal then is an ERROR, not a warning."""
        return any(
            check.asset == asset.name and check.severity == "ERROR" and check.name.endswith(RENEWAL_CHECKS)
            for check in self.report.checks_failed
        )

    def _failed(self, name: str, error: Any) -> None:
        if error is not None and "DagsterAssetCheckFailedError" in str(error.cls_name) and self.report.checks_failed:
            check = self.report.checks_failed[-1]
            why = f"{check.name} does not hold{f' ({check.description})' if check.description else ''}"
            self.report.failures[check.asset] = why
        else:
            self.report.failures[name] = explain(error)


def _name(key: dg.AssetKey) -> str:
    return ".".join(key.path)


def _is_plain(value: Any) -> bool:
    return isinstance(getattr(value, "value", None), str | int | float | bool)


def explain(error: Any) -> str:
    """Why a step failed, in words that hold no value of a row.

    A `FactoryError` or an error of the operating system is told in full; of any other only its kind, for its
    message may quote data. The log has the rest.
    """
    known = {cls.__name__ for cls in _with_subclasses(FactoryError)}
    system = {cls.__name__ for cls in _with_subclasses(OSError)}
    cause, told = error, ""
    while cause is not None:
        text = cause.message.strip().removeprefix(f"{cause.cls_name}: ")
        if tells_disk_full(text):
            return DISK_FULL
        if cause.cls_name in known:
            return str(text.split(": ", 1)[1] if text.split(": ", 1)[0].endswith(cause.cls_name) else text)
        if cause.cls_name in system:
            return str(text)
        told = cause.cls_name or told
        cause = cause.cause
    return f"{told} (see the log)"


def _with_subclasses(base: type) -> Iterator[type]:
    yield base
    for derived in base.__subclasses__():
        yield from _with_subclasses(derived)


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    times[name] = time.monotonic() - start


def _shares(report: RunReport, before: Mapping[str, float]) -> dict[str, float]:
    """Where the time went, in the order of a run: what came before, each group's steps, Dagster's own share."""
    of_group = dict.fromkeys(f"group:{asset.group}" for asset in report.assets)
    groups = {name.removeprefix("group:"): report.times.get(name, 0.0) for name in of_group}
    steps = {name: value for name, value in report.times.items() if name.startswith("step:")}
    checks = sum(steps.values()) - sum(groups.values())
    run = report.times["run"]
    orchestration = run - sum(steps.values())
    start = report.seconds - run - sum(before.values())
    shares = {"start of the command": start, **before, **groups, "checks": checks, "orchestration": orchestration}
    return {name: round(value, 2) for name, value in shares.items()}


def _clear(folder: Path) -> None:
    """Remove spill files that a killed run left; nobody else is at work under the lock."""
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


@contextmanager
def noise_to(path: Path) -> Iterator[TextIO]:
    """Send all that is written to the screen below this block to a log file; yield the screen itself.

    Works on file descriptors, so that it also catches what dbt, a C library or a child process writes.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in sorted(path.parent.glob("run-*.log"))[: -LOGS_KEPT + 1]:
        old.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        log = os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)
        screen = os.fdopen(os.dup(kept[1]), "w", encoding="utf-8")
        with log, screen, redirect_stdout(log), redirect_stderr(log):
            yield screen
    finally:
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)


def log_file(home: Home) -> Path:
    """A log file for a run that starts now."""
    return home.logs / f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
