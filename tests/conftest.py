"""Stores for tests: real servers of our own, one a session and kind, emptied for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from banditcore.store.connect import Store, connect
from banditcore.store.embedded.data_directory import is_locked
from clusters import Cluster, running_cluster
from sentinels import Watched, watched_servers
from servers import RunningServer, binaries, running_server, wait_until

# The checks try the same examples each time; `--hypothesis-profile=default` tries new ones.
# How long one takes says how busy the machine is, and no more.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


class _Fleet:
    """Starts one server, cluster or watched pair of each kind when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, RunningServer | Cluster | Watched] = {}

    def __getitem__(self, kind: str) -> RunningServer | Cluster | Watched:
        if kind not in self._started:
            self._started[kind] = self._stack.enter_context(_starting(kind))
        return self._started[kind]


def _starting(kind: str) -> AbstractContextManager[RunningServer | Cluster | Watched]:
    if kind == "cluster":
        # A node that a test stops for a moment must not be replaced.
        return running_cluster("valkey", {"cluster-node-timeout": "30000"})
    if kind == "sentinel":
        return watched_servers("valkey", down_after_ms=60_000)  # nor a primary on a busy machine
    return running_server(kind)


@pytest.fixture(scope="session")
def fleet() -> Iterator[_Fleet]:
    with ExitStack() as stack:
        yield _Fleet(stack)


def _emptied(url: str) -> Iterator[Store]:
    with connect(url, timeout_s=60) as store:  # a net for a busy machine
        for client in store.servers().values():
            client.flushall()
            client.function_flush()
        yield store


@pytest.fixture
def store(fleet: _Fleet) -> Iterator[Store]:
    """An empty store on the Valkey that `banditcore[embedded]` brings."""
    yield from _emptied(fleet["valkey"].url)


@pytest.fixture(params=["valkey", "redis", "cluster", "sentinel"])
def any_store(fleet: _Fleet, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each kind of server that this machine has, and on several together."""
    if request.param == "redis" and "redis" not in binaries():
        pytest.skip("no redis server is installed")
    yield from _emptied(fleet[request.param].url)


@pytest.fixture(params=["valkey", "redis"])
def one_server(fleet: _Fleet, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on a server of each kind, for what concerns a single server."""
    if request.param not in binaries():
        pytest.skip(f"no {request.param} server is installed")
    yield from _emptied(fleet[request.param].url)


@pytest.fixture
def cluster_store(fleet: _Fleet) -> Iterator[Store]:
    """An empty store on a cluster."""
    yield from _emptied(fleet["cluster"].url)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path for embedded data, not made yet; at the end nothing may run on it."""
    above = Path(tempfile.mkdtemp(prefix="bct", dir=tempfile.gettempdir()))
    yield above / "d"
    for lock in above.rglob("server.lock"):
        wait_until(lambda lock=lock: not is_locked(lock), "a server was left running")
    shutil.rmtree(above)
