"""Judging a file without taking it in: what can be said of it before it is delivered, and what cannot.

Nothing is kept or written. What stands in the vault is read where there is a vault, the key is at hand and no run holds
it; else the outcome says in Dutch, for whoever prepares the delivery, what was not judged and why. Who was erased is
not looked for: that is known at the intake alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from assets.deliveries import inbox, register
from assets.deliveries.delivered import DeliveryError
from assets.deliveries.intake import (
    Arrival,
    Outcome,
    asks_period,
    largest_before,
    outcome_of,
    overtaken,
    overtaking,
    past_term,
    refuse_ballooned,
)
from assets.deliveries.judging import Tally, judged
from assets.deliveries.register import RECEIVED, masked
from assets.deliveries.related import Related
from datafabriek.config import Settings
from datafabriek.errors import FactoryError
from datafabriek.warehouse import vault
from quality.contracts.model import Contract
from quality.privacy.keys import load_key


@dataclass(frozen=True)
class _Seen:
    """What the vault tells of a file, or why nothing was read from it."""

    related: Related | None = None
    largest: int = 0
    known: tuple[str, ...] = ()
    shut: str | None = None


def check(
    path: Path,
    contract: Contract,
    period: str | None = None,
    *,
    delivery: str | None = None,
    settings: Settings | None = None,
) -> Outcome:
    """Judge a file as the intake would, as far as can be told.

    Args:
        path: the file.
        contract: what was agreed.
        period: what it covers, where the file's name does not say so.
        delivery: what the factory calls it, where that is not the contract's name.
        settings: the factory that it would be delivered to.

    Raises:
        DeliveryError: the file cannot be read at all, or it is not known what it covers.
    """
    arrival = Arrival.of(inbox.Claim(path.name, path), delivery or contract.name, contract, period)
    if arrival.period is None:
        raise DeliveryError(asks_period(path.name, contract, period))
    seen = _look(settings, arrival)
    refusal, remarks = _past_term(settings, arrival)
    tally = Tally()
    try:
        with masked(f"{arrival.id}: the judgement"):
            for _ in judged(arrival.source, contract, arrival.period, tally, seen.related):
                pass
        refuse_ballooned(arrival, tally, seen.largest)
    except DeliveryError as error:
        refusal = refusal or str(error)
    if settings is not None and arrival.delivery not in settings.deliveries:
        remarks.insert(0, f"factory.yaml noemt geen levering {arrival.delivery}: zo kan dit bestand er niet in.")
    remarks += [*_unjudged(settings, contract, seen), *seen.known]
    return replace(outcome_of(arrival.entry(tally, refusal)), remarks=remarks)


def _look(settings: Settings | None, arrival: Arrival) -> _Seen:
    """Read in the vault what a file is held to, and let go of it: a run may want it while the file is judged."""
    if settings is None:
        return _Seen(shut=_NO_FACTORY)
    try:
        if not settings.paths.vault_database.exists():
            return _Seen(shut="er is nog geen kluis: er is nog niets aangenomen")
        key = load_key(settings.paths)
        with vault(settings.paths, settings.resources, key.vault, read_only=True) as con, masked("the vault"):
            found = register.entries(con, arrival.delivery)
            same = [each for each in found if each.status == RECEIVED and each.levering_id == arrival.id]
            known = [f"Dit bestand is er al ({each.levering_id}): opnieuw aanleveren verandert niets." for each in same]
            instead = ((each, overtaking(found, each, arrival.contract)) for each in same)
            known += [overtaken(each, later) for each, later in instead if later is not None]
            related = Related(con, settings, arrival.contract, arrival.delivery, {arrival.id})
            return _Seen(related, largest_before(con, arrival), tuple(known))
    except (FactoryError, OSError) as error:
        told = error.strerror if isinstance(error, OSError) else str(error)
        return _Seen(shut=f"de kluis is hier niet te lezen ({told})")


_NO_FACTORY = "er is geen fabriek bij genoemd"


def _unjudged(settings: Settings | None, contract: Contract, seen: _Seen) -> Iterator[str]:
    """What the file was not held to."""
    for relation in contract.relations:
        where = f"Niet getoetst: of {' + '.join(relation.columns)} voorkomt in levering {relation.delivery};"
        if seen.shut:
            yield f"{where} {seen.shut}."
        elif settings is not None and relation.delivery not in settings.deliveries:
            yield f"{where} factory.yaml noemt die levering niet."
    if seen.shut:
        yield f"Niet getoetst: of dit bestand er al is, en of het veel groter is dan eerdere; {seen.shut}."
    if seen.shut and contract.correction == "toevoegen":
        yield f"Niet getoetst: of rijen al in een eerdere levering staan; {seen.shut}."
    if contract.superseding is not None:
        yield "Niet getoetst: welke eerdere rijen dit bestand zou vervangen of terugnemen."


def _past_term(settings: Settings | None, arrival: Arrival) -> tuple[str | None, list[str]]:
    """Why a delivery over this period would be refused by its age; and where that cannot be told, why not."""
    why = _NO_FACTORY
    try:
        if settings is not None:
            return past_term(settings, arrival), []
    except FactoryError as error:
        why = str(error)
    return None, [f"Niet getoetst: of de bewaartermijn van {arrival.period} voorbij is; {why}."]
