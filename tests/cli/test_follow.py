"""``banditcore ingest --follow``, as a process of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
from urllib.request import urlopen

import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.store import keys
from banditcore.store.connect import connect
from servers import running_server, wait_until
from streamed import Producer, rows, stored, sums
from terminals import spawn, watched_terminal


def follow(store, *more: str, **options):
    return spawn("ingest", "--follow", "--url", store.url, *more, **options)


def wait_for(store, *producers: Producer, bandits: tuple[str, ...] = ("home",)) -> None:
    for name, producer in zip(bandits, producers, strict=True):
        wait_until(lambda n=name, p=producer: stored(store, n) == sums(p.sent), "not applied")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_applies_what_comes_until_a_signal_and_leaves_cleanly(store, number):
    producer = Producer(store)
    producer.send(rows(20))
    with follow(store, "--bandit", "home", "--report-every", "0.05s", stdout=-1) as process:
        wait_for(store, producer)
        producer.send(rows(30))
        wait_for(store, producer)
        first = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    lines = [first, *out.splitlines()]
    assert any("home/0: " in line and " 0 duplicate, 0 refused; " in line for line in lines)
    assert any(", 0 waiting, 0s behind" in line for line in lines)
    for partition in (0, 1):
        assert store.client.hget(keys.of_partition("home", partition).lease, "until") == b"0"


def test_json_is_a_document_a_line_and_all_bandits_with_streams_are_followed(store):
    names = ("home", "sale")
    producers = [Producer(store, name, of=1) for name in names]
    store.client.sadd(keys.BANDITS, "no streams")
    for producer in producers:
        producer.send(rows(7))
    with follow(store, "--json", "--report-every", "0.05s", stdout=-1) as process:
        wait_for(store, *producers, bandits=names)
        late = Producer(store, "late", of=1)
        late.send(rows(3))
        wait_for(store, late, bandits=("late",))
        lines = [process.stdout.readline()]
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    documents = [json.loads(line) for line in lines + out.splitlines()]
    assert {document["bandit"] for document in documents} == {*names, "late"}
    parts = [part for document in documents for part in document["partitions"]]
    assert {part["applied"] for part in parts} <= {0, 3, 7}
    assert {part["partition"] for part in parts} == {0}


def test_scrapes_are_answered_meanwhile(store):
    producer = Producer(store, of=1)
    producer.send(rows(8))
    more = ("--bandit", "home", "--report-every", "0.05s", "--metrics-port", "0")
    with follow(store, *more, stdout=subprocess.DEVNULL) as process:
        said = process.stderr.readline()
        url = said.removeprefix("metrics: ").strip()
        assert url.startswith("http://127.0.0.1:")

        def shows(line: bytes) -> bool:
            with urlopen(url) as reply:
                return line in reply.read().splitlines()

        counted = b'{bandit="home",outcome="applied",source="stream"} 8.0'
        wait_until(lambda: shows(b"banditcore_ingested_events_total" + counted), "not told")
        lag = b'banditcore_ingest_waiting_events{bandit="home",partition="0",source="stream"} 0.0'
        wait_until(lambda: shows(lag), "not told")
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_terminal_shows_a_table_that_changes(store):
    producer = Producer(store, of=1)
    producer.send(rows(5))
    with (
        watched_terminal(120) as (theirs, written),
        follow(store, "--report-every", "0.05s", stdout=theirs, stdin=theirs) as process,
    ):
        os.close(theirs)
        wait_until(lambda: b"applying" in written, "no table")
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"events of streams" in written
    assert b"behind" in written


def test_a_second_signal_ends_it_at_once():
    with running_server() as server, connect(server.url) as store:
        producer = Producer(store)
        producer.send(rows(5))
        with follow(store, "--bandit", "home", stdout=-1) as process:
            wait_for(store, producer)
            server.process.send_signal(signal.SIGSTOP)  # the worker hangs in a call
            try:
                # One signal may be taken for two when both come at once.
                while process.poll() is None:
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
            finally:
                server.process.send_signal(signal.SIGCONT)
        assert process.returncode == -signal.SIGTERM


def test_a_bandit_without_events_is_waited_for_and_that_is_said_once(store):
    with follow(store, "--bandit", "nosuch", "--report-every", "0.05s", stdout=-1) as process:
        said = process.stderr.readline()
        assert "'nosuch' has no events to apply yet" in said
        producer = Producer(store, "nosuch")
        producer.send(rows(6))
        wait_for(store, producer, bandits=("nosuch",))
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert err == ""
    with follow(store, "--bandit", "other", "--report-every", "0.05s", stdout=-1) as process:
        process.stderr.readline()
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""


def test_an_empty_store_is_waited_for_and_that_is_said_once(store):
    with follow(store, stdout=-1) as process:
        assert "no bandit has events to apply yet" in process.stderr.readline()
        producer = Producer(store)
        producer.send(rows(6))
        wait_for(store, producer)
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""


def test_a_stream_of_other_programs_is_shared_and_emptied(store):
    for i, (segment, arm, reward) in enumerate(rows(20)):
        event = {"segment": segment, "arm": arm, "reward": reward, "event_id": f"{i}"}
        store.client.xadd("clicks", event)
    words = ("--bandit", "home", "--stream", "clicks", "--group", "g", "--remove", "--json")
    with follow(store, *words, "--report-every", "0.05s", stdout=-1) as process:
        wait_until(lambda: stored(store) == sums(rows(20)), "not applied")
        wait_until(lambda: store.client.xlen("clicks") == 0, "not removed")
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    [part] = json.loads(out.splitlines()[-1])["partitions"]
    assert (part["applied"], part["duplicate"], part["refused"]) == (20, 0, 0)
    assert store.client.xinfo_consumers("clicks", "g") == []


def test_retention_is_what_it_is_told(store):
    producer = Producer(store, of=1)
    producer.send(rows(6))
    stream = keys.of_partition("home", 0).stream
    with follow(store, "--retain", "0.001s", "--retain-mib", "1", stdout=-1) as process:
        wait_for(store, producer)
        wait_until(lambda: store.client.xlen(stream) == 0, "not trimmed")
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--follow", "--group", "g"], "of a --stream"),
        (["--follow", "--bandit", "home", "--remove"], "of a --stream"),
        (["--follow", "--stream", "clicks"], "which --bandit"),
        (["--follow", "--bandit", "home", "--stream", "bc:x"], "banditcore's own"),
        (["--follow", "--bandit", "home", "--stream", "x", "--retain", "1h"], "not of a --stream"),
        (["log.csv", "--bandit", "home", "--retain-mib", "5"], "--retain-mib is"),
        (["log.csv", "--bandit", "home", "--stream", "x"], "--stream is"),
        (["--follow", "log.csv"], "FILE is"),
        (["--follow", "--map", "arm=item"], "--map is"),
        (["--follow", "--rescan"], "--rescan is"),
        (["--follow", "--strict"], "--strict is"),
        (["--follow", "--half-life", "7d"], "name it with --bandit"),
        (["--follow", "--bandit", "home", "--partitions", "0,2"], "partitions 0 to 1"),
        (["--follow", "--partitions", "0,x"], "no list of whole numbers"),
        (["log.csv", "--bandit", "home", "--partitions", "0"], "--partitions is"),
        (["log.csv", "--bandit", "home", "--report-every", "5s"], "--report-every is"),
        (["log.csv", "--bandit", "home", "--metrics-port", "0"], "--metrics-port is"),
        (["--follow", "--metrics-host", "::1"], "--metrics-host is"),
        (["--follow", "--metrics-port", "65536"], "no port"),
        (["--bandit", "home"], "FILE is"),
        (["log.csv"], "--bandit is"),
    ],
)
def test_options_that_do_not_go_together_are_refused(store, capsys, arguments, complaint):
    Producer(store)
    assert main(["ingest", "--url", store.url, *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_another_half_life_than_the_bandit_has_is_refused(store, capsys):
    Bandit("home", store, half_life=dt.timedelta(days=1)).record("X", "a")
    arguments = ["ingest", "--url", store.url, "--follow", "--bandit", "home", "--half-life", "7d"]
    assert main(arguments) == 2
    assert "the bandit is kept with one of 1d: leave it out" in capsys.readouterr().err
