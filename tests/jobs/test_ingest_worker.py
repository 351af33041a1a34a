"""The worker: what it owns, applies, refuses, says, and leaves when it stops."""

from __future__ import annotations

import datetime as dt
import threading
import time as wall
from concurrent.futures import ThreadPoolExecutor

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidValueError, StoreUnavailableError
from banditcore.ingest import IngestWorker, WorkerReport
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.event_streams import dead_letters, stream_checkpoints
from banditcore.store.seals import seal
from servers import running_server, wait_until
from streamed import (
    Producer,
    killed,
    packed,
    rows,
    run_out,
    running,
    started_again,
    stored,
    sums,
)


def worker_on(store: Store, *, retain_s: float = 3600.0, **options) -> IngestWorker:
    bandit = Bandit("home", store)
    # Leases of ten minutes: who is to lose one loses it by `run_out`, and nobody by a pause.
    source = RedisStreamSource(bandit, retain_s=retain_s, lease_s=600)
    return IngestWorker(bandit, source, **options)


def drain(worker: IngestWorker) -> None:
    while worker.step():
        pass


def done(worker: IngestWorker) -> tuple[int, int, int]:
    parts = worker.report().partitions
    return (
        sum(part.applied for part in parts),
        sum(part.duplicate for part in parts),
        sum(part.refused for part in parts),
    )


# --- applying ----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_events_are_counted_once_and_the_next_worker_goes_on_behind_them(any_store, batch_size):
    producer = Producer(any_store)
    first = worker_on(any_store, batch_size=batch_size)
    producer.send(rows(36))
    drain(first)
    assert done(first) == (36, 0, 0)
    producer.send(rows(10))
    drain(first)
    first.release()
    producer.send(rows(5))
    second = worker_on(any_store, batch_size=batch_size)
    drain(second)
    assert done(first) == (0, 0, 0)  # it owns nothing any more
    assert done(second) == (5, 0, 0)
    assert stored(any_store) == sums(producer.sent)


def test_a_worker_that_is_there_before_the_first_producer_finds_its_events(any_store):
    worker = worker_on(any_store)
    assert worker.step() is False
    assert worker.report().partitions == ()
    producer = Producer(any_store, of=3)
    producer.send(rows(12))
    worker.release()  # looks for partitions at once
    drain(worker)
    assert stored(any_store) == sums(producer.sent)
    assert [part.partition for part in worker.report().partitions] == [0, 1, 2]


def test_a_report_tells_what_waits_and_how_old_it_is(store):
    producer = Producer(store, of=1)
    worker = worker_on(store, batch_size=10)
    before = wall.time()
    for _ in range(3):
        producer.send(rows(10), time=before - 100)
    worker.step()
    [part] = worker.report().partitions
    after = wall.time()
    assert (part.applied, part.waiting, part.error) == (10, 20, "")
    assert part.lag_s is not None
    assert 100 <= part.lag_s <= 100 + after - before
    assert part.rate > 0
    drain(worker)
    [part] = worker.report().partitions
    assert (part.applied, part.waiting, part.lag_s, part.end) == (30, 0, 0.0, part.offset)


def test_applied_events_stay_as_long_as_they_are_retained(store):
    producer = Producer(store, of=1)
    stream = keys.of_partition("home", 0).stream
    keeping = worker_on(store)
    producer.send(rows(10))
    drain(keeping)
    assert store.client.xlen(stream) == 1
    keeping.release()
    dropping = worker_on(store, retain_s=0)
    producer.send(rows(10))
    drain(dropping)
    assert store.client.xlen(stream) == 0
    assert stored(store) == sums(producer.sent)


def test_applied_events_stay_only_as_far_as_their_bytes_may(store):
    producer = Producer(store, of=1)
    bandit = Bandit("home", store)
    stream = keys.of_partition("home", 0).stream
    one = len(packed(rows(10)))
    worker = IngestWorker(bandit, RedisStreamSource(bandit, retain_bytes=2 * one), batch_size=10)
    for _ in range(5):
        producer.send(rows(10))
    worker.step()
    assert store.client.xlen(stream) == 5  # one is applied, the others wait
    drain(worker)
    assert store.client.xlen(stream) == 2
    assert stored(store) == sums(producer.sent)
    with pytest.raises(InvalidValueError, match="retain_bytes"):
        RedisStreamSource(bandit, retain_bytes=-1)


def test_any_thread_reads_reports_which_ask_nobody(store):
    producer = Producer(store, of=2)
    worker = worker_on(store, batch_size=3)
    stop = threading.Event()
    seen: list[tuple[int, ...]] = []

    def read() -> None:
        while not stop.is_set():
            parts = worker.report().partitions
            seen.append(tuple(part.applied for part in parts))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            with running(worker):
                for _ in range(30):
                    producer.send(rows(9))
                wait_until(lambda: stored(store) == sums(producer.sent), "not applied")
                wait_until(lambda: done(worker) == (270, 0, 0), "not reported")
                calls = store.client.info("stats")["total_commands_processed"]
                for _ in range(10_000):
                    worker.report()
                # Those of the worker itself, which go by the clock, are far fewer.
                assert store.client.info("stats")["total_commands_processed"] < calls + 10_000
        finally:
            stop.set()
        for reader in readers:
            reader.result(60)
    assert worker.report().partitions == ()
    totals = [sum(each) for each in seen if len(each) == 2]
    assert totals
    assert max(totals) <= 270


def test_a_worker_without_events_waits_for_all_partitions_at_once(any_store):
    """Not for each in turn: four partitions cost what one does."""
    producer = Producer(any_store, of=4)
    producer.send(rows(40, "ABCDEFGHIJ"))
    worker = worker_on(any_store)
    drain(worker)

    def calls() -> int:
        infos = [server.info("commandstats") for server in any_store.servers().values()]
        names = ("cmdstat_fcall_ro", "cmdstat_xread", "cmdstat_hmget", "cmdstat_xlen")
        return sum(info.get(name, {"calls": 0})["calls"] for info in infos for name in names)

    worker.step(0.001)
    before = calls()
    for _ in range(5):
        assert not worker.step(0.2)
    waited = calls() - before
    # A cluster has to be asked again and again, for each partition: after 0.05, 0.1, 0.2, 0.4 s.
    # Elsewhere once, and some a partition if the time has come to look at its servers.
    assert waited <= (5 * 3 * 4 + 2 if any_store.address.is_cluster else 5 + 3 * 4)
    producer.send(rows(3))
    assert worker.step(5)
    assert stored(any_store) == sums(producer.sent)


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"most": 0}, {"report_every_s": 0.0}])
def test_an_option_that_cannot_be_used_is_refused(store, bad):
    with pytest.raises(InvalidValueError, match=next(iter(bad))):
        worker_on(store, **bad)


# --- what cannot be used -----------------------------------------------------------------------


def test_a_body_that_cannot_be_read_goes_to_the_dead_letters_once(any_store):
    producer = Producer(any_store, of=1)
    producer.send(rows(4))
    good = packed(rows(3))
    offset = producer.append(0, good[:-1] + bytes([good[-1] ^ 1]), 3)
    producer.send(rows(4))
    worker = worker_on(any_store)
    drain(worker)
    assert done(worker) == (8, 0, 1)
    assert stored(any_store) == sums(producer.sent)
    producer.append(0, good[:-1], 3)
    worker.release()
    drain(worker)
    assert stream_checkpoints.load(any_store, "home", "stream", 0).refused == 2
    letter, _ = dead_letters.read(any_store, "home", 0)
    assert (letter.offset, letter.raw[:-1]) == (offset, good[:-1])
    assert "checksum" in letter.reason
    worker.release()
    any_store.client.hdel(keys.of_bandit("home").checkpoints, "stream:0")
    again = worker_on(any_store)
    drain(again)
    assert done(again) == (0, 8, 0)
    assert len(dead_letters.read(any_store, "home", 0)) == 2
    assert stored(any_store) == sums(producer.sent)


def test_events_ahead_of_the_clock_go_to_the_dead_letters_alone_and_never_count(store):
    producer = Producer(store, of=1)
    now = wall.time()
    for time in (now - 60, now + 7200, now - 30):
        columns = [("X", "a", 1.0), ("Y", "b", 0.0)]
        producer.send(columns, time=time)
    producer.send([("Z", "c", 1.0)], time=now + 7200)  # a segment of nothing else
    worker = worker_on(store)
    drain(worker)
    assert done(worker) == (4, 0, 3)
    expected = {"X": {"a": (2.0, 2.0)}, "Y": {"b": (2.0, 0.0)}}
    assert stored(store) == expected
    letters = dead_letters.read(store, "home", 0)
    assert [letter.raw.decode().split('"')[3] for letter in letters] == ["X", "Y", "Z"]
    assert all("ahead of the store's clock" in letter.reason for letter in letters)
    worker.release()
    # Read again at a later time they would be fine: but they are refused already.
    later = Bandit("home", store, clock=lambda: now + 7200)
    store.client.hdel(keys.of_bandit("home").checkpoints, "stream:0")
    again = IngestWorker(later, RedisStreamSource(later))
    drain(again)
    assert done(again) == (0, 7, 0)
    assert stored(store) == expected


def test_a_damaged_segment_stops_its_partition_alone_and_loses_nothing(any_store):
    producer = Producer(any_store)
    notices: list[str] = []
    worker = worker_on(any_store, on_notice=notices.append)
    producer.send(rows(9))
    drain(worker)
    state = keys.of_segment("home", "Y").state
    chunk = any_store.client.hget(state, "c:0")
    any_store.client.hset(state, "c:0", b"damaged")
    producer.send(rows(9))
    drain(worker)
    failed = [part for part in worker.report().partitions if part.error]
    assert len(failed) == 1
    assert "'Y'" in failed[0].error
    [notice] = notices
    assert "stands still" in notice
    producer.send([("X", "arm 0", 1.0)])
    drain(worker)
    any_store.client.hset(state, "c:0", chunk)
    worker.release()
    drain(worker_on(any_store))
    assert stored(any_store) == sums(producer.sent)


# --- ownership ---------------------------------------------------------------------------------


def test_a_partition_has_one_owner_and_workers_share_what_each_may_have_at_most(store):
    producer = Producer(store, of=4)
    workers = [worker_on(store, most=2) for _ in range(3)]
    producer.send(rows(30, "ABCDEFGHIJ"))
    for worker in workers:
        drain(worker)
    owned = [[part.partition for part in worker.report().partitions] for worker in workers]
    assert [len(some) for some in owned] == [2, 2, 0]
    assert sorted(owned[0] + owned[1]) == [0, 1, 2, 3]
    assert workers[2].report().elsewhere == (0, 1, 2, 3)
    assert stored(store) == sums(producer.sent)


def owns(worker: IngestWorker) -> int:
    return len(worker.report().partitions)


def test_workers_share_all_partitions_and_take_over_those_of_who_leaves_or_vanishes(store):
    producer = Producer(store, of=5)
    first, second, third = workers = [worker_on(store) for _ in range(3)]
    first.step()
    assert owns(first) == 5

    def shared() -> bool:
        for worker in workers:
            worker.step()
        shares = [owns(worker) for worker in workers]
        return sum(shares) == 5 and max(shares) <= -(-5 // len(workers))

    wait_until(shared, "not shared")
    third.release()
    workers.remove(third)
    wait_until(shared, "not shared by two")
    workers.remove(second)  # vanishes
    for partition in range(5):
        run_out(store, partition)
    wait_until(shared, "not taken over")
    producer.send(rows(30, "ABCDEFGHIJ"))
    drain(first)
    assert stored(store) == sums(producer.sent)


def test_a_worker_owns_only_the_partitions_it_is_given(store):
    notices: list[str] = []
    Producer(store, of=4)
    chosen = worker_on(store, partitions=[1, 3])
    chosen.step()
    assert [part.partition for part in chosen.report().partitions] == [1, 3]
    nobody = worker_on(store, partitions=[9], on_notice=notices.append)
    nobody.step()
    assert nobody.report().partitions == ()
    assert "none of the partitions [9]" in notices[0]


def test_another_worker_takes_over_when_a_lease_has_run_out_and_the_former_owner_stops(any_store):
    producer = Producer(any_store, of=1)
    for _ in range(4):
        producer.send(rows(5))
    notices: list[str] = []
    former = worker_on(any_store, batch_size=5, on_notice=notices.append)
    former.step()
    run_out(any_store, 0)
    heir = worker_on(any_store)
    drain(heir)
    producer.send(rows(7))
    former.step()  # has not noticed, reads, and is fenced off
    assert former.report().partitions == ()
    assert "epoch" in notices[0]
    drain(heir)
    assert stored(any_store) == sums(producer.sent)


def test_a_worker_that_loses_its_lease_unnoticed_owns_the_partition_again_afterwards(store):
    producer = Producer(store, of=1)
    producer.send(rows(6))
    worker = worker_on(store)
    drain(worker)
    [before] = worker.report().partitions
    run_out(store, 0)
    other = worker_on(store)
    producer.send(rows(6))
    drain(other)
    other.release()
    producer.send(rows(6))
    worker.step()
    assert worker.report().partitions == ()
    worker.release()  # makes it look for partitions at once
    drain(worker)
    [after] = worker.report().partitions
    assert after.epoch > before.epoch
    assert stored(store) == sums(producer.sent)


def test_who_owns_a_partition_but_is_fenced_off_by_an_epoch_to_come_takes_it_anew(store):
    """As when a failover lost the lease, to a server whose clock is behind."""
    producer = Producer(store, of=1)
    producer.send(rows(6))
    worker = worker_on(store)
    drain(worker)
    [before] = worker.report().partitions
    state, field = keys.of_segment("home", "X").state, keys.mark_field("stream", "0")
    store.client.hset(state, field, seal(b"%d %d" % (before.epoch + 1, before.offset)))
    producer.send(rows(6))
    worker.step()
    assert worker.report().partitions == ()
    assert store.client.hget(keys.of_partition("home", 0).lease, "until") == b"0"
    worker.release()
    drain(worker)
    [after] = worker.report().partitions
    assert after.epoch > before.epoch + 1
    assert stored(store) == sums(producer.sent)


def test_steps_alone_renew_the_ownership(store):
    Producer(store, of=1)
    bandit = Bandit("home", store)
    worker = IngestWorker(bandit, RedisStreamSource(bandit, lease_s=0.4))
    worker.step()
    lease = keys.of_partition("home", 0).lease
    first = store.client.hget(lease, "until")
    wait_until(
        lambda: bool(worker.step() or store.client.hget(lease, "until") != first), "not renewed"
    )
    assert worker.report().partitions != ()


# --- running -----------------------------------------------------------------------------------


def test_it_runs_until_it_is_stopped_and_gives_its_partitions_up(any_store):
    producer = Producer(any_store)
    reports: list[WorkerReport] = []
    with running(worker_on(any_store, report_every_s=0.01, on_report=reports.append)):
        for _ in range(20):
            producer.send(rows(9))
        wait_until(
            lambda: bool(reports) and sum(part.applied for part in reports[-1].partitions) == 180,
            "the events are not applied",
        )
    assert stored(any_store) == sums(producer.sent)
    assert sum(part.applied for part in reports[-1].partitions) == 180
    leases = [any_store.client.hget(keys.of_partition("home", p).lease, "until") for p in (0, 1)]
    assert leases == [b"0", b"0"]


def test_ownership_is_renewed_while_a_batch_takes_long(store):
    producer = Producer(store, of=1)
    producer.send(rows(6))
    bandit = Bandit("home", store)
    lease = keys.of_partition("home", 0).lease
    renewed: list[bytes] = []

    class Slow(RedisStreamSource):
        def commit(self, partition: int, offset: int) -> None:
            first = store.client.hget(lease, "until")
            wait_until(lambda: store.client.hget(lease, "until") != first, "no renewal")
            renewed.append(first)
            super().commit(partition, offset)

    with running(IngestWorker(bandit, Slow(bandit, lease_s=0.4))):
        wait_until(lambda: bool(renewed), "nothing was committed")
    assert stored(store) == sums(producer.sent)


def test_an_outage_is_waited_out_and_said_once():
    notices: list[str] = []
    options = {"appendonly": "yes", "appendfsync": "always"}
    with running_server(options=options) as server, connect(server.url) as store:
        producer = Producer(store)
        producer.send(rows(30))
        bandit = Bandit("home", store, retry_for=dt.timedelta(0))
        source = RedisStreamSource(bandit)
        attempts = []

        class Counting(IngestWorker):
            def step(self, wait_s: float = 0.0) -> bool:
                attempts.append(wait_s)
                return super().step(wait_s)

        worker = Counting(bandit, source, batch_size=5, on_notice=notices.append)
        worker.step()
        killed(server)
        with pytest.raises(StoreUnavailableError):
            worker.step()
        with running(worker):
            wait_until(lambda: len(attempts) > 4, "it gives up")
            with started_again(server):
                producer.send(rows(12))
                wait_until(lambda: stored(store) == sums(producer.sent), "it does not go on")
                wait_until(lambda: "the outage is over" in notices, "it does not say so")
                assert sum("waiting: the store" in notice for notice in notices) == 1
    assert any("the store was restarted or replaced" in notice for notice in notices)


def test_a_full_memory_is_waited_out_too(store):
    producer = Producer(store)
    notices: list[str] = []
    worker = worker_on(store, on_notice=notices.append)
    producer.send(rows(9))
    drain(worker)
    producer.send(rows(9, "PQR"))
    used = store.client.info("memory")["used_memory"]
    store.client.config_set("maxmemory", used // 2)
    with running(worker):
        try:
            wait_until(lambda: bool(notices), "it is not noticed")
        finally:
            store.client.config_set("maxmemory", 0)
        assert "out of memory" in notices[0]
        wait_until(lambda: stored(store) == sums(producer.sent), "it does not go on")


def test_a_worker_that_owns_nothing_does_not_spin(store):
    Producer(store, of=1)
    steps = []

    class Counting(IngestWorker):
        def step(self, wait_s: float = 0.0) -> bool:
            steps.append(wait_s)
            return super().step(wait_s)

    owner = worker_on(store, most=1)
    owner.step()
    bandit = Bandit("home", store)
    began = wall.monotonic()
    with running(Counting(bandit, RedisStreamSource(bandit), most=1)):
        wait_until(lambda: len(steps) >= 3, "it does not try again")
    assert len(steps) <= 2 + (wall.monotonic() - began) / 0.2
