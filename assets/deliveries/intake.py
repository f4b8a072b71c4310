"""The intake: a delivered file into the vault, whole or not at all, and out of the inbox.

The order of steps makes a kill at any moment harmless: the original is encrypted into the vault first, rows and
register entry are committed together, the ledger is told, and only then does the file leave the inbox. A next run
recognises by fingerprint what was already done and carries on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from assets.deliveries import inbox, register, superseding
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.judging import Judged, Tally, judged, shape
from assets.deliveries.layouts import Source
from assets.deliveries.register import EXPIRED, RECEIVED, REFUSED, REPEATED, Entry, masked
from assets.deliveries.sources import arranged, fetch
from datafabriek.config import Home, Settings
from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from datafabriek.warehouse import by_the_piece, vault, warehouse
from quality.contracts.model import SHIPPED, Contract, load
from quality.privacy.approvals import require
from quality.privacy.keys import MasterKey, ensure_key, load_key
from quality.privacy.policy import load_policy, policy_file

_log = logging.getLogger(__name__)


class _UnfinishedError(DeliveryError):
    """A file that changed while it was taken in."""


@dataclass(frozen=True)
class Outcome:
    """What became of one delivered file: counts, findings (column, rule, number, shapes) and the verdict.

    `status` is `ontvangen`, `geweigerd` (then `reason` says why) or `herhaald` (this very file was taken in before).
    `remarks` (in Dutch) are what a check could not judge, and of a file that is in already that a later one counts.
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
    remarks: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; no personal values."""
        return asdict(self)


def contract_of(settings: Settings, name: str) -> Contract:
    """The contract of a delivery that factory.yaml names.

    Raises:
        DeliveryError: factory.yaml does not name it, or gives a shipped contract another name.
    """
    if name not in settings.deliveries:
        known = ", ".join(settings.deliveries) or "none"
        raise DeliveryError(f"factory.yaml names no delivery `{name}` (it names: {known}): add it under `deliveries`")
    delivery = settings.deliveries[name]
    contract = load(delivery.contract or name, settings.contract_folders)
    if name != contract.name and contract.source.parent == SHIPPED:
        raise DeliveryError(
            f"factory.yaml calls a delivery by contract {contract.name} `{name}`, and the shipped models would not see "
            f"it: call it `{contract.name}`, or give it a contract and models of your own"
        )
    return arranged(contract, name, delivery)


def take_inbox(settings: Settings, name: str) -> list[Outcome]:
    """Take in every file that lies whole in the inbox of a delivery, oldest period first.

    Each file stands alone: one that is refused, or still being written, keeps the others from nothing. Where the
    delivery has a source of its own, it is fetched first; a source that fails is told as a refusal.

    Raises:
        DeliveryError, KeyFileError, PolicyError: nothing can be taken in at all.
    """
    contract = contract_of(settings, name)
    outcomes = _not_fetched(settings, name, contract)
    outcomes += [_not_read(settings, name, path, inbox.STRANGE) for path in inbox.strange(settings.paths.inbox / name)]
    if left := inbox.passed_over(settings.paths.inbox / name):
        told = ", ".join(f"{count} {kind}" for kind, count in left.items())
        _log.warning("%s: not taken in from its inbox: %s (deliver files, under a name that does not hide)", name, told)
    lying = inbox.waiting(settings.paths.inbox / name)
    files = inbox.whole(lying)
    if len(files) < len(lying):
        _log.warning("%s: %d file(s) are still being written: a next run takes them in", name, len(lying) - len(files))
    if not files:
        return outcomes
    unread = {path for path in files if path.exists() and not os.access(path, os.R_OK)}
    may_not = "a file in the inbox cannot be read: check its rights"
    outcomes += [_not_read(settings, name, path, may_not) for path in unread]
    files = [path for path in files if path not in unread]
    files.sort(key=lambda path: (contract.period.of_file(path.name) or "", inbox.changed(path), path.name))
    return outcomes + (_deliver(settings, contract, name, files, None) if files else [])


def _not_fetched(settings: Settings, name: str, contract: Contract) -> list[Outcome]:
    """Fetch a delivery into its inbox; what went wrong, where it did."""
    if settings.deliveries[name].source is None:
        return []
    # nothing is asked for that may not be used
    load_policy(settings).allowed(contract, name)
    require(settings, policy_file(settings), "grondslagen")
    ledger = Ledger(settings.paths.ledger)
    try:
        fetch(settings, name, contract)
    except DeliveryError as error:
        outcome = Outcome(name, "", None, "", REFUSED, reason=str(error))
        _tell_stale(ledger, outcome)
        return [outcome]
    late, back = ledger.last("stale", f"vault/{name}"), ledger.last("renewal", name)
    if late is not None and not late.payload.get("fingerprint") and (back is None or back.seq < late.seq):
        # it answers again; what it has may well be what is in already, which no event would tell
        ledger.append("renewal", name, {"source": True})
    return []


def _not_read(settings: Settings, name: str, path: Path, why: str) -> Outcome:
    outcome = Outcome(name, path.name, None, "", REFUSED, reason=f"{name} {shape(path.name)}: {why}")
    _tell(Ledger(settings.paths.ledger), outcome, datetime.now(UTC).replace(tzinfo=None))
    return outcome


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
        DeliveryError: the file cannot be read or is still being written, or an engine failed; nothing was taken in,
            the file is where it was.
    """
    contract = contract_of(settings, name)
    Source.open(path)
    outcomes = _deliver(settings, contract, name, [path], period) if inbox.whole([path]) else []
    if not outcomes:
        raise DeliveryError(f"{path} is still being written: deliver it when it is whole")
    return outcomes[0]


def refused(settings: Settings, key: MasterKey) -> list[Entry]:
    """Deliveries that were refused, or of which rows were, and whose original is kept: what `rejudge` takes."""
    with masked("the register"), vault(settings.paths, settings.resources, key.vault) as con:
        register.prepare(con)
        found = register.entries(con)
    return [
        entry
        for entry in found
        if entry.status in (REFUSED, RECEIVED)
        and (entry.status == REFUSED or entry.geweigerd)
        and entry.levering in settings.deliveries
        and _original(settings.paths, entry.vingerafdruk).exists()
    ]


def rejudge(settings: Settings, delivery_id: str, who: str, period: str | None = None) -> Outcome:
    """Judge a delivery again by the contract as it is now, from its encrypted original.

    Rows that were accepted before are replaced in the same transaction. It keeps the moment at which it was received,
    so that a correction that came later still supersedes it.

    Args:
        settings: the factory.
        delivery_id: which one, as register and reports name it.
        who: asks for it; stands in the ledger.
        period: what it covers, where that could not be told.

    Raises:
        DeliveryError: there is no such delivery with its original kept, the same file was taken in since, or it was
            taken in before and would now be refused: then all stays as it was.
        PolicyError: the organisation has not settled ground or retention.
    """
    key = load_key(settings.paths)
    entry = next((each for each in refused(settings, key) if each.levering_id == delivery_id), None)
    if entry is None:
        raise DeliveryError(
            f"no delivery {delivery_id} was refused, in whole or in part, of which the original is kept: "
            "`datafabriek intake rejudge` without an id lists them"
        )
    contract = contract_of(settings, entry.levering)
    load_policy(settings).allowed(contract, entry.levering)
    require(settings, policy_file(settings), "grondslagen")
    known = period or contract.period.check(entry.periode) or contract.period.of_file(entry.bestand)
    covers = contract.period.check(known) if known else None
    source = Source("", original(settings.paths, key, entry.vingerafdruk))
    arrival = Arrival(entry.levering, contract, source, entry.bestand, covers, entry.vingerafdruk, entry.ontvangen_op)
    arrival = replace(arrival, source=Source(arrival.id, source.data))
    if ended := past_term(settings, arrival):
        raise DeliveryError(ended)
    with vault(settings.paths, settings.resources, key.vault) as con:
        register.prepare(con)
        register.hold_roles(con, settings)
        same = [each for each in register.entries(con, entry.levering) if each.vingerafdruk == entry.vingerafdruk]
        if any(each.levering_id != delivery_id and each.status == RECEIVED and each.periode == covers for each in same):
            raise DeliveryError(f"{delivery_id}: the same file was taken in since: there is nothing to judge again")
        if entry.status == RECEIVED:
            from assets.deliveries.related import Related

            with masked(f"{arrival.id}: the judgement"):
                related = Related(con, settings, contract, entry.levering, {arrival.id, delivery_id})
                for _ in judged(arrival.source, contract, covers, Tally(), related):
                    pass  # a refusal of the whole raises here, before anything is touched
        judgement = _take(con, settings, key, arrival, period, replaces=entry)
        if judgement.levering_id != delivery_id and judgement.status == REFUSED:
            register.remove(con, entry)  # the period that it is told under is known now
        _report(con, settings, contract, judgement)
        if contract.placing and judgement.status == RECEIVED:
            with masked("the placing of addresses"):
                _place_anew(con, settings)
    ledger, outcome = Ledger(settings.paths.ledger), outcome_of(judgement)
    told = {"delivery_id": delivery_id, "who": who, "contract": f"{contract.name} {contract.version}"}
    ledger.append("rejudgement", entry.levering, told | {"before": entry.status, "after": judgement.status})
    _tell(ledger, outcome, judgement.ontvangen_op)
    return outcome


def _deliver(
    settings: Settings, contract: Contract, name: str, files: Sequence[Path], period: str | None
) -> list[Outcome]:
    load_policy(settings).allowed(contract, name)
    require(settings, policy_file(settings), "grondslagen")
    home = settings.paths
    home.create()
    key = ensure_key(home)
    ledger = Ledger(home.ledger)
    outcomes = []
    with vault(home, settings.resources, key.vault) as con:
        with masked("the vault"):
            register.prepare(con)
            register.hold_roles(con, settings)
            _reconcile(con, settings, ledger)
        for path in files:
            try:
                with inbox.claimed(path, home.inbox) as claim:
                    outcome, entry = _one(con, settings, contract, key, name, claim, period)
                    if entry is not None:
                        _report(con, settings, contract, entry)
                        _tell(ledger, outcome, entry.ontvangen_op)
            except (_UnfinishedError, inbox.WithdrawnError):
                continue
            except inbox.SwappedError as error:
                outcome = _not_read(settings, name, path, str(error))
            outcomes.append(outcome)
        if contract.placing and any(outcome.status == RECEIVED for outcome in outcomes):
            with masked("the placing of addresses"):
                _place_anew(con, settings)
    return outcomes


def _report(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    entry: Entry,
    remarks: Sequence[str] = (),
) -> None:
    """Write the op-orde report of a delivery that stands in the register."""
    from assets.deliveries import companion, report

    _list(con, settings, contract, entry)
    folder = settings.paths.reports / "op-orde" / entry.levering
    listed = folder / f"{entry.levering_id}{companion.SUFFIX}"
    earlier = [other for other in register.entries(con, entry.levering) if other.ontvangen_op < entry.ontvangen_op]
    name = listed.name if listed.exists() else None
    told = report.compose(entry, earlier, contract, settings.name, sample=settings.sample, listed=name)
    report.write(told | {"opmerkingen": list(remarks)}, folder)


def _list(con: duckdb.DuckDBPyConnection, settings: Settings, contract: Contract, entry: Entry) -> None:
    """Write the refused rows that stand in quarantine for their supplier's eyes, where a key of hers is known."""
    from assets.deliveries import companion

    terms = load_policy(settings).leveringen.get(entry.levering)
    folder = settings.paths.reports / "op-orde" / entry.levering
    with masked(f"{entry.levering_id}: the list of refused rows"):
        companion.write(con, entry, contract, terms.sleutel_leverancier if terms else None, folder)


@dataclass(frozen=True)
class Arrival:
    """A delivered file before any judgement.

    Attributes:
        delivery: what factory.yaml calls it.
        contract: what was agreed.
        source: its bytes, under the arrival's own id: a supplier may have put a person in the name of the file.
        file: that name, which stays in the vault.
        period: what it covers; None where neither its name nor who delivers it says so.
        fingerprint: SHA-256 of the bytes.
        received: when, in UTC.
    """

    delivery: str
    contract: Contract
    source: Source
    file: str
    period: str | None
    fingerprint: str
    received: datetime

    @classmethod
    def of(cls, claim: inbox.Claim, delivery: str, contract: Contract, named: str | None) -> Arrival:
        """A file that was claimed.

        Args:
            claim: its name, and where to open it.
            delivery: what factory.yaml calls it.
            contract: what was agreed.
            named: what it covers, where the caller says so.

        Raises:
            DeliveryError: the file cannot be read.
        """
        source = Source.open(claim.opened, f"{delivery} {shape(claim.name)}")
        fingerprint = source.fingerprint()
        period = contract.period.check(named) if named is not None else contract.period.of_file(claim.name)
        received = datetime.now(UTC).replace(tzinfo=None)
        arrived = cls(delivery, contract, source, claim.name, period, fingerprint, received)
        return replace(arrived, source=replace(source, name=arrived.id))

    @property
    def id(self) -> str:
        """Under which name register, ledger and reports speak of it."""
        return f"{self.delivery}-{self.period or 'onbekend'}-{self.fingerprint[:12]}"

    def entry(self, tally: Tally, refusal: str | None = None) -> Entry:
        """Its line in the register. Of a delivery that is refused as a whole no row is accepted."""
        return Entry(
            levering_id=self.id,
            levering=self.delivery,
            contract=self.contract.name,
            contract_versie=self.contract.version,
            periode=self.period or "onbekend",
            vingerafdruk=self.fingerprint,
            bestand=self.file,
            status=REFUSED if refusal else RECEIVED,
            geleverd=tally.delivered,
            geaccepteerd=0 if refusal else tally.accepted,
            geweigerd=tally.delivered if refusal else tally.refused,
            hersteld=tally.repaired,
            buurt_onbekend=None,
            ontvangen_op=self.received,
            geaccepteerd_op=None if refusal else datetime.now(UTC).replace(tzinfo=None),
            reden=refusal,
            bevindingen=tally.as_json(),
        )


def _one(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    contract: Contract,
    key: MasterKey,
    name: str,
    claim: inbox.Claim,
    named: str | None,
) -> tuple[Outcome, Entry | None]:
    """What became of one file, and its line in the register where it has a new one."""
    before_reading = _state(claim.opened)
    arrival = Arrival.of(claim, name, contract, named)
    found = register.entries(con, name)
    known = [entry for entry in found if entry.vingerafdruk == arrival.fingerprint]
    known = [entry for entry in known if entry.status in (RECEIVED, EXPIRED)]
    # the same rows may well hold for another period; a file that says no period is only known again
    unsaid = named is None and arrival.period is None
    before = next((entry for entry in known if unsaid or arrival.period == entry.periode), None)
    if before is not None:
        outcome = Outcome(name, claim.name, before.periode, arrival.fingerprint, REPEATED, before.geleverd)
        later = overtaking(found, before, contract)
        if later is not None:
            outcome = replace(outcome, remarks=[overtaken(before, later)])
            _log.warning("%s was delivered again, and %s counts in its place", before.levering_id, later.levering_id)
            _report(con, settings, contract, later, outcome.remarks)
        return outcome, None
    ended = past_term(settings, arrival)
    if ended is None:
        is_kept = _keep_original(settings.paths, key, claim.opened, arrival.fingerprint)
        if _state(claim.opened) != before_reading:
            if is_kept:
                _original(settings.paths, arrival.fingerprint).unlink()
            raise _UnfinishedError(f"{arrival.id} is still being written: deliver it when it is whole")
    entry = _refuse(con, arrival, ended) if ended else _take(con, settings, key, arrival, named)
    return outcome_of(entry), entry


def overtaking(found: Sequence[Entry], before: Entry, contract: Contract) -> Entry | None:
    """The later delivery that counts in the place of one that is in; None where that one counts itself."""
    counting = register.current(found, contract)
    if any(entry.levering_id == before.levering_id for entry in counting):
        return None
    return next((entry for entry in counting if entry.periode == before.periode), counting[-1])


def overtaken(before: Entry, later: Entry) -> str:
    """What a supplier is told who delivers a file again that a later one took the place of; in Dutch."""
    return (
        f"Een eerder bestand ({before.levering_id}) is opnieuw geleverd. Dat verandert niets: {later.levering_id}, "
        f"ontvangen op {later.ontvangen_op:%d-%m-%Y}, kwam er na en blijft gelden. Moet het eerdere weer gelden, lever "
        "het dan aan als nieuw bestand: opnieuw geëxporteerd, zodat het niet teken voor teken hetzelfde is."
    )


def past_term(settings: Settings, arrival: Arrival) -> str | None:
    """Why a delivery may not be kept for even a day; None where it may.

    Raises:
        PolicyError: it has no term.
    """
    if arrival.period is None:
        return None
    terms = load_policy(settings).term(arrival.delivery)
    until = terms.until(arrival.contract.period.end(arrival.period), arrival.received.date())
    if arrival.received.date() <= until:
        return None
    return f"{arrival.id}: the retention term of {arrival.period} ended on {until}: it may no longer be kept"


def _take(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    key: MasterKey,
    arrival: Arrival,
    named: str | None,
    *,
    replaces: Entry | None = None,
) -> Entry:
    """Judge and keep, in one transaction; a refused delivery leaves its register entry alone.

    `replaces` is an earlier judgement of the same file: its line and rows give way.
    """
    if arrival.period is None:
        return _refuse(con, arrival, asks_period(shape(arrival.file), arrival.contract, named))
    # imported here: they need what a run with nothing new never loads
    from assets.deliveries.erasure import Barred
    from assets.deliveries.purposes import unknown_buurt
    from assets.deliveries.related import Related

    tally = Tally()
    with masked(f"{arrival.id}: the intake"):
        register.prepare_delivery(con, arrival.delivery, arrival.contract)
        own = {arrival.id} | ({replaces.levering_id} if replaces else set())
        # read, and let go of, before anything is written
        related = Related(con, settings, arrival.contract, arrival.delivery, own)
        con.execute("BEGIN")
        try:
            if replaces is not None:
                register.remove(con, replaces)
            barred = Barred(con, key, arrival.contract)
            with by_the_piece(con), ThreadPoolExecutor(1) as writer:
                written = writer.submit(lambda: None)
                for judgement in judged(arrival.source, arrival.contract, arrival.period, tally, related):
                    part = barred.keep_out(judgement, tally)
                    written.result()
                    written = writer.submit(_add, con, arrival, part)  # while the next piece is judged
                written.result()
            refuse_ballooned(arrival, tally, largest_before(con, arrival))
            superseding.tell(con, arrival.contract, arrival.entry(tally), tally)
            entry = arrival.entry(tally)
            entry = replace(entry, buurt_onbekend=unknown_buurt(con, settings, arrival.contract, entry))
            register.enter(con, entry)
            barred.clean_original(settings.paths, arrival.fingerprint, key)
            con.execute("COMMIT")
        except DeliveryError as error:
            with suppress(FactoryError):  # whose key is wrong is told with the report
                # whoever must deliver anew needs the rows most, and they go with the transaction
                _list(con, settings, arrival.contract, arrival.entry(tally, str(error)))
            con.execute("ROLLBACK")
            return _refuse(con, arrival, str(error), tally)
        except BaseException:
            with suppress(duckdb.Error):  # out of memory DuckDB has rolled back already: the cause counts
                con.execute("ROLLBACK")
            raise
    return entry


def _add(con: duckdb.DuckDBPyConnection, arrival: Arrival, part: Judged) -> None:
    register.add_rows(con, register.table(arrival.delivery), part.accepted, arrival.id)
    register.add_rows(con, register.quarantine(arrival.delivery), part.refused, arrival.id)


def largest_before(con: duckdb.DuckDBPyConnection, arrival: Arrival) -> int:
    """Rows of the largest delivery of its kind that is in."""
    return max((e.geleverd for e in register.entries(con, arrival.delivery) if e.status == RECEIVED), default=0)


def refuse_ballooned(arrival: Arrival, tally: Tally, largest: int) -> None:
    """Hold a delivery to the size of those before it: a source that balloons is wrong more often than it grew.

    Raises:
        DeliveryError: it has more rows than the contract's `groei` times the largest that came before.
    """
    most = arrival.contract.most_growth
    if largest >= _ENOUGH_TO_COMPARE and tally.delivered > most * largest:
        raise DeliveryError(
            f"{arrival.id} holds {tally.delivered} rows, over {most:g} times the {largest} of the largest before it: "
            f"ask the supplier whether that is right; if it is, raise `groei` in contract {arrival.contract.name} and "
            f"run `datafabriek intake rejudge {arrival.id}`"
        )


_ENOUGH_TO_COMPARE = 1_000  # rows: smaller deliveries grow many times over without being wrong


def _refuse(con: duckdb.DuckDBPyConnection, arrival: Arrival, reason: str, tally: Tally | None = None) -> Entry:
    entry = arrival.entry(tally or Tally(), reason)
    with masked("the vault"):
        register.enter(con, entry)
    return entry


def _place_anew(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Count again which rows have no buurt: another address file places deliveries that came before it."""
    from assets.deliveries.purposes import unknown_buurt

    for name in settings.deliveries:
        contract = contract_of(settings, name)
        if not contract.address:
            continue
        for entry in register.current(register.entries(con, name), contract):
            if entry.status == RECEIVED:
                register.place(con, entry.levering_id, unknown_buurt(con, settings, contract, entry))


def outcome_of(entry: Entry) -> Outcome:
    """The outcome that a line of the register tells of."""
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


def asks_period(file: str, contract: Contract, named: str | None) -> str:
    """What is told of a file of which neither its name nor the caller says what it covers."""
    if named is not None:
        return f"--period {named} is no {contract.period.kind}: write it as {contract.period.example}"
    return (
        f"{file}: the name does not say which {contract.period.kind} it covers (agreed: a name as "
        f"{contract.period.file_name}): rename it, or deliver it with --period {contract.period.example}"
    )


def _state(path: Path) -> tuple[int, int, int]:
    stamp = path.stat()
    return stamp.st_ino, stamp.st_size, stamp.st_mtime_ns


def _original(home: Home, fingerprint: str) -> Path:
    return home.originals / f"{fingerprint}.age"


def _keep_original(home: Home, key: MasterKey, path: Path, fingerprint: str) -> bool:
    """Encrypt the file into the vault under its fingerprint, in one step and on disk before it returns.

    Returns:
        False where it was there.
    """
    import pyrage

    target = _original(home, fingerprint)
    if target.exists():
        return False
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
    return True


def original(home: Home, key: MasterKey, fingerprint: str) -> bytes:
    """A delivered file as it was, decrypted in memory.

    Raises:
        DeliveryError: no such original, or the key does not open it.
    """
    import pyrage

    path = _original(home, fingerprint)
    try:
        return bytes(pyrage.decrypt(path.read_bytes(), [pyrage.x25519.Identity.from_str(key.originals)]))
    except FileNotFoundError:
        raise DeliveryError(f"no original with fingerprint {fingerprint[:12]}… is kept") from None
    except pyrage.DecryptError:
        raise DeliveryError(
            f"original {fingerprint[:12]}… does not open with this key: restore the right one"
        ) from None


# --- what the ledger is told -----------------------------------------------------------------------------------


def _tell(ledger: Ledger, outcome: Outcome, received: datetime) -> None:
    accepted = datetime.now(UTC).isoformat(timespec="seconds") if outcome.status == RECEIVED else None
    ledger.append(
        "delivery",
        outcome.delivery,
        {
            "delivery": outcome.delivery,
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
        _tell_stale(ledger, outcome)


def _tell_stale(ledger: Ledger, outcome: Outcome) -> None:
    told = {"delivery": outcome.delivery, "period": outcome.period, "fingerprint": outcome.fingerprint}
    ledger.append("stale", f"vault/{outcome.delivery}", {**told, "reason": outcome.reason})


def _reconcile(con: duckdb.DuckDBPyConnection, settings: Settings, ledger: Ledger) -> None:
    """Report and tell the ledger of judgements that were committed just before a run was killed."""
    told = {
        (event.subject, event.payload.get("fingerprint"), event.payload.get("period"), event.payload.get("status"))
        for event in ledger.events("delivery")
    }
    for entry in register.entries(con):
        is_told = (entry.levering, entry.vingerafdruk, entry.periode, entry.status) in told
        if is_told or entry.status == EXPIRED:
            continue
        if entry.levering in settings.deliveries:
            _report(con, settings, contract_of(settings, entry.levering), entry)
        _tell(ledger, outcome_of(entry), entry.ontvangen_op)


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
    terms = [policy.purpose(purpose.name, name) for purpose in policy.settled(contract, name)]
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
    "levering_id": "Levering waarvan de cijfers komen, de nieuwste waar er meer optellen; leeg waar er geen is.",
    "status": "ontvangen, ontbreekt (verwacht en niet binnen) of verouderd (een nieuwere is geweigerd).",
    "geleverd": "Geleverde regels.",
    "geaccepteerd": "Geaccepteerde regels.",
    "geweigerd": "Geweigerde regels (in quarantaine).",
    "buurt_onbekend": "Geaccepteerde regels waarvan het adres in geen buurt ligt.",
    "ontvangen_op": "Tijdstip van ontvangst (UTC).",
}


def _standing(name: str, contract: Contract, found: Sequence[Entry], expected: Sequence[str]) -> list[dict[str, Any]]:
    chosen: dict[str, list[Entry]] = {}
    for each in register.current(found, contract):  # where deliveries add up a period has several
        chosen.setdefault(each.periode, []).append(each)
    latest = max(chosen, default=None)
    rows = []
    for period in sorted({*chosen, *expected}):
        held = chosen.get(period, [])
        entry = held[-1] if held else None
        unknown = [each.buurt_onbekend for each in held if each.buurt_onbekend is not None]
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
                "geleverd": sum(each.geleverd for each in held) if held else None,
                "geaccepteerd": sum(each.geaccepteerd for each in held) if held else None,
                "geweigerd": sum(each.geweigerd for each in held) if held else None,
                "buurt_onbekend": sum(unknown) if unknown else None,
                "ontvangen_op": entry.ontvangen_op if entry else None,
            }
        )
    return rows
