"""Metrics that remember what they were told, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from banditcore.metrics import MetricsLimits, PartitionState, SnapshotState


class Told:
    """Fits the protocol without inheriting anything, and keeps every call."""

    def __init__(self, limits: MetricsLimits | None = None) -> None:
        self.limits = limits or MetricsLimits()
        self.answers: list[tuple[str, str, tuple[str, ...]]] = []
        self.seconds: list[float] = []
        self.batches: list[tuple[dict[str, int], dict[str, int]]] = []
        self.errors: list[str] = []
        self.lookups: list[bool] = []
        self.reloads: list[tuple[int, int, str]] = []
        self.held: dict[str, SnapshotState] = {}
        self.refreshes: list[tuple[dict[str, int], str]] = []
        self.reports: list[tuple[str, list[PartitionState], bool]] = []

    def answered(self, bandit: str, rung: str, seconds: float, reasons: Sequence[str]) -> None:
        self.answers.append((bandit, rung, tuple(reasons)))
        self.seconds.append(seconds)

    def answered_many(
        self, bandit: str, rungs: Mapping[str, int], seconds: float, reasons: Mapping[str, int]
    ) -> None:
        self.batches.append((dict(rungs), dict(reasons)))

    def raised(self, bandit: str, error: str) -> None:
        self.errors.append(error)

    def seen_looked_up(self, bandit: str, seconds: float, *, ok: bool) -> None:
        self.lookups.append(ok)

    def reloaded(
        self, bandit: str, seconds: float, *, changed: int, rejected: int, error: str
    ) -> None:
        assert seconds >= 0
        self.reloads.append((changed, rejected, error))

    def snapshots(self, bandit: str, held: Mapping[str, SnapshotState]) -> None:
        self.held = dict(held)

    def refreshed(
        self, bandit: str, seconds: float, outcomes: Mapping[str, int], *, error: str
    ) -> None:
        assert seconds >= 0
        self.refreshes.append((dict(outcomes), error))

    def ingested(
        self, bandit: str, source: str, partitions: Sequence[PartitionState], *, outage: bool
    ) -> None:
        self.reports.append((source, list(partitions), outage))
