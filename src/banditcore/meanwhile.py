"""Something small that is done from a thread again and again while a block of code runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["meanwhile"]


@contextmanager
def meanwhile(act: Callable[[], None], every_s: float, name: str) -> Iterator[None]:
    """Call `act` from a thread until the block ends, and wait for the last call.

    Parameters
    ----------
    act : callable
        Must not raise: the thread would end, and nobody would know.
    every_s : float
        Seconds before each call.
    name : str
        The thread's.
    """
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every_s):
            act()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
