"""One partition of a source, applied to the counts batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from banditcore.errors import LostWritesError
from banditcore.event_format import event_as_json
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.ingest.ordered import CountingBandit, OrderedWriter, offset_of
from banditcore.ingest.sources import OrderedSource, SourceBatch, SourceReject
from banditcore.store.counts import index
from banditcore.store.event_streams import stream_checkpoints
from banditcore.store.event_streams.stream_checkpoints import StreamCheckpoint
from banditcore.store.keys import mark_field

__all__ = ["PartitionRun"]

_MARKS_READ = 10_000
"""In one round trip."""


class PartitionRun:
    """Applies one partition while this process owns it.

    Whatever interrupts a step, the next one begins with what the store says: the checkpoint tells
    where to read on, and the marks beside the counts what is applied already.

    Parameters
    ----------
    bandit : Bandit
        Whose counts.
    source : OrderedSource
        Where the events come from.
    partition : int
        Of the source.
    epoch : int
        Of this owner; 0 where the source assigns partitions.
    batch_size : int, >= 1
        About how many events are applied together.
    notice : callable, optional
        Called with a sentence when lost writes are brought back.

    Attributes
    ----------
    offset : int
        Everything up to it is applied or refused; -1 before anything is known.
    applied, duplicate, refused : int
        Events since this run began.
    newest : float or None
        Time of the newest event of the last batch, seconds since 1970.
    rewinds : int
        How often it read again what a server may have lost.
    """

    def __init__(
        self,
        bandit: CountingBandit,
        source: OrderedSource,
        partition: int,
        *,
        epoch: int,
        batch_size: int,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._bandit = bandit
        self._source = source
        self._notice = notice
        self._batch_size = batch_size
        self._field = mark_field(source.name, str(partition))
        self._writer = OrderedWriter(bandit, self._field, epoch=epoch)
        self._servers: tuple[str, ...] = ()  # on which everything up to `offset` is applied
        self._refused_before = 0
        self._settled = False
        self.partition = partition
        self.offset = -1
        self.applied = self.duplicate = self.refused = 0
        self.newest: float | None = None
        self.rewinds = 0

    @property
    def is_settled(self) -> bool:
        """Whether the next step only has to look for events."""
        return self._settled

    def step(self) -> bool:
        """Apply the next batch; False when there was none.

        Raises
        ------
        FencedError
            The partition has another owner.
        StoreError
            The batch may be applied in part; the next step goes on rightly.
        """
        settled, self._settled = self._settled, False  # until this step ends well
        if not settled:
            self._settle()
        batch = self._source.poll(self.partition, self.offset, self._batch_size)
        if batch is not None:
            self._apply(batch)
        self._settled = True
        return batch is not None

    def check(self) -> None:
        """Look whether other servers hold the data by now; the next step then reads again."""
        if not self._settled:
            return
        if self._identities() != self._servers:
            self._settled = False
        elif self.offset >= 0 and self._source.advance(self.partition, self.offset):
            self._say(f"it ended before offset {self.offset}, which is applied: it had gone back")

    def _settle(self) -> None:
        servers = self._identities()
        saved = stream_checkpoints.load(
            self._bandit.store, self._bandit.name, self._source.name, self.partition
        )
        self._refused_before = max(saved.refused - self.refused, 0)
        if saved.identities == servers:
            self.offset, self._servers = saved.offset, servers
        else:
            # Without a checkpoint the partition is new; with one, its servers are.
            why = "the store was restarted or replaced, or its counts were imported"
            self._rewind(servers, why if saved.identities else None)

    def _rewind(self, servers: tuple[str, ...], why: str | None) -> None:
        """Read again all there is; marks make that harmless."""
        # Any segment may lack anything, those too whose names the store has lost: only all that
        # the source still has is sure to hold it.
        highest = self._highest_mark()
        self._writer.forget()
        if highest >= 0 and self._source.advance(self.partition, highest):
            self._say(f"it ended before offset {highest}, which is applied: it had gone back")
        self.offset = -1
        self._servers = servers
        self._save()  # whoever goes on after a crash must not start from a later one
        if why is not None:
            self.rewinds += 1
            self._say(f"{why}: reading again all that is retained; nothing counts twice")

    def _highest_mark(self) -> int:
        bandit = self._bandit
        paths = index.segments(bandit.store, bandit.name)
        highest = -1
        for first in range(0, len(paths), _MARKS_READ):
            marks = bandit.reader.marks(paths[first : first + _MARKS_READ], self._field)
            highest = max(highest, *(offset_of(mark) for _, mark in marks))
        return highest

    def _apply(self, batch: SourceBatch) -> None:
        """Apply a batch, unless the store lost writes, which have to be read again first."""
        source = self._source
        if batch.missing:
            self._say(
                f"{batch.missing} offsets after {self.offset} were gone before they were read: "
                "events of theirs are lost"
            )
        # First what cannot be used: no mark may pass an event that is neither counted nor kept.
        refused = source.refuse(batch.partition, batch.rejects) if batch.rejects else 0
        early = _Early(batch, source)
        groups = list(by_segment(batch.events))
        try:
            applied = self._writer.apply(groups, batch.offsets, str(batch.end), early=early)
        except LostWritesError as error:
            self._rewind(self._identities(), str(error))
            return
        self.applied += applied
        self.refused += refused + early.refused
        self.duplicate += len(batch.events) - applied - early.cut
        if len(batch.events):
            self.newest = float(batch.events.times.max())
        self.offset = batch.end
        # If other servers hold the data since `check` looked last, some of what was just applied
        # may be lost: the checkpoint names those that were there before, so `_settle` reads again.
        self._save()
        source.commit(self.partition, self.offset)

    def _save(self) -> None:
        refused = self._refused_before + self.refused
        stream_checkpoints.save(
            self._bandit.store,
            self._bandit.name,
            self._source.name,
            self.partition,
            StreamCheckpoint(self.offset, refused, self._servers),
        )

    def _identities(self) -> tuple[str, ...]:
        return tuple(self._bandit.store.identities())

    def _say(self, what: str) -> None:
        if self._notice is not None:
            self._notice(f"partition {self.partition} of {self._source.name!r}: {what}")


class _Early:
    """Cuts off events that the store's clock finds too early, after they are kept elsewhere."""

    def __init__(self, batch: SourceBatch, source: OrderedSource) -> None:
        self._batch = batch
        self._source = source
        self.cut = 0  # events
        self.refused = 0  # of which this many were kept for the first time

    def __call__(self, group: SegmentEvents, last: float) -> SegmentEvents:
        too_early = group.times > last
        rejects = []
        for row in group.rows[too_early]:
            reason = (
                f"time is {float(self._batch.events.times[row])!r}: over an hour ahead of the "
                f"store's clock, which took events up to {last!r}"
            )
            raw = event_as_json(self._batch.events, int(row))
            rejects.append(SourceReject(int(self._batch.offsets[row]), raw, reason))
        self.refused += self._source.refuse(self._batch.partition, rejects)
        self.cut += len(rejects)
        return group.where(np.logical_not(too_early))
