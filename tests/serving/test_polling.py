"""Looks for new versions in the background: one at a time, and nobody hangs with one."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from banditcore.errors import InvalidValueError, NotReadyError, StoreUnavailableError
from banditcore.serving import Recommender
from banditcore.serving.polling import Poller, PollingState
from banditcore.store.connect import Store, connect
from faults.server import MortalServer
from proxy import proxy_before
from published import NOW, Home, fill, put, snapshot
from servers import patiently, running_server, wait_until

# Each name of a thread is of one test alone.
PREFIX = "banditcore-poll-"


def polling_threads(name: str = "home") -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == PREFIX + name]


@pytest.fixture
def server() -> Iterator[MortalServer]:
    server = MortalServer()
    yield server
    server.close()


class Gate:
    """A look that waits to be let through."""

    def __init__(self) -> None:
        self.looks = 0
        self.entered = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, is_stopped: Callable[[], bool]) -> tuple[str, ...]:
        self.looks += 1
        mine = f"S{self.looks}"
        self.entered.release()
        assert self.open.acquire(timeout=60)
        return (mine,)


def test_looks_come_one_at_a_time_and_those_who_ask_share_one() -> None:
    gate = Gate()
    poller = Poller("shared", gate, poll_s=None)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(poller.look, 60)
        assert gate.entered.acquire(timeout=60)
        # What these know of may have come after the first look passed by.
        later = [pool.submit(poller.look, 60) for _ in range(5)]
        wait_until(lambda: len(poller._changed._waiters) == 6, "somebody does not wait")  # type: ignore[attr-defined]
        gate.open.release()
        assert first.result(60) == ("S1",)
        gate.open.release()
        assert [each.result(60) for each in later] == [("S1", "S2")] * 5
    assert gate.looks == 2
    wait_until(lambda: not polling_threads("shared"), "a thread waits for nothing")


def test_who_asks_waits_for_its_time_only_and_the_look_goes_on() -> None:
    gate = Gate()
    poller = Poller("slow", gate, poll_s=None)
    with pytest.raises(StoreUnavailableError, match=r"'slow' were not read within 0.01 s"):
        poller.look(0.01)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(poller.look, None)
        gate.open.release(2)
        assert again.result(60)[-1] == "S2"  # type: ignore[index]


def test_an_error_reaches_each_of_those_who_asked() -> None:
    def fail(_: Callable[[], bool]) -> tuple[str, ...]:
        raise StoreUnavailableError("away")

    poller = Poller("failing", fail, poll_s=None)
    caught = []
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="away") as error:
            poller.look(60)
        caught.append(error.value)
    assert caught[0] is not caught[1]
    assert poller.state() == PollingState(failures=2, error="away")


def test_what_is_unexpected_is_kept_and_logged_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Callable[[], bool]) -> tuple[str, ...]:
        raise ZeroDivisionError("a defect")

    poller = Poller("defect", fail, poll_s=0.001)
    poller.start()
    wait_until(lambda: poller.state().failures > 3, "it does not try again")
    poller.stop(60)
    assert poller.state().error == "ZeroDivisionError: a defect"
    [record] = caplog.records
    assert (record.name, record.levelname) == ("banditcore.serving", "WARNING")
    assert record.exc_info is not None


def test_a_connection_that_trickles_does_not_hold_looks_up() -> None:
    """Each byte comes in time; the whole snapshot would take minutes."""
    with (
        running_server() as server,
        connect(server.url) as direct,
        proxy_before(server.socket_path) as proxy,
        patiently(lambda: connect(proxy.url, timeout_s=0.5)) as store,
    ):
        put(direct, snapshot("IN"))
        home = Home(store, ["IN"])
        with Recommender(home, max_age=1e9, poll_s=0.2, default=["d"]) as r:
            patiently(r.warm_up)
            proxy.trickle(0.001)
            put(direct, snapshot("IN", arms=2000, at=NOW + 60))
            wait_until(lambda: r.polling.failures > 0, "a look hangs")
            assert "did not answer in time" in str(r.polling.error)
            assert r.recommend("IN").version == int(NOW * 1e6)
            proxy.heal()
            wait_until(lambda: r.recommend("IN").version > NOW * 1e6, "the news does not come")


def test_stopping_leaves_a_look_behind_that_hangs() -> None:
    gate = Gate()
    poller = Poller("hanging", gate, poll_s=None)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(poller.look, None)
        assert gate.entered.acquire(timeout=60)
        poller.stop(0.01)
        assert asked.result(60) is None
        assert len(polling_threads("hanging")) == 1
        assert poller.look(1) is None
        gate.open.release()
        wait_until(lambda: not polling_threads("hanging"), "the thread goes on")
    assert gate.looks == 1


def test_pauses_differ_by_chance_and_are_never_longer_than_asked_for() -> None:
    poller = Poller("paused", lambda _: (), poll_s=16.0)
    drawn = [poller._pause_s(16.0) for _ in range(1000)]
    assert 12.0 <= min(drawn) < 12.5  # all miss it with a chance below 1e-50
    assert 15.5 < max(drawn) <= 16.0
    for failures, longest in [(1, 1.0), (2, 2.0), (4, 8.0), (5, 16.0), (6, 16.0), (9999, 16.0)]:
        poller._state = PollingState(failures=failures)
        drawn = [poller._pause_s(16.0) for _ in range(100)]
        assert 0.75 * longest <= min(drawn) < max(drawn) <= longest


def test_a_request_is_answered_when_the_system_gives_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    poller = Poller("threadless", lambda _: ("S",), poll_s=1e-3)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    poller.resume()
    assert poller.state().error == "RuntimeError: can't start new thread"
    monkeypatch.undo()
    poller.resume()
    wait_until(lambda: poller.state().last_success is not None, "it does not look")
    poller.stop(60)


def test_a_new_version_is_served_without_being_asked_for(any_store: Store) -> None:
    put(any_store, snapshot("IN"), snapshot(""))
    with Recommender(Home(any_store, ["IN"]), poll_s=0.02) as recommender:
        recommender.warm_up()
        newer = snapshot("IN", at=time.time(), seed=2)
        put(any_store, newer, snapshot("US"))
        wait_until(lambda: recommender.recommend("IN").version == newer.version, "not seen")
        assert recommender.polling.error is None
        assert (recommender.polling.last_success or 0) > time.time() - 60


def test_without_an_interval_only_reload_looks(store: Store) -> None:
    put(store, snapshot("IN"))
    with Recommender(Home(store), poll_s=None) as recommender:
        recommender.warm_up()
        wait_until(lambda: not polling_threads(), "the thread stays")
        put(store, snapshot("IN", at=time.time()))
        assert recommender.reload() == ("IN",)


@pytest.mark.parametrize("poll_s", [0, -1.0, float("inf"), float("nan")])
def test_the_interval_is_checked(store: Store, poll_s: float) -> None:
    with pytest.raises(InvalidValueError, match="poll_s"):
        Recommender(Home(store), poll_s=poll_s)


@pytest.mark.parametrize("fault", ["killed", "hung", "loading"])
def test_it_goes_on_when_the_server_does(
    server: MortalServer, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "banditcore.serving")
    with (
        connect(server.url, timeout_s=60) as patient,
        patiently(lambda: connect(server.url, timeout_s=0.5)) as store,
        Recommender(Home(store, ["IN"]), poll_s=0.02) as recommender,
    ):
        now = time.time()
        put(patient, snapshot("IN", at=now))
        if fault == "loading":
            fill(server)
        patiently(recommender.warm_up)
        if fault == "hung":
            server.stop()
        else:
            server.kill()
        wait_until(lambda: recommender.polling.failures > 1, "no look has failed")
        assert recommender.polling.error is not None
        if fault == "loading":
            server.start(key_load_delay="200")  # microseconds for each command of its log
            wait_until(lambda: "loading its data" in (recommender.polling.error or ""), "not so")
            server.load_at_once()
        answer = recommender.recommend("IN")
        assert (answer.source, answer.degraded) == ("IN", ())
        if fault == "hung":
            server.heal()
        if fault == "killed":
            server.start()
        with connect(server.url, timeout_s=60) as other:  # waits until all is loaded
            put(other, snapshot("IN", at=now + 1))
        wait_until(lambda: recommender.recommend("IN").version == int((now + 1) * 1e6), "not seen")
        wait_until(lambda: recommender.polling.error is None, "the error stays")
        assert recommender.polling.failures == 0
    # Once each time, however many looks have failed; a busy machine may fail some more.
    said = [record.levelname for record in caplog.records]
    assert said == ["WARNING", "INFO"] * max(len(said) // 2, 1)


def test_closing_waits_for_no_server_that_hangs(server: MortalServer) -> None:
    with connect(server.url, timeout_s=300) as store:
        put(store, snapshot("IN"))
        recommender = Recommender(Home(store), default=["d"], poll_s=0.01)
        recommender.warm_up()
        server.stop()
        with pytest.raises(StoreUnavailableError, match="were not read within"):
            recommender.reload(timeout_s=0.05)  # so the thread hangs now
        recommender.close()
        [left] = polling_threads()  # its socket has 300 s, and closing has not waited for them
        recommender.close()
        with pytest.raises(NotReadyError, match="closed"):
            recommender.recommend("IN")
        server.heal()
        left.join(60)
        assert not left.is_alive()
        assert recommender._loader.rungs == {}
        assert not recommender.ready


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_behind(store: Store, tmp_path: Path) -> None:
    put(store, snapshot("IN"))

    def open_now() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    def once() -> None:
        with Recommender(Home(store), poll_s=0.01, backup=tmp_path) as recommender:
            recommender.warm_up()
            recommender.reload()

    once()  # opens what is opened once
    before = open_now()
    for _ in range(20):
        once()
    # Fewer, when what an earlier test has left ends only now.
    wait_until(lambda: all(map(int.__le__, open_now(), before)), "something is left")


def test_a_recommender_that_nobody_holds_ends_its_thread(store: Store) -> None:
    put(store, snapshot("IN"))
    recommender = Recommender(Home(store), poll_s=60.0)
    recommender.warm_up()
    [thread] = polling_threads()
    del recommender
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_polls_from_its_first_request_on_and_its_parent_goes_on(store: Store) -> None:
    now = time.time()
    put(store, snapshot("IN", at=now - 5))
    with Recommender(Home(store, ["IN"]), poll_s=0.02) as recommender:
        recommender.warm_up()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            status = 1
            try:
                before = len(polling_threads())
                recommender.recommend("IN")
                after = len(polling_threads())
                os.write(write, b"x")
                wait_until(lambda: recommender.recommend("IN").version == int(now * 1e6), "not it")
                recommender.close()
                status = 0 if (before, after, len(polling_threads())) == (0, 1, 0) else 2
            finally:
                os._exit(status)
        assert os.read(read, 1) == b"x"
        os.close(read)
        os.close(write)
        put(store, snapshot("IN", at=now))
        wait_until(lambda: recommender.recommend("IN").version == int(now * 1e6), "parent")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_a_look_hangs_hangs_no_child(server: MortalServer) -> None:
    with connect(server.url, timeout_s=300) as store:
        put(store, snapshot("IN"))
        recommender = Recommender(Home(store, ["IN"]), poll_s=0.01, default=["d"])
        recommender.warm_up()
        server.stop()
        with pytest.raises(StoreUnavailableError):
            recommender.reload(timeout_s=0.05)
        assert server._process is not None
        pid = server._process.pid
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            status = 1
            try:
                assert recommender.recommend("IN").source == "IN"
                os.kill(pid, signal.SIGCONT)
                recommender.reload(timeout_s=30)
                recommender.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        recommender.close()
