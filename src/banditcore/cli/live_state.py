"""Reads how bandits stand, again and again, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError
from banditcore.exploration import exploration
from banditcore.segments import with_ancestors
from banditcore.slate_format import SlateHeader, decode, decode_header, restamped
from banditcore.store import keys, monitoring, publish
from banditcore.store.counts import index
from banditcore.store.event_streams import partitions, streams
from banditcore.store.monitoring import Holder
from banditcore.store.publish import Published

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["BanditState", "LiveReader", "SegmentState", "StreamState"]

_STREAMS = "stream"
_REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class SegmentState:
    """What is published of a segment.

    Attributes
    ----------
    segment : str
    version : int or None
        Microseconds since 1970 of the counts behind its slates; None without slates.
    age_s : float or None
        Seconds since then, by the server's clock.
    arms : int or None
    entropy, effective_arms : float or None
        See `exploration`.
    unusable : str or None
        Why its slates cannot be used.
    """

    segment: str
    version: int | None = None
    age_s: float | None = None
    arms: int | None = None
    entropy: float | None = None
    effective_arms: float | None = None
    unusable: str | None = None


@dataclass(frozen=True, slots=True)
class StreamState:
    """How a partition of a bandit's events stands.

    Attributes
    ----------
    partition : int
    waiting : int
        Events that are not applied yet.
    lag_s : float
        Seconds since the oldest of them came; 0 when there are none.
    dead_letters : int
        Events that could not be used, ever.
    lease : Holder
        Who applies it.
    """

    partition: int
    waiting: int
    lag_s: float
    dead_letters: int
    lease: Holder


@dataclass(frozen=True, slots=True)
class BanditState:
    """How a bandit stands.

    Attributes
    ----------
    bandit : str
    segments : tuple of SegmentState
        The first ones, as many as were asked for.
    segment_count : int
        How many there are, ancestors included.
    oldest_s : float or None
        The highest age of all.
    partitions : tuple of StreamState
    workers : int
        That apply its streams.
    refresh : Holder
        Who runs its refresh.
    """

    bandit: str
    segments: tuple[SegmentState, ...]
    segment_count: int
    oldest_s: float | None
    partitions: tuple[StreamState, ...]
    workers: int
    refresh: Holder


@dataclass(frozen=True, slots=True)
class _Measured:
    header: SlateHeader
    arms: int
    entropy: float
    effective_arms: float


class LiveReader:
    """Reads how bandits stand; fetches a blob only when it is a new one.

    Parameters
    ----------
    store : Store
        Where.
    bandit : str or None
        Which one; None: all there are.
    limit : int
        Of so many segments of each bandit the blobs are fetched.
    """

    def __init__(self, store: Store, bandit: str | None, limit: int) -> None:
        self._store = store
        self._bandit = bandit
        self._limit = limit
        self._measured: dict[tuple[str, str], _Measured] = {}

    def read(self) -> list[BanditState]:
        """Return how they stand now.

        Raises
        ------
        StoreError
            They cannot be read now; the next time may be better.
        """
        names = index.bandits(self._store) if self._bandit is None else [self._bandit]
        return [self._read(name) for name in names]

    def _read(self, bandit: str) -> BanditState:
        store = self._store
        paths = with_ancestors(index.segments(store, bandit))
        now = store.server_time()
        headers = dict(zip(paths, publish.headers(store, bandit, paths), strict=True))
        states = {path: _state(path, header, now) for path, header in headers.items()}
        shown = paths[: self._limit]
        self._measure(bandit, {path: header for path in shown if (header := headers[path])})
        ages = [state.age_s for state in states.values() if state.age_s is not None]
        return BanditState(
            bandit=bandit,
            segments=tuple(self._complete(bandit, states[path]) for path in shown),
            segment_count=len(paths),
            oldest_s=max(ages, default=None),
            partitions=self._partitions(bandit, now),
            workers=monitoring.workers(store, bandit, _STREAMS),
            refresh=monitoring.holders(store, [keys.lease(bandit, _REFRESH)])[0],
        )

    def _measure(self, bandit: str, headers: Mapping[str, Published]) -> None:
        """Fetch and measure the blobs that are not those of the last time."""
        gone = [key for key in self._measured if key[0] == bandit and key[1] not in headers]
        for key in gone:
            del self._measured[key]
        new: list[str] = []
        for path, first in headers.items():
            header = _header(first)
            if isinstance(header, str):
                self._measured.pop((bandit, path), None)
                continue
            known = self._measured.get((bandit, path))
            if known is None or restamped(known.header, header.version) != header:
                new.append(path)
        for path in new:  # one at a time: a blob may be large
            [blob] = publish.fetch(self._store, bandit, [path])
            self._measured.pop((bandit, path), None)
            if not isinstance(blob, bytes) or not blob:
                continue
            try:
                snapshot = decode(blob)
                header = decode_header(blob)
            except CorruptDataError:
                continue
            seen = exploration(snapshot.bank.slates[:, :1].ravel().tolist(), len(snapshot))
            self._measured[bandit, path] = _Measured(
                header, len(snapshot), seen.entropy, seen.effective_arms
            )

    def _complete(self, bandit: str, state: SegmentState) -> SegmentState:
        measured = self._measured.get((bandit, state.segment))
        if state.version is None:
            return state
        if measured is None:
            return SegmentState(
                state.segment, state.version, state.age_s, unusable="its checksum does not fit"
            )
        return SegmentState(
            state.segment,
            state.version,
            state.age_s,
            measured.arms,
            measured.entropy,
            measured.effective_arms,
        )

    def _partitions(self, bandit: str, now: float) -> tuple[StreamState, ...]:
        store = self._store
        numbers = range(partitions.load(store, bandit) or 0)
        states = dict(zip(numbers, streams.states(store, bandit, numbers), strict=True))
        waiting = {number: state.applied for number, state in states.items() if state.unapplied}
        oldest = monitoring.oldest_after(store, bandit, waiting)
        leases = monitoring.holders(store, _leases(bandit, numbers))
        return tuple(
            StreamState(
                partition=number,
                waiting=state.unapplied,
                lag_s=max(0.0, now - oldest[number] / 1e6) if number in oldest else 0.0,
                dead_letters=state.dead,
                lease=lease,
            )
            for (number, state), lease in zip(states.items(), leases, strict=True)
        )


def _leases(bandit: str, numbers: Sequence[int]) -> list[str]:
    return [keys.of_partition(bandit, number).lease for number in numbers]


def _state(segment: str, first: Published, now: float) -> SegmentState:
    if first == b"":
        return SegmentState(segment)
    header = _header(first)
    if isinstance(header, str):
        return SegmentState(segment, unusable=header)
    return SegmentState(segment, header.version, max(0.0, now - header.version / 1e6))


def _header(first: Published) -> SlateHeader | str:
    """Return the header that a blob begins with, or why there is none."""
    if isinstance(first, Exception):
        return str(first)
    try:
        return decode_header(first)
    except CorruptDataError as error:
        return str(error)
