"""Tells which server has a key, and makes connections of their own kind to it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from banditcore.errors import StoreError
from banditcore.store.servers.translation import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Places"]


class Places:
    """The servers of a store, for who keeps connections outside its pools.

    Parameters
    ----------
    store : Store
        Its login, TLS and database are used. It may be away still.

    Attributes
    ----------
    may_move : bool
        Whether keys may come to be on other servers than the map at hand says.
    """

    def __init__(self, store: Store) -> None:
        store.check_open()
        self._store = store
        self.may_move = store.address.is_cluster
        self._client: redis.Redis | redis.RedisCluster | None = None

    def nodes(self) -> list[str]:
        """Return the nodes that have keys, by the map at hand; [""] for one server."""
        if not self.may_move:
            return [""]
        client = self._reached()
        return [] if client is None else [str(node.name) for node in client.get_primaries()]

    def of(self, key: str) -> str:
        """Return the node, "host:port", that has a key by the map at hand; "" for one server.

        Raises
        ------
        LookupError
            No node serves its slot, or the cluster was never reached.
        """
        if not self.may_move:
            return ""
        client = self._reached()
        if client is None:
            raise LookupError(key)
        try:
            return str(client.nodes_manager.get_node_from_slot(key_slot(key.encode())).name)
        except exceptions.SlotNotCoveredError as error:
            raise LookupError(key) from error

    def connect(self, node: str, timeout_s: float) -> AbstractConnection:
        """Return a new connection, made and logged in; blocks, for each step up to `timeout_s`.

        Raises
        ------
        StoreError
            It cannot be made. No password is in the text.
        """
        with translating(self._store, node):
            connection = self._connection(node, timeout_s)
            connection.connect()
        return connection

    def relearn(self) -> None:
        """Ask a cluster who serves what, and open a store that was never open; blocks.

        Raises
        ------
        StoreError
            Nobody answers.
        """
        if self.may_move:
            self._store.servers()

    def _reached(self) -> redis.RedisCluster | None:
        """Return the cluster's client, kept when the store closes; None before there is a map."""
        if self._client is None and self._store.was_reached:
            with suppress(StoreError):  # closed at this moment
                self._client = self._store.client
        return self._client if isinstance(self._client, redis.RedisCluster) else None

    def _connection(self, node: str, timeout_s: float) -> AbstractConnection:
        pool = self._store.server(node).connection_pool
        settings: dict[str, Any] = {
            **pool.connection_kwargs,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
        }
        kind = pool.connection_class
        if isinstance(pool, SentinelConnectionPool):
            del settings["connection_pool"]
            kind = SSLConnection if issubclass(kind, SSLConnection) else Connection
            settings["host"], settings["port"] = pool.get_master_address()
        made: AbstractConnection = kind(**settings)
        return made
