"""Metrics for Prometheus, by the library prometheus-client; needs the extra ``metrics``.

docs/observability.md lists the names. Segments have the label ``segment``, where ``/`` is the
global one and ``/others`` all those that do not go by their names.
"""

from __future__ import annotations

try:
    import prometheus_client as _prometheus_client  # noqa: F401
except ImportError as error:
    raise ImportError(
        "Prometheus needs the library prometheus-client: pip install 'banditcore[metrics]'"
    ) from error

from banditcore.prometheus.adapter import JOB_BUCKETS_S, REQUEST_BUCKETS_S, PrometheusMetrics

__all__ = ["JOB_BUCKETS_S", "REQUEST_BUCKETS_S", "PrometheusMetrics"]
