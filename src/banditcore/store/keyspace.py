"""Keys of a store as the server has them, whatever they hold: for maintenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from banditcore.store.servers.translation import translating
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["existing", "fields", "members", "scan", "types"]

_AT_ONCE = 1000


def scan(store: Store) -> Iterator[bytes]:
    """Yield every key that begins with ``bc:``; one that comes or goes meanwhile may be missed."""
    for node, client in store.servers().items():
        with translating(store, node):
            yield from client.scan_iter(match="bc:*", count=_AT_ONCE)


def types(store: Store, names: Sequence[str]) -> list[str]:
    """Return the server's type of each key; "none" where none is."""
    kinds = store.replies([Command(name, ("TYPE", name)) for name in names])
    return [kind.decode() for kind in kinds]


def existing(store: Store, names: Sequence[str | bytes]) -> list[bool]:
    """Tell of each key whether it exists."""
    found = store.replies([Command(name, ("EXISTS", name)) for name in names])
    return [count == 1 for count in found]


def members(store: Store, name: str) -> Iterator[bytes]:
    """Yield the members of a set; some may come twice."""
    with translating(store):
        yield from store.client.sscan_iter(name, count=_AT_ONCE)


def fields(store: Store, name: str) -> dict[bytes, bytes]:
    """Return the fields of a hash as they are at one moment; none if there is no such key."""
    [words] = store.replies([Command(name, ("HGETALL", name))])
    return dict(zip(words[::2], words[1::2], strict=True))
