"""Reads streams of events in order, and waits for more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys
from banditcore.store.functions import calling, stream_library
from banditcore.store.servers.translation import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["LONGEST_WAIT_S", "Entry", "StreamReader", "patient_client"]

LONGEST_WAIT_S = 5.0
"""The longest that a reader waits at a time, in seconds."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5  # between two looks at a cluster

# Of one read. It bounds what a reader of small entries holds, and how long the server is busy.
_MOST_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """Events of a stream that were appended together, at the offsets first .. last."""

    first: int
    count: int
    body: bytes

    @property
    def last(self) -> int:
        """The offset of its last event."""
        return self.first + self.count - 1


class StreamReader:
    """Reads partitions in order. Owns a connection for waiting; close it. For one thread.

    Parameters
    ----------
    store : Store
        Where.
    bandit : str
        Whose events.
    """

    def __init__(self, store: Store, bandit: str) -> None:
        self._store = store
        self._bandit = bandit
        self._waiting: redis.Redis | None = None
        self._pause_s = _FIRST_PAUSE_S

    def read(self, after: Mapping[int, int], *, limit: int) -> dict[int, list[Entry]]:
        """Return entries that hold offsets beyond some, oldest first; only partitions with any.

        Parameters
        ----------
        after : mapping of int to int
            Partition -> the offset up to which nothing is wanted; `START` for all there is. When
            it lies within an entry that entry comes too, as a whole.
        limit : int
            >= 1. A partition's entries end with the one that brings it to so many events, or with
            the 512th.

        Raises
        ------
        StoreError
            Nothing is changed by reading: read again.
        """
        calls = [
            stream_library.read(
                keys.of_partition(self._bandit, partition),
                after=offset,
                events=limit,
                entries=_MOST_ENTRIES,
            )
            for partition, offset in after.items()
        ]
        replies = calling.run(self._store, calls)
        for partition, reply in zip(after, replies, strict=True):
            if reply[:1] == [b"CORRUPT"]:
                raise stream_library.damaged(reply, f"partition {partition} is not read")
        return {
            partition: [_entry(*pair) for pair in zip(reply[::2], reply[1::2], strict=True)]
            for partition, reply in zip(after, replies, strict=True)
            if reply
        }

    def wait(self, after: Mapping[int, int], wait_s: float) -> bool:
        """Wait until any partition has entries that begin beyond its offset; False if none has.

        What comes is seen at once. In a cluster no server can wait for what others hold: they are
        asked after 0.05 s, and ever less often, down to every 0.5 s, while nothing comes.

        Parameters
        ----------
        after : mapping of int to int
            Partition -> offset; `START` for all there is.
        wait_s : float
            Seconds, at most `LONGEST_WAIT_S`.

        Raises
        ------
        StoreError
            Nothing is changed by waiting.
        """
        if wait_s <= 0 or not after:
            return False
        wait_s = min(wait_s, LONGEST_WAIT_S)
        client = self._store.client
        if isinstance(client, redis.RedisCluster):
            return self._ask_again(after, wait_s)
        streams = {
            keys.of_partition(self._bandit, partition).stream: f"{offset}-{2**64 - 1}"
            for partition, offset in after.items()
        }
        with translating(self._store):
            if self._waiting is None:
                self._waiting = patient_client(client)
            # 0 would mean for ever.
            block = max(1, round(1000 * wait_s))
            return bool(self._waiting.xread(streams, count=1, block=block))  # type: ignore[arg-type]  # dict is invariant

    def close(self) -> None:
        """Close the connection for waiting. May be called again."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None

    def __enter__(self) -> StreamReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_again(self, after: Mapping[int, int], wait_s: float) -> bool:
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, self._pause_s))
            if self.read(after, limit=1):
                self._pause_s = _FIRST_PAUSE_S
                return True
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return False


def patient_client(client: redis.Redis) -> redis.Redis:
    """Return a client whose socket waits longer for a reply than the server waits for events."""
    pool = client.connection_pool
    settings = dict(pool.connection_kwargs)
    settings["socket_timeout"] += LONGEST_WAIT_S
    return redis.Redis.from_pool(
        redis.ConnectionPool(connection_class=pool.connection_class, **settings)
    )


def _entry(name: bytes, body: bytes) -> Entry:
    first, _, count = name.partition(b"-")
    if int(count) < 1:
        raise CorruptDataError(describe("entry", name, "not one that a producer appended"))
    return Entry(int(first), int(count), body)
