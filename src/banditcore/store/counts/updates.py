"""The three ways to add events to a segment, each of which counts an event once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from banditcore.counts import decay_exponent
from banditcore.errors import CorruptDataError, StoreError, describe
from banditcore.events import MAX_AHEAD_S
from banditcore.grouping import SegmentEvents
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.functions import updates_library
from banditcore.store.functions.calling import Call, Reply
from banditcore.store.functions.updates_library import Held, Window
from banditcore.store.keys import SegmentKeys

__all__ = ["BatchUpdate", "OrderedUpdate", "Outcome", "UniqueUpdate", "Update"]

_ATTEMPT_BYTES = 12  # with a count of 4 bytes as long as a digest
_DELTA = np.dtype([("slot", "<u4"), ("trials", "<f8"), ("successes", "<f8")])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one update.

    Attributes
    ----------
    word : str
        ``OK``, ``ALREADY``, ``LATE``, ``EARLY``, ``FENCED``, ``CONFLICT`` or ``STALE``.
    applied, duplicate : int
        Events; 0 unless the word is ``OK`` or ``ALREADY``.
    detail : str
        The epoch that fences, the offset that conflicts, or the first or last time, in
        seconds since 1970, that is accepted when some events are too late or too early.
    registered : int or None
        Of the new arms that the update named, how many were registered; None for all.
    """

    word: str
    applied: int = 0
    duplicate: int = 0
    detail: str = ""
    registered: int | None = None


class Update(Protocol):
    """Events of one segment together with what makes them count once."""

    @property
    def events(self) -> SegmentEvents:
        """The events."""
        ...

    def call(
        self, keys: SegmentKeys, version: SegmentVersion, held: Held, slots: NDArray[np.intp]
    ) -> Call:
        """Return the call that applies them; `slots` are those of ``events.arms``."""
        ...

    def outcome(self, reply: Reply) -> Outcome:
        """Read the call's reply."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class OrderedUpdate:
    """Events between two offsets of a partition: applied if the partition's mark is `expected`.

    There may be none: then only the mark moves.

    Parameters
    ----------
    mark : str
        The field of the mark, see `keys.mark_field`.
    epoch : int
        Of the owner of the partition; an older one is fenced off.
    expected, new : str
        The mark before and after; "" before the first.
    now : float or None
        The clock, seconds since 1970; None for the server's.
    """

    events: SegmentEvents
    mark: str
    epoch: int
    expected: str
    new: str
    now: float | None = None

    def call(
        self, keys: SegmentKeys, version: SegmentVersion, held: Held, slots: NDArray[np.intp]
    ) -> Call:
        """Return a compare-and-set of the mark."""
        return updates_library.apply(
            keys,
            held=held,
            mark=self.mark,
            epoch=self.epoch,
            expected=self.expected,
            new=self.new,
            newest=self.events.newest,
            now=self.now,
            deltas=_sums(self.events, version, slots),
        )

    def outcome(self, reply: Reply) -> Outcome:
        """Read the reply; ALREADY means that all events are counted."""
        return _all_or_none(self.events, reply)


@dataclass(frozen=True, slots=True, eq=False)
class BatchUpdate:
    """Events under one id: applied unless the id was seen within the window.

    Parameters
    ----------
    digest : bytes
        See `keys.batch_digest`.
    oldest : float or None
        What must lie within the window, seconds since 1970: the time of the oldest event, or
        that of the first attempt at this batch. None when it cannot have been sent before.
    now : float or None
        The clock for the window, seconds since 1970; None for the server's.
    """

    events: SegmentEvents
    digest: bytes
    oldest: float | None = None
    now: float | None = None

    def call(
        self, keys: SegmentKeys, version: SegmentVersion, held: Held, slots: NDArray[np.intp]
    ) -> Call:
        """Return an update guarded by the batch's digest."""
        return updates_library.apply_batch(
            keys,
            held=held,
            window=_window(self.events, version, self.oldest, self.now),
            digest=self.digest,
            deltas=_sums(self.events, version, slots),
        )

    def outcome(self, reply: Reply) -> Outcome:
        """Read the reply; ALREADY means that the id was seen before."""
        return _all_or_none(self.events, reply)


@dataclass(frozen=True, slots=True, eq=False)
class UniqueUpdate:
    """Events with ids of their own: each applied unless its id was seen within the window.

    Parameters
    ----------
    digests : list of bytes
        (m,) see `keys.event_digest`.
    now : float or None
        The clock for the window, seconds since 1970; None for the server's.
    attempt : bytes
        12 random bytes. Sent again because its reply was lost, this same update is answered as it
        was; another one with the same events is answered that they are duplicates.
    """

    events: SegmentEvents
    digests: list[bytes]
    now: float | None = None
    attempt: bytes = field(default_factory=partial(os.urandom, _ATTEMPT_BYTES))

    def call(
        self, keys: SegmentKeys, version: SegmentVersion, held: Held, slots: NDArray[np.intp]
    ) -> Call:
        """Return an update guarded by each event's digest."""
        events = self.events
        weights = _weights(events, version)
        deltas = np.empty(len(events), dtype=_DELTA)
        deltas["slot"] = slots[events.arm_of]
        deltas["trials"] = events.trials * weights
        deltas["successes"] = events.successes * weights
        return updates_library.apply_unique(
            keys,
            held=held,
            window=_window(events, version, float(events.times.min()), self.now),
            digests=b"".join(self.digests),
            deltas=deltas.tobytes(),
            attempt=self.attempt,
        )

    def outcome(self, reply: Reply) -> Outcome:
        """Read the reply, which counts applied and duplicate events."""
        if reply[0] == b"OK":
            applied, duplicate, registered = map(int, reply[1:])
            return Outcome("OK", applied, duplicate, registered=registered)
        return _refusal(self.events, reply)


def _window(
    events: SegmentEvents, version: SegmentVersion, oldest: float | None, now: float | None
) -> Window:
    # Two buckets are remembered, so an id is known for at least one whole length. An event is
    # accepted up to window_s late and MAX_AHEAD_S early, so its duplicate comes within the sum.
    bucket_s = version.window_s + MAX_AHEAD_S
    return Window(version.window_s, bucket_s, oldest, float(events.times.max()), now)


def _weights(events: SegmentEvents, version: SegmentVersion) -> NDArray[np.float64]:
    exponents = decay_exponent(events.times, version.landmark, version.half_life_s)
    return np.exp2(exponents)


def _sums(events: SegmentEvents, version: SegmentVersion, slots: NDArray[np.intp]) -> bytes:
    """Return one packed delta an arm, by slot."""
    weights = _weights(events, version)
    n = len(events.arms)
    deltas = np.empty(n, dtype=_DELTA)
    order = np.argsort(slots)  # neighbours share a chunk
    deltas["slot"] = slots[order]
    deltas["trials"] = np.bincount(events.arm_of, events.trials * weights, n)[order]
    deltas["successes"] = np.bincount(events.arm_of, events.successes * weights, n)[order]
    return deltas.tobytes()


def _all_or_none(events: SegmentEvents, reply: Reply) -> Outcome:
    if reply[0] == b"OK":
        return Outcome("OK", applied=len(events))
    if reply[0] == b"ALREADY":
        return Outcome("ALREADY", duplicate=len(events))
    return _refusal(events, reply)


def _refusal(events: SegmentEvents, reply: Reply) -> Outcome:
    word, *details = (part.decode() for part in reply)
    detail = details[0] if details else ""
    where = f"of segment {events.segment!r}"
    if word in {"STALE", "CONFLICT", "FENCED", "LATE", "EARLY"}:
        return Outcome(word, detail=detail)
    if word == "CORRUPT":
        raise CorruptDataError(describe(detail, "damaged", f"counts {where} cannot be added to"))
    if word == "OVERFLOW":
        raise StoreError(describe(detail, "too large", f"counts {where} would overflow"))
    raise StoreError(describe("reply", word, f"{detail}: the update {where} was not applied"))
