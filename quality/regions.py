"""The form of the region codes of CBS: the one owner of what a code of each level looks like.

A gemeente has four digits. Within it wijken have two further characters and buurten four; most municipalities use
digits, some letters too (BU0363AF08 is a buurt of Amsterdam).
"""

from __future__ import annotations

from types import MappingProxyType

CODES = MappingProxyType(
    {
        "NL": "NL00",
        "LD": "LD[0-9]{2}",
        "PV": "PV[0-9]{2}",
        "CR": "CR[0-9]{2}",
        "GM": "GM[0-9]{4}",
        "WK": "WK[0-9]{4}[0-9A-Z]{2}",
        "BU": "BU[0-9]{4}[0-9A-Z]{4}",
        "PC": "PC[0-9]{4}[1-9][0-9]{3}",
        "P6": "P6[0-9]{4}[1-9][0-9]{3}[A-Z]{2}",
        "ONB": "ON[BP][0-9]{4}",
    }
)
"""A regular expression per level, without anchors.

The last three are the factory's own: postcodes per municipality (`PC` and `P6`, its four digits, four or six signs),
and what is in an unknown buurt (ONB) or postcode (ONP).
"""

LEVELS = tuple(level for level in CODES if level not in ("PC", "P6", "ONB"))
"""Levels of CBS's own codes, the widest first."""


def form(*levels: str) -> str:
    """An anchored regular expression for codes of these levels.

    Args:
        levels: keys of `CODES`; all of CBS's own where none is named.
    """
    return f"^(?:{'|'.join(CODES[level] for level in levels or LEVELS)})$"
