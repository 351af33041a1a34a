"""Recommenders with frequency caps while their store fails: labelled, bounded, no exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from banditcore.serving import FrequencyCap, Recommendation, Recommender
from banditcore.serving.seen import SeenItems
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.deadlines.breaker import FAILURES
from banditcore.store.functions import calling, seen_library
from banditcore.store.servers.transport import Command
from clusters import running_cluster
from proxy import Proxy, proxy_before
from published import NOW, capped, snapshot
from servers import RunningServer, running_server, wait_until

CAPS = (FrequencyCap(),)
LOOK_UP = b"GETRANGE"
CANARY = "canary-7d1f"


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One that a test may break."""
    with running_server(request.param, {"enable-debug-command": "yes"}) as running:
        yield running


def failures(recommender: Recommender) -> dict[str, int]:
    assert recommender.seen_stats is not None
    return dict(recommender.seen_stats.failures)


def looked_up(proxy: Proxy, user: str) -> int:
    return proxy.requests(keys.seen("home", user).encode())


def test_a_reply_that_is_cut_off(server: RunningServer, patient: None) -> None:
    with (
        proxy_before(server.socket_path) as proxy,
        connect(proxy.url) as store,
        capped(store) as r,
    ):
        r.mark_seen("u", ["IN:3"], now=NOW)
        with capped(store) as other:  # which has it from the store alone
            before = looked_up(proxy, "u")
            proxy.lose_next_reply(keys.seen("home", "u").encode())
            answer = other.recommend("IN", 30, user="u", now=NOW)
            assert (len(answer.arms), answer.degraded) == (30, ("seen",))
            assert looked_up(proxy, "u") == before + 1  # no retry
            assert failures(other) == {"connection": 1}
            again = other.recommend("IN", 30, user="u", now=NOW)
            assert again.degraded == ()
            assert "IN:3" not in again.arms


def test_a_reply_that_trickles_is_given_up(server: RunningServer) -> None:
    """Each byte comes in time, the whole would not."""
    with connect(server.url) as direct, capped(direct) as r:
        wait_until(lambda: r.mark_seen("u", ["IN:3"], now=NOW), "the mark is not stored")
    with (
        proxy_before(server.socket_path) as proxy,
        connect(proxy.url) as store,
        capped(store) as r,
    ):
        proxy.trickle(0.004)
        answer = r.recommend("IN", 30, user="u", now=NOW)
        assert (len(answer.arms), answer.degraded) == (30, ("seen",))
        assert failures(r) == {"timeout": 1}
        assert looked_up(proxy, "u") == 1


def test_a_late_reply_is_nobody_elses(server: RunningServer, patient: None) -> None:
    released = threading.Event()
    with proxy_before(server.socket_path) as proxy, connect(proxy.url) as store:
        with capped(store) as first:
            first.mark_seen("late", ["IN:3"], now=NOW)
            first.mark_seen("other", ["IN:5"], now=NOW)
        with capped(store) as r:
            late = keys.seen("home", "late").encode()
            proxy.before_next_request(late, lambda: released.wait(60) and None)
            r._seen._ask_s = 0.05
            assert r.recommend("IN", 30, user="late", now=NOW).degraded == ("seen",)
            r._seen._ask_s = 10.0
            # The late reply comes while the next is waited for: on a line that was kept it would
            # be taken for that.
            threading.Timer(0.05, released.set).start()
            for _ in range(20):
                answer = r.recommend("IN", 30, user="other", now=NOW)
                assert set(snapshot("IN").arms) - set(answer.arms) == {"IN:5"}
                assert answer.degraded == ()
            released.wait(60)


def test_a_server_that_hangs_is_left_alone_and_found_again(server: RunningServer) -> None:
    with (
        proxy_before(server.socket_path) as proxy,
        connect(proxy.url) as store,
        capped(store) as r,
    ):
        server.process.send_signal(signal.SIGSTOP)
        try:
            for _ in range(100):
                answer = r.recommend("IN", 10, user="u", now=NOW)
                assert answer.degraded == ("seen",)
            found = failures(r)
            assert sum(found.values()) == 100
            asked = 100 - found["unreachable"]
            assert asked <= 20  # three, and one more after pauses that grow to five seconds
            assert looked_up(proxy, "u") <= asked
        finally:
            server.process.send_signal(signal.SIGCONT)
        wait_until(
            lambda: r.recommend("IN", 10, user="v", now=NOW).degraded == (),
            "it is not asked again",
        )


def test_a_server_that_dies_and_one_that_comes_in_its_place(patient: None) -> None:
    with (
        running_server("valkey") as server,
        connect(server.url) as store,
        capped(store) as r,
    ):
        r.mark_seen("u", ["IN:3"], now=NOW)
        server.process.kill()
        server.process.wait()
        for arm in ("IN:4", "IN:5"):
            answer = r.recommend("IN", 30, user="u", now=NOW)
            assert answer.degraded == ("seen",)
            assert "IN:3" not in answer.arms  # it remembers
            assert not r.mark_seen("u", [arm], now=NOW)
            assert arm not in r.recommend("IN", 30, user="u", now=NOW).arms
        assert r.seen_stats is not None
        assert (r.seen_stats.unsent, r.seen_stats.dropped) == (2, 0)
        with running_server("valkey") as second:
            server.socket_path.unlink()
            server.socket_path.symlink_to(second.socket_path)
            wait_until(lambda: r.seen_stats.unsent == 0, "marks are not sent")
            wait_until(
                lambda: r.recommend("IN", 30, user="u", now=NOW).degraded == (),
                "the new server is not asked",
            )
            assert len(r.recommend("IN", 30, user="u", now=NOW).arms) == 27


@pytest.mark.parametrize("kind", ["hash", "other layout", "damaged", "endless"])
def test_records_that_are_none(server: RunningServer, patient: None, kind: str) -> None:
    with connect(server.url) as store, capped(store) as r:
        key, client = keys.seen("home", "u"), store.client
        if kind == "hash":
            client.hset(key, "a", "b")
        else:
            raw = {"other layout": b"\2abc", "damaged": b"\1abc", "endless": b"\1" * (1 << 24)}
            client.set(key, raw[kind])
        for _ in range(2 * FAILURES):  # it is the user's fault, not the server's
            answer = r.recommend("IN", 30, user="u", now=NOW)
            assert answer.degraded == ("seen",)
            assert r.recommend("IN", 30, user="v", now=NOW).degraded == ()
        assert set(failures(r)) == {"WRONGTYPE" if kind == "hash" else "corrupt"}
        is_stored = r.mark_seen("u", ["IN:3"], now=NOW)
        assert is_stored == (kind in {"damaged", "endless"})
        assert "IN:3" not in r.recommend("IN", 30, user="u", now=NOW).arms
        assert r.seen_stats is not None
        assert r.seen_stats.dropped == (not is_stored)


def test_a_full_server_keeps_marks_waiting(server: RunningServer, patient: None) -> None:
    with connect(server.url) as store, capped(store) as r:
        store.client.config_set("maxmemory", "1")
        assert not r.mark_seen("u", ["IN:3"], now=NOW)
        answer = r.recommend("IN", 30, user="u", now=NOW)
        assert answer.degraded == ()  # it may be read
        assert "IN:3" not in answer.arms
        store.client.config_set("maxmemory", "0")
        wait_until(lambda: r.seen_stats.unsent == 0, "it is not sent")
        with capped(store) as other:
            assert "IN:3" not in other.recommend("IN", 30, user="u", now=NOW).arms


def test_functions_that_were_flushed_come_back(server: RunningServer, patient: None) -> None:
    with connect(server.url) as store, capped(store) as r:
        store.client.function_flush()
        assert not r.mark_seen("u", ["IN:3"], now=NOW)
        wait_until(lambda: r.seen_stats.unsent == 0, "it is not sent")
        assert r.mark_seen("u", ["IN:4"], now=NOW)
        with capped(store) as other:
            arms = other.recommend("IN", 30, user="u", now=NOW).arms
            assert {"IN:3", "IN:4"}.isdisjoint(arms)


def test_a_mark_whose_reply_is_lost_counts_once(server: RunningServer, patient: None) -> None:
    twice = (FrequencyCap(times=2),)
    with proxy_before(server.socket_path) as proxy, connect(proxy.url) as store:
        with capped(store, caps=twice) as r:
            proxy.lose_next_reply(b"_mark")
            assert not r.mark_seen("u", ["IN:3"], now=NOW)
            wait_until(lambda: r.seen_stats.unsent == 0, "it is not sent")
            assert looked_up(proxy, "u") == 2  # sent twice
        with capped(store, caps=twice) as other:
            assert "IN:3" in other.recommend("IN", 30, user="u", now=NOW).arms


def test_a_server_that_is_busy(server: RunningServer) -> None:
    with connect(server.url) as store, capped(store) as r:
        store.client.config_set("busy-reply-threshold", "1")
        loop = threading.Thread(target=_spin, args=(server.url,))
        loop.start()
        try:
            wait_until(lambda: "BUSY" in _said(store), "it is not busy")
            for _ in range(20):
                assert r.recommend("IN", 10, user="u", now=NOW).degraded == ("seen",)
        finally:
            wait_until(lambda: _killed(store), "the script goes on")
            loop.join()
        wait_until(
            lambda: r.recommend("IN", 10, user="u", now=NOW).degraded == (), "it is not asked again"
        )


def test_rights_that_are_taken_away_and_no_password_in_what_is_said(
    server: RunningServer, patient: None
) -> None:
    with connect(server.url) as admin:
        calling.load(admin, seen_library.FILE)
        admin.client.execute_command("ACL", "SETUSER", "app", "on", f">{CANARY}", "~*", "+@all")
        url = f"unix://app:{CANARY}@{server.socket_path}"
        with connect(url) as store, capped(store) as r:
            assert r.recommend("IN", user="u", now=NOW).degraded == ()
            admin.client.execute_command("ACL", "SETUSER", "app", "-getrange", "-fcall")
            for _ in range(2 * FAILURES):
                assert r.recommend("IN", user="u", now=NOW).degraded == ("seen",)
            assert not r.mark_seen("u", ["IN:3"], now=NOW)
            assert set(failures(r)) <= {"NOPERM", "unreachable"}
            admin.client.execute_command("ACL", "DELUSER", "app")
            assert r.recommend("IN", user="u", now=NOW).degraded == ("seen",)
            assert CANARY not in f"{r!r} {r.seen_stats!r} {failures(r)}"


def test_the_least_rights_are_enough(server: RunningServer, patient: None) -> None:
    """As docs/operations.md has them."""
    with connect(server.url) as admin, capped(admin):
        rights = ["+info", "+getrange", "+smembers", "+fcall", "+function|load", "+set", "+time"]
        command = ("ACL", "SETUSER", "app", "on", f">{CANARY}", "~bc:*", *rights)
        admin.client.execute_command(*command)
        admin.client.function_flush()
        with (
            connect(f"unix://app:{CANARY}@{server.socket_path}") as store,
            capped(store) as r,
        ):
            assert r.mark_seen("u", ["IN:3"], now=NOW)
            answer = r.recommend("IN", 30, user="u", now=NOW)
            assert (len(answer.arms), answer.degraded) == (29, ())


def test_no_user_no_look_up(server: RunningServer) -> None:
    with (
        proxy_before(server.socket_path) as proxy,
        connect(proxy.url) as store,
        capped(store) as r,
    ):
        before = proxy.requests(LOOK_UP)
        for _ in range(10):
            assert r.recommend("IN", now=NOW).degraded == ()
        assert proxy.requests(LOOK_UP) == before


def test_answers_are_remembered_while_the_store_is_away(server: RunningServer) -> None:
    with connect(server.url) as store, capped(store) as r:
        server.process.kill()
        server.process.wait()
        shown: set[str] = set()
        for _ in range(3):
            arms = r.recommend("IN", 10, user="u", now=NOW).arms
            assert len(arms) == 10
            assert shown.isdisjoint(arms)
            shown.update(arms)
        assert r.recommend("IN", 10, user="u", now=NOW).arms == ()


@pytest.mark.usefixtures("patient")
def test_a_batch_says_of_whom_the_store_did_not_tell(store: Store) -> None:
    with capped(store, budget=10.0) as other, capped(store, budget=10.0) as r:
        assert all(other.mark_seen(user, ["IN:1"], now=NOW) for user in "abc")
        assert r.mark_seen("a", ["IN:2"], now=NOW - 10)
        for user in "ac":
            store.client.setrange(keys.seen("home", user), 5, "?")
        shown: dict[str | None, set[str]] = {user: set() for user in "abc"}
        users = ["a", None, "b", "c"]
        for segments in ("IN", ["IN", "IN", "IN/x", "IN"], "IN"):
            found = r.recommend_many(segments, users, 14, now=NOW)
            assert [answer.degraded for answer in found] == [("seen",), (), (), ("seen",)]
            for user, answer in zip(users, found, strict=True):
                if user in {"a", "c"}:
                    assert shown[user].isdisjoint(answer.arms)
                    shown[user].update(answer.arms)
        every = {f"IN:{arm}" for arm in range(30)}
        # What this process marked or answered is left out; what others marked, it does not know.
        assert shown["a"] == every - {"IN:2"}
        assert shown["c"] == every
        assert set(r.recommend_many("IN", ["b"], 30, now=NOW).arms[0]) == every - {"IN:1"}
        assert r.seen_stats is not None
        assert r.seen_stats.failures == {"corrupt": 6}


def _spin(url: str) -> None:
    with connect(url) as store:
        store.send([_eval("while true do end")])


def _eval(script: str) -> Command:
    return Command("bc:x", ("EVAL", script, 0))


def _said(store: Store) -> str:
    [answer] = store.send([_eval("return 1")])
    return str(getattr(answer, "error", ""))


def _killed(store: Store) -> bool:
    store.send([Command("bc:x", ("SCRIPT", "KILL"))])
    return _said(store) == ""


def test_many_users_are_one_request(server: RunningServer, patient: None) -> None:
    with proxy_before(server.socket_path) as proxy, connect(proxy.url) as store:
        items = SeenItems(store, "home", CAPS, budget=10.0)
        items.warm_up()
        users = [f"u{i}" for i in range(100)]
        items.look_up_many(users, NOW)
        packets = [each for each in proxy.packets() if keys.seen("home", "u0").encode() in each]
        assert len(packets) == 1
        assert packets[0].count(LOOK_UP) == 100
        items.close()


@pytest.mark.slow
def test_a_node_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("banditcore.serving.seen.LONGEST_ASK_S", 2.0)
    users = [f"u{i}" for i in range(12)]
    with (
        running_cluster("valkey") as cluster,
        connect(cluster.url) as store,
        capped(store, budget=2.0) as r,
    ):

        def marks(arm: str) -> bool:
            return all(r.mark_seen(user, [arm], now=NOW) for user in users)

        def answers() -> list[Recommendation]:
            return [r.recommend("IN", 30, user=user, now=NOW) for user in users]

        wait_until(lambda: marks("IN:3"), "they are not stored")
        cluster.owner(key_slot(keys.seen("home", "u0").encode())).kill()
        found = answers()
        assert {answer.degraded for answer in found} == {(), ("seen",)}
        assert all("IN:3" not in answer.arms for answer in found)
        wait_until(lambda: not any(answer.degraded for answer in answers()), "it is not replaced")
        wait_until(lambda: marks("IN:4"), "they are not stored")


def test_a_key_that_is_elsewhere_is_looked_for_after_the_request(
    cluster_store: Store, patient: None
) -> None:
    with capped(cluster_store) as r:
        assert r.mark_seen("u", ["IN:3"], now=NOW)
        slot = key_slot(keys.seen("home", "u").encode())
        slots = cluster_store.client.nodes_manager.slots_cache
        slots[slot] = next(each for each in slots.values() if each[0] != slots[slot][0])
        assert r.recommend("IN", 30, user="u", now=NOW).degraded == ("seen",)
        assert failures(r) == {"MOVED": 1}
        wait_until(
            lambda: r.recommend("IN", 30, user="u", now=NOW).degraded == (), "it is not found"
        )
