"""Dirt in deliveries, each piece labelled: what was spoiled, where, and what the intake should make of it.

Belongs here: how a clean frame becomes the lines of a file with known faults. Does not belong here: which faults a
delivery gets (deliveries.py) or how a fault is found (quality). All kinds occur in practice (docs of municipal
layouts): un-padded codes, lost leading zeros, dates that do not exist, duplicates, print footers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Outcome = Literal["repaired", "read", "quarantined", "warned"]
"""`read`: a code that was agreed, which is no dirt but has to be told from it."""

LABELS = {
    "bestand": pl.String, "regel": pl.Int64, "soort": pl.String, "veld": pl.String, "uitkomst": pl.String,
}  # fmt: skip
"""Columns of the labels: file, line (from 1, header included), kind of dirt, field (empty: whole line), outcome."""


@dataclass(frozen=True)
class Spot:
    """A kind of dirt: on which share of the rows (at least one), and how it changes a field or a line.

    `field` is null where `spoil` changes the whole line. `where` limits it to rows that can have it.
    """

    kind: str
    share: float
    outcome: Outcome
    field: str | None
    spoil: Callable[[pl.Expr], pl.Expr]
    where: pl.Expr | None = None


def soil(
    clean: pl.DataFrame,
    spots: Sequence[Spot],
    line: pl.Expr,
    rng: np.random.Generator,
    *,
    file: str,
    header: Sequence[str] = (),
    duplicates: float = 0.0,
    footer: str | None = None,
) -> tuple[pl.Series, pl.DataFrame]:
    """Spoil a frame and write it as lines; a row gets one kind of dirt at most.

    Args:
        clean: the records, all columns text.
        spots: the kinds of dirt.
        line: how a record becomes a line.
        rng: settles which rows.
        file: name in the labels.
        header: lines before the first record.
        duplicates: share of rows that come a second time, further on in the file.
        footer: a last line as a print function leaves it.

    Returns:
        the lines, and their labels (LABELS) in order of lines.
    """
    height = clean.height
    mark = np.full(height, -1, dtype=np.int16)

    def pick(share: float, where: pl.Expr | None) -> npt.NDArray[np.int64]:
        possible = mark < 0 if where is None else (mark < 0) & clean.select(where).to_series().to_numpy()
        rows = np.flatnonzero(possible)
        return rng.choice(rows, min(max(1, round(share * height)), len(rows)), replace=False)

    for number, spot in enumerate(spots):
        mark[pick(spot.share, spot.where)] = number
    again = np.sort(pick(duplicates, None)) if duplicates else np.zeros(0, dtype=np.int64)

    frame = clean.with_columns(pl.Series("_mark", mark))
    for number, spot in enumerate(spots):
        if spot.field is not None:
            column = pl.col(spot.field)
            spoiled = pl.when(pl.col("_mark") == number).then(spot.spoil(column)).otherwise(column)
            frame = frame.with_columns(spoiled.alias(spot.field))
    frame = frame.select("_mark", line.alias("line"))
    for number, spot in enumerate(spots):
        if spot.field is None:
            spoiled = pl.when(pl.col("_mark") == number).then(spot.spoil(pl.col("line"))).otherwise("line")
            frame = frame.with_columns(spoiled.alias("line"))

    # a duplicate lands anywhere behind its first
    place = again + 1 + np.floor(rng.random(len(again)) * (height - again)) - 0.5
    repeated = frame[again].with_columns(pl.lit(len(spots), pl.Int16).alias("_mark"), pl.Series("_place", place))
    frame = frame.with_columns(pl.int_range(pl.len()).cast(pl.Float64).alias("_place"))
    frame = pl.concat([frame, repeated]).sort("_place", maintain_order=True)

    kinds = [(s.kind, s.field or "", s.outcome) for s in spots] + [("dubbel", "", "quarantined")]
    lines, labels = frame["line"], frame.with_row_index("regel", len(header) + 1).filter(pl.col("_mark") >= 0)
    if footer is not None:
        lines = lines.append(pl.Series([footer]))
        last = {"regel": [frame.height + len(header) + 1], "_mark": [len(kinds)]}
        labels = pl.concat(
            [
                labels.select("regel", "_mark"),
                pl.DataFrame(last, schema_overrides={"regel": labels["regel"].dtype, "_mark": pl.Int16}),
            ]
        )
        kinds.append(("afdrukregel", "", "quarantined"))
    named = [pl.col("_mark").replace_strict(range(len(kinds)), [k[i] for k in kinds], return_dtype=pl.String).alias(n)
             for i, n in enumerate(("soort", "veld", "uitkomst"))]  # fmt: skip
    labelled = labels.select(pl.lit(file).alias("bestand"), pl.col("regel").cast(pl.Int64), *named)
    return pl.concat([pl.Series("line", list(header), dtype=pl.String), lines]) if header else lines, labelled
