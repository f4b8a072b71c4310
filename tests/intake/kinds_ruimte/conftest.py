"""A real PostgreSQL server, a stand-in for a feature service, and a factory that names the deliveries it is told."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest
import yaml

from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.warehouse import load_extension

SAMPLE_POLICY = Path(__file__).parents[3] / "datafabriek" / "sample" / "policy"

MakeFactory = Callable[..., Settings]

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: meetpunten
name: Meetpunten
version: 1.0.0
status: active
customProperties:
  - {property: leverancier, value: Proef}
  - {property: layout, value: {formaat: gescheiden}}
  - {property: periode, value: {soort: maand, bestandsnaam: '^meetpunten_(?P<jaar>\\d{4})(?P<maand>\\d{2})\\.csv$'}}
  - {property: correctie, value: vervangt_periode}
  - {property: max_foutaandeel, value: 0.5}
  - {property: coordinaten, value: {breedtegraad: lat, lengtegraad: lon, herstel: [coordinaten_rd]}}
  - property: doelen
    value:
      proef:
        kolommen:
          nummer_pseudoniem: {bewerking: pseudoniem, van: nummer, soort: object}
          telling: {bewerking: kopie, van: telling}
          vierkant: {bewerking: vierkant_500m, van: [lat, lon]}
          dag: {bewerking: dag, van: moment}
          uur: {bewerking: uur, van: moment}
schema:
  - name: meetpunten
    properties:
      - {name: nummer, logicalType: string, required: true, primaryKey: true, classification: administratief_nummer}
      - {name: telling, logicalType: integer, classification: open, logicalTypeOptions: {minimum: 0}}
      - {name: moment, logicalType: timestamp, classification: open}
      - name: lat
        logicalType: number
        classification: quasi_identificerend
        logicalTypeOptions: {minimum: 50.7, maximum: 53.7}
      - name: lon
        logicalType: number
        classification: quasi_identificerend
        logicalTypeOptions: {minimum: 3.2, maximum: 7.3}
"""
POLICY = """
versie: proef-1
doelen:
  proef: {omschrijving: Proef, grondslag: Proef, verwerkingsactiviteit: P-1, leveringen: [meetpunten],
          bewaartermijn_maanden: 1200}
leveringen: {meetpunten: {bewaartermijn_maanden: 1200}}
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeFactory:
    """Make a factory with these deliveries; by default under the sample's policy."""

    def factory(deliveries: dict[str, Any], *, own: bool = False) -> Settings:
        policy = SAMPLE_POLICY
        if own:
            (tmp_path / "contracts").mkdir(exist_ok=True)
            (tmp_path / "contracts" / "meetpunten.yaml").write_text(CONTRACT)
            policy = tmp_path / "policy"
            policy.mkdir(exist_ok=True)
            (policy / "doelen.yaml").write_text(POLICY)
        region = {"gemeenten": ["GM0518", "GM1916"], "provincie": "PV28"}
        told = {"name": "Proef", "sample": True, "home": "home", "policy": str(policy), "region": region}
        source = tmp_path / "factory.yaml"
        source.write_text(yaml.safe_dump({**told, "deliveries": deliveries}))
        monkeypatch.setenv(FACTORY_ENV, str(source))
        settings = load_settings(source)
        settings.paths.create()
        return settings

    return factory


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
        made = [
            "-U",
            "lezer",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]
        run("initdb", *made)
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


@pytest.fixture
def service() -> Iterator[Service]:
    """A service on a free port of 127.0.0.1."""
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
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield stand_in
    server.shutdown()
    server.server_close()
    thread.join()
