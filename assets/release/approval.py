"""Who let a table go out: proposals that someone signed and someone else approved, and whether they still hold.

Belongs here: writing and reading proposals (`policy/leveringen/<audience>-<day>-<fingerprint>.yaml`), what of a table
a proposal pins down, and which tables an approved and unchanged one covers. Does not belong here: signatures
themselves (quality.privacy.approvals), and any look at a figure (assets.release.gate).

A proposal pins down the disclosure spec of a table, its columns, the raw tables it rests on, who supplies them under
which contract, the text of every model and macro it is made with, the norms as the organisation wrote them, audience
and factory. The text of the models counts, because the same spec over another query shows other people: whoever may
edit a model could otherwise release anything under an old signature. The price is one proposal and one signature after
an upgrade that touches a model or contract. That a table was made from that very text, `marts.failures` sees to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assets.models.runner import last_manifest, texts
from assets.release.agreements import require, today
from assets.release.marts import Mart, contracts_of, registers, suppliers
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.mistakes import explain, load
from quality.norms import NORMS_FILE, Audience, Norms, load_norms
from quality.privacy import approvals
from quality.privacy.approvals import Approval, ApprovalError, Roles, load_roles, signature_file

if TYPE_CHECKING:
    from assets.release.publish import Release

FOLDER = "leveringen"
"""Where proposals lie, in the policy folder."""

FOLDER_IN_RELEASE = "goedkeuringen"
RECORD_KEY = "goedkeuring"
"""Where a release keeps what its tables were approved by, and the key of its record that tells of it."""

_HEADER = """\
# Voorstel tot levering. Pas niets aan: elke wijziging maakt de handtekeningen ernaast ongeldig.
# Goedkeuren doet iemand anders, met de rol leveringen in rollen.yaml:
#   datafabriek release approve {path} --key SLEUTEL
# Het geldt zolang spec, kolommen, bronnen, leveranciers, contracten, modellen en normen zijn zoals hieronder; daarna is
# een nieuw voorstel nodig.
"""


class ProposedTable(BaseModel):
    """What a proposal pins down of one table.

    Attributes:
        vingerafdruk: SHA-256 of the rest, the norms, the audience and the factory.
        spec: the disclosure spec as written beside its model; empty where there is none.
        kolommen: names of its columns.
        bronnen: the raw tables it rests on.
        leveranciers: who supplies each delivery among them: one who supplies two knows more than two who supply one.
        contracten: SHA-256 of the contract of each of these deliveries.
        modellen: first half of the SHA-256 of each model, seed and macro that it is made with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vingerafdruk: str = ""
    spec: dict[str, Any]
    kolommen: tuple[str, ...]
    bronnen: tuple[str, ...]
    leveranciers: dict[str, str] = {}
    contracten: dict[str, str] = {}
    modellen: dict[str, str]

    def unlike(self, other: ProposedTable) -> list[str]:
        """In what two differ, in words."""
        parts = {
            "de spec": "spec",
            "de kolommen": "kolommen",
            "de bronnen": "bronnen",
            "de leverancier": "leveranciers",
            "het contract": "contracten",
            "het model": "modellen",
        }
        return [told for told, name in parts.items() if getattr(self, name) != getattr(other, name)]


class Proposal(BaseModel):
    """All of a proposal: which tables, as they are now, should go to whom, and who says so.

    Attributes:
        fabriek: name of the factory, so that a signature counts in one alone.
        gemeenten: whose people the tables are about.
        normen_versie: version of the norms.
        normen: SHA-256 of the norms as the organisation wrote them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    voorstel: Literal["levering"] = "levering"
    fabriek: str
    doelgroep: Audience
    gemeenten: tuple[str, ...]
    voorgesteld_door: Annotated[str, Field(pattern=r"^[a-z0-9_]*$")]
    voorgesteld_op: str
    normen_versie: str
    normen: str
    tabellen: dict[str, ProposedTable] = Field(min_length=1)

    def sealed(self) -> Proposal:
        """The same with the fingerprint of every table worked out."""
        tables = {}
        for name, table in self.tabellen.items():
            told = [
                self.fabriek,
                self.doelgroep,
                self.gemeenten,
                self.normen,
                name,
                # as written: one of before a key was added stays what it was
                table.model_dump(exclude={"vingerafdruk"}, exclude_unset=True),
            ]
            tables[name] = table.model_copy(update={"vingerafdruk": _digest(told)})
        return self.model_copy(update={"tabellen": tables})


@dataclass(frozen=True)
class Filed:
    """A proposal as it lies in its file, with the signatures beside it that hold.

    Attributes:
        proposer: her signature; None where she did not sign, and then the proposal is nobody's.
        approved: by whom, never the proposer.
        broken: how many other signatures lie beside it that do not hold (any more).
    """

    path: Path
    proposal: Proposal
    proposer: Approval | None
    approved: tuple[Approval, ...]
    broken: int = 0


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
        same = [f for f in filed if _is_same(f.proposal, now, mart.name)]
        after = withdrawn.get(mart.name)
        holds = [f for f in same if f.approved and (after is None or any(_saw(a, after) for a in f.approved))]
        if holds:
            by[mart.name] = holds[-1]
        else:
            refused[mart.name] = _why(settings, mart.name, now, filed, same, after)
    if not filed:
        # where nothing was proposed yet, one command does for all
        told = f"niet goedgekeurd voor {audience}, er is geen voorstel: {_propose(audience, ())}"
        refused = dict.fromkeys(refused, told)
    return Covered(asked=True, by=by, refused=refused)


def describe(settings: Settings, audience: Audience, marts: Iterable[Mart], norms: Norms) -> Proposal:
    """Tables as they are now, in the form of a proposal by nobody."""
    marts, manifest = list(marts), last_manifest(settings.paths) or {}
    whose = suppliers(settings, norms, marts)
    contracts = contracts_of(settings, whose)
    return Proposal(
        fabriek=settings.name,
        doelgroep=audience,
        gemeenten=tuple(sorted(settings.region.gemeenten)),
        voorgesteld_door="",
        voorgesteld_op="",
        normen_versie=norms.versie,
        # as written: a key that a later version adds with a default changes nothing
        normen=_digest(norms.model_dump(mode="json", exclude_unset=True)),
        tabellen={
            mart.name: ProposedTable(
                spec=json.loads(json.dumps(mart.disclosure or {})),
                kolommen=tuple(sorted(mart.columns)),
                bronnen=mart.sources,
                leveranciers={name: whose[name] for name in sorted(registers(mart))},
                contracten={name: contracts[name].digest for name in sorted(registers(mart)) if name in contracts},
                modellen={
                    name: digest[:32]
                    for model in mart.models
                    for name, digest in sorted(texts(manifest, model).items())
                },
            )
            for mart in marts
        },
    ).sealed()


def propose(
    settings: Settings,
    audience: Audience,
    marts: Sequence[Mart],
    norms: Norms,
    key_file: Path,
    password: str,
    person: str | None = None,
) -> Filed:
    """Write a proposal, signed by who proposes it, and tell the ledger; nothing stays where signing fails.

    Raises:
        ApprovalError: there is no policy folder, or the key is of nobody whom rollen.yaml knows, or this is a run.
        AgreementError: the agreement with the partner is over.
    """
    if settings.sample:
        raise ApprovalError("the sample factory asks for no approval: make a factory of your own (`datafabriek init`)")
    if settings.policy_folder is None:
        raise ApprovalError("this factory has no policy folder: `datafabriek init` makes one to fill in")
    require(norms, audience, today(settings))
    key = approvals.unlock(settings, "voorstel", key_file, password, person=person)
    at = datetime.now(UTC)
    proposal = describe(settings, audience, marts, norms).model_copy(
        update={"voorgesteld_door": key.person, "voorgesteld_op": at.isoformat(timespec="seconds")}
    )
    folder = settings.policy_folder / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{audience}-{at:%Y-%m-%d}-{_digest(proposal.model_dump())[:6]}.yaml"
    body = yaml.safe_dump(proposal.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
    path.write_text(_HEADER.format(path=shown(settings, path)) + body, encoding="utf-8")
    signed = approvals.endorse(settings, path, "voorstel", key)
    prints = {name: table.vingerafdruk for name, table in proposal.tabellen.items()}
    facts = {"bestand": path.name, "sha256": signed.sha256, "door": key.person, "normen_versie": norms.versie}
    Ledger(settings.paths.ledger).append("proposal", audience, facts | {"tabellen": prints})
    return read_filed(path, load_roles(settings))


def approve(
    settings: Settings,
    path: Path,
    marts: Sequence[Mart],
    norms: Norms,
    key_file: Path,
    password: str,
    person: str | None = None,
) -> tuple[Filed, Approval]:
    """Approve a proposal with a personal key; only one that lies in its folder and fits the tables as they are.

    Raises:
        ApprovalError: the proposal is not signed by who proposed it, was made for another factory, no longer fits, or
            the key is not of someone else who holds the role `leveringen`; or this is a run.
        AgreementError: the agreement with the partner is over.
    """
    roles = load_roles(settings)
    if settings.policy_folder is None or path.resolve().parent != (settings.policy_folder / FOLDER).resolve():
        raise ApprovalError(f"{path} does not lie in {FOLDER}/ of the policy folder, where the release looks for it")
    filed = read_filed(path, roles)
    proposal = filed.proposal
    require(norms, proposal.doelgroep, today(settings))
    if filed.proposer is None:
        raise ApprovalError(f"{path} is not signed by {proposal.voorgesteld_door}, who proposed it: propose it again")
    now = describe(settings, proposal.doelgroep, [m for m in marts if m.name in proposal.tabellen], norms)
    if unlike := {name: told for name in proposal.tabellen if (told := _unlike(proposal, now, name))}:
        wrong = "; ".join(f"{name}: {', '.join(parts)}" for name, parts in unlike.items())
        raise ApprovalError(
            f"{path} no longer fits what would go out: {wrong}. Do {_propose(proposal.doelgroep, unlike)}"
        )
    barred = {proposal.voorgesteld_door}
    key = approvals.unlock(settings, "leveringen", key_file, password, person=person, barred=barred)
    given = approvals.endorse(settings, path, "leveringen", key)
    if given.sha256 != filed.proposer.sha256:
        signature_file(path, given.person).unlink()
        raise ApprovalError(f"{path} was changed while it was approved: read it again, and propose it again")
    return read_filed(path, roles), given


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


def read_filed(path: Path, roles: Roles) -> Filed:
    """A proposal and the signatures beside it.

    Raises:
        ApprovalError: it cannot be read, or a fingerprint in it is not of what it says.
    """
    try:
        content = path.read_bytes()
        proposal = Proposal.model_validate(load(content.decode("utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise ApprovalError(f"{path} cannot be read as a proposal") from None
    except ValidationError as error:
        raise ApprovalError(explain(path, error, Proposal)) from None
    if proposal != proposal.sealed():
        raise ApprovalError(f"{path}: a fingerprint in it is not of what it says: propose it again")
    proposer, approved, broken = None, [], 0
    for beside in approvals.signatures(path):
        own = beside == signature_file(path, proposal.voorgesteld_door)
        try:
            found = approvals.verify(
                path.name, content, beside.read_bytes(), "voorstel" if own else "leveringen", roles
            )
        except (OSError, ApprovalError):
            broken += 1
            continue
        # a signature counts as its signer's, whatever its file is called
        if own and found.person == proposal.voorgesteld_door:
            proposer = found
        elif not own and found.person != proposal.voorgesteld_door:
            approved.append(found)
        else:
            broken += 1
    return Filed(path, proposal, proposer, tuple(approved) if proposer else (), broken)


def proposals(settings: Settings, roles: Roles) -> list[Filed]:
    """All proposals that can be read, oldest first."""
    found = []
    for path in sorted((settings.policy_folder / FOLDER).glob("*.yaml")) if settings.policy_folder else ():
        try:
            found.append(read_filed(path, roles))
        except ApprovalError:
            continue
    return sorted(found, key=lambda filed: filed.proposal.voorgesteld_op)


def shown(settings: Settings, path: Path) -> Path:
    """A path as a user types it from the factory's folder."""
    base = settings.source.parent
    return path.relative_to(base) if path.is_relative_to(base) else path


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
        why = f"gewijzigd sinds voorstel {named[-1].path.name}: {', '.join(_unlike(named[-1].proposal, now, name))}"
    else:
        why = "er is geen voorstel"
    return f"niet goedgekeurd voor {audience}, {why}: {_propose(audience, [name])}"


def _propose(audience: str, tables: Iterable[str]) -> str:
    return f"`datafabriek release propose {' '.join((audience, *tables))} --key SLEUTEL`"


def _is_same(proposal: Proposal, now: Proposal, name: str) -> bool:
    table = proposal.tabellen.get(name)
    return table is not None and table.vingerafdruk == now.tabellen[name].vingerafdruk


def _unlike(proposal: Proposal, now: Proposal, name: str) -> list[str]:
    """In what a proposed table differs from what it is now, in words; empty where in nothing."""
    table = now.tabellen.get(name)
    if table is None:
        return ["de tabel is er niet"]
    parts = {"de fabriek": "fabriek", "de doelgroep": "doelgroep", "de gemeenten": "gemeenten", "de normen": "normen"}
    told = [word for word, key in parts.items() if getattr(proposal, key) != getattr(now, key)]
    return told + proposal.tabellen[name].unlike(table)


def _saw(approval: Approval, event: int) -> bool:
    """Whether someone signed when an event stood in the ledger: its number is part of what she signed."""
    return approval.ledger is not None and approval.ledger[0] >= event


def _withdrawn(ledger: Ledger, audience: str) -> dict[str, int]:
    """Number of the newest withdrawal of a release that showed a table, per table."""
    events = ledger.events("withdrawal", audience)
    return {table: event.seq for event in events for table in event.payload.get("tabellen", ())}


def _digest(content: Any) -> str:
    line = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=list)
    return hashlib.sha256(line.encode()).hexdigest()
