"""Waivers: a quality norm that someone accepts not to be met for a while, in the ledger. Never a privacy norm."""

from __future__ import annotations

from datetime import date

from datafabriek.errors import FactoryError
from datafabriek.ledger import Ledger
from quality.norms import PRIVACY_NORMS, QUALITY_NORMS


class WaiverError(FactoryError):
    """A norm that cannot be waived, or not in this way."""

    exit_code = 2


def accept(ledger: Ledger, norm: str, reason: str, until: date, today: date) -> None:
    """Note that a quality norm need not be met up to and including a day.

    Raises:
        WaiverError: it is a privacy norm or none at all, the reason is empty, or the day has passed.
    """
    if norm in PRIVACY_NORMS:
        raise WaiverError(f"{norm} protects people: a privacy norm cannot be waived")
    if norm not in QUALITY_NORMS:
        raise WaiverError(f"there is no quality norm {norm}: known are {', '.join(QUALITY_NORMS)}")
    if not reason.strip():
        raise WaiverError("a waiver needs a reason, which every release that uses it will show: --reason '…'")
    if until < today:
        raise WaiverError(f"--until {until} has passed: name the last day on which {norm} need not be met")
    ledger.append("waiver", norm, {"reden": reason.strip(), "tot": until.isoformat()})


def waivers(ledger: Ledger, today: date) -> dict[str, dict[str, str]]:
    """Quality norms that are accepted today: per norm `reden` and `tot` (the last day); expired ones do not count."""
    found = {event.subject: event.payload for event in ledger.events("waiver")}
    return {
        norm: {"reden": str(payload["reden"]), "tot": str(payload["tot"])}
        for norm, payload in found.items()
        if norm in QUALITY_NORMS and date.fromisoformat(str(payload["tot"])) >= today
    }
