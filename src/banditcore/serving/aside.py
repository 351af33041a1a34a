"""Runs what blocks beside an event loop, to its end even if nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["run_aside"]


async def run_aside(call: Callable[[], None], name: str) -> None:
    """Call a function in a thread of its own, and wait for it without blocking the event loop.

    Parameters
    ----------
    call : callable
        Once it is begun it ends, though the waiting be cancelled; its error is lost then.
    name : str
        Of the thread.
    """
    called: Future[None] = Future()
    called.set_running_or_notify_cancel()  # from now on it cannot be cancelled

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # of whoever waits
            called.set_exception(error)
        else:
            called.set_result(None)

    # No daemon: the interpreter does not end in the midst of it.
    threading.Thread(target=run, name=name, daemon=False).start()
    await asyncio.wrap_future(called)
