"""Records batches of events from callers that keep no order, each event once."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from banditcore.errors import InvalidValueError, describe
from banditcore.events import EventColumns
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.identifiers import check_id
from banditcore.store.counts.statistics import Statistics
from banditcore.store.counts.updates import BatchUpdate, UniqueUpdate, Update
from banditcore.store.keys import batch_digest, event_digest

__all__ = ["Applied", "Batch"]

_RETRY_ID = "retry:{sent:d}:{random}"
_RETRY_SENT = re.compile(r"retry:(\d{1,15}):[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of recorded events; the three add up to all that were given.

    Attributes
    ----------
    applied : int
        Events that changed the counts now.
    duplicate : int
        Events that had changed them before, within the window.
    refused : int
        Events with ids that are older than the window, whose duplicates could not be told; and
        events over an hour ahead of the store's clock.
    """

    applied: int
    duplicate: int = 0
    refused: int = 0


class Batch:
    """Events together with what tells them from events that were recorded before.

    Parameters
    ----------
    events : EventColumns
        With ids of their own, or without.
    batch_id : str or None
        The caller's name for the batch; None if the events have ids, or are given only once.
    sent : float
        The time of this attempt, seconds since 1970.
    window_now : float or None
        The clock for the window; None for the server's.
    """

    def __init__(
        self,
        events: EventColumns,
        batch_id: str | None,
        *,
        sent: float,
        window_now: float | None,
    ) -> None:
        if batch_id is not None:
            check_id("batch_id", batch_id)
            if events.event_ids is not None:
                raise InvalidValueError(
                    describe("batch_id", batch_id, "events have ids of their own: give one of both")
                )
        self._events = events
        self._window_now = window_now
        # Without an id of the caller's, a random one still makes retries harmless. It says when
        # the first attempt was, because that took events of any age.
        self._identity = batch_id or _RETRY_ID.format(sent=int(sent), random=uuid.uuid4().hex)
        self._sent = sent
        self._named = batch_id is not None
        retry = None if batch_id is None else _RETRY_SENT.fullmatch(batch_id)
        self._first_sent = None if retry is None else float(retry[1])

    @property
    def resend_id(self) -> str | None:
        """The batch_id with which to send the same events again; None if theirs will do."""
        return None if self._events.event_ids is not None else self._identity

    def record(self, statistics: Statistics, window_s: float) -> Applied:
        """Apply what was not applied before.

        Parameters
        ----------
        statistics : Statistics
            Of the bandit.
        window_s : float
            Its window. Events with ids that our clock finds older are not sent; of the others the
            store judges, by its own clock.

        Raises
        ------
        StoreError
            Some segments may have been updated.
        """
        applied = duplicate = 0
        pending = list(by_segment(self._events))
        if self._events.event_ids is not None:
            pending = _trimmed(pending, self._sent - window_s, math.inf)
        while pending:
            outcomes = statistics.apply([self._update(group) for group in pending])
            left: list[SegmentEvents] = []
            for group, outcome in zip(pending, outcomes, strict=True):
                applied += outcome.applied
                duplicate += outcome.duplicate
                if outcome.word == "LATE" and self._first_sent is None:
                    left += _trimmed([group], float(outcome.detail), math.inf)
                elif outcome.word == "EARLY":
                    left += _trimmed([group], -math.inf, float(outcome.detail))
            pending = left
        return Applied(applied, duplicate, len(self._events) - applied - duplicate)

    def _update(self, group: SegmentEvents) -> Update:
        ids = self._events.event_ids
        if ids is not None:
            digests = [event_digest(ids[row]) for row in group.rows]
            return UniqueUpdate(group, digests, now=self._window_now)
        oldest = None
        if self._named:
            oldest = float(group.times.min()) if self._first_sent is None else self._first_sent
        return BatchUpdate(group, batch_digest(self._identity), oldest=oldest, now=self._window_now)


def _trimmed(groups: Iterable[SegmentEvents], first: float, last: float) -> list[SegmentEvents]:
    """Return the events whose times are in [first, last]."""
    kept = (group.where((group.times >= first) & (group.times <= last)) for group in groups)
    return [group for group in kept if len(group)]
