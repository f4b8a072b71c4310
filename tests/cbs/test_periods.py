"""Every kind of period code, and that no code makes the parser fail."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.cbs.periods import FREQUENCIES, UNKNOWN, Period, parse_period


@pytest.mark.parametrize(
    ("code", "start", "frequency"),
    [
        ("2023JJ00", "2023-01-01", "jaar"),
        ("2023JJ00  ", "2023-01-01", "jaar"),
        ("2023HJ02", "2023-07-01", "halfjaar"),
        ("2023KW04", "2023-10-01", "kwartaal"),
        ("2023MM11", "2023-11-01", "maand"),
        ("2023W101", "2023-01-02", "week"),
        ("2020W153", "2020-12-28", "week"),
        ("20060101", "2006-01-01", "dag"),
        ("20240229", "2024-02-29", "dag"),
        ("2013X000", "2013-01-01", "begroting"),
        ("2013X003", "2013-07-01", "kwartaal"),
        ("2013X005", "2013-01-01", "jaarrekening"),
        ("2022SJ00", "2022-08-01", "schooljaar"),
        ("2015G400", "2015-01-01", "meerjarig"),
    ],
)
def test_kind(code: str, start: str, frequency: str) -> None:
    assert parse_period(code) == Period(date.fromisoformat(start), frequency)
    assert frequency in FREQUENCIES


@pytest.mark.parametrize(
    "code", ["", "2023", "2023ZZ01", "2023MM13", "2023KW05", "2021W153", "20230230", "0000JJ00", "2013X006", "2023W205"]
)
def test_what_is_no_period_is_kept_without_a_date(code: str) -> None:
    assert parse_period(code) == UNKNOWN


@given(st.text(max_size=12))
def test_never_fails(code: str) -> None:
    period = parse_period(code)
    assert (period.start is None) == (period.frequency is None)


@given(st.dates(date(1000, 1, 1)))
def test_days_and_weeks_start_where_the_calendar_says(day: date) -> None:
    assert parse_period(f"{day:%Y%m%d}".zfill(8)).start == day
    year, week, weekday = day.isocalendar()
    if year <= 9999:
        assert parse_period(f"{year:04}W1{week:02}").start == day - timedelta(days=weekday - 1)


def test_every_recorded_code_is_understood(recorded: dict[str, Any], shared_data: Path) -> None:
    codes = [c.identifier for table, _ in recorded.values() if table.meta.time for c in table.meta.time.codes]
    assert len(codes) > 8000
    assert [code for code in codes if parse_period(code) == UNKNOWN] == []
    assert all(str(parse_period(code).start)[:4] == re.match(r"\d{4}", code)[0] for code in codes)  # type: ignore[index]
