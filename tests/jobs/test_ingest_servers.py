"""The ingest job on servers that were replaced, and that lack a part of what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import LostWritesError, StoreError
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import EventLog
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.counts import checkpoints
from bandits import table
from faults.server import MortalServer

SEGMENTS = "XYZ"
N = 30
EXPECTED = {path: {"a": (10.0, 5.0)} for path in SEGMENTS}


@pytest.fixture
def server() -> Iterator[MortalServer]:
    server = MortalServer()
    yield server
    server.close()


@pytest.fixture
def mortal_store(server: MortalServer) -> Iterator[Store]:
    with connect(server.url) as store:
        yield store


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A log whose records go round X, Y and Z."""
    path = tmp_path / "log.csv"
    path.write_text("segment,arm,reward,time\n")
    grow(path, 0, N // 2)
    return path


def grow(path: Path, first: int, end: int) -> None:
    with path.open("a") as file:
        for i in range(first, end):
            file.write(f"{SEGMENTS[i % 3]},a,{i // 3 % 2},1700000000\n")


def run(store: Store, path: Path, **options: object) -> IngestReport:
    return ingest_log(Bandit("home", store), EventLog(path), **options)  # type: ignore[arg-type]


def counted(store: Store) -> dict[str, dict[str, tuple[float, float]]]:
    bandit = Bandit("home", store)
    return {path: table(bandit.counts(path)) for path in SEGMENTS}


class Past:
    """What a server held of one segment, to put it back: that segment alone loses writes."""

    def __init__(self, server: MortalServer, segment: str) -> None:
        self._server = server
        names = keys.of_segment("home", segment)
        self._values = {name: server.admin.dump(name) for name in names}

    def restore(self) -> None:
        for name, value in self._values.items():
            self._server.admin.delete(name)
            if value is not None:
                self._server.admin.restore(name, 0, value)


def restart(server: MortalServer) -> None:
    server.kill()
    server.heal()


def test_what_one_segment_lost_is_read_again_by_the_next_run(server, mortal_store, log_path):
    grow(log_path, N // 2, 20)
    past: list[Past] = []
    run(mortal_store, log_path, batch_size=6, progress=lambda _: past.append(Past(server, "Y")))
    past[1].restore()
    restart(server)
    grow(log_path, 20, N)
    # Y holds the 4 records of the first 12.
    report = run(mortal_store, log_path, batch_size=7)
    assert (report.start.offset, report.duplicate) == (0, 20 - 3)
    assert report.applied == N - report.duplicate
    assert counted(mortal_store) == EXPECTED
    again = run(mortal_store, log_path)
    assert (again.applied, again.duplicate, again.start) == (0, 0, report.end)


def test_a_restarted_server_that_lost_nothing_counts_nothing_twice(server, mortal_store, log_path):
    end = run(mortal_store, log_path).end
    restart(server)
    report = run(mortal_store, log_path)
    assert (report.applied, report.duplicate, report.start.offset) == (0, N // 2, 0)
    assert report.end == end
    grow(log_path, N // 2, N)
    # It was read once; the checkpoint is the new server's now.
    report = run(mortal_store, log_path)
    assert (report.applied, report.duplicate, report.start) == (N // 2, 0, end)
    assert counted(mortal_store) == EXPECTED


def test_a_reading_again_that_is_stopped_is_begun_again(server, mortal_store, log_path):
    def stop(_: IngestReport) -> None:
        raise KeyboardInterrupt

    past = Past(server, "Z")
    end = run(mortal_store, log_path).end
    past.restore()
    restart(server)
    with pytest.raises(KeyboardInterrupt):
        run(mortal_store, log_path, batch_size=4, progress=stop)
    name = f"log:{EventLog(log_path).fingerprint}"
    assert checkpoints.load(mortal_store, "home", name).position == end
    grow(log_path, N // 2, N)
    assert run(mortal_store, log_path, batch_size=4).start.offset == 0
    assert counted(mortal_store) == EXPECTED


def test_a_server_that_is_replaced_during_a_run_stops_it_before_it_passes_the_gap(
    server, mortal_store, log_path
):
    """The run meets Y for the first time when Y has already gone back."""
    past = Past(server, "Y")
    run(mortal_store, log_path)
    with log_path.open("a") as file:
        file.write("X,a,1,1700000000\nY,a,1,1700000000\n")

    def fail_over(report: IngestReport) -> None:
        if report.applied == 1:
            past.restore()
            restart(server)

    with pytest.raises(StoreError, match=r"^servers is .* run again, which reads from the begin"):
        run(mortal_store, log_path, batch_size=1, progress=fail_over)
    assert counted(mortal_store)["Y"] == {}
    assert run(mortal_store, log_path).start.offset == 0
    assert counted(mortal_store) == {
        "X": {"a": (6.0, 3.0)},
        "Y": {"a": (6.0, 3.0)},
        "Z": {"a": (5.0, 2.0)},
    }


def test_a_mark_that_went_back_makes_the_next_run_read_all(server, mortal_store, log_path):
    """On one and the same server, as when two failovers lead back to it."""
    past: list[Past] = []

    def go_back(report: IngestReport) -> None:
        past.append(Past(server, "Y"))
        if report.end.line == 13:
            past[0].restore()

    with pytest.raises(LostWritesError, match="'Y' went back"):
        run(mortal_store, log_path, batch_size=3, progress=go_back)
    grow(log_path, N // 2, N)
    assert run(mortal_store, log_path).start.offset == 0
    assert counted(mortal_store) == EXPECTED
