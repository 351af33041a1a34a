"""``banditcore ingest FILE``: event log files into a bandit's counts."""

from __future__ import annotations

import argparse
import datetime as dt
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from banditcore.bandit import Bandit
from banditcore.cli.output import Output, plain, span
from banditcore.cli.reject_file import RejectFile
from banditcore.cli.selection import check_half_life
from banditcore.cli.wording import counted, refused
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import ColumnMap, EventLog, LogBatch, Position
from banditcore.store.connect import connect

__all__ = ["ingest_logs"]

_FADED = 20
"""Half-lives after which an event weighs less than a millionth."""


def ingest_logs(arguments: argparse.Namespace, output: Output) -> int:
    """Ingest the logs; 1 if no line of one could be used, with ``--strict`` if one could not."""
    columns = ColumnMap.parse(arguments.map)
    if arguments.no_time:
        if any(pair.startswith("time=") for pair in arguments.map):
            raise refused("--no-time", True, "time is mapped as well: give one of them")
        columns = columns.without_time()
    logs = [  # all of them are opened before any is counted
        _DatedLog(path, columns, format=arguments.format, encoding=arguments.encoding)
        for path in arguments.files
    ]
    with connect(arguments.url) as store:
        bandit = Bandit(arguments.bandit, store, half_life=arguments.half_life)
        check_half_life(bandit, arguments.half_life)
        results = [_ingest(bandit, log, arguments, output) for log in logs]
    output.document({"bandit": arguments.bandit, "logs": results})
    return 1 if any(_failed(result, arguments.strict) for result in results) else 0


def _failed(result: Mapping[str, Any], strict: bool) -> bool:
    used = result["applied"] + result["duplicate"]
    return bool(result["refused"]) and (strict or not used)


def _ingest(
    bandit: Bandit, log: _DatedLog, arguments: argparse.Namespace, output: Output
) -> dict[str, Any]:
    half_life = bandit.half_life
    log.count_before(bandit.clock() - _FADED * (half_life or dt.timedelta.max).total_seconds())
    with (
        RejectFile(log.path, arguments.reject) as rejects,
        output.progress(f"ingest {plain(log.path.name)}") as advance,
    ):
        report = ingest_log(
            bandit,
            log,
            source=arguments.source,
            batch_size=arguments.batch_size,
            rescan=arguments.rescan,
            on_reject=rejects.write,
            progress=lambda so_far: advance(so_far.end.offset, log.size, ""),
        )
    _show(log, report, rejects, output)
    if half_life is not None and 2 * log.faded > log.seen:
        seen = counted(log.seen, "event is", "events are")
        output.warn(
            f"{plain(str(log.path))}: {log.faded:,} of {seen} older than {_FADED} half-lives of "
            f"{span(half_life.total_seconds()).text}, which count as good as nothing. "
            "Take a longer --half-life for a new bandit, or none; or is time mapped rightly?"
        )
    return {
        "log": str(log.path),
        "applied": report.applied,
        "duplicate": report.duplicate,
        "refused": report.refused,
        "refused_before": report.refused_before,
        "rejects": None if rejects.path is None else str(rejects.path),
        "segments": report.segments,
        "seconds": report.seconds,
        "end": asdict(report.end),
        "tail": None if log.tail is None else asdict(log.tail),
    }


def _show(log: EventLog, report: IngestReport, rejects: RejectFile, output: Output) -> None:
    name = plain(str(log.path))
    if report.end == report.start:
        refused = ""
        if report.refused_before:
            refused = "; " + counted(
                report.refused_before,
                "line was refused then, and is not read again: ingest it, mended, from a file "
                "of its own",
                "lines were refused then, and are not read again: ingest them, mended, from a "
                "file of their own",
            )
        output.line(
            f"{name}: nothing new; "
            f"{counted(report.end.offset, 'byte was', 'bytes were')} ingested before{refused}"
        )
    else:
        rate = report.applied / report.seconds if report.seconds > 0 else 0.0
        output.line(
            f"{name}: {report.applied:,} applied, {report.duplicate:,} duplicate, "
            f"{report.refused:,} refused; {counted(report.segments, 'segment')}, "
            f"{report.seconds:.2f} s, {rate:,.0f} events/s"
        )
    if rejects.first is not None:
        output.warn(
            f"{name}: {report.refused:,} refused, see {plain(str(rejects.path))}; the first: "
            f"line {rejects.first.line}: {plain(rejects.first.reason)}"
        )
    if log.tail is not None:
        output.warn(f"{name}: {log.tail.reason}")


class _DatedLog(EventLog):
    """A log that counts, while it is read, the events before a moment."""

    faded = 0
    seen = 0
    _moment = -math.inf

    def count_before(self, moment: float) -> None:
        """Count from now on the events before `moment`, in seconds since 1970, into `faded`."""
        self._moment = moment

    def batches(self, start: Position | None = None, size: int = 50_000) -> Iterator[LogBatch]:
        """Yield the batches of the log, and count their events."""
        for batch in super().batches(start, size):
            self.faded += int((batch.events.times < self._moment).sum())
            self.seen += len(batch.events)
            yield batch
