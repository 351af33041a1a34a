"""Finds the primary that sentinels watch, anew for each connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError, Sentinel

from banditcore.store.servers.url import StoreAddress

__all__ = ["CheckedSentinel"]

_OF_SENTINELS_TOO = {"driver_info", "protocol", "redis_connect_func", "retry"}


class CheckedSentinel(Sentinel):
    """Asks sentinels for the primary, and the primary whether it may be used.

    Parameters
    ----------
    address : StoreAddress
        The sentinels, and the service they watch.
    settings : mapping
        redis-py's settings of the connections to the primary.
    check : callable
        ``check(client, node)`` raises StoreUnfitError for a server that may not be used. Called
        when the sentinels name another server than before.
    """

    def __init__(
        self,
        address: StoreAddress,
        settings: Mapping[str, Any],
        check: Callable[[redis.Redis, str], None],
    ) -> None:
        # TLS and timeouts are the same for sentinels; users and databases are not.
        own = {
            name: value
            for name, value in settings.items()
            if name.startswith(("ssl", "socket_")) or name in _OF_SENTINELS_TOO
        }
        for name in ("username", "password"):
            if f"sentinel_{name}" in address.options:
                own[name] = address.options[f"sentinel_{name}"]
        super().__init__(  # type: ignore[no-untyped-call]
            list(address.nodes), sentinel_kwargs=own, **settings
        )
        self._places = address.nodes
        self._knew = 0
        self._settings = settings
        self._check = check
        self._checked: tuple[str, int] | None = None

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the primary's host and port.

        Raises
        ------
        StoreUnfitError
            It may not be used.
        redis.exceptions.ConnectionError
            No sentinel knows one, or the one they know is none, or not yet.
        """
        host, port = self._named(service_name)
        if self._checked != (host, port):
            with redis.Redis(host, port, **self._settings) as client:
                self._check(client, f"{host}:{port}")
            self._checked = (host, port)
        return host, port

    def _named(self, service: str) -> tuple[str, int]:
        """Ask one sentinel after the other. The text of redis-py's own error would fill a page."""
        reasons = []
        # First the one that knew last time: a silent one costs its timeout.
        for i in sorted(range(len(self._places)), key=lambda i: i != self._knew):
            host, port = self._places[i]
            try:
                known = cast("dict[str, dict[str, Any]]", self.sentinels[i].sentinel_masters())
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                reasons.append(f"{host}:{port}: {error}")
                continue
            state = known.get(service)
            if state is None:
                reasons.append(f"{host}:{port}: it watches no such service")
            elif state["is_sdown"] or state["is_odown"] or not state["is_master"]:
                reasons.append(f"{host}:{port}: the primary is down")
            else:
                self._knew = i
                return str(state["ip"]), int(state["port"])
        raise MasterNotFoundError(
            f"no sentinel names a primary of {service!r}: {'; '.join(reasons)}"
        )

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self.sentinels:
            sentinel.close()
