"""Repeats what the network kept from happening, when repeating does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from banditcore.errors import StoreUnavailableError

__all__ = ["Patience", "retrying"]

T = TypeVar("T")

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


class Patience:
    """Pauses between attempts, longer each time, until a time is up.

    Parameters
    ----------
    for_s : float
        Seconds from now on; 0 allows no second attempt.
    """

    def __init__(self, for_s: float) -> None:
        self._deadline = time.monotonic() + for_s
        self._pause = _FIRST_PAUSE_S

    def wait(self) -> bool:
        """Pause; False, without a pause, when the time would be up."""
        if time.monotonic() + self._pause > self._deadline:
            return False
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_S)
        return True


def retrying(call: Callable[[], T], for_s: float) -> T:
    """Return what `call` returns, calling it again while the store is unavailable.

    Parameters
    ----------
    call : callable
        Does no harm when it happens twice.
    for_s : float
        Seconds for all attempts.
    """
    patience = Patience(for_s)
    while True:
        try:
            return call()
        except StoreUnavailableError:
            if not patience.wait():
                raise
