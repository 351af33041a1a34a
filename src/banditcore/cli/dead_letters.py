"""``banditcore dead-letters``: events that could not be used, and their second chance."""

from __future__ import annotations

import argparse
import base64
import json
import shlex
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from banditcore.cli.arguments import numbers, positive
from banditcore.cli.output import Output, age, plain
from banditcore.cli.selection import existing_bandit
from banditcore.cli.wording import counted, refused
from banditcore.emitting.replaying import every_letter, replay, times_of
from banditcore.store.connect import connect
from banditcore.store.event_streams import dead_letters, partitions, refusing
from banditcore.store.event_streams.dead_letters import STREAMS, DeadLetter

if TYPE_CHECKING:
    from banditcore.store.connect import Store

HELP = "show events that could not be used, and why; replay them once that is mended"
DESCRIPTION = (
    "Shows the events of streams that could not be used, with the reason. --replay puts them at "
    "the end of their stream, each once, to be counted by workers."
)

_SHOWN_CHARACTERS = 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--bandit", metavar="NAME", required=True, help="which bandit")
    parser.add_argument(
        "--partitions", type=numbers, metavar="0,1", help="only these (default: all)"
    )
    parser.add_argument(
        "--source",
        metavar="NAME",
        default=STREAMS,
        help="whose: kafka:TOPIC, group:KEY (default: the bandit's own streams)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        default=20,
        metavar="N",
        help="most rows, the latest (default: 20)",
    )
    parser.add_argument(
        "--replay", action="store_true", help="put them back into their streams, each once"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command; 1 if something was to be replayed and cannot be."""
    with connect(arguments.url) as store:
        name = existing_bandit(store, arguments.bandit)
        wanted = _partitions(store, arguments)
        if arguments.replay:
            return _replay(store, name, wanted, output)
        _show(store, name, wanted, arguments, output)
    return 0


def _partitions(store: Store, arguments: argparse.Namespace) -> list[int]:
    if arguments.source != STREAMS:
        if arguments.replay:
            what = f"what {arguments.source!r} refused is not beside a stream"
            raise refused("--replay", True, f"{what}: let its producers send it again")
        wanted: list[int] | None = arguments.partitions
        if wanted is None:
            known = refusing.known(store, arguments.bandit)
            wanted = [number for source, number in known if source == arguments.source]
        if not wanted and arguments.source.startswith("group:"):
            wanted = [0]
        if not wanted:
            remedy = f"the store does not know those of {arguments.source!r}"
            raise refused("--partitions", None, remedy)
        for partition in wanted:
            dead_letters.learn(store, arguments.bandit, partition, arguments.source)
        return wanted
    there = partitions.load(store, arguments.bandit) or 0
    wanted = list(range(there)) if arguments.partitions is None else arguments.partitions
    if missing := [number for number in wanted if number >= there]:
        have = counted(there, "partition")
        remedy = f"the events of bandit {arguments.bandit!r} have {have}, from 0 on"
        raise refused("--partitions", missing, remedy)
    return wanted


def _replay(store: Store, name: str, wanted: list[int], output: Output) -> int:
    rows = []
    for partition in wanted:

        def complain(letter: DeadLetter, why: str, partition: int = partition) -> None:
            output.warn(f"{plain(name)}/{partition}: offset {letter.offset} stays: {plain(why)}")

        rows.append(
            {"partition": partition, **asdict(replay(store, name, partition, on_unusable=complain))}
        )
    output.document({"bandit": name, "replayed": rows})
    output.table(
        f"{plain(name)}: dead letters put back into their streams",
        ["partition", "letters", "events", "unusable", "replayed before"],
        [tuple(row.values()) for row in rows],
        empty="no streams yet",
    )
    return 1 if any(row["unusable"] for row in rows) else 0


def _show(
    store: Store, name: str, wanted: list[int], arguments: argparse.Namespace, output: Output
) -> None:
    now = store.server_time()
    found = 0
    latest: deque[dict[str, Any]] = deque(maxlen=None if output.as_json else arguments.limit)
    for row in _rows(store, name, wanted, arguments.source):
        found += 1
        latest.append(row)
    output.document({"bandit": name, "source": arguments.source, "letters": list(latest)})
    output.table(
        f"{plain(name)}: events that could not be used",
        ["partition", "offset", "refused", "event", "events' time", "reason"],
        [
            (
                row["partition"],
                str(row["offset"]),
                age(None if row["appended"] is None else now - row["appended"]),
                _short(row),
                "-" if row["time"] is None else f"{row['time'][0]:.0f}",
                row["reason"],
            )
            for row in latest
        ],
        empty="there are none",
    )
    if found > len(latest):
        output.warn(f"{found - len(latest):,} more before these; --limit shows them")
    if arguments.source == STREAMS:
        for source in sorted({source for source, _ in refusing.known(store, name)}):
            output.warn(f"--source {plain(shlex.quote(source))} shows those of another source")


def _rows(store: Store, name: str, wanted: list[int], source: str) -> Iterator[dict[str, Any]]:
    for partition in wanted:
        for letter in every_letter(store, name, partition, source):
            event, packed = _event(letter.raw)
            yield {
                "partition": partition,
                "offset": letter.offset,
                # Offsets of streams are times, of when the event was appended; Kafka's are not.
                "appended": letter.offset / 1e6 if source == STREAMS else None,
                "time": times_of(letter.raw),
                "reason": letter.reason,
                "replayed": letter.is_replayed,
                "event": event,
                "packed": packed,
            }


def _event(raw: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """Return an event, or what else there is in base64."""
    try:
        found = json.loads(raw, parse_constant=str)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found, None
    return None, base64.b64encode(raw).decode() if raw else None


def _short(row: dict[str, Any]) -> str:
    if row["event"] is None:
        return "-" if row["packed"] is None else counted(len(row["packed"]) * 3 // 4, "byte")
    event = row["event"]
    shown = f"{event.get('segment', '?')}: {event.get('arm', '?')}"
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"
