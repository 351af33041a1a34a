"""Finds keys of a store that belong to nobody."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError
from banditcore.maintenance.ownership import (
    Ownership,
    is_of_letters,
    is_of_stream,
    is_seen,
    is_settings,
    tag_of,
)
from banditcore.maintenance.seen_checks import check_seen
from banditcore.maintenance.segment_checks import Problem
from banditcore.maintenance.stream_checks import check_passing
from banditcore.segments import with_ancestors
from banditcore.store import keys, keyspace
from banditcore.store.counts import settings

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["MOST_NAMED", "OtherKeys"]

MOST_NAMED = 1000
"""Keys of nobody that are held in memory, and named; the others are counted."""

_AT_ONCE = 1000

_REPEAT = "wait if it is at work; else import again, or forget the bandit"

_Check = Callable[["Store", Sequence[bytes]], Iterator[Problem]]


class OtherKeys:
    """One walk over all keys.

    Attributes
    ----------
    keys : int
        How many there are.
    """

    def __init__(self, store: Store) -> None:
        self.keys = 0
        self._store = store

    def problems(
        self, before: Ownership, now: Callable[[], Ownership], damaged: Container[str]
    ) -> Iterator[tuple[str | None, Problem]]:
        """Yield what is wrong, each with its bandit if it has one.

        Parameters
        ----------
        before : Ownership
            What the indexes accounted for before.
        now : callable
            Reads them again: what was made since is no stranger.
        damaged : container of str
            Keys of which it was said that they are damaged.
        """
        strangers: list[bytes] = []
        begun: list[bytes] = []
        more = 0
        checked: dict[_Check, list[bytes]] = {check_passing: [], check_seen: []}
        for name in keyspace.scan(self._store):
            self.keys += 1
            if not before.has(name):
                if is_settings(name) and len(begun) < MOST_NAMED:
                    begun.append(name)
                if len(strangers) < MOST_NAMED:
                    strangers.append(name)
                else:
                    more += 1
                continue
            check = _check_of(name, before)
            if check is None:
                continue
            checked[check].append(name)
            if len(checked[check]) == _AT_ONCE:
                yield from self._checked(check, checked[check])
                checked[check].clear()
        for check, names in checked.items():
            yield from self._checked(check, names)
        if strangers:
            owned = now()
            yield from self._imports(begun, owned)
            yield from self._named(strangers, owned, damaged)
        if more:
            what = f"and {more} more were named by no index when it was read"
            yield None, Problem("bc:*", what, "mend the other findings, and verify again")

    def _checked(self, check: _Check, names: Sequence[bytes]) -> Iterator[tuple[None, Problem]]:
        yield from ((None, problem) for problem in check(self._store, names))

    def _imports(self, names: Sequence[bytes], owned: Ownership) -> Iterator[tuple[str, Problem]]:
        """Yield the imports that have not ended; account for what they have written."""
        kinds = keyspace.types(self._store, [name.decode() for name in names])
        for name, kind in zip(names, kinds, strict=True):
            if kind != "hash" or owned.has(name):
                continue
            bandit, damage = settings.importing(self._store, name), None
            if bandit is None:
                continue
            try:
                paths = settings.pending(self._store, bandit)
            except CorruptDataError as error:
                paths, damage = [], str(error)
            owned.add(self._store, bandit, with_ancestors(paths))
            what = f"its first import has not ended: {len(paths)} segments are not in sight"
            yield bandit, Problem(name.decode(), damage or what, _REPEAT)

    def _named(
        self, names: Sequence[bytes], owned: Ownership, damaged: Container[str]
    ) -> Iterator[tuple[str | None, Problem]]:
        exist = keyspace.existing(self._store, names)
        strangers = [
            name
            for name, exists in zip(names, exist, strict=True)
            if exists and not owned.has(name)
        ]
        uncounted = {bandit for name in strangers if (bandit := owned.bandit_of_unknown(name))}
        for bandit in sorted(uncounted):
            key = keys.of_bandit(bandit).streams
            if key not in damaged:
                yield (
                    bandit,
                    Problem(
                        key,
                        "does not say how many partitions its streams have, and there are some",
                        "HSET its partitions to what producers were told; or start a producer",
                    ),
                )
        strangers = [name for name in strangers if owned.bandit_of_unknown(name) is None]
        # All keys with one hash tag are one finding; each of no known kind is one of its own.
        for _, found in groupby(sorted(strangers), lambda name: tag_of(name) or name):
            yield None, _stranger(list(found))


def _check_of(name: bytes, owned: Ownership) -> _Check | None:
    """Return what checks a key that no segment's or bandit's own check has read."""
    if owned.is_passing(name):
        return check_passing
    return check_seen if is_seen(name) else None


def _stranger(names: Sequence[bytes]) -> Problem:
    shown = ", ".join(name.decode(errors="backslashreplace") for name in names)
    if not tag_of(names[0]):
        return Problem(shown, "is of no known kind", "remove it, if nothing else uses it")
    what = "belongs to no bandit or segment of the index"
    remedy = "remove it, or import an export of its bandit"
    if all(map(is_of_letters, names)):
        remedy = (
            "if it is what a source of a bandit refused, `banditcore dead-letters --bandit NAME "
            "--source group:KEY` makes it known again (kafka:TOPIC with --partitions); or remove it"
        )
    elif any(map(is_of_stream, names)):
        remedy = "start a producer of its bandit, so that its events are applied; or remove it"
    return Problem(shown, what, remedy)
