"""Starts a primary, its replica and three sentinels that watch them, for tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError

from servers import RunningServer, binaries, free_ports, running_server, wait_until

SERVICE = "main"
QUORUM = 2
# How long the primary may be silent until a sentinel takes it for dead.
DOWN_AFTER_MS = 1000
_ANYONE = {"tls-auth-clients": "no"}


@dataclass(frozen=True)
class Watched:
    """Two servers, of which the first began as the primary, and their sentinels' ports."""

    servers: list[RunningServer]
    ports: list[int]
    tls: bool = False

    def client(self, port: int | None) -> redis.Redis:
        """Return a client of one server or sentinel."""
        own = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        settings: dict[str, Any] = own if self.tls else {}
        return redis.Redis(port=port, socket_timeout=60, retry=None, **settings)

    @property
    def url(self) -> str:
        """Names all three sentinels."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def primary(self) -> int | None:
        """Return the port of the primary, or None while the sentinels do not agree on one."""
        named = set()
        for port in self.ports:
            with self.client(port) as sentinel:
                state = sentinel.sentinel_master(SERVICE)
                named.add((int(state["port"]), state["is_odown"]))
        if len(named) > 1 or next(iter(named))[1]:
            return None
        return next(iter(named))[0]

    def is_healthy(self) -> bool:
        """Whether all sentinels know one another and a replica that is in step."""
        try:
            for port in self.ports:
                with self.client(port) as sentinel:
                    state = sentinel.sentinel_master(SERVICE)
                    if state["num-other-sentinels"] != len(self.ports) - 1:
                        return False
                    if state["num-slaves"] != 1 or state["is_sdown"]:
                        return False
            states = set()
            for server in self.servers:
                with self.client(server.tls_port or server.port) as client:
                    facts = client.info("replication")
                # Both must know: WAIT counts what the primary calls online.
                states.add(facts.get("master_link_status") or facts["slave0"]["state"])
        except (RedisError, KeyError):
            return False
        return states == {"up", "online"}


@contextmanager
def watched_servers(
    kind: str = "valkey",
    certificates: Mapping[str, str] | None = None,
    *,
    down_after_ms: int = DOWN_AFTER_MS,
) -> Iterator[Watched]:
    """Start them all on loopback ports of the system's choice; yield once they are healthy.

    A primary that is silent for `down_after_ms` is replaced.

    With what `servers.certificates` yields they speak TLS only.
    """
    above = Path(tempfile.mkdtemp(prefix="bct", dir=tempfile.gettempdir()))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, above, ignore_errors=True)
        tls = {**certificates, "tls-replication": "yes", **_ANYONE} if certificates else {}
        options = {"repl-diskless-sync-delay": "0", **tls}
        how = {"tls" if tls else "tcp": True}
        primary = stack.enter_context(running_server(kind, options, **how))
        follows = {"replicaof": f"127.0.0.1 {primary.tls_port or primary.port}"}
        replica = stack.enter_context(running_server(kind, options | follows, **how))
        ports = free_ports(3)
        for i in range(len(ports)):
            directory = above / str(i)
            directory.mkdir()
            path = directory / "sentinel.conf"
            path.write_text(
                _configuration(
                    ports, i, directory, [primary, replica], tls, down_after_ms=down_after_ms
                )
            )
            process = subprocess.Popen(
                [str(binaries()[kind]), str(path), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        watched = Watched([primary, replica], ports, bool(tls))
        wait_until(watched.is_healthy, "the sentinels do not come up")
        yield watched


def _configuration(
    ports: list[int],
    me: int,
    directory: Path,
    servers: list[RunningServer],
    tls: Mapping[str, str],
    *,
    down_after_ms: int,
) -> str:
    """Return the file of a sentinel that knows the others already."""
    primary, replica = (server.tls_port or server.port for server in servers)
    lines = [
        *([f"tls-port {ports[me]}", "port 0"] if tls else [f"port {ports[me]}"]),
        *(f"{name} {value}" for name, value in tls.items()),
        "bind 127.0.0.1",
        f"dir {directory}",
        f"logfile {directory}/log",
        f"sentinel myid {me:040x}",
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} {QUORUM}",
        f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
        f"sentinel failover-timeout {SERVICE} 3000",
        f"sentinel known-replica {SERVICE} 127.0.0.1 {replica}",
    ]
    for i, port in enumerate(ports):
        if i != me:
            lines.append(f"sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {i:040x}")
    return "\n".join(lines) + "\n"
