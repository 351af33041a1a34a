"""Opens a store, checks that it is fit, and puts its errors into our words."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    StoreError,
    StoreUnavailableError,
    StoreUnfitError,
    describe,
)
from banditcore.store.embedded import EmbeddedServer
from banditcore.store.url import StoreAddress

__all__ = ["MIN_VERSION", "URL_VARIABLE", "Store", "connect", "translated", "translating"]

URL_VARIABLE = "BANDITCORE_URL"
"""Environment variable with the address that `connect` uses when it is given none."""

MIN_VERSION = (7, 0)
"""The oldest server: function libraries came with Redis 7.0."""

_SECTIONS = ("memory", "persistence", "replication", "cluster")
_LOADING_POLL_S = 0.02


class Store:
    """One checked connection pool to one server. Made by `connect`.

    Threads may share it. So may processes that fork: redis-py's pool notices that it is in
    another process and opens connections of its own. Other processes open the same store with
    ``connect(store.url)``; a Store cannot be pickled, because its address may hold a password.

    Attributes
    ----------
    client : redis.Redis
        Bytes in and out. It never retries: an increment that is sent twice counts twice.
    url : str
        The complete address, password included. Hand it to workers; do not log it.
    """

    __slots__ = ("__weakref__", "_address", "_client", "_closed", "_server")

    def __init__(
        self, client: redis.Redis, address: StoreAddress, server: EmbeddedServer | None = None
    ) -> None:
        self._client = client
        self._address = address
        self._server = server
        self._closed = False

    @property
    def client(self) -> redis.Redis:
        """The client; raises StoreError after `close`, where redis-py would silently reconnect."""
        if self._closed:
            raise StoreError(f"the store {self._address.shown} is closed: connect again")
        return self._client

    @property
    def url(self) -> str:
        """The complete address, password included."""
        return self._address.url

    @property
    def address(self) -> StoreAddress:
        """The parsed address; its `shown` is safe to log."""
        return self._address

    def server_time(self) -> float:
        """Return the server's clock, in seconds since 1970, to the microsecond."""
        with translating(self):
            seconds, microseconds = self.client.time()
        return float(seconds) + microseconds / 1e6

    def close(self) -> None:
        """Close every connection and give up an embedded server. May be called again."""
        self._closed = True
        self._client.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.shown!r})"

    def __reduce__(self) -> NoReturn:
        raise InvalidTypeError(
            describe("store", self, "it cannot be pickled; pass store.url and connect(url) there")
        )


def connect(url: str | None = None, *, timeout_s: float = 5.0) -> Store:
    """Open a store and check that it can keep its promises.

    Parameters
    ----------
    url : str, optional
        See `StoreAddress.parse`. Default: ``$BANDITCORE_URL``, else ``embedded://``, a server of
        our own in the default data directory.
    timeout_s : float
        > 0, in seconds. The longest to wait for the server to come up and load its data, and
        afterwards for any one reply.

    Returns
    -------
    Store
        A context manager; close it when done.

    Raises
    ------
    InvalidValueError
        The address or the timeout cannot be used.
    StoreUnavailableError
        Nothing answers there in time, or it is still loading its data.
    StoreUnfitError
        The server refuses this login, is too old, may evict keys, is a replica, or is part of a
        cluster.

    Notes
    -----
    To connect, a login must be permitted INFO; `Store.server_time` needs TIME.
    """
    if not (isinstance(timeout_s, int | float) and 0 < timeout_s <= 1e9):
        raise InvalidValueError(describe("timeout_s", timeout_s, "give seconds, > 0, at most 1e9"))
    given = os.environ.get(URL_VARIABLE) if url is None else url
    address = StoreAddress.parse("embedded://" if given is None else given)
    deadline = time.monotonic() + timeout_s
    server = None
    if address.path is not None and address.scheme == "embedded":
        server = EmbeddedServer.open(address.path, timeout_s=timeout_s)
    store = Store(_client(address, server, timeout_s), address, server)
    try:
        _check_fit(store, deadline)
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def translating(store: Store) -> Iterator[None]:
    """Turn errors of redis-py inside the block into ours, with the cause chained.

    No text in the chain holds a password of the store's address: a server may quote the command
    it refuses, and that can be AUTH.
    """
    try:
        yield
    except exceptions.RedisError as error:
        raise translated(error, store) from error


def translated(error: Exception, store: Store) -> StoreError:
    """Return our error for one of redis-py's, such as a pipeline returns among its replies.

    Removes the address's passwords from the texts of `error` and its chain, in place.
    """
    _scrub(error, store.address.secrets)
    kind, what = _meaning(error)
    return kind(f"the store {store.address.shown} {what}")


def _client(address: StoreAddress, server: EmbeddedServer | None, timeout_s: float) -> redis.Redis:
    settings: dict[str, object] = {
        **address.options,
        "db": address.db,
        "decode_responses": False,
        "health_check_interval": 0,
        "protocol": 2,  # one shape of replies on every server
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout_s,
        "socket_timeout": timeout_s,
    }
    if address.scheme != "rediss":
        # Saves two round trips a connection. TLS needs one: a TLS 1.3 server sends session
        # tickets after the handshake, and redis-py 8.1 takes a fresh connection with unread
        # bytes for a broken one ("Connection not ready").
        settings["driver_info"] = None
    if address.password is not None:
        settings |= {"username": address.username, "password": address.password}
    if address.path is not None:
        path = address.path if server is None else server.socket_path
        settings |= {"connection_class": UnixDomainSocketConnection, "path": str(path)}
    else:
        tls = address.scheme == "rediss"
        settings |= {
            "connection_class": SSLConnection if tls else Connection,
            "host": address.host,
            "port": address.port,
        }
    return redis.Redis.from_pool(redis.ConnectionPool(**settings))  # type: ignore[arg-type]  # settings of mixed types


def _check_fit(store: Store, deadline: float) -> None:
    facts = _facts(store, deadline)
    shown = store.address.shown

    def unfit(name: str, remedy: str) -> StoreUnfitError:
        return StoreUnfitError(describe(f"{name} of {shown}", facts.get(name), remedy))

    version = str(facts.get("redis_version", ""))
    if _version(version) < MIN_VERSION:
        oldest = ".".join(map(str, MIN_VERSION))
        raise unfit("redis_version", f"banditcore needs Redis {oldest} or later, or Valkey")
    if str(facts.get("cluster_enabled", 0)) == "1":
        raise unfit(
            "cluster_enabled", "this version does not support a cluster yet; use a single server"
        )
    if facts.get("redis_mode") == "sentinel":
        raise unfit("redis_mode", "a sentinel holds no data; connect to the primary it watches")
    if facts.get("role") != "master":
        raise unfit("role", "a replica is read-only; connect to its primary")
    if facts.get("maxmemory_policy") != "noeviction":
        raise unfit(
            "maxmemory_policy",
            "the server may evict keys, and counts would be lost unseen; run `CONFIG SET "
            "maxmemory-policy noeviction` and set it in the server's configuration too",
        )


def _facts(store: Store, deadline: float) -> dict[str, object]:
    """Return what INFO says, once the server has loaded its data."""
    while True:
        with translating(store):
            facts = dict(store.client.info("server", *_SECTIONS))
            if not facts.get("loading"):  # INFO is answered while it loads
                return facts
            if time.monotonic() >= deadline:
                raise exceptions.BusyLoadingError("loading:1")
        time.sleep(_LOADING_POLL_S)


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _meaning(error: Exception) -> tuple[type[StoreError], str]:  # noqa: PLR0911  # a table
    """Return the class and the rest of the sentence "the store ..."."""
    text = str(error)
    if isinstance(error, exceptions.BusyLoadingError):
        return StoreUnavailableError, "is still loading its data: try again, or wait longer"
    if "NOAUTH" in text or "Authentication required" in text:
        return StoreUnfitError, "needs a password: put it into the url (user:password@)"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return StoreUnfitError, "refuses this user name or password: correct the url"
    if isinstance(error, exceptions.NoPermissionError):
        return StoreUnfitError, f"does not permit its user this ({text}): extend the user's ACL"
    if isinstance(error, exceptions.OutOfMemoryError):
        return StoreUnfitError, "is out of memory: raise its maxmemory, or retire arms"
    if isinstance(error, exceptions.ReadOnlyError):
        return StoreUnfitError, "has become a read-only replica: connect to the primary"
    if text.startswith("MISCONF"):
        return StoreUnfitError, "cannot save to disk, so refuses writes: see its log and its disk"
    if isinstance(error, exceptions.NoScriptError):
        return StoreError, "has lost a script (SCRIPT FLUSH): load it again"
    if isinstance(error, exceptions.TimeoutError):
        return (
            StoreUnavailableError,
            "did not answer in time: check its load, or allow more time (timeout_s)",
        )
    if isinstance(error, exceptions.ConnectionError):
        return (
            StoreUnavailableError,
            f"cannot be reached ({text}): check that it runs and that the url is right",
        )
    return StoreError, f"refused a command ({text})"


def _scrub(error: BaseException, secrets: tuple[str, ...]) -> None:
    """Replace secrets in the texts of `error` and of everything chained to it, in place."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        chain += [link.__cause__, link.__context__]
        link.args = tuple(_clean(part, secrets) for part in link.args)
        if isinstance(link, OSError):  # its text is not made of its args
            link.strerror = _clean(link.strerror, secrets)
            link.filename = _clean(link.filename, secrets)


def _clean(part: Any, secrets: tuple[str, ...]) -> Any:
    text = part if isinstance(part, str) else repr(part)
    if not any(secret in text for secret in secrets):
        return part
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
