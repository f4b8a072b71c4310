"""The ledger: what was written stays as written."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datafabriek.ledger import Ledger, LedgerError


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


def test_a_ledger_put_back_to_an_earlier_state_shows(ledger: Ledger) -> None:
    known = ledger.head()
    ledger.verify(known)
    _tamper(ledger, "DELETE FROM events WHERE seq = 4")
    assert ledger.verify() == 3, "the chain that is left is sound in itself"
    with pytest.raises(LedgerError, match="lacks event 4"):
        ledger.verify(known)


def test_writers_side_by_side_keep_one_chain(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: ledger.append("run", "x", {"n": n}), range(40)))
    assert ledger.verify() == 44


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger(path).events()
