"""Workers are killed, servers lose writes, streams go back: each event counts once."""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from banditcore.bandit import Bandit
from banditcore.errors import StoreUnavailableError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.event_streams import dead_letters, stream_checkpoints, streams
from banditcore.store.event_streams.stream_checkpoints import StreamCheckpoint
from proxy import Proxy, proxy_before
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
from terminals import spawn


def worker_on(store: Store, **options) -> IngestWorker:
    bandit = Bandit("home", store, retry_for=dt.timedelta(0))
    return IngestWorker(bandit, RedisStreamSource(bandit, lease_s=600), **options)


def drain(worker: IngestWorker) -> None:
    while worker.step():
        pass


class Past:
    """What a server held of one segment, to put it back."""

    def __init__(self, store: Store, segment: str) -> None:
        self._store = store
        self._values = {name: store.client.dump(name) for name in keys.of_segment("home", segment)}

    def restore(self) -> None:
        for name, value in self._values.items():
            self._store.client.delete(name)
            if value is not None:
                self._store.client.restore(name, 0, value)


# --- a server that lost writes -----------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 3])
def test_writes_that_one_segment_lost_are_brought_back_with_its_next_event(any_store, done):
    producer = Producer(any_store)
    notices: list[str] = []
    worker = worker_on(any_store, on_notice=notices.append)
    past = [Past(any_store, "X")]
    for _ in range(3):
        producer.send(rows(12))
        drain(worker)
        past.append(Past(any_store, "X"))
    past[done].restore()
    assert (stored(any_store) == sums(producer.sent)) is (done == 3)
    producer.send([("X", "arm 0", 1.0)])
    drain(worker)
    assert stored(any_store) == sums(producer.sent)
    assert sum("went back" in notice for notice in notices) == (done != 3)
    assert sum(part.rewinds for part in worker.report().partitions) == (done != 3)


def test_a_worker_that_dies_while_it_reads_again_leaves_that_to_the_next(store):
    producer = Producer(store, of=1)
    worker = worker_on(store)
    past = Past(store, "X")
    producer.send(rows(18))
    drain(worker)
    past.restore()
    producer.send([("Y", "arm 0", 1.0), ("X", "arm 0", 1.0)])
    worker.step()  # finds out
    run_out(store, 0)
    drain(worker_on(store))
    assert stored(store) == sums(producer.sent)


@pytest.mark.parametrize("running_on", [True, False], ids=["the same worker", "another worker"])
def test_other_servers_are_given_all_that_is_retained(store, monkeypatch, running_on):
    """Segments that get no events any more are whole again too."""
    producer = Producer(store)
    worker = worker_on(store)
    past = {path: Past(store, path) for path in "XYZ"}
    producer.send(rows(18))
    drain(worker)
    worker.release()
    for each in past.values():
        each.restore()
    if not running_on:
        worker = worker_on(store)
    assert stored(store) == {}
    drain(worker)
    assert stored(store) == {}  # it cannot know
    worker.release()
    for partition in (0, 1):  # as another server would have left it
        saved = stream_checkpoints.load(store, "home", "stream", partition)
        other = StreamCheckpoint(saved.offset, saved.refused, ("another",))
        stream_checkpoints.save(store, "home", "stream", partition, other)
    drain(worker)
    assert stored(store) == sums(producer.sent)
    saved = stream_checkpoints.load(store, "home", "stream", 0)
    assert saved.identities == tuple(store.identities())


def test_a_server_that_restarts_from_an_older_copy_is_consistent_and_goes_on():
    with running_server() as server, connect(server.url) as store:
        producer = Producer(store)
        for _ in range(5):
            producer.send(rows(6))
        worker = worker_on(store, batch_size=1)
        worker.step()
        at_copy = sums(producer.sent)
        store.client.save()
        for _ in range(3):
            producer.send(rows(12, "XQ"))
            drain(worker)
        killed(server)
        with started_again(server):
            assert stored(store) != at_copy  # some of it waits in the copy of the stream
            with running(worker):
                wait_until(lambda: stored(store) == at_copy, "it does not go on")
                again = Producer(store)
                again.send(rows(12, "XQ"))
                expected = sums([*producer.sent[:30], *again.sent])
                wait_until(lambda: stored(store) == expected, "new events are not applied")


def test_a_stream_that_went_back_gives_new_events_larger_offsets(store):
    """The store's clock is behind that of the server which had the stream before."""
    producer = Producer(store, of=1)
    stream = keys.of_partition("home", 0)
    ahead = (store.server_time() + 3600) * 1e6
    streams.advance(store, "home", 0, beyond=int(ahead))
    producer.send(rows(9))
    notices: list[str] = []
    worker = worker_on(store, on_notice=notices.append)
    drain(worker)
    store.client.delete(stream.stream, stream.offsets)
    worker.release()
    stream_checkpoints.save(store, "home", "stream", 0, StreamCheckpoint())
    drain(worker)
    assert "ended before offset" in notices[0]
    Producer(store, of=1).send(rows(6))
    drain(worker)
    assert stored(store) == sums(rows(9) + rows(6))


def test_a_stream_that_is_deleted_under_a_worker_is_noticed_too(store):
    producer = Producer(store, of=1)
    streams.advance(store, "home", 0, beyond=int((store.server_time() + 3600) * 1e6))
    producer.send(rows(9))
    worker = worker_on(store)
    drain(worker)
    where = keys.of_partition("home", 0)
    store.client.delete(where.stream, where.offsets)
    wait_until(lambda: worker.step() or store.client.exists(where.offsets) == 1, "unnoticed")
    Producer(store, of=1).send(rows(6))
    drain(worker)
    assert stored(store) == sums(rows(9) + rows(6))


# --- interrupted -------------------------------------------------------------------------------


@pytest.fixture
def proxy(store, fleet):
    with proxy_before(fleet["valkey"].socket_path) as proxy:
        yield proxy


@pytest.mark.parametrize("word", [b"_apply", b"_trim", b"_dead_letter", b"HSET", b"_read", b"HGET"])
def test_a_reply_that_is_lost_loses_and_doubles_nothing(store, proxy: Proxy, word):
    producer = Producer(store)
    for _ in range(3):
        producer.send(rows(9))
        producer.append(0, b"poison", 1)
    with connect(proxy.url) as unreliable:
        worker = worker_on(unreliable, batch_size=8)
        proxy.lose_next_reply(to=word)
        failures = 0
        busy = True
        while busy:
            try:
                busy = worker.step()
            except StoreUnavailableError:
                failures += 1
        assert (failures, proxy.lost) == (1, 1)
        assert sum(part.refused for part in worker.report().partitions) <= 3
    assert stored(store) == sums(producer.sent)
    assert len(dead_letters.read(store, "home", 0)) == 3


def test_a_lease_is_owned_though_the_reply_to_acquiring_it_was_lost(store, proxy: Proxy):
    Producer(store, of=1)
    with connect(proxy.url) as unreliable:
        worker = worker_on(unreliable)
        proxy.lose_next_reply(to=b"_lease_acquire")
        with pytest.raises(StoreUnavailableError):
            worker.step()
        worker.step()
        assert [part.partition for part in worker.report().partitions] == [0]


def test_workers_that_are_killed_leave_nothing_half_done():
    """SIGKILL at moments of the kernel's choice; in the end every event counts once."""
    with running_server() as server, connect(server.url) as store:
        producer = Producer(store)

        def applied(n: int) -> Callable[[], bool]:
            return lambda: sum(t for c in stored(store).values() for t, _ in c.values()) >= n

        for _ in range(3):
            with spawn(
                "ingest", "--follow", "--bandit", "home", "--url", server.url, "--batch-size", "50"
            ) as process:
                for _ in range(40):
                    producer.send(rows(50))
                wait_until(applied(len(producer.sent) - 1500), "it does not get so far")
                process.send_signal(signal.SIGKILL)
                process.communicate()
            for partition in (0, 1):
                run_out(store, partition)
        worker = worker_on(store)
        drain(worker)
        assert stored(store) == sums(producer.sent)


# --- everything at once ------------------------------------------------------------------------

SEGMENTS = "XYZ"
SOME_ROWS = st.lists(
    st.tuples(st.sampled_from(SEGMENTS), st.sampled_from(["a", "b"]), st.sampled_from([0.0, 1.0])),
    min_size=1,
    max_size=6,
)
WORDS = (b"_apply", b"_trim", b"_dead_letter", b"HSET", b"_read", b"HGET", b"_lease", b"INFO")


class Machine(RuleBasedStateMachine):
    """Two workers, of which one has a bad line, on a store whose failovers lose writes.

    What a failover is to a worker: some segments are older than they were, and other servers hold
    them. The latter is what `servers` pretends.
    """

    def __init__(self, store: Store, unreliable: Store, proxy: Proxy, servers: list[str]) -> None:
        super().__init__()
        self.servers = servers
        self.store = store
        self.stores = (store, unreliable)
        self.proxy = proxy
        self.store.client.flushall()

    @initialize()
    def begin(self) -> None:
        self.producer = Producer(self.store)
        self.poison = 0
        self.workers = [self.worker(0), self.worker(1)]
        self.past: list[Past] = [Past(self.store, path) for path in SEGMENTS]

    def worker(self, which: int) -> IngestWorker:
        return worker_on(self.stores[which], batch_size=5)

    @rule(some=SOME_ROWS)
    def send(self, some) -> None:
        self.producer.send(some)

    @rule(partition=st.integers(0, 1))
    def send_poison(self, partition: int) -> None:
        self.poison += 1
        self.producer.append(partition, packed([("X", "a", 1.0)])[:-1], 1)

    @rule(which=st.integers(0, 1))
    def step(self, which: int) -> None:
        try:
            self.workers[which].step()
        except StoreUnavailableError:
            assert which == 1

    @rule(word=st.sampled_from(WORDS))
    def lose_a_reply(self, word: bytes) -> None:
        self.proxy.lose_next_reply(to=word)

    @rule(which=st.integers(0, 1))
    def kill(self, which: int) -> None:
        self.workers[which] = self.worker(which)
        self.let_leases_run_out()

    @rule(which=st.integers(0, 1))
    def release(self, which: int) -> None:
        self.workers[which].release()

    @rule()
    def let_leases_run_out(self) -> None:
        for partition in (0, 1):
            run_out(self.store, partition)

    @rule(segment=st.sampled_from(SEGMENTS))
    def copy(self, segment: str) -> None:
        self.past.append(Past(self.store, segment))

    @rule(data=st.data())
    def fail_over(self, data) -> None:
        data.draw(st.sampled_from(self.past)).restore()
        self.servers[0] += "'"

    @invariant()
    def nothing_counts_twice(self) -> None:
        if not hasattr(self, "producer"):
            return
        sent = sums(self.producer.sent)
        for segment, counts in stored(self.store).items():
            for arm, (trials, successes) in counts.items():
                assert trials <= sent[segment][arm][0]
                assert successes <= sent[segment][arm][1]

    def teardown(self) -> None:
        if not hasattr(self, "producer"):
            return
        self.proxy.heal()
        for worker in self.workers:
            worker.release()
        self.let_leases_run_out()
        drain(self.workers[0])
        assert stored(self.store) == sums(self.producer.sent)
        letters = [dead_letters.read(self.store, "home", p) for p in (0, 1)]
        assert sum(map(len, letters)) == self.poison


@pytest.mark.parametrize("claim_every_s", [0.0, 2.0], ids=["always claiming", "as usual"])
def test_two_workers_on_a_store_and_a_line_that_fail_count_each_event_once(
    store, proxy, monkeypatch, claim_every_s
):
    monkeypatch.setattr("banditcore.ingest.worker._CLAIM_EVERY_S", claim_every_s)
    servers = ["1"]
    monkeypatch.setattr(Store, "identities", lambda _: servers.copy())
    with connect(proxy.url) as unreliable:
        run_state_machine_as_test(
            lambda: Machine(store, unreliable, proxy, servers),
            settings=settings(
                max_examples=40,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
