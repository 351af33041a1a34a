"""What clients do, and all the states that each of it may leave behind when it fails."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Protocol

from banditcore.bandit import Bandit
from banditcore.ingest import ingest_log
from faults.logfile import LogFile
from faults.model import (
    WINDOW,
    BanditModel,
    ModelEvent,
    SegmentModel,
    Sending,
    Told,
    record,
)


@dataclass
class Expected:
    """What an operation leads to.

    Attributes
    ----------
    answer : object
        What the caller is told when it succeeds.
    segments : dict
        Path -> all states that may be seen after a failure, from "nothing done" (None: as it was)
        to the last, which is the state after success.
    names : tuple of str
        Ids whose being remembered tells these states apart.
    checkpoints : list of (lines, refused)
        The same for the log's checkpoint.
    half_life : tuple or None
        The new half-life of the bandit, as (value,).
    """

    answer: object
    segments: dict[str, list[SegmentModel | None]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    source: str = ""
    checkpoints: list[tuple[int, int]] = field(default_factory=list)
    half_life: tuple[int | None] | None = None


class Operation(Protocol):
    """Something a client does."""

    word: bytes
    """What stands in the request that changes something."""
    answer_is_exact: bool
    """Whether the answer tells the first of several attempts from the others."""

    def perform(self, bandit: Bandit) -> object:
        """Do it."""

    def expected(self, model: BanditModel, now: int) -> Expected:
        """Return what it must lead to when it is done to `model`."""


@dataclass
class Record:
    """Record a batch."""

    sending: Sending

    @property
    def word(self) -> bytes:
        return b"_apply_unique" if self.sending.with_ids else b"_apply_batch"

    @property
    def answer_is_exact(self) -> bool:
        return not self.sending.with_ids and self.sending.batch_id is None

    def perform(self, bandit: Bandit) -> Told:
        events = self.sending.events
        columns: dict[str, list[object]] = {
            "segment": [event.segment for event in events],
            "arm": [event.arm for event in events],
            "trials": [event.trials for event in events],
            "successes": [event.successes for event in events],
            "time": [event.time for event in events],
        }
        if self.sending.with_ids:
            columns["event_id"] = [event.id for event in events]
        told = bandit.record_batch(columns, batch_id=self.sending.batch_id)
        assert told.applied + told.duplicate + told.refused == len(events)
        return Told(told.applied, told.duplicate, told.refused)

    def expected(self, model: BanditModel, now: int) -> Expected:
        groups: dict[str, list[ModelEvent]] = defaultdict(list)
        for event in self.sending.events:
            groups[event.segment].append(event)
        told, segments = Told(), {}
        for path, events in groups.items():
            opened, after = model.segment(path, now), model.segment(path, now)
            was_sent = after.copy()
            told = told.plus(record(after, events, self.sending, now))
            if self._is_sent(events, was_sent, now):
                segments[path] = [None, opened, after]
        names = (
            tuple(event.id for event in self.sending.events)
            if self.sending.with_ids
            else (self.sending.name,)
        )
        return Expected(told, segments, names)

    def _is_sent(self, events: list[ModelEvent], segment: SegmentModel, now: int) -> bool:
        """Events with ids that are too old by the client's own clock are not even sent."""
        return not self.sending.with_ids or any(event.time >= now - WINDOW for event in events)


@dataclass
class Ingest:
    """Apply a log."""

    log: LogFile
    batch_size: int
    rescan: bool = False
    is_overtaken: bool = False  # by another that applies the same log
    began: int | None = None  # line before which it did not read; None when it did not say
    word = b"_apply"

    @property
    def answer_is_exact(self) -> bool:
        return not self.is_overtaken

    def perform(self, bandit: Bandit) -> tuple[int, ...]:
        self.began = None
        report = ingest_log(bandit, self.log.open(), batch_size=self.batch_size, rescan=self.rescan)
        self.began = report.start.line
        return report.applied, report.duplicate, report.refused, report.refused_before

    def expected(self, model: BanditModel, now: int) -> Expected:
        stored = model.checkpoints.get(self.log.source, (0, 0))
        assert not self.rescan or not self.began
        if self.began is not None:
            return self._expected(model, now, self.began)
        # After a restart of the server it reads from the beginning, else from the checkpoint.
        expected = self._expected(model, now, 0)
        if not self.rescan and stored[0]:
            other = self._expected(model, now, stored[0])
            for path, states in other.segments.items():
                expected.segments.setdefault(path, []).extend(states)
            expected.checkpoints += other.checkpoints
        return expected

    def _expected(self, model: BanditModel, now: int, start: int) -> Expected:
        """Return what it leads to when it begins at a line."""
        source, lines = self.log.source, self.log.lines
        stored = model.checkpoints.get(source, (0, 0))
        refused_before = stored[1] if start else 0
        applied = duplicate = refused = 0
        states: dict[str, list[SegmentModel | None]] = {}
        checkpoints = [stored]
        for first in range(start, len(lines), self.batch_size):
            end = min(first + self.batch_size, len(lines))
            fresh: dict[str, list[ModelEvent]] = defaultdict(list)
            for number in range(first, end):
                event = lines[number]
                if event is None:
                    refused += 1
                    continue
                history = states.setdefault(
                    event.segment, [None, model.segment(event.segment, now)]
                )
                last = history[-1]
                assert last is not None
                if number < last.marks.get(source, 0):
                    duplicate += 1
                else:
                    applied += 1
                    fresh[event.segment].append(event)
            for path, events in fresh.items():
                after = states[path][-1]
                assert after is not None
                after = after.copy()
                for event in events:
                    after.add(event)
                after.marks[source] = end
                states[path].append(after)
            if (applied or duplicate or start) and end > stored[0]:
                checkpoints.append((end, refused_before + refused))
        changed = {path: history for path, history in states.items() if len(history) > 2}
        return Expected(
            (applied, duplicate, refused, refused_before),
            changed,
            source=source,
            checkpoints=checkpoints,
        )


@dataclass
class Retire:
    """Remove arms."""

    segment: str
    arms: tuple[str, ...]
    word = b"_compact"
    answer_is_exact = False

    def perform(self, bandit: Bandit) -> int:
        return bandit.retire(self.segment, self.arms)

    def expected(self, model: BanditModel, now: int) -> Expected:
        if self.segment not in model.segments:
            return Expected(0)
        after = model.segment(self.segment, now)
        gone = after.retire(self.arms)
        return Expected(gone, {self.segment: [None, after]})


@dataclass
class AddArms:
    """Register arms."""

    segment: str
    arms: tuple[str, ...]
    word = b"_add_arms"
    answer_is_exact = False

    def perform(self, bandit: Bandit) -> int:
        return bandit.add_arms(self.segment, self.arms)

    def expected(self, model: BanditModel, now: int) -> Expected:
        opened, after = model.segment(self.segment, now), model.segment(self.segment, now)
        new = after.register(self.arms)
        return Expected(new, {self.segment: [None, opened, after]})


@dataclass
class ChangeHalfLife:
    """Let evidence fade differently."""

    half_life: int | None
    word = b"_rescale"
    answer_is_exact = False

    def perform(self, bandit: Bandit) -> None:
        bandit.change_half_life(
            None if self.half_life is None else dt.timedelta(seconds=self.half_life)
        )

    def expected(self, model: BanditModel, now: int) -> Expected:
        segments: dict[str, list[SegmentModel | None]] = {}
        for path in model.segments:
            after = model.segment(path, now)
            after.change_half_life(self.half_life, now)
            segments[path] = [None, after]
        return Expected(None, segments, half_life=(self.half_life,))
