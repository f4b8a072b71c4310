"""Keyed pseudonyms: one purpose, one key; a whole column per call.

An identifier that fits one AES block gets AES-256-CMAC (NIST SP 800-38B) over exactly one block, which is one
AES call per value, so that a column costs one call: ``AES(K, M xor K1)``. A longer one gets HMAC-SHA-256 cut to
16 bytes. Both are stored as UUID.

Whoever holds the key can enumerate all BSNs under any keyed method: the key is the secret, and it lives in
`quality.privacy.keys`. Changing anything here changes every pseudonym ever made: the known answers in
tests/privacy hold it in place.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from datafabriek.errors import FactoryError

BLOCK = 16
_RB = 0x87  # the constant of SP 800-38B, section 5.3, for a block of 128 bits

Blocks = npt.NDArray[np.uint8]


class PseudonymError(FactoryError):
    """An identifier that is none of its kind; the message holds no value."""


@dataclass(frozen=True)
class Kind:
    """A kind of identifier.

    Attributes:
        name: the word that contracts use.
        tag: first bytes of the block, so that equal digits of two kinds get different pseudonyms; tags start
            with different letters, which keeps blocks of different kinds apart whatever the padding.
        width: length to which digits are zero-padded; 0 for free text of at most `BLOCK - len(tag)` bytes.
    """

    name: str
    tag: bytes
    width: int = 0

    @property
    def capacity(self) -> int:
        """Longest identifier, in bytes, that goes in one block."""
        return BLOCK - len(self.tag)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("bsn", b"bsn", 9),
        Kind("a_nummer", b"anr", 10),
        Kind("kvknummer", b"kvk", 8),
        Kind("vestigingsnummer", b"ves", 12),
        Kind("rsin", b"rsi", 9),
        Kind("huishouden", b"hh"),
        Kind("uitkering", b"u"),
        Kind("dossier", b"d"),
        Kind("voorziening", b"w"),
        Kind("object", b"o"),
        Kind("client", b"c"),
        Kind("toewijzing", b"t"),
        Kind("vordering", b"f"),
        Kind("pas", b"p"),
        Kind("zaak", b"z"),
    )
}


def subkey(key: bytes) -> bytes:
    """K1 of SP 800-38B: the subkey for a message whose last block is full."""
    block = int.from_bytes(_encrypt(key, bytes(BLOCK)), "big") << 1
    if block >> 128:
        block = (block & ((1 << 128) - 1)) ^ _RB
    return block.to_bytes(BLOCK, "big")


def cmac(key: bytes, blocks: Blocks) -> Blocks:
    """AES-256-CMAC of every row of a (n, 16) array, each a message of exactly one block.

    Args:
        key: 32 bytes.
        blocks: (n, 16) bytes.

    Returns:
        (n, 16) bytes, row for row.
    """
    masked = blocks ^ np.frombuffer(subkey(key), np.uint8)
    return np.frombuffer(_encrypt(key, masked.tobytes()), np.uint8).reshape(-1, BLOCK)


def uncmac(key: bytes, macs: Blocks) -> Blocks:
    """The blocks behind one-block pseudonyms: what lets a key be rotated without a new delivery."""
    decryptor = Cipher(algorithms.AES(key), modes.ECB()).decryptor()  # noqa: S305 - one block per message, see cmac
    plain = np.frombuffer(decryptor.update(macs.tobytes()) + decryptor.finalize(), np.uint8).reshape(-1, BLOCK)
    return plain ^ np.frombuffer(subkey(key), np.uint8)


def pseudonymise(values: pa.Array | pa.ChunkedArray, kind: Kind, key: bytes) -> pa.Array:
    """A column of identifiers as a column of pseudonyms.

    Args:
        values: identifiers as text; nulls stay null. Digits of a numeric kind may lack their leading zeros.
        kind: what they are; it enters the pseudonym.
        key: 32 bytes, of one purpose and version.

    Returns:
        As many pseudonyms, of Arrow type `uuid`.

    Raises:
        PseudonymError: a value has other characters than digits, or more than its kind has.
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    column = pc.cast(column, pa.large_string())
    valid = pc.is_valid(column)
    filled = pc.fill_null(column, "")
    lengths = pc.binary_length(filled)
    if kind.width:
        return _uuids(cmac(key, _digits(filled, lengths, kind)), valid)
    longer = pc.greater(lengths, kind.capacity)
    if not pc.any(longer).as_py():
        return _uuids(cmac(key, _framed(_matrix(filled, kind.capacity, "\0"), kind)), valid)
    short = pc.if_else(longer, pa.scalar("", pa.large_string()), filled)
    macs = cmac(key, _framed(_matrix(short, kind.capacity, "\0"), kind)).copy()
    for row in np.flatnonzero(longer.to_numpy(zero_copy_only=False)):
        macs[row] = np.frombuffer(_long(filled[int(row)].as_py().encode(), kind, key), np.uint8)
    return _uuids(macs, valid)


def uuids(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column of UUIDs as an engine hands it out (extension type, bytes or text), of Arrow type `uuid`."""
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pa.array([uuid.UUID(text).bytes if text else None for text in column.to_pylist()], pa.binary(BLOCK))
    return pa.ExtensionArray.from_storage(pa.uuid(), column.cast(pa.binary(BLOCK)))


def is_one_block(values: pa.Array, kind: Kind, key: bytes) -> bool:
    """Whether every pseudonym of a column is one block of its kind under this key, so that `recode` may turn it.

    A wrong key or a pseudonym of a longer identifier shows: what comes out has no tag, or holds no characters.
    """
    made = values.storage.drop_null()
    macs = np.frombuffer(made.buffers()[1] or b"", np.uint8)[made.offset * BLOCK : (made.offset + len(made)) * BLOCK]
    blocks = uncmac(key, macs.reshape(-1, BLOCK))
    tag = np.frombuffer(kind.tag, np.uint8)
    rest = blocks[:, len(kind.tag) :]
    printable = (rest >= ord(" ")) & (rest < 127)
    padding = (rest == 0) & (np.cumsum(rest != 0, axis=1) == 0)
    return bool((blocks[:, : len(tag)] == tag).all() and (printable | padding).all())


def recode(values: pa.Array | pa.ChunkedArray, old: bytes, new: bytes) -> pa.Array:
    """One-block pseudonyms under a new key, without the identifiers (rotation)."""
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    filled = pc.fill_null(storage, bytes(BLOCK))
    start = filled.offset * BLOCK
    macs = np.frombuffer(filled.buffers()[1], np.uint8)[start : start + len(filled) * BLOCK]
    return _uuids(cmac(new, uncmac(old, macs.reshape(-1, BLOCK))), pc.is_valid(column))


def _digits(values: pa.LargeStringArray, lengths: pa.Array, kind: Kind) -> Blocks:
    """Blocks of a numeric kind.

    Raises:
        PseudonymError: a value is too long, or holds other characters than digits.
    """
    too_long = pc.sum(pc.greater(lengths, kind.width)).as_py() or 0
    wrong = too_long
    if not too_long:
        matrix = _matrix(values, kind.width, "0")
        wrong = int(((matrix < ord("0")) | (matrix > ord("9"))).any(axis=1).sum())
        if not wrong:
            return _framed(matrix, kind)
    told = f"{wrong} value(s) are no {kind.name} of {kind.width} digits"
    raise PseudonymError(f"{told}: let the contract refuse such rows before they are pseudonymised")


def _matrix(values: pa.LargeStringArray, width: int, fill: str) -> Blocks:
    """The bytes of every value, filled up on the left to `width`."""
    if not len(values):
        return np.zeros((0, width), np.uint8)
    raw = pc.ascii_lpad(values, width, fill) if pc.min(pc.binary_length(values)).as_py() < width else values
    offsets = np.frombuffer(raw.buffers()[1], np.int64)[raw.offset : raw.offset + len(raw) + 1]
    return np.frombuffer(raw.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, width)


def _framed(matrix: Blocks, kind: Kind) -> Blocks:
    """Tag, NUL bytes, identifier: one block a row."""
    blocks = np.zeros((len(matrix), BLOCK), np.uint8)
    blocks[:, : len(kind.tag)] = np.frombuffer(kind.tag, np.uint8)
    blocks[:, BLOCK - matrix.shape[1] :] = matrix
    return blocks


def _long(value: bytes, kind: Kind, key: bytes) -> bytes:
    return hmac.new(key, kind.tag + b"\0" + value, hashlib.sha256).digest()[:BLOCK]


def _uuids(macs: Blocks, valid: pa.BooleanArray) -> pa.Array:
    storage = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(BLOCK), len(macs), [None, pa.py_buffer(np.ascontiguousarray(macs))]
    )
    return pa.ExtensionArray.from_storage(pa.uuid(), pc.if_else(valid, storage, pa.scalar(None, pa.binary(BLOCK))))


def _encrypt(key: bytes, data: bytes) -> bytes:
    # ECB is right here: every block is a message of its own, and equal identifiers must give equal pseudonyms
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
    return encryptor.update(data) + encryptor.finalize()
