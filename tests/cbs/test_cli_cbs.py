"""`datafabriek cbs`: what it prints, what it exits with, and that a user's mistake shows no traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from datafabriek.cli import main
from datafabriek.sample.server import Fault, ServedTable, StandIn

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    serve: Callable[..., StandIn],
    make_table: Callable[..., ServedTable],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run `datafabriek cbs …` in an empty folder against the stand-in; exit code, output, errors."""
    server = serve(make_table())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("DATAFABRIEK_CBS__ODATA4_URL", server.odata4)
    monkeypatch.setenv("DATAFABRIEK_CBS__ODATA3_URL", server.odata3)
    monkeypatch.setenv("DATAFABRIEK_CBS__DERDEN_URL", server.derden)
    monkeypatch.setenv("DATAFABRIEK_CBS__RETRIES", "0")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["datafabriek", "cbs", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return int(stopped.value.code or 0), told.out, told.err

    return call


def test_search(run: Run, serve: Callable[..., StandIn]) -> None:
    code, out, _ = run("search", "PROEF", "--json")
    assert (code, [row["id"] for row in json.loads(out)]) == (0, ["99999NED"])
    assert json.loads(run("search", "olifant", "--json")[1]) == []
    assert "Proeftabel" in run("search", "proeftabel")[1]


def test_search_by_region_is_cached(run: Run, tmp_path: Path) -> None:
    assert len(json.loads(run("search", "proef", "--region", "GM1916", "--json")[1])) == 1
    assert json.loads(run("search", "proef", "--region", "GM0363", "--json")[1]) == []
    cached = json.loads((tmp_path / ".datafabriek" / "landing" / "regions.json").read_text())
    assert sorted(cached.values()) == [False, True]


def test_show(run: Run) -> None:
    told = json.loads(run("show", "99999NED", "--json")[1])
    assert [d["kind"] for d in told["dimensions"]] == ["GeoDimension", "TimeDimension"]
    assert "Bevolking > Inwoners" in run("show", "99999NED")[1]


def test_fetch(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("fetch", "99999NED", "--json")
    told = json.loads(out)
    assert (code, told["observations"], told["changed"]) == (0, 250, True)
    assert not json.loads(run("fetch", "99999NED", "--json")[1])["changed"]
    with duckdb.connect(str(tmp_path / "99999NED.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM observations").fetchone() == (250,)


def test_fetch_leaves_other_tables_of_the_file_alone(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine.duckdb"
    with duckdb.connect(str(target)) as connection:
        connection.execute("CREATE TABLE keep AS SELECT 1 AS a")
    assert run("fetch", "99999NED", "--into", str(target), "--filter", "RegioS eq 'GM0518'")[0] == 0
    with duckdb.connect(str(target), read_only=True) as connection:
        assert connection.execute("FROM keep").fetchone() == (1,)
        assert connection.execute("SELECT DISTINCT RegioS::VARCHAR FROM observations").fetchall() == [("GM0518",)]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("fetch", "99999ned"), 2, "did you mean 99999NED"),
        (("show", "nothing"), 2, "cbs search"),
        (("fetch", "99999NED", "--filter", "Regio eq 'x'"), 2, "did you mean `RegioS`"),
        (("fetch", "99999NED", "--into", "no/such/folder.duckdb"), 2, "make it first"),
        (("fetch", "99999NED", "--into", "."), 2, "is a folder"),
        (("fetch", "99999NED", "--into", "text.duckdb"), 2, "cannot be used as a DuckDB file"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], code: int, told: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("no database")
    found = run(*arguments)
    assert found[0] == code
    assert told in found[2].replace("\n", " ")


def test_file_open_elsewhere(run: Run, tmp_path: Path) -> None:
    import subprocess

    target = tmp_path / "busy.duckdb"
    script = f"import duckdb, sys; c = duckdb.connect({str(target)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        code, _, err = run("fetch", "99999NED", "--into", str(target))
        other.stdin.close()
    assert code == 2 and "open in another program" in err


def test_outage(run: Run, faults: list[Fault]) -> None:
    faults.append(Fault("error", ".", times=99))
    code, _, err = run("fetch", "99999NED")
    assert code == 4 and "did not answer" in err


def test_search_tells_an_outage_once(run: Run, faults: list[Fault], caplog: pytest.LogCaptureFixture) -> None:
    faults.append(Fault("error", ".", times=99))
    code, _, err = run("search", "proef")
    assert code == 4 and "did not answer" in err
    assert "left out" not in caplog.text


def test_search_without_results_says_so(run: Run) -> None:
    code, out, _ = run("search", "bestaatniet")
    assert code == 0 and "no table has 'bestaatniet'" in out
    assert "1 table\n" in run("search", "proeftabel")[1]


def test_region_that_is_no_region_code(run: Run) -> None:
    code, _, err = run("search", "proef", "--region", "Den Haag")
    assert code == 2 and "GM1916" in err


def test_half_file_of_a_fetch_that_was_killed_is_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".99999NED.duckdb.partial").write_bytes(b"half")
    assert run("fetch", "99999NED")[0] == 0
    assert [path.name for path in tmp_path.glob("*NED*")] == ["99999NED.duckdb"]
    assert not list(tmp_path.glob(".*.partial"))
