"""A table of whole counts that fits what someone was shown, to go on from where the true one must not be used."""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np
from scipy import sparse

from quality.disclosure.errors import DisclosureError, NotProtected
from quality.disclosure.table import Floats, System

_Highs: Any = highspy.Highs


def fitting_counts(system: System, lower: Floats, upper: Floats, *, time_limit: float = 60.0) -> Floats:
    """Whole numbers within bounds for which all margins add up and all that is known holds.

    The same bounds give the same table, whatever the figures behind them are.

    Args:
        system: the cells and all that ties them; its values are not looked at.
        lower: least value of each cell.
        upper: largest value of each cell.
        time_limit: seconds.

    Raises:
        DisclosureError: there is no such table.
        NotProtected: none was found in time.
    """
    keep = system.relations.enough
    matrix = sparse.vstack([system.relations.matrix[keep], system.known.matrix], format="csc")
    margins = int(keep.sum())
    lp: Any = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = system.cells, matrix.shape[0]
    lp.col_cost_ = np.zeros(system.cells)
    lp.col_lower_, lp.col_upper_ = lower, upper
    lp.row_lower_ = np.concatenate([np.zeros(margins), system.known.lower])
    lp.row_upper_ = np.concatenate([np.zeros(margins), system.known.upper])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    highs: Any = _Highs()
    for option, value in (("output_flag", False), ("threads", 1), ("time_limit", time_limit)):
        highs.setOptionValue(option, value)
    highs.passModel(lp)
    highs.run()
    found = np.array(highs.getSolution().col_value)
    if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal and np.abs(found - np.round(found)).max() > 1e-6:
        every = np.arange(system.cells, dtype=np.int32)
        highs.changeColsIntegrality(system.cells, every, np.full(system.cells, highspy.HighsVarType.kInteger))
        highs.run()
        found = np.array(highs.getSolution().col_value)
    status = highs.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        raise DisclosureError("no table fits what was shown: margins, rounding and earlier releases contradict")
    if status != highspy.HighsModelStatus.kOptimal:
        raise NotProtected(f"no table that fits what was shown was found ({highs.modelStatusToString(status)})")
    return np.asarray(np.round(found) + 0.0, dtype=np.float64)
