"""A server of bodies that were made and zipped beforehand, so that serving costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from isal import igzip

Answer = Callable[[str, dict[str, str]], bytes | None]


def zipped(text: bytes) -> bytes:
    """A body as CBS sends it."""
    return igzip.compress(text, 2)


def serve(make: Callable[[str], Answer]) -> None:
    """Serve on a free port of the loopback until killed; prints the address when all is made.

    Args:
        make: given the address, yields what answers a path and query with a zipped body (None: 404).
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    answer = make(address)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # as servers do: or the body waits 40 ms for the ACK of its head

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = answer(unquote(parts.path), {k: v[0] for k, v in parse_qs(parts.query).items()})
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            if body:
                self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

    server.RequestHandlerClass = Handler
    print(address, flush=True)
    server.serve_forever()
