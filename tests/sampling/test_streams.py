"""A row's answer depends on its seed and number, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from banditcore import _sampling
from banditcore.sampling import sample_beta, thompson_topk

WIDTHS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 257]


def columns(n):
    """Shapes of every kind, side by side."""
    rng = np.random.default_rng(n)
    return 10 ** rng.uniform(-2, 6, n), 10 ** rng.uniform(-2, 6, n)


def rank(log_odds):
    return np.argsort(-log_odds, axis=-1, kind="stable")


def log_odds_of(a, b, rows, key, **knobs):
    out = np.empty((rows, len(a)))
    _sampling.fill(a, b, out, key, knobs.pop("threads", 1), log_odds=True, **knobs)
    return out


@pytest.mark.parametrize("n", WIDTHS)
def test_threads_and_blocks_do_not_change_a_bit(n):
    a, b = columns(n)
    weight = np.random.default_rng(1).uniform(0.5, 2, n)
    rates = sample_beta(a, b, size=50, seed=9, threads=1)
    best = thompson_topk(a, b, 5, size=50, seed=9, weight=weight, threads=1)
    for threads in (2, 3):
        np.testing.assert_array_equal(sample_beta(a, b, size=50, seed=9, threads=threads), rates)
        again = thompson_topk(a, b, 5, size=50, seed=9, weight=weight, threads=threads)
        np.testing.assert_array_equal(again, best)
    whole = log_odds_of(a, b, 50, key=1)
    for block in (1, n, 10 * n):
        np.testing.assert_array_equal(log_odds_of(a, b, 50, key=1, block=block), whole)


@pytest.mark.parametrize("n", WIDTHS)
def test_an_arm_draws_the_same_whichever_arms_follow_it(n):
    a, b = columns(300)
    whole = log_odds_of(a, b, 6, key=5)
    np.testing.assert_array_equal(log_odds_of(a[:n], b[:n], 6, key=5), whole[:, :n])


def test_row_r_is_the_same_for_every_size():
    a, b = columns(33)
    few, many = sample_beta(a, b, size=5, seed=1), sample_beta(a, b, size=50, seed=1)
    np.testing.assert_array_equal(few, many[:5])
    np.testing.assert_array_equal(sample_beta(a, b, seed=1), many[0])
    best = thompson_topk(a, b, 4, size=50, seed=1)
    np.testing.assert_array_equal(thompson_topk(a, b, 4, size=5, seed=1), best[:5])
    np.testing.assert_array_equal(thompson_topk(a, b, 4, seed=1), best[0])


def test_a_row_can_be_computed_alone_and_far_out():
    a, b = columns(20)
    for row in (17, 2**32 - 1, 2**32 + 5, 2**63):
        one = log_odds_of(a, b, 3, key=2, first_row=row - 1)[1]
        np.testing.assert_array_equal(log_odds_of(a, b, 1, key=2, first_row=row)[0], one)
    low = log_odds_of(a, b, 1, key=2, first_row=5)
    assert (log_odds_of(a, b, 1, key=2, first_row=2**32 + 5) != low).all()


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("k", [1, 3, 40, 300])
def test_topk_ranks_the_very_draws_that_fill_gives(n, k):
    a, b = columns(n)
    expected = np.full((30, k), -1)
    kept = min(k, n)
    expected[:, :kept] = rank(log_odds_of(a, b, 30, key=77))[:, :kept]
    found = np.empty((30, k), dtype=np.int32)
    _sampling.topk(a, b, None, None, found, 77, 2)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("n", WIDTHS)
def test_weighted_topk_ranks_weight_times_the_same_draws(n):
    a, b = columns(n)
    a, b = a + 1, b + 1  # no saturation: log(weight x rate) then ranks without a second key
    weight = 10 ** np.random.default_rng(n).uniform(-3, 3, n)
    odds = log_odds_of(a, b, 30, key=78)
    value = np.log(weight) - np.logaddexp(0.0, -odds)
    found = np.empty((30, 10), dtype=np.int32)
    _sampling.topk(a, b, weight, None, found, 78, 1)
    expected = np.full((30, 10), -1)
    expected[:, : min(n, 10)] = rank(value)[:, :10]
    np.testing.assert_array_equal(found, expected)


def test_leaving_arms_out_changes_no_other_draw():
    a, b = columns(65)
    full = thompson_topk(a, b, 65, size=40, seed=3)
    gone = [0, 8, 31, 32, 64]
    kept = np.array([[arm for arm in row if arm not in gone] for row in full])
    found = thompson_topk(a, b, 65, size=40, seed=3, exclude=gone)
    np.testing.assert_array_equal(found[:, :60], kept)
    assert (found[:, 60:] == -1).all()
    mask = np.ones(65, dtype=bool)
    mask[gone] = False
    np.testing.assert_array_equal(thompson_topk(a, b, 65, size=40, seed=3, eligible=mask), found)
    some = thompson_topk(a, b, 65, size=40, seed=3, eligible=np.arange(10), exclude=[4, 4])
    np.testing.assert_array_equal(
        some[:, :9], [[arm for arm in row if arm < 10 and arm != 4] for row in full]
    )


def test_seeds():
    a = b = np.full(9, 3.0)
    first = sample_beta(a, b, seed=123)
    np.testing.assert_array_equal(sample_beta(a, b, seed=np.int64(123)), first)
    np.testing.assert_array_equal(sample_beta(a, b, seed=np.random.SeedSequence(123)), first)
    assert (sample_beta(a, b, seed=124) != first).all()
    assert (sample_beta(a, b, seed=123 + 2**64) != first).all()
    assert (sample_beta(a, b) != sample_beta(a, b)).all()
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    np.testing.assert_array_equal(sample_beta(a, b, seed=one), sample_beta(a, b, seed=two))
    assert (sample_beta(a, b, seed=one) != sample_beta(a, b, seed=5)).all()
    sample_beta(a, b, seed=two)
    assert one.random() == two.random()


def test_the_bits_are_those_of_every_release():
    """Changes only with the algorithm: then old seeds draw anew, which a release must say."""
    a, b = columns(257)
    digest = hashlib.sha256(sample_beta(a, b, size=20, seed=1).tobytes())
    digest.update(thompson_topk(a, b, 30, size=20, seed=1).tobytes())
    assert digest.hexdigest() == "3458d2cd283b19fe6f87bcc3715737dd070e11a2180f364cfff4fcfffc29e791"
