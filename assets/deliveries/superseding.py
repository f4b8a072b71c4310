"""Records that a later one replaces or takes back: which of all that was accepted count, and what a supplier is told.

A contract says so (`correctie: per_record`). Nothing leaves the vault by it: every record stays there under the
delivery that it came in, and what counts follows from all of them. So the order in which deliveries arrive makes no
difference: the period goes first, then the moment of arrival, then the place in the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from assets.deliveries.delivered import LINE
from assets.deliveries.register import DELIVERY, Entry, table
from datafabriek.warehouse import VAULT, literal, quoted
from quality.contracts.model import Contract, Superseding

if TYPE_CHECKING:
    from assets.deliveries.judging import Tally

CORRECTION = "correctie"
"""Severity of a finding that tells of a correction: neither a mistake nor a repair."""

REPLACES, REMOVES, IDLE, OVERTAKEN = "vervangt_eerder", "verwijdert_eerder", "verwijdert_niets", "al_ingehaald"

TOLD = {
    REPLACES: "Rij komt in de plaats van een eerdere over hetzelfde",
    REMOVES: "Rij neemt een eerdere terug: die telt als niet verzonden",
    IDLE: "Rij neemt een eerdere terug die niet (meer) binnen is",
    OVERTAKEN: "Rij telt niet mee: een rij over hetzelfde van een latere datum was al binnen",
}

_MOST_LINES = 5


def counting(contract: Contract, name: str) -> str:
    """The accepted rows of a delivery kind that count, in SQL, to select from."""
    rule = contract.superseding
    if rule is None:
        return table(name)
    seen = "row_number() OVER (zelfde ORDER BY _volgorde DESC) AS _rang"
    ranked = _ordered(table(name), f"{VAULT}.beheer.leveringen", rule, seen)
    return f"(SELECT * EXCLUDE (_volgorde, _rang) FROM ({ranked}) WHERE _rang = 1 AND NOT {_removes(rule)})"


@dataclass(frozen=True)
class Done:
    """What the records of a delivery do to those before them: accepted = new + replacing + removing + idle + overtaken.

    Attributes:
        counts: by rule; new ones under an empty name.
        earlier: by rule, of which deliveries they replaced or removed records.
        lines: by rule, the first lines.
    """

    counts: dict[str, int]
    earlier: dict[str, dict[str, int]]
    lines: dict[str, list[int]]


def tell(con: duckdb.DuckDBPyConnection, contract: Contract, entry: Entry, tally: Tally) -> None:
    """Count into the findings of a delivery, whose rows are in the vault, what they do to others.

    Args:
        con: the vault.
        contract: what was agreed.
        entry: its line in the register, which need not stand there yet.
        tally: counted into.
    """
    rule = contract.superseding
    if rule is None:
        return
    done = _done(con, rule, entry)
    assert sum(done.counts.values()) == tally.accepted, "accepted is not new + replacing + removing"
    for name, severity in ((REPLACES, CORRECTION), (REMOVES, CORRECTION), (IDLE, "warning"), (OVERTAKEN, "warning")):
        if count := done.counts.get(name):
            finding = tally.add(rule.column, name, severity, count)
            finding.lines = done.lines[name]
            finding.earlier = done.earlier[name]


def _done(con: duckdb.DuckDBPyConnection, rule: Superseding, entry: Entry) -> Done:
    beside = "lag({}) OVER (zelfde ORDER BY _volgorde) AS {}"
    seen = ", ".join(
        [
            beside.format(_removes(rule), "_na_verwijdering"),
            beside.format(DELIVERY, "_eerdere"),
            f"lead({DELIVERY}) OVER (zelfde ORDER BY _volgorde) AS _latere",
        ]
    )
    stands = "_eerdere IS NOT NULL AND NOT _na_verwijdering"
    query = f"""SELECT CASE WHEN _latere <> {DELIVERY} THEN '{OVERTAKEN}'
            WHEN {_removes(rule)} THEN CASE WHEN {stands} THEN '{REMOVES}' ELSE '{IDLE}' END
            WHEN {stands} THEN '{REPLACES}' ELSE '' END AS _doet,
        CASE WHEN _doet IN ('{REPLACES}', '{REMOVES}') THEN _eerdere END AS _van,
        count(*), list_sort(list({LINE}))[:{_MOST_LINES}]
        FROM ({_ordered(_alike(entry.levering, rule), _MOMENTS, rule, seen)}) WHERE {DELIVERY} = $id
        GROUP BY ALL ORDER BY ALL"""
    own = {"id": entry.levering_id, "period": entry.periode, "received": entry.ontvangen_op}
    done = Done({}, {}, {})
    for does, earlier, count, lines in con.execute(query, own).fetchall():
        done.counts[does] = done.counts.get(does, 0) + count
        done.lines[does] = sorted([*done.lines.get(does, []), *lines])[:_MOST_LINES]
        done.earlier.setdefault(does, {}).update({earlier: count} if earlier else {})
    return done


_MOMENTS = f"""(SELECT levering_id, periode, ontvangen_op FROM {VAULT}.beheer.leveringen WHERE levering_id <> $id
    UNION ALL SELECT $id, $period, $received)"""
"""When the deliveries came, with the one that does not stand in the register yet."""


def _alike(name: str, rule: Superseding) -> str:
    """The accepted rows with a key that a row of one delivery has: what a message is about is seldom the whole."""
    same = " AND ".join(f"r.{column} IS NOT DISTINCT FROM o.{column}" for column in map(quoted, rule.key))
    return f"(SELECT r.* FROM {table(name)} r SEMI JOIN (FROM {table(name)} WHERE {DELIVERY} = $id) o ON {same})"


def _ordered(rows: str, moments: str, rule: Superseding, seen: str) -> str:
    """Accepted rows with their place in time (`_volgorde`) and what is asked of those with the same key."""
    key = ", ".join(quoted(column) for column in rule.key)
    return f"""
        WITH record AS (
            SELECT r.*, row(m.periode, m.ontvangen_op, m.levering_id, r.{LINE}) AS _volgorde
            FROM {rows} r JOIN {moments} m ON m.levering_id = r.{DELIVERY}
        )
        SELECT *, {seen} FROM record WINDOW zelfde AS (PARTITION BY {key})"""


def _removes(rule: Superseding) -> str:
    codes = ", ".join(literal(code) for code in rule.removing)
    return f"coalesce({quoted(rule.column)} IN ({codes}), false)"
