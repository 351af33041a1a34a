"""Connections to one server that answer against a deadline, and are opened in the background.

A request never connects: it takes a line that is open, waits for one no longer than its deadline,
or is told at once that the server is out of reach. A thread opens lines for those who wait, and
probes a server that failed (see `Breaker`); it ends when there is nothing to open.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress

from banditcore.errors import StoreError
from banditcore.store.deadlines.breaker import Breaker
from banditcore.store.deadlines.line import Line

__all__ = ["OPEN_S", "Lines", "NoLineError"]

OPEN_S = 1.0
"""The longest that one step of opening a line may take, in seconds."""

MOST_LINES = 64

_JOIN_S = 3 * OPEN_S


class NoLineError(ConnectionError):
    """The server is out of reach for the moment, and that was known before it was asked."""


class Lines:
    """Open lines to one server. Any number of threads and event loops may take them.

    Parameters
    ----------
    open_line : callable
        Returns a line that has answered. May take `OPEN_S` a step.
    name : str
        Of the thread.

    Attributes
    ----------
    trouble : str or None
        Why the last line could not be opened; None if it could.
    """

    def __init__(self, open_line: Callable[[], Line], name: str) -> None:
        self._open_line = open_line
        self._name = name
        self._begin()

    def _begin(self) -> None:
        # Reentrant: a promise that is kept may hand its line on at once.
        self._lock = threading.RLock()
        self._idle: list[Line] = []
        self._waiting: deque[Future[Line]] = deque()
        # Weakly: who is interrupted between taking a line and giving it back leaks no place.
        self._taken: weakref.WeakSet[Line] = weakref.WeakSet()
        self._breaker = Breaker()
        self._opener: threading.Thread | None = None
        self._closing = threading.Event()
        self.trouble: str | None = None

    def take(self) -> Line | Future[Line]:
        """Return a line, or the promise of one; give each back, or drop it.

        Raises
        ------
        NoLineError
            The server is out of reach, or these lines are closed.
        """
        dead: list[Line] = []
        try:
            with self._lock:
                if self._closing.is_set() or self._breaker.is_open:
                    raise NoLineError
                while self._idle:
                    line = self._idle.pop()
                    if line.is_quiet:
                        self._taken.add(line)
                        return line
                    dead.append(line)
                promise: Future[Line] = Future()
                self._waiting.append(promise)
        finally:
            for line in dead:
                line.close()
        self._open_if_needed()
        return promise

    def wait(self, promise: Future[Line], deadline: float) -> Line:
        """Return what was promised.

        Raises
        ------
        TimeoutError
            It does not come in time.
        NoLineError
            The server is out of reach.
        """
        try:
            return promise.result(max(0.0, deadline - time.monotonic()))
        except FutureTimeoutError:
            self.renounce(promise)
            raise

    def renounce(self, promise: Future[Line]) -> None:
        """Want a promised line no more; it may be there already, or come at this moment."""
        if promise.cancel():
            with self._lock:
                if promise in self._waiting:
                    self._waiting.remove(promise)
        else:
            promise.add_done_callback(self._return)

    def give_back(self, line: Line, *, refused: bool = False) -> None:
        """Return a line that has answered; `refused`: that the server does not serve now."""
        with self._lock:
            if refused:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
            self._hand_out(line)
        self._open_if_needed()

    def drop(self, line: Line | None = None) -> None:
        """Give a line up that has not answered, and those that were idle with it."""
        with self._lock:
            self._breaker.failed()
            # They may be as dead: without this each would cost one more request its answer.
            dead, self._idle = self._idle, []
            if line is not None:
                self._taken.discard(line)
                dead.append(line)
        for each in dead:
            each.close()
        self._open_if_needed()

    def retire(self, line: Line, *, idle: bool = False) -> None:
        """Give up a taken line, for no fault of the server; with `idle` those that are idle too."""
        dead = [line]
        with self._lock:
            self._taken.discard(line)
            if idle:
                dead += self._idle
                self._idle = []
        for each in dead:
            each.close()
        self._open_if_needed()

    def close(self) -> None:
        """Close idle lines, refuse who waits, end the thread. Taken lines close when returned."""
        with self._lock:
            self._closing.set()
            dead, self._idle = self._idle, []
            waiting, opener = list(self._waiting), self._opener
            self._waiting.clear()
        for line in dead:
            line.close()
        _refuse(waiting)
        if opener is not None and opener is not threading.current_thread():
            with suppress(RuntimeError):  # it only begins, and finds nothing to do
                opener.join(_JOIN_S)

    def after_fork(self) -> None:
        """Forget in a child what is the parent's: its lines, and its thread."""
        for line in self._idle:
            line.close()
        self._begin()

    def _return(self, promise: Future[Line]) -> None:
        if promise.exception() is None:
            with self._lock:
                self._hand_out(promise.result())

    def _hand_out(self, line: Line) -> None:
        """Give a taken line to who waits for one. Holds the lock."""
        while self._waiting and not self._closing.is_set():
            promise = self._waiting.popleft()
            if promise.set_running_or_notify_cancel():
                promise.set_result(line)
                return
        self._taken.discard(line)
        if self._closing.is_set() or self._breaker.is_open:
            line.close()
        else:
            self._idle.append(line)

    def _open_if_needed(self) -> None:
        """Start the thread if there is something to open. Not with the lock held.

        `Thread.start` returns when the new thread runs, which on a busy machine takes long: who
        starts it waits, but nobody who needs the lock.
        """
        if self._opener is not None or not self._has_to_open():
            return  # as most requests find it; who changes that afterwards comes here too
        with self._lock:
            if self._opener is not None or not self._has_to_open():
                return
            opener = self._opener = threading.Thread(
                target=self._open, name=self._name, daemon=True
            )
        try:
            opener.start()
        except RuntimeError as error:  # the system gives no thread now
            # Not for the request: it waits for its line in vain, and the next one tries again.
            with self._lock:
                self._opener = None
                self.trouble = _told(error)

    def _has_to_open(self) -> bool:
        room = len(self._taken) + len(self._idle) < MOST_LINES
        return not self._closing.is_set() and (
            self._breaker.is_open or (bool(self._waiting) and room)
        )

    def _open(self) -> None:
        """Open lines until nobody waits for one. Runs in the thread."""
        pause_s = 0.0
        while True:
            with self._lock:
                if not self._has_to_open():
                    self._opener = None
                    return
                if self._breaker.is_open and not pause_s:
                    pause_s = self._breaker.pause_s()
            if self._closing.wait(pause_s):
                continue
            try:
                line = self._open_line()
            # Were the thread to die of anything, nothing would ever be opened again.
            except Exception as error:  # noqa: BLE001
                with self._lock:
                    self.trouble = _told(error)
                    self._breaker.failed(surely=True)
                    waiting = list(self._waiting)
                    self._waiting.clear()
                    pause_s = self._breaker.pause_s()
                _refuse(waiting)
                continue
            pause_s = 0.0
            with self._lock:
                self.trouble = None
                self._breaker.succeeded()
                self._taken.add(line)
                self._hand_out(line)


def _told(error: Exception) -> str:
    """Return an error in words; texts that are not ours may hold what is secret."""
    return str(error) if isinstance(error, StoreError) else type(error).__name__


def _refuse(waiting: list[Future[Line]]) -> None:
    for promise in waiting:
        if promise.set_running_or_notify_cancel():
            promise.set_exception(NoLineError())
