"""``banditcore export``: a bandit into one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from banditcore.bandit import Bandit
from banditcore.cli.files import named_file
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit
from banditcore.cli.wording import counted, refused
from banditcore.errors import InvalidValueError
from banditcore.maintenance.exporting import export_bandit
from banditcore.store.connect import connect
from banditcore.store.counts import index

if TYPE_CHECKING:
    from banditcore.store.connect import Store

HELP = "write counts, arms, marks and settings of a bandit into a file"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="to write; replaced when it exists")
    parser.add_argument(
        "--bandit", metavar="NAME", help="which bandit (default: the only one of the store)"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    with connect(arguments.url) as store:
        name = _chosen(store, arguments.bandit)
        with (
            named_file(arguments.file, "written"),
            output.progress(f"export {plain(name)}") as advance,
        ):
            report = export_bandit(Bandit(name, store), arguments.file, progress=advance)
    output.document(
        {
            "bandit": name,
            "file": str(arguments.file),
            "segments": report.segments,
            "bytes": report.bytes,
        }
    )
    output.line(
        f"{plain(name)}: {counted(report.segments, 'segment')} with events, "
        f"{counted(report.bytes, 'byte')} in {plain(str(arguments.file))}"
    )
    return 0


def _chosen(store: Store, name: str | None) -> str:
    if name is not None:
        return existing_bandit(store, name)
    known = index.bandits(store)
    if not known:
        raise InvalidValueError("the store has no bandit yet: there is nothing to export")
    if len(known) > 1:
        there = counted(len(known), "bandit")
        raise refused("--bandit", None, f"the store has {there}: name one")
    return known[0]
