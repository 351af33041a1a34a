"""The faults that `load.py` makes on sentinels and on a cluster; see `load_faults`."""

from __future__ import annotations

import signal
import time

from load_faults import Fault, Stage, repeating
from load_requests import LEAVES, NAME
from redis.crc import key_slot

from banditcore.store import keys
from clusters import PRIMARIES, Cluster
from servers import wait_until


def failover(stage: Stage, seconds: float) -> None:
    """Stop the primary until sentinels have made its replica one; it returns as a replica."""
    watched = stage.watched
    assert watched is not None
    wait_until(watched.is_healthy, "the sentinels are not well")
    before = watched.primary()
    server = next(each for each in watched.servers if each.port == before)
    server.process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    wait_until(lambda: watched.primary() not in {before, None}, "nobody takes over")
    time.sleep(max(0.0, seconds / 2 - (time.monotonic() - begun)))
    server.process.send_signal(signal.SIGCONT)


def node_killed(stage: Stage, seconds: float) -> None:
    """Kill a primary of the cluster, whose replica takes over; it returns as a replica."""
    cluster = _cluster(stage)
    node = cluster.owner(key_slot(keys.of_segment(NAME, LEAVES[0]).blob.encode()))
    node.kill()
    begun = time.monotonic()
    wait_until(lambda: len(cluster.primaries()) == PRIMARIES, "nobody takes over")
    time.sleep(max(0.0, seconds / 2 - (time.monotonic() - begun)))
    node.start()
    wait_until(cluster.is_healthy, "the cluster does not heal")


def node_hung(stage: Stage, seconds: float) -> None:
    """Stop a primary of the cluster for less time than it takes to be replaced, and for more."""
    cluster = _cluster(stage)
    for away in (1.0, seconds / 2):
        node = stage.dice.choice(cluster.primaries())
        node.stop()
        time.sleep(away)
        node.resume()
        wait_until(cluster.is_healthy, "the cluster does not heal")


def slots_moved(stage: Stage, seconds: float) -> None:
    """Move the slots of segments and of users from primary to primary."""
    cluster = _cluster(stage)
    users = [keys.seen(NAME, f"u{i}") for i in range(20)]
    blobs = [keys.of_segment(NAME, segment).blob for segment in LEAVES]
    for _ in repeating(seconds / 2, every=0.05):
        slot = key_slot(stage.dice.choice(users + 4 * blobs).encode())
        target = stage.dice.choice(cluster.primaries())
        if cluster.owner(slot) is target:
            continue
        source = cluster.begin_move(slot, target)
        time.sleep(0.2 * stage.dice.random())
        cluster.end_move(slot, source, target)


def _cluster(stage: Stage) -> Cluster:
    assert stage.cluster is not None
    return stage.cluster


SENTINEL_FAULTS: dict[str, Fault] = {"failover": failover}
CLUSTER_FAULTS: dict[str, Fault] = {
    "slots move": slots_moved,
    "primary killed": node_killed,
    "primary hung": node_hung,
}
