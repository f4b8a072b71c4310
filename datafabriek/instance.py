"""The Dagster instance of one factory: its dagster.yaml, its environment, and runs that a crash left behind.

Everything Dagster keeps stands in `home/dagster`, so that a factory is one folder. Does not belong here: any
asset, job or sensor.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datafabriek.config import FACTORY_ENV, Settings
from datafabriek.locking import is_alive

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.remote_origin import RemoteJobOrigin

PROCESS_TAG = "datafabriek/proces"
"""Run tag that names the process a run lives in, so that a run whose process is gone can be told from a slow one."""

BEGUN_BY_TAG, COMMAND_LINE = "datafabriek/begonnen_door", "opdrachtregel"
"""Run tag, and its value on a run that `datafabriek run` executes and answers for itself."""

LOCATION, MODULE = "datafabriek", "datafabriek.definitions"
"""Name of the code location, equal in workspace.yaml, `[tool.dg]` and here, and the module it loads."""

_MARK = "# Written by datafabriek at every start; remove this line to keep changes of your own."

_DAGSTER_YAML = f"""{_MARK}
# Storage is SQLite in this folder (Dagster's default): nothing else needs to run.
telemetry:
  enabled: false
nux:
  enabled: false
freshness:
  enabled: true

# DuckDB has one writer: one run at a time, the rest waits in the queue.
concurrency:
  runs:
    max_concurrent_runs: 1
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  cancel_timeout_seconds: 180
# A run whose process died is tried again; the nightly job also after a failed asset (tag on the job).
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false

# Days that ticks are kept; runs and materialisations are kept for ever.
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 7
      failure: 90
      success: 90
      started: 7
code_servers:
  local_startup_timeout: 300
"""


def prepare_instance(settings: Settings) -> Path:
    """Make `home/dagster` with a dagster.yaml and a workspace.yaml; return the folder, the DAGSTER_HOME.

    A dagster.yaml whose first line was removed is the user's own and stays as it is.
    """
    folder = settings.paths.dagster
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    own = folder / "dagster.yaml"
    if not own.exists() or own.read_text(encoding="utf-8").startswith(_MARK):
        _replace(own, _DAGSTER_YAML)
    module = f"{{module_name: {MODULE}, location_name: {LOCATION}}}"
    _replace(folder / "workspace.yaml", f"{_MARK}\nload_from:\n  - python_module: {module}\n")
    return folder


def _replace(path: Path, text: str) -> None:
    """Write a small file whole or not at all, and only where it changes."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def environment(settings: Settings) -> dict[str, str]:
    """Variables under which a process that Dagster starts finds this factory, whatever its working folder."""
    return {
        "DAGSTER_HOME": str(settings.paths.dagster),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "DO_NOT_TRACK": "1",
        FACTORY_ENV: str(settings.source),
        "DATAFABRIEK_HOME": str(settings.paths.root),
    }


def job_origin(job: str) -> RemoteJobOrigin:
    """Where the UI of this factory finds a job: a run that names it stands in the timeline and on the job's page."""
    from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
    from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    module = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(module, LOCATION)
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(job)


@contextmanager
def open_instance(settings: Settings, *, headless: bool = False) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance in the home, closed at the end of the block.

    Args:
        settings: of the factory.
        headless: what steps print goes to a log anyway, so it is not captured (that takes four processes a run),
            and Dagster's own log is written without waiting for the disk at every event.
    """
    import dagster as dg
    from dagster._core.instance import InstanceRef

    kept_by = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    overrides = {"compute_logs": {**kept_by, "config": {}}} if headless else {}
    reference = InstanceRef.from_dir(str(prepare_instance(settings)), overrides=overrides)
    with _unhurried_storage() if headless else nullcontext(), dg.DagsterInstance.from_ref(reference) as instance:
        yield instance


@contextmanager
def _unhurried_storage() -> Iterator[None]:
    """Let SQLite write Dagster's log without an fsync per event, and keep its files open for the block.

    Dagster opens and closes a connection for every event, and whoever closes a file last flushes it: on a disk with a
    slow fsync that took a quarter of a run. After a power cut the newest events may lack; the files stay whole, and
    what must be answered for stands in the ledger, which does wait for the disk.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    held: dict[str, sqlite3.Connection] = {}

    def connected(connection: Any, _record: Any) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("PRAGMA synchronous = NORMAL")
        path = str(connection.execute("PRAGMA database_list").fetchone()[2])
        if path and path not in held:
            held[path] = sqlite3.connect(path, check_same_thread=False)
            held[path].execute("PRAGMA journal_mode = WAL")

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)
        for connection in held.values():
            connection.close()


def close_abandoned_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs whose process is gone (killed, power cut) as failed, so that they hold up no queue.

    Returns:
        How many there were.
    """
    import dagster as dg

    statuses = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    gone = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
        mark = run.tags.get(PROCESS_TAG, "")
        if mark and not is_alive(mark):
            instance.report_run_failed(run, "the process of this run was ended before the run was done")
            gone += 1
    return gone
