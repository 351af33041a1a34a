"""What tests of streams share: a producer, what its events add up to, and leases that run out."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from banditcore.bandit import Bandit
from banditcore.errors import StoreError, StoreUnavailableError
from banditcore.event_format import encode_events
from banditcore.events import EventColumns
from banditcore.ingest import IngestWorker
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.event_streams import partitions, streams
from bandits import table
from servers import RunningServer, wait_until

T0 = 1_700_000_000.0

Row = tuple[str, str, float]  # segment, arm, reward
Counts = dict[str, dict[str, tuple[float, float]]]


class Producer:
    """Appends events to the streams of a bandit, and knows what they add up to."""

    def __init__(self, store: Store, bandit: str = "home", of: int = 2) -> None:
        self.sent: list[Row] = []
        self._store = store
        self._bandit = bandit
        self._of = partitions.agree(store, bandit, of)
        self._token = os.urandom(16)
        self._sequence = 0

    def send(self, rows: Iterable[Row], time: float = T0) -> None:
        """Append rows, those of one partition as one entry."""
        by_partition: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_partition[partitions.partition_of(row[0], self._of)].append(row)
            self.sent.append(row)
        for partition, some in by_partition.items():
            self.append(partition, packed(some, time), len(some))

    def append(self, partition: int, body: bytes, count: int) -> int:
        """Append any bytes; return their first offset."""
        self._sequence += 1
        entry = streams.Append(partition, self._token, self._sequence, count, body)
        [appended] = streams.append(self._store, self._bandit, [entry], most_unapplied=10**6)
        if isinstance(appended, StoreError):
            raise appended
        assert (appended.word, appended.first is None) == ("OK", False)
        return appended.first or 0


def packed(rows: Sequence[Row], time: float = T0) -> bytes:
    """Return rows as the body of an entry."""
    segments, arms, rewards = zip(*rows, strict=True)
    columns = {"segment": list(segments), "arm": list(arms), "reward": list(rewards)}
    return encode_events(EventColumns.of({**columns, "time": [time] * len(rows)}, now=time))


def sums(rows: Iterable[Row]) -> Counts:
    """Return what events add up to."""
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for segment, arm, reward in rows:
        trials, successes = found[segment].get(arm, (0.0, 0.0))
        found[segment][arm] = (trials + 1, successes + reward)
    return dict(found)


def stored(store: Store, bandit: str = "home") -> Counts:
    """Return the counts of all segments that have any."""
    opened = Bandit(bandit, store)
    found = {path: table(opened.counts(path)) for path in opened.segments()}
    return {path: counts for path, counts in found.items() if counts}


def run_out(store: Store, partition: int, bandit: str = "home") -> None:
    """Let the lease of a partition run out now, and all workers be forgotten."""
    store.client.delete(keys.workers(bandit, "stream"))
    store.client.hset(keys.of_partition(bandit, partition).lease, "until", "0")


def rows(n: int, segments: str = "XYZ") -> list[Row]:
    """Return n events of three arms in some segments."""
    return [(segments[i // 3 % len(segments)], f"arm {i % 3}", float(i % 2)) for i in range(n)]


@contextmanager
def started_again(server: RunningServer) -> Iterator[None]:
    """Start a server that was killed once more, on what it has on disk."""
    process = subprocess.Popen(
        server.process.args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _answers(server), "the server does not answer")
        yield
    finally:
        process.kill()
        process.wait()


def killed(server: RunningServer) -> None:
    """Kill a server; it has no time to save anything."""
    server.process.kill()
    server.process.wait()


@contextmanager
def running(worker: IngestWorker) -> Iterator[None]:
    """Let a worker run in a thread; at the end it is stopped, and must end well."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(worker.run, stop)
        try:
            yield
        finally:
            stop.set()
        ended.result(60)


def _answers(server: RunningServer) -> bool:
    try:
        connect(server.url).close()
    except StoreUnavailableError:
        return False
    return True
