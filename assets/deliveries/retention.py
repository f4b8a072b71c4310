"""Retention: what is past its term, or no longer asked for, leaves vault and warehouse, and no old block keeps it.

A delivery has a term in the vault, a purpose a term for its tables; both come from the policy. A table of a purpose
that was withdrawn (or of a delivery that factory.yaml no longer names) goes, and one of a linkage that is not in force.
The register keeps that a delivery was there, with its counts. CBS's tables (`landing`) are public and have no term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import duckdb

from assets.deliveries import register
from assets.deliveries.derived import STATE_SCHEMA
from assets.deliveries.intake import contract_of
from assets.deliveries.linking import withdrawn
from assets.deliveries.purposes import usable
from assets.deliveries.register import DELIVERY, EXPIRED, RECEIVED, Entry, masked
from datafabriek.config import Home, Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import (
    VAULT,
    literal,
    quoted,
    rewrite_vault,
    rewrite_warehouse,
    transaction,
    vault,
    warehouse,
)
from quality.contracts.model import Contract, find_contracts, load
from quality.privacy.approvals import require
from quality.privacy.keys import MasterKey
from quality.privacy.linkages import IMPERSONAL, LAYERS, LINKED, RAW, registered
from quality.privacy.policy import DeliveryPolicy, PrivacyPolicy, load_policy, policy_file

PSEUDONYM = "pseudoniem"
"""What the name of every column with pseudonyms holds."""


TERM, WITHDRAWN, UNLINKED = "termijn voorbij", "doel of levering ingetrokken", "koppeling niet van kracht"
"""Why something was removed."""


@dataclass(frozen=True)
class Removed:
    """Something that was removed: counts only.

    Attributes:
        place: `kluis`, `origineel`, or the table.
        delivery: kind of delivery; of a linkage its table.
        delivery_id: which one; empty where a table went as a whole.
        rows: rows removed (of an original: those it held).
        until: last day of its term; None where it went before.
        reason: why, one of the three above.
    """

    place: str
    delivery: str
    delivery_id: str
    rows: int
    until: date | None
    reason: str = TERM


def expire(settings: Settings, key: MasterKey, on: date | None = None) -> list[Removed]:
    """Remove all that is past its term or no longer asked for, rewrite the files that held it, and tell the ledger.

    Args:
        settings: the factory.
        key: opens the vault.
        on: the day to judge by; today where None.

    Returns:
        What was removed; nothing on most days.

    Raises:
        PolicyError: a term is not set, or nobody approved the terms as they are: then nothing is removed.
    """
    policy = load_policy(settings)
    require(settings, policy_file(settings), "grondslagen")
    today = on or datetime.now(UTC).date()
    contracts = {name: contract_of(settings, name) for name in settings.deliveries}
    gone: list[Removed] = []
    known: dict[str, list[Entry]] = {}
    with masked("retention"):
        if settings.paths.vault_database.exists():
            gone += _from_vault(settings, key, policy, today)
            with vault(settings.paths, settings.resources, key.vault) as con:
                known = {name: register.entries(con, name) for name in contracts}
        if settings.paths.warehouse.exists():
            gone += _from_warehouse(settings, policy, contracts, known, today)
    ledger = Ledger(settings.paths.ledger)
    for removed in gone:
        ledger.append("retention", removed.delivery, asdict(removed))
    if gone or settings.paths.vault_database.exists():
        _show(settings, gone)
    return gone


def overdue(settings: Settings, key: MasterKey, on: date | None = None) -> int:
    """Deliveries that still stand in the vault past their term, or without one, looked at afresh."""
    policy, today = load_policy(settings), on or datetime.now(UTC).date()
    if not settings.paths.vault_database.exists():
        return 0
    count = 0
    with masked("retention"), vault(settings.paths, settings.resources, key.vault) as con:
        register.prepare(con)
        for name, contract in held(con, settings).items():
            terms = policy.leveringen.get(name)
            over = [e for e in register.entries(con, name) if terms is None or past_term(terms, contract, e, today)]
            count += sum(register.holds(con, name, entry.levering_id) for entry in over)
    return count


def held(con: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, Contract | None]:
    """Deliveries that factory.yaml names or the vault has known, with their contract; None where that is gone."""
    found: dict[str, Contract | None] = {name: contract_of(settings, name) for name in settings.deliveries}
    there = find_contracts(settings.contract_folders)
    for entry in register.entries(con):
        if entry.levering not in found:
            found[entry.levering] = load(entry.contract, settings.contract_folders) if entry.contract in there else None
    return found


def past_term(policy: DeliveryPolicy, contract: Contract | None, entry: Entry, on: date) -> bool:
    """Whether a delivery may no longer be in the vault."""
    return on > _until(policy, contract, entry)


def _until(policy: DeliveryPolicy, contract: Contract | None, entry: Entry) -> date:
    """Last day in the vault; a delivery whose period nobody can tell (any more) counts from its arrival."""
    received = entry.ontvangen_op.date()
    known = contract.period.check(entry.periode) if contract else None
    return policy.until(contract.period.end(known) if contract and known else received, received)


def _from_vault(settings: Settings, key: MasterKey, policy: PrivacyPolicy, today: date) -> list[Removed]:
    home, gone = settings.paths, []
    with vault(home, settings.resources, key.vault) as con:
        register.prepare(con)
        register.hold_roles(con, settings)
        for name, contract in held(con, settings).items():
            entries = register.entries(con, name)
            terms = policy.leveringen.get(name)
            if terms is None:
                _tell_termless(settings, name, sum(register.holds(con, name, entry.levering_id) for entry in entries))
                continue
            for entry in entries:
                if entry.status == EXPIRED or not past_term(terms, contract, entry, today):
                    continue
                until = _until(terms, contract, entry)
                if entry.status == RECEIVED:
                    rows = _delete(con, name, entry.levering_id)
                    gone.append(Removed("kluis", name, entry.levering_id, rows, until))
                if _drop_original(con, home, entry):
                    gone.append(Removed("origineel", name, entry.levering_id, entry.geleverd, until))
    if any(removed.place == "kluis" for removed in gone):
        rewrite_vault(home, settings.resources, key.vault)
    return gone


def _tell_termless(settings: Settings, name: str, count: int) -> None:
    """Say of a delivery that stays in the vault without a term what is to be done about it."""
    if not count:
        return
    reason = (
        f"the vault holds {count} deliveries of `{name}`, for which doelen.yaml sets no term: enter one under "
        f"`leveringen: {name}: {{bewaartermijn_maanden: …}}`; what is past it then goes"
    )
    ledger = Ledger(settings.paths.ledger)
    last = ledger.last("stale", f"vault/{name}")
    if last is None or last.payload.get("reason") != reason:
        ledger.append("stale", f"vault/{name}", {"delivery": name, "reason": reason})


def _delete(con: duckdb.DuckDBPyConnection, name: str, delivery_id: str) -> int:
    """Rows and refused rows of one delivery; the register keeps that it was there."""
    rows = 0
    with transaction(con):
        for place in (register.table(name), register.quarantine(name)):
            found = con.execute(f"DELETE FROM {place} WHERE {DELIVERY} = ?", [delivery_id]).fetchone()
            rows += int(found[0]) if found else 0
        con.execute(f"UPDATE {VAULT}.beheer.leveringen SET status = ? WHERE levering_id = ?", [EXPIRED, delivery_id])
    return rows


def _drop_original(con: duckdb.DuckDBPyConnection, home: Home, entry: Entry) -> bool:
    """Remove an encrypted original, unless the same file is in use as another delivery."""
    others = [other for other in register.entries(con) if other.vingerafdruk == entry.vingerafdruk]
    if any(other.levering_id != entry.levering_id and other.status == RECEIVED for other in others):
        return False
    path = home.originals / f"{entry.vingerafdruk}.age"
    was_there = path.exists()
    path.unlink(missing_ok=True)
    (home.reports / "op-orde" / entry.levering / f"{entry.levering_id}.regels.age").unlink(missing_ok=True)
    return was_there


def _from_warehouse(
    settings: Settings,
    policy: PrivacyPolicy,
    contracts: Mapping[str, Contract],
    known: Mapping[str, Sequence[Entry]],
    today: date,
) -> list[Removed]:
    linkages = registered(settings)
    with warehouse(settings.paths, settings.resources) as con:
        left = _withdrawn(con, policy, contracts)
        for table in withdrawn(con, linkages):
            place = f"{table.schema}.{table.name}"
            left.append(Removed(place, table.name, "", table.rows, None, UNLINKED))
        for name, contract in contracts.items():
            for purpose in (settled.name for settled in policy.settled(contract, name)):
                terms = policy.purpose(purpose, name)
                over = [e for e in known.get(name, ()) if contract.period.check(e.periode)]
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


def _withdrawn(
    con: duckdb.DuckDBPyConnection, policy: PrivacyPolicy, contracts: Mapping[str, Contract]
) -> list[Removed]:
    """Drop the tables of purposes that no longer get a delivery; what was dropped."""
    asked = {
        (f"{RAW}{purpose.name}", name)
        for name, contract in contracts.items()
        for purpose in policy.settled(contract, name)
    }
    query = "SELECT schema_name, table_name FROM duckdb_tables() WHERE starts_with(schema_name, ?)"
    gone = []
    for schema, name in con.execute(query, [RAW]).fetchall():
        if schema in IMPERSONAL or (schema, name) in asked:
            continue
        row = con.execute(f"SELECT count(*) FROM {quoted(schema)}.{quoted(name)}").fetchone()
        con.execute(f"DROP TABLE {quoted(schema)}.{quoted(name)}")
        gone.append(Removed(f"{schema}.{name}", name, "", int(row[0]) if row else 0, None, WITHDRAWN))
    return gone


def forget(con: duckdb.DuckDBPyConnection, schema: str, name: str, where: str, values: Sequence[object]) -> int:
    """Delete rows of a raw table, where it exists; return how many. Its old blocks stay until the file is rewritten."""
    exists = con.execute("FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, name]).fetchone()
    if exists is None:
        return 0
    found = con.execute(f"DELETE FROM {quoted(schema)}.{quoted(name)} WHERE {where}", list(values)).fetchone()
    return int(found[0]) if found else 0


def drop_persons_between(con: duckdb.DuckDBPyConnection) -> None:
    """Drop what is kept between raw tables and marts, of models and linkages: the next run makes it from what is left.

    Not only what holds a pseudonym: rows of persons may stand there without one.
    """
    query = """SELECT DISTINCT schema_name, table_name FROM duckdb_columns() JOIN duckdb_tables()
        USING (schema_name, table_name)
        WHERE NOT starts_with(schema_name, ?) AND (schema_name IN (SELECT unnest(?)) OR starts_with(schema_name, ?)
            OR contains(column_name, ?) OR data_type = 'UUID')"""
    values = [RAW, [layer for layer in LAYERS if layer != "marts"], LINKED, PSEUDONYM]
    for schema, table in con.execute(query, values).fetchall():
        con.execute(f"DROP TABLE {quoted(schema)}.{quoted(table)}")


def _show(settings: Settings, removed: Sequence[Removed]) -> None:
    """Add to `raw_leveringen.bewaring`: what was removed when; counts only."""
    now = datetime.now(UTC).replace(tzinfo=None)
    with warehouse(settings.paths, settings.resources) as con:
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {STATE_SCHEMA}")
        con.execute(f"""CREATE TABLE IF NOT EXISTS {STATE_SCHEMA}.bewaring (
            verwijderd_op TIMESTAMP, plaats VARCHAR, levering VARCHAR, levering_id VARCHAR, rijen BIGINT,
            termijn_tot DATE)""")
        con.execute(f"ALTER TABLE {STATE_SCHEMA}.bewaring ADD COLUMN IF NOT EXISTS reden VARCHAR")
        for column, told in _TOLD.items():
            where = f"TABLE {STATE_SCHEMA}.bewaring" if not column else f"COLUMN {STATE_SCHEMA}.bewaring.{column}"
            con.execute(f"COMMENT ON {where} IS {literal(told)}")
        for one in removed:
            values = [now, one.place, one.delivery, one.delivery_id, one.rows, one.until, one.reason]
            con.execute(f"INSERT INTO {STATE_SCHEMA}.bewaring VALUES (?, ?, ?, ?, ?, ?, ?)", values)


_TOLD = {
    "": "Wat is verwijderd omdat de termijn voorbij is of niemand er nog om vraagt; alleen aantallen.",
    "verwijderd_op": "Tijdstip van verwijderen (UTC).",
    "plaats": "kluis, origineel, of de tabel van een doel of koppeling.",
    "levering": "Soort levering; van een koppeling haar tabel.",
    "levering_id": "Levering die is verwijderd; leeg waar een hele tabel is verwijderd.",
    "rijen": "Verwijderde regels, geweigerde meegeteld.",
    "termijn_tot": "Laatste dag van de termijn; leeg waar het eerder is verwijderd.",
    "reden": "Waarom: termijn voorbij, doel of levering ingetrokken, of koppeling niet van kracht.",
}
