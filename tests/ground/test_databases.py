"""The lock, the warehouse and the vault."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from datafabriek.config import Home, Resources, Roots
from datafabriek.locking import FactoryBusyError, factory_lock, is_taken, process_mark
from datafabriek.warehouse import WarehouseError, literal, memory, quoted, vault, warehouse

LIMITS = Resources(memory_limit="200MB", threads=1)
KEY = bytes(range(32))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home", Roots())
    home.create()
    return home


def _hold(path: Path) -> subprocess.Popen[str]:
    code = (
        "import sys, time; from pathlib import Path; from datafabriek.locking import factory_lock\n"
        "with factory_lock(Path(sys.argv[1]), 'nachtelijke run'):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_told_who_holds_the_lock_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "factory.lock"
    holder = _hold(path)
    try:
        with pytest.raises(FactoryBusyError, match=rf"process {holder.pid} \(nachtelijke run, since"):
            with factory_lock(path, "intake"):
                pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
    with factory_lock(path, "intake"), factory_lock(path, "again, in the same process"):
        assert path.stat().st_size > 0
    assert path.stat().st_size == 0


def test_an_unread_warehouse_is_told(home: Home) -> None:
    with pytest.raises(WarehouseError, match="datafabriek run"):
        with warehouse(home, LIMITS, read_only=True):
            pass


@pytest.mark.parametrize("address", ["https://127.0.0.1:1/x.csv", "s3://bucket/x.csv", "hf://datasets/a/b/x.csv"])
def test_no_connection_reads_or_writes_over_the_network(home: Home, address: str) -> None:
    with warehouse(home, LIMITS) as connection, pytest.raises(duckdb.PermissionException, match="disabled"):
        connection.execute(f"SELECT * FROM read_csv('{address}')")
    with vault(home, LIMITS, KEY) as connection, pytest.raises(duckdb.PermissionException, match="disabled"):
        connection.execute(f"COPY (SELECT 1) TO '{address}'")


def test_the_vault_keeps_nothing_in_plain(home: Home) -> None:
    with vault(home, LIMITS, KEY) as connection:
        connection.execute("CREATE TABLE vault.personen AS SELECT 'Kanarie van Geheimenstein' AS naam FROM range(5000)")
    stored = home.vault_database.read_bytes()
    assert b"Kanarie" not in stored and b"personen" not in stored
    assert home.vault_database.stat().st_mode & 0o777 == 0o600
    with vault(home, LIMITS, KEY) as connection:
        assert connection.execute("SELECT count(*) FROM vault.personen").fetchone() == (5000,)


def test_a_wrong_key_is_told_and_is_not_in_the_message(home: Home) -> None:
    with vault(home, LIMITS, KEY) as connection:
        connection.execute("CREATE TABLE vault.t (a INTEGER)")
    wrong = bytes(reversed(KEY))
    with pytest.raises(WarehouseError, match="key restore") as caught:
        with vault(home, LIMITS, wrong):
            pass
    assert wrong.hex() not in str(caught.value) and KEY.hex() not in str(caught.value)


@pytest.mark.parametrize("which", ["vault", "warehouse", "memory"])
def test_a_query_that_outgrows_its_memory_spills_encrypted(home: Home, which: str) -> None:
    rows = 400_000
    seen = b""
    limits = Resources(memory_limit="60MB", threads=1)
    opened = {"vault": vault(home, limits, KEY), "warehouse": warehouse(home, limits), "memory": memory(home, limits)}
    with opened[which] as connection:
        connection.execute("SET preserve_insertion_order = false")
        reader = connection.execute(
            f"SELECT repeat('Kanarie', 20) || i AS naam FROM range({rows}) r(i) ORDER BY hash(i)"
        ).to_arrow_reader(1000)
        reader.read_next_batch()
        deadline = time.monotonic() + 5
        while not seen and time.monotonic() < deadline:
            seen = b"".join(path.read_bytes() for path in home.temp.rglob("*") if path.is_file())
    assert seen, "this query must spill, or the test proves nothing"
    assert b"KanarieKanarie" not in seen


@pytest.mark.parametrize("name", ["x", "x'; DROP TABLE t; --", 'a"b', "é"])
def test_quoting_survives_any_name(home: Home, name: str) -> None:
    with warehouse(home, LIMITS) as connection:
        connection.execute(f"CREATE OR REPLACE TABLE {quoted(name)} AS SELECT {literal(name)} AS v")
        assert connection.execute(f"SELECT v FROM {quoted(name)}").fetchone() == (name,)


def test_a_lock_file_left_by_a_power_cut_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "factory.lock"
    assert not is_taken(path)
    with factory_lock(path, "intake"):
        assert is_taken(path)
        left = path.read_text()
    path.write_text(left.replace(process_mark(), f"{os.getpid()}:1"))  # the same number, another process
    assert not is_taken(path)
