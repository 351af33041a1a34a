"""Which workers are there: by their number they share work, but nothing rests on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banditcore.store import keys
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["beat", "leave"]


def beat(store: Store, bandit: str, source: str, worker: bytes, for_s: float) -> int:
    """Say that a worker of a source is there for some seconds; return how many are, at least 1."""
    key = keys.workers(bandit, source)
    now = store.server_time()
    # First alone: what is sent together may come to run in another order.
    store.replies([Command(key, ("ZADD", key, now + for_s, worker))])
    words = (
        ("ZREMRANGEBYSCORE", key, "-inf", f"({now}"),
        ("EXPIRE", key, int(for_s) + 1),
        ("ZCOUNT", key, now, "+inf"),
    )
    *_, count = store.replies([Command(key, each) for each in words])
    return max(int(count), 1)


def leave(store: Store, bandit: str, source: str, worker: bytes) -> None:
    """Say that a worker is no longer there."""
    key = keys.workers(bandit, source)
    store.replies([Command(key, ("ZREM", key, worker))])
