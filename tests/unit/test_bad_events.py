"""Events that cannot be used are refused by column and row."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from banditcore.errors import BanditCoreError, InvalidTypeError, InvalidValueError
from banditcore.events import MAX_TRIALS, Event, EventColumns

NOW = 1_800_000_000.25
MOMENT = dt.datetime(2026, 11, 21, 10, 4, 0, 123457, tzinfo=dt.UTC)
STAMP = MOMENT.timestamp()


def columns_of(events) -> EventColumns:
    return EventColumns.of(events, now=NOW)


def three(**changed) -> dict:
    """Return three good events, with some columns replaced."""
    return {
        "segment": ["IN", "", "US/x"],
        "arm": ["a", "b", "a"],
        "successes": [0.0, 1.0, 0.5],
        **changed,
    }


NAIVE = dt.datetime(2026, 11, 21)

BAD_NUMBERS = [
    (math.nan, InvalidValueError),
    (math.inf, InvalidValueError),
    (-math.inf, InvalidValueError),
    (-0.001, InvalidValueError),
    ("1", InvalidTypeError),
    (b"1", InvalidTypeError),
    (None, InvalidTypeError),
    (pd.NA, InvalidTypeError),
    (10**400, InvalidTypeError),
    (1j, InvalidTypeError),
    (object(), InvalidTypeError),
    ([1], InvalidTypeError),
    (Decimal("NaN"), InvalidValueError),
    (Decimal(-1), InvalidValueError),
]


@pytest.mark.parametrize("column", ["trials", "successes"])
@pytest.mark.parametrize(("bad", "error"), BAD_NUMBERS, ids=repr)
def test_a_bad_number_is_named_by_column_and_row(column, bad, error):
    values = np.empty(3, dtype=object)
    values[:] = [1, 1, bad]
    with pytest.raises(error, match=rf"^{column}\[2\] is "):
        columns_of(three(**{column: values}))
    event = Event("IN", "a", **{column: bad})
    with pytest.raises(error, match=rf"^{column}(\[1\]|) is "):
        columns_of([Event("IN", "a", 1), event])


@pytest.mark.parametrize(
    ("trials", "successes", "named"),
    [
        ([1, 1, 1], [0, 1.5, 0], "successes[1] is 1.5"),
        ([1, 1, 1], [0, 0, math.nextafter(1, 2)], "successes[2] is 1.0000000000000002"),
        ([1, 0.5, 1], [1, 0.75, 1], "successes[1] is 0.75"),
        ([0, 0, 1], [1, 1.01, 0], "successes[1] is 1.01"),
        ([1, 1, 2 * MAX_TRIALS], [0, 0, 0], "trials[2] is 1.8014398509481984e+16"),
        ([1e308, 1, 1], [0, 0, 0], "trials[0] is 1e+308"),
    ],
)
def test_counts_that_cannot_be_those_of_an_event(trials, successes, named):
    with pytest.raises(InvalidValueError, match=rf"^{re.escape(named)}: "):
        columns_of(three(trials=trials, successes=successes))


def test_extreme_counts_that_can():
    trials, successes = [0, 0, MAX_TRIALS], [0, 1, MAX_TRIALS]
    columns = columns_of(three(trials=trials, successes=successes))
    assert (columns.trials.tolist(), columns.successes.tolist()) == (trials, successes)


BAD_TIMES = [
    (0.0, InvalidValueError),  # 1970
    (STAMP * 1e3, InvalidValueError),  # milliseconds
    (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), InvalidValueError),
    (dt.datetime(2100, 1, 1, tzinfo=dt.UTC), InvalidValueError),
    (math.nan, InvalidValueError),
    (math.inf, InvalidValueError),
    (NAIVE, InvalidValueError),
    (pd.NaT, InvalidValueError),
    (True, InvalidValueError),
    (dt.date(2026, 11, 21), InvalidTypeError),
    ("2026-11-21", InvalidTypeError),
    (pd.NA, InvalidTypeError),
    (10**400, InvalidTypeError),
    (dt.timedelta(1), InvalidTypeError),
]


@pytest.mark.parametrize(("bad", "error"), BAD_TIMES, ids=repr)
def test_a_bad_time_is_named_by_row(bad, error):
    times = np.empty(3, dtype=object)
    times[:] = [STAMP, MOMENT, bad]
    with pytest.raises(error, match=r"^time\[2\] is "):
        columns_of(three(time=times))
    with pytest.raises(error, match=r"^time\[1\] is "):
        columns_of([Event("IN", "a", time=MOMENT), Event("IN", "a", time=bad)])


@pytest.mark.parametrize(
    "times",
    [
        np.array(["2026-01-01", "NaT", "NaT"], "M8[s]"),
        np.array(["2026-01-01", "1970-01-01", "2026-01-01"], "M8[s]"),
        np.array(["2026-01-01", "300000-01-01", "2026-01-01"], "M8[Y]"),
        pd.Series(pd.to_datetime(["2026-01-01", "2100-01-01", "2026-01-01"])),
        pd.Series(pd.to_datetime(["2026-01-01", None, "2026-01-01"], utc=True)),
        np.array([NAIVE.timestamp(), 1.0, 1.0]),
    ],
)
def test_bad_times_of_an_array_are_named_by_row(times):
    with pytest.raises(InvalidValueError, match=r"^time\[1\] is "):
        columns_of(three(time=times))


BAD_IDS = [
    ("", InvalidValueError),
    ("x" * 257, InvalidValueError),
    ("é" * 129, InvalidValueError),
    ("a\ud800", InvalidValueError),
    (None, InvalidTypeError),
    (math.nan, InvalidTypeError),
    (pd.NA, InvalidTypeError),
    (b"a", InvalidTypeError),
    (7, InvalidTypeError),
    (["a"], InvalidTypeError),
    ({}, InvalidTypeError),
]


@pytest.mark.parametrize("column", ["segment", "arm", "event_id"])
@pytest.mark.parametrize(("bad", "error"), BAD_IDS, ids=repr)
def test_a_bad_id_is_named_by_column_and_row(column, bad, error):
    good = [f"g{i}" for i in range(50)]
    columns = {name: list(good) for name in ("segment", "arm", "event_id")} | {"reward": [0] * 50}
    if column == "segment" and isinstance(bad, str) and bad == "":
        bad = "IN//x"
    columns[column][3:] = [bad] * 47  # the first is named, whatever the order of a set
    with pytest.raises(error, match=rf"^row 3: {column} is "):
        columns_of(columns)
    columns[column] = pd.Series(columns[column], dtype=object)
    with pytest.raises(error, match=rf"^row 3: {column} is "):
        columns_of(columns)


@pytest.mark.parametrize("path", ["/", "/a", "a/", "a//b"])
def test_a_segment_has_no_empty_part(path):
    with pytest.raises(InvalidValueError, match=r"^row 1: segment is "):
        columns_of(three(segment=["a", path, "a"]))


def test_ids_are_any_text_of_1_to_256_bytes():
    ids = ["\0", "{}:\n", "x" * 256, "é" * 128, "🎯" * 64, " "]
    columns = {"segment": ids, "arm": ids, "event_id": ids, "reward": [1] * 6}
    found = columns_of(columns)
    assert found.segments == found.arms == found.event_ids == ids


def test_several_lone_values_are_no_columns():
    for events in (None, 7, "abc", b"abc", object(), ["abc"], [("IN", "a", 1)], Event("IN", "a")):
        with pytest.raises(InvalidTypeError, match=r"^events? is "):
            columns_of(events)


@pytest.mark.parametrize("bad", ["abc", b"abc", 7, None, {"a", "b", "c"}, {0: "a", 1: "b", 2: "c"}])
@pytest.mark.parametrize("column", ["segment", "arm"])
def test_an_id_column_is_a_sequence(column, bad):
    with pytest.raises(InvalidTypeError, match=rf"^{column} is "):
        columns_of(three(**{column: bad}))


@pytest.mark.parametrize("column", ["successes", "trials", "time"])
@pytest.mark.parametrize(
    "bad",
    [
        1.0,
        [1.0, 1.0],
        [1.0] * 4,
        [[1.0, 1.0, 1.0]],
        np.ones((3, 1)),
        np.full((3, 1), MOMENT),
        {1.0, 2.0, 3.0},
        [[1.0], [1.0, 2.0], 3.0],
    ],
    ids=repr,
)
def test_a_number_column_has_one_number_an_event(column, bad):
    with pytest.raises(BanditCoreError, match=rf"^(shape of )?{column} is "):
        columns_of(three(**{column: bad}))


@pytest.mark.parametrize("column", ["arm", "event_id"])
def test_id_columns_have_one_id_an_event(column):
    for ids in (["a"], ["a"] * 4, np.array(["a"] * 4)):
        with pytest.raises(InvalidValueError, match=rf"^len\({column}\) is {len(ids)}: .* 3$"):
            columns_of(three(**{column: ids}))
    with pytest.raises(InvalidTypeError, match=f"^row 0: {column} is "):
        columns_of(three(**{column: np.full((3, 1), "a")}))


@pytest.mark.parametrize("dtype", ["U3", "S3", "c16", "m8[s]"])
@pytest.mark.parametrize("column", ["successes", "trials", "time"])
def test_arrays_of_other_types_are_no_numbers(column, dtype):
    with pytest.raises(InvalidTypeError, match=rf"^{column} is "):
        columns_of(three(**{column: np.array([1, 1, 1]).astype(dtype)}))


def test_masked_values_are_missing_values():
    for column in ("successes", "time"):
        masked = np.ma.MaskedArray([1.0, 1.0, 1.0], mask=[False, True, False])
        with pytest.raises(InvalidValueError, match=rf"^{column}\[1\] is 'masked'"):
            columns_of(three(**{column: masked}))


@pytest.mark.parametrize("outcome", ["reward", "successes"])
@pytest.mark.parametrize(
    ("trials", "given", "why"),
    [
        (1.0, 2.0, "[1] is 2.0: at most the trials of its event; a reward is in [0, 1]"),
        (0.0, 1.5, "[1] is 1.5: a late reward (trials 0) is in [0, 1]"),
        (1.0, -1.0, "[1] is -1.0: finite and not negative"),
        (1.0, "x", "[1] is 'x': a number is needed"),
    ],
)
def test_rewards_are_refused_by_the_name_they_were_given(outcome, trials, given, why):
    columns = {"segment": ["IN"] * 2, "arm": ["a"] * 2, "trials": [1.0, trials]}
    values = np.array([1.0, given], dtype=object)
    with pytest.raises((InvalidValueError, InvalidTypeError), match=f"^{re.escape(outcome + why)}"):
        columns_of({**columns, outcome: values})


def test_columns_are_known_complete_and_named_once():
    with pytest.raises(InvalidValueError, match=r"^column is 'sucesses'"):
        columns_of(three(sucesses=[1, 1, 1]))
    with pytest.raises(InvalidValueError, match=r"^column is 7"):
        columns_of({**three(), 7: [], "x": []})
    with pytest.raises(InvalidValueError, match=r"^columns is \['reward', 'successes'\]"):
        columns_of(three(reward=[1, 1, 1]))
    for missing, named in {
        "segment": "'segment'",
        "arm": "'arm'",
        "successes": "'reward' (or 'successes')",
    }.items():
        columns = three()
        del columns[missing]
        with pytest.raises(InvalidValueError, match=re.escape(f"the column {named} is missing")):
            columns_of(columns)
    twice = pd.DataFrame([["IN", "a", "b", 1]], columns=["segment", "arm", "arm", "reward"])
    with pytest.raises(InvalidValueError, match="a name stands there twice"):
        columns_of(twice)


def test_all_events_have_an_id_or_none():
    events = [Event("IN", "a", event_id="1"), Event("IN", "a")]
    with pytest.raises(InvalidValueError, match=r"^event_id is None"):
        columns_of(events)
