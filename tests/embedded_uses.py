"""Ways for tests to use an embedded server, in this process and in another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from banditcore.store.embedded.data_directory import is_locked
from banditcore.store.embedded.server import EmbeddedServer
from servers import wait_until

# A process that uses a directory: says the server's id, adds one, obeys one word from its input.
USER = """
import os, sys
import redis
from banditcore.store.embedded.server import EmbeddedServer
use = EmbeddedServer.open(sys.argv[1], timeout_s=60)
client = redis.Redis(unix_socket_path=str(use.socket_path))
print(client.info("server")["run_id"], client.incr("n"), flush=True)
sys.stdin.readline()
os._exit(0)
"""


@contextmanager
def client_of(use: EmbeddedServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(use.socket_path), socket_timeout=60) as client:
        yield client


@contextmanager
def opened(directory: Path, timeout_s: float = 60.0) -> Iterator[redis.Redis]:
    use = EmbeddedServer.open(directory, timeout_s=timeout_s)
    try:
        with client_of(use) as client:
            yield client
    finally:
        use.close()


@contextmanager
def user_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run_id(client: redis.Redis) -> str:
    return str(client.info("server")["run_id"])


def server_pid(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def stopped(directory: Path) -> None:
    wait_until(lambda: not is_locked(directory / "server.lock"), "the server still runs")
