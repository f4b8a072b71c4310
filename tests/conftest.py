"""Fixtures for every test: where the reference data lies, and a factory in a folder of its own."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]

TOGETHER = {
    "tests/cbs/tables/test_kerncijfers.py": "the whole country landed once",
    "tests/cbs/tables/test_measures.py": "the whole country landed once",
    "tests/cbs/tables/test_regions.py": "the whole country landed once",
    "tests/models/test_assets.py": "all models built once",
    "tests/models/test_figures.py": "all models built once",
    "tests/models/test_purposes.py": "all models built once",
    "tests/models/test_runner.py": "all models built once",
    "tests/roof/test_full_run.py": "one full run",
    "tests/ui/test_dagster_ui.py": "one full run",
}
"""Files that share what is dear to make; one worker takes them all. (Marks for it are lost on pytest 9.2.)"""

DEAR = ("tests/roof/test_full_run.py", "tests/ui/", "tests/intake/test_canary_run.py", "tests/models/")
"""What takes longest comes first: at the end one worker would still be at it while the other has nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the dear files in front; within a file, and among all others, the order stays."""

    def turn(item: pytest.Item) -> int:
        return next((place for place, file in enumerate(DEAR) if item.nodeid.startswith(file)), len(DEAR))

    items.sort(key=turn)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, and files that share something to the same one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return TOGETHER.get(file, file)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a developer's own DATAFABRIEK_ variables out of the tests."""
    for name in list(os.environ):
        if name.startswith("DATAFABRIEK_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real CBS recordings, standards and cases beside the repository; tests that need them skip without."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data (../shared/data) is not beside this checkout")
    return folder


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="session")
def serving() -> Callable[[socketserver.BaseServer], AbstractContextManager[int]]:
    """Let a server answer within a block, which gets its port."""
    return _serving


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start `datafabriek …` in a folder, in a session of its own and without a developer's settings."""
    program = str(Path(sys.executable).with_name("datafabriek"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DATAFABRIEK_")}
    clean["DATAFABRIEK_SAMPLE_SCALE"] = "0.2"  # a fifth of the inhabitants: the same structure in a fifth of the time

    def begin(folder: Path, *arguments: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            env=clean,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )

    return begin


@pytest.fixture(scope="session")
def command(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `datafabriek …` in a folder to its end."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(folder, *arguments)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def finished_factory(
    tmp_path_factory: pytest.TempPathFactory, command: Callable[..., subprocess.CompletedProcess[str]]
) -> Path:
    """A folder in which the sample factory ran once, whole; tests that use it belong to the group `full_run`."""
    folder = tmp_path_factory.mktemp("voorbeeld")
    done = command(folder, "run", "--json")
    assert done.returncode == 0, done.stderr
    return folder
