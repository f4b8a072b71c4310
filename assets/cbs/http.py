"""The wire to CBS: pooled connections, patient retries, gzip inflated by isal.

Does not belong here: what an address means. Proxies come from HTTPS_PROXY, HTTP_PROXY and NO_PROXY; a private
certificate authority from `ca_bundle`.
"""

from __future__ import annotations

import email.utils
import logging
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson
import urllib3
from isal import igzip_lib

from assets.cbs.errors import BadFilterError, BadReplyError, CbsError, CbsUnreachableError

log = logging.getLogger(__name__)

CHUNK = 1 << 20
BLOCK = 1 << 18
"""Inflated bytes handed on at one time: few enough to stay in the processor's cache on their way to disk."""

MAX_BODY = 1 << 30
"""A page is some tens of megabytes; more than this is no page."""

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 120.0
DOWN_FOR_S = 60.0
"""How long a client does not ask a host again that failed all retries, so that an outage does not cost minutes."""

DEAD_FOR_S = 120.0
"""How long no client of this process asks a host again that takes no connection at all."""

DEAD_ATTEMPTS, DEAD_AFTER_S = 3, 3.0
"""A name that does not resolve, or a refused connection, seldom mends within seconds: so often, so long it is tried."""

_dead: dict[str, tuple[float, str]] = {}
_dead_lock = threading.Lock()


def forget_outages() -> None:
    """Ask every host again, whatever this process knows of outages."""
    with _dead_lock:
        _dead.clear()


@dataclass(frozen=True, slots=True)
class Options:
    """How patient the client is.

    `timeout_s` is the longest silence on a connection; `backoff_s` the first wait between attempts, doubled each
    time up to half a minute, with jitter; `parallel` caps requests under way at one time.
    """

    timeout_s: float = 60.0
    retries: int = 6
    parallel: int = 4
    backoff_s: float = 0.5
    ca_bundle: Path | None = None


class _DiskError(Exception):
    """What the disk says when a body is written: no fault of the wire, so nothing to ask again for."""


DAMAGED: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub names an instance
"""What isal raises on bytes that are no gzip."""


class NotFoundError(CbsError):
    """The address answers 404."""


class RefusedError(CbsError):
    """The server refuses the query (400, or v3's 500 on too many records); carries what it said."""


def address(base: str, **query: str | int | None) -> str:
    """An address with OData options, as in `address(url, filter="…", skip=100)`; None leaves an option out."""
    safe = "(),'$:"
    parts = [f"${name}={quote(str(value), safe=safe)}" for name, value in query.items() if value is not None]
    return base + ("?" + "&".join(parts) if parts else "")


class Wire:
    """GET with retries. Safe to use from several threads."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._down: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(options.parallel)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.clear()

    def entities(self, url: str) -> list[dict[str, Any]]:
        """All rows of a (small) entity set, following v4's or v3's links to further pages."""
        rows: list[dict[str, Any]] = []
        base, seen = url.split("?")[0], {url}
        while True:
            page = self.json(url)
            if not isinstance(page, dict) or not isinstance(page.get("value"), list):
                raise BadReplyError(f"{url} answers without the `value` list of an OData entity set")
            rows += page["value"]
            link = page.get("@odata.nextLink") or page.get("odata.nextLink")
            if not link:
                return rows
            # only the query: behind a proxy CBS may name itself by an address that is not ours to use
            url = f"{base}?{urlsplit(link).query}"
            if url in seen:
                raise BadReplyError(f"{url} points to itself as its next page")
            seen.add(url)

    def json(self, url: str) -> Any:
        """A JSON document.

        Raises:
            NotFoundError, RefusedError, BadReplyError, CbsUnreachableError: as `body`.
        """
        for last in self._attempts():
            try:
                return orjson.loads(self.body(url))
            except orjson.JSONDecodeError:
                log.info("no valid JSON from %s", url)
                if last:
                    raise BadReplyError(f"{url} keeps answering with JSON that is cut short: try again later") from None
        raise AssertionError("unreachable")

    def text(self, url: str) -> str:
        """A short text."""
        return self.body(url).decode("utf-8-sig").strip()

    def body(self, url: str) -> bytearray:
        """The whole body, inflated.

        Raises:
            NotFoundError: 404.
            RefusedError: the server does not take the query.
            CbsUnreachableError: no good answer after all retries.
        """
        return self._patiently(url, None)

    def save(self, url: str, target: Path) -> None:
        """The whole body as a file, inflated on its way there; half a body never stands without an error.

        Raises:
            NotFoundError, RefusedError, CbsUnreachableError: as `body`.
            OSError: the disk refuses.
        """
        try:
            self._patiently(url, target)
        except _DiskError as error:
            assert error.__cause__ is not None
            raise error.__cause__ from None

    def _patiently(self, url: str, target: Path | None) -> bytearray:
        host = urlsplit(url).netloc
        self._refuse_if_down(host)
        attempts, cause = self.options.retries + 1, ""
        made, dead, dead_since = 0, 0, 0.0
        for attempt in range(attempts):
            made, is_dead, began = attempt + 1, False, time.monotonic()
            wait = min(30.0, self.options.backoff_s * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311
            try:
                with self._slots:
                    status, body, retry_after = self._once(url, target)
            except (urllib3.exceptions.HTTPError, DAMAGED, OSError) as error:
                cause = _told(error)
                if isinstance(getattr(error, "reason", error), urllib3.exceptions.SSLError):
                    break  # a certificate does not mend by itself
                is_dead = _is_dead(error)
            else:
                if status == 200:
                    return body
                said = body[:2000].decode("utf-8", "replace")
                if status == 404:
                    raise NotFoundError(f"{url} does not exist (404)")
                if status not in RETRIED or "10000 records" in said or "not supported" in said:
                    raise RefusedError(f"{url} is refused ({status}): {_message(said)}")
                cause = f"HTTP {status}"
                wait = max(wait, min(retry_after, LONGEST_WAIT_S))
            log.info("attempt %s of %s on %s failed: %s", made, attempts, host, cause)
            dead, dead_since = (dead + 1, dead_since if dead else began) if is_dead else (0, 0.0)
            if dead and (dead >= DEAD_ATTEMPTS or time.monotonic() + wait - dead_since > DEAD_AFTER_S):
                break
            if made < attempts:
                time.sleep(wait)
        with _dead_lock:
            if dead:
                _dead[host] = (time.monotonic() + DEAD_FOR_S, cause)
        with self._lock:
            self._down[host] = (time.monotonic() + DOWN_FOR_S, cause)
        times = "1 attempt" if made == 1 else f"{made} attempts"
        raise CbsUnreachableError(self._outage(host, cause, f" after {times}"))

    def _attempts(self) -> Iterator[bool]:
        """As many turns as there are attempts; true on the last."""
        for attempt in range(self.options.retries + 1):
            yield attempt == self.options.retries
            time.sleep(self.options.backoff_s * random.uniform(0.5, 1.0))  # noqa: S311

    def _once(self, url: str, target: Path | None) -> tuple[int, bytearray, float]:
        """Status, body and seconds to wait; the body is empty where it went to a file."""
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        timeout = urllib3.Timeout(connect=min(15.0, self.options.timeout_s), read=self.options.timeout_s)
        once = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=5)
        response = self._pool(url).request(
            "GET", url, headers=headers, timeout=timeout, retries=once, preload_content=False
        )
        try:
            body = bytearray()
            if target is None or response.status != 200:
                _inflate(response, body.extend)
            else:
                with _written(target) as write:
                    _inflate(response, write)
        except BaseException:
            response.close()  # half-read: not fit for the pool
            raise
        response.release_conn()
        return response.status, body, _retry_after(response.headers.get("Retry-After"))

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        with self._lock:
            if parts.netloc not in self._pools:
                proxy = urllib.request.getproxies().get(parts.scheme)
                bypass = urllib.request.proxy_bypass(parts.hostname or "")
                kind: dict[str, Any] = {"maxsize": self.options.parallel, "block": False}
                if self.options.ca_bundle:
                    kind["ca_certs"] = str(self.options.ca_bundle)
                if proxy and not bypass:
                    # urllib3 leaves out the name and password that stand in a proxy's address
                    user = urlsplit(proxy).netloc.rpartition("@")[0]
                    login = urllib3.make_headers(proxy_basic_auth=unquote(user)) if user else None
                    self._pools[parts.netloc] = urllib3.ProxyManager(proxy, proxy_headers=login, **kind)
                else:
                    self._pools[parts.netloc] = urllib3.PoolManager(**kind)
            return self._pools[parts.netloc]

    def _refuse_if_down(self, host: str) -> None:
        with self._lock, _dead_lock:
            until, cause = max(self._down.get(host, (0.0, "")), _dead.get(host, (0.0, "")))
        if time.monotonic() < until:
            raise CbsUnreachableError(self._outage(host, cause, " a moment ago"))

    def _outage(self, host: str, cause: str, when: str) -> str:
        remedy = "check the network and proxy (HTTPS_PROXY, cbs.ca_bundle), or try again later"
        return f"CBS at {host} did not answer{when} ({cause}): {remedy}"


@contextmanager
def _written(target: Path) -> Iterator[Callable[[bytes], object]]:
    """A way to write a file, which tells what the disk refuses as a `_DiskError`."""

    def write(block: bytes) -> None:
        try:
            file.write(block)
        except OSError as error:
            raise _DiskError from error

    try:
        file = target.open("wb")
    except OSError as error:
        raise _DiskError from error
    try:
        yield write
    finally:
        try:
            file.close()
        except OSError as error:
            raise _DiskError from error


def _inflate(response: urllib3.BaseHTTPResponse, write: Callable[[bytes], object]) -> None:
    """Hand the body on as it is read, inflated where it came as gzip; short bodies raise."""
    inflater, size = None, 0
    if "gzip" in response.headers.get("Content-Encoding", "").lower():
        inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    for chunk in response.stream(CHUNK, decode_content=False):
        for block in _blocks(inflater, chunk) if inflater else (chunk,):
            size += len(block)
            if size > MAX_BODY:
                raise urllib3.exceptions.ProtocolError(f"a body over {MAX_BODY >> 20} MB")
            write(block)
    if inflater and not inflater.eof and (size or response.status == 200):
        raise urllib3.exceptions.ProtocolError("the gzip stream ends halfway")


def _blocks(inflater: igzip_lib.IgzipDecompressor, chunk: bytes) -> Iterator[bytes]:
    while not inflater.eof:
        block = inflater.decompress(chunk, BLOCK)
        if block:
            yield block
        if inflater.needs_input:
            return
        chunk = b""


def _retry_after(value: str | None) -> float:
    """Seconds to wait, from seconds or an HTTP date."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return 0.0


def _told(error: BaseException) -> str:
    """The cause in a few words."""
    reason = getattr(error, "reason", None)
    error = reason if isinstance(reason, Exception) else error
    kinds: list[tuple[type[BaseException], str]] = [
        (urllib3.exceptions.NameResolutionError, "the host name does not resolve"),
        (urllib3.exceptions.ReadTimeoutError, "silence longer than the time-out"),
        (urllib3.exceptions.NewConnectionError, "connection refused"),
        (urllib3.exceptions.ConnectTimeoutError, "no connection within the time-out"),
        (urllib3.exceptions.ProxyError, "the proxy does not connect"),
        (urllib3.exceptions.SSLError, f"the certificate is not trusted: {error}"),
        (urllib3.exceptions.IncompleteRead, "the answer was cut short"),
        (urllib3.exceptions.ProtocolError, "the connection was broken halfway"),
        (DAMAGED, "the answer was damaged"),
    ]
    return next((told for kind, told in kinds if isinstance(error, kind)), str(error))


def _is_dead(error: BaseException) -> bool:
    """Whether no connection was made at all: no such name, refused, no route; to the host or to the proxy."""
    reason = getattr(error, "reason", None) or error
    return isinstance(getattr(reason, "original_error", reason), urllib3.exceptions.NewConnectionError)


def _message(said: str) -> str:
    """What the server said, taken out of OData's wrapping."""
    try:
        found = orjson.loads(said)
        found = found.get("error") or found.get("odata.error") or found
        found = found.get("message", found)
        return str(found.get("value", found) if isinstance(found, dict) else found)[:300]
    except (ValueError, AttributeError):
        return said[:200]


@contextmanager
def filter_blamed(text: str | None) -> Iterator[None]:
    """Tell a refused query as a wrong filter where there was one.

    Raises:
        BadFilterError: the server refused the query and a filter was given.
    """
    try:
        yield
    except RefusedError as error:
        if text and "10000 records" not in str(error):
            raise BadFilterError(f"CBS does not take the filter {text!r}: {error}") from None
        raise
