"""How many partitions a bandit's events have, and which of them a segment is in."""

from __future__ import annotations

import uuid
from hashlib import blake2b
from typing import TYPE_CHECKING

from banditcore.errors import (
    ConfigurationConflictError,
    CorruptDataError,
    InvalidTypeError,
    InvalidValueError,
    describe,
)
from banditcore.store import keys
from banditcore.store.event_streams import streams
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = [
    "DEFAULT",
    "MOST",
    "agree",
    "change",
    "check_number",
    "identity",
    "load",
    "partition_of",
    "stay_agreed",
]

DEFAULT = 4
"""Partitions of a bandit whose first user does not say."""

MOST = 1024
"""The most partitions of a bandit."""

_FIELD = "partitions"
_IDENTITY = "id"


def partition_of(segment: str, partitions: int) -> int:
    """Return the partition, in [0, partitions), of a segment's events."""
    digest = blake2b(segment.encode(), digest_size=8, person=b"partition").digest()
    return int.from_bytes(digest, "little") % partitions


def load(store: Store, bandit: str) -> int | None:
    """Return how many partitions a bandit's events have; None before the first producer."""
    key = keys.of_bandit(bandit).streams
    [raw] = store.replies([Command(key, ("HGET", key, _FIELD))])
    if raw is None:
        return None
    try:
        stored = int(raw)
    except ValueError as error:
        raise CorruptDataError(describe("partitions", raw, f"of bandit {bandit!r}")) from error
    if not 1 <= stored <= MOST:
        raise CorruptDataError(describe("partitions", stored, f"of bandit {bandit!r}"))
    return stored


def identity(store: Store, bandit: str) -> bytes:
    """Return what no other streams have, of this bandit or another; b"" before the first producer.

    Marks of streams mean something for the streams of the same identity only.
    """
    key = keys.of_bandit(bandit).streams
    [raw] = store.replies([Command(key, ("HGET", key, _IDENTITY))])
    found: bytes = raw or b""
    return found


def agree(store: Store, bandit: str, wanted: int | None = None) -> int:
    """Return how many partitions are in force: the wanted ones, or 4, if there are none yet.

    Parameters
    ----------
    wanted : int or None
        1..1,024; None to take what the store has.

    Raises
    ------
    ConfigurationConflictError
        The store has another number.
    """
    stored = _enter(store, bandit, DEFAULT if wanted is None else check_number(wanted))
    if wanted is not None and stored != wanted:
        remedy = f"the events of bandit {bandit!r} have {stored}: leave partitions out"
        raise ConfigurationConflictError(describe("partitions", wanted, remedy))
    return stored


def stay_agreed(store: Store, bandit: str, number: int) -> None:
    """Make sure that workers know of a producer's partitions still, or again.

    Parameters
    ----------
    number : int
        Of partitions, as the producer agreed on.

    Raises
    ------
    ConfigurationConflictError
        There are fewer by now, so some of its events nobody would read.
    """
    stored = load(store, bandit) or _enter(store, bandit, number)
    if stored < number:
        remedy = f"the events of bandit {bandit!r} have {stored} by now: make another emitter"
        raise ConfigurationConflictError(describe("partitions", number, remedy))


def change(store: Store, bandit: str, wanted: int) -> None:
    """Let a bandit's events have more partitions.

    Producers that run go on with those they know; workers must be started for the new ones.

    Raises
    ------
    ConfigurationConflictError
        It would be fewer, whose events nobody would read, or events are still to be applied.
    """
    stored = agree(store, bandit)
    if check_number(wanted) < stored:
        remedy = f"bandit {bandit!r} has {stored}; they can only become more"
        raise ConfigurationConflictError(describe("partitions", wanted, remedy))
    waiting = sum(state.unapplied for state in streams.states(store, bandit, range(stored)))
    if waiting:
        remedy = f"{waiting} events of bandit {bandit!r} are not applied yet: drain them first"
        raise ConfigurationConflictError(describe("partitions", wanted, remedy))
    key = keys.of_bandit(bandit).streams
    store.replies([Command(key, ("HSET", key, _FIELD, wanted))])


def check_number(wanted: int) -> int:
    """Return a number of partitions, or raise if it cannot be one."""
    if isinstance(wanted, bool) or not isinstance(wanted, int):
        raise InvalidTypeError(describe("partitions", wanted, "a whole number"))
    if not 1 <= wanted <= MOST:
        raise InvalidValueError(describe("partitions", wanted, f"1 to {MOST}"))
    return wanted


def _enter(store: Store, bandit: str, number: int) -> int:
    """Let there be so many partitions unless there are some; return how many there are."""
    key = keys.of_bandit(bandit).streams
    store.replies(
        [
            # The workers look there for bandits that have events.
            Command(keys.BANDITS, ("SADD", keys.BANDITS, bandit)),
            Command(key, ("HSETNX", key, _IDENTITY, uuid.uuid4().hex)),
            Command(key, ("HSETNX", key, _FIELD, number)),
        ]
    )
    return load(store, bandit) or number
