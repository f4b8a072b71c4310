"""The wire as organisations have it: a certificate authority of their own, and a proxy on the way out."""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from assets.cbs.errors import CbsUnreachableError
from assets.cbs.http import Options, Wire

Serving = Callable[[socketserver.BaseServer], AbstractContextManager[int]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that nobody but its own maker vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "proef")]), datetime.now(UTC)
    own = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(own, critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    path = tmp_path_factory.mktemp("ca") / "proef.pem"
    path.write_bytes(made.public_bytes(plain[2]) + key.private_bytes(plain[2], plain[1], plain[0]))
    return path


@pytest.fixture
def address(certificate: Path, serving: Serving) -> Iterator[str]:
    """A host over TLS that answers every GET with a JSON document."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "11")
            self.end_headers()
            self.wfile.write(b'{"value":1}')

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust it hangs up
    with serving(server) as port:
        yield f"https://127.0.0.1:{port}/odata/v1"


def test_a_certificate_of_ones_own_authority_is_trusted_when_named(address: str, certificate: Path) -> None:
    assert Wire(Options(ca_bundle=certificate)).json(address) == {"value": 1}


def test_one_that_nobody_vouches_for_is_refused_at_once_with_what_to_set(address: str) -> None:
    with pytest.raises(CbsUnreachableError, match=r"after 1 attempt \(the certificate is not trusted.*cbs\.ca_bundle"):
        Wire(Options(retries=5)).json(address)


def test_a_bundle_that_holds_no_certificate_is_told(address: str, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("geen certificaat")
    with pytest.raises(CbsUnreachableError, match=r"cbs\.ca_bundle"):
        Wire(Options(retries=0, ca_bundle=bundle)).json(address)


class Proxy(socketserver.StreamRequestHandler):
    """CONNECT alone, to wherever it is asked; what was asked stands in `asked`."""

    asked: list[bytes]

    def handle(self) -> None:
        request = self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        self.asked.append(request)
        host, _, port = request.split()[1].partition(b":")
        with socket.create_connection((host, int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self._copy, args=(there, self.connection))
            back.start()
            self._copy(self.connection, there)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_a_proxy_is_gone_through_and_the_certificate_behind_it_still_held_to(
    address: str, certificate: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("P", (Proxy,), {"asked": asked}))) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        wire = Wire(Options(ca_bundle=certificate))
        assert wire.json(address) == {"value": 1}
        wire.close()
        with pytest.raises(CbsUnreachableError, match="certificate is not trusted"):
            Wire(Options(retries=0)).json(address)
    target = address.removeprefix("https://").partition("/")[0]
    assert [request.split()[:2] for request in asked] == [[b"CONNECT", target.encode()]] * 2
