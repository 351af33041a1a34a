"""What arms cost in the server's memory, and that events cost nothing once they are counted."""

from __future__ import annotations

import pytest

from banditcore.bandit import Bandit
from banditcore.events import MAX_AHEAD_S, EventColumns
from banditcore.grouping import by_segment
from banditcore.store import Store, keys
from banditcore.store.counts.updates import OrderedUpdate
from bandits import NOW, Clock

IN = keys.of_segment("home", "IN")
MARK = keys.mark_field("log", "0")
MOST_BYTES_AN_ARM = 24  # beside the id: the target


def used(store: Store, *names: str) -> int:
    """Return the bytes of keys, every field looked at."""
    return sum(store.client.memory_usage(name, samples=0) or 0 for name in names)


def filled(store: Store, arms: int, at_once: int) -> list[str]:
    """Count an event of each of some arms, few of them at once; return their ids."""
    ids = [f"item-{i:08}" for i in range(arms)]
    bandit = Bandit("home", store)
    for first in range(0, arms, at_once):
        some = ids[first : first + at_once]
        columns = {"segment": ["IN"] * at_once, "arm": some, "reward": [0.5] * at_once}
        assert bandit.record_batch(columns).applied == at_once
    return ids


@pytest.mark.parametrize(("arms", "at_once"), [(1_000, 1_000), (1_000, 10), (10_000, 200)])
def test_an_arm_takes_24_bytes_and_its_id(one_server: Store, arms: int, at_once: int) -> None:
    """However they came. What tells batches from their duplicates is no matter of arms."""
    ids = filled(one_server, arms, at_once)
    beside = used(one_server, IN.state, IN.arms) - sum(map(len, ids))
    assert 16 * arms < beside <= MOST_BYTES_AN_ARM * arms


def test_events_in_order_take_nothing(one_server: Store) -> None:
    """After a hundred times as many events of the same arms, each key has the same bytes."""
    bandit = Bandit("home", one_server, clock=lambda: NOW)
    arms = [f"item-{i:08}" for i in range(1_000)]
    columns = {"segment": ["IN"] * 10_000, "arm": arms * 10, "reward": [1] * 10_000}
    [group] = by_segment(EventColumns.of({**columns, "time": [NOW] * 10_000}, now=NOW))
    memory = []
    # Offsets of one width: a longer number is a byte or two more.
    offset = 100_000_000
    before = ""
    for batch in range(100):
        new = str(offset + 10_000 * batch)
        update = OrderedUpdate(group, MARK, 1, before, new, NOW)
        assert bandit.statistics.apply([update])[0].word == "OK"
        before = new
        if batch in {0, 9, 99}:
            memory.append(used(one_server, *IN))
    assert max(memory) - min(memory) <= 64  # a million events; the server rounds as it likes
    assert bandit.counts("IN").trials.sum() == 1e6


def test_unique_ids_take_what_two_buckets_hold(store: Store) -> None:
    """However long it goes on, only the ids of the current and the last bucket are remembered."""
    clock = Clock(NOW)
    bandit = Bandit("home", store, clock=clock)
    bucket_s = 3600 + MAX_AHEAD_S
    memory, remembered = [], []
    for bucket in range(6):
        clock.now = NOW + bucket * bucket_s
        columns = {
            "segment": ["IN"] * 2_000,
            "arm": ["a", "b"] * 1_000,
            "reward": [1] * 2_000,
            "event_id": [f"{bucket}/{i:04}" for i in range(2_000)],
        }
        assert bandit.record_batch(columns).applied == 2_000
        memory.append(used(store, *IN))
        remembered.append(sum(map(store.client.scard, IN[2:4])))
    assert remembered[1:] == [remembered[1]] * 5
    assert max(memory[1:]) <= 1.05 * min(memory[1:])  # as their hash tables happen to be
    assert bandit.counts("IN").trials.sum() == 12_000
