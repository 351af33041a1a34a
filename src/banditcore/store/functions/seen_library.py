"""Typed binding of seen.lua: one function here for each function there."""

from __future__ import annotations

from banditcore.store.functions.calling import Call

__all__ = ["FILE", "mark"]

FILE = "seen.lua"


def mark(record: str, *, now: int, horizon: int, most: int, exposures: bytes) -> Call:
    """Add exposures, each once. Times in seconds; exposures packed."""
    return Call("mark", (record,), (now, horizon, most, exposures), file=FILE)
