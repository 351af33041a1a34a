"""Emits events: they are accepted at once and sent to their streams in the background."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from banditcore.arrays import positive_int
from banditcore.emitting.appending import Appender
from banditcore.emitting.outbox import Outbox
from banditcore.errors import (
    BufferFullError,
    InvalidTypeError,
    InvalidValueError,
    NotAcknowledgedError,
    StoreError,
    describe,
)
from banditcore.events import Event, EventColumns
from banditcore.store import Store
from banditcore.store.event_streams import partitions
from banditcore.store.event_streams.partitions import check_number

__all__ = ["Emitter", "EmitterStats", "EmittingBandit", "WhenFull"]

WhenFull = Literal["block", "drop", "raise"]

_LOG = logging.getLogger("banditcore")
_WARN_EVERY_S = 60.0
_EXIT_S = 5.0
_MOST_RETRY_S = 12 * 3600.0  # the server forgets a producer after a day
_MIN_BYTES = 1 << 20
_MOST = 1 << 53  # counted in float64, here and by the server


class EmittingBandit(Protocol):
    """What an emitter needs of a bandit."""

    name: str
    store: Store
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class EmitterStats:
    """What became of the events of one emitter; accepted = acknowledged + given_up + buffered.

    Attributes
    ----------
    accepted : int
        Taken into the buffer.
    acknowledged : int
        In their streams.
    given_up : int
        Not sent any more after they failed for `retry_for_s`; they may have arrived.
    buffered : int
        Still to be sent, or to be confirmed.
    dropped : int
        Not accepted, because the buffer was full.
    """

    accepted: int
    acknowledged: int
    given_up: int
    buffered: int
    dropped: int


class Emitter:
    """Sends events to their streams in the background. Threads may share it.

    Events that were accepted are sent until the store confirms them, each once however often
    that takes. Those of one segment keep the order in which they were accepted. What could not
    be delivered is always said: by an exception, `stats`, `on_drop`, and the log "banditcore".

    A process that forks goes on; its child begins with an empty buffer, because what was accepted
    before is its parent's. At the end of the interpreter five seconds are given to what is
    buffered; `multiprocessing` ends its children without that, so flush or close it there.

    Parameters
    ----------
    bandit : Bandit
        Whose events.
    partitions : int, optional
        1..1,024, by how many workers the events of a bandit can be applied. Agreed on once: None
        takes what the store has, or 4.
    when_full : "block", "drop" or "raise"
        What `emit` does while the buffer has no room: waits for `block_for_s`, then raises; drops
        what has no room; or raises and accepts nothing.
    block_for_s : float
        Seconds, >= 0.
    flush_every_s : float
        Seconds, > 0, after which events are sent, however few they are.
    retry_for_s : float
        Seconds, up to 12 hours, for which the same events are sent again while the store fails.
    max_events, max_bytes : int
        What the buffer holds, bytes counted about.
    most_unapplied : int
        Events of a partition that may wait in the store to be applied. Then it takes no more until
        its worker has caught up, and the buffer fills.
    on_drop : callable, optional
        Called, in any thread, with the number of events that were dropped or given up, and why.
    """

    def __init__(
        self,
        bandit: EmittingBandit,
        *,
        partitions: int | None = None,
        when_full: WhenFull = "block",
        block_for_s: float = 5.0,
        flush_every_s: float = 0.05,
        retry_for_s: float = 600.0,
        max_events: int = 1_000_000,
        max_bytes: int = 256 << 20,
        most_unapplied: int = 20_000_000,
        on_drop: Callable[[int, str], None] | None = None,
    ) -> None:
        if not all(hasattr(bandit, name) for name in ("name", "store", "clock")):
            remedy = "a Bandit is needed: Emitter(Bandit(name, store))"
            raise InvalidTypeError(describe("bandit", bandit, remedy))
        if not isinstance(when_full, str):
            raise InvalidTypeError(describe("when_full", when_full, "block, drop or raise"))
        if when_full not in get_args(WhenFull):
            raise InvalidValueError(describe("when_full", when_full, "block, drop or raise"))
        if on_drop is not None and not callable(on_drop):
            raise InvalidTypeError(describe("on_drop", on_drop, "a function of count and reason"))
        self._bandit = bandit
        self._wanted_partitions = None if partitions is None else check_number(partitions)
        self._when_full = when_full
        self._block_for_s = _seconds("block_for_s", block_for_s, 0.0, threading.TIMEOUT_MAX)
        self._flush_every_s = _seconds("flush_every_s", flush_every_s, 0.001, 3600.0)
        self._retry_for_s = _seconds("retry_for_s", retry_for_s, 0.0, _MOST_RETRY_S)
        self._max_events = _number("max_events", max_events)
        self._max_bytes = _number("max_bytes", max_bytes, _MIN_BYTES)
        self._most_unapplied = _number("most_unapplied", most_unapplied)
        self._on_drop = on_drop
        self._closed = False
        self._begin()
        _EMITTERS.add(self)

    def __repr__(self) -> str:
        return f"Emitter({self._bandit!r})"

    def __enter__(self) -> Emitter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stats(self) -> EmitterStats:
        """What became of the events until now."""
        accepted, acknowledged, given_up = self._outbox.counts()
        buffered = accepted - acknowledged - given_up
        return EmitterStats(accepted, acknowledged, given_up, buffered, self._dropped)

    def emit(self, events: Mapping[str, Any] | Iterable[Event] | Any) -> int:
        """Accept events, to be sent soon.

        Parameters
        ----------
        events : mapping of columns, DataFrame, or iterable of Event
            As in `Bandit.record_batch`. Events without a time get this moment's.

        Returns
        -------
        int
            How many were accepted, from the first on. The others were dropped.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            An event is not valid. None was accepted.
        BufferFullError
            There was no room, or not in time. Its `accepted` says how many were accepted.
        ConfigurationConflictError
            The store has another number of partitions. Nothing can be sent.
        StoreError
            The emitter or its store is closed. None was accepted.
        """
        columns = EventColumns.of(events, now=self._bandit.clock())
        if not len(columns):
            return 0
        self._bandit.store.check_open()
        wait_s = self._block_for_s if self._when_full == "block" else 0.0
        accepted = self._outbox.put(columns, wait_s=wait_s, whole=self._when_full == "raise")
        missing = len(columns) - accepted
        if missing and self._when_full != "drop":
            raise BufferFullError(
                f"the buffer of events of bandit {self._bandit.name!r} is full: {accepted} of "
                f"{len(columns)} were accepted; emit the others later, in smaller batches, or "
                "allow more (max_events, max_bytes)",
                accepted=accepted,
            )
        if missing:
            with self._reporting:
                self._dropped += missing
            self._report(missing, "the buffer was full")
        return accepted

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when the store has confirmed all events accepted before.

        Parameters
        ----------
        timeout_s : float, optional
            Seconds, >= 0; by default `retry_for_s`.

        Raises
        ------
        NotAcknowledgedError
            The time is up, and events are still being sent; or some were given up since the
            last flush.
        """
        flushed = self._outbox.flush(self._timeout(timeout_s))
        if flushed.waiting or flushed.given_up:
            self._raise_not_acknowledged(flushed.waiting, flushed.given_up, flushed.error)

    def close(self, timeout_s: float | None = None) -> None:
        """Flush, then accept nothing any more. May be called again.

        Raises
        ------
        NotAcknowledgedError
            Some events were not confirmed in time. They are not sent any more.
        """
        if self._closed:
            return
        timeout = self._timeout(timeout_s)
        deadline = time.monotonic() + timeout
        self._closed = True
        given_up, cause = 0, None
        try:
            flushed = self._outbox.flush(timeout)
            given_up, cause = flushed.given_up, flushed.error
        except StoreError as error:  # what has ended the thread
            cause = error
        left = self._outbox.stop(max(0.0, deadline - time.monotonic()))
        if left or given_up:
            self._raise_not_acknowledged(left, given_up, cause)

    def _begin(self) -> None:
        """Begin with nothing, as a new producer."""
        self._reporting = threading.Lock()
        self._dropped = 0
        self._unlogged = 0
        self._logged_at = -math.inf
        self._outbox = Outbox(
            self._open_appender,
            flush_every_s=self._flush_every_s,
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            on_given_up=self._given_up,
        )
        if self._closed:
            self._outbox.stop(0.0)

    def _open_appender(self) -> Appender:
        number = partitions.agree(self._bandit.store, self._bandit.name, self._wanted_partitions)
        return Appender(
            self._bandit.store,
            self._bandit.name,
            number,
            most_unapplied=self._most_unapplied,
            retry_for_s=self._retry_for_s,
        )

    def _given_up(self, events: int) -> None:
        self._report(events, f"the store failed for {self._retry_for_s} s")

    def _report(self, events: int, reason: str) -> None:
        """Say that events are lost: to the callback each time, to the log once a minute."""
        with self._reporting:
            self._unlogged += events
            now, unlogged = time.monotonic(), 0
            if now >= self._logged_at + _WARN_EVERY_S:
                self._logged_at, unlogged, self._unlogged = now, self._unlogged, 0
        if unlogged:
            _LOG.warning("bandit %r: %d events are lost: %s", self._bandit.name, unlogged, reason)
        if self._on_drop is None:
            return
        try:
            self._on_drop(events, reason)
        except Exception:  # noqa: BLE001 - `emit` has accepted some, and must say how many
            _LOG.exception("bandit %r: on_drop failed", self._bandit.name)

    def _timeout(self, timeout_s: float | None) -> float:
        if timeout_s is None:
            return self._retry_for_s
        return _seconds("timeout_s", timeout_s, 0.0, threading.TIMEOUT_MAX)

    def _raise_not_acknowledged(self, waiting: int, given_up: int, cause: Exception | None) -> None:
        why = "" if cause is None else f" ({cause})"
        raise NotAcknowledgedError(
            f"{waiting + given_up} events of bandit {self._bandit.name!r} are not confirmed{why}: "
            f"{given_up} are given up; "
            f"{waiting} are {'not sent any more' if self._closed else 'still being sent'}",
            waiting=waiting,
            given_up=given_up,
        ) from cause

    def _at_exit(self) -> None:
        if self._closed or not self.stats.buffered:
            return
        try:
            self.close(_EXIT_S)
        except NotAcknowledgedError as error:
            _LOG.warning("at exit: %s", error)


_EMITTERS: weakref.WeakSet[Emitter] = weakref.WeakSet()


def _seconds(name: str, value: float, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTypeError(describe(name, value, "seconds, a number"))
    if not least <= value <= most:
        raise InvalidValueError(describe(name, value, f"seconds, {least} to {most:.0f}"))
    return float(value)


def _number(name: str, value: int, least: int = 1) -> int:
    number = positive_int(name, value)
    if not least <= number <= _MOST:
        raise InvalidValueError(describe(name, value, f"{least} to {_MOST}"))
    return number


def _after_fork() -> None:
    for emitter in list(_EMITTERS):
        emitter._begin()


def _at_exit() -> None:
    for emitter in list(_EMITTERS):
        emitter._at_exit()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
