"""The harm that `chaos.py --cluster` does to its processes and to the nodes of a cluster.

Of a pair of nodes one is harmed at a time, and only while the cluster is healthy: what both lose
nobody has. Every node keeps an append-only file, so one that is killed and comes back before its
replica took over has lost nothing.
"""

from __future__ import annotations

import random
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from chaos_monkey import Role
from chaos_roles import NAME, SEGMENTS
from redis.crc import key_slot

from banditcore.store import keys
from clusters import Cluster, Node, running_cluster

OPTIONS = {"appendonly": "yes", "appendfsync": "everysec"}
PARTITIONS = 4
LONGEST_S = 6.0  # that a node is away: a replica takes over after about three
MENDING_S = 60.0


class ClusterMonkey:
    """Does harm at random, and notes how often."""

    def __init__(self, cluster: Cluster, roles: list[Role], dice: random.Random) -> None:
        self._cluster = cluster
        self._roles = roles
        self._dice = dice
        self._away: list[tuple[Node, float]] = []  # killed or stopped, and until when
        self.done: Counter[str] = Counter()

    def strike(self) -> None:
        """Do one harm; undo that of before when its time is over."""
        self._mend(time.monotonic())
        deeds = (self._kill, self._kill_cut_off, self._hang, self._move, self._move, self._flush)
        deed = self._dice.choice((*deeds, *(None,) * 6))
        if deed is None or self._away or not self._cluster.is_healthy():
            role = self._dice.choice(self._roles)
            role.kill()
            self.done[f"{role.name}: killed"] += 1
            role.start()
        else:
            deed()

    def heal(self) -> None:
        """Bring everything back."""
        self._mend(float("inf"))
        deadline = time.monotonic() + MENDING_S
        while not self._cluster.is_healthy():
            self._mend(float("inf"))
            time.sleep(0.1)
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not heal")

    def _mend(self, now: float) -> None:
        for node, until in self._away:
            if until <= now:
                node.resume()  # if it was killed, it has a new process by then, or none
        for node in self._cluster.nodes:
            due = all(until <= now for other, until in self._away if other is node)
            if due and node.process.poll() is not None:
                node.start()
        self._away = [(node, until) for node, until in self._away if until > now]

    def _take_away(self, node: Node) -> None:
        self._away.append((node, time.monotonic() + LONGEST_S * self._dice.random()))

    def _primary(self) -> Node:
        return self._dice.choice(self._cluster.primaries())

    def _kill(self) -> None:
        node = self._primary()
        node.kill()
        self._take_away(node)
        self.done["primary: killed"] += 1

    def _kill_cut_off(self) -> None:
        """Kill a primary whose replica misses what it answered last."""
        node = self._primary()
        replica = self._cluster.replica_of(node)
        # It would connect again at once. This password its primary does not know.
        replica.tell("CONFIG SET", "masterauth", "none")
        replica.tell("CLIENT KILL", "TYPE", "master")
        time.sleep(1.5 * self._dice.random())
        node.kill()
        replica.tell("CONFIG SET", "masterauth", "")
        self._away.append((node, time.monotonic() + LONGEST_S))  # the replica always takes over
        self.done["primary: killed, its replica cut off"] += 1

    def _hang(self) -> None:
        node = self._primary()
        node.stop()
        self._take_away(node)
        self.done["primary: hung"] += 1

    def _flush(self) -> None:
        self._primary().tell("FUNCTION FLUSH")
        self.done["primary: functions flushed"] += 1

    def _move(self) -> None:
        names = [keys.of_segment(NAME, segment).state for segment in SEGMENTS]
        names += [keys.of_partition(NAME, partition).stream for partition in range(PARTITIONS)]
        slot = key_slot(self._dice.choice(names).encode())
        target = self._primary()
        if self._cluster.owner(slot) is target:
            return
        source = self._cluster.begin_move(slot, target)
        time.sleep(0.5 * self._dice.random())
        self._cluster.end_move(slot, source, target)
        self.done["slot: moved"] += 1


class ClusterWorld:
    """A cluster to harm.

    Attributes
    ----------
    url : str
        Where it is.
    urls : tuple
        The same, for each half of the processes.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.url = cluster.url
        self.urls = cluster.url, cluster.url

    def monkey(self, roles: list[Role], dice: random.Random) -> ClusterMonkey:
        """Return who does the harm."""
        return ClusterMonkey(self._cluster, roles, dice)


@contextmanager
def cluster_world(options: Namespace) -> Iterator[ClusterWorld]:
    """Start a cluster, three primaries with a replica each."""
    with running_cluster(options.kind, OPTIONS) as cluster:
        yield ClusterWorld(cluster)
