"""The recommender: chooses a slate from local memory for each request."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from itertools import filterfalse, islice
from math import isfinite, isinf
from random import Random
from types import TracebackType

from banditcore.arrays import positive_int
from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    describe,
)
from banditcore.identifiers import check_arm, check_segment
from banditcore.metrics import Metrics
from banditcore.segments import with_ancestors
from banditcore.serving.loader import PublishedBandit, SnapshotLoader
from banditcore.serving.metering import ServingMeter
from banditcore.serving.recommendation import DEFAULT_SOURCE, Recommendation
from banditcore.serving.rung import climb
from banditcore.slate_format import DEFAULT_MAX_BYTES

__all__ = ["Recommender"]

_MOST_ARMS = 2**31
_NOTHING: frozenset[str] = frozenset()
_NO_EXCLUSIONS: tuple[str, ...] = ()
_AS_PROMISED: tuple[str, ...] = ()
_STALE = ("stale",)
_DEFAULTED = ("default",)

# An instance of our own: a service that seeds the global one in every worker would otherwise
# serve the same rows from all of them. random() is one C call, so threads share it safely.
_RANDOM = Random()  # noqa: S311  # chooses a slate, guards no secret

_RECOMMENDERS: weakref.WeakSet[Recommender] = weakref.WeakSet()


def _after_fork() -> None:
    _RANDOM.seed()
    for recommender in _RECOMMENDERS:
        # A thread that was reloading is not in the child, so its lock would never be let go. What
        # it was doing does no harm: each segment's snapshot is swapped whole.
        recommender._reloading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Recommender:
    """Serves one bandit's published snapshots. Thread-safe; make one for each process.

    `recommend` reads local memory only. `warm_up` and `reload` read the store, and swap each
    segment's snapshot as a whole; requests meanwhile go on with the one they have.

    A segment that is no longer published keeps its last snapshot, so that a store that lost its
    data empties no recommender. That snapshot ages: once older than `max_age`, a fresh ancestor
    answers instead, and the next `reload` lets go of it.

    Parameters
    ----------
    bandit : Bandit
        Its `name`, `store` and `segments()` are used. The store stays the caller's to close.
    segments : iterable of str or None
        What to serve; their ancestors are added, for the fallback ladder. None means all the
        bandit has, read again at each `reload`.
    budget : float
        Seconds a request may take, > 0. It has no effect yet: an answer comes from local memory
        alone, in microseconds. It will bound the look-up of items that a user has seen.
    max_age : float
        Seconds from a snapshot's counts until it no longer counts as fresh, > 0; may be inf.
    default : iterable of str
        Arms to answer with when no snapshot can, best first, distinct.
    sticky_s : float
        Seconds that a user keeps the same slate, > 0.
    max_blob_bytes : int
        A longer blob is rejected unread.
    metrics : Metrics, optional
        Told of every answer, every reload and the snapshots held: a `PrometheusMetrics`, or a
        subclass of `BaseMetrics`.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        An argument breaks a rule above.
    """

    def __init__(
        self,
        bandit: PublishedBandit,
        segments: Iterable[str] | None = None,
        *,
        budget: float = 0.100,
        max_age: float = 900.0,
        default: Iterable[str] = (),
        sticky_s: float = 3600.0,
        max_blob_bytes: int = DEFAULT_MAX_BYTES,
        metrics: Metrics | None = None,
    ) -> None:
        self.budget = _check_seconds("budget", budget)
        self.max_age = _check_seconds("max_age", max_age, endless=True)
        self._sticky_s = _check_seconds("sticky_s", sticky_s)
        self._default = _check_default(default)
        self._bandit = _check_bandit(bandit)
        self._meter = None if metrics is None else ServingMeter(metrics, bandit.name, self.max_age)
        self._loader = SnapshotLoader(
            bandit,
            None if segments is None else _check_segments(segments),
            max_age=self.max_age,
            max_blob_bytes=positive_int("max_blob_bytes", max_blob_bytes),
        )
        self._ready = False
        self._closed = False
        self._reloading = threading.Lock()
        _RECOMMENDERS.add(self)

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ready" if self._ready else "not ready"
        return f"Recommender({self._bandit.name!r}, {state}, {len(self._loader.rungs)} segments)"

    @property
    def ready(self) -> bool:
        """Whether a validated snapshot with arms is loaded and warmed.

        Once true, an outage of the store does not change it.
        """
        return self._ready

    @property
    def rejected(self) -> Mapping[str, str]:
        """Segment -> why its published blob was not used, as of the last `reload`."""
        return self._loader.rejected

    def warm_up(self) -> None:
        """Load every watched snapshot and make a first recommendation.

        Raises
        ------
        NotReadyError
            Nothing usable is published, and there is no `default` to answer with.
        StoreUnavailableError
            The store does not answer. With a `default`, `recommend` works all the same.
        """
        self.reload()
        if not self._ready and not self._default:
            reasons = "".join(f"; {path!r}: {why}" for path, why in self._loader.rejected.items())
            raise NotReadyError(
                describe(
                    "bandit",
                    self._bandit.name,
                    f"no usable snapshot is published{reasons}: run its refresh, or give a default",
                )
            )

    def reload(self) -> tuple[str, ...]:
        """Fetch the snapshots that changed since the last time.

        Headers come first, in one round trip, so nothing unchanged or oversized is fetched. A blob
        that fails its checks is reported in `rejected`, and the last good one stays in use.

        Returns
        -------
        tuple of str
            The segments whose snapshot is new.

        Raises
        ------
        StoreUnavailableError
            The store does not answer. What was loaded before stays in use.
        NotReadyError
            This recommender is closed.
        """
        with self._reloading:
            if self._closed:
                raise NotReadyError(describe("recommender", self, "it is closed: make another"))
            reload, meter = self._loader.reload, self._meter
            changed = reload() if meter is None else meter.reload(self._loader, reload)
            if not self._ready:
                self._ready = self._exercise()
            return changed

    def recommend(
        self,
        segment: str,
        k: int = 10,
        *,
        user: str | None = None,
        exclude: Iterable[str] = _NO_EXCLUSIONS,
        now: float | None = None,
    ) -> Recommendation:
        """Return up to k arms for one request, from local memory.

        Parameters
        ----------
        segment : str
            Any valid path; what has no snapshot is answered by its nearest ancestor.
        k : int, >= 1
            How many arms.
        user : str or None
            Not empty. The same user gets the same slate for `sticky_s` seconds, in every process
            that holds the same snapshot. None draws a slate at random.
        exclude : iterable of str
            Arm ids that must not be shown; unknown ones do no harm.
        now : float or None
            The moment of the request in seconds since 1970; None reads the clock.

        Returns
        -------
        Recommendation
            Fewer than k arms only if the segment has no more that are not excluded: a segment's
            arms are its own, and none is borrowed from its parent.

        Raises
        ------
        InvalidTypeError, InvalidValueError
            An argument breaks a rule above.
        NotReadyError
            Nothing was ever loaded and there is no `default`, or this recommender is closed.
        """
        meter = self._meter
        if meter is None:
            return self._answer(segment, k, user, exclude, now)
        started = time.perf_counter()
        try:
            answer = self._answer(segment, k, user, exclude, now)
        except Exception as error:
            meter.raised(error)
            raise
        meter.answered(self._loader.rungs, segment, now, answer, time.perf_counter() - started)
        return answer

    def _answer(
        self,
        segment: str,
        k: int,
        user: str | None,
        exclude: Iterable[str],
        now: float | None,
    ) -> Recommendation:
        if k.__class__ is not int or not 0 < k < _MOST_ARMS:
            k = min(positive_int("k", k), _MOST_ARMS)
        excluded = _NOTHING if exclude is _NO_EXCLUSIONS else _check_excluded(exclude)
        moment = time.time() if now is None else _check_now(now)
        key = None if user is None else _check_user(user)
        degraded = _AS_PROMISED
        rungs = self._loader.rungs
        rung = rungs.get(segment) if segment.__class__ is str else None
        if rung is None or not rung.rows or moment - rung.as_of > self.max_age:
            rung, stale = climb(rungs, check_segment(segment), moment, self.max_age)
            if rung is None:
                return self._from_default(k, excluded)
            if stale:
                degraded = _STALE
        rows = rung.rows
        if key is None:
            seed = None
            row = rows[int(_RANDOM.random() * len(rows))]
        else:
            seed = rung.user_key(key, int(moment // self._sticky_s))
            row = rows[seed % len(rows)]
        arms = tuple(islice(filterfalse(excluded.__contains__, row), k)) if excluded else row[:k]
        if len(arms) < k:
            arms = rung.top_up(arms, k, excluded, seed)
        age = moment - rung.as_of
        return Recommendation(
            arms,
            rung.segment,
            rung.version,
            max(0.0, age),  # the store's clock may run ahead of ours
            degraded,
            (rung, k, excluded),
        )

    def close(self) -> None:
        """Let go of all snapshots. May be called again; the store stays open."""
        with self._reloading:
            self._closed = True
            self._ready = False
            self._loader.clear()
            if self._meter is not None:
                self._meter.holds(self._loader.rungs)

    def _from_default(self, k: int, excluded: frozenset[str]) -> Recommendation:
        if self._closed:
            raise NotReadyError(describe("recommender", self, "it is closed: make another"))
        if not self._ready and not self._default:
            raise NotReadyError(
                describe("recommender", self, "call warm_up() first, or give it a default")
            )
        arms = tuple(islice(filterfalse(excluded.__contains__, self._default), k))
        return Recommendation(arms, DEFAULT_SOURCE, None, None, _DEFAULTED, None)

    def _exercise(self) -> bool:
        """Pay what only a first call costs; tell whether there is a snapshot to answer from."""
        for rung in self._loader.rungs.values():
            if rung.rows:
                self._answer(rung.segment, 1, "warm-up", rung.rows[0][:1], None)
                rung.top_up((), 1, _NOTHING, None)
                return True
        return False


def _check_bandit(bandit: PublishedBandit) -> PublishedBandit:
    if not all(hasattr(bandit, name) for name in ("name", "store", "segments")):
        raise InvalidTypeError(
            describe("bandit", bandit, "a Bandit is needed: Recommender(Bandit(name, store))")
        )
    return bandit


def _check_excluded(exclude: Iterable[str]) -> frozenset[str]:
    if isinstance(exclude, (str, bytes)):
        raise InvalidTypeError(describe("exclude", exclude, "a set of arm ids, not one string"))
    try:
        # A copy, unless it cannot change: propensities are counted later, over the same ids.
        excluded = frozenset(exclude)
        "".join(excluded)  # the quickest way to see that all are strings
    except TypeError as error:
        raise InvalidTypeError(
            describe("exclude", exclude, "an iterable of arm ids, each a str")
        ) from error
    return excluded


def _check_now(now: float) -> float:
    if isinstance(now, bool) or not isinstance(now, (int, float)):
        raise InvalidTypeError(describe("now", now, "seconds since 1970, a number"))
    if not isfinite(now):
        raise InvalidValueError(describe("now", now, "seconds since 1970, finite"))
    return float(now)


def _check_user(user: str) -> str:
    if not isinstance(user, str):
        raise InvalidTypeError(describe("user", user, "a str; None for an unknown user"))
    if not user:
        raise InvalidValueError(
            describe("user", user, "not empty, or all unknown users share a slate: use None")
        )
    return user


def _check_default(default: Iterable[str]) -> tuple[str, ...]:
    arms = tuple(check_arm(arm) for arm in _each("default", default, "arm ids"))
    if len(set(arms)) != len(arms):
        raise InvalidValueError(describe("default", arms, "each arm may stand here once"))
    return arms


def _check_segments(segments: Iterable[str]) -> list[str]:
    return with_ancestors(
        [check_segment(path) for path in _each("segments", segments, "segment paths")]
    )


def _each(name: str, given: Iterable[str], what: str) -> Iterable[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise InvalidTypeError(describe(name, given, f"an iterable of {what}, not one of them"))
    return given


def _check_seconds(name: str, value: float, *, endless: bool = False) -> float:
    remedy = f"seconds, a number above 0{', or inf' if endless else ''}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(describe(name, value, remedy))
    if not value > 0 or (isinf(value) and not endless):
        raise InvalidValueError(describe(name, value, remedy))
    return float(value)
