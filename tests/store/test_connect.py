"""Opening a store: what is refused and why, what an error says, and that no password shows."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import exceptions
from redis.retry import Retry

from banditcore.errors import (
    BanditCoreError,
    InvalidTypeError,
    InvalidValueError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from banditcore.store.connect import Store, connect, translated, translating
from banditcore.store.embedded import _is_locked
from servers import (
    RunningServer,
    binaries,
    certificates,
    free_port,
    running_server,
    scripted_server,
    wait_until,
)

CANARY = "s3/c:r@e?t#%Canary"
WRONG = "wr0ng-Canary"


@contextmanager
def refused(kind: type[BanditCoreError], match: str) -> Iterator[None]:
    """Expect exactly `kind` with one line that matches, and no password anywhere in its chain."""
    with pytest.raises(kind, match=match) as caught:
        yield
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    _assert_no_canary(caught.value)


def _assert_no_canary(error: BaseException) -> None:
    link: BaseException | None = error
    while link is not None:
        assert "anary" not in f"{link} {link!r} {link.args}"
        link = link.__cause__ or link.__context__
    assert "anary" not in "".join(
        line for line in traceback.format_exception(error) if not line.startswith("  File")
    )


def with_login(server: RunningServer, login: str) -> str:
    return f"unix://{login}@{server.socket_path}"


def test_any_server_is_opened_ready(any_store: Store) -> None:
    client = any_store.client
    assert client.set("k", b"\xff\x00")
    assert client.get("k") == b"\xff\x00"
    settings = client.connection_pool.connection_kwargs
    assert isinstance(settings["retry"], Retry)
    assert settings["retry"].get_retries() == 0
    assert settings["socket_timeout"] == settings["socket_connect_timeout"] == 5.0
    assert settings["health_check_interval"] == 0
    assert "Hiredis" in type(client.connection_pool.get_connection()._parser).__name__


def test_server_time(any_store: Store) -> None:
    before = time.time()
    now = any_store.server_time()
    after = time.time()
    assert before - 1e-3 <= now <= after + 1e-3  # one machine, one clock; microsecond steps
    assert len({any_store.server_time() for _ in range(5)}) == 5  # fractions are kept


def test_tcp_and_databases() -> None:
    with running_server(tcp=True) as server:
        url = f"redis://127.0.0.1:{server.port}"
        with connect(url) as zero, connect(f"{url}/3") as three:
            assert three.client.set("k", 1)
            assert zero.client.get("k") is None
            assert three.client.connection_pool.connection_kwargs["db"] == 3
            with connect(three.url) as again:
                assert again.client.get("k") == b"1"
        with refused(StoreError, "out of range"):
            connect(f"{url}/999")


def test_default_is_the_variable_then_an_embedded_server(
    store: Store, monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setenv("BANDITCORE_URL", store.url)
    with connect() as named:
        assert named.url == store.url
    monkeypatch.delenv("BANDITCORE_URL")
    monkeypatch.setenv("XDG_DATA_HOME", str(directory))
    with connect() as default:
        assert default.url == f"embedded://{directory}/banditcore"
        assert default.client.set("k", 1)
        with connect(default.url) as joined:
            assert joined.client.get("k") == b"1"
    assert not default.url.endswith("/")
    monkeypatch.setenv("BANDITCORE_URL", "")
    with refused(InvalidValueError, "no scheme"):
        connect()


def test_close_releases_an_embedded_server(directory: Path) -> None:
    store = connect(f"embedded://{directory}")
    store.close()
    store.close()
    wait_until(lambda: not _is_locked(directory / "server.lock"), "it was not released")
    with refused(StoreError, "is closed"):
        store.client.ping()
    with refused(StoreError, "is closed"):
        store.server_time()


def test_an_unfit_embedded_server_is_released(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evicting = tmp_path / "server"
    evicting.write_text(
        f'#!/bin/sh\nexec {binaries()["valkey"]} "$@" --maxmemory-policy allkeys-lru\n'
    )
    evicting.chmod(0o755)
    monkeypatch.setenv("BANDITCORE_SERVER", str(evicting))
    with refused(StoreUnfitError, "allkeys-lru"):
        connect(f"embedded://{directory}")
    wait_until(lambda: not _is_locked(directory / "server.lock"), "it was not released")


def test_nothing_there() -> None:
    with refused(StoreUnavailableError, r"cannot be reached.*check that it runs"):
        connect(f"redis://ann:{quote(CANARY, safe='')}@127.0.0.1:{free_port()}")
    with refused(StoreUnavailableError, "cannot be reached"):
        connect("unix:///nowhere/socket")
    with refused(StoreUnavailableError, "cannot be reached"):
        connect("redis://name.invalid")


def test_a_hung_server_is_given_up_in_time() -> None:
    with running_server() as server, connect(server.url, timeout_s=0.1) as store:
        os.kill(server.process.pid, signal.SIGSTOP)
        with refused(StoreUnavailableError, "did not answer in time"):
            connect(server.url, timeout_s=0.1)
        with refused(StoreUnavailableError, "did not answer in time"):
            store.server_time()
        os.kill(server.process.pid, signal.SIGCONT)
        assert store.server_time() > 0


def test_an_increment_is_never_sent_twice() -> None:
    with running_server() as server, connect(server.url, timeout_s=0.1) as store:
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailableError), translating(store):
            store.client.incr("n")
        os.kill(server.process.pid, signal.SIGCONT)
        wait_until(lambda: store.client.get("n") is not None, "the first one is lost")
        assert store.client.get("n") == b"1"


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_passwords(kind: str) -> None:
    if kind not in binaries():
        pytest.skip(f"no {kind} server is installed")
    encoded = quote(CANARY, safe="")
    with running_server(kind, {"requirepass": CANARY}) as server:
        with refused(StoreUnfitError, r"needs a password: put it into the url"):
            connect(server.url)
        with refused(StoreUnfitError, "refuses this user name or password"):
            connect(with_login(server, f":{WRONG}"))
        with refused(StoreUnfitError, "refuses this user name or password"):
            connect(with_login(server, f"nobody:{encoded}"))
        for login in (f":{encoded}", f"default:{encoded}"):
            with connect(with_login(server, login)) as store:
                assert store.client.ping()
                for text in (repr(store), str(store), f"{store}", repr(store.client)):
                    assert "anary" not in text
                assert encoded in store.url
                with connect(store.url) as again:
                    assert again.client.ping()


def test_acl_denies(store: Store) -> None:
    path = store.address.path
    rules = {"blind": "+ping", "reader": "+info +time +get ~bc:*"}
    for user, rule in rules.items():
        words = ["reset", "on", f">{CANARY}", *rule.split()]
        store.client.execute_command("ACL", "SETUSER", user, *words)
    try:
        encoded = quote(CANARY, safe="")
        with refused(StoreUnfitError, r"does not permit.*info.*extend the user's ACL"):
            connect(f"unix://blind:{encoded}@{path}")
        with connect(f"unix://reader:{encoded}@{path}") as reader:
            assert reader.server_time() > 0
            with refused(StoreUnfitError, "does not permit"), translating(reader):
                reader.client.set("bc:k", 1)
            with refused(StoreUnfitError, "does not permit"), translating(reader):
                reader.client.get("other")
    finally:
        store.client.execute_command("ACL", "DELUSER", *rules)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_evicting(any_store: Store, policy: str) -> None:
    any_store.client.config_set("maxmemory-policy", policy)
    try:
        with refused(StoreUnfitError, f"{policy}.*CONFIG SET maxmemory-policy noeviction"):
            connect(any_store.url)
    finally:
        any_store.client.config_set("maxmemory-policy", "noeviction")
    connect(any_store.url).close()


def test_a_replica() -> None:
    with (
        running_server(options={"replicaof": f"127.0.0.1 {free_port()}"}) as server,
        refused(StoreUnfitError, r"role.*'slave'.*connect to its primary"),
    ):
        connect(server.url)


def test_a_cluster_node() -> None:
    with (
        running_server(options={"cluster-enabled": "yes"}, tcp=True) as server,
        refused(StoreUnfitError, "does not support a cluster yet"),
    ):
        connect(server.url)


def _info(**changes: str) -> bytes:
    facts = {
        "redis_version": "7.0.0",
        "redis_mode": "standalone",
        "loading": "0",
        "role": "master",
        "cluster_enabled": "0",
        "maxmemory_policy": "noeviction",
    } | changes
    text = "".join(f"{name}:{value}\r\n" for name, value in facts.items()).encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


@pytest.mark.parametrize("version", ["6.2.0", "2.8.19", "6.99.99", "", "unknown"])
def test_too_old(version: str) -> None:
    # No such server is installed: this one only says so.
    with (
        scripted_server({b"INFO": _info(redis_version=version)}) as port,
        refused(StoreUnfitError, rf"redis_version.*'?{version}'?: .*Redis 7\.0 or later"),
    ):
        connect(f"redis://127.0.0.1:{port}")


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "10.0.1"])
def test_new_enough(version: str) -> None:
    with scripted_server({b"INFO": _info(redis_version=version)}) as port:
        connect(f"redis://127.0.0.1:{port}").close()


def test_a_sentinel() -> None:
    with (
        scripted_server({b"INFO": _info(redis_mode="sentinel")}) as port,
        refused(StoreUnfitError, "sentinel holds no data"),
    ):
        connect(f"redis://127.0.0.1:{port}")


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
    _assert_no_canary(caught.value)


def test_passwords_are_removed_from_the_whole_chain() -> None:
    encoded = quote(CANARY, safe="")
    error = exceptions.ConnectionError(f"read from {CANARY}", CANARY.encode())
    error.__cause__ = OSError(5, f"no {encoded}", f"/{CANARY}")
    error.__cause__.__context__ = ValueError(CANARY, [CANARY])
    with (
        scripted_server({b"INFO": _info()}) as port,
        connect(f"redis://ann:{encoded}@127.0.0.1:{port}") as store,
        pytest.raises(StoreError) as caught,
        translating(store),
    ):
        raise error
    _assert_no_canary(caught.value)
    assert "read from ***" in str(caught.value)
    assert str(error.__cause__) == "[Errno 5] no ***: '/***'"


def test_loading(directory: Path) -> None:
    slow = {"appendonly": "yes", "dir": str(directory)}
    directory.mkdir()
    with running_server(options=slow) as server, connect(server.url) as store:
        store.client.mset({f"k{i}": b"x" for i in range(4000)})
        store.client.bgrewriteaof()
        wait_until(lambda: not _rewriting(store), "no rewrite")
        store.client.shutdown()
    # A millisecond or so for every key (the server answers between batches of them).
    slow["key-load-delay"] = "500"
    slow["loading-process-events-interval-bytes"] = "1024"
    with running_server(options=slow, until=(b"-LOADING",)) as server:
        with refused(StoreUnavailableError, "is still loading its data"):
            connect(server.url, timeout_s=0.1)
        with connect(server.url, timeout_s=30) as store:
            assert store.client.dbsize() == 4000


def _rewriting(store: Store) -> bool:
    facts = store.client.info("persistence")
    return bool(facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])


@pytest.mark.skipif("redis" not in binaries(), reason="needs a server built with TLS")
def test_tls() -> None:
    with (
        certificates() as files,
        running_server("redis", files | {"tls-auth-clients": "no"}, tls=True) as server,
    ):
        url = f"rediss://127.0.0.1:{server.tls_port}"
        trusted = f"ssl_ca_certs={quote(files['tls-ca-cert-file'])}"
        with connect(f"{url}?{trusted}") as store:
            assert store.client.set("k", 1)
            for _ in range(40):  # unread session tickets made most of these fail
                with connect(store.url) as again:
                    assert again.client.get("k") == b"1"
        with refused(StoreUnavailableError, "CERTIFICATE_VERIFY_FAILED"):
            connect(url)  # an authority that nobody told us to trust
        named = f"rediss://localhost:{server.tls_port}?{trusted}"
        with refused(StoreUnavailableError, "Hostname mismatch|not valid for"):
            connect(named)  # the certificate is for 127.0.0.1
        with connect(f"{named}&ssl_check_hostname=no") as store:
            assert store.client.get("k") == b"1"
        with connect(f"{url}?ssl_cert_reqs=none") as store:
            assert store.client.get("k") == b"1"
        with refused(StoreUnavailableError, "cannot be reached"):
            connect(f"redis://127.0.0.1:{server.tls_port}", timeout_s=2)


@pytest.mark.skipif("redis" not in binaries(), reason="needs a server built with TLS")
def test_tls_with_a_client_certificate() -> None:
    with certificates() as files, running_server("redis", files, tls=True) as server:
        url = (
            f"rediss://127.0.0.1:{server.tls_port}?ssl_ca_certs={files['tls-ca-cert-file']}"
            f"&ssl_certfile={files['tls-cert-file']}&ssl_keyfile={files['tls-key-file']}"
        )
        connect(url).close()
        with refused(StoreUnavailableError, "cannot be reached"):
            connect(url.partition("&")[0])


def test_out_of_memory(any_store: Store) -> None:
    any_store.client.config_set("maxmemory", 1)
    try:
        with refused(StoreUnfitError, "out of memory"), translating(any_store):
            any_store.client.set("k", 1)
    finally:
        any_store.client.config_set("maxmemory", 0)


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


def test_threads_share_a_store(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.client.incr("n"), range(400)))
    assert store.client.get("n") == b"400"


def test_forked_processes_share_a_store(store: Store) -> None:
    # Replies would be mixed up if parent and child spoke over one connection.
    store.client.set("who", "?")

    def check(name: bytes) -> None:
        for i in range(300):
            assert store.client.echo(b"%s %d" % (name, i)) == b"%s %d" % (name, i)

    children = [
        multiprocessing.get_context("fork").Process(target=check, args=(name,))
        for name in (b"a", b"b")
    ]
    for child in children:
        child.start()
    check(b"parent")
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]


def test_pickling_is_refused_without_the_password(store: Store) -> None:
    with refused(InvalidTypeError, r"pass store\.url and connect"):
        pickle.dumps(store)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "5", None])
def test_timeouts_that_cannot_be_used(timeout_s: object) -> None:
    with refused(InvalidValueError, "timeout_s is"):
        connect("redis://127.0.0.1:1", timeout_s=timeout_s)  # type: ignore[arg-type]  # the point
