"""``banditcore recommend``: one answer, as a service would give it."""

from __future__ import annotations

import argparse
import math

from banditcore.bandit import Bandit
from banditcore.cli.arguments import positive
from banditcore.cli.output import Output, age, plain
from banditcore.cli.selection import existing_bandit
from banditcore.errors import NotReadyError
from banditcore.identifiers import check_segment
from banditcore.segments import lineage
from banditcore.serving import Recommender
from banditcore.store.connect import connect

HELP = "recommend arms of a segment from its published slates"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--bandit", required=True, metavar="NAME", help="which bandit")
    parser.add_argument("--segment", default="", metavar="PATH", help="default: the global one")
    parser.add_argument(
        "-k", type=positive, default=10, metavar="N", help="how many arms (default: 10)"
    )
    parser.add_argument(
        "--user",
        metavar="ID",
        help="the same user gets the same slate until the hour turns (default: a random one)",
    )
    parser.add_argument(
        "--exclude", nargs="+", action="extend", default=[], metavar="ARM", help="never these"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    segment = check_segment(arguments.segment)
    with connect(arguments.url) as store:
        bandit = Bandit(existing_bandit(store, arguments.bandit), store)
        # Old slates are shown with their age: whoever asks by hand may judge that.
        with Recommender(bandit, lineage(segment), max_age=math.inf, poll_s=None) as recommender:
            try:
                recommender.warm_up()
            except NotReadyError as error:
                raise NotReadyError(
                    f"{error} (`banditcore refresh --bandit {plain(bandit.name)}`)"
                ) from error
            answer = recommender.recommend(
                segment, arguments.k, user=arguments.user, exclude=arguments.exclude
            )
            propensities = [None if math.isnan(p) else p for p in answer.propensities.tolist()]
            rejected = dict(recommender.rejected)
    output.document(
        {
            "bandit": arguments.bandit,
            "segment": segment,
            "arms": list(answer.arms),
            "propensities": propensities,
            "source": answer.source,
            "version": answer.version,
            "age_s": answer.age,
            "degraded": list(answer.degraded),
        }
    )
    output.table(
        f"{plain(segment)}: answered by {plain(answer.source)}, {age(answer.age).text} old",
        ["rank", "arm", "P(here)"],
        [(i + 1, arm, p) for i, (arm, p) in enumerate(zip(answer.arms, propensities, strict=True))],
    )
    for path, reason in rejected.items():
        output.warn(f"{plain(path)}: its published slates were not used: {reason}")
    return 0
