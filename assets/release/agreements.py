"""Agreements with partners: after the last day of one nothing goes to its partner, and what lies there is taken back.

Belongs here: saying which are over, and closing those. Does not belong here: what an agreement says (quality.norms),
and taking a release back (assets.release.publish).
"""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from assets.release.publish import ReleaseError, audiences, current, withdraw_all
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from quality.norms import Audience, Norms, is_partner

BY = "datafabriek"
"""Who takes back what an agreement no longer covers, as the ledger names it."""


class AgreementError(ReleaseError):
    """There is no agreement any more under which a partner gets figures."""


def today(settings: Settings, now: datetime | None = None) -> date:
    """The day that it is for a factory: by the clock of its schedule."""
    zone = ZoneInfo(settings.schedule.timezone)
    return (now or datetime.now(zone)).astimezone(zone).date()


def require(norms: Norms, audience: Audience, day: date) -> None:
    """Hold an audience to its agreement.

    Raises:
        NormsError: the norms do not name the audience.
        AgreementError: that of a partner is over.
    """
    norms.steps(audience)
    if told := norms.over(audience, day):
        raise AgreementError(
            f"nothing goes to {audience}: {told}. Where it was extended, set `geldig_tot` in normen.yaml, have that "
            "approved, and propose the tables again"
        )


def close(settings: Settings, ledger: Ledger, day: date, norms: Norms | None) -> dict[str, list[str]]:
    """Take back all that lies at partners whose agreement is over, or whom the norms no longer name.

    Args:
        settings: of the factory; the caller holds its lock.
        ledger: notes it.
        day: today.
        norms: of the organisation; None where nobody approved what they say now. That extends nothing: the last day
            counts that stands in what the partner has.

    Returns:
        The releases that were taken back, per partner.
    """
    home, closed = settings.paths, {}
    for audience in filter(is_partner, audiences(home, ledger)):
        release = current(home, audience)
        if release is None:
            continue
        if norms is not None:
            told = norms.over(audience, day)
        else:
            last = (release.record["partner"] or {}).get("geldig_tot", date.max.isoformat())
            told = f"de overeenkomst gold tot en met {last}" if date.fromisoformat(last) < day else None
        if told:
            closed[audience] = withdraw_all(home, ledger, audience, told, BY)
    return closed
