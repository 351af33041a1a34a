"""How often one user may be shown one arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.iterables import items
from banditcore.store.seen_record import LONGEST_WITHIN_S, MOST_EXPOSURES

__all__ = ["FrequencyCap", "check_caps", "horizon_s"]


@dataclass(frozen=True, slots=True)
class FrequencyCap:
    """At most so many exposures of an arm to a user within a time that slides.

    Exposures are kept by the whole second: an arm may stay away up to one second longer than
    `within`, never less. What is marked twice within a second counts once.

    Parameters
    ----------
    times : int
        1 to 1,000 exposures.
    within : timedelta
        Whole seconds, 1 s to 90 days.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        An argument breaks a rule above.
    """

    times: int = 1
    within: timedelta = timedelta(hours=24)

    def __post_init__(self) -> None:
        if isinstance(self.times, bool) or not isinstance(self.times, int):
            raise InvalidTypeError(describe("times", self.times, "a number of exposures, an int"))
        if not 1 <= self.times <= MOST_EXPOSURES:
            remedy = f"1 to {MOST_EXPOSURES:,} exposures"
            raise InvalidValueError(describe("times", self.times, remedy))
        if not isinstance(self.within, timedelta):
            raise InvalidTypeError(describe("within", self.within, "a datetime.timedelta"))
        longest = timedelta(seconds=LONGEST_WITHIN_S)
        if not timedelta(seconds=1) <= self.within <= longest or self.within.microseconds:
            remedy = f"whole seconds, from one to {longest.days} days"
            raise InvalidValueError(describe("within", self.within, remedy))

    @property
    def within_s(self) -> int:
        """The time in seconds."""
        return self.within.days * 86_400 + self.within.seconds


def check_caps(caps: Iterable[FrequencyCap]) -> tuple[FrequencyCap, ...]:
    """Return what is to hold together, each of it; raise for what is no cap."""
    checked = tuple(items("caps", caps, "FrequencyCap: caps=[FrequencyCap()]"))
    for cap in checked:
        if not isinstance(cap, FrequencyCap):
            raise InvalidTypeError(describe("caps", cap, "each is a FrequencyCap"))
    return checked


def horizon_s(caps: Sequence[FrequencyCap]) -> int:
    """Return after how many seconds no cap asks for an exposure any more."""
    return max(cap.within_s for cap in caps)
