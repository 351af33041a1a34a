from __future__ import annotations

import multiprocessing as mp
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from banditcore.errors import InvalidValueError, StoreUnavailableError
from banditcore.store import connect, keys
from banditcore.store.leases import Lease, bandit_lease, partition_lease
from proxy import proxy_before
from servers import wait_until


def lease(store, ttl_s=1000.0) -> Lease:
    return partition_lease(store, "home", 3, ttl_s=ttl_s)


def test_one_owner_at_a_time(any_store):
    ours, theirs = lease(any_store), lease(any_store)
    assert (ours.epoch, ours.left_s) == (None, 0)
    assert ours.acquire()
    assert 900 < ours.left_s <= 1000
    assert not theirs.acquire()
    assert theirs.epoch is None
    assert 900 < theirs.held_elsewhere_s <= 1000
    assert not theirs.renew()
    theirs.release()  # not theirs: nothing happens
    assert ours.renew()
    epoch = ours.epoch
    ours.release()
    assert (ours.epoch, ours.left_s) == (None, 0)
    assert theirs.acquire()
    assert theirs.held_elsewhere_s == 0
    assert theirs.epoch > epoch
    assert not ours.renew()


def test_an_owner_that_asks_again_stays_the_same(any_store):
    ours = lease(any_store)
    assert ours.acquire()
    epoch = ours.epoch
    assert ours.acquire()
    assert ours.epoch == epoch
    ours.release()  # but then it was nobody's
    assert ours.acquire()
    assert ours.epoch > epoch


def test_a_lease_runs_out(any_store):
    late, next_one = lease(any_store, ttl_s=0.05), lease(any_store)
    assert late.acquire()
    epoch = late.epoch
    wait_until(next_one.acquire, "the lease does not run out")
    assert late.left_s == 0
    assert next_one.epoch > epoch
    assert not late.renew()
    assert late.epoch is None
    late.release()
    assert next_one.renew()
    assert not late.acquire()


def test_a_late_owner_goes_on_when_nobody_came(any_store):
    ours = lease(any_store, ttl_s=0.02)
    assert ours.acquire()
    epoch = ours.epoch
    wait_until(lambda: ours.left_s == 0, "it does not run out")
    assert ours.renew()
    assert ours.epoch == epoch


def test_one_of_many_gets_it(store):
    barrier = Barrier(8)

    def ask(_: int) -> int | None:
        mine = lease(store)
        barrier.wait()
        mine.acquire()
        return mine.epoch

    with ThreadPoolExecutor(8) as threads:
        epochs = list(threads.map(ask, range(8)))
    assert len([epoch for epoch in epochs if epoch is not None]) == 1


def test_epochs_grow_even_when_the_server_forgets(any_store):
    """As after a failover to a replica that had not got the last owner yet."""
    epochs = []
    for _ in range(5):
        ours = lease(any_store)
        assert ours.acquire()
        epochs.append(ours.epoch)
        any_store.client.delete(keys.of_partition("home", 3).lease)
        # An epoch is the server's millisecond.
        wait_until(lambda: 1000 * any_store.server_time() > epochs[-1] + 1, "time stands still")
    assert epochs == sorted(set(epochs))


def test_epochs_grow_when_the_clock_goes_back(any_store):
    ahead = int(any_store.server_time() * 1000) + 10**9
    any_store.client.hset(keys.of_partition("home", 3).lease, "epoch", ahead)
    ours, theirs = lease(any_store), lease(any_store)
    assert ours.acquire()
    assert ours.epoch == ahead + 1
    ours.release()
    assert theirs.acquire()
    assert theirs.epoch == ahead + 2


def test_a_lost_reply_leaves_the_lease_with_its_owner(store):
    path = Path(store.url.removeprefix("unix://"))
    assert partition_lease(store, "away", 0).acquire()  # loads the library
    with proxy_before(path) as proxy, connect(proxy.url) as unsafe:
        ours = lease(unsafe)
        proxy.lose_next_reply(b"_lease_acquire")
        with pytest.raises(StoreUnavailableError):
            ours.acquire()
        assert proxy.lost == 1
        assert not lease(store).acquire()
        assert ours.acquire()
        proxy.lose_next_reply(b"_lease_release")
        with pytest.raises(StoreUnavailableError):
            ours.release()
        assert lease(store).acquire()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_is_not_the_owner_that_its_parent_is(store):
    ours = lease(store)
    assert ours.acquire()
    read, write = os.pipe()

    def child() -> None:
        found = [ours.epoch is None, ours.left_s == 0, not ours.renew(), not ours.acquire()]
        ours.release()
        os.write(write, bytes(found))

    process = mp.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert os.read(read, 10) == bytes([1, 1, 1, 1])
    os.close(read)
    os.close(write)
    assert ours.renew()


def test_leases_of_partitions_and_jobs_are_apart(store):
    all_of_them = [
        partition_lease(store, "home", 0),
        partition_lease(store, "home", 1),
        partition_lease(store, "away", 0),
        bandit_lease(store, "home", "refresh"),
        bandit_lease(store, "home", "ingest:0"),
    ]
    assert all(each.acquire() for each in all_of_them)
    assert all_of_them[0].name == "ingest:0"
    assert repr(all_of_them[3]).startswith("Lease('refresh', epoch=1")


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 1e-9])
def test_a_time_that_cannot_be(store, ttl_s):
    with pytest.raises(InvalidValueError, match="ttl_s"):
        lease(store, ttl_s)
