"""Tells metrics of runs of the refresh job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from dataclasses import fields

from banditcore.guarded_metrics import guarded
from banditcore.metrics import Metrics
from banditcore.refresh.report import RefreshReport

__all__ = ["RefreshMeter"]


class RefreshMeter:
    """Turns the reports of refreshes into metrics: ``on_report=meter``, or ``meter.run(...)``.

    Parameters
    ----------
    metrics : Metrics
        Whom to tell; what it raises is logged once, and goes no further.
    bandit : str
        The bandit's name.
    """

    def __init__(self, metrics: Metrics, bandit: str) -> None:
        self._metrics = guarded(metrics)
        self._bandit = bandit

    def __call__(self, report: RefreshReport) -> None:
        """Tell of a report."""
        # Every outcome is a field that holds its segments.
        outcomes = {
            field.name: len(segments)
            for field in fields(report)
            if isinstance(segments := getattr(report, field.name), Sized)
        }
        self._metrics.refreshed(self._bandit, report.seconds, outcomes, error="")

    def run(self, refresh: Callable[[], RefreshReport]) -> RefreshReport:
        """Run a refresh, such as ``bandit.refresh``; what it raises is told and raised again."""
        started = time.perf_counter()
        try:
            report = refresh()
        except Exception as error:
            seconds = time.perf_counter() - started
            self._metrics.refreshed(self._bandit, seconds, {}, error=type(error).__name__)
            raise
        self(report)
        return report
