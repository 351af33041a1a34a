"""Looks for new versions in a thread of its own: now and then, and when asked."""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from banditcore.errors import BanditCoreError, StoreUnavailableError

__all__ = ["Look", "Poller", "PollingState"]

Look = Callable[[Callable[[], bool]], tuple[str, ...]]
"""Looks once and returns the segments that are new; asks its argument whether to stop halfway."""

_LOG = logging.getLogger("banditcore.serving")
_LEAST_JITTER = 0.75  # of a pause; never longer than asked for, so that nothing is seen late
_FIRST_RETRY = 1 / 16  # of the interval
_RANDOM = Random()  # noqa: S311  # spreads replicas, guards no secret


@dataclass(frozen=True, slots=True)
class PollingState:
    """How a recommender's looks for new snapshots go.

    Attributes
    ----------
    last_success : float or None
        When the store last answered a look, in seconds since 1970; None: it never did.
    failures : int
        How many looks have failed since then.
    error : str or None
        Why the last one did; None when it did not.
    backup_error : str or None
        Why the backup could not be written; None when it could, or there is none.
    unconfirmed : int
        How many snapshots came from the backup, and the store has not confirmed yet.
    """

    last_success: float | None = None
    failures: int = 0
    error: str | None = None
    backup_error: str | None = None
    unconfirmed: int = 0


class _Flight:
    """One look; threads that wait for it hold it."""

    def __init__(self) -> None:
        self.done = False
        self.changed: tuple[str, ...] = ()
        self.error: Exception | None = None


class Poller:
    """At most one look at a time, always in its own thread, so that nobody hangs with it.

    Parameters
    ----------
    name : str
        Of the bandit.
    look : callable
        What to do; see `Look`. What it raises is kept for those who asked, logged when looks
        begin to fail, and otherwise leads to another attempt: after a sixteenth of the interval at
        first, then later and later, up to the interval.
    poll_s : float or None
        Seconds from one look to the next, at most: each pause is shorter by chance, so that
        processes do not look in step. None: only when asked.
    """

    def __init__(self, name: str, look: Look, *, poll_s: float | None) -> None:
        self._name = name
        self._look = look
        self._poll_s = poll_s
        self._begin()

    def _begin(self) -> None:
        # All below is guarded by this.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._running: _Flight | None = None
        self._wanted: _Flight | None = None
        self._due: float | None = None  # by the monotonic clock
        self._stopped = False
        self._state = PollingState()

    def after_fork(self) -> bool:
        """Begin anew in a child, where no thread lives on; tell whether the parent's polls."""
        was_polling = self._due is not None and not self._stopped
        state, stopped = self._state, self._stopped
        self._begin()
        self._state, self._stopped = state, stopped
        return was_polling

    def state(self) -> PollingState:
        """Return how looks go."""
        return self._state

    def start(self) -> None:
        """Look now and then from now on, unless `poll_s` is None."""
        with self._changed:
            if self._poll_s is not None and self._due is None and not self._stopped:
                # The first one comes at any time: replicas are often started together.
                self._due = time.monotonic() + self._poll_s * _RANDOM.random()
                self._changed.notify_all()
                self._run_thread()

    def resume(self) -> None:
        """Do what `start` does, but raise nothing: for a request, which must be answered."""
        try:
            self.start()
        except RuntimeError as error:  # the system gives no thread, or the interpreter ends
            with self._changed:
                self._due = None
                self._state = replace(
                    self._state, failures=self._state.failures + 1, error=_text(error)
                )
            _LOG.warning(
                "bandit %r: snapshots are not refreshed until reload(): %s", self._name, error
            )

    def look(self, timeout_s: float | None) -> tuple[str, ...] | None:
        """Wait for a look that begins after this call; return what is new since the call.

        Calls from several threads share one. A look that is under way may have passed by what the
        caller knows of, so another follows it.

        Parameters
        ----------
        timeout_s : float or None
            Seconds to wait at most; the look goes on all the same.

        Returns
        -------
        tuple of str or None
            None when this is stopped.

        Raises
        ------
        StoreUnavailableError
            It took longer than `timeout_s`.
        Exception
            What the look raised.
        """
        with self._changed:
            if self._is_stopped():
                return None
            before = self._running
            mine = self._wanted = self._wanted or _Flight()
            self._run_thread()
            self._changed.notify_all()
            longest = None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX)
            self._changed.wait_for(lambda: mine.done or self._is_stopped(), longest)
            if self._is_stopped():
                return None
        if not mine.done:
            raise StoreUnavailableError(
                f"snapshots of bandit {self._name!r} were not read within {timeout_s:g} s: reading "
                "goes on in the background; check the store, or allow more time"
            )
        if mine.error is not None:
            raise _again(mine.error)
        passed = () if before is None else before.changed
        return tuple(dict.fromkeys(passed + mine.changed))

    def stop(self, timeout_s: float) -> None:
        """Look no more, and wait for the thread so long.

        One that hangs in a socket is left behind: it ends with the store's timeout, and what it
        reads goes nowhere.
        """
        with self._changed:
            self._stopped = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _is_stopped(self) -> bool:
        return self._stopped

    def _run_thread(self) -> None:
        if self._thread is None:
            name = f"banditcore-poll-{self._name}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._thread = thread

    # The thread.

    def _run(self) -> None:
        while (flight := self._next()) is not None:
            try:
                flight.changed = self._look(self._is_stopped)
            except Exception as error:  # noqa: BLE001 - of those who asked, and the log's
                flight.error = error
            self._land(flight)

    def _next(self) -> _Flight | None:
        """Return the next look when it is due; None when the thread shall end."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if self._wanted is not None or (self._due is not None and self._due <= now):
                    self._running = self._wanted or _Flight()
                    self._wanted = None
                    return self._running
                if self._due is None:
                    break
                self._changed.wait(min(self._due - now, threading.TIMEOUT_MAX))
            self._thread = None
            return None

    def _land(self, flight: _Flight) -> None:
        with self._changed:
            failed_before = self._state.failures
            if flight.error is None:
                self._state = PollingState(last_success=time.time())
            else:
                self._state = replace(
                    self._state, failures=failed_before + 1, error=_text(flight.error)
                )
            if self._poll_s is not None and self._due is not None:
                self._due = time.monotonic() + self._pause_s(self._poll_s)
            flight.done = True
            self._running = None
            stopped = self._stopped
            self._changed.notify_all()
        if not stopped:
            self._tell(flight.error, failed_before)

    def _pause_s(self, poll_s: float) -> float:
        failures = self._state.failures
        if failures:
            poll_s *= min(1.0, _FIRST_RETRY * 2.0 ** min(failures - 1, 32))
        return poll_s * _RANDOM.uniform(_LEAST_JITTER, 1.0)

    def _tell(self, error: Exception | None, failed_before: int) -> None:
        """Log it when looks begin to fail, and when they work again."""
        if error is None and failed_before:
            _LOG.info(
                "bandit %r: the store answers again, after %d failed looks for new snapshots",
                self._name,
                failed_before,
            )
        elif error is not None and not failed_before:
            # Something unexpected is a defect, which nobody finds without the place.
            expected = isinstance(error, BanditCoreError)
            _LOG.warning(
                "bandit %r: snapshots are not refreshed until the store answers: %s",
                self._name,
                _text(error),
                exc_info=None if expected else error,
            )


def after_fork() -> None:
    """Let a child's pauses differ from its parent's."""
    _RANDOM.seed()


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, BanditCoreError) else f"{type(error).__name__}: {error}"


def _again(error: Exception) -> Exception:
    """Return an error to raise in one of several threads that asked."""
    if not isinstance(error, BanditCoreError):
        return error
    again = copy.copy(error)
    again.__cause__ = error
    return again
