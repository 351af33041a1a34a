"""How many arms exceed a point, against every outcome one by one and against plain products."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from banditcore._poisson_binomial import ranks_among_others


def every_outcome(upper, k):
    """P(exactly r of the arms exceed the point), r < k, summed over all 2**n outcomes."""
    chance = np.zeros(k)
    for exceed in itertools.product([False, True], repeat=len(upper)):
        if sum(exceed) < k:
            pairs = zip(upper, exceed, strict=True)
            chance[sum(exceed)] += math.prod(p if above else 1 - p for p, above in pairs)
    return chance


def one_by_one(lower, upper, k):
    """The same, by a polynomial multiplied up arm by arm; only additions of positive numbers."""
    chance = np.zeros(k)
    chance[0] = 1.0
    for q, p in zip(lower, upper, strict=True):
        chance = chance * q + np.append(0.0, chance[:-1] * p)
    return chance


@pytest.mark.parametrize("k", [1, 2, 3, 7, 9])
def test_every_outcome_of_few_arms(k):
    rng = np.random.default_rng(k)
    upper = rng.random((7, 19))
    upper[0, :4] = 0.0, 1.0, 0.5, np.nextafter(0.5, 1)
    upper[:, 5], upper[:, 6], upper[:, 7] = 0.0, 1.0, 1 - 1e-17
    others, below = ranks_among_others(1 - upper, upper, np.ones(7, dtype=np.int64), k)
    for j in range(19):
        np.testing.assert_allclose(
            below[:, j], np.cumsum(every_outcome(upper[:, j], k)), atol=1e-15
        )
        for i in range(7):
            left = np.delete(upper[:, j], i)
            np.testing.assert_allclose(others[:, i, j], every_outcome(left, k), atol=1e-15)


@pytest.mark.parametrize("m", [1, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_copies_are_arms_of_their_own(m, k):
    """On both sides of 1/2, and wherever the last tile of points ends."""
    rng = np.random.default_rng(m)
    upper = rng.beta(0.4, 0.4, (20, m))
    upper[:, 0] = rng.uniform(0.5, 1, 20)  # a point that nearly all of them exceed
    lower, copies = 1 - upper, rng.integers(1, 5, 20)
    others, below = ranks_among_others(lower, upper, copies, k)
    for j in range(m):
        q, p = np.repeat(lower[:, j], copies), np.repeat(upper[:, j], copies)
        np.testing.assert_allclose(below[:, j], np.cumsum(one_by_one(q, p, k)), atol=1e-14)
        for i, first in enumerate(np.cumsum(copies) - copies):
            found = one_by_one(np.delete(q, first), np.delete(p, first), k)
            np.testing.assert_allclose(others[:, i, j], found, atol=1e-14)


def test_small_chances_keep_their_digits():
    """Of 2,000 arms at 1e-9 none or one exceeds the point; the second has 15 digits too."""
    upper = np.full((1, 1), 1e-9)
    others, _ = ranks_among_others(1 - upper, upper, np.array([2000]), 3)
    expected = [math.comb(1999, r) * 1e-9**r * (1 - 1e-9) ** (1999 - r) for r in range(3)]
    np.testing.assert_allclose(others[:, 0, 0], expected, rtol=1e-12)


def test_no_arms_and_no_points():
    none = np.empty((0, 3))
    others, below = ranks_among_others(none, none, np.empty(0, dtype=np.int64), 2)
    assert others.shape == (2, 0, 3)
    assert below.tolist() == [[1.0] * 3] * 2
    none = np.empty((3, 0))
    assert ranks_among_others(none, none, np.ones(3, dtype=np.int64), 2)[0].shape == (2, 3, 0)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        ranks_among_others(np.ones((2, 3)), np.ones((2, 4)), np.ones(2, dtype=np.int64), 1)
