"""A cluster of which one primary is away: what is there can be used, and is checked as ever."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from banditcore.bandit import Bandit
from banditcore.errors import PartlyAppliedError, StoreUnavailableError, StoreUnfitError
from banditcore.store import Store, connect, keys
from clusters import Cluster, Node, running_cluster
from refusals import refused
from servers import patiently, wait_until

BANDIT = keys.of_bandit("home")
SEGMENTS = [f"IN/{i}" for i in range(30)]


@pytest.fixture
def cluster(fleet: object, cluster_store: Store) -> Cluster:  # emptied before
    """The cluster below `cluster_store`; no replica takes over within a test."""
    return fleet["cluster"]  # type: ignore[index]  # of the conftest


def away_from(cluster: Cluster) -> Node:
    """Return a primary that does not know which bandits and segments there are."""
    index = [keys.BANDITS, BANDIT.settings, BANDIT.segments]
    knowing = [cluster.owner(key_slot(key.encode())).port for key in index]
    return next(node for node in cluster.primaries() if node.port not in knowing)


def segments_by(cluster: Cluster, node: Node) -> tuple[list[str], list[str]]:
    """Return segments that a node has, and others."""
    homes = {
        s: cluster.owner(key_slot(keys.of_segment("home", s).state.encode())) for s in SEGMENTS
    }
    own = [segment for segment, home in homes.items() if home is node]
    return own, [segment for segment in SEGMENTS if segment not in own]


@pytest.fixture
def hung(cluster: Cluster) -> Iterator[Node]:
    """A primary that a test lets hang; it runs in the end."""
    node = away_from(cluster)
    yield node
    node.resume()
    node.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_what_is_there_can_be_used(cluster: Cluster, cluster_store: Store, hung: Node) -> None:
    own, others = segments_by(cluster, hung)
    hung.stop()
    with patiently(lambda: connect(cluster_store.url, timeout_s=0.5)) as store:
        bandit = Bandit("home", store, retry_for=dt.timedelta(0))
        patient = Bandit("home", store, retry_for=dt.timedelta(seconds=60))
        patiently(lambda: patient.statistics)
        for segment in others:
            assert patient.record(segment, "a").applied == 1
        patiently(lambda: bandit.statistics)
        with pytest.raises(PartlyAppliedError, match=f"127.0.0.1:{hung.port}"):
            bandit.record(own[0], "a")
        with refused(StoreUnavailableError, f"127.0.0.1:{hung.port}"):
            store.identities()  # those of all primaries, or none: a loss must not go unseen
        hung.resume()
        assert patiently(lambda: bandit.counts(others[0])).trials.tolist() == [1]
        # What the hung one was sent it reads now, and its connection was given up: once at most.
        assert patient.record(own[1], "a").applied == 1
        assert len(patiently(store.identities)) == 3


def test_one_that_can_be_asked_is_refused_as_ever(
    cluster: Cluster, cluster_store: Store, hung: Node
) -> None:
    other = next(node for node in cluster.primaries() if node is not hung)
    hung.stop()
    other.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with refused(StoreUnfitError, rf"maxmemory_policy.*\(node 127.0.0.1:{other.port}\).*lru"):
            connect(cluster_store.url, timeout_s=0.3)
    finally:
        other.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_one_that_could_not_be_asked_is_checked_before_it_is_written_to(
    cluster: Cluster, cluster_store: Store, hung: Node
) -> None:
    own, others = segments_by(cluster, hung)
    hung.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    hung.stop()
    with patiently(lambda: connect(cluster_store.url, timeout_s=0.5)) as store:
        bandit = Bandit("home", store, retry_for=dt.timedelta(seconds=60))
        hung.resume()
        patiently(lambda: bandit.statistics)
        assert bandit.record(others[0], "a").applied == 1
        with refused(StoreUnfitError, rf"maxmemory_policy.*\(node 127.0.0.1:{hung.port}\).*lru"):
            bandit.counts(own[0])
        assert hung.tell("DBSIZE") == 0
        hung.tell("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert bandit.record(own[0], "a").applied == 1


def test_no_primary_at_all(cluster: Cluster, cluster_store: Store) -> None:
    primaries = cluster.primaries()
    for node in primaries:
        node.stop()
    try:
        with refused(StoreUnavailableError, "did not answer in time|cannot be reached"):
            connect(cluster_store.url, timeout_s=0.3)
    finally:
        for node in primaries:
            node.resume()


@pytest.mark.slow
def test_a_killed_primary_before_and_after_its_replica_took_over() -> None:
    with running_cluster() as cluster:
        node = away_from(cluster)
        own, others = segments_by(cluster, node)
        replica = cluster.replica_of(node)
        replica.tell("CONFIG", "SET", "cluster-replica-no-failover", "yes")
        node.kill()
        # Nobody serves its slots. First that is unknown, and later the other nodes serve nothing
        # either ("cluster-require-full-coverage"); their answers to INFO are all that is needed.
        with connect(cluster.url, timeout_s=1.0) as early:
            bandit = Bandit("home", early, retry_for=dt.timedelta(seconds=60))
            rest = [each for each in cluster.nodes if each is not node]

            def is_down() -> bool:
                states = [each.tell("CLUSTER INFO") for each in rest]
                return all(state["cluster_state"] == "fail" for state in states)  # type: ignore[index]

            wait_until(is_down, "the cluster does not notice")
            with connect(cluster.url, timeout_s=1.0) as late:
                assert late.address == early.address
                replica.tell("CONFIG", "SET", "cluster-replica-no-failover", "no")
                batch = {"segment": SEGMENTS, "arm": ["a"] * 30, "reward": [1] * 30}
                assert bandit.record_batch(batch).applied == 30
                found = Bandit("home", late, retry_for=dt.timedelta(0))
                assert [found.counts(s).trials.tolist() for s in (own[0], others[0])] == [[1], [1]]
                assert len(late.identities()) == 3
