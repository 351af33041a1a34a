"""Refreshes a bandit again and again, beside others that would, for as long as it runs."""

from __future__ import annotations

import datetime as dt
import random
import threading
import time
from collections.abc import Callable, Sequence

from banditcore.arrays import positive_int
from banditcore.errors import (
    ExecutorUnavailableError,
    InvalidTypeError,
    InvalidValueError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
    describe,
)
from banditcore.meanwhile import meanwhile
from banditcore.refresh.counting import RefreshableBandit
from banditcore.refresh.drawing import Executors, check_executor
from banditcore.refresh.job import checked_segments, refresh
from banditcore.refresh.memory import Memory
from banditcore.refresh.report import RefreshReport
from banditcore.slates import DEFAULT_DEPTH, DEFAULT_SLATES
from banditcore.store.leases import DEFAULT_TTL_S, bandit_lease, check_ttl

__all__ = ["DEFAULT_EVERY", "LEASE", "Refresher"]

DEFAULT_EVERY = dt.timedelta(seconds=60)
LEASE = "refresh"
"""The lease of the one who refreshes a bandit."""

_JITTER = 0.1
_LOOK_EVERY_S = 2.0
"""How often one that stands by asks for the lease."""

_RENEWALS = 4
"""In the time that the lease lasts, so that a slow one loses nothing."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 5.0


class Refresher:
    """Keeps what is published of a bandit in step with its counts.

    Any number may run, on any machines: one of them works, by a lease, and the others stand by. A
    segment is drawn again when something was recorded there or below, or when its posterior has
    moved noticeably for another reason: its evidence faded, or a fitted prior follows other
    segments. Any other segment's published blob gets the version of this moment, at the cost of a
    few bytes, so that its age still tells how old the counts are.

    What was drawn is known to this object alone: a new one begins by drawing everything once.

    Parameters
    ----------
    bandit : Bandit
        Which.
    every : timedelta
        Between the beginnings of two refreshes, give or take a tenth.
    segments : sequence of str, optional
        As in `refresh`; default all, also those that come later.
    depth, slates : int, >= 1
        As in `refresh`.
    executor : concurrent.futures.Executor, optional
        As in `refresh`.
    lease_s : float
        After how many seconds others take over from one that has died.
    on_report : callable, optional
        Called with a `RefreshReport` after each refresh that was not stopped, from the thread that
        runs.
    on_notice : callable, optional
        Called with a sentence for people: who refreshes, outages and their end.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        A parameter is not what it should be.
    """

    def __init__(
        self,
        bandit: RefreshableBandit,
        *,
        every: dt.timedelta = DEFAULT_EVERY,
        segments: Sequence[str] | None = None,
        depth: int = DEFAULT_DEPTH,
        slates: int = DEFAULT_SLATES,
        executor: Executors | None = None,
        lease_s: float = DEFAULT_TTL_S,
        on_report: Callable[[RefreshReport], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        if not all(hasattr(bandit, name) for name in ("name", "store", "segments")):
            remedy = "a Bandit is needed: Refresher(Bandit(name, store))"
            raise InvalidTypeError(describe("bandit", bandit, remedy))
        if not isinstance(every, dt.timedelta):
            raise InvalidTypeError(describe("every", every, "a datetime.timedelta"))
        if every <= dt.timedelta(0):
            raise InvalidValueError(describe("every", every, "more than 0 seconds"))
        self._bandit = bandit
        self._every_s = every.total_seconds()
        self._segments = None if segments is None else checked_segments(segments)
        self._depth = positive_int("depth", depth)
        self._slates = positive_int("slates", slates)
        check_executor(executor)
        self._executor = executor
        for name, told in (("on_report", on_report), ("on_notice", on_notice)):
            if told is not None and not callable(told):
                raise InvalidTypeError(describe(name, told, "a function of one argument, or None"))
        self._on_report = on_report
        self._tell = (lambda _text: None) if on_notice is None else on_notice
        check_ttl("lease_s", lease_s)
        self._lease = bandit_lease(bandit.store, bandit.name, LEASE, ttl_s=lease_s)
        self._lock = threading.Lock()  # a lease is for one thread
        self._memory = Memory()
        self._stands_by = False

    def __repr__(self) -> str:
        return f"Refresher({self._bandit!r}, every={self._every_s:g} s)"

    @property
    def leads(self) -> bool:
        """Whether this one works, as far as it knows."""
        return self._lease.left_s > 0

    def run(self, stop: threading.Event) -> None:
        """Refresh until `stop` is set; then begin no further segment, and give the lease up.

        Outages of the store are waited out, however long they last.
        """
        pause_s, outage = _FIRST_PAUSE_S, False
        renewed_s = self._lease.ttl_s / _RENEWALS
        # A refresh, and the time between two, may last longer than the lease.
        with meanwhile(self._renew, renewed_s, "banditcore-refresh-lease"):
            try:
                while not stop.is_set():
                    began = time.monotonic()
                    try:
                        report = self.step(stop.is_set)
                    except (
                        StoreUnavailableError,
                        StoreUnfitError,
                        ExecutorUnavailableError,
                    ) as error:
                        if not outage:
                            self._tell(f"waiting: {error}")
                        outage = True
                        stop.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # not secret
                        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                        continue
                    if outage:
                        self._tell("the outage is over")
                    pause_s, outage = _FIRST_PAUSE_S, False
                    pause = self._pause_s(report, time.monotonic() - began)
                    stop.wait(min(pause, threading.TIMEOUT_MAX))
            finally:
                self.release()

    def step(self, stopped: Callable[[], bool] = lambda: False) -> RefreshReport | None:
        """Refresh once; None when another is at work, and nothing was done.

        Parameters
        ----------
        stopped : callable
            Asked between segments; once it returns True the others are not begun, and fail.

        Raises
        ------
        StoreError
            The next step goes on.
        """
        if not self._may_work():
            return None
        report = refresh(
            self._bandit,
            self._segments,
            depth=self._depth,
            slates=self._slates,
            executor=self._executor,
            memory=self._memory,
            stopped=stopped,
        )
        if self._on_report is not None and not stopped():
            self._on_report(report)
        return report

    def release(self) -> None:
        """Let another take over at once. What is published stays."""
        with self._lock:
            try:
                self._lease.release()
            except StoreError as error:  # it runs out by itself
                self._tell(f"others have to wait for the lease to run out: {error}")

    def _may_work(self) -> bool:
        with self._lock:
            leads = self._lease.renew() or self._lease.acquire()
        if leads == self._stands_by:  # it changed
            self._tell("refreshing" if leads else "standing by: another one refreshes")
        self._stands_by = not leads
        return leads

    def _pause_s(self, report: RefreshReport | None, took_s: float) -> float:
        if report is None:
            # Soon enough for a lease that is given up, and not all at once.
            left_s = min(self._lease.held_elsewhere_s, _LOOK_EVERY_S)
            return max(left_s, _FIRST_PAUSE_S) * random.uniform(0.8, 1.0)  # noqa: S311
        period_s = self._every_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        return max(period_s - took_s, 0.0)

    def _renew(self) -> None:
        with self._lock:
            try:
                self._lease.renew()
            except StoreError:
                # The next step meets the same error, and tells of it; or the lease runs out, and
                # whoever is first becomes the next one.
                return
