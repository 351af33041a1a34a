"""Streams as a whole: what a bandit has of them, and its removal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError
from banditcore.store import keys, keyspace
from banditcore.store.event_streams import dead_letters, partitions, refusing, streams
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["StreamsHeld", "held", "known_partitions", "remove"]

_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class StreamsHeld:
    """What the streams of a bandit hold.

    Attributes
    ----------
    partitions : int
        How many there are.
    unapplied : int
        Events that are not counted yet.
    dead_letters : int
        Events that could not be used, those of other sources included.
    """

    partitions: int
    unapplied: int
    dead_letters: int


def held(store: Store, bandit: str) -> StreamsHeld:
    """Return what a bandit's streams hold: no events where their number is not known."""
    number = known_partitions(store, bandit) or 0
    unapplied = sum(state.unapplied for state in streams.states(store, bandit, range(number)))
    dead = [dead_letters.keys_of(bandit, partition).dead for partition in range(number)]
    dead += [
        dead_letters.keys_of(bandit, partition, source).dead
        for source, partition in refusing.known(store, bandit)
    ]
    return StreamsHeld(
        number, unapplied, sum(store.replies([Command(key, ("ZCARD", key)) for key in dead]))
    )


def known_partitions(store: Store, bandit: str) -> int | None:
    """Return how many partitions there are; None where the store does not say, or it is damaged."""
    [kind] = keyspace.types(store, [keys.of_bandit(bandit).streams])
    try:
        return partitions.load(store, bandit) if kind == "hash" else None
    except CorruptDataError:
        return None


def remove(store: Store, bandit: str) -> None:
    """Remove a bandit's streams with producers and leases, and the dead letters of all sources.

    Looks at the names of all keys. How many partitions there are, and which sources refused
    something, goes last, so that what is cut short can be done again. A producer that goes on
    appends to streams that nobody reads, until it looks whether they are known, within two
    seconds, or a new one agrees on partitions.
    """
    batch: list[bytes] = []
    for name in _keys_of(store, bandit):
        batch.append(name)
        if len(batch) == _AT_ONCE:
            _unlink(store, batch)
            batch.clear()
    of_bandit = keys.of_bandit(bandit)
    _unlink(store, batch)
    _unlink(store, [of_bandit.streams.encode(), of_bandit.refusing.encode()])


def _keys_of(store: Store, bandit: str) -> Iterator[bytes]:
    number = known_partitions(store, bandit)  # None: all there could be
    tags = {
        _tag(keys.of_partition(bandit, partition).stream)
        for partition in range(number or partitions.MOST)
    }
    tags |= {
        _tag(dead_letters.keys_of(bandit, partition, source).dead)
        for source, partition in refusing.known(store, bandit)
    }
    jobs = _tag(keys.of_bandit(bandit).streams)
    for name in keyspace.scan(store):
        before, brace, kind = name.partition(b"}")
        if before + brace in tags or (before + brace == jobs and kind[:3] in (b":l:", b":n:")):
            yield name


def _unlink(store: Store, names: list[bytes]) -> None:
    store.replies([Command(name, ("UNLINK", name)) for name in names])


def _tag(key: str) -> bytes:
    return key[: key.index("}") + 1].encode()
