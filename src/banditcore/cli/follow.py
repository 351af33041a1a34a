"""``banditcore ingest --follow``: the events of streams into the counts, until it is stopped."""

from __future__ import annotations

import argparse
import datetime as dt
import threading
from collections.abc import Collection
from dataclasses import asdict

from banditcore.bandit import Bandit
from banditcore.cli.awaiting import awaited_store
from banditcore.cli.crew import Crew, Tell
from banditcore.cli.metrics import serve
from banditcore.cli.output import Change, Output, age, plain
from banditcore.cli.selection import check_half_life
from banditcore.errors import InvalidValueError, StoreUnavailableError, describe
from banditcore.ingest import IngestWorker, PartitionReport, WorkerReport
from banditcore.ingest.metering import IngestMeter
from banditcore.ingest.sources.redis_group import DEFAULT_GROUP, RedisGroupSource
from banditcore.ingest.sources.redis_stream import (
    DEFAULT_RETAIN_BYTES,
    DEFAULT_RETAIN_S,
    RedisStreamSource,
)
from banditcore.metrics import Metrics
from banditcore.stopping import stopped_by_signals
from banditcore.store.connect import Store
from banditcore.store.counts import index
from banditcore.store.event_streams import partitions

__all__ = ["follow"]

_RETRY_FOR = dt.timedelta(seconds=1)
"""Short, so that a stop is heard during an outage: the worker itself goes on for ever."""

_REPORT_EVERY = dt.timedelta(seconds=5)
_COLUMNS = (
    "bandit",
    "partition",
    "state",
    "applied",
    "duplicate",
    "refused",
    "events/s",
    "waiting",
    "behind",
)


def follow(arguments: argparse.Namespace, output: Output) -> int:
    """Run workers until SIGTERM or SIGINT; a second one ends the process at once."""

    def check(store: Store) -> None:
        if arguments.bandit is not None:
            bandit = Bandit(arguments.bandit, store, half_life=arguments.half_life)
            check_half_life(bandit, arguments.half_life)
            _check_partitions(bandit, arguments.partitions)
            _source(bandit, arguments).close()  # complains of what it cannot use

    with (
        stopped_by_signals() as stop,
        serve(arguments.metrics_port, arguments.metrics_host, output) as metrics,
        awaited_store(arguments.url, check, stop, output) as store,
    ):
        if store is not None:
            ingest = _Ingest(store, arguments, output, stop, metrics=metrics)
            crew = Crew("ingest", ingest.bandits, ingest.work, stop)
            with output.changing_table("events of streams", _COLUMNS) as change:
                crew.run(_Display(output, change).show, output.warn)
    return 0


def _source(bandit: Bandit, arguments: argparse.Namespace) -> RedisStreamSource | RedisGroupSource:
    if arguments.stream is not None:
        group = arguments.group or DEFAULT_GROUP
        return RedisGroupSource(bandit, arguments.stream, group=group, remove=arguments.remove)
    retain, mib = arguments.retain, arguments.retain_mib
    return RedisStreamSource(
        bandit,
        retain_s=DEFAULT_RETAIN_S if retain is None else retain.total_seconds(),
        retain_bytes=DEFAULT_RETAIN_BYTES if mib is None else mib << 20,
    )


def _check_partitions(bandit: Bandit, wanted: list[int] | None) -> None:
    there = partitions.load(bandit.store, bandit.name)
    if wanted is None or there is None:
        return
    missing = [number for number in wanted if number >= there]
    if missing:
        remedy = f"the events of bandit {bandit.name!r} are in partitions 0 to {there - 1}"
        raise InvalidValueError(describe("--partitions", missing, remedy))


class _Ingest:
    """What the workers of a command have in common."""

    def __init__(
        self,
        store: Store,
        arguments: argparse.Namespace,
        output: Output,
        stop: threading.Event,
        *,
        metrics: Metrics | None,
    ) -> None:
        self._store = store
        self._arguments = arguments
        self._output = output
        self._stop = stop
        self._metrics = metrics
        self._said_nobody = False

    def bandits(self, served: Collection[str]) -> list[str]:
        """Return the bandits that need a worker; those that have one still do."""
        if self._arguments.bandit is not None:
            return [self._arguments.bandit]
        try:
            names = [
                name
                for name in index.bandits(self._store)
                if name in served or partitions.load(self._store, name) is not None
            ]
        except StoreUnavailableError:
            names = []  # the workers wait for it and say so; new bandits are found later
        if not names and not self._said_nobody:
            self._said_nobody = True
            self._output.warn("no bandit has events to apply yet: waiting for the first producer")
        return names

    def work(self, name: str, tell: Tell[WorkerReport]) -> None:
        """Apply the events of a bandit until the command is stopped."""
        arguments = self._arguments
        meter = None if self._metrics is None else IngestMeter(self._metrics, name)

        def pass_on(report: WorkerReport) -> None:
            tell(report)
            if meter is not None:
                meter(report)

        every = arguments.report_every or _REPORT_EVERY
        bandit = Bandit(name, self._store, half_life=arguments.half_life, retry_for=_RETRY_FOR)
        source = _source(bandit, arguments)
        try:
            IngestWorker(
                bandit,
                source,
                partitions=arguments.partitions,
                batch_size=arguments.batch_size,
                report_every_s=every.total_seconds(),
                on_report=pass_on,
                on_notice=tell,
            ).run(self._stop)
        finally:
            source.close()


class _Display:
    """Shows reports: a table on a terminal, lines in a pipe, JSON lines for programs."""

    def __init__(self, output: Output, change: Change | None) -> None:
        self._output = output
        self._change = change
        self._last: dict[str, WorkerReport] = {}

    def show(self, name: str, report: WorkerReport) -> None:
        """Show a report of a bandit's worker."""
        self._last[name] = report
        self._output.json_line({"bandit": name, **asdict(report)})
        if self._change is not None:
            named = sorted(self._last.items())
            self._change([row for each, last in named for row in _table_rows(each, last)])
            return
        for part in report.partitions:
            self._output.line(_sentence(name, part))
        self._output.flush()


def _table_rows(name: str, report: WorkerReport) -> list[list[object]]:
    rows: list[list[object]] = []
    for part in report.partitions:
        state = report.outage or part.error or "applying"
        waiting = "-" if part.waiting is None else part.waiting
        rows.append(
            [
                name,
                part.partition,
                state,
                part.applied,
                part.duplicate,
                part.refused,
                round(part.rate),
                waiting,
                age(part.lag_s),
            ]
        )
    rows += (
        [name, partition, "elsewhere", *[None] * (len(_COLUMNS) - 3)]
        for partition in report.elsewhere
    )
    return rows or [[name, None, report.outage or "no events yet", *[None] * (len(_COLUMNS) - 3)]]


def _sentence(name: str, part: PartitionReport) -> str:
    where = f"{plain(name)}/{part.partition}"
    if part.error:
        return f"{where}: stands still: {plain(part.error)}"
    waiting = "" if part.waiting is None else f", {part.waiting:,} waiting"
    behind = "" if part.lag_s is None else f", {age(part.lag_s).text} behind"
    return (
        f"{where}: {part.applied:,} applied, {part.duplicate:,} duplicate, {part.refused:,} "
        f"refused; {part.rate:,.0f} events/s{waiting}{behind}"
    )
