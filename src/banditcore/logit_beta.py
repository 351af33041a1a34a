"""Beta distributions on the logit axis: density, tails and quantiles for parameters 1e-3..1e12.

With t = log(x / (1 - x)) the density of a Beta(a, b) variable x is, up to a constant,
exp(-D(t)), where

    D(t) = (a + b) log(1 - p + p exp(t - t0)) - a (t - t0),   p = a / (a + b),  t0 = log(a / b),

which is convex, 0 at the mode t0, and has no end to be singular at, whatever a and b. Two facts
are used throughout. Because the density is log-concave, the mass beyond the point where it has
dropped by exp(-d) is at most exp(-d) / (1 - exp(-d)). And D is computed as a difference from
the mode, with p <= 1/2 by swapping a and b: a log(x) + b log(1 - x) - log B(a, b) has lost
four digits before 1e12.

Tails come from the incomplete beta function; from precision a b / (a + b) = 1e6 on, where that
slows down and strays, from Lugannani and Rice's saddlepoint formula (Adv. Appl. Prob. 12, 1980),
whose error falls like the precision to the power -3/2.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banditcore.errors import InvalidValueError, describe
from banditcore.gamma import log_rise, stirling_tail

__all__ = ["LARGEST", "SMALLEST", "LogitBeta", "log_expit", "logit_of_log"]

FloatArray = NDArray[np.float64]

SMALLEST, LARGEST = 1e-10, 1e18
"""The range of parameters."""

_SADDLEPOINT_FROM = 1e6
_UNDERFLOW = 690.0  # exp(-690) is still a normal float
_LOG_SQRT_2PI = 0.5 * np.log(2.0 * np.pi)


class LogitBeta:
    """The logits of n independent Beta(a, b) variables.

    Parameters
    ----------
    a, b : (n,) float64
        Made for 1e-3..1e12; usable, with fewer digits, in 1e-10..1e18.

    Raises
    ------
    InvalidValueError
        If a parameter is outside of that.
    """

    def __init__(self, a: FloatArray, b: FloatArray) -> None:
        for name, column in (("alpha", a), ("beta", b)):
            outside = ~((column >= SMALLEST) & (column <= LARGEST))
            if outside.any():
                at = int(outside.argmax())
                raise InvalidValueError(
                    describe(
                        f"a value of {name}",  # its place here need not be the caller's
                        float(column[at]),
                        f"exact tails are computed within {SMALLEST:g}..{LARGEST:g}",
                    )
                )
        self._a, self._b = a, b
        self._sign = np.where(a > b, -1.0, 1.0)  # below, a <= b: the other case is its mirror
        self._small, self._large = np.minimum(a, b), np.maximum(a, b)
        self._sum = a + b
        self.mode = np.log(a) - np.log(b)
        """(n,): where the density on the logit axis is highest."""
        self._p = self._small / self._sum
        self._log_p = np.log(self._p)
        self._log_q = np.log1p(-self._p)
        self.precision = self._small * (1.0 - self._p)
        """(n,): a b / (a + b), the curvature of the log-density at the mode."""
        self._log_peak = _log_peak(self._small, self._large, self._log_p, self._log_q)

    def __len__(self) -> int:
        return len(self._a)

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> LogitBeta:
        """Return the distributions at the indices, or under the mask, `which`."""
        part = copy(self)
        for name, column in vars(self).items():
            setattr(part, name, column[which])
        return part

    def log_density(self, t: FloatArray) -> FloatArray:
        """Return the log-density of the logit; `t`: (n, m), one row a distribution."""
        return self._log_peak[:, None] - self._drop((t - self.mode[:, None]) * self._sign[:, None])

    def tails(self, t: FloatArray, no_mass: float = 740.0) -> tuple[FloatArray, FloatArray]:
        """Return (P(logit <= t), P(logit > t)); `t`: (n, m). The smaller has all its digits.

        Where the density is below exp(-no_mass) of its peak, the smaller is given as 0.
        """
        step = (t - self.mode[:, None]) * self._sign[:, None]
        drop = self._drop(step)
        below = step <= 0
        near = drop < no_mass  # beyond 745 it would underflow; it is below exp(-745)
        tail = np.zeros(t.shape)
        wide = np.broadcast_to((self.precision < _SADDLEPOINT_FROM)[:, None], t.shape)
        i, j = np.nonzero(near & wide)
        tail[i, j] = self._beta_tail(i, t[i, j] * self._sign[i], below[i, j], drop[i, j])
        i, j = np.nonzero(near & ~wide)
        tail[i, j] = self._saddlepoint_tail(i, step[i, j])
        lower = below == (self._sign[:, None] > 0)  # whether `tail` is the lower one here
        return np.where(lower, tail, 1.0 - tail), np.where(lower, 1.0 - tail, tail)

    def rough_tails(self, t: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return a guess of `tails`, up to a fifth off where a, b >= 1, but cheap; `t`: (n, m)."""
        step = (t - self.mode[:, None]) * self._sign[:, None]
        r = np.sqrt(2.0 * self._drop(step))
        u = np.abs(self._slope(step.T).T) / np.sqrt(self.precision)[:, None]
        middle = (r < 0.05) | (u < 0.05)  # the formula is a difference of two poles there
        r, u = np.where(middle, 1.0, r), np.where(middle, 1.0, u)
        tail = special.ndtr(-r) + np.exp(-0.5 * r * r - _LOG_SQRT_2PI) * (1.0 / u - 1.0 / r)
        tail = np.where(middle, 0.5, np.clip(tail, 0.0, 1.0))
        lower = t <= self.mode[:, None]
        return np.where(lower, tail, 1.0 - tail), np.where(lower, 1.0 - tail, tail)

    def drop_points(self, *drops: float) -> list[tuple[FloatArray, FloatArray]]:
        """Return (low, high), (n,) each, a drop: where the density is exp(-drop) of its peak.

        At most exp(-drop) / (1 - exp(-drop)) of the mass lies below `low`, as much above `high`.
        """
        goal = np.repeat(drops, 2)
        side = np.tile([-1.0, 1.0], len(drops))
        step = side * np.sqrt(2.0 * goal / self.precision[:, None])
        # D is convex: from inside one Newton step leads out, from outside they come back
        # to the root and never cross it.
        for _ in range(60):
            change = (self._drop(step) - goal) / self._slope(step.T).T
            step = step - change
            if np.all(np.abs(change) <= 1e-6 * np.abs(step)):
                break
        ends = self.mode[:, None] + self._sign[:, None] * step
        pairs = ends.reshape(len(self), len(drops), 2)
        return list(zip(pairs.min(axis=2).T, pairs.max(axis=2).T, strict=True))

    def quantile(self, probability: float) -> FloatArray:
        """Return the logit that each variable stays below with `probability` <= 1/2, (n,)."""
        ((t, high),) = self.drop_points(1.0 - float(np.log(probability)))
        gauss = special.ndtri(probability) / np.sqrt(self.precision)
        t = np.clip(self.mode + gauss, t, high)
        goal = np.log(probability)
        # The distribution function is log-concave too: Newton on its logarithm never overshoots
        # from the left, and one step from the right leads there.
        for _ in range(100):
            lower = self.tails(t[:, None])[0][:, 0]
            rate = np.exp(self.log_density(t[:, None])[:, 0])
            change = (np.log(lower) - goal) * lower / rate
            t = t - change
            if np.all(np.abs(change) <= 1e-9 / np.sqrt(self.precision) + 1e-15 * np.abs(t)):
                break
        return t

    def _slope(self, step: FloatArray) -> FloatArray:
        """Return D', for steps (..., n) from the mode in mirrored orientation."""
        mirrored = (self.mode * self._sign) + step
        return self._sum * special.expit(mirrored) - self._small

    def _drop(self, step: FloatArray) -> FloatArray:
        """Return D >= 0 for steps (n, m) from the mode, in mirrored orientation."""
        far = step > _UNDERFLOW
        some_far = far.any()
        drop = np.expm1(np.minimum(step, _UNDERFLOW) if some_far else step)
        drop *= self._p[:, None]
        np.log1p(drop, out=drop)
        if some_far:
            drop[far] = np.logaddexp(self._log_q[:, None], self._log_p[:, None] + step)[far]
        drop *= self._sum[:, None]
        drop -= self._small[:, None] * step
        # Near the mode of a narrow one the difference cancels; there the cumulants converge.
        narrow = np.flatnonzero(self.precision >= _SADDLEPOINT_FROM)
        if len(narrow):
            close = np.abs(step[narrow]) < 0.02
            scale = self.precision[narrow, None] * step[narrow] ** 2 / 2.0
            value, _ = self._cumulants(narrow[:, None], step[narrow])
            drop[narrow] = np.where(close, scale * (1.0 + value), drop[narrow])
        return np.maximum(drop, 0.0, out=drop)

    def _cumulants(self, rows: NDArray[np.intp], step: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return A, B of D = w step**2 (1 + A) / 2 and D' = w step (1 + B), for |step| < 0.02."""
        p = self._p[rows]
        v = p * (1.0 - p)
        d = 1.0 - 2.0 * p
        # Cumulants 3..7 of a Bernoulli(p) variable, over the second, v.
        k3, k4, k5 = d, 1.0 - 6.0 * v, d * (1.0 - 12.0 * v)
        k6 = 1.0 - 30.0 * v + 120.0 * v * v
        k7 = d * (1.0 - 60.0 * v + 360.0 * v * v)
        s = step
        value = s * (k3 / 3 + s * (k4 / 12 + s * (k5 / 60 + s * (k6 / 360 + s * k7 / 2520))))
        slope = s * (k3 / 2 + s * (k4 / 6 + s * (k5 / 24 + s * (k6 / 120 + s * k7 / 720))))
        return value, slope

    def _beta_tail(
        self, rows: NDArray[np.intp], t: FloatArray, below: NDArray[np.bool_], drop: FloatArray
    ) -> FloatArray:
        """Return the mass on the far side of `t` from the mode, in mirrored orientation."""
        a, b = self._small[rows], self._large[rows]
        tail = np.empty(len(t))
        left, middle, right = below, ~below & (t <= 0), ~below & (t > 0)
        tail[left] = special.betainc(a[left], b[left], special.expit(t[left]))
        tail[middle] = special.betaincc(a[middle], b[middle], special.expit(t[middle]))
        tail[right] = special.betainc(b[right], a[right], special.expit(-t[right]))
        # There the density is a pure exponential of rate a or b, though x itself underflows.
        density = self._log_peak[rows] - drop
        tail = np.where(t < -_UNDERFLOW, np.exp(density - np.log(a)), tail)
        return np.where(t > _UNDERFLOW, np.exp(density - np.log(b)), tail)

    def _saddlepoint_tail(self, rows: NDArray[np.intp], step: FloatArray) -> FloatArray:
        step = np.where(np.abs(step) < 1e-15, -1e-15, step)  # the formula divides by it
        value, slope = self._cumulants(rows, step)
        root = np.sqrt(self.precision[rows]) * step
        r = root * np.sqrt(1.0 + value)
        # 1 / r - 1 / u with u = root (1 + slope), free of cancellation
        gap = (np.expm1(-0.5 * np.log1p(value)) + slope / (1.0 + slope)) / root
        density = np.exp(-0.5 * r * r - _LOG_SQRT_2PI)
        tail = special.ndtr(-np.abs(r)) + np.where(r < 0, gap, -gap) * density
        clipped: FloatArray = np.clip(tail, 0.0, 1.0)
        return clipped


def log_expit(t: FloatArray) -> FloatArray:
    """Return log(x) of the x whose logit is t."""
    log_x: FloatArray = -np.logaddexp(0.0, -t)
    return log_x


def logit_of_log(log_x: FloatArray) -> FloatArray:
    """Return the logit of x from log(x) < 0; infinity from 0 on."""
    below = log_x < 0
    safe = np.where(below, log_x, -1.0)
    return np.where(below, safe - np.log(-np.expm1(safe)), np.inf)


def _log_peak(
    small: FloatArray, large: FloatArray, log_p: FloatArray, log_q: FloatArray
) -> FloatArray:
    """Return the log-density at the mode: a log p + b log q - log B(a, b), without cancellation."""
    total = small + large
    plain = small * log_p + large * log_q - special.gammaln(small) + log_rise(large, small)
    safe = np.maximum(small, 32.0)
    stirling = (
        0.5 * np.log(small * (large / total))
        - _LOG_SQRT_2PI
        + stirling_tail(np.maximum(total, 32.0))
        - stirling_tail(safe)
        - stirling_tail(np.maximum(large, 32.0))
    )
    return np.where(small >= 32.0, stirling, plain)
