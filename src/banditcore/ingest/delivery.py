"""Deliveries of an unordered source, each applied wholly before it is acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import InvalidValueError, describe
from banditcore.event_format import event_as_json
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.ingest.ordered import CountingBandit
from banditcore.ingest.sources import Delivery, SourceReject, UnorderedSource
from banditcore.store.counts.updates import UniqueUpdate
from banditcore.store.keys import event_digest

__all__ = ["DeliveryRun"]


@dataclass(frozen=True, slots=True)
class _Done:
    applied: int
    duplicate: int
    refused: int


class DeliveryRun:
    """Applies what one worker is given of a partition, beside others that are given the rest.

    Any event may come again, here or elsewhere: after a crash, after a lost acknowledgement, or
    because this process took too long. The window of its segment tells whether it was counted.
    An event that is older than the window cannot be told from its duplicates: it is refused, and
    kept. Of all events acknowledged, applied + duplicate + refused are all that were received.

    Parameters
    ----------
    bandit : Bandit
        Whose counts.
    source : UnorderedSource
        Where the events come from.
    partition : int
        Of the source.
    batch_size : int, >= 1
        About how many events are applied together.

    Attributes
    ----------
    applied, duplicate, refused : int
        Events that were acknowledged since this run began.
    newest : float or None
        Time of the newest event of the last delivery, seconds since 1970.
    offset, rewinds : int
        -1 and 0: an unordered source has neither.
    """

    offset = -1
    rewinds = 0
    is_settled = True

    def __init__(
        self, bandit: CountingBandit, source: UnorderedSource, partition: int, *, batch_size: int
    ) -> None:
        self._bandit = bandit
        self._source = source
        self._batch_size = batch_size
        self._delivery: Delivery | None = None  # not acknowledged yet
        self._done: _Done | None = None  # what became of it, once all of it is dealt with
        self.partition = partition
        self.applied = self.duplicate = self.refused = 0
        self.newest: float | None = None

    def check(self) -> None:
        """Do nothing: what other servers lack comes again only if it was not acknowledged."""

    def step(self) -> bool:
        """Apply and acknowledge the next delivery; False when there was none.

        Raises
        ------
        StoreError
            The delivery may be applied in part; the next step goes on with the same one.
        """
        if self._delivery is None:
            self._delivery = self._source.poll(self.partition, self._batch_size)
        delivery = self._delivery
        if delivery is None:
            return False
        if self._done is None:
            self._done = self._apply(delivery)
        self._source.commit(delivery)
        done = self._done
        self._delivery = self._done = None
        self.applied += done.applied
        self.duplicate += done.duplicate
        self.refused += done.refused
        if len(delivery.events):
            self.newest = float(delivery.events.times.max())
        return True

    def _apply(self, delivery: Delivery) -> _Done:
        if delivery.rejects:
            self._source.refuse(delivery.partition, delivery.rejects)
        refused = len(delivery.rejects)
        applied = duplicate = 0
        pending = list(by_segment(delivery.events))
        while pending:
            now = self._bandit.statistics.now()
            updates = [UniqueUpdate(group, _digests(delivery, group), now) for group in pending]
            outcomes = self._bandit.statistics.apply(updates)
            left: list[SegmentEvents] = []
            for group, outcome in zip(pending, outcomes, strict=True):
                applied += outcome.applied
                duplicate += outcome.duplicate
                if outcome.word in {"LATE", "EARLY"}:
                    limit = float(outcome.detail)
                    is_late = outcome.word == "LATE"
                    outside = group.times < limit if is_late else group.times > limit
                    self._refuse(delivery, group.rows[outside], _reason(is_late, limit))
                    refused += int(outside.sum())
                    if not outside.all():
                        left.append(group.where(np.logical_not(outside)))
            pending = left
        return _Done(applied, duplicate, refused)

    def _refuse(self, delivery: Delivery, rows: NDArray[np.intp], reason: str) -> None:
        rejects = [
            SourceReject(
                int(delivery.offsets[row]), event_as_json(delivery.events, int(row)), reason
            )
            for row in rows
        ]
        self._source.refuse(delivery.partition, rejects)


def _digests(delivery: Delivery, group: SegmentEvents) -> list[bytes]:
    ids = delivery.events.event_ids
    if ids is None:
        raise InvalidValueError(
            describe("event_ids", None, "an unordered source must give each event its id")
        )
    return [event_digest(ids[row]) for row in group.rows.tolist()]


def _reason(is_late: bool, limit: float) -> str:
    if is_late:
        return f"older than the window, which began at {limit!r}: it may have been counted before"
    return f"over an hour ahead of the store's clock, which took events up to {limit!r}"
