"""Measures of disclosure risk in microdata, and tables of cells from microdata, in SQL on DuckDB.

k-anonymity: Samarati & Sweeney 1998; l-diversity (distinct values): Machanavajjhala et al. 2007; t-closeness: Li,
Li & Venkatasubramanian 2007, with half the sum of absolute differences as distance for nominal values. What comes
out are classes and counts, no records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quality.disclosure.errors import DisclosureError

if TYPE_CHECKING:
    import duckdb
    import polars as pl


@dataclass(frozen=True)
class Anonymity:
    """How the classes of equal quasi-identifiers fare.

    Attributes:
        classes: how many there are.
        k: records in the smallest class.
        diversity: l, the distinct sensitive values in the poorest class; None without a sensitive column.
        closeness: t, the largest distance between a class's distribution and that of everyone; None idem.
        failing: the classes that fail, smallest first: quasi-identifiers, records, diversity, closeness.
    """

    classes: int
    k: int
    diversity: int | None
    closeness: float | None
    failing: pl.DataFrame


def anonymity(
    con: duckdb.DuckDBPyConnection,
    table: str,
    quasi: Sequence[str],
    sensitive: str | None = None,
    *,
    k: int = 3,
    diversity: int = 2,
    closeness: float = 1.0,
) -> Anonymity:
    """Measure k-anonymity, l-diversity and t-closeness of a relation.

    Args:
        con: connection; nothing is written.
        table: relation, quoted where needed.
        quasi: columns by which a person can be recognised.
        sensitive: nominal column that must not be learnt.
        k: least number of records of a class.
        diversity: least number l of distinct sensitive values of a class.
        closeness: largest distance t.

    Raises:
        DisclosureError: no quasi-identifier.
    """
    if not quasi:
        raise DisclosureError("name at least one quasi-identifier")
    keys = ", ".join(_quoted(name) for name in quasi)
    if sensitive is None:
        classes = (
            f"SELECT {keys}, count(*) AS records, NULL::BIGINT AS diversity, NULL::DOUBLE AS closeness "
            f"FROM {table} GROUP BY ALL"
        )
    else:
        value = _quoted(sensitive)
        same = " AND ".join(f"c.{_quoted(name)} IS NOT DISTINCT FROM p.{_quoted(name)}" for name in quasi)
        classes = f"""
            WITH pairs AS (SELECT {keys}, {value} AS value, count(*) AS n FROM {table} GROUP BY ALL),
                 everyone AS (SELECT value, sum(n) / (SELECT sum(n) FROM pairs) AS share FROM pairs GROUP BY value),
                 c AS (SELECT {keys}, sum(n) AS records, count(*) AS diversity FROM pairs GROUP BY ALL)
            SELECT {", ".join(f"c.{_quoted(name)}" for name in quasi)},
                   any_value(c.records)::BIGINT AS records, any_value(c.diversity) AS diversity,
                   0.5 * (sum(abs(p.n / c.records - e.share)) + 1 - sum(e.share)) AS closeness
            FROM c JOIN pairs p ON {same} JOIN everyone e ON e.value IS NOT DISTINCT FROM p.value
            GROUP BY {", ".join(f"c.{_quoted(name)}" for name in quasi)}"""
    total = con.sql(f"SELECT count(*), min(records), min(diversity), max(closeness) FROM ({classes})").fetchone()
    assert total is not None
    failing = con.sql(
        f"SELECT * FROM ({classes}) WHERE records < {int(k)} OR diversity < {int(diversity)} "
        f"OR closeness > {float(closeness)} + 1e-9 "
        f"ORDER BY records, {keys}"
    ).pl()
    return Anonymity(int(total[0]), int(total[1] or 0), total[2], total[3], failing)


def cells_from_microdata(
    con: duckdb.DuckDBPyConnection,
    table: str,
    levels: Mapping[str, Sequence[str]],
    *,
    total: str = "Total",
    amount: str | None = None,
    holding: str | None = None,
) -> pl.DataFrame:
    """Cells with all margins, contributor counts and the two largest contributors, in one scan of the microdata.

    The finest level is aggregated once; every margin is merged upward from it, so that top1 and top2 cost no
    second scan. Contributors of one holding are joined before they are compared.

    Args:
        con: connection.
        table: relation of records.
        levels: per dimension its columns from coarse to fine, as in {"geo": ("gemeente", "wijk", "buurt")}.
        total: code of the totals.
        amount: column that is summed; None counts records.
        holding: column that says which enterprise group a record belongs to.

    Returns:
        A column per dimension, `value`, and with `amount` also `frequency`, `top1` and `top2`.
    """
    every = [_quoted(column) for columns in levels.values() for column in columns]
    sets: list[list[str]] = [[]]
    for columns in levels.values():
        sets = [
            [*chosen, *(_quoted(c) for c in columns[:depth])] for chosen in sets for depth in range(len(columns) + 1)
        ]
    codes = [_code(name, columns) for name, columns in levels.items()]
    names = ", ".join(_quoted(name) for name in levels)
    keys = ", ".join(dict.fromkeys(every))
    totals = [total] * len(levels)
    if amount is None:
        finest = f"SELECT {keys}, count(*) AS value FROM {table} GROUP BY {keys}"
        return con.execute(
            f"SELECT {', '.join(codes)}, sum(value)::BIGINT AS value FROM ({finest}) {_grouping(sets)} ORDER BY ALL",
            totals,
        ).pl()
    x = _quoted(amount)
    if holding is not None:
        # a holding can stand in many cells, so its parts are added up anew for every margin
        one = [[*chosen, _quoted(holding)] for chosen in sets]
        per_holding = f"SELECT {', '.join(codes)}, sum({x}) AS x FROM {table} {_grouping(one)}"
        return con.execute(
            f"SELECT {names}, sum(x) AS value, count(*) AS frequency, max(x) AS top1, "
            f"coalesce(max(x, 2)[2], 0) AS top2 FROM ({per_holding}) GROUP BY {names} ORDER BY ALL",
            totals,
        ).pl()
    finest = f"SELECT {keys}, sum({x}) AS value, count(*) AS frequency, max({x}, 2) AS top FROM {table} GROUP BY {keys}"
    split = f"SELECT {keys}, value, frequency, top[1] AS one, coalesce(top[2], 0) AS two FROM ({finest})"
    return con.execute(
        # the second of all is the second of the firsts or the first of the seconds
        f"SELECT {', '.join(codes)}, sum(value) AS value, sum(frequency)::BIGINT AS frequency, max(one) AS top1, "
        f"greatest(coalesce(max(one, 2)[2], 0), max(two)) AS top2 FROM ({split}) {_grouping(sets)} ORDER BY ALL",
        totals,
    ).pl()


def _code(name: str, columns: Sequence[str]) -> str:
    """The code of a dimension in a grouping set: that of its finest column in the set, else the total (bound)."""
    cases = " ".join(f"WHEN grouping({_quoted(c)}) = 0 THEN {_quoted(c)}::VARCHAR" for c in reversed(columns))
    return f"CASE {cases} ELSE ? END AS {_quoted(name)}"


def _grouping(sets: Sequence[Sequence[str]]) -> str:
    return "GROUP BY GROUPING SETS (" + ", ".join("(" + ", ".join(chosen) + ")" for chosen in sets) + ")"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
