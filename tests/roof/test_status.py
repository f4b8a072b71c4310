"""Status from the ledger alone; lateness from factory.yaml and the contract's promised term."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from typer.testing import CliRunner

from assets.cbs.freshness import note_checked
from assets.release.waivers import accept
from datafabriek import status
from datafabriek.alerts import AlertError
from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, Settings
from datafabriek.ledger import Ledger

BUS = 'deliveries: {bus: {expected_from: "2020-06", expected_until: "2020-09"}}\n'
NOW = datetime(2020, 10, 20, tzinfo=UTC)


def accepted(ledger: Ledger, period: str) -> None:
    ledger.append("delivery", "bus", {"period": period, "status": "ontvangen", "delivered": 3})


def test_a_month_that_never_came_is_missing_once_its_term_passed(factory: Callable[..., Settings]) -> None:
    settings = factory(BUS)
    ledger = Ledger(settings.paths.ledger)
    accepted(ledger, "2020-06")
    ledger.append("delivery", "bus", {"period": "2020-07", "status": "geweigerd"})
    found = status.read_status(settings, NOW).missing
    # August was due on 28 September; September, due on 28 October, may still come
    assert [(item.delivery, item.period, item.days_late) for item in found] == [
        ("bus", "2020-07", 53),
        ("bus", "2020-08", 22),
    ]
    assert found[1].due == date(2020, 9, 28)


def test_many_missing_periods_are_told_in_one_line(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory('deliveries: {bus: {expected_from: "2020-01", expected_until: "2020-12"}}\n')
    accepted(Ledger(settings.paths.ledger), "2020-05")
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    told = [line for line in CliRunner().invoke(app, ["status"]).output.splitlines() if "missing" in line]
    assert len(told) == 1
    assert "bus 2020-01 … 2020-12 (11 periods)" in told[0]


def test_a_waived_norm_is_told_with_its_reason_and_last_day(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory(BUS)
    accept(Ledger(settings.paths.ledger), "onbekende_buurt_pct", "nieuwe adressen", date(2999, 1, 1), NOW.date())
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    told = CliRunner().invoke(app, ["status"]).output
    assert "waived onbekende_buurt_pct until 2999-01-01: nieuwe adressen" in told


def test_lateness_is_told_once(factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = factory(BUS)
    told: list[object] = []
    monkeypatch.setattr(status, "alert", lambda _settings, message: told.append(message))
    assert [item.period for item in status.announce_late(settings, NOW.date())] == ["2020-06", "2020-07", "2020-08"]
    assert status.announce_late(settings, NOW.date()) == []
    assert len(told) == 1
    accepted(Ledger(settings.paths.ledger), "2020-06")
    assert [item.period for item in status.announce_late(settings, date(2020, 12, 1))] == ["2020-09"]


def test_an_alert_that_did_not_arrive_is_tried_again(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory(BUS + "alerts: {webhook: 'http://127.0.0.1:9/'}\n")
    for _ in range(2):
        with pytest.raises(AlertError):
            status.announce_late(settings, NOW.date())
    monkeypatch.setattr(status, "alert", lambda _settings, _message: [])
    assert len(status.announce_late(settings, NOW.date())) == 3


def test_a_source_is_stale_until_it_is_renewed(factory: Callable[..., Settings]) -> None:
    settings = factory()
    ledger = Ledger(settings.paths.ledger)
    ledger.append("cbs_load", "raw_cbs.regios", {"tabel": "03759ned"})
    ledger.append("stale", "raw_cbs.regios", {"reden": "CBS did not answer"})
    (source,) = status.read_status(settings).sources
    assert source.stale_since is not None
    ledger.append("cbs_load", "raw_cbs.regios", {"tabel": "03759ned"})
    (source,) = status.read_status(settings).sources
    assert source.stale_since is None


def test_status_writes_nothing_and_needs_no_warehouse(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory(BUS)
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    before = sorted(settings.paths.root.rglob("*"))
    result = CliRunner().invoke(app, ["status", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["last_run"] is None
    assert sorted(settings.paths.root.rglob("*")) == before
    told = CliRunner().invoke(app, ["status"]).output
    assert "no run has ended yet" in told
    assert "missing" not in told, "before the first run nothing can be said to lack"


def test_status_tells_stopped_stale_and_never_taken_in_apart(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory()
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    monkeypatch.setenv("COLUMNS", "80")
    ledger = Ledger(settings.paths.ledger)
    ledger.append("cbs_load", "raw_cbs.kerncijfers_wijken_en_buurten", {"rijen": 3})
    ledger.append("stale", "raw_cbs.kerncijfers_wijken_en_buurten", {"rijen": 3})
    ledger.append("stale", "raw_cbs.regios", {"rijen": None})
    ledger.append("run", "nachtelijke_run", {"ok": False, "failures": [], "stopped": True})
    told = CliRunner().invoke(app, ["status"]).output
    assert "stopped; the next run carries on" in told
    assert "kerncijfers_wijken_en_buurten" in told, "names are whole at 80 columns"
    lines = {word: line for line in told.splitlines() for word in ("kerncijfers", "regios") if word in line}
    assert "~" in lines["kerncijfers"]
    assert "✗" in lines["regios"]
    assert "never" in lines["regios"]


def test_a_misspelt_folder_or_delivery_is_told(
    factory: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = factory('deliveries: {bus: , burp: {expected_from: "2020"}}\n')
    monkeypatch.setenv(FACTORY_ENV, str(settings.source))
    inbox = settings.paths.inbox
    for folder, name in (("bus", "BUS_202003.txt"), ("buss", "jansen.txt"), ("brp", "a.csv"), ("brp", "b.csv.part")):
        (inbox / folder).mkdir(exist_ok=True)
        (inbox / folder / name).write_text("x")
    (inbox / "loose.csv").write_text("x")
    found = status.read_status(settings)
    assert [(left.folder, left.files, left.meant) for left in found.unclaimed] == [
        ("", 1, None),
        ("brp", 1, "burp"),
        ("buss", 1, "bus"),
    ]
    told = CliRunner().invoke(app, ["status"])
    assert told.exit_code == 0, told.output
    assert "1 file in inbox/buss: no run takes it in; did you mean `bus`?" in told.output
    assert "jansen" not in told.output, "names of files may tell of persons"
    assert "`deliveries.burp`: no contract is called `burp`; did you mean `brp`?" in told.output


def test_an_unchanged_table_was_checked_since(factory: Callable[..., Settings]) -> None:
    settings = factory()
    loaded = Ledger(settings.paths.ledger).append("cbs_load", "raw_cbs.regios", {"rijen": 3, "tabellen": {}})
    note_checked(settings.paths.checked_cbs, "raw_cbs.regios", "2030-01-01T00:00:00+00:00")
    (source,) = status.read_status(settings).sources
    assert (source.at, source.checked) == (loaded.at, "2030-01-01T00:00:00+00:00")
    settings.paths.checked_cbs.write_text("{")
    (source,) = status.read_status(settings).sources
    assert source.checked is None


def test_a_withdrawn_release_no_longer_stands(factory: Callable[..., Settings]) -> None:
    ledger = Ledger(factory(BUS).paths.ledger)
    assert not status.is_anything_released(ledger)
    ledger.append("publication", "intern", {"release": "2020-1"})
    assert status.is_anything_released(ledger)
    ledger.append("publication", "intern", {"release": None})
    assert not status.is_anything_released(ledger)
    ledger.append("publication", "open", {"release": "2020-2"})
    assert status.is_anything_released(ledger)


def test_light_commands_load_no_engine(factory: Callable[..., Settings]) -> None:
    settings = factory(BUS)
    words = [["--help"], ["run", "--help"], ["status"], ["release", "list"], ["init", "--help"], ["contract", "--help"]]
    script = (
        "import sys\nfrom datafabriek.cli import app\n"
        f"for words in {words}:\n    app(words, standalone_mode=False)\n"
        "heavy = {'dagster', 'dbt', 'pandera', 'great_expectations', 'polars', 'pandas', 'highspy', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    environment = os.environ | {FACTORY_ENV: str(settings.source)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"loaded: {done.stderr}"
    assert "Proef" in done.stdout
