"""What statistics take in the server's memory: by arms, by events in order, by events with ids.

Bytes are exact. They are printed, and kept as extra information of the benchmarks, whose times are
those of writing all this.
"""

from __future__ import annotations

import time

import pytest

import banditcore as bc
from banditcore.events import EventColumns
from banditcore.grouping import by_segment
from banditcore.store import keys
from banditcore.store.counts.updates import OrderedUpdate

IN = keys.of_segment("bench", "IN")
MARK = keys.mark_field("log", "0")


@pytest.fixture
def say(benchmark, capsys):
    """Print a figure, and keep it beside the times."""

    def tell(what: str, figure: float) -> None:
        benchmark.extra_info[what] = figure
        with capsys.disabled():
            print(f"\n{benchmark.name}: {what}: {figure:,.6g}")  # noqa: T201 # what it is for

    return tell


def used(store: bc.Store, *names: str) -> int:
    return sum(store.client.memory_usage(name, samples=0) or 0 for name in names)


@pytest.mark.benchmark(group="memory of arms")
@pytest.mark.parametrize("at_once", [10, 1_000])
@pytest.mark.parametrize("arms", [100, 1_000, 10_000])
def test_arms(benchmark, say, store: bc.Store, arms: int, at_once: int) -> None:
    bandit = bc.Bandit("bench", store)
    ids = [f"item-{i:08}" for i in range(arms)]

    def fill() -> None:
        for first in range(0, arms, at_once):
            some = ids[first : first + at_once]
            bandit.record_batch(
                {"segment": ["IN"] * len(some), "arm": some, "reward": [1] * len(some)}
            )

    benchmark.pedantic(fill, rounds=1)
    beside = used(store, IN.state, IN.arms) - sum(map(len, ids))
    say("bytes an arm, beside its id", beside / arms)


@pytest.mark.benchmark(group="memory of a million events")
def test_events_in_order(benchmark, say, store: bc.Store) -> None:
    bandit = bc.Bandit("bench", store)
    now, n = time.time() - 1, 10_000
    arms = [f"item-{i:08}" for i in range(1_000)] * (n // 1_000)
    columns = {"segment": ["IN"] * n, "arm": arms, "reward": [1] * n, "time": [now] * n}
    [group] = by_segment(EventColumns.of(columns, now=now))
    memory = {}

    def count() -> None:
        before = ""
        for batch in range(100):
            new = str(100_000_000 + n * batch)
            bandit.statistics.apply([OrderedUpdate(group, MARK, 1, before, new)])
            before = new
            if batch in {0, 9, 99}:
                memory[n * (batch + 1)] = used(store, *IN)

    benchmark.pedantic(count, rounds=1)
    for events, size in memory.items():
        say(f"bytes after {events:,} events of 1,000 arms", size)


@pytest.mark.benchmark(group="memory of events with ids")
@pytest.mark.parametrize("events", [10_000, 100_000])
def test_events_with_ids(benchmark, say, store: bc.Store, events: int) -> None:
    """Within one window: later ones take the place of earlier ones."""
    bandit = bc.Bandit("bench", store)

    def record() -> None:
        for first in range(0, events, 10_000):
            ids = [str(first + i) for i in range(10_000)]
            columns = {"segment": ["IN"] * 10_000, "arm": ["a"] * 10_000, "event_id": ids}
            bandit.record_batch({**columns, "reward": [1] * 10_000})

    benchmark.pedantic(record, rounds=1)
    say("bytes an event while it is remembered", used(store, *IN) / events)
