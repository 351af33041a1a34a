"""Counts of segments, summed over everything below them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from banditcore.counts import ArmCounts, faded, merge
from banditcore.errors import CorruptDataError, InvalidValueError
from banditcore.posterior import Prior
from banditcore.refresh.memory import Memory, Recorded
from banditcore.segments import lineage, parent
from banditcore.store.counts.reading import SegmentReader

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["RefreshableBandit", "Sums", "summed_counts"]

_UNREADABLE = (CorruptDataError, InvalidValueError)  # the latter: counts of another time
_READ_AT_ONCE = 64  # segments a round trip; a reply stays in the low megabytes


class RefreshableBandit(Protocol):
    """What refreshing needs of a bandit."""

    @property
    def name(self) -> str:
        """The bandit's name."""

    @property
    def store(self) -> Store:
        """Where its counts are and its snapshots go."""

    @property
    def prior(self) -> Prior | Literal["empirical"]:
        """What is believed of an arm without counts."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since 1970."""

    @property
    def reader(self) -> SegmentReader:
        """Reads its segments' counts."""

    def segments(self) -> list[str]:
        """Return every segment ever written to."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts of segments at one moment.

    Attributes
    ----------
    counts : dict of str to ArmCounts
        Of each segment, with those of everything below it.
    version : int
        Microseconds since 1970 by the server's clock: what was recorded before is in the counts.
    failed : dict of str to str
        Segment -> why its counts are not complete.
    """

    counts: dict[str, ArmCounts]
    version: int
    failed: dict[str, str]


def summed_counts(
    bandit: RefreshableBandit,
    existing: Sequence[str],
    targets: Sequence[str],
    memory: Memory | None,
) -> Sums:
    """Return the sums over the descendants of `targets`, which come with their ancestors.

    What has not changed since `memory` learnt it is not read again; of what has, `memory` forgets
    what was drawn from it.
    """
    moment = bandit.clock()
    wanted = set(targets)
    parts: dict[str, list[ArmCounts]] = {segment: [] for segment in targets}
    failed: dict[str, str] = {}
    versions: list[int] = []
    below = [path for path in existing if not wanted.isdisjoint(lineage(path))]
    if memory is None:
        reads = _read(bandit, below, moment)
    else:
        memory.keep_only(below, wanted)
        reads = _changes(bandit, below, moment, memory)
    for path, read in reads:
        if isinstance(read, str):
            for step in lineage(path):
                where = "" if step == path else f"counts of {path!r} below it are missing: "
                failed.setdefault(step, where + read)
        else:
            if read[1] is not None:
                versions.append(read[1])
            _nearest(parts, path).append(read[0])
    sums: dict[str, ArmCounts] = {}
    for segment in reversed(targets):  # children before parents
        try:
            sums[segment] = merge(parts[segment], moment)
        except InvalidValueError as error:  # only damaged counts have no finite sum
            for step in lineage(segment):
                failed.setdefault(step, f"counts of {segment!r} and below it: {error}")
            sums[segment] = merge([], moment)
        above = parent(segment)
        if above is not None:
            parts[above].append(sums[segment])
    # Not before the earliest read: what was recorded since is in the next version.
    version = min(versions) if versions else int(bandit.store.server_time() * 1e6)
    return Sums(sums, version, {k: v for k, v in failed.items() if k in wanted})


def _nearest(parts: dict[str, list[ArmCounts]], path: str) -> list[ArmCounts]:
    """Return the list of the nearest target at or above a path."""
    return next(parts[step] for step in lineage(path) if step in parts)


def _changes(
    bandit: RefreshableBandit, paths: Sequence[str], moment: float, memory: Memory
) -> Iterator[tuple[str, tuple[ArmCounts, int | None] | str]]:
    """Yield as `_read`, but read only what has changed."""
    for first in range(0, len(paths), _READ_AT_ONCE):
        some = paths[first : first + _READ_AT_ONCE]
        # Before the counts: what changes between the two reads has another sign the next time.
        signs = dict(zip(some, bandit.reader.signs(some), strict=True))
        reads: dict[str, tuple[ArmCounts, int | None] | str] = {}
        for path, sign in signs.items():
            known = memory.recorded.get(path)
            if known is None or sign is None or known.sign != sign.digest:
                memory.forget(path)
            elif known.counts.as_of <= moment:  # else a clock went back: only the store can tell
                reads[path] = faded(known.counts, moment, known.half_life_s), sign.version
        for path, read in _read(bandit, [path for path in some if path not in reads], moment):
            reads[path] = read
            sign = signs[path]
            if not isinstance(read, str) and sign is not None:
                view = bandit.reader.known(path)
                half_life_s = None if view is None else view.version.half_life_s
                memory.recorded[path] = Recorded(sign.digest, read[0], half_life_s)
        for path in some:  # always in the same order: that of the arms of their sum follows from it
            yield path, reads[path]


def _read(
    bandit: RefreshableBandit, paths: Sequence[str], moment: float
) -> Iterator[tuple[str, tuple[ArmCounts, int | None] | str]]:
    """Yield the counts and version of each path, or why they cannot be read."""
    for first in range(0, len(paths), _READ_AT_ONCE):
        some = paths[first : first + _READ_AT_ONCE]
        try:
            reads = bandit.reader.counts(some, moment)
        except _UNREADABLE:
            for path in some:  # one by one, to find the culprit
                try:
                    [read] = bandit.reader.counts([path], moment)
                except _UNREADABLE as error:
                    yield path, str(error)
                else:
                    yield path, (read.counts, read.version)
        else:
            for path, read in zip(some, reads, strict=True):
                yield path, (read.counts, read.version)
