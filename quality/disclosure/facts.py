"""Other figures that are known about the cells: rates, intervals, sums over other areas, earlier releases.

Every published figure that depends on hidden cells narrows them. What is linear enters the attacker's system as a
row with bounds; what is monotone in one cell is inverted to the counts that give the published figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from scipy import sparse

from quality.disclosure.errors import DisclosureError, MalformedTable
from quality.disclosure.table import Floats, Known, System

_Highs: Any = highspy.Highs


@dataclass(frozen=True)
class Fact:
    """`lower` ≤ Σ weight · cell ≤ `upper`.

    Attributes:
        terms: (table number, code per dimension name, weight); a dimension that is left out means its total.
        lower: least value of the sum.
        upper: largest value of the sum.
        why: what was published, for messages.
    """

    terms: tuple[tuple[int, Mapping[str, str], float], ...]
    lower: float
    upper: float
    why: str


def rate(
    numerator: tuple[int, Mapping[str, str]],
    denominator: tuple[int, Mapping[str, str]] | float,
    published: float,
    *,
    per: float = 1000.0,
    decimals: int = 1,
    why: str = "a published rate",
) -> tuple[Fact, ...]:
    """A published rate `per` · t/n, rounded to `decimals`, over cells or over a known denominator.

    From r − h ≤ per·t/n ≤ r + h with h half the last digit follow two rows in t and n.
    """
    half = 0.5 * 10.0**-decimals
    low, high = published - half, published + half
    if isinstance(denominator, int | float):
        n = float(denominator)
        return (Fact(((*numerator, 1.0),), low * n / per, high * n / per, why),)
    return (
        Fact(((*numerator, per), (*denominator, -low)), 0.0, np.inf, why),
        Fact(((*numerator, per), (*denominator, -high)), -np.inf, 0.0, why),
    )


def figure(
    cell: tuple[int, Mapping[str, str]],
    formula: Callable[[float], float],
    published: float,
    *,
    decimals: int,
    largest: int,
    why: str = "a published figure",
) -> Fact:
    """A figure that rises or falls with one count: the counts 0..`largest` that give it, found by bisection.

    Confidence limits, indices and standardised scores are such figures.

    Raises:
        DisclosureError: no count gives the published figure.
    """
    half = 0.5 * 10.0**-decimals + 1e-12
    rising = formula(float(largest)) >= formula(0.0)
    sign = 1.0 if rising else -1.0
    low = _first(lambda n: sign * formula(n) >= sign * published - half, largest)
    high = _first(lambda n: sign * formula(n) > sign * published + half, largest) - 1
    if low > high:
        raise DisclosureError(f"no count gives {why}: check the figure and its denominator")
    return Fact(((*cell, 1.0),), float(low), float(high), why)


def _first(holds: Callable[[float], bool], largest: int) -> int:
    """The least n in 0..largest with `holds`, largest + 1 when there is none."""
    low, high = 0, largest + 1
    while low < high:
        middle = (low + high) // 2
        if holds(float(middle)):
            high = middle
        else:
            low = middle + 1
    return low


def known_rows(system: System, facts: Sequence[Fact]) -> Known:
    """Facts as rows over the cells of the system.

    Raises:
        MalformedTable: a fact about a cell that no table has.
    """
    rows, columns, weights = [], [], []
    for number, fact in enumerate(facts):
        for table_number, codes, weight in fact.terms:
            table = system.tables[table_number]
            odd = set(codes) - {d.name for d in table.dimensions}
            if odd:
                raise MalformedTable(f"{fact.why}: {table.name or 'the table'} has no dimension {min(odd)!r}")
            try:
                at = np.array([[d.codes.index(codes.get(d.name, d.codes[0])) for d in table.dimensions]])
            except ValueError:
                raise MalformedTable(f"{fact.why}: {dict(codes)} is no cell of {table.name or 'the table'}") from None
            row = int(table.rows_of(at)[0])
            if row < 0:
                continue
            rows.append(number)
            columns.append(int(system.cell_of[table_number][row]))
            weights.append(weight)
    matrix = sparse.csr_matrix((weights, (rows, columns)), shape=(len(facts), system.cells))
    return Known(
        matrix,
        np.array([f.lower for f in facts], dtype=np.float64),
        np.array([f.upper for f in facts], dtype=np.float64),
        tuple(f.why for f in facts),
    )


def check_known(system: System) -> None:
    """Refuse facts that the figures themselves do not fit; a row is told by its reason.

    Raises:
        DisclosureError: the first such fact.
    """
    known = system.known
    at = known.matrix @ system.value
    near = 1e-6 * (1.0 + abs(known.matrix) @ np.abs(system.value))
    off = np.flatnonzero((at < known.lower - near) | (at > known.upper + near))
    if len(off):
        raise DisclosureError(
            f"{known.why[int(off[0])]}: the figures do not fit it; check the figure, its denominator and which input "
            "each release was made from"
        )


def ties(system: System, current: int, revisions: Sequence[float | None]) -> Known:
    """Rows |new − old| ≤ bound between cells of the current tables and those of earlier ones from other input."""
    rows: list[tuple[int, int, float]] = []
    place: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
    wanted = any(bound is not None for bound in revisions)
    if wanted:
        for t in range(current):
            table = system.tables[t]
            for row, cell in enumerate(system.cell_of[t]):
                place.setdefault((table.measure, _codes(system, t, row)), int(cell))
    for offset, bound in enumerate(revisions):
        if bound is None:
            continue
        t = current + offset
        for row, cell in enumerate(system.cell_of[t]):
            mate = place.get((system.tables[t].measure, _codes(system, t, row)))
            if mate is not None and mate != cell:
                rows.append((mate, int(cell), float(bound)))
    if not rows:
        return Known.nothing(system.cells)
    n = len(rows)
    matrix = sparse.csr_matrix(
        (
            np.tile([1.0, -1.0], n),
            (np.repeat(np.arange(n), 2), np.array([c for new, old, _ in rows for c in (new, old)])),
        ),
        shape=(n, system.cells),
    )
    bounds = np.array([b for *_, b in rows])
    return Known(matrix, -bounds, bounds, ("a bound on revisions",) * n)


def _codes(system: System, t: int, row: int) -> tuple[tuple[str, str], ...]:
    table = system.tables[t]
    pairs = [(d.name, d.codes[c]) for d, c in zip(table.dimensions, table.codes[row], strict=True) if c]
    return tuple(sorted(pairs))


def feasible_point(system: System, lower: Floats, upper: Floats) -> Floats:
    """Some table that fits what is known where earlier releases hide cells whose truth is gone.

    Raises:
        DisclosureError: nothing fits: the earlier release contradicts the current data or its revision bound.
    """
    hidden = np.isnan(system.value)
    free = np.flatnonzero(hidden)
    keep = system.relations.enough
    matrix = sparse.vstack([system.relations.matrix[keep], system.known.matrix], format="csr")
    slack = system.slack[keep]
    low = np.concatenate([-slack, system.known.lower])
    high = np.concatenate([slack, system.known.upper])
    fixed = matrix @ np.where(hidden, 0.0, system.value)
    part = matrix[:, free].tocsc()
    lp: Any = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(free), matrix.shape[0]
    lp.col_cost_ = np.zeros(len(free))
    lp.col_lower_, lp.col_upper_ = lower[free], upper[free]
    lp.row_lower_, lp.row_upper_ = low - fixed, high - fixed
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = part.indptr, part.indices, part.data
    highs: Any = _Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # the same outcome on any machine
    highs.passModel(lp)
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise DisclosureError(
            "no table fits the current figures and the earlier release together; check the declared bound on "
            "revisions and which input each release was made from"
        )
    out = system.value.copy()
    out[free] = np.array(highs.getSolution().col_value)
    return out
