"""Counting events beside one increment an event, and reading counts back."""

from __future__ import annotations

import time

import numpy as np
import pytest

import banditcore as bc
from banditcore.event_format import decode_events, encode_events
from banditcore.events import EventColumns

EVENTS, SEGMENTS, ARMS = 50_000, 100, 1_000


@pytest.fixture
def batch() -> dict[str, object]:
    rng = np.random.default_rng(1)
    return {
        "segment": [f"seg/{i}" for i in rng.integers(SEGMENTS, size=EVENTS)],
        "arm": [f"item-{i}" for i in rng.integers(ARMS, size=EVENTS)],
        "successes": (rng.random(EVENTS) < 0.05).astype(float),
        "time": np.full(EVENTS, time.time() - 1),
    }


@pytest.mark.benchmark(group="50,000 events")
def test_record_batch(benchmark, store: bc.Store, batch: dict[str, object]) -> None:
    bandit = bc.Bandit("bench", store)
    bandit.record_batch(batch)  # segments and arms exist from now on
    applied = benchmark.pedantic(bandit.record_batch, (batch,), rounds=5)
    assert applied.applied == EVENTS


@pytest.mark.benchmark(group="50,000 events")
def test_emit(benchmark, store: bc.Store, batch: dict[str, object]) -> None:
    """Into the streams; workers count them later."""
    bandit = bc.Bandit("bench", store)

    def emitted() -> None:
        bandit.emit(batch)
        bandit.flush()

    emitted()  # connections and the library are there from now on
    benchmark.pedantic(emitted, rounds=5)
    bandit.close()


@pytest.mark.benchmark(group="50,000 events")
def test_unpack(benchmark, batch: dict[str, object]) -> None:
    """What a worker does with them first."""
    body = encode_events(EventColumns.of(batch, now=time.time()))
    assert len(benchmark(decode_events, body).events) == EVENTS


@pytest.mark.benchmark(group="50,000 events")
def test_pipelined_hincrbyfloat(benchmark, store: bc.Store, batch: dict[str, object]) -> None:
    rewards = batch["successes"].tolist()
    rows = list(zip(batch["segment"], batch["arm"], rewards, strict=True))

    def increments() -> None:
        pipeline = store.client.pipeline(transaction=False)
        for segment, arm, reward in rows:
            pipeline.hincrbyfloat(segment, f"t:{arm}", 1.0)
            pipeline.hincrbyfloat(segment, f"s:{arm}", reward)
        pipeline.execute()

    benchmark.pedantic(increments, rounds=2)


@pytest.mark.benchmark(group="one event")
def test_record(benchmark, store: bc.Store) -> None:
    bandit = bc.Bandit("bench", store)
    benchmark(bandit.record, "IN/mobile", "item-17", reward=1.0)


@pytest.mark.benchmark(group="counts of 10,000 arms")
def test_counts(benchmark, store: bc.Store) -> None:
    bandit = bc.Bandit("bench", store)
    arms = [f"item-{i}" for i in range(10_000)]
    bandit.record_batch({"segment": ["IN"] * 10_000, "arm": arms, "successes": [0] * 10_000})
    assert len(benchmark(bandit.counts, "IN")) == 10_000
