"""``banditcore import``: a bandit back from the file it was exported into."""

from __future__ import annotations

import argparse
from pathlib import Path

from banditcore.cli.confirming import confirmed
from banditcore.cli.files import named_file
from banditcore.cli.output import Output, plain
from banditcore.cli.wording import counted
from banditcore.errors import ConfigurationConflictError, describe
from banditcore.identifiers import check_bandit
from banditcore.maintenance.importing import exported_name, import_bandit
from banditcore.store.connect import connect
from banditcore.store.counts import index

HELP = "bring a bandit back from a file that export wrote"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="that export wrote")
    parser.add_argument(
        "--bandit", metavar="NEW", help="its name in this store (default: as it was exported)"
    )
    parser.add_argument(
        "--replace", action="store_true", help="forget the bandit of that name, if there is one"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask before it is replaced")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if the user does not want it."""
    with connect(arguments.url) as store:
        name = arguments.bandit
        with named_file(arguments.file, "read"):
            name = exported_name(arguments.file) if name is None else check_bandit(name)
        if there := len(index.segments(store, name)):
            _check_replacing(name, arguments)
            question = f"Replace {plain(name)} with its {counted(there, 'segment')} with events?"
            if not confirmed(question, output, is_given=arguments.yes):
                output.warn("nothing was changed")
                return 1
        with (
            named_file(arguments.file, "read"),
            output.progress(f"import {plain(name)}") as advance,
        ):
            report = import_bandit(
                store, arguments.file, name=name, replace=arguments.replace, progress=advance
            )
    output.document(
        {
            "bandit": report.bandit,
            "exported_as": report.exported_as,
            "exported_at": report.exported_at,
            "segments": report.segments,
        }
    )
    output.line(
        f"{plain(report.bandit)}: {counted(report.segments, 'segment')} with events; "
        f"`banditcore refresh --bandit {plain(report.bandit)}` publishes its slates"
    )
    return 0


def _check_replacing(name: str, arguments: argparse.Namespace) -> None:
    """Raise unless the bandit that is there may go: `import_bandit` would not know the options."""
    if not arguments.replace:
        remedy = "the store has it already: give --replace, or another name with --bandit NEW"
        raise ConfigurationConflictError(describe("bandit", name, remedy))
