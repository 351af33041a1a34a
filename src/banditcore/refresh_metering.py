"""Tells metrics of runs of the refresh job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from dataclasses import fields
from typing import TypeVar

from banditcore.metrics import Metrics, guarded
from banditcore.refresh import RefreshReport

__all__ = ["metered_refresh"]

Report = TypeVar("Report", bound=RefreshReport)


def metered_refresh(metrics: Metrics, bandit: str, run: Callable[[], Report]) -> Report:
    """Run a refresh, and tell how long it took and what came of each segment.

    Parameters
    ----------
    metrics : Metrics
        Whom to tell; what it raises is logged once, and goes no further.
    bandit : str
        The bandit's name.
    run : callable
        Does it, such as ``lambda: bandit.refresh()``. What it raises is told and raised again.

    Returns
    -------
    RefreshReport
        What `run` returned.
    """
    told = guarded(metrics)
    started = time.perf_counter()
    try:
        report = run()
    except Exception as error:
        seconds = time.perf_counter() - started
        told.refreshed(bandit, seconds, {}, error=type(error).__name__)
        raise
    # Every outcome is a field of the report that holds its segments.
    outcomes = {
        field.name: len(segments)
        for field in fields(report)
        if isinstance(segments := getattr(report, field.name), Sized)
    }
    told.refreshed(bandit, time.perf_counter() - started, outcomes, error="")
    return report
