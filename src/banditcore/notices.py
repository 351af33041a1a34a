"""Tells people what happens to a job, without repeating itself."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Notices"]

_SAY_AGAIN_S = 60.0


class Notices:
    """Tells what happens; what lasts only once a minute.

    Parameters
    ----------
    tell : callable, optional
        Called with a sentence, in any thread.
    """

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._said: dict[str, float] = {}

    def tell(self, text: str) -> None:
        """Say it now."""
        if self._tell is not None:
            self._tell(text)

    def say(self, about: str, text: str) -> None:
        """Say it unless something about the same was said within the last minute."""
        now = time.monotonic()
        if now >= self._said.get(about, -_SAY_AGAIN_S) + _SAY_AGAIN_S:
            self._said[about] = now
            self.tell(text)

    def forget(self, about: str) -> None:
        """Say the next thing about it at once."""
        self._said.pop(about, None)
