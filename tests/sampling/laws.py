"""What draws should follow: laws in log-odds, winners by quadrature, test statistics."""

from __future__ import annotations

import numpy as np
from scipy import special

from banditcore.benchmarking.accuracy import chi_square

ULP_BELOW, ULP_ABOVE = 1 - 2.0**-53, 1 + 2.0**-52
SHAPES = np.array([1e-3, 0.1, 0.5, ULP_BELOW, 1.0, ULP_ABOVE, 2.0, 50.0, 1e4, 1e8, 1e12])
GRID_A, GRID_B = (side.ravel() for side in np.meshgrid(SHAPES, SHAPES, indexing="ij"))


def cdf_of_log_odds(a, b, log_odds):
    """P(logit X <= log_odds) for X ~ Beta(a, b); right where x itself rounds to 0 or 1."""
    log_odds = np.asarray(log_odds)
    if np.ndim(a) == 0 and min(a, b) > 1e6 and log_odds.size > 4_001:
        # betainc takes 40 us here. A straight line between 4,001 points errs by less than 1e-6.
        knots = np.linspace(log_odds.min(), log_odds.max(), 4_001)
        return np.interp(log_odds, knots, cdf_of_log_odds(a, b, knots))
    a, b, log_odds = np.broadcast_arrays(a, b, log_odds)
    below = _lower_tail(a, b, np.minimum(log_odds, 0.0))
    above = _lower_tail(b, a, np.minimum(-log_odds, 0.0))
    return np.where(log_odds < 0, below, 1.0 - above)


def _lower_tail(a, b, log_odds):
    x = special.expit(log_odds)
    # Below 1e-280 the function is x^a / (a B(a, b)); no b up to 1e12 bends it.
    with np.errstate(over="ignore"):
        tail = np.exp(np.minimum(a * log_odds - np.log(a) - special.betaln(a, b), 0.0))
    return np.where(log_odds < -640.0, tail, special.betainc(a, b, x))


def kolmogorov_smirnov(values):
    """The greatest distance between the distribution function of `values` and that of U(0, 1)."""
    n = len(values)
    ordered = np.sort(values)
    steps = np.arange(n + 1) / n
    return max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max())


def critical_distance(n, false_alarm):
    """A distance that n uniform values exceed with at most this probability (Massart, 1990)."""
    return np.sqrt(np.log(2.0 / false_alarm) / (2.0 * n))


def pair_probabilities(a, b, weight=None, points=40_001):
    """(n, n): P(arm i has the greatest weight x rate and arm j the next), by quadrature."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    n = len(a)
    log_w = np.zeros(n) if weight is None else np.log(np.asarray(weight, float))
    # On the axis y = log-odds (unweighted), or y = log(weight x rate). Cells of equal width.
    low, high = _ends(a, b, log_w, weighted=weight is not None)
    y = np.linspace(low, high, points)
    if weight is None:  # and finer where an arm is narrow
        centre = special.digamma(a) - special.digamma(b)
        width = np.sqrt(special.polygamma(1, a) + special.polygamma(1, b))
        fine = centre[:, None] + width[:, None] * np.linspace(-8, 8, 4_001)
        y = np.unique(np.concatenate([y, fine.ravel()]))
        cdf = cdf_of_log_odds(a[:, None], b[:, None], y)
    else:
        x = np.exp(np.minimum(y - log_w[:, None], 0.0))
        cdf = special.betainc(a[:, None], b[:, None], x)
    mass = np.diff(cdf, axis=1)
    middle = 0.5 * (cdf[:, 1:] + cdf[:, :-1])
    answer = np.zeros((n, n))
    for first in range(n):
        for second in range(n):
            if first != second:
                others = np.delete(middle, [first, second], axis=0).prod(axis=0)
                answer[first, second] = (mass[second] * (1.0 - middle[first]) * others).sum()
    return answer


def _ends(a, b, log_w, *, weighted):
    if weighted:
        # The winner is at least the greatest of the arms' 1e-12 quantiles or so; all end at w.
        low = (np.log(np.maximum(special.betaincinv(a, b, 1e-9), 1e-30)) + log_w).min()
        return low, log_w.max()
    low = special.logit(special.betaincinv(a, b, 1e-12)).min()
    return low, -special.logit(special.betaincinv(b, a, 1e-12)).min()


def chi_square_p(observed, expected):
    """P-value of observed against expected counts, cells below 10 pooled."""
    return chi_square(observed, expected).p
