"""The race draws the law of Thompson's top-k: winners, ranks and pairs against quadrature.

Every p-value below stands for one chi-square test. With the least p-value allowed at 1e-9 and some
hundred tests, a right sampler fails this file with probability 1e-7; seeds are fixed besides. With
400,000 decisions, a relative error of 1 % in the probability of an arm that wins one time in ten
moves chi-square by 40, which fails; the slow table, of 20 million, sees 0.15 %. `make exactness`
prints such a table.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from banditcore import _race
from banditcore.thompson_sampler import ThompsonSampler
from sampling import exactness
from sampling.laws import chi_square_p, pair_probabilities
from sampling.race_shapes import SHAPES, clicks

LEAST_P = 1e-9
DECISIONS = 400_000


def law_p(name, decisions, *, seed):
    """The least p-value of a rank's arms, for the first ranks of a posterior."""
    a, b, weight = SHAPES[name]
    n, k = len(a), min(4, len(a))
    counts = exactness.rank_counts(exactness.race(a, b, weight, k, seed=seed), n, k, decisions)
    return exactness.judge(counts, exactness.exact_chances(a, b, weight, k)).least_p


@pytest.mark.parametrize("name", SHAPES)
def test_every_rank_has_its_law(name):
    decisions = DECISIONS if len(SHAPES[name][0]) > 5 else DECISIONS // 4
    assert law_p(name, decisions, seed=7) > LEAST_P


# Arms of one kind are counted together: where a table's cells are wide for the narrow arms, and
# points have to be kept or dropped one by one, a mistake moves all of a kind the same way.
KINDS = np.repeat(np.arange(4), 17)
WIDE_TO_NARROW = (
    np.array([2.0, 16.0, 128.0, 1024.0])[KINDS],
    np.array([30.0, 128.0, 750.0, 4600.0])[KINDS],
)


@pytest.mark.parametrize(("k", "decisions"), [(10, 1_000_000), (20, 30_000)])
def test_wide_arms_beside_narrow_ones_have_their_law(k, decisions):
    """A race that keeps every point in doubt, or drops them all, gives p below 1e-20 here."""
    a, b = WIDE_TO_NARROW
    sampler = ThompsonSampler(a, b)
    counts = exactness.rank_counts(
        lambda rows, first: sampler.topk(k, size=rows, seed=70 + first), len(a), k, decisions
    )
    chances = exactness.exact_chances(a, b, None, k)
    of_kinds = np.eye(4)[KINDS].T
    assert exactness.judge(of_kinds @ counts, of_kinds @ chances).least_p > LEAST_P
    assert exactness.judge(counts, chances).least_p > LEAST_P


@pytest.mark.parametrize("name", ["three", "rates near 1", "weights, values that end in a peak"])
def test_the_order_of_the_best_two_has_its_law(name):
    a, b, weight = SHAPES[name]
    n = len(a)
    out = exactness.race(a, b, weight, 2, seed=8)(DECISIONS, 0)
    pairs = np.bincount(out[:, 0].astype(np.int64) * n + out[:, 1], minlength=n * n)
    assert chi_square_p(pairs, pair_probabilities(a, b, weight, points=8_001) * len(out)) > LEAST_P


def expected_of_first_kind(half, first, second, depths):
    """E(arms of the first kind among the top m), of `half` arms of each of two kinds, exactly.

    Given an arm's place u in its own law, how many of either kind exceed it is binomial.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    level = 0.5 * (nodes + 1)
    x = special.betaincinv(*first, level)
    others = np.arange(half + 1)
    above_first = stats.binom.pmf(others[:half], half - 1, special.betaincc(*first, x)[:, None])
    above_second = stats.binom.pmf(others, half, special.betaincc(*second, x)[:, None])
    answer = np.zeros(len(depths))
    for one, other, weight in zip(above_first, above_second, weights / 2, strict=True):
        below = np.cumsum(np.convolve(one, other))
        answer += half * weight * below[np.asarray(depths) - 1]
    return answer


@pytest.mark.parametrize(("k", "decisions"), [(400, 4_000), (1_200, 4_000)])
def test_the_end_of_the_tables_has_its_law(k, decisions):
    """So many arms are asked for that the last are drawn one by one below the last knot.

    The count of one kind among the top m is asymptotically normal; |z| > 6.5 has probability
    1e-10. It sees an error of 1.5 % in that count from depth 300 on.
    """
    half, kinds = 600, ((2.0, 60.0), (3.0, 40.0))
    a, b = (np.repeat(side, half) for side in zip(*kinds, strict=True))
    depths = np.array([m for m in (10, 50, 100, 200, 300, 400, 600, 800, 1_000, 1_150) if m <= k])
    slates = exactness.race(a, b, None, k, seed=5)(decisions, 0)
    assert slates.min() >= 0
    assert (np.diff(np.sort(slates, axis=1), axis=1) > 0).all()
    found = np.cumsum(slates < half, axis=1)[:, depths - 1]
    expected = expected_of_first_kind(half, *kinds, depths)
    error = found.std(axis=0, ddof=1) / np.sqrt(decisions)
    assert np.abs((found.mean(axis=0) - expected) / error).max() < 6.5
    assert (6.5 * error < 0.015 * expected)[depths >= 300].all()
    for depth in (m for m in (100, 300, 800) if m <= k):  # and no arm of a kind is favoured
        counts = np.bincount(slates[:, :depth].ravel(), minlength=2 * half).reshape(2, half)
        chance = counts.mean(axis=1, keepdims=True) / decisions
        squares = ((counts - chance * decisions) ** 2 / (decisions * chance * (1 - chance))).sum()
        assert special.chdtrc(2 * half - 2, squares) > LEAST_P


def test_exclusions_and_eligibility_leave_the_law_of_the_rest():
    a, b = clicks(100)
    best = np.argsort(-a / (a + b))[:10]
    banned = np.zeros(128, dtype=np.bool_)
    banned[best] = True
    bits = np.packbits(banned, bitorder="little").view(np.uint64)
    out = np.empty((DECISIONS, 3), dtype=np.int32)
    tables = _race.Tables(a, b, None)
    tables.topk(out, 11, 2, banned=bits)
    assert not np.isin(out, best).any()
    counts = np.stack([np.bincount(rank, minlength=100) for rank in out.T], axis=1)
    chances = exactness.exact_chances(a, b, None, 3, exclude=best)
    assert exactness.judge(counts, chances).least_p > LEAST_P
    by_row = np.tile(best.astype(np.int32), (DECISIONS, 1))
    again = np.empty_like(out)
    tables.topk(again, 11, 2, bans=by_row)
    np.testing.assert_array_equal(out, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_twenty_million_decisions_do_not_see_it(name):
    total = 20_000_000 if len(SHAPES[name][0]) > 5 else 4_000_000
    assert law_p(name, total, seed=77) > LEAST_P
