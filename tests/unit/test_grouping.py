"""Grouping by segment, against a model that does it event by event."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.events import EventColumns
from banditcore.grouping import SegmentEvents, by_segment

SEGMENTS = ["", "IN", "IN/m", "US", "\0"]
ARMS = ["a", "b", "A", "a ", "é"]

rows = st.lists(
    st.tuples(
        st.sampled_from(SEGMENTS),
        st.sampled_from(ARMS),
        st.floats(0, 9),
        st.floats(0, 9),
        st.floats(0, 9),
    ),
    max_size=40,
)


def columns(of: list[tuple]) -> EventColumns:
    segments, arms, trials, successes, times = map(list, zip(*of, strict=True)) if of else [[]] * 5
    return EventColumns(segments, arms, *(np.array(x, float) for x in (trials, successes, times)))


def model(of: list[tuple]) -> dict[str, list[tuple]]:
    """Segment -> its events in order, each with its row."""
    groups: dict[str, list[tuple]] = {}
    for row, (segment, *rest) in enumerate(of):
        groups.setdefault(segment, []).append((row, *rest))
    return groups


def content(group: SegmentEvents) -> list[tuple]:
    """The events of a group in order, after checking its shape."""
    assert len(group) == len(group.rows)
    assert len(set(group.arms)) == len(group.arms)
    assert set(group.arm_of.tolist()) == set(range(len(group.arms)))  # no arm without an event
    return list(
        zip(
            group.rows.tolist(),
            [group.arms[i] for i in group.arm_of],
            group.trials.tolist(),
            group.successes.tolist(),
            group.times.tolist(),
            strict=True,
        )
    )


@given(rows)
def test_groups_are_those_of_the_model_in_order_of_first_appearance(given_rows):
    groups = list(by_segment(columns(given_rows)))
    found = {group.segment: content(group) for group in groups}
    expected = model(given_rows)
    assert found == expected
    assert [group.segment for group in groups] == list(expected)


@given(rows.filter(bool), st.data())
def test_where_keeps_exactly_the_chosen_events(given_rows, data):
    for group in by_segment(columns(given_rows)):
        keep = data.draw(st.lists(st.booleans(), min_size=len(group), max_size=len(group)))
        chosen = group.where(np.array(keep))
        expected = [event for event, kept in zip(content(group), keep, strict=True) if kept]
        assert chosen.segment == group.segment
        assert content(chosen) == expected
        assert chosen.newest == max((event[-1] for event in expected), default=None)


def test_no_events_make_no_groups():
    assert list(by_segment(columns([]))) == []


@pytest.mark.parametrize("segments", [1, 1000])
def test_many_events(segments):
    n = 50_000
    one = [(str(i % segments), f"a{i % 7}", 1.0, float(i % 2), 0.0) for i in range(n)]
    groups = list(by_segment(columns(one)))
    assert len(groups) == segments
    assert sorted(row for group in groups for row in group.rows.tolist()) == list(range(n))
    assert sum(group.successes.sum() for group in groups) == n / 2
