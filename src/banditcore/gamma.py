"""Differences of log-gamma, digamma and trigamma values that keep their digits.

f(x + s) - f(x) for s >= 0, with x of shape (1,) or that of s. Where x is large the two terms
agree in most digits, so their difference comes from the Stirling series instead (DLMF 5.11).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["log_rise", "psi_rise", "stirling_tail", "trigamma", "trigamma_rise"]

FloatArray = NDArray[np.float64]

_STIRLING_FROM = 32.0


def log_rise(x: FloatArray, s: FloatArray) -> FloatArray:
    """Return log Gamma(x + s) - log Gamma(x)."""

    def series(x: FloatArray, s: FloatArray) -> FloatArray:
        y = x + s
        ratio = np.log1p(s / x)
        return (x - 0.5) * ratio + s * (np.log(y) - 1.0) + stirling_tail(y) - stirling_tail(x)

    return _rise(x, s, lambda x, s: special.gammaln(x + s) - special.gammaln(x), series)


def psi_rise(x: FloatArray, s: FloatArray) -> FloatArray:
    """Return psi(x + s) - psi(x)."""

    def series(x: FloatArray, s: FloatArray) -> FloatArray:
        y = x + s
        return np.log1p(s / x) + s / (2.0 * x * y) + _psi_tail(y) - _psi_tail(x)

    return _rise(x, s, lambda x, s: special.psi(x + s) - special.psi(x), series)


def trigamma_rise(x: FloatArray, s: FloatArray) -> FloatArray:
    """Return psi'(x + s) - psi'(x)."""

    def series(x: FloatArray, s: FloatArray) -> FloatArray:
        y = x + s
        lead = -s / (x * y)
        return lead + lead * (x + y) / (2.0 * x * y) + _trigamma_tail(y) - _trigamma_tail(x)

    return _rise(x, s, lambda x, s: trigamma(x + s) - trigamma(x), series)


def _rise(
    x: FloatArray,
    s: FloatArray,
    plain: Callable[[FloatArray, FloatArray], FloatArray],
    series: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    large = x >= _STIRLING_FROM
    if large.all():
        return series(x, s)
    if not large.any():
        return plain(x, s)
    out = np.empty_like(s)
    out[large] = series(x[large], s[large])
    out[~large] = plain(x[~large], s[~large])
    return out


def stirling_tail(x: FloatArray) -> FloatArray:
    """Return log Gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), to 1e-14 from x = 32 on."""
    r = 1.0 / (x * x)
    return (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) / x


def _psi_tail(x: FloatArray) -> FloatArray:
    r = 1.0 / (x * x)
    return -r * (1.0 / 12.0 - r * (1.0 / 120.0 - r / 252.0))


def _trigamma_tail(x: FloatArray) -> FloatArray:
    r = 1.0 / (x * x)
    return r / x * (1.0 / 6.0 - r * (1.0 / 30.0 - r / 42.0))


def trigamma(x: FloatArray) -> FloatArray:
    """Return psi'(x): zeta(2, x), or where x is large its series, many times faster."""
    out = (1.0 + 0.5 / x) / x + _trigamma_tail(x)
    small = x < _STIRLING_FROM
    out[small] = special.zeta(2.0, x[small])
    return out
