"""Starting while the store is down, loads, hangs or holds damage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.emitting import Emitter
from banditcore.errors import (
    InvalidValueError,
    NotReadyError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from banditcore.events import Event
from banditcore.serving import FrequencyCap, Recommender
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.counts import index
from faults.server import MortalServer
from published import Home, fill, put, snapshot
from refusals import CANARY, assert_no_canary, refused
from servers import free_port, patiently, running_server, wait_until


@pytest.fixture
def server() -> Iterator[MortalServer]:
    server = MortalServer()
    yield server
    server.close()


def publish_one(server: MortalServer) -> None:
    with connect(server.url, timeout_s=30) as store:
        index.add(store, "home", ["IN"])
        put(store, snapshot("IN", at=time.time()))


@pytest.mark.parametrize("default", [[], ["d"]])
def test_down_at_the_start_and_ready_when_it_is_up(
    server: MortalServer, default: list[str]
) -> None:
    publish_one(server)
    server.kill()
    with (
        connect(server.url, at_once=False, timeout_s=60) as store,
        Recommender(Bandit("home", store), default=default, poll_s=0.02) as recommender,
    ):
        with refused(StoreUnavailableError, "cannot be reached"):
            recommender.warm_up()
        assert not recommender.ready
        if default:
            answer = recommender.recommend("IN")
            assert (answer.arms, answer.degraded) == (("d",), ("default",))
        else:
            with pytest.raises(NotReadyError, match="warm_up"):
                recommender.recommend("IN")
        server.start()
        wait_until(lambda: recommender.ready, "it does not become ready")
        assert recommender.recommend("IN").degraded == ()


def test_down_at_the_start_with_caps(server: MortalServer) -> None:
    publish_one(server)
    server.kill()
    with (
        connect(server.url, at_once=False, timeout_s=60) as store,
        Recommender(
            Bandit("home", store), default=["d", "e"], caps=[FrequencyCap()], poll_s=0.02
        ) as recommender,
    ):
        answer = recommender.recommend("IN", user="u")
        assert (answer.arms, answer.degraded) == (("d", "e"), ("default", "seen"))
        assert not recommender.mark_seen("u", ["d"])
        with refused(StoreUnavailableError, "cannot be reached"):
            recommender.warm_up()
        assert recommender.recommend("IN", user="u").arms == ()  # both were shown to them
        server.start()

        def is_well() -> bool:
            stats = recommender.seen_stats
            assert stats is not None
            return recommender.recommend("IN", user="u").degraded == () and not stats.unsent

        wait_until(is_well, "what users have seen is not asked for")
        assert len(store.client.get(keys.seen("home", "u")) or b"")


def test_caps_and_events_do_not_need_the_store_to_start(server: MortalServer) -> None:
    publish_one(server)
    server.kill()
    with connect(server.url, at_once=False, timeout_s=60) as store:
        home = Bandit("home", store)
        with (
            Recommender(
                home, default=["d", "e"], poll_s=0.02, caps=[FrequencyCap()]
            ) as recommender,
            Emitter(home) as events,
        ):
            with refused(StoreUnavailableError, "cannot be reached"):
                recommender.warm_up()
            assert recommender.mark_seen("u", ["d"]) is False
            answer = recommender.recommend("IN", user="u")
            assert (answer.arms, set(answer.degraded)) == (("e",), {"default", "seen"})
            assert events.emit([Event("IN", "d")]) == 1
            server.start()
            events.flush(60)
            wait_until(lambda: recommender.ready, "it does not become ready")
            wait_until(
                lambda: recommender.recommend("IN", user="u").degraded == (), "it stays degraded"
            )


def test_a_cluster_that_was_never_reached_holds_up_no_request() -> None:
    address = f"redis+cluster://127.0.0.1:{free_port()}"
    with (
        connect(address, at_once=False, timeout_s=0.5) as store,
        Recommender(
            Bandit("home", store), default=["d"], poll_s=None, caps=[FrequencyCap()]
        ) as recommender,
    ):
        answer = recommender.recommend("IN", user="u")
        assert (answer.arms, set(answer.degraded)) == (("d",), {"default", "seen"})
        assert not store.was_reached


def test_loading_at_the_start(server: MortalServer) -> None:
    fill(server)
    publish_one(server)
    server.kill()
    server.start(key_load_delay="200")  # microseconds for each command of its log
    with (
        connect(server.url, at_once=False, timeout_s=0.5) as store,
        Recommender(Bandit("home", store), poll_s=0.02) as recommender,
    ):
        with pytest.raises(StoreUnavailableError, match=r"loading its data|in time"):
            recommender.warm_up()
        assert not recommender.ready
        server.load_at_once()
        wait_until(lambda: recommender.ready, "it does not become ready")


def test_a_server_that_hangs_takes_no_more_than_the_time_given(server: MortalServer) -> None:
    publish_one(server)
    server.stop()
    with (
        connect(server.url, at_once=False, timeout_s=30.0) as store,
        Recommender(Bandit("home", store), poll_s=0.02) as recommender,
    ):
        with pytest.raises(StoreUnavailableError, match=r"within 0\.05 s"):
            recommender.warm_up(timeout_s=0.05)  # its own time, not the 30 s of the store
        assert not recommender.ready
        server.heal()
        wait_until(lambda: recommender.ready, "it does not become ready")


def test_caps_take_no_more_time_of_a_server_that_hangs(server: MortalServer) -> None:
    publish_one(server)
    server.stop()
    with (
        connect(server.url, at_once=False, timeout_s=300.0) as store,
        Recommender(Bandit("home", store), caps=[FrequencyCap()], poll_s=0.02) as recommender,
    ):
        ended = threading.Event()

        def start() -> None:
            with pytest.raises(StoreUnavailableError, match=r"within 0\.05 s"):
                recommender.warm_up(timeout_s=0.05)
            ended.set()

        threading.Thread(target=start, daemon=True).start()
        wait_until(ended.is_set, "it waits for the store's own timeout")
        server.heal()
        wait_until(lambda: recommender.ready, "it does not become ready")


def test_a_server_that_hangs_leaves_time_for_the_backup(
    server: MortalServer, tmp_path: Path
) -> None:
    publish_one(server)
    with (
        connect(server.url) as store,
        Recommender(Bandit("home", store), backup=tmp_path, poll_s=None) as recommender,
    ):
        recommender.warm_up()
    server.stop()
    with (
        connect(server.url, at_once=False, timeout_s=30.0) as store,
        Recommender(Bandit("home", store), backup=tmp_path, poll_s=0.02) as recommender,
    ):
        patiently(lambda: recommender.warm_up(timeout_s=4.0))
        assert recommender.ready
        assert recommender.recommend("IN").degraded == ("stale",)
        server.heal()
        wait_until(lambda: recommender.polling.unconfirmed == 0, "it is not confirmed")
        assert recommender.recommend("IN").degraded == ()


def test_a_backup_that_is_read_too_slowly_is_left_out_and_said(
    store: Store, tmp_path: Path
) -> None:
    put(store, snapshot("IN"))
    with Recommender(Home(store, ["IN"]), backup=tmp_path, poll_s=None) as recommender:
        recommender.warm_up()
    with (
        connect("unix:///nothing/listens/here", at_once=False) as away,
        Recommender(Home(away), ["IN"], backup=tmp_path, poll_s=None) as recommender,
    ):
        recommender._loader.restore(time.monotonic() - 1)
        assert "not read in time" in recommender.rejected["IN"]


def test_a_corrupt_blob_and_a_default(store: Store) -> None:
    store.client.set(keys.of_segment("home", "IN").blob, b"what is this" * 9)
    with Recommender(Home(store, ["IN"]), default=["d"], poll_s=0.02) as recommender:
        recommender.warm_up()
        assert not recommender.ready
        assert "magic" in recommender.rejected["IN"]
        assert recommender.recommend("IN").arms == ("d",)
        store.client.delete(keys.of_segment("home", "IN").blob)
        put(store, snapshot("IN", at=time.time()))
        wait_until(lambda: recommender.ready, "it does not become ready")
        assert recommender.recommend("IN").degraded == ()


def test_nothing_is_published_yet(store: Store) -> None:
    with Recommender(Home(store, ["IN"]), poll_s=0.02) as recommender:
        with pytest.raises(NotReadyError, match="run its refresh"):
            recommender.warm_up()
        put(store, snapshot("IN", at=time.time()))
        wait_until(lambda: recommender.ready, "it does not become ready")


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_the_time_given_is_checked(store: Store, timeout_s: float) -> None:
    with Recommender(Home(store)) as recommender:
        for call in (recommender.warm_up, recommender.reload):
            with pytest.raises(InvalidValueError, match="timeout_s"):
                call(timeout_s=timeout_s)


def test_no_password_shows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from urllib.parse import quote

    secret = quote(CANARY, safe="")
    with (
        running_server(options={"requirepass": "another"}) as server,
        connect(f"unix://u:{secret}@{server.socket_path}", at_once=False) as store,
        Recommender(Home(store), backup=tmp_path, poll_s=0.01, default=["d"]) as recommender,
    ):
        with pytest.raises(StoreUnfitError, match="refuses this user name or password") as caught:
            recommender.warm_up()
        assert_no_canary(caught.value)
        wait_until(lambda: recommender.polling.failures > 2, "it does not look again")
        for shown in (repr(recommender), repr(recommender.polling), repr(store), caplog.text):
            assert "anary" not in shown


def test_a_deferred_store_is_checked_when_it_is_used_first() -> None:
    with running_server(options={"maxmemory-policy": "allkeys-lru"}) as server:
        with connect(server.url, at_once=False) as store:
            for _ in range(2):
                with refused(StoreUnfitError, "maxmemory_policy"):
                    store.server_time()
            store_client = store.address
            assert store_client.shown == server.url
        with pytest.raises(StoreError, match="is closed"):
            store.server_time()


def test_a_deferred_store_is_opened_once_and_closed_whole(any_store: Store) -> None:
    with connect(any_store.url, at_once=False) as store:
        assert store.identities() == any_store.identities()
        assert store.client is store.client
        assert store.servers().keys() == any_store.servers().keys()


def test_an_embedded_server_is_started_at_once(directory: Path) -> None:
    with connect(f"embedded://{directory}", at_once=False):
        assert (directory / "server.lock").exists()


def test_caps_need_no_store_at_the_start(server: MortalServer) -> None:
    publish_one(server)
    server.kill()
    with (
        connect(server.url, at_once=False, timeout_s=60) as store,
        Recommender(
            Bandit("home", store), default=["d"], poll_s=0.02, caps=[FrequencyCap()], budget=10
        ) as recommender,
    ):
        with refused(StoreUnavailableError, "cannot be reached"):
            recommender.warm_up()
        answer = recommender.recommend("IN", user="u")
        assert (answer.arms, answer.degraded) == (("d",), ("default", "seen"))
        assert not recommender.mark_seen("u", ["d"])
        assert recommender.recommend("IN", user="u").arms == ()  # known here
        wait_until(lambda: "reached" in str(recommender.seen_stats), "it does not say why")
        server.start()
        wait_until(lambda: recommender.ready, "it does not become ready")
        wait_until(lambda: getattr(recommender.seen_stats, "unsent", 1) == 0, "it is not sent")
        wait_until(lambda: recommender.recommend("IN", user="u").degraded == (), "it is not asked")
        assert getattr(recommender.seen_stats, "trouble", "") is None
