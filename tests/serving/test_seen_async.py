"""Recommenders with frequency caps under asyncio."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from banditcore.metrics import BaseMetrics, SnapshotState
from banditcore.serving import Recommender
from banditcore.serving.aside import run_aside
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from proxy import proxy_before
from published import NOW, capped, snapshot, warm
from servers import RunningServer, binaries, certificates, running_server, wait_until


@pytest.fixture
def server() -> Iterator[RunningServer]:
    with running_server("valkey") as running:
        yield running


def test_it_answers_as_without_a_loop(any_store: Store, patient: None) -> None:
    async def main() -> None:
        async with capped(any_store) as r:
            first = await r.recommend_async("IN", 10, user="u", now=NOW)
            assert first.arms == r.recommend("IN", 10, user="u", now=NOW).arms
            assert await r.mark_seen_async("u", first.arms, now=NOW)
            for answer in (
                await r.recommend_async("IN", 30, user="u", now=NOW),
                r.recommend("IN", 30, user="u", now=NOW),
            ):
                assert len(answer.arms) == 20
                assert set(first.arms).isdisjoint(answer.arms)
                assert answer.degraded == ()
            assert len((await r.recommend_async("IN", 30, now=NOW)).arms) == 30

    asyncio.run(main())


def test_many_at_once_each_get_their_own(server: RunningServer, patient: None) -> None:
    async def main(store: Store) -> None:
        async with capped(store) as marking:
            stored = await asyncio.gather(
                *(marking.mark_seen_async(f"u{i}", [f"IN:{i % 30}"], now=NOW) for i in range(300))
            )
            assert all(stored)
        async with capped(store) as r:  # knows nothing but what the store has
            answers = await asyncio.gather(
                *(r.recommend_async("IN", 30, user=f"u{i}", now=NOW) for i in range(300))
            )
        for i, answer in enumerate(answers):
            assert set(snapshot("IN").arms) - set(answer.arms) == {f"IN:{i % 30}"}
            assert answer.degraded == ()

    with connect(server.url) as store:
        asyncio.run(main(store))


def test_one_recommender_serves_many_loops_and_threads(
    server: RunningServer, patient: None
) -> None:
    wrong: list[object] = []

    async def one(r: Recommender, user: str) -> None:
        for _ in range(50):
            answer = await r.recommend_async("IN", 30, user=user, now=NOW)
            if set(snapshot("IN").arms) - set(answer.arms) != {f"IN:{user}"} or answer.degraded:
                wrong.append(answer)

    with connect(server.url) as store:
        with capped(store) as marking:
            for user in "01234567":
                marking.mark_seen(user, [f"IN:{user}"], now=NOW)
        with capped(store) as r:
            threads = [
                threading.Thread(target=lambda user=user: asyncio.run(one(r, user)))
                for user in "01234567"
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert wrong == []


def test_a_reply_after_cancelling_is_nobody_elses(server: RunningServer, patient: None) -> None:
    released = threading.Event()

    async def main(r: Recommender, key: bytes) -> None:
        for _ in range(5):
            released.clear()
            proxy.before_next_request(key, lambda: released.wait(60) and None)
            asking = asyncio.create_task(r.recommend_async("IN", 30, user="late", now=NOW))
            before = proxy.requests(key)
            while proxy.requests(key) == before:
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            # The late reply comes while the next is waited for.
            asyncio.get_running_loop().call_later(0.05, released.set)
            for _ in range(5):
                answer = await r.recommend_async("IN", 30, user="other", now=NOW)
                assert set(snapshot("IN").arms) - set(answer.arms) == {"IN:5"}
                assert answer.degraded == ()

    with proxy_before(server.socket_path) as proxy, connect(proxy.url) as store:
        with capped(store) as marking:
            marking.mark_seen("late", ["IN:3"], now=NOW)
            marking.mark_seen("other", ["IN:5"], now=NOW)
        with capped(store) as r:
            asyncio.run(main(r, keys.seen("home", "late").encode()))


def test_a_cancelled_mark_is_sent_all_the_same(server: RunningServer, patient: None) -> None:
    async def main(r: Recommender) -> None:
        key = keys.seen("home", "u").encode()
        proxy.swallow_next_request(key)
        marking = asyncio.create_task(r.mark_seen_async("u", ["IN:3"], now=NOW))
        while not proxy.requests(key):
            await asyncio.sleep(0)
        marking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await marking

    with proxy_before(server.socket_path) as proxy, connect(proxy.url) as store:
        with capped(store) as r:
            asyncio.run(main(r))
            wait_until(lambda: r.seen_stats.unsent == 0, "it is not sent")
        with capped(store) as other:
            assert "IN:3" not in other.recommend("IN", 30, user="u", now=NOW).arms


def test_a_server_that_hangs_does_not_block_the_loop(server: RunningServer) -> None:
    async def main(r: Recommender) -> None:
        server.process.send_signal(signal.SIGSTOP)
        steps = 0

        async def step() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        stepping = asyncio.create_task(step())
        answers = await asyncio.gather(
            *(r.recommend_async("IN", user=f"u{i}", now=NOW) for i in range(20))
        )
        assert {answer.degraded for answer in answers} == {("seen",)}
        assert steps > 20  # others went on while these waited
        stepping.cancel()
        assert not await r.mark_seen_async("u", ["IN:3"], now=NOW)
        server.process.send_signal(signal.SIGCONT)

    with connect(server.url) as store, capped(store) as r:
        try:
            asyncio.run(main(r))
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_a_trickle_is_given_up(server: RunningServer, patient: None) -> None:
    async def main(r: Recommender) -> None:
        proxy.trickle(0.004)
        answer = await r.recommend_async("IN", 30, user="u", now=NOW)
        assert (len(answer.arms), answer.degraded) == (30, ("seen",))
        assert r.seen_stats is not None
        assert r.seen_stats.failures == {"timeout": 1}

    with proxy_before(server.socket_path) as proxy, connect(proxy.url) as store:
        with capped(store) as marking:
            marking.mark_seen("u", [f"IN:{i}" for i in range(30)], now=NOW)
        with capped(store, budget=0.3) as r:
            asyncio.run(main(r))


@pytest.mark.skipif("redis" not in binaries(), reason="no server that speaks TLS is installed")
def test_over_tls(patient: None) -> None:
    own = {"tls-auth-clients": "no"}
    with certificates() as tls, running_server("redis", tls | own, tls=True) as secure:
        url = f"rediss://127.0.0.1:{secure.tls_port}?ssl_ca_certs={tls['tls-ca-cert-file']}"

        async def main(store: Store) -> None:
            async with capped(store) as r:
                assert await r.mark_seen_async("u", ["IN:3"], now=NOW)
                for _ in range(20):
                    answer = await r.recommend_async("IN", 30, user="u", now=NOW)
                    assert answer.degraded == ()
                    assert "IN:3" not in answer.arms
                assert r.recommend("IN", 30, user="u", now=NOW).degraded == ()

        with connect(url) as store:
            asyncio.run(main(store))


def test_closing_leaves_nothing(server: RunningServer, patient: None) -> None:
    with connect(server.url) as store:

        async def main() -> None:
            r = capped(store)
            await asyncio.gather(
                *(r.recommend_async("IN", user=f"u{i}", now=NOW) for i in range(50))
            )
            await r.aclose()
            await r.aclose()

        asyncio.run(main())
        before, files = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            asyncio.run(main())
        # The thread that closes ends after it has said so.
        wait_until(lambda: set(threading.enumerate()) <= before, "a thread is left")
        assert len(list(Path("/proc/self/fd").iterdir())) <= files


class Gate(BaseMetrics):
    """Holds up whoever tells it of snapshots, once it is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def snapshots(self, bandit: str, held: Mapping[str, SnapshotState]) -> None:
        self.entered.set()
        assert self.open.wait(60)


def test_closing_that_is_cancelled_ends_without_the_loop(store: Store) -> None:
    before = set(threading.enumerate())
    gate = Gate()
    r = warm(store, snapshot("IN"), metrics=gate)
    gate.open.clear()
    gate.entered.clear()

    async def main() -> None:
        closing = asyncio.create_task(r.aclose())
        while not gate.entered.is_set():
            await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        # Were the loop held up until the closing ends, nobody would ever let it end.
        assert [t.name for t in threading.enumerate() if t not in before] == [
            "banditcore-close-home"
        ]

    asyncio.run(main())
    gate.open.set()  # after the loop
    wait_until(lambda: set(threading.enumerate()) <= before, "a thread is left")
    assert "closed" in repr(r)


def test_an_error_of_what_runs_aside_is_raised() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await run_aside(fail, "failing")

    asyncio.run(main())


def test_in_a_fastapi_service(server: RunningServer, patient: None) -> None:
    fastapi = pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")

    async def main(store: Store) -> None:
        app = fastapi.FastAPI()
        async with capped(store) as r:

            @app.get("/{user}")
            async def slate(user: str) -> dict[str, object]:
                answer = await r.recommend_async("IN", 3, user=user, now=NOW)
                is_stored = await r.mark_seen_async(user, answer.arms, now=NOW)
                return {"arms": answer.arms, "degraded": answer.degraded, "stored": is_stored}

            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                for page in range(3):
                    replies = await asyncio.gather(*(client.get(f"/u{i}") for i in range(40)))
                    for i, reply in enumerate(replies):
                        found = reply.json()
                        assert (found["degraded"], found["stored"]) == ([], True)
                        assert not shown[i] & set(found["arms"]), page
                        shown[i] |= set(found["arms"])

    shown: list[set[str]] = [set() for _ in range(40)]
    with connect(server.url) as store:
        asyncio.run(main(store))
    assert {len(arms) for arms in shown} == {9}
