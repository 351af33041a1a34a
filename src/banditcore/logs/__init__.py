"""Event log files (csv, JSON lines) as an ordered source of events."""

from __future__ import annotations

from banditcore.logs.columns import ColumnMap
from banditcore.logs.lines import Tail
from banditcore.logs.log import EventLog, LogBatch, Position, Reject

__all__ = ["ColumnMap", "EventLog", "LogBatch", "Position", "Reject", "Tail"]
