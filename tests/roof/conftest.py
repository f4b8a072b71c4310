"""Fixtures of the roof: a factory in a folder of its own, and parts small enough to run in a second."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from datafabriek.config import Settings, load_settings

Serving = Callable[[socketserver.BaseServer], AbstractContextManager[int]]


@pytest.fixture
def factory(tmp_path: Path) -> Callable[..., Settings]:
    """Write a factory.yaml with the given lines besides name and region, and read it."""

    def make(extra: str = "") -> Settings:
        path = tmp_path / "factory.yaml"
        path.write_text(f"name: Proef\nhome: home\nregion: {{gemeenten: [GM0518], provincie: PV28}}\n{extra}")
        settings = load_settings(path)
        settings.paths.create()
        return settings

    return make


class _Smtp(socketserver.StreamRequestHandler):
    """The few commands that smtplib speaks; letters end up in `letters`."""

    letters: list[str]

    def handle(self) -> None:
        self.wfile.write(b"220 proef\r\n")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.letters.append(b"".join(lines).decode())
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
            if command == b"QUIT":
                return


@pytest.fixture
def mailbox(serving: Serving) -> Iterator[tuple[int, list[str]]]:
    """A mail server on 127.0.0.1: its port, and the letters as they arrive."""
    letters: list[str] = []
    handler = type("Handler", (_Smtp,), {"letters": letters})
    with serving(socketserver.TCPServer(("127.0.0.1", 0), handler)) as port:
        yield port, letters


@pytest.fixture
def webhook(serving: Serving) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A webhook on 127.0.0.1: its port, and what is posted, as it arrives."""
    posted: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Hook)) as port:
        yield port, posted
