"""Differences of log-gamma values that keep their digits; trigamma.

Sums over many arms of such differences, and of their derivatives, are compiled:
`banditcore._rises`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["log_rise", "stirling_tail", "trigamma"]

FloatArray = NDArray[np.float64]

_STIRLING_FROM = 32.0
_TRIGAMMA_FROM = 10.0  # whole; its seven terms there are right to 1e-15


def log_rise(x: FloatArray, s: FloatArray) -> FloatArray:
    """Return log Gamma(x + s) - log Gamma(x) for x > 0, s >= 0, with x of shape (1,) or that of s.

    Where x is large the two agree in most digits, so their difference comes from the Stirling
    series instead (DLMF 5.11).
    """
    large = x >= _STIRLING_FROM
    if large.all():
        return _series_rise(x, s)
    if not large.any():
        return special.gammaln(x + s) - special.gammaln(x)
    out = np.empty_like(s)
    out[large] = _series_rise(x[large], s[large])
    out[~large] = special.gammaln(x[~large] + s[~large]) - special.gammaln(x[~large])
    return out


def _series_rise(x: FloatArray, s: FloatArray) -> FloatArray:
    y = x + s
    ratio = np.log1p(s / x)
    return (x - 0.5) * ratio + s * (np.log(y) - 1.0) + stirling_tail(y) - stirling_tail(x)


def stirling_tail(x: FloatArray) -> FloatArray:
    """Return log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), to 1e-14 from x = 32 on."""
    r = 1.0 / (x * x)
    return (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) / x


def trigamma(x: FloatArray) -> FloatArray:
    """Return psi'(x) for (n,) x > 0, by psi'(x) = psi'(x + 1) + 1 / x**2 and its series."""
    small = x < _TRIGAMMA_FROM
    if not small.any():
        return _large_trigamma(x)
    out = _large_trigamma(np.where(small, x + _TRIGAMMA_FROM, x))
    shifted = x[small]
    below = np.zeros_like(shifted)
    for step in reversed(range(int(_TRIGAMMA_FROM))):  # the smallest first
        below += 1.0 / (shifted + step) ** 2
    out[small] += below
    return out


def _large_trigamma(x: FloatArray) -> FloatArray:
    i = 1.0 / x
    r = i * i
    tail = 1 / 30 - r * (1 / 42 - r * (1 / 30 - r * (5 / 66 - r * (691 / 2730 - r * (7 / 6)))))
    return i + 0.5 * r + r * i * (1 / 6 - r * tail)
