"""Sums of rises of log-gamma and its derivatives: against 60 digits, and between kernels."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from banditcore._rises import kernel_names, log_rise_sum, rise_sums

BERNOULLI = [Fraction(1)]
for _n in range(1, 61):
    BERNOULLI.append(-sum(math.comb(_n + 1, k) * BERNOULLI[k] for k in range(_n)) / (_n + 1))


def exact(x):
    """log Gamma(x) without log(2 pi) / 2, psi(x) and psi'(x): Stirling's series from 60 on."""
    with localcontext(prec=80):
        x, log, psi, trigamma = Decimal(x), Decimal(0), Decimal(0), Decimal(0)
        while x < 60:
            log, psi, trigamma = log - x.ln(), psi - 1 / x, trigamma + 1 / (x * x)
            x += 1
        log += (x - Decimal("0.5")) * x.ln() - x
        psi += x.ln() - 1 / (2 * x)
        trigamma += 1 / x + 1 / (2 * x * x)
        for k in range(2, 61, 2):
            number = Decimal(BERNOULLI[k].numerator) / BERNOULLI[k].denominator
            log += number / (k * (k - 1) * x ** (k - 1))
            psi -= number / (k * x**k)
            trigamma += number / x ** (k + 1)
        return log, psi, trigamma


def one(x, s):
    """Rises of a single term."""
    return rise_sums(np.ones(1), np.full(1, float(s)), np.ones(1), float(x))


X = [1e-12, 1e-3, 0.3, 1.0, 4.7, 9.999999, 10.0, 10.5, 31.9, 100.0, 12345.678, 1e7, 1e13]
S = [1e-3, 0.04, 1.0, 2.5, 9.5, 100.0, 1e6, 3e10]


@pytest.mark.parametrize("x", X)
@pytest.mark.parametrize("s", S)
def test_a_rise_has_its_digits_however_large_x_and_small_s(x, s):
    with localcontext(prec=80):
        upper = exact(Decimal(x) + Decimal(s))
        rises = [float(high - low) for high, low in zip(upper, exact(x), strict=True)]
    # That of log-gamma passes 0 between x = 0.4 and 2.
    for got, expected, near in zip(one(x, s), rises, (4e-15 * s, 0.0, 0.0), strict=True):
        assert got == pytest.approx(expected, rel=4e-15, abs=near)


@pytest.mark.parametrize("x", [1e-100, 1e-30, 1e-3, 0.7, 9.0, 31.9, 100.0, 1e6, 1e13])
@pytest.mark.parametrize("s", [1.0, 2.0, 7.0, 40.0])
def test_rises_are_sums_over_whole_steps(x, s):
    """f(x + 1) - f(x) is log x, 1 / x, -1 / x**2: exact for any x."""
    steps = [x + i for i in range(int(s))]
    log, psi, trigamma = one(x, s)
    logs = [math.log(step) for step in steps]
    assert log == pytest.approx(math.fsum(logs), abs=1e-15 * math.fsum(map(abs, logs)) + 1e-14)
    assert psi == pytest.approx(math.fsum(1 / step for step in steps), rel=4e-15)
    assert trigamma == pytest.approx(-math.fsum(1 / step / step for step in steps), rel=4e-15)


def terms(n, seed=3):
    rng = np.random.default_rng(seed)
    share = 10 ** rng.uniform(-9, 0, n)
    count = np.where(rng.random(n) < 0.2, 0.0, 10 ** rng.uniform(-3, 10, n))
    return share, count, rng.normal(0, 1, n)


@pytest.mark.parametrize("scale", [0.1, 30.0, 1e5, 1e13])
def test_sums_are_weighted_and_the_derivatives_are_by_the_scale(scale):
    share, _, weight = terms(500)
    count = np.random.default_rng(1).uniform(0.5, 200, 500)
    x = scale * share
    keep = x < 1e3  # beyond, plain differences have lost their digits
    share, count, weight, x = share[keep], count[keep], weight[keep], x[keep]
    y = x + count
    by = weight * share, weight * share * share
    for got, summed in zip(
        rise_sums(share, count, weight, scale),
        (
            weight * (special.gammaln(y) - special.gammaln(x)),
            by[0] * (special.psi(y) - special.psi(x)),
            by[1] * (special.zeta(2.0, y) - special.zeta(2.0, x)),
        ),
        strict=True,
    ):
        assert got == pytest.approx(math.fsum(summed), abs=1e-11 * math.fsum(np.abs(summed)))


def test_every_kernel_gives_the_bits_of_the_serial_one():
    assert kernel_names()[-1] == "serial"
    for n in [*range(20), 1000, 1001, 1007]:
        columns = terms(n, seed=n)
        for scale in (1e-9, 0.3, 20.0, 1e4, 1e13):
            found = {rise_sums(*columns, scale, place) for place in range(len(kernel_names()))}
            assert len(found) == 1
            assert {log_rise_sum(*columns, scale)} == {found.pop()[0]}


def test_a_term_counts_the_same_among_any_others():
    """Terms beyond the last, neighbours with small and large x: each adds what it adds alone."""
    share, count, weight = terms(64)
    weight = np.zeros(64)
    for i in range(64):
        weight[:] = 0.0
        weight[i] = 1.5
        alone = rise_sums(share[i : i + 1], count[i : i + 1], weight[i : i + 1], 40.0)
        assert rise_sums(share, count, weight, 40.0) == alone


@pytest.mark.parametrize("x", [1e-100, 1e-10, 1.0, 9.9999, 10.0, 1e10, 1e100])
def test_extreme_counts_give_finite_rises(x):
    for s in (0.0, 1e-300, 1e-9, 1e17, 1e18, 1.1e18, 1e30, 1e300):
        log, psi, trigamma = one(x, s)
        assert np.isfinite([log, psi, trigamma]).all()
        assert psi >= 0.0 >= trigamma
        if s >= 1e17 and x <= 1e10:  # log Gamma(x) is far below
            assert log == pytest.approx(s * (math.log(s) - 1.0), rel=1e-5)
    assert one(x, 0.0) == (0.0, 0.0, 0.0)


def test_no_terms_are_nothing_and_lengths_must_agree():
    none, two = np.empty(0), np.ones(2)
    assert rise_sums(none, none, none, 1.0) == (0.0, 0.0, 0.0)
    assert log_rise_sum(none, none, none, 1.0) == 0.0
    for columns in ((two, two, none), (two, none, two), (none, two, two)):
        with pytest.raises(ValueError, match="one length"):
            rise_sums(*columns, 1.0)
    for place in (-1, len(kernel_names())):
        with pytest.raises(ValueError, match="kernel"):
            rise_sums(two, two, two, 1.0, place)
