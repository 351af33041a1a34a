"""Checks of the arrays a numeric function takes: parameters, weights, eligible arms."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = [
    "MAX_ARMS",
    "any_array",
    "arm_indices",
    "column",
    "count",
    "eligible_mask",
    "parameters",
    "positive_int",
    "weights",
]

FloatArray = NDArray[np.float64]

MAX_ARMS = 2**31 - 1
"""The most arms that a call may have."""

# Subnormal numbers have lost the precision that their logarithm would pretend to.
_MIN_WEIGHT = float(np.finfo(np.float64).tiny)


def any_array(name: str, values: object) -> NDArray[Any]:
    """Return `values` as an array of whatever type and shape it has; a set in ascending order.

    Raises
    ------
    InvalidTypeError
        If it is masked, ragged, or cannot be read.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise InvalidTypeError(
            describe(name, type(values).__name__, "a mask would be lost: pass a plain array")
        )
    try:
        return np.asarray(sorted(values) if isinstance(values, set | frozenset) else values)
    except MemoryError as error:
        raise _too_large(name, values) from error
    except Exception as error:  # whatever the __array__ of a foreign type may raise
        raise InvalidTypeError(
            describe(name, type(values).__name__, f"no rectangular array: {error}")
        ) from error


def column(name: str, values: ArrayLike) -> FloatArray:
    """Return `values`, one number an arm, as a contiguous float64 array; no copy if it is one.

    Raises
    ------
    InvalidTypeError
        If it does not hold real numbers.
    InvalidValueError
        If it is not one-dimensional, or has more than `MAX_ARMS`.
    """
    array = any_array(name, values)
    if array.dtype.kind not in "fiu":
        raise InvalidTypeError(
            describe(name, array.dtype, "a column of real numbers (float or int) is needed")
        )
    if array.ndim != 1:
        raise InvalidValueError(
            describe(f"the shape of {name}", array.shape, "one axis is needed: (n,)")
        )
    if array.size > MAX_ARMS:
        raise InvalidValueError(
            describe(f"the shape of {name}", array.shape, f"at most {MAX_ARMS} arms")
        )
    try:
        with np.errstate(over="ignore"):  # a long double beyond float64 becomes inf
            return np.ascontiguousarray(array, dtype=np.float64)
    except MemoryError as error:
        raise _too_large(name, values) from error


def parameters(alpha: ArrayLike, beta: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the parameters of n Beta distributions as two (n,) float64 arrays, or raise.

    Parameters
    ----------
    alpha, beta : (n,) array-like
        Finite and > 0; of one length.
    """
    a, b = column("alpha", alpha), column("beta", beta)
    if a.shape != b.shape:
        raise InvalidValueError(
            describe("the shape of beta", b.shape, f"that of alpha, {a.shape}: one pair an arm")
        )
    _refuse(~(np.isfinite(a) & (a > 0)), "alpha", a, "finite and above 0")
    _refuse(~(np.isfinite(b) & (b > 0)), "beta", b, "finite and above 0")
    return a, b


def weights(weight: ArrayLike | None, n: int) -> FloatArray:
    """Return one weight an arm as an (n,) float64 array, or raise; None means all 1.

    A weight is finite and at least 2.2e-308, the smallest normal number.
    """
    if weight is None:
        return np.ones(n)
    array = column("weight", weight)
    if array.shape != (n,):
        raise InvalidValueError(
            describe("the shape of weight", array.shape, f"one weight an arm, so ({n},)")
        )
    remedy = f"finite and at least {_MIN_WEIGHT:g}"
    _refuse(~(np.isfinite(array) & (array >= _MIN_WEIGHT)), "weight", array, remedy)
    return array


def eligible_mask(eligible: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    """Return which of `n` arms may be chosen as a new (n,) mask, or raise.

    Parameters
    ----------
    eligible : (n,) bool, or (m,) integers or set of integers, or None
        A mask, or the indices in [0, n) of the arms that may be chosen; None means all.
    n : int
        Number of arms.
    """
    if eligible is None:
        return np.ones(n, dtype=np.bool_)
    array = any_array("eligible", eligible)
    if array.dtype.kind != "b":
        mask = np.zeros(n, dtype=np.bool_)
        mask[arm_indices("eligible", array, n)] = True
        return mask
    if array.shape != (n,):
        raise InvalidValueError(
            describe("the shape of eligible", array.shape, f"a mask has one bool an arm: ({n},)")
        )
    return array.astype(np.bool_)


def arm_indices(name: str, values: ArrayLike, n: int) -> NDArray[np.intp]:
    """Return (m,) indices of arms, each in [0, n), or raise."""
    array = any_array(name, values)
    if array.ndim != 1:
        raise InvalidValueError(
            describe(f"the shape of {name}", array.shape, "one axis is needed: (m,)")
        )
    if array.size == 0:
        return np.empty(0, dtype=np.intp)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise InvalidTypeError(describe(name, array.dtype, "arm indices (integers) are needed"))
    _refuse((array < 0) | (array >= n), name, array, f"an arm index lies in 0..{n - 1}")
    return array.astype(np.intp)


def count(name: str, value: object, least: int) -> int:
    """Return `value` if it is an integer >= `least`, or raise; a bool is no integer here."""
    remedy = f"an integer >= {least}"
    if isinstance(value, bool | np.bool_):
        raise InvalidTypeError(describe(name, value, remedy))
    try:
        number = operator.index(value)  # type: ignore[arg-type] # the try is the check
    except Exception as error:  # whatever the __index__ of a foreign type may raise
        raise InvalidTypeError(describe(name, value, remedy)) from error
    if number < least:
        raise InvalidValueError(describe(name, number, remedy))
    return number


def positive_int(name: str, value: object) -> int:
    """Return `value` if it is an integer >= 1, or raise; a bool is no integer here."""
    return count(name, value, 1)


def _refuse(bad: NDArray[np.bool_], name: str, array: NDArray[Any], remedy: str) -> None:
    if bad.any():
        at = int(bad.argmax())
        raise InvalidValueError(describe(f"{name}[{at}]", array[at].item(), remedy))


def _too_large(name: str, values: object) -> InvalidValueError:
    return InvalidValueError(describe(name, type(values).__name__, "it does not fit in memory"))
