"""Clusters: what is refused, and that calls find the node of their keys wherever it goes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from redis.crc import key_slot

from banditcore import Recommender
from banditcore.bandit import Bandit
from banditcore.errors import StoreUnavailableError, StoreUnfitError
from banditcore.store import Store, connect, keys
from banditcore.store.counts import index
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.functions import calling, library, updates_library
from banditcore.store.servers.transport import Command, Failure
from bandits import table
from clusters import Cluster, Node, running_cluster
from refusals import CANARY, refused
from servers import (
    binaries,
    certificates,
    free_port,
    patiently,
    running_server,
    wait_until,
)

VERSION = SegmentVersion(0, 1_700_000_000.0, None, 3600.0).pack()
OPENED = updates_library.Held(VERSION, b"", b"t", 1, b"\0a")


@pytest.fixture
def cluster(fleet: object, cluster_store: Store) -> Cluster:  # emptied before
    """The cluster below `cluster_store`, all of whose nodes are up."""
    return fleet["cluster"]  # type: ignore[index]  # of the conftest


@pytest.fixture
def moving(cluster: Cluster) -> Iterator[tuple[keys.SegmentKeys, int, Node, Node]]:
    """A segment without keys yet, its slot, its node and another; the slot returns in the end."""
    segment = keys.of_segment("home", "moving")
    slot = key_slot(segment.state.encode())
    source = cluster.owner(slot)
    target = next(node for node in cluster.primaries() if node is not source)
    yield segment, slot, source, target
    if cluster.owner(slot) is not source:
        cluster.end_move(slot, cluster.begin_move(slot, source), source)
    for node in cluster.primaries():
        node.tell("CLUSTER SETSLOT", slot, "STABLE")
    wait_until(cluster.is_healthy, "the cluster does not heal")


def slot_of(segment: str) -> int:
    return key_slot(keys.of_segment("home", segment).state.encode())


def replaced(store: Store, *nodes: tuple[str, int]) -> str:
    return dataclasses.replace(store.address, nodes=nodes).url


def test_any_node_leads_to_all(cluster: Cluster, cluster_store: Store) -> None:
    gone = ("127.0.0.1", free_port())
    assert cluster_store.client.set("k", 1)
    for node in cluster.nodes:
        with connect(replaced(cluster_store, gone, ("127.0.0.1", node.port))) as store:
            assert store.client.get("k") == b"1"
            assert len(store.servers()) == 3
    with refused(StoreUnavailableError, f"cannot be reached.*:{gone[1]}"):
        connect(replaced(cluster_store, gone))


def test_a_server_without_a_cluster() -> None:
    with (
        running_server(tcp=True) as server,
        refused(StoreUnfitError, "is no cluster: write redis:// in place"),
    ):
        connect(f"redis+cluster://127.0.0.1:{server.port}")


def test_a_node_of_a_cluster_as_a_server(cluster: Cluster) -> None:
    with refused(StoreUnfitError, r"part of a cluster; write redis\+cluster://"):
        connect(f"redis://127.0.0.1:{cluster.nodes[0].port}")


def test_a_wrong_password_is_not_shown(cluster: Cluster) -> None:
    with refused(StoreUnfitError, "refuses this user name or password"):
        connect(
            f"redis+cluster://ann:s3%2Fc%3Ar%40e%3Ft%23%25Canary@127.0.0.1:{cluster.nodes[0].port}"
        )
    assert CANARY.endswith("Canary")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_primary_must_be_fit_and_is_named(
    cluster: Cluster, cluster_store: Store, which: int
) -> None:
    node = cluster.primaries()[which]
    node.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with refused(StoreUnfitError, rf"maxmemory_policy.*\(node 127.0.0.1:{node.port}\).*lru"):
            connect(cluster_store.url)
    finally:
        node.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_answers_come_in_the_order_of_the_commands(cluster_store: Store) -> None:
    names = [f"k{i}" for i in range(300)]
    assert len({key_slot(name.encode()) * 3 // 16384 for name in names}) == 3
    assert cluster_store.replies([Command(k, ("SET", k, k)) for k in names]) == [b"OK"] * 300
    commands = [Command(k, ("GET", k)) for k in names]
    commands[7] = Command("k7", ("LPUSH", "k7", "x"))
    answers = cluster_store.send(commands)
    failure = answers.pop(7)
    assert answers == [k.encode() for k in names if k != "k7"]
    assert isinstance(failure, Failure)
    assert not failure.may_have_run
    assert "WRONGTYPE" in str(failure.error)


def test_threads_share_connections(cluster_store: Store) -> None:
    def work(thread: int) -> bool:
        names = [f"{thread}:{i}" for i in range(50)]
        cluster_store.replies([Command(k, ("SET", k, k)) for k in names])
        replies = cluster_store.replies([Command(k, ("GET", k)) for k in names])
        return replies == [k.encode() for k in names]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_functions_flushed_on_one_node_are_loaded_there(
    cluster: Cluster, cluster_store: Store
) -> None:
    segments = [keys.of_segment("home", f"s{i}") for i in range(30)]
    calls = [library.open_segment(segment, version=VERSION) for segment in segments]
    calling.run(cluster_store, calls)
    cluster.primaries()[1].tell("FUNCTION", "FLUSH")
    assert [reply[0] for reply in calling.run(cluster_store, calls)] == [VERSION] * 30
    for node in cluster.primaries():
        assert len(node.tell("FUNCTION", "LIST")) == 1  # type: ignore[arg-type]  # a list


def test_a_slot_that_has_moved_is_followed(
    cluster: Cluster, cluster_store: Store, moving: tuple[keys.SegmentKeys, int, Node, Node]
) -> None:
    segment, slot, source, target = moving
    calling.run(cluster_store, [library.open_segment(segment, version=VERSION)])
    cluster.begin_move(slot, target)
    cluster.end_move(slot, source, target)
    # The target has no functions yet, and this process's map is old.
    [reply] = calling.run(cluster_store, [updates_library.add_arms(segment, held=OPENED)])
    assert reply == [b"OK"]
    assert target.tell("GET", segment.arms) == b"\0a"
    [reply] = calling.run(cluster_store, [updates_library.add_arms(segment, held=OPENED)])
    assert reply == [b"STALE"]  # it ran once


def test_a_key_that_is_not_there_any_more_is_asked_for_at_the_target(
    cluster: Cluster, cluster_store: Store, moving: tuple[keys.SegmentKeys, int, Node, Node]
) -> None:
    segment, slot, source, target = moving
    for node in cluster.primaries():
        node.tell("FUNCTION", "FLUSH")
    cluster.begin_move(slot, target)
    blob = library.publish(segment, version=1, body=b"blob")
    others = [keys.of_segment("home", f"s{i}") for i in range(20)]
    calls = [library.publish(other, version=1, body=b"x") for other in others]
    assert calling.run(cluster_store, [*calls, blob, *calls]) == [[b"OK"]] * 41
    with target.client() as client:
        replies = client.pipeline(transaction=False)
        replies.execute_command("ASKING")
        replies.get(segment.blob)
        assert replies.execute()[1] == b"blob"
    read = Command(segment.blob, ("GET", segment.blob))
    assert cluster_store.replies([read, read]) == [b"blob", b"blob"]
    cluster.end_move(slot, source, target)
    assert cluster_store.replies([read]) == [b"blob"]


def test_a_target_that_no_map_shows_is_asked(
    cluster: Cluster, cluster_store: Store, moving: tuple[keys.SegmentKeys, int, Node, Node]
) -> None:
    # redis-py's own cluster client does not find it: a node without slots is on no map.
    segment, slot, _, target = moving
    cluster.begin_move(slot, target)
    manager = cluster_store.client.nodes_manager
    hidden = manager.nodes_cache.pop(f"127.0.0.1:{target.port}")
    try:
        key = segment.blob
        assert cluster_store.replies([Command(key, ("SET", key, 1))]) == [b"OK"]
        with refused(StoreUnavailableError, "has left the cluster"):
            cluster_store.server("127.0.0.1:1")
    finally:
        manager.nodes_cache[hidden.name] = hidden


def test_arms_are_registered_wholly_while_their_slot_is_on_the_move(
    cluster: Cluster, cluster_store: Store, moving: tuple[keys.SegmentKeys, int, Node, Node]
) -> None:
    # A script that touches a key which is not there, and was not declared, fails there midway.
    _, slot, source, target = moving
    bandit = Bandit("home", cluster_store)
    bandit.record("moving", "a", reward=1)
    cluster.begin_move(slot, target)
    bandit.add_arms("moving", ["c", "d"])
    assert table(Bandit("home", cluster_store).counts("moving")) == {
        "a": (1.0, 1.0),
        "c": (0.0, 0.0),
        "d": (0.0, 0.0),
    }
    cluster.end_move(slot, source, target)
    bandit.record("moving", "e")
    assert len(Bandit("home", cluster_store).counts("moving")) == 4


def test_keys_that_are_split_over_two_nodes_are_waited_for(
    cluster: Cluster, cluster_store: Store, moving: tuple[keys.SegmentKeys, int, Node, Node]
) -> None:
    segment, slot, source, target = moving
    # The state is there, the arms are not: of such keys the source says TRYAGAIN.
    calling.run(cluster_store, [library.open_segment(segment, version=VERSION)])
    call = updates_library.add_arms(segment, held=OPENED)
    cluster.begin_move(slot, target)
    with patiently(lambda: connect(cluster_store.url, timeout_s=0.3)) as hasty:
        with refused(StoreUnavailableError, "is moving these keys to another node"):
            calling.run(hasty, [call])
        [answer] = calling.attempt(hasty, [call])
        assert isinstance(answer, Failure)
        assert not answer.may_have_run
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calling.run, cluster_store, [call])
        cluster.end_move(slot, source, target)
        assert waiting.result() == [[b"OK"]]
    assert target.tell("GET", segment.arms) == b"\0a"


def test_a_slot_that_nobody_serves_is_waited_for(cluster: Cluster, cluster_store: Store) -> None:
    slot = key_slot(b"a")
    owner = cluster.owner(slot)
    write = Command("a", ("SET", "a", 1))
    with patiently(lambda: connect(cluster_store.url, timeout_s=0.3)) as hasty:
        owner.tell("CLUSTER DELSLOTS", slot)
        try:
            with refused(StoreUnavailableError, "has no node for these keys"):
                hasty.replies([write])
        except BaseException:
            owner.tell("CLUSTER ADDSLOTS", slot)  # the other tests need it
            raise
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cluster_store.replies, [write])
        owner.tell("CLUSTER ADDSLOTS", slot)
        assert waiting.result() == [b"OK"]
    wait_until(cluster.is_healthy, "the cluster does not heal")


def test_a_hung_node_does_not_hold_up_what_others_answered(
    cluster: Cluster, cluster_store: Store
) -> None:
    names = [f"k{i}" for i in range(30)]
    add = [Command(k, ("INCR", k)) for k in names]
    node = cluster.owner(key_slot(b"k0"))
    own = {k for k in names if cluster.owner(key_slot(k.encode())) is node}
    with patiently(lambda: connect(cluster_store.url, timeout_s=0.5)) as store:
        node.stop()
        try:
            answers = store.send(add)
        finally:
            node.resume()
        for name, answer in zip(names, answers, strict=True):
            if name in own:
                assert isinstance(answer, Failure)
                assert answer.may_have_run
                assert answer.node == f"127.0.0.1:{node.port}"
            else:
                assert answer == 1
    get = [Command(k, ("GET", k)) for k in names]
    # What the hung node had in its socket it runs now: once.
    wait_until(lambda: cluster_store.replies(get) == [b"1"] * 30, "sent twice, or lost")
    with refused(StoreUnavailableError, rf"\(node 127.0.0.1:{node.port}\) did not answer in time"):
        node.stop()
        try:
            with connect(cluster_store.url, timeout_s=0.5) as store:
                store.identities()
        finally:
            node.resume()
    wait_until(cluster.is_healthy, "the cluster does not heal")


@pytest.mark.parametrize("ids", ["batch", "events"])
def test_updates_at_a_hung_node_are_sent_again_and_the_others_stand(
    cluster: Cluster, cluster_store: Store, ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, failed = calling.attempt, threading.Event()

    def watched(store: Store, calls: Sequence[calling.Call]) -> list[calling.Reply | Failure]:
        answers = attempt(store, calls)
        if any(isinstance(answer, Failure) for answer in answers):
            failed.set()
        return answers

    segments = [f"IN/{i}" for i in range(40)]
    batch = {"segment": segments, "arm": ["a"] * 40, "reward": [1] * 40}
    node = cluster.primaries()[1]
    at_node = [path for path in segments if cluster.owner(slot_of(path)) is node]
    assert 0 < len(at_node) < 40
    with (
        patiently(lambda: connect(cluster_store.url, timeout_s=0.5)) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        retried = dt.timedelta(seconds=60)
        bandit, watcher = Bandit("home", store, retry_for=retried), Bandit("home", cluster_store)
        bandit.record_batch(batch)
        there = next(path for path in segments if path not in at_node)
        monkeypatch.setattr(calling, "attempt", watched)
        node.stop()
        try:
            if ids == "batch":
                recording = pool.submit(bandit.record_batch, batch, batch_id="1")
            else:
                recording = pool.submit(bandit.record_batch, batch | {"event_id": segments})
            wait_until(lambda: watcher.counts(there).trials.tolist() == [2], "it holds all up")
            assert failed.wait(60)
        finally:
            node.resume()
        report = recording.result()
    assert report.applied + report.duplicate == 40
    # Of events with ids an attempt whose reply was lost cannot be told from another's.
    assert report.duplicate <= (0 if ids == "batch" else len(at_node))
    assert [watcher.counts(path).trials.tolist() for path in segments] == [[2]] * 40
    wait_until(cluster.is_healthy, "the cluster does not heal")


@pytest.mark.skipif("redis" not in binaries(), reason="needs a server built with TLS")
def test_tls() -> None:
    with certificates() as files:
        options = files | {"tls-auth-clients": "no", "tls-cluster": "yes", "tls-replication": "yes"}
        with running_cluster("redis", options) as cluster:
            url = f"rediss{cluster.url.removeprefix('redis')}"
            trusted = f"ssl_ca_certs={quote(files['tls-ca-cert-file'])}"
            with connect(f"{url}?{trusted}") as store:
                bandit = Bandit("home", store)
                segments = [f"IN/{i}" for i in range(30)]
                batch = {"segment": segments, "arm": ["a"] * 30, "reward": [1] * 30}
                assert bandit.record_batch(batch).applied == 30
                with connect(store.url) as again:
                    assert Bandit("home", again).segments() == sorted(segments)
                    assert again.identities() == store.identities()
            with refused(StoreUnavailableError, "CERTIFICATE_VERIFY_FAILED"):
                connect(url)
            with refused(StoreUnavailableError, "cannot be reached"):
                connect(cluster.url, timeout_s=2)


def test_a_bandit_and_its_segments_live_on_many_nodes(
    cluster: Cluster, cluster_store: Store
) -> None:
    bandit = Bandit("home", cluster_store)
    segments = [f"IN/{i}" for i in range(40)]
    batch = {"segment": segments, "arm": ["a"] * 40, "reward": [1] * 40}
    assert bandit.record_batch(batch, batch_id="1").applied == 40
    assert bandit.record_batch(batch, batch_id="1").duplicate == 40
    assert index.segments(cluster_store, "home") == sorted(segments)
    sizes = [node.tell("DBSIZE") for node in cluster.primaries()]
    assert all(int(str(size)) > 20 for size in sizes)


def test_identities_are_those_of_all_primaries(cluster: Cluster, cluster_store: Store) -> None:
    facts = [node.facts() for node in cluster.primaries()]
    found = sorted(f"{each['run_id']}:{each['master_replid']}" for each in facts)
    assert cluster_store.identities() == found


def test_a_recommender_goes_on_with_the_nodes_that_answer(
    cluster: Cluster, cluster_store: Store
) -> None:
    bandit = Bandit("home", cluster_store)
    segments = [f"IN/{i}" for i in range(40)]
    bandit.record_batch({"segment": segments, "arm": ["a"] * 40, "reward": [1] * 40})
    bandit.refresh(slates=4, depth=1)
    # Not the node that knows which segments there are.
    knows = cluster.owner(key_slot(keys.of_bandit("home").segments.encode()))
    node = next(each for each in cluster.primaries() if each is not knows)
    tree = ["", "IN", *segments]
    silent = {path for path in tree if cluster.owner(slot_of(path)) is node}
    assert 0 < len(silent) < 42
    with (
        patiently(lambda: connect(cluster_store.url, timeout_s=0.5)) as store,
        Recommender(Bandit("home", store), poll_s=None) as recommender,
    ):
        patiently(recommender.warm_up)
        before = {path: recommender.recommend(path, 1).version for path in tree}
        bandit.refresh(slates=4, depth=1)
        node.stop()
        try:
            assert set(recommender.reload()) == set(tree) - silent
        finally:
            node.resume()
        assert set(recommender.rejected) == silent
        assert all("did not answer in time" in why for why in recommender.rejected.values())
        after = {path: recommender.recommend(path, 1) for path in tree}
        assert all(answer.arms == ("a",) for answer in after.values())
        assert {path for path in tree if after[path].version == before[path]} == silent
        assert set(recommender.reload()) == silent
