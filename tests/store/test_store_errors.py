"""What an open store's errors say, that no password shows, and that nothing is sent twice."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import exceptions

from banditcore.errors import (
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from banditcore.store.connect import Store, connect, translated, translating
from banditcore.store.servers.transport import Conversation
from refusals import CANARY, assert_no_canary, refused
from servers import (
    free_port,
    info_reply,
    patiently,
    running_server,
    scripted_server,
    wait_until,
)


def test_a_hung_server_is_given_up_in_time() -> None:
    with (
        running_server() as server,
        patiently(lambda: connect(server.url, timeout_s=0.1)) as store,
    ):
        os.kill(server.process.pid, signal.SIGSTOP)
        with refused(StoreUnavailableError, "did not answer in time"):
            connect(server.url, timeout_s=0.1)
        with refused(StoreUnavailableError, "did not answer in time"):
            store.server_time()
        os.kill(server.process.pid, signal.SIGCONT)
        assert patiently(store.server_time) > 0


def test_a_reply_that_nobody_reads_is_nobody_elses() -> None:
    with running_server() as server, connect(server.url) as store:
        os.kill(server.process.pid, signal.SIGSTOP)
        with Conversation(store.server("")) as broken_off:
            broken_off.write([("ECHO", "old")])
        with Conversation(store.server("")) as conversation:
            conversation.write([("ECHO", "new")])
            os.kill(server.process.pid, signal.SIGCONT)
            assert conversation.read() == [b"new"]


def test_an_increment_is_never_sent_twice() -> None:
    with (
        running_server() as server,
        connect(server.url, timeout_s=60) as patient,
        patiently(lambda: connect(server.url, timeout_s=0.1)) as store,
    ):
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailableError), translating(store):
            store.client.incr("n")
        os.kill(server.process.pid, signal.SIGCONT)
        wait_until(lambda: patient.client.get("n") is not None, "the first one is lost")
        assert patient.client.get("n") == b"1"


@pytest.mark.parametrize(
    "reply",
    [
        "-ERR unknown command 'AUTH', with args beginning with: 'ann' '{}'",
        "-ERR odd {}",
        "-WRONGPASS {}",
        "-NOPERM {}",
        "-NOAUTH {}",
        "-LOADING {}",
    ],
)
def test_a_server_that_repeats_the_password(reply: str) -> None:
    text = reply.format(CANARY).encode() + b"\r\n"
    with scripted_server({b"AUTH": text}) as port, pytest.raises(StoreError) as caught:
        connect(f"redis://ann:{quote(CANARY, safe='')}@127.0.0.1:{port}")
    assert_no_canary(caught.value)


def test_passwords_are_removed_from_the_whole_chain() -> None:
    encoded = quote(CANARY, safe="")
    error = exceptions.ConnectionError(f"read from {CANARY}", CANARY.encode())
    error.__cause__ = OSError(5, f"no {encoded}", f"/{CANARY}")
    error.__cause__.__context__ = ValueError(CANARY, [CANARY])
    with (
        scripted_server({b"INFO": info_reply()}) as port,
        connect(f"redis://ann:{encoded}@127.0.0.1:{port}") as store,
        pytest.raises(StoreError) as caught,
        translating(store),
    ):
        raise error
    assert_no_canary(caught.value)
    assert "read from ***" in str(caught.value)
    assert str(error.__cause__) == "[Errno 5] no ***: '/***'"


def test_out_of_memory(any_store: Store) -> None:
    servers = any_store.servers().values()
    for server in servers:
        server.config_set("maxmemory", 1)
    try:
        with refused(StoreUnfitError, "out of memory"), translating(any_store):
            any_store.client.set("k", 1)
    finally:
        for server in servers:
            server.config_set("maxmemory", 0)


def test_a_primary_that_becomes_a_replica() -> None:
    with running_server() as server, connect(server.url) as store:
        store.client.replicaof("127.0.0.1", free_port())
        with refused(StoreUnfitError, "read-only replica"), translating(store):
            store.client.set("k", 1)


def test_a_disk_that_is_gone() -> None:
    with (
        running_server(options={"save": "3600 1", "enable-protected-configs": "yes"}) as server,
        connect(server.url) as store,
    ):
        gone = Path(tempfile.mkdtemp(prefix="bct"))  # a server that sits in a removed directory
        store.client.config_set("dir", str(gone))
        shutil.rmtree(gone)
        store.client.set("k", 1)
        store.client.bgsave()
        wait_until(
            lambda: store.client.info("persistence")["rdb_last_bgsave_status"] == "err", "saved"
        )
        with refused(StoreUnfitError, "cannot save to disk"), translating(store):
            store.client.set("k", 2)


def test_other_refusals(store: Store) -> None:
    with refused(StoreError, "lost a script"), translating(store):
        store.client.evalsha("0" * 40, 0)
    with refused(StoreError, r"refused a command \(unknown command"), translating(store):
        store.client.execute_command("NONSENSE")
    store.client.set("k", "text")
    with refused(StoreError, "WRONGTYPE"), translating(store):
        store.client.hgetall("k")
    pipeline = store.client.pipeline(transaction=False).hgetall("k").get("k")
    replies = pipeline.execute(raise_on_error=False)
    assert type(translated(replies[0], store)) is StoreError
    assert replies[1] == b"text"


def test_only_errors_of_the_store_are_translated(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), translating(store):
        _ = 1 // 0
    with pytest.raises(StoreError) as caught, translating(store):
        raise exceptions.ResponseError("ERR some text")
    assert isinstance(caught.value.__cause__, exceptions.ResponseError)


def test_a_server_that_goes_away() -> None:
    with running_server() as server, connect(server.url) as store:
        server.process.kill()
        server.process.wait()
        with refused(StoreUnavailableError, "cannot be reached"):
            store.server_time()
