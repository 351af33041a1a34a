"""Reads segments' statistics and remembers what does not change between reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from banditcore.counts import ArmCounts, decay_exponent
from banditcore.errors import (
    CorruptDataError,
    InvalidValueError,
    StoreUnavailableError,
    describe,
)
from banditcore.store import keys
from banditcore.store.counts.view import SegmentView
from banditcore.store.functions import calling, library
from banditcore.store.functions.calling import Reply
from banditcore.store.seals import DIGITS, seal, unseal
from banditcore.store.servers.translation import translated
from banditcore.store.servers.transport import Command, Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["MAX_EXPONENT", "CountsRead", "SegmentReader", "Sign"]

MAX_EXPONENT = 500.0
"""Half-lives between landmark and event; float64 would last for about 1,000."""

_CHUNKS_AT = 6  # where the counts begin in a reply of `library.read`
_SLOTS_PER_CHUNK = 128
_SLOT_BYTES = 16
_MARK = re.compile(rb"(\d+) (\d+(?:-[0-9a-f]+)?)")


@dataclass(frozen=True, slots=True)
class CountsRead:
    """The counts of one segment and the server's time when they were read.

    Attributes
    ----------
    counts : ArmCounts
        Faded to the moment asked for.
    version : int or None
        Microseconds since 1970 by the server's clock; None for a segment that does not exist.
    """

    counts: ArmCounts
    version: int | None


class Sign(NamedTuple):
    """What tells the counts of one moment from those of another.

    Attributes
    ----------
    digest : bytes
        Of all that they follow from.
    version : int or None
        When it was read, as in `CountsRead`.
    """

    digest: bytes
    version: int | None


class SegmentReader:
    """Reads the segments of one bandit. Safe to share between threads and with forks.

    Parameters
    ----------
    store : Store
        Where they are.
    bandit : str
        Its name.
    """

    def __init__(self, store: Store, bandit: str) -> None:
        self._store = store
        self._bandit = bandit
        self._views: dict[str, SegmentView] = {}  # immutable views, replaced whole: no lock

    def keys(self, segment: str) -> keys.SegmentKeys:
        """Return the keys of a segment."""
        return keys.of_segment(self._bandit, segment)

    def known(self, segment: str) -> SegmentView | None:
        """Return what this process remembers of a segment; the server may know better."""
        return self._views.get(segment)

    def remember(self, segment: str, view: SegmentView) -> None:
        """Remember a view."""
        self._views[segment] = view

    def forget(self, segment: str) -> None:
        """Read the segment anew next time."""
        self._views.pop(segment, None)

    def look(self, segments: Sequence[str]) -> list[SegmentView | None]:
        """Read version and registry of segments, in one round trip; None: no such segment."""
        return [view for _, view in self._read(segments, with_counts=False)]

    def counts(self, segments: Sequence[str], as_of: float) -> list[CountsRead]:
        """Return the counts recorded at exactly these segments, in one round trip.

        A segment that does not exist has no arms. Each segment is read at one moment.

        Raises
        ------
        CorruptDataError
            When stored values fail their checks.
        InvalidValueError
            When `as_of` is hundreds of half-lives before the counts.
        """
        found = self._read(segments, with_counts=True)
        return [
            _counts_of(segment, reply, view, as_of)
            for segment, (reply, view) in zip(segments, found, strict=True)
        ]

    def signs(self, segments: Sequence[str]) -> list[Sign | None]:
        """Return a sign of each segment's counts, in one round trip; None: it cannot be told.

        Equal signs of two moments mean that nothing was recorded, retired, rescaled or restored
        between them. A segment that does not exist has the sign "" and no version.

        Raises
        ------
        StoreUnavailableError
            A server is out of reach.
        """
        calls = [library.sign(self.keys(segment)) for segment in segments]
        signs: list[Sign | None] = []
        for answer in calling.attempt(self._store, calls):
            if isinstance(answer, Failure):
                error = translated(answer.error, self._store, answer.node)
                if isinstance(error, StoreUnavailableError):
                    raise error from answer.error
                signs.append(None)  # who reads the counts is told what is wrong
            elif answer[:1] == [b"CORRUPT"]:
                signs.append(None)
            else:
                signs.append(Sign(answer[0], int(answer[1])) if answer else Sign(b"", None))
        return signs

    def marks(self, segments: Sequence[str], mark: str) -> list[tuple[int, str]]:
        """Return (epoch, offset) of a partition's mark in each segment; (0, "") where none is."""
        states = [self.keys(segment).state for segment in segments]
        found = self._store.replies([Command(key, ("HGET", key, mark)) for key in states])
        return [_mark(segment, raw) for segment, raw in zip(segments, found, strict=True)]

    def _read(
        self, segments: Sequence[str], *, with_counts: bool
    ) -> list[tuple[Reply, SegmentView | None]]:
        # Other threads may replace a view meanwhile; a reply continues the one it was asked with.
        views = [self._views.get(segment) for segment in segments]
        calls = [
            library.read(
                self.keys(segment),
                known_token=b"" if view is None else view.token,
                known_bytes=0 if view is None else view.size,
                known_sha1="" if view is None else view.digest,
                with_counts=with_counts,
            )
            for segment, view in zip(segments, views, strict=True)
        ]
        replies = calling.run(self._store, calls)
        found: list[tuple[Reply, SegmentView | None]] = []
        for segment, reply, before in zip(segments, replies, views, strict=True):
            if reply:
                view = SegmentView.learn(segment, reply, before)
                self._views[segment] = view
                found.append((reply, view))
            else:
                self._views.pop(segment, None)
                found.append((reply, None))
        return found


def _counts_of(segment: str, reply: Reply, view: SegmentView | None, as_of: float) -> CountsRead:
    if view is None:
        return CountsRead(ArmCounts((), np.empty(0), np.empty(0), as_of), None)
    version = view.version
    table = _table(segment, len(view.arms), reply[_CHUNKS_AT:])
    fading = float(decay_exponent(as_of, version.landmark, version.half_life_s))
    if fading < -MAX_EXPONENT:
        raise InvalidValueError(
            describe("as_of", as_of, f"too long before the counts of segment {segment!r} began")
        )
    fade = np.exp2(-fading)
    counts = ArmCounts(view.arms, table[:, 0] * fade, table[:, 1] * fade, as_of)
    return CountsRead(counts, int(reply[3]))


def _table(segment: str, slots: int, chunks: Sequence[bytes]) -> NDArray[np.float64]:
    """Return the (slots, 2) counts that chunks hold; what is missing at their ends is 0."""
    parts = []
    for j, stored in enumerate(chunks):
        raw = stored[:-DIGITS]  # empty where none of these arms has counts yet
        if stored and seal(raw) != stored:
            raise CorruptDataError(
                describe(f"chunk {j}", "damaged", f"segment {segment!r}: its checksum is wrong")
            )
        room = min(_SLOTS_PER_CHUNK, slots - j * _SLOTS_PER_CHUNK) * _SLOT_BYTES
        if len(raw) % _SLOT_BYTES or len(raw) > room:
            raise CorruptDataError(
                describe(f"chunk {j}", len(raw), f"of segment {segment!r}: impossible length")
            )
        parts.append(raw.ljust(room, b"\0"))
    table = np.frombuffer(b"".join(parts), dtype="<f8").reshape(-1, 2)
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise CorruptDataError(
            describe("counts", "negative or not finite", f"segment {segment!r} is damaged")
        )
    return table


def _mark(segment: str, raw: bytes | None) -> tuple[int, str]:
    if raw is None:
        return 0, ""
    parts = _MARK.fullmatch(unseal(raw, "mark", f"of segment {segment!r} is damaged"))
    if parts is None:
        raise CorruptDataError(
            describe("mark", raw, f"of segment {segment!r} is damaged: no epoch and offset")
        )
    return int(parts[1]), parts[2].decode("ascii")
