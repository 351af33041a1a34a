"""Bandit recommendations: exact Thompson sampling, statistics in Redis, slates in a budget."""

from __future__ import annotations

from importlib.metadata import version as _version

from banditcore.bandit import Bandit
from banditcore.counts import ArmCounts
from banditcore.emitting import Emitter, EmitterStats
from banditcore.errors import (
    BanditCoreError,
    BufferFullError,
    ConfigurationConflictError,
    CorruptDataError,
    ExecutorUnavailableError,
    InvalidTypeError,
    InvalidValueError,
    NotAcknowledgedError,
    NotReadyError,
    PartlyAppliedError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
)
from banditcore.events import Event
from banditcore.ingest import IngestReport, ingest_log
from banditcore.logs import ColumnMap, EventLog
from banditcore.maintenance import (
    export_bandit,
    forget_arm,
    forget_bandit,
    forget_segment,
    import_bandit,
    verify_store,
)
from banditcore.posterior import Posterior, Prior
from banditcore.propensity import rank_probabilities, top_probabilities
from banditcore.recording import Applied
from banditcore.refresh import Refresher, RefreshReport, on_dask
from banditcore.sampling import active_kernel, quantile, sample_beta, thompson_topk
from banditcore.serving import (
    FrequencyCap,
    Recommendation,
    Recommendations,
    Recommender,
    SeenStats,
)
from banditcore.store import Store, connect
from banditcore.thompson_sampler import ThompsonSampler

__version__ = _version("banditcore")

__all__ = [
    "Applied",
    "ArmCounts",
    "Bandit",
    "BanditCoreError",
    "BufferFullError",
    "ColumnMap",
    "ConfigurationConflictError",
    "CorruptDataError",
    "Emitter",
    "EmitterStats",
    "Event",
    "EventLog",
    "ExecutorUnavailableError",
    "FrequencyCap",
    "IngestReport",
    "InvalidTypeError",
    "InvalidValueError",
    "NotAcknowledgedError",
    "NotReadyError",
    "PartlyAppliedError",
    "Posterior",
    "Prior",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "RefreshReport",
    "Refresher",
    "SeenStats",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "StoreUnfitError",
    "ThompsonSampler",
    "active_kernel",
    "connect",
    "export_bandit",
    "forget_arm",
    "forget_bandit",
    "forget_segment",
    "import_bandit",
    "ingest_log",
    "on_dask",
    "quantile",
    "rank_probabilities",
    "sample_beta",
    "thompson_topk",
    "top_probabilities",
    "verify_store",
]
