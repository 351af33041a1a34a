"""Quantiles by going back through the distribution function, and by closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.sampling import quantile
from sampling.laws import SHAPES

LEVELS = [1e-300, 1e-100, 1e-12, 1e-6, 1e-3, 0.025, 0.1, 0.5, 0.9, 0.975, 0.999, 1 - 1e-6]


def test_the_way_back_over_the_extreme_grid():
    a, b, q = (side.ravel() for side in np.meshgrid(SHAPES, SHAPES, LEVELS, indexing="ij"))
    x = quantile(a, b, q)
    assert ((x >= 0) & (x <= 1)).all()
    miss = np.abs(special.betainc(a, b, x) - q)
    allowed = 1e-8 * np.minimum(q, 1 - q) + 1e-11
    below = special.betainc(a, b, np.nextafter(x, 0))
    above = special.betainc(a, b, np.nextafter(x, 1))
    nearest = (below <= q) & (q <= above)
    underflow = (x < 2.3e-308) & (special.betainc(a, b, np.finfo(float).tiny) >= q)
    wrong = ~((miss <= allowed) | nearest | underflow)
    assert not wrong.any(), np.column_stack([a, b, q, x])[wrong][:5]


def test_closed_forms():
    q = np.array([1e-250, 1e-100, 1e-30, 1e-12, 1e-3, 0.3, 0.999])
    np.testing.assert_allclose(quantile(np.ones(7), np.ones(7), q), q, rtol=1e-12)
    a = np.full(7, 0.25)
    np.testing.assert_allclose(quantile(a, np.ones(7), q), q**4, rtol=1e-11)
    b = np.full(7, 40.0)
    exact = -np.expm1(np.log1p(-q) / 40.0)
    np.testing.assert_allclose(quantile(np.ones(7), b, q), exact, rtol=1e-11)


def test_below_the_smallest_normal_number():
    """scipy stops at 2.2e-308, though Beta(1e-3, 2) has half of its mass below it."""
    assert 2.2e-308 < special.betaincinv(1e-3, 2.0, 0.1) < 2.3e-308
    found = quantile([0.01, 0.01, 1e-3], [1.0, 1.0, 1.0], [10**-3.15, 1e-4, 0.4])
    np.testing.assert_allclose(found[0], 1e-315, rtol=1e-8)  # 2e8 steps of a subnormal
    assert found[1] == 0.0
    assert found[2] == 0.0


def test_levels():
    assert quantile([2.0, 3.0], [5.0, 1.0], 0).tolist() == [0.0, 0.0]
    assert quantile([2.0, 3.0], [5.0, 1.0], 1.0).tolist() == [1.0, 1.0]
    low, high = quantile([2.0], [5.0], 0.1), quantile([2.0], [5.0], 0.9)
    assert quantile([2.0, 2.0], [5.0, 5.0], [0.1, 0.9]).tolist() == [low[0], high[0]]


@pytest.mark.parametrize(
    ("q", "error"),
    [
        (-0.1, InvalidValueError),
        (1.1, InvalidValueError),
        (np.nan, InvalidValueError),
        ([0.5, 0.5, 0.5], InvalidValueError),
        ([[0.5, 0.5]], InvalidValueError),
        ("0.5", InvalidTypeError),
        (None, InvalidTypeError),
        (1j, InvalidTypeError),
    ],
)
def test_bad_levels_are_refused(q, error):
    with pytest.raises(error, match=r"^(the shape of )?q"):
        quantile([2.0, 3.0], [5.0, 1.0], q)


def test_parameters_beyond_what_can_be_inverted_are_refused():
    with pytest.raises(InvalidValueError, match=r"1e\+12"):
        quantile([1e13], [1.0], 0.5)
