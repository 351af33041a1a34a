"""Checks of what a numeric function takes: parameters, weights, arms in play, counts."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = [
    "MAX_ARMS",
    "MAX_WEIGHT",
    "MIN_WEIGHT",
    "any_array",
    "arm_indices",
    "arm_rows",
    "arms_in_play",
    "column",
    "count",
    "eligible_mask",
    "new_rows",
    "parameters",
    "positive_int",
    "weights",
]

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int32]

MAX_ARMS = 2**31 - 1
"""The most arms that a call may have."""

# Subnormal numbers have lost the precision that their logarithm would pretend to.
MIN_WEIGHT = float(np.finfo(np.float64).tiny)
MAX_WEIGHT = float(np.finfo(np.float64).max)
"""The range of weights."""

_MOST_NUMBERS = 2**60 - 1  # of 8 bytes, in 2**63


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


def column(name: str, values: ArrayLike, low: float, high: float) -> FloatArray:
    """Return `values`, one number an arm, as a contiguous float64 array; no copy if it is one.

    Raises
    ------
    InvalidTypeError
        If it does not hold real numbers.
    InvalidValueError
        If it is not one-dimensional, has more than `MAX_ARMS`, or a number outside [low, high].
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
            numbers = np.require(array, np.float64, ["C_CONTIGUOUS", "ALIGNED"])
    except MemoryError as error:
        raise _too_large(name, values) from error
    _refuse(
        ~((numbers >= low) & (numbers <= high)), name, numbers, f"must be from {low:g} to {high:g}"
    )
    return numbers


def parameters(
    alpha: ArrayLike, beta: ArrayLike, low: float, high: float
) -> tuple[FloatArray, FloatArray]:
    """Return the parameters of n Beta distributions as two (n,) float64 arrays, or raise.

    Parameters
    ----------
    alpha, beta : (n,) array-like
        From `low` to `high`; of one length.
    low, high : float
        Finite and > 0.
    """
    a, b = column("alpha", alpha, low, high), column("beta", beta, low, high)
    if a.shape != b.shape:
        raise InvalidValueError(
            describe("the shape of beta", b.shape, f"that of alpha, {a.shape}: one pair an arm")
        )
    return a, b


def weights(weight: ArrayLike | None, n: int) -> FloatArray:
    """Return one weight an arm as an (n,) float64 array, or raise; None means all 1.

    A weight is finite and at least 2.2e-308, the smallest normal number.
    """
    if weight is None:
        return np.ones(n)
    array = column("weight", weight, MIN_WEIGHT, MAX_WEIGHT)
    if array.shape != (n,):
        raise InvalidValueError(
            describe("the shape of weight", array.shape, f"one weight an arm, so ({n},)")
        )
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


def arms_in_play(eligible: ArrayLike | None, exclude: ArrayLike | None, n: int) -> IndexArray:
    """Return the indices of the arms that are eligible and not excluded, ascending, or raise.

    Parameters
    ----------
    eligible
        As for `eligible_mask`.
    exclude : (m,) integers or set of integers, or None
        Indices in [0, n) of the arms that may not be chosen.
    n : int
        Number of arms.
    """
    mask = eligible_mask(eligible, n)
    if exclude is not None:
        mask[arm_indices("exclude", exclude, n)] = False
    return np.flatnonzero(mask).astype(np.int32)


def arm_indices(name: str, values: ArrayLike, n: int) -> NDArray[np.intp]:
    """Return (m,) indices of arms, each in [0, n), or raise."""
    array = any_array(name, values)
    if array.ndim != 1:
        raise InvalidValueError(
            describe(f"the shape of {name}", array.shape, "one axis is needed: (m,)")
        )
    return _indices(name, array, 0, n).astype(np.intp, copy=False)


def arm_rows(name: str, values: NDArray[Any], size: int | None, n: int) -> IndexArray:
    """Return (size, m) indices of arms, each in [0, n) or -1 for none, C-contiguous, or raise."""
    if values.ndim != 2 or len(values) != size:
        one_each = f"(m,), or a row for each of size={size}: ({size}, m)"
        raise InvalidValueError(describe(f"the shape of {name}", values.shape, one_each))
    return np.ascontiguousarray(_indices(name, values, -1, n), dtype=np.int32)


def _indices(name: str, array: NDArray[Any], least: int, n: int) -> NDArray[Any]:
    if array.size == 0:
        return np.empty(array.shape, dtype=np.int32)  # an empty list has no type of its own
    if array.dtype.kind not in "iu":
        raise InvalidTypeError(describe(name, array.dtype, "arm indices (integers) are needed"))
    remedy = f"an arm index lies in 0..{n - 1}" + (", or is -1 for none" if least else "")
    _refuse((array < least) | (array >= n), name, array, remedy)
    return array


def new_rows(dtype: type[Any], width: int, size: int | None) -> NDArray[Any]:
    """Return an array for an answer: (width,), or (size, width); its content is arbitrary.

    Raises
    ------
    InvalidValueError
        If no address space could hold it.
    MemoryError
        If this machine cannot.
    """
    shape = (width,) if size is None else (size, width)
    # numpy refuses a shape even if nothing is in it
    if max(width, 1) * (size or 1) > _MOST_NUMBERS:
        raise InvalidValueError(
            describe("the shape of the answer", shape, "it does not fit in memory")
        )
    return np.empty(shape, dtype)


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
        at = tuple(int(place) for place in np.unravel_index(int(bad.argmax()), bad.shape))
        label = f"{name}[{', '.join(map(str, at))}]"
        raise InvalidValueError(describe(label, array[at].item(), remedy))


def _too_large(name: str, values: object) -> InvalidValueError:
    return InvalidValueError(describe(name, type(values).__name__, "it does not fit in memory"))
