"""The arm registry of a segment: slot <-> id.

Stored as one string that only grows while its epoch lasts: for each slot the length of the id
less one as a byte, then the id in UTF-8. A process that knows its first bytes reads only the
rest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from hashlib import sha1

from banditcore.errors import CorruptDataError, describe

__all__ = ["Registry", "encode_ids"]


def encode_ids(arms: Iterable[str]) -> bytes:
    """Return the stored form of ids that were checked before (1..256 bytes each)."""
    parts = []
    for arm in arms:
        encoded = arm.encode()
        parts.append(bytes((len(encoded) - 1,)) + encoded)
    return b"".join(parts)


class Registry:
    """What this process knows of one epoch of one segment's registry. Only ever grows.

    Attributes
    ----------
    arms : list of str
        Ids in order of their slots.
    slot_of : dict
        Id -> slot.
    """

    __slots__ = ("_lock", "_sha1", "_size", "arms", "slot_of")

    def __init__(self) -> None:
        self.arms: list[str] = []
        self.slot_of: dict[str, int] = {}
        self._size = 0
        self._sha1 = sha1(usedforsecurity=False)
        self._lock = threading.Lock()

    def known(self) -> tuple[int, str]:
        """Return how many stored bytes are known, and their SHA-1 in hex."""
        with self._lock:
            return self._size, self._sha1.hexdigest()

    def extend(self, start: int, tail: bytes) -> None:
        """Learn the stored bytes from `start` on; those known already are passed over.

        Raises
        ------
        CorruptDataError
            When ids are cut, not UTF-8, or stand twice. Nothing is learnt then.
        """
        with self._lock:
            if start > self._size:
                raise CorruptDataError(
                    describe("registry", start, f"only {self._size} bytes were known before")
                )
            news = tail[self._size - start :]
            arms = _decode_ids(news)
            slots = {arm: len(self.arms) + i for i, arm in enumerate(arms)}
            if len(slots) != len(arms) or not slots.keys().isdisjoint(self.slot_of):
                raise CorruptDataError(describe("registry", len(arms), "an arm stands in it twice"))
            self.slot_of.update(slots)
            self.arms.extend(arms)
            self._sha1.update(news)
            self._size += len(news)


def _decode_ids(raw: bytes) -> list[str]:
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
