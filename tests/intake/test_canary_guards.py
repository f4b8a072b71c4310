"""Guards in a real factory, attacked: what would leak a value is stopped, or the value is taken out."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.deliveries.assets import build
from datafabriek.config import Settings
from datafabriek.discretion import is_bsn, without_bsn
from quality.privacy.identifying import identifying_values

NAME, BSN = "Kanariepietersz", "999990019"
WORDS = (NAME, BSN)


# --- exceptions -------------------------------------------------------------------------------------------------


def _chained() -> Exception:
    try:
        try:
            int(f"{NAME} {BSN}")
        except ValueError as cause:
            raise KeyError(BSN) from cause
    except KeyError as error:
        return error


RAISED: dict[str, Callable[[], Exception]] = {
    "value": lambda: ValueError(f"invalid literal for int(): {BSN!r} of {NAME}"),
    "key": lambda: KeyError(NAME),
    "encoding": lambda: UnicodeDecodeError("utf-8", f"{NAME};{BSN}".encode(), 0, 1, "invalid start byte"),
    "file name": lambda: PermissionError(13, "Permission denied", f"/inbox/brp/{NAME} {BSN}.csv"),
    "engine": lambda: duckdb.ConversionException(f"Could not convert string '{BSN}' of {NAME}"),
    "assertion": lambda: AssertionError({"naam": NAME, "bsn": BSN}),
    "cause and context": _chained,
}

PLACES = [
    ("vault/bedrijven", "assets.deliveries.intake.judged"),
    ("vault/bedrijven", "assets.deliveries.intake.Arrival.of"),
    ("vault/bedrijven", "assets.deliveries.intake._report"),
    ("raw_zzp/bedrijven", "assets.deliveries.purposes._write"),
    ("raw_leveringen/stand", "assets.deliveries.assets.write_standing"),
    ("raw_leveringen/bewaring", "assets.deliveries.assets.expire"),
]


@pytest.mark.parametrize(("asset", "place"), PLACES, ids=[place for _, place in PLACES])
def test_no_exception_takes_a_value_along(
    factory: Settings,
    delivered: tuple[Path, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    asset: str,
    place: str,
) -> None:
    factory = factory.model_copy(update={"deliveries": {"bedrijven": factory.deliveries["bedrijven"]}})
    shutil.copytree(delivered[0] / "bedrijven", factory.paths.inbox / "bedrijven", dirs_exist_ok=True)
    assets, _ = build(factory)
    wanted = dg.AssetSelection.assets(asset.split("/")) | dg.AssetSelection.assets(["vault", "bedrijven"])
    for kind, make in RAISED.items():

        def fail(*_: object, make: Callable[[], Exception] = make, **__: object) -> None:
            raise make()

        with monkeypatch.context() as patch, dg.DagsterInstance.local_temp(str(factory.paths.dagster)) as instance:
            patch.setattr(place, fail)
            result = dg.materialize(assets, instance=instance, selection=wanted, raise_on_error=False)
        failed = [event for event in result.all_events if event.is_step_failure]
        unrenewed = [each.check_name for each in result.get_asset_check_evaluations() if not each.passed]
        assert failed or unrenewed, f"{kind} was never raised"
    held = "".join(capfd.readouterr())
    for path in factory.paths.root.rglob("*"):
        if path.is_file() and factory.paths.keys not in path.parents:
            held += path.read_bytes().decode("latin-1")
    assert "kept back because it may hold personal values" in held
    assert not [word for word in WORDS if word in held]


# --- logs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"regel 12: {BSN} bestaat niet", "regel 12: … bestaat niet"),
        (f"bsn={BSN}, bsn='{BSN}'; ({BSN})", "bsn=…, bsn='…'; (…)"),
        ("999 990 019 en 9999.90.019", "… en …"),
        ("10000008", "…"),  # a leading zero was lost
        ("123456789 rijen in 4 s", "123456789 rijen in 4 s"),
        (
            "bus-2020-01-437ab13cb487 20201231 2026-11-22 03:06:23",
            "bus-2020-01-437ab13cb487 20201231 2026-11-22 03:06:23",
        ),
        ("a999990019b 1999990019 0.999990019", "a999990019b 1999990019 0.999990019"),
        ("000000000", "000000000"),
    ],
)
def test_a_bsn_is_taken_out_of_a_line_and_other_numbers_stay(text: str, told: str) -> None:
    assert without_bsn(text) == told


@given(st.text(), st.integers(10_000_000, 999_999_999))
def test_no_line_keeps_a_bsn_and_taking_out_twice_is_once(text: str, number: int) -> None:
    line = f"{text} {number} {text}"
    once = without_bsn(line)
    assert without_bsn(once) == once
    assert not is_bsn(str(number)) or not re.search(rf"(?<=\s){number}(?=\s)", once) or f" {number} " in f" {text} "


def test_no_logger_writes_a_bsn_once_the_net_is_up() -> None:
    code = f"""
        import logging, sys
        from datafabriek import discretion
        discretion.install(); discretion.install()
        logging.basicConfig(stream=sys.stdout, level="DEBUG")
        log = logging.getLogger("dagster.some.library")
        log.info("regel %d heeft %s", 12, "{BSN}")
        log.warning({{"bsn": {BSN}}})
        log.info("te weinig %s %s", 1)
        try:
            int("x {BSN}")
        except ValueError:
            log.exception("mislukt")
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "regel 12 heeft …" in done.stdout
    assert "ValueError" in done.stdout
    # what logging says of a line that cannot be made is its own; no value was in it
    assert BSN not in done.stdout
    assert "{'bsn': …}" in done.stdout


def test_the_command_line_and_the_ui_put_the_net_up() -> None:
    code = """
        import atexit, logging, sys
        from datafabriek import cli
        atexit.register(lambda: print(logging.getLogRecordFactory().is_discreet))
        sys.argv = ["datafabriek", "--version"]
        cli.main()
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1] == "True", done.stderr
    from datafabriek import definitions

    before = logging.getLogRecordFactory()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(definitions, "load_settings", lambda: None)
            patch.setattr(definitions, "build", lambda _settings: dg.Definitions())
            definitions.defs()
        assert getattr(logging.getLogRecordFactory(), "is_discreet", False)
    finally:
        logging.setLogRecordFactory(before)


# --- columns ----------------------------------------------------------------------------------------------------


def _bsns(count: int) -> list[int]:
    return [number for number in range(100_000_000, 100_000_000 + 20 * count) if is_bsn(str(number))][:count]


@pytest.mark.parametrize("kind", ["INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "DECIMAL(18, 4)"])
def test_a_numeric_column_of_bsns_is_known_as_one(kind: str) -> None:
    numbers = ", ".join(f"({number})" for number in _bsns(40))
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE t AS SELECT n::{kind} AS klantnummer FROM (VALUES {numbers}) v(n)")
        assert identifying_values(con, "main", "t") == {"klantnummer:bsn": 40}


def test_numbers_that_pass_by_chance_are_no_bsns() -> None:
    with duckdb.connect() as con:
        con.execute("""CREATE TABLE t AS SELECT 100000000 + i AS omzet, i AS jaar, i / 3 AS waarde, NULL::BIGINT AS leeg
            FROM range(5000) t(i)""")
        assert identifying_values(con, "main", "t") == {}
