"""Alerts arrive over the wire: a local mail server and a local webhook take them."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from datafabriek.alerts import Alert, AlertError, alert
from datafabriek.config import Settings

FAILURE = Alert.of_failure("Proef", "nachtelijke_run", "abc", ["raw_cbs__regios"], released=True)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Smtp(socketserver.StreamRequestHandler):
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


def test_a_failed_run_is_mailed(factory: Callable[..., Settings]) -> None:
    letters: list[str] = []
    handler = type("Handler", (Smtp,), {"letters": letters})
    with serving(socketserver.TCPServer(("127.0.0.1", 0), handler)) as port:
        mail = f"{{to: [a@b.nl, c@d.nl], sender: f@b.nl, smtp_host: 127.0.0.1, smtp_port: {port}, starttls: false}}"
        assert alert(factory(f"alerts: {{mail: {mail}}}"), FAILURE) == ["mail"]
    assert "Subject: Proef: nachtelijke_run is mislukt" in letters[0]
    assert "raw_cbs__regios" in letters[0]
    assert "To: a@b.nl, c@d.nl" in letters[0]


def test_a_failed_run_is_posted(factory: Callable[..., Settings]) -> None:
    posted: list[dict[str, object]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Hook)) as port:
        assert alert(factory(f"alerts: {{webhook: 'http://127.0.0.1:{port}/x'}}"), FAILURE) == ["webhook"]
    assert posted[0]["soort"] == "run_mislukt"
    assert posted[0]["stappen"] == ["raw_cbs__regios"]


def test_a_channel_that_is_down_is_named_and_the_other_still_tried(factory: Callable[..., Settings]) -> None:
    letters: list[str] = []
    handler = type("Handler", (Smtp,), {"letters": letters})
    with serving(socketserver.TCPServer(("127.0.0.1", 0), handler)) as port:
        mail = f"{{to: [a@b.nl], sender: f@b.nl, smtp_host: 127.0.0.1, smtp_port: {port}, starttls: false}}"
        settings = factory(f"alerts: {{mail: {mail}, webhook: 'http://127.0.0.1:9/'}}")
        with pytest.raises(AlertError, match=r"alerts\.webhook"):
            alert(settings, FAILURE)
    assert len(letters) == 1


def test_nothing_is_sent_where_no_channel_is_set(factory: Callable[..., Settings]) -> None:
    assert alert(factory(), FAILURE) == []


def test_an_alert_claims_no_release_where_there_is_none() -> None:
    alarm = Alert.of_failure("Proef", "nachtelijke_run", "abc", [], released=False)
    assert "niets vrijgegeven" in alarm.lines[-1]
    assert "blijft staan" not in alarm.lines[-1]
