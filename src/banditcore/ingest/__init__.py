"""Applies events to the counts: a log once, a source for as long as it runs."""

from __future__ import annotations

from banditcore.ingest.log_job import IngestReport, ingest_log
from banditcore.ingest.report import PartitionReport, WorkerReport
from banditcore.ingest.worker import IngestWorker

__all__ = ["IngestReport", "IngestWorker", "PartitionReport", "WorkerReport", "ingest_log"]
