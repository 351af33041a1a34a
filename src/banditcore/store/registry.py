"""The stored form of an arm registry.

For each slot the length of the id less one as a byte, then the id in UTF-8. One string that only
grows while its epoch lasts, so a process that knows its first bytes reads only the rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from banditcore.errors import CorruptDataError, describe

__all__ = ["decode_ids", "encode_ids"]


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
