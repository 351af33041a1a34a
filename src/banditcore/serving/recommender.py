"""The recommender as its users see it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    NotReadyError,
    describe,
)
from banditcore.metrics import Metrics
from banditcore.serving.answering import NO_EXCLUSIONS, Answering
from banditcore.serving.arguments import (
    check_arms_of_default,
    check_max_blob_bytes,
    check_mode,
    check_seconds,
    check_segments,
    check_shown,
    check_user,
    moment_of,
)
from banditcore.serving.aside import run_aside
from banditcore.serving.caps import FrequencyCap, check_caps
from banditcore.serving.choosing import Chooser
from banditcore.serving.holding import HeldSnapshots
from banditcore.serving.keeper import SnapshotKeeper, open_backup
from banditcore.serving.loader import PublishedBandit, SnapshotLoader
from banditcore.serving.metering import ServingMeter
from banditcore.serving.polling import PollingState
from banditcore.serving.recommendation import Recommendation
from banditcore.serving.recommendations import Recommendations
from banditcore.serving.seen import SeenItems, SeenStats
from banditcore.slate_format import DEFAULT_MAX_BYTES

__all__ = ["Recommender"]


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
        Seconds a request may take, > 0. An answer comes from local memory, in microseconds; with
        `caps` it waits before for what its user has seen, no longer than this or 20 ms.
    max_age : float
        Seconds from a snapshot's counts until it no longer counts as fresh, > 0; may be inf. One
        from over an hour ahead is not fresh either: a clock is wrong, and its age unknown.
    default : iterable of str
        Arms to answer with when no snapshot can, best first, distinct.
    sticky_s : float
        Seconds that a user keeps the same slate, > 0.
    max_blob_bytes : int
        A longer blob is rejected unread.
    mode : "bank" or "live"
        A request gets a row of the published bank, or a new draw from the posterior. Samplers for
        that are built while a snapshot is loaded: 1 ms and 0.9 MB for 1,000 arms, 9 ms and 3.5 MB
        for 10,000.
    poll_s : float or None
        Seconds from one look for new versions to the next, at most, > 0; None: only `warm_up` and
        `reload` look. What is published is served within twice this time.
    backup : str or path or None
        A directory for the last good snapshots, from which `warm_up` starts while the store is
        away. What comes from there is answered as ``"stale"``, however young, until the store has
        confirmed it. Whoever may write there decides what is recommended meanwhile.
    caps : iterable of FrequencyCap
        How often a user may be shown an arm; all of them hold. They are counted for the whole
        bandit, over all segments, from what `mark_seen` was told. All recommenders of a bandit
        should have the same: each mark removes what is too old for the longest of its own.
    metrics : Metrics, optional
        Told of every answer, every look for news and the snapshots held: a `PrometheusMetrics`, or
        a subclass of `BaseMetrics`.

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
        mode: str = "bank",
        poll_s: float | None = 10.0,
        backup: str | os.PathLike[str] | None = None,
        caps: Iterable[FrequencyCap] = (),
        metrics: Metrics | None = None,
    ) -> None:
        self.budget = check_seconds("budget", budget)
        self.max_age = check_seconds("max_age", max_age, endless=True)
        self._default = check_arms_of_default(default)
        chooser = Chooser(
            max_age=self.max_age,
            sticky_s=check_seconds("sticky_s", sticky_s),
            default=self._default,
        )
        self._bandit = _check_bandit(bandit)
        poll_s = None if poll_s is None else check_seconds("poll_s", poll_s)
        meter = None if metrics is None else ServingMeter(metrics, bandit.name, self.max_age)
        kept = None if backup is None else open_backup(backup, bandit.name, self.max_age)
        held = HeldSnapshots()
        self._loader = SnapshotLoader(
            bandit,
            held,
            None if segments is None else check_segments(segments),
            max_age=self.max_age,
            max_blob_bytes=check_max_blob_bytes(max_blob_bytes),
            live=check_mode(mode),
            backup=kept,
        )
        checked = check_caps(caps)
        self._seen = (
            SeenItems(
                bandit.store,
                bandit.name,
                checked,
                budget=self.budget,
                told=None if meter is None else meter.seen_looked_up,
            )
            if checked
            else None
        )
        self._answers = Answering(
            bandit.name,
            held=held,
            chooser=chooser,
            seen=self._seen,
            meter=meter,
            has_default=bool(self._default),
        )
        # The shortest way: a call less for each request.
        self._answer = self._answers.one if meter is None else self._answers.one_told
        self._keeper = SnapshotKeeper(
            bandit.name,
            self._loader,
            kept,
            meter=meter,
            poll_s=poll_s,
            warm=weakref.WeakMethod(self._answers.warm),
        )
        weakref.finalize(self, self._keeper.stop, 0.0).atexit = False

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Recommender:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return repr(self._answers)

    @property
    def ready(self) -> bool:
        """Whether a validated snapshot with arms is loaded and warmed.

        Once true, an outage of the store does not change it.
        """
        return self._answers.ready and not self._answers.closed

    @property
    def rejected(self) -> Mapping[str, str]:
        """Segment -> why its published blob was not used, as of the last look.

        Files of the backup that were refused are named too, until the next look.
        """
        return self._loader.rejected

    @property
    def polling(self) -> PollingState:
        """How looks for new snapshots go; errors in the background come to light here."""
        return self._keeper.state()

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
        timeout_s = check_seconds("timeout_s", timeout_s)
        self._answers.check_open()
        self._keeper.begin(timeout_s)
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
            timeout_s = check_seconds("timeout_s", timeout_s)
        changed = self._keeper.look(timeout_s)
        if changed is None:
            raise self._answers.closed_error()
        return changed

    def recommend(
        self,
        segment: str,
        k: int = 10,
        *,
        user: str | None = None,
        exclude: Iterable[str] = NO_EXCLUSIONS,
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
            that holds the same snapshot, in either mode. None draws a slate at random.
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
        return self._answer(segment, k, user, exclude, now)

    async def recommend_async(
        self,
        segment: str,
        k: int = 10,
        *,
        user: str | None = None,
        exclude: Iterable[str] = NO_EXCLUSIONS,
        now: float | None = None,
    ) -> Recommendation:
        """Do what `recommend` does without blocking the event loop; the same arguments."""
        return await self._answers.one_async(segment, k, user, exclude, now)

    def recommend_many(
        self,
        segments: str | Iterable[str],
        users: Iterable[str | None],
        k: int = 10,
        *,
        exclude: Iterable[str] | Iterable[Iterable[str] | None] | None = None,
        now: float | None = None,
    ) -> Recommendations:
        """Return up to k arms for each of many users, from local memory.

        Every known user's answer is the one that `recommend` gives.

        Parameters
        ----------
        segments : str or iterable of str
            The segment of all of them, or one for each.
        users : iterable of (str or None)
            None draws a slate at random.
        k : int, >= 1
            How many arms each.
        exclude : iterable of str, or iterable of (iterable of str, or None), or None
            Arm ids that nobody must be shown; or for each user those that this one must not be.
        now : float or None
            The moment of the request in seconds since 1970; None reads the clock.

        Returns
        -------
        Recommendations
            A sequence of one `Recommendation` a user; its `arms` has all slates at once.

        Raises
        ------
        InvalidTypeError, InvalidValueError, NotReadyError
            As for `recommend`; also if lengths differ.
        """
        return self._answers.many(segments, users, k, exclude, now)

    def mark_seen(self, user: str, arms: Iterable[str], *, now: float | None = None) -> bool:
        """Note that a user was shown arms, for `caps`. Takes 20 ms at most.

        This process leaves them out from now on, whatever the store does; others as soon as they
        are stored. The same arm in the same second counts once: to repeat a call, give it the
        same `now`.

        Parameters
        ----------
        user : str
            Not empty.
        arms : iterable of str
            Arm ids, such as `Recommendation.arms`.
        now : float or None
            When, in seconds since 1970; None reads the clock.

        Returns
        -------
        bool
            Whether they are stored. False: they are kept and sent in the background, once the
            store takes them; up to 100,000 (`seen_stats` tells what waits, and what was dropped).

        Raises
        ------
        InvalidTypeError, InvalidValueError
            An argument breaks a rule above, or there are no `caps`.
        NotReadyError
            This recommender is closed.
        """
        seen = self._marking()
        return seen.mark(check_user(user), check_shown(arms), moment_of(now))

    async def mark_seen_async(
        self, user: str, arms: Iterable[str], *, now: float | None = None
    ) -> bool:
        """Do what `mark_seen` does without blocking the event loop. Cancelled, it is sent later."""
        seen = self._marking()
        return await seen.mark_async(check_user(user), check_shown(arms), moment_of(now))

    @property
    def seen_stats(self) -> SeenStats | None:
        """How look-ups and marks of seen items went; None without `caps`."""
        return None if self._seen is None else self._seen.stats

    def _marking(self) -> SeenItems:
        self._answers.check_open()
        if self._seen is None:
            raise InvalidValueError(
                describe("caps", (), "nothing is marked without: caps=[FrequencyCap()]")
            )
        return self._seen

    def close(self) -> None:
        """Let go of all snapshots and end the thread. May be called again; the store stays open.

        It returns within about a second: a thread that hangs in a socket ends by itself, after
        the store's timeout, and changes nothing any more. With `caps`, marks that wait are tried
        once more, for another second.
        """
        self._answers.close()
        self._keeper.end()
        if self._seen is not None:
            self._seen.close()

    async def aclose(self) -> None:
        """Do what `close` does without blocking the event loop; it ends also when cancelled."""
        await run_aside(self.close, f"banditcore-close-{self._bandit.name}")


def _check_bandit(bandit: PublishedBandit) -> PublishedBandit:
    if not all(hasattr(bandit, name) for name in ("name", "store", "segments")):
        raise InvalidTypeError(
            describe("bandit", bandit, "a Bandit is needed: Recommender(Bandit(name, store))")
        )
    return bandit
