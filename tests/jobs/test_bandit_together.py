"""Many writers at once, and a server that goes away: no event is lost, none counts twice."""

from __future__ import annotations

import datetime as dt
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from banditcore.bandit import Applied, Bandit
from banditcore.errors import PartlyAppliedError, StoreUnavailableError
from banditcore.store.connect import connect
from bandits import record_batches, table
from hanging import PATIENT_S, hanging
from proxy import proxy_before
from servers import running_server

BATCH = {"segment": ["IN", "US", "US"], "arm": ["a", "a", "b"], "reward": [1, 0, 1]}


def test_threads_share_a_bandit(any_store):
    bandit = Bandit("home", any_store)
    batches = 15

    def work(thread: int) -> int:
        applied = 0
        for number in range(batches):
            arms = [f"arm {i}" for i in range(40)] + [f"arm {thread} {number} {i}" for i in "ab"]
            events = {"segment": ["IN", "US"] * 21, "arm": arms, "reward": [1, 0] * 21}
            applied += bandit.record_batch(events).applied
        return applied

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 4 * batches * 42
    shared = {f"arm {i}": (4.0 * batches, 4.0 * batches * (i % 2 == 0)) for i in range(40)}
    for parity, segment, last in ((0, "IN", "a"), (1, "US", "b")):
        own = {f"arm {t} {n} {last}": (1, 1 - parity) for t in range(4) for n in range(batches)}
        even = {arm: c for arm, c in shared.items() if int(arm.split()[1]) % 2 == parity}
        assert table(bandit.counts(segment)) == even | own


def test_threads_write_while_others_retire_arms(store):
    bandit = Bandit("home", store)
    batches = 25

    def write(thread: int) -> None:
        other = bandit if thread == 0 else Bandit("home", store)
        for number in range(batches):
            other.record_batch(
                {"segment": ["IN"] * 2, "arm": ["kept", f"{thread} {number}"], "reward": [1, 1]}
            )

    def disturb() -> None:
        other = Bandit("home", store)
        for number in range(batches):
            other.add_arms("IN", [f"gone {number}"])
            assert other.retire("IN", [f"gone {number}"]) == 1

    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(write, 0), pool.submit(write, 1), pool.submit(disturb)]
        for each in done:
            each.result()
    own = {f"{thread} {number}": (1, 1) for thread in (0, 1) for number in range(batches)}
    assert table(bandit.counts("IN")) == own | {"kept": (2 * batches, 2 * batches)}


def test_an_arm_that_others_retired_is_added_by_one_who_remembers_it(store):
    bandit, other = Bandit("home", store), Bandit("home", store)
    bandit.record("IN", "a")
    assert other.retire("IN", ["a"]) == 1
    assert bandit.add_arms("IN", ["a"]) == 1
    assert table(other.counts("IN")) == {"a": (0, 0)}


def test_processes_write_the_same_arms(store):
    batches, context = 20, mp.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, context) as pool:
        start = manager.Barrier(2)
        work = [pool.submit(record_batches, store.url, start, batches) for _ in range(2)]
        for each in work:
            each.result()
    bandit = Bandit("home", store)
    assert bandit.segments() == ["IN", "US"]
    for segment in ("IN", "US"):
        counts = bandit.counts(segment)
        assert sorted(counts.arms) == sorted(f"arm {i}" for i in range(200))
        np.testing.assert_array_equal(counts.trials, 2 * batches)
        odd = np.array([int(arm.split()[1]) % 2 for arm in counts.arms])
        np.testing.assert_array_equal(counts.successes, 2 * batches * (1 - odd))


@pytest.mark.parametrize("ids", [None, ["1", "2", "3"]], ids=["batch", "event ids"])
def test_a_lost_reply_counts_nothing_twice(store, ids):
    Bandit("home", store).record_batch(BATCH)
    batch = BATCH if ids is None else {**BATCH, "event_id": ids}
    path = Path(store.url.removeprefix("unix://"))
    with proxy_before(path) as proxy, connect(proxy.url) as unsafe:
        bandit = Bandit("home", unsafe)
        bandit.counts("IN")  # so that the next request is the update
        for n in (2, 3):
            proxy.lose_next_reply(b"_apply_")
            applied = bandit.record_batch(batch)
            assert (applied.applied + applied.duplicate, applied.refused) == (3, 0)
            assert proxy.lost == n - 1
            known = 2 if ids else n  # events with ids are duplicates the second time
            assert table(bandit.counts("IN")) == {"a": (known, known)}
            assert table(bandit.counts("US")) == {"a": (known, 0), "b": (known, known)}


@pytest.mark.parametrize("ids", [None, ["1", "2", "3"]], ids=["batch", "event ids"])
@pytest.mark.parametrize("used", [False, True], ids=["first write", "later"])
def test_a_server_that_hangs_leaves_the_outcome_open_and_a_way_on(ids, used):
    batch = BATCH if ids is None else {**BATCH, "event_id": ids}
    with running_server() as server, connect(server.url, timeout_s=PATIENT_S) as store:
        bandit = Bandit("home", store, retry_for=dt.timedelta(0))
        if used:
            bandit.record_batch(BATCH)
        with hanging(server.process, store):
            # Settings are agreed on before the first event is sent, so none can be applied then.
            with pytest.raises(PartlyAppliedError if used else StoreUnavailableError) as caught:
                bandit.record_batch(batch)
            with pytest.raises(StoreUnavailableError):
                bandit.counts("IN")
        again = caught.value.batch_id if used else None if ids else "mine"
        if used:
            assert isinstance(caught.value.__cause__, StoreUnavailableError)
        applied = bandit.record_batch(batch, batch_id=again)
        # What the server got before it hung, it may have executed when it went on.
        assert (applied.applied + applied.duplicate, applied.refused) == (3, 0)
        assert bandit.record_batch(batch, batch_id=again) == Applied(0, 3, 0)
        n = 2 if used else 1
        assert table(bandit.counts("IN")) == {"a": (n, n)}
        assert table(bandit.counts("US")) == {"a": (n, 0), "b": (n, n)}


def test_a_server_that_is_gone_is_named_with_the_remedy():
    with running_server() as server, connect(server.url, timeout_s=PATIENT_S) as store:
        bandit = Bandit("home", store, retry_for=dt.timedelta(0))
        bandit.record_batch(BATCH)
        server.process.kill()
        server.process.wait()
        for batch_id in (None, "mine"):
            with pytest.raises(PartlyAppliedError, match=r"send them again with batch_id='") as at:
                bandit.record_batch(BATCH, batch_id=batch_id)
            assert batch_id is None or at.value.batch_id == batch_id
