"""Connects to a server of our own, and brings it back when nobody listens there any more."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.connection import UnixDomainSocketConnection

from banditcore.errors import StoreUnavailableError
from banditcore.store.embedded.server import EmbeddedServer

__all__ = ["EmbeddedConnection"]


class EmbeddedConnection(UnixDomainSocketConnection):
    """A connection to an embedded server, wherever that listens by now.

    A server that died is started once for each attempt to connect. What was under way on another
    connection stays lost: whether it ran, and whether it may be sent again, its caller must know.
    A server that hangs is not gone, and left alone.

    Parameters
    ----------
    server : EmbeddedServer
        This process's use of it.
    start_s : float
        The longest to wait for it to start and load its data, seconds.
    **settings
        As redis-py has them.
    """

    def __init__(self, *, server: EmbeddedServer, start_s: float, **settings: Any) -> None:
        super().__init__(path=str(server.socket_path), **settings)  # type: ignore[no-untyped-call]
        self._server = server
        self._start_s = start_s

    def _connect(self) -> socket.socket:
        # Another connection may have found it elsewhere.
        self.path = str(self._server.socket_path)
        try:
            return self._connected()
        except (FileNotFoundError, ConnectionRefusedError):
            self.path = str(self._revived())
            return self._connected()

    def _connected(self) -> socket.socket:
        made: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        return made

    def _revived(self) -> Path:
        try:
            return self._server.revive(self._start_s)
        except StoreUnavailableError as error:
            raise exceptions.ConnectionError(str(error)) from error
