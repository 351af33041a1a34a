"""Leases: at most one owner at a time, and an epoch by which a former one is told."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, InvalidTypeError, InvalidValueError, describe
from banditcore.store import keys
from banditcore.store.functions import calling, stream_library

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["DEFAULT_TTL_S", "Lease", "bandit_lease", "check_ttl", "partition_lease"]

DEFAULT_TTL_S = 15.0
"""How long a lease lasts without being renewed, in seconds."""


def check_ttl(name: str, ttl_s: float) -> None:
    """Raise for what is no time that a lease may last; `name` is what the caller calls it."""
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float):
        raise InvalidTypeError(describe(name, ttl_s, "seconds, 0.001 to 86,400"))
    if not 0.001 <= ttl_s <= 86_400:
        raise InvalidValueError(describe(name, ttl_s, "seconds, 0.001 to 86,400"))


class Lease:
    """A right that one owner has at a time, until it is released or runs out. For one thread.

    Which time it is only the server says. An owner that is late cannot know it: what it writes
    must carry its epoch, and the writes of a smaller epoch be refused, as the marks of segments do.

    Parameters
    ----------
    store : Store
        Where.
    key : str
        See `keys`.
    name : str
        For people.
    ttl_s : float
        Seconds, > 0.
    """

    def __init__(self, store: Store, key: str, *, name: str, ttl_s: float = DEFAULT_TTL_S) -> None:
        check_ttl("ttl_s", ttl_s)
        self.name = name
        self.ttl_s = ttl_s
        self._store = store
        self._key = key
        self._epoch: int | None = None
        self._forget()

    def __repr__(self) -> str:
        return f"Lease({self.name!r}, epoch={self.epoch})"

    @property
    def epoch(self) -> int | None:
        """The owner's number, larger than those of all owners before; None when not acquired."""
        return self._epoch if self._pid == os.getpid() else None

    @property
    def left_s(self) -> float:
        """Seconds that it surely lasts, by this machine's clock; 0 when it may be gone."""
        return max(0.0, self._until - time.monotonic()) if self.epoch is not None else 0.0

    @property
    def held_elsewhere_s(self) -> float:
        """Seconds that another owner had left when `acquire` returned False."""
        return self._held_elsewhere_s

    def acquire(self) -> bool:
        """Become the owner, or stay it; False while another is.

        An owner that acquires its lease again, before anybody else did, keeps its epoch.
        """
        if self._pid != os.getpid():  # a child is not the owner that its parent is
            self._forget()
        asked = time.monotonic()
        word, detail = self._call(
            stream_library.lease_acquire(self._key, token=self._token, ttl_ms=self._ttl_ms)
        )
        if word != b"OK":
            self._epoch = None
            self._held_elsewhere_s = int(detail) / 1000
            return False
        self._epoch, self._until, self._held_elsewhere_s = int(detail), asked + self.ttl_s, 0.0
        return True

    def renew(self) -> bool:
        """Extend it; False when another has taken it, or it was released."""
        if self.epoch is None:
            return False
        asked = time.monotonic()
        word, _ = self._call(
            stream_library.lease_renew(self._key, token=self._token, ttl_ms=self._ttl_ms)
        )
        if word != b"OK":
            self._epoch = None
            return False
        self._until = asked + self.ttl_s
        return True

    def release(self) -> None:
        """Give it up, so that another need not wait. Nothing happens when it is not owned."""
        if self.epoch is not None:
            self._call(stream_library.lease_release(self._key, token=self._token))
            self._epoch = None

    @property
    def _ttl_ms(self) -> int:
        return round(1000 * self.ttl_s)

    def _call(self, call: calling.Call) -> tuple[bytes, bytes]:
        [reply] = calling.run(self._store, [call])
        if reply[0] == b"CORRUPT":
            remedy = f"of lease {self._key} is damaged: remove the key when nobody holds it"
            raise CorruptDataError(describe(reply[1].decode(), "no whole number", remedy))
        return reply[0], reply[1] if len(reply) > 1 else b""

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._token = os.urandom(16)
        self._epoch = None
        self._until = 0.0
        self._held_elsewhere_s = 0.0


def partition_lease(
    store: Store, bandit: str, partition: int, *, ttl_s: float = DEFAULT_TTL_S
) -> Lease:
    """Return the lease, not acquired yet, of the one who applies a partition's events."""
    key = keys.of_partition(bandit, partition).lease
    return Lease(store, key, name=f"ingest:{partition}", ttl_s=ttl_s)


def bandit_lease(store: Store, bandit: str, name: str, *, ttl_s: float = DEFAULT_TTL_S) -> Lease:
    """Return the lease, not acquired yet, of the one who does a bandit's job `name`."""
    return Lease(store, keys.lease(bandit, name), name=name, ttl_s=ttl_s)
