"""The ledger: what was written stays as written."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datafabriek.ledger import GENESIS, Ledger, LedgerError


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger" / "ledger.sqlite")
    for month in range(1, 4):
        ledger.append("delivery", "bus", {"period": f"2020-{month:02}", "accepted": month})
    ledger.append("release", "open", {"id": "open-1"})
    return ledger


def _tamper(ledger: Ledger, statement: str) -> None:
    with sqlite3.connect(ledger.path) as connection:
        connection.executescript("DROP TRIGGER events_are_never_changed; DROP TRIGGER events_are_never_deleted;")
        connection.execute(statement)


def test_events_come_back_in_order(ledger: Ledger) -> None:
    assert [event.payload["accepted"] for event in ledger.events("delivery", "bus")] == [1, 2, 3]
    last = ledger.last("release", "open")
    assert last is not None and last.payload == {"id": "open-1"}
    assert ledger.last("release", "intern") is None
    assert ledger.verify() == 4


def test_an_unused_ledger_is_empty_and_reading_makes_no_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none.sqlite")
    assert ledger.events() == []
    assert ledger.head()[0] == 0
    assert ledger.verify() == 0
    assert not ledger.path.exists()


@pytest.mark.parametrize("statement", ["UPDATE events SET payload = '{}'", "DELETE FROM events WHERE seq = 2"])
def test_the_file_refuses_change(ledger: Ledger, statement: str) -> None:
    with (
        sqlite3.connect(ledger.path) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{\"accepted\": 9}' WHERE seq = 2",
        "DELETE FROM events WHERE seq = 2",
        "UPDATE events SET seq = seq + 10 WHERE seq = 4",
    ],
    ids=["changed", "taken out", "renumbered"],
)
def test_tampering_shows(ledger: Ledger, statement: str) -> None:
    _tamper(ledger, statement)
    with pytest.raises(LedgerError, match="tampered"):
        ledger.verify()


def _rehashed(ledger: Ledger, statement: str) -> None:
    """Tamper as someone does who knows how the chain is made, and mends every hash after it."""
    _tamper(ledger, statement)
    with sqlite3.connect(ledger.path) as connection:
        previous = GENESIS
        for seq, at, kind, subject, body, _, _ in connection.execute("SELECT * FROM events ORDER BY seq").fetchall():
            line = json.dumps([seq, at, kind, subject, body, previous], ensure_ascii=False)
            digest = hashlib.sha256(line.encode()).hexdigest()
            connection.execute("UPDATE events SET previous = ?, hash = ? WHERE seq = ?", (previous, digest, seq))
            previous = digest


@pytest.mark.parametrize(
    "attack",
    [
        lambda ledger, _: _tamper(ledger, "DELETE FROM events WHERE seq > 2"),
        lambda ledger, _: _rehashed(ledger, "UPDATE events SET payload = '{}' WHERE seq = 4"),
        lambda ledger, old: ledger.path.write_bytes(old),
        lambda ledger, _: ledger.path.unlink(),
        lambda ledger, _: ledger.path.write_bytes(b""),
    ],
    ids=["last events gone", "rewritten with all its hashes", "an older copy", "deleted", "emptied"],
)
def test_whatever_is_done_to_the_end_of_a_ledger_shows_and_nothing_is_built_on_it(tmp_path: Path, attack) -> None:
    ledger = Ledger(tmp_path / "ledger" / "ledger.sqlite")
    ledger.append("release", "open", {"id": "open-1"})
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    old = ledger.path.read_bytes()
    for number in range(3):
        ledger.append("approval", "x", {"n": number})
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    known = ledger.head_file.read_text()
    attack(ledger, old)
    for deed in (ledger.verify, lambda: ledger.append("run", "x", {})):
        with pytest.raises(LedgerError, match="backup"):
            deed()
    assert ledger.head_file.read_text() == known, "what was known is not overwritten"


def test_a_head_from_elsewhere_is_held_against_the_ledger(ledger: Ledger) -> None:
    """Whoever puts back ledger and head file alike does not put back a release, or a signature, that names the head."""
    known = ledger.head()
    ledger.verify(known)
    _tamper(ledger, "DELETE FROM events WHERE seq = 4")
    ledger.head_file.unlink()
    assert ledger.verify() == 3, "the chain that is left is sound in itself"
    with pytest.raises(LedgerError, match="lacks event 4"):
        ledger.verify(known)


def test_a_stop_between_commit_and_head_file_is_no_tampering(ledger: Ledger, monkeypatch) -> None:
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "_note_head", stop)
        ledger.append("run", "x", {})
    assert ledger.verify() == 5
    ledger.append("run", "x", {})
    assert ledger.verify() == 6


def test_writers_side_by_side_keep_one_chain(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: ledger.append("run", "x", {"n": n}), range(40)))
    assert ledger.verify() == 44


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path).events()
