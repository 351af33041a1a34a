"""Counts for Prometheus what jobs and recommenders tell."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import start_http_server

from banditcore.errors import BanditCoreError, InvalidValueError, describe
from banditcore.metrics import NO_LIMITS_GIVEN, RUNGS, MetricsLimits, PartitionState, SnapshotState
from banditcore.prometheus.children import Counts, Gauges, is_shared, of_all_processes

__all__ = ["JOB_BUCKETS_S", "REQUEST_BUCKETS_S", "PrometheusMetrics"]

REQUEST_BUCKETS_S = tuple(
    float(f"{digit}e{power}") for power in range(-6, 0) for digit in (1, 2, 5)
)[:-1]
"""From a microsecond to twice the usual budget, 0.2 s."""

JOB_BUCKETS_S = tuple(float(f"{digit}e{power}") for power in range(-3, 3) for digit in (1, 2.5, 5))
"""From a millisecond to over eight minutes."""

_GLOBAL = "/"

_ALL: weakref.WeakSet[PrometheusMetrics] = weakref.WeakSet()


def _after_fork() -> None:
    for metrics in _ALL:
        metrics._gauges.is_forked = metrics._gauges.is_shared


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class PrometheusMetrics:
    """Counts for Prometheus what jobs and recommenders tell. Make one a process and registry.

    Several processes share an endpoint as prometheus-client has it: each has an empty directory,
    the same, in the environment variable ``PROMETHEUS_MULTIPROC_DIR`` from its start on.

    Parameters
    ----------
    registry : CollectorRegistry, optional
        Where to register. Default: prometheus-client's own.
    limits : MetricsLimits
        How many segments go by their names, and when exploration has collapsed.
    request_buckets_s : sequence of float
        Upper bounds of the buckets of requests, ascending, in seconds; give your budget's.

    Raises
    ------
    InvalidValueError
        The registry has banditcore's metrics already, buckets do not ascend, or the directory in
        ``PROMETHEUS_MULTIPROC_DIR`` is missing, or was named after prometheus-client was imported.

    Attributes
    ----------
    exposed : CollectorRegistry
        What an endpoint has to show: `registry`, or all that is in the shared directory. Any of
        prometheus-client's takes it, such as ``make_wsgi_app(metrics.exposed)``.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        limits: MetricsLimits = NO_LIMITS_GIVEN,
        request_buckets_s: Sequence[float] = REQUEST_BUCKETS_S,
    ) -> None:
        where = REGISTRY if registry is None else registry
        shares = is_shared()
        # What is in the shared directory cannot be taken away again.
        self._limits = replace(limits, keeps_names=limits.keeps_names or shares)
        self._gauges = Gauges(is_shared=shares)
        self.exposed = of_all_processes() if shares else where

        def histogram(
            name: str, text: str, labels: Sequence[str], buckets: Sequence[float]
        ) -> Histogram:
            return Histogram(f"banditcore_{name}", text, labels, registry=where, buckets=buckets)

        def counter(name: str, text: str, *labels: str) -> Counts:
            return Counts(Counter(f"banditcore_{name}", text, labels, registry=where))

        def gauge(name: str, text: str, mode: str, *labels: str) -> Gauge:
            return Gauge(f"banditcore_{name}", text, labels, registry=where, multiprocess_mode=mode)  # type: ignore[arg-type]  # a Literal of theirs

        try:
            self._requests = histogram(
                "request_seconds",
                "Seconds that recommend() took, by what answered",
                ("bandit", "rung"),
                request_buckets_s,
            )
        except ValueError as error:  # the first of all: the others meet the same
            remedy = f"one PrometheusMetrics a registry, with ascending buckets: {error}"
            given = {"registry": registry, "request_buckets_s": request_buckets_s}
            raise InvalidValueError(describe("argument", given, remedy)) from error
        self._observed: dict[tuple[str, str], Callable[[float], None]] = {}
        self._batches = histogram(
            "batch_seconds", "Seconds that recommend_many() took", ("bandit",), JOB_BUCKETS_S
        )
        self._seen = histogram(
            "seen_lookup_seconds",
            "Seconds that looking up what a user has seen took",
            ("bandit", "outcome"),
            request_buckets_s,
        )
        self._reloads = histogram(
            "reload_seconds", "Seconds that a look for snapshots took", ("bandit",), JOB_BUCKETS_S
        )
        self._refreshes = histogram(
            "refresh_seconds", "Seconds that a run of refresh took", ("bandit",), JOB_BUCKETS_S
        )
        self._batch_answers = counter(
            "batch_answers", "Answers of recommend_many(), by what answered", "bandit", "rung"
        )
        self._fallbacks = counter(
            "fallbacks", "Answers that are less than was asked for, by reason", "bandit", "reason"
        )
        self._raised = counter("requests_raised", "Requests without an answer", "bandit", "error")
        self._reload_failures = counter(
            "reload_failures", "Looks for snapshots that failed", "bandit", "error"
        )
        self._loaded = counter("snapshots_loaded", "Snapshots that were taken over", "bandit")
        self._refreshed = counter(
            "refreshed_segments", "Segments that refresh has done, by outcome", "bandit", "outcome"
        )
        self._refresh_failures = counter(
            "refresh_failures", "Runs of refresh that failed as a whole", "bandit", "error"
        )
        self._events = counter(
            "ingested_events", "Events, by what became of them", "bandit", "source", "outcome"
        )
        # Of several processes the worst one counts.
        segment = ("bandit", "segment")
        self._of_segment = {
            "version": gauge(
                "snapshot_version_seconds",
                "Moment of the counts behind a snapshot, seconds since 1970",
                "livemin",
                *segment,
            ),
            "age_s": gauge(
                "snapshot_age_seconds",
                "Age of a snapshot when it was last looked for a newer one",
                "livemax",
                *segment,
            ),
            "entropy": gauge(
                "exploration_entropy",
                "Normalised entropy of the first place over the slate bank, 0 to 1",
                "livemin",
                *segment,
            ),
            "effective_arms": gauge(
                "exploration_effective_arms",
                "As many equally likely arms have the entropy of the first place",
                "livemin",
                *segment,
            ),
            "alarms": gauge(
                "exploration_collapsed",
                "Segments whose exploration has collapsed",
                "livemax",
                *segment,
            ),
        }
        self._snapshots = gauge("snapshots", "Segments that have a snapshot", "livemin", "bandit")
        self._rejected = gauge(
            "rejected_blobs", "Published blobs that cannot be used", "livemax", "bandit"
        )
        self._last_refresh = gauge(
            "refresh_last_success_seconds",
            "Moment of the last run of refresh without an error, seconds since 1970",
            "max",
            "bandit",
        )
        partition = ("bandit", "source", "partition")
        self._of_partition = {
            "lag_s": gauge(
                "ingest_lag_seconds", "Age of the newest applied event", "livemax", *partition
            ),
            "waiting": gauge(
                "ingest_waiting_events", "Events to be applied", "livemax", *partition
            ),
            "rate": gauge(
                "ingest_events_per_second", "Events read a second", "livesum", *partition
            ),
            "failed": gauge(
                "ingest_stands_still",
                "1 while a partition waits for a person to look at it",
                "livemax",
                *partition,
            ),
        }
        self._outage = gauge(
            "ingest_outage",
            "1 while a worker waits for its store or source",
            "livemax",
            "bandit",
            "source",
        )
        _ALL.add(self)

    @property
    def limits(self) -> MetricsLimits:
        """How much to tell of segments."""
        return self._limits

    def answered(self, bandit: str, rung: str, seconds: float, reasons: Sequence[str]) -> None:
        """Put one answer into the histogram of its rung."""
        if self._gauges.is_forked:
            self._gauges.set_again()
        try:
            observe = self._observed[bandit, rung]
        except KeyError:
            observe = self._requests.labels(bandit, rung).observe
            self._observed[bandit, rung] = observe
        observe(seconds)
        for reason in reasons:
            self._fallbacks.add(1, bandit, reason)

    def answered_many(
        self, bandit: str, rungs: Mapping[str, int], seconds: float, reasons: Mapping[str, int]
    ) -> None:
        """Put a batch into its histogram, and count its answers."""
        self._batches.labels(bandit).observe(seconds)
        for rung, count in rungs.items():
            self._batch_answers.add(count, bandit, rung)
        for reason, count in reasons.items():
            self._fallbacks.add(count, bandit, reason)

    def raised(self, bandit: str, error: str) -> None:
        """Count a request without an answer."""
        self._raised.add(1, bandit, error)

    def seen_looked_up(self, bandit: str, seconds: float, *, ok: bool) -> None:
        """Put a look-up into the histogram of its outcome."""
        self._seen.labels(bandit, "ok" if ok else "failed").observe(seconds)

    def reloaded(
        self, bandit: str, seconds: float, *, changed: int, rejected: int, error: str
    ) -> None:
        """Put a look for snapshots into its histogram."""
        for rung in RUNGS:  # what comes into being with the first request costs more than it
            self._observed.setdefault((bandit, rung), self._requests.labels(bandit, rung).observe)
        self._reloads.labels(bandit).observe(seconds)
        self._loaded.add(changed, bandit)
        self._gauges.set(self._rejected, (bandit,), rejected)
        if error:
            self._reload_failures.add(1, bandit, error)

    def snapshots(self, bandit: str, held: Mapping[str, SnapshotState]) -> None:
        """Show the snapshots that are held, and no others."""
        total = sum(state.segments for state in held.values())
        self._gauges.set(self._snapshots, (bandit,), total)
        for name, gauge in self._of_segment.items():
            shown: dict[tuple[str, ...], float] = {}
            for segment, state in held.items():
                value = getattr(state, name)
                if value is not None:
                    shown[bandit, segment or _GLOBAL] = value / 1e6 if name == "version" else value
            self._gauges.show_only(gauge, (bandit,), shown)

    def refreshed(
        self, bandit: str, seconds: float, outcomes: Mapping[str, int], *, error: str
    ) -> None:
        """Put a run of refresh into its histogram, and count its segments."""
        self._refreshes.labels(bandit).observe(seconds)
        for outcome, count in outcomes.items():
            self._refreshed.add(count, bandit, outcome)
        if error:
            self._refresh_failures.add(1, bandit, error)
        else:
            self._last_refresh.labels(bandit).set_to_current_time()

    def ingested(
        self, bandit: str, source: str, partitions: Sequence[PartitionState], *, outage: bool
    ) -> None:
        """Count events, and show the partitions that are owned, and no others."""
        for part in partitions:
            for outcome in ("applied", "duplicate", "refused"):
                self._events.add(getattr(part, outcome), bandit, source, outcome)
        for name, gauge in self._of_partition.items():
            shown: dict[tuple[str, ...], float] = {
                (bandit, source, str(part.partition)): float(value)
                for part in partitions
                if (value := getattr(part, name)) is not None
            }
            self._gauges.show_only(gauge, (bandit, source), shown)
        self._gauges.set(self._outage, (bandit, source), outage)

    @contextmanager
    def serving(self, port: int, host: str = "127.0.0.1") -> Iterator[int]:
        """Answer scrapes over HTTP meanwhile; yield the port.

        Parameters
        ----------
        port : int
            0 for one that is free.
        host : str
            An address of this machine; the default is reached from itself only.

        Raises
        ------
        BanditCoreError
            Nobody can listen there.
        """
        try:
            server, thread = start_http_server(port, host, self.exposed)
        except (OSError, OverflowError) as error:
            where = f"{host}:{port}"
            raise BanditCoreError(
                describe("metrics port", where, f"cannot be listened on: {error}")
            ) from error
        thread.name = "banditcore-metrics"
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
