"""Slate banks and snapshots: what they hold, what they refuse, how a bank is drawn."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import stats

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.slates import SlateBank, Snapshot, draw_bank


def snapshot(**changes: Any) -> Snapshot:
    given = {
        "bandit": "b",
        "segment": "IN",
        "version": 5,
        "arms": ["x", "y"],
        "alpha": [1.0, 2.0],
        "beta": [3.0, 4.0],
        "bank": SlateBank([[0, 1]]),
    }
    return Snapshot(**{**given, **changes})


@pytest.mark.parametrize("rows", [[[0, 1], [1, 0]], [[3, -1], [-1, -1]], np.empty((0, 0), int)])
def test_a_bank_keeps_its_rows(rows: Any) -> None:
    bank = SlateBank(rows)
    assert bank.slates.dtype == np.int32
    assert bank.slates.flags.c_contiguous
    np.testing.assert_array_equal(bank.slates, np.asarray(rows))
    assert (len(bank), bank.depth) == np.asarray(rows).shape


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([[0, 0]], InvalidValueError, r"slates\[0\].*once"),
        ([[0, 1, 2], [2, 1, 2]], InvalidValueError, r"slates\[1\].*once"),
        ([[0, 1], [-1, 0]], InvalidValueError, r"slates\[1\].*end of a row"),
        ([[-2, 1]], InvalidValueError, "-2"),
        ([[2**31, 1]], InvalidValueError, str(2**31)),
        ([0, 1], InvalidValueError, r"\(2,\).*\(m, depth\)"),
        ([[0.0, 1.0]], InvalidTypeError, "integers"),
        ([[True, False]], InvalidTypeError, "integers"),
        ([["a"]], InvalidTypeError, "integers"),
    ],
)
def test_a_bank_refuses(rows: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        SlateBank(rows)


def test_nothing_can_be_changed_from_outside() -> None:
    rows, alpha = np.array([[0, 1]], dtype=np.int32), np.array([1.0, 2.0])
    held = snapshot(bank=SlateBank(rows), alpha=alpha)
    rows[0, 0], alpha[0] = 1, 9.0
    assert held.bank.slates.tolist() == [[0, 1]]
    assert held.alpha.tolist() == [1.0, 2.0]
    for array in (held.bank.slates, held.alpha, held.beta):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        held.version = 6  # type: ignore[misc]  # meant
    with pytest.raises(AttributeError):
        held.bank.slates = rows  # type: ignore[misc]  # meant


def test_copies_and_pickles_are_as_immutable() -> None:
    held = snapshot()
    for twin in (pickle.loads(pickle.dumps(held)), copy.deepcopy(held)):
        assert twin.arms == held.arms
        assert twin.bank.slates.tolist() == held.bank.slates.tolist()
        assert not twin.alpha.flags.writeable
        assert not twin.bank.slates.flags.writeable


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"bandit": ""}, InvalidValueError, "bandit"),
        ({"segment": "IN/"}, InvalidValueError, "segment"),
        ({"version": -1}, InvalidValueError, "version is -1"),
        ({"version": 2**64}, InvalidValueError, "version"),
        ({"version": 1.0}, InvalidTypeError, "version"),
        ({"version": True}, InvalidTypeError, "version"),
        ({"arms": "xy"}, InvalidTypeError, "not one string"),
        ({"arms": ["x", ""]}, InvalidValueError, "arm is ''"),
        ({"arms": ["x", "é" * 129]}, InvalidValueError, "256 UTF-8 bytes"),
        ({"arms": ["x", "\ud800"]}, InvalidValueError, "surrogate"),
        ({"arms": ["x", 1]}, InvalidTypeError, "arm is 1"),
        ({"arms": ["x", "x"]}, InvalidValueError, "arms is 'x'"),
        ({"arms": ["x"]}, InvalidValueError, "alpha"),
        ({"alpha": [1.0, 0.0]}, InvalidValueError, r"alpha\[1\]"),
        ({"beta": [float("nan"), 1.0]}, InvalidValueError, r"beta\[0\]"),
        ({"beta": [float("inf"), 1.0]}, InvalidValueError, r"beta\[0\]"),
        ({"bank": SlateBank([[0, 2]])}, InvalidValueError, "bank is 2"),
        ({"bank": SlateBank([[0, 1, -1]])}, InvalidValueError, "1 to 2 places"),
        ({"bank": SlateBank(np.empty((0, 0), int))}, InvalidValueError, "at least one slate"),
        ({"bank": [[0, 1]]}, InvalidTypeError, "SlateBank"),
    ],
)
def test_a_snapshot_refuses(changes: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        snapshot(**changes)


def test_a_segment_without_arms_has_a_snapshot_without_slates() -> None:
    empty = draw_bank([], [])
    assert empty.slates.shape == (0, 0)
    assert len(snapshot(arms=[], alpha=[], beta=[], bank=empty)) == 0
    with pytest.raises(InvalidValueError, match="no slates"):
        snapshot(arms=[], alpha=[], beta=[], bank=SlateBank([[-1]]))


def test_a_bank_has_the_shape_asked_for_cut_to_the_arms() -> None:
    ones = np.ones(7)
    assert draw_bank(ones, ones).slates.shape == (256, 7)
    bank = draw_bank(np.ones(90), np.ones(90), slates=3, depth=4)
    assert bank.slates.shape == (3, 4)
    whole = np.sort(draw_bank(ones, ones, slates=5).slates, axis=1)
    assert (whole == np.arange(7)).all()


def test_the_same_seed_draws_the_same_bank_on_any_number_of_threads() -> None:
    alpha, beta = np.linspace(1, 9, 300), np.linspace(50, 20, 300)
    drawn = [draw_bank(alpha, beta, seed=4, threads=threads).slates for threads in (1, 2, None)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] == drawn[2]).all()
    assert (drawn[0] != draw_bank(alpha, beta, seed=5).slates).any()
    assert (draw_bank(alpha, beta).slates != draw_bank(alpha, beta).slates).any()


def test_slates_are_independent_thompson_draws() -> None:
    # Arm 0 is Beta(2, 1), arm 1 uniform: P(arm 0 first) = E[X] = 2/3. A binomial test at 1e-6
    # with 20,000 slates sees an error of 0.017 or more. One draw shared by all would give 0 or 1.
    bank = draw_bank([2.0, 1.0], [1.0, 1.0], slates=20_000, depth=1, seed=11)
    first = int((bank.slates[:, 0] == 0).sum())
    assert stats.binomtest(first, 20_000, 2 / 3).pvalue > 1e-6


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"slates": 0}, InvalidValueError),
        ({"depth": 0}, InvalidValueError),
        ({"slates": True}, InvalidTypeError),
        ({"depth": 2.0}, InvalidTypeError),
        ({"alpha": [0.0, 1.0]}, InvalidValueError),
        ({"alpha": [1.0]}, InvalidValueError),
        ({"alpha": []}, InvalidValueError),
    ],
)
def test_draw_bank_refuses(changes: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        draw_bank(**{"alpha": [1.0, 1.0], "beta": [1.0, 1.0], **changes})


def test_a_bank_of_ragged_parameters_is_refused():
    with pytest.raises(InvalidTypeError, match="alpha"):
        draw_bank([[1.0], [2.0, 3.0]], [4.0, 5.0])
