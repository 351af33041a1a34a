"""Applies what comes between two offsets of a partition to the segments, each event once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import FencedError, LostWritesError, StoreError, describe
from banditcore.grouping import SegmentEvents
from banditcore.store.counts.reading import SegmentReader
from banditcore.store.counts.statistics import Statistics
from banditcore.store.counts.updates import OrderedUpdate
from banditcore.store.servers.retrying import retrying

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["CountingBandit", "OrderedWriter", "offset_of"]

_MAX_CONFLICTS = 100
"""Attempts at one batch while another process applies the same partition; each conflict means
that the other one is further."""


class CountingBandit(Protocol):
    """What a job that applies events needs of a bandit."""

    @property
    def name(self) -> str:
        """The bandit's name."""

    @property
    def store(self) -> Store:
        """Where its counts are."""

    @property
    def retry_for_s(self) -> float:
        """How long a call is repeated after a network error, in seconds."""

    @property
    def statistics(self) -> Statistics:
        """Updates its segments."""

    @property
    def reader(self) -> SegmentReader:
        """Reads its segments."""


class OrderedWriter:
    """Writes one partition of a source, by compare-and-set on its mark in each segment.

    Parameters
    ----------
    bandit : Bandit
        Whose counts.
    field : str
        Of the marks, see `keys.mark_field`.
    epoch : int
        Of the owner of the partition; 0 where partitions have no owner, and writers that overlap
        meet in a conflict.
    verify : callable, optional
        Called with marks before they are believed; raises if another source left them.
    """

    def __init__(
        self,
        bandit: CountingBandit,
        field: str,
        *,
        epoch: int = 0,
        verify: Callable[[Collection[str]], None] | None = None,
    ) -> None:
        self._bandit = bandit
        self._field = field
        self._epoch = epoch
        self._verify = verify
        # Segment -> mark, "" for none. May be too low, after a failure: then a conflict tells.
        self.marks: dict[str, str] = {}

    def apply(
        self,
        groups: Sequence[SegmentEvents],
        offsets: NDArray[np.int64],
        new: str,
        *,
        early: Callable[[SegmentEvents, float], SegmentEvents],
    ) -> int:
        """Apply what is not applied yet; return how many events changed the counts.

        Parameters
        ----------
        groups : sequence of SegmentEvents
            Of one batch, each of another segment.
        offsets : (n,) int64
            Of the batch's events.
        new : str
            The mark after the batch.
        early : callable
            Called with events of a segment of which some are more than an hour ahead of the
            store's clock, and the last time it accepts, in seconds since 1970. Returns those that
            are not later, or raises.

        Raises
        ------
        LostWritesError
            A stored mark is lower than it was seen before.
        FencedError
            The partition has another owner by now.
        StoreError
            Some segments may be updated. Applying the batch again is safe.
        """
        pending = {group.segment: group for group in groups}
        self._read([segment for segment in pending if segment not in self.marks])
        applied = 0
        cut: set[str] = set()  # segments of which events were too early
        for _ in range(_MAX_CONFLICTS):
            updates = self._updates(pending, offsets, new, cut)
            if not updates:
                return applied
            for update, outcome in zip(
                updates, self._bandit.statistics.apply(updates), strict=True
            ):
                segment = update.events.segment
                if outcome.word == "FENCED":
                    raise FencedError(
                        describe(
                            "epoch",
                            self._epoch,
                            f"of the owner of {self._field} is over, segment {segment!r} was "
                            f"written to in epoch {outcome.detail}: stop and let the owner go on",
                        ),
                        epoch=int(outcome.detail),
                    )
                if outcome.word == "CONFLICT":
                    self._learn(segment, outcome.detail)
                elif outcome.word == "EARLY":
                    pending[segment] = early(update.events, float(outcome.detail))
                    cut.add(segment)
                else:
                    self.marks[segment] = new
                    del pending[segment]
                applied += outcome.applied
        raise StoreError(
            describe("partition", self._field, "another process applies it all the time")
        )

    def forget(self) -> None:
        """Believe what the store says next, even when it is less than before."""
        self.marks.clear()

    def _updates(
        self,
        pending: dict[str, SegmentEvents],
        offsets: NDArray[np.int64],
        new: str,
        cut: set[str],
    ) -> list[OrderedUpdate]:
        """Return what is not applied yet of each segment's events.

        Where some were cut off because they are too early an update may hold none: it moves the
        mark past them, so that they do not count when they are read once more later.
        """
        now = self._bandit.statistics.now()
        updates = []
        for segment, group in pending.items():
            mark = self.marks[segment]
            events = group.where(np.asarray(offsets[group.rows] > offset_of(mark)))
            if len(events) or (segment in cut and offset_of(mark) < offset_of(new)):
                updates.append(OrderedUpdate(events, self._field, self._epoch, mark, new, now))
        return updates

    def _read(self, segments: Sequence[str]) -> None:
        if not segments:
            return
        found = retrying(
            lambda: self._bandit.reader.marks(segments, self._field), self._bandit.retry_for_s
        )
        if self._verify is not None:
            self._verify({mark for _, mark in found})
        self.marks |= {segment: mark for segment, (_, mark) in zip(segments, found, strict=True)}

    def _learn(self, segment: str, stored: str) -> None:
        if self._verify is not None:
            self._verify([stored])
        seen = self.marks[segment]
        if offset_of(stored) < offset_of(seen):
            raise LostWritesError(
                describe("mark", stored, f"of segment {segment!r} went back from {seen}")
            )
        self.marks[segment] = stored


def offset_of(mark: str) -> int:
    """Return up to which offset a mark vouches for its segment; -1 for none."""
    return int(mark.partition("-")[0]) if mark else -1
