"""Where a worker's events come from."""

from banditcore.sources.source import Ownership, Source, SourceBatch, SourceReject

__all__ = ["Ownership", "Source", "SourceBatch", "SourceReject"]
