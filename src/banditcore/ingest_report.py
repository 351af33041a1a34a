"""What an ingest worker did, and how far behind it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from banditcore.ingest_partition import PartitionRun
from banditcore.sources import Source

__all__ = ["PartitionMeter", "PartitionReport", "WorkerReport"]


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """One partition that the worker owns, or would own.

    Attributes
    ----------
    partition : int
        Which.
    epoch : int
        Of the ownership; 0 where the source assigns partitions.
    applied, duplicate, refused : int
        Events since the worker took it.
    offset : int
        Everything up to it is applied; -1 before the first batch.
    end : int or None
        The last offset of the source.
    waiting : int or None
        Events that come after `offset`.
    lag_s : float or None
        Age of the newest event of the last batch, in seconds; 0 when nothing waits. None when
        nothing was read yet.
    rate : float
        Events a second since the report before.
    rewinds : int
        How often it read again what a server may have lost.
    error : str
        Why the partition stands still; "" while it does not.
    """

    partition: int
    epoch: int = 0
    applied: int = 0
    duplicate: int = 0
    refused: int = 0
    offset: int = -1
    end: int | None = None
    waiting: int | None = None
    lag_s: float | None = None
    rate: float = 0.0
    rewinds: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """All partitions of one worker.

    Attributes
    ----------
    partitions : tuple of PartitionReport
        Those it owns and those that stand still, by number.
    elsewhere : tuple of int
        Partitions that others own.
    outage : str
        Why the store or the source cannot be used now; "" while it can.
    seconds : float
        Since the worker began.
    """

    partitions: tuple[PartitionReport, ...]
    elsewhere: tuple[int, ...]
    outage: str
    seconds: float


class PartitionMeter:
    """Makes the reports of one run."""

    def __init__(self, run: PartitionRun, epoch: int) -> None:
        self._run = run
        self._epoch = epoch
        self._seen = 0
        self._at = time.monotonic()

    def report(self, source: Source, now: float) -> PartitionReport:
        """Return what the run did so far; `now` in seconds since 1970."""
        run = self._run
        end = source.end(run.partition)
        moment = time.monotonic()
        done = run.applied + run.duplicate + run.refused
        rate = (done - self._seen) / (moment - self._at) if moment > self._at else 0.0
        self._seen, self._at = done, moment
        lag_s = None if run.newest is None else max(now - run.newest, 0.0)
        if end is not None and end <= run.offset:
            lag_s = 0.0
        return PartitionReport(
            partition=run.partition,
            epoch=self._epoch,
            applied=run.applied,
            duplicate=run.duplicate,
            refused=run.refused,
            offset=run.offset,
            end=end,
            waiting=source.waiting(run.partition, run.offset),
            lag_s=lag_s,
            rate=rate,
            rewinds=run.rewinds,
        )
