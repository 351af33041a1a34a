"""Events that could not be used: kept by offset, with the reason."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys, keyspace
from banditcore.store.event_streams import refusing
from banditcore.store.event_streams.partitions import MOST
from banditcore.store.event_streams.refusing import STREAMS
from banditcore.store.functions import calling, stream_library
from banditcore.store.keys import PartitionKeys
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["STREAMS", "DeadLetter", "keep", "keys_of", "learn", "letter_of", "read"]

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
    source: str = STREAMS,
    most: int = 10_000,
    most_bytes: int = 64 << 20,
) -> int:
    """Keep what could not be used, once an offset; return how many of them are new.

    Parameters
    ----------
    partition : int
        Of the source.
    source : str
        Whose; `STREAMS` is the bandit's own streams. Others come to be known by it.
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
    if source != STREAMS:  # first alone: a letter must not be kept where nobody looks for it
        refusing.enter(store, bandit, source, partition)
    where = keys_of(bandit, partition, source)
    # The words of a command go through Lua's stack, whose room is limited.
    calls = [
        stream_library.dead_letter(
            where, most=most, most_bytes=most_bytes, letters=packed[at : at + 1000]
        )
        for at in range(0, len(packed), 1000)
    ]
    replies = calling.run(store, calls)
    for reply in replies:
        if reply[0] == b"CORRUPT":
            raise stream_library.damaged(reply, "no letter was kept")
    return sum(int(reply[1]) for reply in replies)


def read(
    store: Store,
    bandit: str,
    partition: int,
    *,
    source: str = STREAMS,
    after: int = -1,
    limit: int = 100,
) -> list[DeadLetter]:
    """Return up to `limit` dead letters with offsets beyond `after`, by offset."""
    key = keys_of(bandit, partition, source).dead
    words = ("ZRANGEBYSCORE", key, f"({after}", "+inf", "LIMIT", 0, limit)
    [raw] = store.replies([Command(key, words)])
    return [letter_of(member) for member in raw]


def learn(store: Store, bandit: str, partition: int, source: str) -> None:
    """Enter another source's partition that has letters of which the store does not know whose.

    An earlier build kept them, or a failover lost what said it.
    """
    [is_there] = keyspace.existing(store, [keys_of(bandit, partition, source).dead])
    if is_there and (source, partition) not in refusing.known(store, bandit):
        refusing.enter(store, bandit, source, partition)


def keys_of(bandit: str, partition: int, source: str = STREAMS) -> PartitionKeys:
    """Return the keys beside which a partition of a source has its dead letters.

    Of other sources than the bandit's own streams only `dead` and `offsets` come to be. They are
    those of partitions beyond all that streams can have.
    """
    if source == STREAMS:
        return keys.of_partition(bandit, partition)
    name = f"{source}:{partition}".encode()
    place = MOST + int.from_bytes(blake2b(name, digest_size=16).digest())
    return keys.of_partition(bandit, place)


def letter_of(member: bytes) -> DeadLetter:
    """Read the stored form of a dead letter; raises CorruptDataError when it is none."""
    try:
        offset, size = _LETTER.unpack_from(member)
        start = _LETTER.size + size
        return DeadLetter(offset, member[_LETTER.size : start].decode(), member[start:])
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptDataError(describe("dead letter", member, "it is damaged")) from error
