"""Several processes, one of them forked, share one endpoint that is scraped over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from published import NOW, put, snapshot

REQUESTS = {"plain": 5, "late": 7, "forking": 11, "forked": 13}

SERVING = """
import os, sys
from math import inf
from banditcore import Recommender, connect
from banditcore.prometheus import PrometheusMetrics
from published import NOW, Home

url, requests, of_the_child = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with connect(url) as store:
    told = PrometheusMetrics()
    recommender = Recommender(Home(store), max_age=inf, metrics=told, poll_s=None)
    recommender.warm_up()
    for _ in range(requests):
        recommender.recommend("IN", 3)
    if of_the_child and os.fork() == 0:
        for _ in range(of_the_child):
            recommender.recommend("IN/tablet", 3)
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
    if not of_the_child:
        print(os.getpid(), flush=True)
    sys.stdin.read()
"""

ENDPOINT = """
import sys
from banditcore.prometheus import PrometheusMetrics
with PrometheusMetrics().serving(0) as port:
    print(port, flush=True)
    sys.stdin.read()
"""

VANISHING = """
from prometheus_client import generate_latest
from banditcore.metrics import SnapshotState
from banditcore.prometheus import PrometheusMetrics

metrics = PrometheusMetrics()
assert metrics.limits.keeps_names
state = SnapshotState(1, 5_000_000, 9.0, 0.5, 2.0, 1)
metrics.snapshots("home", {"IN": state, "US": state})
metrics.snapshots("home", {"IN": state})
print(generate_latest(metrics.exposed).decode())
"""


def environment(directory: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PROMETHEUS_MULTIPROC_DIR": str(directory),
    }


@contextmanager
def started(directory: Path, program: str, *arguments: object) -> Iterator[tuple[int, int]]:
    """Start a program; yield its process id and the number that it writes first."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(
        command, env=environment(directory), stdin=-1, stdout=-1, text=True
    ) as process:
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.stdin.close()
    assert process.returncode == 0


def scraped(port: int) -> dict[tuple[str, ...], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        text = reply.read().decode()
    return by_labels(text)


def by_labels(text: str) -> dict[tuple[str, ...], float]:
    names = ("bandit", "segment", "rung", "reason", "le")
    return {
        (
            sample.name.removeprefix("banditcore_"),
            *(sample.labels[name] for name in names if name in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_processes_add_up_and_the_one_most_behind_is_shown(store, tmp_path):
    put(store, snapshot("IN"))
    with ExitStack() as stack:

        def start(name: str, child: int = 0) -> tuple[int, int]:
            arguments = (SERVING, store.url, REQUESTS[name], child)
            return stack.enter_context(started(tmp_path, *arguments))

        behind, _ = start("plain")
        put(store, snapshot("IN", at=NOW + 60))
        start("late")
        _, child = start("forking", REQUESTS["forked"])
        _, port = stack.enter_context(started(tmp_path, ENDPOINT))
        found = scraped(port)
        asked = REQUESTS["plain"] + REQUESTS["late"] + REQUESTS["forking"]
        assert found["request_seconds_count", "home", "segment"] == asked
        assert found["request_seconds_bucket", "home", "segment", "+Inf"] == asked
        assert found["request_seconds_count", "home", "parent"] == REQUESTS["forked"]
        assert found["fallbacks_total", "home", "missing"] == REQUESTS["forked"]
        assert found["snapshots_loaded_total", "home"] == 3
        assert found["snapshot_version_seconds", "home", "IN"] == NOW
        assert found["snapshots", "home"] == 1
        assert 0 < found["exploration_entropy", "home", "IN"] <= 1
        # A worker that ended takes its gauges along, and leaves its counts.
        mark_process_dead(behind, str(tmp_path))
        found = scraped(port)
        assert found["snapshot_version_seconds", "home", "IN"] == NOW + 60
        assert found["request_seconds_count", "home", "segment"] == asked
        assert (tmp_path / f"gauge_livemin_{child}.db").exists()


def test_what_is_gone_from_all_processes_raises_no_alarm(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", VANISHING],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    found = by_labels(done.stdout)
    assert found["snapshot_version_seconds", "home", "IN"] == 5
    assert found["snapshot_version_seconds", "home", "US"] == float("inf")
    assert found["exploration_entropy", "home", "US"] == float("inf")
    assert found["snapshot_age_seconds", "home", "US"] == float("-inf")
    assert found["exploration_collapsed", "home", "US"] == float("-inf")
    assert done.stderr == ""


@pytest.mark.parametrize(("directory", "complaint"), [("missing", "PROMETHEUS_MULTIPROC_DIR is")])
def test_a_directory_that_is_not_there_is_named(tmp_path, directory, complaint):
    program = "from banditcore.prometheus import PrometheusMetrics; PrometheusMetrics()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path / directory),
        capture_output=True,
        text=True,
        check=False,
    )
    assert complaint in done.stderr.splitlines()[-1]
    assert "an existing directory" in done.stderr
