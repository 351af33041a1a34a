"""Stores for tests: real servers of our own, one a session and kind, emptied for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from banditcore.store._data_directory import is_locked
from banditcore.store.connect import Store, connect
from servers import RunningServer, binaries, running_server, wait_until


class _Fleet:
    """Starts one server of each kind when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._servers: dict[str, RunningServer] = {}

    def __getitem__(self, kind: str) -> RunningServer:
        if kind not in self._servers:
            self._servers[kind] = self._stack.enter_context(running_server(kind))
        return self._servers[kind]


@pytest.fixture(scope="session")
def fleet() -> Iterator[_Fleet]:
    with ExitStack() as stack:
        yield _Fleet(stack)


def _emptied(server: RunningServer) -> Iterator[Store]:
    with connect(server.url) as store:
        store.client.flushall()
        store.client.function_flush()
        yield store


@pytest.fixture
def store(fleet: _Fleet) -> Iterator[Store]:
    """An empty store on the Valkey that `banditcore[embedded]` brings."""
    yield from _emptied(fleet["valkey"])


@pytest.fixture(params=["valkey", "redis"])
def any_store(fleet: _Fleet, request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each kind of server that this machine has."""
    if request.param not in binaries():
        pytest.skip(f"no {request.param} server is installed")
    yield from _emptied(fleet[request.param])


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path for embedded data, not made yet; at the end nothing may run on it."""
    above = Path(tempfile.mkdtemp(prefix="bct", dir=tempfile.gettempdir()))
    yield above / "d"
    for lock in above.rglob("server.lock"):
        wait_until(lambda lock=lock: not is_locked(lock), "a server was left running")
    shutil.rmtree(above)
