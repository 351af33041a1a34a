"""Typed binding of streams.lua: one function here for each function there."""

from __future__ import annotations

from collections.abc import Sequence

from banditcore.errors import CorruptDataError, describe
from banditcore.store.functions.calling import Call, Reply
from banditcore.store.keys import PartitionKeys

__all__ = [
    "FILE",
    "advance",
    "append",
    "damaged",
    "dead_letter",
    "lease_acquire",
    "lease_release",
    "lease_renew",
    "leave",
    "read",
    "replay",
    "survey",
    "trim",
]

FILE = "streams.lua"


def append(
    keys: PartitionKeys, *, producer: str, sequence: int, count: int, most: int, body: bytes
) -> Call:
    """Append one entry of events, once a producer's sequence."""
    arguments = (sequence, count, most, body)
    return Call("append", (keys.stream, keys.offsets, producer), arguments, file=FILE)


def read(keys: PartitionKeys, *, after: int, events: int, entries: int) -> Call:
    """Read entries beyond an offset."""
    arguments = (after, events, entries)
    return Call("read", (keys.stream, keys.offsets), arguments, writes=False, file=FILE)


def survey(keys: PartitionKeys, *, after: bytes, entries: int) -> Call:
    """Read what entries say of themselves."""
    return Call("survey", (keys.stream,), (after, entries), writes=False, file=FILE)


def replay(keys: PartitionKeys, *, offset: int, count: int, body: bytes) -> Call:
    """Append the events of a dead letter in its place."""
    where = (keys.stream, keys.offsets, keys.dead)
    return Call("replay", where, (offset, count, body), file=FILE)


def trim(keys: PartitionKeys, *, applied: int, retain_us: int, retain_bytes: int) -> Call:
    """Note what is applied; remove what of it is older, or more than shall stay."""
    arguments = (applied, retain_us, retain_bytes)
    return Call("trim", (keys.stream, keys.offsets), arguments, file=FILE)


def advance(keys: PartitionKeys, *, beyond: int) -> Call:
    """Make new offsets larger than one."""
    return Call("advance", (keys.offsets,), (beyond,), file=FILE)


def dead_letter(
    keys: PartitionKeys, *, most: int, most_bytes: int, letters: Sequence[bytes]
) -> Call:
    """Keep events that could not be used, once an offset."""
    return Call("dead_letter", (keys.dead, keys.offsets), (most, most_bytes, *letters), file=FILE)


def lease_acquire(lease: str, *, token: bytes, ttl_ms: int) -> Call:
    """Become the owner unless another is."""
    return Call("lease_acquire", (lease,), (token, ttl_ms), file=FILE)


def lease_renew(lease: str, *, token: bytes, ttl_ms: int) -> Call:
    """Extend a lease."""
    return Call("lease_renew", (lease,), (token, ttl_ms), file=FILE)


def lease_release(lease: str, *, token: bytes) -> Call:
    """Give a lease up."""
    return Call("lease_release", (lease,), (token,), file=FILE)


def leave(stream: str, group: str, consumer: str) -> Call:
    """Remove a consumer of a group, unless something is pending for it."""
    return Call("leave", (stream,), (group, consumer), file=FILE)


def damaged(reply: Reply, what: str) -> CorruptDataError:
    """Return the error of a ``CORRUPT`` reply; `what` tells what was not done."""
    return CorruptDataError(describe(reply[1].decode(), "damaged", f"{what}: see what verify says"))
