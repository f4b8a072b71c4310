"""Pseudonyms: the standard's known answers, injective within a purpose, different between purposes."""

from __future__ import annotations

import uuid

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.cmac import CMAC
from hypothesis import given
from hypothesis import strategies as st

from quality.privacy.pseudonyms import (
    KINDS,
    PseudonymError,
    cmac,
    is_one_block,
    pseudonymise,
    recode,
    subkey,
    uncmac,
    uuids,
)

# NIST SP 800-38B, appendix D.3 (AES-256)
KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
OTHER = bytes(range(32))

digits = st.text("0123456789", min_size=1, max_size=9)
texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def test_subkey_and_one_block_message_are_those_of_the_standard() -> None:
    assert subkey(KEY).hex() == "cad1ed03299eedac2e9a99808621502f"
    block = np.frombuffer(bytes.fromhex("6bc1bee22e409f96e93d7e117393172a"), np.uint8).reshape(1, 16)
    assert cmac(KEY, block).tobytes().hex() == "28a7023f452e8f82bd4bf28d8c37c35c"


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20), st.binary(min_size=32, max_size=32))
def test_a_column_gives_what_a_library_gives_block_by_block(blocks: list[bytes], key: bytes) -> None:
    column = np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, 16)
    for block, mac in zip(blocks, cmac(key, column), strict=True):
        reference = CMAC(algorithms.AES(key))
        reference.update(block)
        assert reference.finalize() == mac.tobytes()
    assert (uncmac(key, cmac(key, column)) == column).all()


def test_known_answers_hold_the_scheme_in_place() -> None:
    # changing the scheme changes every pseudonym ever made: then these fail
    def of(kind: str, value: str) -> str:
        return str(pseudonymise(pa.array([value]), KINDS[kind], KEY)[0].as_py())

    assert of("bsn", "999990019") == "541da6df-0e5f-1e65-13fa-37809c43c974"
    assert of("uitkering", "0518A-1") == "8fbc0039-87d9-760b-2051-694e722e35bb"
    assert of("uitkering", "0518" + "9" * 15) == "e6aaa671-5a2d-58e2-4781-be7b88fc0cff"


@given(st.lists(digits, min_size=2, max_size=50, unique_by=lambda value: value.zfill(9)))
def test_injective_within_a_purpose_and_different_between_purposes(values: list[str]) -> None:
    here = pseudonymise(pa.array(values), KINDS["bsn"], KEY).to_pylist()
    there = pseudonymise(pa.array(values), KINDS["bsn"], OTHER).to_pylist()
    assert len(set(here)) == len(values)
    assert not set(here) & set(there)


@given(st.lists(texts, min_size=2, max_size=50, unique=True))
def test_texts_of_any_length_are_kept_apart(values: list[str]) -> None:
    found = pseudonymise(pa.array(values), KINDS["uitkering"], KEY).to_pylist()
    assert len(set(found)) == len(values)


def test_equal_digits_of_two_kinds_get_different_pseudonyms() -> None:
    found = {str(pseudonymise(pa.array(["12345678"]), kind, KEY)[0].as_py()) for kind in KINDS.values()}
    assert len(found) == len(KINDS)


def test_a_lost_leading_zero_is_the_same_person_and_null_stays_null() -> None:
    found = pseudonymise(pa.array(["012345672", "12345672", None]), KINDS["bsn"], KEY).to_pylist()
    assert found[0] == found[1]
    assert found[2] is None


def test_a_slice_and_pieces_give_the_same_as_the_whole() -> None:
    values = pa.array([f"{number:09}" for number in range(1000)])
    whole = pseudonymise(values, KINDS["bsn"], KEY)
    assert pseudonymise(values[10:20], KINDS["bsn"], KEY).equals(whole[10:20])
    assert pseudonymise(pa.chunked_array([values[:3], values[3:]]), KINDS["bsn"], KEY).equals(whole)
    assert len(pseudonymise(values[:0], KINDS["bsn"], KEY)) == 0


@pytest.mark.parametrize("value", ["1234567890", "12345678a", "-1", "12 34"])
def test_what_is_no_bsn_is_refused_without_being_told(value: str) -> None:
    with pytest.raises(PseudonymError) as caught:
        pseudonymise(pa.array(["999990019", value]), KINDS["bsn"], KEY)
    assert value not in str(caught.value)


@given(st.lists(st.none() | digits, max_size=30))
def test_a_key_is_rotated_without_the_identifiers(values: list[str | None]) -> None:
    column = pa.array(values, pa.string())
    old, new = (pseudonymise(column, KINDS["bsn"], key) for key in (KEY, OTHER))
    assert recode(old, KEY, OTHER).equals(new)


@pytest.mark.parametrize("kind", ["bsn", "uitkering"])
def test_only_single_blocks_under_their_own_key_count_as_such(kind: str) -> None:
    values = pa.array(["123456782", None, "7"])
    made = pseudonymise(values, KINDS[kind], bytes(32))
    assert is_one_block(made, KINDS[kind], bytes(32))
    assert not is_one_block(made, KINDS[kind], bytes([1] * 32))
    text = pa.array([str(uuid.UUID(bytes=one)) if one else None for one in made.storage.to_pylist()])
    assert uuids(text).equals(made)
    if not KINDS[kind].width:
        longer = pseudonymise(pa.array(["0518-123456789012345"]), KINDS[kind], bytes(32))
        assert not is_one_block(longer, KINDS[kind], bytes(32))  # a hash, which no key turns back
