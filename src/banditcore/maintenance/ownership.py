"""Tells whose key each one of a store is."""

from __future__ import annotations

import re
from collections.abc import Iterable

from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.event_streams import dead_letters, partitions, refusing
from banditcore.store.event_streams.stream_removal import known_partitions

__all__ = [
    "Ownership",
    "is_of_letters",
    "is_of_stream",
    "is_seen",
    "is_settings",
    "tag",
    "tag_of",
]

_KEY = re.compile(
    rb"(bc:\{[0-9a-f]{32}\}):(?:([abs]|w:[01])|([ciqpr])|([xodl])|([eln]):[0-9a-f]{32}|(u))"
)
_SETTINGS = re.compile(rb"bc:\{[0-9a-f]{32}\}:c")
_SEGMENT, _PARTITION, _PASSING, _SEEN = 2, 4, 5, 6  # groups of _KEY


class Ownership:
    """What the indexes account for.

    Attributes
    ----------
    unknown : dict of bytes to str
        Hash tags of what may be partitions of bandits of which the store does not say, any more,
        how many there are; with the bandit.
    """

    def __init__(self) -> None:
        self._names = {keys.BANDITS.encode()}
        self._bandits: set[bytes] = set()
        self._segments: set[bytes] = set()
        self._partitions: set[bytes] = set()
        self.unknown: dict[bytes, str] = {}

    def add(self, store: Store, bandit: str, paths: Iterable[str]) -> None:
        """Account for a bandit with its segments, streams and dead letters of other sources."""
        of_bandit = keys.of_bandit(bandit)
        self._names |= {key.encode() for key in of_bandit}
        self._bandits.add(tag(of_bandit.settings).encode())
        self._segments |= {tag(keys.of_segment(bandit, path).state).encode() for path in paths}
        self._partitions |= {
            tag(dead_letters.keys_of(bandit, partition, source).dead).encode()
            for source, partition in refusing.known(store, bandit)
        }
        number = known_partitions(store, bandit)
        tags = [
            tag(keys.of_partition(bandit, partition).stream).encode()
            for partition in range(number or partitions.MOST)
        ]
        if number:
            self._partitions.update(tags)
        else:
            self.unknown.update(dict.fromkeys(tags, bandit))

    def has(self, name: bytes) -> bool:
        """Tell whether a key belongs to a bandit."""
        match = _KEY.fullmatch(name)
        if match is None or name in self._names:
            return name in self._names
        found = match[1]
        if match[_SEGMENT]:
            return found in self._segments
        if match[_PARTITION] or match[_PASSING] == b"e":
            return found in self._partitions
        if match[_SEEN]:  # no index names users; their records expire
            return True
        return bool(match[_PASSING]) and found in self._bandits

    def bandit_of_unknown(self, name: bytes) -> str | None:
        """Return whose partition a key may be of, where the store does not say how many there are.

        None for what is no key of a partition, or of no bandit.
        """
        match = _KEY.fullmatch(name)
        if match is None or not (match[_PARTITION] or match[_PASSING] == b"e"):
            return None
        return self.unknown.get(match[1])

    def is_passing(self, name: bytes) -> bool:
        """Tell whether it is a producer's, a job's lease, or the presence of workers."""
        match = _KEY.fullmatch(name)
        return match is not None and bool(match[_PASSING])


def is_settings(name: bytes) -> bool:
    """Tell whether a key's name is that of a bandit's settings."""
    return _SETTINGS.fullmatch(name) is not None


def tag(key: str) -> str:
    """Return a key's name as far as its hash tag."""
    return key[: key.index("}") + 1]


def tag_of(name: bytes) -> bytes:
    """Return a key's name as far as its hash tag; b"" if it is of no known kind."""
    match = _KEY.fullmatch(name)
    return match[1] if match else b""


def is_of_stream(name: bytes) -> bool:
    """Tell whether a key's name is one of a partition or of its producers."""
    match = _KEY.fullmatch(name)
    return match is not None and bool(match[_PARTITION] or match[_PASSING] == b"e")


def is_of_letters(name: bytes) -> bool:
    """Tell whether a key's name is one of those beside which other sources have dead letters."""
    match = _KEY.fullmatch(name)
    return match is not None and match[_PARTITION] in (b"o", b"d")


def is_seen(name: bytes) -> bool:
    """Tell whether a key's name is that of what a user has seen."""
    match = _KEY.fullmatch(name)
    return match is not None and bool(match[_SEEN])
