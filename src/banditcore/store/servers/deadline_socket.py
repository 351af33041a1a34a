"""A socket on which a whole exchange has a deadline, not each piece of it.

redis-py bounds each wait for a piece of a reply, so a connection that lets a byte through now and
then would hold a caller for hours.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

__all__ = ["LEAST_BYTES_PER_S", "DeadlineSocket", "bound_exchanges", "release", "set_deadlines"]

LEAST_BYTES_PER_S = 1 << 16
"""A connection that is slower for longer than its timeout is given up."""

_SLACK = 1 / 16
"""What part of the timeout a wait may be too long, which spares most calls of the system."""

_AT_ONCE = LEAST_BYTES_PER_S
"""The most that is sent in one wait."""


class DeadlineSocket:
    """Stands before a connected socket. Commands are sent, and their replies received, in turn.

    To send commands may take the socket's timeout, and a second for each 64 KiB of them. So may
    their replies, from when they are first waited for: the timeout, and a second for each 64 KiB
    of them or of the commands. No single wait is longer than the timeout.

    Parameters
    ----------
    connected : socket.socket
        Whatever is not bounded here goes to it as it is.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.bare = connected
        # Asked for before each use.
        self.fileno = connected.fileno
        self.pending: Callable[[], int] = getattr(connected, "pending", _none_pending)
        self._timeout = self._set = connected.gettimeout()
        self._receives = True
        self._began = 0.0
        self._moved = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def settimeout(self, timeout: float | None) -> None:
        """Set the timeout of a wait, and of an exchange, in seconds."""
        self._timeout = self._set = timeout
        self.bare.settimeout(timeout)

    def sendall(self, command: bytes | memoryview) -> None:
        """Send a part of the commands; the first one after a reply begins an exchange."""
        if self._receives:
            self._receives, self._moved = False, 0
            self._began = time.monotonic()
        # Its own sendall bounds everything like a single wait; with TLS its send does so too.
        unsent = memoryview(command).cast("B")
        while True:
            self._bound()
            sent = self.bare.send(unsent[:_AT_ONCE])
            self._moved += sent
            if sent == len(unsent):
                return
            unsent = unsent[sent:]

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive a part of the replies."""
        if flags:  # looks at what there is
            return self.bare.recv(size, flags)
        self._receive()
        received = self.bare.recv(size)
        self._moved += len(received)
        return received

    def recv_into(self, buffer: bytearray) -> int:
        """Receive a part of the replies into a buffer."""
        self._receive()
        size = self.bare.recv_into(buffer)
        self._moved += size
        return size

    def _receive(self) -> None:
        if not self._receives:
            self._receives = True
            # Not when the commands were sent: other servers may have been listened to meanwhile.
            self._began = time.monotonic()
        self._bound()

    def _bound(self) -> None:
        """Let the next wait end with what is left of the time."""
        if not self._timeout:  # waits for ever, or not at all
            return
        passed = time.monotonic() - self._began
        left = self._timeout + self._moved / LEAST_BYTES_PER_S - passed
        if left <= 0:
            raise TimeoutError("timed out")
        wait = min(left, self._timeout)
        if self._set is None or not wait <= self._set <= wait + _SLACK * self._timeout:
            self._set = wait
            self.bare.settimeout(wait)


def _none_pending() -> int:
    """Return how many bytes are decrypted, where nothing is encrypted."""
    return 0


def set_deadlines(connection: AbstractConnection) -> None:
    """Put deadlines on a connection that was just made, before anything is read from it."""
    vars(connection)["_sock"] = DeadlineSocket(vars(connection)["_sock"])


def bound_exchanges(connection: AbstractConnection) -> None:
    """Put deadlines on a connection and log it in; a `redis_connect_func`."""
    set_deadlines(connection)
    connection.on_connect()


def release(connection: AbstractConnection) -> socket.socket:
    """Return the socket without deadlines; the connection lets go of it and will never close it."""
    held: Any = connection._sock
    vars(connection)["_sock"] = None
    found: socket.socket = held.bare if isinstance(held, DeadlineSocket) else held
    return found
