"""From pages on the wire to a complete table on disk, or to nothing.

A table lands in `<root>/<id>/<version>/`; `<root>/<id>/state.json` names the version in force and is replaced in
one step, so that a reader finds the old table or the new one. Pages become Parquet one by one in
`<root>/.partial/<id>-<key>/`, where the key holds table, filter, modification date and count: an attempt after a
crash takes up the pages that are complete. Nothing is put in force before rows are counted and Ids are unique.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import mmap
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import orjson

from assets.cbs import odata3
from assets.cbs.errors import BadFilterError, BadReplyError, LandingError
from assets.cbs.feed import Coding, Feed, as_code
from assets.cbs.http import RefusedError, Wire, address, filter_blamed
from assets.cbs.model import WIDE, Landed, Progress, TableMeta
from assets.cbs.periods import parse_period
from datafabriek.warehouse import literal, quoted

log = logging.getLogger(__name__)

STATE = "state.json"
META = "meta.json"
PARTIAL = ".partial"
NARROW = "observations-"
"""How the names of files with observations begin."""

CONVERTING = 2
"""Pages turned into Parquet at one time, whatever the number under way: each takes tens of megabytes."""

TRIES = 3
"""How often one page is asked again when what it says cannot be right."""

SPARSE = 8
"""Numbers are told apart by a bit each where so many are possible for each that there is, or fewer."""

EDGE = 1 << 16
"""Bytes at the start of a page within which its rows begin, and steps in which its end is looked for."""

_VALUE = re.compile(rb'"value"\s*:\s*\[')
Numbered = tuple[int, int | None, int | None]
"""Rows of a page, and the numbers of its first and last."""

NONE: Numbered = (0, None, None)

_NEXT = ("@odata.nextLink", "odata.nextLink")


@dataclass(frozen=True, slots=True)
class Page:
    """A page on disk: its place, its rows, their lowest and highest number, and the link to the next page."""

    skip: int
    rows: int
    first: int | None
    last: int | None
    next: str | None


@dataclass(frozen=True)
class State:
    """What `state.json` holds: which version is in force, and from what it was made."""

    version: str
    fingerprint: dict[str, Any]
    modified: str
    rows: int
    wire_rows: int
    landed_at: str


def previous(folder: Path) -> Landed | None:
    """The version of a table that is in force in its folder; None where nothing complete has landed."""
    state = read_state(folder)
    return None if state is None else landed(folder, state, changed=False)


def read_state(folder: Path) -> State | None:
    """The state of a table's folder; None where there is none, or none that can be trusted."""
    try:
        state = State(**orjson.loads((folder / STATE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return state if (folder / state.version / META).is_file() else None


def landed(folder: Path, state: State, *, changed: bool, meta: TableMeta | None = None) -> Landed:
    """The version in force, with its metadata."""
    version = folder / state.version
    return Landed(
        meta=meta or TableMeta.from_json((version / META).read_bytes()),
        folder=version,
        filter=state.fingerprint["filter"],
        rows=state.rows,
        changed=changed,
        landed_at=state.landed_at,
        parts=_parts(version),
    )


def _parts(version: Path) -> tuple[Path, ...]:
    """The files with the rows of a version, in order."""
    return tuple(sorted(part for part in version.glob("*-*.parquet") if part.name.startswith((NARROW, WIDE))))


def observations(table: Landed, codes: Mapping[str, Coding] | None = None) -> str:
    """SELECT of all observations of a landed table.

    Args:
        table: the table.
        codes: of Measure, ValueAttribute and dimensions that are to be ENUM; what is not among them becomes NULL.

    Returns:
        SQL that yields Id BIGINT, Measure VARCHAR, ValueAttribute VARCHAR, Value DOUBLE, StringValue VARCHAR and one
        VARCHAR column for each dimension, in that order; VARCHAR gives way to the ENUMs asked for.
    """
    rows, codes = _parquet(table.parts), codes or {}
    if table.is_wide:
        local = odata3.local_filter(table.meta, table.filter)
        if local is None:
            return odata3.observations(table.meta, rows, codes)
        rows = f"(SELECT * FROM ({odata3.observations(table.meta, rows, {})}) WHERE {local})"  # texts are compared
    names = ("Id", "Measure", "ValueAttribute", "Value", "StringValue", *(d.identifier for d in table.meta.dimensions))
    chosen = (f"{as_code(quoted(n), codes[n])} AS {quoted(n)}" if n in codes else quoted(n) for n in names)
    return f"SELECT {', '.join(chosen)} FROM {rows}"


def has_texts(table: Landed, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether any observation of a landed table has a StringValue."""
    if table.is_wide:
        return any(measure.is_text for measure in table.meta.measures)
    return bool(connection.execute(f"SELECT count(StringValue) FROM {_parquet(table.parts)}").fetchall()[0][0])


def _sync(path: Path) -> None:
    """Let a file or folder stand on the disk before what refers to it does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell what the disk refuses as a `LandingError`."""
    try:
        yield
    except OSError as error:
        raise LandingError(_disk(folder, error.errno, error.strerror or str(error))) from None
    except duckdb.IOException as error:
        number = errno.ENOSPC if "space" in str(error).lower() else None
        raise LandingError(_disk(folder, number, str(error).splitlines()[0])) from None


def _disk(folder: Path, number: int | None, said: str) -> str:
    kept = "what landed before is still in force, and the next attempt takes up the pages that are complete"
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left for {folder}: free some space; {kept}"
    return f"{folder} cannot be written ({said}): check its rights; {kept}"


class Landing:
    """Loads one table into its folder.

    Args:
        wire: the connection to CBS.
        connection: a DuckDB memory database for turning JSON into Parquet.
        root: the folder of all landed tables.
        progress: told observations so far and expected.
    """

    def __init__(
        self, wire: Wire, connection: duckdb.DuckDBPyConnection, root: Path, progress: Progress | None = None
    ) -> None:
        self.wire = wire
        self.connection = connection
        self.root = root
        self._progress = progress or (lambda done, expected: None)
        self._lock = threading.Lock()
        self.converting = threading.BoundedSemaphore(CONVERTING)

    def load(
        self,
        meta: TableMeta,
        feed: Feed,
        fingerprint: dict[str, Any],
        expected: int | None,
        refuse_changed: Callable[[], None] = lambda: None,
    ) -> Landed:
        """Fetch what is missing, check the whole, put it in force.

        Args:
            meta: the table.
            feed: how its rows are asked for.
            fingerprint: what the load is of; the same fingerprint takes up pages of an attempt before.
            expected: rows on the wire; None where the server does not count.
            refuse_changed: called when all is in; raises where the table is another by now.

        Raises:
            BadReplyError: the pages do not add up, also when fetched anew one after the other.
            LandingError: the disk refuses.
        """
        key = hashlib.sha256(
            orjson.dumps([fingerprint, expected, feed.at_once], option=orjson.OPT_SORT_KEYS)
        ).hexdigest()[:16]
        partial = self.root / PARTIAL / f"{meta.id}-{key}"
        with _told(self.root):
            for other in (self.root / PARTIAL).glob(f"{meta.id}-*"):
                if other != partial:
                    shutil.rmtree(other)
            partial.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(1) as aside:
                described = aside.submit(self._describe, meta, partial)
                wire_rows = _Pages(self, meta, feed, partial, expected).fetch()
                described.result()
            refuse_changed()
            rows = wire_rows * feed.width
            if feed.width > 1 and fingerprint["filter"]:
                waiting = Landed(meta, partial, fingerprint["filter"], rows, True, "", _parts(partial))
                query = f"SELECT count(*) FROM ({observations(waiting)})"
                rows = self.connection.cursor().execute(query).fetchall()[0][0]
            return self._put_in_force(meta, partial, fingerprint, (rows, wire_rows))

    def refresh(self, meta: TableMeta, folder: Path, state: State) -> Landed:
        """Put new metadata beside observations that did not change."""
        partial = self.root / PARTIAL / f"{meta.id}-metadata"
        with _told(self.root):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for part in _parts(folder / state.version):
                os.link(part, partial / part.name)
            self._describe(meta, partial)
            return self._put_in_force(meta, partial, state.fingerprint, (state.rows, state.wire_rows))

    def _describe(self, meta: TableMeta, folder: Path) -> None:
        """Write metadata as Parquet beside the observations."""
        for name, (columns, rows) in entities(meta).items():
            self._write(rows, columns, folder / f"{name}.parquet")
        (folder / META).write_bytes(meta.to_json())

    def _write(self, rows: Sequence[dict[str, Any]], columns: dict[str, str], target: Path) -> None:
        source = target.with_suffix(".json")
        source.write_bytes(orjson.dumps(rows))
        self.connection.cursor().execute(_copy(f"SELECT * FROM {_read([source], columns)}", target))
        source.unlink()

    def _put_in_force(
        self, meta: TableMeta, partial: Path, fingerprint: dict[str, Any], counted: tuple[int, int]
    ) -> Landed:
        now = datetime.now(UTC)
        folder = self.root / meta.id
        folder.mkdir(parents=True, exist_ok=True)
        version = now.strftime("%Y%m%dT%H%M%S%f")
        state = State(version, fingerprint, meta.modified, *counted, now.isoformat(timespec="seconds"))
        for stray in partial.iterdir():
            if stray.suffix != ".parquet" and stray.name != META:
                stray.unlink()
            else:
                _sync(stray)
        _sync(partial)
        partial.rename(folder / version)
        _sync(folder)
        writing = folder / f"{STATE}.tmp"
        with writing.open("wb") as file:
            file.write(orjson.dumps(state))
            file.flush()
            os.fsync(file.fileno())
        writing.replace(folder / STATE)
        _sync(folder)
        for old in folder.iterdir():
            if old.is_dir() and old.name != version:
                shutil.rmtree(old)
        return landed(folder, state, changed=True, meta=meta)

    def told(self, done: int, expected: int) -> None:
        """Pass progress on, one call at a time."""
        with self._lock:
            self._progress(done, expected)


class _Pages:
    """The pages of one load: which are on disk, which are missing, whether they add up."""

    def __init__(self, landing: Landing, meta: TableMeta, feed: Feed, folder: Path, expected: int | None) -> None:
        self.landing = landing
        self.meta = meta
        self.feed = feed
        self.folder = folder
        self.expected = expected
        self.pages: dict[int, Page] = {}
        self._lock = threading.Lock()

    def fetch(self) -> int:
        """All pages, as Parquet; returns the number of rows on the wire.

        Pages are asked for in parallel by `$skip` where the first page's link shows that this is how the server
        pages. Pages that overlap are asked again; what still does not add up is fetched anew along the links.
        """
        self._take_up()
        if self.expected == 0:
            self._empty()
        trouble = self._in_parallel() or self._together()
        if trouble:
            log.warning("table %s: %s; fetching it anew, page after page", self.meta.id, trouble)
            self._forget(list(self.pages))
            self._along_links(0)
            trouble = self._trouble() or self._together()
        if trouble:
            self._forget(list(self.pages))
            remedy = "what landed before is still in force; try again later"
            raise BadReplyError(f"table {self.meta.id} does not add up: {trouble}; {remedy}")
        return sum(page.rows for page in self.pages.values())

    def _together(self) -> str | None:
        """Convert the pages where that is yet to be done; what is wrong with them, None where they add up."""
        if not self.feed.at_once:
            return None
        skips = sorted(self.pages)
        for stray in _parts(self.folder):
            stray.unlink()  # of an attempt that converted and went no further
        share = -(-len(skips) // CONVERTING)
        with self._damaged(skips), ThreadPoolExecutor(CONVERTING) as pool:
            # side by side, each on one thread: two threads of DuckDB's own wait for one another, spinning
            waiting = [
                pool.submit(
                    self._convert,
                    [self._kept(skip) for skip in skips[start : start + share]],
                    self.folder / f"{WIDE}{start:012d}.parquet",
                )
                for start in range(0, len(skips), share)
            ]
            parts = [future.result() for future in waiting]
        rows = sum(page.rows for page in self.pages.values())
        found, numbered, *_ = self._numbers(parts)
        if found == numbered == rows:
            return None
        return f"{rows:,} rows came in, of which {found:,} can be read, with {numbered:,} numbers"

    def _take_up(self) -> None:
        for note in self.folder.glob("page-*.json"):
            try:
                page = Page(**orjson.loads(note.read_bytes()))
            except (ValueError, TypeError):
                continue
            if self._kept(page.skip).is_file():
                self.pages[page.skip] = page
        if self.pages:
            log.info("table %s: taking up %s pages of an attempt before", self.meta.id, len(self.pages))

    def _in_parallel(self) -> str | None:
        """Pages by their number, `$skip`, where that is how the server pages; else page after page."""
        before = set(self.pages)
        for _ in range(TRIES):
            refused = self._missing()
            first = self.pages[0]
            if first.next is None and (self.expected is None or first.rows >= self.expected):
                return self._trouble()
            if self.expected is None or first.rows == 0 or (first.next and _size(first.next) != first.rows):
                self._forget([skip for skip in self.pages if skip and skip not in before])
                self._along_links(0)
                return self._trouble()
            refused = refused or self._missing()  # a first page without a link tells by its rows
            if refused:
                return refused
            trouble = self._trouble()
            wrong = self._suspect(first.rows) if trouble else []
            if not wrong:
                return trouble
            self._forget(wrong)
        return self._trouble()

    def _missing(self) -> str | None:
        """Fetch the pages that are missing; the link in the first tells where they begin, before it is converted.

        Returns:
            What the server said where it refuses pages by their number.
        """
        with ThreadPoolExecutor(self.landing.wire.options.parallel) as pool:
            waiting = []
            try:
                if 0 in self.pages:
                    size = _size(self.pages[0].next) or self.pages[0].rows
                else:
                    came: Future[str | None] = Future()

                    def told(_: Future[Page], came: Future[str | None] = came) -> None:
                        if not came.done():
                            came.set_result(None)

                    waiting.append(pool.submit(self._page, 0, came=came))
                    waiting[0].add_done_callback(told)
                    size = _size(came.result())
                skips = range(size, self.expected or 0, size) if size else ()
                waiting += [
                    pool.submit(self._page, skip, self._due(skip, size)) for skip in skips if skip not in self.pages
                ]
                for future in waiting:
                    future.result()
            except (RefusedError, BadFilterError) as error:
                pool.shutdown(wait=True, cancel_futures=True)
                if 0 not in self.pages:
                    raise
                return f"pages are refused by their number ({error})"
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return None

    def _due(self, skip: int, size: int) -> int:
        """Rows that a page should hold."""
        return min(size, (self.expected or 0) - skip)

    def _along_links(self, skip: int) -> None:
        """Page after page, each where the link of the one before points."""
        link: str | None = None
        while True:
            page = self.pages.get(skip) or self._page(skip, link=link)
            for _ in range(TRIES):
                if not self._repeats(page):
                    break
                log.info("table %s, rows from %s: a page came in twice; asking again", self.meta.id, skip)
                page = self._page(skip, link=link)
            else:
                return
            if page.next is None or page.next == link or page.rows == 0:
                return
            skip, link = skip + page.rows, page.next

    def _repeats(self, page: Page) -> bool:
        """Whether a page starts with the row that another page starts with."""
        return any(other.first == page.first for other in self.pages.values() if other.skip != page.skip)

    def _suspect(self, size: int) -> list[int]:
        """Pages that hold too few or too many rows, or rows that another page holds as well."""
        wrong = {skip for skip, page in self.pages.items() if page.rows != self._due(skip, size)}
        return sorted(wrong | self._overlapping())

    def _overlapping(self) -> set[int]:
        """Pages whose range of row numbers runs into that of another page."""
        ordered = sorted(self.pages.values(), key=lambda page: (page.first or 0, page.skip))
        found = set()
        for one, other in itertools.pairwise(ordered):
            if one.last is not None and other.first is not None and other.first <= one.last:
                found |= {one.skip, other.skip}
        return found

    def _trouble(self) -> str | None:
        """What is wrong with the whole; None where rows are as many as expected and numbers are unique."""
        rows = sum(page.rows for page in self.pages.values())
        if self.expected is not None and rows != self.expected:
            return f"{rows:,} rows came in where CBS counts {self.expected:,}"
        if not self._overlapping():
            return None  # numbers are unique within each page, or `_together` finds out
        query = f"SELECT count(*), count(DISTINCT {self.feed.key}) FROM {self._rows()}"
        found = self.landing.connection.cursor().execute(query).fetchone() or (0, 0)
        if found[0] != found[1]:
            return f"{found[0] - found[1]:,} of {found[0]:,} rows came in twice"
        return None

    def _forget(self, skips: Sequence[int]) -> None:
        for skip in skips:
            self._note(skip).unlink(missing_ok=True)
            self._kept(skip).unlink(missing_ok=True)
            self.pages.pop(skip, None)

    def _kept(self, skip: int) -> Path:
        """Where a page is kept: as Parquet, or as JSON where observations are yet to be made of it."""
        kind = "json" if self.feed.at_once else "parquet"
        return self.folder / f"{WIDE if self.feed.is_wide else NARROW}{skip:012d}.{kind}"

    def _rows(self) -> str:
        """All pages as one relation."""
        paths = [self._kept(skip) for skip in sorted(self.pages)]
        return _read(paths, self.feed.columns) if self.feed.at_once else _parquet(paths)

    def _note(self, skip: int) -> Path:
        return self.folder / f"page-{skip:012d}.json"

    def _empty(self) -> None:
        source = self._incoming(0)
        source.write_bytes(b'{"value":[]}')
        self.pages[0] = self._landed(0, source)

    def _incoming(self, skip: int) -> Path:
        """Where a page comes in."""
        return self.folder / f"page-{skip}-{threading.get_ident()}.tmp"

    def _page(
        self, skip: int, due: int | None = None, *, link: str | None = None, came: Future[str | None] | None = None
    ) -> Page:
        """Fetch one page and put it on disk; asked again while it cannot be read or holds the wrong number of rows.

        Args:
            skip: the rows before it.
            due: the rows that it should hold, where that is known.
            link: the address that the page before gives it.
            came: told the address of the page behind it, as soon as that is known.
        """
        feed = self.feed
        url = address(feed.url, filter=feed.filter, format=feed.format, skip=skip or None)
        if link is not None:
            # only the query: behind a proxy CBS may name itself by an address that is not ours to use
            url = f"{feed.url}?{urlsplit(link).query}"
        source = self._incoming(skip)
        for attempt in range(1, TRIES + 1):
            try:
                with filter_blamed(feed.filter):
                    self.landing.wire.save(url, source)
                    page = self._landed(skip, source, due, came)
            except BadReplyError as error:
                if attempt == TRIES:
                    raise
                log.info("table %s, rows from %s: %s; asking again", self.meta.id, skip, error)
                continue
            if due is None or page.rows == due or attempt == TRIES:
                break
            log.info("table %s, rows from %s: %s rows instead of %s; asking again", self.meta.id, skip, page.rows, due)
        with self._lock:
            self.pages[skip] = page
            done = sum(page.rows for page in self.pages.values())
        self._note(skip).write_bytes(orjson.dumps(page))
        self.landing.told(done * feed.width, (self.expected or done) * feed.width)
        return page

    def _landed(self, skip: int, source: Path, due: int | None = None, came: Future[str | None] | None = None) -> Page:
        target = self._kept(skip)
        link, (rows, first, last) = rows_of(source, self.meta.id, self.feed.key if self.feed.at_once else None, due)
        if came and not came.done():
            came.set_result(link)
        if self.feed.at_once:
            source.replace(target)
            return Page(skip, rows, first, last, link)
        with self._damaged(), self.landing.converting:
            rows, numbered, first, last = self._numbers([self._convert([source], target)])
        source.unlink()
        if numbered != rows:
            told = f"{rows - numbered} rows of a page lack an `{self.feed.key}` of their own"
            raise BadReplyError(f"table {self.meta.id}: {told}: try again later")
        return Page(skip, rows, first, last, link)

    def _convert(self, sources: Sequence[Path], target: Path) -> Path:
        """JSON rows to Parquet."""
        page, writing = _read(sources, self.feed.columns), target.with_suffix(".tmp")
        with self.landing.connection.cursor() as cursor:
            try:
                cursor.execute(_copy((self.feed.coded or self.feed.select).replace("{page}", page), writing))
            except duckdb.ConversionException:  # a code that CBS does not list
                cursor.execute(_copy(self.feed.select.replace("{page}", page), writing))
        writing.replace(target)
        return target

    def _numbers(self, parts: Sequence[Path]) -> tuple[int, int, int | None, int | None]:
        """How many rows, how many numbers, the lowest and the highest."""
        key, rows = quoted(self.feed.key), _parquet(parts)
        # no bound parameter here: to bind one, DuckDB imports numpy and pandas, which takes longer than the page
        with self.landing.connection.cursor() as cursor:
            query = f"SELECT count(*), min({key}), max({key}) FROM {rows}"
            count, first, last = cursor.execute(query).fetchall()[0]
            numbers = f"count(DISTINCT {key})"
            if count and first is not None and last - first < SPARSE * count:  # one bit a number, a third of the time
                numbers = f"bit_count(bitstring_agg({key}, {first}, {last}))"
            numbered = cursor.execute(f"SELECT {numbers} FROM {rows}").fetchall()[0][0]
        return count, numbered, first, last

    @contextmanager
    def _damaged(self, skips: Sequence[int] = ()) -> Iterator[None]:
        """Tell rows that cannot be read as a bad reply, and keep none of the pages that hold them."""
        try:
            yield
        except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
            self._forget(skips)
            said = str(error).splitlines()[0]
            raise BadReplyError(f"table {self.meta.id} comes in damaged ({said}): try again later") from None


def _size(link: str | None) -> int:
    """Rows in a page, by the link that the first gives to the second; 0 where it does not tell."""
    told = parse_qs(urlsplit(link or "").query).get("$skip", [""])
    return int(told[0]) if told[0].isdigit() else 0


def rows_of(page: Path, table_id: str, key: str | None = None, due: int | None = None) -> tuple[str | None, Numbered]:
    """Make a file with an OData page into one with its `value` array alone, in place.

    The page is not parsed: what stands around the array must be a JSON object. What is before the array becomes
    blanks, what is after it is cut off.

    Args:
        page: the file.
        table_id: the table, for the message.
        key: the field with a row's number, where rows are to be counted.
        due: how many rows there should be; None where the link to the next page tells, or nothing does.

    Returns:
        The link to the next page, and how many rows there are and with which numbers where `key` names their field.

    Raises:
        BadReplyError: the page is cut short, or no OData page.
    """
    with page.open("r+b") as file:
        envelope, numbered = None, NONE
        if page.stat().st_size:
            with mmap.mmap(file.fileno(), 0) as body:
                found = _VALUE.search(body, 0, EDGE)
                start = found.end() - 1 if found else 0
                end = body.rfind(b"]") if found else -1
                while end > start and envelope is None:
                    try:
                        envelope = orjson.loads(b"".join((body[:start], b"null", body[end + 1 :])))
                    except orjson.JSONDecodeError:
                        end = body.rfind(b"]", max(start, end - EDGE), end)  # a bracket within the link
                if isinstance(envelope, dict):
                    body[:start] = b" " * start
                    link = next((envelope[name] for name in _NEXT if envelope.get(name)), None)
                    numbered = _numbered(body, start, end, key, due or _size(link)) if key else numbered
        if isinstance(envelope, dict):
            file.truncate(end + 1)
            return link, numbered
    raise BadReplyError(f"table {table_id}: a page came in cut short or is no OData page: try again later")


def _numbered(body: mmap.mmap, start: int, end: int, key: str, due: int) -> Numbered:
    """Rows in a JSON array, counted by their key, and the numbers of the first and the last, without parsing.

    Rows that run from the first number to the last without a gap are not counted when as many are due: whether each
    is there once, is found out when all pages are read.
    """
    name = f'"{key}"'.encode()  # in a text the quotes would be escaped
    number = re.compile(re.escape(name) + rb"\s*:\s*(\d+)")
    ends = (number.search(body, start, end), number.search(body, max(start, body.rfind(name, start, end)), end))
    first, last = (int(found[1]) if found else None for found in ends)
    if first is not None and last is not None and last - first + 1 == due:
        return due, first, last
    rows = body[start:end]
    return rows.count(name + b":") or len(re.findall(re.escape(name) + rb"\s*:", rows)), first, last


def _parquet(parts: Sequence[Path]) -> str:
    """Relation of Parquet files."""
    return f"read_parquet([{', '.join(literal(str(part)) for part in parts)}])"


def _read(sources: Sequence[Path], columns: Mapping[str, str]) -> str:
    """Relation of JSON arrays of rows."""
    files = ", ".join(literal(str(source)) for source in sources)
    types = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in columns.items())
    return (
        f"read_json([{files}], format = 'array', columns = {{{types}}}, compression = 'uncompressed', "
        "maximum_object_size = 4194304)"
    )


def _copy(select: str, target: Path) -> str:
    return f"COPY ({select}) TO {literal(str(target))} (FORMAT parquet, PARQUET_VERSION v2)"


def entities(meta: TableMeta) -> dict[str, tuple[dict[str, str], list[dict[str, Any]]]]:
    """Metadata as tables: name → (columns with DuckDB types, rows).

    `measures` and the `codes_…` have v4's columns; measures add TitlePath, periods add StartDate and Frequency.
    """
    text, number = "VARCHAR", "INTEGER"
    measure = {"Identifier": text, "Index": number, "Title": text, "TitlePath": text, "Description": text}
    measure |= {"MeasureGroupId": text, "DataType": text, "Unit": text, "Decimals": number, "PresentationType": text}
    measures = [
        {
            "Identifier": m.identifier,
            "Index": m.index,
            "Title": m.title,
            "TitlePath": m.title_path,
            "Description": m.description,
            "MeasureGroupId": m.group_id,
            "DataType": m.data_type,
            "Unit": m.unit,
            "Decimals": m.decimals,
            "PresentationType": m.presentation,
        }
        for m in meta.measures
    ]
    dimension = {"Identifier": text, "Title": text, "Description": text, "Kind": text, "MapYear": text}
    dimensions = [
        {
            "Identifier": d.identifier,
            "Title": d.title,
            "Description": d.description,
            "Kind": d.kind,
            "MapYear": d.map_year,
        }
        for d in meta.dimensions
    ]
    properties = [
        {"Name": name, "Value": value if isinstance(value, str) else orjson.dumps(value).decode()}
        for name, value in meta.properties.items()
        if value is not None
    ]
    tables: dict[str, tuple[dict[str, str], list[dict[str, Any]]]] = {
        "measures": (measure, measures),
        "dimensions": (dimension, dimensions),
        "properties": ({"Name": text, "Value": text}, properties),
    }
    for one in meta.dimensions:
        columns = {"Identifier": text, "Index": number, "Title": text, "Description": text, "DimensionGroupId": text}
        titles = {group.id: group.title for group in one.groups}
        columns |= {"GroupTitle": text}
        if one.is_time:
            columns |= {"Status": text, "StartDate": "DATE", "Frequency": text}
        if one.kind == "GeoDetail":
            columns |= {"DetailRegionCode": text}
        rows: list[dict[str, Any]] = [
            {
                "Identifier": code.identifier,
                "Index": code.index,
                "Title": code.title,
                "Description": code.description,
                "DimensionGroupId": code.group_id,
                "GroupTitle": titles.get(code.group_id or ""),
            }
            for code in one.codes
        ]
        if one.is_time:
            for row, code in zip(rows, one.codes, strict=True):
                period = parse_period(code.identifier)
                row |= {"Status": code.status, "StartDate": period.start, "Frequency": period.frequency}
        if one.kind == "GeoDetail":
            for row, code in zip(rows, one.codes, strict=True):
                row["DetailRegionCode"] = code.detail_region
        tables[f"codes_{one.identifier}"] = (columns, rows)
    return tables
