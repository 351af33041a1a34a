"""The processes of `chaos.py` that emit events to streams and apply them from there.

An emitter that is killed leaves one batch open, and nobody can send that again: its producer is
gone with it. It may be in or out, but never twice. To tell, each batch belongs to one segment, so
that it is one entry of a stream, and adds to an arm that it shares with 24 others: 1 trial, 4, 16
... The digits of that arm's trials, to base 4, say how often each of them counted.

On a cluster a failover can lose the tail of a stream, which had been confirmed. Who emits keeps
nothing, so nothing can bring those events back, unless they were applied before: they are counted
as lost.
"""

from __future__ import annotations

import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import numpy as np
from chaos_roles import ARMS, NAME, SEGMENTS, Columns, Counts, Lines, add, opened

from banditcore import Bandit
from banditcore.errors import StoreError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource

EMITTERS = 2
RUNNING = ("emit",) * EMITTERS + ("follow",) * 2
LEASE_S = 2.0
BASE = 4
DIGITS = 25  # that a float64 holds


def witness(emitter: int, number: int) -> tuple[str, int]:
    """Return the arm that shows how often a batch counted, and what it adds to its trials."""
    arm, digit = divmod(number, DIGITS)
    return f"life {emitter}/{arm}", BASE**digit


def emission(seed: int, emitter: int, number: int) -> Columns:
    """Return the events of one batch, all of one segment."""
    dice = np.random.default_rng([seed, 2000 + emitter, number])
    n = int(dice.integers(1, 200))
    trials = dice.integers(1, 4, n)
    arms = [f"arm {i}" for i in dice.integers(0, ARMS, n)]
    arm, once = witness(emitter, number)
    return {
        "segment": [SEGMENTS[int(dice.integers(len(SEGMENTS)))]] * (n + 1),
        "arm": [*arms, arm],
        "trials": [*trials.tolist(), once],
        "successes": [*dice.integers(0, trials + 1).tolist(), 0],
    }


def emitter_lines(options: Namespace, number: int) -> Lines:
    """Return what an emitter meant to send and what was confirmed, on disk."""
    return Lines(options.directory / f"emitter-{number}")


def emit(options: Namespace) -> None:
    """Emit batch after batch, each confirmed before the next."""
    lines = emitter_lines(options, options.number)
    number = max((int(number) for _, number in lines.words), default=0)
    with opened(options) as store:
        bandit = Bandit(NAME, store)
        while True:
            number += 1
            columns = emission(options.seed, options.number, number)
            lines.write("meant", number)
            bandit.emit(columns)
            bandit.flush()  # it keeps trying for ten minutes
            lines.write("confirmed", number)


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
    """What emitters sent and what of it counts, batch by batch."""

    columns = ("confirmed", "lost", "open, in", "open, out")

    def __init__(self, options: Namespace) -> None:
        self.trials: Counts = Counter()
        self.successes: Counts = Counter()
        self.rows: list[tuple[str, list[int]]] = []  # events, by `columns`
        self._options = options

    def decide(self, counted: Counts) -> list[str]:
        """Add up what counts; return what is wrong."""
        wrong = []
        for emitter in range(EMITTERS):
            words = emitter_lines(self._options, emitter).words
            confirmed = {int(number) for word, number in words if word == "confirmed"}
            row = [0, 0, 0, 0]
            for number in sorted(int(number) for word, number in words if word == "meant"):
                columns = emission(self._options.seed, emitter, number)
                arm, once = witness(emitter, number)
                times = int(counted[str(columns["segment"][0]), arm]) // once % BASE
                is_certain = number in confirmed
                row[(0 if is_certain else 2) + (not times)] += len(columns["arm"])
                if times:
                    add(self.trials, self.successes, columns)
                if times > 1:
                    wrong.append(f"batch {number} of emitter {emitter} counts {times} times")
                if is_certain and not times and not self._options.cluster:
                    wrong.append(f"batch {number} of emitter {emitter} was confirmed, and is lost")
            self.rows.append((f"emitter {emitter}", row))
        return wrong
