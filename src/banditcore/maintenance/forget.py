"""Removes a bandit, segments or an arm from a store, beside writers that go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from banditcore.errors import ConfigurationConflictError, InvalidValueError, describe
from banditcore.identifiers import check_arm, check_bandit, check_segment
from banditcore.maintenance.slates_without import without_arm
from banditcore.segments import is_within, with_ancestors
from banditcore.slate_format import decode, encode
from banditcore.store import keys, keyspace, publish
from banditcore.store.counts import index, settings
from banditcore.store.counts.dump import dump, forget
from banditcore.store.counts.registry import decode_ids
from banditcore.store.counts.statistics import Statistics
from banditcore.store.event_streams import stream_removal
from banditcore.store.event_streams.stream_removal import StreamsHeld
from banditcore.store.functions import calling, maintenance_library
from banditcore.store.seals import DIGITS

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["ForgettingBandit", "Forgotten", "forget_arm", "forget_bandit", "forget_segment"]

_AT_ONCE = 64
_MAX_PUBLISHED = 100
"""Attempts to change slates while others publish newer ones."""


_NO_STREAMS = StreamsHeld(0, 0, 0)


class ForgettingBandit(Protocol):
    """What forgetting needs of a bandit."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def store(self) -> Store:
        """Where it is."""

    @property
    def statistics(self) -> Statistics:
        """Updates its segments."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is, or would be, removed.

    Attributes
    ----------
    segments : dict of str to int
        Segment -> how many of its arms.
    slates : tuple of str
        Segments whose published slates are withdrawn, or lose the arm.
    streams : StreamsHeld
        Streams of events that go with a bandit.
    """

    segments: dict[str, int]
    slates: tuple[str, ...]
    streams: StreamsHeld = _NO_STREAMS


def forget_bandit(
    store: Store, bandit: str, *, keep_streams: bool = False, dry_run: bool = False
) -> Forgotten:
    """Remove a bandit: counts, arms, marks, windows, slates, settings, checkpoints, streams.

    Stop its workers and producers before: what a producer emits that goes on is in streams that
    nobody reads, until a new one starts.

    Parameters
    ----------
    store : Store
        Where.
    bandit : str
        Its name.
    keep_streams : bool
        True: streams of events stay, with all that is not applied, dead letters, producers and
        leases. What is retained there counts again.
    dry_run : bool
        Only tell what would go.

    Raises
    ------
    InvalidValueError
        There is no such bandit.
    ConfigurationConflictError
        Writers made segments anew meanwhile: these stay, and all that was before is gone.
    """
    check_bandit(bandit)
    segments = index.segments(store, bandit)
    of_bandit = keys.of_bandit(bandit)
    begun = [of_bandit.settings, of_bandit.streams, of_bandit.refusing]
    is_begun = any(keyspace.existing(store, begun))
    if not (segments or is_begun or bandit in index.bandits(store)):
        raise InvalidValueError(describe("bandit", bandit, "the store has no such bandit"))
    # What an import that has not ended wrote, no index names.
    paths = with_ancestors({*segments, *settings.pending(store, bandit)})
    found = _arms_of(store, bandit, paths)
    streams = _NO_STREAMS if keep_streams else stream_removal.held(store, bandit)
    gone = Forgotten(found.arms, tuple(found.published), streams)
    if dry_run:
        return gone
    if not keep_streams:  # first: a worker would count what is retained in segments made anew
        stream_removal.remove(store, bandit)
    forget(store, bandit, paths)
    [reply] = calling.run(store, [maintenance_library.forget_bandit(of_bandit)])
    if reply[0] != b"OK":
        raise ConfigurationConflictError(
            describe("bandit", bandit, "it was written to meanwhile: stop its writers, try again")
        )
    if not keep_streams:
        # Workers look in the index for bandits that have events.
        index.withdraw(store, bandit)
    return gone


def forget_segment(
    bandit: ForgettingBandit,
    segment: str,
    *,
    descendants: bool = False,
    keep_marks: bool = False,
    dry_run: bool = False,
) -> Forgotten:
    """Remove a segment with its counts, arms and slates.

    A writer that has the segment open makes it anew with its next event: each update is either
    gone, or counted in the new one. Slates of its ancestors still tell of it until the next
    refresh.

    Parameters
    ----------
    bandit : Bandit
        Whose.
    segment : str
        Which.
    descendants : bool
        All below it too.
    keep_marks : bool
        False: marks of sources and windows of recent ids go too, so records of a log that is
        read again (``--rescan``, or other servers than before) count again, in a new segment; so
        may events that are retained in a stream, as soon as a worker finds a mark gone. True: an
        empty segment stays that
        remembers what was counted, and none of it counts again.
    dry_run : bool
        Only tell what would go.

    Raises
    ------
    InvalidValueError
        Nothing is stored there.
    """
    store, name = bandit.store, bandit.name
    check_segment(segment)
    segments = index.segments(store, name)
    known = with_ancestors(segments)
    chosen = [
        path for path in known if path == segment or (descendants and is_within(path, segment))
    ]
    found = _arms_of(store, name, chosen or [segment])
    if not (found.exist or found.published):
        raise InvalidValueError(
            describe("segment", segment, f"nothing is stored there for bandit {name!r}")
        )
    chosen = chosen or [segment]
    going, indexed = set(chosen), set(segments)
    # Ancestors that exist only through it have no one to publish slates for any more.
    left = set(with_ancestors(path for path in segments if keep_marks or path not in going))
    above = [path for path in known if path not in going and path not in left]
    published = _arms_of(store, name, above).published
    gone = Forgotten(found.arms, (*found.published, *published))
    if not dry_run:
        # What the index names goes last: when this is cut short, it leads to all the rest again.
        # Of ancestors go the slates alone: a writer may be giving them their first counts.
        publish.withdraw(store, name, published)
        forget(store, name, [path for path in chosen if path not in indexed])
        forget(store, name, [path for path in chosen if path in indexed], keep_marks=keep_marks)
        for path in chosen:
            bandit.statistics.reader.forget(path)
    return gone


def forget_arm(
    bandit: ForgettingBandit,
    arm: str,
    *,
    segment: str = "",
    descendants: bool = True,
    dry_run: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Forgotten:
    """Remove an arm with its counts, from segments and from their published slates.

    A slate loses its place and keeps the order of the others, so it is a draw from the
    posterior of the arms that are left. An event that comes later makes the arm a candidate
    again, with no past.

    Parameters
    ----------
    bandit : Bandit
        Whose.
    arm : str
        Which.
    segment : str
        Where; ``""`` with `descendants` is everywhere.
    descendants : bool
        Below it too.
    dry_run : bool
        Only tell what would go.
    progress : callable, optional
        Called with the segments done, those there are, and the segment.

    Raises
    ------
    InvalidValueError
        No such segment has the arm, nor have its slates.
    """
    store, name = bandit.store, bandit.name
    check_arm(arm)
    check_segment(segment)
    segments = index.segments(store, name)
    scope = [
        path for path in segments if path == segment or (descendants and is_within(path, segment))
    ]
    holders = [path for path, arms in _registries(store, name, segments) if arm in arms]
    chosen, holding = set(scope), set(holders)
    losing = [path for path in scope if path in holding]
    kept = set(with_ancestors(path for path in holders if path not in chosen))
    published = [
        path
        for path in with_ancestors([*segments, segment])
        if path not in kept and _publishes(store, name, path, arm)
    ]
    if not losing and not published:
        raise InvalidValueError(
            describe("arm", arm, f"bandit {name!r} has none of that name in {segment!r} or below")
        )
    gone = Forgotten(dict.fromkeys(losing, 1), tuple(published))
    if dry_run:
        return gone
    for done, path in enumerate(losing, 1):
        bandit.statistics.retire(path, [arm])
        bandit.statistics.reader.forget(path)
        if progress is not None:
            progress(done, len(losing), path)
    for path in published:
        _publish_without(store, name, path, arm)
    return gone


@dataclass(slots=True)
class _Found:
    """What a range of segments holds."""

    arms: dict[str, int]
    published: list[str]
    exist: bool


def _arms_of(store: Store, bandit: str, paths: Sequence[str]) -> _Found:
    found = _Found({}, [], exist=False)
    for first in range(0, len(paths), _AT_ONCE):
        batch = paths[first : first + _AT_ONCE]
        for path, dumped in zip(batch, dump(store, bandit, batch, with_digests=False), strict=True):
            if dumped.fields:
                slots = dumped.fields.get(b"n", b"")[:-DIGITS]  # if damaged, about as many
                found.arms[path] = int(slots) if slots.isdigit() else 0
            if dumped.types[4] != "none":
                found.published.append(path)
            found.exist |= any(kind != "none" for kind in dumped.types)
    return found


def _registries(
    store: Store, bandit: str, segments: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    for first in range(0, len(segments), _AT_ONCE):
        batch = segments[first : first + _AT_ONCE]
        dumps = dump(store, bandit, batch, with_digests=False)
        for path, dumped in zip(batch, dumps, strict=True):
            yield path, decode_ids(dumped.registry)


def _publishes(store: Store, bandit: str, path: str, arm: str) -> bool:
    blob = publish.fetch_one(store, bandit, path)
    return bool(blob) and arm in decode(blob).arms


def _publish_without(store: Store, bandit: str, path: str, arm: str) -> None:
    """Take an arm out of the published slates, also of newer ones that come meanwhile."""
    for _ in range(_MAX_PUBLISHED):
        blob = publish.fetch_one(store, bandit, path)
        snapshot = decode(blob) if blob else None
        if snapshot is None or arm not in snapshot.arms:
            return
        # The version stays: slates of the same counts. Readers go by version and checksum.
        changed = without_arm(snapshot, arm)
        publish.publish(store, bandit, path, encode(changed), changed.version)
    raise ConfigurationConflictError(
        describe("segment", path, f"others published slates with the arm {_MAX_PUBLISHED} times")
    )
