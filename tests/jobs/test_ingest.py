"""The ingest job: each record of a log counts once, however it is read."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.errors import CorruptDataError, InvalidValueError
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import ColumnMap, EventLog, Position
from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.seals import seal
from bandits import NOW, Clock, everything, table

HEAD = "segment,arm,reward,time\n"
T = 1_700_000_000


def lines(first: int, last: int) -> list[str]:
    """Return records of three segments; the i-th is at time T + i."""
    return [
        f"{('IN', 'US', 'IN/m')[i % 3]},arm {i % 5},{int(i % 4 == 0)},{T + i}\n"
        for i in range(first, last)
    ]


def counts_of(first: int, last: int) -> dict[str, dict[str, tuple[float, float]]]:
    """Segment -> arm -> counts of these records."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for line in lines(first, last):
        segment, arm, reward, _ = line.split(",")
        arms = found.setdefault(segment, {})
        trials, successes = arms.get(arm, (0.0, 0.0))
        arms[arm] = (trials + 1, successes + float(reward))
    return found


def stored(bandit: Bandit) -> dict[str, dict[str, tuple[float, float]]]:
    return {path: table(bandit.counts(path)) for path in bandit.segments()}


def figures(report: IngestReport) -> tuple[int, int, int]:
    assert report.seconds > 0
    return report.applied, report.duplicate, report.refused


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(HEAD + "".join(lines(0, 40)))
    return path


@pytest.fixture
def bandit(store: Store) -> Bandit:
    return Bandit("home", store)


# --- one run after another ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 40, 50_000])
def test_a_log_counts_once_whatever_the_batches(any_store, log_path, batch_size):
    bandit = Bandit("home", any_store)
    reports: list[IngestReport] = []
    report = ingest_log(bandit, EventLog(log_path), batch_size=batch_size, progress=reports.append)
    assert figures(report) == (40, 0, 0)
    assert (report.segments, report.start) == (3, Position())
    assert (report.end.offset, report.end.line) == (log_path.stat().st_size, 41)
    done = [min(number * batch_size, 40) for number in range(1, -(-40 // batch_size) + 1)]
    assert [each.applied for each in reports] == done
    assert reports[-1].end == report.end
    assert stored(bandit) == counts_of(0, 40)

    before = everything(any_store)
    again = ingest_log(bandit, EventLog(log_path), batch_size=3)
    assert figures(again) == (0, 0, 0)
    assert again.start == again.end == report.end
    rescanned = ingest_log(bandit, EventLog(log_path), batch_size=3, rescan=True)
    assert figures(rescanned) == (0, 40, 0)
    assert (rescanned.start, rescanned.end) == (Position(), report.end)
    assert everything(any_store) == before


def test_a_renamed_and_grown_log_is_the_same_log(bandit, log_path):
    ingest_log(bandit, EventLog(log_path))
    renamed = log_path.rename(log_path.with_name("yesterday.csv"))
    assert figures(ingest_log(bandit, EventLog(renamed))) == (0, 0, 0)
    with renamed.open("a") as file:
        file.write("".join(lines(40, 45)))
    report = ingest_log(bandit, EventLog(renamed))
    assert figures(report) == (5, 0, 0)
    assert (report.start.line, report.end.line) == (41, 46)
    assert stored(bandit) == counts_of(0, 45)


def test_a_log_may_grow_between_the_batches(bandit, log_path):
    def grow(report: IngestReport) -> None:
        if report.applied == 30:
            with log_path.open("a") as file:
                file.write("".join(lines(40, 50)))

    assert figures(ingest_log(bandit, EventLog(log_path), batch_size=10, progress=grow)) == (
        50,
        0,
        0,
    )
    assert stored(bandit) == counts_of(0, 50)


def test_an_unfinished_last_line_waits_until_it_is_finished(bandit, log_path):
    last = lines(40, 41)[0]
    whole = log_path.read_text()
    for cut in range(1, len(last)):
        log_path.write_text(whole + last[:cut])
        assert ingest_log(bandit, EventLog(log_path)).end.offset == len(whole)
    assert stored(bandit) == counts_of(0, 40)
    log_path.write_text(whole + last)
    assert figures(ingest_log(bandit, EventLog(log_path))) == (1, 0, 0)
    assert stored(bandit) == counts_of(0, 41)


@pytest.mark.parametrize("text", [HEAD, HEAD + "IN,a,1,16"])
def test_a_log_without_records_changes_nothing(bandit, tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text)
    before = everything(bandit.store)
    report = ingest_log(bandit, EventLog(path))
    assert (figures(report), report.segments, report.end) == ((0, 0, 0), 0, Position())
    assert everything(bandit.store) == before


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_bad_lines_are_reported_once_and_the_others_count(bandit, tmp_path, batch_size):
    path = tmp_path / "x.csv"
    bad = {3: f"IN,b,2,{T}\n", 4: "IN,c\n", 6: f"IN//m,d,1,{T}\n", 7: "IN,e,1,1970\n"}
    good = iter(lines(0, 5))
    path.write_text(HEAD + "".join(bad[n] if n in bad else next(good) for n in range(2, 10)))
    rejects = []
    report = ingest_log(bandit, EventLog(path), batch_size=batch_size, on_reject=rejects.append)
    assert figures(report) == (4, 0, 4)
    assert {reject.line: reject.raw + "\n" for reject in rejects} == bad
    assert [reject.line for reject in rejects] == sorted(bad)
    reasons = ["reward is 2.0", "2 values", "segment is 'IN//m'", "time is 1970"]
    assert all(why in reject.reason for why, reject in zip(reasons, rejects, strict=True))
    assert stored(bandit) == counts_of(0, 4)
    assert figures(ingest_log(bandit, EventLog(path), on_reject=rejects.append)) == (0, 0, 0)
    assert len(rejects) == 4


def test_columns_and_bandits_are_told_apart(bandit, log_path):
    other = Bandit("other", bandit.store)
    ingest_log(bandit, EventLog(log_path))
    assert figures(ingest_log(other, EventLog(log_path))) == (40, 0, 0)
    assert stored(other) == stored(bandit) == counts_of(0, 40)
    # Under another name it is another log.
    assert figures(ingest_log(bandit, EventLog(log_path), source="again")) == (40, 0, 0)
    assert figures(ingest_log(bandit, EventLog(log_path), source="again")) == (0, 0, 0)
    doubled = {
        path: {arm: (2 * n, 2 * s) for arm, (n, s) in arms.items()}
        for path, arms in counts_of(0, 40).items()
    }
    assert stored(bandit) == doubled


def test_old_records_fade_from_their_own_time(store, tmp_path):
    path = tmp_path / "x.csv"
    week = 7 * 86400
    ages = [0, 0.5, 1, 13.25, 100]
    path.write_text(HEAD + "".join(f"IN,a,1,{NOW - age * week}\n" for age in ages))
    bandit = Bandit("home", store, half_life=dt.timedelta(seconds=week), clock=Clock())
    ingest_log(bandit, EventLog(path, now=Clock()), batch_size=2)
    for ahead in (0, -3, 5.5):
        counts = bandit.counts("IN", as_of=NOW + ahead * week)
        expected = sum(2.0 ** -(age + ahead) for age in ages)
        np.testing.assert_allclose(counts.trials, [expected], rtol=1e-12)
        np.testing.assert_allclose(counts.successes, [expected], rtol=1e-12)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, "mine"])
def test_a_changed_log_is_refused(bandit, log_path, source):
    ingest_log(bandit, EventLog(log_path), source=source)
    before = everything(bandit.store)
    text = log_path.read_text()
    middle = text.replace(f"{T + 20}", f"{T + 21}", 1)
    for changed in (middle, text[:-1], text[: len(text) // 2], middle + "".join(lines(40, 50))):
        log_path.write_text(changed)
        for rescan in (False, True):
            with pytest.raises(InvalidValueError, match=r"does not begin with the \d+ bytes"):
                ingest_log(bandit, EventLog(log_path), source=source, rescan=rescan)
    assert everything(bandit.store) == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "size is 0"),
        ({"batch_size": 2.5}, "size is 2.5"),
        ({"source": ""}, "source is ''"),
        ({"source": "x" * 257}, "source is 'xxx"),
    ],
)
def test_bad_options_change_nothing(bandit, log_path, options, named):
    before = everything(bandit.store)
    with pytest.raises(InvalidValueError, match=f"^{named}"):
        ingest_log(bandit, EventLog(log_path), **options)
    assert everything(bandit.store) == before


def test_event_ids_of_a_log_are_refused(bandit, log_path):
    with pytest.raises(InvalidValueError, match=r"^event_id is 'mapped'"):
        ingest_log(bandit, EventLog(log_path, ColumnMap(event_id="{segment}{time}")))
    assert bandit.segments() == []


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{}", b"7", b"[1, 2]", b'["x", 2, "y"]', None])
def test_a_damaged_checkpoint_is_named_and_a_rescan_does_without(bandit, log_path, raw):
    log = EventLog(log_path)
    ingest_log(bandit, log)
    name = keys.of_bandit("home").checkpoints
    field = f"log:{log.fingerprint}"
    damaged = bandit.store.client.hget(name, field)[:-1] if raw is None else seal(raw)
    bandit.store.client.hset(name, field, damaged)
    with pytest.raises(CorruptDataError, match=r"^checkpoint is .*--rescan$"):
        ingest_log(bandit, log)
    assert figures(ingest_log(bandit, log, rescan=True)) == (0, 40, 0)
    assert figures(ingest_log(bandit, log)) == (0, 0, 0)
    assert stored(bandit) == counts_of(0, 40)


@pytest.mark.parametrize("name", ["stream", "stream:0", "kafka:clicks"])
def test_a_log_takes_no_name_of_a_workers_source(store, tmp_path, name):
    path = tmp_path / "log.csv"
    path.write_text(HEAD + "".join(lines(0, 3)))
    with pytest.raises(InvalidValueError, match="take another"):
        ingest_log(Bandit("home", store), EventLog(path), source=name)
    assert Bandit("home", store).segments() == []
