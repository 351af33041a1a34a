"""From `emit` to the counts, while the primary that has some of it is killed and replaced."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.crc import key_slot

from banditcore.bandit import Bandit
from banditcore.ingest import IngestWorker, WorkerReport
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store import keys
from banditcore.store.connect import connect
from banditcore.store.event_streams import partitions
from clusters import Cluster, Node, running_cluster
from sentinels import Watched, watched_servers
from servers import binaries, patiently, wait_until
from streamed import Counts, Row, killed, rows, running, stored, sums

pytestmark = pytest.mark.slow

SEGMENTS = "ABCDEFGHIJKL"


@pytest.fixture(params=["valkey", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param not in binaries():
        pytest.skip(f"no {request.param} server is installed")
    return request.param


@pytest.fixture
def cluster(kind: str) -> Iterator[Cluster]:
    with running_cluster(kind) as cluster:
        yield cluster


@pytest.fixture
def watched(kind: str) -> Iterator[Watched]:
    with watched_servers(kind) as watched:
        yield watched


def owner(cluster: Cluster, key: str) -> Node:
    return cluster.owner(key_slot(key.encode()))


def wait_until_its_replica_has_all(primary: redis.Redis, replica: redis.Redis) -> None:
    """Let a primary answer no more writes, and its replica have all it has answered."""
    primary.execute_command("CLIENT PAUSE", 60_000, "WRITE")
    end = primary.info("replication")["master_repl_offset"]
    wait_until(
        lambda: replica.info("replication")["slave_repl_offset"] == end, "the replica lags behind"
    )


def killed_while_its_replica_has_nothing(cluster: Cluster, primary: Node) -> None:
    """Kill a primary all of whose writes are lost."""
    replica = cluster.replica_of(primary)
    # It must not take over before.
    replica.tell("CONFIG SET", "cluster-replica-no-failover", "yes")
    primary.kill()
    replica.tell("CONFIG SET", "replica-read-only", "no")
    replica.tell("FLUSHALL")
    assert replica.facts()["role"] == "slave"
    assert replica.tell("DBSIZE") == 0
    replica.tell("CONFIG SET", "cluster-replica-no-failover", "no")


def is_replaced(cluster: Cluster, dead: Node) -> bool:
    alive = [node for node in cluster.nodes if node is not dead]
    maps = [node.tell("CLUSTER SLOTS") for node in alive]
    return not any(primary[1] == dead.port for each in maps for _, _, primary, *_ in each)


def victim_of(cluster: Cluster, bandit: str, *, with_streams: bool) -> Node | None:
    """Return a primary of some segments: that of a stream, or one that has nothing else."""
    names = [keys.of_partition(bandit, p).stream for p in range(2)]
    streams = [owner(cluster, name) for name in names]
    if with_streams:
        return streams[0]
    busy = [*streams, owner(cluster, keys.BANDITS), owner(cluster, keys.of_bandit(bandit).streams)]
    return next((node for node in cluster.primaries() if node not in busy), None)


def check_that_events_count_exactly(
    url: str, name: str, quiet: str, fail_over: Callable[[], None]
) -> None:
    """Emit and apply before, while and after `fail_over` runs to the end.

    The segment `quiet` has events at the beginning only: none of its own tells what it lost.
    """
    later = rows(33, SEGMENTS.replace(quiet, ""))
    sent: list[Row] = []
    notices: list[str] = []
    reports: list[WorkerReport] = []
    with (
        patiently(lambda: connect(url, timeout_s=1.0)) as here,
        patiently(lambda: connect(url, timeout_s=1.0)) as there,
        ThreadPoolExecutor(1) as pool,
    ):
        patiently(lambda: partitions.agree(here, name, 2))
        emitting = Bandit(name, here)
        applying = Bandit(name, there, retry_for=dt.timedelta(0))

        def emit(some: list[Row] = later) -> bool:
            segments, arms, rewards = zip(*some, strict=True)
            batch = {"segment": list(segments), "arm": list(arms), "reward": list(rewards)}
            assert emitting.emit(batch) == len(some)
            sent.extend(some)
            return False

        def counted() -> Counts:
            return patiently(lambda: stored(here, name))

        def applied() -> int:
            return sum(part.applied for report in reports[-1:] for part in report.partitions)

        worker = IngestWorker(
            applying,
            RedisStreamSource(applying),
            report_every_s=0.05,
            on_report=reports.append,
            on_notice=notices.append,
        )
        with running(worker):
            emit(rows(36, SEGMENTS))
            wait_until(lambda: quiet in counted(), "nothing is applied")
            wait_until(lambda: emit() or applied() > 1000, "little is applied")
            failing_over = pool.submit(fail_over)
            wait_until(lambda: emit() or failing_over.done(), "nobody takes over")
            failing_over.result()
            before = len(sent)
            wait_until(lambda: emit() or len(sent) > before + 1000, "emitting does not go on")
            emitting.close(60.0)
            expected = sums(sent)
            wait_until(lambda: counted() == expected, "the counts are not exact")
        assert any("the store was restarted or replaced" in notice for notice in notices)
        # The next worker finds nothing to do: it was all applied, and noted.
        last = IngestWorker(applying, RedisStreamSource(applying))
        assert not patiently(lambda: last.step(0.1))
        assert [part.waiting for part in last.report().partitions] == [0, 0]
        last.release()
        assert counted() == expected


@pytest.mark.parametrize("loses", [False, True], ids=["a stream's", "some counts'"])
def test_a_primary_of_a_cluster_is_killed(cluster: Cluster, loses: bool) -> None:
    names = (f"home {i}" for i in range(100))
    found = ((name, victim_of(cluster, name, with_streams=not loses)) for name in names)
    name, victim = next((name, victim) for name, victim in found if victim is not None)
    on_it = [s for s in SEGMENTS if owner(cluster, keys.of_segment(name, s).state) is victim]
    assert 0 < len(on_it) < len(SEGMENTS)

    def fail_over() -> None:
        if loses:
            killed_while_its_replica_has_nothing(cluster, victim)
        else:
            with victim.client() as primary, cluster.replica_of(victim).client() as replica:
                wait_until_its_replica_has_all(primary, replica)
            victim.kill()
        wait_until(lambda: is_replaced(cluster, victim), "no replica took over")

    check_that_events_count_exactly(cluster.url, name, on_it[0], fail_over)


def test_a_primary_that_sentinels_watch_is_killed(watched: Watched) -> None:
    first, second = watched.servers

    def fail_over() -> None:
        with watched.client(first.port) as primary, watched.client(second.port) as replica:
            wait_until_its_replica_has_all(primary, replica)
        killed(first)
        wait_until(lambda: watched.primary() == second.port, "the replica does not take over")

    check_that_events_count_exactly(watched.url, "home", SEGMENTS[0], fail_over)
