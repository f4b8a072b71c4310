"""Signatures by a personal ssh key: made by ssh-keygen, which knows agents and passwords, and checked here without it.

The format is OpenSSH's SSHSIG (PROTOCOL.sshsig) under a namespace of our own, of Ed25519 keys. Above the armour stands
one line that is signed along with the bytes, as minisign's trusted comment is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "datafabriek"
SUFFIX = ".sshsig"
PUBLIC = re.compile(r"(ssh-ed25519 [A-Za-z0-9+/]{68})( .*)?")
"""A public key as rollen.yaml has it; what stands behind it is whose it is, to ssh alone."""

_HEAD, _TAIL = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"


class SignatureError(ValueError):
    """A key that does not open, or a signature that is none; the message holds nothing of either."""


def is_private(file: Path) -> bool:
    """Whether a file is a private key of ssh."""
    try:
        with file.open("rb") as opened:
            return opened.read(40).startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    except OSError:
        return False


@dataclass(frozen=True)
class SecretKey:
    """A private key in a file, and the password that opens it."""

    file: Path
    password: str
    public: str

    @classmethod
    def open(cls, file: Path, password: str) -> SecretKey:
        """Look whether the password opens the key.

        Raises:
            SignatureError: it does not, or the key is of another kind.
        """
        told = PUBLIC.fullmatch(_keygen(["-y", "-f", str(file)], password).decode("ascii", "replace").strip())
        if told is None:
            raise SignatureError("no Ed25519 key: make one with `ssh-keygen -t ed25519`")
        return cls(file, password, told[1])

    def is_encrypted(self) -> bool:
        """Whether it needs the password."""
        try:
            _keygen(["-y", "-f", str(self.file)], "")
        except SignatureError:
            return True
        return False

    def sign(self, content: bytes, trusted_comment: str) -> bytes:
        """A signature of these bytes and the comment."""
        arguments = ["-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(self.file)]
        armoured = _keygen(arguments, self.password, _message(content, trusted_comment))
        return trusted_comment.encode() + b"\n" + armoured


def comment(signature: bytes) -> str:
    """What stands above the armour; not to be trusted before `verify`."""
    return signature.partition(b"\n")[0].decode("utf-8", "replace")


def verify(public: str, content: bytes, signature: bytes) -> None:
    """Hold a signature to the bytes, its comment and a public key.

    Raises:
        SignatureError: it is not of them.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        line, _, armour = signature.decode("ascii").replace("\r\n", "\n").partition("\n")
        body = armour.strip()
        if not (body.startswith(_HEAD) and body.endswith(_TAIL)):
            raise SignatureError("no ssh signature")
        raw = base64.b64decode("".join(body[len(_HEAD) : -len(_TAIL)].split()), validate=True)
        wanted = base64.b64decode(public.split()[1], validate=True)
        if raw[:6] != _MAGIC or raw[6:10] != struct.pack(">I", 1):
            raise SignatureError("no ssh signature")
        key, namespace, reserved, kind, made = _strings(raw[10:], 5)
        name, proof = _strings(made, 2)
        if (key, namespace, name) != (wanted, NAMESPACE.encode(), b"ssh-ed25519") or kind not in (b"sha256", b"sha512"):
            raise SignatureError("a signature of another key, or for something else")
        digest = hashlib.new(kind.decode(), _message(content, line)).digest()
        signed = _MAGIC + b"".join(map(_string, (namespace, reserved, kind, digest)))
        Ed25519PublicKey.from_public_bytes(_strings(wanted, 2)[1]).verify(proof, signed)
    except (InvalidSignature, UnicodeDecodeError, binascii.Error, struct.error, IndexError):
        raise SignatureError("the signature is not of these bytes") from None


def _message(content: bytes, told: str) -> bytes:
    return content + b"\n" + told.encode()


def _string(part: bytes) -> bytes:
    return struct.pack(">I", len(part)) + part


def _strings(packed: bytes, count: int) -> list[bytes]:
    """So many strings that follow each other, and nothing behind them."""
    found = []
    for _ in range(count):
        (length,) = struct.unpack(">I", packed[:4])
        found.append(packed[4 : 4 + length])
        if len(found[-1]) != length:
            raise SignatureError("a signature that was cut off")
        packed = packed[4 + length :]
    if packed:
        raise SignatureError("more than a signature")
    return found


def _keygen(arguments: list[str], password: str, message: bytes = b"") -> bytes:
    """What ssh-keygen writes; it asks for the password through a program that reads it from this process alone."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SignatureError("ssh-keygen is not here: install openssh-client, or use a minisign key")
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked"
        asked.touch(mode=0o700)
        asked.write_text('#!/bin/sh\nprintf "%s\\n" "$DATAFABRIEK_ASKED"\n')
        environment = {"PATH": os.environ.get("PATH", ""), "SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"}
        environment |= {"DATAFABRIEK_ASKED": password, "DISPLAY": ":0"}
        done = subprocess.run(
            [program, *arguments], input=message, capture_output=True, check=False, env=environment, timeout=60
        )
    if done.returncode:
        raise SignatureError("the key does not open with this password")
    return done.stdout
