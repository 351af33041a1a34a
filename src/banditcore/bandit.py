"""`Bandit`: the object a user holds. It delegates to the floors below."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from banditcore.counts import ArmCounts, merge
from banditcore.emitting import Emitter
from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
    PartlyAppliedError,
    StoreError,
    describe,
)
from banditcore.events import Event, EventColumns
from banditcore.identifiers import check_arm, check_bandit, check_segment
from banditcore.posterior import Posterior, Prior
from banditcore.posterior_tree import posteriors
from banditcore.recording import Applied, Batch
from banditcore.refresh import RefreshReport, refresh
from banditcore.refresh.drawing import Executors
from banditcore.segments import is_within, lineage
from banditcore.store.connect import Store
from banditcore.store.counts import index, settings
from banditcore.store.counts.reading import SegmentReader
from banditcore.store.counts.settings import Settings, Wanted
from banditcore.store.counts.statistics import Statistics
from banditcore.store.counts.version import SegmentVersion

__all__ = ["Bandit"]

DEFAULT_RETRY = dt.timedelta(seconds=15)
MIN_HALF_LIFE_S = 10.0
"""Clocks may differ by an hour; in that time weights must not grow by more than float64 holds."""


class Bandit:
    """One named decision problem on a store. Cheap to make; threads may share it.

    Parameters
    ----------
    name : str
        1..256 UTF-8 bytes; a namespace in the store.
    store : Store
        From `banditcore.connect`.
    prior : Prior or "empirical"
        What is believed of an arm before it has any counts, or that it be fitted for each
        segment by empirical Bayes. Not stored: it is a choice of the one who reads the counts.
    half_life : timedelta, optional
        After which an event counts half. None keeps evidence for ever, or as the store says
        when the bandit exists already.
    window : timedelta, optional
        How far back events with ids are told apart from their duplicates. Like the half-life it
        is fixed when the bandit is first written to; None is an hour, or what the store says.
    retry_for : timedelta
        How long a write is sent again after a network error before it raises. It blocks meanwhile:
        choose less in a request handler. Each event counts once, however often it is sent.
    clock : callable, optional
        Returns seconds since 1970, for tests and simulations. By default events are timed by this
        machine and judged by the store's clock.

    Notes
    -----
    Nothing is sent to the store before the first call that needs it.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        prior: Prior | Literal["empirical"] = "empirical",
        half_life: dt.timedelta | None = None,
        window: dt.timedelta | None = None,
        retry_for: dt.timedelta = DEFAULT_RETRY,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.name = check_bandit(name)
        if not isinstance(store, Store):
            raise InvalidTypeError(describe("store", store, "open one with banditcore.connect()"))
        self.store = store
        if not isinstance(prior, Prior) and prior != "empirical":
            raise InvalidTypeError(describe("prior", prior, 'a Prior(a, b), or "empirical"'))
        self.prior: Prior | Literal["empirical"] = prior
        if clock is not None and not callable(clock):
            raise InvalidTypeError(describe("clock", clock, "a function of no arguments"))
        self.clock: Callable[[], float] = clock or time.time
        self._has_own_clock = clock is not None
        self._wanted = Wanted(
            None if half_life is None else _half_life(half_life),
            None if window is None else _seconds("window", window, least=1.0),
        )
        self.retry_for_s = _seconds("retry_for", retry_for, least=0.0)
        self._agreed: Settings | None = None
        self._statistics = Statistics(
            store,
            name,
            self._new_version,
            self._judging_clock,
            retry_for_s=self.retry_for_s,
        )
        self._emitter = Emitter(self)

    def __repr__(self) -> str:
        return f"Bandit({self.name!r}, {self.store!r})"

    @property
    def half_life(self) -> dt.timedelta | None:
        """After which an event counts half, as the store has it; None when evidence stays."""
        stored = settings.load(self.store, self.name) or self._wanted.settings()
        return None if stored.half_life_s is None else dt.timedelta(seconds=stored.half_life_s)

    @property
    def window(self) -> dt.timedelta:
        """How far back events with ids are told apart from their duplicates."""
        stored = settings.load(self.store, self.name) or self._wanted.settings()
        return dt.timedelta(seconds=stored.window_s)

    @property
    def statistics(self) -> Statistics:
        """Updates the bandit's segments, for jobs."""
        self._settings()
        return self._statistics

    @property
    def reader(self) -> SegmentReader:
        """Reads the bandit's segments, for jobs. It writes nothing."""
        return self._statistics.reader

    # Writing.

    def record(
        self,
        segment: str,
        arm: str,
        *,
        reward: float = 0.0,
        trials: float = 1.0,
        time: float | dt.datetime | None = None,
        event_id: str | None = None,
    ) -> Applied:
        """Record one event; a convenience, `record_batch` is a hundred times faster an event.

        Each call leaves about 60 bytes in the store for up to twice the window plus two hours,
        by which a retry after a network error is told from a new event.

        Parameters
        ----------
        segment, arm : str
            Where and what was shown.
        reward : float
            In [0, 1].
        trials : float
            1 for an exposure with its outcome; 0 for a reward that comes after its exposure was
            recorded.
        time : float, datetime or None
            Of the exposure: seconds since 1970 or a datetime with a zone; None is now.
        event_id : str, optional
            Makes it safe to record the same event again within the window.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            Nothing was recorded.
        StoreError
            See `record_batch`.
        """
        given = {"segment": segment, "arm": arm, "reward": reward, "trials": trials, "time": time}
        if event_id is not None:
            given["event_id"] = event_id
        # As columns: an Event would be refused by the name of its field, which is not `reward`.
        return self.record_batch({name: [value] for name, value in given.items()})

    def record_batch(
        self,
        events: Mapping[str, Any] | Iterable[Event] | Any,
        *,
        batch_id: str | None = None,
    ) -> Applied:
        """Record events; those of one segment become visible at one moment.

        Parameters
        ----------
        events : mapping of columns, DataFrame, or iterable of Event
            Columns ``segment``, ``arm``, ``successes`` (or ``reward``); optional ``trials``
            (default 1), ``time`` (default now; seconds since 1970 or datetimes) and
            ``event_id``, each (n,).
        batch_id : str, optional
            Makes it safe to send the same batch again within the window: what was applied
            before is counted as duplicate. Events that carry ids of their own need none.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            Nothing was recorded.
        StoreError
            The store cannot be used. Nothing was recorded.
        PartlyAppliedError
            The store failed on the way; some segments may have been updated. Send the same
            events again with the error's `batch_id`, within the window: each event counts once.
        """
        now = self.clock()
        columns = EventColumns.of(events, now=now)
        batch = Batch(columns, batch_id, sent=now, window_now=now if self._has_own_clock else None)
        if not len(columns):
            return Applied(0)
        window_s = self._settings().window_s
        self.store.check_open()
        try:
            return batch.record(self._statistics, window_s)
        except StoreError as error:
            again = batch.resend_id
            raise PartlyAppliedError(
                f"{error}; some of the events may be recorded, so send them again with "
                + ("their event ids" if again is None else f"batch_id={again!r}"),
                batch_id=again,
            ) from error

    def emit(self, events: Mapping[str, Any] | Iterable[Event] | Any) -> int:
        """Accept events that workers will apply; returns at once unless a buffer is full.

        They are sent in the background, and counted once, by `banditcore ingest --follow`.
        `Emitter` has more to choose from than the one that is used here, which waits up to five
        seconds for room in its buffer of a million events.

        Parameters
        ----------
        events : mapping of columns, DataFrame, or iterable of Event
            As in `record_batch`.

        Returns
        -------
        int
            How many were accepted: all.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            An event is not valid. None was accepted.
        BufferFullError
            There was no room in time. Its `accepted` says how many were accepted, from the first.
        """
        return self._emitter.emit(events)

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when the store has confirmed all emitted events; see `Emitter.flush`."""
        self._emitter.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Flush emitted events and emit no more; everything else works on. See `Emitter.close`."""
        self._emitter.close(timeout_s)

    def add_arms(self, segment: str, arms: Iterable[str]) -> int:
        """Make arms candidates of a segment before they have any events.

        Returns
        -------
        int
            How many were new.
        """
        check_segment(segment)
        checked = _arms(arms)
        return self.statistics.add_arms(segment, checked)

    def retire(self, segment: str, arms: Iterable[str]) -> int:
        """Remove arms, with their counts, from exactly this segment.

        An event that comes later makes its arm a candidate again, with no past.

        Returns
        -------
        int
            How many of them there were.
        """
        check_segment(segment)
        checked = _arms(arms)
        return self.statistics.retire(segment, checked)

    def change_half_life(self, half_life: dt.timedelta | None) -> None:
        """Let evidence fade differently from now on; the counts of this moment stay as they are.

        Of several calls at once, the one that enters the setting last holds everywhere.

        Parameters
        ----------
        half_life : timedelta or None
            None to stop fading.
        """
        seconds = None if half_life is None else _half_life(half_life)
        wanted = Settings(seconds, self._settings().window_s)
        settings.save(self.store, self.name, wanted)  # first, so that new segments have it
        while True:
            self._agreed = wanted
            now = self._now()
            for segment in self.segments():
                self._statistics.change_half_life(segment, wanted.half_life_s, now)
            # Another call may have changed the setting, and segments before this one reached them.
            # Whoever changes a segment last reads the setting after that, and makes it hold.
            stored = settings.load(self.store, self.name)
            if stored is None or stored.half_life_s == wanted.half_life_s:
                return
            wanted = stored

    # Reading.

    def segments(self) -> list[str]:
        """Return every segment that was written to, sorted."""
        return index.segments(self.store, self.name)

    def counts(
        self, segment: str, *, descendants: bool = False, as_of: float | None = None
    ) -> ArmCounts:
        """Return the counts of a segment.

        Parameters
        ----------
        descendants : bool
            False: what was recorded at exactly this segment. True: the sum over it and
            everything below, which `refresh` uses.
        as_of : float, optional
            The moment to fade to, seconds since 1970; default now.
        """
        check_segment(segment)
        moment = self.clock() if as_of is None else _moment(as_of)
        if not descendants:
            return self.reader.counts([segment], moment)[0].counts
        below = [path for path in self.segments() if is_within(path, segment)]
        return merge([read.counts for read in self.reader.counts(below, moment)], moment)

    def posterior(self, segment: str) -> Posterior:
        """Return the posterior that `refresh` would use for a segment now."""
        check_segment(segment)
        moment = self.clock()
        steps = [segment] if isinstance(self.prior, Prior) else lineage(segment)
        counts = {
            step: self.counts(step, descendants=True, as_of=moment) for step in reversed(steps)
        }
        return posteriors(counts, self.prior)[segment]

    # The batch job.

    def refresh(
        self,
        segments: Sequence[str] | None = None,
        *,
        depth: int = 50,
        slates: int = 256,
        executor: Executors | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> RefreshReport:
        """Draw and publish a slate bank for segments and their ancestors; see `refresh.refresh`."""
        return refresh(
            self,
            segments,
            depth=depth,
            slates=slates,
            executor=executor,
            progress=progress,
        )

    # Inside.

    def _settings(self) -> Settings:
        if self._agreed is None:
            self._agreed = settings.agree(self.store, self.name, self._wanted)
        return self._agreed

    def _new_version(self) -> SegmentVersion:
        # Agreed anew: the half-life may have been changed since, or the store may have lost all.
        last = self._settings()
        agreed = settings.agree(
            self.store, self.name, Wanted(last.half_life_s, last.window_s), insist=False
        )
        return SegmentVersion(0, self._now(), agreed.half_life_s, agreed.window_s)

    def _judging_clock(self) -> float | None:
        """Return the clock that judges events; None for the server's, the same for all."""
        return self.clock() if self._has_own_clock else None

    def _now(self) -> float:
        return self.clock() if self._has_own_clock else self.store.server_time()


def _seconds(name: str, span: dt.timedelta, *, least: float) -> float:
    if not isinstance(span, dt.timedelta):
        raise InvalidTypeError(describe(name, span, "a datetime.timedelta, such as days=7"))
    if span.total_seconds() < least:
        raise InvalidValueError(describe(name, span, f"at least {least:.0f} seconds"))
    return span.total_seconds()


def _moment(as_of: float) -> float:
    if isinstance(as_of, bool) or not isinstance(as_of, (int, float, np.integer, np.floating)):
        raise InvalidTypeError(describe("as_of", as_of, "seconds since 1970"))
    if not math.isfinite(as_of):
        raise InvalidValueError(describe("as_of", as_of, "seconds since 1970, finite"))
    return float(as_of)


def _half_life(span: dt.timedelta) -> float:
    return _seconds("half_life", span, least=MIN_HALF_LIFE_S)


def _arms(arms: Iterable[str]) -> list[str]:
    if isinstance(arms, (str, bytes)) or not isinstance(arms, Iterable):
        raise InvalidTypeError(describe("arms", arms, "a list of arm ids"))
    return [check_arm(arm) for arm in arms]
