"""The rungs of a process that was forked and has answered nothing yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from banditcore.serving.rung import Rung

__all__ = ["Sleeping"]


class Sleeping(dict[str, Rung]):
    """Calls `wake` at the first look at one of them: no other request pays for the question.

    Parameters
    ----------
    rungs : mapping of str to Rung
        What the parent held.
    wake : callable
        Replaces this by what needs no waking; called until it has.
    """

    def __init__(self, rungs: Mapping[str, Rung], wake: Callable[[], None]) -> None:
        super().__init__(rungs)
        self._wake = wake

    def get(self, segment: str, default: Any = None) -> Any:
        """Return a segment's rung."""
        self._wake()
        return super().get(segment, default)

    def __getitem__(self, segment: str) -> Rung:
        self._wake()
        return super().__getitem__(segment)
