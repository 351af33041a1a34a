"""Fits a Beta prior to the counts of many arms by penalised beta-binomial likelihood.

The model: arm i has an unknown rate p_i drawn from a Beta prior, and its s_i successes and f_i
failures are binomial given p_i. With p_i integrated out the log-likelihood of the prior is

    sum_i  log B(a_i + s_i, b_i + f_i) - log B(a_i, b_i),        B the beta function.

Counts may be real numbers (faded events): the formula stays smooth, though it is then a
composite likelihood, not the probability of an experiment.

Coordinates. A Beta(a, b) of mean m is described by m and by its *precision*
w = a b / (a + b) = (a + b) m (1 - m). The log-odds of its rates have variance
psi'(a) + psi'(b), about 1/w, so w says how alike the arms are whatever their base rate:
w = 4 is a spread of about 0.5 in log-odds, a factor of 1.6 between typical rates.

Penalty. Scarce data leave the likelihood without a maximum: no successes drive the mean to 0,
counts no more spread than binomial ones drive w to infinity. So both get a weak hyperprior:
sqrt(m (1 - m)), half a success and half a failure, for the mean; and the uniform shrinkage prior
w0 / (w0 + w)**2 for the precision (Christiansen and Morris, JASA 92, 1997; Daniels, Canadian J.
Statistics 27, 1999), which gives every degree of shrinkage w / (w0 + w) the same probability and
weighs no more than the data of about two arms. Its mode in log w is w0, which is what no data
give. Finally w stays within `MIN_PRECISION`..`MAX_PRECISION`: at the upper end the arms are
equal to within 1% in log-odds.

Sources: T. Minka, "Estimating a Dirichlet distribution" (2000), for likelihood and Newton steps
of the compound model; B. Efron, "Large-Scale Inference" (2010), for empirical Bayes with many
parallel cases.

Where the theory stops: the prior is a point estimate, so its own uncertainty is left out of the
posterior (noticeable below some ten arms with data); one Beta cannot describe arms that fall
into two groups; and choosing which arms to show makes trials depend on earlier successes, which
leaves the likelihood right but moves its information to the arms already favoured.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banditcore._rises import log_rise_sum, rise_sums
from banditcore.gamma import log_rise

__all__ = ["MAX_PRECISION", "MIN_PRECISION", "fit_beta", "fit_strength", "log_likelihood"]

FloatArray = NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray, FloatArray]]
Line = Callable[[float], tuple[float, float, float]]

MIN_PRECISION = 0.05
"""Smallest fitted w = a b / (a + b): rates scattered over some four units of log-odds."""
MAX_PRECISION = 1e4
"""Largest fitted w: rates equal to within 1% in log-odds."""
ROOT_PRECISION = 0.5
"""w0 of a prior fitted without a parent; no data at all give Beta(1, 1)."""
CHILD_PRECISION = 4.0
"""w0 of a child segment: its arms are expected to be like the parent's within a factor 1.6."""

_MIN_MEAN = 1e-7
_MOST_COUNT = 1e290  # sums of more, over arms, might not be finite: steps would lead nowhere
_COARSE_ARMS = 256
_MAX_STEPS = 200
_GAIN, _COARSE_GAIN = 1e-12, 1e-4  # the coarse one only finds where to start
_NEAR = 1e-3  # Newton steps in a logarithm that converge
_LAST_STEP = 1e-5  # the next would be about its square
_LONGEST_STEP, _SHORTEST_STEP = 3.0, 1e-12
_STARTS = (0.05, 0.2, 0.5, 1.0, 3.0, 10.0, 30.0, 1e2, 1e3, 1e4)


def fit_beta(successes: FloatArray, failures: FloatArray) -> tuple[float, float]:
    """Return (a, b) of the one Beta prior that fits all arms.

    Parameters
    ----------
    successes, failures : (n,) float64, >= 0, finite
        Arms without trials are ignored; none at all give (1, 1).
    """
    arms = _informative(successes, failures)
    s, f = arms
    low = np.array([special.logit(_MIN_MEAN), np.log(MIN_PRECISION)])
    high = np.array([-low[0], np.log(MAX_PRECISION)])
    pooled = (s.sum() + 0.5) / (s.sum() + f.sum() + 1.0)
    smoothed = ((s + 0.5) / (s + f + 1.0)).mean() if len(s) else pooled
    starts = [
        np.clip([special.logit(mean), np.log(w)], low, high)
        for mean in (pooled, smoothed)
        for w in _STARTS
    ]
    some, copies = _thinned(arms)
    coarse = _beta_objective(some, copies)
    at = max(starts, key=lambda start: coarse(start)[0])
    if copies > 1.0:
        at = _climb(coarse, at, low, high, enough=_COARSE_GAIN)
    at = _climb(_beta_objective(arms, 1.0), at, low, high)
    w = np.exp(at[1])
    return float(w / special.expit(-at[0])), float(w / special.expit(at[0]))


def fit_strength(successes: FloatArray, failures: FloatArray, mean: FloatArray) -> float:
    """Return kappa such that Beta(kappa m_i, kappa (1 - m_i)) fits arm i, for given means m_i.

    Parameters
    ----------
    successes, failures : (n,) float64, >= 0, finite
        Arms without trials are ignored.
    mean : (n,) float64, 1e-90 to 1 - 1e-16
        The prior mean m_i of each arm.

    Returns
    -------
    float
        kappa, in trials. kappa q, with q the geometric mean of m_i (1 - m_i), is the
        precision that the penalty and the bounds of this module apply to.
    """
    arms = _informative(successes, failures, mean)
    m = arms[2] if arms.shape[1] else mean
    if not len(m):
        return 4.0 * CHILD_PRECISION  # no arm at all: as if their mean were 1/2
    log_q = float(np.mean(np.log(m) + np.log1p(-m)))
    some, copies = _thinned(arms)
    coarse = _Strength(some, copies, log_q)
    at = max(map(math.log, _STARTS), key=coarse.value)
    if copies > 1.0:
        at = _climb_line(coarse, at, enough=_COARSE_GAIN)
    return math.exp(_climb_line(_Strength(arms, 1.0, log_q), at) - log_q)


def log_likelihood(
    successes: FloatArray, failures: FloatArray, a: FloatArray | float, b: FloatArray | float
) -> float:
    """Return sum_i log B(a_i + s_i, b_i + f_i) - log B(a_i, b_i), without any penalty."""
    one = np.ones(1)
    return float(
        log_rise(a * one, successes).sum()
        + log_rise(b * one, failures).sum()
        - log_rise((a + b) * one, successes + failures).sum()
    )


def _informative(successes: FloatArray, failures: FloatArray, *others: FloatArray) -> FloatArray:
    """Stack the columns of the arms with trials, ordered: an answer free of the arms' order."""
    columns = np.stack([successes, failures, *others]).astype(np.float64, copy=False)
    np.minimum(columns[:2], _MOST_COUNT, out=columns[:2])
    columns = columns.compress(columns[0] + columns[1] > 0, axis=1)
    trials = columns[0] + columns[1]
    # One key of all columns, mostly of trials, is sorted ten times as fast as all of them.
    key = trials + 0.25 * (columns[0] / trials + sum(columns[2:], np.zeros(1)))
    order = np.argsort(key)
    columns, key = columns.take(order, axis=1), key[order]
    same = key[1:] == key[:-1]
    if same.any() and (columns[:, 1:] != columns[:, :-1])[:, same].any():
        return columns[:, np.lexsort((*columns, columns[0] + columns[1]))]
    return columns


def _thinned(arms: FloatArray) -> tuple[FloatArray, float]:
    """Return evenly spaced arms, few enough to compare starts on, and how many one stands for."""
    n = arms.shape[1]
    stride = max(-(-n // _COARSE_ARMS), 1)
    some = arms[:, stride // 2 :: stride]
    return some, n / max(some.shape[1], 1)


def _beta_objective(arms: FloatArray, copies: float) -> Objective:
    """Penalised log-likelihood of (logit m, log w), each arm counted `copies` times."""
    s, f = arms
    # What an arm has none of adds 0.
    terms = [
        (np.ones(len(counts)), counts, np.full(len(counts), copies))
        for counts in (s[s > 0], f[f > 0], s + f)
    ]

    def objective(at: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        m, not_m, w = special.expit(at[0]), special.expit(-at[0]), np.exp(at[1])
        a, b = w / not_m, w / m
        (log_a, slope_a, curve_a), (log_b, slope_b, curve_b), (log_k, slope_k, curve_k) = (
            rise_sums(*of, x) for of, x in zip(terms, (a, b, a + b), strict=True)
        )
        by_a, by_b = slope_a - slope_k, slope_b - slope_k
        by_aa, by_bb, by_ab = curve_a - curve_k, curve_b - curve_k, -curve_k
        # a = w / (1 - m), b = w / m; d m = m (1 - m) d logit m
        first = np.array([[a * m, a], [-b * not_m, b]])  # d(a, b) / d(logit m, log w)
        gradient = first.T @ np.array([by_a, by_b])
        hessian = first.T @ np.array([[by_aa, by_ab], [by_ab, by_bb]]) @ first
        hessian += by_a * np.array([[a * m, a * m], [a * m, a]])
        hessian += by_b * np.array([[b * not_m, -b * not_m], [-b * not_m, b]])
        log_penalty, slope, curve = _shrinkage(at[1], ROOT_PRECISION)
        gradient += [0.5 * (not_m - m), slope]
        hessian += [[-m * not_m, 0.0], [0.0, curve]]
        value = log_a + log_b - log_k + 0.5 * (np.log(m) + np.log(not_m)) + log_penalty
        return float(value), gradient, hessian

    return objective


class _Strength:
    """Penalised log-likelihood of log(kappa q), each arm counted `copies` times."""

    def __init__(self, arms: FloatArray, copies: float, log_q: float) -> None:
        s, f, m = arms
        won, lost = s > 0, f > 0
        # All terms in one column: log B of (a, s), of (b, f), and with a minus of (a + b, n).
        share = np.concatenate((m[won], 1.0 - m[lost], np.ones(len(m))))
        weight = np.full(len(share), copies)
        weight[len(share) - len(m) :] = -copies
        self._terms = share, np.concatenate((s[won], f[lost], s + f)), weight
        self._log_q = log_q

    def value(self, at: float) -> float:
        """Return the first of what a call returns, in two thirds of the time."""
        logs: float = log_rise_sum(*self._terms, math.exp(at - self._log_q))
        return logs + _shrinkage(at, CHILD_PRECISION)[0]

    def __call__(self, at: float) -> tuple[float, float, float]:
        """Return the value at a log(kappa q), its slope and its curvature there."""
        kappa = math.exp(at - self._log_q)
        logs, psis, trigammas = rise_sums(*self._terms, kappa)
        value, slope, curve = _shrinkage(at, CHILD_PRECISION)
        by_log = kappa * psis
        return logs + value, by_log + slope, by_log + kappa * kappa * trigammas + curve


def _shrinkage(log_w: float, w0: float) -> tuple[float, float, float]:
    """Return the log-density of the uniform shrinkage prior in log w, its slope and curvature."""
    shrunk = 1.0 / (1.0 + w0 * math.exp(-log_w))
    curve = -2.0 * shrunk * (1.0 - shrunk)
    return math.log(shrunk) + math.log1p(-shrunk), 1.0 - 2.0 * shrunk, curve


def _climb_line(objective: Line, start: float, *, enough: float = _GAIN) -> float:
    """Maximise over log w within its bounds, by the steps of `_climb`, the last of them unseen."""
    low, high = math.log(MIN_PRECISION), math.log(MAX_PRECISION)
    at = start
    value, slope, curve = objective(at)
    for _ in range(_MAX_STEPS):
        step = slope / max(abs(curve), 1e-6)
        reached = min(max(at + min(max(step, -_LONGEST_STEP), _LONGEST_STEP), low), high)
        gain = (reached - at) * slope
        if gain < enough * (1.0 + 1e-3 * abs(value)) or abs(reached - at) < _LAST_STEP:
            return reached
        while True:
            result = objective(reached)
            # Close by, rounding may hide the rise; the slope still tells.
            near = abs(reached - at) < _NEAR and curve < 0.0
            if result[0] > value or (near and abs(result[1]) < abs(slope)):
                break
            reached = at + (reached - at) / 2.0
            if abs(reached - at) < _SHORTEST_STEP:
                return at
        at = reached
        value, slope, curve = result
    return at


def _climb(
    objective: Objective,
    start: FloatArray,
    low: FloatArray,
    high: FloatArray,
    *,
    enough: float = _GAIN,
) -> FloatArray:
    """Maximise by Newton steps within bounds, each step made to rise and halved until it does.

    It ends when a step promises less than `enough`, in units of the log-likelihood.
    """
    at = start
    value, gradient, hessian = objective(at)
    for _ in range(_MAX_STEPS):
        free = ~(((at <= low) & (gradient < 0)) | ((at >= high) & (gradient > 0)))
        if not free.any():
            break
        curves, axes = np.linalg.eigh(hessian[np.ix_(free, free)])
        # A saddle or a convex stretch: take the size of its curvature, and never a huge step.
        scale = np.maximum(np.abs(curves), 1e-6)
        step = np.zeros_like(at)
        step[free] = axes @ ((axes.T @ gradient[free]) / scale)
        gain = float(step @ gradient)
        if gain < enough * (1.0 + 1e-3 * abs(value)):
            break
        step *= min(1.0, _LONGEST_STEP / float(np.abs(step).max()))
        while True:
            reached = np.clip(at + step, low, high)
            result = objective(reached)
            if result[0] > value:
                break
            step /= 2.0
            if float(np.abs(step).max()) < _SHORTEST_STEP:
                return at  # rounding hides any further rise
        at = reached
        value, gradient, hessian = result
    return at
