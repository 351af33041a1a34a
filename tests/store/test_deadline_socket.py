"""What is sent at once is answered, or given up, by a deadline, however its replies come."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from redis.sentinel import SentinelConnectionPool

from banditcore.errors import StoreUnavailableError
from banditcore.store.connect import Store, connect
from banditcore.store.servers import deadline_socket
from banditcore.store.servers.deadline_socket import DeadlineSocket
from banditcore.store.servers.transport import Command
from clusters import Node, running_cluster
from proxy import Proxy, proxy_before, proxy_before_port
from servers import (
    binaries,
    certificates,
    free_port,
    patiently,
    running_server,
    wait_until,
)

TIMEOUT_S = 0.5
BETWEEN_BYTES_S = 0.01
"""Each byte comes in time; 2,000 would take 20 seconds."""

SLACK_S = 4.0 / 16
"""How much longer a wait may be than what is left, of a timeout of 4 seconds."""

READ = Command("k", ("GET", "k"))
VALUE = b"v" * 2000


@dataclass
class Place:
    """A store all of whose servers are behind proxies."""

    url: str
    proxies: list[Proxy] = field(default_factory=list)

    def trickle(self, between_bytes_s: float) -> None:
        for proxy in self.proxies:
            proxy.trickle(between_bytes_s)

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal()


@contextmanager
def one_server() -> Iterator[Place]:
    with running_server() as server, proxy_before(server.socket_path) as proxy:
        yield Place(proxy.url, [proxy])


@contextmanager
def one_with_tls() -> Iterator[Place]:
    with (
        certificates() as files,
        running_server("redis", files | {"tls-auth-clients": "no"}, tls=True) as server,
        proxy_before_port(server.tls_port or 0) as proxy,
    ):
        trusted = quote(files["tls-ca-cert-file"])
        yield Place(f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={trusted}", [proxy])


@contextmanager
def one_that_a_sentinel_names() -> Iterator[Place]:
    with running_server(tcp=True) as server, proxy_before_port(server.port or 0) as proxy:
        port = free_port()
        file = server.directory / "sentinel.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {server.directory}\n"
            f"sentinel monitor main 127.0.0.1 {proxy.port} 1\n"
            "sentinel down-after-milliseconds main 60000\n"
        )
        process = subprocess.Popen(
            [str(binaries()["valkey"]), str(file), "--sentinel"], stdout=subprocess.DEVNULL
        )
        try:
            with proxy_before_port(port) as before_sentinel:
                place = Place(
                    f"redis+sentinel://127.0.0.1:{before_sentinel.port}/main",
                    [proxy, before_sentinel],
                )
                wait_until(lambda: opens(place), "the sentinel knows no primary")
                yield place
        finally:
            process.kill()
            process.wait()


@contextmanager
def a_cluster() -> Iterator[Place]:
    with running_cluster() as cluster, ExitStack() as stack:
        proxies = [stack.enter_context(proxy_before_port(node.port)) for node in cluster.nodes]
        for node, proxy in zip(cluster.nodes, proxies, strict=True):
            node.tell("CONFIG", "SET", "cluster-announce-port", proxy.port)
        announced = {proxy.port for proxy in proxies}
        wait_until(
            lambda: all(ports_named_by(node) == announced for node in cluster.nodes),
            "the nodes know one another by other ports",
        )
        yield Place(f"redis+cluster://127.0.0.1:{proxies[0].port}", proxies)


def ports_named_by(node: Node) -> set[int]:
    with node.client() as client:
        slots = client.execute_command("CLUSTER SLOTS")
    return {server[1] for _, _, *servers in slots for server in servers}


def opens(place: Place) -> bool:
    try:
        connect(place.url).close()
    except StoreUnavailableError:
        return False
    return True


PLACES: dict[str, Callable[[], AbstractContextManager[Place]]] = {
    "one": one_server,
    "tls": one_with_tls,
    "sentinel": one_that_a_sentinel_names,
    "cluster": a_cluster,
}


@pytest.fixture(scope="module", params=list(PLACES))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES[request.param]() as place:
        with connect(place.url) as store:
            store.replies([Command("k", ("SET", "k", VALUE))])
        yield place


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "place" in request.fixturenames:
        request.getfixturevalue("place").heal()


def answers(store: Store) -> bool:
    try:
        return store.replies([READ]) == [VALUE]
    except StoreUnavailableError:
        return False


def test_every_connection_is_bounded(place: Place) -> None:
    with connect(place.url) as store:
        found = []
        for client in store.servers().values():
            client.ping()
            found += client.connection_pool._available_connections
        found += sentinels_connections(store)
        assert {type(each._sock) for each in found} == {DeadlineSocket}
        assert DeadlineSocket not in {type(each._sock.bare) for each in found}  # logged in once
        assert len(found) >= len(store.servers())


def sentinels_connections(store: Store) -> list[Any]:
    pool = getattr(store.client, "connection_pool", None)
    if not isinstance(pool, SentinelConnectionPool):
        return []
    [sentinel] = pool.sentinel_manager.sentinels
    [connection] = sentinel.connection_pool._available_connections
    return [connection]


def test_a_reply_that_trickles_is_given_up(place: Place) -> None:
    with patiently(lambda: connect(place.url, timeout_s=TIMEOUT_S)) as store:
        place.trickle(BETWEEN_BYTES_S)
        with pytest.raises(StoreUnavailableError):
            store.replies([READ])
        place.heal()
        wait_until(lambda: answers(store), "it does not answer again")


def test_many_replies_that_trickle_are_given_up_together(place: Place) -> None:
    """Each comes within the timeout; all of them would take 20 seconds."""
    with patiently(lambda: connect(place.url, timeout_s=TIMEOUT_S)) as store:
        wait_until(lambda: answers(store), "it does not answer")
        place.trickle(BETWEEN_BYTES_S)
        with pytest.raises(StoreUnavailableError):
            store.replies([Command("k", ("STRLEN", "k"))] * 300)


def test_opening_does_not_wait_for_what_trickles(place: Place) -> None:
    place.trickle(BETWEEN_BYTES_S)
    with pytest.raises(StoreUnavailableError):
        connect(place.url, timeout_s=TIMEOUT_S)
    with connect(place.url, timeout_s=TIMEOUT_S, at_once=False) as store:
        with pytest.raises(StoreUnavailableError):
            store.replies([READ])
        place.heal()
        wait_until(lambda: answers(store), "it does not answer")


class Clock:
    """Goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline_socket, "time", clock)
    return clock


@pytest.fixture
def pair() -> Iterator[tuple[DeadlineSocket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(4.0)
        yield DeadlineSocket(near), far


def test_a_reply_has_the_timeout_and_a_second_for_each_64_kib(
    clock: Clock, pair: tuple[DeadlineSocket, socket.socket]
) -> None:
    near, far = pair
    piece = bytes(1 << 14)
    near.sendall(b"?")
    for _ in range(12):  # 0.25 s each are what they need, and 0.5 s what they take
        far.sendall(piece)
        assert near.recv(1 << 16) == piece
        clock.now += 0.5
    assert 1.25 <= near.gettimeout() <= 1.26 + SLACK_S
    for _ in range(4):
        far.sendall(piece)
        assert near.recv_into(bytearray(1 << 16)) == len(piece)
        clock.now += 0.5
    clock.now += 0.01
    far.sendall(piece)
    with pytest.raises(TimeoutError):
        near.recv(1 << 16)


def test_each_exchange_has_its_own_deadline(
    clock: Clock, pair: tuple[DeadlineSocket, socket.socket]
) -> None:
    near, far = pair
    for _ in range(3):
        near.sendall(b"?")
        clock.now += 3.9
        near.sendall(b"?")
        clock.now += 3.9  # other servers are listened to
        far.sendall(b"!")
        assert near.recv(1) == b"!"
        clock.now += 3.9
        far.sendall(b"!")
        assert near.recv(1) == b"!"
        assert 0.1 <= near.gettimeout() <= 0.1 + SLACK_S
        far.recv(64)
    near.sendall(b"?")
    assert near.gettimeout() == 4.0
    clock.now += 4.1
    with pytest.raises(TimeoutError):
        near.sendall(b"?")


class Narrow(socket.socket):
    """Sends up to 16 KiB at a time, to an end that takes a while for each."""

    clock: Clock
    far: socket.socket
    piece_s: float

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent = super().send(data[: 1 << 14], flags)
        assert len(self.far.recv(1 << 16)) == sent
        self.clock.now += self.piece_s
        return sent


@pytest.mark.parametrize(("piece_s", "pieces"), [(0.2, None), (0.5, 17)])
def test_commands_have_the_timeout_and_a_second_for_each_64_kib(
    clock: Clock, piece_s: float, pieces: int | None
) -> None:
    """However many there are, and though they are sent as one string."""
    sent, far = socket.socketpair()
    with far, Narrow(fileno=sent.detach()) as narrow:
        narrow.clock, narrow.far, narrow.piece_s = clock, far, piece_s
        narrow.settimeout(4.0)
        near = DeadlineSocket(narrow)
        began, command = clock.now, bytes(100 << 14)
        if pieces is None:  # each 0.05 s faster than it must be
            near.sendall(command)
            assert clock.now - began == pytest.approx(100 * piece_s)
        else:  # each 0.25 s slower: with the sixteenth the four seconds are used up
            with pytest.raises(TimeoutError):
                near.sendall(command)
            assert clock.now - began <= pieces * piece_s


@pytest.mark.parametrize("tls", [False, True])
def test_a_blob_that_takes_longer_than_the_timeout_arrives(*, tls: bool) -> None:
    """At full speed it would be there at once; here each piece of it is waited for."""
    while not arrives(bytes(range(256)) * (1 << 14), tls=tls):
        pass  # a reader that was not run for so long proves nothing


def arrives(blob: bytes, *, tls: bool) -> bool:
    """Send a blob to one who reads slowly; False if a wait was as long as the timeout."""
    received, at = bytearray(), [time.monotonic()]
    with ExitStack() as stack:
        near, far = map(stack.enter_context, socket.socketpair())
        near.settimeout(2.0)

        def read_slowly() -> None:
            with theirs.wrap_socket(far, server_side=True) if tls else far as end:
                while len(received) < len(blob) and (piece := end.recv(1 << 16)):
                    received.extend(piece)
                    at.append(time.monotonic())
                    time.sleep(len(piece) / (1 << 20))  # 1 MiB/s: twice the timeout in all

        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls:
            files = stack.enter_context(certificates())
            theirs.load_cert_chain(files["tls-cert-file"], files["tls-key-file"])
        reader = threading.Thread(target=read_slowly)
        reader.start()
        if tls:
            ours = ssl.create_default_context(cafile=files["tls-ca-cert-file"])
            near = stack.enter_context(ours.wrap_socket(near, server_hostname="127.0.0.1"))
        try:
            DeadlineSocket(near).sendall(blob)
        except TimeoutError:
            if max(later - one for one, later in pairwise([*at, time.monotonic()])) < 1.5:
                raise
            return False
        finally:
            near.close()
            reader.join()
    assert received == blob
    return True


def test_no_wait_is_longer_than_the_timeout(
    clock: Clock, pair: tuple[DeadlineSocket, socket.socket]
) -> None:
    """What came fast earns no patience with what does not come."""
    near, far = pair
    near.sendall(b"?")
    for _ in range(100):
        far.sendall(bytes(1 << 14))
        near.recv(1 << 16)
    clock.now += 1.0
    far.sendall(b"!")
    near.recv(1)
    assert near.gettimeout() == 4.0


def test_looking_at_what_there_is_does_not_wait(
    clock: Clock, pair: tuple[DeadlineSocket, socket.socket]
) -> None:
    near, far = pair
    near.settimeout(0)
    clock.now += 100.0
    with pytest.raises(BlockingIOError):
        near.recv(1)
    far.sendall(b"!")
    assert near.recv(1, socket.MSG_PEEK) == b"!"
    near.settimeout(None)
    assert near.recv(1) == b"!"
    assert near.gettimeout() is None
