"""The refresh job on executors that break and counts that are damaged: the others are published."""

from __future__ import annotations

import multiprocessing as mp
import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import StoreError
from banditcore.posterior import Prior
from banditcore.posterior_tree import posteriors
from banditcore.slate_format import decode, encode
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.counts import index
from banditcore.store.publish import fetch, publish
from banditcore.store.seals import seal
from bandits import die

SEGMENTS = ("", "IN", "US", "IN/m", "IN/w")


@pytest.fixture
def bandit(store: Store) -> Bandit:
    bandit = Bandit("home", store, prior=Prior(1, 1))
    segments = ["IN/m", "IN/w", "US"]
    bandit.record_batch({"segment": segments, "arm": ["a", "a", "b"], "reward": [1, 1, 0]})
    return bandit


def published(store: Store, segment: str) -> Snapshot | None:
    [blob] = fetch(store, "home", [segment])
    return decode(blob) if blob else None


# --- executors ---------------------------------------------------------------------------------


def spawned(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp.get_context("spawn"))


@pytest.mark.parametrize("pool", [lambda: ThreadPoolExecutor(3), lambda: spawned(2)])
def test_any_executor_will_do(bandit, pool):
    with pool() as executor:
        for _ in range(2):
            report = bandit.refresh(executor=executor, slates=5, depth=1)
            assert (report.published, report.failed) == (SEGMENTS, {})
        assert executor.submit(int, "7").result() == 7  # it is the caller's, still open
    for segment in SEGMENTS:
        snapshot = published(bandit.store, segment)
        assert snapshot.bank.slates.shape == (5, 1)
    assert published(bandit.store, "IN").alpha.tolist() == [3]


def test_a_pool_whose_worker_died_is_reported(bandit):
    with spawned(1) as executor:
        executor.submit(die)
        report = bandit.refresh(executor=executor)
    assert report.published == ()
    assert list(report.failed) == list(SEGMENTS)
    assert all(why.startswith("BrokenProcessPool: ") for why in report.failed.values())
    assert bandit.refresh().published == SEGMENTS


def test_a_pool_that_was_shut_down_is_reported(bandit):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    report = bandit.refresh(executor=executor)
    assert (report.published, set(report.failed)) == ((), set(SEGMENTS))
    assert all(why.startswith("RuntimeError: cannot schedule") for why in report.failed.values())


class SomeFail(Executor):
    """Runs jobs at once; fails those that a test names."""

    def __init__(self, failing: set[str], before: Callable[[], object] = lambda: None) -> None:
        self._failing = failing
        self._before = before

    def submit(self, call, job):
        self._before()
        future = Future()
        try:
            if job.segment in self._failing:
                raise MemoryError(f"no room for {job.segment}")  # noqa: TRY301 - as in a worker
            future.set_result(call(job))
        except Exception as error:  # noqa: BLE001 - as executors do
            future.set_exception(error)
        return future


def test_a_job_that_fails_fails_alone(bandit):
    report = bandit.refresh(executor=SomeFail({"IN", "US"}))
    assert report.published == ("", "IN/m", "IN/w")
    assert report.failed == {
        "IN": "MemoryError: no room for IN",
        "US": "MemoryError: no room for US",
    }
    assert published(bandit.store, "IN") is None


def test_the_address_of_the_store_is_not_shown(bandit):
    shown = []

    class Showing(SomeFail):
        def submit(self, call, job):
            shown.append(repr(job))
            return super().submit(call, job)

    bandit.refresh(executor=Showing(set()))
    assert len(shown) == 5
    assert not any(bandit.store.url in text for text in shown)


def test_workers_of_the_same_process_use_the_callers_store(bandit, monkeypatch):
    """Even when refreshes on one address overlap and the first to begin is the first to end."""

    def refuse(url: str) -> Store:
        raise StoreError("a connection of its own")

    monkeypatch.setattr("banditcore.refresh.drawing.connect", refuse)
    first_began, second_began, first_ended = (threading.Event() for _ in range(3))

    def first() -> tuple[str, ...]:
        with connect(bandit.store.url) as store:

            def before() -> None:
                first_began.set()
                assert second_began.wait(60)

            report = Bandit("home", store).refresh(["US"], executor=SomeFail(set(), before))
        first_ended.set()
        return report.published

    def second() -> tuple[str, ...]:
        def before() -> None:
            second_began.set()
            assert first_ended.wait(60)

        assert first_began.wait(60)
        report = bandit.refresh(["IN"], executor=SomeFail(set(), before))
        return report.published

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(first), pool.submit(second)]
        assert [run.result() for run in runs] == [("", "US"), ("", "IN")]
    assert bandit.refresh().published == SEGMENTS


# --- damaged counts ----------------------------------------------------------------------------


def damage(store: Store, segment: str, raw: bytes = b"garbage") -> None:
    store.client.hset(keys.of_segment("home", segment).state, "c:0", raw)


@pytest.mark.parametrize("raw", [b"garbage", b"\xff" * 16, b"\0" * 32])
def test_a_damaged_segment_fails_alone_with_its_ancestors(bandit, raw):
    bandit.refresh()
    last = {segment: published(bandit.store, segment).version for segment in SEGMENTS}
    damage(bandit.store, "IN/m", raw)
    calls = []
    report = bandit.refresh(progress=lambda *call: calls.append(call))
    assert report.published == ("US", "IN/w")
    assert list(report.failed) == ["", "IN", "IN/m"]
    for above in ("", "IN"):
        assert report.failed[above].startswith("counts of 'IN/m' below it are missing: ")
    assert not report.failed["IN/m"].startswith("counts of")
    assert "'IN/m'" in report.failed["IN/m"]
    kept = {segment: published(bandit.store, segment).version for segment in SEGMENTS}
    assert {segment for segment in SEGMENTS if kept[segment] > last[segment]} == {"US", "IN/w"}
    assert [done for done, _, _ in calls] == [1, 2, 3, 4, 5]
    assert {total for _, total, _ in calls} == {5}
    assert sorted(segment for _, _, segment in calls) == sorted(SEGMENTS)


def test_sums_that_are_not_finite_fail_alone(bandit):
    """Each is a number still; both together are none."""
    most = seal(struct.pack("<2d", sys.float_info.max, 0.0))
    damage(bandit.store, "IN/m", most)
    damage(bandit.store, "IN/w", most)
    report = bandit.refresh()
    assert report.published == ("US",)
    assert list(report.failed) == ["", "IN", "IN/m", "IN/w"]
    for above in ("", "IN"):
        assert report.failed[above].startswith("counts of 'IN' and below it: ")


def test_a_damaged_ancestor_leaves_those_below_alone(bandit):
    bandit.record("IN", "a")
    damage(bandit.store, "IN")
    report = bandit.refresh()
    assert report.published == ("US", "IN/m", "IN/w")
    assert set(report.failed) == {"", "IN"}
    assert bandit.refresh(["IN/m"]).published == ("IN/m",)


def test_a_segment_that_is_entered_but_not_made_yet_does_not_age_the_others(bandit):
    """Its first writer may be between the two steps, or have died there."""
    index.add(bandit.store, "home", ["new"])
    began = bandit.store.server_time()
    report = bandit.refresh()
    assert set(report.published) == {"", "IN", "US", "IN/m", "IN/w", "new"}
    for segment in report.published:
        assert published(bandit.store, segment).version >= began * 1e6
    assert published(bandit.store, "new").arms == ()


def test_an_empirical_prior_leans_on_what_could_be_read(store):
    bandit = Bandit("home", store, prior="empirical")
    bandit.record_batch({"segment": ["IN/m", "US"], "arm": ["a", "a"], "reward": [1, 0]})
    damage(store, "IN/m")
    report = bandit.refresh()
    assert report.published == ("US",)
    assert set(report.failed) == {"", "IN", "IN/m"}
    alone = bandit.counts("US")
    expected = posteriors({"": alone, "US": alone}, "empirical")["US"]
    found = published(store, "US")
    assert found.alpha == pytest.approx(expected.alpha)
    assert found.beta == pytest.approx(expected.beta)


# --- others at work ----------------------------------------------------------------------------


def test_a_newer_version_stays(bandit):
    bandit.refresh()
    old = published(bandit.store, "IN")
    ahead = Snapshot("home", "IN", old.version + 10**9, old.arms, old.alpha, old.beta, old.bank)
    publish(bandit.store, "home", "IN", encode(ahead), ahead.version)
    report = bandit.refresh()
    assert report.superseded == ("IN",)
    assert report.published == ("", "US", "IN/m", "IN/w")
    assert report.failed == {}
    assert published(bandit.store, "IN").version == ahead.version


def test_events_recorded_during_a_refresh_are_in_the_next(bandit):
    def record(*_: object) -> None:
        bandit.record("IN", "late", reward=1)

    bandit.refresh(executor=SomeFail(set(), record))
    assert published(bandit.store, "IN").arms == ("a",)
    bandit.refresh()
    assert set(published(bandit.store, "IN").arms) == {"a", "late"}


def test_progress_is_told_after_each_segment(bandit):
    calls = []
    bandit.refresh(["IN/m"], progress=lambda *call: calls.append(call))
    assert [(done, total) for done, total, _ in calls] == [(1, 3), (2, 3), (3, 3)]
    assert {segment for _, _, segment in calls} == {"", "IN", "IN/m"}


def test_a_store_that_is_closed_publishes_nothing(bandit):
    with connect(bandit.store.url) as store:
        other = Bandit("home", store)
        report = other.refresh(executor=SomeFail(set(), store.close))
    assert report.published == ()
    assert all("is closed" in why for why in report.failed.values())
    assert len(report.failed) == 5
