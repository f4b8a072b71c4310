"""Certificates: what was proved of a published table, in a form that others can check.

The public certificate holds fingerprints, the policy's name and version, and for every hidden cell the interval
that an attacker is left with, computed from the published values alone. It never tells which cells were unsafe
and holds no parameter of a rule. The sealed one holds what the organisation needs to account for the choice; it
belongs in the vault.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from quality.disclosure.auditor import Audit
from quality.disclosure.errors import DisclosureError
from quality.disclosure.spec import Policy
from quality.disclosure.table import Bools, Floats, System, Table

FORMAT = "datafabriek-disclosure/1"


def published_fingerprint(table: Table, rounded: Bools) -> str:
    """SHA-256 over the published rows in order: codes, values, and which are rounded."""
    return hashlib.sha256((table.fingerprint() + rounded.tobytes().hex()).encode()).hexdigest()


def public_certificate(
    system: System,
    policy: Policy,
    result: Audit,
    *,
    rounded: Bools,
    minimum_width: float | None,
    tables: int,
    earlier: Sequence[str] = (),
) -> dict[str, Any]:
    """The public evidence for the first `tables` tables of the system; the rest are earlier releases."""
    parts = []
    for table, cells in list(zip(system.tables, system.cell_of, strict=True))[:tables]:
        hidden = np.flatnonzero(result.hidden[cells])
        parts.append(
            {
                "name": table.name,
                "measure": table.measure,
                "rows": len(table),
                "hidden": len(hidden),
                "fingerprint": published_fingerprint(table, rounded[cells]),
                "row": hidden.tolist(),
                "lower": [_number(v) for v in result.lower[cells[hidden]]],
                "upper": [_number(v) for v in result.upper[cells[hidden]]],
            }
        )
    attacker = policy.attacker
    return {
        "format": FORMAT,
        "policy": {"name": policy.name, "version": policy.version, "source": policy.source},
        "attacker": {
            "knows_zeros_and_norm": attacker.knows_norm,
            "lower": attacker.lower,
            "upper": attacker.upper,
        },
        "rounding": None
        if policy.rounding is None
        else {"base": policy.rounding.base, "method": policy.rounding.method},
        "minimum_width": minimum_width,
        "narrowest": _number(result.narrowest),
        "exact": bool(result.exact[result.hidden].all()),
        "earlier": list(earlier),
        "tables": parts,
    }


def sealed_certificate(
    system: System, hidden: Bools, unsafe: Bools, lpl: Floats, upl: Floats, facts: dict[str, Any]
) -> dict[str, Any]:
    """What stays in the vault: which cells were unsafe, the levels that were asked, how the pattern came about."""
    cells = np.flatnonzero(hidden)
    return {
        "format": f"{FORMAT}/sealed",
        "input": [table.fingerprint() for table in system.tables],
        "cells": [system.name(int(c)) for c in cells],
        "unsafe": unsafe[cells].tolist(),
        "lpl": [_number(v) for v in np.where(unsafe, lpl, 0.0)[cells]],
        "upl": [_number(v) for v in np.where(unsafe, upl, 0.0)[cells]],
        **facts,
    }


def check_certificate(
    certificate: dict[str, Any], system: System, rounded: Bools, result: Audit, *, tables: int | None = None
) -> list[str]:
    """What does not fit between a certificate and a fresh audit of the published tables; empty when all holds.

    Args:
        certificate: as read.
        system: the published tables first, then what was published earlier.
        rounded: cells whose published value is rounded.
        result: the fresh audit.
        tables: how many of the system's tables it covers; all by default.

    Raises:
        DisclosureError: not a certificate of this format.
    """
    if not isinstance(certificate, dict) or certificate.get("format") != FORMAT:
        raise DisclosureError(f"the certificate is not of the format {FORMAT}")
    told: list[str] = []
    tables = len(system.tables) if tables is None else tables
    try:
        parts = [
            (
                part["fingerprint"],
                np.array(part["row"], dtype=np.int64),
                _ends(part["lower"]),
                -_ends(part["upper"], -1),
            )
            for part in certificate["tables"]
        ]
    except (KeyError, TypeError, ValueError):
        raise DisclosureError("the certificate lacks what it should tell of each table; make it anew") from None
    if len(parts) != tables:
        raise DisclosureError(f"the certificate covers {len(parts)} tables, and {tables} were given")
    for (mark, rows, lower, upper), table, cells in zip(parts, system.tables, system.cell_of, strict=False):
        hidden = np.flatnonzero(result.hidden[cells])
        if mark != published_fingerprint(table, rounded[cells]):
            told.append(f"{table.name}: the table is not the one that was certified")
        elif not (np.array_equal(rows, hidden) and len(lower) == len(upper) == len(hidden)):
            told.append(f"{table.name}: the certificate does not tell of every hidden cell")
        else:
            at = cells[rows]
            near = 1e-5 * np.maximum(1.0, np.abs(lower))
            off = np.flatnonzero((result.lower[at] > lower + near) | (result.upper[at] < upper - near))
            told += [f"{system.name(int(at[i]))}: the interval is narrower than was certified" for i in off]
    return told


def claimed_width(certificate: dict[str, Any] | None) -> float | None:
    """The width that a certificate says every hidden cell has, None where it says none.

    Raises:
        DisclosureError: something else than a number.
    """
    told = certificate.get("minimum_width") if isinstance(certificate, dict) else None
    if told is not None and not (isinstance(told, int | float) and np.isfinite(told)):
        raise DisclosureError("the minimum_width of the certificate is not a number; make it anew")
    return told


def dumps(certificate: dict[str, Any]) -> str:
    """As JSON text, the same for the same certificate."""
    return json.dumps(certificate, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def _ends(values: Sequence[float | None], sign: int = 1) -> Floats:
    out = np.array([-np.inf if v is None else sign * float(v) for v in values], dtype=np.float64)
    if np.isnan(out).any():
        raise ValueError("an end of an interval is not a number")
    return out


def _number(value: float) -> float | None:
    """A finite number with at most 6 decimals, None for infinite."""
    return round(float(value), 6) + 0.0 if np.isfinite(value) else None
