"""Which bandits and segments a store holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["add", "bandits", "enter", "remove", "segments", "withdraw"]


def bandits(store: Store) -> list[str]:
    """Return the names of all bandits, sorted."""
    return _members(store, keys.BANDITS)


def segments(store: Store, bandit: str) -> list[str]:
    """Return every segment of a bandit that was ever written to, sorted."""
    return _members(store, keys.of_bandit(bandit).segments)


def add(store: Store, bandit: str, paths: Iterable[str]) -> None:
    """Enter segments. Comes before their first write, so no counts can be out of sight."""
    known = keys.of_bandit(bandit).segments
    # In a cluster two servers: a bandit that is entered without segments does no harm.
    store.replies(
        [
            Command(keys.BANDITS, ("SADD", keys.BANDITS, bandit)),
            Command(known, ("SADD", known, *paths)),
        ]
    )


def remove(store: Store, bandit: str, paths: Iterable[str]) -> None:
    """Take out segments that were removed; see `dump.forget`."""
    known = keys.of_bandit(bandit).segments
    store.replies([Command(known, ("SREM", known, *paths))])


def enter(store: Store, bandit: str) -> None:
    """Enter a bandit's name."""
    store.replies([Command(keys.BANDITS, ("SADD", keys.BANDITS, bandit))])


def withdraw(store: Store, bandit: str) -> None:
    """Take out the name of a bandit that has no segments any more."""
    store.replies([Command(keys.BANDITS, ("SREM", keys.BANDITS, bandit))])
    of_bandit = keys.of_bandit(bandit)
    # Another process may have entered a first segment, or dead letter, between: its name must stay.
    held = (of_bandit.segments, of_bandit.refusing)
    if any(store.replies([Command(key, ("SCARD", key)) for key in held])):
        enter(store, bandit)


def _members(store: Store, key: str) -> list[str]:
    [members] = store.replies([Command(key, ("SMEMBERS", key))])
    try:
        return sorted(name.decode() for name in members)
    except UnicodeDecodeError as error:
        raise CorruptDataError(
            describe("index", key, f"has the member {error.object!r}: see what verify says")
        ) from error
