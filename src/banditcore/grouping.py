"""Groups columns of events by segment and arm, ready to be added up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.events import EventColumns

__all__ = ["SegmentEvents", "by_segment"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentEvents:
    """m events of one segment.

    Attributes
    ----------
    segment : str
        Its path.
    arms : list of str
        (n,) distinct arm ids.
    arm_of : (m,) intp
        For each event the position of its arm in `arms`.
    trials, successes, times : (m,) float64
        As in `EventColumns`.
    rows : (m,) intp
        Where the events stand in the columns they come from.
    """

    segment: str
    arms: list[str]
    arm_of: NDArray[np.intp]
    trials: FloatArray
    successes: FloatArray
    times: FloatArray
    rows: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def newest(self) -> float | None:
        """The time of the newest event; None when there is none."""
        return float(self.times.max()) if len(self.times) else None

    def where(self, keep: NDArray[np.bool_]) -> SegmentEvents:
        """Return the events for which `keep` is true."""
        if keep.all():
            return self
        used, arm_of = np.unique(self.arm_of[keep], return_inverse=True)
        return SegmentEvents(
            self.segment,
            [self.arms[i] for i in used],
            arm_of,
            self.trials[keep],
            self.successes[keep],
            self.times[keep],
            self.rows[keep],
        )


def by_segment(events: EventColumns) -> Iterator[SegmentEvents]:
    """Yield the events of each segment, in order of first appearance; order within is kept."""
    segment_of, segments = _factorize(events.segments)
    arm_of, arms = _factorize(events.arms)
    order = np.argsort(segment_of, kind="stable")
    ends = np.cumsum(np.bincount(segment_of, minlength=len(segments)))
    for segment, rows in zip(segments, np.split(order, ends[:-1]), strict=False):
        used, local = np.unique(arm_of[rows], return_inverse=True)
        yield SegmentEvents(
            segment,
            [arms[i] for i in used],
            local,
            events.trials[rows],
            events.successes[rows],
            events.times[rows],
            rows,
        )


def _factorize(values: list[str]) -> tuple[NDArray[np.intp], list[str]]:
    codes: dict[str, int] = {}
    column = [codes.setdefault(value, len(codes)) for value in values]
    return np.array(column, dtype=np.intp), list(codes)
