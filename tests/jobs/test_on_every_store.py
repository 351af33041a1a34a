"""The whole way from events to answers, on one server, on a cluster and behind sentinels."""

from __future__ import annotations

import json
import multiprocessing as mp
import random
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from urllib.parse import quote

import pytest

from banditcore import Bandit, Recommender
from banditcore.cli.app import main
from banditcore.store import publish
from banditcore.store.connect import Store, connect
from bandits import table
from refusals import CANARY

SEGMENTS = [f"IN/{i}" for i in range(30)]
TREE = sorted(["", "IN", *SEGMENTS])  # they fall on all three primaries of the test's cluster


@pytest.fixture(params=["cluster", "sentinel"])
def several(request: pytest.FixtureRequest, fleet) -> Store:
    """An empty store on more than one server; `any_store` has the single ones."""
    with connect(fleet[request.param].url) as store:
        for client in store.servers().values():
            client.flushall()
        yield store


def test_worker_processes_publish_what_recommenders_answer(several):
    bandit = Bandit("home", several)
    events = {"segment": SEGMENTS, "arm": [f"best of {path}" for path in SEGMENTS]}
    assert bandit.record_batch(events | {"reward": [1] * 30}, batch_id="1").applied == 30
    with (
        ProcessPoolExecutor(2, mp.get_context("spawn")) as pool,
        Recommender(bandit, poll_s=None) as recommender,
    ):
        report = bandit.refresh(executor=pool, slates=8, depth=3)
        assert (sorted(report.published), report.failed) == (TREE, {})
        recommender.warm_up()
        assert recommender.ready
        first = {path: recommender.recommend(path, 1) for path in SEGMENTS}
        assert {path: answer.arms for path, answer in first.items()} == {
            path: (f"best of {path}",) for path in SEGMENTS
        }
        assert recommender.recommend("IN", 40).arms != ()
        bandit.refresh(executor=pool, slates=8, depth=3)
        assert sorted(recommender.reload()) == TREE
        assert recommender.recommend("IN/3", 1).version > first["IN/3"].version


def test_shuffled_and_repeated_events_of_many_writers_count_once(any_store):
    rng = random.Random(3)
    events = [(rng.choice(SEGMENTS), rng.choice("abc"), str(i)) for i in range(600)]
    expected: dict[str, Counter[str]] = {path: Counter() for path in SEGMENTS}
    for path, arm, _ in events:
        expected[path][arm] += 1

    def write(seed: int) -> int:
        mine = events.copy()
        random.Random(seed).shuffle(mine)
        bandit, applied = Bandit("home", any_store), 0
        for first in range(0, len(mine), 100):
            segments, arms, ids = zip(*mine[first : first + 100], strict=True)
            batch = {"segment": segments, "arm": arms, "reward": [1] * 100, "event_id": ids}
            report = bandit.record_batch(batch)
            assert report.applied + report.duplicate == 100
            applied += report.applied
        return applied

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(write, range(3))) == 600
    bandit = Bandit("home", any_store)
    counted = {path: table(bandit.counts(path)) for path in SEGMENTS}
    assert counted == {
        path: {arm: (float(n), float(n)) for arm, n in arms.items()}
        for path, arms in expected.items()
    }


def test_blobs_are_whole_and_never_older(any_store):
    done = threading.Event()

    def blob(version: int) -> bytes:
        head = b"BCSL" + bytes(4) + version.to_bytes(8, "little") + bytes(16)
        return head + bytes([version % 251]) * 200_000

    def write(first: int) -> None:
        for version in range(first, 60, 2):  # two writers race: odd versions against even ones
            publish.publish(any_store, "home", "IN", blob(version), version)

    def read() -> list[int]:
        seen = []
        while not done.is_set():
            [found] = publish.fetch(any_store, "home", ["IN"])
            if found:
                seen.append(int.from_bytes(found[8:16], "little"))
                assert found == blob(seen[-1])
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            list(pool.map(write, [1, 2]))
        finally:
            done.set()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen)
    assert publish.headers(any_store, "home", ["IN"]) == [blob(59)[:32]]


def test_odd_ids_reach_their_own_counts_only(any_store):
    odd = ["a", "{a}", "a:b", "a\nb", "a\x00", "}{", "é" * 128, "bc:{x}:s"]
    for name in odd:
        bandit = Bandit(name, any_store)
        bandit.record_batch({"segment": odd, "arm": odd, "reward": [1] * len(odd)})
        bandit.record_batch({"segment": odd, "arm": ["b" + name[:9]] * len(odd), "reward": [0] * 8})
    for name in odd:
        bandit = Bandit(name, any_store)
        assert bandit.segments() == sorted(odd)
        for path in odd:
            assert table(bandit.counts(path)) == {path: (1, 1), "b" + name[:9]: (1, 0)}


def test_commands_take_the_address_and_show_no_password(several, capsys):
    Bandit("home", several).record("IN", "a", reward=1)
    for server in several.servers().values():
        server.execute_command("ACL", "SETUSER", "ann", "on", f">{CANARY}", "~*", "+@all")
    scheme, _, place = several.url.partition("://")
    url = f"{scheme}://ann:{quote(CANARY, safe='')}@{place}"
    try:
        assert main(["inspect", "--json", "--url", url]) == 0
        assert "home" in json.dumps(json.loads(capsys.readouterr().out))
        assert main(["refresh", "--bandit", "home", "--url", url]) == 0
        assert "anary" not in "".join(capsys.readouterr())
        wrong = url.replace("anary@", "anary-wrong@")
        assert main(["inspect", "--url", wrong]) != 0
        said = "".join(capsys.readouterr())
        assert "refuses this user name or password" in said
        assert "anary" not in said
    finally:
        for server in several.servers().values():
            server.execute_command("ACL", "DELUSER", "ann")
