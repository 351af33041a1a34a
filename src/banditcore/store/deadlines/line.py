"""One connection that is asked against a deadline, by a thread or by a coroutine.

redis-py bounds each read, so a server that sends a byte at a time stretches a reply without end.
Here the deadline is that of the whole reply. After any failure the connection is given up: a
reply that comes late must never be taken for the answer to another question.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING

from banditcore.store.deadlines.resp import Replies, Reply
from banditcore.store.servers.deadline_socket import release

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

__all__ = ["LOST", "Line", "reason"]

_AT_ONCE = 1 << 16

_WAITING = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

LOST = (OSError, EOFError, ValueError)
"""What is raised when there is no answer: TimeoutError, the connection's errors, no RESP2."""


class Line:
    """A connection that is open and authenticated, for one question at a time.

    Parameters
    ----------
    connection : redis.connection.AbstractConnection
        Connected, with no reply outstanding. Owned from now on.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        # redis-py connects, speaks TLS and logs in; from then on the socket is ours. What is left
        # of its connection must not close it: after a fork the socket is the parent's too.
        self._socket = release(connection)
        # Not select(): it refuses descriptors above 1,023.
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come unasked, such as the server's hanging up."""
        return not self._poll.poll(0)

    def send(self, question: bytes, deadline: float) -> None:
        """Send a question by `deadline` (`time.monotonic`).

        Raises
        ------
        OSError
            It is not sent, or in part. Close the line.
        """
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(question)

    def receive(self, wanted: int, deadline: float) -> list[Reply]:
        """Return the replies to a question, all by `deadline`.

        Raises
        ------
        OSError, EOFError, ValueError
            They are not there. Close the line.
        """
        replies = Replies(wanted)
        sock = self._socket
        while True:
            sock.settimeout(_left(deadline))
            if replies.feed(_received(sock.recv(_AT_ONCE))):
                return replies.found

    async def ask(self, question: bytes, wanted: int, deadline: float) -> list[Reply]:
        """Send and receive without blocking the event loop. When cancelled, close the line."""
        replies = Replies(wanted)
        sock = self._socket
        sock.setblocking(False)
        async with asyncio.timeout(_left(deadline)):
            unsent = memoryview(question)
            while unsent:
                try:
                    unsent = unsent[sock.send(unsent) :]
                except _WAITING as error:
                    await _ready(sock, to_write=not isinstance(error, ssl.SSLWantReadError))
            while True:
                try:
                    if replies.feed(_received(sock.recv(_AT_ONCE))):
                        return replies.found
                except _WAITING as error:
                    await _ready(sock, to_write=isinstance(error, ssl.SSLWantWriteError))

    def close(self) -> None:
        """Close the connection without a word to the server. May be called again."""
        self._socket.close()


def reason(error: BaseException) -> str:
    """Return one word for why there was no answer. Never more: texts may hold what is secret."""
    if isinstance(error, TimeoutError):
        return "timeout"
    return "garbled" if isinstance(error, ValueError) else "connection"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _received(received: bytes) -> bytes:
    if not received:
        raise EOFError
    return received


async def _ready(sock: socket.socket, *, to_write: bool) -> None:
    """Wait until a socket can be read, or written."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    if to_write:
        loop.add_writer(sock, tell)
    else:
        loop.add_reader(sock, tell)
    try:
        await ready
    finally:
        if to_write:
            loop.remove_writer(sock)
        else:
            loop.remove_reader(sock)
