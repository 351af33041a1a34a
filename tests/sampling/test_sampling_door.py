"""What the door lets in, what it refuses, and with which words."""

from __future__ import annotations

import numpy as np
import pytest

from banditcore import _sampling
from banditcore.errors import BanditCoreError, InvalidTypeError, InvalidValueError
from banditcore.sampling import active_kernel, quantile, sample_beta, thompson_topk

A, B = np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 3.0, 2.0, 9.0])
EVERY_DOOR = [
    sample_beta,
    lambda a, b: thompson_topk(a, b, 2),
    lambda a, b: quantile(a, b, 0.5),
]


def test_shapes_and_types():
    assert active_kernel() in _sampling.kernel_names()
    for size, shape in ((None, (4,)), (0, (0, 4)), (1, (1, 4)), (7, (7, 4))):
        draws = sample_beta(A, B, size=size)
        assert (draws.shape, draws.dtype, draws.flags.c_contiguous) == (shape, np.float64, True)
    for size, shape in ((None, (6,)), (0, (0, 6)), (1, (1, 6)), (7, (7, 6))):
        best = thompson_topk(A, B, 6, size=size)
        assert (best.shape, best.dtype, best.flags.c_contiguous) == (shape, np.int32, True)
        assert (best[..., 4:] == -1).all()
        assert (np.sort(best[..., :4], axis=-1) == np.arange(4)).all()
    assert quantile(A, B, 0.5).shape == (4,)


def test_no_arms():
    assert sample_beta([], []).shape == (0,)
    assert sample_beta([], [], size=3).shape == (3, 0)
    assert quantile([], [], 0.5).shape == (0,)
    with pytest.raises(InvalidValueError, match="at least one arm"):
        thompson_topk([], [], 1)


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.longdouble),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.uint8),
        lambda x: x.astype(">f8"),
        lambda x: np.repeat(x, 2)[::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: np.frombuffer(b"?" + x.tobytes(), dtype=np.uint8)[1:].view(np.float64),
    ],
)
def test_any_column_of_numbers_is_taken(form):
    np.testing.assert_array_equal(sample_beta(form(A), form(B), seed=1), sample_beta(A, B, seed=1))
    np.testing.assert_array_equal(
        thompson_topk(form(A), form(B), 3, seed=1, weight=form(A)),
        thompson_topk(A, B, 3, seed=1, weight=A),
    )


def test_read_only_columns_are_taken_and_nothing_is_written():
    a, b = A.copy(), B.copy()
    a.flags.writeable = b.flags.writeable = False
    sample_beta(a, b)
    thompson_topk(a, b, 2, weight=a, eligible=np.array([True] * 4), exclude=np.array([1]))
    np.testing.assert_array_equal(a, A)


@pytest.mark.parametrize("door", EVERY_DOOR)
@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ([1.0, np.nan, 1.0, 1.0], InvalidValueError, r"\[1\] is nan: must be from 1e-100"),
        ([1.0, 1.0, np.inf, 1.0], InvalidValueError, r"\[2\] is inf"),
        ([0.0, 1.0, 1.0, 1.0], InvalidValueError, r"\[0\] is 0.0"),
        ([1.0, 1.0, 1.0, -2.0], InvalidValueError, r"\[3\] is -2.0"),
        ([5e-324, 1.0, 1.0, 1.0], InvalidValueError, r"\[0\] is 5e-324"),
        ([1.0, 1e308, 1.0, 1.0], InvalidValueError, r"\[1\] is 1e\+308"),
        ([1.0, 1.0, 1.0], InvalidValueError, "the shape of beta is"),
        ([[1.0, 1.0, 1.0, 1.0]], InvalidValueError, "one axis"),
        (1.0, InvalidValueError, "one axis"),
        ([[1.0], [1.0, 2.0]], InvalidTypeError, "rectangular"),
        ([1j, 1.0, 1.0, 1.0], InvalidTypeError, "real numbers"),
        (["1", "1", "1", "1"], InvalidTypeError, "real numbers"),
        ([None, 1.0, 1.0, 1.0], InvalidTypeError, "real numbers"),
        ([True, True, True, True], InvalidTypeError, "real numbers"),
        (np.array(["2020"] * 4, dtype="datetime64"), InvalidTypeError, "real numbers"),
        (np.ma.array([1.0] * 4, mask=[0, 1, 0, 0]), InvalidTypeError, "mask"),
    ],
)
def test_bad_parameters_are_refused(door, bad, error, says):
    with pytest.raises(error, match=says) as first:
        door(A, bad)
    assert "beta" in str(first.value)
    with pytest.raises(error):
        door(bad, B)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"k": 0}, InvalidValueError, "k is 0: an integer >= 1"),
        ({"k": -3}, InvalidValueError, "k is -3"),
        ({"k": True}, InvalidTypeError, "k is True"),
        ({"k": 2.0}, InvalidTypeError, "k is 2.0"),
        ({"k": "2"}, InvalidTypeError, "k is '2'"),
        ({"k": 2**62}, InvalidValueError, "does not fit"),
        ({"size": -1}, InvalidValueError, "size is -1"),
        ({"size": 1.5}, InvalidTypeError, "size is 1.5"),
        ({"size": True}, InvalidTypeError, "size is True"),
        ({"size": 2**63}, InvalidValueError, "does not fit"),
        ({"threads": 0}, InvalidValueError, "threads is 0"),
        ({"threads": 257}, InvalidValueError, "at most 256"),
        ({"threads": 1.0}, InvalidTypeError, "threads is 1.0"),
        ({"seed": -1}, InvalidValueError, "seed is -1"),
        ({"seed": 1.0}, InvalidTypeError, "a SeedSequence, a Generator or None"),
        ({"seed": "1"}, InvalidTypeError, "seed is '1'"),
        ({"seed": True}, InvalidTypeError, "seed is True"),
        ({"seed": np.random.RandomState(1)}, InvalidTypeError, "seed is RandomState"),
        ({"weight": [1.0, 1.0, 1.0]}, InvalidValueError, r"the shape of weight is \(3,\)"),
        ({"weight": [1.0, 0.0, 1.0, 1.0]}, InvalidValueError, r"weight\[1\] is 0.0"),
        ({"weight": [1.0, np.nan, 1.0, 1.0]}, InvalidValueError, r"weight\[1\] is nan"),
        ({"weight": [1.0, 1.0, -1.0, 1.0]}, InvalidValueError, r"weight\[2\] is -1.0"),
        ({"weight": [1.0, 1.0, 1.0, np.inf]}, InvalidValueError, r"weight\[3\] is inf"),
        ({"exclude": [4]}, InvalidValueError, r"exclude\[0\] is 4: an arm index lies in 0..3"),
        ({"exclude": [0, -1]}, InvalidValueError, r"exclude\[1\] is -1"),
        ({"exclude": [0.0]}, InvalidTypeError, "arm indices"),
        ({"exclude": [True, False, True, False]}, InvalidTypeError, "arm indices"),
        ({"exclude": 2}, InvalidValueError, "one axis"),
        ({"eligible": [True]}, InvalidValueError, r"a mask has one bool an arm: \(4,\)"),
        ({"eligible": [9]}, InvalidValueError, r"eligible\[0\] is 9"),
        ({"eligible": ["a"]}, InvalidTypeError, "arm indices"),
        ({"eligible": {0, "a"}}, InvalidTypeError, "eligible is 'set': no rectangular array"),
        ({"exclude": {0, None}}, InvalidTypeError, "exclude is 'set': no rectangular array"),
        ({"k": -(10**5000)}, InvalidValueError, "k is <int that cannot be shown>"),
    ],
)
def test_bad_options_are_refused(options, error, says):
    with pytest.raises(error, match=says) as caught:
        thompson_topk(A, B, **{"k": 2, **options})
    assert isinstance(caught.value, BanditCoreError)


def test_exclusions_in_every_form():
    for exclude in ([0, 2], {2, 0}, (0, 0, 2), np.array([2, 0], dtype=np.uint8)):
        assert set(thompson_topk(A, B, 2, exclude=exclude).tolist()) == {1, 3}
    assert thompson_topk(A, B, 2, exclude=[0, 1, 2, 3], size=3).tolist() == [[-1, -1]] * 3
    assert thompson_topk(A, B, 2, eligible=[]).tolist() == [-1, -1]
    assert thompson_topk(A, B, 2, eligible=np.zeros(4, dtype=bool)).tolist() == [-1, -1]
    assert set(thompson_topk(A, B, 4, exclude=[]).tolist()) == {0, 1, 2, 3}


def test_too_many_rows_of_nothing_are_refused():
    with pytest.raises(InvalidValueError, match="does not fit"):
        sample_beta([], [], size=2**62)


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        sample_beta(A, B, size=2**55)
    with pytest.raises(MemoryError):
        thompson_topk(A, B, 2**55)


@pytest.mark.parametrize("shape", [1e-100, 1e-30, 1e13, 1e40, 1e100])
def test_parameters_beyond_the_tested_range_end_and_stay_in_range(shape):
    a = np.array([shape, 1.0, shape, 1e-3, shape])
    draws = sample_beta(a, a[::-1], size=1000, seed=1)
    assert ((draws >= 0) & (draws <= 1)).all()
    odds = np.empty((1000, 5))
    _sampling.fill(a, a[::-1].copy(), odds, 1, 1, log_odds=True)
    assert np.isfinite(odds).all()
    best = thompson_topk(a, a[::-1], 5, size=100, seed=1, weight=[1, 1e300, 1e-300, 1, 1])
    assert (np.sort(best, axis=1) == np.arange(5)).all()


def test_the_knobs_of_tests_are_not_in_the_door():
    from banditcore import sampling

    assert set(sampling.__all__) >= {"active_kernel", "quantile", "sample_beta", "thompson_topk"}
    assert _sampling.kernel_name() in _sampling.kernel_names()
    assert _sampling.lanes() in (1, 2, 4, 8)
