"""Metrics of a caller, made safe for those who tell them: what they raise is logged once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from banditcore.errors import InvalidTypeError, describe
from banditcore.metrics import (
    NO_LIMITS_GIVEN,
    Metrics,
    MetricsLimits,
    PartitionState,
    SnapshotState,
)

__all__ = ["GuardedMetrics", "guarded"]

_LOG = logging.getLogger("banditcore")


class GuardedMetrics:
    """Passes all on to metrics that may raise: it is logged once, and goes no further.

    Parameters
    ----------
    metrics : Metrics
        Whom to tell.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._has_raised = False
        self._limits = NO_LIMITS_GIVEN
        self._attempt(self._take_limits)

    @property
    def limits(self) -> MetricsLimits:
        """Those that were in force at first."""
        return self._limits

    def answered(self, bandit: str, rung: str, seconds: float, reasons: Sequence[str]) -> None:
        """See `Metrics`."""
        try:  # not by _attempt: every request passes here
            self._metrics.answered(bandit, rung, seconds, reasons)
        except Exception:  # noqa: BLE001 - a request must not fail for the sake of its metrics
            self._say_once()

    def answered_many(
        self, bandit: str, rungs: Mapping[str, int], seconds: float, reasons: Mapping[str, int]
    ) -> None:
        """See `Metrics`."""
        self._attempt(lambda: self._metrics.answered_many(bandit, rungs, seconds, reasons))

    def raised(self, bandit: str, error: str) -> None:
        """See `Metrics`."""
        self._attempt(lambda: self._metrics.raised(bandit, error))

    def seen_looked_up(self, bandit: str, seconds: float, *, ok: bool) -> None:
        """See `Metrics`."""
        self._attempt(lambda: self._metrics.seen_looked_up(bandit, seconds, ok=ok))

    def reloaded(
        self, bandit: str, seconds: float, *, changed: int, rejected: int, error: str
    ) -> None:
        """See `Metrics`."""
        self._attempt(
            lambda: self._metrics.reloaded(
                bandit, seconds, changed=changed, rejected=rejected, error=error
            )
        )

    def snapshots(self, bandit: str, held: Mapping[str, SnapshotState]) -> None:
        """See `Metrics`."""
        self._attempt(lambda: self._metrics.snapshots(bandit, held))

    def refreshed(
        self, bandit: str, seconds: float, outcomes: Mapping[str, int], *, error: str
    ) -> None:
        """See `Metrics`."""
        self._attempt(lambda: self._metrics.refreshed(bandit, seconds, outcomes, error=error))

    def ingested(
        self, bandit: str, source: str, partitions: Sequence[PartitionState], *, outage: bool
    ) -> None:
        """See `Metrics`."""
        self._attempt(lambda: self._metrics.ingested(bandit, source, partitions, outage=outage))

    def _take_limits(self) -> None:
        limits = self._metrics.limits
        if not isinstance(limits, MetricsLimits):
            raise InvalidTypeError(describe("limits", limits, "MetricsLimits(...)"))
        self._limits = limits

    def _attempt(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:  # noqa: BLE001 - nor a job
            self._say_once()

    def _say_once(self) -> None:
        if not self._has_raised:
            self._has_raised = True
            _LOG.warning(
                "the metrics %s raised; this is said once, and nothing else comes of it",
                type(self._metrics).__name__,
                exc_info=True,
            )


def guarded(metrics: Metrics) -> GuardedMetrics:
    """Return metrics that never raise.

    Raises
    ------
    InvalidTypeError
        `metrics` does not fit the protocol.
    """
    if isinstance(metrics, GuardedMetrics):
        return metrics
    if isinstance(metrics, type) or not isinstance(metrics, Metrics):
        raise InvalidTypeError(
            describe("metrics", metrics, "a subclass of BaseMetrics, or PrometheusMetrics()")
        )
    return GuardedMetrics(metrics)
