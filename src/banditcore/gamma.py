"""Differences of log-gamma, digamma and trigamma values that keep their digits.

f(x + s) - f(x) for s >= 0, with x of shape (1,) or that of s. Where x is large the two terms
agree in most digits, so their difference comes from the Stirling series instead (DLMF 5.11).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = ["log_rise", "psi_rise", "rises", "stirling_tail", "trigamma", "trigamma_rise"]

FloatArray = NDArray[np.float64]

_STIRLING_FROM = 32.0
_TRIGAMMA_FROM = 10.0  # whole; its seven terms there are right to 1e-15


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


def rises(x: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return `log_rise`, `psi_rise` and `trigamma_rise` of the same (n,) x > 0 and (n,) s >= 0.

    They share what they are made of, so all cost little more than one.
    """
    small = x < _STIRLING_FROM
    count = int(np.count_nonzero(small))
    if count == 0:
        return _series_rises(x, s)
    if count == len(x):
        return _plain_rises(x, s)
    out = tuple(np.empty_like(s) for _ in range(3))
    for where, of in ((small, _plain_rises), (~small, _series_rises)):
        for whole, part in zip(out, of(x[where], s[where]), strict=True):
            whole[where] = part
    return out[0], out[1], out[2]


def _series_rises(x: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    y = x + s
    ratio, lead = np.log1p(s / x), s / (x * y)
    tails_x, tails_y = _tails(x), _tails(y)
    return (
        (x - 0.5) * ratio + s * (np.log(y) - 1.0) + (tails_y[0] - tails_x[0]),
        ratio + 0.5 * lead + (tails_y[1] - tails_x[1]),
        -lead - 0.5 * lead * (1.0 / x + 1.0 / y) + (tails_y[2] - tails_x[2]),
    )


def _plain_rises(x: FloatArray, s: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    y = x + s
    return (
        special.gammaln(y) - special.gammaln(x),
        special.psi(y) - special.psi(x),
        trigamma(y) - trigamma(x),
    )


def _tails(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return `stirling_tail`, `_psi_tail` and `_trigamma_tail`."""
    i = 1.0 / x
    r = i * i
    return (
        (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) * i,
        -r * (1.0 / 12.0 - r * (1.0 / 120.0 - r / 252.0)),
        r * i * (1.0 / 6.0 - r * (1.0 / 30.0 - r / 42.0)),
    )


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
