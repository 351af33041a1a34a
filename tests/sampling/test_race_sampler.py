"""`ThompsonSampler`: same bits everywhere, valid slates, refusals, copies, forks and threads."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from banditcore import _race
from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.thompson_sampler import ThompsonSampler

G = np.random.default_rng(1)
A, B = 1 + G.poisson(5, 300) * 1.0, 30 + G.poisson(200, 300) * 1.0
SAMPLER = ThompsonSampler(A, B)


@pytest.mark.parametrize("k", [1, 3, 10, 17, 40, 300, 310])
def test_every_kernel_and_thread_count_gives_the_same_bits(k):
    tables = _race.Tables(A, B, None)
    answers = []
    for kernel in _race.kernel_names():
        for threads, unit, patience in ((1, 0, 10**9), (1, 3, 0), (2, 64, 0), (5, 1, 0), (5, 0, 0)):
            out = np.empty((203, k), dtype=np.int32)
            tables.topk(out, 42, threads, kernel, unit=unit, patience=patience)
            answers.append(out)
    for other in answers[1:]:
        np.testing.assert_array_equal(answers[0], other)


@pytest.mark.parametrize("k", [1, 10, 30, 299, 300, 305])
def test_slates_are_distinct_and_padded(k):
    out = SAMPLER.topk(k, size=200, seed=1)
    assert out.dtype == np.int32
    assert out.shape == (200, k)
    assert (out[:, 300:] == -1).all()
    ordered = np.sort(out[:, :300], axis=1)
    assert (np.diff(ordered, axis=1) > 0).all()
    assert ordered.min() >= 0


@pytest.mark.parametrize("k", [2, 10, 250])
def test_a_row_depends_on_the_seed_and_its_number_alone(k):
    whole = SAMPLER.topk(k, size=50, seed=9)
    np.testing.assert_array_equal(SAMPLER.topk(k, size=7, seed=9, threads=2), whole[:7])
    np.testing.assert_array_equal(SAMPLER.topk(k, seed=9), whole[0])
    np.testing.assert_array_equal(
        SAMPLER.topk(k, size=50, seed=np.random.SeedSequence(9), threads=1), whole
    )
    assert (SAMPLER.topk(k, size=50, seed=10) != whole).any()
    assert len(np.unique(whole, axis=0)) > 40  # pairs of 300 arms may meet again


def test_a_generator_moves_on():
    g = np.random.default_rng(4)
    first, second = SAMPLER.topk(10, seed=g), SAMPLER.topk(10, seed=g)
    assert (first != second).any()
    np.testing.assert_array_equal(first, SAMPLER.topk(10, seed=np.random.default_rng(4)))


def test_without_a_seed_no_answer_comes_twice():
    seen = {SAMPLER.topk(10).tobytes() for _ in range(2_000)}
    assert len(seen) > 1_990  # of 1e20 or so slates, none of them probable
    copies = [pickle.loads(pickle.dumps(SAMPLER)) for _ in range(2)]  # our own
    assert (copies[0].topk(10, size=5) != copies[1].topk(10, size=5)).any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_fork_draws_afresh():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, SAMPLER.topk(20).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = np.frombuffer(os.read(read, 80), dtype=np.int32)
    os.close(read)
    os.close(write)
    ours = [SAMPLER.topk(20) for _ in range(3)]
    assert len(theirs) == 20
    assert all((theirs != one).any() for one in ours)


def test_a_copy_answers_alike():
    weighted = ThompsonSampler(A, B, weight=1 + G.random(300))
    for sampler in (SAMPLER, weighted):
        copy = pickle.loads(pickle.dumps(sampler))  # our own
        np.testing.assert_array_equal(
            copy.topk(5, size=100, seed=2), sampler.topk(5, size=100, seed=2)
        )
        assert len(copy) == 300
        assert copy.nbytes == sampler.nbytes > 300 * 16


def test_the_parameters_may_change_afterwards():
    a = A.copy()
    sampler = ThompsonSampler(a, B)
    before = sampler.topk(5, size=50, seed=3)
    a[:] = 1.0
    np.testing.assert_array_equal(sampler.topk(5, size=50, seed=3), before)


def test_threads_may_share_it():
    expected = SAMPLER.topk(10, size=2_000, seed=5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: SAMPLER.topk(10, size=2_000, seed=5), range(12)))
    for one in found:
        np.testing.assert_array_equal(one, expected)


def test_exclusions_by_row():
    bans = G.integers(-1, 300, (500, 40))
    out = SAMPLER.topk(10, size=500, exclude=bans, seed=6)
    assert all(not np.isin(row, ban).any() for row, ban in zip(out, bans, strict=True))
    assert out.min() >= 0
    np.testing.assert_array_equal(SAMPLER.topk(10, size=20, exclude=bans[:20], seed=6), out[:20])
    nothing = np.full((500, 3), -1)
    np.testing.assert_array_equal(
        SAMPLER.topk(10, size=500, exclude=nothing, seed=6), SAMPLER.topk(10, size=500, seed=6)
    )
    everything = np.tile(np.arange(300), (3, 1))
    assert (SAMPLER.topk(4, size=3, exclude=everything) == -1).all()


@pytest.mark.parametrize("left", [1, 5, 63, 65, 150, 299])
def test_only_eligible_arms_that_are_not_excluded(left):
    eligible = G.permutation(300)[:left]
    mask = np.zeros(300, dtype=np.bool_)
    mask[eligible] = True
    out = SAMPLER.topk(8, size=100, eligible=eligible, seed=6)
    np.testing.assert_array_equal(SAMPLER.topk(8, size=100, eligible=mask, seed=6), out)
    assert np.isin(out[out >= 0], eligible).all()
    assert ((out >= 0).sum(axis=1) == min(8, left)).all()
    if left > 1:
        rest = SAMPLER.topk(8, size=100, eligible=mask, exclude=eligible[:1], seed=6)
        assert not (rest == eligible[0]).any()


def test_out_is_filled_and_returned():
    out = np.empty((20, 5), dtype=np.int32)
    assert SAMPLER.topk(5, size=20, out=out, seed=1) is out
    np.testing.assert_array_equal(out, SAMPLER.topk(5, size=20, seed=1))
    assert SAMPLER.topk(5, size=0).shape == (0, 5)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"k": 0}, InvalidValueError),
        ({"k": 1.5}, InvalidTypeError),
        ({"k": True}, InvalidTypeError),
        ({"k": 3, "size": -1}, InvalidValueError),
        ({"k": 3, "exclude": [300]}, InvalidValueError),
        ({"k": 3, "exclude": [[1, 2]]}, InvalidValueError),
        ({"k": 3, "size": 1, "exclude": [[1, -2]]}, InvalidValueError),
        ({"k": 3, "size": 1, "exclude": [[1.0]]}, InvalidTypeError),
        ({"k": 3, "eligible": np.ones(299, dtype=np.bool_)}, InvalidValueError),
        ({"k": 3, "seed": -1}, InvalidValueError),
        ({"k": 3, "seed": "x"}, InvalidTypeError),
        ({"k": 3, "threads": 0}, InvalidValueError),
        ({"k": 3, "out": np.empty(3)}, InvalidTypeError),
        ({"k": 3, "out": np.empty(4, dtype=np.int32)}, InvalidValueError),
        ({"k": 3, "size": 2, "out": np.empty((4, 3), dtype=np.int32)[::2]}, InvalidValueError),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, error):
    with pytest.raises(error):
        SAMPLER.topk(**arguments)


@pytest.mark.parametrize(
    ("a", "b", "weight"),
    [
        ([], [], None),
        ([1.0, np.nan], [1.0, 1.0], None),
        ([1.0, 0.0], [1.0, 1.0], None),
        ([1.0, 1e14], [1.0, 1.0], None),
        ([1.0], [1.0, 1.0], None),
        ([1.0, 1.0], [1.0, 1.0], [1.0]),
        ([1.0, 1.0], [1.0, 1.0], [1.0, -1.0]),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(a, b, weight):
    with pytest.raises(InvalidValueError):
        ThompsonSampler(a, b, weight=weight)
