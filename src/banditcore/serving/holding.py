"""Holds a process's rungs: read without a lock, replaced as a whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping

from banditcore.serving.rung import Rung
from banditcore.serving.sleeping import Sleeping

__all__ = ["HeldSnapshots"]


class HeldSnapshots:
    """The last good snapshot of each segment. Any number of threads may read, and replace them.

    Attributes
    ----------
    rungs : mapping of str to Rung
        Segment -> its snapshot. Never changed, only replaced: who reads the attribute once and
        keeps to what it got needs no lock.
    headers : mapping of str to bytes
        Segment -> the first 32 bytes of the blob that its snapshot came from.
    """

    def __init__(self) -> None:
        self.rungs: Mapping[str, Rung] = {}
        self.headers: Mapping[str, bytes] = {}
        self._swapping = threading.Lock()  # guards both against being replaced by two threads
        self._cleared = False
        self._wake: Callable[[], None] | None = None

    def both(self) -> tuple[Mapping[str, Rung], Mapping[str, bytes]]:
        """Return rungs and headers that belong together, whoever replaces them meanwhile."""
        with self._swapping:
            return self.rungs, self.headers

    def unconfirmed(self) -> int:
        """Return how many snapshots the store has not confirmed."""
        return sum(not rung.confirmed for rung in dict(self.rungs).values())

    def put(self, rungs: Mapping[str, Rung], headers: Mapping[str, bytes]) -> None:
        """Take rungs in the place of those there are, with their headers as far as they are new."""
        with self._swapping:
            self._put(rungs, headers)

    def put_missing(
        self, found: Mapping[str, tuple[Rung, bytes]], is_missing: Callable[[str], bool]
    ) -> None:
        """Take those of the rungs, each with its header, of which `is_missing` says so now."""
        with self._swapping:
            missing = {path: found[path] for path in found if is_missing(path)}
            self._put(
                {path: rung for path, (rung, _) in missing.items()},
                {path: header for path, (_, header) in missing.items()},
            )

    def drop(self, segments: Collection[str]) -> None:
        """Let go of some."""
        with self._swapping:
            self.rungs = {path: rung for path, rung in self.rungs.items() if path not in segments}
            self.headers = {path: h for path, h in self.headers.items() if path not in segments}

    def clear(self) -> None:
        """Let go of all, for good: what is put later is not taken."""
        with self._swapping:
            self._cleared = True
            self.rungs, self.headers = {}, {}

    def after_fork(self, wake: Callable[[], None] | None) -> None:
        """Go on in a child; `wake` is called before the first request there is answered."""
        self._swapping = threading.Lock()
        if wake is not None:
            self.rungs = Sleeping(self.rungs, self._wake_up)
            self._wake = wake

    def _put(self, rungs: Mapping[str, Rung], headers: Mapping[str, bytes]) -> None:
        if rungs and not self._cleared:
            self.rungs = {**self.rungs, **rungs}
            self.headers = {**self.headers, **headers}

    def _wake_up(self) -> None:
        with self._swapping:
            wake, self._wake = self._wake, None
            if not self._cleared:
                self.rungs = {**self.rungs}
        if wake is not None:
            wake()
