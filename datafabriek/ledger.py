"""The ledger: an append-only, hash-chained record of everything the factory did that someone may have to answer for.

One SQLite file (WAL), one table of events. Each event carries the SHA-256 of the one before it, so that a line
changed or taken out afterwards shows in `Ledger.verify`; triggers refuse UPDATE and DELETE. What an event means
belongs to whoever writes it: this module knows kinds only as words.

A chain cannot show that its last links are gone, so heads are noted elsewhere: the newest one in a file beside it (an
older copy, or none at all, is refused at the next event), others in every release and in every signature of an
approval. Whoever may write everywhere at once and holds no key of a person can still take out what came after the last
signature: note `datafabriek release verify`'s head outside the factory where that matters.

Kinds in use: `delivery` (a delivery judged), `gap`, `cbs_load`, `stale`, `renewal`, `release`, `withdrawal`,
`publication`, `waiver`, `run`, `vault_access`, `key`, `late`, `retention`, `erasure`, `approval`, `rejudgement`,
`proposal`, `roles`, `refusal`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datafabriek.errors import DISK_FULL, FactoryError, is_disk_full
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
        self.head_file = path.with_suffix(".head")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self.is_there():
            private_folder(self.path.parent)
            self.path.touch(mode=0o600)
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_SCHEMA)
            yield connection
        except sqlite3.DatabaseError as error:
            told = DISK_FULL if is_disk_full(error) else str(error)
            raise LedgerError(f"the ledger {self.path} cannot be used: {told}") from error
        finally:
            connection.close()

    def is_there(self) -> bool:
        """Whether anything was written yet.

        Raises:
            LedgerError: it was, and the file is gone.
        """
        if not self.path.exists() and self.head_file.exists():
            raise LedgerError(f"{self.path} is gone: restore its newest backup before anything else is done")
        return self.path.exists()

    def append(self, kind: str, subject: str, payload: Mapping[str, Any]) -> Event:
        """Write one event; safe against other processes that write at the same time.

        Args:
            kind: what happened, one word.
            subject: to what: a contract, table, audience, release.
            payload: JSON-able facts; counts and names only, never a personal value.

        Raises:
            LedgerError: the ledger cannot be used, or is an older copy of itself.
        """
        body = json.dumps(dict(payload), sort_keys=True, ensure_ascii=False, default=str)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
            seq, previous = (row[0] + 1, row[1]) if row else (1, GENESIS)
            # never build on an older copy: the new event would hide that others are gone
            for head in self._noted_head():
                if not connection.execute("SELECT 1 FROM events WHERE seq = ? AND hash = ?", head).fetchone():
                    raise self._lacks(head[0], "was written")
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            digest = _digest(seq, at, kind, subject, body, previous)
            values = (seq, at, kind, subject, body, previous, digest)
            connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            connection.execute("COMMIT")
            # after the commit: a stop in between leaves a head that is still part of the chain
            self._note_head(seq, digest)
        return Event(seq, at, kind, subject, json.loads(body), digest)

    def events(self, kind: str | None = None, subject: str | None = None) -> list[Event]:
        """Events in order of writing, optionally of one kind and one subject; none where no ledger exists yet."""
        if not self.is_there():
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
        if not self.is_there():
            return 0, GENESIS
        with self._open() as connection:
            row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, GENESIS)

    def holds(self, seq: int, digest: str) -> bool:
        """Whether an event of this number and hash stands in it: in no other ledger does."""
        if not self.is_there():
            return False
        with self._open() as connection:
            found = connection.execute("SELECT 1 FROM events WHERE seq = ? AND hash = ?", (seq, digest)).fetchone()
        return found is not None

    def verify(self, *known: tuple[int, str]) -> int:
        """Recompute the chain; return the number of events.

        Args:
            known: heads noted earlier (in releases and signatures); each must still be part of the chain.

        Raises:
            LedgerError: an event was changed, taken out or put in, or the chain lacks a head that was noted.
        """
        previous, count, hashes = GENESIS, 0, {0: GENESIS}
        if self.is_there():
            with self._open() as connection:
                rows = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
            for seq, at, kind, subject, body, noted, digest in rows:
                count += 1
                if seq != count or noted != previous or digest != _digest(seq, at, kind, subject, body, previous):
                    raise LedgerError(f"event {seq} of {self.path} was tampered with: restore it from a backup")
                previous = hashes[seq] = digest
        for heads, told in ((self._noted_head(), "was written"), (known, "a release or a signature refers to")):
            for seq, digest in heads:
                if hashes.get(seq) != digest:
                    raise self._lacks(seq, told)
        return count

    def _lacks(self, seq: int, told: str) -> LedgerError:
        remedy = "restore the newest backup before anything is released"
        return LedgerError(f"{self.path} lacks event {seq} that {told}: {remedy}")

    def _noted_head(self) -> list[tuple[int, str]]:
        """The newest event as the file beside the ledger names it; none before the first."""
        try:
            seq, digest = self.head_file.read_text().split()
            return [(int(seq), digest)]
        except FileNotFoundError:
            return []
        except (OSError, ValueError):
            raise LedgerError(f"{self.head_file} cannot be read: restore it with the ledger's newest backup") from None

    def _note_head(self, seq: int, digest: str) -> None:
        # a name of its own per event, so that writers side by side do not meet
        new = self.head_file.with_suffix(f".head.{seq}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{seq} {digest}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(self.head_file)


def _digest(seq: int, at: str, kind: str, subject: str, body: str, previous: str) -> str:
    line = json.dumps([seq, at, kind, subject, body, previous], ensure_ascii=False)
    return hashlib.sha256(line.encode()).hexdigest()
