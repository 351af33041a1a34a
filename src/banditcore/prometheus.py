"""Metrics for Prometheus, by the library prometheus-client; needs the extra ``metrics``.

docs/observability.md lists the names. Segments have the label ``segment``, where ``/`` is the
global one and ``/others`` all those that do not go by their names.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf

from banditcore.errors import BanditCoreError, InvalidValueError, describe
from banditcore.metrics import NO_LIMITS_GIVEN, RUNGS, MetricsLimits, PartitionState, SnapshotState

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.exposition import start_http_server
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.values import ValueClass
except ImportError as error:
    raise ImportError(
        "Prometheus needs the library prometheus-client: pip install 'banditcore[metrics]'"
    ) from error

__all__ = ["JOB_BUCKETS_S", "REQUEST_BUCKETS_S", "PrometheusMetrics"]

REQUEST_BUCKETS_S = tuple(
    float(f"{digit}e{power}") for power in range(-6, 0) for digit in (1, 2, 5)
)[:-1]
"""From a microsecond to twice the usual budget, 0.2 s."""

JOB_BUCKETS_S = tuple(float(f"{digit}e{power}") for power in range(-3, 3) for digit in (1, 2.5, 5))
"""From a millisecond to over eight minutes."""

_MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
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
        is_shared = _is_shared()
        # What is in the shared directory cannot be taken away again.
        self._limits = replace(limits, keeps_names=limits.keeps_names or is_shared)
        self._gauges = _Gauges(is_shared)
        self.exposed = _of_all_processes() if is_shared else where

        def histogram(
            name: str, text: str, labels: Sequence[str], buckets: Sequence[float]
        ) -> Histogram:
            return Histogram(f"banditcore_{name}", text, labels, registry=where, buckets=buckets)

        def counter(name: str, text: str, *labels: str) -> _Counts:
            return _Counts(Counter(f"banditcore_{name}", text, labels, registry=where))

        def gauge(name: str, text: str, mode: str, *labels: str) -> Gauge:
            return Gauge(f"banditcore_{name}", text, labels, registry=where, multiprocess_mode=mode)  # type: ignore[arg-type]  # a Literal of theirs

        self._requests = histogram(
            "request_seconds",
            "Seconds that recommend() took, by what answered",
            ("bandit", "rung"),
            request_buckets_s,
        )
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


def _is_shared() -> bool:
    """Whether prometheus-client keeps all values in files that processes share."""
    is_shared: bool = ValueClass._multiprocess
    directory = os.environ.get(_MULTIPROCESS_VARIABLE)
    if (directory is not None) != is_shared:
        raise InvalidValueError(
            describe(
                _MULTIPROCESS_VARIABLE,
                directory,
                "it counts when prometheus_client is first imported: set it before, and leave it",
            )
        )
    return is_shared


def _of_all_processes() -> CollectorRegistry:
    registry = CollectorRegistry()
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError as error:
        directory = os.environ.get(_MULTIPROCESS_VARIABLE)
        raise InvalidValueError(
            describe(_MULTIPROCESS_VARIABLE, directory, "an existing directory, for this alone")
        ) from error
    return registry


class _Counts:
    """A counter whose children are found faster than by prometheus-client."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children: dict[tuple[str, ...], Callable[[float], None]] = {}

    def add(self, count: float, *labels: str) -> None:
        """Add to the count of some labels."""
        try:
            increase = self._children[labels]
        except KeyError:
            increase = self._children[labels] = self._counter.labels(*labels).inc
        increase(count)


class _Gauges:
    """Sets gauges, and takes away those of what is there no more.

    Shared by processes, a gauge cannot be taken away. It gets the value then that never decides
    what is shown of all processes.

    prometheus-client sets all of them to 0 in a forked child, which would then be shown as the
    lowest of all: they are set again before the child tells anything.
    """

    def __init__(self, is_shared: bool) -> None:
        self.is_shared = is_shared
        self.is_forked = False
        self._values: dict[Gauge, dict[tuple[str, ...], float]] = {}

    def set(self, gauge: Gauge, labels: tuple[str, ...], value: float) -> None:
        """Set one."""
        if self.is_forked:
            self.set_again()
        values = self._values.setdefault(gauge, {})
        if values.get(labels) != value:
            gauge.labels(*labels).set(value)
            values[labels] = value

    def show_only(
        self,
        gauge: Gauge,
        owner: tuple[str, ...],
        shown: Mapping[tuple[str, ...], float],
    ) -> None:
        """Set those whose first labels are `owner`, and take away the others that it had."""
        for labels, value in shown.items():
            self.set(gauge, labels, value)
        values = self._values.get(gauge, {})
        for labels in [each for each in values if each[: len(owner)] == owner]:
            if labels in shown:
                continue
            if self.is_shared:
                self.set(gauge, labels, _NEUTRAL[gauge._multiprocess_mode])
            else:
                gauge.remove(*labels)
                del values[labels]

    def set_again(self) -> None:
        """Set all that were set before a fork."""
        self.is_forked = False
        for gauge, values in list(self._values.items()):
            for labels, value in list(values.items()):
                gauge.labels(*labels).set(value)


_NEUTRAL = {"livemin": inf, "livemax": -inf, "livesum": 0.0}
