"""Approvals: by whom the policy lists, of these very bytes, and never by a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb
import minisign
import pytest
import yaml
from typer.testing import CliRunner

from assets.deliveries import register
from datafabriek.cli import app
from datafabriek.config import FACTORY_ENV, Settings, load_settings
from datafabriek.ledger import Ledger
from datafabriek.locking import factory_lock
from datafabriek.warehouse import vault
from quality.privacy import ssh
from quality.privacy.approvals import ApprovalError, anchors, load_roles, require, sign, standing, versions
from quality.privacy.keys import ensure_key
from quality.privacy.linkages import load_linkages

PASSWORD = "een lang wachtwoord"


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrypt as minisign wants it takes a gigabyte."""
    monkeypatch.setattr("minisign.secret_key.OPSLIMIT", 32768)
    monkeypatch.setattr("minisign.secret_key.MEMLIMIT", 1 << 24)


def _key(path: Path, password: str | None = PASSWORD) -> str:
    pair = minisign.KeyPair.generate()
    public = pair.public_key.to_base64().decode()
    if password:
        pair.secret_key.encrypt(password)
    path.write_bytes(bytes(pair.secret_key))
    return public


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A factory of one's own: anna and bob may approve linkages, anna grounds too, cees nothing."""
    folder = tmp_path / "fabriek"
    (folder / "policy").mkdir(parents=True)
    (folder / "factory.yaml").write_text("name: Proef\nhome: home\nregion: {gemeenten: [GM0518], provincie: PV28}\n")
    people = {name: {"sleutel": _key(tmp_path / f"{name}.key")} for name in ("anna", "bob", "cees")}
    roles = {"koppelingen": ["anna", "bob"], "grondslagen": ["anna"]}
    _write(folder, {"versie": "1", "personen": people, "rollen": roles})
    columns = ["persoon_pseudoniem"]
    linkage = {"naam": "proef", "omschrijving": "een proef", "grondslag": "wet", "dpia": "D-1"}
    linkage |= {"doelen": {"bijstand": {"bus": columns}, "zzp": {"brp": columns}}, "verwerkingsactiviteit": "VA-9"}
    linkage |= {"van": "2026-01-01", "tot": "2027-01-01"}
    (folder / "policy" / "koppelingen.yaml").write_text(yaml.safe_dump({"koppelingen": [linkage]}))
    monkeypatch.setenv(FACTORY_ENV, str(folder / "factory.yaml"))
    return load_settings(folder / "factory.yaml")


def _write(folder: Path, roles: dict[str, object]) -> None:
    (folder / "policy" / "rollen.yaml").write_text(yaml.safe_dump(roles))


def _linkages(settings: Settings) -> Path:
    assert settings.policy_folder
    return settings.policy_folder / "koppelingen.yaml"


def test_what_nobody_approved_is_not_used(factory: Settings) -> None:
    with pytest.raises(ApprovalError, match=r"not approved.*role koppelingen.*privacy approve"):
        load_linkages(factory)


def test_an_approval_by_whom_the_policy_lists_holds_and_stands_in_the_ledger(factory: Settings, tmp_path: Path) -> None:
    sign(factory, _linkages(factory), "koppelingen", tmp_path / "bob.key", PASSWORD)
    assert [linkage.naam for linkage in load_linkages(factory)] == ["proef"]
    load_linkages(factory)
    (event,) = Ledger(factory.paths.ledger).events("approval")
    assert event.payload["person"] == "bob"
    assert event.payload["holders"] == ["anna", "bob"]  # who else might have


def test_a_changed_file_must_be_approved_again(factory: Settings, tmp_path: Path) -> None:
    path = _linkages(factory)
    sign(factory, path, "koppelingen", tmp_path / "bob.key", PASSWORD)
    path.write_text(path.read_text().replace("2027", "2037"))
    with pytest.raises(ApprovalError, match="changed after bob approved it"):
        load_linkages(factory)


def _roles_file(settings: Settings) -> Path:
    return settings.source.parent / "policy" / "rollen.yaml"


def _with_eve(settings: Settings, folder: Path) -> None:
    roles = yaml.safe_load(_roles_file(settings).read_text())
    roles["personen"]["eve"] = {"sleutel": _key(folder / "eve.key")}
    roles["rollen"]["koppelingen"] = [*roles["rollen"]["koppelingen"], "eve"]
    _write(settings.source.parent, roles)


def test_a_run_that_writes_itself_into_the_roles_gets_nowhere(factory: Settings, tmp_path: Path) -> None:
    """Whoever may write the file may write anything in it; from the second version on that is not enough."""
    sign(factory, _linkages(factory), "koppelingen", tmp_path / "bob.key", PASSWORD)
    good = _roles_file(factory).read_text()
    _with_eve(factory, tmp_path)
    with pytest.raises(ApprovalError, match=r"nobody who may decide that signed it.*one of anna, bob run"):
        load_linkages(factory)
    with pytest.raises(ApprovalError, match="nobody who may decide"):
        sign(factory, _linkages(factory), "koppelingen", tmp_path / "eve.key", PASSWORD)
    with pytest.raises(ApprovalError, match="not of someone with the role rollen"):
        sign(factory, _roles_file(factory), "rollen", tmp_path / "eve.key", PASSWORD)
    # nor by a signature of its own making, nor by telling the ledger so itself
    secret = minisign.SecretKey.from_file(tmp_path / "eve.key")
    secret.decrypt(PASSWORD)
    text, ledger = _roles_file(factory).read_text(), Ledger(factory.paths.ledger)
    for name in ("eve", "anna"):
        seq, head = ledger.head()
        comment = f"datafabriek rollen {name} 2026-01-01T00:00:00+00:00 {seq}:{head}"
        forged = bytes(secret.sign(text.encode(), trusted_comment=comment))
        _roles_file(factory).with_name(f"rollen.yaml.{name}.minisig").write_bytes(forged)
        told = yaml.safe_load(text) | {"tekst": text, "handtekening": forged.decode()}
        ledger.append("roles", "rollen.yaml", told)
        ledger.append("roles", "rollen.yaml", {"tekst": "[", "handtekening": ""})
    with pytest.raises(ApprovalError, match="nobody who may decide"):
        load_linkages(factory)
    _roles_file(factory).write_text(good)
    assert load_linkages(factory)


def test_a_change_of_the_roles_holds_once_someone_signed_it(factory: Settings, tmp_path: Path) -> None:
    sign(factory, _linkages(factory), "koppelingen", tmp_path / "bob.key", PASSWORD)
    _with_eve(factory, tmp_path)
    sign(factory, _roles_file(factory), "rollen", tmp_path / "bob.key", PASSWORD)
    sign(factory, _linkages(factory), "koppelingen", tmp_path / "eve.key", PASSWORD)
    before, after = Ledger(factory.paths.ledger).events("roles")
    assert "eve" not in before.payload["personen"]
    assert after.payload["rollen"]["koppelingen"] == ["anna", "bob", "eve"]
    assert load_linkages(factory)


def test_roles_that_were_put_back_with_their_signature_no_longer_hold(factory: Settings, tmp_path: Path) -> None:
    load_roles(factory)
    first = _roles_file(factory).read_text()
    _with_eve(factory, tmp_path)
    second = _roles_file(factory).read_text()
    sign(factory, _roles_file(factory), "rollen", tmp_path / "anna.key", PASSWORD)
    signed = _roles_file(factory).with_name("rollen.yaml.anna.minisig").read_bytes()
    _roles_file(factory).write_text(first)  # eve must go again
    sign(factory, _roles_file(factory), "rollen", tmp_path / "anna.key", PASSWORD)
    assert "eve" not in load_roles(factory).personen
    _roles_file(factory).write_text(second)
    _roles_file(factory).with_name("rollen.yaml.anna.minisig").write_bytes(signed)
    with pytest.raises(ApprovalError, match="nobody who may decide"):
        load_roles(factory)


def test_roles_that_were_signed_in_another_factory_do_not_hold_here(factory: Settings, tmp_path: Path) -> None:
    """One key, two factories: what she let in for a trial lets nobody in where it counts."""
    load_roles(factory)
    _with_eve(factory, tmp_path)
    trial = Ledger(tmp_path / "trial" / "ledger.sqlite")
    for number in range(9):
        trial.append("trial", str(number), {})
    seq, head = trial.head()
    secret = minisign.SecretKey.from_file(tmp_path / "anna.key")
    secret.decrypt(PASSWORD)
    comment = f"datafabriek rollen anna 2026-01-01T00:00:00+00:00 {seq}:{head}"
    signed = secret.sign(_roles_file(factory).read_bytes(), trusted_comment=comment)
    _roles_file(factory).with_name("rollen.yaml.anna.minisig").write_bytes(bytes(signed))
    with pytest.raises(ApprovalError, match="nobody who may decide that signed it"):
        load_roles(factory)


def test_who_has_the_role_for_it_alone_changes_the_roles(factory: Settings, tmp_path: Path) -> None:
    roles = yaml.safe_load(_roles_file(factory).read_text())
    roles["rollen"]["rollen"] = ["cees"]
    _write(factory.source.parent, roles)
    load_roles(factory)
    _with_eve(factory, tmp_path)
    with pytest.raises(ApprovalError, match="not of someone with the role rollen"):
        sign(factory, _roles_file(factory), "rollen", tmp_path / "anna.key", PASSWORD)
    run, path, key = CliRunner(), str(_roles_file(factory)), str(tmp_path / "cees.key")
    done = run.invoke(app, ["privacy", "approve", path, "--key", key], input=f"{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert "eve" in load_roles(factory).personen


def test_roles_that_name_nobody_yet_hold_nobody_back(factory: Settings) -> None:
    full = _roles_file(factory).read_text()
    _write(factory.source.parent, {"versie": "1"})
    assert load_roles(factory).personen == {}
    _roles_file(factory).write_text(full)
    assert set(load_roles(factory).personen) == {"anna", "bob", "cees"}
    _roles_file(factory).write_text(f"# uitleg\n{full}")
    assert load_roles(factory)  # a comment changes nobody's role


def test_an_older_version_put_back_with_its_signature_no_longer_holds(factory: Settings, tmp_path: Path) -> None:
    path = _linkages(factory)
    first = path.read_text()
    sign(factory, path, "koppelingen", tmp_path / "bob.key", PASSWORD)
    signed = path.with_name("koppelingen.yaml.bob.minisig").read_bytes()
    path.write_text(first.replace("2027", "2026"))  # a shorter term
    sign(factory, path, "koppelingen", tmp_path / "anna.key", PASSWORD)
    load_linkages(factory)
    path.write_text(first)
    path.with_name("koppelingen.yaml.bob.minisig").write_bytes(signed)
    with pytest.raises(ApprovalError, match="earlier version: anna approved another"):
        load_linkages(factory)
    sign(factory, path, "koppelingen", tmp_path / "bob.key", PASSWORD)  # settled anew
    assert [linkage.naam for linkage in load_linkages(factory)] == ["proef"]


@pytest.mark.parametrize("who", ["cees", "vreemde"])
def test_someone_without_the_role_cannot(factory: Settings, tmp_path: Path, who: str) -> None:
    if who == "vreemde":
        _key(tmp_path / "vreemde.key")
    with pytest.raises(ApprovalError, match="not of someone with the role koppelingen"):
        sign(factory, _linkages(factory), "koppelingen", tmp_path / f"{who}.key", PASSWORD)


def test_an_approval_under_one_role_is_none_under_another(factory: Settings, tmp_path: Path) -> None:
    path = _linkages(factory)
    sign(factory, path, "grondslagen", tmp_path / "anna.key", PASSWORD)
    held, broken = standing(path, "koppelingen", load_roles(factory))
    assert held == []
    assert "no approval under the role koppelingen" in broken[0]


def test_whoever_lost_the_role_no_longer_counts(factory: Settings, tmp_path: Path) -> None:
    path = _linkages(factory)
    sign(factory, path, "koppelingen", tmp_path / "bob.key", PASSWORD)
    roles = yaml.safe_load((path.parent / "rollen.yaml").read_text())
    roles["rollen"]["koppelingen"] = ["anna"]
    _write(factory.source.parent, roles)
    sign(factory, _roles_file(factory), "rollen", tmp_path / "anna.key", PASSWORD)
    with pytest.raises(ApprovalError, match="bob, who does not hold the role"):
        require(factory, path, "koppelingen")


def test_a_signature_of_another_under_bobs_name_is_refused(factory: Settings, tmp_path: Path) -> None:
    path = _linkages(factory)
    secret = minisign.SecretKey.from_file(tmp_path / "cees.key")
    secret.decrypt(PASSWORD)
    forged = secret.sign(path.read_bytes(), trusted_comment="datafabriek koppelingen bob 2026-01-01T00:00:00+00:00")
    path.with_name(f"{path.name}.bob.minisig").write_bytes(bytes(forged))
    with pytest.raises(ApprovalError, match="signed with another key"):
        require(factory, path, "koppelingen")


def test_a_run_cannot_approve(factory: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with factory_lock(factory.paths.lock, "run"), pytest.raises(ApprovalError, match="a run cannot approve"):
        sign(factory, _linkages(factory), "koppelingen", tmp_path / "bob.key", PASSWORD)
    monkeypatch.setenv("DAGSTER_RUN_JOB_NAME", "nachtelijke_run")
    with pytest.raises(ApprovalError, match="a run cannot approve"):
        sign(factory, _linkages(factory), "koppelingen", tmp_path / "bob.key", PASSWORD)


def test_a_key_that_a_run_could_use_is_refused(factory: Settings, tmp_path: Path) -> None:
    factory.paths.create()
    (factory.paths.keys / "bob.key").write_bytes((tmp_path / "bob.key").read_bytes())
    with pytest.raises(ApprovalError, match="factory's home"):
        sign(factory, _linkages(factory), "koppelingen", factory.paths.keys / "bob.key", PASSWORD)
    _key(tmp_path / "open.key", password=None)
    with pytest.raises(ApprovalError, match="no password"):
        sign(factory, _linkages(factory), "koppelingen", tmp_path / "open.key", PASSWORD)
    with pytest.raises(ApprovalError, match="does not open"):
        sign(factory, _linkages(factory), "koppelingen", tmp_path / "bob.key", "een ander wachtwoord")


def test_without_rollen_yaml_the_message_says_what_to_write(factory: Settings) -> None:
    (factory.source.parent / "policy" / "rollen.yaml").unlink()
    with pytest.raises(ApprovalError, match=r"rollen\.yaml is missing: name in it who may approve"):
        load_linkages(factory)


def test_the_sample_asks_for_none_and_says_so(factory: Settings) -> None:
    sample = factory.model_copy(update={"sample": True})
    (approval,) = require(sample, _linkages(factory), "koppelingen")
    assert approval.is_example
    (event,) = Ledger(factory.paths.ledger).events("approval")
    assert event.payload["person"] == "voorbeeld"


def test_the_commands(factory: Settings, tmp_path: Path) -> None:
    run = CliRunner()
    path = str(_linkages(factory))
    done = run.invoke(app, ["privacy", "approve", path, "--key", str(tmp_path / "anna.key")], input=f"{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert "anna" in done.output
    shown = run.invoke(app, ["privacy", "approvals"])
    assert shown.exit_code == 0, shown.output
    assert "koppelingen.yaml" in shown.output
    assert "anna" in shown.output
    made = run.invoke(app, ["privacy", "new-key", str(tmp_path / "dirk.key")], input=f"{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    assert "sleutel: RW" in made.output
    assert (tmp_path / "dirk.key").stat().st_mode & 0o077 == 0


# --- ssh ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def by_ssh(factory: Settings, tmp_path: Path) -> Path:
    """Bob's key is one of ssh, with a password."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here: apt-get install openssh-client")
    key = tmp_path / "bob_ssh"
    _ssh_key(key, PASSWORD)
    roles = yaml.safe_load((factory.source.parent / "policy" / "rollen.yaml").read_text())
    roles["personen"]["bob"]["sleutel"] = key.with_suffix(".pub").read_text().strip()
    _write(factory.source.parent, roles)
    return key


def _ssh_key(path: Path, password: str, kind: str = "ed25519") -> None:
    made = ["ssh-keygen", "-q", "-t", kind, "-a", "1", "-N", password, "-C", "bob@gemeente", "-f", str(path)]
    subprocess.run(made, check=True)


def test_an_ssh_signature_approves_as_well(factory: Settings, by_ssh: Path) -> None:
    path = _linkages(factory)
    approval = sign(factory, path, "koppelingen", by_ssh, PASSWORD)
    assert approval.person == "bob"
    assert approval.key.startswith("ssh-ed25519 ")
    assert [linkage.naam for linkage in load_linkages(factory)] == ["proef"]
    assert approval.ledger in anchors(path.parent, load_roles(factory))
    told = Ledger(factory.paths.ledger).events("approval", path.name)
    assert [event.payload["person"] for event in told] == ["bob"]
    path.write_bytes(path.read_bytes() + b"# later\n")
    with pytest.raises(ApprovalError, match="was changed after bob approved it"):
        load_linkages(factory)


def test_ssh_itself_finds_the_signature_good(factory: Settings, by_ssh: Path, tmp_path: Path) -> None:
    path = _linkages(factory)
    sign(factory, path, "koppelingen", by_ssh, PASSWORD)
    comment, _, armour = path.with_name(f"{path.name}.bob.sshsig").read_bytes().partition(b"\n")
    (tmp_path / "sig").write_bytes(armour)
    (tmp_path / "allowed").write_text(f"bob {by_ssh.with_suffix('.pub').read_text()}")
    asked = ["ssh-keygen", "-Y", "verify", "-n", "datafabriek", "-I", "bob", "-f", "allowed", "-s", "sig"]
    content = path.read_bytes() + b"\n" + comment
    assert subprocess.run(asked, input=content, cwd=tmp_path, check=False, capture_output=True).returncode == 0


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "another person": lambda signed: signed.replace(b"koppelingen bob", b"koppelingen anna", 1),
    "no holder": lambda signed: signed.replace(b"bob", b"cees", 1),
    "another role": lambda signed: signed.replace(b"koppelingen", b"grondslagen", 1),
    "cut off": lambda signed: signed[:-60],
    "no comment": lambda signed: signed.partition(b"\n")[2],
    "no armour": lambda signed: signed.partition(b"\n")[0],
    "nothing": lambda _: b"",
    "one letter": lambda signed: signed[:-40] + bytes([signed[-40] ^ 1]) + signed[-39:],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_ssh_signature_does_not_hold(factory: Settings, by_ssh: Path, change: str) -> None:
    path = _linkages(factory)
    sign(factory, path, "koppelingen", by_ssh, PASSWORD)
    beside = path.with_name(f"{path.name}.bob.sshsig")
    beside.write_bytes(CHANGES[change](beside.read_bytes()))
    with pytest.raises(ApprovalError, match="not approved"):
        load_linkages(factory)
    assert anchors(path.parent, load_roles(factory)) == []


def test_a_signature_for_another_use_of_the_key_is_none(factory: Settings, by_ssh: Path) -> None:
    """What bob signed for git, of the very same bytes, approves nothing."""
    path = _linkages(factory)
    sign(factory, path, "koppelingen", by_ssh, PASSWORD)
    beside = path.with_name(f"{path.name}.bob.sshsig")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssh, "NAMESPACE", "git")
        comment = ssh.comment(beside.read_bytes())
        forged = ssh.SecretKey.open(by_ssh, PASSWORD).sign(path.read_bytes(), comment)
    beside.write_bytes(forged)
    with pytest.raises(ApprovalError, match="not approved"):
        load_linkages(factory)


@pytest.mark.parametrize(
    ("password", "kind", "given", "told"),
    [
        ("", "ed25519", PASSWORD, "has no password"), (PASSWORD, "ed25519", "een ander woord", "does not open"),
        (PASSWORD, "ecdsa", PASSWORD, "no Ed25519 key"),
    ],
    ids=["no password", "another password", "another kind"],
)  # fmt: skip
def test_an_ssh_key_that_will_not_do_is_refused(
    factory: Settings, by_ssh: Path, password: str, kind: str, given: str, told: str
) -> None:
    other = by_ssh.with_name("ander")
    _ssh_key(other, password, kind)
    with pytest.raises(ApprovalError, match=told):
        sign(factory, _linkages(factory), "koppelingen", other, given)


def test_whoever_changes_keys_has_signed_once(factory: Settings, by_ssh: Path, tmp_path: Path) -> None:
    path = _linkages(factory)
    roles = yaml.safe_load((factory.source.parent / "policy" / "rollen.yaml").read_text())
    sign(factory, path, "koppelingen", by_ssh, PASSWORD)
    roles["personen"]["bob"]["sleutel"] = _key(tmp_path / "bob2.key")
    _write(factory.source.parent, roles)
    sign(factory, _roles_file(factory), "rollen", tmp_path / "anna.key", PASSWORD)
    sign(factory, path, "koppelingen", tmp_path / "bob2.key", PASSWORD)
    assert [each.name for each in path.parent.glob("koppelingen*sig")] == ["koppelingen.yaml.bob.minisig"]


def test_one_ssh_key_under_two_names_is_refused(factory: Settings, by_ssh: Path) -> None:
    roles = yaml.safe_load((factory.source.parent / "policy" / "rollen.yaml").read_text())
    key = roles["personen"]["bob"]["sleutel"]
    roles["personen"]["anna"]["sleutel"] = key.rsplit(" ", 1)[0] + " anna@elders"
    _write(factory.source.parent, roles)
    with pytest.raises(ApprovalError, match="one and the same sleutel"):
        load_roles(factory)


def _vault(settings: Settings) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    return vault(settings.paths, settings.resources, ensure_key(settings.paths).vault)


def test_roles_and_ledger_replaced_together_are_found_by_the_vault(factory: Settings, tmp_path: Path) -> None:
    """A run that writes a rollen.yaml of its own and begins the ledger anew: the vault does not trust it."""
    factory.paths.create()
    load_roles(factory)
    with _vault(factory) as con:
        register.prepare(con)
        for _ in range(2):
            register.hold_roles(con, factory)
        assert con.execute("SELECT count(*) FROM vault.beheer.rollen").fetchone() == (1,)
    path = factory.policy_folder / "rollen.yaml"
    text = path.read_text()
    for ledger in factory.paths.ledger.parent.glob("ledger.*"):
        ledger.unlink()
    people = {"dief": {"sleutel": _key(tmp_path / "dief.key")}}
    roles = {"versie": "1", "personen": people, "rollen": {"grondslagen": ["dief"], "koppelingen": ["dief"]}}
    path.write_text(yaml.safe_dump(roles))
    sign(factory, _linkages(factory), "koppelingen", tmp_path / "dief.key", PASSWORD)
    assert load_linkages(factory)  # so much for a ledger
    with _vault(factory) as con, pytest.raises(ApprovalError, match=r"does not know the version of rollen\.yaml"):
        register.hold_roles(con, factory)
    # nor does it help to let the ledger begin as it did: then their signature is lacking
    for ledger in factory.paths.ledger.parent.glob("ledger.*"):
        ledger.unlink()
    path.write_text(text + "# een opmerking verandert niets\n")
    load_roles(factory)
    path.write_text(yaml.safe_dump(roles))
    with pytest.raises(ApprovalError, match="nobody who may decide that signed it"):
        load_roles(factory)
    path.write_text(text)
    with _vault(factory) as con:
        register.hold_roles(con, factory)  # a ledger that was truly lost begins anew with the roles as they were


def test_the_vault_goes_along_with_a_change_that_was_signed(factory: Settings, tmp_path: Path) -> None:
    factory.paths.create()
    load_roles(factory)
    path = factory.policy_folder / "rollen.yaml"
    with _vault(factory) as con:
        register.prepare(con)
        register.hold_roles(con, factory)
        path.write_text(path.read_text().replace("versie: '1'", "versie: '2'"))
        sign(factory, path, "rollen", tmp_path / "anna.key", PASSWORD)
        register.hold_roles(con, factory)
        assert con.execute("SELECT count(DISTINCT vingerafdruk) FROM vault.beheer.rollen").fetchone() == (2,)
    known = versions(Ledger(factory.paths.ledger))
    for arguments in (["privacy", "approvals"], ["status"]):
        shown = " ".join(CliRunner().invoke(app, arguments).output.split())
        assert f"print {known[1].print[:16]}" in shown, arguments
        assert known[0].print[:16] in shown
