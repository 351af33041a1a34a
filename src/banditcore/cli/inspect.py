"""``banditcore inspect``: what a store holds, from bandits down to arms."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from banditcore.bandit import Bandit
from banditcore.cli.arguments import positive, prior
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit
from banditcore.errors import CorruptDataError
from banditcore.identifiers import check_segment
from banditcore.segments import with_ancestors
from banditcore.slate_format import decode_header
from banditcore.store import index, publish
from banditcore.store.connect import connect

if TYPE_CHECKING:
    from banditcore.store.connect import Store

HELP = "show bandits; a bandit's segments; a segment's arms"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("bandit", nargs="?", metavar="BANDIT", help="show its segments")
    parser.add_argument(
        "segment", nargs="?", metavar="SEGMENT", help='show its arms; "" is the global one'
    )
    parser.add_argument(
        "--prior", type=prior, default="empirical", metavar="A,B|empirical", help="for posteriors"
    )
    parser.add_argument(
        "--limit", type=positive, default=20, metavar="N", help="most rows of a table (default: 20)"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    with connect(arguments.url) as store:
        if arguments.bandit is None:
            _bandits(store, output)
            return 0
        name = existing_bandit(store, arguments.bandit)
        bandit = Bandit(name, store, prior=arguments.prior)
        if arguments.segment is None:
            _segments(bandit, arguments.limit, output)
        else:
            _arms(bandit, check_segment(arguments.segment), arguments.limit, output)
    return 0


def _bandits(store: Store, output: Output) -> None:
    rows = []
    for name in index.bandits(store):
        bandit = Bandit(name, store)
        half_life = bandit.half_life
        rows.append(
            {
                "bandit": name,
                "segments": len(bandit.segments()),
                "half_life_s": None if half_life is None else half_life.total_seconds(),
            }
        )
    output.document({"bandits": rows})
    _table(output, "bandits", rows, len(rows))


def _segments(bandit: Bandit, limit: int, output: Output) -> None:
    paths = with_ancestors(bandit.segments())
    now = bandit.store.server_time()
    rows = []
    for path, header in zip(paths, publish.headers(bandit.store, bandit.name, paths), strict=True):
        counts = bandit.counts(path)
        rows.append(
            {
                "segment": path,
                "arms": len(counts),
                "trials": float(counts.trials.sum()),
                "successes": float(counts.successes.sum()),
                **_published(header, now),
            }
        )
    output.document({"bandit": bandit.name, "segments": rows})
    _table(output, f"{plain(bandit.name)}: what was recorded at each segment", rows, limit)


def _published(header: bytes, now: float) -> dict[str, object]:
    """Describe the published slates that begin with `header`."""
    if not header:
        return {"version": None, "age_s": None, "slates": "none published"}
    try:
        found = decode_header(header)
    except CorruptDataError as error:
        return {"version": None, "age_s": None, "slates": f"unusable: {error}"}
    return {
        "version": found.version,
        "age_s": max(0.0, now - found.version / 1e6),
        "slates": f"{found.length} bytes",
    }


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
    title = f"{plain(bandit.name)}, segment {plain(segment)} and below: arms by posterior mean"
    _table(output, title, rows, limit)


def _matching(believed: tuple[str, ...], counted: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (row in believed, row in counted) of the arms that both have.

    They differ only by arms that were added or retired between the two readings.
    """
    where = {arm: row for row, arm in enumerate(counted)}
    return [(i, where[arm]) for i, arm in enumerate(believed) if arm in where]


def _table(output: Output, title: str, rows: list[dict[str, object]], limit: int) -> None:
    columns = list(rows[0]) if rows else ["nothing"]
    shown = [
        [str(value) if name == "version" and value else value for name, value in row.items()]
        for row in rows[:limit]
    ]
    output.table(title, columns, shown)
    if len(rows) > limit:
        output.warn(f"{len(rows) - limit:,} more rows; --limit shows them")
