"""``banditcore ingest``: event log files, or streams of events, into a bandit's counts."""

from __future__ import annotations

import argparse
from pathlib import Path

from banditcore.cli import metrics
from banditcore.cli.arguments import duration, numbers, positive
from banditcore.cli.follow import follow
from banditcore.cli.ingest_logs import ingest_logs
from banditcore.cli.output import Output
from banditcore.cli.wording import refused

HELP = "count the events of csv or JSON lines logs, or of streams, each exactly once"
DESCRIPTION = (
    "Counts the events of csv or JSON lines logs, or with --follow those that services emit to "
    "streams, each exactly once."
)


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
    return ingest_logs(arguments, output)


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
