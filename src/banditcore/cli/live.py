"""``banditcore inspect --live``: how bandits stand, until it is stopped."""

from __future__ import annotations

import argparse
import datetime as dt
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict

from banditcore.cli.awaiting import awaited_store
from banditcore.cli.live_state import BanditState, LiveReader, SegmentState
from banditcore.cli.output import Output, TableContent, age, plain
from banditcore.cli.selection import existing_bandit
from banditcore.cli.wording import counted
from banditcore.errors import StoreError
from banditcore.stopping import stopped_by_signals
from banditcore.store.connect import Store
from banditcore.store.monitoring import Holder

__all__ = ["live"]

_EVERY = dt.timedelta(seconds=2)
_REPLY_S = 3.0
"""The longest that a server which hangs keeps a signal from being heard."""


def live(arguments: argparse.Namespace, output: Output) -> int:
    """Show how bandits stand until SIGTERM or SIGINT; a second one ends the process at once."""
    every_s = (arguments.interval or _EVERY).total_seconds()

    def check(store: Store) -> None:
        if arguments.bandit:
            existing_bandit(store, arguments.bandit)

    with (
        stopped_by_signals() as stop,
        awaited_store(arguments.url, check, stop, output, timeout_s=_REPLY_S) as store,
    ):
        if store is not None:
            reader = LiveReader(store, arguments.bandit, arguments.limit)
            _show(reader, every_s, stop, output)
    return 0


def _show(reader: LiveReader, every_s: float, stop: threading.Event, output: Output) -> None:
    with output.changing_tables() as change:
        view = _View(output)
        states: list[BanditState] = []
        while not stop.is_set():
            trouble = ""
            try:
                states = reader.read()
            except StoreError as error:
                trouble = str(error)
            if change is not None:
                change(_tables(states), f"unreachable: {plain(trouble)}" if trouble else "")
            else:
                view.write(states, trouble)
            stop.wait(every_s)


class _View:
    """Writes lines into a pipe, and JSON lines for programs."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._is_unreachable = False

    def write(self, states: Sequence[BanditState], trouble: str) -> None:
        """Write how bandits stand, or that they cannot be read."""
        self._output.json_line(
            {
                "time": time.time(),
                "error": trouble or None,
                "bandits": None if trouble else [asdict(state) for state in states],
            }
        )
        if trouble and not self._is_unreachable:
            self._output.warn(f"unreachable: {plain(trouble)}")
        elif self._is_unreachable and not trouble:
            self._output.warn("reachable again")
        self._is_unreachable = bool(trouble)
        if not trouble:
            for line in _lines(states):
                self._output.line(line)
            self._output.flush()


def _lines(states: Sequence[BanditState]) -> list[str]:
    if not states:
        return ["no bandits yet"]
    lines = []
    for state in states:
        name = plain(state.bandit)
        oldest = "none published" if state.oldest_s is None else f"oldest {_age(state.oldest_s)}"
        lines.append(
            f"{name}: {counted(state.segment_count, 'segment')}, ancestors included, {oldest}; "
            f"{counted(state.workers, 'worker')}; "
            f"refresh {_owner(state.refresh)}"
        )
        lines += [f"{name} {plain(each.segment)}: {_slates(each)}" for each in state.segments]
        lines += [
            f"{name}/{part.partition}: {part.waiting:,} waiting, {_age(part.lag_s)} behind, "
            f"{counted(part.dead_letters, 'dead letter')}; {_owner(part.lease)}"
            for part in state.partitions
        ]
    return lines


def _slates(state: SegmentState) -> str:
    if state.unusable is not None:
        return f"unusable slates: {plain(state.unusable)}"
    if state.version is None or state.arms is None:
        return "no slates"
    return (
        f"version {state.version}, {_age(state.age_s)} old, {counted(state.arms, 'arm')}, "
        f"entropy {state.entropy:.3f}, {state.effective_arms:.1f} effective arms"
    )


def _tables(states: Sequence[BanditState]) -> list[TableContent]:
    bandits = [
        (
            state.bandit,
            state.segment_count,
            age(state.oldest_s),
            state.workers,
            _owner(state.refresh),
        )
        for state in states
    ]
    segments = [
        (
            state.bandit,
            each.segment,
            each.version,
            age(each.age_s),
            each.arms,
            each.entropy,
            each.effective_arms,
            each.unusable or ("published" if each.version is not None else "none"),
        )
        for state in states
        for each in state.segments
    ]
    parts = [
        (
            state.bandit,
            part.partition,
            part.waiting,
            age(part.lag_s),
            part.dead_letters,
            _owner(part.lease),
        )
        for state in states
        for part in state.partitions
    ]
    return [
        TableContent(
            "bandits; segments: ancestors included",
            ("bandit", "segments", "oldest", "workers", "refresh"),
            bandits,
        ),
        TableContent(
            "segments",
            ("bandit", "segment", "version", "age", "arms", "entropy", "effective", "slates"),
            segments,
        ),
        TableContent(
            "events of streams",
            ("bandit", "partition", "waiting", "behind", "dead letters", "owner"),
            parts,
        ),
    ]


def _owner(holder: Holder) -> str:
    if holder.owner is None:
        return "nobody's"
    return f"{holder.owner}'s, epoch {holder.epoch}, for {holder.left_s:.0f} s"


def _age(seconds: float | None) -> str:
    return age(seconds).text
