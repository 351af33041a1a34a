"""``banditcore forget``: removes a bandit, segments or an arm."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from banditcore.bandit import Bandit
from banditcore.cli.arguments import add_bandit, bandit_of
from banditcore.cli.confirming import confirmed
from banditcore.cli.output import Output, plain
from banditcore.cli.selection import existing_bandit
from banditcore.cli.wording import counted, refused
from banditcore.identifiers import check_bandit
from banditcore.maintenance.forget import Forgotten, forget_arm, forget_bandit, forget_segment
from banditcore.store import keys
from banditcore.store.connect import connect
from banditcore.store.counts import index, settings

if TYPE_CHECKING:
    from banditcore.store.connect import Store

HELP = "remove a bandit, a segment or an arm"

_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_bandit(parser, help="which bandit; alone: all of it")
    parser.add_argument("--segment", metavar="PATH", help='only this one; "" is the global one')
    parser.add_argument("--descendants", action="store_true", help="and the segments below it")
    parser.add_argument(
        "--arm", metavar="ID", help="only this arm, everywhere or as --segment says"
    )
    parser.add_argument(
        "--keep-marks",
        action="store_true",
        help="remember what was counted in the segments, so that a rescan does not count it again",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if the user does not want it."""
    arguments.bandit = bandit_of(arguments)
    _check(arguments)
    with connect(arguments.url) as store:
        name = _known(store, arguments.bandit)
        forget = _chosen(arguments, store, name)
        planned = forget(True)
        _show(arguments, planned, output)
        if not confirmed("Remove it?", output, is_given=arguments.yes):
            output.warn("nothing was changed")
            return 1
        gone = forget(False)
    output.document(
        {
            "bandit": name,
            "segments": gone.segments,
            "slates": list(gone.slates),
            "streams": asdict(gone.streams),
        }
    )
    output.line("removed")
    return 0


def _known(store: Store, name: str) -> str:
    """Return the name of a bandit that exists, or that a first import has left in the midst."""
    check_bandit(name)
    if name in index.bandits(store):
        return name
    begun = settings.importing(store, keys.of_bandit(name).settings.encode())
    return existing_bandit(store, name) if begun is None else begun


def _check(arguments: argparse.Namespace) -> None:
    if arguments.bandit is None:
        raise refused("BANDIT", None, "name what to forget")
    if arguments.segment is None and arguments.descendants:
        raise refused("--descendants", True, "of which --segment?")
    if arguments.keep_marks and (arguments.segment is None or arguments.arm is not None):
        remedy = "it is for a --segment; an arm's removal keeps all marks"
        raise refused("--keep-marks", True, remedy)


def _chosen(arguments: argparse.Namespace, store: Store, name: str) -> Callable[[bool], Forgotten]:
    """Return what does it, or with True only tells what it would do."""
    bandit = Bandit(name, store)
    segment, descendants = arguments.segment, arguments.descendants
    if arguments.arm is not None:
        everywhere = segment is None
        return lambda dry_run: forget_arm(
            bandit,
            arguments.arm,
            segment=segment or "",
            descendants=everywhere or descendants,
            dry_run=dry_run,
        )
    if segment is not None:
        return lambda dry_run: forget_segment(
            bandit,
            segment,
            descendants=descendants,
            keep_marks=arguments.keep_marks,
            dry_run=dry_run,
        )
    return lambda dry_run: forget_bandit(store, name, dry_run=dry_run)


def _show(arguments: argparse.Namespace, planned: Forgotten, output: Output) -> None:
    name = plain(arguments.bandit)
    whose = name if arguments.arm is None else f"{plain(arguments.arm)} of {name}"
    arms = sum(planned.segments.values())
    output.warn(
        f"{whose}: {counted(arms, 'arm with its counts', 'arms with their counts')} in "
        f"{counted(len(planned.segments), 'segment')}; "
        f"slates of {counted(len(planned.slates), 'segment')}"
    )
    held = planned.streams
    if held.partitions or held.dead_letters:
        output.warn(
            f"  streams of {counted(held.partitions, 'partition')}: "
            f"{counted(held.unapplied, 'event that is', 'events that are')} not counted yet, "
            f"{held.dead_letters:,} that could not be used"
        )
    paths = list(dict.fromkeys((*planned.segments, *planned.slates)))
    for path in paths[:_SHOWN]:
        output.warn(f"  {plain(path)}")
    if len(paths) > _SHOWN:
        output.warn(f"  and {len(paths) - _SHOWN:,} more")
