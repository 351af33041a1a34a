"""Commands that run until they are stopped, started before their store."""

from __future__ import annotations

import signal

import pytest

import banditcore as bc
from banditcore.cli import main
from banditcore.store import publish
from servers import free_port, running_server, wait_until
from streamed import Producer, rows, stored, sums
from terminals import spawn

REFRESH = ("refresh", "--every", "0.2s")
FOLLOW = ("ingest", "--follow", "--report-every", "0.05s")
LIVE = ("inspect", "--live")
NAMED = {REFRESH: ("--bandit", "home"), FOLLOW: ("--bandit", "home"), LIVE: ("home",)}


@pytest.fixture
def options(tmp_path) -> dict[str, str]:
    """Of a server that keeps what it has when it ends."""
    port = str(free_port())
    return {"port": port, "appendonly": "yes", "appendfsync": "always", "dir": str(tmp_path)}


def url_of(options: dict[str, str]) -> str:
    return f"redis://127.0.0.1:{options['port']}"


def fill(options: dict[str, str]) -> dict:
    with running_server(options=options), bc.connect(url_of(options)) as store:
        producer = Producer(store)
        producer.send(rows(20))
        bc.Bandit("home", store).record("IN", "arm")
        return sums(producer.sent)


@pytest.mark.parametrize("command", NAMED)
@pytest.mark.parametrize("is_named", [True, False])
def test_the_store_may_come_later(options, command, is_named):
    expected = fill(options)
    named = NAMED[command] if is_named else ()
    with spawn(*command, "--url", url_of(options), *named, stdout=-1) as process:
        waits = process.stderr.readline()
        assert waits.startswith("waiting: ")
        assert "cannot be reached" in waits
        with running_server(options=options), bc.connect(url_of(options)) as store:
            assert process.stderr.readline() == "the outage is over\n"
            if command is REFRESH:
                wait_until(lambda: publish.headers(store, "home", [""]) != [None], "no refresh")
            elif command is LIVE:
                assert process.stdout.readline().startswith("home: ")
            else:
                wait_until(lambda: stored(store, "home").items() >= expected.items(), "not applied")
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("command", NAMED)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heard_while_there_is_no_store(command, number):
    url = f"redis://127.0.0.1:{free_port()}"
    with spawn(*command, "--url", url, *NAMED[command], stdout=-1) as process:
        assert process.stderr.readline().startswith("waiting: ")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("command", NAMED)
def test_what_cannot_be_meant_is_not_waited_for(capsys, command):
    assert main([*command, "--url", "nonsense://x", *NAMED[command]]) == 2
    assert "scheme" in capsys.readouterr().err
