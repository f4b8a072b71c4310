"""The intake: a delivered file into the vault, whole or not at all, and out of the inbox.

The order of steps makes a kill at any moment harmless: the original is encrypted into the vault first, rows and
register entry are committed together, the ledger is told, and only then does the file leave the inbox. A next run
recognises by fingerprint what was already done and carries on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from assets.deliveries import register
from assets.deliveries.judging import Tally, judged
from assets.deliveries.layouts import DeliveryError, Source
from assets.deliveries.register import EXPIRED, RECEIVED, REFUSED, REPEATED, Entry, masked
from datafabriek.config import Home, Settings
from datafabriek.ledger import Ledger
from datafabriek.warehouse import vault, warehouse
from quality.contracts.model import Contract, load
from quality.privacy.keys import MasterKey, ensure_key
from quality.privacy.policy import load_policy

_UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload")


@dataclass(frozen=True)
class Outcome:
    """What became of one delivered file: counts, findings (column, rule, number, shapes) and the verdict.

    `status` is `ontvangen`, `geweigerd` (then `reason` says why) or `herhaald` (this very file was taken in before).
    """

    delivery: str
    file: str
    period: str | None
    fingerprint: str
    status: str
    delivered: int = 0
    accepted: int = 0
    refused: int = 0
    repaired: int = 0
    unknown_buurt: int | None = None
    reason: str | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; no personal values."""
        return asdict(self)


def contract_of(settings: Settings, name: str) -> Contract:
    """The contract of a delivery that factory.yaml names.

    Raises:
        DeliveryError: factory.yaml does not name it.
    """
    if name not in settings.deliveries:
        known = ", ".join(settings.deliveries) or "none"
        raise DeliveryError(f"factory.yaml names no delivery `{name}` (it names: {known}): add it under `deliveries`")
    return load(settings.deliveries[name].contract or name, settings.contract_folders)


def check(path: Path, contract: Contract, period: str | None = None) -> Outcome:
    """Judge a file without taking it in; nothing is kept.

    Raises:
        DeliveryError: the file cannot be read at all.
    """
    source = Source.open(path)
    period = _period(path.name, contract, period)
    return _judge_only(source, contract, period, contract.name)


def take_inbox(settings: Settings, name: str) -> list[Outcome]:
    """Take in every file that lies in the inbox of a delivery, oldest period first.

    Each file stands alone: one that is refused keeps the others from nothing.

    Raises:
        DeliveryError, KeyFileError, PolicyError: nothing can be taken in at all.
    """
    contract = contract_of(settings, name)
    home = settings.paths
    folder = home.inbox / name
    waiting = [
        path for path in (folder.iterdir() if folder.is_dir() else ())
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in _UNFINISHED
    ]  # fmt: skip
    if not waiting:
        return []
    waiting.sort(key=lambda path: (contract.period.of_file(path.name) or "", path.stat().st_mtime_ns, path.name))
    return _deliver(settings, contract, name, waiting, None)


def deliver(settings: Settings, path: Path, name: str, period: str | None = None) -> Outcome:
    """Take one file in. A file in the inbox leaves it; one elsewhere stays where it is.

    Args:
        settings: the factory.
        path: the file.
        name: the delivery it is, as factory.yaml names it.
        period: what it covers, where its name does not say so.

    Returns:
        The outcome; a refusal is one too.

    Raises:
        KeyFileError: the vault's key is lost.
        PolicyError: the organisation has not settled ground or retention.
        DeliveryError: an engine failed; nothing was taken in, the file is where it was.
    """
    return _deliver(settings, contract_of(settings, name), name, [path], period)[0]


def _deliver(
    settings: Settings, contract: Contract, name: str, files: Sequence[Path], period: str | None
) -> list[Outcome]:
    load_policy(settings).allowed(contract, name)
    home = settings.paths
    home.create()
    key = ensure_key(home)
    ledger = Ledger(home.ledger)
    outcomes = []
    with vault(home, settings.resources, key.vault) as con:
        with masked("the vault"):
            register.prepare(con)
            _reconcile(con, ledger)
        for path in files:
            received = datetime.now(UTC).replace(tzinfo=None)
            outcome = _one(con, settings, contract, key, name, path, period, received)
            if outcome.status != REPEATED:
                _report(con, settings, contract, outcome)
                _tell(ledger, name, outcome, received)
            if outcome.fingerprint and home.inbox in path.absolute().parents:
                path.unlink()
            outcomes.append(outcome)
    return outcomes


def _report(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, outcome: Outcome) -> None:
    """Write the op-orde report of a delivery that stands in the register."""
    from assets.deliveries import report

    known = register.entries(con, outcome.delivery)
    entry = next((entry for entry in known if entry.vingerafdruk == outcome.fingerprint), None)
    if entry is not None:
        earlier = [other for other in known if other.ontvangen_op < entry.ontvangen_op]
        told = report.compose(entry, earlier, contract, settings.name, sample=settings.sample)
        report.write(told, settings.paths.reports / "op-orde" / outcome.delivery)


def _one(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    key: MasterKey,
    name: str,
    path: Path,
    period: str | None,
    received: datetime,
) -> Outcome:
    try:
        source = Source.open(path)
    except DeliveryError as error:
        return Outcome(name, path.name, None, "", REFUSED, reason=str(error))
    stamp = path.stat()
    fingerprint = hashlib.sha256(source.data).hexdigest()
    known = [entry for entry in register.entries(con, name) if entry.vingerafdruk == fingerprint]
    before = next((entry for entry in known if entry.status in (RECEIVED, EXPIRED)), None)
    if before is not None:
        return Outcome(name, path.name, before.periode, fingerprint, REPEATED, before.geleverd)
    _keep_original(settings.paths, key, path, fingerprint)
    if (path.stat().st_mtime_ns, path.stat().st_size) != (stamp.st_mtime_ns, stamp.st_size):
        raise DeliveryError(f"{path.name} is still being written: the next run takes it in")
    return _take(con, settings, contract, name, source, period, fingerprint, received)


def _take(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    name: str,
    source: Source,
    period: str | None,
    fingerprint: str,
    received: datetime,
) -> Outcome:
    """Judge and keep, in one transaction; a refused delivery leaves its register entry alone."""
    tally = Tally()
    try:
        period = _period(source.name, contract, period)
    except DeliveryError as error:
        return _refuse(con, contract, name, source, "onbekend", fingerprint, received, tally, str(error))
    until = load_policy(settings).leveringen[name].until(contract.period.end(period), received.date())
    if received.date() > until:
        (settings.paths.originals / f"{fingerprint}.age").unlink(missing_ok=True)
        reason = f"{source.name}: the retention term of {period} ended on {until}: it may no longer be kept"
        return _refuse(con, contract, name, source, period, fingerprint, received, tally, reason)
    delivery_id = f"{name}-{period}-{fingerprint[:12]}"
    with masked(f"{source.name}: the intake"):
        register.prepare_delivery(con, name, contract)
        con.execute("BEGIN")
        try:
            for part in judged(source, contract, period, tally):
                register.add_rows(con, register.table(name), part.accepted, delivery_id)
                register.add_rows(con, register.quarantine(name), part.refused, delivery_id)
            entry = _entry(contract, name, source, period, fingerprint, received, tally)
            # imported here: it needs what a run with nothing new never loads
            from assets.deliveries.purposes import unknown_buurt

            entry = replace(entry, buurt_onbekend=unknown_buurt(con, settings, contract, entry))
            register.enter(con, entry)
            con.execute("COMMIT")
        except DeliveryError as error:
            con.execute("ROLLBACK")
            return _refuse(con, contract, name, source, period, fingerprint, received, tally, str(error))
        except BaseException:
            con.execute("ROLLBACK")
            raise
    return _outcome(entry)


def _refuse(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    name: str,
    source: Source,
    period: str,
    fingerprint: str,
    received: datetime,
    tally: Tally,
    reason: str,
) -> Outcome:
    entry = _entry(contract, name, source, period, fingerprint, received, tally)
    entry = replace(entry, status=REFUSED, geaccepteerd_op=None, reden=reason)
    with masked("the vault"):
        register.enter(con, entry)
    return _outcome(entry)


def _entry(
    contract: Contract,
    name: str,
    source: Source,
    period: str,
    fingerprint: str,
    received: datetime,
    tally: Tally,
) -> Entry:
    return Entry(
        levering_id=f"{name}-{period}-{fingerprint[:12]}",
        levering=name,
        contract=contract.name,
        contract_versie=contract.version,
        periode=period,
        vingerafdruk=fingerprint,
        bestand=source.name,
        status=RECEIVED,
        geleverd=tally.delivered,
        geaccepteerd=tally.accepted,
        geweigerd=tally.refused,
        hersteld=tally.repaired,
        buurt_onbekend=None,
        ontvangen_op=received,
        geaccepteerd_op=datetime.now(UTC).replace(tzinfo=None),
        bevindingen=tally.as_json(),
    )


def _outcome(entry: Entry) -> Outcome:
    return Outcome(
        delivery=entry.levering,
        file=entry.bestand,
        period=entry.periode,
        fingerprint=entry.vingerafdruk,
        status=entry.status,
        delivered=entry.geleverd,
        accepted=entry.geaccepteerd,
        refused=entry.geweigerd,
        repaired=entry.hersteld,
        unknown_buurt=entry.buurt_onbekend,
        reason=entry.reden,
        findings=entry.bevindingen,
    )


def _judge_only(source: Source, contract: Contract, period: str | None, name: str) -> Outcome:
    tally = Tally()
    reason = None
    try:
        with masked(f"{source.name}: the judgement"):
            for _ in judged(source, contract, period, tally):
                pass
    except DeliveryError as error:
        reason = str(error)
    return Outcome(
        delivery=name,
        file=source.name,
        period=period,
        fingerprint=hashlib.sha256(source.data).hexdigest(),
        status=REFUSED if reason else RECEIVED,
        delivered=tally.delivered,
        accepted=tally.accepted,
        refused=tally.refused,
        repaired=tally.repaired,
        reason=reason,
        findings=tally.as_json(),
    )


def _period(file: str, contract: Contract, named: str | None) -> str:
    """What a file covers.

    Raises:
        DeliveryError: neither its name nor the caller says so.
    """
    if named is not None:
        found = contract.period.check(named)
        if found is None:
            raise DeliveryError(f"--period {named} is no {contract.period.kind}: write it as {contract.period.example}")
        return found
    found = contract.period.of_file(file)
    if found is None:
        raise DeliveryError(
            f"{file}: the name does not say which {contract.period.kind} it covers (agreed: "
            f"{contract.period.pattern.pattern}): rename it, or deliver it with --period {contract.period.example}"
        )
    return found


def _keep_original(home: Home, key: MasterKey, path: Path, fingerprint: str) -> None:
    """Encrypt the file into the vault under its fingerprint, in one step and on disk before it returns."""
    import pyrage

    target = home.originals / f"{fingerprint}.age"
    if target.exists():
        return
    part = target.with_suffix(f".{os.getpid()}.part")
    recipient = pyrage.x25519.Identity.from_str(key.originals).to_public()
    try:
        part.touch(mode=0o600)
        pyrage.encrypt_file(str(path), str(part), [recipient])
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def original(home: Home, key: MasterKey, fingerprint: str) -> bytes:
    """A delivered file as it was, decrypted in memory.

    Raises:
        DeliveryError: no such original, or the key does not open it.
    """
    import pyrage

    path = home.originals / f"{fingerprint}.age"
    try:
        return bytes(pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.from_str(key.originals)]))
    except FileNotFoundError:
        raise DeliveryError(f"no original with fingerprint {fingerprint[:12]}… is kept") from None
    except pyrage.DecryptError:
        raise DeliveryError(
            f"original {fingerprint[:12]}… does not open with this key: restore the right one"
        ) from None


# --- what the ledger is told -----------------------------------------------------------------------------------


def _tell(ledger: Ledger, name: str, outcome: Outcome, received: datetime) -> None:
    accepted = datetime.now(UTC).isoformat(timespec="seconds") if outcome.status == RECEIVED else None
    ledger.append(
        "delivery",
        name,
        {
            "delivery": name,
            "period": outcome.period,
            "fingerprint": outcome.fingerprint,
            "status": outcome.status,
            "delivered": outcome.delivered,
            "accepted": outcome.accepted,
            "refused": outcome.refused,
            "repaired": outcome.repaired,
            "unknown_buurt": outcome.unknown_buurt or 0,
            "received_at": received.isoformat(timespec="seconds"),
            "accepted_at": accepted,
        },
    )
    if outcome.status == REFUSED:
        _tell_stale(ledger, name, outcome)


def _tell_stale(ledger: Ledger, name: str, outcome: Outcome) -> None:
    payload = {"delivery": name, "period": outcome.period, "fingerprint": outcome.fingerprint, "reason": outcome.reason}
    ledger.append("stale", f"vault/{name}", payload)


def _reconcile(con: duckdb.DuckDBPyConnection, ledger: Ledger) -> None:
    """Tell the ledger of deliveries that were committed just before a run was killed."""
    told = {(event.subject, event.payload.get("fingerprint")) for event in ledger.events("delivery")}
    for entry in register.entries(con):
        if (entry.levering, entry.vingerafdruk) not in told:
            _tell(ledger, entry.levering, _outcome(entry), entry.ontvangen_op)


# --- what there is, and what is missing ------------------------------------------------------------------------


def standing(settings: Settings, key: MasterKey, *names: str) -> list[dict[str, Any]]:
    """Per delivery and period what is there: counts only, in the columns of `raw_leveringen.stand`.

    Args:
        settings: the factory.
        key: opens the vault.
        names: which deliveries; all where none is named.
    """
    rows: list[dict[str, Any]] = []
    with vault(settings.paths, settings.resources, key.vault) as con, masked("the register"):
        register.prepare(con)
        for name in names or settings.deliveries:
            contract = contract_of(settings, name)
            expected = register.expected(contract, settings.deliveries[name])
            found = register.entries(con, name)
            gone = _gone(settings, name, contract, found)
            found = [entry for entry in found if entry.periode not in gone]
            rows += _standing(name, contract, found, [period for period in expected if period not in gone])
    return rows


def _gone(settings: Settings, name: str, contract: Contract, found: Sequence[Entry]) -> set[str]:
    """Periods that have expired and may stand in no purpose's table any more: neither there nor missing."""
    from assets.deliveries.purposes import usable

    expired = [entry for entry in found if entry.status == EXPIRED]
    if not expired:
        return set()
    policy = load_policy(settings)
    terms = [policy.purpose(purpose, name) for purpose in contract.purposes]
    in_use = {entry.periode for entry in found if entry.status == RECEIVED}
    return {e.periode for e in expired if not any(usable(e, contract, each) for each in terms)} - in_use


def write_standing(settings: Settings, key: MasterKey) -> list[dict[str, Any]]:
    """Make `raw_leveringen.stand`: per delivery and period what is there, counts only; tell the ledger of gaps.

    A period that is expected and not in is a gap (`ontbreekt`), which is not the same as nothing happening in it.

    Returns:
        The rows.
    """
    rows = standing(settings, key)
    with warehouse(settings.paths, settings.resources) as target:
        target.execute("BEGIN")
        target.execute("CREATE SCHEMA IF NOT EXISTS raw_leveringen")
        target.execute("""CREATE OR REPLACE TABLE raw_leveringen.stand (
            levering VARCHAR, periode VARCHAR, levering_id VARCHAR, status VARCHAR, geleverd BIGINT,
            geaccepteerd BIGINT, geweigerd BIGINT, buurt_onbekend BIGINT, ontvangen_op TIMESTAMP)""")
        for row in rows:
            target.execute("INSERT INTO raw_leveringen.stand VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", list(row.values()))
        for column, told in _STANDING_TOLD.items():
            where = "TABLE raw_leveringen.stand" if not column else f"COLUMN raw_leveringen.stand.{column}"
            target.execute(f"COMMENT ON {where} IS '{told}'")
        target.execute("COMMIT")
    ledger = Ledger(settings.paths.ledger)
    known = {(event.subject, event.payload.get("period")) for event in ledger.events("gap")}
    for row in rows:
        if row["status"] == "ontbreekt" and (row["levering"], row["periode"]) not in known:
            ledger.append("gap", row["levering"], {"delivery": row["levering"], "period": row["periode"]})
    return rows


_STANDING_TOLD = {
    "": "Welke leveringen er zijn en welke ontbreken; alleen aantallen.",
    "levering": "Soort levering, zoals factory.yaml haar noemt.",
    "periode": "Periode waarover is geleverd: jaar, maand of dag.",
    "levering_id": "Levering waarvan de cijfers komen; leeg waar er geen is.",
    "status": "ontvangen, ontbreekt (verwacht en niet binnen) of verouderd (een nieuwere is geweigerd).",
    "geleverd": "Geleverde regels.",
    "geaccepteerd": "Geaccepteerde regels.",
    "geweigerd": "Geweigerde regels (in quarantaine).",
    "buurt_onbekend": "Geaccepteerde regels waarvan het adres in geen buurt ligt.",
    "ontvangen_op": "Tijdstip van ontvangst (UTC).",
}


def _standing(name: str, contract: Contract, found: Sequence[Entry], expected: Sequence[str]) -> list[dict[str, Any]]:
    chosen = {entry.periode: entry for entry in register.current(found, contract)}
    latest = max(chosen, default=None)
    rows = []
    for period in sorted({*chosen, *expected}):
        entry = chosen.get(period)
        refused = [e for e in found if entry and e.status == REFUSED and e.ontvangen_op > entry.ontvangen_op]
        # refused after what is in use: the same period again, or a newer one that should have followed
        stale = any(
            e.periode == period or (period == latest and e.periode > period and e.periode not in chosen)
            for e in refused
        )
        status = "ontbreekt" if entry is None else "verouderd" if stale else "ontvangen"
        rows.append(
            {
                "levering": name,
                "periode": period,
                "levering_id": entry.levering_id if entry else None,
                "status": status,
                "geleverd": entry.geleverd if entry else None,
                "geaccepteerd": entry.geaccepteerd if entry else None,
                "geweigerd": entry.geweigerd if entry else None,
                "buurt_onbekend": entry.buurt_onbekend if entry else None,
                "ontvangen_op": entry.ontvangen_op if entry else None,
            }
        )
    return rows
