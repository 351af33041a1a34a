"""Events a second from producer to counts, beside pipelined HINCRBYFLOATs, in one run.

One producer, one worker and the server, each a process, share what cores there are. In each round
the ways take turns. What is timed ends when the last event is in the counts.

    make stream-speed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

import banditcore as bc
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store.event_streams import partitions, streams

SEGMENTS, ARMS, BATCH = 100, 1_000, 50_000
ONE, TWO = "one HINCRBYFLOAT", "two HINCRBYFLOATs"
RETAIN_S = 0.0  # applied events go at once: an hour of them would only fill the memory

Batch = dict[str, object]


def main() -> None:
    """Measure, or work for whoever does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000, help="a round (default: 500,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=BATCH, help="events a batch (default: 50,000)")
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.batch)
    else:
        measure(arguments.events, arguments.rounds, arguments.batch)


def work(url: str, batch: int) -> None:
    """Apply the streams until standard input ends."""
    stop = threading.Event()
    with bc.connect(url) as store:
        worker = worker_on(store, batch)
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        sys.stdin.read()
        stop.set()
        thread.join()


def worker_on(store: bc.Store, batch: int) -> IngestWorker:
    """Return the one worker."""
    bandit = bc.Bandit("bench", store)
    return IngestWorker(bandit, RedisStreamSource(bandit, retain_s=RETAIN_S), batch_size=batch)


def measure(events: int, rounds: int, batch: int) -> None:
    """Print a line for each round, and what they come to."""
    ways = ("emit, apply together", "apply alone", "emit alone", ONE, TWO)
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with (
        TemporaryDirectory(prefix="bcb") as directory,
        bc.connect(f"embedded://{Path(directory)}") as store,
    ):
        batches = made(events, batch)
        bandit = bc.Bandit("bench", store)
        emit(bandit, batches)
        drain(worker_on(store, batch))  # segments and arms exist from now on
        for _ in range(rounds):
            for way, number in ((ONE, 1), (TWO, 2)):
                seconds = timed(increments(store, batches[0], number))
                rates[way].append(batch / seconds)
            with worker_process(store.url, batch):
                together = timed(lambda: (emit(bandit, batches), applied(store)))
            rates["emit, apply together"].append(events / together)
            rates["emit alone"].append(events / timed(lambda: emit(bandit, batches)))
            worker = worker_on(store, batch)
            rates["apply alone"].append(events / timed(lambda worker=worker: drain(worker)))
        total = sum(bandit.counts(path).trials.sum() for path in bandit.segments())
        if total != (1 + 2 * rounds) * events:
            sys.exit(f"{total} events are counted, {(1 + 2 * rounds) * events} were emitted")
        bandit.close()
    print(f"{events:,} events a round in batches of {batch:,}; {SEGMENTS} segments x {ARMS} arms")
    print(
        "the last columns: how many times as fast as each kind of increment, worst and median round"
    )
    print(f"{'events/s':26}{'min':>11}{'median':>11}{'max':>11}{ONE:>26}{TWO:>26}")
    for way in ways:
        found = rates[way]
        line = "".join(f"{value:11,.0f}" for value in (min(found), median(found), max(found)))
        for other in (ONE, TWO):
            ratios = [one / two for one, two in zip(found, rates[other], strict=True)]
            line += f"{f'{min(ratios):.1f}, {median(ratios):.1f}':>26}"
        print(f"{way:26}{line}")


def made(events: int, batch: int) -> list[Batch]:
    """Return columns of ids, rewards and times."""
    rng = np.random.default_rng(1)
    return [
        {
            "segment": [f"seg/{i}" for i in rng.integers(SEGMENTS, size=batch)],
            "arm": [f"item-{i}" for i in rng.integers(ARMS, size=batch)],
            "successes": (rng.random(batch) < 0.05).astype(float),
            "time": time.time() - 1 - rng.random(batch),
        }
        for _ in range(events // batch)
    ]


def emit(bandit: bc.Bandit, batches: list[Batch]) -> None:
    """Send all, until the server has confirmed it."""
    for each in batches:
        bandit.emit(each)
    bandit.flush()


def drain(worker: IngestWorker) -> None:
    """Apply all there is, as this process."""
    while worker.step():
        pass
    worker.release()


def applied(store: bc.Store) -> None:
    """Wait until the worker has applied all there is."""
    number = partitions.load(store, "bench") or 0
    while any(state.unapplied for state in streams.states(store, "bench", range(number))):
        time.sleep(0.002)


@contextmanager
def worker_process(url: str, batch: int) -> Iterator[None]:
    """Run the worker as a process of its own."""
    words = [sys.executable, __file__, "--work", url, "--batch", str(batch)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:  # noqa: S603  # our own words
        time.sleep(1.0)  # it imports, connects and takes its partitions
        yield
        process.communicate()
    if process.returncode:
        sys.exit("the worker has failed")


def increments(store: bc.Store, batch: Batch, number: int) -> Callable[[], None]:
    """Return what adds each event to one field, or to two as counts need it, in one round trip."""
    columns = (batch["segment"], batch["arm"], batch["successes"].tolist())
    rows = list(zip(*columns, strict=True))

    def run() -> None:
        pipeline = store.client.pipeline(transaction=False)
        for segment, arm, reward in rows:
            pipeline.hincrbyfloat(segment, arm, reward)
            if number > 1:
                pipeline.hincrbyfloat(segment, f"t:{arm}", 1.0)
        pipeline.execute()

    return run


def timed(action: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
