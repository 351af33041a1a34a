"""Refreshers that run: one at a time, through outages, until they are stopped or killed."""

from __future__ import annotations

import datetime as dt
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import StoreUnavailableError
from banditcore.posterior import Prior
from banditcore.refresh import Refresher, RefreshReport, companion
from banditcore.slate_format import decode, decode_header
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.publish import fetch, headers
from proxy import Proxy, proxy_before
from servers import patiently, running_server, wait_until
from terminals import spawn

TREE = ("", "IN", "US")
SOON = dt.timedelta(milliseconds=1)


def recorded(store: Store) -> Bandit:
    bandit = Bandit("home", store, prior=Prior(1, 1))
    bandit.record_batch({"segment": ["IN", "US"], "arm": ["a", "b"], "reward": [1, 0]})
    return bandit


def version(store: Store, segment: str = "") -> int:
    [header] = headers(store, "home", [segment])
    return decode_header(header).version if header else 0


class Running:
    """A refresher in a thread, and what it said."""

    def __init__(self, bandit: Bandit, **options) -> None:
        self.reports: list[RefreshReport] = []
        self.notices: list[str] = []
        self.stop = threading.Event()
        self.refresher = Refresher(
            bandit,
            **{"every": SOON, **options},
            on_report=self.reports.append,
            on_notice=self.notices.append,
        )
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.refresher.run(self.stop)
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            self.errors.append(error)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.errors == []

    def refreshed(self, more: int = 1) -> None:
        wanted = len(self.reports) + more
        wait_until(lambda: len(self.reports) >= wanted, f"no refresh: {self.notices}")


@contextmanager
def running(bandit: Bandit, **options) -> Iterator[Running]:
    it = Running(bandit, **options)
    it.thread.start()
    try:
        yield it
    finally:
        it.end()


# --- one at a time -----------------------------------------------------------------------------


def test_one_works_and_the_other_stands_by(any_store):
    bandit = recorded(any_store)
    one, two = Refresher(bandit, lease_s=600), Refresher(bandit, lease_s=600)
    assert one.step().published == TREE
    assert (two.step(), two.leads, one.leads) == (None, False, True)
    one.release()
    assert two.step().published == TREE
    assert one.step() is None


def test_another_takes_over_from_one_that_ended(store, monkeypatch):
    monkeypatch.setattr(companion, "_LOOK_EVERY_S", 0.05)
    bandit = recorded(store)
    with running(bandit, lease_s=600) as one:
        one.refreshed()
        with running(bandit, lease_s=600) as two:
            wait_until(lambda: bool(two.notices), "it does not stand by")
            assert two.reports == []
            one.end()
            two.refreshed()
    assert one.notices == []
    assert two.notices == ["standing by: another one refreshes", "refreshing"]


def test_a_lease_lasts_as_long_as_the_work(store, monkeypatch):
    """It is renewed while one refreshes; the other does not begin."""
    monkeypatch.setattr(companion, "_RENEWALS", 6000)  # each 0.1 s, of a lease that outlasts us
    bandit = recorded(store)
    held, go_on = threading.Event(), threading.Event()
    prior = bandit.prior

    class Slow(Bandit):
        def segments(self) -> list[str]:
            held.set()
            assert go_on.wait(60)
            return super().segments()

    with running(Slow("home", store, prior=prior), lease_s=600) as one:
        assert held.wait(60)
        two = Refresher(bandit, lease_s=600)
        lease = keys.lease("home", "refresh")
        first = store.client.hget(lease, "until")
        wait_until(lambda: int(store.client.hget(lease, "until")) > int(first) + 500, "no renewal")
        assert two.step() is None
        go_on.set()
        one.refreshed()


def test_one_that_is_late_harms_nobody(store):
    """It has read its counts, then its lease runs out and another refreshes newer ones."""
    bandit = recorded(store)
    two = Refresher(bandit)

    class Late(Bandit):
        turn = False

        @property
        def prior(self):
            if self.turn and two.step() is None:  # between reading and publishing
                store.client.unlink(keys.lease("home", "refresh"))
                assert two.step().published == TREE
            return Prior(1, 1)

        @prior.setter
        def prior(self, _given):
            pass

    late = Late("home", store)
    one = Refresher(late)
    assert one.step().published == TREE
    Late.turn = True
    report = one.step()
    assert (report.published, report.unchanged, report.superseded) == ((), (), TREE)
    newest = version(store)
    assert two.step().unchanged == TREE
    assert version(store) > newest


# --- outages -----------------------------------------------------------------------------------


def test_an_outage_is_waited_out_and_told_of_once():
    with (
        running_server() as server,
        connect(server.url, timeout_s=60) as patient,
        patiently(lambda: connect(server.url, timeout_s=0.2)) as store,
        running(Bandit("home", store, prior=recorded(patient).prior), lease_s=600) as it,
    ):
        it.refreshed(2)
        step, steps = it.refresher.step, []

        def counted(stopped: Callable[[], bool]) -> RefreshReport | None:
            steps.append(1)
            return step(stopped)

        it.refresher.step = counted
        server.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: any("waiting: " in text for text in it.notices), "not told")
        tried = len(steps)
        wait_until(lambda: len(steps) > tried + 1, "it does not try again")
        server.process.send_signal(signal.SIGCONT)
        it.refreshed(2)
    # For a store that is so impatient a busy machine is an outage too: each has its two notices.
    told = [text.partition(":")[0] for text in it.notices if "lease" not in text]
    assert len(told) >= 2
    assert {*told[::2]} == {"waiting"}
    assert {*told[1::2]} == {"the outage is over"}


def test_a_server_that_comes_back_empty_is_filled_again(store):
    bandit = recorded(store)
    with running(bandit) as it:
        it.refreshed(2)
        for client in store.servers().values():
            client.flushall()
            client.function_flush()
        recorded(store)
        wait_until(lambda: version(store, "IN") > 0, "nothing is published")
        it.refreshed(2)
    assert it.reports[-1].failed == {}
    assert set(it.reports[-1].unchanged) | set(it.reports[-1].published) == set(TREE)


@pytest.mark.parametrize("lost", [b"_sign", b"_restamp", b"_lease_renew"])
def test_a_lost_reply_costs_a_refresh_at_most(lost):
    with (
        running_server() as server,
        proxy_before(server.socket_path) as proxy,
        connect(server.url) as store,
        connect(proxy.url) as unreliable,
    ):
        recorded(store)
        refresher = Refresher(Bandit("home", unreliable, prior=Prior(1, 1)))
        assert refresher.step().published == TREE
        before = version(store)
        proxy.lose_next_reply(to=lost)
        with pytest.raises(StoreUnavailableError):
            refresher.step()
        assert proxy.lost == 1
        report = refresher.step()
        assert report.failed == {}
        assert set(report.published + report.unchanged) == set(TREE)
        assert version(store) > before
        for segment in TREE:
            decode(fetch(store, "home", [segment])[0])
        assert refresher.step().unchanged == TREE


# --- the end -----------------------------------------------------------------------------------


def test_a_stop_begins_no_further_segment(store):
    bandit = recorded(store)
    refresher = Refresher(bandit)
    asked = iter([False] + [True] * 100)
    report = refresher.step(lambda: next(asked))
    assert len(report.published) + len(report.failed) == 3
    assert len(report.failed) >= 2
    assert all(why.endswith("stopped before its turn") for why in report.failed.values())
    again = refresher.step()
    assert (again.published, again.unchanged) == (tuple(report.failed), report.published)


def test_an_end_gives_the_lease_up_and_leaves_no_thread(store):
    with running(recorded(store)) as it:
        it.refreshed()
    assert store.client.hget(keys.lease("home", "refresh"), "until") == b"0"
    assert not [t for t in threading.enumerate() if t.name.startswith("banditcore-refresh")]


def test_what_a_refresher_cannot_go_on_with_is_raised(store):
    bandit = recorded(store)
    it = Running(bandit, segments=["nowhere"])
    it.thread.start()
    it.thread.join(60)
    assert "nowhere" in str(it.errors[0])


def test_a_publisher_killed_midway_leaves_the_old_blob_whole():
    """SIGKILL when the server has half of the new blob."""
    with (
        running_server() as server,
        proxy_before(server.socket_path) as proxy,
        connect(server.url) as store,
    ):
        bandit = recorded(store)
        bandit.refresh()
        [old] = fetch(store, "home", ["IN"])
        bandit.add_arms("IN", [f"arm {i}" for i in range(20_000)])
        processes: list = []

        def kill() -> None:
            wait_until(lambda: bool(processes), "not started")
            processes[0].kill()

        # The proxy passes on the first part of the request; then its client is dead.
        blob = keys.of_segment("home", "IN").blob.encode()
        half_sent(proxy, blob, kill)
        with spawn(
            "refresh", "--every", "60s", "--bandit", "home", "--segment", "IN", "--url", proxy.url
        ) as process:
            processes.append(process)
            process.wait(60)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert proxy.lost == 1
        [kept] = fetch(store, "home", ["IN"])
        assert kept == old
        decode(kept)
        # Nobody has to clean up: the next one waits for the lease, and publishes.
        store.client.unlink(keys.lease("home", "refresh"))
        assert "IN" in Refresher(bandit).step().published
        assert len(decode(fetch(store, "home", ["IN"])[0]).arms) == 20_001


def half_sent(proxy: Proxy, word: bytes, kill: Callable[[], None]) -> None:
    """Kill the client of the next request with `word` once its first 1,000 bytes are on."""
    proxy.before_next_request(word, kill)
    proxy.cut_next_request(word, 1000)
