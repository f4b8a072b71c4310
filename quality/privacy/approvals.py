"""Approvals: policy files and releases that someone signed with a personal key, whom the policy lists for that role.

`rollen.yaml` in the policy folder names persons with their public key (minisign, or Ed25519 of ssh), and per role who
may approve. An approval is a detached signature beside the file, `<file>.<person>.minisig` or `.sshsig`; its trusted
comment, which is signed too, names role, person and time. A changed file, another file under the same name, or a person
who lost the role: the approval no longer holds.

A run cannot approve itself: it never has a personal key. Keys must be protected by a password and may not lie in the
factory's home, and `sign` refuses inside a run. The sample factory, whose policy nobody settled, asks for none and
says so in every record.

rollen.yaml itself is the root of this trust. The first version that gives anyone a role is trusted as it is found; from
then on a version holds only when someone signed it who held the role `rollen` in the version before (or, where nobody
does, any role). Text and signature of each stand in the ledger, and all of them are checked again each time: an event
that a run would add by itself changes nothing, and neither does an old version that is put back with its signature.
The vault keeps a print of what it saw last (`versions`): file and ledger replaced together are found by that.

Every signature also names the newest event of the ledger as its signer saw it: nobody without her key can make it name
another, so that a ledger rolled back to before it is noticed (`anchors`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from datafabriek.config import Settings
from datafabriek.ledger import Ledger
from datafabriek.locking import is_held
from datafabriek.mistakes import explain, load
from quality.privacy import ssh
from quality.privacy.policy import PolicyError

if TYPE_CHECKING:
    import minisign

FILE = "rollen.yaml"

Role = Literal["grondslagen", "koppelingen", "normen", "leveringen", "rollen"]
ROLES: tuple[Role, ...] = get_args(Role)

ROLE_OF: Mapping[str, Role] = {
    "doelen.yaml": "grondslagen",
    "koppelingen.yaml": "koppelingen",
    "normen.yaml": "normen",
    "grenzen.yaml": "normen",
}
"""Which role approves which policy file; a release is approved under `leveringen`."""

Capacity = Role | Literal["voorstel"]
"""As what someone signs: in a role, or as who proposes (which everyone under `personen` may)."""

KIND = "approval"
"""Kind of the ledger's events about approvals."""

ROLES_KIND = "roles"
"""Kind of the events that tell who may approve what."""

_IN_A_RUN = "DAGSTER_RUN_JOB_NAME"
_COMMENT = re.compile(
    r"datafabriek (?P<role>[a-z]+) (?P<person>[a-z0-9_]+) (?P<at>\S+)(?: (?P<seq>\d+):(?P<head>[0-9a-f]{64}))?"
)
_EXAMPLE = "voorbeeld"


class ApprovalError(PolicyError):
    """Something that nobody who may has approved, or an approval that does not hold; the message says what to do."""


class Person(BaseModel):
    """Someone who may approve: the public half of a personal key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sleutel: Annotated[str, Field(pattern=rf"^([A-Za-z0-9+/]{{56}}|{ssh.PUBLIC.pattern})$")]
    functie: str = ""

    @field_validator("sleutel")
    @classmethod
    def _bare(cls, key: str) -> str:
        """Without what ssh writes behind it: one key under two names stays one key."""
        found = ssh.PUBLIC.fullmatch(key)
        return found[1] if found else key


class Roles(BaseModel):
    """All of rollen.yaml: who may approve what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versie: str
    personen: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], Person] = {}
    rollen: dict[Role, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _known(self) -> Roles:
        unknown = sorted({name for names in self.rollen.values() for name in names} - set(self.personen))
        if unknown:
            raise ValueError(f"rollen names {', '.join(unknown)}, who is not under personen")
        # one key under two names would let one person propose as the one and approve as the other
        keys = [person.sleutel for person in self.personen.values()]
        if shared := sorted(name for name, person in self.personen.items() if keys.count(person.sleutel) > 1):
            raise ValueError(f"{', '.join(shared)} have one and the same sleutel: a key is of one person")
        return self

    def holders(self, role: Capacity) -> tuple[str, ...]:
        """Who may sign in a role, or propose; where nobody has the role `rollen`, all who have any may change them."""
        if role == "voorstel":
            return tuple(self.personen)
        held = self.rollen.get(role, ())
        if role == "rollen" and not held:
            return tuple(name for name in self.personen if any(name in names for names in self.rollen.values()))
        return held


@dataclass(frozen=True)
class Approval:
    """That someone approved exactly these bytes.

    Attributes:
        file: name of what was approved.
        sha256: of its bytes.
        role: under which it was approved.
        person: by whom, as rollen.yaml calls her; `voorbeeld` in the sample factory.
        at: when, ISO 8601, UTC.
        holders: all who hold the role: a small organisation may give it to several people, and several to one.
        ledger: number and hash of the ledger's newest event when it was signed; None in older signatures.
        key: the public key that the signature is of; empty in the sample.
    """

    file: str
    sha256: str
    role: Capacity
    person: str
    at: str
    holders: tuple[str, ...]
    ledger: tuple[int, str] | None = None
    key: str = ""

    @property
    def is_example(self) -> bool:
        """Whether nobody approved it, because the factory is the sample."""
        return self.person == _EXAMPLE


def load_roles(settings: Settings, *, tell: bool = True) -> Roles:
    """Who may approve what in a factory; a version that holds for the first time is told to the ledger.

    Args:
        settings: the factory.
        tell: False where the ledger is only looked at, as long as it may turn out to be wrong.

    Raises:
        ApprovalError: rollen.yaml is missing or not in order, or was changed and not signed by who may decide that.
    """
    path, text, roles = _read_roles(settings)
    if not settings.sample:
        _hold(Ledger(settings.paths.ledger), path, text, roles, tell=tell)
    return roles


@dataclass(frozen=True)
class Version:
    """A version of rollen.yaml that holds or held, the event that says so, and a print of what it settles."""

    roles: Roles
    seq: int
    at: str

    @property
    def print(self) -> str:
        """SHA-256, comments and order of keys left out: to be noted elsewhere, and compared."""
        told = self.roles.model_dump(mode="json")
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def versions(ledger: Ledger) -> list[Version]:
    """The versions that the versions before them let in, by the ledger: the first, which was trusted as found, first.

    None where no version gave anyone a role yet, as in the sample.
    """
    found: list[Version] = []
    for event in ledger.events(ROLES_KIND, FILE):
        held = found[-1] if found else None
        text, signature = event.payload.get("tekst"), event.payload.get("handtekening")
        if text is None or (held is not None and not _lets_in(ledger, held, text, (signature or "").encode())):
            continue
        try:
            roles = Roles.model_validate(yaml.safe_load(text))
        except (yaml.YAMLError, ValidationError):
            continue  # nobody wrote this here for us
        if held is not None or roles.holders("rollen"):
            found.append(Version(roles, event.seq, event.at))
    return found


def _lets_in(ledger: Ledger, held: Version, text: str, signature: bytes) -> bool:
    """Whether who held the roles signed a new version here, knowing the one that holds: an older signature did not."""
    told = _told(signature)
    if told is None or told["role"] != "rollen" or not told["seq"] or int(told["seq"]) < held.seq:
        return False
    # one key may be known in two factories, and what is right in a trial of one is not in the other
    if not ledger.holds(int(told["seq"]), told["head"]):
        return False
    is_holder = told["person"] in held.roles.holders("rollen")
    return is_holder and _is_of(held.roles.personen[told["person"]].sleutel, text.encode(), signature)


def _hold(ledger: Ledger, path: Path, text: str, roles: Roles, *, tell: bool) -> None:
    known, told = versions(ledger), roles.model_dump(mode="json") | {"tekst": text}
    held = known[-1] if known else None
    if held is None:
        if tell and roles.holders("rollen"):
            ledger.append(ROLES_KIND, FILE, told)
        return
    if held.roles == roles:
        return  # no more than a comment changed
    for file in signatures(path):
        if _lets_in(ledger, held, text, file.read_bytes()):
            if tell:
                ledger.append(ROLES_KIND, FILE, told | {"handtekening": file.read_text()})
            return
    raise ApprovalError(
        f"{path} is not what it was on {held.at[:10]}, and nobody who may decide that signed it as it is: put that "
        f"version back (the ledger has its text), or let one of {', '.join(held.roles.holders('rollen'))} run "
        f"`datafabriek privacy approve {path} --key KEY`"
    )


def _roles_to_sign_by(settings: Settings, role: Capacity) -> Roles:
    """Who may sign: a new version of rollen.yaml is signed by those of the version that holds."""
    if role != "rollen":
        return load_roles(settings)
    known = versions(Ledger(settings.paths.ledger))
    return known[-1].roles if known else _read_roles(settings)[2]


def _read_roles(settings: Settings) -> tuple[Path, str, Roles]:
    path = settings.policy_folder / FILE if settings.policy_folder else settings.source.parent / "policy" / FILE
    try:
        text = path.read_text(encoding="utf-8")
        return path, text, Roles.model_validate(load(text))
    except OSError:
        raise ApprovalError(
            f"{path} is missing: name in it who may approve what (personen with their public key, and rollen: "
            f"{', '.join(ROLES)}); `datafabriek privacy new-key` makes a personal key"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ApprovalError(f"{path}: not valid YAML") from None
    except ValidationError as error:
        raise ApprovalError(explain(path, error, Roles)) from None


def new_key(target: Path, password: str) -> str:
    """Make a personal key, protected by a password (mode 0600); return the public half for rollen.yaml.

    Raises:
        ApprovalError: the file exists, or the password is too short.
    """
    import minisign

    if len(password) < 12:
        raise ApprovalError("choose a password of at least 12 characters")
    pair = minisign.KeyPair.generate()
    public: str = pair.public_key.to_base64().decode()
    pair.secret_key.encrypt(password)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ApprovalError(f"{target} exists: name a new file") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(bytes(pair.secret_key))
    return public


@dataclass(frozen=True)
class PersonalKey:
    """A key that was opened with its password, and whose it is."""

    person: str
    secret: minisign.SecretKey | ssh.SecretKey

    @property
    def suffix(self) -> str:
        """What its signatures end in."""
        return ssh.SUFFIX if isinstance(self.secret, ssh.SecretKey) else MINISIG


def unlock(
    settings: Settings,
    role: Capacity,
    key_file: Path,
    password: str,
    *,
    person: str | None = None,
    barred: Collection[str] = (),
) -> PersonalKey:
    """Open the personal key of someone who may sign.

    Args:
        settings: the factory.
        role: under which role she wants to.
        key_file: the personal key (minisign or ssh), protected by `password`.
        password: opens it.
        person: whose key it should be; by default whoever it is of.
        barred: who may not, though she holds the role: who proposed it.

    Raises:
        ApprovalError: the key is not of someone who may, has no password, lies where a run can reach it, or this is a
            run.
    """
    import minisign

    if os.environ.get(_IN_A_RUN) or is_held(settings.paths.lock):
        raise ApprovalError("a run cannot approve: let a person do it, from a shell of her own")
    homes = (settings.paths.root, settings.paths.keys, settings.paths.vault, settings.paths.published_root)
    # a link, in the key's path or the home's, makes it lie nowhere else
    if {home.resolve() for home in homes} & {*key_file.absolute().parents, *key_file.resolve().parents}:
        raise ApprovalError(f"{key_file} lies in the factory's home, where a run can reach it: keep it elsewhere")
    roles = _roles_to_sign_by(settings, role)
    secret: minisign.SecretKey | ssh.SecretKey
    bare = f"{key_file} has no password: whoever reads it could approve; make one with a password"
    try:
        if ssh.is_private(key_file):
            secret = ssh.SecretKey.open(key_file, password)
            if not secret.is_encrypted():
                raise ApprovalError(bare)
            public = secret.public
        else:
            secret = minisign.SecretKey.from_file(key_file)
            if not secret.is_encrypted():
                raise ApprovalError(bare)
            secret.decrypt(password)
            public = secret.get_public_key().to_base64().decode()
    except ssh.SignatureError as error:
        raise ApprovalError(f"{key_file}: {error}") from None
    except (OSError, minisign.Error, minisign.ParseError, ValueError):
        raise ApprovalError(f"{key_file} does not open as a minisign or ssh key with this password") from None
    owner = next((name for name, known in roles.personen.items() if known.sleutel == public), None)
    if owner is None or owner not in roles.holders(role):
        listed = ", ".join(roles.holders(role)) or "nobody"
        told = "under personen" if role == "voorstel" else f"with the role {role}"
        raise ApprovalError(f"this key is not of someone {told} (in {FILE}: {listed})")
    if person not in (None, owner):
        raise ApprovalError(f"{key_file} is the key of {owner}, not of {person}: everyone signs with her own")
    if owner in barred:
        others = ", ".join(name for name in roles.holders(role) if name not in barred) or f"nobody yet in {FILE}"
        raise ApprovalError(f"{owner} proposed it, so someone else with the role {role} approves it: {others}")
    return PersonalKey(owner, secret)


def endorse(settings: Settings, file: Path, role: Capacity, key: PersonalKey) -> Approval:
    """Write the signature of an opened key beside a file, and tell the ledger."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    ledger = Ledger(settings.paths.ledger)
    seq, head = ledger.head()
    content = file.read_bytes()
    signature = key.secret.sign(content, trusted_comment=f"datafabriek {role} {key.person} {at} {seq}:{head}")
    for suffix in (MINISIG, ssh.SUFFIX):  # whoever changed keys has signed once
        file.with_name(f"{file.name}.{key.person}{suffix}").unlink(missing_ok=True)
    file.with_name(f"{file.name}.{key.person}{key.suffix}").write_bytes(bytes(signature))
    approval = verify(file.name, content, bytes(signature), role, _roles_to_sign_by(settings, role))
    note(ledger, approval)
    if role == "rollen":
        load_roles(settings)  # it holds from now on
    return approval


def sign(settings: Settings, file: Path, role: Capacity, key_file: Path, password: str) -> Approval:
    """Approve a file, as it is now, with a personal key: `unlock` and `endorse` in one."""
    return endorse(settings, file, role, unlock(settings, role, key_file, password))


MINISIG = ".minisig"


def signature_file(file: Path, person: str) -> Path:
    """Where the approval of a file by a person stands."""
    by_ssh = file.with_name(f"{file.name}.{person}{ssh.SUFFIX}")
    return by_ssh if by_ssh.exists() else file.with_name(f"{file.name}.{person}{MINISIG}")


def signatures(file: Path) -> list[Path]:
    """All signatures that lie beside a file, whatever they are worth."""
    return sorted(path for suffix in (MINISIG, ssh.SUFFIX) for path in file.parent.glob(f"{file.name}.*{suffix}"))


def verify(name: str, content: bytes, signature: bytes, role: Capacity, roles: Roles) -> Approval:
    """Check one signature.

    Args:
        name: of the file, for messages.
        content: what should have been approved.
        signature: a minisign or ssh signature.
        role: under which it must have been.
        roles: who holds which role now.

    Raises:
        ApprovalError: it is not of these bytes, this role, or someone who holds it.
    """
    told = _told(signature)
    if told is None or told["role"] != role:
        raise ApprovalError(f"{name}: the signature is no approval under the role {role}")
    person = told["person"]
    if person not in roles.holders(role):
        raise ApprovalError(f"{name}: approved by {person}, who does not hold the role {role} (any more)")
    if not _is_of(roles.personen[person].sleutel, content, signature):
        raise ApprovalError(
            f"{name} was changed after {person} approved it, or was signed with another key: have it approved again"
        )
    seen = (int(told["seq"]), told["head"]) if told["seq"] else None
    digest, key = hashlib.sha256(content).hexdigest(), roles.personen[person].sleutel
    return Approval(name, digest, role, person, told["at"], roles.holders(role), seen, key)


def _told(signature: bytes) -> re.Match[str] | None:
    """What a signature says of itself, to be believed only of one that holds."""
    import minisign

    try:
        parsed: minisign.Signature = minisign.Signature.from_bytes(signature)
        return _COMMENT.fullmatch(parsed.trusted_comment)
    except (minisign.Error, minisign.ParseError, ValueError, IndexError):
        return _COMMENT.fullmatch(ssh.comment(signature))


def _is_of(public: str, content: bytes, signature: bytes) -> bool:
    """Whether a signature is of these bytes and this key, of whichever kind that is."""
    import minisign

    try:
        if ssh.PUBLIC.fullmatch(public):
            ssh.verify(public, content, signature)
        else:
            parsed: minisign.Signature = minisign.Signature.from_bytes(signature)
            minisign.PublicKey.from_base64(public).verify(content, parsed)
    except (minisign.Error, minisign.VerifyError, minisign.ParseError, ValueError, IndexError):
        return False
    return True


def standing(file: Path, role: Role, roles: Roles) -> tuple[list[Approval], list[str]]:
    """The approvals of a file that hold, and why others beside it do not."""
    held, broken = [], []
    content = file.read_bytes()
    for path in signatures(file):
        try:
            held.append(verify(file.name, content, path.read_bytes(), role, roles))
        except ApprovalError as error:
            broken.append(str(error))
    return held, broken


def require(settings: Settings, file: Path, role: Role) -> list[Approval]:
    """The approvals under which a file may be used; each new one is told to the ledger.

    In the sample factory nobody approves: one approval of `voorbeeld` stands for that.

    Raises:
        ApprovalError: nobody who holds the role approved the file as it is now, or another version was approved later.
    """
    ledger = Ledger(settings.paths.ledger)
    if settings.sample:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        held = [Approval(file.name, digest, role, _EXAMPLE, datetime.now(UTC).isoformat(timespec="seconds"), ())]
    else:
        roles = load_roles(settings)
        held, broken = standing(file, role, roles)
        later = _approved_later(ledger, held)
        if later is not None:
            raise ApprovalError(
                f"{file} is an earlier version: {later['person']} approved another on {later['at'][:10]}; put that one "
                "back, or have this one approved anew"
            )
        if not held:
            why = f" ({'; '.join(broken)})" if broken else ""
            raise ApprovalError(
                f"{file} is not approved{why}: someone with the role {role} runs "
                f"`datafabriek privacy approve {file} --key KEY`"
            )
    for approval in held:
        note(ledger, approval)
    return held


def _approved_later(ledger: Ledger, held: Collection[Approval]) -> dict[str, Any] | None:
    """The newest approval that the ledger knows of the same file, where it is of other bytes and later than all these.

    Without it an older version, put back with its signature, would hold again.
    """
    if not held:
        return None
    file, sha256 = next((approval.file, approval.sha256) for approval in held)
    known = [event.payload for event in ledger.events(KIND, file) if event.payload["person"] != _EXAMPLE]
    newest = max(known, key=lambda told: datetime.fromisoformat(told["at"]), default=None)
    if newest is None or newest["sha256"] == sha256:
        return None
    at = max(datetime.fromisoformat(approval.at) for approval in held)
    return newest if datetime.fromisoformat(newest["at"]) > at else None


def note(ledger: Ledger, approval: Approval) -> None:
    """Tell the ledger of an approval, once; of one that is given anew, anew."""
    known: list[Any] = [event.payload for event in ledger.events(KIND, approval.file)]
    same = ("sha256", "role", "person", *(() if approval.is_example else ("at",)))
    told = asdict(approval) | {"holders": list(approval.holders)}
    if not any(all(payload.get(name) == told[name] for name in same) for payload in known):
        ledger.append(KIND, approval.file, told)


def anchors(folder: Path, roles: Roles) -> list[tuple[int, str]]:
    """The ledger's newest events as the signatures beside the files of a folder name them.

    A signature counts that is of someone under `personen`, whatever her roles are now: what she saw, she saw.
    """
    found = []
    for path in sorted(path for suffix in (MINISIG, ssh.SUFFIX) for path in folder.rglob(f"*{suffix}")):
        try:
            signature = path.read_bytes()
            told = _told(signature)
            if told is None or not told["seq"] or told["person"] not in roles.personen:
                continue
            signed = path.with_name(path.name.removesuffix(f".{told['person']}{path.suffix}")).read_bytes()
        except OSError:
            continue
        if _is_of(roles.personen[told["person"]].sleutel, signed, signature):
            found.append((int(told["seq"]), told["head"]))
    return found
