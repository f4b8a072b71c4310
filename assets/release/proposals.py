"""Proposals: what of a table should go to whom, as it is now, signed by who proposes it and by who approves it.

Belongs here: what a proposal pins down, and writing, signing and reading one
(`policy/leveringen/<audience>-<day>-<fingerprint>.yaml`). Does not belong here: signatures themselves
(quality.privacy.approvals), and whether one covers what goes out (assets.release.approval).

A proposal pins down the disclosure spec of a table, its columns, the raw tables it rests on, who supplies them under
which contract, the text of every model and macro it is made with, the norms as the organisation wrote them, audience
and factory. The text of the models counts, because the same spec over another query shows other people: whoever may
edit a model could otherwise release anything under an old signature. The price is one proposal and one signature after
an upgrade that touches a model or contract. That a table was made from that very text, `marts.failures` sees to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assets.models.runner import last_manifest, texts
from assets.release.agreements import require, today
from assets.release.marts import Mart, contracts_of, registers, suppliers
from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.mistakes import explain, load
from quality.norms import Audience, Norms
from quality.privacy import approvals
from quality.privacy.approvals import Approval, ApprovalError, Roles, load_roles, signature_file

FOLDER = "leveringen"
"""Where proposals lie, in the policy folder."""

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
    if changed := {name: told for name in proposal.tabellen if (told := unlike(proposal, now, name))}:
        wrong = "; ".join(f"{name}: {', '.join(parts)}" for name, parts in changed.items())
        raise ApprovalError(
            f"{path} no longer fits what would go out: {wrong}. Do {how_to_propose(proposal.doelgroep, changed)}"
        )
    barred = {proposal.voorgesteld_door}
    key = approvals.unlock(settings, "leveringen", key_file, password, person=person, barred=barred)
    given = approvals.endorse(settings, path, "leveringen", key)
    if given.sha256 != filed.proposer.sha256:
        signature_file(path, given.person).unlink()
        raise ApprovalError(f"{path} was changed while it was approved: read it again, and propose it again")
    return read_filed(path, roles), given


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


def how_to_propose(audience: str, tables: Iterable[str]) -> str:
    """The command that proposes tables, as a message tells it."""
    return f"`datafabriek release propose {' '.join((audience, *tables))} --key SLEUTEL`"


def is_same(proposal: Proposal, now: Proposal, name: str) -> bool:
    """Whether a proposal is of a table as it is now."""
    table = proposal.tabellen.get(name)
    return table is not None and table.vingerafdruk == now.tabellen[name].vingerafdruk


def unlike(proposal: Proposal, now: Proposal, name: str) -> list[str]:
    """In what a proposed table differs from what it is now, in words; empty where in nothing."""
    table = now.tabellen.get(name)
    if table is None:
        return ["de tabel is er niet"]
    parts = {"de fabriek": "fabriek", "de doelgroep": "doelgroep", "de gemeenten": "gemeenten", "de normen": "normen"}
    told = [word for word, key in parts.items() if getattr(proposal, key) != getattr(now, key)]
    return told + proposal.tabellen[name].unlike(table)


def _digest(content: Any) -> str:
    line = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=list)
    return hashlib.sha256(line.encode()).hexdigest()
