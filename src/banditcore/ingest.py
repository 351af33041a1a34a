"""The job that applies an ordered log to the counts, each record once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from banditcore.errors import CorruptDataError, InvalidValueError, StoreError, describe
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.identifiers import check_id
from banditcore.logs import EventLog, LogBatch, Position, Reject
from banditcore.store import checkpoints, index
from banditcore.store.keys import mark_field
from banditcore.store.statistics import Statistics
from banditcore.store.updates import OrderedUpdate

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["IngestReport", "IngestingBandit", "ingest_log"]

_ROUNDS = 100
"""Attempts at one batch while another process applies the same log; each conflict means that
the other one is further."""


class IngestingBandit(Protocol):
    """What ingesting needs of a bandit."""

    @property
    def name(self) -> str:
        """The bandit's name."""

    @property
    def store(self) -> Store:
        """Where its counts are."""

    @property
    def statistics(self) -> Statistics:
        """Its segments' counts."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run read and did: applied + duplicate + refused records after `start`.

    Attributes
    ----------
    applied : int
        Records that changed the counts in this run.
    duplicate : int
        Records that had changed them before.
    refused : int
        Records that cannot be used.
    segments : int
        Segments the good records belong to.
    start, end : Position
        Where in the log this run began and ended.
    seconds : float
        How long it took.
    """

    applied: int
    duplicate: int
    refused: int
    segments: int
    start: Position
    end: Position
    seconds: float


def ingest_log(
    bandit: IngestingBandit,
    log: EventLog,
    *,
    source: str | None = None,
    batch_size: int = 50_000,
    rescan: bool = False,
    on_reject: Callable[[Reject], None] | None = None,
    progress: Callable[[IngestReport], None] | None = None,
) -> IngestReport:
    """Apply the records of a log that were not applied before.

    The counts of a segment and the mark that says how far this log is applied there change
    together, so each record counts once, however often this is stopped and run again, and by
    however many processes at once. It goes on where the last run ended; a log that has grown is
    read from there.

    Parameters
    ----------
    bandit : Bandit
        Whose counts.
    log : EventLog
        The log. It may have no ``event_id`` column: its order tells its records apart.
    source : str, optional
        The log's name in the marks. Default: derived from its header and first record, so that
        a renamed log is the same log.
    batch_size : int, >= 1
        Records that are aggregated and applied together.
    rescan : bool
        Read from the beginning instead of where the last run ended. Restores, without counting
        anything twice, what a server lost that went back in time.
    on_reject : callable, optional
        Called with each record that cannot be used, before the batch it stands in is applied.
    progress : callable, optional
        Called with the report so far after each batch.

    Raises
    ------
    InvalidValueError
        When the log does not begin with what was read of it before.
    CorruptDataError
        When what the store says of earlier runs is damaged; a rescan does without it.
    StoreError
        When the store fails for longer than the retries last. Running again goes on.
    """
    started = time.monotonic()
    name = f"log:{log.fingerprint}" if source is None else check_id("source", source)
    try:
        stored = checkpoints.load(bandit.store, bandit.name, name)
    except CorruptDataError:
        if not rescan:
            raise
        stored = Position()  # the marks beside the counts tell what is applied
    log.verify(stored)
    start = Position() if rescan else stored
    run = _Run(bandit, name)
    applied = duplicate = refused = 0
    end = start

    def report() -> IngestReport:
        seconds = time.monotonic() - started
        return IngestReport(applied, duplicate, refused, len(run.marks), start, end, seconds)

    for batch in log.batches(start, batch_size):
        if batch.events.event_ids is not None:
            raise InvalidValueError(
                describe("event_id", "mapped", "a log's order tells its records apart: drop it")
            )
        for reject in batch.rejects:
            if on_reject is not None:
                on_reject(reject)
        changed = run.apply(batch)
        applied += changed
        duplicate += len(batch.events) - changed
        refused += len(batch.rejects)
        end = batch.end
        if end.offset > stored.offset:
            checkpoints.save(bandit.store, bandit.name, name, end)
        if progress is not None:
            progress(report())
    return report()


class _Run:
    """Applies batches of one log and remembers the marks of the segments it met."""

    def __init__(self, bandit: IngestingBandit, source: str) -> None:
        self._bandit = bandit
        self._field = mark_field(source, "0")
        self.marks: dict[str, str] = {}  # segment -> offset as stored, "" for none

    def apply(self, batch: LogBatch) -> int:
        """Apply a batch to all its segments; return how many records changed the counts."""
        statistics = self._bandit.statistics
        groups = list(by_segment(batch.events))
        self._read_marks([group.segment for group in groups])
        applied = 0
        for _ in range(_ROUNDS):
            updates = self._updates(batch, groups)
            if not updates:
                return applied
            outcomes = statistics.apply(updates)
            for update, outcome in zip(updates, outcomes, strict=True):
                segment = update.events.segment
                if outcome.word == "FENCED":
                    raise StoreError(
                        describe("epoch", outcome.detail, f"segment {segment!r} has another owner")
                    )
                if outcome.word == "CONFLICT":
                    self._learn(segment, update.expected, outcome.detail)
                else:
                    self.marks[segment] = update.new
                applied += outcome.applied
        raise StoreError(describe("log", self._field, "another process applies it all the time"))

    def _updates(self, batch: LogBatch, groups: Sequence[SegmentEvents]) -> list[OrderedUpdate]:
        """Return what is not applied yet of each segment's records."""
        updates = []
        for group in groups:
            mark = self.marks[group.segment]
            after = batch.offsets[group.rows] > (int(mark) if mark else -1)
            events = group.where(np.asarray(after))
            if events is not None:
                new = str(batch.end.offset)
                updates.append(OrderedUpdate(events, self._field, 0, mark, new))
        return updates

    def _read_marks(self, segments: Sequence[str]) -> None:
        unknown = [segment for segment in segments if segment not in self.marks]
        if unknown:
            index.add(self._bandit.store, self._bandit.name, unknown)
            found = self._bandit.statistics.marks(unknown, self._field)
            self.marks |= {
                segment: offset for segment, (_, offset) in zip(unknown, found, strict=True)
            }

    def _learn(self, segment: str, expected: str, stored: str) -> None:
        if int(stored or -1) < int(expected or -1):
            raise StoreError(
                describe(
                    "mark",
                    stored,
                    f"of segment {segment!r} went back from {expected}: the server lost writes; "
                    "run again with --rescan, which counts nothing twice",
                )
            )
        self.marks[segment] = stored
