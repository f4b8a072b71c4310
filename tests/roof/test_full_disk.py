"""A full disk, whoever meets it first: one message with the remedy, no traceback, and the next run carries on."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from assets.deliveries.delivered import DeliveryError
from assets.deliveries.register import masked
from assets.models import runner
from datafabriek import cli
from datafabriek.config import Settings
from datafabriek.definitions import NIGHTLY_JOB, join
from datafabriek.errors import DISK_FULL, is_disk_full
from datafabriek.instance import open_instance
from datafabriek.ledger import Ledger
from datafabriek.running import execute
from datafabriek.warehouse import warehouse

LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails with EFBIG
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


def limited(code: str, *arguments: Path, limit: int = 200_000) -> str:
    """What a process prints that may make no file larger than `limit` bytes: the refusals of a real system."""
    script = LIMITED.format(limit=limit) + textwrap.dedent(code)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        sqlite3.OperationalError("database or disk is full"),
        duckdb.IOException("IO Error: Could not write all bytes to file"),
        duckdb.OutOfMemoryException("failed to offload data block of size 256.0 KiB"),
    ],
)
def test_it_is_known_in_the_words_of_whoever_met_it(error: Exception) -> None:
    wrapped = RuntimeError("a step failed")
    wrapped.__cause__ = error
    assert is_disk_full(wrapped)
    assert not is_disk_full(RuntimeError("a step failed"))
    with pytest.raises(DeliveryError, match="free some space"), masked("bus 2020-01"):
        raise error


def test_a_ledger_without_room_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.append("run", "first", {})
    told = limited(
        """
        from pathlib import Path
        from datafabriek.ledger import Ledger, LedgerError
        try:
            for number in range(9):
                Ledger(Path(sys.argv[1])).append("run", str(number), {"text": "x" * 60_000})
        except LedgerError as error:
            print(error)
        """,
        ledger.path,
    )
    assert DISK_FULL in told
    before = ledger.verify()
    ledger.append("run", "last", {})
    assert ledger.verify() == before + 1


def test_a_warehouse_without_room_keeps_what_it_has(factory: Callable[..., Settings]) -> None:
    settings = factory()
    with warehouse(settings.paths, settings.resources) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS x")
    told = limited(
        """
        from pathlib import Path
        from datafabriek.config import load_settings
        from datafabriek.errors import is_disk_full
        from datafabriek.warehouse import warehouse
        settings = load_settings(Path(sys.argv[1]))
        try:
            with warehouse(settings.paths, settings.resources) as connection:
                connection.execute("CREATE OR REPLACE TABLE kept AS SELECT random() AS x FROM range(2_000_000)")
        except Exception as error:
            print(is_disk_full(error))
        """,
        settings.source,
        limit=2_000_000,
    )
    assert told == "True\n"
    with warehouse(settings.paths, settings.resources) as connection:
        assert connection.execute("SELECT x FROM kept").fetchall() == [(1,)]


def test_models_without_room_are_no_verdict_on_the_models(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory()
    told = "Runtime Error in model x\n  IO Error: Could not write all bytes to file: No space left on device"
    real = runner._dbt

    class Full:
        results = (type("Result", (), {"message": told})(),)

    class Invoke:
        def __enter__(self) -> Callable[..., object]:
            return lambda *_: Full

        def __exit__(self, *_: object) -> None:
            return None

    runner.manifest(settings)
    monkeypatch.setattr(runner, "_dbt", lambda _settings: Invoke())
    with pytest.raises(runner.ModelError, match="free some space"):
        runner.build(settings)
    monkeypatch.setattr(runner, "_dbt", real)
    assert {result.status for result in runner.last_results(settings.paths).values()} == {runner.BUILDING}


def test_dagster_without_room_for_its_log_ends_the_run_with_a_report(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset(key=["raw_cbs", "regios"], group_name="aanvoer_cbs")
    def regios() -> None:
        monkeypatch.setattr(type(instance.event_log_storage), "store_event", refuse)

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    settings = factory()
    definitions = join(settings, [([regios], [])], {})
    with open_instance(settings) as instance:
        report = execute(instance, definitions.resolve_job_def(NIGHTLY_JOB), lambda _asset, _phase: None, None)
        monkeypatch.undo()
    assert (report.ok, report.failures) == (False, {NIGHTLY_JOB: DISK_FULL})


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), duckdb.IOException("Could not write all bytes to file")]
)
def test_a_step_that_found_no_room_says_what_to_do(factory: Callable[..., Settings], error: Exception) -> None:
    @dg.asset(key=["levering", "intern"], group_name="levering")
    def levering() -> None:
        raise error

    settings = factory()
    definitions = join(settings, [([levering], [])], {})
    with open_instance(settings) as instance:
        report = execute(instance, definitions.resolve_job_def(NIGHTLY_JOB), lambda _asset, _phase: None, None)
    assert report.failures == {"levering.intern": DISK_FULL}


def test_what_nobody_caught_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise RuntimeError("while writing") from sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "free some space" in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A disk of as many megabytes as asked; asked again, the same one made larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(megabytes: int) -> Path:
        again = (
            ["-o", f"remount,size={megabytes}m"] if place.is_mount() else ["-t", "tmpfs", "-o", f"size={megabytes}m"]
        )
        target = [str(place)] if place.is_mount() else ["tmpfs", str(place)]
        mounted = subprocess.run(["mount", *again, *target], capture_output=True, check=False)
        if mounted.returncode:
            pytest.skip("mounting a small disk takes root")
        return place

    yield resize
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_that_is_too_small_for_each_stage_in_turn(
    small_disk: Callable[[int], Path], command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """From too small for the first file to large enough: told each time, and at last the outcome of any other run."""
    for megabytes in (1, 3, 50, 76, 92):
        told = command(small_disk(megabytes), "run")
        if told.returncode == 0:
            break
        assert told.returncode == 1, told.stderr
        assert "the disk is full: free some space" in told.stderr, (megabytes, told.stderr)
        assert "Traceback" not in told.stdout + told.stderr
    folder = small_disk(400)
    done = command(folder, "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    ledger = Ledger(folder / ".datafabriek" / "ledger" / "ledger.sqlite")
    assert ledger.verify()
    accepted = {(event.subject, event.payload["period"]) for event in ledger.events("delivery")}
    assert len(accepted) == 14, "what was delivered is in, whatever the disk was like"
