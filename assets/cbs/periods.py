"""CBS period codes, parsed to a start date and a frequency.

A code is four digits of the year, a kind and a number: `2023JJ00`, `2023KW02`, `2023MM11`, `2023W104` (weeks),
`20230131` (days), `2013X000`-`X005` (Iv3: budget, quarters, accounts), `2023HJ01`, `2022SJ00` (school years),
`2015G400` (a span of years). Kinds that are not known keep their rows: start and frequency are then empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

YEAR, HALF, QUARTER, MONTH, WEEK, DAY = "jaar", "halfjaar", "kwartaal", "maand", "week", "dag"
SCHOOL_YEAR, SPAN, BUDGET, ACCOUNTS = "schooljaar", "meerjarig", "begroting", "jaarrekening"
FREQUENCIES = (YEAR, HALF, QUARTER, MONTH, WEEK, DAY, SCHOOL_YEAR, SPAN, BUDGET, ACCOUNTS)

_CODE = re.compile(r"(?P<year>\d{4})(?P<kind>[A-Z][A-Z0-9])(?P<number>\d{2})")
_SPAN = re.compile(r"(?P<year>\d{4})G\d{3}")
_DAY = re.compile(r"\d{8}")


@dataclass(frozen=True, slots=True)
class Period:
    """When a period starts and how long it lasts in CBS's terms; both None where the code is of an unknown kind."""

    start: date | None
    frequency: str | None


UNKNOWN = Period(None, None)


def parse_period(code: str) -> Period:
    """Start and frequency of a period code; spaces around it do not matter.

    Weeks start on the Monday of the ISO week, school years on 1 August (Wet op het primair onderwijs, art. 1),
    spans of years on 1 January of the year they are coded under.
    """
    code = code.strip()
    try:
        if _DAY.fullmatch(code):
            return Period(date(int(code[:4]), int(code[4:6]), int(code[6:])), DAY)
        if span := _SPAN.fullmatch(code):
            return Period(date(int(span["year"]), 1, 1), SPAN)
        if found := _CODE.fullmatch(code):
            return _of_kind(int(found["year"]), found["kind"], int(found["number"]))
    except ValueError:  # no such date: month 13, week 60, year 0
        return UNKNOWN
    return UNKNOWN


def _of_kind(year: int, kind: str, number: int) -> Period:
    match kind:
        case "JJ":
            return Period(date(year, 1, 1), YEAR)
        case "SJ":
            return Period(date(year, 8, 1), SCHOOL_YEAR)
        case "HJ":
            return Period(date(year, 6 * number - 5, 1), HALF)
        case "KW":
            return Period(date(year, 3 * number - 2, 1), QUARTER)
        case "MM":
            return Period(date(year, number, 1), MONTH)
        case "W1":
            return Period(date.fromisocalendar(year, number, 1), WEEK)
        case "X0":
            return _iv3(year, number)
    return UNKNOWN


def _iv3(year: int, number: int) -> Period:
    """Iv3, the accounts of municipalities: X000 budget, X001-X004 quarters, X005 annual accounts."""
    if number == 0:
        return Period(date(year, 1, 1), BUDGET)
    if number == 5:
        return Period(date(year, 1, 1), ACCOUNTS)
    return Period(date(year, 3 * number - 2, 1), QUARTER) if number < 5 else UNKNOWN
