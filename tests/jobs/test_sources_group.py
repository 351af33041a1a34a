"""A stream that any program adds to, shared by competing workers: each event counts once."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import textwrap
import time as wall
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import InvalidTypeError, InvalidValueError, StoreUnavailableError
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_group import RedisGroupSource
from banditcore.store.connect import Store, connect
from banditcore.store.event_streams import dead_letters
from proxy import proxy_before
from servers import wait_until
from streamed import Row, rows, running, stored, sums

STREAM = "clicks {of} anybody"
SOON = 0.05  # after which what a dead worker left is claimed


class Adder:
    """Adds events to the stream as a program in any language would."""

    def __init__(self, store: Store) -> None:
        self.sent: list[Row] = []
        self._client = store.client

    def send(self, some: list[Row], **more: object) -> None:
        for segment, arm, reward in some:
            event = {"segment": segment, "arm": arm, "reward": reward}
            event |= {"event_id": f"event {len(self.sent)}", **more}
            self.sent.append((segment, arm, reward))
            self._client.xadd(STREAM, event)


def source_on(store: Store, **options) -> RedisGroupSource:
    bandit = Bandit("home", store, retry_for=dt.timedelta(0))
    return RedisGroupSource(bandit, STREAM, **{"claim_after_s": SOON, **options})


def worker_on(store: Store, source: RedisGroupSource | None = None, **options) -> IngestWorker:
    bandit = Bandit("home", store, retry_for=dt.timedelta(0))
    return IngestWorker(bandit, source or source_on(store), **options)


def done(*workers: IngestWorker) -> tuple[int, int, int]:
    parts = [part for worker in workers for part in worker.report().partitions]
    return (
        sum(part.applied for part in parts),
        sum(part.duplicate for part in parts),
        sum(part.refused for part in parts),
    )


def drain(worker: IngestWorker) -> None:
    while worker.step():
        pass


def unacknowledged(store: Store) -> int:
    return store.client.xpending(STREAM, "banditcore")["pending"]


def letters(store: Store) -> list[dead_letters.DeadLetter]:
    return dead_letters.read(store, "home", 0, source=f"group:{STREAM}")


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_workers_share_the_events_and_count_each_once(any_store, batch_size):
    adder = Adder(any_store)
    workers = [worker_on(any_store, batch_size=batch_size) for _ in range(3)]
    adder.send(rows(20))
    for _ in range(50):
        for worker in workers:
            worker.step()
    adder.send(rows(16))
    for worker in workers:
        drain(worker)
    assert done(*workers) == (36, 0, 0)
    assert stored(any_store) == sums(adder.sent)
    assert unacknowledged(any_store) == 0
    assert {part.waiting for w in workers for part in w.report().partitions} == {0}


def test_a_worker_that_is_there_first_makes_the_group_and_waits(any_store):
    adder = Adder(any_store)
    with running(worker_on(any_store)):
        wait_until(lambda: any_store.client.exists(STREAM), "no group")
        adder.send(rows(9))
        wait_until(lambda: stored(any_store) == sums(adder.sent), "not applied")


def test_what_a_worker_left_comes_to_another_and_is_told_from_what_it_had_applied(any_store):
    adder = Adder(any_store)
    adder.send(rows(10))

    class Dies(RedisGroupSource):
        def commit(self, delivery):
            raise StoreUnavailableError("before it is acknowledged")

    bandit = Bandit("home", any_store)
    first = worker_on(any_store, Dies(bandit, STREAM), batch_size=6)
    with pytest.raises(StoreUnavailableError):
        first.step()
    assert unacknowledged(any_store) == 6
    only_read = source_on(any_store)
    assert len(only_read.poll(0, 2).events) == 2
    second = worker_on(any_store)
    wait_until(lambda: not (second.step() or unacknowledged(any_store)), "not claimed")
    assert done(second) == (4, 6, 0)
    assert stored(any_store) == sums(adder.sent)


def test_an_acknowledgement_that_fails_is_made_up_for_and_counted_once(any_store):
    adder = Adder(any_store)
    adder.send(rows(10))
    failures = [StoreUnavailableError("once")]

    class Fails(RedisGroupSource):
        def commit(self, delivery):
            if failures:
                raise failures.pop()
            super().commit(delivery)

    worker = worker_on(any_store, Fails(Bandit("home", any_store), STREAM))
    with pytest.raises(StoreUnavailableError):
        worker.step()
    drain(worker)
    assert done(worker) == (10, 0, 0)
    assert unacknowledged(any_store) == 0


def test_a_read_whose_reply_is_lost_is_claimed_later(one_server):
    adder = Adder(one_server)
    adder.send(rows(10))
    drain(worker_on(one_server))
    adder.send(rows(8))
    path = Path(one_server.url.removeprefix("unix://"))
    with proxy_before(path) as proxy, connect(proxy.url) as unsafe:
        worker = worker_on(unsafe)
        worker.step()
        adder.send(rows(7))
        proxy.lose_next_reply(b"XREADGROUP")
        with pytest.raises(StoreUnavailableError):
            worker.step()
        assert proxy.lost == 1
        assert unacknowledged(one_server) == 7
        wait_until(lambda: not (worker.step() or unacknowledged(one_server)), "not claimed")
        assert done(worker) == (15, 0, 0)
    assert stored(one_server) == sums(adder.sent)


def test_events_that_are_sent_again_with_their_ids_are_duplicates(any_store):
    adder = Adder(any_store)
    adder.send([("X", "a", 1.0), ("X", "b", 0.0), ("Y", "a", 1.0)])
    worker = worker_on(any_store)
    drain(worker)
    expected = stored(any_store)
    for i, (segment, arm) in enumerate([("X", "a"), ("X", "b"), ("Y", "a")]):
        event = {"segment": segment, "arm": arm, "reward": 1, "event_id": f"event {i}"}
        any_store.client.xadd(STREAM, event)
    drain(worker)
    assert done(worker) == (3, 3, 0)
    assert stored(any_store) == expected


def test_what_cannot_be_used_is_refused_and_kept_and_nothing_waits_for_it(any_store):
    adder = Adder(any_store)
    now = wall.time()
    adder.send([("X", "a", 1.0)], time=now - 1800)
    adder.sent.pop()
    add = any_store.client.xadd
    good = {"segment": "X", "arm": "a", "reward": 1}
    bad = [
        ({**good}, "no field 'event_id'"),
        ({**good, "event_id": "1", "reward": "2"}, "reward is 2.0: at most the trials"),
        ({**good, "event_id": "2", "successes": 1}, "mean the same"),
        ({**good, "event_id": "3", "arm": b"\xff"}, "no UTF-8"),
        ({**good, "event_id": "4", "time": now - 10_000}, "older than the window"),
        ({**good, "event_id": "5", "time": now + 10_000}, "ahead of the store's clock"),
        ({**good, "event_id": "x" * 257}, "256"),
    ]
    for event, _ in bad:
        add(STREAM, event)
    add(STREAM, good, id=f"{2**63}-5")  # no producer of events has such a clock
    add(STREAM, {**good, "segment": "Z", "event_id": "6", "time": now - 10_000}, id=f"{2**63}-6")
    worker = worker_on(any_store)
    drain(worker)
    assert done(worker) == (1, 0, 9)
    assert stored(any_store) == {"X": {"a": (1.0, 1.0)}}
    assert unacknowledged(any_store) == 0
    kept = letters(any_store)
    for letter in kept[:1]:
        assert json.loads(letter.raw)["arm"] == "a"
    for _, reason in bad[:4]:
        assert any(reason in letter.reason for letter in kept), reason
    for _, reason in bad[4:6]:
        assert any(reason in letter.reason for letter in kept), reason


def test_each_entry_is_refused_by_the_name_that_it_gives_its_reward(any_store):
    good = {"segment": "X", "arm": "a"}
    for number, outcome in enumerate([{"reward": "7"}, {"successes": "7"}, {}]):
        any_store.client.xadd(STREAM, {**good, **outcome, "event_id": str(number)})
    drain(worker_on(any_store))
    first, second, third = (letter.reason for letter in letters(any_store))
    assert first.startswith("reward is 7.0: at most the trials of its event")
    assert second.startswith("successes is 7.0: at most the trials of its event")
    assert third == "it has no field 'reward' (or 'successes')"


def test_entries_are_removed_once_applied_if_that_is_wanted(any_store):
    adder = Adder(any_store)
    adder.send(rows(30))
    worker = worker_on(any_store, source_on(any_store, remove=True), batch_size=20)
    worker.step()
    assert any_store.client.xlen(STREAM) == 10
    drain(worker)
    assert any_store.client.xlen(STREAM) == 0
    assert stored(any_store) == sums(adder.sent)
    assert [part.waiting for part in worker.report().partitions] == [0]


def test_entries_that_were_trimmed_after_a_worker_was_given_them_are_told(any_store):
    adder = Adder(any_store)
    adder.send(rows(6))
    assert len(source_on(any_store).poll(0, 4).events) == 4
    any_store.client.xtrim(STREAM, maxlen=3, approximate=False)
    worker = worker_on(any_store)
    wait_until(lambda: not (worker.step() or unacknowledged(any_store)), "not claimed")
    assert done(worker) == (3, 0, 3)
    assert stored(any_store) == sums(adder.sent[3:])
    assert [
        ("was removed" in letter.reason, b"entry" in letter.raw) for letter in letters(any_store)
    ] == [(True, True)] * 3


def test_entries_that_were_removed_once_applied_and_not_acknowledged_are_not_told(any_store):
    adder = Adder(any_store)
    adder.send(rows(6))
    given = source_on(any_store).poll(0, 4)
    any_store.client.xdel(STREAM, *given.receipt)  # the next command would have acknowledged them
    worker = worker_on(any_store, source_on(any_store, remove=True))
    wait_until(lambda: not (worker.step() or unacknowledged(any_store)), "not claimed")
    assert done(worker) == (2, 0, 0)
    assert letters(any_store) == []


def test_a_group_that_is_lost_is_made_anew_and_nothing_counts_twice(any_store):
    adder = Adder(any_store)
    adder.send(rows(12))
    worker = worker_on(any_store)
    drain(worker)
    any_store.client.xgroup_destroy(STREAM, "banditcore")
    adder.send(rows(5))
    drain(worker)
    assert done(worker) == (17, 12, 0)
    assert stored(any_store) == sums(adder.sent)


def test_a_source_that_is_closed_leaves_the_group_unless_others_have_to_claim_from_it(any_store):
    Adder(any_store).send(rows(6))
    source = source_on(any_store)
    drain(worker_on(any_store, source))
    source.close()
    source.close()
    assert any_store.client.xinfo_consumers(STREAM, "banditcore") == []
    Adder(any_store).send(rows(6))
    source.poll(0, 6)
    source.close()
    assert len(any_store.client.xinfo_consumers(STREAM, "banditcore")) == 1
    assert unacknowledged(any_store) == 6


@pytest.mark.parametrize(
    ("stream", "options", "name"),
    [
        ("bc:{x}:x", {}, "stream"),
        ("", {}, "stream"),
        (STREAM, {"group": ""}, "group"),
        (STREAM, {"claim_after_s": 0.0}, "claim_after_s"),
        (STREAM, {"claim_after_s": "60"}, "claim_after_s"),
    ],
)
def test_what_cannot_be_a_source_is_refused(store, stream, options, name):
    with pytest.raises((InvalidTypeError, InvalidValueError), match=name):
        RedisGroupSource(Bandit("home", store), stream, **options)


WORKER = textwrap.dedent(
    """
    import datetime as dt, os, signal, sys, threading
    from banditcore.bandit import Bandit
    from banditcore.ingest import IngestWorker
    from banditcore.ingest.sources.redis_group import RedisGroupSource
    from banditcore.store.connect import connect

    left = int(sys.argv[3])

    class Dies(RedisGroupSource):
        def commit(self, delivery):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            super().commit(delivery)

    with connect(sys.argv[1]) as store:
        bandit = Bandit("home", store, retry_for=dt.timedelta(0))
        source = Dies(bandit, sys.argv[2], claim_after_s=0.05)
        IngestWorker(bandit, source, batch_size=7).run(threading.Event())
    """
)


def test_workers_that_are_killed_before_they_acknowledge_lose_and_double_nothing(any_store):
    """Processes, one after another, each killed one delivery later than the one before."""
    adder = Adder(any_store)
    for i in range(40):
        adder.send([(segment, f"arm {i % 7}", float(i % 2)) for segment in "XYZ"])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for deliveries in (1, 2, 3):
        words = [sys.executable, "-c", WORKER, any_store.url, STREAM, str(deliveries)]
        died = subprocess.run(words, env=environment, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        assert 1 <= unacknowledged(any_store) <= 7 * deliveries
    last = worker_on(any_store)
    wait_until(lambda: not (last.step() or unacknowledged(any_store)), "not all claimed")
    assert stored(any_store) == sums(adder.sent)
    _, duplicate, refused = done(last)
    assert (duplicate > 0, refused) == (True, 0)
