"""Disclosure control that proves what it releases: a library without Dagster.

For the release gate this is all that is needed:

    from quality.disclosure import Earlier, parse_spec, protect, table_from_frame

    spec = parse_spec({
        "dimensions": {"regio_code": {"total": "T", "hierarchy": "regio.csv"}, "sector": {"total": "T"}},
        "measure": "teller", "policy": "frequentie", "folder": model_folder,
    })
    policy = spec.norms(policy_folder)                       # versioned norms of the organisation
    table = table_from_frame(frame, spec, name="zzp", version=input_fingerprint)   # polars or Arrow
    done = protect([table], policy, earlier=[Earlier(old_table, release="2020-1", revision=10)])
    done.frame(0)          # polars: the same rows in the same order, null where hidden, `status`
    done.certificate       # public: proved interval per hidden cell, from the published values alone
    done.sealed            # for the vault
    done.summary           # counts, worst width, seconds: no values

`protect` raises `MalformedTable`, `DisclosureError` (a missing norm) or `NotProtected` (no safe pattern, a failed
audit, no time); each is a FactoryError and means that nothing may be released. Linked tables (several breakdowns,
numerators and their totals) go into one call; cells with the same measure, version and non-total codes are one.
A hierarchy is passed to `table_from_frame` as a mapping code → parent, or named by the spec as a CSV.

`audit` judges published tables alone; `verify` is a second verifier without a solver for a tree × one flat dimension.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quality.disclosure.auditor import Audit, Demand, audit
    from quality.disclosure.certificate import check_certificate, public_certificate
    from quality.disclosure.engine import Earlier, Protected, joint_system, protect
    from quality.disclosure.errors import DisclosureError, MalformedTable, NotProtected
    from quality.disclosure.facts import Fact, figure, rate
    from quality.disclosure.primary import unsafe_cells
    from quality.disclosure.readers import read_table, read_tauargus, table_from_frame
    from quality.disclosure.spec import Attacker, Policy, Protection, Rounding, Spec, load_policy, load_spec, parse_spec
    from quality.disclosure.table import System, Table, check_margins, join

__all__ = [
    "Attacker",
    "Audit",
    "Demand",
    "DisclosureError",
    "Earlier",
    "Fact",
    "MalformedTable",
    "NotProtected",
    "Policy",
    "Protected",
    "Protection",
    "Rounding",
    "Spec",
    "System",
    "Table",
    "audit",
    "check_certificate",
    "check_margins",
    "figure",
    "join",
    "joint_system",
    "load_policy",
    "load_spec",
    "parse_spec",
    "protect",
    "public_certificate",
    "rate",
    "read_table",
    "read_tauargus",
    "table_from_frame",
    "unsafe_cells",
]

_WHERE = {
    "Attacker": "spec",
    "Audit": "auditor",
    "Demand": "auditor",
    "DisclosureError": "errors",
    "Earlier": "engine",
    "Fact": "facts",
    "MalformedTable": "errors",
    "NotProtected": "errors",
    "Policy": "spec",
    "Protected": "engine",
    "Protection": "spec",
    "Rounding": "spec",
    "Spec": "spec",
    "System": "table",
    "Table": "table",
    "audit": "auditor",
    "check_certificate": "certificate",
    "check_margins": "table",
    "figure": "facts",
    "join": "table",
    "joint_system": "engine",
    "load_policy": "spec",
    "load_spec": "spec",
    "parse_spec": "spec",
    "protect": "engine",
    "public_certificate": "certificate",
    "rate": "facts",
    "read_table": "readers",
    "read_tauargus": "readers",
    "table_from_frame": "readers",
    "unsafe_cells": "primary",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that a scan of microdata need not wait for the solver."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
