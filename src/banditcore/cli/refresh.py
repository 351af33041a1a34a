"""``banditcore refresh``: slates from counts, for every segment."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from banditcore.bandit import Bandit
from banditcore.cli import metrics
from banditcore.cli.arguments import duration, positive, prior
from banditcore.cli.companion import accompany, sentence
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit
from banditcore.cli.wording import refused
from banditcore.refresh import on_dask
from banditcore.refresh.drawing import Executors
from banditcore.store.connect import connect

HELP = "draw and publish slate banks for segments and their ancestors"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--bandit",
        action="append",
        metavar="NAME",
        help="which bandit; with --every it may be repeated (default then: all)",
    )
    parser.add_argument(
        "--every",
        type=duration,
        metavar="60s",
        help="go on until SIGTERM or Ctrl-C: draw what changed, and let the rest have the new "
        "version; of several such processes one works, and the others stand by",
    )
    parser.add_argument(
        "--segment",
        action="append",
        metavar="PATH",
        help='only this one and its ancestors; may be repeated; "" is the global one',
    )
    parser.add_argument(
        "--depth", type=positive, default=50, metavar="N", help="arms in a slate (default: 50)"
    )
    parser.add_argument(
        "--slates", type=positive, default=256, metavar="N", help="slates in a bank (default: 256)"
    )
    parser.add_argument(
        "--prior",
        type=prior,
        default="empirical",
        metavar="A,B|empirical",
        help="of every arm's rate (default: empirical, fitted to the counts)",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="processes to share the work (default: 1, a thread for each core)",
    )
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="work on the dask.distributed cluster with this scheduler, such as "
        "tcp://10.0.0.1:8786 (default: this machine)",
    )
    metrics.configure(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if a segment failed."""
    executor = _executors(arguments)
    if arguments.every is not None:
        if arguments.segment and len(arguments.bandit or ()) != 1:
            remedy = "segments are of one bandit: name it with --bandit"
            raise refused("--segment", arguments.segment, remedy)
        return accompany(arguments, output, executor)
    if arguments.metrics_port is not None or arguments.metrics_host is not None:
        remedy = "nobody could scrape a single refresh: add --every"
        if arguments.metrics_port is not None:
            raise refused("--metrics-port", arguments.metrics_port, remedy)
        raise refused("--metrics-host", arguments.metrics_host, remedy)
    if len(arguments.bandit or ()) != 1:
        remedy = "name one; with --every any number, or none for all"
        raise refused("--bandit", arguments.bandit, remedy)
    with connect(arguments.url) as store:
        name = existing_bandit(store, arguments.bandit[0])
        bandit = Bandit(name, store, prior=arguments.prior)
        with output.progress(f"refresh {plain(name)}") as advance:
            report = bandit.refresh(
                arguments.segment,
                depth=arguments.depth,
                slates=arguments.slates,
                executor=executor,
                progress=advance,
            )
    output.document(
        {
            "bandit": name,
            "published": list(report.published),
            "superseded": list(report.superseded),
            "failed": dict(report.failed),
            "seconds": report.seconds,
        }
    )
    output.line(sentence(name, report))
    for segment, reason in report.failed.items():
        output.warn(f"{plain(segment)}: {reason}")
    return 1 if report.failed else 0


def _executors(arguments: argparse.Namespace) -> Executors | None:
    if arguments.dask is not None:
        if arguments.workers > 1:
            remedy = "the cluster has workers of its own: leave it out"
            raise refused("--workers", arguments.workers, remedy)
        return on_dask(arguments.dask)
    if arguments.workers == 1:
        return None
    # A fork would copy open connections and the locks of other threads.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C is for the process that has them, which lets them finish.
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    return partial(ProcessPoolExecutor, arguments.workers, mp_context=context, initializer=deaf)
