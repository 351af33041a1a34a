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

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from banditcore.gamma import log_rise, psi_rise, rises, trigamma_rise

__all__ = ["MAX_PRECISION", "MIN_PRECISION", "fit_beta", "fit_strength", "log_likelihood"]

FloatArray = NDArray[np.float64]
Objective = Callable[[FloatArray], tuple[float, FloatArray, FloatArray]]

MIN_PRECISION = 0.05
"""Smallest fitted w = a b / (a + b): rates scattered over some four units of log-odds."""
MAX_PRECISION = 1e4
"""Largest fitted w: rates equal to within 1% in log-odds."""
ROOT_PRECISION = 0.5
"""w0 of a prior fitted without a parent; no data at all give Beta(1, 1)."""
CHILD_PRECISION = 4.0
"""w0 of a child segment: its arms are expected to be like the parent's within a factor 1.6."""

_MIN_MEAN = 1e-7
_COARSE_ARMS = 256
_MAX_STEPS = 200
_GAIN, _COARSE_GAIN = 1e-12, 1e-4  # the coarse one only finds where to start
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
        np.array([special.logit(mean), np.log(w)]) for mean in (pooled, smoothed) for w in _STARTS
    ]
    at = _search(_beta_objective, arms, starts, low, high)
    w = np.exp(at[1])
    return float(w / special.expit(-at[0])), float(w / special.expit(at[0]))


def fit_strength(successes: FloatArray, failures: FloatArray, mean: FloatArray) -> float:
    """Return kappa such that Beta(kappa m_i, kappa (1 - m_i)) fits arm i, for given means m_i.

    Parameters
    ----------
    successes, failures : (n,) float64, >= 0, finite
        Arms without trials are ignored.
    mean : (n,) float64, within (0, 1)
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
    low, high = np.log([[MIN_PRECISION], [MAX_PRECISION]])

    objective = partial(_strength_objective, log_q=log_q)

    starts = [np.array([np.log(w)]) for w in _STARTS]
    return float(np.exp(_search(objective, arms, starts, low, high)[0] - log_q))


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
    columns = np.stack([successes, failures, *others]).astype(np.float64)
    columns = columns[:, successes + failures > 0]
    return columns[:, np.lexsort((*columns, columns[0] + columns[1]))]


def _beta_objective(
    arms: FloatArray,
    copies: float,
    *,
    value_only: bool = False,  # noqa: ARG001  # one fit a bandit: not worth a second way
) -> Objective:
    """Penalised log-likelihood of (logit m, log w), each arm counted `copies` times."""
    s, f = arms
    s, f, n = s[s > 0], f[f > 0], s + f  # what an arm has none of adds 0

    def objective(at: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        m, not_m, w = special.expit(at[0]), special.expit(-at[0]), np.exp(at[1])
        a, b = np.array([w / not_m]), np.array([w / m])
        k = a + b
        value = copies * (log_rise(a, s).sum() + log_rise(b, f).sum() - log_rise(k, n).sum())
        slope_k, curve_k = psi_rise(k, n).sum(), trigamma_rise(k, n).sum()
        by_a = copies * (psi_rise(a, s).sum() - slope_k)
        by_b = copies * (psi_rise(b, f).sum() - slope_k)
        by_aa = copies * (trigamma_rise(a, s).sum() - curve_k)
        by_bb = copies * (trigamma_rise(b, f).sum() - curve_k)
        by_ab = -copies * curve_k
        # a = w / (1 - m), b = w / m; d m = m (1 - m) d logit m
        a_, b_ = a[0], b[0]
        first = np.array([[a_ * m, a_], [-b_ * not_m, b_]])  # d(a, b) / d(logit m, log w)
        gradient = first.T @ np.array([by_a, by_b])
        hessian = first.T @ np.array([[by_aa, by_ab], [by_ab, by_bb]]) @ first
        hessian += by_a * np.array([[a_ * m, a_ * m], [a_ * m, a_]])
        hessian += by_b * np.array([[b_ * not_m, -b_ * not_m], [-b_ * not_m, b_]])
        value += 0.5 * (np.log(m) + np.log(not_m))
        gradient[0] += 0.5 * (not_m - m)
        hessian[0, 0] -= m * not_m
        return _with_precision(value, gradient, hessian, at[1], ROOT_PRECISION)

    return objective


def _strength_objective(
    arms: FloatArray, copies: float, log_q: float, *, value_only: bool = False
) -> Objective:
    """Penalised log-likelihood of log(kappa q), each arm counted `copies` times.

    With `value_only` gradient and Hessian are left at 0, which takes a third of the time.
    """
    s, f, m = arms
    n = s + f
    won, lost = s > 0, f > 0
    # All terms in one column: log B of (a, s), of (b, f), and with a minus of (a + b, n).
    share = np.concatenate((m[won], 1.0 - m[lost], np.ones(len(n))))
    counts = np.concatenate((s[won], f[lost], n))
    weight = np.full(len(share), copies)
    weight[len(share) - len(n) :] = -copies
    by_share = weight * share
    by_share_twice = by_share * share

    def objective(at: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        kappa = np.exp(at[0] - log_q)
        if value_only:
            value = float((weight * log_rise(kappa * share, counts)).sum())
            return _with_precision(value, np.zeros(1), np.zeros((1, 1)), at[0], CHILD_PRECISION)
        logs, psis, trigammas = rises(kappa * share, counts)
        value = float((weight * logs).sum())
        slope = kappa * (by_share * psis).sum()
        curve = slope + kappa * kappa * (by_share_twice * trigammas).sum()
        return _with_precision(
            value, np.array([slope]), np.array([[curve]]), at[0], CHILD_PRECISION
        )

    return objective


def _with_precision(
    value: float, gradient: FloatArray, hessian: FloatArray, log_w: float, w0: float
) -> tuple[float, FloatArray, FloatArray]:
    """Add the log-density of the uniform shrinkage prior in log w, the last coordinate."""
    shrunk = special.expit(log_w - np.log(w0))
    gradient[-1] += 1.0 - 2.0 * shrunk
    hessian[-1, -1] -= 2.0 * shrunk * (1.0 - shrunk)
    return float(value + np.log(shrunk) + np.log1p(-shrunk)), gradient, hessian


def _search(
    objective: Callable[..., Objective],
    arms: FloatArray,
    starts: list[FloatArray],
    low: FloatArray,
    high: FloatArray,
) -> FloatArray:
    """Climb from the best of `starts`, compared on evenly spaced arms: the maximum may be two."""
    stride = -(-arms.shape[1] // _COARSE_ARMS) if arms.shape[1] else 1
    some = arms[:, stride // 2 :: stride]
    copies = arms.shape[1] / max(some.shape[1], 1)
    coarse, height = objective(some, copies), objective(some, copies, value_only=True)
    best = max((np.clip(start, low, high) for start in starts), key=lambda at: height(at)[0])
    if stride > 1:
        best = _climb(coarse, best, low, high, enough=_COARSE_GAIN)
    return _climb(objective(arms, 1.0), best, low, high)


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
        step *= min(1.0, 3.0 / float(np.abs(step).max()))
        while True:
            reached = np.clip(at + step, low, high)
            result = objective(reached)
            if result[0] > value:
                break
            step /= 2.0
            if float(np.abs(step).max()) < 1e-12:
                return at  # rounding hides any further rise
        at = reached
        value, gradient, hessian = result
    return at
