"""Proxies before Kafka's brokers, which clients are told to be the brokers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["KafkaProxies", "before_brokers"]

_HOST = b"127.0.0.1"  # of brokers, and so of what stands before them


class KafkaProxies:
    """Forwards between clients and brokers; in what brokers say it writes its own ports."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._listeners = {port: socket.create_server(("127.0.0.1", 0)) for port in ports}
        self._replaced = [
            (_HOST + struct.pack(">i", port), _HOST + struct.pack(">i", self.port(port)))
            for port in self._listeners
        ]
        self._away: set[int] = set()
        self._lines: dict[int, list[socket.socket]] = {port: [] for port in self._listeners}
        self._threads = [
            threading.Thread(target=self._accept, args=each, daemon=True)
            for each in self._listeners.items()
        ]
        for thread in list(self._threads):
            thread.start()

    def port(self, broker: int) -> int:
        """Return the port that stands for a broker's."""
        return int(self._listeners[broker].getsockname()[1])

    def cut(self, broker: int) -> None:
        """Hang up on whoever speaks to a broker, or tries to, until it is mended."""
        self._away.add(broker)
        for line in self._lines[broker]:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def mend(self, broker: int) -> None:
        """Forward again what comes for a broker."""
        self._away.discard(broker)

    def close(self) -> None:
        """End everything."""
        for broker, listener in self._listeners.items():
            self.cut(broker)
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        while self._threads:
            self._threads.pop().join()

    def _accept(self, broker: int, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if broker in self._away:
                client.close()
                continue
            upstream = socket.create_connection(("127.0.0.1", broker))
            self._lines[broker] += [client, upstream]
            thread = threading.Thread(target=self._serve, args=(client, upstream), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, upstream: socket.socket) -> None:
        with client, upstream:
            back = threading.Thread(target=self._forward, args=(upstream, client, True))
            back.start()
            self._forward(client, upstream, False)
            back.join()

    def _forward(self, source: socket.socket, sink: socket.socket, rewrite: bool) -> None:
        with contextlib.suppress(OSError), source.makefile("rb") as reader:
            while len(size := reader.read(4)) == 4:
                message = reader.read(struct.unpack(">i", size)[0])
                if rewrite:
                    for its_own, ours in self._replaced:
                        message = message.replace(its_own, ours)
                sink.sendall(size + message)
        for line in (source, sink):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


@contextmanager
def before_brokers(ports: Iterable[int]) -> Iterator[KafkaProxies]:
    """Yield proxies before brokers that listen on loopback ports."""
    proxies = KafkaProxies(ports)
    try:
        yield proxies
    finally:
        proxies.close()
