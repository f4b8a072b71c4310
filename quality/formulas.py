"""Text that a spreadsheet would run as a formula when it opens a CSV file, made into text that it shows.

After OWASP, CSV Injection: an apostrophe in front of what begins with `=`, `+`, `-`, `@`, a tab or a line break. Where
a value stands in more forms than CSV (DuckDB, Parquet), those keep it as it is: only a spreadsheet runs it.
"""

from __future__ import annotations

import re

_FORMULA = "[\t\r\n]|\\s*[=+\\-@\uff1d\uff0b\uff0d\uff20]"
"""Spaces before the sign are no help, and a full-width sign counts as one."""

_BEGINS = re.compile(_FORMULA)


def neutral(value: str) -> str:
    """A value that a spreadsheet takes for text."""
    return f"'{value}" if _BEGINS.match(value) else value


def neutral_sql(column: str) -> str:
    """The same of a text column, in DuckDB's SQL; `column` is quoted already."""
    return f"CASE WHEN regexp_matches({column}, '^({_FORMULA})') THEN '''' || {column} ELSE {column} END"
