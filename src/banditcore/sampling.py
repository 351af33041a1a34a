"""The validated door to the compiled core: exact Beta draws, and Thompson's top-k.

Draws are ratios of gammas (Marsaglia and Tsang, ACM TOMS 26, 2000) over counter-based streams
(Philox 4x32-10: Salmon et al., SC 2011), in float64. A stream is keyed by (seed, row, arm): what
a row answers depends on neither the number of threads, nor `size`, nor which arms are left out,
until `size` is so large that a race is cheaper (`banditcore.method`).
"""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from banditcore import _sampling
from banditcore._sampling import plain_topk
from banditcore.arrays import (
    MAX_ARMS,
    MAX_WEIGHT,
    MIN_WEIGHT,
    any_array,
    arms_in_play,
    column,
    count,
    new_rows,
    parameters,
    weights,
)
from banditcore.errors import InvalidValueError, describe
from banditcore.method import MAX_RACED, MIN_RACED, race_pays
from banditcore.seeds import Seed, key_of
from banditcore.thompson_sampler import ThompsonSampler
from banditcore.threads import thread_count

__all__ = [
    "MAX_PARAMETER",
    "MIN_PARAMETER",
    "Seed",
    "active_kernel",
    "decide",
    "quantile",
    "sample_beta",
    "thompson_topk",
]

FloatArray: TypeAlias = NDArray[np.float64]
IndexArray: TypeAlias = NDArray[np.int32]

MIN_PARAMETER = 1e-100
MAX_PARAMETER = 1e100
"""The range of alpha and beta. Draws are tested from 1e-3 to 1e12; the formulas hold beyond."""

_MAX_QUANTILE_PARAMETER = 1e12
# Draws: a quarter of a millisecond of work, against some 50 us to wake a thread.
_WORTH_THREADS = 50_000


def sample_beta(
    alpha: ArrayLike,
    beta: ArrayLike,
    *,
    size: int | None = None,
    seed: Seed = None,
    threads: int | None = None,
) -> FloatArray:
    """Draw from Beta(alpha, beta), independently for each arm and row.

    Parameters
    ----------
    alpha, beta : (n,) array_like of real numbers
        Parameters, 1e-100 to 1e100.
    size : int or None
        Rows to draw, >= 0; None draws one, without an axis for it.
    seed : int, numpy.random.SeedSequence, numpy.random.Generator or None
        The same seed gives the same draws, on any number of threads; row r is the same for every
        `size`. An int is >= 0, of any length, and means ``SeedSequence(seed)``. A Generator gives
        64 bits of its stream to each call. None takes fresh entropy from the system.
    threads : int or None
        Threads to share the rows, 1 to 256. None takes the CPUs this process may use when the
        work is worth them, else one.

    Returns
    -------
    (n,) or (size, n) float64
        Draws in [0, 1]. A value below 5e-324 or above 1 - 5.6e-17 rounds to 0 or 1: never rank
        by these numbers where that can happen, `thompson_topk` does not.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For arguments that cannot be used; both are a `BanditCoreError`.
    """
    if size is None and seed is None and threads is None:
        # The common small call, checked without a detour through Python.
        row = _sampling.plain_fill(alpha, beta, MIN_PARAMETER, MAX_PARAMETER, _WORTH_THREADS)
        if row is not None:
            return row
    a, b, boosted = _parameters(alpha, beta)
    n = len(a)
    rows = None if size is None else count("size", size, 0)
    key = _sampling.fresh_key() if seed is None else key_of(seed)
    workers = thread_count(threads, n if rows is None else rows * n, _WORTH_THREADS)
    draws = new_rows(np.float64, n, rows)
    _sampling.fill(a, b, draws, key, workers, boosted=boosted)
    return draws


def thompson_topk(
    alpha: ArrayLike,
    beta: ArrayLike,
    k: int,
    *,
    size: int | None = None,
    weight: ArrayLike | None = None,
    exclude: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    seed: Seed = None,
    threads: int | None = None,
) -> IndexArray:
    """Draw every arm's rate and return the best k arms: Thompson sampling, exactly.

    Arms are ranked by the log-odds of their draws, which never saturate; equal ones, which only
    rounding can make, in random order. No draw is stored.

    Parameters
    ----------
    alpha, beta : (n,) array_like of real numbers
        Parameters of the arms' posteriors, 1e-100 to 1e100; at least one arm.
    k : int
        Arms to return, >= 1; may exceed n.
    size : int or None
        Decisions to draw, >= 0; None draws one, without an axis for it.
    weight : (n,) array_like of real numbers, optional
        Value of a success of each arm, positive and finite: the ranking is by weight x rate.
    exclude : (m,) array_like of int, optional
        Indices of arms never to return.
    eligible : (n,) array_like of bool, or (m,) array_like of int, optional
        The only arms that may be returned, as a mask or as indices. `exclude` still holds.
    seed : int, numpy.random.SeedSequence, numpy.random.Generator or None
        As for `sample_beta`, with the streams of `sample_beta` where every arm is drawn: there,
        excluding an arm changes no other arm's draw, and row r is the same for every `size`.
    threads : int or None
        As for `sample_beta`.

    Returns
    -------
    (k,) or (size, k) int32
        Distinct arm indices, best first; -1 in the places for which no arm is left.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For arguments that cannot be used; both are a `BanditCoreError`.

    Notes
    -----
    For many rows of few places it is cheaper to build the tables of a `ThompsonSampler` than to
    draw every arm: see `banditcore.method`. The law is the same, the draws of one seed are not.
    Which way is taken depends on `k`, `size` and the number of arms that may be returned, and on
    whether all parameters are from 1e-4 to 1e7 (under weights also all beta above 1); never on
    the machine, `threads` or the kernel.
    """
    plain = size is None and seed is None and threads is None
    if plain and weight is None and exclude is None and eligible is None:
        # The common small call, checked without a detour through Python.
        best = plain_topk(alpha, beta, k, MIN_PARAMETER, MAX_PARAMETER, _WORTH_THREADS)
        if best is not None:
            return best
    a, b, boosted = _parameters(alpha, beta)
    n = len(a)
    if n == 0:
        raise InvalidValueError(describe("alpha", alpha, "a choice needs at least one arm"))
    places = count("k", k, 1)
    rows = None if size is None else count("size", size, 0)
    value = None if weight is None else _weights(weight, n)
    arms = None
    if exclude is not None or eligible is not None:
        arms = arms_in_play(eligible, exclude, n)
    left = n if arms is None else len(arms)
    if rows is not None and race_pays(left, places, rows) and _can_race(a, b, value):
        return _race_topk(a, b, value, arms, places, rows, seed, threads)
    workers = thread_count(threads, left if rows is None else rows * left, _WORTH_THREADS)
    chosen: IndexArray = new_rows(np.int32, places, rows)
    key = _sampling.fresh_key() if seed is None else key_of(seed)
    _sampling.topk(a, b, value, arms, chosen, key, workers, boosted=boosted)
    return chosen


def decide(
    alpha: FloatArray,
    beta: FloatArray,
    k: int,
    key: int,
    exclude: IndexArray | None = None,
    *,
    boosted: bool = True,
) -> IndexArray:
    """Draw one decision on the calling thread. Nothing is checked: for callers that have done so.

    Parameters
    ----------
    alpha, beta : (n,) float64, C-contiguous, 1e-100 to 1e100
        The posterior of each arm.
    k : int
        From 1 to the number of arms left.
    key : int
        64 random bits. The same ones give the same answer; `thompson_topk` gives another.
    exclude : (m,) int32, optional
        Distinct indices of arms never to return.
    boosted : bool
        May be False, which is quicker, if no parameter is below 1.

    Returns
    -------
    (k,) int32
        Distinct arm indices, best first.
    """
    arms = None
    if exclude is not None:
        left = np.ones(len(alpha), dtype=np.bool_)
        left[exclude] = False
        arms = np.flatnonzero(left).astype(np.int32)
    chosen = np.empty((1, k), np.int32)
    _sampling.topk(alpha, beta, None, arms, chosen, key, 1, boosted=boosted)
    return chosen.reshape(k)


def quantile(alpha: ArrayLike, beta: ArrayLike, q: ArrayLike) -> FloatArray:
    """Return the q-quantile of each Beta(alpha, beta): the x below which a rate lies with chance q.

    `scipy.special.betaincinv`, repaired where it fails: below 2.2e-308 it stops at that number
    though small alpha have most of their mass there; for alpha from 1 to 2 and tiny q it gives NaN
    or loses half of its digits.

    Parameters
    ----------
    alpha, beta : (n,) array_like of real numbers
        Parameters, 1e-100 to 1e12; above that the incomplete beta function loses its digits.
    q : float or (n,) array_like of real numbers
        Probabilities in [0, 1].

    Returns
    -------
    (n,) float64
        Quantiles x in [0, 1], 0 or 1 where the nearest float64 is that: |F(x) - q| is below
        1e-8 min(q, 1 - q) + 1e-11, or x is the float64 nearest to the quantile.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For arguments that cannot be used; both are a `BanditCoreError`.
    """
    a, b, _ = _parameters(alpha, beta, _MAX_QUANTILE_PARAMETER)
    level = any_array("q", q)
    if level.ndim == 0:
        level = np.broadcast_to(level, a.shape) if level.dtype.kind in "iuf" else level.reshape(1)
    level = column("q", level, 0.0, 1.0)
    if level.shape != a.shape:
        raise InvalidValueError(
            describe("the shape of q", level.shape, f"one number, or one an arm, so {a.shape}")
        )
    x = np.asarray(special.betaincinv(a, b, level), dtype=np.float64)
    # Near 0 the distribution function is x^a / (a B(a, b)). The comparison is false for NaN too.
    low = ~(x > np.finfo(np.float64).tiny) & (level > 0)
    log_x = (np.log(level[low]) + np.log(a[low]) + special.betaln(a[low], b[low])) / a[low]
    x[low] = np.exp(np.minimum(log_x, 0.0))  # where x is not small it is a start for the step below
    return _closer(a, b, level, x)


def _closer(a: FloatArray, b: FloatArray, q: FloatArray, x: FloatArray) -> FloatArray:
    """Return `x` after a step of Newton's method towards F(x) = q, where that brings F closer."""
    at = np.flatnonzero((x > np.finfo(np.float64).tiny) & (x < 1))
    a, b, q, old = a[at], b[at], q[at], x[at]
    miss = special.betainc(a, b, old) - q
    log_density = special.xlogy(a - 1, old) + special.xlog1py(b - 1, -old) - special.betaln(a, b)
    with np.errstate(over="ignore", invalid="ignore"):  # such a step is not taken
        new = old - miss * np.exp(-log_density)
        better = (new > 0) & (new < 1)
        better &= np.abs(special.betainc(a, b, np.where(better, new, old)) - q) < np.abs(miss)
    x[at[better]] = new[better]
    return x


def active_kernel() -> str:
    """Return the name of the compiled kernel in use, such as ``"serial"``.

    It is chosen once, at import: the best this machine can run, or the one that the environment
    variable ``BANDITCORE_KERNEL`` names. All kernels give the same bits.
    """
    return _sampling.kernel_name()


def _parameters(
    alpha: ArrayLike, beta: ArrayLike, most: float = MAX_PARAMETER
) -> tuple[FloatArray, FloatArray, bool]:
    """Return both columns, and whether a parameter may be below 1."""
    # `fit` is a quick yes: what it does not know gets every check.
    a_fits = _sampling.fit(alpha, MIN_PARAMETER, most)
    b_fits = _sampling.fit(beta, MIN_PARAMETER, most)
    if a_fits and b_fits:
        a, b = cast(FloatArray, alpha), cast(FloatArray, beta)
        if a.shape == b.shape and len(a) <= MAX_ARMS:
            return a, b, not a_fits == b_fits == 1
    return *parameters(alpha, beta, MIN_PARAMETER, most), True


def _weights(weight: ArrayLike, n: int) -> FloatArray:
    if _sampling.fit(weight, MIN_WEIGHT, MAX_WEIGHT):  # as above
        column = cast(FloatArray, weight)
        if len(column) == n:
            return column
    return weights(weight, n)


def _can_race(a: FloatArray, b: FloatArray, weight: FloatArray | None) -> bool:
    if not (_sampling.fit(a, MIN_RACED, MAX_RACED) and _sampling.fit(b, MIN_RACED, MAX_RACED)):
        return False
    # Under weights, arms with beta <= 1 are in no table: each is drawn at each decision.
    return weight is None or bool(b.min() > 1.0)


def _race_topk(  # noqa: PLR0917
    a: FloatArray,
    b: FloatArray,
    weight: FloatArray | None,
    arms: IndexArray | None,
    k: int,
    size: int,
    seed: Seed,
    threads: int | None,
) -> IndexArray:
    """Return (size, k) indices of the best of `arms`, of which there are more than k."""
    if arms is None:
        return ThompsonSampler(a, b, weight=weight).topk(k, size=size, seed=seed, threads=threads)
    sampler = ThompsonSampler(a[arms], b[arms], weight=None if weight is None else weight[arms])
    best: IndexArray = arms[sampler.topk(k, size=size, seed=seed, threads=threads)]
    return best
