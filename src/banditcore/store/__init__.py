"""Everything that speaks to Redis or Valkey. Nothing outside this package does."""

from __future__ import annotations

from banditcore.store.connect import Store, connect

__all__ = ["Store", "connect"]
