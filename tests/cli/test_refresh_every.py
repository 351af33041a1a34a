"""``banditcore refresh --every``, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from urllib.request import urlopen

import pytest

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.slate_format import decode, decode_header
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.publish import fetch, headers
from servers import free_port, running_server, wait_until
from terminals import spawn


def recorded(store: Store, name: str = "home") -> Bandit:
    bandit = Bandit(name, store)
    bandit.record_batch({"segment": ["IN", "US"], "arm": ["a", "b"], "reward": [1, 0]})
    return bandit


def accompany(url: str, *more: str):
    return spawn("refresh", "--every", "0.05s", "--url", url, *more, stdout=subprocess.PIPE)


def version(store: Store, bandit: str = "home") -> int:
    [header] = headers(store, bandit, [""])
    return decode_header(header).version if header else 0


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, "1"), (signal.SIGINT, "1"), (signal.SIGINT, "2")]
)
def test_it_keeps_on_until_a_signal_and_leaves_cleanly(store, number, workers):
    bandit = recorded(store)
    with accompany(
        store.url, "--bandit", "home", "--prior", "1,1", "--workers", workers
    ) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        bandit.record("IN", "a")
        while "2 segments published, 1 unchanged" not in (line := process.stdout.readline()):
            assert "0 segments published, 3 unchanged" in line
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert lines[0].startswith("home: 3 segments published, 0 superseded by newer ones, 0 failed; ")
    assert lines[1].startswith("home: 0 segments published, 3 unchanged, 0 superseded")
    assert store.client.hget(keys.lease("home", "refresh"), "until") == b"0"
    for blob in fetch(store, "home", ["", "IN", "US"]):
        decode(blob)


def test_scrapes_are_answered_meanwhile(store):
    recorded(store)
    with accompany(store.url, "--bandit", "home", "--metrics-port", "0") as process:
        url = process.stderr.readline().removeprefix("metrics: ").strip()
        for _ in range(2):
            process.stdout.readline()
        told = b'banditcore_refreshed_segments_total{bandit="home",outcome="published"} 3.0'

        def is_told() -> bool:
            with urlopen(url) as reply:
                return told in reply.read().splitlines()

        wait_until(is_told, "not told")
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_json_is_a_document_a_line_and_all_bandits_are_refreshed(store):
    recorded(store)
    recorded(store, "sale")
    with accompany(store.url, "--json") as process:
        documents: list[dict] = []
        while {each["bandit"] for each in documents} != {"home", "sale"}:
            documents.append(json.loads(process.stdout.readline()))
        recorded(store, "late")
        wait_until(lambda: version(store, "late") > 0, "the new bandit is not refreshed")
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    documents += [json.loads(line) for line in out.splitlines()]
    for document in documents:
        assert document["published"] + document["unchanged"] == 3
        assert document["superseded"] == 0
        assert document["failed"] == {}
        assert document["seconds"] > 0


def test_one_of_two_processes_works_and_the_other_takes_over(store):
    recorded(store)
    with accompany(store.url, "--bandit", "home") as one:
        one.stdout.readline()
        with accompany(store.url, "--bandit", "home") as two:
            assert two.stderr.readline() == "home: standing by: another one refreshes\n"
            one.kill()
            one.communicate()
            store.client.unlink(keys.lease("home", "refresh"))  # as when it has run out
            assert two.stderr.readline() == "home: refreshing\n"
            assert "3 segments published" in two.stdout.readline()
            two.terminate()
            two.communicate(timeout=60)
        assert two.returncode == 0


def test_a_server_that_is_restarted_is_waited_for(tmp_path):
    """Another server process, on the address and the data of the first."""
    port = str(free_port())
    options = {"port": port, "appendonly": "yes", "appendfsync": "always", "dir": str(tmp_path)}
    url = f"redis://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        with running_server(options=options), connect(url) as store:
            recorded(store)
            process = stack.enter_context(accompany(url, "--bandit", "home"))
            process.stdout.readline()
            last = version(store)
        assert process.stderr.readline().startswith("home: waiting: ")
        with running_server(options=options), connect(url) as store:
            wait_until(lambda: version(store) > last, "it does not go on")
            assert process.stderr.readline() == "home: the outage is over\n"
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_stop_is_heard_during_an_outage():
    with running_server() as server, connect(server.url) as store:
        recorded(store)
        with accompany(server.url, "--bandit", "home") as process:
            process.stdout.readline()
            server.process.kill()
            assert process.stderr.readline().startswith("home: waiting: ")
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0


def test_failed_segments_are_named(store):
    recorded(store)
    store.client.hset(keys.of_segment("home", "IN").state, "c:0", b"garbage")
    with accompany(store.url, "--bandit", "home") as process:
        assert "1 segment published" in (line := process.stdout.readline())
        assert "2 failed" in line
        assert process.stderr.readline().startswith('home/"": counts of')
        assert process.stderr.readline().startswith("home/IN: ")
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_bandits_and_segments_may_come_later(store):
    recorded(store, "other")
    with accompany(store.url, "--bandit", "home", "--segment", "IN") as process:
        assert process.stderr.readline() == "waiting for events of home; the store has 'other'\n"
        Bandit("home", store).record("US", "a")
        assert process.stderr.readline() == "home: waiting for events of IN\n"
        recorded(store)
        assert "home: 2 segments published" in process.stdout.readline()
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert version(store, "other") == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--bandit is missing: name one; with --every any number, or none for all"),
        (["--bandit", "home", "--bandit", "sale"], "--bandit is"),
        (["--every", "60s", "--bandit", "home", "--bandit", ""], "bandit is ''"),
        (["--every", "60s", "--bandit", "home", "--segment", "/"], "segment is '/'"),
        (["--every", "60s", "--segment", "IN"], "--segment is"),
        (["--every", "0s", "--bandit", "home"], "no duration"),
        (["--bandit", "home", "--metrics-port", "0"], "--metrics-port is 0"),
        (["--bandit", "home", "--dask", "tcp://127.0.0.1:9", "--workers", "2"], "--workers is 2"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(store, capsys, arguments, complaint):
    recorded(store)
    assert main(["refresh", "--url", store.url, *arguments]) == 2
    assert complaint in capsys.readouterr().err
