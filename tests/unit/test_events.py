"""Events: every form of input gives the same columns."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import InvalidValueError
from banditcore.events import MAX_AHEAD_S, MIN_TIME, Event, EventColumns

NOW = 1_800_000_000.25
MOMENT = dt.datetime(2026, 11, 21, 10, 4, 0, 123457, tzinfo=dt.UTC)
STAMP = 1795255440.123457


def columns_of(events) -> EventColumns:
    return EventColumns.of(events, now=NOW)


def content(columns: EventColumns) -> tuple:
    for numbers in (columns.trials, columns.successes, columns.times):
        assert numbers.dtype == np.float64
        assert numbers.shape == (len(columns),)
    return (
        columns.segments,
        columns.arms,
        columns.trials.tolist(),
        columns.successes.tolist(),
        columns.times.tolist(),
        columns.event_ids,
    )


def three(**changed) -> dict:
    """Return three good events, with some columns replaced."""
    return {
        "segment": ["IN", "", "US/x"],
        "arm": ["a", "b", "a"],
        "successes": [0.0, 1.0, 0.5],
        **changed,
    }


# --- forms of input ----------------------------------------------------------------------------

FULL = three(trials=[1, 4, 0], time=[1.7e9, 1.7e9 + 0.5, STAMP], event_id=["1", "2", "2"])
CONTENT = (
    ["IN", "", "US/x"],
    ["a", "b", "a"],
    [1.0, 4.0, 0.0],
    [0.0, 1.0, 0.5],
    [1.7e9, 1.7e9 + 0.5, STAMP],
    ["1", "2", "2"],
)


def as_events(columns: dict) -> list[Event]:
    return [Event(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values())]  # noqa: B905 - lengths are equal


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(dict, id="mapping of lists"),
        pytest.param(
            lambda c: {name: np.array(column) for name, column in c.items()}, id="of arrays"
        ),
        pytest.param(
            lambda c: {name: np.array(column, dtype=object) for name, column in c.items()},
            id="of arrays of objects",
        ),
        pytest.param(lambda c: {name: tuple(column) for name, column in c.items()}, id="of tuples"),
        pytest.param(
            lambda c: {name: pd.Series(column) for name, column in c.items()}, id="Series"
        ),
        pytest.param(
            lambda c: {("reward" if n == "successes" else n): v for n, v in c.items()}, id="reward"
        ),
        pytest.param(pd.DataFrame, id="DataFrame"),
        pytest.param(lambda c: pd.DataFrame(c, index=[7, 7, 1]), id="DataFrame, odd index"),
        pytest.param(
            lambda c: pd.DataFrame(c).astype({"arm": "category", "trials": "Int64"}),
            id="DataFrame of extension types",
        ),
        pytest.param(as_events, id="list of Event"),
        pytest.param(lambda c: iter(as_events(c)), id="iterator of Event"),
    ],
)
def test_every_form_of_input_gives_the_same_columns(form):
    assert content(columns_of(form(FULL))) == CONTENT


def test_trials_default_to_one_and_times_to_now():
    expected = (["IN", "", "US/x"], ["a", "b", "a"], [1.0] * 3, [0.0, 1.0, 0.5], [NOW] * 3, None)
    assert content(columns_of(three())) == expected
    assert content(columns_of(three(trials=None, time=None, event_id=None))) == expected
    assert content(columns_of(as_events(three()))) == expected
    assert content(columns_of([Event("IN", "a")])) == (["IN"], ["a"], [1], [0], [NOW], None)


@pytest.mark.parametrize("nothing", [[], iter(()), {"segment": [], "arm": [], "reward": []}])
def test_no_events_are_no_events(nothing):
    assert content(columns_of(nothing)) == ([], [], [], [], [], None)


def test_numbers_may_be_of_any_numeric_type():
    for successes in (
        [False, True, 0.5],
        [Decimal(0), Decimal(1), Decimal("0.5")],
        [Fraction(0), np.float32(1), Fraction(1, 2)],
        np.array([0, 1, 0.5], dtype=np.float16),
        np.ma.MaskedArray([0, 1, 0.5], mask=False),
    ):
        assert columns_of(three(successes=successes)).successes.tolist() == [0, 1, 0.5]
    assert columns_of(three(trials=np.array([1, 255, 3], np.uint8))).trials.tolist() == [1, 255, 3]


def test_columns_are_copies():
    given_trials = np.ones(3)
    columns = columns_of(three(trials=given_trials))
    given_trials[:] = 7
    assert columns.trials.tolist() == [1, 1, 1]


# --- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        pytest.param([STAMP] * 3, id="seconds"),
        pytest.param([MOMENT] * 3, id="datetimes"),
        pytest.param(
            [MOMENT.astimezone(dt.timezone(dt.timedelta(hours=h))) for h in (-7, 0, 5)], id="zones"
        ),
        pytest.param([STAMP, MOMENT, Decimal("1795255440.123457")], id="mixed"),
        pytest.param(np.array([MOMENT.replace(tzinfo=None)] * 3, "M8[us]"), id="datetime64[us]"),
        pytest.param(
            np.array(["2026-11-21T10:04:00.123457"] * 3, dtype="M8[ns]"), id="datetime64[ns]"
        ),
        pytest.param(pd.Series([MOMENT] * 3), id="Series with a zone"),
        pytest.param(pd.Series([MOMENT] * 3).dt.tz_convert("Asia/Kolkata"), id="Series of Kolkata"),
        pytest.param(pd.Series([MOMENT] * 3).dt.tz_localize(None), id="Series without a zone"),
        pytest.param(pd.DatetimeIndex([MOMENT] * 3), id="DatetimeIndex"),
    ],
)
def test_times_are_seconds_since_1970_exactly(times):
    assert columns_of(three(time=times)).times.tolist() == [STAMP] * 3
    frame = pd.DataFrame(three(time=times))
    assert columns_of(frame).times.tolist() == [STAMP] * 3


def test_a_missing_time_beside_others_is_now():
    assert columns_of(three(time=[STAMP, None, MOMENT])).times.tolist() == [STAMP, NOW, STAMP]
    events = [Event("IN", "a", time=STAMP), Event("IN", "a")]
    assert columns_of(events).times.tolist() == [STAMP, NOW]


@pytest.mark.parametrize("unit", ["Y", "D", "h", "s", "ms", "ns"])
def test_datetime64_of_any_unit(unit):
    times = np.array(["2026-01-01"] * 3, dtype=f"M8[{unit}]")
    assert columns_of(three(time=times)).times.tolist() == [1767225600.0] * 3


def test_the_accepted_times_end_exactly_where_stated():
    edges = [MIN_TIME, NOW, NOW + MAX_AHEAD_S]
    assert columns_of(three(time=edges)).times.tolist() == edges
    assert dt.datetime.fromtimestamp(MIN_TIME, dt.UTC) == dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    for row, bad in ((1, math.nextafter(MIN_TIME, 0)), (2, math.nextafter(edges[2], 9e9))):
        times = list(edges)
        times[row] = bad
        with pytest.raises(InvalidValueError, match=rf"^time\[{row}\] is "):
            columns_of(three(time=times))


# --- all at once -------------------------------------------------------------------------------

identifiers = st.text("ab{}:/\n\0é\u2028🎯", min_size=1, max_size=64)
paths = st.lists(identifiers.filter(lambda part: "/" not in part), max_size=1).map("/".join)
good_events = st.tuples(st.floats(0, 1), st.sampled_from([0.0, 1.0, 2.5, 1e9])).flatmap(
    lambda counts: st.builds(
        Event,
        segment=paths,
        arm=identifiers,
        successes=st.just(counts[0]),
        trials=st.just(counts[1]),
        time=st.one_of(
            st.none(),
            st.floats(MIN_TIME, NOW),
            st.datetimes(
                dt.datetime(2000, 1, 2), dt.datetime(2026, 1, 1), timezones=st.just(dt.UTC)
            ),
        ),
        event_id=identifiers,
    )
)


@given(st.lists(good_events, max_size=20))
def test_events_and_columns_agree(events):
    columns = {
        name: [getattr(event, name) for event in events]
        for name in ("segment", "arm", "successes", "trials", "event_id")
    }
    columns["time"] = np.array([event.time for event in events], dtype=object)
    found = columns_of(events)
    expected = [
        NOW
        if event.time is None
        else event.time.timestamp()
        if isinstance(event.time, dt.datetime)
        else event.time
        for event in events
    ]
    assert found.times.tolist() == expected
    if events:
        assert content(found) == content(columns_of(columns))
