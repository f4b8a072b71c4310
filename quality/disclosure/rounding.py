"""Rounding of figures to a base: conventional per cell, or controlled so that the table still adds up.

Controlled rounding is zero-restricted: every figure goes to one of its two neighbouring multiples and a multiple
stays itself (Cox 1987; Salazar-González 2005, "Controlled rounding and cell perturbation"). It is solved as a
0–1 program on HiGHS, whose relaxation is whole already where the table is a network.
Cell-key perturbation (Fraser & Wooton 2005) adds to each cell a step that depends on the cell alone.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import highspy
import numpy as np

from quality.disclosure.errors import NotProtected
from quality.disclosure.spec import Rounding
from quality.disclosure.table import Floats, System

_Highs: Any = highspy.Highs


def rounded_values(system: System, rounding: Rounding, *, time_limit: float = 60.0) -> Floats:
    """Every figure as a multiple of the base, by the method that the policy names.

    Raises:
        NotProtected: no additive rounding exists, or none was found in time.
    """
    if rounding.method == "cell_key":
        return cell_key_values(system, (rounding.key or "").encode(), rounding.base)
    if rounding.method == "conventional":
        return np.floor(system.value / rounding.base + 0.5) * rounding.base
    return _controlled(system, float(rounding.base), time_limit)


def _controlled(system: System, base: float, time_limit: float) -> Floats:
    x = system.value
    floor = np.floor(x / base + 1e-12)
    share = x / base - floor
    loose = np.flatnonzero(share > 1e-9)
    if not len(loose):
        return floor * base
    matrix = system.relations.matrix[system.relations.enough]
    part = matrix[:, loose].tocsc()
    fixed = matrix @ floor
    lp: Any = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(loose), matrix.shape[0]
    lp.col_cost_ = 1.0 - 2.0 * share[loose]
    lp.col_lower_, lp.col_upper_ = np.zeros(len(loose)), np.ones(len(loose))
    lp.row_lower_, lp.row_upper_ = -fixed, -fixed
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = part.indptr, part.indices, part.data
    highs: Any = _Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # the same outcome on any machine
    highs.setOptionValue("time_limit", time_limit)
    highs.passModel(lp)
    highs.run()
    up = np.array(highs.getSolution().col_value)
    if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal and np.abs(up - np.round(up)).max() > 1e-6:
        every = np.arange(len(loose), dtype=np.int32)
        highs.changeColsIntegrality(len(loose), every, np.full(len(loose), highspy.HighsVarType.kInteger))
        highs.run()
        up = np.array(highs.getSolution().col_value)
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise NotProtected(
            f"no additive rounding to base {base:g} was found "
            f"({highs.modelStatusToString(highs.getModelStatus())}); use method: conventional, or another base"
        )
    out = floor.copy()
    out[loose] += np.round(up)
    return out * base


def cell_key_values(system: System, key: bytes, spread: int) -> Floats:
    """Each figure with a step between −`spread` and `spread` that follows from what the cell is, under a secret key.

    The same cell gets the same step in every table and release, so repeating a question brings nothing new; zeros
    stay zero and nothing goes below zero. Margins no longer add up; the audit takes every figure as an interval.

    Args:
        system: the tables.
        key: secret of the organisation, at least 16 bytes.
        spread: largest step.

    Raises:
        NotProtected: a key that is too short.
    """
    if len(key) < 16:
        raise NotProtected("the key for cell-key perturbation should hold at least 16 bytes")
    steps = np.zeros(system.cells)
    for table, cells in zip(system.tables, system.cell_of, strict=True):
        for row, cell in enumerate(cells):
            at = sorted((d.name, d.codes[c]) for d, c in zip(table.dimensions, table.codes[row], strict=True) if c)
            digest = hmac.digest(key, repr((table.measure, at)).encode(), hashlib.sha256)
            steps[cell] = int.from_bytes(digest[:8]) % (2 * spread + 1) - spread
    return np.where(system.value > 0, np.maximum(system.value + steps, 0.0), 0.0)
