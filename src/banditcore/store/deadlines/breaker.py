"""Tells when a server that failed is worth asking again."""

from __future__ import annotations

from random import Random

__all__ = ["Breaker"]

FAILURES = 3
"""In a row, until a server is asked no more."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0

_RANDOM = Random()  # noqa: S311  # spreads probes, guards no secret


class Breaker:
    """Opens after three failures in a row, or at once when no connection can be made.

    While open nothing is asked, but for one probe at a time, after a pause that doubles from 0.1 s
    to 5 s, each varied by up to a half so that many processes do not probe together. The first
    that succeeds closes it. Not thread-safe.

    Attributes
    ----------
    is_open : bool
    """

    def __init__(self) -> None:
        self.is_open = False
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = 0
        if self.is_open:
            self.is_open = False
        self._pause_s = FIRST_PAUSE_S

    def failed(self, *, surely: bool = False) -> None:
        """Note a failure; with `surely` one is enough."""
        self._failures += 1
        if surely or self._failures >= FAILURES:
            self.is_open = True

    def pause_s(self) -> float:
        """Return the seconds until the next probe."""
        pause = self._pause_s * (0.5 + _RANDOM.random())
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause
