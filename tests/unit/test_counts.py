"""Counts are validated columns; merging adds by arm; fading is a power of two."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.counts import ArmCounts, DistinctArms, decay_exponent, faded, merge
from banditcore.errors import InvalidValueError

NOW = 1.7e9
# Dyadic, so that sums are exact in any order.
AMOUNTS = st.integers(0, 2**40).map(lambda quarters: quarters / 4)
ROWS = st.dictionaries(st.sampled_from("abcdefg"), st.tuples(AMOUNTS, AMOUNTS), max_size=7)


def counts_of(rows, as_of=NOW):
    trials, successes = zip(*rows.values(), strict=True) if rows else ((), ())
    return ArmCounts(tuple(rows), trials, successes, as_of)


def as_rows(counts):
    return {
        arm: (trials, successes)
        for arm, trials, successes in zip(
            counts.arms, counts.trials.tolist(), counts.successes.tolist(), strict=True
        )
    }


def test_columns_are_read_only_copies():
    given_trials = np.array([3.0, 4.0])
    counts = ArmCounts(["a", "b"], given_trials, [1, 2], NOW)
    given_trials[0] = 99.0
    assert counts.arms == ("a", "b")
    assert counts.trials.tolist() == [3.0, 4.0]
    assert counts.successes.dtype == np.float64
    assert len(counts) == 2
    for column in (counts.trials, counts.successes):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1.0


def test_successes_may_exceed_trials():
    assert ArmCounts(["a"], [0.0], [1.0], NOW).successes.tolist() == [1.0]


@pytest.mark.parametrize("bad", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["trials", "successes"])
def test_counts_are_finite_and_not_negative(name, bad):
    columns = {"trials": [1.0, 1.0], "successes": [1.0, 1.0]}
    columns[name] = [1.0, bad]
    with pytest.raises(InvalidValueError, match=rf"{name}\[1\]"):
        ArmCounts(["a", "b"], **columns, as_of=NOW)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_columns_have_one_number_an_arm(shape):
    with pytest.raises(InvalidValueError, match=r"shape \(2,\)"):
        ArmCounts(["a", "b"], np.ones(shape), [0.0, 0.0], NOW)
    with pytest.raises(InvalidValueError, match=r"shape \(2,\)"):
        ArmCounts(["a", "b"], [0.0, 0.0], np.ones(shape), NOW)


def test_an_arm_stands_once():
    with pytest.raises(InvalidValueError, match="each arm may stand here once"):
        ArmCounts(["a", "b", "a"], [1, 1, 1], [0, 0, 0], NOW)


def test_distinct_arms_are_checked_however_they_come():
    arms = DistinctArms(["a", "b"])
    assert arms == ("a", "b")
    assert ArmCounts(arms, [1, 2], [0, 0], NOW).arms is arms
    copy = pickle.loads(pickle.dumps(ArmCounts(["a", "b"], [1, 2], [0, 0], NOW)))  # our own
    assert copy.arms == arms
    assert type(copy.arms) is DistinctArms
    for more in (arms * 2, (*arms, "b")):  # plain tuples again
        with pytest.raises(InvalidValueError, match="each arm may stand here once"):
            ArmCounts(more, np.ones(len(more)), np.zeros(len(more)), NOW)


def test_merge_of_the_same_arms_in_one_order_and_another():
    first = ArmCounts(["b", "a"], [1, 2], [0.5, 1], NOW)
    same = ArmCounts(["b", "a"], [4, 8], [0, 0], NOW)
    turned = ArmCounts(["a", "b"], [16, 32], [2, 4], NOW)
    merged = merge([first, same, turned], NOW)
    assert as_rows(merged) == {"b": (37.0, 4.5), "a": (26.0, 3.0)}


def test_merge_adds_by_arm_in_order_of_appearance():
    merged = merge(
        [
            ArmCounts(["b", "a"], [1, 2], [0.5, 1], NOW),
            ArmCounts(["c", "b"], [8, 4], [2, 0.25], NOW),
        ],
        NOW,
    )
    assert merged.arms == ("b", "a", "c")
    assert merged.trials.tolist() == [5.0, 2.0, 8.0]
    assert merged.successes.tolist() == [0.75, 1.0, 2.0]
    assert merged.as_of == NOW


def test_merge_of_nothing_is_empty():
    merged = merge([], NOW)
    assert (merged.arms, merged.trials.tolist(), merged.as_of) == ((), [], NOW)


def test_counts_of_two_moments_do_not_merge():
    parts = [counts_of({"a": (1, 1)}), counts_of({"a": (1, 1)}, as_of=NOW + 1)]
    with pytest.raises(InvalidValueError, match="merge at one moment"):
        merge(parts, NOW)
    with pytest.raises(InvalidValueError, match="merge at one moment"):
        merge(parts[1:], NOW)


@given(st.lists(ROWS, max_size=5))
def test_merge_keeps_every_trial_and_success(parts):
    merged = as_rows(merge([counts_of(rows) for rows in parts], NOW))
    expected = {}
    for rows in parts:
        for arm, (trials, successes) in rows.items():
            before = expected.get(arm, (0.0, 0.0))
            expected[arm] = (before[0] + trials, before[1] + successes)
    assert merged == expected


@given(ROWS, ROWS, ROWS)
def test_merge_is_associative_and_commutes(x, y, z):
    one, two, three = counts_of(x), counts_of(y), counts_of(z)
    left = merge([merge([one, two], NOW), three], NOW)
    right = merge([one, merge([two, three], NOW)], NOW)
    assert left.arms == right.arms
    assert as_rows(left) == as_rows(right) == as_rows(merge([three, two, one], NOW))


def test_decay_exponent_counts_half_lives():
    week = 7 * 86400.0
    times = np.array([NOW - week, NOW, NOW + 3 * week])
    assert decay_exponent(times, NOW, week).tolist() == [-1.0, 0.0, 3.0]
    assert decay_exponent(times, NOW, None).tolist() == [0.0, 0.0, 0.0]
    assert float(decay_exponent(NOW + 86400, NOW, 2 * 86400.0)) == 0.5


@given(
    st.floats(1.0, 1e8),
    st.floats(-1e8, 1e8),
    st.floats(-1e8, 1e8),
    st.floats(-1e8, 1e8),
)
def test_what_fades_does_not_depend_on_the_landmark(half_life, event, reader, shift):
    """An event at t read at T weighs 2**((t - T) / h), wherever the landmark lies."""
    for landmark in (NOW, NOW + shift):
        weight = decay_exponent(NOW + event, landmark, half_life) - decay_exponent(
            NOW + reader, landmark, half_life
        )
        # Times near 1.7e9 carry 2.4e-7 s; each of four conversions may lose one such step.
        assert float(weight) == pytest.approx((event - reader) / half_life, rel=1e-9, abs=2e-6)


def test_counts_fade_on_by_half_lives():
    counts = ArmCounts(("a", "b"), np.array([8.0, 3.0]), np.array([4.0, 0.0]), 100.0)
    later = faded(counts, 130.0, 10.0)
    assert (later.arms, later.as_of) == (("a", "b"), 130.0)
    assert (later.trials.tolist(), later.successes.tolist()) == ([1.0, 0.375], [0.5, 0.0])
    kept = faded(counts, 130.0, None)
    assert (kept.trials.tolist(), kept.as_of) == ([8.0, 3.0], 130.0)
    with pytest.raises(InvalidValueError, match=r"^as_of is 99\.0"):
        faded(counts, 99.0, 10.0)
