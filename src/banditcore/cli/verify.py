"""``banditcore verify``: reads back all that a store holds, and checks it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit
from banditcore.cli.wording import counted
from banditcore.maintenance.verify import verify_store
from banditcore.store.connect import connect

HELP = "check everything that a store holds; changes nothing"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--bandit", metavar="NAME", help="only this one (default: all)")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if anything is wrong."""
    with connect(arguments.url) as store:
        name = arguments.bandit
        if name is not None:
            existing_bandit(store, name)
        with output.progress("verify") as advance:
            report = verify_store(store, name, progress=advance)
    wrong = [finding for finding in report.findings if not finding.is_note]
    output.document(
        {
            "bandits": report.bandits,
            "segments": report.segments,
            "keys": report.keys,
            "clean": report.is_clean,
            "findings": [asdict(finding) for finding in report.findings],
        }
    )
    if report.findings:
        output.table(
            "findings",
            ["", "bandit", "segment", "where", "what", "remedy"],
            [
                (
                    "note" if finding.is_note else "wrong",
                    finding.bandit,
                    finding.segment,
                    finding.where,
                    finding.what,
                    finding.remedy,
                )
                for finding in report.findings
            ],
        )
    notes = len(report.findings) - len(wrong)
    what = counted(len(wrong), "thing wrong", "things wrong") if wrong else "clean"
    output.line(
        f"{plain(name) if name is not None else counted(report.bandits, 'bandit')}: "
        f"{counted(report.segments, 'segment')}, ancestors included: {what}"
        + (f", {counted(notes, 'note')}" if notes else "")
    )
    return 1 if wrong else 0
