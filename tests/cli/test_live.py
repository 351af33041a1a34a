"""``banditcore inspect --live``, as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.cli.live_state import LiveReader
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.slate_format import decode_header, encode, encode_header, restamped
from banditcore.slates import SlateBank, Snapshot
from banditcore.store import keys, monitoring
from banditcore.store.connect import connect
from banditcore.store.event_streams import presence
from banditcore.store.leases import bandit_lease, partition_lease
from banditcore.store.publish import publish
from bandits import everything
from published import snapshot
from servers import running_server, wait_until
from streamed import Producer, killed, packed, rows, started_again
from terminals import spawn, watched_terminal


def put(store, held: Snapshot) -> None:
    assert publish(store, "home", held.segment, encode(held), held.version)


def live(store, *more: str, **options):
    return spawn("inspect", "--live", "--url", store.url, "--interval", "0.1s", *more, **options)


def filled(store) -> Bandit:
    bandit = Bandit("home", store)
    bandit.record_batch({"segment": ["IN", "US"], "arm": ["a", "b"], "reward": [1, 0]})
    at = store.server_time() - 5400
    put(store, snapshot("IN", at=at))
    arms = ["a", "b", "c", "d"]
    bank = SlateBank(np.array([[0, 1], [1, 0]] * 4, dtype=np.int32))
    put(store, Snapshot("home", "US", int(at * 1e6), arms, np.ones(4), np.ones(4), bank))
    return bandit


def read_one(store, limit: int = 20):
    [state] = LiveReader(store, "home", limit).read()
    return state


def test_it_reads_slates_streams_workers_and_leases(store):
    filled(store)
    producer = Producer(store, of=2)
    first = producer.append(1, packed(rows(3, "X")), 3)
    second = producer.append(1, packed(rows(4, "X")), 4)
    assert monitoring.oldest_after(store, "home", {0: 0, 1: 0}) == {1: first}
    assert monitoring.oldest_after(store, "home", {1: first + 2}) == {1: second}
    assert monitoring.oldest_after(store, "home", {1: second + 3}) == {}
    lease = partition_lease(store, "home", 1, ttl_s=1000)
    assert lease.acquire()
    refresh = bandit_lease(store, "home", "refresh", ttl_s=1000)
    assert refresh.acquire()
    presence.beat(store, "home", "stream", b"one", 1000)
    presence.beat(store, "home", "stream", b"two", 1000)
    before = store.server_time()
    state = read_one(store)
    after = store.server_time()
    assert [each.segment for each in state.segments] == ["", "IN", "US"]
    nothing, india, us = state.segments
    assert (nothing.version, nothing.arms, nothing.unusable) == (None, None, None)
    assert (india.arms, us.arms, us.entropy) == (30, 4, 0.5)
    assert us.effective_arms == pytest.approx(2.0)
    assert 5400 <= us.age_s < 5600
    assert state.oldest_s == us.age_s
    assert (state.segment_count, state.workers) == (3, 2)
    idle, busy = state.partitions
    assert (idle.waiting, idle.lag_s, idle.lease.owner) == (0, 0.0, None)
    assert (busy.waiting, busy.dead_letters, busy.lease.epoch) == (7, 0, lease.epoch)
    assert before <= first / 1e6 + busy.lag_s <= after
    assert 900 < busy.lease.left_s <= 1000
    assert busy.lease.owner not in {None, state.refresh.owner}
    refresh.release()
    assert read_one(store).refresh.owner is None


def test_nothing_is_changed_and_no_functions_are_loaded(store):
    filled(store)
    Producer(store, of=1).send(rows(3))
    RedisStreamSource(Bandit("home", store)).close()
    before = everything(store)
    store.client.function_flush()
    read_one(store)
    LiveReader(store, None, 1).read()
    assert everything(store) == before
    assert store.client.function_list() == []


def test_an_empty_store_and_an_empty_bandit(store):
    assert LiveReader(store, None, 5).read() == []
    state = read_one(store)
    assert (state.segments, state.partitions, state.workers, state.oldest_s) == ((), (), 0, None)


def test_blobs_are_fetched_once_and_only_those_that_are_shown(store):
    filled(store)
    reader = LiveReader(store, "home", 2)  # "" and IN
    client = store.client

    def reads() -> int:
        return client.info("commandstats")["cmdstat_getrange"]["calls"]

    def fetched() -> int:
        before = reads()
        [state] = reader.read()
        assert [each.segment for each in state.segments] == ["", "IN"]
        return reads() - before - state.segment_count  # the headers of all

    reader.read()
    client.config_resetstat()
    put(store, snapshot("IN", at=store.server_time() - 50, seed=3))
    assert fetched() == 1
    assert fetched() == 0
    blob = keys.of_segment("home", "IN").blob
    header = restamped(decode_header(client.get(blob)), int(store.server_time() * 1e6))
    client.setrange(blob, 0, encode_header(header))
    assert fetched() == 0  # the same slates
    [state] = reader.read()
    assert state.segments[1].version == header.version
    put(store, snapshot("IN", at=store.server_time(), seed=2))
    assert fetched() == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(lambda blob: b"?" * 40, "blob"), (lambda blob: blob[:-1] + b"?", "checksum")],
)
def test_damaged_slates_are_called_unusable(store, damage, reason):
    filled(store)
    key = keys.of_segment("home", "IN").blob
    store.client.set(key, damage(store.client.get(key)))
    _, india, us = read_one(store).segments
    assert reason in india.unusable
    assert (india.arms, us.arms, us.unusable) == (None, 4, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_lines_in_a_pipe_until_a_signal(store, number):
    filled(store)
    Producer(store, of=1).send(rows(3))
    with live(store, "home", stdout=-1) as process:
        lines = [process.stdout.readline() for _ in range(10)]
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert (
        lines[0] == "home: 3 segments, ancestors included, oldest 1h; 0 workers; refresh nobody's\n"
    )
    assert lines[1] == 'home "": no slates\n'
    assert lines[3].startswith("home US: version ")
    assert lines[3].endswith(" 1h old, 4 arms, entropy 0.500, 2.0 effective arms\n")
    assert re.fullmatch(r"home/0: 3 waiting, \d+s behind, 0 dead letters; nobody's\n", lines[4])
    assert lines[5] == lines[0]


def test_it_says_that_the_store_is_gone_and_goes_on_when_it_is_back(tmp_path):
    options = {"appendonly": "yes", "dir": str(tmp_path)}
    with running_server(options=options) as server, connect(server.url) as store:
        filled(store)
        with live(store, "--json", stdout=-1) as process:
            first = json.loads(process.stdout.readline())
            killed(server)
            gone = json.loads(process.stdout.readline())
            while gone["error"] is None:
                gone = json.loads(process.stdout.readline())
            with started_again(server):
                back = gone
                while back["error"] is not None:
                    back = json.loads(process.stdout.readline())
                process.terminate()
                _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    [bandit] = first["bandits"]
    assert {each["segment"] for each in bandit["segments"]} == {"", "IN", "US"}
    assert gone["bandits"] is None
    assert bandit["segments"][1]["version"] == back["bandits"][0]["segments"][1]["version"]
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("unreachable: ")
    assert lines[1] == "reachable again"


def test_a_terminal_shows_tables_that_change(store):
    bandit = filled(store)
    with (
        watched_terminal(140) as (theirs, written),
        live(store, stdout=theirs, stdin=theirs) as process,
    ):
        os.close(theirs)
        wait_until(lambda: b"effective" in written, "no table")
        bandit.record("later", "a")
        wait_until(lambda: b"later" in written, "it did not change")
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--live", "home", "IN"], "SEGMENT is"),
        (["--live", "hme"], "bandit is 'hme'"),
        (["home", "--interval", "5s"], "--interval is"),
    ],
)
def test_options_that_do_not_go_together_are_refused(store, capsys, arguments, complaint):
    filled(store)
    assert main(["inspect", "--url", store.url, *arguments]) == 2
    assert complaint in capsys.readouterr().err
