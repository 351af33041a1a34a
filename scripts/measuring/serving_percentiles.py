"""Percentiles of one request that looks up what its user has seen, over a unix socket.

10,000 arms, k = 10, 1,000 users who have seen 50 arms each. Run it from the repository, on a
machine that does nothing else: ``python scripts/measuring/serving_percentiles.py [requests]``.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import numpy as np

import banditcore as bc
from banditcore.slate_format import encode
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.publish import publish

ARMS = 10_000
USERS = [f"u{i}" for i in range(1_000)]
SEEN = [f"item-{i}" for i in range(50)]
PERCENTILES = (50, 90, 99, 99.9)


@contextmanager
def serving(store: bc.Store) -> Iterator[bc.Recommender]:
    """Yield a recommender that knows what users have seen from the store alone."""
    alpha, beta = np.full(ARMS, 2.0), np.linspace(20, 200, ARMS)
    ids = [f"item-{i}" for i in range(ARMS)]
    version = time.time_ns() // 1000
    held = Snapshot("bench", "IN", version, ids, alpha, beta, draw_bank(alpha, beta, seed=1))
    publish(store, "bench", "IN", encode(held), version)
    with bc.Recommender(bc.Bandit("bench", store), ["IN"], caps=[bc.FrequencyCap()]) as made:
        made.warm_up()
        yield made


def show(name: str, seconds: np.ndarray, stats: bc.SeenStats | None) -> None:
    """Print one line."""
    found = np.percentile(1e6 * seconds, PERCENTILES)
    parts = [f"p{p:g} {us:,.0f} us" for p, us in zip(PERCENTILES, found, strict=True)]
    worst = 1e6 * seconds.max()
    failed = {} if stats is None else dict(stats.failures)
    print(f"{name}: {', '.join(parts)}, max {worst:,.0f} us; {len(seconds):,} requests, {failed=}")


def main(requests: int) -> None:
    """Measure in a loop, one request after the other: no queue, so no latency is hidden."""
    with tempfile.TemporaryDirectory() as directory, bc.connect(f"embedded://{directory}") as store:
        with serving(store) as marking:
            for user in USERS:
                marking.mark_seen(user, SEEN)
        users = list(islice(cycle(USERS), requests))
        seconds = np.empty(requests)
        with serving(store) as recommender:
            for _ in range(2):  # the first is thrown away
                for i, user in enumerate(users):
                    begun = time.perf_counter()
                    recommender.recommend("IN", 10, user=user)
                    seconds[i] = time.perf_counter() - begun
            show("recommend", seconds, recommender.seen_stats)

        async def ask() -> None:
            for i, user in enumerate(users):
                begun = time.perf_counter()
                await recommender.recommend_async("IN", 10, user=user)
                seconds[i] = time.perf_counter() - begun

        with serving(store) as recommender:
            asyncio.run(ask())
            show("recommend_async", seconds, recommender.seen_stats)
            for i, user in enumerate(users):
                begun = time.perf_counter()
                recommender.mark_seen(user, (f"item-{i % ARMS}",))
                seconds[i] = time.perf_counter() - begun
            show("mark_seen", seconds, recommender.seen_stats)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "requests", nargs="?", type=int, default=50_000, help="of each kind (default: 50000)"
    )
    main(parser.parse_args().requests)
