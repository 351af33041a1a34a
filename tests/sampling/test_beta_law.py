"""Beta draws against their distribution functions, and the same statistic against wrong samplers.

False alarms: 121 + 12 Kolmogorov-Smirnov tests share 1e-6 (Bonferroni over Massart's bound), with
fixed seeds. What they catch: with 40,000 draws a shape any shift of a distribution function by
0.025 somewhere, and with 2,000,000 draws, at the shapes around each switch of algorithm, by 0.0036,
each with probability above 1 - 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from banditcore import _sampling
from banditcore.sampling import sample_beta
from sampling.laws import (
    GRID_A,
    GRID_B,
    ULP_ABOVE,
    ULP_BELOW,
    cdf_of_log_odds,
    critical_distance,
    kolmogorov_smirnov,
)

ROWS, MANY = 40_000, 2_000_000
SWITCHES = [
    (0.9, 0.9),
    (ULP_BELOW, 3.0),
    (1.0, 30.0),
    (ULP_ABOVE, 1.0),
    (1.2, 400.0),
    (2.0, 2.0),
    (3.0, 0.3),
    (7.0, 300.0),
    (0.02, 5.0),
    (40.0, 41.0),
    (900.0, 3e8),
    (1e12, 3e11),
]
FALSE_ALARM = 1e-6 / (len(GRID_A) + len(SWITCHES))


def log_odds(a, b, rows, key, threads=2):
    out = np.empty((rows, len(a)))
    _sampling.fill(np.asarray(a, float), np.asarray(b, float), out, key, threads, log_odds=True)
    return out


def distances(a, b, draws):
    """The distance of each arm's column of log-odds from its own law."""
    return np.array(
        [kolmogorov_smirnov(cdf_of_log_odds(a[i], b[i], draws[:, i])) for i in range(len(a))]
    )


@pytest.fixture(scope="module")
def grid_draws():
    """All 121 shapes in one call, so that every pack mixes them."""
    return log_odds(GRID_A, GRID_B, ROWS, key=20261121)


def test_every_shape_of_the_grid_follows_its_law(grid_draws):
    found = distances(GRID_A, GRID_B, grid_draws)
    worst = found.argmax()
    assert found[worst] < critical_distance(ROWS, FALSE_ALARM), (GRID_A[worst], GRID_B[worst])


@pytest.mark.parametrize(("a", "b"), SWITCHES)
def test_shapes_around_each_switch_follow_their_law(a, b):
    draws = log_odds([a], [b], MANY, key=7)[:, 0]
    found = kolmogorov_smirnov(cdf_of_log_odds(a, b, draws))
    assert found < critical_distance(MANY, FALSE_ALARM)


def test_rates_are_the_same_draws_as_log_odds(grid_draws):
    rows = 200
    rates = np.empty((rows, len(GRID_A)))
    _sampling.fill(GRID_A, GRID_B, rates, 20261121, 1)
    # exp turns the half ulp of a log-odds into |log-odds| ulps; rates below 1e-300 are subnormal.
    odds = grid_draws[:rows]
    near = np.abs(odds) < 690
    np.testing.assert_allclose(rates[near], special.expit(odds[near]), rtol=3e-13, atol=0)
    assert (rates[odds < -746] == 0).all()
    assert (rates[odds > 40] == 1).all()
    assert ((rates >= 0) & (rates <= 1)).all()


def test_arms_are_independent_of_each_other_and_of_their_second_gamma():
    """Correlations of neighbours in arm and row; 5.3 sigma is a false alarm of 1e-7 each."""
    n, rows = 64, 50_000
    uniform = special.betainc(
        2.0, 3.0, sample_beta(np.full(n, 2.0), np.full(n, 3.0), size=rows, seed=5)
    )
    centred = (uniform - 0.5) * np.sqrt(12.0)
    limit = 5.3 / np.sqrt(rows * n)
    for shift in (1, 2, 31, 32):
        assert abs((centred * np.roll(centred, shift, axis=1)).mean()) < limit
        assert abs((centred * np.roll(centred, shift, axis=0)).mean()) < limit
    assert abs((centred**2 - 1).mean()) < limit  # variance of centred^2 is 0.8


# Wrong samplers. Each must fail the very statistic that the kernel passes.


def test_parameters_swapped_would_be_seen(grid_draws):
    found = distances(GRID_B, GRID_A, grid_draws)
    assert (found[GRID_A != GRID_B] > critical_distance(ROWS, FALSE_ALARM)).sum() >= 100


def test_float32_results_would_be_seen(grid_draws):
    at = np.flatnonzero((GRID_A == 1e12) & (GRID_B == 1e12))
    rough = special.expit(grid_draws[:, at]).astype(np.float32).astype(float)
    found = distances(GRID_A[at], GRID_B[at], special.logit(rough))
    assert found > critical_distance(ROWS, FALSE_ALARM)


def test_float32_parameters_would_be_seen():
    a, b = np.array([2.0**40 + 2.0**16]), np.array([2.0**41 + 2.0**17])  # halfway for float32
    limit = critical_distance(MANY, FALSE_ALARM)
    assert distances(a, b, log_odds(a, b, MANY, key=1)) < limit
    rough = a.astype(np.float32).astype(float)
    assert distances(a, b, log_odds(rough, b, MANY, key=1)) > limit


def test_a_shift_by_a_thousandth_would_be_seen(grid_draws):
    at = np.flatnonzero((GRID_A >= 1e4) & (GRID_B >= 1e4))
    found = distances(GRID_A[at], GRID_B[at], grid_draws[:, at] + np.log(1.001))
    assert (found > critical_distance(ROWS, FALSE_ALARM)).all()


def _twin(a, b, rows, *, redraw):
    """The kernel's algorithm over numpy's streams; `redraw` skips the full test, wrongly."""
    rng = np.random.default_rng(3)

    def log_gamma(shape):
        d = shape - 1.0 / 3.0
        c = 1.0 / np.sqrt(9.0 * d)
        kept = np.empty(0)
        while len(kept) < rows:
            x, u = rng.standard_normal(2 * rows), rng.random(2 * rows)
            w = c * x
            sure = 12.0 * (1.0 - u) * np.minimum(1.0, 1.0 + w) > (x * w) ** 2
            with np.errstate(invalid="ignore", divide="ignore"):
                full = np.log(u) < 0.5 * x * x + d * (1.0 - (1.0 + w) ** 3 + 3.0 * np.log(1.0 + w))
            accepted = w[sure if redraw else sure | ((w > -1.0) & full)]
            kept = np.concatenate([kept, np.log(d) + 3.0 * np.log1p(accepted)])
        return kept[:rows]

    return log_gamma(a) - log_gamma(b)


def test_a_redrawn_lane_would_be_seen():
    limit = critical_distance(MANY, FALSE_ALARM)
    right = cdf_of_log_odds(1.0, 1.2, _twin(1.0, 1.2, MANY, redraw=False))
    wrong = cdf_of_log_odds(1.0, 1.2, _twin(1.0, 1.2, MANY, redraw=True))
    assert kolmogorov_smirnov(right) < limit < kolmogorov_smirnov(wrong)
