"""The adapter for Prometheus, by what it exposes."""

from __future__ import annotations

import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from banditcore.errors import BanditCoreError, InvalidValueError
from banditcore.metrics import OTHERS, Metrics, MetricsLimits, PartitionState, SnapshotState
from banditcore.prometheus import JOB_BUCKETS_S, REQUEST_BUCKETS_S, PrometheusMetrics

LABELS = ("bandit", "source", "partition", "segment", "rung", "reason", "error", "outcome", "le")
VERSION = 1_790_000_000_000_000


def exposed(metrics: PrometheusMetrics) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and label values, but for moments of creation."""
    text = generate_latest(metrics.exposed).decode()
    return {
        (
            sample.name.removeprefix("banditcore_"),
            *(sample.labels[name] for name in LABELS if name in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def state(**changes) -> SnapshotState:
    given = {
        "segments": 1,
        "version": VERSION,
        "age_s": 12.0,
        "entropy": 0.75,
        "effective_arms": 9.5,
        "alarms": 0,
    }
    return SnapshotState(**given | changes)


def part(partition: int, **changes) -> PartitionState:
    given = {
        "partition": partition,
        "applied": 0,
        "duplicate": 0,
        "refused": 0,
        "lag_s": None,
        "waiting": None,
        "rate": 0.0,
        "failed": False,
    }
    return PartitionState(**given | changes)


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics(CollectorRegistry())


def test_it_fits_the_protocol(metrics):
    assert isinstance(metrics, Metrics)
    assert metrics.limits == MetricsLimits()


def test_answers_are_a_histogram_by_rung(metrics):
    for seconds in (3e-6, 5e-6, 0.09, 3.0):
        metrics.answered("home", "segment", seconds, ())
    metrics.answered("home", "parent", 1e-6, ("old", "stale"))
    found = exposed(metrics)
    of = ("request_seconds_bucket", "home", "segment")
    assert [found[*of, le] for le in ("2e-06", "5e-06", "0.05", "0.1", "0.2", "+Inf")] == [
        0, 2, 2, 3, 3, 4,
    ]  # fmt: skip
    assert found["request_seconds_sum", "home", "segment"] == pytest.approx(3.090008)
    assert found["request_seconds_count", "home", "parent"] == 1
    assert found["fallbacks_total", "home", "old"] == 1
    assert found["fallbacks_total", "home", "stale"] == 1


def test_buckets_go_from_microseconds_past_the_budget():
    assert REQUEST_BUCKETS_S[:4] == (1e-6, 2e-6, 5e-6, 1e-5)
    assert REQUEST_BUCKETS_S[-3:] == (0.05, 0.1, 0.2)
    assert JOB_BUCKETS_S[0] == 0.001
    assert JOB_BUCKETS_S[-1] == 500
    chosen = PrometheusMetrics(CollectorRegistry(), request_buckets_s=(0.5,))
    chosen.answered("home", "segment", 0.1, ())
    assert exposed(chosen)["request_seconds_bucket", "home", "segment", "0.5"] == 1


def test_batches_errors_and_lookups(metrics):
    metrics.answered_many("home", {"segment": 900, "global": 100}, 0.01, {"missing": 100})
    metrics.raised("home", "NotReadyError")
    metrics.seen_looked_up("home", 0.0001, ok=True)
    metrics.seen_looked_up("home", 0.02, ok=False)
    found = exposed(metrics)
    assert found["batch_seconds_count", "home"] == 1
    assert found["batch_answers_total", "home", "segment"] == 900
    assert found["batch_answers_total", "home", "global"] == 100
    assert found["fallbacks_total", "home", "missing"] == 100
    assert found["requests_raised_total", "home", "NotReadyError"] == 1
    assert found["seen_lookup_seconds_count", "home", "ok"] == 1
    assert found["seen_lookup_seconds_sum", "home", "failed"] == 0.02


def test_reloads_show_all_rungs_from_the_start(metrics):
    metrics.reloaded("home", 0.2, changed=5, rejected=2, error="")
    metrics.reloaded("home", 0.2, changed=0, rejected=1, error="StoreUnavailableError")
    found = exposed(metrics)
    assert found["reload_seconds_count", "home"] == 2
    assert found["snapshots_loaded_total", "home"] == 5
    assert found["rejected_blobs", "home"] == 1
    assert found["reload_failures_total", "home", "StoreUnavailableError"] == 1
    for rung in ("segment", "parent", "global", "default"):
        assert found["request_seconds_count", "home", rung] == 0


def test_snapshots_are_shown_by_segment_and_go_with_it(metrics):
    metrics.snapshots("other", {"IN": state()})
    metrics.snapshots(
        "home", {"": state(), "IN": state(alarms=1), OTHERS: state(segments=5, entropy=None)}
    )
    found = exposed(metrics)
    assert found["snapshots", "home"] == 7
    assert found["snapshot_version_seconds", "home", "/"] == VERSION / 1e6
    assert found["snapshot_age_seconds", "home", "IN"] == 12
    assert found["exploration_entropy", "home", "IN"] == 0.75
    assert ("exploration_entropy", "home", OTHERS) not in found
    assert found["exploration_effective_arms", "home", "/"] == 9.5
    assert found["exploration_collapsed", "home", "IN"] == 1
    metrics.snapshots("home", {"": state()})
    left = {key for key in exposed(metrics) if key[1:] in {("home", "IN"), ("home", OTHERS)}}
    assert left == set()
    assert exposed(metrics)["exploration_entropy", "other", "IN"] == 0.75


def test_ids_of_any_kind_are_escaped(metrics):
    segment = 'a"b\\c\nd é'
    metrics.snapshots("home", {segment: state()})
    assert exposed(metrics)["snapshot_age_seconds", "home", segment] == 12


def test_refreshes_are_told_by_outcome(metrics):
    metrics.refreshed("home", 2.0, {"published": 3, "failed": 1}, error="")
    metrics.refreshed("home", 0.1, {}, error="StoreUnavailableError")
    found = exposed(metrics)
    assert found["refresh_seconds_sum", "home"] == 2.1
    assert found["refreshed_segments_total", "home", "published"] == 3
    assert found["refreshed_segments_total", "home", "failed"] == 1
    assert found["refresh_failures_total", "home", "StoreUnavailableError"] == 1
    assert found["refresh_last_success_seconds", "home"] > 1.7e9


def test_partitions_are_shown_while_they_are_owned(metrics):
    first = part(0, applied=10, duplicate=2, refused=1, lag_s=4.0, waiting=7, rate=12.5)
    metrics.ingested("home", "stream", [first, part(1, failed=True)], outage=False)
    metrics.ingested("home", "kafka:t", [part(0, lag_s=9.0)], outage=False)
    found = exposed(metrics)
    assert [
        found["ingested_events_total", "home", "stream", outcome]
        for outcome in ("applied", "duplicate", "refused")
    ] == [10, 2, 1]
    for name, value in {
        "ingest_lag_seconds": 4.0,
        "ingest_waiting_events": 7,
        "ingest_events_per_second": 12.5,
        "ingest_stands_still": 0,
    }.items():
        assert found[name, "home", "stream", "0"] == value, name
    assert found["ingest_stands_still", "home", "stream", "1"] == 1
    assert found["ingest_outage", "home", "stream"] == 0
    metrics.ingested("home", "stream", [], outage=True)
    found = exposed(metrics)
    assert not {key for key in found if key[1:3] == ("home", "stream") and len(key) == 4} - {
        ("ingested_events_total", "home", "stream", outcome)
        for outcome in ("applied", "duplicate", "refused")
    }
    assert found["ingest_outage", "home", "stream"] == 1
    assert found["ingest_lag_seconds", "home", "kafka:t", "0"] == 9


def test_it_serves_scrapes_on_loopback_until_its_end(metrics):
    metrics.raised("home", "NotReadyError")
    with metrics.serving(0) as port, urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        assert b'requests_raised_total{bandit="home",error="NotReadyError"} 1.0' in reply.read()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_named(metrics):
    match = "metrics port is '127.0.0.1:"
    with metrics.serving(0) as port, pytest.raises(BanditCoreError, match=match):
        metrics.serving(port).__enter__()


def test_without_the_library_the_extra_is_named():
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import banditcore\n"
        "try:\n    import banditcore.prometheus\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'banditcore[metrics]'" in done.stdout


def test_a_directory_that_is_named_too_late_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(InvalidValueError, match="set it before"):
        PrometheusMetrics(CollectorRegistry())


def test_a_registry_that_has_them_and_buckets_that_descend_are_refused(metrics):
    with pytest.raises(InvalidValueError, match="one PrometheusMetrics a registry"):
        PrometheusMetrics(metrics.exposed)
    with pytest.raises(InvalidValueError, match="ascending"):
        PrometheusMetrics(CollectorRegistry(), request_buckets_s=(2.0, 1.0))
