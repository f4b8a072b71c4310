"""The master key: where it comes from, what is derived from it, how it is backed up.

One secret of 32 bytes. Everything else follows from it by HKDF-SHA-256: the key of the vault, the age identity
that opens the originals, and one pseudonym key per purpose, per registered linkage, and version. So one backup covers
them all, and a purpose can be re-keyed without touching another.

The key comes from the environment (`DATAFABRIEK_MASTER_KEY`), from a command (`DATAFABRIEK_MASTER_KEY_COMMAND`,
for instance ``pass show datafabriek`` or ``vault kv get -field=key secret/datafabriek``), or from the key file
(mode 0600). It is made by itself once, where no vault exists yet; never over an existing vault, whose contents
and pseudonyms would be lost for good.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
import stat
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from datafabriek.config import Home
from datafabriek.errors import FactoryError

KEY_ENV = "DATAFABRIEK_MASTER_KEY"
COMMAND_ENV = "DATAFABRIEK_MASTER_KEY_COMMAND"

_PREFIX = "DATAFABRIEK-KEY-1-"
_LENGTH = 32


class KeyFileError(FactoryError):
    """A master key that is missing, damaged, readable by others, or not the vault's."""


class BackupError(KeyFileError):
    """A backup that was asked for in a way that cannot be done: its file, its passphrase or its recipient."""

    exit_code = 2


@dataclass(frozen=True)
class MasterKey:
    """The secret and where it came from. Never shown: `repr` holds its identifier alone."""

    secret: bytes = field(repr=False)
    origin: str

    @property
    def id(self) -> str:
        """Eight hex digits that tell keys apart and say nothing about them."""
        return self._derive("id", 4).hex()

    @property
    def vault(self) -> bytes:
        """32 bytes: the key of the encrypted DuckDB file."""
        return self._derive("vault")

    @property
    def originals(self) -> str:
        """The age identity (AGE-SECRET-KEY-1…) that opens encrypted originals."""
        return _bech32("age-secret-key-", self._derive("originals")).upper()

    def purpose(self, purpose: str, version: int = 1) -> bytes:
        """32 bytes: the pseudonym key of one purpose and version."""
        return self._derive(f"pseudonym/{purpose}/v{version}")

    def linkage(self, name: str, version: int = 1) -> bytes:
        """32 bytes: the pseudonym key of one registered linkage and version."""
        return self._derive(f"linkage/{name}/v{version}")

    def keyed_list(self) -> bytes:
        """32 bytes: the key of the list that blocks re-entry of erased persons."""
        return self._derive("erased")

    def released(self) -> bytes:
        """32 bytes: the key of the fingerprints of counts behind a release."""
        return self._derive("release/fingerprints")

    def evidence(self) -> bytes:
        """64 bytes: the key that seals the evidence of releases."""
        return self._derive("release/evidence", 64)

    def _derive(self, use: str, length: int = _LENGTH) -> bytes:
        return HKDF(SHA256(), length, salt=b"datafabriek", info=use.encode()).derive(self.secret)

    def text(self) -> str:
        """The key as it stands in a key file or backup, with a checksum against typing and copying errors."""
        return f"{_PREFIX}{self.secret.hex()}-{_checksum(self.secret)}"


def parse_key(text: str, origin: str) -> MasterKey:
    """Read a key from its text; blank lines and lines that start with # are skipped.

    Raises:
        KeyFileError: the text is no key, or its checksum is wrong.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    remedy = "restore it with `datafabriek key restore FILE`"
    if len(lines) != 1 or not lines[0].startswith(_PREFIX):
        raise KeyFileError(f"{origin} holds no master key (one line that starts with {_PREFIX}): {remedy}")
    digits, _, checksum = lines[0].removeprefix(_PREFIX).partition("-")
    try:
        secret = bytes.fromhex(digits)
    except ValueError:
        secret = b""
    if len(secret) != _LENGTH or checksum != _checksum(secret):
        raise KeyFileError(f"{origin} holds a damaged master key (its checksum is wrong): {remedy}")
    return MasterKey(secret, origin)


def vault_exists(home: Home) -> bool:
    """Whether anything is kept under a key already: a vault, or an encrypted original."""
    return home.vault_database.exists() or any(home.originals.glob("*.age"))


def load_key(home: Home) -> MasterKey:
    """The master key of this factory; read, never made.

    Raises:
        KeyFileError: there is none, it is damaged, or others than its owner may read it.
    """
    if os.environ.get(KEY_ENV):
        return parse_key(os.environ[KEY_ENV], f"the environment variable {KEY_ENV}")
    if os.environ.get(COMMAND_ENV):
        return parse_key(_from_command(os.environ[COMMAND_ENV]), f"the command in {COMMAND_ENV}")
    try:
        mode = home.key_file.stat().st_mode
        text = home.key_file.read_text(encoding="ascii")
    except FileNotFoundError:
        raise KeyFileError(_lost(home)) from None
    except (OSError, UnicodeDecodeError):
        raise KeyFileError(f"{home.key_file} cannot be read as a key: check its rights, or restore it") from None
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(f"{home.key_file} can be read by others: run `chmod 600 {home.key_file}`")
    return parse_key(text, str(home.key_file))


def ensure_key(home: Home) -> MasterKey:
    """The master key; made and written (mode 0600) where this factory has neither key nor vault.

    Raises:
        KeyFileError: as `load_key`; also where a vault exists and its key does not, or where there are originals that
            this key does not open.
    """
    from_outside = os.environ.get(KEY_ENV) or os.environ.get(COMMAND_ENV)
    if from_outside or home.key_file.exists() or vault_exists(home):
        key = load_key(home)
        if not home.vault_database.exists():
            _hold_to_originals(home, key)
        return key
    write_key(home, MasterKey(secrets.token_bytes(_LENGTH), str(home.key_file)))
    return load_key(home)


def _hold_to_originals(home: Home, key: MasterKey) -> None:
    """A vault that is gone is not begun anew under another key than that of the originals that are left."""
    import pyrage

    left = sorted(home.originals.glob("*.age"), key=lambda path: path.stat().st_size)
    if not left:
        return
    try:
        pyrage.decrypt(left[0].read_bytes(), [pyrage.x25519.Identity.from_str(key.originals)])
    except pyrage.DecryptError:
        raise KeyFileError(
            f"{key.origin} is not the key of the originals in {home.originals}: give the right one, or restore it with "
            "`datafabriek key restore FILE`; no new vault is begun beside them"
        ) from None


def write_key(home: Home, key: MasterKey) -> None:
    """Write the key file in one step, mode 0600; an existing one is never overwritten.

    Raises:
        KeyFileError: another key stands there.
    """
    home.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = home.key_file.with_name(f".{home.key_file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("# Master key of a data factory. Lost: the vault cannot be opened. Leaked: every pseudonym\n")
            file.write("# can be undone. Keep a backup elsewhere: datafabriek key backup FILE\n")
            file.write(key.text() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, home.key_file)  # fails where a key file exists, also when two runs start at once
        except FileExistsError:
            if load_key(home).secret != key.secret:
                raise KeyFileError(f"{home.key_file} holds another key: move it away first, if you are sure") from None
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(home.keys, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def backup(key: MasterKey, target: Path, *, passphrase: str | None = None, recipient: str | None = None) -> None:
    """Write the key, encrypted with age, to a new file (mode 0600).

    Args:
        key: the key to keep.
        target: a file that does not exist yet, preferably on another medium than the vault.
        passphrase: what opens the backup; or
        recipient: an age public key (age1…) or ssh public key whose owner can open it.

    Raises:
        KeyFileError: the file exists, the recipient is none, or the passphrase is too short.
    """
    import pyrage

    plain = f"{key.text()}\n".encode()
    if recipient is not None:
        try:
            if recipient.startswith("ssh-"):
                sealed = pyrage.encrypt(plain, [pyrage.ssh.Recipient.from_str(recipient)], armored=True)
            else:
                sealed = pyrage.encrypt(plain, [pyrage.x25519.Recipient.from_str(recipient)], armored=True)
        except pyrage.RecipientError:
            raise BackupError("the recipient is no age public key (age1…) and no ssh public key") from None
    elif passphrase is not None and len(passphrase) >= 12:
        sealed = pyrage.passphrase.encrypt(plain, passphrase, armored=True)
        if _unsealed(sealed, passphrase) != plain:  # a backup that was never opened is a hope
            raise KeyFileError("the backup could not be read back: nothing was written")
    else:
        raise BackupError("choose a passphrase of at least 12 characters, or name an age recipient")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BackupError(f"{target} exists: name a new file, a backup overwrites nothing") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(sealed)
        file.flush()
        os.fsync(file.fileno())


BUSY = "Excessive work"
"""How age words a refusal of work that it expects to take too long, by the machine's speed of that moment."""


def _unsealed(sealed: bytes, passphrase: str) -> bytes:
    """Open what a passphrase sealed; a few tries, since age weighs the work by how busy the machine is just then."""
    import pyrage

    for _ in range(4):
        try:
            return bytes(pyrage.passphrase.decrypt(sealed, passphrase))
        except pyrage.DecryptError as error:
            if BUSY not in str(error):
                raise
            time.sleep(2.0)
    return bytes(pyrage.passphrase.decrypt(sealed, passphrase))


def open_backup(source: Path, *, passphrase: str | None = None, identity: Path | None = None) -> MasterKey:
    """The key in a backup made by `backup`.

    Raises:
        KeyFileError: the file is missing or no backup, or the passphrase or identity does not open it.
    """
    import pyrage

    try:
        sealed = source.read_bytes()
        if identity is not None:
            plain = pyrage.decrypt(sealed, [_identity(identity)])
        else:
            plain = _unsealed(sealed, passphrase or "")
    except OSError as error:
        raise BackupError(f"{error.filename} cannot be read: {error.strerror}") from None
    except pyrage.DecryptError as error:
        if BUSY in str(error):
            remedy = "the machine is too busy for the work of a passphrase: try again when it is quiet"
            raise KeyFileError(f"{source} does not open now: {remedy}") from None
        raise BackupError(f"{source} does not open: the passphrase or identity is wrong, or it is no backup") from None
    return parse_key(plain.decode("ascii", "replace"), str(source))


def restore(home: Home, key: MasterKey) -> None:
    """Put a key back as this factory's key file.

    Raises:
        KeyFileError: another key stands there already, or the key does not open the vault that exists.
    """
    from datafabriek.config import Resources
    from datafabriek.warehouse import WarehouseError, vault

    if home.vault_database.exists():
        try:
            with vault(home, Resources(), key.vault):
                pass
        except WarehouseError as error:
            raise KeyFileError(
                f"this backup is not the key of {home.vault_database}, nothing changed: {error}"
            ) from None
    write_key(home, key)


def _identity(path: Path) -> object:
    import pyrage

    text = path.read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-")]
    try:
        if lines:
            return pyrage.x25519.Identity.from_str(lines[0])
        return pyrage.ssh.Identity.from_buffer(text.encode())
    except pyrage.IdentityError:
        raise BackupError(f"{path} holds no age identity and no ssh private key") from None


def _from_command(command: str) -> str:
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        # neither output nor arguments are told: either may hold the secret
        raise KeyFileError(f"the command in {COMMAND_ENV} failed: run it by hand to see why") from None
    return done.stdout


def _lost(home: Home) -> str:
    if vault_exists(home):
        return (
            f"the key of the vault is lost: {home.key_file} does not exist, and a new key would not open "
            f"{home.vault}. Restore it with `datafabriek key restore FILE`; no new key is made over an existing vault"
        )
    return f"{home.key_file} does not exist yet: the first `datafabriek run` makes it, or restore a backup"


def _checksum(secret: bytes) -> str:
    return hashlib.sha256(b"datafabriek-checksum" + secret).hexdigest()[:8]


_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _bech32(prefix: str, data: bytes) -> str:
    """Bech32 (BIP 173), the notation of age keys; without its limit of 90 characters."""
    number, bits = int.from_bytes(data, "big"), len(data) * 8
    padding = -bits % 5
    number <<= padding
    groups = [(number >> shift) & 31 for shift in range(bits + padding - 5, -1, -5)]
    spread = [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]
    state = _polymod([*spread, *groups, 0, 0, 0, 0, 0, 0]) ^ 1
    check = [(state >> 5 * (5 - place)) & 31 for place in range(6)]
    return prefix + "1" + "".join(_ALPHABET[group] for group in groups + check)


def _polymod(values: list[int]) -> int:
    generator = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
    state = 1
    for value in values:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for place in range(5):
            state ^= generator[place] if (top >> place) & 1 else 0
    return state
