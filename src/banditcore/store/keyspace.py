"""Keys of a store as the server has them, whatever they hold: for maintenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from banditcore.store.connect import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["existing", "fields", "members", "scan", "types"]

_AT_ONCE = 1000


def scan(store: Store) -> Iterator[bytes]:
    """Yield every key that begins with ``bc:``; one that comes or goes meanwhile may be missed."""
    with translating(store):
        yield from store.client.scan_iter(match="bc:*", count=_AT_ONCE)


def types(store: Store, names: Sequence[str]) -> list[str]:
    """Return the server's type of each key; "none" where none is."""
    with translating(store):
        pipeline = store.client.pipeline(transaction=False)
        for name in names:
            pipeline.type(name)
        return [kind.decode() for kind in pipeline.execute()]


def existing(store: Store, names: Sequence[str | bytes]) -> list[bool]:
    """Tell of each key whether it exists."""
    with translating(store):
        pipeline = store.client.pipeline(transaction=False)
        for name in names:
            pipeline.exists(name)
        return [bool(found) for found in pipeline.execute()]


def members(store: Store, name: str) -> Iterator[bytes]:
    """Yield the members of a set; some may come twice."""
    with translating(store):
        yield from store.client.sscan_iter(name, count=_AT_ONCE)


def fields(store: Store, name: str) -> dict[bytes, bytes]:
    """Return the fields of a hash as they are at one moment; none if there is no such key."""
    with translating(store):
        found: dict[bytes, bytes] = store.client.hgetall(name)  # type: ignore[assignment]  # never decoded
    return found
