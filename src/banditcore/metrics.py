"""What jobs and recommenders tell about themselves: the protocol, and a base that ignores it.

Times are in seconds. Every set of labels is bounded: rungs, reasons and outcomes are listed here,
partitions number at most 1,024, and of the segments only so many go by their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = [
    "NO_LIMITS_GIVEN",
    "OTHERS",
    "REASONS",
    "RUNGS",
    "BaseMetrics",
    "Metrics",
    "MetricsLimits",
    "PartitionState",
    "SnapshotState",
]

RUNGS = ("segment", "parent", "global", "default")
"""What answered: the segment that was asked for, an ancestor, the global one, the caller's list."""

REASONS = ("missing", "old", "empty", "stale", "default", "seen")
"""Why an answer is less than was asked for.

``missing``, ``old``, ``empty``: the segment has no snapshot, one beyond `max_age`, one without
arms, so another rung answered. ``stale``, ``default``, ``seen``: see `Recommendation.degraded`.
"""

OTHERS = "/others"
"""Stands for all segments that do not go by their names; no segment can have this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsLimits:
    """How much is told of segments, and when their exploration has collapsed.

    Parameters
    ----------
    named_segments : int, >= 0
        So many segments of a bandit go by their names, the first to be loaded; the rest are told
        together, as `OTHERS`, by the worst of them.
    entropy_below : float
        In [0, 1]. The alarm is on while the normalised entropy of a segment is below; 0: never.
    entropy_drop : float
        In (0, 1]. The alarm is on for a version whose entropy is less than (1 - entropy_drop)
        times that of the version before; 1: never.
    keeps_names : bool
        A segment that is not held any more keeps its name from being another's, so that over all
        time no more names are told; else its place is free again.
    """

    named_segments: int = 100
    entropy_below: float = 0.05
    entropy_drop: float = 0.5
    keeps_names: bool = False

    def __post_init__(self) -> None:
        named = self.named_segments
        if isinstance(named, bool) or not isinstance(named, int):
            raise InvalidTypeError(describe("named_segments", named, "a whole number >= 0"))
        if named < 0:
            raise InvalidValueError(describe("named_segments", named, "a whole number >= 0"))
        for name, lowest in {"entropy_below": "0", "entropy_drop": "above 0"}.items():
            value = getattr(self, name)
            remedy = f"a number from {lowest} to 1"
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidTypeError(describe(name, value, remedy))
            if not 0 <= value <= 1 or (value == 0 and name == "entropy_drop"):
                raise InvalidValueError(describe(name, value, remedy))


NO_LIMITS_GIVEN = MetricsLimits()
"""The limits of those who choose none."""


@dataclass(frozen=True, slots=True)
class SnapshotState:
    """The snapshot of a segment that a recommender holds; of `OTHERS`, the worst of each.

    Attributes
    ----------
    segments : int
        How many it is told of.
    version : int
        Microseconds since 1970 of the counts; the oldest.
    age_s : float
        Seconds from then to now, >= 0; the highest.
    entropy : float or None
        Of the first place over the slate bank, in [0, 1], where 1 is as much as can be: see
        `exploration`. The lowest; None when it is not known.
    effective_arms : float or None
        As many arms, equally likely at the first place, have this entropy; the lowest.
    alarms : int
        Of how many segments exploration has collapsed.
    """

    segments: int
    version: int
    age_s: float
    entropy: float | None
    effective_arms: float | None
    alarms: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition of a source of events that a worker owns.

    Attributes
    ----------
    partition : int
    applied, duplicate, refused : int
        Events since the report before.
    lag_s : float or None
        Age of the newest applied event; 0 when nothing waits, None when it is not known.
    waiting : int or None
        Events to be applied; None when it is not known.
    rate : float
        Events a second since the report before.
    failed : bool
        Whether it stands still until a person has looked at it.
    """

    partition: int
    applied: int
    duplicate: int
    refused: int
    lag_s: float | None
    waiting: int | None
    rate: float
    failed: bool


@runtime_checkable
class Metrics(Protocol):
    """What may be told of jobs and recommenders. Subclass `BaseMetrics` to hear a part of it.

    Methods are called from any thread, `answered` within every request: they should neither block
    nor take long. An exception of theirs is logged once and breaks nothing.
    """

    @property
    def limits(self) -> MetricsLimits:
        """How much to tell; asked for once by each recommender."""

    def answered(self, bandit: str, rung: str, seconds: float, reasons: Sequence[str]) -> None:
        """Hear of one answer: from which of `RUNGS`, how long it took, which of `REASONS`."""

    def answered_many(
        self, bandit: str, rungs: Mapping[str, int], seconds: float, reasons: Mapping[str, int]
    ) -> None:
        """Hear of a batch: answers by rung and by reason, and how long it took altogether."""

    def raised(self, bandit: str, error: str) -> None:
        """Hear of a request without an answer: the name of the error's class."""

    def seen_looked_up(self, bandit: str, seconds: float, *, ok: bool) -> None:
        """Hear of a look-up of what a user has seen: how long it took, whether it came in time."""

    def reloaded(
        self, bandit: str, seconds: float, *, changed: int, rejected: int, error: str
    ) -> None:
        """Hear of a look for new snapshots.

        How many there were, how many blobs are there that cannot be used, and the name of the
        class of the error that ended the look; "" without one.
        """

    def snapshots(self, bandit: str, held: Mapping[str, SnapshotState]) -> None:
        """Hear, after each look, of all snapshots that are held: by segment, ``""`` the global one.

        A segment that is not among them any more is not held any more.
        """

    def refreshed(
        self, bandit: str, seconds: float, outcomes: Mapping[str, int], *, error: str
    ) -> None:
        """Hear of a run of the refresh job.

        How many segments had which outcome (``published``, ``unchanged``, ``superseded``,
        ``failed``), and the name of the class of the error that ended the run; "" without one.
        """

    def ingested(
        self, bandit: str, source: str, partitions: Sequence[PartitionState], *, outage: bool
    ) -> None:
        """Hear of an ingest worker: all that it owns now, and whether it waits for an outage.

        `source` is ``stream``, or the name of another source of events. A partition that is not
        among them any more is not owned any more, or not known of.
        """


class BaseMetrics:
    """Hears all and does nothing: override what is of interest.

    Parameters
    ----------
    limits : MetricsLimits
        How much to tell.
    """

    def __init__(self, limits: MetricsLimits = NO_LIMITS_GIVEN) -> None:
        self._limits = limits

    @property
    def limits(self) -> MetricsLimits:
        """How much to tell."""
        return self._limits

    def answered(self, bandit: str, rung: str, seconds: float, reasons: Sequence[str]) -> None:
        """See `Metrics`."""

    def answered_many(
        self, bandit: str, rungs: Mapping[str, int], seconds: float, reasons: Mapping[str, int]
    ) -> None:
        """See `Metrics`."""

    def raised(self, bandit: str, error: str) -> None:
        """See `Metrics`."""

    def seen_looked_up(self, bandit: str, seconds: float, *, ok: bool) -> None:
        """See `Metrics`."""

    def reloaded(
        self, bandit: str, seconds: float, *, changed: int, rejected: int, error: str
    ) -> None:
        """See `Metrics`."""

    def snapshots(self, bandit: str, held: Mapping[str, SnapshotState]) -> None:
        """See `Metrics`."""

    def refreshed(
        self, bandit: str, seconds: float, outcomes: Mapping[str, int], *, error: str
    ) -> None:
        """See `Metrics`."""

    def ingested(
        self, bandit: str, source: str, partitions: Sequence[PartitionState], *, outage: bool
    ) -> None:
        """See `Metrics`."""
