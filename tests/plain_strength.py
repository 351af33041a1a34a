"""`fit_strength` by numpy and scipy alone: the same search, with a slow and readable likelihood."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from banditcore import empirical_bayes, gamma
from banditcore.empirical_bayes import CHILD_PRECISION


def rises(x, s):
    """Return f(x + s) - f(x) for log-gamma, psi and psi', by Stirling's series (DLMF 5.11)."""
    y, up = x + s, np.full_like(x, 32.0)
    small = x < up
    log, psi, trigamma = _series(np.where(small, up, x), s)
    x, y = x[small], y[small]
    log[small] = special.gammaln(y) - special.gammaln(x)
    psi[small] = special.psi(y) - special.psi(x)
    trigamma[small] = gamma.trigamma(y) - gamma.trigamma(x)
    return log, psi, trigamma


def _series(x, s):
    y = x + s
    ratio, lead = np.log1p(s / x), s / (x * y)
    (log_x, psi_x, trigamma_x), (log_y, psi_y, trigamma_y) = _tails(x), _tails(y)
    return (
        (x - 0.5) * ratio + s * (np.log(y) - 1.0) + (log_y - log_x),
        ratio + 0.5 * lead + (psi_y - psi_x),
        -lead - 0.5 * lead * (1.0 / x + 1.0 / y) + (trigamma_y - trigamma_x),
    )


def _tails(x):
    r = 1.0 / (x * x)
    return (
        (1.0 / 12.0 - r * (1.0 / 360.0 - r / 1260.0)) / x,
        -r * (1.0 / 12.0 - r * (1.0 / 120.0 - r / 252.0)),
        r / x * (1.0 / 6.0 - r * (1.0 / 30.0 - r / 42.0)),
    )


class PlainStrength:
    """As `empirical_bayes._Strength`."""

    def __init__(self, arms, copies, log_q):
        s, f, m = arms
        self._share = np.concatenate((m, 1.0 - m, np.ones(len(m))))
        self._counts = np.concatenate((s, f, s + f))
        self._weight = copies * np.repeat((1.0, 1.0, -1.0), len(m))
        self._log_q = log_q

    def value(self, at):
        kappa = math.exp(at - self._log_q)
        logs = (self._weight * gamma.log_rise(kappa * self._share, self._counts)).sum()
        return float(logs + _shrinkage(at)[0])

    def __call__(self, at):
        kappa = math.exp(at - self._log_q)
        log, psi, trigamma = rises(kappa * self._share, self._counts)
        slope = kappa * (self._weight * self._share * psi).sum()
        bend = kappa**2 * (self._weight * self._share**2 * trigamma).sum()
        penalty, penalty_slope, penalty_bend = _shrinkage(at)
        return (
            float((self._weight * log).sum() + penalty),
            float(slope + penalty_slope),
            float(bend + slope + penalty_bend),
        )


def _shrinkage(at):
    shrunk = special.expit(at - math.log(CHILD_PRECISION))
    return np.log(shrunk) + np.log1p(-shrunk), 1.0 - 2.0 * shrunk, -2.0 * shrunk * (1.0 - shrunk)


def plain_strength(successes, failures, mean):
    """Return what `fit_strength` does, for arms of which one has trials at least."""
    arms = empirical_bayes._informative(successes, failures, mean)
    log_q = float(np.mean(np.log(arms[2]) + np.log1p(-arms[2])))
    some, copies = empirical_bayes._thinned(arms)
    coarse = PlainStrength(some, copies, log_q)
    at = max(map(math.log, empirical_bayes._STARTS), key=coarse.value)
    at = empirical_bayes._climb_line(coarse, at, enough=empirical_bayes._COARSE_GAIN)
    return math.exp(empirical_bayes._climb_line(PlainStrength(arms, 1.0, log_q), at) - log_q)
