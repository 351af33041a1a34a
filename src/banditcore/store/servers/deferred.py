"""A store that is opened when it is first used, so that a process can start without it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import redis

from banditcore.errors import StoreError, StoreUnavailableError
from banditcore.store.servers.transport import Answer, Command, Transport
from banditcore.store.servers.url import StoreAddress

__all__ = ["DeferredTransport"]


class DeferredTransport:
    """Opens another transport at its first use; when that fails, at the next one.

    Parameters
    ----------
    address : StoreAddress
        Where the store is.
    open_transport : callable
        Returns the transport, checked; raises StoreError.
    timeout_s : float
        How long a thread waits for another one that opens it.
    """

    def __init__(
        self, address: StoreAddress, open_transport: Callable[[], Transport], timeout_s: float
    ) -> None:
        self.address = address
        self._open_transport = open_transport
        self._timeout_s = timeout_s
        self._transport: Transport | None = None
        self._is_closed = False
        self._opening = threading.Lock()

    @property
    def is_opened(self) -> bool:
        """Whether a first use has succeeded."""
        return self._transport is not None

    @property
    def client(self) -> redis.Redis | redis.RedisCluster:
        """The client below."""
        return self._opened().client

    def send(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands and return their answers in order.

        Raises
        ------
        StoreError
            The store cannot be opened. Nothing was sent.
        """
        return self._opened().send(commands)

    def servers(self) -> dict[str, redis.Redis]:
        """Return a client of each primary there is now."""
        return self._opened().servers()

    def server(self, node: str) -> redis.Redis:
        """Return a client of a server."""
        return self._opened().server(node)

    def close(self) -> None:
        """Close what was opened. What is being opened is closed by who opens it."""
        self._is_closed = True
        transport = self._transport
        if transport is not None:
            transport.close()

    def _opened(self) -> Transport:
        if self._transport is not None:
            return self._transport
        # With a timeout: the thread that opens may have stayed behind in a parent process.
        if not self._opening.acquire(timeout=self._timeout_s):
            raise StoreUnavailableError(
                f"the store {self.address.shown} is being opened by another thread: try again"
            )
        try:
            if self._transport is None:
                self._transport = self._open_transport()
            if self._is_closed:
                self._transport.close()
                raise StoreError(f"the store {self.address.shown} is closed: connect again")
            return self._transport
        finally:
            self._opening.release()
