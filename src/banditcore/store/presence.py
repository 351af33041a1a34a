"""Which workers are there: by their number they share work, but nothing rests on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banditcore.store import keys
from banditcore.store.connect import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["beat", "leave"]


def beat(store: Store, bandit: str, source: str, worker: bytes, for_s: float) -> int:
    """Say that a worker of a source is there for some seconds; return how many are, at least 1."""
    key = keys.workers(bandit, source)
    now = store.server_time()
    with translating(store):
        pipeline = store.client.pipeline(transaction=False)
        pipeline.zadd(key, {worker: now + for_s})
        pipeline.zremrangebyscore(key, "-inf", f"({now}")
        pipeline.expire(key, int(for_s) + 1)
        pipeline.zcard(key)
        return max(int(pipeline.execute()[-1]), 1)


def leave(store: Store, bandit: str, source: str, worker: bytes) -> None:
    """Say that a worker is no longer there."""
    with translating(store):
        store.client.zrem(keys.workers(bandit, source), worker)
