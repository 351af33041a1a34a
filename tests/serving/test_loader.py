"""What is fetched, what is refused, and that answers go on meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from banditcore.errors import (
    StoreUnavailableError,
)
from banditcore.serving import Recommender
from banditcore.slate_format import encode
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store import publish as publish_module
from banditcore.store.connect import Store, connect
from banditcore.store.publish import publish
from published import NOW, Home, put, rows, snapshot, warm
from servers import running_server


def test_only_watched_segments_and_their_ancestors_are_loaded(store: Store) -> None:
    put(store, snapshot(""), snapshot("IN"), snapshot("IN/mobile"), snapshot("US"))
    recommender = Recommender(Home(store), ["IN/mobile"], poll_s=None)
    assert recommender.reload() == ("", "IN", "IN/mobile")
    assert recommender.recommend("US", 3, now=NOW).source == ""


def test_new_segments_are_found_at_each_reload(store: Store) -> None:
    bandit = Home(store, ["IN"])
    put(store, snapshot("IN"), snapshot("US"))
    recommender = Recommender(bandit, poll_s=None)
    recommender.warm_up()
    bandit.known = ["IN", "US"]
    assert recommender.reload() == ("US",)
    assert recommender.recommend("US", 3, now=NOW).source == "US"


def test_reload_fetches_what_changed_and_nothing_else(store: Store) -> None:
    recommender = warm(store, snapshot("IN"), snapshot("US"))
    assert recommender.reload() == ()
    put(store, snapshot("IN", at=NOW + 1, seed=2))
    store.client.config_resetstat()
    assert recommender.reload() == ("IN",)
    calls = store.client.info("commandstats")["cmdstat_getrange"]["calls"]
    assert calls == 3 + 1  # a header for "", IN and US; one blob
    assert recommender.recommend("IN", 3, now=NOW + 1).version == int((NOW + 1) * 1e6)


def test_a_blob_replaced_under_the_same_version_is_taken(store: Store) -> None:
    recommender = warm(store, snapshot("IN", seed=1))
    other = snapshot("IN", seed=2)
    put(store, other)
    assert recommender.reload() == ("IN",)
    assert recommender.recommend("IN", 12, now=NOW).arms in rows(other)


def test_recommend_sends_nothing_to_the_store(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    before = store.client.info("stats")["total_commands_processed"]
    for _ in range(50):
        recommender.recommend("IN", 20, user="u", exclude={"IN:3"})
        recommender.recommend("US")
    after = store.client.info("stats")["total_commands_processed"]
    assert after - before == 1  # the first INFO


def test_many_blobs_are_fetched_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("banditcore.serving.loader._FETCHED_AT_ONCE_BYTES", 4000)
    held = [snapshot(f"S{i}") for i in range(7)]
    recommender = warm(store, *held)
    for each in held:
        assert recommender.recommend(each.segment, 12, now=NOW).arms in rows(each)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_reloads_hangs_no_child(store: Store) -> None:
    reloading, go_on = threading.Event(), threading.Event()

    class Slow(Home):
        def segments(self) -> list[str]:
            reloading.set()
            assert go_on.wait(60)
            return super().segments()

    put(store, snapshot("IN"))
    recommender = Recommender(Slow(store, ["IN"]))
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(recommender.reload)
        assert reloading.wait(60)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends a child that hangs
            go_on.set()  # the child's own copy
            loaded = recommender.reload()
            recommender.close()
            os._exit(0 if loaded == ("IN",) else 1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        go_on.set()
        assert busy.result(60) == ("IN",)
    assert ended == 0
    assert recommender.recommend("IN", now=NOW).source == "IN"


def damaged(how: str, newer: Snapshot) -> bytes:
    blob = encode(newer)
    return {
        "flipped": blob[:-20] + bytes([blob[-20] ^ 4]) + blob[-19:],
        "truncated": blob[:-8],
        "header only": blob[:32],
        "half a header": blob[:17],
        "not a blob": b"what is this" * 9,
        "next schema": blob[:4] + b"\2" + blob[5:],
        "another segment's": encode(snapshot("US", at=NOW + 1)),
        "another bandit's": encode(
            Snapshot("b", "IN", newer.version, newer.arms, newer.alpha, newer.beta, newer.bank)
        ),
    }[how]


REASONS = {
    "flipped": "checksum",
    "truncated": "length",
    "header only": "length",
    "half a header": "length",
    "not a blob": "magic",
    "next schema": "schema",
    "another segment's": "owner",
    "another bandit's": "owner",
}


@pytest.mark.parametrize("how", REASONS)
def test_a_bad_blob_leaves_the_last_good_one_in_use(store: Store, how: str) -> None:
    good, fine = snapshot("IN"), snapshot("US", at=NOW + 1)
    recommender = warm(store, good, snapshot("US"))
    newer = snapshot("IN", at=NOW + 1, seed=2)
    assert publish(store, "home", "IN", damaged(how, newer), newer.version)
    put(store, fine)
    assert recommender.reload() == ("US",)
    assert set(recommender.rejected) == {"IN"}
    assert REASONS[how] in recommender.rejected["IN"]
    answer = recommender.recommend("IN", 12, now=NOW + 1)
    assert answer.arms in rows(good)
    assert (answer.version, answer.degraded) == (good.version, ())
    assert recommender.ready
    put(store, snapshot("IN", at=NOW + 2))
    assert recommender.reload() == ("IN",)
    assert recommender.rejected == {}


@pytest.mark.parametrize("when", ["before the header", "between header and blob"])
def test_a_key_of_a_wrong_type_leaves_the_last_good_one_in_use(
    store: Store, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    recommender = warm(store, snapshot("IN"), snapshot("US"))
    put(store, snapshot("IN", at=NOW + 1, seed=2), snapshot("US", at=NOW + 1))

    def damage() -> None:
        key = keys.of_segment("home", "IN").blob
        store.client.delete(key)
        store.client.hset(key, "x", "y")

    if when == "before the header":
        damage()
    else:
        read = publish_module.HeaderReader.read

        def and_then_damage(*given: Any) -> Any:
            found = read(*given)
            damage()
            return found

        monkeypatch.setattr(publish_module.HeaderReader, "read", and_then_damage)
    assert recommender.reload() == ("US",)
    assert list(recommender.rejected) == ["IN"]
    assert "remove the key, then refresh" in recommender.rejected["IN"]
    assert recommender.recommend("IN", 3, now=NOW).source == "IN"
    assert recommender.recommend("IN", 3, now=NOW).version == int(NOW * 1e6)
    put(store, snapshot("US", at=NOW + 2))
    assert recommender.reload() == ("US",)


def test_an_oversized_blob_is_not_even_fetched(store: Store) -> None:
    small = snapshot("IN")
    recommender = warm(store, small, max_blob_bytes=len(encode(small)))
    put(store, snapshot("IN", at=NOW + 1, slates=17))
    store.client.config_resetstat()
    assert recommender.reload() == ()
    assert store.client.info("commandstats")["cmdstat_getrange"]["calls"] == 2  # headers of "", IN
    assert "blob length" in recommender.rejected["IN"]
    assert recommender.recommend("IN", now=NOW + 1).version == small.version


def test_an_older_version_in_the_store_does_not_replace_ours(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    store.client.flushall()
    put(store, snapshot("IN", at=NOW - 100))
    assert recommender.reload() == ()
    assert recommender.recommend("IN", now=NOW).version == int(NOW * 1e6)


def test_a_store_that_lost_everything_empties_no_recommender(store: Store) -> None:
    held = snapshot("IN")
    recommender = warm(store, held)
    store.client.flushall()
    assert recommender.reload() == ()
    assert recommender.recommend("IN", 12, now=NOW).arms in rows(held)
    assert recommender.ready


def test_a_withdrawn_segment_is_let_go_once_a_fresh_ancestor_answers_for_it(store: Store) -> None:
    now = store.server_time()
    recommender = warm(
        store, snapshot("IN", at=now - 1000), snapshot("", at=now - 1500), max_age=900
    )
    store.client.flushall()
    put(store, snapshot("", at=now - 1200))
    recommender.reload()
    # Both stale: the nearest serves on.
    assert recommender.recommend("IN", 3).source == "IN"
    put(store, snapshot("", at=now))
    recommender.reload()
    assert recommender.recommend("IN", 3).source == ""
    # IN is gone for good: once the global one is stale too, it is what is left.
    answer = recommender.recommend("IN", 3, now=now + 5000)
    assert (answer.source, answer.degraded) == ("", ("stale",))


def test_a_dead_server_stops_reload_but_no_answer() -> None:
    held = snapshot("IN")
    with running_server("valkey") as server, connect(server.url, timeout_s=60) as store:
        recommender = warm(store, held)
        server.process.kill()
        server.process.wait()
        with pytest.raises(StoreUnavailableError):
            recommender.reload()
        for _ in range(100):
            assert recommender.recommend("IN", 12, now=NOW).arms in rows(held)
        assert recommender.ready
        late = recommender.recommend("IN", 12, now=NOW + 901)
        assert (late.source, late.degraded) == ("IN", ("stale",))
        cold = Recommender(Home(store), default=["d"])
        with pytest.raises(StoreUnavailableError):
            cold.warm_up()
        assert cold.recommend("IN").arms == ("d",)


def test_readers_see_whole_snapshots_while_another_thread_reloads(store: Store) -> None:
    versions = [snapshot("IN", at=NOW + i, seed=i) for i in range(30)]
    valid = {each.version: set(rows(each)) for each in versions}
    recommender = warm(store, versions[0])
    done = threading.Event()

    def read() -> tuple[int, int]:
        seen, wrong = set(), 0
        while not done.is_set():
            answer = recommender.recommend("IN", 12, now=NOW)
            wrong += answer.arms not in valid[answer.version or 0]
            seen.add(answer.version)
        return len(seen), wrong

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for each in versions[1:]:
                put(store, each)
                assert recommender.reload() == ("IN",)
        finally:
            done.set()
        results = [reader.result() for reader in readers]
    assert all(wrong == 0 for _, wrong in results)
    assert max(seen for seen, _ in results) > 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_workers_draw_different_rows(store: Store) -> None:
    script = (
        "import os, sys; from banditcore.serving import Recommender; from banditcore.store.connect "
        "import connect\n"
        "class B:\n name='home'; store=connect(sys.argv[1])\n"
        " def segments(self): return ['IN']\n"
        "r=Recommender(B()); r.warm_up()\n"
        "for _ in range(2):\n"
        " child=os.fork()\n"
        f" if not child:\n  print([r.recommend('IN', 3, now={NOW}).arms for _ in range(40)], "
        "flush=True); os._exit(0)\n"
        " os.waitpid(child, 0)\n"
    )
    put(store, snapshot("IN", slates=256))
    done = subprocess.run(
        [sys.executable, "-c", script, store.url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    first, second = done.stdout.splitlines()
    assert first != second


def test_a_snapshot_from_the_future_is_rejected_and_the_last_good_one_stays(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    put(store, snapshot("IN", at=time.time() + 7200))
    assert recommender.reload() == ()
    assert "hour ahead" in recommender.rejected["IN"]
    assert recommender.recommend("IN", 3, now=NOW).version == int(NOW * 1e6)
