"""The sample factory from nothing to a release, through the command that users give."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from datafabriek.ledger import Ledger
from datafabriek.locking import factory_lock

pytestmark = pytest.mark.timeout(900)

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def published(finished_factory: Path) -> Path:
    return finished_factory / ".datafabriek" / "published" / "open" / "datafabriek.duckdb"


@pytest.fixture(scope="module")
def ledger(finished_factory: Path) -> Ledger:
    return Ledger(finished_factory / ".datafabriek" / "ledger" / "ledger.sqlite")


def ask(file: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(query).fetchall()


def tables(file: Path) -> list[tuple[str, str]]:
    query = "select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE'"
    return ask(file, query)


@pytest.mark.parametrize(
    ("table", "indicator"),
    [
        ("bijstand_per_regio", "bijstand_per_1000_inwoners"),
        ("zzp_per_regio", "zzp_woonachtig_per_1000_inwoners"),
        ("zzp_per_regio", "zzp_vestigingen_per_1000_inwoners"),
    ],
)
def test_the_open_file_answers_per_wijk(published: Path, table: str, indicator: str) -> None:
    (schema,) = [schema for schema, name in tables(published) if name == table]
    rows = ask(
        published,
        f"""select regio_code, waarde, teller, noemer from {schema}.{table}
            where indicator = '{indicator}' and regio_niveau = 'WK' and regio_code like 'WK1916%'
              and status in ('verstrekt', 'afgerond')""",
    )
    assert rows
    for _, value, numerator, denominator in rows:
        assert float(value) == pytest.approx(1000 * float(numerator) / float(denominator), abs=0.06)


def test_the_denominators_are_those_of_cbs(published: Path) -> None:
    (schema,) = [schema for schema, name in tables(published) if name == "bijstand_per_regio"]
    # 76,433 inhabitants of Leidschendam-Voorburg on 1 January 2020 (CBS 84799NED)
    (found,) = ask(
        published,
        f"""select distinct noemer from {schema}.bijstand_per_regio
            where regio_code = 'GM1916' and indicator = 'bijstand_per_1000_inwoners' and noemer is not null""",
    )
    assert int(found[0]) == pytest.approx(76433, abs=200)


def test_every_table_and_column_is_described(published: Path) -> None:
    internal = "not internal and schema_name <> 'information_schema'"
    columns = ask(published, f"select table_name, column_name, comment from duckdb_columns() where {internal}")
    assert columns
    assert [column for column in columns if not column[2]] == []
    assert ask(published, "select table_name from duckdb_tables() where comment is null") == []


def test_whoever_opens_it_sees_that_it_is_a_sample(published: Path) -> None:
    marked = [(schema, name) for schema, name in tables(published) if name == "release_info"]
    assert len(marked) == 1
    (schema, name) = marked[0]
    assert "voorbeeld" in str(ask(published, f"select * from {schema}.{name}")).lower()


def test_what_was_delivered_was_accepted_or_refused(ledger: Ledger) -> None:
    deliveries = [event.payload for event in ledger.events("delivery")]
    assert len(deliveries) == 14, "one of addresses, of BRP and of businesses, eleven months of BUS"
    for payload in deliveries:
        assert payload["delivered"] == payload["accepted"] + payload["refused"]
    assert sum(payload["refused"] for payload in deliveries) > 0, "the sample has rows that must be refused"


def test_the_inbox_is_empty_and_the_warehouse_knows_no_bsn(finished_factory: Path) -> None:
    home = finished_factory / ".datafabriek"
    assert [path for path in (home / "inbox").rglob("*") if path.is_file()] == []
    with duckdb.connect(str(home / "warehouse" / "warehouse.duckdb"), read_only=True) as connection:
        columns = {row[0] for row in connection.execute("select column_name from duckdb_columns()").fetchall()}
    assert not columns & {"bsn", "a_nummer", "eigenaar_bsn", "geslachtsnaam", "straatnaam", "postcode", "huisnummer"}


def test_the_home_is_for_its_owner_alone(finished_factory: Path) -> None:
    home = finished_factory / ".datafabriek"
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "keys" / "master.key").stat().st_mode & 0o777 == 0o600


def test_status_tells_the_gap(finished_factory: Path, command: Command) -> None:
    told = command(finished_factory, "status", "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert {release["audience"] for release in found["releases"]} == {"intern", "open"}
    assert [(item["delivery"], item["period"]) for item in found["missing"]] == [("bus", "2020-08")]


def test_the_second_run_makes_no_new_release(finished_factory: Path, ledger: Ledger, command: Command) -> None:
    before = [event.payload["release"] for event in ledger.events("release")]
    before_it = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = command(finished_factory, "run", "--json")
    after_it = resource.getrusage(resource.RUSAGE_CHILDREN)
    # of the processor and not of the clock, which other work on the machine slows
    seconds = after_it.ru_utime + after_it.ru_stime - before_it.ru_utime - before_it.ru_stime
    assert again.returncode == 0, again.stderr
    assert [event.payload["release"] for event in ledger.events("release")] == before
    report = json.loads(again.stdout)
    assert report["ok"]
    assert "orchestration" in report["times"]
    assert 1 < seconds < 90, f"a second run took {seconds:.0f} s of processor (docs/benchmarks.md has the norm of 45)"


def test_a_second_run_beside_the_first_is_refused(finished_factory: Path, command: Command) -> None:
    with factory_lock(finished_factory / ".datafabriek" / "factory.lock", "a test"):
        refused = command(finished_factory, "run")
    assert refused.returncode == 3
    assert "in use by process" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_nothing_behind(
    tmp_path: Path, command: Command, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Kill the run again and again, each time later; then it must go through, with the same outcome as ever."""
    chance = random.Random(1916)
    for moment in (3, 6, 9, 13, 18, 24, 30):
        process = start(tmp_path, "run")
        time.sleep(moment + chance.random() * 3)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + 10
        while children_of(process.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert children_of(process.pid) == []
    told = command(tmp_path, "run", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["ok"]
    ledger = Ledger(tmp_path / ".datafabriek" / "ledger" / "ledger.sqlite")
    accepted = [event for event in ledger.events("delivery") if event.payload["status"] == "ontvangen"]
    assert len(accepted) == 14


def children_of(session: int) -> list[str]:
    """Processes that still live in the session of a process that is gone."""
    told = subprocess.run(["ps", "-o", "args=", "--sid", str(session)], capture_output=True, text=True, check=False)
    return told.stdout.splitlines()
