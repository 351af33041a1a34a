"""The stored form of an arm registry.

For each slot the length of the id less one as a byte, then the id in UTF-8. One string that only
grows while its epoch lasts, so a process that knows its first bytes reads only the rest. Its
token tells a registry from all others there ever were, and from a damaged one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import sha1

from banditcore.errors import CorruptDataError, describe
from banditcore.store.seals import DIGITS, digits_of

__all__ = ["check_token", "decode_ids", "digest_of", "encode_ids", "new_token"]

_RANDOM_BYTES = 12  # 96 bits


def encode_ids(arms: Iterable[str]) -> bytes:
    """Return the stored form of ids that were checked before (1..256 bytes in UTF-8)."""
    parts = []
    for arm in arms:
        encoded = arm.encode()
        parts.append(bytes((len(encoded) - 1,)) + encoded)
    return b"".join(parts)


def decode_ids(raw: bytes) -> list[str]:
    """Read ids back.

    Raises
    ------
    CorruptDataError
        When the last id is cut, or one is not UTF-8.
    """
    arms, at = [], 0
    while at < len(raw):
        end = at + 2 + raw[at]
        if end > len(raw):
            raise CorruptDataError(describe("registry", raw[at:], "its last id is cut"))
        try:
            arms.append(raw[at + 1 : end].decode())
        except UnicodeDecodeError as error:
            raise CorruptDataError(
                describe("registry", raw[at + 1 : end], "an id is not UTF-8")
            ) from error
        at = end
    return arms


def digest_of(registry: bytes) -> str:
    """Return the SHA-1, in hex, by which both sides compare registries."""
    return sha1(registry, usedforsecurity=False).hexdigest()


def new_token(digest: str) -> bytes:
    """Return a token that no registry has had, for the one of this digest."""
    return os.urandom(_RANDOM_BYTES) + digits_of(digest)


def check_token(token: bytes, digest: str, where: str) -> None:
    """Raise CorruptDataError unless a token vouches for the registry of this digest.

    An empty registry needs none.
    """
    if not token and digest == _EMPTY:
        return
    if len(token) != _RANDOM_BYTES + DIGITS or token[_RANDOM_BYTES:] != digits_of(digest):
        raise CorruptDataError(
            describe("registry", f"{token!r}, {digest}", f"{where} is damaged, or its token is")
        )


_EMPTY = digest_of(b"")
