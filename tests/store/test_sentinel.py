"""Behind sentinels: whom a store speaks to, before and after the primary changes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from banditcore.bandit import Bandit
from banditcore.errors import StoreUnavailableError, StoreUnfitError
from banditcore.store import Store, connect
from bandits import table
from confirming import confirmed
from refusals import CANARY, refused
from sentinels import SERVICE, Watched, watched_servers
from servers import (
    binaries,
    certificates,
    free_port,
    patiently,
    running_server,
    wait_until,
)

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.fixture(scope="module")
def watched(fleet: object) -> Watched:
    return fleet["sentinel"]  # type: ignore[index]  # of the conftest


@pytest.fixture(params=["valkey", "redis"])
def own(request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Servers that a test may kill."""
    if request.param not in binaries():
        pytest.skip(f"no {request.param} server is installed")
    with watched_servers(request.param) as watched:
        yield watched


def test_one_sentinel_that_answers_is_enough(watched: Watched) -> None:
    last = watched.ports[-1]
    with connect(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{last}/{SERVICE}") as store:
        assert store.client.set("k", 1)
        [identity] = store.identities()
        assert identity.partition(":")[0] == store.client.info("server")["run_id"]
    with refused(StoreUnavailableError, "no sentinel names"):
        connect(f"redis+sentinel://127.0.0.1:{free_port()}/{SERVICE}")


def test_a_service_that_nobody_watches(watched: Watched) -> None:
    with refused(
        StoreUnavailableError, "no sentinel names a primary of 'other': .*no such service"
    ):
        connect(watched.url.replace(SERVICE, "other"))


def test_databases(watched: Watched) -> None:
    with connect(f"{watched.url}/3") as three, connect(watched.url) as zero:
        assert three.client.set("only in three", 1)
        assert zero.client.get("only in three") is None


def test_sentinel_addresses_are_not_mixed_up_with_servers(watched: Watched) -> None:
    with refused(StoreUnfitError, r"a sentinel holds no data; write redis\+sentinel://"):
        connect(f"redis://127.0.0.1:{watched.ports[0]}")
    with (
        running_server(tcp=True) as server,
        refused(StoreUnfitError, "is no sentinel: write redis:// in place"),
    ):
        connect(f"redis+sentinel://127.0.0.1:{server.port}/{SERVICE}")


def test_sentinels_have_a_login_of_their_own(watched: Watched) -> None:
    hosts = ",".join(f"127.0.0.1:{port}" for port in watched.ports)
    words = f"sentinel_username=ann&sentinel_password={CANARY.replace('#', '%23')}"
    url = f"redis+sentinel://{hosts}/{SERVICE}?{words.replace('%C', '%25C').replace('?t', '%3Ft')}"
    rules = re.findall(r"own .*who need `([^`]*)`", GUIDE.replace("\n", " "))
    assert rules == ["+sentinel|masters"]
    sentinels = [redis.Redis(port=port) for port in watched.ports]
    try:
        for sentinel in sentinels:
            sentinel.execute_command("ACL", "SETUSER", "ann", "on", f">{CANARY}", *rules)
        with connect(url) as store:
            assert "anary" not in repr(store)
            assert store.server_time() > 0
        with refused(StoreUnavailableError, "no sentinel names.*invalid username-password pair"):
            connect(url.replace("anary", "anary-wrong"))
    finally:
        for sentinel in sentinels:
            sentinel.execute_command("ACL", "DELUSER", "ann")
            sentinel.close()


@pytest.mark.skipif("redis" not in binaries(), reason="needs a server built with TLS")
def test_tls() -> None:
    with certificates() as files, watched_servers("redis", files) as watched:
        url = f"rediss{watched.url.removeprefix('redis')}"
        trusted = f"ssl_ca_certs={quote(files['tls-ca-cert-file'])}"
        with connect(f"{url}?{trusted}") as store:
            assert Bandit("home", store).record("IN", "a", reward=1).applied == 1
            with connect(store.url) as again:
                assert Bandit("home", again).segments() == ["IN"]
        with refused(StoreUnavailableError, "CERTIFICATE_VERIFY_FAILED"):
            connect(url)
        with refused(StoreUnavailableError, "cannot be reached"):
            connect(watched.url, timeout_s=2)


def promote(watched: Watched) -> None:
    """Let the sentinels make the replica the primary; return once all have heard of it."""
    before = watched.primary()
    with redis.Redis(port=watched.ports[0]) as sentinel:
        wait_until(lambda: _failed_over(sentinel), "the sentinels refuse")
    wait_until(lambda: watched.primary() not in {None, before}, "no failover")
    with redis.Redis(port=before) as old:
        wait_until(lambda: old.info("replication")["role"] == "slave", "it does not follow")


def _failed_over(sentinel: redis.Redis) -> bool:
    try:
        return bool(sentinel.execute_command("SENTINEL FAILOVER", SERVICE))
    except redis.exceptions.ResponseError:  # NOGOODSLAVE: it has not asked the replica yet
        return False


@pytest.mark.slow
def test_the_new_primary_must_be_fit_too(own: Watched) -> None:
    with connect(own.url) as store:
        Bandit("home", store).record("IN", "a", reward=1)
        assert store.client.wait(1, 20_000) == 1  # the replica has it
        with redis.Redis(port=own.servers[1].port) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
            promote(own)
            name = rf"maxmemory_policy.*\(node 127.0.0.1:{own.servers[1].port}\).*allkeys-lru"
            with refused(StoreUnfitError, name):
                Bandit("home", store).record("IN", "a", reward=1)
            client.config_set("maxmemory-policy", "noeviction")
        bandit = Bandit("home", store)
        bandit.record("IN", "a", reward=1)
        assert table(bandit.counts("IN")) == {"a": (2, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["asked for", "killed"])
def test_writes_go_on_at_the_new_primary_and_count_once(own: Watched, how: str) -> None:
    stop = threading.Event()

    def record(bandit: Bandit, arm: str) -> None:
        events = {"segment": ["IN"], "arm": [arm], "reward": [1]}
        assert bandit.record_batch(events, batch_id=arm).applied == 1

    def write(store: Store, writer: int) -> None:
        bandit, number = Bandit("home", store), 0
        while not stop.is_set():
            arm = f"{writer}-{number}"
            number += 1
            if confirmed(store, ["later"], partial(record, bandit, arm)) == [True]:
                safe.append(arm)

    safe: list[str] = []  # what the second server had before it became the primary
    with (
        patiently(lambda: connect(own.url, timeout_s=1.0)) as store,
        ThreadPoolExecutor(3) as pool,
    ):
        bandit = Bandit("home", store)
        [before] = patiently(store.identities)

        def number_of_arms() -> int:
            return len(patiently(lambda: bandit.counts("IN")).arms)

        writers = [pool.submit(write, store, i) for i in range(3)]
        try:
            wait_until(lambda: len(safe) > 30, "nothing is written")
            if how == "killed":
                own.servers[0].process.kill()
                own.servers[0].process.wait()
                wait_until(lambda: own.primary() not in {None, own.servers[0].port}, "no failover")
            else:
                promote(own)
            count = number_of_arms()
            wait_until(lambda: number_of_arms() > count + 30, "writes do not resume")
        finally:
            stop.set()
        for writer in writers:
            writer.result()
        counts = table(patiently(lambda: bandit.counts("IN")))
        assert set(safe) <= set(counts)
        assert set(counts.values()) == {(1.0, 1.0)}
        assert patiently(store.identities) != [before]
