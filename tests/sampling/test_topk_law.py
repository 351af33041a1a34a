"""Frequencies of the best two arms against quadrature; ties; the order of arms.

Each chi-square test has a false-alarm rate of 1e-7 (fixed seeds); with 200,000 decisions it sees a
pair of arms whose probability is wrong by 0.007 or more, with probability above 0.99.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from banditcore.sampling import thompson_topk
from sampling.laws import chi_square_p, pair_probabilities

DECISIONS = 200_000
FALSE_ALARM = 1e-7

POSTERIORS = {
    "clicks": ([3.0, 13.0, 1.0, 8.0, 2.0], [200.0, 430.0, 30.0, 330.0, 45.0]),
    "all equal": ([2.0] * 6, [50.0] * 6),
    "one dominates": ([90.0, 2.0, 3.0, 1.0], [100.0, 80.0, 40.0, 31.0]),
    "below one": ([0.3, 0.5, 0.9, 0.05], [0.4, 2.0, 0.7, 0.1]),
    "two clusters": ([900.0, 905.0, 9.0, 12.0], [1e3, 1e3, 1e3, 1e3]),
    "3 trials among 3e8": ([2.0, 3e7, 3.0001e7, 1.0], [3.0, 2.7e8, 2.7e8, 9.0]),
    "rates near one": ([500.0, 80.0, 30.0], [2.0, 1.0, 0.6]),
}
WEIGHTS = {
    "clicks": [1.0, 0.5, 3.0, 0.9, 1.7],
    "below one": [1.0, 1.3, 0.7, 2.0],
    "one dominates": [0.1, 1.0, 0.8, 2.0],
    "rates near one": [1.0, 1.01, 1.05],
}


def pair_counts(chosen, n):
    counts = np.zeros((n, n))
    np.add.at(counts, (chosen[:, 0], chosen[:, 1]), 1)
    return counts


def check(a, b, weight=None, seed=11, **options):
    n = len(a)
    chosen = thompson_topk(a, b, 2, size=DECISIONS, weight=weight, seed=seed, **options)
    expected = pair_probabilities(a, b, weight)
    assert expected.sum() == pytest.approx(1.0, abs=2e-6)
    observed = pair_counts(chosen, n)
    assert np.trace(observed) == 0
    off = ~np.eye(n, dtype=bool)
    return chi_square_p(observed[off], DECISIONS * expected[off])


@pytest.mark.parametrize("name", POSTERIORS)
def test_best_two_follow_the_quadrature(name):
    assert check(*POSTERIORS[name]) > FALSE_ALARM


@pytest.mark.parametrize("name", WEIGHTS)
def test_weighted_best_two_follow_the_quadrature(name):
    a, b = POSTERIORS[name]
    assert check(a, b, WEIGHTS[name]) > FALSE_ALARM


def test_the_statistic_sees_a_wrong_parameter():
    a, b = POSTERIORS["clicks"]
    chosen = thompson_topk(np.multiply(a, 1.06), b, 2, size=DECISIONS, seed=11)
    off = ~np.eye(len(a), dtype=bool)
    p = chi_square_p(pair_counts(chosen, len(a))[off], DECISIONS * pair_probabilities(a, b)[off])
    assert p < FALSE_ALARM


def test_the_statistic_sees_missing_weights():
    a, b = POSTERIORS["rates near one"]
    off = ~np.eye(len(a), dtype=bool)
    counts = pair_counts(thompson_topk(a, b, 2, size=DECISIONS, seed=11), len(a))
    expected = pair_probabilities(a, b, WEIGHTS["rates near one"])
    assert chi_square_p(counts[off], DECISIONS * expected[off]) < FALSE_ALARM


@pytest.mark.parametrize("options", [{"exclude": [0, 3]}, {"eligible": [1, 2, 4]}])
def test_the_arms_left_follow_the_law_of_those_arms(options):
    a, b = (np.array(side) for side in POSTERIORS["clicks"])
    left = [1, 2, 4]
    chosen = thompson_topk(a, b, 2, size=DECISIONS, seed=3, **options)
    assert set(np.unique(chosen)) == set(left)
    counts = pair_counts(chosen, len(a))[np.ix_(left, left)]
    expected = pair_probabilities(a[left], b[left])
    off = ~np.eye(len(left), dtype=bool)
    assert chi_square_p(counts[off], DECISIONS * expected[off]) > FALSE_ALARM


@pytest.mark.parametrize("weight", [None, np.full(5, 0.37)])
def test_saturated_draws_are_ranked_by_what_rounding_hides(weight):
    """Beta(0.01, 0.01): a third of all rates round to 1. Equal arms must win equally often."""
    chosen = thompson_topk([0.01] * 5, [0.01] * 5, 1, size=DECISIONS, weight=weight, seed=2)
    counts = np.bincount(chosen[:, 0], minlength=5)
    assert chi_square_p(counts, np.full(5, DECISIONS / 5)) > FALSE_ALARM


def test_saturated_draws_of_unequal_arms_keep_their_law():
    """Beta(1e6, 1) rates round to 1 in float32; Beta(a, tiny b) in float64. P(first) is b2/(b1+b2).

    For small b the upper log-odds is an exponential of rate b over the chance 1/2 that it is upper.
    """
    a, b = [0.02, 0.02], [0.01, 0.03]
    assert check(a, b) > FALSE_ALARM


def test_real_ties_are_broken_at_random():
    """Two laws so narrow that every draw is the same number."""
    a, b = np.full(4, 5e99), np.full(4, 1e100)
    chosen = thompson_topk(a, b, 2, size=DECISIONS, seed=8)
    off = ~np.eye(4, dtype=bool)
    counts = pair_counts(chosen, 4)
    assert np.trace(counts) == 0
    expected = np.full(12, DECISIONS / 12)
    assert chi_square_p(counts[off], expected) > FALSE_ALARM


def test_equal_weights_rank_as_no_weights():
    rng = np.random.default_rng(0)
    # Half of the arms saturate often: log(rate) is then 0 to rounding, and only log-odds differ.
    a, b = (np.concatenate([rng.uniform(0.005, 0.1, 150), rng.uniform(1, 30, 150)]) for _ in "ab")
    plain = thompson_topk(a, b, 20, size=200, seed=4)
    for weight in (1.0, 1e-300, 7.3, 1e300):
        same = thompson_topk(a, b, 20, size=200, seed=4, weight=np.full(300, weight))
        np.testing.assert_array_equal(same, plain)


def test_an_arm_wins_as_often_wherever_it_stands():
    rng = np.random.default_rng(1)
    n = 40
    a, b = rng.uniform(1, 20, n), rng.uniform(100, 300, n)
    order = rng.permutation(n)
    counts = np.bincount(thompson_topk(a, b, 5, size=40_000, seed=1).ravel(), minlength=n)
    moved = thompson_topk(a[order], b[order], 5, size=40_000, seed=2)
    other = np.bincount(order[moved.ravel()], minlength=n)
    total = counts + other
    kept = total >= 20
    # Top-5 membership is a Bernoulli count per arm: the difference has variance at most the total.
    statistic = ((counts - other) ** 2 / np.maximum(total, 1))[kept].sum()
    assert special.chdtrc(kept.sum(), statistic) > FALSE_ALARM
