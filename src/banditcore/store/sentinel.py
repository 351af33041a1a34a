"""Finds the primary that sentinels watch, anew for each connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import redis
from redis.sentinel import Sentinel

from banditcore.store.url import StoreAddress

__all__ = ["CheckedSentinel"]


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
            if name.startswith(("ssl", "socket_")) or name in {"retry", "protocol", "driver_info"}
        }
        for name in ("username", "password"):
            if f"sentinel_{name}" in address.options:
                own[name] = address.options[f"sentinel_{name}"]
        super().__init__(  # type: ignore[no-untyped-call]
            list(address.nodes), sentinel_kwargs=own, **settings
        )
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
        host, port = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        if self._checked != (host, port):
            with redis.Redis(host, port, **self._settings) as client:
                self._check(client, f"{host}:{port}")
            self._checked = (host, port)
        return host, port

    def close(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self.sentinels:
            sentinel.close()
