"""How long `recommend` takes, as percentiles of single calls.

    python scripts/measuring/measure_serving_latency.py --samples 100000

A segment of 10,000 arms, k=10, 50 exclusions and a user, in both modes. Beside wall time stands the
time that the thread had a processor: on a machine that is shared, the difference is the others'.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np

import banditcore as bc
from banditcore.benchmarking.workloads import clicks
from banditcore.slate_format import encode
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.publish import publish

ARMS = 10_000
PERCENTILES = (50, 99, 99.9, 100)
USERS = tuple(f"u{i}" for i in range(1_000))
SEEN = {f"item-{i}" for i in range(50)}


class Published:
    """What a recommender needs of a bandit."""

    name = "measured"

    def __init__(self, store: bc.Store) -> None:
        self.store = store

    def segments(self) -> list[str]:
        """Return the one segment."""
        return ["IN/mobile"]


def measured(
    clock: Callable[[], int], request: Callable[[int], object], samples: int
) -> list[float]:
    """Return percentiles of one call, in us, less what reading the clock takes."""
    took = np.empty(samples)
    empty = np.empty(samples)
    for i in range(samples):
        begin = clock()
        request(i)
        took[i] = clock() - begin
    for i in range(samples):
        begin = clock()
        empty[i] = clock() - begin
    found = (np.percentile(took, PERCENTILES) - np.median(empty)) / 1e3
    return [float(each) for each in found.round(2)]


def one(recommender: bc.Recommender, i: int) -> bc.Recommendation:
    """Answer one user."""
    return recommender.recommend("IN/mobile", 10, user=USERS[i % 1_000], exclude=SEEN)


def many(recommender: bc.Recommender, _: int) -> object:
    """Answer all users."""
    return recommender.recommend_many("IN/mobile", USERS)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--samples", type=int, default=100_000)
    samples = parser.parse_args().samples
    posterior = clicks(ARMS, 1)
    bank = draw_bank(posterior.alpha, posterior.beta, seed=1)
    ids = [f"item-{i}" for i in range(ARMS)]
    version = int(time.time() * 1e6)
    held = Snapshot("measured", "IN/mobile", version, ids, posterior.alpha, posterior.beta, bank)
    print(f"{samples} samples; us at {', '.join(map(str, PERCENTILES))} %")
    with (
        TemporaryDirectory(prefix="bcl") as directory,
        bc.connect(f"embedded://{directory}") as store,
    ):
        publish(store, "measured", "IN/mobile", encode(held), version)
        for mode in ("bank", "live"):
            recommender = bc.Recommender(Published(store), mode=mode, max_age=float("inf"))
            recommender.warm_up()

            for name, request, count in (
                ("one", partial(one, recommender), samples),
                ("1,000 users", partial(many, recommender), samples // 100),
            ):
                wall = measured(time.perf_counter_ns, request, count)
                own = measured(time.thread_time_ns, request, count)
                print(f"{mode}, {name}: wall {wall}, of the thread {own}")


if __name__ == "__main__":
    main()
