"""A worker goes on after whatever its server says for a while, and beside what one lease holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from redis import exceptions

from banditcore.bandit import Bandit
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_group import RedisGroupSource
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from servers import free_port, running_server, wait_until
from streamed import Producer, rows, running, stored, sums

CLICKS = "clicks"


def send(store: Store, number: int) -> None:
    """Send one event more, to the streams and to the stream of anybody."""
    Producer(store, of=2).send([("X", "a", 1.0)])
    event = {"segment": "Y", "arm": "a", "reward": 1, "event_id": f"event {number}"}
    store.client.xadd(CLICKS, event)


@contextmanager
def demoted(store: Store) -> Iterator[None]:
    store.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
    yield
    store.client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def without_replicas(store: Store) -> Iterator[None]:
    store.client.config_set("min-replicas-to-write", 1)
    yield
    store.client.config_set("min-replicas-to-write", 0)


@contextmanager
def busy(store: Store) -> Iterator[None]:
    store.client.config_set("busy-reply-threshold", 1)

    def occupy() -> None:
        with (
            connect(store.url, timeout_s=60) as other,
            pytest.raises(exceptions.ResponseError, match="killed"),
        ):
            other.client.eval("while true do end", 0)

    with ThreadPoolExecutor(1) as pool:
        occupied = pool.submit(occupy)
        wait_until(lambda: _is_busy(store), "it is not busy")
        try:
            yield
        finally:
            store.client.script_kill()
        occupied.result(60)


def _is_busy(store: Store) -> bool:
    try:
        store.client.ping()
    except exceptions.RedisError as error:
        return "BUSY" in str(error)
    return False


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (demoted, "the store"),
        (without_replicas, "refuses writes while its replicas are away"),
        (busy, "is busy with a script"),
    ],
)
@pytest.mark.parametrize(("source", "segment"), [(RedisStreamSource, "X"), (RedisGroupSource, "Y")])
def test_what_a_server_says_for_a_while_ends_no_worker(source, segment, trouble, words):
    with (
        running_server() as server,
        connect(server.url) as store,
        connect(server.url, timeout_s=1.0) as its_own,
    ):
        bandit = Bandit("home", its_own, retry_for=dt.timedelta(0))
        options = {} if source is RedisStreamSource else {"stream": CLICKS}
        worker = IngestWorker(bandit, source(bandit, **options))
        send(store, 0)
        with running(worker):
            wait_until(lambda: stored(store).get(segment) == {"a": (1.0, 1.0)}, "not applied")
            with trouble(store):
                wait_until(lambda: words in worker.report().outage, "it does not wait")
            send(store, 1)
            wait_until(lambda: stored(store).get(segment) == {"a": (2.0, 2.0)}, "it has ended")


def test_a_group_that_is_removed_again_and_again_while_a_worker_waits_ends_no_worker(store):
    bandit = Bandit("home", store, retry_for=dt.timedelta(0))
    with running(IngestWorker(bandit, RedisGroupSource(bandit, CLICKS))):
        for _ in range(4):
            wait_until(lambda: store.client.exists(CLICKS), "no group")
            store.client.delete(CLICKS)
        send(store, 0)
        wait_until(lambda: stored(store).get("Y") == {"a": (1.0, 1.0)}, "it has ended")


def test_a_damaged_lease_stops_its_partition_alone(store):
    producer = Producer(store, of=2)
    lease = keys.of_partition("home", 0).lease
    store.client.hset(lease, "until", "soon")
    bandit = Bandit("home", store)
    said: list[str] = []
    worker = IngestWorker(bandit, RedisStreamSource(bandit), on_notice=said.append)
    producer.send(rows(12))
    while worker.step():
        pass
    of_other, failed = sorted(worker.report().partitions, key=lambda part: part.error)
    assert (failed.partition, of_other.partition) == (0, 1)
    assert "lease" in failed.error
    assert any("partition 0 stands still" in text for text in said)
    store.client.delete(lease)
    worker.release()
    heir = IngestWorker(bandit, RedisStreamSource(bandit))
    while heir.step():
        pass
    assert stored(store) == sums(producer.sent)
