"""What a worker asks of a source of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import StoreUnavailableError
from banditcore.events import EventColumns

__all__ = [
    "Delivery",
    "OrderedSource",
    "Ownership",
    "PartitionUnavailableError",
    "Source",
    "SourceBatch",
    "SourceReject",
    "UnorderedSource",
]


class PartitionUnavailableError(StoreUnavailableError):
    """One partition cannot be read at the moment; the others can."""


@dataclass(frozen=True, slots=True)
class SourceReject:
    """One event that cannot be used, or a body of which none can be read.

    Attributes
    ----------
    offset : int
        Where it stands in its partition.
    raw : bytes
        As it came, or packed anew.
    reason : str
        Why it cannot be used.
    """

    offset: int
    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class SourceBatch:
    """The events of a partition between two offsets.

    Attributes
    ----------
    partition : int
        Which.
    events : EventColumns
        (n,) events that passed every check but that of the store's clock.
    offsets : (n,) int64
        Theirs, increasing.
    rejects : tuple of SourceReject
        What stood between them and cannot be used.
    end : int
        The last offset that the batch covers: at least that of its last event or reject.
    missing : int
        Offsets before it that were to be read, and that the source no longer has.
    """

    partition: int
    events: EventColumns
    offsets: NDArray[np.int64]
    rejects: tuple[SourceReject, ...]
    end: int
    missing: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """Events of an unordered source that must be acknowledged together.

    Attributes
    ----------
    partition : int
        Which.
    events : EventColumns
        (n,) events that passed every check but that of the store's clock; each has its id.
    offsets : (n,) int64
        By which those that are refused later are kept apart; in no order.
    rejects : tuple of SourceReject
        What cannot be used.
    receipt : object
        What the source acknowledges them by.
    """

    partition: int
    events: EventColumns
    offsets: NDArray[np.int64]
    rejects: tuple[SourceReject, ...]
    receipt: object


class Ownership(Protocol):
    """The right to apply one partition, which one process has at a time."""

    @property
    def ttl_s(self) -> float:
        """How long it lasts without renewal, in seconds."""
        ...

    def acquire(self) -> int | None:
        """Return the epoch, larger than that of every owner before; None while another has it."""
        ...

    def renew(self) -> bool:
        """Keep it for another `ttl_s`; False when it is lost."""
        ...

    def release(self) -> None:
        """Give it up, so that another process need not wait. Harmless when it is lost."""
        ...


class Source(Protocol):
    """What ordered and unordered sources have in common. Methods raise StoreError.

    StoreUnavailableError means that trying again later may help.
    """

    @property
    def name(self) -> str:
        """Tells the source apart from others in marks, checkpoints and dead letters."""
        ...

    def partitions(self) -> Sequence[int]:
        """Return the partitions that this process may apply now."""
        ...

    def wait(self, after: Mapping[int, int], wait_s: float) -> bool:
        """Wait until some partition may have events to poll; False if none has.

        Parameters
        ----------
        after : mapping of int to int
            Partition -> the offset up to which it is applied; -1 where nothing is.
        wait_s : float
            How long, in seconds; less is allowed.
        """
        ...

    def refuse(self, partition: int, rejects: Sequence[SourceReject]) -> int:
        """Keep rejects for a person to look at, each once; return how many were new."""
        ...

    def waiting(self, partition: int, offset: int) -> int | None:
        """Return how many events come after `offset`; None when nobody knows."""
        ...

    def end(self, partition: int) -> int | None:
        """Return the last offset; None when nobody knows, or there has been none."""
        ...

    def close(self) -> None:
        """Give up connections. May be called again."""
        ...


class OrderedSource(Source, Protocol):
    """Events in partitions, each of which is an order: offsets increase and never change.

    What was read can be read again, for some time at least: `poll` seeks to any offset. That is
    what brings back the writes that a server lost.
    """

    @property
    def ordered(self) -> Literal[True]:
        """A mark beside the counts says how far a partition is applied."""
        ...

    def owner(self, partition: int) -> Ownership | None:
        """Return what this process must acquire first; None when the source itself assigns."""
        ...

    def poll(self, partition: int, after: int, limit: int) -> SourceBatch | None:
        """Return events with offsets above `after`, or None when there are none yet.

        Parameters
        ----------
        after : int
            -1 for all that is still there.
        limit : int, >= 1
            About how many to return.
        """
        ...

    def commit(self, partition: int, offset: int) -> None:
        """Learn that everything up to `offset` is applied and saved."""
        ...

    def advance(self, partition: int, offset: int) -> bool:
        """Make sure that events to come have offsets above `offset`, up to which all is applied.

        Returns
        -------
        bool
            Whether that needed a change: the source had gone back in time.

        Raises
        ------
        LostWritesError
            It had gone back, and its offsets are not ours to give.
        """
        ...


class UnorderedSource(Source, Protocol):
    """Events that come in any order, to any of the workers, and again until they are acknowledged.

    Each has an id of its own, by which the window of its segment tells whether it was counted.
    """

    @property
    def ordered(self) -> Literal[False]:
        """No offset says how far the events are applied."""
        ...

    def poll(self, partition: int, limit: int) -> Delivery | None:
        """Return about `limit` events that nobody else has now, or None when there are none yet."""
        ...

    def commit(self, delivery: Delivery) -> None:
        """Acknowledge a delivery: all of it is applied, or kept by `refuse`."""
        ...
