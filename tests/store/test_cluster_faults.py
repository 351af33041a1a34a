"""Nodes that die, hang, come back and hand over slots while many write: each event once.

A primary answers before its replica has what it wrote, so a failover may lose what was answered
last, and no client can change that. What the replica confirmed (WAIT) must be there, once.
"""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis.crc import key_slot

from banditcore.bandit import Bandit
from banditcore.store import Store, connect, keys
from bandits import table
from clusters import Cluster, Node, running_cluster
from confirming import confirmed
from servers import binaries, patiently, wait_until

pytestmark = pytest.mark.slow

SEGMENTS = [f"IN/{i}" for i in range(12)]
WRITERS = 4


@pytest.fixture(params=["valkey", "redis"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param not in binaries():
        pytest.skip(f"no {request.param} server is installed")
    with running_cluster(request.param) as cluster:
        yield cluster


class Writer:
    """Records batches, each of an arm of its own in every segment, until it is told to stop."""

    def __init__(self, store: Store, name: int) -> None:
        self._store = store
        self._bandit = Bandit("home", store, retry_for=dt.timedelta(seconds=60))
        self._name = name
        self.sent = 0
        self.safe: set[tuple[str, str]] = set()  # segments and arms that a replica has

    def prepare(self) -> None:
        """Settle the half-life and the window, which is not tried again by itself."""
        self._bandit.statistics  # noqa: B018

    def write(self) -> None:
        """Record one batch."""
        arm = f"{self._name}-{self.sent}"
        n = len(SEGMENTS)
        self.sent += 1
        batch = {"segment": SEGMENTS, "arm": [arm] * n, "reward": [1] * n}

        def record() -> None:
            applied = self._bandit.record_batch(batch, batch_id=arm)
            # Even what was answered twice was applied by this call, and no other knows its id.
            assert (applied.applied, applied.duplicate, applied.refused) == (n, 0, 0)

        blobs = [keys.of_segment("home", segment).blob for segment in SEGMENTS]
        for segment, is_safe in zip(SEGMENTS, confirmed(self._store, blobs, record), strict=True):
            if is_safe:
                self.safe.add((segment, arm))


@contextmanager
def writing(url: str, at_least: int) -> Iterator[Callable[[], list[Writer]]]:
    """Let writers write; end them by a call, which waits until each has written enough."""
    stop = threading.Event()

    def run(name: int) -> Writer:
        with connect(url, timeout_s=1.0) as store:
            writer = Writer(store, name)
            patiently(writer.prepare)
            started.release()
            while not stop.is_set() or writer.sent < at_least:
                writer.write()
            return writer

    started = threading.Semaphore(0)
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(run, name) for name in range(WRITERS)]

        def ended() -> list[Writer]:
            stop.set()
            return [future.result() for future in running]

        try:
            for _ in range(WRITERS):
                assert started.acquire(timeout=60)
            yield ended
        finally:
            stop.set()


def written(url: str) -> dict[str, dict[str, tuple[float, float]]]:
    def read() -> dict[str, dict[str, tuple[float, float]]]:
        with connect(url) as store:
            bandit = Bandit("home", store)
            return {segment: table(bandit.counts(segment)) for segment in SEGMENTS}

    return patiently(read)


def check(url: str, writers: list[Writer]) -> None:
    """Nothing counts twice; nothing that a replica has confirmed is lost."""
    found = written(url)
    assert {counts for arms in found.values() for counts in arms.values()} == {(1.0, 1.0)}
    here = {(segment, arm) for segment, arms in found.items() for arm in arms}
    safe = set().union(*(writer.safe for writer in writers))
    assert safe
    assert not safe - here
    sent = {f"{i}-{n}" for i, writer in enumerate(writers) for n in range(writer.sent)}
    assert {arm for _, arm in here} <= sent


def slot_of(segment: str) -> int:
    return key_slot(keys.of_segment("home", segment).state.encode())


def test_slots_that_move_under_load_lose_and_double_nothing(cluster: Cluster) -> None:
    rng = random.Random(7)
    targets: set[int] = set()
    with writing(cluster.url, 20) as ended:
        for segment in rng.choices(SEGMENTS, k=30):
            slot = slot_of(segment)
            owner = cluster.owner(slot)
            target = rng.choice([node for node in cluster.primaries() if node is not owner])
            cluster.end_move(slot, cluster.begin_move(slot, target), target)
            targets.add(target.port)
        writers = ended()
    assert len(targets) == 3
    found = written(cluster.url)
    for i, writer in enumerate(writers):  # no server failed: nothing at all may be missing
        for n in range(writer.sent):
            assert all(found[segment].pop(f"{i}-{n}") == (1.0, 1.0) for segment in SEGMENTS)
    assert not any(found.values())


def fail_over(cluster: Cluster, dead: Node) -> None:
    """Wait until all other nodes know who serves in the place of one that does not answer."""
    alive = rest(cluster, dead)

    def is_replaced() -> bool:
        maps = [node.tell("CLUSTER SLOTS") for node in alive]
        return not any(primary[1] == dead.port for rows in maps for _, _, primary, *_ in rows)

    wait_until(is_replaced, "no replica took over")


def resumed(cluster: Cluster) -> None:
    """Wait until much is written that was not there when this was called."""
    count = len(written(cluster.url)[SEGMENTS[0]])
    wait_until(lambda: len(written(cluster.url)[SEGMENTS[0]]) > count + 40, "writes do not resume")


def rest(cluster: Cluster, but: Node) -> list[Node]:
    return [node for node in cluster.nodes if node is not but]


def test_a_primary_that_is_killed_under_load(cluster: Cluster) -> None:
    with connect(cluster.url) as watcher:
        before = watcher.identities()
        dead = cluster.owner(slot_of(SEGMENTS[0]))
        with writing(cluster.url, 20) as ended:
            resumed(cluster)
            dead.kill()
            fail_over(cluster, dead)
            resumed(cluster)
            writers = ended()
        check(cluster.url, writers)
        after = watcher.identities()
        assert len(set(before) & set(after)) == 2
        assert len(after) == 3
        dead.start()
        wait_until(cluster.is_healthy, "the cluster does not heal")
        check(cluster.url, writers)
        assert watcher.identities() == after  # it came back as a replica


@pytest.mark.parametrize("how", ["FORCE", "TAKEOVER"])
def test_a_primary_that_hangs_while_its_replica_takes_over(cluster: Cluster, how: str) -> None:
    hung = cluster.owner(slot_of(SEGMENTS[0]))
    replica = cluster.replica_of(hung)
    with writing(cluster.url, 20) as ended:
        resumed(cluster)
        hung.stop()
        try:
            replica.tell("CLUSTER FAILOVER", how)
            fail_over(cluster, hung)
            resumed(cluster)
        finally:
            hung.resume()
        wait_until(cluster.is_healthy, "the cluster does not heal")
        writers = ended()
    check(cluster.url, writers)
    assert cluster.owner(slot_of(SEGMENTS[0])) is replica
