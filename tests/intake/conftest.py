"""A small factory with the sample's deliveries, dirt and labels; a PostgreSQL server, and a stand-in for a service."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import socketserver
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import polars as pl
import pytest

from assets.deliveries.intake import take_inbox
from assets.deliveries.purposes import derive, in_order
from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.sample.deliveries import Manifest, write_deliveries
from datafabriek.warehouse import load_extension
from quality.privacy.keys import ensure_key

Serving = Callable[[socketserver.BaseServer], AbstractContextManager[int]]

SCALE = 0.01

FACTORY = """
name: Proeffabriek
sample: true
home: home
policy: {policy}
region: {{gemeenten: [GM0518, GM1916], provincie: PV28}}
deliveries:
  adressen:
  brp:
  bus: {{expected_from: "2020-01", expected_until: "2020-12"}}
  bedrijven:
"""


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The sample's deliveries at a hundredth of the inhabitants, and what was spoiled in them."""
    folder = tmp_path_factory.mktemp("leveringen")
    return folder, write_deliveries(folder, scale=SCALE)


@pytest.fixture
def labels(delivered: tuple[Path, Manifest]) -> pl.DataFrame:
    """Every piece of dirt: file, line, kind, field, outcome."""
    return delivered[1].labels


def make_factory(folder: Path) -> Settings:
    """A factory with the sample's policy and an empty inbox, in a folder of its own."""
    source = folder / "factory.yaml"
    policy = Path(__file__).parents[2] / "datafabriek" / "sample" / "policy"
    source.write_text(FACTORY.format(policy=policy))
    settings = load_settings(source)
    settings.paths.create()
    return settings


@pytest.fixture(scope="module")
def shared_factory(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A factory that the tests of one module look at and leave as it is."""
    return make_factory(tmp_path_factory.mktemp("fabriek"))


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A factory of its own with an empty inbox."""
    settings = make_factory(tmp_path)
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    return settings


@pytest.fixture
def filled(factory: Settings, delivered: tuple[Path, Manifest]) -> Settings:
    """The same with all deliveries in the inbox."""
    shutil.copytree(delivered[0], factory.paths.inbox, dirs_exist_ok=True)
    return factory


@pytest.fixture(scope="session")
def make() -> Callable[[Path], Settings]:
    """Makes a factory with an empty inbox in a folder, for fixtures that outlast a test."""
    return make_factory


@pytest.fixture(scope="session")
def taken_in(tmp_path_factory: pytest.TempPathFactory, delivered: tuple[Path, Manifest]) -> Path:
    """The folder of a factory that took in all deliveries and made the tables of its purposes: to be copied."""
    folder = tmp_path_factory.mktemp("ingenomen")
    settings = make_factory(folder)
    shutil.copytree(delivered[0], settings.paths.inbox, dirs_exist_ok=True)
    take_in(settings)
    return folder


@pytest.fixture
def working(taken_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Such a factory, to do with as a test likes."""
    shutil.copytree(taken_in, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv(FACTORY_ENV, str(tmp_path / "factory.yaml"))
    return load_settings(tmp_path / "factory.yaml")


def take_in(settings: Settings) -> None:
    """Take in what lies in the inbox, and make the tables of purposes that follow from it."""
    for name in settings.deliveries:
        take_inbox(settings, name)
    for name, purpose in in_order(settings):
        derive(settings, ensure_key(settings.paths), name, purpose.name)


# --- PostgreSQL ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running server; `dsn` has its password."""

    dsn: str
    password: str

    def execute(self, statement: str) -> None:
        """Run statements on it."""
        with duckdb.connect(":memory:") as con:
            load_extension(con, "postgres_scanner")
            con.execute(f"ATTACH '{self.dsn}' AS server (TYPE postgres)")
            con.execute("CALL postgres_execute('server', $statement)", {"statement": statement})


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of its own on a free port of 127.0.0.1; a user without rights runs it, root may not."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not folders:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    programs = folders[0]
    folder = Path(tempfile.mkdtemp(prefix="df-pg-"))
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    password = secrets.token_hex(12)
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who)

    try:
        locale = ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        run("initdb", "-U", "lezer", "-A", "scram-sha-256", f"--pwfile={secret}", *locale)
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-F -h 127.0.0.1 -p {port} -k {folder}", "start")
        try:
            yield Server(f"postgresql://lezer:{password}@127.0.0.1:{port}/postgres", password)
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- a feature service -----------------------------------------------------------------------------------------


@dataclass
class Service:
    """A stand-in for a service: `answer` gets path and query and gives status, body and headers."""

    url: str = ""
    answer: Callable[[str, dict[str, str]], tuple[int, bytes, dict[str, str]]] = lambda _path, _query: (404, b"", {})
    asked: list[str] = field(default_factory=list)


@contextmanager
def _stand_in(serving: Serving) -> Iterator[Service]:
    stand_in = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            stand_in.asked.append(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            status, body, headers = stand_in.answer(parts.path, query)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    with serving(server):
        yield stand_in


@pytest.fixture
def service(serving: Serving) -> Iterator[Service]:
    """A service on a free port of 127.0.0.1."""
    with _stand_in(serving) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def lasting_service(serving: Serving) -> Iterator[Service]:
    """One that answers all tests of a module."""
    with _stand_in(serving) as stand_in:
        yield stand_in
