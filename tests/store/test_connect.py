"""Opening a store: what is refused and why, and that no password shows."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from redis.retry import Retry

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from banditcore.store.connect import Store, connect, translating
from banditcore.store.embedded.data_directory import is_locked
from banditcore.store.servers.transport import Command
from refusals import CANARY, refused
from servers import (
    RunningServer,
    binaries,
    certificates,
    free_port,
    info_reply,
    running_server,
    scripted_server,
    wait_until,
)

WRONG = "wr0ng-Canary"


def with_login(server: RunningServer, login: str) -> str:
    return f"unix://{login}@{server.socket_path}"


def test_any_server_is_opened_ready(one_server: Store) -> None:
    client = one_server.client
    assert client.set("k", b"\xff\x00")
    assert client.get("k") == b"\xff\x00"
    with connect(one_server.url) as by_default:
        settings = by_default.client.connection_pool.connection_kwargs
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
        assert default.url == f"embedded://{directory}/banditcore/default"
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
    wait_until(lambda: not is_locked(directory / "server.lock"), "it was not released")
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
    wait_until(lambda: not is_locked(directory / "server.lock"), "it was not released")


def test_nothing_there() -> None:
    with refused(StoreUnavailableError, r"cannot be reached.*check that it runs"):
        connect(f"redis://ann:{quote(CANARY, safe='')}@127.0.0.1:{free_port()}")
    with refused(StoreUnavailableError, "cannot be reached"):
        connect("unix:///nowhere/socket")
    with refused(StoreUnavailableError, "cannot be reached"):
        connect("redis://name.invalid")


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
    # By default its second port is 10,000 above the first, which may be no port at all.
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with (
        running_server(options=options, tcp=True) as server,
        refused(StoreUnfitError, r"it is part of a cluster; write redis\+cluster://"),
    ):
        connect(server.url)


@pytest.mark.parametrize("version", ["6.2.0", "2.8.19", "6.99.99", "", "unknown"])
def test_too_old(version: str) -> None:
    # No such server is installed: this one only says so.
    with (
        scripted_server({b"INFO": info_reply(redis_version=version)}) as port,
        refused(StoreUnfitError, rf"redis_version.*'?{version}'?: .*Redis 7\.0 or later"),
    ):
        connect(f"redis://127.0.0.1:{port}")


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "10.0.1"])
def test_new_enough(version: str) -> None:
    with scripted_server({b"INFO": info_reply(redis_version=version)}) as port:
        connect(f"redis://127.0.0.1:{port}").close()


def test_a_sentinel() -> None:
    with (
        scripted_server({b"INFO": info_reply(redis_mode="sentinel")}) as port,
        refused(StoreUnfitError, "sentinel holds no data"),
    ):
        connect(f"redis://127.0.0.1:{port}")


def test_loading(directory: Path) -> None:
    slow = {"appendonly": "yes", "dir": str(directory)}
    directory.mkdir()
    with running_server(options=slow) as server, connect(server.url) as store:
        store.client.mset({f"k{i}": b"x" for i in range(40_000)})
        store.client.bgrewriteaof()
        wait_until(lambda: not _rewriting(store), "no rewrite")
        store.client.shutdown()
    # Half a millisecond or so for every key (the server answers between batches of them), so
    # that it loads for twenty seconds if it is not told otherwise.
    slow["key-load-delay"] = "500"
    slow["loading-process-events-interval-bytes"] = "1024"
    with running_server(options=slow, until=(b"-LOADING",)) as server:
        with refused(StoreUnavailableError, "is still loading its data"):
            connect(server.url, timeout_s=1.0)
        with redis.Redis(unix_socket_path=str(server.socket_path), socket_timeout=60) as client:
            client.config_set("key-load-delay", 0)
        with connect(server.url, timeout_s=60) as store:
            assert store.client.dbsize() == 40_000


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


def test_threads_share_a_store(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.client.incr("n"), range(400)))
    assert store.client.get("n") == b"400"


def test_forked_processes_share_a_store(any_store: Store) -> None:
    # Replies would be mixed up if parent and child spoke over one connection.
    any_store.client.set("who", "?")

    def check(name: bytes) -> None:
        for i in range(300):
            text = b"%s %d" % (name, i)
            assert any_store.replies([Command("who", ("ECHO", text))]) == [text]

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


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e18, 10**400])
def test_timeouts_that_cannot_be_used(timeout_s: object) -> None:
    with refused(InvalidValueError, "timeout_s is"):
        connect("redis://127.0.0.1:1", timeout_s=timeout_s)  # type: ignore[arg-type]  # the point


def test_a_server_that_does_not_tell_who_it_is_cannot_be_told_from_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis.Redis, "info", lambda *_: {"redis_version": "8.0.0"})
    with pytest.raises(StoreError, match="run_id"):
        store.identities()
    monkeypatch.setattr(redis.Redis, "info", lambda *_: {"run_id": "r", "master_replid": ""})
    with pytest.raises(StoreError, match="master_replid"):
        store.identities()


def test_a_process_that_was_a_replica_in_between_is_not_the_same(one_server: Store) -> None:
    """As after two failovers, the second of which leads back: what was written between is lost."""
    [before] = one_server.identities()
    assert one_server.identities() == [before]
    one_server.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    one_server.client.execute_command("REPLICAOF", "NO", "ONE")
    [after] = one_server.identities()
    assert after.partition(":")[0] == before.partition(":")[0]
    assert after != before
