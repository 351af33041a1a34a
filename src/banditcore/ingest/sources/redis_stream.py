"""A bandit's own streams of events, one a partition, as a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import CorruptDataError, InvalidValueError, describe
from banditcore.event_format import decode_events
from banditcore.events import EventColumns
from banditcore.ingest.sources.source import SourceBatch, SourceReject
from banditcore.store import leases
from banditcore.store.event_streams import dead_letters, partitions, streams
from banditcore.store.event_streams.dead_letters import DeadLetter
from banditcore.store.event_streams.stream_reading import Entry, StreamReader

if TYPE_CHECKING:
    from banditcore.ingest.ordered import CountingBandit

__all__ = ["DEFAULT_LEASE_S", "DEFAULT_RETAIN_BYTES", "DEFAULT_RETAIN_S", "RedisStreamSource"]

DEFAULT_RETAIN_S = 3600.0
"""How long applied events stay in their stream, in seconds."""

DEFAULT_RETAIN_BYTES = 256 << 20
"""What applied events of a partition may take, packed; the oldest beyond it go sooner."""

DEFAULT_LEASE_S = 10.0
"""How long a worker that vanished keeps its partitions, in seconds."""


class RedisStreamSource:
    """The events that `Bandit.emit` appends. For one thread, but for what it returns as owners.

    Parameters
    ----------
    bandit : Bandit
        Whose events.
    retain_s : float, >= 0
        Applied events stay so long in the stream, in seconds, for a server that loses its last
        writes in a failover to get them again.
    retain_bytes : int, >= 0
        But no more than so many bytes of them a partition, packed. Events that are not applied stay
        whatever they take.
    lease_s : float
        After how many seconds without a word from its owner another takes a partition.
    """

    name = dead_letters.STREAMS
    ordered: Literal[True] = True

    def __init__(
        self,
        bandit: CountingBandit,
        *,
        retain_s: float = DEFAULT_RETAIN_S,
        retain_bytes: int = DEFAULT_RETAIN_BYTES,
        lease_s: float = DEFAULT_LEASE_S,
    ) -> None:
        if not 0 <= retain_s < float("inf"):
            raise InvalidValueError(describe("retain_s", retain_s, "seconds, 0 or more"))
        if retain_bytes < 0:
            raise InvalidValueError(describe("retain_bytes", retain_bytes, "0 or more"))
        self._store = bandit.store
        self._bandit = bandit.name
        self._retain_s = retain_s
        self._retain_bytes = retain_bytes
        self._lease_s = lease_s
        self._reader = StreamReader(bandit.store, bandit.name)

    def partitions(self) -> Sequence[int]:
        """Return all partitions; none before the first producer has said how many there are."""
        return range(partitions.load(self._store, self._bandit) or 0)

    def owner(self, partition: int) -> StreamOwnership:
        """Return the partition's lease, not acquired yet."""
        lease = leases.partition_lease(self._store, self._bandit, partition, ttl_s=self._lease_s)
        return StreamOwnership(lease)

    def wait(self, after: Mapping[int, int], wait_s: float) -> bool:
        """Wait for events of any partition; see `StreamReader.wait`."""
        return self._reader.wait(
            {partition: max(offset, streams.START) for partition, offset in after.items()}, wait_s
        )

    def poll(self, partition: int, after: int, limit: int) -> SourceBatch | None:
        """Return the next events; see `OrderedSource.poll`."""
        found = self._reader.read({partition: max(after, streams.START)}, limit=limit)
        entries = found.get(partition)
        return _batch(partition, entries) if entries else None

    def refuse(self, partition: int, rejects: Sequence[SourceReject]) -> int:
        """Keep rejects as dead letters; return how many were new."""
        letters = [DeadLetter(reject.offset, reject.reason, reject.raw) for reject in rejects]
        return dead_letters.keep(self._store, self._bandit, partition, letters)

    def commit(self, partition: int, offset: int) -> None:
        """Make room for new events, and remove applied ones that are old."""
        streams.trim(
            self._store,
            self._bandit,
            partition,
            applied=offset,
            retain_s=self._retain_s,
            retain_bytes=self._retain_bytes,
        )

    def advance(self, partition: int, offset: int) -> bool:
        """Let the next events have offsets above `offset`; see `OrderedSource.advance`."""
        end = self.end(partition)
        if end is not None and end >= offset:
            return False
        streams.advance(self._store, self._bandit, partition, beyond=offset)
        return True

    def end(self, partition: int) -> int | None:
        """Return the last offset that was given away; None before the first."""
        [state] = streams.states(self._store, self._bandit, [partition])
        return state.end if state.end > streams.START else None

    def waiting(self, partition: int, offset: int) -> int | None:  # noqa: ARG002  # the store knows
        """Return how many events come after those that were committed last."""
        [state] = streams.states(self._store, self._bandit, [partition])
        return state.unapplied

    def close(self) -> None:
        """Close the connection for waiting."""
        self._reader.close()


class StreamOwnership:
    """The lease of a partition, see `Ownership`."""

    def __init__(self, lease: leases.Lease) -> None:
        self._lease = lease

    @property
    def ttl_s(self) -> float:
        """How long it lasts without renewal, in seconds."""
        return self._lease.ttl_s

    def acquire(self) -> int | None:
        """Return the epoch of this owner; None while another one has the partition."""
        return self._lease.epoch if self._lease.acquire() else None

    def renew(self) -> bool:
        """Keep the partition; False when it is lost."""
        return self._lease.renew()

    def release(self) -> None:
        """Give the partition up."""
        self._lease.release()


def _batch(partition: int, entries: Sequence[Entry]) -> SourceBatch:
    """Return the events of entries as one batch."""
    parts: list[EventColumns] = []
    offsets: list[NDArray[np.int64]] = []
    rejects: list[SourceReject] = []
    for entry in entries:
        try:
            decoded = decode_events(entry.body, entry.count)
        except CorruptDataError as error:
            rejects.append(SourceReject(entry.first, entry.body, str(error)))
            continue
        parts.append(decoded.events)
        offsets.append(entry.first + decoded.index)
        rejects += (
            SourceReject(entry.first + reject.index, reject.raw, reject.reason)
            for reject in decoded.rejects
        )
    events = EventColumns(
        [segment for part in parts for segment in part.segments],
        [arm for part in parts for arm in part.arms],
        _joined([part.trials for part in parts]),
        _joined([part.successes for part in parts]),
        _joined([part.times for part in parts]),
    )
    where = np.concatenate(offsets) if offsets else np.empty(0, np.int64)
    return SourceBatch(partition, events, where, tuple(rejects), entries[-1].last)


def _joined(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(columns) if columns else np.empty(0)
