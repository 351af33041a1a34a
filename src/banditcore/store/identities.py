"""Which servers hold the data: others than before may hold less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from banditcore.errors import StoreError, describe
from banditcore.store.connect import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["identities"]


def identities(store: Store) -> tuple[str, ...]:
    """Return the run ids of the store's primaries, sorted.

    A server that restarts has a new one, and so has a replica that takes over: the moments at
    which acknowledged writes can get lost.
    """
    with translating(store):
        facts = store.client.info("server")
    run_id = facts.get("run_id")
    if not run_id:
        raise StoreError(
            describe("run_id", run_id, "INFO server must tell it; lost writes go unseen without")
        )
    return (str(run_id),)
