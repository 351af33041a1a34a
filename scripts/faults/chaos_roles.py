"""What each process of `chaos.py` does until it is killed. Every one can be started again."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from banditcore import Bandit, connect
from banditcore.errors import CorruptDataError, StoreError
from banditcore.ingest import ingest_log
from banditcore.logs import EventLog
from banditcore.recording import Applied
from banditcore.store.connect import Store
from shares import strangers

NAME = "chaos"
SEGMENTS = ("", "IN", "IN/mobile", "US")
ARMS = 400
LOGS = 2
PRODUCERS = 3
TIMEOUT_S = 2.0

Key = tuple[str, str]
Counts = Counter[Key]
Columns = dict[str, list[object]]
P = ParamSpec("P")
T = TypeVar("T")


def batch_of(seed: int, producer: int, number: int) -> Columns:
    """Return the events of one batch: the same at each call, so that it can be sent again."""
    dice = np.random.default_rng([seed, producer, number])
    n = int(dice.integers(1, 200))
    # Arms come up over time, so that registries change under their writers.
    arms = dice.integers(0, min(ARMS, 20 + number), n)
    trials = dice.integers(1, 4, n)
    columns: Columns = {
        "segment": [SEGMENTS[i] for i in dice.integers(0, len(SEGMENTS), n)],
        "arm": [f"arm {i}" for i in arms],
        "trials": trials.tolist(),
        "successes": dice.integers(0, trials + 1).tolist(),
    }
    if number % 2:
        columns["event_id"] = [f"{producer}/{number}/{i}" for i in range(n)]
    return columns


def add(trials: Counts, successes: Counts, columns: Columns) -> None:
    """Add the events of a batch to exact sums."""
    rows = zip(*(columns[name] for name in ("segment", "arm", "trials", "successes")), strict=True)
    for segment, arm, n, s in rows:
        trials[segment, arm] += n
        successes[segment, arm] += s


def log_path(directory: Path, number: int) -> Path:
    """Return where a log is."""
    return directory / f"log-{number}.jsonl"


@contextmanager
def opened(options: Namespace) -> Iterator[Store]:
    """Connect, however long the server is away."""
    while True:
        try:
            store = connect(options.url, timeout_s=TIMEOUT_S)
            break
        except StoreError:
            time.sleep(0.05)
    with store:
        yield store


def is_lasting(arm: str) -> bool:
    """Whether an arm is never retired, so that its counts never fall."""
    return arm.startswith(("arm ", "life "))


def insisting(act: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """Do what does no harm twice until the store has answered."""
    while True:
        try:
            return act(*args, **more)
        except CorruptDataError:  # nobody here damages what is stored: the run has failed
            raise
        except StoreError:
            time.sleep(0.01)


def accuse(options: Namespace, what: str) -> None:
    """Note what must not be, for the end of the run."""
    with (options.directory / "wrong").open("ab", buffering=0) as file:
        file.write(f"{what}\n".encode())


class Lines:
    """Lines of words on disk. A line that a kill cut was not yet acted upon, and goes."""

    def __init__(self, path: Path) -> None:
        text = path.read_bytes() if path.exists() else b""
        complete, end, _ = text.rpartition(b"\n")
        self.words = [line.split() for line in complete.decode().splitlines()]
        self._path = path
        self._length = len(complete + end)
        self._file: FileIO | None = None

    def write(self, *words: object) -> None:
        """Add a line, and wait until it is on disk."""
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
            self._file.truncate(self._length)
        self._file.write(" ".join(map(str, words)).encode() + b"\n")
        os.fsync(self._file.fileno())


class Journal:
    """What a producer meant to send and what it was told, on disk before and after each sending."""

    def __init__(self, path: Path) -> None:
        self.meant = 0
        self.told: dict[int, tuple[int, int, int]] = {}
        self.again: dict[int, tuple[int, int, int]] = {}
        lines = Lines(path)
        for word, number, *answer in lines.words:
            if word == "meant":
                self.meant = int(number)
            else:
                applied, duplicate, refused = map(int, answer)
                told = self.told if word == "told" else self.again
                told[int(number)] = applied, duplicate, refused
        self.write = lines.write


def produce(options: Namespace) -> None:
    """Send batch after batch; first the one that a killed process left unanswered."""
    journal = Journal(options.directory / f"journal-{options.number}")
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(seconds=options.number))
        number = journal.meant
        if not number or number in journal.told:
            number += 1
        while not (options.drain and number > journal.meant):
            columns = batch_of(options.seed, options.number, number)
            batch_id = None if "event_id" in columns else f"{options.number}/{number}"
            if number > journal.meant:
                journal.write("meant", number)
            told = send(bandit, columns, batch_id)
            journal.write("told", number, told.applied, told.duplicate, told.refused)
            if number % 10 == 0 and not (
                options.drain or options.cluster
            ):  # and now and then an old one once more
                told = send(bandit, columns, batch_id)
                # After a lost reply it cannot be told whether this call applied them, so one that
                # was told "applied" is not wrong; the counts are.
                if told.refused:
                    raise RuntimeError(f"batch {number} was sent once more, and is {told}")
            number += 1
        if options.drain and options.cluster:
            # What failovers lost goes in again; the rest is known.
            for number in range(1, journal.meant + 1):
                columns = batch_of(options.seed, options.number, number)
                batch_id = None if "event_id" in columns else f"{options.number}/{number}"
                told = send(bandit, columns, batch_id)
                journal.write("again", number, told.applied, told.duplicate, told.refused)


def send(bandit: Bandit, columns: Columns, batch_id: str | None) -> Applied:
    """Send a batch until the store says what became of it."""
    return insisting(bandit.record_batch, columns, batch_id=batch_id)


def write_log(options: Namespace) -> None:
    """Append to a log; a line that a killed process left torn becomes one that is refused."""
    path = log_path(options.directory, options.number)
    dice = np.random.default_rng()
    with path.open("ab", buffering=0) as file:
        finish_line(path)
        while True:
            columns = batch_of(options.seed, 1000 + options.number, int(dice.integers(2**40)) * 2)
            rows = zip(*columns.values(), strict=True)
            lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
            text = "".join(f'{line[:-1]}, "time": {time.time()}}}\n' for line in lines).encode()
            middle = int(dice.integers(len(text)))
            file.write(text[:middle])
            os.fsync(file.fileno())
            file.write(text[middle:])
            os.fsync(file.fileno())
            time.sleep(0.05)


def finish_line(path: Path) -> None:
    """End the line that a killed writer left torn; before its end nobody reads it."""
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def work(options: Namespace) -> None:
    """Ingest all logs, again and again."""
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(seconds=1))
        while True:
            for number in range(LOGS):
                path = log_path(options.directory, number)
                if path.exists() and path.stat().st_size:
                    try:
                        ingest_log(bandit, EventLog(path), batch_size=100 + 400 * options.number)
                    except StoreError:
                        time.sleep(0.01)
            time.sleep(0.02)


def administrate(options: Namespace) -> None:
    """Add arms and retire them, so that the slots of all others move under their writers."""
    with opened(options) as store:
        bandit = Bandit(NAME, store, retry_for=timedelta(0))
        for number in range(sys.maxsize):
            segment = SEGMENTS[number % len(SEGMENTS)]
            try:
                old = [arm for arm in bandit.counts(segment).arms if arm.startswith("short-lived")]
                bandit.retire(segment, old)
                bandit.add_arms(segment, [f"short-lived {i}" for i in range(number % 7)])
            except StoreError:
                time.sleep(0.01)
            time.sleep(0.05)


def read(options: Namespace) -> None:
    """Watch that no lasting count ever falls, and that other arms have only what is their own.

    A server that syncs each write loses nothing. A failover may.
    """
    seen: Counts = Counter()
    with opened(options) as store:
        bandit = Bandit(NAME, store)
        while True:
            for segment in SEGMENTS:
                counts = insisting(bandit.counts, segment)
                if wrong := strangers(counts):
                    accuse(options, f"{segment!r}: {wrong}")
                for arm, trials in zip(counts.arms, counts.trials.tolist(), strict=True):
                    if is_lasting(arm):
                        if trials < seen[segment, arm] and not options.cluster:
                            accuse(
                                options, f"{segment!r} {arm!r} fell: {seen[segment, arm]} {trials}"
                            )
                        seen[segment, arm] = trials
            time.sleep(0.02)


ROLES: dict[str, Callable[[Namespace], None]] = {
    "produce": produce,
    "write": write_log,
    "work": work,
    "administrate": administrate,
    "read": read,
}
