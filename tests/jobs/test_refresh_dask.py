"""Refreshes on a real dask.distributed cluster of two worker processes."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

from banditcore.bandit import Bandit
from banditcore.cli import main
from banditcore.errors import ExecutorUnavailableError, InvalidTypeError, InvalidValueError
from banditcore.posterior import Prior
from banditcore.refresh import Refresher, on_dask
from banditcore.slate_format import decode
from banditcore.store.connect import Store, connect
from banditcore.store.publish import fetch
from proxy import proxy_before
from servers import running_server, wait_until

SEGMENTS = ("", *(f"s{i}" for i in range(8)))
SECRET = "canary-7f3a"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A scheduler and two workers, processes of their own; yield its address and their logs."""
    directory = tmp_path_factory.mktemp("dask")
    address = directory / "address"
    log = directory / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "false",
    }
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    with log.open("wb") as out:

        def start(command: str, *arguments: str) -> subprocess.Popen[bytes]:
            words = [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments]
            return subprocess.Popen(
                words, env=environment, cwd=directory, stdout=out, stderr=subprocess.STDOUT
            )

        started = [start("scheduler", *here, "--port", "0", "--scheduler-file", str(address))]
        try:
            wait_until(lambda: address.exists() and address.stat().st_size > 0, "no scheduler")
            worker = ["--scheduler-file", str(address), "--nthreads", "1", *here]
            started.append(start("worker", *worker, "--nworkers", "2", "--nanny"))
            wait_until(lambda: log.read_text().count("Starting established") >= 2, "no workers")
            yield json.loads(address.read_text())["address"], log
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(60)


def recorded(store: Store) -> Bandit:
    bandit = Bandit("home", store, prior=Prior(1, 1))
    names = list(SEGMENTS[1:])
    bandit.record_batch({"segment": names, "arm": ["a"] * 8, "reward": [1] * 8})
    return bandit


def test_a_cluster_draws_and_publishes(any_store, scheduler):
    bandit = recorded(any_store)
    report = bandit.refresh(executor=on_dask(scheduler[0]), slates=5, depth=1)
    assert (report.published, report.failed) == (SEGMENTS, {})
    for blob in fetch(any_store, "home", SEGMENTS):
        assert decode(blob).bank.slates.shape == (5, 1)


def test_a_refresher_works_on_a_cluster(store, scheduler):
    bandit = recorded(store)
    refresher = Refresher(bandit, executor=on_dask(scheduler[0]))
    assert refresher.step().published == SEGMENTS
    assert refresher.step().unchanged == SEGMENTS
    bandit.record("s3", "a")
    assert refresher.step().published == ("", "s3")


def test_workers_that_die_midway_take_no_segment_with_them(scheduler):
    """SIGKILL for both when the first blob is on its way: dask begins their jobs again."""
    with (
        running_server() as server,
        proxy_before(server.socket_path) as proxy,
        connect(server.url) as store,
        connect(proxy.url) as ours,
        Client(scheduler[0], set_as_default=False) as client,
    ):
        recorded(store)
        victims = list(client.run(os.getpid).values())
        assert len(victims) == 2

        def kill() -> None:
            for victim in victims:
                os.kill(victim, signal.SIGKILL)

        proxy.before_next_request(b"_publish", kill)
        report = Bandit("home", ours, prior=Prior(1, 1)).refresh(executor=on_dask(scheduler[0]))
        assert (report.published, report.failed) == (SEGMENTS, {})
        wait_until(lambda: len(client.run(os.getpid)) == 2, "no other workers")
        assert not set(client.run(os.getpid).values()) & set(victims)


def test_the_password_is_in_no_key_log_or_repr(scheduler):
    address, log = scheduler
    options = {"requirepass": SECRET}
    with running_server(options=options, tcp=True) as server:
        url = f"redis://:{SECRET}@127.0.0.1:{server.port}"
        heard = io.StringIO()
        handler = logging.StreamHandler(heard)
        logging.getLogger().addHandler(handler)
        try:
            with connect(url) as store:
                bandit = recorded(store)
                executor = on_dask(address)
                assert bandit.refresh(executor=executor).published == SEGMENTS
                store.client.config_set("requirepass", SECRET + "2")  # workers fail, and log it
                for client in store.client.client_list():
                    if client["id"] != str(store.client.client_id()):
                        store.client.client_kill_filter(_id=client["id"])
                report = bandit.refresh(executor=executor)
        finally:
            logging.getLogger().removeHandler(handler)
    assert set(report.failed) == set(SEGMENTS)
    assert "Compute Failed" in log.read_text()
    for text in (heard.getvalue(), log.read_text(), repr(report)):
        assert SECRET not in text


def test_an_address_where_nobody_is(store):
    with pytest.raises(ExecutorUnavailableError, match="dask scheduler is"):
        recorded(store).refresh(executor=on_dask("tcp://127.0.0.1:9", timeout_s=0.2))
    with pytest.raises(InvalidTypeError):
        on_dask(8786)


def test_distributed_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InvalidValueError, match=r"banditcore\[distributed\]"):
        on_dask("tcp://127.0.0.1:8786")


def test_it_is_imported_only_when_it_is_asked_for():
    code = "import banditcore, banditcore.cli, sys; print('distributed' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True
    )
    assert out.stdout == b"False\n"


def test_the_command_works_on_a_cluster(store, scheduler, capsys):
    recorded(store)
    arguments = ["refresh", "--bandit", "home", "--url", store.url, "--dask", scheduler[0]]
    assert main(arguments) == 0
    assert "9 segments published" in capsys.readouterr().out
    assert main([*arguments, "--workers", "2"]) == 2
