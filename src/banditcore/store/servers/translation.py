"""Puts errors of redis-py into our words; no password of an address is in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from redis import exceptions

from banditcore.errors import StoreError, StoreUnavailableError, StoreUnfitError
from banditcore.store.servers.url import StoreAddress

__all__ = ["Addressed", "translated", "translating"]


class Addressed(Protocol):
    """Whatever is reached at an address."""

    @property
    def address(self) -> StoreAddress:
        """Where it is; holds what must not be shown."""


@contextmanager
def translating(store: Addressed, node: str = "") -> Iterator[None]:
    """Turn errors of redis-py inside the block into ours, with the cause chained.

    No text in the chain holds a password of the store's address: a server may quote the command
    it refuses, and that can be AUTH.

    Parameters
    ----------
    node : str
        Which of a store's servers is spoken to, if it has several.
    """
    try:
        yield
    # What the cluster client raises of itself is no RedisError.
    except (exceptions.RedisError, exceptions.RedisClusterException) as error:
        raise translated(error, store, node) from error


def translated(error: Exception, store: Addressed, node: str = "") -> StoreError:
    """Return our error for one of redis-py's, such as a pipeline returns among its replies.

    Removes the address's passwords from the texts of `error` and its chain, in place.
    """
    _scrub(error, store.address.secrets)
    kind, what = _meaning(_origin(error))
    place = f" (node {node})" if node else ""
    return kind(f"the store {store.address.shown}{place} {what}")


def _origin(error: Exception) -> Exception:
    """Return what made the cluster client give up, if it says so."""
    link: BaseException = error
    while isinstance(link, exceptions.RedisClusterException):
        cause = link.__cause__ or link.__context__
        if not isinstance(cause, exceptions.RedisError | exceptions.RedisClusterException):
            break
        link = cause
    return link if isinstance(link, Exception) else error


def _meaning(error: Exception) -> tuple[type[StoreError], str]:  # noqa: PLR0911, PLR0912  # a table
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
    if text.startswith("NOREPLICAS"):
        return StoreUnavailableError, "refuses writes while its replicas are away: get them back"
    if text.startswith("BUSY "):
        return StoreUnavailableError, "is busy with a script: wait, or end it (SCRIPT KILL)"
    if text.startswith("UNBLOCKED"):
        return StoreUnavailableError, f"let nobody wait any longer ({text}): try again"
    if text.startswith("MISCONF"):
        return StoreUnfitError, "cannot save to disk, so refuses writes: see its log and its disk"
    if isinstance(error, exceptions.NoScriptError):
        return StoreError, "has lost a script (SCRIPT FLUSH): load it again"
    if isinstance(error, exceptions.ClusterDownError):
        return (
            StoreUnavailableError,
            f"has no node for these keys ({text}): wait for the failover, or repair the cluster",
        )
    if isinstance(error, exceptions.TryAgainError | exceptions.AskError):
        return StoreUnavailableError, f"is moving these keys to another node ({text}): try again"
    if "cluster support disabled" in text:
        return StoreUnfitError, "is no cluster: write redis:// in place of redis+cluster://"
    if "unknown command" in text and "SENTINEL" in text:
        return StoreUnfitError, "is no sentinel: write redis:// in place of redis+sentinel://"
    if isinstance(error, exceptions.TimeoutError):
        return (
            StoreUnavailableError,
            "did not answer in time: check its load, or allow more time (timeout_s)",
        )
    if isinstance(error, exceptions.ConnectionError | exceptions.RedisClusterException):
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
