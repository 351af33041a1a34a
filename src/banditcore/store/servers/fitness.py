"""Checks that a server can keep the store's promises."""

from __future__ import annotations

import time
from collections.abc import Mapping

import redis
from redis import exceptions

from banditcore.errors import StoreUnfitError, describe
from banditcore.store.servers.url import StoreAddress

__all__ = ["MIN_VERSION", "Facts", "check", "facts", "loaded"]

MIN_VERSION = (7, 0)
"""The oldest server: function libraries came with Redis 7.0."""

Facts = Mapping[str, object]
"""What INFO says, by name."""

_SECTIONS = ("server", "memory", "persistence", "replication", "cluster")
_LOADING_POLL_S = 0.02


def facts(client: redis.Redis) -> Facts:
    """Return what a server says of itself."""
    return dict(client.info(*_SECTIONS))


def loaded(client: redis.Redis, deadline: float) -> Facts:
    """Return what a server says of itself once it has loaded its data.

    Parameters
    ----------
    deadline : float
        By `time.monotonic`; later it raises `redis.exceptions.BusyLoadingError`.
    """
    while True:
        found = facts(client)
        if not found.get("loading"):  # INFO is answered while it loads
            return found
        if time.monotonic() >= deadline:
            raise exceptions.BusyLoadingError("loading:1")
        time.sleep(_LOADING_POLL_S)


def check(found: Facts, address: StoreAddress, node: str = "") -> None:
    """Raise StoreUnfitError, with the remedy, unless a server may be used.

    Parameters
    ----------
    node : str
        Which of the store's servers it is, if it has several.
    """
    shown = f"{address.shown} (node {node})" if node else address.shown

    def unfit(name: str, remedy: str) -> StoreUnfitError:
        return StoreUnfitError(describe(f"{name} of {shown}", found.get(name), remedy))

    version = str(found.get("redis_version", ""))
    if _version(version) < MIN_VERSION:
        oldest = ".".join(map(str, MIN_VERSION))
        raise unfit("redis_version", f"banditcore needs Redis {oldest} or later, or Valkey")
    if str(found.get("cluster_enabled", 0)) == "1" and not address.is_cluster:
        raise unfit("cluster_enabled", "it is part of a cluster; write redis+cluster://")
    mode = "server_mode" if "server_mode" in found else "redis_mode"  # Valkey's name first
    if found.get(mode) == "sentinel":
        raise unfit(
            mode,
            "a sentinel holds no data; write redis+sentinel://.../service, or connect "
            "to the primary it watches",
        )
    if found.get("role") != "master":
        raise unfit("role", "a replica is read-only; connect to its primary")
    if found.get("maxmemory_policy") != "noeviction":
        raise unfit(
            "maxmemory_policy",
            "the server may evict keys, and counts would be lost unseen; run `CONFIG SET "
            "maxmemory-policy noeviction` and set it in the server's configuration too",
        )


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)
