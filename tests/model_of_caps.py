"""What frequency caps mean, in memory, as plainly as it can be said."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor

from banditcore.serving.caps import FrequencyCap


class CapModel:
    """Every exposure of one user. A second is the same for all that happens in it."""

    def __init__(self, caps: Iterable[FrequencyCap]) -> None:
        self.caps = list(caps)
        self.shown: set[tuple[str, int]] = set()

    def mark(self, arm: str, now: float) -> None:
        self.shown.add((arm, floor(now)))

    def forbidden(self, now: float) -> set[str]:
        found = set()
        for arm in {arm for arm, _ in self.shown}:
            seconds = [second for shown, second in self.shown if shown == arm]
            for cap in self.caps:
                recent = [each for each in seconds if floor(now) - each <= cap.within_s]
                if len(recent) >= cap.times:
                    found.add(arm)
        return found
