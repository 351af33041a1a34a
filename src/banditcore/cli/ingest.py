"""``banditcore ingest``: event log files, or streams of events, into a bandit's counts."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from banditcore.bandit import Bandit
from banditcore.cli import metrics
from banditcore.cli.arguments import duration, numbers, positive
from banditcore.cli.follow import follow
from banditcore.cli.output import Output, plain, span
from banditcore.cli.selection import check_half_life
from banditcore.cli.wording import counted, refused
from banditcore.errors import InvalidValueError, describe
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import ColumnMap, EventLog, LogBatch, Position, Reject
from banditcore.store.connect import connect

HELP = "count the events of csv or JSON lines logs, or of streams, each exactly once"
DESCRIPTION = (
    "Counts the events of csv or JSON lines logs, or with --follow those that services emit to "
    "streams, each exactly once."
)

_FADED = 20
"""Half-lives after which an event weighs less than a millionth."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="logs, in this order")
    parser.add_argument(
        "--bandit",
        metavar="NAME",
        help="which bandit; made if new (with --follow: all that have streams by default)",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="apply what is emitted to streams, beside any number of other workers, until SIGTERM "
        "or Ctrl-C, which let the batch at hand be finished",
    )
    parser.add_argument(
        "--partitions",
        type=numbers,
        metavar="0,1",
        help="with --follow: the partitions that this worker may take (default: all)",
    )
    parser.add_argument(
        "--stream",
        metavar="KEY",
        help="with --follow: the entries that any program adds to this Redis stream, in no order, "
        "each with an id (default: what is emitted)",
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="with --stream: the consumer group of this worker and others (default: banditcore)",
    )
    parser.add_argument(
        "--remove",
        action="store_true",
        help="with --stream: remove entries from it once they are applied",
    )
    parser.add_argument(
        "--retain",
        type=duration,
        metavar="1h",
        help="with --follow: how long applied events stay in their streams, for a server that "
        "loses its last writes (default: 1h)",
    )
    parser.add_argument(
        "--retain-mib",
        type=positive,
        metavar="N",
        help="with --follow: and how many MiB of them at most, a partition (default: 256)",
    )
    parser.add_argument(
        "--report-every",
        type=duration,
        metavar="5s",
        help="with --follow: how often to say how far it is (default: 5s)",
    )
    metrics.configure(parser)
    parser.add_argument(
        "--map",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=COLUMN",
        help="where segment, arm, reward (or successes), trials and time stand: a "
        'column, a template such as "{country}/{device:.8}", or "=" and a constant '
        '("segment==IN")',
    )
    parser.add_argument(
        "--no-time", action="store_true", help="the logs have no times: take the moment of reading"
    )
    parser.add_argument(
        "--format", choices=["csv", "jsonl"], help="of the logs (default: by the suffix)"
    )
    parser.add_argument(
        "--encoding", default="utf-8", metavar="NAME", help="of the logs (default: utf-8)"
    )
    parser.add_argument(
        "--source",
        metavar="NAME",
        help="how the log is recognised in a later run (default: by its header and first record)",
    )
    parser.add_argument(
        "--half-life",
        type=duration,
        metavar="7d",
        help="for a new bandit: when events count half (default: they never fade)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=50_000,
        metavar="N",
        help="lines applied together (default: 50000)",
    )
    parser.add_argument(
        "--reject",
        type=Path,
        metavar="FILE",
        help="append refused lines here (default: FILE.rejects beside each log, or in the "
        "working directory)",
    )
    parser.add_argument(
        "--rescan",
        action="store_true",
        help="read the logs from their beginning once more: restores what a server lost, counts "
        "nothing twice",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any line was refused")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if no line of a log could be used, with ``--strict`` if one could not."""
    if arguments.follow:
        return _follow(arguments, output)
    for option, given in {
        "--partitions": arguments.partitions,
        "--report-every": arguments.report_every,
        "--metrics-port": arguments.metrics_port,
        "--metrics-host": arguments.metrics_host,
        "--stream": arguments.stream,
        "--group": arguments.group,
        "--remove": arguments.remove or None,
        "--retain": arguments.retain,
        "--retain-mib": arguments.retain_mib,
    }.items():
        if given is not None:
            raise refused(option, given, "of streams: add --follow")
    if not arguments.files or arguments.bandit is None:
        missing = "FILE" if arguments.bandit is not None else "--bandit"
        raise refused(missing, None, "name log files and a --bandit, or --follow its streams")
    if arguments.source is not None and len(arguments.files) > 1:
        remedy = "a name is of one log: give one FILE with it"
        raise refused("--source", arguments.source, remedy)
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


def _follow(arguments: argparse.Namespace, output: Output) -> int:
    of_logs = {
        "FILE": [str(path) for path in arguments.files],
        "--map": arguments.map,
        "--no-time": arguments.no_time,
        "--format": arguments.format,
        "--source": arguments.source,
        "--reject": arguments.reject and str(arguments.reject),
        "--rescan": arguments.rescan,
        "--strict": arguments.strict,
    }
    for option, given in of_logs.items():
        if given:
            raise refused(option, given, "of logs: leave it out, or --follow")
    own = {
        "--partitions": arguments.partitions,
        "--retain": arguments.retain,
        "--retain-mib": arguments.retain_mib,
    }
    of_stream = {"--group": arguments.group, "--remove": arguments.remove or None}
    for option, given in (of_stream if arguments.stream is None else own).items():
        if given is not None:
            kind = "of a --stream" if arguments.stream is None else "not of a --stream"
            raise refused(option, given, f"{kind}: leave it out")
    if arguments.stream is not None and arguments.bandit is None:
        raise refused("--stream", arguments.stream, "of which --bandit?")
    if arguments.bandit is None and arguments.half_life is not None:
        raise refused("--half-life", arguments.half_life, "of one bandit: name it with --bandit")
    return follow(arguments, output)


def _failed(result: Mapping[str, Any], strict: bool) -> bool:
    used = result["applied"] + result["duplicate"]
    return bool(result["refused"]) and (strict or not used)


def _ingest(
    bandit: Bandit, log: _DatedLog, arguments: argparse.Namespace, output: Output
) -> dict[str, Any]:
    half_life = bandit.half_life
    log.count_before(bandit.clock() - _FADED * (half_life or dt.timedelta.max).total_seconds())
    with (
        _RejectFile(log.path, arguments.reject) as rejects,
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


def _show(log: EventLog, report: IngestReport, rejects: _RejectFile, output: Output) -> None:
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


class _RejectFile:
    """Appends refused lines as JSON lines; the file is made when the first one comes.

    Its name ends in no log's suffix, so that ``ingest day*.jsonl`` does not take it for one.
    """

    def __init__(self, log: Path, chosen: Path | None) -> None:
        self.path: Path | None = None
        self.first: Reject | None = None
        self._log = log
        self._chosen = chosen
        self._file: TextIO | None = None

    def __enter__(self) -> _RejectFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with self._named():
                self._file.close()

    def write(self, reject: Reject) -> None:
        """Append one line."""
        if self._file is None:
            self.path = self._chosen or self._default()
            if self.path.exists() and self.path.samefile(self._log):
                raise InvalidValueError(
                    describe("--reject", str(self.path), "the log itself, which would never end")
                )
            # A line at a time: each must be kept before the batch it stands in is applied.
            self._file = self.path.open("a", buffering=1, encoding="utf-8")
            self.first = reject
        with self._named():
            self._file.write(json.dumps({"log": str(self._log), **asdict(reject)}) + "\n")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let errors of the file, a full disk say, name it."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.path)
            raise

    def _default(self) -> Path:
        name = self._log.name + ".rejects"
        beside = self._log.with_name(name)
        writable = os.access(beside if beside.exists() else beside.parent, os.W_OK)
        return beside if writable else Path(name)
