"""The statistics of a bandit's segments: read whole, updated by many processes at once."""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from banditcore.counts import ArmCounts, decay_exponent
from banditcore.errors import (
    CorruptDataError,
    InvalidValueError,
    StoreError,
    StoreUnavailableError,
    describe,
)
from banditcore.store import index, keys, library
from banditcore.store.connect import translating
from banditcore.store.library import Reply
from banditcore.store.registry import encode_ids
from banditcore.store.updates import Outcome, Update
from banditcore.store.version import SegmentVersion
from banditcore.store.view import SegmentView

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["CountsRead", "Statistics"]

MAX_EXPONENT = 500.0
"""Half-lives after which the landmark moves; float64 would last for about 1,000."""

RETRY_FOR_S = 15.0
"""How long a write is sent again after a network error, in seconds. Safe: each counts once."""

_ROUNDS = 100
"""Attempts at an update while others change the segment's version. Each failure of one is
the success of another, so this many in a row mean that something is wrong."""


@dataclass(frozen=True, slots=True)
class CountsRead:
    """The counts of one segment and the server's time when they were read.

    Attributes
    ----------
    counts : ArmCounts
        Faded to the moment asked for.
    version : int
        Microseconds since 1970 by the server's clock; 0 for a segment that does not exist.
    """

    counts: ArmCounts
    version: int


CHUNKS_AT = 6
"""Where the counts begin in a reply of `library.read`."""


class Statistics:
    """Reads and updates the arm statistics of one bandit. Safe to share between threads.

    Parameters
    ----------
    store : Store
        Where they are.
    bandit : str
        Its name.
    new_version : callable
        Returns the version that a new segment starts with.
    clock : callable
        Returns seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        bandit: str,
        new_version: Callable[[], SegmentVersion],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._bandit = bandit
        self._new_version = new_version
        self._clock = clock
        self._views: dict[str, SegmentView] = {}  # replaced whole, so readers need no lock

    def counts(self, segments: Sequence[str], as_of: float) -> list[CountsRead]:
        """Return the counts recorded at exactly these segments, in one round trip.

        A segment that does not exist has no arms. Each segment is read at one moment.

        Raises
        ------
        CorruptDataError
            When stored values fail their checks.
        """
        found = self._read(segments, with_counts=True)
        return [
            _counts_of(segment, reply, view, as_of)
            for segment, (reply, view) in zip(segments, found, strict=True)
        ]

    def apply(self, updates: Sequence[Update]) -> list[Outcome]:
        """Apply updates of distinct segments; each one wholly or not at all.

        Network errors are retried for 15 s: each update carries what makes it count once.

        Returns
        -------
        list of Outcome
            One for each update; none of them ``STALE``.

        Raises
        ------
        StoreError
            Some updates may have been applied. Sending all of them again is safe.
        """
        outcomes: dict[int, Outcome] = {}
        pending = list(range(len(updates)))
        unsure = False  # whether an attempt was sent whose reply never came
        deadline = time.monotonic() + RETRY_FOR_S
        pause = 0.02
        for _ in range(_ROUNDS):
            try:
                answered = self._attempt([updates[i] for i in pending])
            except StoreUnavailableError:
                if time.monotonic() + pause > deadline:
                    raise
                unsure = True
                time.sleep(pause)
                pause = min(2 * pause, 1.0)
                continue
            for i, outcome in zip(pending, answered, strict=True):
                if outcome.word != "STALE":
                    outcomes[i] = _credited(outcome, unsure)
            pending = [i for i in pending if i not in outcomes]
            if not pending:
                return [outcomes[i] for i in range(len(updates))]
        segment = updates[pending[0]].events.segment
        raise StoreError(
            describe("segment", segment, f"its version changed {_ROUNDS} times during one update")
        )

    def add_arms(self, segment: str, arms: Sequence[str]) -> int:
        """Register arms that have no events yet; return how many were new."""
        for _ in range(_ROUNDS):
            [view] = self._open([segment])
            new = [arm for arm in dict.fromkeys(arms) if arm not in view.registry.slot_of]
            if not new or self._register([(segment, view, new)]) == [True]:
                return len(new)
        raise StoreError(describe("segment", segment, "others registered arms all the time"))

    def retire(self, segment: str, arms: Iterable[str]) -> int:
        """Remove arms with their counts; return how many there were. Starts a new epoch."""
        gone = set(arms)
        for _ in range(_ROUNDS):
            [(_, view)] = self._read([segment], with_counts=False)
            if view is None:
                return 0
            known = list(view.registry.arms)
            kept = [slot for slot, arm in enumerate(known) if arm not in gone]
            if len(kept) == len(known):
                return 0
            registry = encode_ids(known[slot] for slot in kept)
            call = library.compact(
                keys.of_segment(self._bandit, segment),
                version=view.version.pack(),
                token=view.token,
                new_version=view.version.next_epoch().pack(),
                new_token=_new_token(),
                new_registry=registry,
                kept=np.array(kept, dtype="<u4").tobytes(),
            )
            if self._accepted(segment, call):
                return len(known) - len(kept)
        raise StoreError(describe("segment", segment, "it changed all the time; try again"))

    def change_half_life(self, segment: str, half_life_s: float | None, at: float) -> None:
        """Let evidence fade with another half-life from `at` on; counts at `at` stay as they are.

        Parameters
        ----------
        half_life_s : float or None
            Seconds; None to stop fading.
        at : float
            Seconds since 1970.
        """
        for _ in range(_ROUNDS):
            [(_, view)] = self._read([segment], with_counts=False)
            if view is None or view.version.half_life_s == half_life_s:
                return
            if self._rescale(segment, view, replace(view.version, half_life_s=half_life_s), at):
                return
        raise StoreError(describe("segment", segment, "it changed all the time; try again"))

    def marks(self, segments: Sequence[str], mark: str) -> list[tuple[int, str]]:
        """Return (epoch, offset) of a partition's mark in each segment; (0, "") where none is."""
        with translating(self._store):
            pipeline = self._store.client.pipeline(transaction=False)
            for segment in segments:
                pipeline.hget(keys.of_segment(self._bandit, segment).state, mark)
            found = pipeline.execute()
        return [_mark(segment, raw) for segment, raw in zip(segments, found, strict=True)]

    # One attempt at an update: views, then slots, then the counts.

    def _attempt(self, updates: Sequence[Update]) -> list[Outcome]:
        """Send every update once. STALE are those whose segment had changed; it is read again."""
        segments = [update.events.segment for update in updates]
        self._register_missing(updates)
        outcomes = [Outcome("STALE")] * len(updates)
        sent, calls = [], []
        for i, (update, view) in enumerate(zip(updates, self._open(segments), strict=True)):
            slots = _slots(update, view)
            if slots is not None and not self._moves_landmark(update, view):
                sent.append(i)
                calls.append(update.call(self._keys(segments[i]), view, slots))
        for i, reply in zip(sent, library.run(self._store, calls), strict=True):
            outcomes[i] = updates[i].outcome(reply)
        stale = [segments[i] for i in sent if outcomes[i].word == "STALE"]
        if stale:
            self._read(stale, with_counts=False)
        return outcomes

    def _register_missing(self, updates: Sequence[Update]) -> None:
        views = self._open([update.events.segment for update in updates])
        wanted = []
        for update, view in zip(updates, views, strict=True):
            new = [arm for arm in update.events.arms if arm not in view.registry.slot_of]
            if new:
                wanted.append((update.events.segment, view, new))
        if wanted:
            self._register(wanted)

    def _open(self, segments: Sequence[str]) -> list[SegmentView]:
        """Return views, reading or creating the segments this process does not know."""
        views = {segment: self._views.get(segment) for segment in segments}
        unknown = [segment for segment, view in views.items() if view is None]
        opened: dict[str, SegmentView] = {}
        if unknown:
            index.add(self._store, self._bandit, unknown)
            version = self._new_version().pack()
            calls = [library.open(self._keys(segment), version=version) for segment in unknown]
            for segment, reply in zip(unknown, library.run(self._store, calls), strict=True):
                self._views[segment] = opened[segment] = SegmentView.learn(segment, reply, None)
        return [views[segment] or opened[segment] for segment in segments]

    def _register(self, wanted: Sequence[tuple[str, SegmentView, list[str]]]) -> list[bool]:
        """Append new arms to registries; False where the registry is no longer what we know."""
        calls, grown = [], []
        for segment, view, new in wanted:
            token, tail = _new_token(), encode_ids(new)
            calls.append(
                library.add_arms(
                    self._keys(segment),
                    version=view.version.pack(),
                    token=view.token,
                    new_token=token,
                    count=len(new),
                    tail=tail,
                )
            )
            grown.append((view.registry.known()[0], tail, token))
        done = []
        replies = library.run(self._store, calls)
        for (segment, view, _), (size, tail, token), reply in zip(
            wanted, grown, replies, strict=True
        ):
            done.append(reply[0] == b"OK")
            if done[-1]:
                view.registry.extend(size, tail)
                self._views[segment] = SegmentView(view.version, token, view.registry)
        if not all(done):
            stale = [one[0] for one, ok in zip(wanted, done, strict=True) if not ok]
            self._read(stale, with_counts=False)
        return done

    def _moves_landmark(self, update: Update, view: SegmentView) -> bool:
        """Move the landmark when weights would grow too large; True when it was moved."""
        version, newest = view.version, float(update.events.times.max())
        if decay_exponent(newest, version.landmark, version.half_life_s) <= MAX_EXPONENT:
            return False
        self._rescale(update.events.segment, view, version, newest)
        return True

    def _rescale(self, segment: str, view: SegmentView, target: SegmentVersion, at: float) -> bool:
        """Set the landmark to `at` and the rest of the version to `target`'s."""
        old = view.version
        factor = float(np.exp2(-decay_exponent(at, old.landmark, old.half_life_s)))
        call = library.rescale(
            self._keys(segment),
            version=old.pack(),
            new_version=replace(target, landmark=at).pack(),
            factor=struct.pack("<d", factor),
        )
        return self._accepted(segment, call)

    def _accepted(self, segment: str, call: library.Call) -> bool:
        """Run a call that changes the version; False when another process changed it before."""
        self._views.pop(segment, None)  # whatever happens, it has to be read again
        [reply] = library.run(self._store, [call])
        if reply[0] == b"OK":
            return True
        if reply[0] == b"STALE":
            return False
        detail = b" ".join(reply).decode()
        raise CorruptDataError(describe("reply", detail, f"segment {segment!r} was not changed"))

    # Reading.

    def _read(
        self, segments: Sequence[str], *, with_counts: bool
    ) -> list[tuple[Reply, SegmentView | None]]:
        """Return replies of `library.read` with the views they give; None: no such segment."""
        # Other threads may replace a view meanwhile; a reply continues the one it was asked with.
        views = [self._views.get(segment) for segment in segments]
        calls = []
        for segment, view in zip(segments, views, strict=True):
            size, digest = (0, "") if view is None else view.registry.known()
            calls.append(
                library.read(
                    self._keys(segment),
                    known_token=b"" if view is None else view.token,
                    known_bytes=size,
                    known_sha1=digest,
                    with_counts=with_counts,
                )
            )
        replies = library.run(self._store, calls)
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

    def _keys(self, segment: str) -> keys.SegmentKeys:
        return keys.of_segment(self._bandit, segment)


def _counts_of(segment: str, reply: Reply, view: SegmentView | None, as_of: float) -> CountsRead:
    if view is None:
        return CountsRead(ArmCounts((), np.empty(0), np.empty(0), as_of), 0)
    version, slots = view.version, int(reply[2])
    table = _table(segment, slots, reply[CHUNKS_AT:])
    fading = float(decay_exponent(as_of, version.landmark, version.half_life_s))
    if fading < -MAX_EXPONENT:
        raise InvalidValueError(
            describe("as_of", as_of, f"too long before the counts of segment {segment!r} began")
        )
    fade = np.exp2(-fading)
    arms = view.registry.arms[:slots]
    counts = ArmCounts(arms, table[:, 0] * fade, table[:, 1] * fade, as_of)
    return CountsRead(counts, int(reply[3]))


_MARK = re.compile(rb"(\d+) ([!-~]*)")
_SLOTS_PER_CHUNK = 128
_SLOT_BYTES = 16


def _table(segment: str, slots: int, chunks: Sequence[bytes]) -> NDArray[np.float64]:
    """Return the (slots, 2) counts that chunks hold; what is missing at their ends is 0."""
    table = np.zeros((slots, 2))
    for j, raw in enumerate(chunks):
        first = j * _SLOTS_PER_CHUNK
        room = min(_SLOTS_PER_CHUNK, slots - first)
        if len(raw) % _SLOT_BYTES or len(raw) > room * _SLOT_BYTES:
            raise CorruptDataError(
                describe(f"chunk {j}", len(raw), f"of segment {segment!r}: impossible length")
            )
        numbers = np.frombuffer(raw, dtype="<f8").reshape(-1, 2)
        table[first : first + len(numbers)] = numbers
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise CorruptDataError(
            describe("counts", "negative or not finite", f"segment {segment!r} is damaged")
        )
    return table


def _mark(segment: str, raw: bytes | None) -> tuple[int, str]:
    if raw is None:
        return 0, ""
    parts = _MARK.fullmatch(raw)
    if parts is None:
        raise CorruptDataError(
            describe("mark", raw, f"of segment {segment!r} is damaged: no epoch and offset")
        )
    return int(parts[1]), parts[2].decode("ascii")


def _slots(update: Update, view: SegmentView) -> NDArray[np.intp] | None:
    """Return the slots of the update's arms; None when one is not registered."""
    slot_of = view.registry.slot_of
    slots = [slot_of.get(arm, -1) for arm in update.events.arms]
    return None if -1 in slots else np.array(slots, dtype=np.intp)


def _new_token() -> bytes:
    return os.urandom(12)


def _credited(outcome: Outcome, unsure: bool) -> Outcome:
    """Count events as applied when it was our own unanswered attempt that applied them."""
    if unsure and outcome.word == "ALREADY":
        return Outcome("OK", applied=outcome.duplicate)
    return outcome
