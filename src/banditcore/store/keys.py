"""The one place that knows what keys and fields are called.

Every key of a segment carries the same hash tag, so all of them live in one slot of a cluster.
Names are digests: whatever an id contains, it reaches no key but its own.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

__all__ = [
    "BANDITS",
    "BanditKeys",
    "PartitionKeys",
    "SeenKeys",
    "SegmentKeys",
    "batch_digest",
    "event_digest",
    "lease",
    "mark_field",
    "of_bandit",
    "of_partition",
    "of_segment",
    "producer",
    "seen",
    "workers",
]

BANDITS = "bc:bandits"
"""Set of the names of all bandits."""

ID_DIGEST_BYTES = 16
"""128 bits: a collision, which would lose an event, needs about 1e19 ids in one window."""


class BanditKeys(NamedTuple):
    """Keys that exist once a bandit."""

    settings: str  # hash: half-life and window, as first given
    segments: str  # set: every segment path that was ever written
    checkpoints: str  # hash: source -> how far it was read
    streams: str  # hash: number of partitions and identity of its streams of events
    refusing: str  # set: partitions of other sources that have dead letters


class SegmentKeys(NamedTuple):
    """Keys of one segment, all in one slot."""

    state: str  # hash: version, number of slots, counts, marks (see library.lua)
    arms: str  # string: the ids of the arms in order of their slots (":copy" while it grows)
    even: str  # sets: digests of the event and batch ids seen in even and odd window buckets
    odd: str
    blob: str  # string: the published snapshot


class PartitionKeys(NamedTuple):
    """Keys of one partition of a bandit's events, all in one slot, and in that of its producers."""

    stream: str  # stream: packed events (see streams.lua)
    offsets: str  # hash: the last offset, how far it is applied
    dead: str  # sorted set: events that could not be used, by offset
    lease: str  # hash: who applies the partition


def of_bandit(bandit: str) -> BanditKeys:
    """Return the keys of a bandit."""
    tag = f"bc:{{{_digest(b'bandit', bandit)}}}"
    return BanditKeys(*(f"{tag}:{name}" for name in ("c", "i", "p", "q", "r")))


def of_segment(bandit: str, segment: str) -> SegmentKeys:
    """Return the keys of a segment."""
    tag = f"bc:{{{_digest(b'segment', bandit, segment)}}}"
    return SegmentKeys(*(f"{tag}:{name}" for name in ("s", "a", "w:0", "w:1", "b")))


def of_partition(bandit: str, partition: int) -> PartitionKeys:
    """Return the keys of a partition."""
    tag = _partition_tag(bandit, partition)
    return PartitionKeys(*(f"{tag}:{name}" for name in ("x", "o", "d", "l")))


def producer(bandit: str, partition: int, token: bytes) -> str:
    """Return the key, a string, of what a producer appended last to a partition."""
    return f"{_partition_tag(bandit, partition)}:e:{token.hex()}"


def lease(bandit: str, name: str) -> str:
    """Return the key, a hash, of a lease that concerns a whole bandit."""
    return f"bc:{{{_digest(b'bandit', bandit)}}}:l:{_digest(b'lease', name)}"


def workers(bandit: str, source: str) -> str:
    """Return the key, a sorted set, of the workers of a source by when they are gone."""
    return f"bc:{{{_digest(b'bandit', bandit)}}}:n:{_digest(b'workers', source)}"


class SeenKeys:
    """Keys of what users of a bandit were shown lately: strings. Any str is a user."""

    __slots__ = ("_begun",)

    def __init__(self, bandit: str) -> None:
        self._begun = _begun(b"seen", bandit.encode())

    def of(self, user: str) -> str:
        """Return the key of one user."""
        encoded = user.encode(errors="surrogatepass")
        digest = self._begun.copy()
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
        return f"bc:{{{digest.hexdigest()}}}:u"


def seen(bandit: str, user: str) -> str:
    """Return the key, a string, of what a user was shown lately. Any str is a user."""
    return SeenKeys(bandit).of(user)


def mark_field(source: str, partition: str) -> str:
    """Return the field of the state hash that says how far a partition of a source is applied.

    The length in front keeps ("a:b", "c") and ("a", "b:c") apart.
    """
    return f"m:{len(source)}:{source}:{partition}"


def event_digest(event_id: str) -> bytes:
    """Return the 16 bytes by which a window remembers an event."""
    return blake2b(event_id.encode(), digest_size=ID_DIGEST_BYTES, person=b"event").digest()


def batch_digest(batch_id: str) -> bytes:
    """Return the 16 bytes by which a window remembers a batch; no event has the same."""
    return blake2b(batch_id.encode(), digest_size=ID_DIGEST_BYTES, person=b"batch").digest()


def _partition_tag(bandit: str, partition: int) -> str:
    return f"bc:{{{_digest(b'partition', bandit, str(partition))}}}"


def _digest(domain: bytes, *names: str) -> str:
    return _digest_of(domain, *(name.encode() for name in names))


def _digest_of(domain: bytes, *parts: bytes) -> str:
    return _begun(domain, *parts).hexdigest()


def _begun(domain: bytes, *parts: bytes) -> blake2b:
    """Return a digest to which more parts may be added."""
    digest = blake2b(digest_size=16, person=domain)
    for encoded in parts:
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest
