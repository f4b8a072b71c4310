"""Where the factory stands, told from its ledger and contracts alone: nothing is opened, mended or written.

Belongs here: what was released when and from what, what is stale, what is late. Does not belong here: putting ledger
and releases right (assets.release.publish) and judging a delivery (assets.deliveries).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from assets.cbs.freshness import checked
from assets.deliveries.inbox import passed_over, waiting
from assets.deliveries.register import RECEIVED, due, expected
from datafabriek.alerts import Alert, alert
from datafabriek.config import Settings
from datafabriek.ledger import Event, Ledger
from quality.contracts.model import ContractError, load
from quality.norms import audiences
from quality.privacy.approvals import versions


@dataclass(frozen=True)
class ReleaseState:
    """The current release of an audience; `tables` maps each to its state, `waived` norms to their reason."""

    audience: str
    release: str
    at: str
    age_days: int
    norms: str
    sample: bool
    tables: dict[str, dict[str, Any]]
    waived: dict[str, Any]


@dataclass(frozen=True)
class Withdrawn:
    """A release that was taken back (`release withdraw`), and why."""

    audience: str
    release: str
    at: str
    reason: str


@dataclass(frozen=True)
class SourceState:
    """What came in last of a CBS table or a delivery; `stale_since` where renewing it failed after that.

    `at` is when what it is now came in, `checked` when it was last found to be what CBS has.
    """

    name: str
    kind: str
    at: str | None
    age_days: int | None
    period: str | None
    facts: dict[str, Any]
    stale_since: str | None
    checked: str | None = None


@dataclass(frozen=True)
class Missing:
    """A period of a delivery that was expected and never accepted, and whose promised term has passed."""

    delivery: str
    period: str
    supplier: str
    due: date
    days_late: int


@dataclass(frozen=True)
class Unclaimed:
    """Files in the inbox that no run takes in.

    They lie in no folder of a delivery (`meant` is the likely name), or in that of one, and then `passed_over` says how
    many are `folders`, `hidden` and `unfinished`.
    """

    folder: str
    files: int
    meant: str | None
    passed_over: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trust:
    """Who may approve: the print of the version of rollen.yaml that holds, and of the first, which was trusted."""

    print: str
    since: str
    first: str
    first_at: str


@dataclass(frozen=True)
class Status:
    """All of it, at one moment."""

    name: str
    sample: bool
    at: str
    last_run: dict[str, Any] | None
    releases: tuple[ReleaseState, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    sources: tuple[SourceState, ...] = ()
    missing: tuple[Missing, ...] = ()
    waivers: dict[str, Any] = field(default_factory=dict)
    unclaimed: tuple[Unclaimed, ...] = ()
    mistakes: tuple[str, ...] = ()
    roles: Trust | None = None

    def as_dict(self) -> dict[str, Any]:
        """The status as plain values."""
        return asdict(self)


def read_status(settings: Settings, now: datetime | None = None) -> Status:
    """The status of a factory; empty where nothing ran yet.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    now = now or datetime.now(UTC)
    ledger = Ledger(settings.paths.ledger)
    events = ledger.events()
    run = _last(events, "run")
    return Status(
        name=settings.name,
        sample=settings.sample,
        at=now.isoformat(timespec="seconds"),
        last_run={"at": run.at, **run.payload} if run else None,
        releases=tuple(_releases(events, now)),
        withdrawn=tuple(
            Withdrawn(event.subject, event.payload["release"], event.at, event.payload["reden"])
            for event in events
            if event.kind == "withdrawal" and "map" in event.payload
        ),
        sources=tuple(_sources(events, now, checked(settings.paths.checked_cbs))),
        missing=tuple(missing(settings, events, now.date())),
        waivers=_waivers(ledger, now.date()),
        unclaimed=tuple(unclaimed(settings)),
        mistakes=tuple(_mistakes(settings)),
        roles=_trust(ledger),
    )


def is_anything_released(ledger: Ledger) -> bool:
    """Whether some audience has a release now: one that was withdrawn no longer counts."""
    newest = {event.subject: event.payload["release"] for event in ledger.events("publication")}
    return any(newest.values())


def _last(events: list[Event], kind: str, subject: str | None = None) -> Event | None:
    return next((e for e in reversed(events) if e.kind == kind and subject in (None, e.subject)), None)


def _age(at: str, now: datetime) -> int:
    return max((now - datetime.fromisoformat(at)).days, 0)


def _releases(events: list[Event], now: datetime) -> list[ReleaseState]:
    found = []
    for audience in audiences(event.subject for event in events if event.kind == "publication"):
        published = _last(events, "publication", audience)
        if published is None or published.payload["release"] is None:
            continue
        name = published.payload["release"]
        made = next(e for e in events if e.kind == "release" and e.payload["release"] == name)
        payload = made.payload
        tables, waived = dict(payload["tabellen"]), dict(payload["afwijkingen"])
        found.append(
            ReleaseState(
                audience,
                name,
                made.at,
                _age(made.at, now),
                payload["normen_versie"],
                payload["voorbeeld"],
                tables,
                waived,
            )
        )
    return found


def _sources(events: list[Event], now: datetime, looked_at: Mapping[str, str]) -> list[SourceState]:
    """Per CBS table and delivery the newest that was taken in, and since when it could not be renewed."""
    taken: dict[tuple[str, str], Event] = {}
    stale: dict[str, Event] = {}
    for event in events:
        if event.kind == "cbs_load" or is_accepted(event):
            taken[event.kind, event.subject] = event
            stale.pop(event.subject, None)
        elif event.kind == "renewal":
            stale.pop(event.subject, None)
        elif event.kind == "stale":
            # the vault's side of a delivery is told apart from the tables made of it
            stale.setdefault(event.subject.removeprefix("vault/"), event)
    found = [
        SourceState(
            subject,
            _kind(subject),
            event.at,
            _age(event.at, now),
            event.payload.get("period"),
            {name: value for name, value in event.payload.items() if isinstance(value, int | float | str | bool)},
            stale[subject].at if subject in stale else None,
            looked_at.get(subject),
        )
        for (_, subject), event in sorted(taken.items())
    ]
    never = sorted(stale.keys() - {subject for _, subject in taken})
    # what its last good version holds, for a table whose making leaves no event of its own
    rows = {name: {"rijen": stale[name].payload.get("rijen")} for name in never}
    return found + [
        SourceState(name, _kind(name), None, None, None, rows[name], stale[name].at, looked_at.get(name))
        for name in never
    ]


def _kind(subject: str) -> str:
    return "cbs" if subject.startswith("raw_cbs.") else "levering"


def _trust(ledger: Ledger) -> Trust | None:
    known = versions(ledger)
    return Trust(known[-1].print, known[-1].at, known[0].print, known[0].at) if known else None


def _mistakes(settings: Settings) -> list[str]:
    """What keeps a delivery in factory.yaml from being taken in at all: a contract that is not there or not right."""
    found = []
    for name, delivery in settings.deliveries.items():
        try:
            load(delivery.contract or name, settings.contract_folders)
        except ContractError as error:
            found.append(f"{settings.source}, `deliveries.{name}`: {error}")
    return found


def is_accepted(event: Event) -> bool:
    """Whether an event tells of a delivery that was taken in."""
    return event.kind == "delivery" and event.payload["status"] == RECEIVED


def _waivers(ledger: Ledger, today: date) -> dict[str, Any]:
    from assets.release.waivers import waivers

    return dict(waivers(ledger, today))


def missing(settings: Settings, events: list[Event], today: date) -> list[Missing]:
    """Periods that `expected_from` promises in factory.yaml, whose term in the contract passed, and that never came."""
    found = []
    for name, delivery in settings.deliveries.items():
        if delivery.expected_from is None:
            continue
        try:
            contract = load(delivery.contract or name, settings.contract_folders)
        except ContractError:
            continue  # a mistake in factory.yaml, told as such
        got = {event.payload["period"] for event in events if event.subject == name and is_accepted(event)}
        for period in expected(contract, delivery, datetime(today.year, today.month, today.day, tzinfo=UTC)):
            if period not in got:
                last = due(contract, period)
                found.append(Missing(name, period, contract.supplier, last, (today - last).days))
    return found


def unclaimed(settings: Settings) -> list[Unclaimed]:
    """What lies in the inbox beside the folders of the deliveries in factory.yaml: a folder misspelt, a loose file."""
    inbox, found = settings.paths.inbox, []
    if not inbox.is_dir():
        return []
    if loose := sum(1 for _ in waiting(inbox)):
        found.append(Unclaimed("", loose, None))
    for folder in sorted(path for path in inbox.iterdir() if path.is_dir()):
        if folder.name not in settings.deliveries and (files := sum(1 for _ in waiting(folder))):
            close = difflib.get_close_matches(folder.name.lower(), settings.deliveries, n=1)
            found.append(Unclaimed(folder.name, files, close[0] if close else None))
        if left := passed_over(folder):
            found.append(Unclaimed(folder.name, sum(left.values()), None, left))
    return found


def announce_late(settings: Settings, today: date | None = None) -> list[Missing]:
    """Tell once of every period that became late: an alert, and a `late` event in the ledger.

    Returns:
        What was told now.

    Raises:
        AlertError: the alert did not arrive; it is tried again next time.
    """
    ledger = Ledger(settings.paths.ledger)
    events = ledger.events()
    told = {(event.subject, event.payload["periode"]) for event in events if event.kind == "late"}
    new = [item for item in missing(settings, events, today or datetime.now(UTC).date()) if _key(item) not in told]
    if not new:
        return []
    lines = tuple(
        f"{item.delivery} over {item.period} van {item.supplier} had er op {item.due} moeten zijn "
        f"({item.days_late} dagen te laat)." for item in new
    )  # fmt: skip
    facts = {"leveringen": [{"levering": i.delivery, "periode": i.period, "uiterlijk": str(i.due)} for i in new]}
    alert(settings, Alert("levering_te_laat", f"{settings.name}: {len(new)} levering(en) te laat", lines, facts))
    for item in new:
        ledger.append("late", item.delivery, {"periode": item.period, "uiterlijk": str(item.due)})
    return new


def _key(item: Missing) -> tuple[str, str]:
    return item.delivery, item.period
