"""A bounded buffer of events, emptied into their streams by a thread of its own."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from banditcore.emitting.appending import Appender, Sent, memory_bytes
from banditcore.errors import ConfigurationConflictError, CorruptDataError, StoreError
from banditcore.event_format import MAX_EVENTS
from banditcore.events import EventColumns

__all__ = ["Flushed", "Outbox"]

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_IDLE_S = 10.0  # after which the thread ends, so that an outbox that nobody holds goes away


@dataclass(frozen=True, slots=True)
class Flushed:
    """How a flush ended.

    Attributes
    ----------
    waiting : int
        Events that are buffered still; 0 when all that it was for are dealt with.
    given_up : int
        Events given up since the last flush.
    error : Exception or None
        Why, as far as it is known.
    """

    waiting: int
    given_up: int
    error: Exception | None


class Outbox:
    """Threads may share it. A process that forks must make another.

    Parameters
    ----------
    open_appender : callable
        Returns the `Appender`; called, in the thread, before the first events are sent.
    flush_every_s : float
        Seconds that the first of the buffered events waits for others.
    max_events, max_bytes : int
        What fits.
    on_given_up : callable
        Called in the thread with the number of events that are not sent any more.

    Attributes
    ----------
    accepted, acknowledged, given_up : int
        Events, ever.
    """

    def __init__(
        self,
        open_appender: Callable[[], Appender],
        *,
        flush_every_s: float,
        max_events: int,
        max_bytes: int,
        on_given_up: Callable[[int], None],
    ) -> None:
        self._open_appender = open_appender
        self._flush_every_s = flush_every_s
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._on_given_up = on_given_up
        self._appender: Appender | None = None  # the thread's
        # All below is guarded by this.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._waiting: deque[EventColumns] = deque()  # not yet with the appender
        self._waiting_events = 0
        self._waiting_bytes = 0.0
        self._waiting_since = 0.0
        self._sending_bytes = 0.0  # of those that are
        self._put = 0  # pieces that ever waited; of these the appender has taken ...
        self._took = 0
        self._hurry = 0  # ... and all up to this one should be sent without delay
        self._taken: list[int] = []
        self._done: list[int] = []
        self._unreported = 0
        self._error: Exception | None = None
        self._broken: Exception | None = None
        self._stopping = False
        self.accepted = self.acknowledged = self.given_up = 0

    @property
    def buffered(self) -> int:
        """Events accepted, and neither acknowledged nor given up."""
        return self.accepted - self.acknowledged - self.given_up

    def counts(self) -> tuple[int, int, int]:
        """Return the events accepted, acknowledged and given up at one moment."""
        with self._changed:
            return self.accepted, self.acknowledged, self.given_up

    def put(self, events: EventColumns, *, wait_s: float, whole: bool) -> int:
        """Accept events as far as there is room; return how many, from the first on.

        Parameters
        ----------
        wait_s : float
            Seconds to wait for room.
        whole : bool
            Accept all or none.

        Raises
        ------
        StoreError
            Nothing can be sent any more. Nothing was accepted.
        """
        deadline = time.monotonic() + wait_s
        each, n, accepted = memory_bytes(events) / len(events), len(events), 0
        with self._changed:
            self._run_thread()
            if whole and self._room(each) < n:
                return 0
            while True:
                room = min(self._room(each), n - accepted)
                if room:
                    rows = slice(accepted, accepted + room)
                    self._push(events if room == n else events.rows(rows), each * room)
                    accepted += room
                left = deadline - time.monotonic()
                if accepted == n or left <= 0 or self._stopping or self._broken:
                    return accepted
                self._hurry = self._put
                self._changed.notify_all()
                self._changed.wait(left)

    def flush(self, timeout_s: float) -> Flushed:
        """Wait until all events accepted before are acknowledged or given up.

        Raises
        ------
        StoreError
            Nothing can be sent any more.
        """
        wanted: list[int] = []

        def is_done() -> bool:
            if self._took < last or self._stopping or self._broken:
                return bool(self._stopping or self._broken)
            wanted.extend(self._taken[len(wanted) :])
            return all(map(int.__ge__, self._done, wanted))

        with self._changed:
            last = self._hurry = self._put
            self._changed.notify_all()
            done = self._changed.wait_for(is_done, timeout_s)
            if self._broken is not None:
                raise _as_store_error(self._broken)
            given_up, self._unreported = self._unreported, 0
            waiting = 0 if done and not self._stopping else self.buffered
            return Flushed(waiting, given_up, self._error)

    def stop(self, timeout_s: float) -> int:
        """Send nothing any more; return how many events are left.

        Waits for the thread so long: what it has sent may still be acknowledged.
        """
        with self._changed:
            self._stopping = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(timeout_s)
        with self._changed:
            return self.buffered

    # What the guard must be held for.

    def _run_thread(self) -> None:
        if self._broken is not None:
            raise _as_store_error(self._broken)
        if self._stopping:
            raise StoreError("the emitter is closed: make another")
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="banditcore-emitter", daemon=True)
            thread.start()
            self._thread = thread

    def _room(self, each: float) -> int:
        """Return how many events of so many bytes fit; one always does when there is no other."""
        room = self._max_events - self.buffered
        left = (self._max_bytes - self._waiting_bytes - self._sending_bytes) / each
        return max(min(room, math.floor(left)), 0 if self.buffered else 1)

    def _push(self, events: EventColumns, size: float) -> None:
        if not self._waiting:
            self._waiting_since = time.monotonic()
            self._changed.notify_all()
        self._waiting.append(events)
        self._put += 1
        self.accepted += len(events)
        self._waiting_events += len(events)
        self._waiting_bytes += size
        if self._waiting_events >= MAX_EVENTS:
            self._changed.notify_all()

    def _due_s(self) -> float:
        """Return the seconds until something is to be sent; infinity when nothing is there."""
        sending = math.inf if self._appender is None else self._appender.due_s()
        if not self._waiting:
            return sending
        if self._waiting_events >= MAX_EVENTS or self._hurry > self._took:
            return 0.0
        return min(sending, self._waiting_since + self._flush_every_s - time.monotonic())

    # The thread.

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while self._wait_until_due():
                sent = self._send()
                if sent.given_up:
                    self._on_given_up(sent.given_up)
                if sent.error is not None:
                    self._pause(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    continue
                pause_s = _FIRST_PAUSE_S
        except Exception as error:  # noqa: BLE001 - raised by the next call
            with self._changed:
                self._broken = error
                self._thread = None
                self._changed.notify_all()

    def _wait_until_due(self) -> bool:
        """Return when something is to be sent; False when the thread shall end."""
        with self._changed:
            idle_until = time.monotonic() + _IDLE_S
            while not self._stopping:
                due = self._due_s()
                if due <= 0:
                    return True
                left = idle_until - time.monotonic()
                if due == math.inf and left <= 0:
                    break
                self._changed.wait(min(due, max(left, 0.0)) if due == math.inf else due)
            self._thread = None
            return False

    def _send(self) -> Sent:
        try:
            if self._appender is None:
                self._appender = self._open_appender()
        except (ConfigurationConflictError, CorruptDataError):
            raise  # no later attempt ends otherwise
        except StoreError as error:
            with self._changed:
                self._error = error
            return Sent(error=error)
        with self._changed:
            pieces = list(self._waiting)
            self._waiting.clear()
            self._sending_bytes += self._waiting_bytes
            self._waiting_events, self._waiting_bytes = 0, 0.0
        for piece in pieces:
            self._appender.take(piece)
        sent = self._appender.send()
        with self._changed:
            self._took += len(pieces)
            self._sending_bytes = self._appender.bytes
            self._taken, self._done = self._appender.taken, self._appender.done
            self.acknowledged += sent.acknowledged
            self.given_up += sent.given_up
            self._unreported += sent.given_up
            if sent.error is not None:
                self._error = sent.error
            elif sent.full:
                self._error = StoreError(
                    f"{sent.full} partitions are full until more is applied: check their workers"
                )
            elif not self._unreported:
                self._error = None
            self._changed.notify_all()
        return sent

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)


def _as_store_error(error: Exception) -> StoreError:
    """Return an error to raise for one that has ended the thread, which may be raised often."""
    if isinstance(error, StoreError):
        again = type(error)(str(error))
    else:
        again = StoreError(f"the thread that sends events has failed ({error!r})")
    again.__cause__ = error
    return again
