"""How far answers are from the law they should follow: what a fast but wrong method would show.

A deviation is in units of its own standard error: the root of the mean square over cells, so that
chance alone gives about 1, for any number of decisions. The more decisions, the smaller the error
that it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from banditcore.propensity import top_probabilities

__all__ = [
    "ChiSquare",
    "Law",
    "beta_deviation",
    "chi_square",
    "rank_probabilities_by_trapezoid",
]

FloatArray = NDArray[np.float64]

_LEAST_EXPECTED = 10.0  # counts in a cell, for its square to follow chi-square
_LEAST_VARIANCE = 5.0  # of a count, for it to be near normal
_LEAST_CELLS = 3
_BINS = 200


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """Pearson's statistic, its degrees of freedom, and the p-value of so much or more."""

    statistic: float
    freedom: int
    p: float


def chi_square(observed: ArrayLike, expected: ArrayLike) -> ChiSquare:
    """Compare counts with what was expected of them; cells below 10 are pooled.

    Parameters
    ----------
    observed, expected : array_like of real numbers
        Counts of equal shape, with equal sums.

    Returns
    -------
    ChiSquare
        With p = 1 if no more than one cell is left.
    """
    found = np.ravel(np.asarray(observed, dtype=np.float64))
    law = np.ravel(np.asarray(expected, dtype=np.float64))
    small = law < _LEAST_EXPECTED
    if small.any():
        found = np.append(found[~small], found[small].sum())
        law = np.append(law[~small], law[small].sum())
        if law[-1] < _LEAST_EXPECTED and len(law) > 1:  # too rare together: join the rarest
            rarest = int(law[:-1].argmin())
            found[rarest] += found[-1]
            law[rarest] += law[-1]
            found, law = found[:-1], law[:-1]
    statistic = float(((found - law) ** 2 / law).sum())
    freedom = len(law) - 1
    p = float(special.chdtrc(freedom, statistic)) if freedom > 0 else 1.0
    return ChiSquare(statistic, freedom, p)


class Law:
    """The exact law of a posterior's top k: who is first, and who is among the k.

    Parameters
    ----------
    alpha, beta : (n,) float64
        As for `top_probabilities`, whose quadrature this is.
    k : int
        Length of a slate.
    first_only : bool
        Leave out who is among the k: for very many arms that takes minutes.
    """

    def __init__(
        self, alpha: FloatArray, beta: FloatArray, k: int, *, first_only: bool = False
    ) -> None:
        self._first = top_probabilities(alpha, beta, 1)
        self._among = None if k == 1 or first_only else top_probabilities(alpha, beta, k)

    def deviation(self, slates: NDArray[np.integer]) -> float:
        """Return how far (size, k) slates deviate, in standard errors; NaN if they are too few.

        Over the frequencies of both, being first and being among the k.
        """
        n, size = len(self._first), len(slates)
        squares = []
        for chance, arms in ((self._first, slates[:, 0]), (self._among, slates)):
            if chance is None:
                continue
            variance = size * chance * (1.0 - chance)
            kept = variance >= _LEAST_VARIANCE
            count = np.bincount(arms.ravel(), minlength=n)
            squares.append((count - size * chance)[kept] ** 2 / variance[kept])
        together = np.concatenate(squares)
        enough = together.size >= _LEAST_CELLS
        return float(np.sqrt(together.mean())) if enough else float("nan")


def beta_deviation(alpha: FloatArray, beta: FloatArray, draws: FloatArray) -> float:
    """Return how far (size, n) draws deviate from Beta(alpha, beta), in standard errors.

    Their distribution function is uniform: its values are counted in 200 bins.
    """
    levels = special.betainc(alpha, beta, draws)
    bins = np.minimum((levels.ravel() * _BINS).astype(np.int64), _BINS - 1)
    found = chi_square(np.bincount(bins, minlength=_BINS), np.full(_BINS, bins.size / _BINS))
    return float(np.sqrt(found.statistic / found.freedom))


def rank_probabilities_by_trapezoid(alpha: FloatArray, beta: FloatArray, k: int) -> FloatArray:
    """Return (n, k) rank probabilities by another road than `rank_probabilities`, for few arms.

    Densities and distribution functions of all arms on one even grid of log-odds; counts of
    better arms by products from both sides. On an even grid the trapezoidal rule errs by
    exp(-(2 pi sd / step)^2 / 2) for a bell of width sd. Time and memory grow with n k and with
    the ratio of the ranges to the narrowest arm.
    """
    mean = special.digamma(alpha) - special.digamma(beta)
    sd = np.sqrt(special.polygamma(1, alpha) + special.polygamma(1, beta))
    # Below the best arm's lower end nobody wins a rank above the k-th; tails are exponential.
    low, high = float((mean - 40 * sd).min()), float((mean + 40 * sd).max())
    floor = np.sort(mean - 12 * sd)[-k]
    grid = np.arange(max(low, float(floor)), high, float(sd.min()) / 2)
    x = special.expit(grid)
    a, b = alpha[:, None], beta[:, None]
    density = np.exp(a * grid - (a + b) * np.logaddexp(0.0, grid) - special.betaln(a, b))
    above = special.betaincc(a, b, x)
    n = len(alpha)
    before = np.zeros((n + 1, k, len(grid)))  # P(r of the arms before i exceed)
    before[0, 0] = 1.0
    after = before.copy()
    for i in range(n):
        before[i + 1] = _one_more(before[i], above[i])
        after[i + 1] = _one_more(after[i], above[n - 1 - i])
    ranks = np.zeros((n, k))
    for i in range(n):
        left, right = before[i], after[n - 1 - i]
        for rank in range(k):
            others = (left[: rank + 1] * right[rank::-1]).sum(axis=0)
            ranks[i, rank] = (density[i] * others).sum() * (grid[1] - grid[0])
    return ranks


def _one_more(counts: FloatArray, above: FloatArray) -> FloatArray:
    answer = counts * (1.0 - above)
    answer[1:] += counts[:-1] * above
    return answer
