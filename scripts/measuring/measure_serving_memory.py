"""How long a recommender takes to load many segments, and what they hold in memory.

    python scripts/measuring/measure_serving_memory.py --segments 10000 --arms 1000 --ids own

Publishes synthetic blobs into a server of its own, then loads them in a process that has done
nothing else; and again while another thread asks it a thousand times a second: requests that took
long show for how long the loader kept the interpreter to itself. `--ids`: the "same" arms in all
segments, "own" ones in each, or "drawn" from twenty times as many.
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import banditcore as bc
from banditcore.benchmarking.workloads import clicks
from banditcore.slate_format import encode
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.publish import publish

BANDIT = "measured"


@dataclass
class Published:
    """What a recommender needs of a bandit."""

    store: bc.Store
    many: int
    name: str = BANDIT

    def segments(self) -> list[str]:
        """Return every published segment."""
        return [f"S/{i}" for i in range(self.many)]


def fill(store: bc.Store, segments: int, arms: int, ids: str) -> int:
    """Publish, and return the bytes of a blob."""
    posterior = clicks(arms, 1)
    bank = draw_bank(posterior.alpha, posterior.beta, seed=1)
    rng = np.random.default_rng(1)
    version = int(time.time() * 1e6)
    size = 0
    for i in range(segments):
        numbers = {
            "same": lambda: range(arms),
            "own": lambda i=i: range(i * arms, (i + 1) * arms),
            "drawn": lambda: rng.choice(20 * arms, arms, replace=False).tolist(),
        }[ids]()
        names = [f"item-{number}" for number in numbers]
        blob = encode(
            Snapshot(BANDIT, f"S/{i}", version, names, posterior.alpha, posterior.beta, bank)
        )
        size = len(blob)
        publish(store, BANDIT, f"S/{i}", blob, version)
    return size


def resident() -> int:
    """Return the bytes of memory this process holds."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def ask(recommender: bc.Recommender, segments: int, stop: threading.Event, took: list[int]) -> None:
    """Ask for slates of segments that are loaded, and note each request's nanoseconds."""
    i = 0
    while not stop.is_set():
        begin = time.perf_counter_ns()
        recommender.recommend(f"S/{i % segments}", 10, user="u")
        took.append(time.perf_counter_ns() - begin)
        i += 1
        time.sleep(0.001)


def load(url: str, segments: int, mode: str, *, asking: bool) -> None:
    """Load all there is, and say what it cost."""
    with bc.connect(url) as store:
        bandit = Published(store, segments)
        recommender = bc.Recommender(
            bandit, max_age=float("inf"), mode=mode, default=["d"], segments=bandit.segments()
        )
        bandit.many = 1
        took: list[int] = []
        stop = threading.Event()
        asker = threading.Thread(target=ask, args=(recommender, segments, stop, took))
        before = resident()
        if asking:
            asker.start()
        begin, cpu = time.perf_counter(), time.process_time()
        recommender.warm_up()
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        stop.set()
        if asking:
            asker.join()
        grown = resident() - before
        print(
            f"{mode}: {seconds:.1f} s ({cpu:.1f} s of CPU), {grown / 2**20:.0f} MB, "
            f"{grown / segments:,.0f} bytes a segment"
        )
        if took:
            wall = np.percentile(took, [50, 99, 99.9, 100]) / 1e3
            print("requests meanwhile, us at 50, 99, 99.9, 100 %:", wall.round(1).tolist())
        else:
            for i in range(segments):  # what strings cost once answers need them
                for user in range(30):
                    recommender.recommend(f"S/{i}", 10, user=f"u{user}")
            grown = resident() - before
            print(f"after 30 answers from each: {grown / segments:,.0f} bytes a segment")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--arms", type=int, default=1_000)
    parser.add_argument("--ids", choices=["same", "own", "drawn"], default="own")
    parser.add_argument("--mode", choices=["bank", "live"], default="bank")
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="bcm") as directory:
        url = f"embedded://{directory}"
        with bc.connect(url) as store:
            size = fill(store, given.segments, given.arms, given.ids)
            print(
                f"{given.segments} segments of {given.arms} arms, {given.ids} ids: {size:,} bytes"
            )
            for asking in (False, True):
                child = spawn.Process(
                    target=load, args=(url, given.segments, given.mode), kwargs={"asking": asking}
                )
                child.start()
                child.join()


if __name__ == "__main__":
    main()
