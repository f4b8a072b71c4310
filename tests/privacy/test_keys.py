"""The master key: made once, never over a vault, never shown, restored from a backup that opens."""

from __future__ import annotations

import stat
from pathlib import Path

import pyrage
import pytest
from typer.testing import CliRunner

from datafabriek.cli import app
from datafabriek.config import Home, Resources, Roots
from datafabriek.warehouse import vault
from quality.privacy.keys import (
    COMMAND_ENV,
    KEY_ENV,
    BackupError,
    KeyFileError,
    MasterKey,
    backup,
    ensure_key,
    load_key,
    open_backup,
    parse_key,
    restore,
)

PHRASE = "een lange zin om te onthouden"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "fabriek", Roots())
    home.create()
    return home


def test_made_at_first_use_for_the_owner_alone_and_then_kept(home: Home) -> None:
    key = ensure_key(home)
    assert stat.S_IMODE(home.key_file.stat().st_mode) == 0o600
    assert ensure_key(home) == key
    assert len(key.secret) == 32


def test_never_made_over_an_existing_vault(home: Home) -> None:
    with vault(home, Resources(), ensure_key(home).vault):
        pass
    home.key_file.unlink()
    with pytest.raises(KeyFileError, match=r"lost.*key restore"):
        ensure_key(home)
    assert not home.key_file.exists()


def test_never_made_over_existing_originals(home: Home) -> None:
    (home.originals / "0123.age").touch()
    with pytest.raises(KeyFileError, match="lost"):
        ensure_key(home)


def test_another_key_begins_no_new_vault_beside_originals(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = (MasterKey(bytes([n]) * 32, "test") for n in (1, 2))
    monkeypatch.setenv(KEY_ENV, right.text())
    original = pyrage.encrypt(b"wie", [pyrage.x25519.Identity.from_str(ensure_key(home).originals).to_public()])
    (home.originals / "0123.age").write_bytes(original)
    assert ensure_key(home).secret == right.secret
    monkeypatch.setenv(KEY_ENV, wrong.text())
    with pytest.raises(KeyFileError, match="is not the key of the originals") as told:
        ensure_key(home)
    assert wrong.secret.hex() not in str(told.value)


def test_refused_when_others_may_read_it(home: Home) -> None:
    ensure_key(home)
    home.key_file.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(home)


def test_damage_shows_by_the_checksum(home: Home) -> None:
    text = ensure_key(home).text()
    changed = text[:25] + ("0" if text[25] != "0" else "1") + text[26:]
    with pytest.raises(KeyFileError, match="checksum") as caught:
        parse_key(changed, "x")
    assert changed not in str(caught.value)


def test_never_shown() -> None:
    key = MasterKey(bytes(range(32)), "test")
    assert key.secret.hex() not in repr(key)
    assert "secret" not in repr(key)


def test_every_use_has_its_own_key() -> None:
    key = MasterKey(bytes(range(32)), "test")
    found = {key.vault, key.purpose("bijstand"), key.purpose("bijstand", 2), key.purpose("zzp"), key.keyed_list()}
    assert len(found) == 5
    assert key.secret not in found


def test_taken_from_the_environment_or_a_command(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    key = MasterKey(bytes(range(32)), "test")
    monkeypatch.setenv(KEY_ENV, key.text())
    assert ensure_key(home).secret == key.secret
    monkeypatch.delenv(KEY_ENV)
    monkeypatch.setenv(COMMAND_ENV, f"echo {key.text()}")
    assert ensure_key(home).secret == key.secret
    assert not home.key_file.exists()


def test_a_failing_command_tells_nothing_of_its_output(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND_ENV, "sh -c 'echo geheim; exit 1'")
    with pytest.raises(KeyFileError) as caught:
        load_key(home)
    assert "geheim" not in str(caught.value)


def test_restored_from_a_passphrase_backup(home: Home, tmp_path: Path) -> None:
    key = ensure_key(home)
    with vault(home, Resources(), key.vault):
        pass
    file = tmp_path / "sleutel.age"
    backup(key, file, passphrase=PHRASE)
    assert key.secret.hex().encode() not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    home.key_file.unlink()
    with pytest.raises(KeyFileError, match="does not open"):
        open_backup(file, passphrase="iets heel anders")
    restore(home, open_backup(file, passphrase=PHRASE))
    assert load_key(home).secret == key.secret


def test_backed_up_for_an_age_recipient(home: Home, tmp_path: Path) -> None:
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"# created today\n{identity}\n")
    key = ensure_key(home)
    backup(key, tmp_path / "b.age", recipient=str(identity.to_public()))
    assert open_backup(tmp_path / "b.age", identity=tmp_path / "identity").secret == key.secret


def test_a_backup_overwrites_nothing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "b.age").touch()
    with pytest.raises(KeyFileError, match="exists"):
        backup(ensure_key(home), tmp_path / "b.age", recipient=_recipient())


def test_another_vaults_key_is_not_restored(home: Home) -> None:
    with vault(home, Resources(), ensure_key(home).vault):
        pass
    home.key_file.unlink()
    with pytest.raises(KeyFileError, match="not the key of"):
        restore(home, MasterKey(bytes(32), "elsewhere"))
    assert not home.key_file.exists()


def test_the_key_that_is_there_is_not_overwritten(home: Home) -> None:
    key = ensure_key(home)
    with pytest.raises(KeyFileError, match="another key"):
        restore(home, MasterKey(bytes(32), "elsewhere"))
    restore(home, key)
    assert load_key(home).secret == key.secret


def _recipient() -> str:
    import pyrage

    return str(pyrage.x25519.Identity.generate().to_public())


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_without_a_terminal_a_passphrase_is_not_asked(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "factory.yaml").write_text("name: X\nregion: {gemeenten: [GM0518], provincie: PV28}\nhome: home\n")
    monkeypatch.setenv("DATAFABRIEK_FACTORY", str(tmp_path / "factory.yaml"))
    monkeypatch.setenv("DATAFABRIEK_MASTER_KEY", ensure_key(home).text())
    file = tmp_path / "b.age"
    if command == "restore":
        file.touch()
    with pytest.raises(BackupError, match=r"no terminal.*DATAFABRIEK_BACKUP_PASSPHRASE, or give --") as told:
        CliRunner().invoke(app, ["key", command, str(file)], catch_exceptions=False)
    assert told.value.exit_code == 2
    monkeypatch.setenv("DATAFABRIEK_BACKUP_PASSPHRASE", "kort")
    with pytest.raises(BackupError):
        CliRunner().invoke(app, ["key", command, str(file)], catch_exceptions=False)
