"""The requests of the load, and what an answer must be: whom it may come from, what it may hold."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import banditcore as bc

NAME = "load"
LEAVES = ("IN/mobile", "IN/web", "US/mobile", "US/web", "BR/mobile")
UNKNOWN = "IN/tablet"  # nobody publishes it: its parent answers
K = 10
USERS = 1_000
DEFAULT = tuple(f"default:{i}" for i in range(200))
KINDS = ("bank", "live", "caps", "mark")
_SHARES = {"bank": 0.45, "live": 0.25, "caps": 0.3}
_EXCLUSIONS = 20
_SHAPES = 1 << 12  # requests that differ in what they ask for
_AHEAD_S = 3600.0  # a snapshot from further ahead is of a clock that went back
_MARKED = 0.2  # of the answers with caps, so many are marked as shown


@dataclass(frozen=True)
class Request:
    """What one request asks for; `marks`: its first arm is then marked as seen."""

    kind: str
    segment: str
    user: str | None
    exclude: frozenset[str]
    marks: bool = False


def requests(seed: int, arms: int) -> list[Request]:
    """Return requests to be made in turn, again and again."""
    dice = random.Random(seed)  # noqa: S311 - it has to be repeatable
    kinds, shares = list(_SHARES), list(_SHARES.values())
    made = []
    for kind in dice.choices(kinds, shares, k=_SHAPES):
        segment = UNKNOWN if dice.random() < 0.02 else dice.choice(LEAVES)
        user = f"u{dice.randrange(USERS)}" if kind == "caps" or dice.random() < 0.7 else None
        out: set[str] = set()
        if dice.random() < 0.5:
            out = {f"{segment}:{i}" for i in dice.sample(range(arms), _EXCLUSIONS)}
            out |= set(dice.sample(DEFAULT, 5))
        marks = kind == "caps" and dice.random() < _MARKED
        made.append(Request(kind, segment, user, frozenset(out), marks))
    return made


class Known(NamedTuple):
    """What was known before a request.

    Attributes
    ----------
    shown : dict
        The arms that were marked for its user, and when.
    newest : int or None
        The version of the segment's own snapshot that answered last.
    """

    shown: dict[str, float]
    newest: int | None


@dataclass
class Judge:
    """Knows what one recommender may answer.

    Parameters
    ----------
    max_age : float
        Seconds, the recommender's.
    within : timedelta or None
        Of its cap, which is of one exposure; None if it has none.
    """

    max_age: float
    within: timedelta | None = None
    _shown: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    _newest: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, request: Request) -> Known:
        """Return what a recommender must respect that is asked from now on."""
        newest = self._newest.get(request.segment)
        if self.within is None or request.user is None:
            return Known({}, newest)
        with self._lock:
            shown = self._shown[request.user]
            gone = time.time() - 2 * self.within.total_seconds()
            for arm in [arm for arm, moment in shown.items() if moment < gone]:
                del shown[arm]
            return Known(dict(shown), newest)

    def mark(self, user: str, arm: str, moment: float) -> None:
        """Note that an arm was marked."""
        with self._lock:
            self._shown[user][arm] = moment

    def labels(self, request: Request, answer: bc.Recommendation) -> tuple[str, ...]:
        """Return in which ways an answer is less than was asked for."""
        if answer.source in {request.segment, "default"} or request.segment == UNKNOWN:
            return answer.degraded
        return (*answer.degraded, "ancestor")

    def wrong(
        self,
        request: Request,
        answer: bc.Recommendation,
        before: float,
        after: float,
        known: Known,
    ) -> list[str]:
        """Return what is wrong with an answer that was asked for between two moments."""
        found = []
        if len(set(answer.arms)) != K or len(answer.arms) != K:
            found.append(f"{len(set(answer.arms))} distinct arms of {len(answer.arms)}, not {K}")
        if not request.exclude.isdisjoint(answer.arms):
            found.append("an excluded arm")
        if self.within is not None:
            moments = [known.shown[arm] for arm in answer.arms if arm in known.shown]
            if any(after - moment < self.within.total_seconds() for moment in moments):
                found.append("an arm that its user has seen")
        if not set(answer.degraded) <= {"stale", "default", "seen"}:
            found.append(f"unknown labels {answer.degraded}")
        if self.within is None and "seen" in answer.degraded:
            found.append("'seen' without caps")
        if (answer.source == "default") is not ("default" in answer.degraded):
            found.append(f"source {answer.source!r} with {answer.degraded}")
        if answer.version is None or answer.age is None:
            if answer.source != "default":
                found.append("no version")
            return found
        return found + self._wrong_source(request, answer, before, after, known.newest)

    def _wrong_source(
        self,
        request: Request,
        answer: bc.Recommendation,
        before: float,
        after: float,
        own: int | None,
    ) -> list[str]:
        found = []
        assert answer.version is not None
        assert answer.age is not None
        as_of = answer.version / 1e6
        if not before - as_of - 1e-3 <= answer.age <= max(0.0, after - as_of) + 1e-3:
            found.append("a false age")
        if not _is_above(answer.source, request.segment):
            found.append(f"source {answer.source!r} for {request.segment!r}")
        if not all(_is_above(answer.source, arm.partition(":")[0]) for arm in answer.arms):
            found.append("an arm of another segment")
        if "stale" not in answer.degraded:
            if before - as_of > self.max_age:
                found.append("unlabelled and too old")
            if as_of - after > _AHEAD_S:
                found.append("unlabelled and from the future")
            # Who was asked has a say as long as it is known to be fresh.
            if (
                answer.source != request.segment
                and own is not None
                and -_AHEAD_S < after - own / 1e6 <= self.max_age
            ):
                found.append("an ancestor, though its own segment is fresh")
        if answer.source == request.segment:
            self._newest[request.segment] = answer.version
        return found


def _is_above(source: str, segment: str) -> bool:
    return not source or segment == source or segment.startswith(f"{source}/")
