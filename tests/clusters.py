"""Starts clusters of real servers for tests: three primaries, each with a replica."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from servers import binaries, free_ports, wait_until

SLOTS = 16384
PRIMARIES = 3
# How long a node may be silent until it is taken for dead; its replica follows it soon after.
NODE_TIMEOUT_MS = 2000


@dataclass
class Node:
    """One server of a cluster."""

    binary: Path
    directory: Path
    port: int
    bus_port: int
    id: str
    options: Mapping[str, str]
    tls: bool
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start the process, or start it again; `nodes.conf` says what it is."""
        settings = {
            **({"port": "0", "tls-port": str(self.port)} if self.tls else {"port": str(self.port)}),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "logfile": str(self.directory / "log"),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-config-file": "nodes.conf",
            **self.options,
        }
        command = [str(self.binary)]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Let the process hang."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on."""
        self.process.send_signal(signal.SIGCONT)

    def client(self, timeout_s: float = 60.0) -> redis.Redis:
        """Return a client of this node alone."""
        own = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        settings: dict[str, Any] = own if self.tls else {}
        return redis.Redis(
            port=self.port, protocol=2, socket_timeout=timeout_s, retry=None, **settings
        )

    def facts(self) -> dict[str, object]:
        """Return what INFO says; nothing while it does not answer."""
        try:
            with self.client(timeout_s=5.0) as client:
                return dict(client.info("everything"))
        except RedisError:
            return {}

    def tell(self, *words: str | int) -> object:
        """Send a command to this node alone and return what it answers."""
        with self.client() as client:
            return client.execute_command(*words)


@dataclass
class Cluster:
    """Six nodes: those at 0..2 began as primaries, those at 3..5 as their replicas."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        """Names two of the nodes, as a careful user would."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[4].port}"

    def primaries(self) -> list[Node]:
        """Return the nodes that say they are primaries now."""
        return [node for node in self.nodes if node.facts().get("role") == "master"]

    def owner(self, slot: int) -> Node:
        """Return the primary that serves a slot."""
        for node in self.primaries():
            with node.client() as client:
                for first, last, primary, *_ in client.execute_command("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == primary[1])
        raise LookupError(slot)

    def begin_move(self, slot: int, target: Node) -> Node:
        """Let a slot be on the move from its owner, which is returned, to another primary."""
        source = self.owner(slot)
        target.tell("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.tell("CLUSTER SETSLOT", slot, "MIGRATING", target.id)
        return source

    def end_move(self, slot: int, source: Node, target: Node) -> None:
        """Move the keys of a slot that `begin_move` has named, and the slot."""
        with source.client() as client:
            while keys := client.execute_command("CLUSTER GETKEYSINSLOT", slot, 2):
                place = ("127.0.0.1", target.port, "", 0, 5000, "KEYS")
                client.execute_command("MIGRATE", *place, *keys)
        for node in (target, source, *self.primaries()):
            node.tell("CLUSTER SETSLOT", slot, "NODE", target.id)

    def replica_of(self, node: Node) -> Node:
        """Return a replica of a primary."""
        return next(
            one for one in self.nodes if str(one.facts().get("master_port")) == str(node.port)
        )

    def is_healthy(self) -> bool:
        """Whether every node is up, serves or follows, and all agree on who has which slot."""
        maps = set()
        for node in self.nodes:
            facts = node.facts()
            if not facts or not _is_linked(facts):
                return False
            with node.client() as client:
                state = client.execute_command("CLUSTER INFO")
                slots = client.execute_command("CLUSTER SLOTS")
            if state["cluster_state"] != "ok" or state["cluster_slots_ok"] != str(SLOTS):
                return False
            if state["cluster_known_nodes"] != str(len(self.nodes)):
                return False
            maps.add(repr(sorted((low, high, node[1]) for low, high, node, *_ in slots)))
        return len(maps) == 1 and len(self.primaries()) == PRIMARIES


def _is_linked(facts: Mapping[str, object]) -> bool:
    """Whether a primary has a replica that it would wait for, or a replica its primary."""
    if facts["role"] == "slave":
        return facts["master_link_status"] == "up"
    replica = facts.get("slave0")
    return isinstance(replica, dict) and replica["state"] == "online"


@contextmanager
def running_cluster(
    kind: str = "valkey", options: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Start a cluster in directories of its own and yield it once it is healthy.

    It listens on loopback ports of the system's choice and keeps nothing on disk unless `options`
    say so. With the options that `servers.certificates` yields it speaks TLS only.
    """
    tls = "tls-cert-file" in (options or {})
    above = Path(tempfile.mkdtemp(prefix="bct", dir=tempfile.gettempdir()))
    binary = binaries()[kind]
    nodes = []
    ports = iter(free_ports(4 * PRIMARIES))
    for i in range(2 * PRIMARIES):
        directory = above / str(i)
        directory.mkdir()
        node = Node(binary, directory, next(ports), next(ports), f"{i:040x}", options or {}, tls)
        nodes.append(node)
    for node in nodes:
        (node.directory / "nodes.conf").write_text(_configuration(nodes, node))
    cluster = Cluster(nodes)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, above, ignore_errors=True)
        for node in nodes:
            node.start()
            stack.callback(node.kill)
        wait_until(lambda: _is_up(cluster), "the cluster does not come up")
        yield cluster


def _is_up(cluster: Cluster) -> bool:
    for node in cluster.nodes:
        if node.process.poll() is not None:  # a connection of others has its port for a moment
            node.start()
    return cluster.is_healthy()


def _configuration(nodes: list[Node], me: Node) -> str:
    """Return `nodes.conf` as a node of a running cluster would have written it."""
    lines = []
    for i, node in enumerate(nodes):
        primary = nodes[i % PRIMARIES]
        role, follows = ("master", "-") if node is primary else ("slave", primary.id)
        flags = f"myself,{role}" if node is me else role
        slots = ""
        if node is primary:
            first, last = i * SLOTS // PRIMARIES, (i + 1) * SLOTS // PRIMARIES - 1
            slots = f" {first}-{last}"
        address = f"127.0.0.1:{node.port}@{node.bus_port}"
        epoch = i % PRIMARIES + 1
        lines.append(f"{node.id} {address} {flags} {follows} 0 0 {epoch} connected{slots}\n")
    lines.append(f"vars currentEpoch {PRIMARIES} lastVoteEpoch 0\n")
    return "".join(lines)
