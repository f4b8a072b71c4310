"""Retention: what is past its term leaves vault and warehouse, and no old block of either file keeps it.

A delivery has a term in the vault, a purpose a term for its tables; both come from the policy. The register keeps that
a delivery was there, with its counts. CBS's tables (`landing`) are public and have no term.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import duckdb

from assets.deliveries import register
from assets.deliveries.derived import STATE_SCHEMA
from assets.deliveries.intake import contract_of
from assets.deliveries.purposes import usable
from assets.deliveries.register import DELIVERY, EXPIRED, RECEIVED, Entry, masked
from datafabriek.config import Home, Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import VAULT, literal, quoted, rewrite_vault, rewrite_warehouse, vault, warehouse
from quality.contracts.model import Contract
from quality.privacy.keys import MasterKey
from quality.privacy.policy import DeliveryPolicy, PrivacyPolicy, load_policy

PSEUDONYM = "pseudoniem"
"""What the name of every column with pseudonyms holds."""


@dataclass(frozen=True)
class Removed:
    """Something that was removed: counts only.

    Attributes:
        place: `kluis`, `origineel`, or the raw table.
        delivery: kind of delivery.
        delivery_id: which one.
        rows: rows removed (of an original: those it held).
        until: last day of its term.
    """

    place: str
    delivery: str
    delivery_id: str
    rows: int
    until: date


def expire(settings: Settings, key: MasterKey, on: date | None = None) -> list[Removed]:
    """Remove all that is past its term, rewrite the files that held it, and tell the ledger.

    Args:
        settings: the factory.
        key: opens the vault.
        on: the day to judge by; today where None.

    Returns:
        What was removed; nothing on most days.

    Raises:
        PolicyError: a term is not set.
    """
    policy = load_policy(settings)
    today = on or datetime.now(UTC).date()
    contracts = {name: contract_of(settings, name) for name in settings.deliveries}
    if not settings.paths.vault_database.exists():
        return []
    with masked("retention"):
        gone = _from_vault(settings, key, policy, contracts, today)
        with vault(settings.paths, settings.resources, key.vault) as con:
            known = {name: register.entries(con, name) for name in contracts}
        left = _from_warehouse(settings, policy, contracts, known, today)
    ledger = Ledger(settings.paths.ledger)
    for removed in [*gone, *left]:
        ledger.append("retention", removed.delivery, asdict(removed))
    _show(settings, [*gone, *left])
    return [*gone, *left]


def overdue(settings: Settings, key: MasterKey, on: date | None = None) -> int:
    """Deliveries that are past their term and still stand in the vault, looked at afresh."""
    policy, today = load_policy(settings), on or datetime.now(UTC).date()
    if not settings.paths.vault_database.exists():
        return 0
    count = 0
    with masked("retention"), vault(settings.paths, settings.resources, key.vault) as con:
        register.prepare(con)
        for name in settings.deliveries:
            contract, terms = contract_of(settings, name), policy.leveringen[name]
            over = [e.levering_id for e in register.entries(con, name) if past_term(terms, contract, e, today)]
            count += sum(register.holds(con, name, each) for each in over)
    return count


def past_term(policy: DeliveryPolicy, contract: Contract, entry: Entry, on: date) -> bool:
    """Whether a delivery may no longer be in the vault."""
    return on > _until(policy, contract, entry)


def _until(policy: DeliveryPolicy, contract: Contract, entry: Entry) -> date:
    """Last day in the vault; a delivery whose period nobody could tell counts from its arrival."""
    received = entry.ontvangen_op.date()
    known = contract.period.check(entry.periode)
    return policy.until(contract.period.end(known) if known else received, received)


def _from_vault(
    settings: Settings, key: MasterKey, policy: PrivacyPolicy, contracts: Mapping[str, Contract], today: date
) -> list[Removed]:
    home, gone = settings.paths, []
    with vault(home, settings.resources, key.vault) as con:
        register.prepare(con)
        for name, contract in contracts.items():
            terms = policy.leveringen[name]
            entries = register.entries(con, name)
            for entry in entries:
                if entry.status == EXPIRED or not past_term(terms, contract, entry, today):
                    continue
                until = _until(terms, contract, entry)
                if entry.status == RECEIVED:
                    rows = _delete(con, name, entry.levering_id)
                    gone.append(Removed("kluis", name, entry.levering_id, rows, until))
                if _drop_original(con, home, entry, contracts):
                    gone.append(Removed("origineel", name, entry.levering_id, entry.geleverd, until))
    if any(removed.place == "kluis" for removed in gone):
        rewrite_vault(home, settings.resources, key.vault)
    return gone


def _delete(con: duckdb.DuckDBPyConnection, name: str, delivery_id: str) -> int:
    """Rows and refused rows of one delivery; the register keeps that it was there."""
    con.execute("BEGIN")
    rows = 0
    for place in (register.table(name), register.quarantine(name)):
        found = con.execute(f"DELETE FROM {place} WHERE {DELIVERY} = ?", [delivery_id]).fetchone()
        rows += int(found[0]) if found else 0
    con.execute(f"UPDATE {VAULT}.beheer.leveringen SET status = ? WHERE levering_id = ?", [EXPIRED, delivery_id])
    con.execute("COMMIT")
    return rows


def _drop_original(con: duckdb.DuckDBPyConnection, home: Home, entry: Entry, contracts: Collection[str]) -> bool:
    """Remove an encrypted original, unless the same file is in use as another delivery."""
    others = [other for other in register.entries(con) if other.vingerafdruk == entry.vingerafdruk]
    if any(other.levering_id != entry.levering_id and other.status == RECEIVED for other in others):
        return False
    path = home.originals / f"{entry.vingerafdruk}.age"
    was_there = path.exists()
    path.unlink(missing_ok=True)
    for name in contracts:
        (home.reports / "op-orde" / name / f"{entry.levering_id}.regels.age").unlink(missing_ok=True)
    return was_there


def _from_warehouse(
    settings: Settings,
    policy: PrivacyPolicy,
    contracts: Mapping[str, Contract],
    known: Mapping[str, Sequence[Entry]],
    today: date,
) -> list[Removed]:
    if not settings.paths.warehouse.exists():
        return []
    left = []
    with warehouse(settings.paths, settings.resources) as con:
        for name, contract in contracts.items():
            for purpose in (settled.name for settled in policy.settled(contract, name)):
                terms = policy.purpose(purpose, name)
                over = [e for e in known[name] if contract.period.check(e.periode)]
                over = [e for e in over if not usable(e, contract, terms, today)]
                for entry in over:
                    rows = forget(con, f"raw_{purpose}", name, "levering = ?", [entry.levering_id])
                    if rows:
                        until = terms.until(contract.period.end(entry.periode), entry.ontvangen_op.date())
                        left.append(Removed(f"raw_{purpose}.{name}", name, entry.levering_id, rows, until))
        if left:
            drop_persons_between(con)
    if left:
        rewrite_warehouse(settings.paths, settings.resources)
    return left


def forget(con: duckdb.DuckDBPyConnection, schema: str, name: str, where: str, values: Sequence[object]) -> int:
    """Delete rows of a raw table, where it exists; return how many. Its old blocks stay until the file is rewritten."""
    exists = con.execute("FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, name]).fetchone()
    if exists is None:
        return 0
    found = con.execute(f"DELETE FROM {quoted(schema)}.{quoted(name)} WHERE {where}", list(values)).fetchone()
    return int(found[0]) if found else 0


def drop_persons_between(con: duckdb.DuckDBPyConnection) -> None:
    """Drop what models keep of persons between raw tables and marts: the next run makes it anew from what is left."""
    query = """SELECT DISTINCT schema_name, table_name FROM duckdb_columns() JOIN duckdb_tables()
        USING (schema_name, table_name)
        WHERE schema_name NOT LIKE 'raw\\_%' ESCAPE '\\' AND (contains(column_name, ?) OR data_type = 'UUID')"""
    for schema, table in con.execute(query, [PSEUDONYM]).fetchall():
        con.execute(f"DROP TABLE {quoted(schema)}.{quoted(table)}")


def _show(settings: Settings, removed: Sequence[Removed]) -> None:
    """Add to `raw_leveringen.bewaring`: what was removed when; counts only."""
    now = datetime.now(UTC).replace(tzinfo=None)
    with warehouse(settings.paths, settings.resources) as con:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {STATE_SCHEMA}")
        con.execute(f"""CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.bewaring (
            verwijderd_op TIMESTAMP, plaats VARCHAR, levering VARCHAR, levering_id VARCHAR, rijen BIGINT,
            termijn_tot DATE)""")
        for column, told in _TOLD.items():
            where = f"TABLE {STATE_SCHEMA}.bewaring" if not column else f"COLUMN {STATE_SCHEMA}.bewaring.{column}"
            con.execute(f"COMMENT ON {where} IS {literal(told)}")
        for one in removed:
            values = [now, one.place, one.delivery, one.delivery_id, one.rows, one.until]
            con.execute(f"INSERT INTO {STATE_SCHEMA}.bewaring VALUES (?, ?, ?, ?, ?, ?)", values)


_TOLD = {
    "": "Wat is verwijderd omdat de bewaartermijn voorbij is; alleen aantallen.",
    "verwijderd_op": "Tijdstip van verwijderen (UTC).",
    "plaats": "kluis, origineel, of de tabel van een doel.",
    "levering": "Soort levering.",
    "levering_id": "Levering die is verwijderd.",
    "rijen": "Verwijderde regels, geweigerde meegeteld.",
    "termijn_tot": "Laatste dag van de termijn.",
}
