"""What tests of bandits and jobs share: a clock to turn, and all that a server holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

from banditcore.bandit import Bandit
from banditcore.counts import ArmCounts
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import EventLog
from banditcore.store.connect import Store, connect

NOW = 1_800_000_000.0


@dataclass
class Clock:
    """Shows the time that a test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def table(counts: ArmCounts) -> dict[str, tuple[float, float]]:
    """Return arm -> (trials, successes)."""
    columns = (counts.arms, counts.trials.tolist(), counts.successes.tolist())
    return {arm: (trials, successes) for arm, trials, successes in zip(*columns, strict=True)}


def everything(store: Store) -> dict[bytes, object]:
    """Return the value of every key of the server."""
    read = {
        b"hash": store.client.hgetall,
        b"set": store.client.smembers,
        b"string": store.client.get,
        b"zset": lambda key: store.client.zrange(key, 0, -1, withscores=True),
        b"stream": store.client.xrange,
    }
    return {key: read[store.client.type(key)](key) for key in store.client.scan_iter()}


# What other processes do. Here, because a spawned process imports it by name.


def record_batches(url: str, start: Barrier, batches: int) -> None:
    """Record batches of the same events in "IN" and "US", 200 arms each, all at once."""
    arms = [f"arm {i}" for i in range(200)]
    batch = {"segment": ["IN"] * 200 + ["US"] * 200, "arm": arms + arms, "reward": [1, 0] * 200}
    with connect(url) as store:
        bandit = Bandit("home", store)
        start.wait(60)
        for _ in range(batches):
            assert bandit.record_batch(batch).applied == 400


def ingest_together(url: str, start: Barrier, path: Path, batch_size: int) -> IngestReport:
    """Ingest a log while other processes do."""
    with connect(url) as store:
        log = EventLog(path)
        start.wait(60)
        return ingest_log(Bandit("home", store), log, batch_size=batch_size)


def die(*_: object) -> None:
    """End the worker process without a word."""
    os._exit(1)
