"""What an ingest worker did, and how far behind it is."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from banditcore.ingest.delivery import DeliveryRun
from banditcore.ingest.partition import PartitionRun
from banditcore.ingest.sources import Source

__all__ = ["PartitionMeter", "PartitionReport", "WorkerReport"]

_ASK_EVERY_S = 0.5
_RATE_OVER_S = 5.0  # at least, and at most twice as long


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
        Events that come after `offset`, at most half a second ago or as of the last batch.
    lag_s : float or None
        Age of the newest event of the last batch, in seconds; 0 when nothing waits. None when
        nothing was read yet.
    rate : float
        Events a second over the last five to ten seconds.
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
    """Takes down how a run stands, for anybody to read.

    Parameters
    ----------
    run : PartitionRun or DeliveryRun
        Which.
    epoch : int
        Of the ownership; 0 where there is none.
    """

    def __init__(self, run: PartitionRun | DeliveryRun, epoch: int) -> None:
        self._run = run
        self._epoch = epoch
        self._asked_at = -math.inf  # for `end` and `waiting`
        self._end: int | None = None
        self._waiting: int | None = None
        self._samples = ((time.monotonic(), 0),) * 2  # two moments, and the events done until then
        self._noted = self._report(), self._samples[0]  # replaced as a whole: others read it

    def note(self, source: Source, *, idle: bool) -> None:
        """Take down how the run stands now. For the thread that runs it.

        Parameters
        ----------
        idle : bool
            Nothing came. The source is asked what waits only until it says that nothing does; else
            twice a second.

        Raises
        ------
        StoreError
            The source cannot say what waits.
        """
        run, now = self._run, time.monotonic()
        if self._waiting != 0 if idle else now >= self._asked_at + _ASK_EVERY_S:
            self._asked_at = now
            self._end = source.end(run.partition)
            self._waiting = source.waiting(run.partition, run.offset)
        report = self._report()
        older, newer = self._samples
        if now >= newer[0] + _RATE_OVER_S:
            self._samples = older, newer = newer, (now, _done(report))
        self._noted = report, older

    def report(self) -> PartitionReport:
        """Return how the run stood when it was noted last. For any thread; asks nobody."""
        report, (since, before) = self._noted
        seconds = time.monotonic() - since
        rate = (_done(report) - before) / seconds if seconds > 0 else 0.0
        return replace(report, rate=rate, lag_s=self._lag_s(report.waiting))

    def _report(self) -> PartitionReport:
        run = self._run
        return PartitionReport(
            partition=run.partition,
            epoch=self._epoch,
            applied=run.applied,
            duplicate=run.duplicate,
            refused=run.refused,
            offset=run.offset,
            end=None if self._end is None else max(self._end, run.offset),
            waiting=self._waiting,
            rewinds=run.rewinds,
        )

    def _lag_s(self, waiting: int | None) -> float | None:
        if waiting == 0:
            return 0.0
        newest = self._run.newest
        return None if newest is None else max(time.time() - newest, 0.0)


def _done(report: PartitionReport) -> int:
    return report.applied + report.duplicate + report.refused
