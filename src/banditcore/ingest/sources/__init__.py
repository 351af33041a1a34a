"""Where a worker's events come from."""

from banditcore.ingest.sources.source import (
    Delivery,
    OrderedSource,
    Ownership,
    PartitionUnavailableError,
    Source,
    SourceBatch,
    SourceReject,
    UnorderedSource,
)

__all__ = [
    "Delivery",
    "OrderedSource",
    "Ownership",
    "PartitionUnavailableError",
    "Source",
    "SourceBatch",
    "SourceReject",
    "UnorderedSource",
]
