"""What a worker asks of a source of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banditcore.events import EventColumns

__all__ = ["Ownership", "Source", "SourceBatch", "SourceReject"]


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
    """

    partition: int
    events: EventColumns
    offsets: NDArray[np.int64]
    rejects: tuple[SourceReject, ...]
    end: int


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
    """Events in partitions, each of which is an order: offsets increase and never change.

    What was read can be read again, for some time at least: that is what brings back the writes
    that a server lost. Methods raise StoreError; StoreUnavailableError means that trying again
    later may help.
    """

    @property
    def name(self) -> str:
        """Tells the source apart from others in marks and checkpoints."""
        ...

    def partitions(self) -> Sequence[int]:
        """Return the partitions that this process may apply now."""
        ...

    def owner(self, partition: int) -> Ownership | None:
        """Return what this process must acquire first; None when the source itself assigns."""
        ...

    def poll(self, partition: int, after: int, limit: int, wait_s: float) -> SourceBatch | None:
        """Return events with offsets above `after`, or None when none came in time.

        Parameters
        ----------
        after : int
            -1 for all that is still there.
        limit : int, >= 1
            About how many to return.
        wait_s : float
            How long to wait for the first, in seconds; 0 does not wait.
        """
        ...

    def refuse(self, partition: int, rejects: Sequence[SourceReject]) -> int:
        """Keep rejects for a person to look at, each once; return how many were new."""
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

    def waiting(self, partition: int, offset: int) -> int | None:
        """Return how many events come after `offset`; None when nobody knows."""
        ...

    def close(self) -> None:
        """Give up connections. May be called again."""
        ...

    def end(self, partition: int) -> int | None:
        """Return the last offset; None when nobody knows, or there has been none."""
        ...
