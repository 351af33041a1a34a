"""What a bandit must hold, in exact numbers: a slow and readable twin of the store.

Times, the half-life and the window are multiples of `GRID`, so that every weight is a power of two;
trials and successes are multiples of a half. What the store adds up in float64 is then exact, and
is compared as such.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

GRID = 1200
WINDOW = 2 * GRID
AHEAD = 3600  # events.MAX_AHEAD_S
BUCKET = WINDOW + AHEAD

Table = dict[str, tuple[float, float]]


class ModelEvent(NamedTuple):
    """One event. `id` is unlike that of any other event, whether it is sent or not."""

    id: str
    segment: str
    arm: str
    trials: int
    successes: float
    time: int


@dataclass
class Window:
    """Which ids a segment remembers: those of the current and the previous bucket."""

    buckets: list[int] = field(default_factory=lambda: [-1, -1])  # by parity
    ids: list[set[str]] = field(default_factory=lambda: [set(), set()])

    def bucket(self, now: int) -> int:
        """Return the newest bucket: a clock that went back does not reopen the one before."""
        return max(now // BUCKET, *self.buckets)

    def cutoff(self, now: int) -> int:
        """Return the earliest time of an event that is still accepted."""
        return max(now, self.bucket(now) * BUCKET) - WINDOW

    def knows(self, name: str, now: int) -> bool:
        """Whether an id was seen in the current or the previous bucket."""
        bucket = self.bucket(now)
        return any(
            self.buckets[b % 2] == b and name in self.ids[b % 2] for b in (bucket, bucket - 1)
        )

    def remember(self, names: Iterable[str], now: int) -> None:
        """Enter ids into the current bucket."""
        bucket = self.bucket(now)
        parity = bucket % 2
        if self.buckets[parity] != bucket:
            self.buckets[parity], self.ids[parity] = bucket, set()
        self.ids[parity].update(names)


@dataclass
class SegmentModel:
    """One segment. Values are exact, as of `since`, and fade from there."""

    half_life: int | None
    since: int
    arms: dict[str, tuple[Fraction, Fraction]] = field(default_factory=dict)
    window: Window = field(default_factory=Window)
    marks: dict[str, int] = field(default_factory=dict)  # source -> lines applied
    counted: set[str] = field(default_factory=set)  # ids of all events that ever counted

    def copy(self) -> SegmentModel:
        """Return one that can be changed on its own."""
        return copy.deepcopy(self)

    def _weight(self, time: int) -> Fraction:
        if self.half_life is None:
            return Fraction(1)
        exponent = Fraction(time - self.since, self.half_life)
        assert exponent.denominator == 1, "a time off the grid"
        return Fraction(2) ** int(exponent)

    def add(self, event: ModelEvent) -> None:
        """Count an event, which never counted before."""
        assert event.id not in self.counted, f"{event} would count twice"
        self.counted.add(event.id)
        weight = self._weight(event.time)
        trials, successes = self.arms.get(event.arm, (Fraction(0), Fraction(0)))
        self.arms[event.arm] = (
            trials + event.trials * weight,
            successes + Fraction(event.successes) * weight,
        )

    def register(self, arms: Iterable[str]) -> int:
        """Make arms known; return how many were new."""
        new = [arm for arm in dict.fromkeys(arms) if arm not in self.arms]
        self.arms |= dict.fromkeys(new, (Fraction(0), Fraction(0)))
        return len(new)

    def retire(self, arms: Iterable[str]) -> int:
        """Remove arms; return how many there were."""
        gone = set(arms) & set(self.arms)
        self.arms = {arm: counts for arm, counts in self.arms.items() if arm not in gone}
        return len(gone)

    def change_half_life(self, half_life: int | None, at: int) -> None:
        """Fade differently from `at` on."""
        if half_life != self.half_life:
            fade = self._weight(at)
            self.arms = {arm: (n / fade, s / fade) for arm, (n, s) in self.arms.items()}
            self.half_life, self.since = half_life, at

    def table(self, now: int) -> Table:
        """Return the counts, each rounded once."""
        fade = self._weight(now)
        return {arm: (float(n / fade), float(s / fade)) for arm, (n, s) in self.arms.items()}


class Told(NamedTuple):
    """What a caller must be told of the events it sent."""

    applied: int = 0
    duplicate: int = 0
    refused: int = 0

    def plus(self, other: Told) -> Told:
        return Told(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Sending:
    """Events on their way: with ids of their own, under a batch id, or under none."""

    events: tuple[ModelEvent, ...]
    with_ids: bool = False
    batch_id: str | None = None
    known_as: str | None = None  # what an unnamed batch turned out to be called
    first_sent: int | None = None  # of a batch that is sent again under the id of an error

    @property
    def name(self) -> str:
        """What the window remembers of the batch; nobody knows an id that never failed."""
        known = self.batch_id or self.known_as
        return f"unknown {self.events[0].id}" if known is None else f"batch {known}"


def record(segment: SegmentModel, events: Sequence[ModelEvent], sent: Sending, now: int) -> Told:
    """Do to one segment what `record_batch` must do; say what the caller is told."""
    window = segment.window
    if sent.with_ids:
        cutoff = max(window.cutoff(now), now - WINDOW)
        in_time = [event for event in events if event.time >= cutoff]
        fresh: list[ModelEvent] = []
        for event in in_time:
            if not window.knows(event.id, now) and event not in fresh:
                fresh.append(event)
        for event in fresh:
            segment.add(event)
        if fresh:
            window.remember([event.id for event in fresh], now)
        return Told(len(fresh), len(in_time) - len(fresh), len(events) - len(in_time))
    name = sent.name
    if window.knows(name, now):
        return Told(duplicate=len(events))
    cutoff = window.cutoff(now)
    if sent.first_sent is not None:
        in_time = list(events) if sent.first_sent >= cutoff else []
    elif sent.batch_id is not None:
        in_time = [event for event in events if event.time >= cutoff]
    else:
        in_time = list(events)
    for event in in_time:
        segment.add(event)
    if in_time:
        window.remember([name], now)
    return Told(applied=len(in_time), refused=len(events) - len(in_time))


@dataclass
class BanditModel:
    """All that a store holds of one bandit."""

    half_life: int | None
    segments: dict[str, SegmentModel] = field(default_factory=dict)
    checkpoints: dict[str, tuple[int, int]] = field(default_factory=dict)  # (lines, refused)
    published: dict[str, int] = field(default_factory=dict)  # versions

    def segment(self, path: str, now: int) -> SegmentModel:
        """Return a copy of a segment, new if it does not exist."""
        found = self.segments.get(path)
        return SegmentModel(self.half_life, now) if found is None else found.copy()

    def table(self, path: str, now: int) -> Table:
        """Return what was recorded at exactly this segment."""
        found = self.segments.get(path)
        return {} if found is None else found.table(now)

    def below(self, path: str, now: int) -> Table:
        """Return the sum over a segment and everything below it."""
        total: dict[str, tuple[Fraction, Fraction]] = {}
        for name in self.segments:
            if path in ("", name) or name.startswith(path + "/"):
                for arm, counts in self.segments[name].table(now).items():
                    before = total.get(arm, (Fraction(0), Fraction(0)))
                    total[arm] = (before[0] + Fraction(counts[0]), before[1] + Fraction(counts[1]))
        return {arm: (float(n), float(s)) for arm, (n, s) in total.items()}
