"""``banditcore refresh``: slates from counts, for every segment."""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

from banditcore.bandit import Bandit
from banditcore.cli.arguments import positive, prior
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit
from banditcore.store.connect import connect

HELP = "draw and publish slate banks for segments and their ancestors"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--bandit", required=True, metavar="NAME", help="which bandit")
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
        help="processes to share the work (default: 1)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if a segment failed."""
    with connect(arguments.url) as store, ExitStack() as stack:
        name = existing_bandit(store, arguments.bandit)
        bandit = Bandit(name, store, prior=arguments.prior)
        executor = None
        if arguments.workers > 1:
            # A fork would copy open connections and the locks of other threads.
            context = multiprocessing.get_context("spawn")
            executor = stack.enter_context(
                ProcessPoolExecutor(arguments.workers, mp_context=context)
            )
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
    output.line(
        f"{plain(name)}: {len(report.published):,} segments published, "
        f"{len(report.superseded):,} superseded by newer ones, "
        f"{len(report.failed):,} failed; {report.seconds:.2f} s"
    )
    for segment, reason in report.failed.items():
        output.warn(f"{plain(segment)}: {reason}")
    return 1 if report.failed else 0
