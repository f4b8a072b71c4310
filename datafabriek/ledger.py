"""The ledger: an append-only, hash-chained record of everything the factory did that someone may have to answer for.

One SQLite file (WAL), one table of events. Each event carries the SHA-256 of the one before it, so that a line
changed or taken out afterwards shows in `Ledger.verify`; triggers refuse UPDATE and DELETE. What an event means
belongs to whoever writes it: this module knows kinds only as words.

Kinds in use: `delivery` (a delivery judged), `gap`, `cbs_load`, `stale`, `renewal`, `release`, `withdrawal`,
`publication`, `waiver`, `run`, `vault_access`, `key`, `late`, `retention`, `erasure`, `approval`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datafabriek.errors import FactoryError
from datafabriek.folders import private_folder

GENESIS = "0" * 64

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE
);
CREATE INDEX IF NOT EXISTS events_by_kind ON events (kind, subject, seq);
CREATE TRIGGER IF NOT EXISTS events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class LedgerError(FactoryError):
    """A ledger that cannot be trusted or read; the message names the first event that is wrong."""


@dataclass(frozen=True)
class Event:
    """One line of the ledger. `at` is UTC, ISO 8601 with milliseconds; `payload` is plain JSON."""

    seq: int
    at: str
    kind: str
    subject: str
    payload: dict[str, Any]
    hash: str


class Ledger:
    """The ledger of one factory; made at first use, readable by its owner alone.

    Every call opens and closes its own SQLite connection, so that no handle outlives a crash.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        fresh = not self.path.exists()
        if fresh:
            private_folder(self.path.parent)
            self.path.touch(mode=0o600)
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
            yield connection
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"the ledger {self.path} cannot be used: {error}") from error
        finally:
            connection.close()

    def append(self, kind: str, subject: str, payload: Mapping[str, Any]) -> Event:
        """Write one event; safe against other processes that write at the same time.

        Args:
            kind: what happened, one word.
            subject: to what: a contract, table, audience, release.
            payload: JSON-able facts; counts and names only, never a personal value.
        """
        body = json.dumps(dict(payload), sort_keys=True, ensure_ascii=False, default=str)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            seq, previous = (row[0] + 1, row[1]) if row else (1, GENESIS)
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            digest = _digest(seq, at, kind, subject, body, previous)
            values = (seq, at, kind, subject, body, previous, digest)
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute("COMMIT")
        return Event(seq, at, kind, subject, json.loads(body), digest)

    def events(self, kind: str | None = None, subject: str | None = None) -> list[Event]:
        """Events in order of writing, optionally of one kind and one subject; none where no ledger exists yet."""
        if not self.path.exists():
            return []
        query = "SELECT seq, at, kind, subject, payload, hash FROM events WHERE 1 = 1"
        values: list[str] = []
        for column, value in (("kind", kind), ("subject", subject)):
            if value is not None:
                query += f" AND {column} = ?"
                values.append(value)
        with self._open() as connection:
            rows = connection.execute(query + " ORDER BY seq", values).fetchall()
        return [Event(r[0], r[1], r[2], r[3], json.loads(r[4]), r[5]) for r in rows]

    def last(self, kind: str, subject: str) -> Event | None:
        """The newest event of a kind on a subject."""
        found = self.events(kind, subject)
        return found[-1] if found else None

    def head(self) -> tuple[int, str]:
        """Number and hash of the newest event; a release keeps it, so that a rolled-back ledger is noticed."""
        if not self.path.exists():
            return 0, GENESIS
        with self._open() as connection:
            row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, GENESIS)

    def verify(self, *known: tuple[int, str]) -> int:
        """Recompute the chain; return the number of events.

        Args:
            known: heads noted earlier (in releases); each must still be part of the chain.

        Raises:
            LedgerError: an event was changed, taken out or put in, or the chain lacks the known head.
        """
        previous, count, hashes = GENESIS, 0, {0: GENESIS}
        if self.path.exists():
            with self._open() as connection:
                rows = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
            for seq, at, kind, subject, body, noted, digest in rows:
                count += 1
                if seq != count or noted != previous or digest != _digest(seq, at, kind, subject, body, previous):
                    raise LedgerError(f"event {seq} of {self.path} was tampered with: restore it from a backup")
                previous = hashes[seq] = digest
        for seq, digest in known:
            if hashes.get(seq) != digest:
                remedy = "restore the newest backup before anything is released"
                raise LedgerError(f"{self.path} lacks event {seq} that a release refers to: {remedy}")
        return count


def _digest(seq: int, at: str, kind: str, subject: str, body: str, previous: str) -> str:
    line = json.dumps([seq, at, kind, subject, body, previous], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()
