"""The embedded server: one a directory, as long as anybody uses it, and no data lost."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from banditcore.store.embedded.binary import server_binary
from banditcore.store.embedded.data_directory import is_locked
from banditcore.store.embedded.server import EmbeddedServer
from embedded_uses import client_of, opened, run_id, server_pid, stopped, user_process
from servers import wait_until


def test_data_survive_a_restart_and_the_server_ends_with_its_last_user(directory: Path) -> None:
    ids = []
    for expected in (1, 2, 3):
        first = EmbeddedServer.open(directory, timeout_s=60)
        second = EmbeddedServer.open(directory, timeout_s=60)
        with client_of(first) as client, client_of(second) as other:
            assert run_id(client) == run_id(other)
            ids.append(run_id(client))
            assert client.incr("n") == expected
        first.close()
        assert is_locked(directory / "server.lock")
        with client_of(second) as client:
            assert run_id(client) == ids[-1]
        second.close()
        second.close()
        stopped(directory)
    assert len(set(ids)) == 3


def test_reopening_at_once_never_loses_a_write(directory: Path) -> None:
    # Without a pause the new user comes before, during and after the old server's end.
    for expected in range(1, 31):
        with opened(directory) as client:
            assert client.incr("n") == expected
        if expected % 3 == 0:
            stopped(directory)


def test_settings(directory: Path) -> None:
    with opened(directory) as client:
        expected = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "maxmemory": "0",
            "save": "",
            "dir": str(directory),
        }
        found = client.config_get(*expected)
        assert {key: found[key] for key in expected} == expected
        for name in (".", "server.sock", "appendonlydir", "users.lock", "server.log"):
            assert stat.S_IMODE((directory / name).stat().st_mode) & 0o077 == 0, name
        # A terminal's Ctrl-C goes to the processes of its own session.
        assert os.getsid(server_pid(client)) != os.getsid(0)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_the_server_inherits_only_its_lock(directory: Path) -> None:
    held = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        with opened(directory) as client:
            links = [
                str(entry.readlink()) for entry in Path(f"/proc/{server_pid(client)}/fd").iterdir()
            ]
    finally:
        os.close(held)
    files = {Path(link).name for link in links if link.startswith(str(directory))}
    assert {name for name in files if not name.startswith("appendonly")} == {
        "server.lock",
        "server.log",
    }
    assert links.count(os.devnull) == 1  # its standard input


def test_another_process_joins(directory: Path) -> None:
    with opened(directory) as client:
        assert client.incr("n") == 1
        with user_process(directory) as process:
            assert process.stdout is not None
            assert process.stdout.readline().split() == [run_id(client), "2"]


def test_processes_that_start_at_once_start_one_server(directory: Path) -> None:
    with user_process(directory) as a, user_process(directory) as b, user_process(directory) as c:
        lines = [process.stdout.readline().split() for process in (a, b, c) if process.stdout]
    assert len({line[0] for line in lines}) == 1
    assert sorted(line[1] for line in lines) == ["1", "2", "3"]


def test_threads_that_start_at_once_start_one_server(directory: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        uses = list(pool.map(lambda _: EmbeddedServer.open(directory, timeout_s=60), range(8)))
    ids = set()
    for use in uses:
        with client_of(use) as client:
            ids.add(run_id(client))
    assert len(ids) == 1
    for use in uses:
        use.close()


def test_the_server_ends_when_its_only_user_is_killed(directory: Path) -> None:
    with user_process(directory) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(" 1\n")
        assert is_locked(directory / "server.lock")
        process.send_signal(signal.SIGKILL)
        stopped(directory)
    with opened(directory) as client:
        assert client.get("n") == b"1"


def test_a_forked_child_keeps_the_server_and_its_end_leaves_the_parents(directory: Path) -> None:
    wake, go = os.pipe()
    use = EmbeddedServer.open(directory, timeout_s=60)
    with client_of(use) as client:
        before = run_id(client)
    short_lived = os.fork()
    if short_lived == 0:
        use.close()
        os._exit(0)
    os.waitpid(short_lived, 0)
    assert (directory / "users.lock").exists()
    assert not _could_lock(directory / "users.lock")  # the child's close did not unlock it
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(wake, 1)
        with client_of(use) as client:
            os._exit(0 if run_id(client) == before and client.incr("n") == 1 else 1)
    use.close()
    assert not _could_lock(directory / "users.lock")  # the child still has it
    os.close(go)
    os.close(wake)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stopped(directory)


def _could_lock(path: Path) -> bool:
    return not is_locked(path)


def test_a_killed_server_loses_nothing_and_leaves_no_obstacle(directory: Path) -> None:
    use = EmbeddedServer.open(directory, timeout_s=60)
    with client_of(use) as client:
        assert client.incr("n") == 1
        pid = server_pid(client)
        before = run_id(client)
    os.kill(pid, signal.SIGKILL)
    stopped(directory)
    assert use.socket_path.exists()  # stale: nobody unlinked it
    with opened(directory) as client:  # while the first user has not closed
        assert client.incr("n") == 2
        assert run_id(client) != before
    use.close()


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_killed_supervisor_takes_the_server_along(directory: Path) -> None:
    use = EmbeddedServer.open(directory, timeout_s=60)
    with client_of(use) as client:
        client.incr("n")
        before = run_id(client)
        status = Path(f"/proc/{server_pid(client)}/stat").read_text()
    supervisor = int(status.rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    stopped(directory)  # though there still is a user
    with opened(directory) as client:
        assert client.incr("n") == 2
        assert run_id(client) != before
    use.close()


def test_a_server_whose_supervisor_is_gone_is_replaced(directory: Path) -> None:
    # As after a killed supervisor on a system without a parent-death signal.
    directory.mkdir(mode=0o700)
    lock = os.open(directory / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    command = [server_binary(), "--port", "0", "--unixsocket", directory / "server.sock"]
    command += ["--dir", directory, "--appendonly", "yes", "--save", ""]
    orphan = subprocess.Popen(
        ["flock", "-x", "-F", str(directory / "server.lock"), *map(str, command)],
        stdout=subprocess.DEVNULL,
    )
    os.close(lock)
    with orphan, ended(orphan):
        wait_until((directory / "server.sock").exists, "the orphan does not start")
        with redis.Redis(unix_socket_path=str(directory / "server.sock")) as client:
            wait_until(lambda: bool(client.ping()), "the orphan does not answer")
            client.set("n", 1)
            before = run_id(client)
        with opened(directory) as client:
            assert client.incr("n") == 2
            assert run_id(client) != before
        assert orphan.wait(timeout=60) == 0


def test_ignored_and_blocked_signals_of_the_host_do_not_reach_the_server(directory: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with opened(directory) as client:
            pid = server_pid(client)
            status = Path(f"/proc/{pid}/status")
            if status.exists():
                masks = dict(line.split(":\t") for line in status.read_text().splitlines())
                assert not int(masks["SigIgn"], 16) >> (signal.SIGCHLD - 1) & 1
                assert int(masks["SigBlk"], 16) == 0
        try:
            stopped(directory)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
    finally:
        signal.signal(signal.SIGCHLD, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("name", ["x" * 120, "a b \"c\" 'd' {e} $f\n#g", "-é\u2603", "--port 1"])
def test_odd_and_long_directories(directory: Path, name: str) -> None:
    inside = directory / name
    for expected in (1, 2):
        use = EmbeddedServer.open(inside, timeout_s=60)
        with client_of(use) as client:
            assert client.incr("n") == expected
            assert client.config_get("dir")["dir"] == str(inside)
        long = len(os.fsencode(inside)) > 90
        assert (use.socket_path.parent != inside) == long
        assert stat.S_IMODE(use.socket_path.parent.stat().st_mode) == 0o700
        use.close()
        stopped(inside)
        if long:
            wait_until(lambda use=use: not use.socket_path.parent.exists(), "scratch is left")


def test_scratch_of_a_killed_server_is_removed(directory: Path) -> None:
    inside = directory / ("x" * 120)
    use = EmbeddedServer.open(inside, timeout_s=60)
    with client_of(use) as client:
        supervisor = os.getpgid(server_pid(client))
        server = server_pid(client)
    os.kill(supervisor, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    stopped(inside)
    left = use.socket_path.parent
    assert left.exists()
    with opened(inside) as client:
        assert client.ping()
        assert not left.exists()
    use.close()
