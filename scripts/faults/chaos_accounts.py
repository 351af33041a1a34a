"""What became of every event that `chaos.py` emitted."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from typing import TYPE_CHECKING

import chaos_churn
import chaos_fading
from chaos_roles import (
    LOGS,
    PRODUCERS,
    Counts,
    Journal,
    Key,
    Lines,
    add,
    batch_of,
    is_lasting,
    log_path,
)

from banditcore import Bandit
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog

if TYPE_CHECKING:
    from chaos_streams import Emissions


class Accounts:
    """Sums of what was emitted, beside what was counted. `sound` tells whether all agrees."""

    def __init__(self, options: Namespace, bandit: Bandit, emissions: Emissions | None) -> None:
        self._options = options
        self._bandit = bandit
        self._emissions = emissions
        self._trials: Counts = Counter()
        self._successes: Counts = Counter()
        self.sound = True

    def settle(self) -> None:
        """Print the table and what does not agree."""
        print(f"\n{'':14}{'emitted':>10}{'applied':>10}{'duplicate':>10}{'refused':>10}")
        for producer in range(PRODUCERS):
            self._producer(producer)
        for number in range(LOGS):
            self._log(number)
        self._compare()
        for what in (
            *chaos_churn.settle(self._options, self._bandit),
            *chaos_fading.settle(self._options),
            *(" ".join(words) for words in Lines(self._options.directory / "wrong").words),
        ):
            self._wrong(what)

    def _wrong(self, what: str) -> None:
        self.sound = False
        print(f"WRONG: {what}")

    def _row(self, name: str, emitted: int, told: list[int]) -> None:
        print(f"{name:14}" + "".join(f"{n:>10}" for n in (emitted, *told)))
        if sum(told) != emitted:
            self._wrong(f"{sum(told)} of {emitted} events of {name} are accounted for")

    def _producer(self, producer: int) -> None:
        journal = Journal(self._options.directory / f"journal-{producer}")
        emitted, told, restored = 0, [0, 0, 0], 0
        for number in range(1, journal.meant + 1):
            columns = batch_of(self._options.seed, producer, number)
            emitted += len(columns["arm"])
            add(self._trials, self._successes, columns)
            for i, n in enumerate(journal.told.get(number, (0, 0, 0))):
                told[i] += n
            restored += journal.again.get(number, (0, 0, 0))[0]
        self._row(f"producer {producer}", emitted, told)
        if self._options.cluster:
            print(f"(producer {producer}: {restored} of these were lost, and came back once)")

    def _log(self, number: int) -> None:
        """Compare with the file itself; reading it once more from its beginning adds nothing."""
        path = log_path(self._options.directory, number)
        lines = path.read_bytes().splitlines() if path.exists() else []
        good = [event for event in map(_parsed, lines) if event is not None]
        names = ("segment", "arm", "trials", "successes")
        add(self._trials, self._successes, {name: [e[name] for e in good] for name in names})
        report = ingest_log(self._bandit, EventLog(path), rescan=True)
        if self._options.cluster and report.applied:
            print(f"(log {number}: {report.applied} of these came back with a rescan only)")
        elif report.applied:
            self._wrong(f"log {number} was not applied to its end: {report}")
        if report.refused != len(lines) - len(good):
            self._wrong(f"log {number} has {len(lines) - len(good)} torn lines: {report}")
        # What changed the counts in earlier runs is a duplicate for this one.
        counted = report.applied + report.duplicate
        self._row(f"log {number}", len(lines), [counted, 0, report.refused])

    def _compare(self) -> None:
        trials, successes = Counter[Key](), Counter[Key]()
        for segment in self._bandit.segments():
            counts = self._bandit.counts(segment)
            columns = (counts.arms, counts.trials.tolist(), counts.successes.tolist())
            for arm, n, s in zip(*columns, strict=True):
                if is_lasting(arm):
                    trials[segment, arm] += n
                    successes[segment, arm] += s
                elif arm.startswith("short-lived") and (n or s):
                    self._wrong(f"{arm!r} of {segment!r} has counts that nobody recorded: {n} {s}")
        if self._emissions is not None:
            self._decide(self._emissions, trials)
        print(
            f"\n{len(self._trials)} arms: {_sum(self._trials)} trials emitted, "
            f"{_sum(trials)} counted; {_sum(self._successes)} successes emitted, "
            f"{_sum(successes)} counted"
        )
        for key in sorted(set(self._trials) | set(trials)):
            emitted = self._trials[key], self._successes[key]
            if emitted != (trials[key], successes[key]):
                self._wrong(f"{key}: emitted {emitted}, counted {trials[key], successes[key]}")

    def _decide(self, emissions: Emissions, counted: Counts) -> None:
        """Add what emitters sent, of which the batches of those that were killed are open."""
        for what in emissions.decide(counted):
            self._wrong(what)
        self._trials += emissions.trials
        self._successes += emissions.successes
        print(f"\n{'':14}" + "".join(f"{word:>10}" for word in emissions.columns))
        for name, numbers in emissions.rows:
            print(f"{name:14}" + "".join(f"{n:>10}" for n in numbers))


def _sum(counts: Counts) -> int:
    """Return the sum over the arms of all sources; those that tell batches apart have their own."""
    return int(sum(n for (_, arm), n in counts.items() if arm.startswith("arm ")))


def _parsed(line: bytes) -> dict[str, object] | None:
    """Return what a line says; None if a kill cut it."""
    try:
        event: dict[str, object] = json.loads(line)
    except ValueError:
        return None
    return event
