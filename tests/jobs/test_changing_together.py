"""Many processes at once, while arms come and go and evidence fades, by clocks that are wrong."""

from __future__ import annotations

import datetime as dt
import multiprocessing as mp
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from banditcore.bandit import Bandit
from banditcore.store import Store
from bandits import NOW, table
from changing import (
    AHEAD_S,
    ARMS_AT_ONCE,
    BATCHES,
    GENERATIONS,
    HALF_LIVES_S,
    LATE_S,
    LEAST_MOVES,
    PART,
    SEGMENTS,
    change_half_lives,
    live_and_retire,
    record_by_a_wrong_clock,
    retire_what_is_written_to,
    write_late,
    write_to_what_goes,
)
from shares import share, strangers


class Crowd:
    """Processes that start at one moment; some work until the others are done."""

    def __init__(self, pool: ProcessPoolExecutor, manager: Any, size: int) -> None:
        self._pool = pool
        self.start = manager.Barrier(size)
        self.stop = manager.Event()

    def add(self, work: Any, url: str, *more: object) -> Future[Any]:
        """Let a process do some work."""
        return self._pool.submit(work, url, self.start, *more)


@contextmanager
def crowd(size: int) -> Iterator[Crowd]:
    context = mp.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(size, context) as pool:
        together = Crowd(pool, manager, size)
        try:
            yield together
        finally:
            together.stop.set()


def test_arms_come_and_go_and_no_count_is_on_the_wrong_one(store: Store) -> None:
    """Two writers account for each arm they retire; two more retire what is written to."""
    bandit = Bandit("home", store)
    with crowd(4) as together:
        writers = [together.add(live_and_retire, store.url, i) for i in range(2)]
        restless = together.add(write_to_what_goes, store.url, together.stop)
        retiring = together.add(retire_what_is_written_to, store.url, together.stop)
        while not all(writer.done() for writer in writers):
            for segment in SEGMENTS:
                assert strangers(bandit.counts(segment)) == []
        together.stop.set()
        assert [writer.result() for writer in writers] == [GENERATIONS * ARMS_AT_ONCE] * 2
        assert restless.result() > 0
        assert retiring.result() > 0
    shared = share("arm of all")
    for segment in SEGMENTS:
        counts = bandit.counts(segment)
        assert strangers(counts) == []
        found = table(counts)
        assert found.pop("arm of all") == (GENERATIONS, GENERATIONS * shared)
        assert all(arm.startswith("restless") for arm in found)


def test_landmarks_move_and_half_lives_change_under_writers(store: Store) -> None:
    """Each batch has the weight of the half-life that was in force when it was applied.

    All weights are powers of two, so sums are exact; one that was applied twice, or under a
    landmark or half-life that was not in force, has a weight that is not among these.
    """
    first = dt.timedelta(seconds=HALF_LIVES_S[-1])
    bandit = Bandit("home", store, half_life=first, clock=lambda: NOW)
    for segment in SEGMENTS:
        bandit.add_arms(segment, [f"filler {i}" for i in range(100)])  # so there are many chunks
    weights = [2.0 ** -(LATE_S / half_life) for half_life in HALF_LIVES_S]
    assert not {2 * weight for weight in weights} & set(weights)
    with crowd(4) as together:
        writers = [together.add(write_late, store.url, i) for i in range(3)]
        changing = together.add(change_half_lives, store.url, together.stop)
        while not all(writer.done() for writer in writers):
            for segment in SEGMENTS:
                assert strangers(bandit.counts(segment, as_of=NOW + AHEAD_S)) == []
        together.stop.set()
        for writer in writers:
            writer.result()
        assert changing.result() >= LEAST_MOVES  # landmarks that moved
    seen: Counter[float] = Counter()
    for segment in SEGMENTS:
        found = table(bandit.counts(segment, as_of=NOW))
        for arm in (f"{writer}/{number}" for writer in range(3) for number in range(BATCHES)):
            trials, successes = found[arm]
            assert successes == trials * share(arm)
            seen[trials / PART] += 1
    assert set(seen) <= set(weights)
    assert len(seen) > 1
    assert seen.total() == 2 * 3 * BATCHES
    assert AHEAD_S / HALF_LIVES_S[0] > 500


def test_clocks_that_are_wrong_are_bounded_and_counted(store: Store) -> None:
    """Late by days counts less; early by less than an hour counts; by more is refused."""
    day = dt.timedelta(days=1)
    bandit = Bandit("home", store, half_life=day, window=7 * day)
    bandit.add_arms("IN", ["still"])
    offsets = [-3 * 86_400.0, 1800.0, 2 * 3600.0, 400 * 86_400.0]
    with ProcessPoolExecutor(2, mp.get_context("spawn")) as pool:
        told = list(pool.map(record_by_a_wrong_clock, [store.url] * 4, offsets))
    assert told == [(6, 0, 0), (6, 0, 0), (0, 0, 6), (0, 0, 6)]
    found = table(bandit.counts("IN"))
    assert found.keys() == {"still", "-259200", "1800"}
    # The test takes less than a thousandth of a day.
    np.testing.assert_allclose(found["-259200"], [6 * 2**-3] * 2, rtol=1e-3)
    np.testing.assert_allclose(found["1800"], [6 * 2 ** (1800 / 86_400)] * 2, rtol=1e-3)
    [view] = bandit.reader.look(["IN"])
    assert view is not None
    assert abs(view.version.landmark - bandit.clock()) < 600  # nobody's clock has moved it
