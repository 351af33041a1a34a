"""Opens a store and checks that it is fit."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    StoreError,
    describe,
)
from banditcore.store.embedded.connection import EmbeddedConnection
from banditcore.store.embedded.server import EmbeddedServer
from banditcore.store.keys import BANDITS
from banditcore.store.servers import fitness
from banditcore.store.servers.cluster import BoundedCluster, ClusterTransport
from banditcore.store.servers.deadline_socket import bound_exchanges
from banditcore.store.servers.deferred import DeferredTransport
from banditcore.store.servers.sentinel import CheckedSentinel
from banditcore.store.servers.translation import translated, translating
from banditcore.store.servers.transport import Answer, Command, Failure, OneServer, Transport
from banditcore.store.servers.url import StoreAddress

__all__ = ["URL_VARIABLE", "Store", "connect", "translated", "translating"]

URL_VARIABLE = "BANDITCORE_URL"
"""Environment variable with the address that `connect` uses when it is given none."""


class Store:
    """Checked connections to one server or to a cluster. Made by `connect`.

    Threads may share it. So may processes that fork: redis-py's pools notice that they are in
    another process and open connections of their own. Other processes open the same store with
    ``connect(store.url)``; a Store cannot be pickled, because its address may hold a password.

    Attributes
    ----------
    client : redis.Redis or redis.RedisCluster
        Bytes in and out. It never sends twice what may have run: an increment that is sent twice
        counts twice. Commands that touch a key are better sent with `send` or `replies`.
    url : str
        The complete address, password included. Hand it to workers; do not log it.
    """

    __slots__ = ("__weakref__", "_closed", "_server", "_transport")

    def __init__(self, transport: Transport, server: EmbeddedServer | None = None) -> None:
        self._transport = transport
        self._server = server
        self._closed = False

    @property
    def client(self) -> redis.Redis | redis.RedisCluster:
        """The client; raises StoreError after `close`, where redis-py would silently reconnect."""
        return self._open().client

    @property
    def was_reached(self) -> bool:
        """Whether its servers were found fit; False only after ``connect(..., at_once=False)``."""
        return not isinstance(self._transport, DeferredTransport) or self._transport.is_opened

    def check_open(self) -> None:
        """Raise StoreError after `close`. Nothing is sent."""
        self._open()

    @property
    def url(self) -> str:
        """The complete address, password included."""
        return self._transport.address.url

    @property
    def address(self) -> StoreAddress:
        """The parsed address; its `shown` is safe to log."""
        return self._transport.address

    def send(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands and return their answers in order: one round trip to each server.

        No command may rely on one before it: in a cluster, one may wait for its slot meanwhile.

        Returns
        -------
        list
            For each command what the server said, as bytes, int, None or a list of these, or the
            `Failure` that stands for it.
        """
        return self._open().send(commands)

    def replies(self, commands: Sequence[Command]) -> list[Answer]:
        """Send commands and return their replies in order.

        Raises
        ------
        StoreError
            For the first that failed. The others have run, or may have.
        """
        answers = self.send(commands)
        for answer in answers:
            if isinstance(answer, Failure):
                raise translated(answer.error, self, answer.node) from answer.error
        return answers

    def servers(self) -> dict[str, redis.Redis]:
        """Return a client of each primary there is now, by "host:port"; of one server by ""."""
        return self._open().servers()

    def server(self, node: str) -> redis.Redis:
        """Return a client of the server that a `Failure` names."""
        return self._open().server(node)

    def identities(self) -> list[str]:
        """Return who all primaries are, sorted: run id and replication id of each.

        They differ from those of before when a server was restarted, replaced by its replica, or
        given slots: what was written last may be gone. A process that became a replica and primary
        again keeps its run id and has another replication id. So has one to which the first replica
        comes, or of which the last one has been gone for an hour, without a loss. One small request
        to each primary.

        Raises
        ------
        StoreError
            A server is out of reach, or does not tell.
        """
        found = []
        for node, client in self.servers().items():
            with translating(self, node):
                facts = client.info("server", "replication")
            names = []
            for name in ("run_id", "master_replid"):
                if not facts.get(name):
                    remedy = "INFO must tell it; lost writes go unseen without"
                    raise StoreError(describe(name, facts.get(name), remedy))
                names.append(str(facts[name]))
            found.append(":".join(names))
        return sorted(found)

    def server_time(self) -> float:
        """Return the server's clock, in seconds since 1970, to the microsecond.

        In a cluster it is that of the primary that knows the bandits' names; what concerns a
        segment is judged by the clock of the segment's primary.
        """
        [(seconds, microseconds)] = self.replies([Command(BANDITS, ("TIME",))])
        return float(seconds) + int(microseconds) / 1e6

    def close(self) -> None:
        """Close every connection and give up an embedded server. May be called again."""
        self._closed = True
        self._transport.close()
        if self._server is not None:
            self._server.close()

    def _open(self) -> Transport:
        if self._closed:
            raise StoreError(f"the store {self.address.shown} is closed: connect again")
        return self._transport

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address.shown!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidTypeError(
            describe("store", self, "it cannot be pickled; pass store.url and connect(url) there")
        )


def connect(url: str | None = None, *, timeout_s: float = 5.0, at_once: bool = True) -> Store:
    """Open a store and check that it can keep its promises.

    Parameters
    ----------
    url : str, optional
        ``redis://``, ``redis+cluster://``, ``redis+sentinel://``, the same with ``rediss``,
        ``unix://`` or ``embedded://``: see `StoreAddress.parse`. Default: ``$BANDITCORE_URL``,
        else ``embedded://``, a server of our own in the default data directory.
    timeout_s : float
        > 0, in seconds. The longest to wait for the server to come up and load its data, and
        afterwards for the replies to what is sent at once; that may take a second more for each
        64 KiB, and a connection that is slower is given up.
    at_once : bool
        False leaves what is said here to the first use, and to each one after it until one
        succeeds: a service can start while the store is away. An embedded server is started at
        once all the same.

    Returns
    -------
    Store
        A context manager; close it when done.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        The address or another argument cannot be used.
    StoreUnavailableError
        Nothing answers there in time, or it is still loading its data; of a cluster, no primary.
    StoreUnfitError
        A server refuses this login, is too old, may evict keys, or is a replica; the address is
        that of a cluster and its server is none, or the other way round.

    Notes
    -----
    To connect, a login must be permitted INFO, on a cluster also COMMAND and CLUSTER SLOTS;
    `Store.server_time` needs TIME. Of a cluster one primary must answer; every primary that does is
    checked, and each that comes later before it is written to.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise InvalidTypeError(describe("timeout_s", timeout_s, "give seconds, a number"))
    if not 0 < timeout_s <= 1e9:
        raise InvalidValueError(describe("timeout_s", timeout_s, "give seconds, > 0, at most 1e9"))
    if not isinstance(at_once, bool):
        raise InvalidTypeError(describe("at_once", at_once, "True or False"))
    given = os.environ.get(URL_VARIABLE) if url is None else url
    address = StoreAddress.parse("embedded://" if given is None else given)

    def open_transport() -> Transport:
        return _transport(address, None, timeout_s, time.monotonic() + timeout_s)

    is_embedded = address.path is not None and address.scheme == "embedded"
    if not at_once and not is_embedded:
        return Store(DeferredTransport(address, open_transport, timeout_s))
    deadline = time.monotonic() + timeout_s
    server = None
    if address.path is not None and is_embedded:
        server = EmbeddedServer.open(address.path, timeout_s=timeout_s)
    try:
        transport = _transport(address, server, timeout_s, deadline)
    except BaseException:
        if server is not None:
            server.close()
        raise
    return Store(transport, server)


def _transport(
    address: StoreAddress, server: EmbeddedServer | None, timeout_s: float, deadline: float
) -> Transport:
    """Open connections and check what is at their end."""
    settings = _settings(address, timeout_s)

    def check(client: redis.Redis, node: str) -> None:
        found = fitness.loaded(client, deadline)
        if found.get("role") != "master" and (address.is_cluster or address.service):
            # Who named it does not know yet what happened, or knows better than the server.
            raise exceptions.ConnectionError(f"{node} is no primary at the moment")
        fitness.check(found, address, node)

    transport: Transport
    with translating(_At(address)):
        if address.is_cluster:
            transport = ClusterTransport(
                _cluster_client(address, settings), address, check, wait_s=timeout_s
            )
        elif address.service is not None:
            settings["ssl"] = address.uses_tls
            sentinel = CheckedSentinel(address, settings, check)
            client: redis.Redis = sentinel.master_for(address.service)  # type: ignore[no-untyped-call]
            transport = OneServer(client, address, sentinel.close)
        else:
            transport = OneServer(_client(address, server, settings), address)
    try:
        if isinstance(transport, ClusterTransport):
            transport.check_reachable()
        else:
            with translating(transport):
                check(transport.server(""), "")
    except BaseException:
        transport.close()
        raise
    return transport


def _settings(address: StoreAddress, timeout_s: float) -> dict[str, Any]:
    """Return redis-py's settings of a connection, but for the place and the kind of it."""
    own = {"sentinel_username", "sentinel_password"}
    settings: dict[str, Any] = {
        **{name: value for name, value in address.options.items() if name not in own},
        "decode_responses": False,
        "protocol": 2,  # one shape of replies on every server
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
    }
    if not address.uses_tls:
        # Saves two round trips a connection. TLS needs one: a TLS 1.3 server sends session
        # tickets after the handshake, and redis-py 8.1 takes a fresh connection with unread
        # bytes for a broken one ("Connection not ready").
        settings["driver_info"] = None
    if address.password is not None:
        settings |= {"username": address.username, "password": address.password}
    if not address.is_cluster:
        settings |= {"db": address.db, "health_check_interval": 0}
        settings["redis_connect_func"] = bound_exchanges  # a `BoundedCluster` has its own
    return settings


def _client(
    address: StoreAddress, server: EmbeddedServer | None, settings: dict[str, Any]
) -> redis.Redis:
    place: dict[str, Any]
    if server is not None:
        start_s = settings["socket_connect_timeout"]
        place = {"connection_class": EmbeddedConnection, "server": server, "start_s": start_s}
    elif address.path is not None:
        place = {"connection_class": UnixDomainSocketConnection, "path": str(address.path)}
    else:
        [(host, port)] = address.nodes
        kind = SSLConnection if address.uses_tls else Connection
        place = {"connection_class": kind, "host": host, "port": port}
    return redis.Redis.from_pool(redis.ConnectionPool(**settings, **place))


def _cluster_client(address: StoreAddress, settings: dict[str, Any]) -> redis.RedisCluster:
    return BoundedCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
        ssl=address.uses_tls,
        require_full_coverage=False,  # slots that nobody serves concern those who need them
        **settings,
    )


class _At:
    """An address that nothing is connected to yet."""

    def __init__(self, address: StoreAddress) -> None:
        self.address = address
