"""Keeps marks that the store did not take, and sends them when it does."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum

from banditcore.store.seen_record import MOST_EXPOSURES

__all__ = ["MOST_UNSENT", "Fate", "UnsentMarks"]

MOST_UNSENT = 100_000
"""Exposures that wait; of more, those of the users who waited longest are dropped."""

_AT_ONCE = 64
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_JOIN_S = 10.0
_THREAD = "banditcore-marks"


class Fate(Enum):
    """What became of a user's marks."""

    STORED = 1
    REFUSED = 2  # for good
    UNSENT = 3


class UnsentMarks:
    """A bounded buffer that a thread empties; the thread ends when it is empty. Thread-safe.

    Parameters
    ----------
    send : callable
        Takes some of (key, {exposure: its second}), returns the fate of each. May take seconds;
        must not raise.
    most : int
        Exposures that are kept.

    Attributes
    ----------
    dropped : int
        Exposures that were given up: beyond `most`, refused for good, or unsent at the end.
    """

    def __init__(
        self,
        send: Callable[[Sequence[tuple[str, dict[int, int]]]], Sequence[Fate]],
        *,
        most: int = MOST_UNSENT,
    ) -> None:
        self._send = send
        self._most = most
        self.dropped = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything: after a fork it is the parent's to send."""
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._users: OrderedDict[str, dict[int, int]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, key: str, exposures: Mapping[int, int]) -> None:
        """Keep a user's marks, each with its second since 1970, until they are sent."""
        with self._lock:
            if self._closing.is_set():
                self.dropped += len(exposures)
                return
            self._keep(key, exposures)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name=_THREAD, daemon=True)
                with suppress(RuntimeError):  # the system gives no thread now; the next mark tries
                    thread.start()
                    self._thread = thread

    def refused(self, exposures: int) -> None:
        """Count marks that the store will never take."""
        with self._lock:
            self.dropped += exposures

    def close(self) -> None:
        """Try once more to send what waits, drop the rest, end the thread."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join(_JOIN_S)
        with self._lock:
            self.dropped += self._size
            self._users.clear()
            self._size = 0

    def _keep(self, key: str, exposures: Mapping[int, int]) -> None:
        held = self._users.setdefault(key, {})
        before = len(held)
        held.update(exposures)
        self._size += len(held) - before
        while len(held) > MOST_EXPOSURES:  # the record would drop them
            del held[next(iter(held))]
            self._size -= 1
            self.dropped += 1
        while self._size > self._most:
            key, oldest = next(iter(self._users.items()))
            del oldest[next(iter(oldest))]
            if not oldest:
                del self._users[key]
            self._size -= 1
            self.dropped += 1

    def _work(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            is_last = self._closing.is_set()
            with self._lock:
                batch = [
                    (key, dict(self._users[key]))
                    for key in [key for key, _ in zip(self._users, range(_AT_ONCE), strict=False)]
                ]
                if not batch:
                    self._thread = None
                    return
            fates = self._send(batch)
            with self._lock:
                for (key, exposures), fate in zip(batch, fates, strict=True):
                    if fate is Fate.UNSENT:
                        if key in self._users:
                            self._users.move_to_end(key)  # others must not wait for it
                    else:
                        self._forget(key, exposures, is_dropped=fate is Fate.REFUSED)
            if Fate.UNSENT not in fates:
                pause_s = _FIRST_PAUSE_S
            elif is_last:
                return
            else:
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _forget(self, key: str, exposures: Mapping[int, int], *, is_dropped: bool) -> None:
        held = self._users.get(key, {})
        for each in exposures:
            if each in held:
                del held[each]
                self._size -= 1
                self.dropped += is_dropped
        if not held:
            self._users.pop(key, None)
