"""Events to their streams, accepted at once, sent in the background."""

from __future__ import annotations

from banditcore.emitting.emitter import Emitter, EmitterStats

__all__ = ["Emitter", "EmitterStats"]
