"""What may not stand in a log: numbers that are a BSN by the eleven-test, whoever wrote the line.

Belongs here: the last net under messages that no one meant to hold a value. Does not belong here: what a message should
say; names and addresses cannot be told from other words, so no message may be built from a row at all.
"""

from __future__ import annotations

import logging
import re
import traceback
from typing import Any

_NUMBER = re.compile(r"(?<![\w.-])(\d{8,9}|\d{3}[ .]\d{3}[ .]\d{3}|\d{4}[ .]\d{2}[ .]\d{3})(?![\w-])")
_WEIGHTS = (9, 8, 7, 6, 5, 4, 3, 2, -1)


def is_bsn(digits: str) -> bool:
    """Whether 8 or 9 digits pass the eleven-test (Logisch Ontwerp BSN): the weighted sum is a multiple of 11, not 0."""
    padded = digits.zfill(9)
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, padded, strict=True))
    return total % 11 == 0 and any(digit != "0" for digit in padded)


def without_bsn(text: str) -> str:
    """The text with an ellipsis for every number that may be a BSN, as one in eleven of that length may."""
    return _NUMBER.sub(lambda found: "…" if is_bsn(re.sub(r"\D", "", found[0])) else found[0], text)


def printable(text: str) -> str:
    """The text with `?` for every sign that would move the cursor of a terminal, as a file's name may hold."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)


def install() -> None:
    """Let no logger of this process write a BSN, those of libraries included; a second call changes nothing."""
    make = logging.getLogRecordFactory()
    if getattr(make, "is_discreet", False):
        return

    def discreet(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # logging itself tells that the line cannot be made
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        told = "".join(traceback.format_exception(error)) if error is not None else ""
        if without_bsn(told) != told:
            message, record.exc_info = f"{message}\n{told}", None
        if (shown := without_bsn(message)) != message:
            record.msg, record.args = shown, ()
        return record

    discreet.is_discreet = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(discreet)
