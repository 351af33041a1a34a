"""Events that could not be used: kept by offset, with the reason."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys
from banditcore.store.event_streams.partitions import MOST
from banditcore.store.functions import library, stream_library
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["STREAMS", "DeadLetter", "keep", "letter_of", "place_of", "read"]

STREAMS = "stream"
"""The name of the source that is the bandit's own streams."""

_REPLAYED = "replayed as offset "  # see streams.lua
_LETTER = struct.Struct("<qI")  # offset, bytes of the reason


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not be used, or a whole body that could not be read.

    Attributes
    ----------
    offset : int
        Of the event; of the first one for a body.
    reason : str
        Why.
    raw : bytes
        What there was; b"" once it was replayed, see `streams.replay`.
    """

    offset: int
    reason: str
    raw: bytes

    @property
    def is_replayed(self) -> bool:
        """Whether its events stand in the stream once more."""
        return not self.raw and self.reason.startswith(_REPLAYED)


def keep(
    store: Store,
    bandit: str,
    partition: int,
    letters: Sequence[DeadLetter],
    *,
    most: int = 10_000,
    most_bytes: int = 64 << 20,
) -> int:
    """Keep what could not be used, once an offset; return how many of them are new.

    Parameters
    ----------
    most, most_bytes : int
        What a partition keeps. Beyond it the letters of the lowest offsets go.

    Raises
    ------
    StoreError
        Some may be kept. Keeping all of them again is safe.
    """
    if not letters:
        return 0
    packed = [
        _LETTER.pack(letter.offset, len(reason)) + reason + letter.raw
        for letter in letters
        for reason in (letter.reason.encode(errors="backslashreplace"),)
    ]
    where = keys.of_partition(bandit, partition)
    # The words of a command go through Lua's stack, whose room is limited.
    calls = [
        stream_library.dead_letter(
            where, most=most, most_bytes=most_bytes, letters=packed[at : at + 1000]
        )
        for at in range(0, len(packed), 1000)
    ]
    replies = library.run(store, calls)
    for reply in replies:
        if reply[0] == b"CORRUPT":
            raise stream_library.damaged(reply, "no letter was kept")
    return sum(int(reply[1]) for reply in replies)


def read(
    store: Store, bandit: str, partition: int, *, after: int = -1, limit: int = 100
) -> list[DeadLetter]:
    """Return up to `limit` dead letters with offsets beyond `after`, by offset."""
    key = keys.of_partition(bandit, partition).dead
    words = ("ZRANGEBYSCORE", key, f"({after}", "+inf", "LIMIT", 0, limit)
    [raw] = store.replies([Command(key, words)])
    return [letter_of(member) for member in raw]


def place_of(source: str, partition: int) -> int:
    """Return the number, in `keep` and `read`, of a partition of a source.

    That of the bandit's own streams is the partition's. Those of others lie above them.
    """
    if source == STREAMS:
        return partition
    name = f"{source}:{partition}".encode()
    return MOST + int.from_bytes(blake2b(name, digest_size=16).digest())


def letter_of(member: bytes) -> DeadLetter:
    """Read the stored form of a dead letter; raises CorruptDataError when it is none."""
    try:
        offset, size = _LETTER.unpack_from(member)
        start = _LETTER.size + size
        return DeadLetter(offset, member[_LETTER.size : start].decode(), member[start:])
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptDataError(describe("dead letter", member, "it is damaged")) from error
