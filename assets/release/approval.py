"""Who let a table go out: which approved and unchanged proposal covers it, and what a release keeps of that.

Belongs here: judging tables by the proposals there are (assets.release.proposals), enclosing those in a release, and
verifying them there. Does not belong here: signatures themselves (quality.privacy.approvals), and any look at a figure
(assets.release.gate).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assets.release.proposals import (
    Filed,
    Proposal,
    describe,
    how_to_propose,
    is_same,
    proposals,
    read_filed,
    shown,
    unlike,
)
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from quality.norms import NORMS_FILE, Audience, Norms, load_norms
from quality.privacy import approvals
from quality.privacy.approvals import Approval, ApprovalError, Roles, load_roles, signature_file

if TYPE_CHECKING:
    from assets.release.marts import Mart
    from assets.release.publish import Release

FOLDER_IN_RELEASE = "goedkeuringen"
RECORD_KEY = "goedkeuring"
"""Where a release keeps what its tables were approved by, and the key of its record that tells of it."""


@dataclass(frozen=True)
class Covered:
    """Which tables may go out: the proposal that covers each, and why the others may not.

    Attributes:
        asked: whether approval is asked of any table: never in the sample.
        by: proposal per table that has one that holds.
        refused: reason with remedy per table that may not go out, in Dutch.
    """

    asked: bool
    by: Mapping[str, Filed] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def approved_norms(settings: Settings) -> Norms:
    """The norms of a factory, which in a real one must be approved as they are now.

    Raises:
        NormsError: there are none, or they are wrong.
        ApprovalError: nobody who holds the role `normen` approved them as they are, or a factory that released real
            figures, or has people who approve, says now to be a sample, which asks for no approval.
        LedgerError: the ledger lacks an event that someone saw when she signed.
    """
    norms, ledger = load_norms(settings.policy_folder), Ledger(settings.paths.ledger)
    was_real = any(not event.payload["voorbeeld"] for event in ledger.events("release"))
    if settings.sample and (was_real or ledger.events(approvals.ROLES_KIND)):
        told = "released real figures" if was_real else "has people who approve"
        raise ApprovalError(
            f"{settings.name} {told}, so it is no sample: take `sample` out of {settings.source} "
            "and DATAFABRIEK_SAMPLE out of the environment"
        )
    if settings.policy_folder is not None:
        approvals.require(settings, settings.policy_folder / NORMS_FILE, "normen")
        if not settings.sample:
            ledger.verify(*approvals.anchors(settings.policy_folder, load_roles(settings, tell=False)))
    return norms


def unapproved(
    settings: Settings, ledger: Ledger, audience: Audience, marts: Sequence[Mart], norms: Norms
) -> Mapping[str, str]:
    """Tables that may not go to an audience for want of an approved and unchanged proposal.

    Returns:
        Per table the reason and the command that mends it, in Dutch; empty in the sample factory, and for an audience
        of which the norms say `goedkeuring: niet` (unless a release with that table was withdrawn: after that it
        needs approval whatever the norms say).
    """
    return covered(settings, ledger, audience, marts, norms).refused


def covered(settings: Settings, ledger: Ledger, audience: Audience, marts: Sequence[Mart], norms: Norms) -> Covered:
    """Judge every table: which approved and unchanged proposal covers it, or why none does."""
    if settings.sample:
        return Covered(asked=False)
    own = norms.doelgroepen.get(audience)
    withdrawn = _withdrawn(ledger, audience)
    wanted = [m for m in marts if own is None or own.goedkeuring == "verplicht" or m.name in withdrawn]
    if not wanted:
        return Covered(asked=False)
    try:
        roles = load_roles(settings)
    except ApprovalError:
        told = f"{approvals.FILE} ontbreekt of klopt niet; `datafabriek privacy approvals` zegt wat er moet staan"
        return Covered(asked=True, refused=dict.fromkeys((mart.name for mart in wanted), told))
    now = describe(settings, audience, wanted, norms)
    filed = [item for item in proposals(settings, roles) if item.proposal.doelgroep == audience]
    by: dict[str, Filed] = {}
    refused: dict[str, str] = {}
    for mart in wanted:
        same = [f for f in filed if is_same(f.proposal, now, mart.name)]
        after = withdrawn.get(mart.name)
        holds = [f for f in same if f.approved and (after is None or any(_saw(a, after) for a in f.approved))]
        if holds:
            by[mart.name] = holds[-1]
        else:
            refused[mart.name] = _why(settings, mart.name, now, filed, same, after)
    if not filed:
        # where nothing was proposed yet, one command does for all
        told = f"niet goedgekeurd voor {audience}, er is geen voorstel: {how_to_propose(audience, ())}"
        refused = dict.fromkeys(refused, told)
    return Covered(asked=True, by=by, refused=refused)


def enclose(
    settings: Settings,
    audience: Audience,
    marts: Sequence[Mart],
    norms: Norms,
    folder: Path,
    made: Iterable[str],
    previous: Release | None,
) -> dict[str, Any]:
    """Put the approvals of a candidate's tables beside them, and tell the ledger which were used.

    Args:
        settings: of the factory.
        audience: who it is for.
        marts: what there is to release.
        norms: the organisation's norms.
        folder: of the candidate; gets `goedkeuringen/` with proposals and signatures.
        made: names of the tables made now; the others carry over what the earlier release says of them.
        previous: the release that other tables were carried over from.

    Returns:
        For the record: `gevraagd`, `voorbeeld`, who approved the norms (`normen`), and per table its proposal, who
        approved it and the public keys of all who signed (`tabellen`).

    Raises:
        ApprovalError: a table made now is not covered: the gate let through what it may not.
    """
    ledger = Ledger(settings.paths.ledger)
    found = covered(settings, ledger, audience, marts, norms)
    roles = None if settings.sample else load_roles(settings)
    tables: dict[str, Any] = {}
    place = folder / FOLDER_IN_RELEASE
    for name in sorted(made):
        if name in found.refused:
            raise ApprovalError(f"{name}: {found.refused[name]}")
        if filed := found.by.get(name):
            tables[name] = _told(filed, name, roles)
            signed = [item for item in (filed.proposer, *filed.approved) if item]
            for path in (filed.path, *(signature_file(filed.path, item.person) for item in signed)):
                _copy(path, place)
            for item in signed:
                approvals.note(ledger, item)
    carried: Mapping[str, Any] = previous.record.get(RECORD_KEY, {}).get("tabellen", {}) if previous else {}
    for name, facts in carried.items():
        if previous is not None and name not in tables:
            tables[name] = facts
            for path in (previous.folder / FOLDER_IN_RELEASE).glob(f"{facts['voorstel']}*"):
                _copy(path, place)
    file = settings.policy_folder / NORMS_FILE if settings.policy_folder else None
    by = approvals.standing(file, "normen", roles)[0] if file and roles else []
    return {
        "gevraagd": found.asked,
        "voorbeeld": settings.sample,
        "normen": [_signer(item, roles) for item in by],
        "tabellen": dict(sorted(tables.items())),
    }


def recheck(release: Release, ledger: Ledger) -> list[str]:
    """What does not hold of the approvals enclosed in a release; empty when all do.

    Every signature is verified anew, over the proposal as enclosed, and must stand in the ledger with the same key and
    among those who held the role then; a proposer among the approvers is told too.
    """
    record: dict[str, Any] = release.record.get(RECORD_KEY, {})
    folder, wrong = release.folder / FOLDER_IN_RELEASE, []
    for name, facts in record.get("tabellen", {}).items():
        try:
            people = tuple(item["door"] for item in facts["goedgekeurd"])
            keys = {person: approvals.Person(sleutel=key) for person, key in facts["sleutels"].items()}
            roles = Roles(versie="", personen=keys, rollen={"leveringen": people})
            filed = read_filed(folder / facts["voorstel"], roles)
        except ApprovalError as error:
            wrong.append(f"{name}: {error}")
            continue
        except (ValidationError, KeyError):
            wrong.append(f"{name}: what the record says of its approval cannot be used")
            continue
        table = filed.proposal.tabellen.get(name)
        if table is None or table.vingerafdruk != facts["vingerafdruk"] or filed.proposal.doelgroep != release.audience:
            wrong.append(f"{name}: {filed.path.name} is no proposal of this table for {release.audience}")
        if filed.proposer is None:
            wrong.append(f"{name}: {filed.path.name} is not signed by who proposed it")
        elif {item.person for item in filed.approved} != set(people) or not people:
            wrong.append(f"{name}: {filed.path.name} is not approved by whom the record names")
        noted = {
            (e.payload["sha256"], e.payload["person"], e.payload["at"], e.payload.get("key"))
            for e in ledger.events(approvals.KIND, filed.path.name)
            if e.payload["role"] == "leveringen" and e.payload["person"] in e.payload["holders"]
        }
        lacking = [a.person for a in filed.approved if (a.sha256, a.person, a.at, a.key) not in noted]
        wrong += [f"{name}: the ledger knows of no approval of {filed.path.name} by {person}" for person in lacking]
    if record.get("gevraagd"):
        # what was carried over stands under what was asked when it was made
        made = [
            n for n, facts in release.record["tabellen"].items() if facts["staat"] != "ontbreekt" and "uit" not in facts
        ]
        bare = sorted(set(made) - set(record["tabellen"]))
        wrong += [f"{name}: released without an approval, which the norms asked for" for name in bare]
    return wrong


def _told(filed: Filed, name: str, roles: Roles | None) -> dict[str, Any]:
    """What the record says of the approval of a table."""
    return {
        "voorstel": filed.path.name,
        "vingerafdruk": filed.proposal.tabellen[name].vingerafdruk,
        "voorgesteld_door": filed.proposal.voorgesteld_door,
        "voorgesteld_op": filed.proposal.voorgesteld_op,
        "goedgekeurd": [_signer(item, roles) for item in filed.approved],
        "sleutels": {item.person: item.key for item in (filed.proposer, *filed.approved) if item},
    }


def _signer(approval: Approval, roles: Roles | None) -> dict[str, str]:
    person = roles.personen.get(approval.person) if roles else None
    return {"door": approval.person, "functie": person.functie if person else "", "op": approval.at}


def _copy(path: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / path.name
    if not target.exists():
        target.write_bytes(path.read_bytes())


def _why(
    settings: Settings,
    name: str,
    now: Proposal,
    filed: Sequence[Filed],
    same: Sequence[Filed],
    after: int | None,
) -> str:
    """Why a table may not go out, and the command that mends it; what is nearest to holding is told."""
    audience = now.doelgroep
    signed = [f for f in same if f.proposer]
    if signed:
        path = shown(settings, signed[-1].path)
        why = "het voorstel wacht op goedkeuring"
        if after is not None and signed[-1].approved:
            why = "een levering met deze tabel is na de goedkeuring ingetrokken"
        elif signed[-1].broken:
            why = "de goedkeuring geldt niet (meer)"
        return (
            f"niet goedgekeurd voor {audience}, {why}: iemand met de rol leveringen, niet de voorsteller, doet "
            f"`datafabriek release approve {path} --key SLEUTEL`"
        )
    if same:
        why = f"voorstel {same[-1].path.name} is niet (meer) getekend door wie het deed"
    elif named := [f for f in filed if name in f.proposal.tabellen]:
        last, changed = min(
            ((f, unlike(f.proposal, now, name)) for f in reversed(named)), key=lambda pair: len(pair[1])
        )
        why = f"gewijzigd sinds voorstel {last.path.name}: {', '.join(changed)}"
    else:
        why = "er is geen voorstel"
    return f"niet goedgekeurd voor {audience}, {why}: {how_to_propose(audience, [name])}"


def _saw(approval: Approval, event: int) -> bool:
    """Whether someone signed when an event stood in the ledger: its number is part of what she signed."""
    return approval.ledger is not None and approval.ledger[0] >= event


def _withdrawn(ledger: Ledger, audience: str) -> dict[str, int]:
    """Number of the newest withdrawal of a release that showed a table, per table."""
    events = ledger.events("withdrawal", audience)
    return {table: event.seq for event in events for table in event.payload.get("tabellen", ())}
