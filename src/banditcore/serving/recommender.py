"""The recommender: chooses a slate from local memory for each request."""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import filterfalse, islice
from math import isfinite, isinf
from pathlib import Path
from random import Random
from types import TracebackType

from banditcore.arrays import positive_int
from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    StoreError,
    describe,
)
from banditcore.identifiers import check_arm, check_segment
from banditcore.segments import with_ancestors
from banditcore.serving import polling
from banditcore.serving.backup import Backup
from banditcore.serving.loader import PublishedBandit, SnapshotLoader
from banditcore.serving.polling import Look, Poller, PollingState
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

_LOG = logging.getLogger("banditcore.serving")
_CLOSING_S = 0.8  # for a thread that may hang in a socket
_RENEW_BACKUP_S = 300.0

# An instance of our own: a service that seeds the global one in every worker would otherwise
# serve the same rows from all of them. random() is one C call, so threads share it safely.
_RANDOM = Random()  # noqa: S311  # chooses a slate, guards no secret

_RECOMMENDERS: weakref.WeakSet[Recommender] = weakref.WeakSet()


def _after_fork() -> None:
    _RANDOM.seed()
    polling.after_fork()
    for recommender in list(_RECOMMENDERS):
        recommender._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Recommender:
    """Serves one bandit's published snapshots. Thread-safe; make one for each process.

    `recommend` reads local memory only. A thread of its own, which `warm_up` starts and `close`
    ends, looks for new versions and swaps each segment's snapshot as a whole; requests meanwhile
    go on with the one they have. A process that forks goes on; its child starts a thread with its
    first request, if the parent had one.

    A segment that is no longer published is let go as soon as a fresh ancestor that is published
    can answer in its place. Until then it keeps its last snapshot, which ages: a store that lost
    its data empties no recommender.

    Parameters
    ----------
    bandit : Bandit
        Its `name`, `store` and `segments()` are used. The store stays the caller's to close.
    segments : iterable of str or None
        What to serve; their ancestors are added, for the fallback ladder. None means all the
        bandit has, read again at each look.
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
    poll_s : float or None
        Seconds from one look for new versions to the next, at most, > 0; None: only `warm_up` and
        `reload` look. What is published is served within twice this time.
    backup : str or path or None
        A directory for the last good snapshots, from which `warm_up` starts while the store is
        away. What comes from there is answered as ``"stale"``, however young, until the store has
        confirmed it. Whoever may write there decides what is recommended meanwhile.

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
        poll_s: float | None = 10.0,
        backup: str | os.PathLike[str] | None = None,
    ) -> None:
        self.budget = _check_seconds("budget", budget)
        self.max_age = _check_seconds("max_age", max_age, endless=True)
        self._sticky_s = _check_seconds("sticky_s", sticky_s)
        self._default = _check_default(default)
        self._bandit = _check_bandit(bandit)
        poll_s = None if poll_s is None else _check_seconds("poll_s", poll_s)
        self._backup = None if backup is None else _open_backup(backup, bandit.name, self.max_age)
        self._loader = SnapshotLoader(
            bandit,
            None if segments is None else _check_segments(segments),
            max_age=self.max_age,
            max_blob_bytes=positive_int("max_blob_bytes", max_blob_bytes),
            backup=self._backup,
        )
        self._ready = False
        self._closed = False
        # The thread must not keep alive what nobody holds any more.
        look = _looking(self._loader, weakref.WeakMethod(self._exercise))
        self._poller = Poller(bandit.name, look, poll_s=poll_s)
        weakref.finalize(self, self._poller.stop, 0.0).atexit = False
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
        return self._ready and not self._closed

    @property
    def rejected(self) -> Mapping[str, str]:
        """Segment -> why its published blob was not used, as of the last look.

        Files of the backup that were refused are named too, until the next look.
        """
        return self._loader.rejected

    @property
    def polling(self) -> PollingState:
        """How looks for new snapshots go; errors in the background come to light here."""
        backup = None if self._backup is None else self._backup.error
        return replace(
            self._poller.state(), backup_error=backup, unconfirmed=self._loader.unconfirmed()
        )

    def warm_up(self, *, timeout_s: float = 60.0) -> None:
        """Load every watched snapshot, make a first recommendation, and look for news from then on.

        What the store does not give comes from the backup. With one, the store has half of the
        time; without one, all of it. However this ends, looks go on in the background, and
        `ready` becomes true when one succeeds.

        Parameters
        ----------
        timeout_s : float
            Seconds this may take, > 0.

        Raises
        ------
        NotReadyError
            Nothing usable is published, and there is no `default` to answer with.
        StoreError
            The store does not answer, or not in time, and the backup has nothing either. With a
            `default`, `recommend` works all the same.
        """
        timeout_s = _check_seconds("timeout_s", timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            self.reload(timeout_s=timeout_s if self._backup is None else timeout_s / 2)
        except StoreError as error:
            self._loader.restore(deadline)
            if not self._exercise():
                raise
            _LOG.warning(
                "bandit %r: %d snapshots come from the backup, because: %s",
                self._bandit.name,
                self._loader.unconfirmed(),
                error,
            )
        else:
            self._loader.restore(deadline)  # of nodes that do not answer
            self._exercise()
        finally:
            self._poller.start()
        if not self.ready and not self._default:
            reasons = "".join(f"; {path!r}: {why}" for path, why in self._loader.rejected.items())
            raise NotReadyError(
                describe(
                    "bandit",
                    self._bandit.name,
                    f"no usable snapshot is published{reasons}: run its refresh, or give a default",
                )
            )

    def reload(self, *, timeout_s: float | None = None) -> tuple[str, ...]:
        """Look for new versions now, and return when what was published before is loaded.

        Headers come first, in one round trip, so nothing unchanged or oversized is fetched. A blob
        that fails its checks is reported in `rejected`, and the last good one stays in use. Calls
        from several threads share one look.

        Parameters
        ----------
        timeout_s : float or None
            Seconds to wait, > 0; the look goes on all the same. None waits until it ends: the
            store's own timeout bounds each of its round trips.

        Returns
        -------
        tuple of str
            The segments whose snapshot is new.

        Raises
        ------
        StoreError
            The store does not answer, or not in time. What was loaded before stays in use.
        NotReadyError
            This recommender is closed.
        """
        if timeout_s is not None:
            timeout_s = _check_seconds("timeout_s", timeout_s)
        changed = self._poller.look(timeout_s)
        if changed is None:
            raise NotReadyError(describe("recommender", self, "it is closed: make another"))
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
        if k.__class__ is not int or not 0 < k < _MOST_ARMS:
            k = min(positive_int("k", k), _MOST_ARMS)
        excluded = _NOTHING if exclude is _NO_EXCLUSIONS else _check_excluded(exclude)
        moment = time.time() if now is None else _check_now(now)
        key = None if user is None else _check_user(user)
        degraded = _AS_PROMISED
        rungs = self._loader.rungs
        rung = rungs.get(segment) if segment.__class__ is str else None
        if (
            rung is None
            or not rung.rows
            or moment - rung.as_of > self.max_age
            or not rung.confirmed
        ):
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
        """Let go of all snapshots and end the thread. May be called again; the store stays open.

        It returns within about a second: a thread that hangs in a socket ends by itself, after
        the store's timeout, and changes nothing any more.
        """
        self._closed = True
        self._loader.clear()
        self._poller.stop(_CLOSING_S)

    def _after_fork(self) -> None:
        # A thread that was reloading is not in the child. What it was doing does no harm: each
        # segment's snapshot is swapped whole.
        was_polling = self._poller.after_fork()
        self._loader.after_fork(self._poller.resume if was_polling else None)

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
        if not self._ready:
            for rung in self._loader.rungs.values():
                if rung.rows:
                    self.recommend(rung.segment, 1, user="warm-up", exclude=rung.rows[0][:1])
                    rung.top_up((), 1, _NOTHING, None)
                    self._ready = True
                    break
        return self._ready


def _looking(loader: SnapshotLoader, exercise: weakref.WeakMethod[Callable[[], bool]]) -> Look:
    """Return how to look for news: load it, and warm up what is there for the first time."""

    def look(is_stopped: Callable[[], bool]) -> tuple[str, ...]:
        changed = loader.reload(is_stopped)
        method = exercise()
        if method is not None and not is_stopped():
            method()
        return changed

    return look


def _open_backup(backup: str | os.PathLike[str], bandit: str, max_age: float) -> Backup:
    try:
        directory = Path(backup).absolute()
    except TypeError as error:
        raise InvalidTypeError(describe("backup", backup, "a directory's path, or None")) from error
    # What is older than max_age is of less use: it is renewed some times before.
    return Backup(directory, bandit, renew_after_s=min(max_age / 3, _RENEW_BACKUP_S))


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
