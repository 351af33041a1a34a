"""``banditcore refresh --every``: keeps what is published in step, until it is stopped."""

from __future__ import annotations

import argparse
import queue
import threading
import time

from banditcore.bandit import Bandit
from banditcore.cli.metrics import serve
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit, existing_segment
from banditcore.cli.stopping import stopped_by_signals
from banditcore.errors import StoreUnavailableError
from banditcore.metrics import Metrics
from banditcore.refresh import Refresher, RefreshReport
from banditcore.refresh.drawing import Executors
from banditcore.refresh_metering import RefreshMeter
from banditcore.store import index
from banditcore.store.connect import Store, connect

__all__ = ["accompany", "sentence"]

_LOOK_EVERY_S, _LISTEN_EVERY_S = 2.0, 0.1


def accompany(arguments: argparse.Namespace, output: Output, executor: Executors | None) -> int:
    """Refresh until SIGTERM or SIGINT; a second one ends the process at once."""
    with (
        connect(arguments.url) as store,
        serve(arguments.metrics_port, arguments.metrics_host, output) as metrics,
        stopped_by_signals() as stop,
    ):
        for name in arguments.bandit or ():
            existing_bandit(store, name)
            for path in arguments.segment or ():
                existing_segment(Bandit(name, store), path)
        crew = _Crew(store, arguments, executor, output, stop, metrics=metrics)
        try:
            while not stop.is_set():
                crew.hire()
                crew.pass_on()
                stop.wait(_LISTEN_EVERY_S)
        finally:
            crew.dismiss()
            crew.pass_on()
        crew.check()
    return 0


def sentence(name: str, report: RefreshReport) -> str:
    """Return a line that says what a refresh did."""
    unchanged = f"{len(report.unchanged):,} unchanged, " if report.unchanged else ""
    return (
        f"{plain(name)}: {len(report.published):,} segments published, {unchanged}"
        f"{len(report.superseded):,} superseded by newer ones, "
        f"{len(report.failed):,} failed; {report.seconds:.2f} s"
    )


class _Crew:
    """A refresher for each bandit, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        arguments: argparse.Namespace,
        executor: Executors | None,
        output: Output,
        stop: threading.Event,
        *,
        metrics: Metrics | None,
    ) -> None:
        self._store = store
        self._arguments = arguments
        self._executor = executor
        self._output = output
        self._stop = stop
        self._metrics = metrics
        self._threads: dict[str, threading.Thread] = {}
        self._news: queue.SimpleQueue[tuple[str, RefreshReport | str]] = queue.SimpleQueue()
        self._failures: list[BaseException] = []
        self._next_look = 0.0

    def hire(self) -> None:
        """Start a refresher for each bandit that has none yet."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        for name in self._bandits():
            if name not in self._threads:
                thread = threading.Thread(
                    target=self._work, args=(name,), name=f"banditcore-refresh {name!r}"
                )
                thread.start()
                self._threads[name] = thread

    def dismiss(self) -> None:
        """Wait until every refresher has begun its last segment and given up its lease."""
        self._stop.set()
        for thread in self._threads.values():
            thread.join()

    def check(self) -> None:
        """Raise what ended a refresher, if anything but a signal did."""
        if self._failures:
            raise self._failures[0]

    def pass_on(self) -> None:
        """Show what refreshers said since the last time."""
        while not self._news.empty():
            name, news = self._news.get()
            if isinstance(news, str):
                self._output.warn(f"{plain(name)}: {plain(news)}")
                continue
            self._output.json_line(
                {
                    "bandit": name,
                    "published": len(news.published),
                    "unchanged": len(news.unchanged),
                    "superseded": len(news.superseded),
                    "failed": news.failed,
                    "seconds": news.seconds,
                }
            )
            self._output.line(sentence(name, news))
            self._output.flush()
            for segment, reason in news.failed.items():
                self._output.warn(f"{plain(name)}/{plain(segment)}: {plain(reason)}")

    def _bandits(self) -> list[str]:
        if self._arguments.bandit:
            return list(self._arguments.bandit)
        try:
            return index.bandits(self._store)
        except StoreUnavailableError:
            return []  # refreshers wait for it and say so; new bandits are found later

    def _work(self, name: str) -> None:
        arguments = self._arguments
        meter = None if self._metrics is None else RefreshMeter(self._metrics, name)

        def pass_on(report: RefreshReport) -> None:
            self._news.put((name, report))
            if meter is not None:
                meter(report)

        try:
            Refresher(
                Bandit(name, self._store, prior=arguments.prior),
                every=arguments.every,
                segments=arguments.segment,
                depth=arguments.depth,
                slates=arguments.slates,
                executor=self._executor,
                on_report=pass_on,
                on_notice=lambda text: self._news.put((name, text)),
            ).run(self._stop)
        except BaseException as error:  # noqa: BLE001  # raised again by `check`, in the main thread
            self._failures.append(error)
            self._stop.set()
