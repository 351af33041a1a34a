"""A server of our own that is killed comes back with its data, whoever finds it gone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from banditcore.bandit import Bandit
from banditcore.errors import StoreError, StoreUnavailableError, StoreUnfitError
from banditcore.store import Store, connect
from banditcore.store.embedded.data_directory import is_locked
from banditcore.store.servers.transport import Command
from bandits import table
from embedded_uses import server_pid
from refusals import refused
from servers import patiently, wait_until

# A process that records batches of its own arm, and between them those of an arm of all.
WRITER = """
import sys
from banditcore import Bandit, connect
name, batches = sys.argv[2], int(sys.argv[3])
with connect(f"embedded://{sys.argv[1]}", timeout_s=60) as store:
    bandit = Bandit("home", store)
    for i in range(batches):
        batch = {"segment": ["IN"] * 2, "arm": [name, "all"], "reward": [1, 0]}
        assert bandit.record_batch(batch, batch_id=f"{name}/{i}").applied == 2
        print(i, flush=True)
        sys.stdin.readline()
"""


def kill(pid: int) -> None:
    """End a server as a lack of memory would, and wait until its supervisor has noticed.

    Its first thread may be gone and another still hold its sockets.
    """
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _exists(pid), "it does not end")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_of(store: Store) -> int:
    assert isinstance(store.client, redis.Redis)
    return server_pid(store.client)


def test_its_lone_user_gets_it_back(directory: Path) -> None:
    with connect(f"embedded://{directory}", timeout_s=60) as store:
        bandit = Bandit("home", store)
        for i in range(3):
            assert bandit.record("IN", "a", event_id=str(i)).applied == 1
            before = store.identities()
            kill(pid_of(store))
            # Nothing that only reads is tried twice, and this must not need it.
            assert table(bandit.counts("IN")) == {"a": (i + 1, 0)}
            assert store.identities() != before  # what reads ordered sources has to know
            assert bandit.record("IN", "a", event_id=str(i)).duplicate == 1


@contextmanager
def writers(directory: Path, count: int, batches: int) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        processes = []
        for i in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(directory), f"arm {i}", str(batches)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def test_of_many_processes_one_starts_it_and_no_count_is_lost(directory: Path) -> None:
    batches, kills = 12, 4
    with (
        connect(f"embedded://{directory}", timeout_s=60) as store,
        writers(directory, 4, batches) as processes,
    ):
        pids = set()
        for i in range(batches):
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == f"{i}\n"
            if i % (batches // kills) == 0:
                pids.add(pid_of(store))
                kill(pid_of(store))
            for process in processes:  # all find it gone, at once
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
        assert [process.wait(timeout=60) for process in processes] == [0] * 4
        assert len(pids) == kills
        expected = {f"arm {i}": (batches, batches) for i in range(4)} | {"all": (4 * batches, 0)}
        assert table(Bandit("home", store).counts("IN")) == expected


def test_one_that_is_killed_under_load_loses_nothing_it_answered(directory: Path) -> None:
    with (
        connect(f"embedded://{directory}", timeout_s=60) as store,
        writers(directory, 3, 60) as processes,
    ):
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n" * 60)  # nobody waits for anybody
            process.stdin.flush()
        for process in processes[1:]:
            assert process.stdout is not None
            process.stdout.readline()  # it is there, and writes
        for line in range(1, 4):
            assert processes[0].stdout is not None
            while processes[0].stdout.readline() != f"{15 * line}\n":
                pass
            kill(pid_of(store))
        for process in processes:
            assert process.stdout is not None
            process.stdout.read()
        assert [process.wait(timeout=60) for process in processes] == [0] * 3
        expected = {f"arm {i}": (60, 60) for i in range(3)} | {"all": (180, 0)}
        assert table(Bandit("home", store).counts("IN")) == expected


def test_it_is_followed_to_another_socket(directory: Path) -> None:
    # A path too long for a socket: each server makes a place of its own for it.
    deep = directory / ("x" * 100)
    with (
        connect(f"embedded://{deep}", timeout_s=60) as first,
        connect(f"embedded://{deep}", timeout_s=60) as second,
    ):
        assert first.client.incr("n") == 1
        assert second.client.incr("n") == 2
        kill(pid_of(first))
        assert second.client.incr("n") == 3
        assert first.client.incr("n") == 4
        assert first.identities() == second.identities()


def test_one_that_hangs_is_left_alone(directory: Path) -> None:
    url = f"embedded://{directory}"
    with (
        connect(url, timeout_s=60) as patient,
        patiently(lambda: connect(url, timeout_s=0.3)) as store,
    ):
        before, pid = patient.identities(), pid_of(patient)
        os.kill(pid, signal.SIGSTOP)
        try:
            with refused(StoreUnavailableError, "did not answer in time"):
                store.identities()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert patiently(store.identities) == before


def test_one_that_cannot_start_says_why_each_time(directory: Path) -> None:
    with connect(f"embedded://{directory}", timeout_s=60) as store:
        bandit = Bandit("home", store)
        bandit.record("IN", "a")
        kill(pid_of(store))
        increments = next((directory / "appendonlydir").glob("*.incr.aof"))
        sound = increments.read_bytes()
        increments.write_bytes(sound + b"nonsense\r\n" * 9)
        for _ in range(2):
            with refused(StoreUnfitError, r"append-only file is damaged.*check-aof"):
                bandit.counts("IN")
        increments.write_bytes(sound)
        assert table(bandit.counts("IN")) == {"a": (1, 0)}


def test_a_start_that_takes_too_long_is_given_up(directory: Path) -> None:
    url = f"embedded://{directory}"
    with (
        connect(url, timeout_s=60) as patient,
        patiently(lambda: connect(url, timeout_s=0.3)) as hasty,
    ):
        patient.client.set("n", 7)
        kill(pid_of(patient))
        with (directory / "launch.lock").open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with refused(StoreUnavailableError, "another process is starting its server"):
                hasty.identities()
        assert patient.client.get("n") == b"7"
        assert patiently(lambda: hasty.replies([Command("n", ("GET", "n"))])) == [b"7"]


def test_nobody_starts_it_after_giving_it_up(directory: Path) -> None:
    with connect(f"embedded://{directory}", timeout_s=60) as store:
        server = store._server
        assert server is not None
    with pytest.raises(StoreError, match="given up by this use"):
        server.revive(5.0)
    wait_until(lambda: not is_locked(directory / "server.lock"), "the server still runs")
