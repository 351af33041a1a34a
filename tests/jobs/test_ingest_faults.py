"""The ingest job, interrupted, run by many and on a server that lost writes."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import ConfigurationConflictError, InvalidValueError, StoreError
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import ColumnMap, EventLog
from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.counts import checkpoints
from bandits import ingest_together, table

N = 36
EXPECTED = {path: {f"arm {i}": (4.0, 4.0 * (i == 0)) for i in range(3)} for path in "XYZ"}


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    records = [f"{'XYZ'[i // 3 % 3]},arm {i % 3},{int(i % 3 == 0)},1700000000\n" for i in range(N)]
    path.write_text("segment,arm,reward,time\n" + "".join(records))
    return path


def stored(store: Store) -> dict[str, dict[str, tuple[float, float]]]:
    bandit = Bandit("home", store)
    return {path: table(bandit.counts(path)) for path in bandit.segments()}


class StoppedError(Exception):
    """Stops a run."""


@contextmanager
def stopping_before_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a run die between counts and checkpoint; the first one, at byte 0, is left."""
    save = checkpoints.save

    def stop(store: Store, bandit: str, source: str, checkpoint: checkpoints.Checkpoint) -> None:
        if checkpoint.position.offset:
            raise StoppedError
        save(store, bandit, source, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr("banditcore.ingest.log_job.checkpoints.save", stop)
        yield


# --- interrupted -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_run_that_is_stopped_at_every_batch_goes_on_where_it_was(store, log_path, batch_size):
    def stop(report: IngestReport) -> None:
        seen.append(report.applied)
        raise StoppedError

    seen: list[int] = []
    runs = -(-N // batch_size)
    for _ in range(runs):
        bandit = Bandit("home", store)
        with pytest.raises(StoppedError):
            ingest_log(bandit, EventLog(log_path), batch_size=batch_size, progress=stop)
    assert sum(seen) == N
    assert ingest_log(Bandit("home", store), EventLog(log_path)).applied == 0
    assert stored(store) == EXPECTED


def test_a_run_that_is_stopped_before_its_checkpoint_counts_nothing_twice(
    store, log_path, monkeypatch
):
    for size in (10, 7, 20):
        with pytest.raises(StoppedError), stopping_before_the_checkpoint(monkeypatch):
            ingest_log(Bandit("home", store), EventLog(log_path), batch_size=size)
    report = ingest_log(Bandit("home", store), EventLog(log_path), batch_size=N)
    assert (report.applied, report.duplicate) == (N - 20, 20)
    assert stored(store) == EXPECTED


@pytest.mark.parametrize("source", [None, "mine"])
def test_a_log_that_begins_alike_is_refused_by_the_marks_too(store, log_path, monkeypatch, source):
    with pytest.raises(StoppedError), stopping_before_the_checkpoint(monkeypatch):
        ingest_log(Bandit("home", store), EventLog(log_path), source=source, batch_size=20)
    before = stored(store)
    other = log_path.with_name("other.csv")
    other.write_text(log_path.read_text().replace("Y,arm 2", "Y,arm 7"))
    for size in (3, N):
        with pytest.raises(InvalidValueError, match="another log that begins alike"):
            ingest_log(Bandit("home", store), EventLog(other), source=source, batch_size=size)
    assert stored(store) == before
    assert ingest_log(Bandit("home", store), EventLog(log_path), source=source).applied == N - 20
    assert stored(store) == EXPECTED


def test_runs_on_logs_that_begin_alike_never_take_one_for_the_other(store, log_path, monkeypatch):
    """Neither has left a checkpoint when they meet."""
    other = log_path.with_name("other.csv")
    other.write_text(log_path.read_text().replace("Y,arm 2", "Y,arm 7"))

    def overtaken(report: IngestReport) -> None:
        if report.end.line == 11:
            with pytest.raises(InvalidValueError, match="begins alike"):
                ingest_log(Bandit("home", store), EventLog(other), batch_size=N)

    ingest_log(Bandit("home", store), EventLog(log_path), batch_size=10, progress=overtaken)
    assert stored(store) == EXPECTED


def test_another_map_is_refused_before_the_first_checkpoint_too(store, log_path, monkeypatch):
    with pytest.raises(StoppedError), stopping_before_the_checkpoint(monkeypatch):
        ingest_log(Bandit("home", store), EventLog(log_path))
    mapped = EventLog(log_path, ColumnMap(segment="all/{segment}"))
    with pytest.raises(ConfigurationConflictError, match="--source"):
        ingest_log(Bandit("home", store), mapped)
    assert stored(store) == EXPECTED


def test_a_run_that_is_stopped_between_two_segments_counts_nothing_twice(store, log_path):
    ingest_log(Bandit("home", store), EventLog(log_path), source="other")
    state = keys.of_segment("home", "Y").state
    chunk = store.client.hget(state, "c:0")
    store.client.hset(state, "c:0", b"damaged")
    with pytest.raises(StoreError, match=r"^c:0 is 'damaged': .*'Y'"):
        ingest_log(Bandit("home", store), EventLog(log_path))
    store.client.hset(state, "c:0", chunk)
    report = ingest_log(Bandit("home", store), EventLog(log_path), batch_size=20)
    assert (report.applied, report.duplicate) == (12, 24)
    doubled = {arm: (2 * n, 2 * s) for arm, (n, s) in EXPECTED["X"].items()}
    assert stored(store) == dict.fromkeys("XYZ", doubled)


def test_a_rescan_that_is_stopped_does_not_set_the_next_run_back(store, log_path):
    def stop(_: IngestReport) -> None:
        raise StoppedError

    bandit = Bandit("home", store)
    end = ingest_log(bandit, EventLog(log_path)).end
    with pytest.raises(StoppedError):
        ingest_log(bandit, EventLog(log_path), batch_size=4, rescan=True, progress=stop)
    assert ingest_log(bandit, EventLog(log_path)).start == end


# --- together ----------------------------------------------------------------------------------


def test_runs_that_overtake_one_another_count_nothing_twice(store, log_path):
    """Deterministic: each batch of the outer run is followed by a part of an inner one."""
    inner_applied = []

    def overtake(report: IngestReport) -> None:
        if report.end.line in (6, 16):

            def stop(inner: IngestReport) -> None:
                if inner.end.offset > report.end.offset + 60:
                    inner_applied.append(inner.applied)
                    raise StoppedError

            with pytest.raises(StoppedError):
                ingest_log(
                    Bandit("home", store),
                    EventLog(log_path),
                    batch_size=3,
                    rescan=True,
                    progress=stop,
                )

    report = ingest_log(Bandit("home", store), EventLog(log_path), batch_size=5, progress=overtake)
    assert len(inner_applied) == 2
    assert sum(inner_applied) > 0
    assert report.applied + sum(inner_applied) == N
    assert report.applied + report.duplicate == N
    assert stored(store) == EXPECTED


def test_threads_ingest_one_log_at_once(any_store, log_path):
    bandit = Bandit("home", any_store)

    def run(batch_size: int) -> IngestReport:
        return ingest_log(bandit, EventLog(log_path), batch_size=batch_size)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(run, (1, 1, 2, 3)))
    assert sum(report.applied for report in reports) == N
    assert stored(any_store) == EXPECTED


def test_processes_ingest_one_log_at_once(store, log_path):
    context = mp.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(2, context) as pool:
        start = manager.Barrier(2)
        runs = [pool.submit(ingest_together, store.url, start, log_path, size) for size in (1, 2)]
        reports = [run.result() for run in runs]
    assert sum(report.applied for report in reports) == N
    assert stored(store) == EXPECTED


# --- a server that goes back in time -----------------------------------------------------------


class Past:
    """What a server held of some segments, to put it back."""

    def __init__(self, store: Store, segments: str) -> None:
        self._store = store
        names = [key for path in segments for key in keys.of_segment("home", path)]
        self._values = {name: store.client.dump(name) for name in names}

    def restore(self) -> None:
        for name, value in self._values.items():
            self._store.client.delete(name)
            if value is not None:
                self._store.client.restore(name, 0, value)


@pytest.mark.parametrize("segments", ["X", "XYZ"])
def test_lost_writes_are_noticed_on_the_way_and_a_rescan_restores_them(store, log_path, segments):
    past: list[Past] = []

    def go_back(report: IngestReport) -> None:
        past.append(Past(store, segments))
        if len(past) == 3:
            past[0].restore()

    bandit = Bandit("home", store)
    with pytest.raises(StoreError, match=r"^mark is .* of segment 'X' went back .*--rescan"):
        ingest_log(bandit, EventLog(log_path), batch_size=9, progress=go_back)
    for size in (4, N):
        ingest_log(bandit, EventLog(log_path), batch_size=size, rescan=True)
        assert stored(store) == EXPECTED
    assert ingest_log(bandit, EventLog(log_path)).applied == 0


@pytest.mark.parametrize("done", [0, 1, 4])
def test_writes_lost_between_two_runs_are_restored_by_a_rescan(store, log_path, done):
    past: list[Past] = [Past(store, "XYZ")]
    bandit = Bandit("home", store)
    ingest_log(
        bandit,
        EventLog(log_path),
        batch_size=9,
        progress=lambda _: past.append(Past(store, "XYZ")),
    )
    past[done].restore()
    assert (stored(store) == EXPECTED) is (done == 4)
    report = ingest_log(bandit, EventLog(log_path), rescan=True)
    assert (report.applied, report.duplicate) == (N - 9 * done, 9 * done)
    assert stored(store) == EXPECTED


def test_a_server_that_lost_everything_is_filled_by_the_next_run(store, log_path):
    bandit = Bandit("home", store)
    ingest_log(bandit, EventLog(log_path))
    store.client.flushall()
    assert ingest_log(bandit, EventLog(log_path)).applied == N
    assert stored(store) == EXPECTED
