"""The processes of `chaos.py` that emit events to streams and apply them from there.

An emitter that is killed leaves one batch open, and nobody can send that again: its producer is
gone with it. It may be in or out, but never twice. To tell, each batch belongs to one segment, so
that it is one entry of a stream, and adds one trial to the arm of its producer's life.
"""

from __future__ import annotations

import os
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
from chaos_roles import ARMS, NAME, SEGMENTS, Columns, Counts, add, opened

from banditcore import Bandit
from banditcore.errors import StoreError
from banditcore.ingest_worker import IngestWorker
from banditcore.sources.redis_stream import RedisStreamSource

EMITTERS = 2
RUNNING = ("emit",) * EMITTERS + ("follow",) * 2
LEASE_S = 2.0


def life(emitter: int, born: int) -> str:
    """Return the arm that counts the batches of one life of an emitter."""
    return f"life {emitter}/{born}"


def emission(seed: int, emitter: int, number: int, born: int) -> Columns:
    """Return the events of one batch, all of one segment."""
    dice = np.random.default_rng([seed, 2000 + emitter, number])
    n = int(dice.integers(1, 200))
    trials = dice.integers(1, 4, n)
    arms = [f"arm {i}" for i in dice.integers(0, ARMS, n)]
    return {
        "segment": [SEGMENTS[int(dice.integers(len(SEGMENTS)))]] * (n + 1),
        "arm": [*arms, life(emitter, born)],
        "trials": [*trials.tolist(), 1],
        "successes": [*dice.integers(0, trials + 1).tolist(), 0],
    }


class EmitterJournal:
    """What an emitter meant to send in which life, and what was confirmed; on disk."""

    def __init__(self, path: Path) -> None:
        self.meant: dict[int, int] = {}  # number -> life
        self.confirmed: set[int] = set()
        self.lives = 0
        text = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        for line in text.splitlines():
            word, number = line.split()
            if word == b"born":
                self.lives = int(number)
            elif word == b"meant":
                self.meant[int(number)] = self.lives
            else:
                self.confirmed.add(int(number))
        self._path = path

    def open(self) -> int:
        """Begin a life; return its number."""
        complete = self._path.read_bytes().rpartition(b"\n") if self._path.exists() else (b"",) * 3
        self._path.write_bytes(complete[0] + complete[1])
        self._file = self._path.open("ab", buffering=0)
        self.write("born", self.lives + 1)
        return self.lives + 1

    def write(self, word: str, number: int) -> None:
        """Add a line, and wait until it is on disk."""
        self._file.write(f"{word} {number}\n".encode())
        os.fsync(self._file.fileno())


def emitter_journal(options: Namespace, number: int) -> EmitterJournal:
    """Return the journal of an emitter."""
    return EmitterJournal(options.directory / f"emitter-{number}")


def emit(options: Namespace) -> None:
    """Emit batch after batch, each confirmed before the next."""
    journal = emitter_journal(options, options.number)
    number = max(journal.meant, default=0)
    born = journal.open()
    with opened(options) as store:
        bandit = Bandit(NAME, store)
        while True:
            number += 1
            columns = emission(options.seed, options.number, number, born)
            journal.write("meant", number)
            bandit.emit(columns)
            bandit.flush()  # it keeps trying for ten minutes
            journal.write("confirmed", number)


def follow(options: Namespace) -> None:
    """Apply the streams."""
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(seconds=options.number))
        IngestWorker(
            bandit,
            RedisStreamSource(bandit, lease_s=LEASE_S),
            most=1 + 2 * options.number,
            batch_size=1000,
        ).run(threading.Event())


ROLES: dict[str, Callable[[Namespace], None]] = {"emit": emit, "follow": follow}


def apply_rest(bandit: Bandit) -> None:
    """Apply everything that waits in the streams."""
    source = RedisStreamSource(bandit, lease_s=LEASE_S)
    worker = IngestWorker(bandit, source)
    deadline = time.monotonic() + 120
    while any(source.waiting(partition, 0) for partition in source.partitions()):
        try:
            worker.step(0.1)
        except StoreError:
            time.sleep(0.05)
        if time.monotonic() > deadline:
            raise RuntimeError(f"what waits is not applied: {worker.report()}")
    worker.release()


class Emissions:
    """What emitters sent, with what was left open decided by what was counted."""

    def __init__(self, options: Namespace) -> None:
        self.trials: Counts = Counter()
        self.successes: Counts = Counter()
        self.rows: list[tuple[str, int, int, int]] = []  # emitted, certain, open and in
        self._options = options

    def decide(self, counted: Counts) -> list[str]:
        """Add up what was sent; return what cannot be."""
        wrong = []
        for emitter in range(EMITTERS):
            journal = emitter_journal(self._options, emitter)
            certain, left = 0, []
            for number, born in journal.meant.items():
                columns = emission(self._options.seed, emitter, number, born)
                if number in journal.confirmed:
                    certain += len(columns["arm"])
                    add(self.trials, self.successes, columns)
                else:
                    left.append((born, columns))
            arrived = out = 0
            for born, columns in left:
                segment = str(columns["segment"][0])
                arm = life(emitter, born)
                more = counted[segment, arm] - self.trials[segment, arm]
                if more == 1:
                    arrived += len(columns["arm"])
                    add(self.trials, self.successes, columns)
                elif more == 0:
                    out += len(columns["arm"])
                else:
                    wrong.append(f"a batch of {arm!r} counts {more} times")
            self.rows.append((f"emitter {emitter}", certain, arrived, out))
        return wrong
