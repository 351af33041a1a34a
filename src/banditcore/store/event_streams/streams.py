"""Streams of events, one a partition: appended once, read in order, trimmed when applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, StoreError, describe
from banditcore.store import keys
from banditcore.store.functions import calling, stream_library
from banditcore.store.servers.translation import translated
from banditcore.store.servers.transport import Command, Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = [
    "START",
    "Append",
    "Appended",
    "StreamState",
    "advance",
    "append",
    "replay",
    "states",
    "trim",
]

START = 0
"""The offset before the first that any stream has."""


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
    return [_appended(store, answer) for answer in calling.attempt(store, calls)]


def replay(
    store: Store, bandit: str, partition: int, offset: int, *, count: int, body: bytes
) -> Appended:
    """Put a dead letter's events at the end of its stream and take them out of the letter, at once.

    Parameters
    ----------
    offset : int
        Of the letter.
    count : int
        >= 1, how many events are packed in the body.
    body : bytes
        From `event_format.encode_events`.

    Returns
    -------
    Appended
        ``ALREADY`` when no letter of the offset has events, so nothing was appended: sent again
        after a lost reply, it counts once.
    """
    where = keys.of_partition(bandit, partition)
    call = stream_library.replay(where, offset=offset, count=count, body=body)
    appended = _appended(store, calling.run(store, [call])[0])
    if isinstance(appended, StoreError):
        raise appended
    return appended


def trim(
    store: Store,
    bandit: str,
    partition: int,
    *,
    applied: int,
    retain_s: float,
    retain_bytes: int = 2**53,
) -> int:
    """Note what is applied, and remove applied entries that are old, or more than shall be kept.

    Parameters
    ----------
    applied : int
        Everything up to this offset is applied. May be less than before, when the counts went
        back in time.
    retain_s : float
        >= 0. Applied entries stay so long after they were appended, so that counts which go back
        with a failover get them again. Entries that are not applied stay anyway.
    retain_bytes : int
        >= 0. What the bodies of applied entries may take; beyond it the oldest go. At most 64 go
        with one call, of which the server looks at each.

    Returns
    -------
    int
        How many entries were removed.
    """
    retain_us = round(1e6 * retain_s)
    where = keys.of_partition(bandit, partition)
    call = stream_library.trim(
        where, applied=applied, retain_us=retain_us, retain_bytes=retain_bytes
    )
    return int(_ok(calling.run(store, [call])[0]))


def advance(store: Store, bandit: str, partition: int, *, beyond: int) -> int:
    """Make all new offsets larger than `beyond`; return the last offset that none will have.

    For a stream that lost its end with a failover to a server whose clock is behind: marks beside
    the counts would take new events for old ones.
    """
    call = stream_library.advance(keys.of_partition(bandit, partition), beyond=beyond)
    return int(_ok(calling.run(store, [call])[0]))


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


def _ok(reply: calling.Reply) -> bytes:
    if reply[0] == b"CORRUPT":
        raise stream_library.damaged(reply, "the partition was not changed")
    if reply[0] != b"OK":
        words = [word.decode() for word in reply]
        raise StoreError(describe("reply", words, "the partition was not changed"))
    return reply[1]


def _appended(store: Store, reply: calling.Reply | Failure) -> Appended | StoreError:
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
        return stream_library.damaged(reply, "nothing was appended")
    return StoreError(describe("reply", word, f"{reply[1].decode()}: nothing was appended"))
