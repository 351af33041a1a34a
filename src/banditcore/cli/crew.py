"""Jobs of many bandits, each in a thread of its own, until a command is stopped."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from banditcore.cli.output import plain

__all__ = ["Crew", "Tell"]

Report = TypeVar("Report")

Tell = Callable[[Report | str], None]
"""Takes what a job says: its reports, and sentences for people."""

_LOOK_EVERY_S, _LISTEN_EVERY_S = 2.0, 0.1


class Crew(Generic[Report]):
    """A job for each bandit. One that fails stops them all.

    Parameters
    ----------
    kind : str
        What threads are called by, before the bandit's name.
    find : callable
        Returns the bandits that need a job, given those that have one; asked every two seconds.
    work : callable
        Does the job of the bandit named, in its thread, until `stop` is set.
    stop : threading.Event
        Set by whoever ends the command.
    """

    def __init__(
        self,
        kind: str,
        find: Callable[[Collection[str]], list[str]],
        work: Callable[[str, Tell[Report]], None],
        stop: threading.Event,
    ) -> None:
        self._kind = kind
        self._find = find
        self._work = work
        self._stop = stop
        self._threads: dict[str, threading.Thread] = {}
        self._news: queue.SimpleQueue[tuple[str, Report | str]] = queue.SimpleQueue()
        self._failures: list[BaseException] = []
        self._next_look = 0.0

    def run(self, show: Callable[[str, Report], None], warn: Callable[[str], None]) -> None:
        """Hire, and pass on what is said, until `stop` is set; return when every job has ended.

        Parameters
        ----------
        show : callable
            Takes a bandit's name and a report; called in this thread, like `warn`.
        warn : callable
            Takes a sentence, fit for a terminal.

        Raises
        ------
        Exception
            What ended a job, if anything but `stop` did.
        """
        try:
            while not self._stop.is_set():
                self._hire()
                self._pass_on(show, warn)
                self._stop.wait(_LISTEN_EVERY_S)
        finally:
            self._dismiss()
        self._pass_on(show, warn)
        if self._failures:
            raise self._failures[0]

    def _hire(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        for name in self._find(self._threads.keys()):
            if name not in self._threads:
                called = f"banditcore-{self._kind} {name!r}"
                thread = threading.Thread(target=self._do, args=(name,), name=called)
                thread.start()
                self._threads[name] = thread

    def _dismiss(self) -> None:
        self._stop.set()
        for thread in self._threads.values():
            thread.join()

    def _pass_on(self, show: Callable[[str, Report], None], warn: Callable[[str], None]) -> None:
        while not self._news.empty():
            name, news = self._news.get()
            if isinstance(news, str):
                warn(f"{plain(name)}: {plain(news)}")
            else:
                show(name, news)

    def _do(self, name: str) -> None:
        try:
            self._work(name, lambda news: self._news.put((name, news)))
        except BaseException as error:  # noqa: BLE001  # raised again by `run`, in the main thread
            self._failures.append(error)
            self._stop.set()
