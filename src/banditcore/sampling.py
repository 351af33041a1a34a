"""The validated door to the compiled core: exact Beta draws, and Thompson's top-k.

Draws are ratios of gammas (Marsaglia and Tsang, ACM TOMS 26, 2000) over counter-based streams
(Philox 4x32-10: Salmon et al., SC 2011), in float64. A stream is keyed by (seed, row, arm): what
a row answers depends on neither the number of threads, nor `size`, nor which arms are left out.
"""

from __future__ import annotations

import operator
import os
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from banditcore import _sampling
from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = [
    "MAX_PARAMETER",
    "MIN_PARAMETER",
    "active_kernel",
    "quantile",
    "sample_beta",
    "thompson_topk",
]

FloatArray: TypeAlias = NDArray[np.float64]
IndexArray: TypeAlias = NDArray[np.int32]
Seed: TypeAlias = int | np.random.SeedSequence | np.random.Generator | None

MIN_PARAMETER = 1e-100
MAX_PARAMETER = 1e100
"""The range of alpha and beta. Draws are tested from 1e-3 to 1e12; the formulas hold beyond."""

_MAX_QUANTILE_PARAMETER = 1e12
_MOST_THREADS = 256
_WORTH_THREADS = (
    50_000  # draws: a quarter of a millisecond of work, against some 50 us to wake a thread
)
_MOST_ARMS = 2**31 - 1
_MOST_BYTES = 2**63 - 1


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
    rows = 1 if size is None else _count("size", size, 0)
    if rows * max(n, 1) * 8 > _MOST_BYTES:  # numpy refuses the shape even if no draw is in it
        raise InvalidValueError(describe("size", size, "size x arms draws do not fit in memory"))
    key = _sampling.fresh_key() if seed is None else _key(seed)
    workers = _threads(threads, rows * n)
    draws = np.empty(n if size is None else (rows, n))
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
        As for `sample_beta`, and with the same streams: excluding an arm changes no other arm's
        draw.
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
    """
    if size is seed is threads is weight is exclude is eligible is None:
        # The common small call, checked without a detour through Python.
        best = _sampling.plain_topk(alpha, beta, k, MIN_PARAMETER, MAX_PARAMETER, _WORTH_THREADS)
        if best is not None:
            return best
    a, b, boosted = _parameters(alpha, beta)
    n = len(a)
    if n == 0:
        raise InvalidValueError(describe("alpha", alpha, "a choice needs at least one arm"))
    places = _count("k", k, 1)
    rows = 1 if size is None else _count("size", size, 0)
    if rows * places * 4 > _MOST_BYTES:
        raise InvalidValueError(describe("k", k, "size x k indices do not fit in memory"))
    value = None if weight is None else _weight(weight, n)
    arms = None
    if exclude is not None or eligible is not None:
        arms = _arms_in_play(exclude, eligible, n)
    key = _sampling.fresh_key() if seed is None else _key(seed)
    workers = _threads(threads, rows * (n if arms is None else len(arms)))
    chosen = np.empty(places if size is None else (rows, places), dtype=np.int32)
    _sampling.topk(a, b, value, arms, chosen, key, workers, boosted=boosted)
    return chosen


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
    level = _array("q", q)
    if level.ndim == 0:
        level = np.broadcast_to(level, a.shape) if level.dtype.kind in "iuf" else level.reshape(1)
    level = _column("q", level, 0.0, 1.0)
    if level.shape != a.shape:
        raise InvalidValueError(describe("q", level.shape, f"one number, or shape {a.shape}"))
    x = np.asarray(special.betaincinv(a, b, level), dtype=np.float64)
    # Near 0 the distribution function is x^a / (a B(a, b)). The comparison is false for NaN too.
    low = ~(x > np.finfo(np.float64).tiny) & (level > 0)
    x[low] = np.exp((np.log(level[low]) + np.log(a[low]) + special.betaln(a[low], b[low])) / a[low])
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
    a_fits = _sampling.fit(alpha, MIN_PARAMETER, most)
    b_fits = _sampling.fit(beta, MIN_PARAMETER, most)
    a = cast(FloatArray, alpha) if a_fits else _column("alpha", alpha, MIN_PARAMETER, most)
    b = cast(FloatArray, beta) if b_fits else _column("beta", beta, MIN_PARAMETER, most)
    if a.shape != b.shape:
        raise InvalidValueError(
            describe("beta", b.shape, f"one value for each of alpha's, so shape {a.shape}")
        )
    if len(a) > _MOST_ARMS:
        raise InvalidValueError(describe("alpha", a.shape, f"at most {_MOST_ARMS} arms"))
    return a, b, not a_fits == b_fits == 1


def _weight(weight: ArrayLike, n: int) -> FloatArray:
    # Subnormal numbers have lost the precision that their logarithm would pretend to.
    column = _column(
        "weight", weight, float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).max)
    )
    if column.shape != (n,):
        raise InvalidValueError(
            describe("weight", column.shape, f"one value an arm, so shape ({n},)")
        )
    return column


def _column(name: str, values: ArrayLike, low: float, high: float) -> FloatArray:
    """Return `values` as a contiguous float64 column in [low, high]; no copy if it is one."""
    given = _array(name, values)
    if given.dtype.kind not in "iuf":
        raise InvalidTypeError(
            describe(name, given.dtype, "a column of real numbers (float or int) is needed")
        )
    if given.ndim != 1:
        raise InvalidValueError(describe(name, given.shape, "one axis is needed: shape (n,)"))
    with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf, refused below
        column = np.require(given, np.float64, ["C_CONTIGUOUS", "ALIGNED"])
    bad = _sampling.first_unfit(column, low, high)
    if bad >= 0:
        raise InvalidValueError(
            describe(f"{name}[{bad}]", float(column[bad]), f"must be from {low:g} to {high:g}")
        )
    return column


def _array(name: str, values: ArrayLike) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray):
        raise InvalidTypeError(
            describe(name, type(values).__name__, "a mask would be lost: pass a plain array")
        )
    if isinstance(values, set | frozenset):
        values = sorted(values)
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InvalidTypeError(
            describe(name, values, f"not a rectangular array: {error}")
        ) from error


def _arms_in_play(exclude: ArrayLike | None, eligible: ArrayLike | None, n: int) -> IndexArray:
    """Return the indices left, ascending."""
    if eligible is None:
        left = np.ones(n, dtype=np.bool_)
    else:
        given = _array("eligible", eligible)
        if given.dtype.kind == "b":
            if given.shape != (n,):
                raise InvalidValueError(
                    describe("eligible", given.shape, f"a mask has shape ({n},)")
                )
            left = given.copy()
        else:
            left = np.zeros(n, dtype=np.bool_)
            left[_indices("eligible", given, n)] = True
    if exclude is not None:
        left[_indices("exclude", _array("exclude", exclude), n)] = False
    return np.flatnonzero(left).astype(np.int32)


def _indices(name: str, given: NDArray[Any], n: int) -> NDArray[Any]:
    if given.ndim != 1:
        raise InvalidValueError(describe(name, given.shape, "one axis is needed: shape (m,)"))
    if given.size == 0:
        return np.empty(0, dtype=np.intp)  # an empty list has no type of its own
    if given.dtype.kind not in "iu":
        raise InvalidTypeError(describe(name, given.dtype, "arm indices (integers) are needed"))
    bad = (given < 0) | (given >= n)
    if bad.any():
        at = int(bad.argmax())
        raise InvalidValueError(
            describe(f"{name}[{at}]", int(given[at]), f"an arm index is 0..{n - 1}")
        )
    return given


def _count(name: str, value: object, least: int) -> int:
    remedy = f"an integer of at least {least}"
    if isinstance(value, bool | np.bool_):
        raise InvalidTypeError(describe(name, value, remedy))
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the try is the check
    except TypeError as error:
        raise InvalidTypeError(describe(name, value, remedy)) from error
    if number < least:
        raise InvalidValueError(describe(name, value, remedy))
    return number


def _key(seed: object) -> int:
    """Return the 64 bits that key every stream of one call."""
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(0, 2**64, dtype=np.uint64))
    if not isinstance(seed, np.random.SeedSequence):
        try:
            seed = np.random.SeedSequence(_count("seed", seed, 0))
        except InvalidTypeError as error:
            raise InvalidTypeError(
                describe("seed", seed, "an int >= 0, a SeedSequence, a Generator or None")
            ) from error
    return int(seed.generate_state(1, np.uint64)[0])


def _threads(threads: int | None, draws: int) -> int:
    if threads is None:
        return 1 if draws < _WORTH_THREADS else min(_usable_cpus(), _MOST_THREADS)
    wanted = _count("threads", threads, 1)
    if wanted > _MOST_THREADS:
        raise InvalidValueError(describe("threads", threads, f"at most {_MOST_THREADS}"))
    return wanted


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # what a container or taskset leaves; macOS has neither
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
