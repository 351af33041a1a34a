"""Changes the statistics of a bandit's segments, together with many other processes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from banditcore.counts import decay_exponent
from banditcore.errors import CorruptDataError, StoreError, StoreUnavailableError, describe
from banditcore.store.counts import index
from banditcore.store.counts.reading import MAX_EXPONENT, SegmentReader
from banditcore.store.counts.registry import digest_of, encode_ids, new_token
from banditcore.store.counts.updates import Outcome, Update
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.counts.view import SegmentView
from banditcore.store.functions import calling, library, updates_library
from banditcore.store.servers.retrying import Patience
from banditcore.store.servers.translation import translated
from banditcore.store.servers.transport import Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Statistics"]

_MAX_STALE = 100
"""Attempts at an update while others change its segment. Each failure of one is the success of
another, so this many in a row mean that something is wrong."""


class Statistics:
    """Updates the arm statistics of one bandit. Safe to share between threads.

    Parameters
    ----------
    store : Store
        Where they are.
    bandit : str
        Its name.
    new_version : callable
        Returns the version that a segment made now would have; its half-life is also that of
        the segments made since the half-life was last changed.
    now : callable
        Returns the clock against which events are judged, seconds since 1970; None stands for
        the server's.
    retry_for_s : float
        How long a write is sent again after a network error, in seconds. Safe: each counts once.

    Attributes
    ----------
    reader : SegmentReader
        Reads what this writes.
    now : callable
        As given.
    """

    def __init__(
        self,
        store: Store,
        bandit: str,
        new_version: Callable[[], SegmentVersion],
        now: Callable[[], float | None],
        *,
        retry_for_s: float = 15.0,
    ) -> None:
        self.reader = SegmentReader(store, bandit)
        self._store = store
        self._bandit = bandit
        self._new_version = new_version
        self.now = now
        self._retry_for_s = retry_for_s

    def apply(self, updates: Sequence[Update]) -> list[Outcome]:
        """Apply updates of distinct segments; each one wholly or not at all.

        Network errors are retried: each update carries what makes it count once.

        Returns
        -------
        list of Outcome
            One for each update; none of them ``STALE``. What an attempt of this call applied whose
            reply was lost counts as applied.

        Raises
        ------
        StoreError
            Some updates may have been applied. Sending all of them again is safe.
        """
        outcomes: dict[int, Outcome] = {}
        unsure: set[int] = set()  # updates that were sent and not answered
        pending = list(range(len(updates)))
        patience = Patience(self._retry_for_s)
        for _ in range(_MAX_STALE):
            try:
                answered, failure = self._attempt(updates, pending, unsure)
            except StoreUnavailableError as error:
                answered, failure = {}, error
            for i, outcome in answered.items():
                outcomes[i] = _credited(outcome, i in unsure)
            pending = [i for i in pending if i not in outcomes]
            if not pending:
                return [outcomes[i] for i in range(len(updates))]
            if failure is not None and not patience.wait():
                raise failure
        raise _unsettled(updates[pending[0]].events.segment)

    def add_arms(self, segment: str, arms: Sequence[str]) -> int:
        """Register arms that have no events yet; return how many were new."""
        for _ in range(_MAX_STALE):
            self.reader.look([segment])  # others may have retired arms that are remembered here
            [view] = self._open([segment])
            new = [arm for arm in dict.fromkeys(arms) if arm not in view.slot_of]
            if not new:
                return 0
            held = view.held(new)
            if self._accepted(
                segment, updates_library.add_arms(self.reader.keys(segment), held=held)
            ):
                self.reader.remember(segment, view.with_arms(new, held.new_token))
                return len(new)
        raise _unsettled(segment)

    def retire(self, segment: str, arms: Iterable[str]) -> int:
        """Remove arms with their counts; return how many there were. Starts a new epoch."""
        gone = set(arms)
        for _ in range(_MAX_STALE):
            [view] = self.reader.look([segment])
            if view is None:
                return 0
            kept = [slot for slot, arm in enumerate(view.arms) if arm not in gone]
            if len(kept) == len(view.arms):
                return 0
            registry = encode_ids(view.arms[slot] for slot in kept)
            call = library.compact(
                self.reader.keys(segment),
                version=view.version.pack(),
                token=view.token,
                new_version=view.version.next_epoch().pack(),
                new_token=new_token(digest_of(registry)),
                new_registry=registry,
                kept=np.array(kept, dtype="<u4").tobytes(),
            )
            if self._accepted(segment, call):
                return len(view.arms) - len(kept)
        raise _unsettled(segment)

    def change_half_life(self, segment: str, half_life_s: float | None, at: float) -> None:
        """Let evidence fade with another half-life from `at` on; counts at `at` stay as they are.

        Parameters
        ----------
        half_life_s : float or None
            Seconds; None to stop fading.
        at : float
            Seconds since 1970.
        """
        for _ in range(_MAX_STALE):
            [view] = self.reader.look([segment])
            if view is None or view.version.half_life_s == half_life_s:
                return
            target = replace(view.version, half_life_s=half_life_s)
            if self._rescale(segment, view.version, target, at).word == "OK":
                return
        raise _unsettled(segment)

    def _attempt(
        self, updates: Sequence[Update], pending: Sequence[int], unsure: set[int]
    ) -> tuple[dict[int, Outcome], StoreUnavailableError | None]:
        """Send pending updates once.

        Return the outcome of those that were answered and not STALE, and why some were not
        answered; enter those that may have been applied all the same into `unsure`.
        """
        outcomes: dict[int, Outcome] = {}
        failure: StoreUnavailableError | None = None
        sent: list[int] = []
        views: list[tuple[SegmentView, list[str], updates_library.Held]] = []
        calls: list[calling.Call] = []
        opened = self._open([updates[i].events.segment for i in pending])
        for i, view in zip(pending, opened, strict=True):
            update = updates[i]
            moved = self._move_landmark(update, view)
            if moved is not None:
                if moved.word == "EARLY":
                    outcomes[i] = moved
                continue
            new = [arm for arm in update.events.arms if arm not in view.slot_of]
            held = view.held(new)
            slots = _slots(update.events.arms, view, new)
            sent.append(i)
            views.append((view, new, held))
            keys = self.reader.keys(update.events.segment)
            calls.append(update.call(keys, view.version, held, slots))
        stale = []
        replies = calling.attempt(self._store, calls)
        for i, reply, (view, new, held) in zip(sent, replies, views, strict=True):
            if isinstance(reply, Failure):
                error = translated(reply.error, self._store, reply.node)
                if not isinstance(error, StoreUnavailableError):
                    raise error from reply.error
                failure = error
                failure.__cause__ = reply.error
                if reply.may_have_run:
                    unsure.add(i)
                continue
            segment, outcome = updates[i].events.segment, updates[i].outcome(reply)
            if outcome.word == "STALE":
                stale.append(segment)
                continue
            # Else other arms than these have the new slots; the next update is STALE, and looks.
            if outcome.applied and new and outcome.registered in {None, len(new)}:
                self.reader.remember(segment, view.with_arms(new, held.new_token))
            outcomes[i] = outcome
        if stale:
            try:
                self.reader.look(stale)
            except StoreUnavailableError as error:
                failure = error  # what was answered stays answered
        return outcomes, failure

    def _open(self, segments: Sequence[str]) -> list[SegmentView]:
        """Return views, reading or creating the segments this process does not know."""
        views = {segment: self.reader.known(segment) for segment in segments}
        unknown = [segment for segment, view in views.items() if view is None]
        opened: dict[str, SegmentView] = {}
        if unknown:
            index.add(self._store, self._bandit, unknown)
            version = self._new_version()
            calls = [
                library.open_segment(self.reader.keys(segment), version=version.pack())
                for segment in unknown
            ]
            replies = calling.run(self._store, calls)
            # Once more: a segment that was being forgotten has left the index since (dump.forget).
            index.add(self._store, self._bandit, unknown)
            for segment, reply in zip(unknown, replies, strict=True):
                opened[segment] = SegmentView.learn(segment, reply, None)
                self.reader.remember(segment, opened[segment])
            # The half-life may have been changed for all segments while we made these.
            half_life_s = self._new_version().half_life_s
            for segment in unknown:
                if opened[segment].version.half_life_s != half_life_s:
                    self.change_half_life(segment, half_life_s, version.landmark)
                    opened |= zip([segment], self._open([segment]), strict=True)
        return [views[segment] or opened[segment] for segment in segments]

    def _move_landmark(self, update: Update, view: SegmentView) -> Outcome | None:
        """Move the landmark when weights would grow too large; None if they would not."""
        version, newest = view.version, update.events.newest
        if (
            newest is None
            or decay_exponent(newest, version.landmark, version.half_life_s) <= MAX_EXPONENT
        ):
            return None
        return self._rescale(update.events.segment, version, version, newest)

    def _rescale(
        self, segment: str, old: SegmentVersion, target: SegmentVersion, at: float
    ) -> Outcome:
        """Set the landmark to `at` and the rest of the version to `target`'s."""
        factor = float(np.exp2(-decay_exponent(at, old.landmark, old.half_life_s)))
        call = library.rescale(
            self.reader.keys(segment),
            version=old.pack(),
            new_version=replace(target, landmark=at).pack(),
            landmark=at,
            now=self.now(),
            factor=struct.pack("<d", factor),
        )
        return self._changed(segment, call)

    def _accepted(self, segment: str, call: calling.Call) -> bool:
        """Run a call that changes the registry; False when another process did so before."""
        return self._changed(segment, call).word == "OK"

    def _changed(self, segment: str, call: calling.Call) -> Outcome:
        self.reader.forget(segment)  # whatever happens, it has to be read again
        [reply] = calling.run(self._store, [call])
        word, *details = (part.decode() for part in reply)
        if word in {"OK", "STALE", "EARLY"}:
            return Outcome(word, detail=" ".join(details))
        raise CorruptDataError(
            describe("reply", " ".join((word, *details)), f"segment {segment!r} was not changed")
        )


def _slots(arms: Sequence[str], view: SegmentView, new: Sequence[str]) -> NDArray[np.intp]:
    """Return the slots of arms, of which `new` are registered after those of the view."""
    slot_of: Mapping[str, int] = view.slot_of
    if new:
        slot_of = {arm: len(view.arms) + i for i, arm in enumerate(new)}
        slot_of.update((arm, view.slot_of[arm]) for arm in arms if arm in view.slot_of)
    return np.fromiter(map(slot_of.__getitem__, arms), np.intp, len(arms))


def _unsettled(segment: str) -> StoreError:
    return StoreError(
        describe("segment", segment, f"others changed it {_MAX_STALE} times during one update")
    )


def _credited(outcome: Outcome, unsure: bool) -> Outcome:
    """Count events as applied when it was our own unanswered attempt that applied them."""
    if unsure and outcome.word == "ALREADY":
        return Outcome("OK", applied=outcome.duplicate)
    return outcome
