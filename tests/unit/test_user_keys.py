"""Users' keys are SipHash-2-4 of time bucket and name, and never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banditcore._user_keys import UserKeys

SALT = bytes(range(16))
MASK = 2**64 - 1

# The authors' vectors for this key and the messages 00 01 02 ..., of 8 bytes and more.
VECTORS = {
    8: "6224939a79f5f593",
    9: "b0e4a90bdf82009e",
    10: "f3b9dd94c5bb5d7a",
    11: "a7ad6b22462fb3f4",
    12: "fbe50e86bc8f1e75",
    13: "903d84c02756ea14",
    14: "eef27a8e90ca23f7",
    15: "e545be4961ca29a1",
}


def siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 as the paper has it."""

    def turned(x: int, by: int) -> int:
        return (x << by | x >> (64 - by)) & MASK

    def rounds(v: list[int], count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = turned(v[1], 13) ^ v[0]
            v[0] = turned(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = turned(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = turned(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = turned(v[1], 17) ^ v[2]
            v[2] = turned(v[2], 32)

    k = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")]
    v = [
        k[i % 2] ^ int.from_bytes(b"somepseudorandomlygeneratedbytes"[8 * i :][:8])
        for i in range(4)
    ]
    whole = len(message) // 8 * 8
    last = message[whole:].ljust(7, b"\0") + bytes([len(message) % 256])
    for at in range(0, whole + 8, 8):
        word = int.from_bytes((message[:whole] + last)[at : at + 8], "little")
        v[3] ^= word
        rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@pytest.mark.parametrize("length", VECTORS)
def test_the_published_vectors(length: int) -> None:
    message = bytes(range(length))
    bucket = int.from_bytes(message[:8], "little")
    expected = int.from_bytes(bytes.fromhex(VECTORS[length]), "little")
    assert UserKeys(SALT).key(message[8:].decode(), bucket) == expected
    assert siphash(SALT, message) == expected


@settings(deadline=None)
@given(st.text(), st.integers(0, MASK), st.binary(min_size=16, max_size=16))
def test_any_user_has_the_key_of_the_twin(user: str, bucket: int, salt: bytes) -> None:
    message = bucket.to_bytes(8, "little") + user.encode(errors="surrogatepass")
    assert UserKeys(salt).key(user, bucket) == siphash(salt, message)


def test_a_lone_surrogate_is_a_user_like_any_other() -> None:
    message = bytes(8) + "a\ud800b".encode(errors="surrogatepass")
    assert UserKeys(SALT).key("a\ud800b", 0) == siphash(SALT, message)


def test_many_users_have_the_keys_of_each() -> None:
    keys = UserKeys(SALT)
    users = ["u1", None, "é", "\ud800", "x" * 300]
    found = keys.keys(users, 7)
    assert found.dtype == np.uint64
    assert found.tolist() == [0 if user is None else keys.key(user, 7) for user in users]


def test_a_salt_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        UserKeys(b"short")
