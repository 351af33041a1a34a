"""Answers requests: checks them, asks what users have seen, chooses, and tells metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

from banditcore.errors import NotReadyError, describe
from banditcore.serving.arguments import (
    NOTHING,
    check_excluded,
    check_excluded_of_many,
    check_k,
    check_segments_of_many,
    check_user,
    check_users,
    moment_of,
)
from banditcore.serving.choosing import Chooser
from banditcore.serving.holding import HeldSnapshots
from banditcore.serving.metering import ServingMeter
from banditcore.serving.recommendation import Recommendation
from banditcore.serving.recommendations import Recommendations
from banditcore.serving.seen import SeenItems
from banditcore.serving.warming import exercise

__all__ = ["NO_EXCLUSIONS", "Answering"]

NO_EXCLUSIONS: tuple[str, ...] = ()
"""Known by its identity, so that nothing of it is checked."""

_COMMON_K = 1 << 16


class Answering:
    """What `Recommender` documents of its requests; arguments and errors are those.

    Parameters
    ----------
    bandit : str
        For errors.
    held : HeldSnapshots
        What answers.
    chooser : Chooser
        How.
    seen : SeenItems or None
        What users have seen.
    meter : ServingMeter or None
        Told of answers.
    has_default : bool
        Whether the chooser has arms for when no snapshot answers.

    Attributes
    ----------
    ready : bool
        Whether a snapshot with arms is loaded and warmed.
    closed : bool
        Whether nothing is answered any more.
    """

    def __init__(
        self,
        bandit: str,
        *,
        held: HeldSnapshots,
        chooser: Chooser,
        seen: SeenItems | None,
        meter: ServingMeter | None,
        has_default: bool,
    ) -> None:
        self.ready = False
        self.closed = False
        self._bandit = bandit
        self._held = held
        self._chooser = chooser
        self._seen = seen
        self._meter = meter
        self._has_default = has_default

    def __repr__(self) -> str:
        state = "closed" if self.closed else "ready" if self.ready else "not ready"
        return f"Recommender({self._bandit!r}, {state}, {len(self._held.rungs)} segments)"

    def close(self) -> None:
        """Answer nothing any more."""
        self.closed = True
        self.ready = False

    def check_open(self) -> None:
        """Raise NotReadyError when closed."""
        if self.closed:
            raise self.closed_error()

    def closed_error(self) -> NotReadyError:
        """Return what is raised when closed."""
        return NotReadyError(describe("recommender", self, "it is closed: make another"))

    def one(
        self,
        segment: str,
        k: int,
        user: str | None,
        exclude: Iterable[str],
        now: float | None,
    ) -> Recommendation:
        """Answer one request; metrics are not told."""
        if k.__class__ is not int or not 0 < k < _COMMON_K:
            k = check_k(k)
        excluded = NOTHING if exclude is NO_EXCLUSIONS else check_excluded(exclude)
        moment = moment_of(now)
        if user is not None and (user.__class__ is not str or not user):
            user = check_user(user)
        if not self.ready:
            self._check_answerable()
        seen = None if user is None or self._seen is None else self._seen.look_up(user, moment)
        return self._chooser.choose(self._held.rungs, segment, k, user, excluded, moment, seen)

    def one_told(
        self,
        segment: str,
        k: int,
        user: str | None,
        exclude: Iterable[str],
        now: float | None,
    ) -> Recommendation:
        """Answer one request, and tell metrics."""
        meter = self._meter
        if meter is None:
            return self.one(segment, k, user, exclude, now)
        started = time.perf_counter()
        try:
            answer = self.one(segment, k, user, exclude, now)
        except Exception as error:
            meter.raised(error)
            raise
        meter.answered(self._held.rungs, segment, now, answer, time.perf_counter() - started)
        return answer

    async def one_async(
        self,
        segment: str,
        k: int,
        user: str | None,
        exclude: Iterable[str],
        now: float | None,
    ) -> Recommendation:
        """Answer one request without blocking the event loop, and tell metrics."""
        if user is None or self._seen is None:  # no network
            return self.one_told(segment, k, user, exclude, now)
        started = time.perf_counter()
        with _told_of_errors(self._meter):
            k, excluded, user = check_k(k), check_excluded(exclude), check_user(user)
            moment, rungs = moment_of(now), self._held.rungs
            if not self.ready:
                self._check_answerable()
            seen = await self._seen.look_up_async(user, moment)
            answer = self._chooser.choose(rungs, segment, k, user, excluded, moment, seen)
        if self._meter is not None:
            self._meter.answered(rungs, segment, now, answer, time.perf_counter() - started)
        return answer

    def many(
        self,
        segments: str | Iterable[str],
        users: Iterable[str | None],
        k: int,
        exclude: Iterable[str] | Iterable[Iterable[str] | None] | None,
        now: float | None,
    ) -> Recommendations:
        """Answer a request for many users, and tell metrics."""
        started = time.perf_counter()
        with _told_of_errors(self._meter):
            people = check_users(users)
            groups = check_segments_of_many(segments, len(people))
            answers = self._many(groups, people, k, exclude, now)
        if self._meter is not None:
            seconds = time.perf_counter() - started
            asked = {place: path for path, places in groups.items() for place in places}
            paths = [asked[place] for place in range(len(people))]
            self._meter.answered_many(self._held.rungs, paths, now, answers.origins, seconds)
        return answers

    def warm(self, *, store_answers: bool) -> bool:
        """Pay what only a first call costs; tell whether there is a snapshot to answer from.

        A store that does not answer is not asked: that could take its whole timeout.
        """
        if self._seen is not None:
            self._seen.prepare(self._held.rungs)
        if not self.ready and not self.closed:
            if self._seen is not None and store_answers:
                self._seen.warm_up()
            for rung in self._held.rungs.values():
                if rung.servable:
                    exercise(rung)
                    # Not as a service asks: metrics are told of its requests.
                    self.one(rung.segment, 1, "warm-up", ["warm-up"], None)
                    self._many({rung.segment: [0, 1]}, ["warm-up", None], 1, None, None)
                    self.ready = not self.closed
                    break
        return self.ready

    def _many(
        self,
        groups: Mapping[str, list[int]],
        users: list[str | None],
        k: int,
        exclude: Iterable[str] | Iterable[Iterable[str] | None] | None,
        now: float | None,
    ) -> Recommendations:
        k, excluded = check_k(k), check_excluded_of_many(exclude, len(users))
        moment, rungs = moment_of(now), self._held.rungs
        if not self.ready:
            self._check_answerable()
        seen = None if self._seen is None else self._seen.look_up_many(users, moment)
        return self._chooser.choose_many(rungs, groups, k, users, excluded, moment, seen)

    def _check_answerable(self) -> None:
        self.check_open()
        if not self._has_default and not any(rung.servable for rung in self._held.rungs.values()):
            remedy = (
                "it has no snapshot to answer from: warm_up() loads them, `polling` and `rejected` "
                "tell why there are none; a default would answer meanwhile"
            )
            raise NotReadyError(describe("recommender", self, remedy))


def _told_of_errors(meter: ServingMeter | None) -> AbstractContextManager[None]:
    return nullcontext() if meter is None else meter.told_of_errors()
