"""A proxy that loses what a test tells it to lose."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Proxy:
    """Forwards between clients and a server, until it is told otherwise.

    Each order is for the next request that holds given bytes, and for that one alone.
    """

    def __init__(self, listener: socket.socket, reach: Callable[[], socket.socket]) -> None:
        self.lost = 0
        self._listener = listener
        self._reach = reach
        self._lock = threading.Lock()
        self._to_lose: list[bytes] = []
        self._to_cut: list[tuple[bytes, int]] = []
        self._to_swallow: list[bytes] = []
        self._to_do: list[tuple[bytes, Callable[[], None]]] = []
        self._requests: list[bytes] = []
        self._between_bytes_s = 0.0
        self._muted = False
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Its address, for `connect`."""
        if self._listener.family == socket.AF_UNIX:
            return f"unix://{self._listener.getsockname()}"
        return f"redis://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Its port, if it has one."""
        return int(self._listener.getsockname()[1])

    def lose_next_reply(self, to: bytes) -> None:
        """Let the server execute the next request that holds `to`, but drop its reply.

        The client sees a closed connection.
        """
        with self._lock:
            self._to_lose.append(to)

    def cut_next_request(self, to: bytes, after: int) -> None:
        """Forward the first `after` bytes of the next request that holds `to`, then hang up."""
        with self._lock:
            self._to_cut.append((to, after))

    def swallow_next_request(self, to: bytes) -> None:
        """Never forward the next request that holds `to`; the client waits for its reply."""
        with self._lock:
            self._to_swallow.append(to)

    def before_next_request(self, to: bytes, action: Callable[[], None]) -> None:
        """Call `action`, which must not raise, before the next request that holds `to` goes on."""
        with self._lock:
            self._to_do.append((to, action))

    def trickle(self, between_bytes_s: float) -> None:
        """From now on send replies byte by byte."""
        self._between_bytes_s = between_bytes_s

    def mute(self) -> None:
        """From now on forward no request, though connections stay open."""
        self._muted = True

    def requests(self, holding: bytes) -> int:
        """Return how many times `holding` came in requests."""
        return sum(request.count(holding) for request in self._requests)

    def packets(self) -> list[bytes]:
        """Return what came from clients, piece by piece."""
        return list(self._requests)

    def heal(self) -> None:
        """Forward everything again."""
        self._between_bytes_s = 0.0
        self._muted = False
        with self._lock:
            for orders in (self._to_lose, self._to_cut, self._to_swallow, self._to_do):
                orders.clear()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                upstream = self._reach()
            except OSError:  # the server is gone: so is the client's line
                client.close()
                continue
            self._open += [client, upstream]
            threading.Thread(target=self._serve, args=(client, upstream), daemon=True).start()

    def _serve(self, client: socket.socket, upstream: socket.socket) -> None:
        with client, upstream, contextlib.suppress(OSError):
            losing = threading.Event()
            back = threading.Thread(target=self._reply, args=(client, upstream, losing))
            back.start()
            while request := client.recv(1 << 20):
                with self._lock:
                    self._requests.append(request)
                    for wanted in [word for word in self._to_lose if word in request]:
                        self._to_lose.remove(wanted)
                        losing.set()
                    cuts = [order for order in self._to_cut if order[0] in request]
                    swallowed = [word for word in self._to_swallow if word in request]
                    actions = [order for order in self._to_do if order[0] in request]
                    for cut in cuts:
                        self._to_cut.remove(cut)
                    for word in swallowed:
                        self._to_swallow.remove(word)
                    for order in actions:
                        self._to_do.remove(order)
                for _, action in actions:
                    action()
                if cuts:
                    self.lost += 1
                    upstream.sendall(request[: cuts[0][1]])
                    client.shutdown(socket.SHUT_RDWR)
                    break
                if swallowed or self._muted:
                    self.lost += 1
                    continue
                upstream.sendall(request)
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            back.join()

    def _reply(
        self, client: socket.socket, upstream: socket.socket, losing: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while reply := upstream.recv(1 << 20):
                if losing.is_set():
                    self.lost += 1
                    client.shutdown(socket.SHUT_RDWR)
                    return
                if not self._between_bytes_s:
                    client.sendall(reply)
                    continue
                for at in range(len(reply)):
                    if not self._between_bytes_s:  # healed meanwhile
                        client.sendall(reply[at:])
                        break
                    client.sendall(reply[at : at + 1])
                    time.sleep(self._between_bytes_s)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._open:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_before(server: Path) -> Iterator[Proxy]:
    """Yield a proxy before a server that listens on the unix socket `server`."""

    def reach() -> socket.socket:
        upstream = socket.socket(socket.AF_UNIX)
        try:
            upstream.connect(str(server))
        except OSError:
            upstream.close()
            raise
        return upstream

    directory = Path(tempfile.mkdtemp(prefix="bcp", dir=tempfile.gettempdir()))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "p"))
    try:
        with _running(listener, reach) as proxy:
            yield proxy
    finally:
        shutil.rmtree(directory)


@contextmanager
def proxy_before_port(port: int) -> Iterator[Proxy]:
    """Yield a proxy before a server that listens on a loopback port."""
    listener = socket.create_server(("127.0.0.1", 0))
    with _running(listener, lambda: socket.create_connection(("127.0.0.1", port))) as proxy:
        yield proxy


@contextmanager
def _running(listener: socket.socket, reach: Callable[[], socket.socket]) -> Iterator[Proxy]:
    listener.listen()
    proxy = Proxy(listener, reach)
    acceptor = threading.Thread(target=proxy.accept, daemon=True)
    acceptor.start()
    try:
        yield proxy
    finally:
        proxy.close()
        acceptor.join()
