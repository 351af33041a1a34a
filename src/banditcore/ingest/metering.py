"""Tells metrics of an ingest worker's reports."""

from __future__ import annotations

from banditcore.guarded_metrics import guarded
from banditcore.ingest.report import PartitionReport, WorkerReport
from banditcore.metrics import Metrics, PartitionState

__all__ = ["IngestMeter"]

_Totals = tuple[int, int, int]
_NOTHING: _Totals = (0, 0, 0)


class IngestMeter:
    """Turns the reports of one worker into metrics: ``IngestWorker(..., on_report=meter)``.

    Parameters
    ----------
    metrics : Metrics
        Whom to tell; what it raises is logged once, and goes no further.
    bandit, source : str
        The names of the worker's bandit and source.
    """

    def __init__(self, metrics: Metrics, bandit: str, source: str = "stream") -> None:
        self._metrics = guarded(metrics)
        self._bandit = bandit
        self._source = source
        self._told: dict[tuple[int, int], _Totals] = {}  # by partition and epoch

    def __call__(self, report: WorkerReport) -> None:
        """Tell of a report, which must come later than the one before."""
        states = [self._state(part) for part in report.partitions]
        self._metrics.ingested(self._bandit, self._source, states, outage=bool(report.outage))

    def _state(self, part: PartitionReport) -> PartitionState:
        totals = (part.applied, part.duplicate, part.refused)
        before = self._told.get((part.partition, part.epoch), _NOTHING)
        if any(now < then for now, then in zip(totals, before, strict=True)):
            before = _NOTHING  # the worker has taken the partition anew, and counts from 0 again
        self._told = {key: told for key, told in self._told.items() if key[0] != part.partition}
        self._told[part.partition, part.epoch] = totals
        applied, duplicate, refused = (now - then for now, then in zip(totals, before, strict=True))
        return PartitionState(
            partition=part.partition,
            applied=applied,
            duplicate=duplicate,
            refused=refused,
            lag_s=part.lag_s,
            waiting=part.waiting,
            rate=part.rate,
            failed=bool(part.error),
        )
