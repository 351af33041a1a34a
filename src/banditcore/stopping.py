"""Lets what runs until it is stopped hear signals."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stopped_by_signals"]


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield what SIGTERM or SIGINT sets; a second one ends the process at once.

    For the main thread. What they did before they do again after the block.

    Raises
    ------
    ValueError
        This is not the main thread: Python gives signals to no other.
    """
    stop = threading.Event()
    # A handler runs in the main thread, wherever that is. If it is just within `stop.wait`, it has
    # the lock that `stop.set` needs: so another thread does that. Putting takes no lock.
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    numbers: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if numbers or stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        numbers.append(number)
        heard.put(number)

    def pass_on() -> None:
        heard.get()
        stop.set()

    thread = threading.Thread(target=pass_on, name="banditcore-signals", daemon=True)
    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        thread.start()
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        heard.put(0)
        if thread.ident is not None:
            thread.join()
