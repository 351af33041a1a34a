"""Events: what a service reports about exposures, as validated columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import BanditCoreError, InvalidTypeError, InvalidValueError, describe
from banditcore.identifiers import check_arm, check_id, check_segment

__all__ = [
    "MAX_AHEAD_S",
    "MAX_TRIALS",
    "MIN_TIME",
    "Event",
    "EventColumns",
    "check_times",
    "count_rules",
    "time_rules",
]

FloatArray = NDArray[np.float64]

Rule = tuple[NDArray[np.bool_], str, FloatArray, str]
"""Rows that break it, the name of their column, the column, the remedy."""

MIN_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC).timestamp()
"""The earliest accepted time. Anything before is a missing value or another unit."""

MAX_AHEAD_S = 3600.0
"""How far ahead of the clock an event may be, in seconds: clock skew, but no wrong time zone."""

MAX_TRIALS = 2.0**53
"""The most trials of one event. Whole numbers above it are not exact, and sums of weighted
events, which must stay finite, have room for any number of them."""

_COLUMNS = frozenset({"segment", "arm", "trials", "successes", "reward", "time", "event_id"})


@dataclass(frozen=True, slots=True)
class Event:
    """One report about one arm.

    Parameters
    ----------
    segment : str
        Path of the pool of users, such as ``"IN/mobile"``; ``""`` is the global segment.
    arm : str
        Id of the arm, 1..256 UTF-8 bytes.
    successes : float, >= 0
        The reward, in [0, 1] for one trial; for several trials their sum, at most `trials`.
    trials : float, 0 to 2**53
        Exposures resolved by this event. 0 for a reward that comes later than its exposure;
        then `successes` is at most 1.
    time : float, datetime or None
        Seconds since 1970, or a datetime with a time zone; None is the moment of recording.
    event_id : str or None
        What makes the event itself again when it is sent twice.
    """

    segment: str
    arm: str
    successes: float = 0.0
    trials: float = 1.0
    time: float | dt.datetime | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """n validated events as columns of equal length. Made by `EventColumns.of`.

    Attributes
    ----------
    segments, arms : list of str
        (n,) ids.
    trials, successes, times : (n,) float64
        Finite; times in seconds since 1970.
    event_ids : list of str, or None
        (n,) ids, or None when the events carry none.
    """

    segments: list[str]
    arms: list[str]
    trials: FloatArray
    successes: FloatArray
    times: FloatArray
    event_ids: list[str] | None = None

    def __len__(self) -> int:
        return len(self.segments)

    def rows(self, rows: NDArray[np.intp] | slice) -> EventColumns:
        """Return the events of some rows, in this order."""

        def some(column: list[str]) -> list[str]:
            if isinstance(rows, slice):
                return column[rows]
            return list(map(column.__getitem__, rows.tolist()))

        return EventColumns(
            some(self.segments),
            some(self.arms),
            self.trials[rows],
            self.successes[rows],
            self.times[rows],
            None if self.event_ids is None else some(self.event_ids),
        )

    @classmethod
    def of(
        cls,
        events: Mapping[str, Any] | Iterable[Event] | Any,
        *,
        now: float,
    ) -> EventColumns:
        """Validate events given as columns, as a DataFrame, or one by one.

        Parameters
        ----------
        events : mapping, DataFrame or iterable of Event
            Columns ``segment`` and ``arm`` are required, ``successes`` or ``reward`` too;
            ``trials`` defaults to 1, ``time`` to `now`; ``event_id`` is optional. Times without
            a zone in an array of datetime64 are UTC.
        now : float
            The clock, in seconds since 1970.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For the first bad value, named by column and row.
        """
        columns = _as_columns(events)
        segments = _strings("segment", columns["segment"], check_segment)
        n = len(segments)
        arms = _strings("arm", columns["arm"], check_arm)
        outcome = "reward" if "reward" in columns else "successes"
        successes = _numbers(outcome, columns[outcome], n)
        trials = _numbers("trials", columns.get("trials"), n, default=1.0)
        times = _times(columns.get("time"), n, now)
        ids = columns.get("event_id")
        event_ids = None if ids is None else _strings("event_id", ids, _check_event_id)
        for name, column in {"arm": arms, "event_id": event_ids}.items():
            if column is not None and len(column) != n:
                raise InvalidValueError(
                    describe(f"len({name})", len(column), f"as many as there are segments, {n}")
                )
        check_counts(trials, successes, outcome)
        check_times(times, now)
        return cls(segments, arms, trials, successes, times, event_ids)


def count_rules(
    trials: FloatArray, successes: FloatArray, outcome: str = "successes"
) -> Iterator[Rule]:
    """Yield what the counts of one event must keep to; `outcome` is what successes are called."""
    for name, column in {"trials": trials, outcome: successes}.items():
        yield ~(np.isfinite(column) & (column >= 0)), name, column, "finite and not negative"
    yield trials > MAX_TRIALS, "trials", trials, f"at most {MAX_TRIALS:.0f} an event"
    yield (
        (trials == 0) & (successes > 1),
        outcome,
        successes,
        "a late reward (trials 0) is in [0, 1]",
    )
    yield (
        (trials > 0) & (successes > trials),
        outcome,
        successes,
        "at most the trials of its event; a reward is in [0, 1]",
    )


def time_rules(times: FloatArray, now: float) -> Iterator[Rule]:
    """Yield what times must keep to, rule by rule; `now` may be infinite."""
    remedy = "seconds since 1970 (UTC) are meant, from the year 2000 on; is it in another unit?"
    yield ~(np.isfinite(times) & (times >= MIN_TIME)), "time", times, remedy
    ahead = f"more than {MAX_AHEAD_S:.0f} s ahead of the clock ({now:.0f}); check clock and unit"
    yield times > now + MAX_AHEAD_S, "time", times, ahead


def check_counts(trials: FloatArray, successes: FloatArray, outcome: str) -> None:
    """Raise for the first row whose counts cannot be those of one event."""
    for rule in count_rules(trials, successes, outcome):
        _refuse(*rule)


def check_times(times: FloatArray, now: float) -> None:
    """Raise for the first time that is not finite, before 2000, or over an hour ahead of `now`."""
    for rule in time_rules(times, now):
        _refuse(*rule)


def _check_event_id(value: object) -> str:
    return check_id("event_id", value)


def _refuse(bad: NDArray[np.bool_], name: str, column: FloatArray, remedy: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise InvalidValueError(describe(f"{name}[{row}]", float(column[row]), remedy))


def _as_columns(events: Any) -> dict[str, Any]:
    """Return a dict with the columns segment, arm, reward or successes, and what else was given."""
    if isinstance(events, Event):
        raise InvalidTypeError(describe("events", events, "a list of events: write [event]"))
    if isinstance(events, Mapping):
        columns = dict(events)
    elif hasattr(events, "columns") and hasattr(events, "__getitem__"):  # a DataFrame
        columns = {str(name): events[name] for name in events.columns}
        if len(columns) != len(events.columns):
            raise InvalidValueError(
                describe("columns", list(events.columns), "a name stands there twice")
            )
    else:
        columns = _columns_of_events(events)
    unknown = sorted(set(columns) - _COLUMNS, key=str)
    if unknown:
        raise InvalidValueError(
            describe("column", unknown[0], f"the columns are {', '.join(sorted(_COLUMNS))}")
        )
    if "reward" in columns and "successes" in columns:
        raise InvalidValueError(
            describe("columns", ["reward", "successes"], "they mean the same: give one")
        )
    for required, other in (("segment", None), ("arm", None), ("reward", "successes")):
        if required not in columns and other not in columns:
            name = f"{required!r}" + (f" (or {other!r})" if other else "")
            raise InvalidValueError(
                describe("columns", sorted(columns), f"the column {name} is missing")
            )
    return columns


def _columns_of_events(events: Iterable[Event]) -> dict[str, Any]:
    try:
        rows = list(events)
    except TypeError as error:
        raise InvalidTypeError(
            describe("events", events, "a mapping of columns, a DataFrame or Event objects")
        ) from error
    for row in rows:
        if not isinstance(row, Event):
            raise InvalidTypeError(describe("event", row, "an Event, or give columns"))
    columns: dict[str, Any] = {
        "segment": [row.segment for row in rows],
        "arm": [row.arm for row in rows],
        "successes": [row.successes for row in rows],
        "trials": [row.trials for row in rows],
        "time": [row.time for row in rows],
    }
    ids = [row.event_id for row in rows]
    if any(event_id is not None for event_id in ids):
        if any(event_id is None for event_id in ids):
            raise InvalidValueError(
                describe("event_id", None, "all events of a call have an event_id, or none has")
            )
        columns["event_id"] = ids
    return columns


def _strings(name: str, column: Any, check: Callable[[object], str]) -> list[str]:
    if isinstance(column, (str, bytes, Mapping, Set)) or not isinstance(column, Iterable):
        raise InvalidTypeError(describe(name, column, "a list or array, one id an event"))
    tolist = getattr(column, "tolist", None)
    values: list[Any] = list(column) if tolist is None else tolist()
    try:
        for value in set(values):  # most ids stand in many rows
            check(value)
    except (TypeError, BanditCoreError):  # the former for a value that cannot be hashed
        for row, value in enumerate(values):
            if not isinstance(value, str):
                shown = describe(name, value, "an id must be a str")
                raise InvalidTypeError(f"row {row}: {shown}") from None
            try:
                check(value)
            except BanditCoreError as error:
                raise type(error)(f"row {row}: {error}") from None
        raise
    return values


def _numbers(name: str, column: Any, n: int, default: float | None = None) -> FloatArray:
    if column is None and default is not None:
        return np.full(n, default)
    given = _array(name, column, n)
    if given.dtype == object:
        return np.array([_number(name, row, value) for row, value in enumerate(given)], np.float64)
    if given.dtype.kind not in "iufb":
        raise InvalidTypeError(describe(name, given.dtype.name, "numbers are needed"))
    return np.array(given, dtype=np.float64)


def _times(column: Any, n: int, now: float) -> FloatArray:
    if column is None:
        return np.full(n, now)
    given = _array("time", column, n)
    if given.dtype.kind == "M":
        missing = np.isnat(given)
        if missing.any():
            row = int(missing.argmax())
            raise InvalidValueError(describe(f"time[{row}]", "NaT", "every event needs a time"))
        # Whole seconds first: float64 does not hold nanoseconds since 1970.
        whole = given.astype("datetime64[s]")
        seconds: FloatArray = whole.astype(np.int64) + (given - whole) / np.timedelta64(1, "s")
        return seconds
    if given.dtype == object:
        return np.array(
            [_seconds(row, value, now) for row, value in enumerate(given)], dtype=np.float64
        )
    return _numbers("time", given, n)


def _array(name: str, column: Any, n: int) -> NDArray[Any]:
    """Return a column as an array of shape (n,)."""
    if isinstance(column, np.ma.MaskedArray) and np.ma.is_masked(column):  # the mask gets lost
        row = int(np.ma.getmaskarray(column).argmax())
        raise InvalidValueError(describe(f"{name}[{row}]", "masked", "every event needs a value"))
    to_numpy = getattr(column, "to_numpy", None)
    try:
        given = np.asarray(column if to_numpy is None else to_numpy())
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InvalidTypeError(describe(name, column, "one number an event")) from error
    if given.shape != (n,):
        raise InvalidValueError(
            describe(f"shape of {name}", given.shape, f"one number an event: ({n},)")
        )
    return given


def _number(name: str, row: int, value: Any) -> float:
    """Return what stands in an array of objects, such as a Decimal or a Fraction."""
    cause = None
    if not isinstance(value, (str, bytes, bytearray)):  # float() would read them
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            cause = error
    raise InvalidTypeError(describe(f"{name}[{row}]", value, "a number is needed")) from cause


def _seconds(row: int, value: Any, now: float) -> float:
    if value is None:
        return now
    if isinstance(value, dt.datetime):
        if value != value:  # noqa: PLR0124 - pandas' NaT is a datetime
            raise InvalidValueError(describe(f"time[{row}]", value, "every event needs a time"))
        if value.tzinfo is None:
            remedy = "a datetime needs a time zone: tzinfo=datetime.UTC"
            raise InvalidValueError(describe(f"time[{row}]", value, remedy))
        return value.timestamp()
    if isinstance(value, (dt.date, np.datetime64)):
        raise InvalidTypeError(
            describe(f"time[{row}]", value, "seconds since 1970, or a datetime with a time zone")
        )
    return _number("time", row, value)
