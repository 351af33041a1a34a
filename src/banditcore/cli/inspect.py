"""``banditcore inspect``: what a store holds, from bandits down to arms."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from banditcore.bandit import Bandit
from banditcore.cli.arguments import add_bandit, bandit_of, duration, positive, prior
from banditcore.cli.live import live
from banditcore.cli.output import Output, Shown, age, plain, span
from banditcore.cli.selection import existing_bandit, existing_segment
from banditcore.cli.wording import counted, refused
from banditcore.errors import (
    ConfigurationConflictError,
    CorruptDataError,
    StoreUnavailableError,
)
from banditcore.segments import lineage, with_ancestors
from banditcore.slate_format import decode_header
from banditcore.store import publish
from banditcore.store.connect import connect
from banditcore.store.counts import index
from banditcore.store.publish import Published

if TYPE_CHECKING:
    from banditcore.store.connect import Store

HELP = "show bandits; a bandit's segments; a segment's arms"

_COUNTS = ("trials", "successes", "all_trials", "all_successes")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_bandit(parser, help="show its segments")
    parser.add_argument(
        "segment", nargs="?", metavar="SEGMENT", help='show its arms; "" is the global one'
    )
    parser.add_argument(
        "--prior",
        type=prior,
        default="empirical",
        metavar="A,B|empirical",
        help="of every arm's rate (default: empirical, fitted to the counts)",
    )
    parser.add_argument(
        "--limit", type=positive, default=20, metavar="N", help="most rows of a table (default: 20)"
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="show slates, streams, workers and leases, again and again until Ctrl-C or SIGTERM",
    )
    parser.add_argument(
        "--interval",
        type=duration,
        metavar="2s",
        help="with --live: how often to look (default: 2s)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    arguments.bandit = bandit_of(arguments, "; a SEGMENT comes after its BANDIT")
    if arguments.live:
        if arguments.segment is not None:
            remedy = "--live shows all of a bandit: leave it out"
            raise refused("SEGMENT", arguments.segment, remedy)
        return live(arguments, output)
    if arguments.interval is not None:
        raise refused("--interval", arguments.interval, "add --live")
    with connect(arguments.url) as store:
        if arguments.bandit is None:
            _bandits(store, output)
            return 0
        name = existing_bandit(store, arguments.bandit)
        bandit = Bandit(name, store, prior=arguments.prior)
        if arguments.segment is None:
            _segments(bandit, arguments.limit, output)
        else:
            _arms(bandit, existing_segment(bandit, arguments.segment), arguments.limit, output)
    return 0


def _bandits(store: Store, output: Output) -> None:
    rows: list[dict[str, Any]] = []
    for name in index.bandits(store):
        bandit = Bandit(name, store)
        try:
            half_life = bandit.half_life
        except ConfigurationConflictError as error:  # being imported; the others are not
            output.warn(plain(str(error)))
            half_life = None
        rows.append(
            {
                "bandit": name,
                "segments": len(bandit.segments()),
                "half_life_s": None if half_life is None else half_life.total_seconds(),
            }
        )
    output.document({"bandits": rows})
    output.table(
        "bandits",
        ["bandit", "segments with events", "half-life"],
        [(row["bandit"], row["segments"], span(row["half_life_s"])) for row in rows],
        empty="no bandits yet",
    )


def _segments(bandit: Bandit, limit: int, output: Output) -> None:
    paths = with_ancestors(bandit.segments())
    now = bandit.store.server_time()
    headers = publish.headers(bandit.store, bandit.name, paths)
    rows = {
        path: {"segment": path, "arms": 0, **dict.fromkeys(_COUNTS, 0.0), **_published(header, now)}
        for path, header in zip(paths, headers, strict=True)
    }
    for path, row in rows.items():
        counts = bandit.counts(path, as_of=now)
        row["arms"] = len(counts)
        row["trials"], row["successes"] = float(counts.trials.sum()), float(counts.successes.sum())
        for step in lineage(path):
            rows[step]["all_trials"] += row["trials"]
            rows[step]["all_successes"] += row["successes"]
    output.document({"bandit": bandit.name, "segments": list(rows.values())})
    output.table(
        f"{plain(bandit.name)}: counts of each segment; all: and below it; age: of its slates",
        ["segment", "arms", "trials", "successes", "all trials", "all successes", "age"],
        [
            (
                row["segment"],
                row["arms"],
                *(row[name] for name in _COUNTS),
                _slates(row),
            )
            for row in list(rows.values())[:limit]
        ],
    )
    for row in rows.values():
        if row["unusable"] is not None:
            output.warn(f"{plain(row['segment'])}: unusable slates: {row['unusable']}")
    _say_what_is_left(output, len(rows), limit)


def _published(header: Published, now: float) -> dict[str, Any]:
    """Describe the published slates that begin with `header`."""
    if isinstance(header, StoreUnavailableError):
        raise header
    nothing = {"version": None, "age_s": None, "bytes": None, "unusable": None}
    if not header:
        return nothing
    if isinstance(header, CorruptDataError):
        return {**nothing, "unusable": str(header)}
    try:
        found = decode_header(header)
    except CorruptDataError as error:
        return {**nothing, "unusable": str(error)}
    return {
        "version": found.version,
        "age_s": max(0.0, now - found.version / 1e6),
        "bytes": found.length,
        "unusable": None,
    }


def _slates(row: Mapping[str, Any]) -> object:
    if row["unusable"] is not None:
        return "unusable"
    return Shown(None, "none") if row["age_s"] is None else age(row["age_s"])


def _arms(bandit: Bandit, segment: str, limit: int, output: Output) -> None:
    counts = bandit.counts(segment, descendants=True)
    believed = bandit.posterior(segment)
    low, high = believed.interval(0.9)
    rows = [
        {
            "arm": believed.arms[i],
            "trials": float(counts.trials[row]),
            "successes": float(counts.successes[row]),
            "mean": float(believed.mean[i]),
            "low": float(low[i]),
            "high": float(high[i]),
        }
        for i, row in _matching(believed.arms, counts.arms)
    ]
    rows.sort(key=lambda row: -float(str(row["mean"])))
    output.document({"bandit": bandit.name, "segment": segment, "level": 0.9, "arms": rows})
    output.table(
        f"{plain(bandit.name)}, {plain(segment)} and below: posteriors, 90 % intervals",
        ["arm", "trials", "successes", "mean", "low", "high"],
        [tuple(row.values()) for row in rows[:limit]],
        empty="no arms yet",
    )
    _say_what_is_left(output, len(rows), limit)


def _matching(believed: tuple[str, ...], counted: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (row in believed, row in counted) of the arms that both have.

    They differ only by arms that were added or retired between the two readings.
    """
    where = {arm: row for row, arm in enumerate(counted)}
    return [(i, where[arm]) for i, arm in enumerate(believed) if arm in where]


def _say_what_is_left(output: Output, rows: int, limit: int) -> None:
    if rows > limit and not output.as_json:
        output.warn(f"{counted(rows - limit, 'more row')}; --limit shows them")
