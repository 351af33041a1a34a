"""The race draws the law of Thompson's top-k: winners, ranks and pairs against quadrature.

Every p-value below stands for one chi-square test. With the least p-value allowed at 1e-9 and some
hundred tests, a right sampler fails this file with probability 1e-7; seeds are fixed besides. With
400,000 decisions, a relative error of 1 % in the probability of an arm that wins one time in ten
moves chi-square by 40, which fails; the slow table, of 20 million, sees 0.15 %.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from banditcore import _race
from banditcore.propensity import rank_probabilities
from sampling.laws import chi_square_p, pair_probabilities

LEAST_P = 1e-9
DECISIONS = 400_000


def clicks(n, seed=0):
    """Posteriors shaped like click data."""
    g = np.random.default_rng(seed)
    rate, shown = g.beta(2, 60, n), np.floor(g.lognormal(6, 2, n))
    successes = g.binomial(shown.astype(np.int64), rate)
    return 1.0 + successes, 30.0 + shown - successes


def cases():
    g = np.random.default_rng(5)
    few = g.uniform(1, 5, 20)
    return {
        "one": ([2.0], [60.0], None),
        "three": ([2.0, 3, 4], [60.0, 60, 60], None),
        "equal": ([2.0] * 50, [60.0] * 50, None),
        "click data": (*clicks(100), None),
        "a < 1 and b < 1": ([0.3, 0.5, 0.9, 0.2, 0.7] * 4, [0.4, 3, 0.8, 2, 30] * 4, None),
        "tiny": ([1e-3, 2e-3, 1e-3, 0.5], [60.0, 30, 1e-3, 2], None),
        "rates near 1": ([1e6, 3e5, 5e3, 50, 1e6], [1, 2, 1, 1.5, 3], None),
        "narrow": ([1e12, 1e12, 1e12 + 1e6, 3], [1e12, 1e12 + 2e6, 1e12, 5], None),
        "3 trials beside 3e8": ([3, 3e7 + 1, 4, 2, 3e7], [30, 2.7e8, 30, 30, 2.7e8], None),
        "one dominates": ([900.0] + [2.0] * 30, [100.0] + [60.0] * 30, None),
        "clusters far apart": (
            [9e4, 9.01e4, 8.99e4] + [200.0] * 30 + list(few),
            [1e4] * 3 + [6e4] * 30 + [3e6] * 20,
            None,
        ),
        "weights": (*clicks(60), g.lognormal(0, 1, 60)),
        "weights, values that end in a peak": (
            [5.0, 2, 3, 1, 7],
            [1, 0.5, 1.2, 1, 2],
            [1, 1.5, 1.1, 2, 0.9],
        ),
        "equal weights": (*clicks(30), np.full(30, 3.0)),
    }


CASES = cases()


def draws(a, b, weight, k, decisions, *, seed=7, first_row=0):
    columns = [None if c is None else np.ascontiguousarray(c, float) for c in (a, b, weight)]
    out = np.empty((decisions, k), dtype=np.int32)
    _race.Tables(*columns).topk(out, seed, 2, first_row=first_row)
    return out


def ranks_p(out, a, b, weight):
    """The p-value of each rank's arms."""
    n, k = len(a), out.shape[1]
    chances = rank_probabilities(a, b, k, weight=weight)
    counts = (np.bincount(out[:, rank], minlength=n) for rank in range(k))
    return [
        chi_square_p(count, chance * len(out)) if (chance * len(out) >= 10).sum() > 1 else 1.0
        for count, chance in zip(counts, chances.T, strict=True)
    ]


@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_its_law(name):
    a, b, weight = CASES[name]
    decisions = DECISIONS if len(a) > 5 else DECISIONS // 4
    out = draws(a, b, weight, min(4, len(a)), decisions)
    assert out.min() >= 0
    assert min(ranks_p(out, a, b, weight)) > LEAST_P


@pytest.mark.parametrize("name", ["three", "rates near 1", "weights, values that end in a peak"])
def test_the_order_of_the_best_two_has_its_law(name):
    a, b, weight = CASES[name]
    n = len(a)
    out = draws(a, b, weight, 2, DECISIONS, seed=8)
    pairs = np.bincount(out[:, 0].astype(np.int64) * n + out[:, 1], minlength=n * n)
    assert chi_square_p(pairs, pair_probabilities(a, b, weight, points=8_001) * len(out)) > LEAST_P


def test_the_end_of_the_tables_has_its_law():
    """So many arms are asked for that the last are drawn one by one below the last knot."""
    g = np.random.default_rng(3)
    a, b = g.uniform(1, 3, 3_000), g.uniform(20, 60, 3_000)
    tables = _race.Tables(a, b, None)
    deep = int(2.5 * tables.figures["end"])
    assert deep < 3_000
    assert tables.figures["heads"] < 2_000
    out = np.empty((2_000, deep), dtype=np.int32)
    tables.topk(out, 5, 2)
    assert out.min() >= 0
    assert (np.diff(np.sort(out, axis=1), axis=1) > 0).all()
    # P(arm among the first `deep`), from the law of large numbers: 1 - F_i at the deep-th largest.
    x = np.linspace(1e-4, 0.5, 1_001)
    above = sum(special.betaincc(one_a, one_b, x) for one_a, one_b in zip(a, b, strict=True))
    line = np.interp(-deep, -above, x)
    expected = special.betaincc(a, b, line)
    seen = np.bincount(out.ravel(), minlength=3_000) / len(out)
    # The line itself moves by a few hundredths of its height; a wrong tail would be off by tenths.
    assert np.abs(seen - expected).max() < 0.06
    assert abs((seen - expected) @ (expected - expected.mean())) < 0.02 * (expected**2).sum()


def test_exclusions_and_eligibility_leave_the_law_of_the_rest():
    a, b = clicks(100)
    best = np.argsort(-a / (a + b))[:10]
    banned = np.zeros(128, dtype=np.bool_)
    banned[best] = True
    bits = np.packbits(banned, bitorder="little").view(np.uint64)
    rest = np.setdiff1d(np.arange(100), best)
    out = np.empty((DECISIONS, 3), dtype=np.int32)
    tables = _race.Tables(a, b, None)
    tables.topk(out, 11, 2, banned=bits)
    assert not np.isin(out, best).any()
    assert min(ranks_p(np.searchsorted(rest, out), a[rest], b[rest], None)) > LEAST_P
    by_row = np.tile(best.astype(np.int32), (DECISIONS, 1))
    again = np.empty_like(out)
    tables.topk(again, 11, 2, bans=by_row)
    np.testing.assert_array_equal(out, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_twenty_million_decisions_do_not_see_it(name):
    a, b, weight = CASES[name]
    total = 20_000_000 if len(a) > 5 else 4_000_000
    n, k, block = len(a), min(4, len(a)), 1_000_000
    chances = rank_probabilities(a, b, k, weight=weight) * total
    counts = np.zeros((n, k))
    for first in range(0, total, block):
        out = draws(a, b, weight, k, block, seed=77, first_row=first)
        counts += np.stack([np.bincount(rank, minlength=n) for rank in out.T], axis=1)
    for rank in range(k):
        if (chances[:, rank] >= 10).sum() > 1:
            assert chi_square_p(counts[:, rank], chances[:, rank]) > LEAST_P
