"""Appends events to the partitions of their segments, each once, in order within a partition."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from banditcore.errors import ConfigurationConflictError, StoreError
from banditcore.event_format import MAX_EVENTS, CodedEvents
from banditcore.events import EventColumns
from banditcore.store.event_streams import partitions as agreements
from banditcore.store.event_streams import streams
from banditcore.store.event_streams.partitions import partition_of

if TYPE_CHECKING:
    from banditcore.store import Store

__all__ = ["Appender", "Sent", "memory_bytes"]

_COLUMN_BYTES = 80  # of an event, its ids apart: three float64, references, small objects
_MOST_SEGMENTS = 100_000  # whose partition is remembered
_AGREE_EVERY_S = 2.0  # while something is sent, and once after that
_FIRST_PAUSE_S = 0.05  # of a partition that is full
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What one round trip brought about.

    Attributes
    ----------
    acknowledged, given_up : int
        Events that are in their streams; events that failed for too long.
    full : int
        Partitions that take nothing until more is applied.
    error : StoreError or None
        Why nothing is known of some of what was sent.
    """

    acknowledged: int = 0
    given_up: int = 0
    full: int = 0
    error: StoreError | None = None


@dataclass(slots=True)
class _Packed:
    """An entry whose sequence and body stay as they are until it is dealt with."""

    append: streams.Append
    failing_since: float | None = None


class _Partition:
    """What one partition still has to get."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.pieces: deque[tuple[EventColumns, int]] = deque()  # with their bytes in memory
        self.packed: deque[_Packed] = deque()
        self.sequence = 0
        self.taken = 0  # events, ever
        self.done = 0  # of these, acknowledged or given up
        self.pause_s = _FIRST_PAUSE_S
        self.paused_until = 0.0  # because it was full

    def due_s(self, now: float) -> float:
        """Return the seconds until something is to be sent; infinity when nothing is there."""
        if self.taken == self.done:
            return math.inf
        return max(0.0, self.paused_until - now)


class Appender:
    """Takes events and sends them until the server has acknowledged them. For one thread.

    One entry a partition is on its way at a time: so the server needs to remember only the last
    one of a producer to know it again, and events of a segment keep their order.

    When a bandit is forgotten, nobody knows of its streams any more. So it looks every two seconds
    whether they are known, and makes them known again; also once after it has sent the last event.

    Parameters
    ----------
    store, bandit : Store, str
        Where to.
    partitions : int
        See `partitions.agree`.
    most_unapplied : int
        See `streams.append`.
    retry_for_s : float
        Seconds for which the same entry is sent again while the store fails.
    """

    def __init__(
        self,
        store: Store,
        bandit: str,
        partitions: int,
        *,
        most_unapplied: int,
        retry_for_s: float,
    ) -> None:
        self._store = store
        self._bandit = bandit
        self._most_unapplied = most_unapplied
        self._retry_for_s = retry_for_s
        self._producer = os.urandom(16)
        self._partitions = [_Partition(place) for place in range(partitions)]
        self._partition_of: dict[str, int] = {}
        self._agreed_at = time.monotonic()
        self._sent_since = False
        self.bytes = 0
        """What the events that are not dealt with take in memory, about."""

    @property
    def taken(self) -> list[int]:
        """Events that each partition was ever given."""
        return [partition.taken for partition in self._partitions]

    @property
    def done(self) -> list[int]:
        """Of these, the first so many are acknowledged or given up."""
        return [partition.done for partition in self._partitions]

    def due_s(self) -> float:
        """Return the seconds until something is to be done; infinity when nothing is."""
        now = time.monotonic()
        due = min(partition.due_s(now) for partition in self._partitions)
        return min(due, self._agree_s(now)) if self._sent_since else due

    def take(self, events: EventColumns) -> None:
        """Take events over; nothing is sent yet."""
        for place, piece in self._split(events):
            size = memory_bytes(piece)
            partition = self._partitions[place]
            partition.pieces.append((piece, size))
            partition.taken += len(piece)
            self.bytes += size

    def send(self) -> Sent:
        """Send the next entry of each partition in one round trip.

        Raises
        ------
        ConfigurationConflictError
            The bandit's events have fewer partitions by now: nothing can be sent any more.
        """
        now = time.monotonic()
        sending = [partition for partition in self._partitions if partition.due_s(now) == 0]
        for partition in sending:
            if not partition.packed:
                self._pack(partition)
        try:
            if (sending or self._sent_since) and self._agree_s(now) == 0:
                agreements.stay_agreed(self._store, self._bandit, len(self._partitions))
                self._agreed_at, self._sent_since = now, False
            if not sending:
                return Sent()
            self._sent_since = True
            replies = streams.append(
                self._store,
                self._bandit,
                [partition.packed[0].append for partition in sending],
                most_unapplied=self._most_unapplied,
            )
        except ConfigurationConflictError:
            raise
        except StoreError as error:
            return Sent(given_up=self._give_up(sending), error=error)
        acknowledged = full = 0
        failed: list[_Partition] = []
        lost = None
        for partition, reply in zip(sending, replies, strict=True):
            if isinstance(reply, StoreError):
                failed.append(partition)
                lost = lost or reply
            elif reply.word == "FULL":
                partition.packed[0].failing_since = None  # the store works
                partition.paused_until = time.monotonic() + partition.pause_s
                partition.pause_s = min(2 * partition.pause_s, _LONGEST_PAUSE_S)
                full += 1
            else:
                partition.pause_s = _FIRST_PAUSE_S
                acknowledged += self._finish(partition)
        return Sent(acknowledged, self._give_up(failed), full, lost)

    def _agree_s(self, now: float) -> float:
        return max(0.0, self._agreed_at + _AGREE_EVERY_S - now)

    def _split(self, events: EventColumns) -> list[tuple[int, EventColumns]]:
        """Return the events of each partition, in order."""
        n = len(self._partitions)
        known = self._partition_of
        if len(known) > _MOST_SEGMENTS:
            known.clear()
        for segment in set(events.segments) - known.keys():
            known[segment] = partition_of(segment, n)
        places = np.fromiter(map(known.__getitem__, events.segments), np.intp, len(events))
        if places.min() == places.max():
            return [(int(places[0]), events)]
        return [
            (place, events.rows(np.flatnonzero(places == place)))
            for place in np.unique(places).tolist()
        ]

    def _pack(self, partition: _Partition) -> None:
        """Pack pieces from the first on: as many events as an entry takes, or the first piece."""
        run: list[EventColumns] = []
        count = size = 0
        while partition.pieces:
            piece, piece_bytes = partition.pieces[0]
            if run and (
                count + len(piece) > MAX_EVENTS
                or (piece.event_ids is None) != (run[0].event_ids is None)
            ):
                break
            partition.pieces.popleft()
            run.append(piece)
            count, size = count + len(piece), size + piece_bytes
        self.bytes -= size
        for number, body in CodedEvents.of(_joined(run)).bodies(np.arange(count)):
            partition.sequence += 1
            append = streams.Append(
                partition.place, self._producer, partition.sequence, number, body
            )
            partition.packed.append(_Packed(append))
            self.bytes += len(body)

    def _finish(self, partition: _Partition) -> int:
        """Forget the first entry of a partition; return its number of events."""
        append = partition.packed.popleft().append
        partition.done += append.count
        self.bytes -= len(append.body)
        return append.count

    def _give_up(self, failed: Sequence[_Partition]) -> int:
        """Forget the first entries that have failed for too long; return how many events."""
        now, given_up = time.monotonic(), 0
        for partition in failed:
            first = partition.packed[0]
            if first.failing_since is None:
                first.failing_since = now
            if now - first.failing_since >= self._retry_for_s:
                given_up += self._finish(partition)
        return given_up


def memory_bytes(events: EventColumns) -> int:
    """Return about how many bytes events take in memory."""
    texts = [events.segments, events.arms, *([events.event_ids] if events.event_ids else [])]
    return _COLUMN_BYTES * len(events) + sum(sum(map(len, column)) for column in texts)


def _joined(pieces: Sequence[EventColumns]) -> EventColumns:
    """Return the events of all pieces; either all have ids, or none has."""
    if len(pieces) == 1:
        return pieces[0]
    ids = None
    if pieces[0].event_ids is not None:
        ids = [each for piece in pieces for each in piece.event_ids or ()]
    return EventColumns(
        [each for piece in pieces for each in piece.segments],
        [each for piece in pieces for each in piece.arms],
        np.concatenate([piece.trials for piece in pieces]),
        np.concatenate([piece.successes for piece in pieces]),
        np.concatenate([piece.times for piece in pieces]),
        ids,
    )
