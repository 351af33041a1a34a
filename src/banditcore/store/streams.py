"""Streams of events, one a partition: appended once, read in order, trimmed when applied."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from banditcore.errors import CorruptDataError, StoreError, describe
from banditcore.store import keys, library, stream_library
from banditcore.store.translation import translated, translating
from banditcore.store.transport import Command, Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = [
    "LONGEST_WAIT_S",
    "START",
    "Append",
    "Appended",
    "DeadLetter",
    "Entry",
    "StreamReader",
    "StreamState",
    "advance",
    "append",
    "dead_letter",
    "dead_letters",
    "letter_of",
    "states",
    "trim",
]

START = 0
"""The offset before the first that any stream has."""

_CLUSTER_PAUSE_S = 0.05

LONGEST_WAIT_S = 5.0
"""The longest that one read waits for events, in seconds."""

_MOST_ENTRIES = 4096  # of one read: the server answers nobody else meanwhile
_LETTER = struct.Struct("<qI")  # offset, bytes of the reason


@dataclass(frozen=True, slots=True)
class Append:
    """One entry on its way to a partition.

    Parameters
    ----------
    partition : int
        In [0, number of partitions).
    producer : bytes
        16 random bytes; no two processes have the same.
    sequence : int
        >= 1, larger than those this producer has used in this partition. An entry that is sent
        again keeps its own; nothing else may have it.
    count : int
        >= 1, how many events are packed in the body.
    body : bytes
        From `event_format.encode_events`.
    """

    partition: int
    producer: bytes
    sequence: int
    count: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an `Append`.

    Attributes
    ----------
    word : str
        ``OK``; ``ALREADY`` when the stream had it before; ``FULL`` when it has too many events
        that are not applied, so nothing was appended.
    first : int or None
        The offset of its first event; None when it is unknown or there is none.
    unapplied : int
        Events of the stream that are not applied yet; 0 unless the word is ``FULL``.
    """

    word: str
    first: int | None = None
    unapplied: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """Events of a stream that were appended together, at the offsets first .. last."""

    first: int
    count: int
    body: bytes

    @property
    def last(self) -> int:
        """The offset of its last event."""
        return self.first + self.count - 1


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
        What there was.
    """

    offset: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """How a partition stands.

    Attributes
    ----------
    end : int
        The last offset that was given away, or that `advance` was told; `START` before the first.
    applied : int
        The last offset that `trim` was told to be applied; `START` before the first.
    unapplied : int
        Events beyond it.
    entries : int
        Entries that the stream holds, applied ones included.
    dead : int
        Dead letters ever written; the oldest of many are dropped.
    """

    end: int
    applied: int
    unapplied: int
    entries: int
    dead: int


def append(
    store: Store, bandit: str, entries: Sequence[Append], *, most_unapplied: int
) -> list[Appended | StoreError]:
    """Append entries in one round trip to each server, each once however often it is sent.

    Parameters
    ----------
    entries : sequence of Append
        At most one of each partition: of several the later might be appended without the earlier.
    most_unapplied : int
        Events of a partition that may wait to be applied. From then on entries are refused as
        ``FULL``, so at most the last one goes beyond.

    Returns
    -------
    list
        For each entry what became of it. A StoreError stands for one that failed, which may have
        been appended: send it again. The others are not concerned.

    Raises
    ------
    StoreError
        No server could be asked, or one may not be used. Send all of them again.
    """
    calls = [
        stream_library.append(
            keys.of_partition(bandit, entry.partition),
            producer=keys.producer(bandit, entry.partition, entry.producer),
            sequence=entry.sequence,
            count=entry.count,
            most=most_unapplied,
            body=entry.body,
        )
        for entry in entries
    ]
    return [_appended(store, answer) for answer in library.attempt(store, calls)]


class StreamReader:
    """Reads partitions in order. Owns a connection for waiting; close it. For one thread.

    Parameters
    ----------
    store : Store
        Where.
    bandit : str
        Whose events.
    """

    def __init__(self, store: Store, bandit: str) -> None:
        self._store = store
        self._bandit = bandit
        self._waiting: redis.Redis | None = None

    def read(
        self, after: Mapping[int, int], *, limit: int, wait_s: float = 0.0
    ) -> dict[int, list[Entry]]:
        """Return entries that hold offsets beyond some, oldest first; only partitions with any.

        Parameters
        ----------
        after : mapping of int to int
            Partition -> the offset up to which nothing is wanted; `START` for all there is. When
            it lies within an entry that entry comes too, as a whole.
        limit : int
            >= 1. A partition's entries end with the one that brings it to so many events, or with
            the 4,096th.
        wait_s : float
            Seconds to wait when there is nothing yet, at most `LONGEST_WAIT_S`; 0 not to wait.
            What comes is seen at once; in a cluster within 0.05 s, since no server can wait for
            what others hold.

        Raises
        ------
        StoreError
            Nothing is changed by reading: read again.
        """
        found = self._read(after, limit)
        if found or wait_s <= 0 or not after:
            return found
        wait_s = min(wait_s, LONGEST_WAIT_S)
        client = self._store.client
        if isinstance(client, redis.RedisCluster):
            return self._ask_again(after, limit, wait_s)
        self._wait(client, after, wait_s)
        return self._read(after, limit)

    def close(self) -> None:
        """Close the connection for waiting. May be called again."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def __enter__(self) -> StreamReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, after: Mapping[int, int], limit: int) -> dict[int, list[Entry]]:
        calls = [
            stream_library.read(
                keys.of_partition(self._bandit, partition),
                after=offset,
                events=limit,
                entries=_MOST_ENTRIES,
            )
            for partition, offset in after.items()
        ]
        replies = library.run(self._store, calls)
        for partition, reply in zip(after, replies, strict=True):
            if reply[:1] == [b"CORRUPT"]:
                raise _damaged(reply, f"partition {partition} is not read")
        return {
            partition: [_entry(*pair) for pair in zip(reply[::2], reply[1::2], strict=True)]
            for partition, reply in zip(after, replies, strict=True)
            if reply
        }

    def _ask_again(
        self, after: Mapping[int, int], limit: int, wait_s: float
    ) -> dict[int, list[Entry]]:
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _CLUSTER_PAUSE_S))
            if found := self._read(after, limit):
                return found
        return {}

    def _wait(self, client: redis.Redis, after: Mapping[int, int], wait_s: float) -> None:
        streams = {
            keys.of_partition(self._bandit, partition).stream: f"{offset}-{2**64 - 1}"
            for partition, offset in after.items()
        }
        with translating(self._store):
            if self._waiting is None:
                self._waiting = _patient_client(client)
            # 0 would mean for ever.
            self._waiting.xread(streams, count=1, block=max(1, round(1000 * wait_s)))  # type: ignore[arg-type]  # dict is invariant


def trim(store: Store, bandit: str, partition: int, *, applied: int, retain_s: float) -> int:
    """Note what is applied, and remove applied entries that are old.

    Parameters
    ----------
    applied : int
        Everything up to this offset is applied. May be less than before, when the counts went
        back in time.
    retain_s : float
        >= 0. Applied entries stay so long after they were appended, so that counts which go back
        with a failover get them again. Entries that are not applied stay anyway.

    Returns
    -------
    int
        How many entries were removed.
    """
    retain_us = round(1e6 * retain_s)
    call = stream_library.trim(
        keys.of_partition(bandit, partition), applied=applied, retain_us=retain_us
    )
    return int(_ok(library.run(store, [call])[0]))


def advance(store: Store, bandit: str, partition: int, *, beyond: int) -> int:
    """Make all new offsets larger than `beyond`; return the last offset that none will have.

    For a stream that lost its end with a failover to a server whose clock is behind: marks beside
    the counts would take new events for old ones.
    """
    call = stream_library.advance(keys.of_partition(bandit, partition), beyond=beyond)
    return int(_ok(library.run(store, [call])[0]))


def dead_letter(
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
    return sum(int(_ok(reply)) for reply in library.run(store, calls))


def dead_letters(
    store: Store, bandit: str, partition: int, *, after: int = START, limit: int = 100
) -> list[DeadLetter]:
    """Return up to `limit` dead letters with offsets beyond `after`, by offset."""
    key = keys.of_partition(bandit, partition).dead
    words = ("ZRANGEBYSCORE", key, f"({after}", "+inf", "LIMIT", 0, limit)
    [raw] = store.replies([Command(key, words)])
    return [letter_of(member) for member in raw]


def states(store: Store, bandit: str, partitions: Sequence[int]) -> list[StreamState]:
    """Return how partitions stand, in the order in which they are given."""
    fields = ("end", "applied", "total", "applied_total", "dead")
    commands = []
    for partition in partitions:
        where = keys.of_partition(bandit, partition)
        commands.append(Command(where.offsets, ("HMGET", where.offsets, *fields)))
        commands.append(Command(where.stream, ("XLEN", where.stream)))
    replies = store.replies(commands)
    found = []
    for stored, entries in zip(replies[::2], replies[1::2], strict=True):
        try:
            end, applied, total, applied_total, dead = (int(number or 0) for number in stored)
        except ValueError as error:
            raise CorruptDataError(
                describe("offsets", stored, f"of bandit {bandit!r}: whole numbers")
            ) from error
        found.append(StreamState(end, applied, total - applied_total, int(entries), dead))
    return found


def _patient_client(client: redis.Redis) -> redis.Redis:
    """Return a client whose socket waits longer for a reply than the server waits for events."""
    pool = client.connection_pool
    settings = dict(pool.connection_kwargs)
    settings["socket_timeout"] += LONGEST_WAIT_S
    return redis.Redis.from_pool(
        redis.ConnectionPool(connection_class=pool.connection_class, **settings)
    )


def _damaged(reply: library.Reply, what: str) -> CorruptDataError:
    return CorruptDataError(describe(reply[1].decode(), "damaged", f"{what}: see what verify says"))


def _ok(reply: library.Reply) -> bytes:
    if reply[0] == b"CORRUPT":
        raise _damaged(reply, "the partition was not changed")
    if reply[0] != b"OK":
        words = [word.decode() for word in reply]
        raise StoreError(describe("reply", words, "the partition was not changed"))
    return reply[1]


def _appended(store: Store, reply: library.Reply | Failure) -> Appended | StoreError:
    if isinstance(reply, Failure):
        error = translated(reply.error, store, reply.node)
        error.__cause__ = reply.error
        return error
    word = reply[0].decode()
    if word == "FULL":
        return Appended(word, unapplied=int(reply[1]))
    if word in {"OK", "ALREADY"}:
        return Appended(word, int(reply[1]) if reply[1] else None)
    if word == "CORRUPT":
        return _damaged(reply, "nothing was appended")
    return StoreError(describe("reply", word, f"{reply[1].decode()}: nothing was appended"))


def _entry(name: bytes, body: bytes) -> Entry:
    first, _, count = name.partition(b"-")
    if int(count) < 1:
        raise CorruptDataError(describe("entry", name, "not one that a producer appended"))
    return Entry(int(first), int(count), body)


def letter_of(member: bytes) -> DeadLetter:
    """Read the stored form of a dead letter; raises CorruptDataError when it is none."""
    try:
        offset, size = _LETTER.unpack_from(member)
        start = _LETTER.size + size
        return DeadLetter(offset, member[_LETTER.size : start].decode(), member[start:])
    except (struct.error, UnicodeDecodeError) as error:
        raise CorruptDataError(describe("dead letter", member, "it is damaged")) from error
