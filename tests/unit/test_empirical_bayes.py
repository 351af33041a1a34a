"""The beta-binomial fit recovers known priors, beats a grid and survives scarce data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from banditcore import empirical_bayes
from banditcore.empirical_bayes import (
    CHILD_PRECISION,
    MAX_PRECISION,
    MIN_PRECISION,
    ROOT_PRECISION,
    fit_beta,
    fit_strength,
    log_likelihood,
)
from banditcore.gamma import log_rise, trigamma
from plain_strength import PlainStrength, plain_strength


def simulated(a, b, n, trials, seed):
    rng = np.random.default_rng(seed)
    rates = rng.beta(a, b, n)
    shown = rng.poisson(rng.gamma(1, trials, n))
    successes = rng.binomial(shown, rates)
    return successes.astype(float), (shown - successes).astype(float)


def penalised(s, f, a, b, w0=ROOT_PRECISION):
    """The objective as documented, written anew."""
    mean, w = a / (a + b), a * b / (a + b)
    likelihood = (special.betaln(a + s, b + f) - special.betaln(a, b)).sum()
    return likelihood + 0.5 * np.log(mean * (1 - mean)) + np.log(w0 * w / (w0 + w) ** 2)


def test_log_likelihood_is_that_of_scipy():
    s, n = np.array([0, 3, 7, 20]), np.array([5, 3, 10, 400])
    exact = stats.betabinom(n, 1.5, 20.0).logpmf(s).sum()
    choose = (special.gammaln(n + 1) - special.gammaln(s + 1) - special.gammaln(n - s + 1)).sum()
    got = log_likelihood(s, n - s, 1.5, 20.0)
    assert got + choose == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "n", "trials"),
    [
        (1, 30, 2000, 1000),
        (5, 300, 2000, 1000),
        (0.3, 0.3, 2000, 50),
        (50, 50, 2000, 1000),
        (2, 2000, 3000, 5000),
    ],
)
def test_a_known_prior_is_recovered(a, b, n, trials):
    """Within 5 standard errors from the observed information: false alarm below 2e-6 each.

    The penalty moves the answer by less than half a standard error here.
    """
    s, f = simulated(a, b, n, trials, seed=4)
    got_a, got_b = fit_beta(s, f)

    def likelihood(shift):
        return log_likelihood(s, f, got_a * np.exp(shift[0]), got_b * np.exp(shift[1]))

    step = 1e-3
    at = np.eye(2) * step
    information = -np.array(
        [
            [
                likelihood(at[i] + at[j])
                - likelihood(at[i] - at[j])
                - likelihood(at[j] - at[i])
                + likelihood(-at[i] - at[j])
                for j in range(2)
            ]
            for i in range(2)
        ]
    ) / (4 * step * step)
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    assert np.all(errors < 0.2)
    assert abs(np.log(got_a / a)) < 5.5 * errors[0]
    assert abs(np.log(got_b / b)) < 5.5 * errors[1]


@pytest.mark.parametrize("precision", [1.0, 10.0, 200.0])
def test_a_known_strength_is_recovered(precision):
    """log kappa of 2000 arms has a standard error below 0.1: 5 of them, false alarm 6e-7."""
    rng = np.random.default_rng(9)
    mean = rng.beta(2, 60, 2000) + 1e-4
    kappa = precision / np.exp(np.mean(np.log(mean) + np.log1p(-mean)))
    trials = rng.poisson(30_000, 2000)
    s = rng.binomial(trials, rng.beta(kappa * mean, kappa * (1 - mean))).astype(float)
    assert fit_strength(s, trials - s, mean) == pytest.approx(kappa, rel=0.5)
    s = simulated(2, 60, 2000, 1000, seed=1)
    assert fit_strength(*s, np.full(2000, 2 / 62)) == pytest.approx(62, rel=0.2)


DATA = {
    "click-like": simulated(1, 30, 100, 1000, 1),
    "few arms": (np.array([3.0, 0.0, 9.0]), np.array([97.0, 10.0, 91.0])),
    "one arm": (np.array([3.0]), np.array([97.0])),
    "no successes": (np.zeros(10), np.full(10, 50.0)),
    "no failures": (np.full(10, 50.0), np.zeros(10)),
    "all or nothing": (np.array([40.0, 0.0, 40.0]), np.array([0.0, 40.0, 0.0])),
    "equal rates": (np.full(20, 10.0), np.full(20, 990.0)),
    "faded": (np.array([0.1, 0.0, 0.02]), np.array([0.3, 0.5, 0.4])),
    "huge": (np.array([1e9, 1.2e9, 0.7e9]), np.array([3e10, 3e10, 3e10])),
    "uneven": (np.array([1e9, 0.0, 2.0, 1.0]), np.array([3e10, 4.0, 10.0, 0.0])),
}


@pytest.mark.parametrize("name", DATA)
def test_no_point_of_a_grid_is_better(name):
    s, f = DATA[name]
    a, b = fit_beta(s, f)
    best = penalised(s, f, a, b)
    noise = 1e-9 * (1 + abs(best))  # of scipy's betaln at such counts
    for logit in np.linspace(-14, 14, 57):
        for w in np.geomspace(MIN_PRECISION, MAX_PRECISION, 45):
            grid_a, grid_b = w / special.expit(-logit), w / special.expit(logit)
            assert penalised(s, f, grid_a, grid_b) <= best + noise


@pytest.mark.parametrize("name", DATA)
def test_no_strength_of_a_grid_is_better(name):
    s, f = DATA[name]
    mean = np.linspace(0.02, 0.3, len(s))
    log_q = np.mean(np.log(mean) + np.log1p(-mean))

    def score(kappa):
        w = kappa * np.exp(log_q)
        likelihood = log_likelihood(s, f, kappa * mean, kappa * (1 - mean))
        return likelihood + np.log(CHILD_PRECISION * w / (CHILD_PRECISION + w) ** 2)

    best = score(fit_strength(s, f, mean))
    for w in np.geomspace(MIN_PRECISION, MAX_PRECISION, 200):
        assert score(w / np.exp(log_q)) <= best + 1e-10 * (1 + abs(best))


@pytest.mark.parametrize("name", ["click-like", "few arms", "one arm", "no successes", "faded"])
def test_the_gradient_vanishes_at_the_fit(name):
    s, f = DATA[name]
    a, b = fit_beta(s, f)
    arms = empirical_bayes._informative(s, f)
    at = np.array([np.log(a / b), np.log(a * b / (a + b))])
    _, gradient, hessian = empirical_bayes._beta_objective(arms, 1.0)(at)
    assert np.all(np.linalg.eigvalsh(hessian) < 0)
    assert np.all(np.abs(gradient) < 1e-5 * (1 + np.sqrt(np.abs(np.diag(hessian)))))


@pytest.mark.parametrize("at", [(-2.0, 0.3), (-4.0, 3.0), (1.0, -1.0), (0.1, 4.0)])
def test_gradient_and_hessian_are_those_of_the_value(at):
    s, f = np.array([0, 3, 5.5, 0.2, 40]), np.array([10, 0, 1e3, 0.3, 2.0])
    m = np.linspace(0.1, 0.9, 5)
    step = 1e-5
    strength = empirical_bayes._Strength(np.stack([s, f, m]), 2.0, -2.0)
    for objective, point in [
        (empirical_bayes._beta_objective(np.stack([s, f]), 2.0), np.array(at)),
        (lambda point: map(np.atleast_1d, strength(point[0])), np.array(at[1:])),
    ]:
        _, gradient, hessian = objective(point)
        for i, shift in enumerate(np.eye(len(point)) * step):
            (up, slope_up, _), (down, slope_down, _) = (
                objective(point + shift),
                objective(point - shift),
            )
            assert gradient[i] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-4)
            np.testing.assert_allclose(
                hessian[i], (slope_up - slope_down) / (2 * step), rtol=1e-5, atol=1e-4
            )
    assert strength.value(at[1]) == strength(at[1])[0]


def with_means(name):
    s, f = DATA[name]
    return s, f, np.linspace(0.02, 0.3, len(s))


def segments():
    """Columns as a refresh has them: many arms, few, sparse ones, spread or alike."""
    rng = np.random.default_rng(6)
    for n, trials, kappa in [
        (1000, 1000, 300.0),
        (1000, 2, 30.0),
        (700, 1e6, 5e3),
        (300, 100, 0.5),
        (40, 30, 100.0),
        (3, 1e4, 10.0),
    ]:
        mean = np.clip(rng.beta(1, 30, n), 1e-9, 1.0)
        shown = rng.poisson(rng.gamma(1, trials, n))
        rates = rng.beta(kappa * mean + 1e-3, kappa * (1 - mean))
        s = rng.binomial(shown, rates).astype(float)
        yield s, shown - s, mean


@pytest.mark.parametrize("columns", [*map(with_means, DATA), *segments()])
def test_the_strength_is_that_of_plain_numpy_and_its_slope_is_zero(columns):
    fitted = fit_strength(*columns)
    plain = plain_strength(*columns)
    arms = empirical_bayes._informative(*columns)
    log_q = np.mean(np.log(arms[2]) + np.log1p(-arms[2]))
    objective = PlainStrength(arms, 1.0, log_q)
    at = math.log(fitted) + log_q
    noise = 1e-15 * np.abs(special.gammaln(arms[0] + arms[1] + 1.0)).sum()  # of its slope
    bound = abs(noise / objective(at)[2])
    assert math.log(fitted) == pytest.approx(math.log(plain), abs=1e-9 + bound)
    if math.log(MIN_PRECISION) < at - 1e-3 and at + 1e-3 < math.log(MAX_PRECISION):
        root = optimize.brentq(lambda x: objective(x)[1], at - 1e-3, at + 1e-3, xtol=1e-12)
        assert at == pytest.approx(root, abs=1e-9 + bound)


@pytest.mark.parametrize(("strangers", "best"), [(1, 4796.0), (2, 0.289)])
@pytest.mark.parametrize("times", [1, 12])
def test_the_better_of_two_humps_is_found(strangers, best, times):
    """Forty arms just as expected, and few far from it: alike, or spread? Both are maxima."""
    s = np.repeat([300.0, 40.0], [40, strangers])
    f = np.repeat([9700.0, 0.0], [40, strangers])
    s, f = np.tile(s, times), np.tile(f, times)
    mean = np.full(len(s), 0.03)
    arms = empirical_bayes._informative(s, f, mean)
    log_q = math.log(0.03 * 0.97)
    objective = PlainStrength(arms, 1.0, log_q)
    grid = np.linspace(math.log(MIN_PRECISION), math.log(MAX_PRECISION), 300)
    height = np.array([objective.value(at) for at in grid])
    beside = np.pad(height, 1, constant_values=-np.inf)
    assert np.count_nonzero((height > beside[:-2]) & (height > beside[2:])) == 2
    at = math.log(fit_strength(s, f, mean)) + log_q
    assert objective.value(at) >= height.max() - 1e-9 * abs(height.max())
    if times == 1:
        assert math.exp(at) == pytest.approx(best, rel=0.05)


def test_the_largest_numbers_there_are_end_a_fit_too():
    """Their sums are infinite, and no step of a climb would be a number."""
    largest = np.finfo(float).max
    for s, f in (([largest, largest], [0.0, largest]), ([largest], [0.0]), ([0.0], [largest])):
        for fit in (fit_beta, lambda s, f: fit_strength(s, f, np.full(len(s), 0.3))):
            found = fit(np.array(s), np.array(f))
            assert np.isfinite(found).all()
            assert found == fit(np.minimum(s, 1e290), np.minimum(f, 1e290))


def test_no_data_give_the_uniform_prior():
    for n in (0, 1, 5):
        assert fit_beta(np.zeros(n), np.zeros(n)) == pytest.approx((1.0, 1.0))
        kappa = fit_strength(np.zeros(n), np.zeros(n), np.full(n, 0.5))
        assert kappa == pytest.approx(4 * CHILD_PRECISION)


def test_arms_without_trials_carry_no_information():
    s, f = DATA["few arms"]
    padded = np.pad(s, (2, 5)), np.pad(f, (2, 5))
    assert fit_beta(*padded) == fit_beta(s, f)
    mean = np.array([0.1, 0.2, 0.05])
    padded_mean = np.pad(mean, (2, 5), constant_values=0.7)
    assert fit_strength(*padded, padded_mean) == fit_strength(s, f, mean)


def test_the_order_of_arms_does_not_matter():
    s, f = DATA["click-like"]
    mean = np.linspace(0.01, 0.1, len(s))
    order = np.random.default_rng(3).permutation(len(s))
    assert fit_beta(s[order], f[order]) == fit_beta(s, f)
    assert fit_strength(s[order], f[order], mean[order]) == fit_strength(s, f, mean)
    # Arms whose sort keys are equal, though they are not.
    s, f = np.array([2.0, 1.0, 3.0, 0.0] * 90), np.array([2.0, 3.0, 1.0, 4.0] * 90)
    mean = np.array([0.25, 0.5, 0.0625, 0.75] * 90) + np.repeat(np.arange(90) / 512, 4)
    fitted = {
        fit_strength(s[order], f[order], mean[order])
        for order in (np.random.default_rng(seed).permutation(360) for seed in range(20))
    }
    assert len(fitted) == 1


def test_exchanging_successes_and_failures_exchanges_a_and_b():
    s, f = DATA["few arms"]
    a, b = fit_beta(s, f)
    assert fit_beta(f, s) == pytest.approx((b, a), rel=1e-6)


def test_no_successes_expect_about_half_a_success_in_all():
    a, b = fit_beta(np.zeros(10), np.full(10, 1e4))
    assert 0.1 < a < 1
    assert 0.2e-5 < a / (a + b) < 1e-5


def test_equal_rates_are_capped_and_the_cap_is_reached():
    a, b = fit_beta(np.full(10, 1e10), np.full(10, 1e12))
    assert a * b / (a + b) == pytest.approx(MAX_PRECISION)
    assert a / b == pytest.approx(0.01, rel=1e-6)
    kappa = fit_strength(np.full(10, 1e10), np.full(10, 1e12), np.full(10, 1 / 101))
    assert kappa / 101 * (100 / 101) == pytest.approx(MAX_PRECISION)


def test_many_arms_equal_the_same_arms_few_of_them_coarse():
    """Starts are compared on a subset; the answer must still be that of all arms."""
    s, f = simulated(1, 30, 3000, 300, 8)
    a, b = fit_beta(s, f)
    best = penalised(s, f, a, b)
    for da in (0.99, 1.0, 1.01):
        for db in (0.99, 1.0, 1.01):
            assert penalised(s, f, a * da, b * db) <= best + 1e-9 * abs(best)


@pytest.mark.parametrize("x", [1e-3, 0.7, 31.9, 32.0, 100.0, 1e6, 1e10])
@pytest.mark.parametrize("s", [1.0, 2.0, 7.0])
def test_rises_of_log_gamma_are_sums_over_whole_steps(x, s):
    """log Gamma(x + 1) - log Gamma(x) is log x: exact for any x."""
    logs = np.log(x + np.arange(s))
    assert log_rise(np.array([x]), np.array([s]))[0] == pytest.approx(
        logs.sum(), rel=1e-12, abs=1e-13
    )


def test_rises_of_many_are_those_of_each():
    """Small and large x mixed."""
    x, s = np.array([1e-3, 32.0, 31.999, 1e6]), np.array([5.0, 0.3, 2000.0, 0.0])
    each = [log_rise(x[i : i + 1], s[i : i + 1])[0] for i in range(4)]
    np.testing.assert_array_equal(log_rise(x, s), each)


def test_trigamma_is_that_of_scipy():
    x = np.concatenate([np.logspace(-3, 6, 2000), [10.0, 9.999]])
    np.testing.assert_allclose(trigamma(x), special.zeta(2.0, x), rtol=1e-14)
