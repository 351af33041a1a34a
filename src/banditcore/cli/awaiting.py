"""Opens a store for commands that run until they are stopped, when it is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from banditcore.cli.output import Output, plain
from banditcore.errors import StoreUnavailableError
from banditcore.notices import Notices
from banditcore.store.connect import Store, connect

__all__ = ["awaited_store"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


@contextmanager
def awaited_store(
    url: str,
    check: Callable[[Store], object],
    stop: threading.Event,
    output: Output,
    *,
    timeout_s: float = 5.0,
) -> Iterator[Store | None]:
    """Yield the store once it answers, and close it; None when `stop` is set before.

    Parameters
    ----------
    url : str
        As `connect` takes it.
    check : callable
        Asks of the store what the command needs, such as whether a bandit is there; what it
        raises ends the command.
    stop : threading.Event
        Set by whoever ends the command.
    output : Output
        Is told, once a minute, that the store is waited for.
    timeout_s : float
        As `connect` takes it: the longest that a signal is not heard.

    Raises
    ------
    StoreError, InvalidValueError
        Waiting does not help: the url cannot be meant, or the store is not fit.
    """
    notices, pause_s = Notices(lambda text: output.warn(plain(text))), _FIRST_PAUSE_S
    while not stop.is_set():
        try:
            store = connect(url, timeout_s=timeout_s)
        except StoreUnavailableError as error:
            notices.say("outage", f"waiting: {error}")
        else:
            with store:
                if _answers(store, check, notices):
                    if pause_s > _FIRST_PAUSE_S:
                        notices.tell("the outage is over")
                    yield store
                    return
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    yield None


def _answers(store: Store, check: Callable[[Store], object], notices: Notices) -> bool:
    try:
        check(store)
    except StoreUnavailableError as error:
        notices.say("outage", f"waiting: {error}")
        return False
    return True
