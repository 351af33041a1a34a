"""Events from a stream into counts, beside one increment an event and one call a batch."""

from __future__ import annotations

import time

import numpy as np
import pytest

import banditcore as bc
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource

EVENTS, SEGMENTS, ARMS = 500_000, 100, 1_000


def batches() -> list[dict[str, object]]:
    rng = np.random.default_rng(1)
    n = 50_000
    return [
        {
            "segment": [f"seg/{i}" for i in rng.integers(SEGMENTS, size=n)],
            "arm": [f"item-{i}" for i in rng.integers(ARMS, size=n)],
            "successes": (rng.random(n) < 0.05).astype(float),
            "time": time.time() - 1 - rng.random(n),
        }
        for _ in range(EVENTS // n)
    ]


def drain(worker: IngestWorker) -> None:
    while worker.step():
        pass


@pytest.mark.benchmark(group="500,000 events of a stream")
def test_one_worker(benchmark, store: bc.Store) -> None:
    """From the packed events in the stream to the counts, on the cores of the server."""
    bandit = bc.Bandit("bench", store)
    worker = IngestWorker(bandit, RedisStreamSource(bandit, retain_s=0))

    def emitted() -> None:
        for batch in batches():
            assert bandit.emit(batch) == len(batch["segment"])
            bandit.flush()

    emitted()
    drain(worker)  # segments and arms exist from now on
    benchmark.pedantic(drain, (worker,), setup=emitted, rounds=3)
    assert sum(bandit.counts(path).trials.sum() for path in bandit.segments()) == 4 * EVENTS


@pytest.mark.benchmark(group="500,000 events of a stream")
def test_emit(benchmark, store: bc.Store) -> None:
    """From columns of ids to the stream, until it is confirmed."""
    bandit = bc.Bandit("bench", store)
    worker = IngestWorker(bandit, RedisStreamSource(bandit, retain_s=0))

    def emit() -> None:
        for batch in some:
            bandit.emit(batch)
        bandit.flush()

    def fresh() -> None:
        drain(worker)

    some = batches()
    benchmark.pedantic(emit, setup=fresh, rounds=3)


@pytest.mark.benchmark(group="500,000 events of a stream")
def test_pipelined_hincrbyfloat(benchmark, store: bc.Store) -> None:
    """Two increments an event, 50,000 events a round trip, which count twice when retried."""
    some = [
        list(zip(batch["segment"], batch["arm"], batch["successes"].tolist(), strict=True))
        for batch in batches()
    ]

    def increments() -> None:
        for rows in some:
            pipeline = store.client.pipeline(transaction=False)
            for segment, arm, reward in rows:
                pipeline.hincrbyfloat(segment, f"t:{arm}", 1.0)
                pipeline.hincrbyfloat(segment, f"s:{arm}", reward)
            pipeline.execute()

    benchmark.pedantic(increments, rounds=1)
