"""Following what is published: restamps, segments that come and go, publishers that die, clocks."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from redis.crc import key_slot

from banditcore.bandit import Bandit
from banditcore.serving import Recommender, blobs
from banditcore.serving.rung import Rung
from banditcore.slate_format import decode_header, encode, encode_header, restamped
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.counts import index
from clusters import Cluster
from conftest import _Fleet
from published import NOW, Home, put, rows, snapshot, warm
from sentinels import watched_servers
from servers import patiently, wait_until


def restamp(store: Store, segment: str, at: float) -> None:
    """Give a published blob another version, as a refresh does that finds counts unchanged."""
    key = keys.of_segment("home", segment).blob
    header = restamped(decode_header(store.client.getrange(key, 0, 31)), int(at * 1e6))
    store.client.setrange(key, 0, encode_header(header))


def test_a_header_with_another_version_fetches_nothing(store: Store) -> None:
    recommender = warm(store, snapshot("IN"), snapshot("US"), max_age=100.0)
    before = recommender._loader.rungs["IN"]
    for later in (60.0, 120.0, 180.0):
        restamp(store, "IN", NOW + later)
        store.client.config_resetstat()
        assert recommender.reload() == ("IN",)
        assert store.client.info("commandstats")["cmdstat_getrange"]["calls"] == 3
    rung = recommender._loader.rungs["IN"]
    assert rung.snapshot is before.snapshot
    answer = recommender.recommend("IN", now=NOW + 200.0)
    assert (answer.version, answer.age) == (int((NOW + 180) * 1e6), 20.0)
    assert (answer.source, answer.degraded) == ("IN", ())
    # The other one has aged.
    assert recommender.recommend("US", now=NOW + 200.0).degraded == ("stale",)
    # After all that, the blob as a whole is still what its header says.
    assert recommender.reload() == ()
    fresh = Recommender(Home(store, ["IN", "US"]), poll_s=None)
    fresh.warm_up()
    assert fresh.rejected == {}
    assert fresh.recommend("IN", user="u", now=NOW + 200.0) == recommender.recommend(
        "IN", user="u", now=NOW + 200.0
    )


def test_another_blob_of_the_same_length_is_no_restamp(store: Store) -> None:
    recommender = warm(store, snapshot("IN", seed=1))
    other = snapshot("IN", seed=2, at=NOW + 1)
    assert len(encode(other)) == len(encode(snapshot("IN", seed=1)))
    put(store, other)
    assert recommender.reload() == ("IN",)
    assert recommender.recommend("IN", 12, now=NOW).arms in rows(other)
    restamp(store, "IN", NOW + 2)
    assert recommender.reload() == ("IN",)
    assert recommender.recommend("IN", 12, now=NOW).arms in rows(other)


def test_a_restamp_never_goes_back() -> None:
    blob = encode(snapshot("IN"))
    header = decode_header(blob)
    for version, expected in [(header.version - 1, False), (header.version, True)]:
        assert blobs.is_restamp(blob[:32], restamped(header, version)) is expected


def test_a_clock_that_goes_back_makes_nothing_young(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    recommender = warm(store, snapshot("IN", at=now))
    assert recommender.recommend("IN").degraded == ()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 7200.0)
    # Two hours ahead: its age would be zero for all that time.
    assert recommender.recommend("IN").degraded == ("stale",)
    assert recommender.recommend_many("IN", ["u"])[0].degraded == ("stale",)
    recommender.reload()
    assert recommender.recommend("IN").degraded == ("stale",)
    assert "hour ahead" in recommender.rejected["IN"]
    monkeypatch.undo()
    recommender.reload()
    assert recommender.recommend("IN").degraded == ()
    assert recommender.rejected == {}


def few(path: str, at: float) -> Snapshot:
    return snapshot(path, arms=4, slates=2, depth=3, at=at)


def come_and_go(store: Store, count: int) -> None:
    bandit = Home(store, ["nothing"])
    now = time.time()
    put(store, few("", now))
    with Recommender(bandit, poll_s=None) as recommender:
        recommender.warm_up()
        for generation in range(3):
            known = [f"G{generation}/{i}" for i in range(count)]
            put(store, *(few(path, now) for path in known))
            bandit.known = known
            assert set(recommender.reload()) == set(known)
            before = [f"G{generation - 1}/{i}" for i in range(count)] if generation else []
            assert recommender._loader.rungs.keys() == {"", *known}
            assert recommender._loader.held.headers.keys() == {"", *known}
            for path in itertools.islice(before, 50):
                assert recommender.recommend(path, 2).source == ""
            gc.collect()
            assert sum(type(each) is Rung for each in gc.get_objects()) == count + 1
            for path in known:
                store.client.unlink(keys.of_segment("home", path).blob)


def test_segments_come_and_go_between_looks(store: Store) -> None:
    come_and_go(store, 300)


@pytest.mark.slow
def test_thousands_of_segments_come_and_go_between_looks(store: Store) -> None:
    come_and_go(store, 5000)


PUBLISHER = """
import sys
from banditcore.slate_format import encode
from banditcore.store.connect import connect
from banditcore.store.publish import publish
from published import NOW, snapshot
with connect(sys.argv[1]) as store:
    for i in range(int(sys.argv[2]), 10**9):
        at = NOW + i
        blob = encode(snapshot("IN", arms=60_000, at=at, seed=i))
        publish(store, "home", "IN", blob, int(at * 1e6))
        print(i, flush=True)
"""


def test_a_publisher_that_is_killed_leaves_a_whole_snapshot(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    last = 0
    for kill in range(2):
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, store.url, str(last + 1)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        assert publisher.stdout is not None
        for _ in range(3 + kill):
            last = int(publisher.stdout.readline())
        publisher.send_signal(signal.SIGKILL)
        publisher.communicate()
        recommender.reload()
        assert recommender.rejected == {}
        version = recommender.recommend("IN", now=NOW).version
        assert version is not None
        after = round(version / 1e6 - NOW)
        assert after >= last
        held = snapshot("IN", arms=60_000, at=NOW + after, seed=after)
        assert recommender.recommend("IN", 12, now=NOW).arms in rows(held)


def test_a_request_that_breaks_off_halfway_publishes_nothing(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    newer = snapshot("IN", at=NOW + 1, seed=2)
    line = store.client.connection_pool.get_connection()
    key = keys.of_segment("home", "IN").blob
    [packed] = line.pack_command("SET", key, encode(newer))
    line.connect()
    line._sock.sendall(packed[: len(packed) // 2])
    line.disconnect()
    store.client.connection_pool.release(line)
    assert recommender.reload() == ()
    assert recommender.rejected == {}
    assert recommender.recommend("IN", now=NOW).version == int(NOW * 1e6)


def test_a_segment_that_moves_is_followed(fleet: _Fleet, cluster_store: Store) -> None:
    cluster = fleet["cluster"]
    assert isinstance(cluster, Cluster)
    now = time.time()
    put(cluster_store, snapshot("IN", at=now - 2), snapshot("", at=now - 2))
    with Recommender(Home(cluster_store, ["IN"]), poll_s=0.02) as recommender:
        recommender.warm_up()
        slot = key_slot(keys.of_segment("home", "IN").blob.encode())
        home = cluster.owner(slot)
        target = next(node for node in cluster.primaries() if node is not home)
        for to in (target, home):
            source = cluster.begin_move(slot, to)
            cluster.end_move(slot, source, to)
            with connect(cluster_store.url) as other:
                put(other, snapshot("IN", at=now + (to is home), seed=2))
            wanted = int((now + (to is home)) * 1e6)
            wait_until(
                lambda wanted=wanted: recommender.recommend("IN").version == wanted, "not seen"
            )
        assert recommender.rejected == {}


def test_a_new_primary_is_followed() -> None:
    now = time.time()
    with (
        watched_servers("valkey") as watched,
        patiently(lambda: connect(watched.url, timeout_s=1.0)) as store,
        Recommender(Home(store, ["IN"]), poll_s=0.05) as recommender,
    ):
        with connect(watched.url, timeout_s=60) as patient:
            put(patient, snapshot("IN", at=now - 2))
            assert patient.client.wait(1, 50_000) == 1  # the replica has it
        patiently(recommender.warm_up)
        watched.servers[0].process.kill()
        watched.servers[0].process.wait()
        port = watched.servers[1].port
        wait_until(lambda: watched.primary() == port, "nobody takes over")
        assert recommender.recommend("IN").degraded == ()
        newer = snapshot("IN", at=now, seed=2)

        def published() -> bool:
            with watched.client(port) as client:
                if client.info("replication")["role"] != "master":
                    return False
            patiently(lambda: put(store, newer))
            return True

        wait_until(published, "it takes no writes")
        wait_until(lambda: recommender.recommend("IN").version == newer.version, "not seen")


def test_a_bandit_is_followed_as_it_is_refreshed(any_store: Store) -> None:
    bandit = Bandit("home", any_store)
    bandit.record_batch({"segment": ["IN/a", "IN/b"], "arm": ["x", "y"], "reward": [1, 0]})
    assert not bandit.refresh(slates=4, depth=2).failed
    with Recommender(bandit, poll_s=0.02) as recommender:
        recommender.warm_up()
        before = recommender.recommend("IN/a").version
        bandit.record("US", "z")
        assert not bandit.refresh(slates=4, depth=2).failed
        wait_until(lambda: recommender.recommend("US").source == "US", "US is not seen")
        wait_until(lambda: recommender.recommend("IN/a").version != before, "IN/a is not seen")
        assert index.segments(any_store, "home") == ["IN/a", "IN/b", "US"]
