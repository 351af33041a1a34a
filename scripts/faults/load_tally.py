"""What requests of a phase took and how they were answered, as it is counted and passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

LEAST_FOR_THREE_NINES = 50_000
_LONGEST_US = 60_000_000
_DIGITS = 3
_MOST_KEPT = 1_000  # slow requests of a phase, and words about what is wrong
_MOST_STALLS = 20_000


def histogram() -> HdrHistogram:
    """Return a histogram of microseconds, to three digits."""
    return HdrHistogram(1, _LONGEST_US, _DIGITS)


@dataclass(frozen=True)
class Slow:
    """A request that took long: when it began and ended, by the monotonic clock."""

    kind: str
    begin: float
    end: float
    processor_s: float


@dataclass(frozen=True)
class Stall:
    """A span in which a thread of the service that only sleeps was not let run again.

    Others of its process had a processor for `processor_s` of it. For the rest none of ours was at
    work, though one of them held the interpreter's lock: the machine kept it waiting.
    """

    begin: float
    end: float
    processor_s: float

    def waited(self, begin: float, end: float) -> float:
        """Return for how much of a span the machine kept this process waiting."""
        shared = min(self.end, end) - max(self.begin, begin)
        part = max(0.0, 1.0 - self.processor_s / (self.end - self.begin))
        return max(0.0, shared) * part


@dataclass
class Tally:
    """Requests of one kind. `service` is from the call on, `intended` from when it was due, in us.

    Attributes
    ----------
    labels : counter
        Answers by what is less than asked for: what `degraded` says, and ``"ancestor"``.
    exceptions, wrong : counter
        What was raised, and which answers break a promise, in words.
    """

    service: HdrHistogram = field(default_factory=histogram)
    intended: HdrHistogram = field(default_factory=histogram)
    labels: Counter[str] = field(default_factory=Counter)
    exceptions: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def samples(self) -> int:
        """How many requests there were."""
        return int(self.service.total_count)

    def took(self, service_s: float, intended_s: float) -> None:
        """Count a request."""
        self.service.record_value(max(1, int(service_s * 1e6)))
        self.intended.record_value(max(1, int(intended_s * 1e6)))

    def add(self, other: Tally) -> None:
        """Add what another has."""
        self.service.add(other.service)
        self.intended.add(other.intended)
        self.labels += other.labels
        self.exceptions += other.exceptions
        self.wrong += other.wrong

    def clear(self) -> None:
        """Begin anew.

        A histogram hangs in a circle with its encoder: a new one each time would lie about until
        the collector comes, and look like a leak.
        """
        for found in (self.service, self.intended):
            found.reset()
        for counter in (self.labels, self.exceptions, self.wrong):
            counter.clear()

    def encoded(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "service": self.service.encode().decode(),
            "intended": self.intended.encode().decode(),
            "labels": self.labels,
            "exceptions": dict(self.exceptions.most_common(_MOST_KEPT)),
            "wrong": dict(self.wrong.most_common(_MOST_KEPT)),
        }

    @classmethod
    def decoded(cls, found: dict[str, Any]) -> Tally:
        """Return what `encoded` was made of."""
        return cls(
            HdrHistogram.decode(found["service"]),
            HdrHistogram.decode(found["intended"]),
            *(Counter(found[name]) for name in ("labels", "exceptions", "wrong")),
        )


@dataclass
class Phase:
    """All requests of a span of time, by kind; the slow ones; when the process was held up."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    slow: list[Slow] = field(default_factory=list)
    stalls: list[Stall] = field(default_factory=list)

    def add(self, other: Phase) -> None:
        """Add what another has."""
        for kind, tally in other.tallies.items():
            self.tallies.setdefault(kind, Tally()).add(tally)
        self.slow += other.slow[: _MOST_KEPT - len(self.slow)]
        self.stalls += other.stalls[: _MOST_STALLS - len(self.stalls)]

    def clear(self) -> None:
        """Begin anew."""
        self.slow, self.stalls = [], []
        for tally in self.tallies.values():
            tally.clear()

    @property
    def longest_stall_s(self) -> float:
        """The longest that this process was held up, by itself or by others."""
        return max((stall.end - stall.begin for stall in self.stalls), default=0.0)

    def of(self, kinds: Iterable[str]) -> Tally:
        """Return the sum of some kinds."""
        total = Tally()
        for kind in kinds:
            if kind in self.tallies:
                total.add(self.tallies[kind])
        return total

    def encoded(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "tallies": {kind: tally.encoded() for kind, tally in self.tallies.items()},
            "slow": [[s.kind, s.begin, s.end, s.processor_s] for s in self.slow],
            "stalls": [[s.begin, s.end, s.processor_s] for s in self.stalls],
        }

    @classmethod
    def decoded(cls, found: dict[str, Any]) -> Phase:
        """Return what `encoded` was made of."""
        tallies = {kind: Tally.decoded(each) for kind, each in found["tallies"].items()}
        slow, stalls = found["slow"], found["stalls"]
        return cls(tallies, [Slow(*each) for each in slow], [Stall(*each) for each in stalls])


def percentiles(found: HdrHistogram) -> list[str]:
    """Return p50, p99, p99.9 and the greatest, in ms; p99.9 of enough samples only."""
    shown = [found.get_value_at_percentile(50), found.get_value_at_percentile(99)]
    words = [f"{us / 1e3:.3f}" for us in shown]
    enough = found.total_count >= LEAST_FOR_THREE_NINES
    words.append(f"{found.get_value_at_percentile(99.9) / 1e3:.3f}" if enough else "-")
    words.append(f"{found.get_max_value() / 1e3:.2f}" if found.total_count else "-")
    return words
