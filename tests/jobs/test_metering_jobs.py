"""What an ingest worker and a refresh tell their metrics."""

from __future__ import annotations

import numpy as np
import pytest

from banditcore.bandit import Bandit
from banditcore.errors import StoreUnavailableError
from banditcore.ingest import IngestWorker, PartitionReport, WorkerReport
from banditcore.ingest.metering import IngestMeter
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.metrics import BaseMetrics, PartitionState
from banditcore.refresh.metering import RefreshMeter
from banditcore.slate_format import encode
from banditcore.slates import SlateBank, Snapshot
from banditcore.store.connect import connect
from banditcore.store.publish import publish
from metered import Told
from servers import running_server
from streamed import Producer, rows


def report(*parts: PartitionReport, outage: str = "") -> WorkerReport:
    return WorkerReport(parts, (), outage, 1.0)


def told_of(*reports: WorkerReport) -> list[list[tuple[int, int, int]]]:
    told = Told()
    meter = IngestMeter(told, "home")
    for each in reports:
        meter(each)
    return [
        [(part.applied, part.duplicate, part.refused) for part in parts]
        for _, parts, _ in told.reports
    ]


def test_a_worker_tells_what_it_applied_between_reports(store):
    told = Told()
    producer = Producer(store, of=1)
    bandit = Bandit("home", store)
    source = RedisStreamSource(bandit)
    worker = IngestWorker(bandit, source)
    meter = IngestMeter(told, "home", source.name)
    for n in (20, 30):
        producer.send(rows(n))
        assert worker.step()
        meter(worker.report())
    worker.release()
    source.close()
    [(name, [first], outage), (_, [second], _)] = told.reports
    assert (name, outage) == ("stream", False)
    assert (first.applied, second.applied) == (20, 30)
    assert (second.duplicate, second.refused, second.waiting, second.lag_s) == (0, 0, 0, 0.0)
    assert second.rate > 0


def test_totals_that_begin_anew_are_not_taken_for_less():
    taken_again = PartitionReport(0, epoch=1, applied=2)
    assert told_of(
        report(PartitionReport(0, epoch=1, applied=10, duplicate=1)),
        report(PartitionReport(0, epoch=1, applied=15, duplicate=1, refused=2)),
        report(PartitionReport(0, epoch=2, applied=20)),
        report(),
        report(PartitionReport(0, epoch=2, applied=26)),
        report(taken_again),
        report(PartitionReport(0, epoch=1, applied=2), PartitionReport(1, epoch=1, applied=9)),
    ) == [
        [(10, 1, 0)],
        [(5, 0, 2)],
        [(20, 0, 0)],
        [],
        [(6, 0, 0)],
        [(2, 0, 0)],
        [(0, 0, 0), (9, 0, 0)],
    ]


def test_a_partition_that_is_taken_again_in_the_same_epoch_counts_from_0():
    assert told_of(
        report(PartitionReport(5, applied=10)), report(PartitionReport(5, applied=4))
    ) == [[(10, 0, 0)], [(4, 0, 0)]]


def test_an_outage_and_a_partition_that_stands_still_are_told():
    told = Told()
    meter = IngestMeter(told, "home", "kafka:t")
    meter(report(PartitionReport(3, applied=1, lag_s=2.0, waiting=5, rate=1.5, error="damaged")))
    meter(report(outage="the store does not answer"))
    assert told.reports == [
        ("kafka:t", [PartitionState(3, 1, 0, 0, 2.0, 5, 1.5, failed=True)], False),
        ("kafka:t", [], True),
    ]


def test_a_refresh_tells_every_outcome(store):
    told = Told()
    bandit = Bandit("home", store)
    bandit.record("IN", "a")
    bandit.record("US", "a")
    bank = SlateBank(np.zeros((1, 1), dtype=np.int32))
    ahead = int((store.server_time() + 600) * 1e6)
    newer = Snapshot("home", "US", ahead, ["a"], [1.0], [1.0], bank)
    publish(store, "home", "US", encode(newer), newer.version)
    done = RefreshMeter(told, "home").run(bandit.refresh)
    assert (done.published, done.superseded) == (("", "IN"), ("US",))
    [(outcomes, error)] = told.refreshes
    assert {name: count for name, count in outcomes.items() if count} == {
        "published": 2,
        "superseded": 1,
    }
    assert {"failed"} <= set(outcomes)
    assert not {"seconds"} & set(outcomes)
    assert error == ""


def test_a_refresh_that_fails_is_told_and_raised():
    told = Told()
    with running_server() as server, connect(server.url, timeout_s=60) as store:
        bandit = Bandit("home", store)
        server.process.kill()
        server.process.wait()
        with pytest.raises(StoreUnavailableError):
            RefreshMeter(told, "home").run(bandit.refresh)
    assert told.refreshes == [({}, "StoreUnavailableError")]


def test_metrics_that_raise_stop_no_job(store, caplog):
    class Raising(BaseMetrics):
        def refreshed(self, *_, **__):
            raise RuntimeError

        def ingested(self, *_, **__):
            raise RuntimeError

    bandit = Bandit("home", store)
    bandit.record("IN", "a")
    assert RefreshMeter(Raising(), "home").run(bandit.refresh).failed == {}
    IngestMeter(Raising(), "home")(report())
    assert len(caplog.records) == 2
