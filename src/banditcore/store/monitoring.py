"""What those who watch a store read of it: nothing is changed, and no functions are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Holder", "holders", "oldest_after", "workers"]

_SHOWN_BYTES = 4


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lease.

    Attributes
    ----------
    owner : str or None
        Tells owners apart: the first digits of a random number; None when nobody has it.
    epoch : int
        Of the owner, or of the last one; 0 when there was none.
    left_s : float
        Seconds until it runs out, by the server's clock; 0 when nobody has it.
    """

    owner: str | None
    epoch: int
    left_s: float


def holders(store: Store, leases: Sequence[str]) -> list[Holder]:
    """Return who has some leases, given by their keys."""
    now = store.server_time()
    fields = ("token", "epoch", "until")
    replies = store.replies([Command(key, ("HMGET", key, *fields)) for key in leases])
    return [_holder(reply, now) for reply in replies]


def workers(store: Store, bandit: str, source: str) -> int:
    """Return how many workers of a source say that they are there."""
    key = keys.workers(bandit, source)
    [count] = store.replies([Command(key, ("ZCOUNT", key, store.server_time(), "+inf"))])
    return int(count)


def oldest_after(store: Store, bandit: str, after: Mapping[int, int]) -> dict[int, int]:
    """Return the offset of the first entry that begins after an offset, of partitions with one.

    It is the microsecond, since 1970, in which the entry was appended, or a little more.
    """
    streams = {number: keys.of_partition(bandit, number).stream for number in after}
    most = 2**64 - 1
    replies = store.replies(
        [
            Command(key, ("XRANGE", key, f"({after[number]}-{most}", "+", "COUNT", 1))
            for number, key in streams.items()
        ]
    )
    return {
        number: int(entries[0][0].partition(b"-")[0])
        for number, entries in zip(streams, replies, strict=True)
        if entries
    }


def _holder(stored: Sequence[bytes | None], now: float) -> Holder:
    token, epoch, until = stored
    try:
        number, left_s = int(epoch or 0), max(0.0, int(until or 0) / 1000 - now)
    except ValueError as error:
        raise CorruptDataError(describe("lease", stored, "remove its key")) from error
    if not token or left_s == 0:
        return Holder(None, number, 0.0)
    return Holder(token[:_SHOWN_BYTES].hex(), number, left_s)
