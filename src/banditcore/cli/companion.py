"""``banditcore refresh --every``: keeps what is published in step, until it is stopped."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Collection, Sequence
from functools import partial

from banditcore.bandit import Bandit
from banditcore.cli.awaiting import awaited_store
from banditcore.cli.crew import Crew, Tell
from banditcore.cli.metrics import serve
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import shown
from banditcore.cli.wording import counted
from banditcore.errors import StoreUnavailableError
from banditcore.identifiers import check_bandit, check_segment
from banditcore.metrics import Metrics
from banditcore.notices import Notices
from banditcore.refresh import Refresher, RefreshReport
from banditcore.refresh.drawing import Executors
from banditcore.refresh.metering import RefreshMeter
from banditcore.segments import is_within
from banditcore.stopping import stopped_by_signals
from banditcore.store.connect import Store
from banditcore.store.counts import index

__all__ = ["accompany", "sentence"]


def accompany(arguments: argparse.Namespace, output: Output, executor: Executors | None) -> int:
    """Refresh until SIGTERM or SIGINT; a second one ends the process at once."""
    for name in arguments.bandit or ():
        check_bandit(name)
    for path in arguments.segment or ():
        check_segment(path)
    with (
        stopped_by_signals() as stop,
        serve(arguments.metrics_port, arguments.metrics_host, output) as metrics,
        awaited_store(arguments.url, index.bandits, stop, output) as store,
    ):
        if store is not None:
            refreshing = _Refresh(store, arguments, executor, stop, output, metrics=metrics)
            crew = Crew("refresh", refreshing.bandits, refreshing.work, stop)
            crew.run(partial(_show, output), output.warn)
    return 0


def sentence(name: str, report: RefreshReport) -> str:
    """Return a line that says what a refresh did."""
    unchanged = f"{len(report.unchanged):,} unchanged, " if report.unchanged else ""
    return (
        f"{plain(name)}: {counted(len(report.published), 'segment')} published, {unchanged}"
        f"{len(report.superseded):,} superseded by newer ones, "
        f"{len(report.failed):,} failed; {report.seconds:.2f} s"
    )


class _Refresh:
    """What the refreshers of a command have in common."""

    def __init__(
        self,
        store: Store,
        arguments: argparse.Namespace,
        executor: Executors | None,
        stop: threading.Event,
        output: Output,
        *,
        metrics: Metrics | None,
    ) -> None:
        self._notices = Notices(output.warn)
        self._store = store
        self._arguments = arguments
        self._executor = executor
        self._stop = stop
        self._metrics = metrics

    def bandits(self, served: Collection[str]) -> list[str]:
        """Return the bandits that can be refreshed; say what of those named is missing."""
        named = self._arguments.bandit
        if named and set(named) <= set(served):
            return list(named)
        try:
            there = index.bandits(self._store)
            if named:
                self._say_what_is_missing(named, there)
                there = [name for name in named if name in there]
            return [name for name in there if self._has_segments(name)]
        except StoreUnavailableError as error:
            if not served:  # else refreshers say so
                self._notices.say("outage", f"waiting: {plain(str(error))}")
            return []  # new bandits are found later

    def _has_segments(self, name: str) -> bool:
        """Return whether all segments that are named are there."""
        named = self._arguments.segment
        if not named:
            return True
        paths = index.segments(self._store, name)
        missing = [path for path in named if not any(is_within(each, path) for each in paths)]
        if missing:
            self._notices.say(
                name, f"{plain(name)}: waiting for events of {', '.join(map(plain, missing))}"
            )
        return not missing

    def _say_what_is_missing(self, named: Sequence[str], there: Sequence[str]) -> None:
        missing = [name for name in named if name not in there]
        if missing:
            others = shown(there)
            has = f"; the store has {others}" if others else ""
            self._notices.say(
                "bandits", f"waiting for events of {', '.join(map(plain, missing))}{has}"
            )

    def work(self, name: str, tell: Tell[RefreshReport]) -> None:
        """Refresh a bandit until the command is stopped."""
        arguments = self._arguments
        meter = None if self._metrics is None else RefreshMeter(self._metrics, name)

        def pass_on(report: RefreshReport) -> None:
            tell(report)
            if meter is not None:
                meter(report)

        Refresher(
            Bandit(name, self._store, prior=arguments.prior),
            every=arguments.every,
            segments=arguments.segment,
            depth=arguments.depth,
            slates=arguments.slates,
            executor=self._executor,
            on_report=pass_on,
            on_notice=tell,
        ).run(self._stop)


def _show(output: Output, name: str, report: RefreshReport) -> None:
    output.json_line(
        {
            "bandit": name,
            "published": len(report.published),
            "unchanged": len(report.unchanged),
            "superseded": len(report.superseded),
            "failed": report.failed,
            "seconds": report.seconds,
        }
    )
    output.line(sentence(name, report))
    output.flush()
    for segment, reason in report.failed.items():
        output.warn(f"{plain(name)}/{plain(segment)}: {plain(reason)}")
