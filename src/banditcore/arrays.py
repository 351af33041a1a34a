"""Checks of the arrays a numeric function takes: parameters, weights, eligible arms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = ["eligible_mask", "numbers", "parameters", "positive_int", "weights"]

FloatArray = NDArray[np.float64]


def numbers(name: str, given: ArrayLike) -> FloatArray:
    """Return `given` as a contiguous one-dimensional float64 array, or raise.

    Raises
    ------
    InvalidTypeError
        If it does not hold real numbers.
    InvalidValueError
        If it is not one-dimensional.
    """
    array = _as_array(name, given)
    if array.size and array.dtype.kind not in "fiu":
        raise InvalidTypeError(describe(name, given, "a one-dimensional array of real numbers"))
    if array.ndim != 1:
        raise InvalidValueError(
            describe(f"the shape of {name}", array.shape, "one dimension, one number an arm")
        )
    return np.ascontiguousarray(array, dtype=np.float64)


def parameters(alpha: ArrayLike, beta: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the parameters of n Beta distributions as two (n,) float64 arrays, or raise.

    Parameters
    ----------
    alpha, beta : (n,) array-like
        Finite and > 0; of one length.
    """
    a, b = numbers("alpha", alpha), numbers("beta", beta)
    if a.shape != b.shape:
        raise InvalidValueError(
            describe("the shape of beta", b.shape, f"that of alpha, {a.shape}: one pair an arm")
        )
    _positive("alpha", a)
    _positive("beta", b)
    return a, b


def weights(weight: ArrayLike | None, n: int) -> FloatArray:
    """Return one finite weight > 0 an arm as an (n,) float64 array, or raise; None means all 1."""
    if weight is None:
        return np.ones(n)
    array = numbers("weight", weight)
    if array.shape != (n,):
        raise InvalidValueError(
            describe("the shape of weight", array.shape, f"one weight an arm, so ({n},)")
        )
    _positive("weight", array)
    return array


def eligible_mask(eligible: ArrayLike | None, n: int) -> NDArray[np.bool_]:
    """Return which of `n` arms may be chosen as an (n,) mask, or raise.

    Parameters
    ----------
    eligible : (n,) bool, or (m,) integers, or None
        A mask, or the indices in [0, n) of the arms that may be chosen; None means all.
    n : int
        Number of arms.
    """
    if eligible is None:
        return np.ones(n, dtype=np.bool_)
    array = _as_array("eligible", eligible)
    if array.ndim != 1:
        raise InvalidValueError(
            describe("the shape of eligible", array.shape, "one dimension: a mask or arm indices")
        )
    if array.dtype.kind == "b":
        if array.shape != (n,):
            raise InvalidValueError(
                describe(
                    "the shape of eligible", array.shape, f"a mask has one bool an arm: ({n},)"
                )
            )
        return array.astype(np.bool_)
    if array.size and array.dtype.kind not in "iu":
        raise InvalidTypeError(describe("eligible", eligible, "a mask of bool or integer indices"))
    outside = (array < 0) | (array >= n)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidValueError(
            describe(f"eligible[{at}]", int(array[at]), f"an arm index lies in 0..{n - 1}")
        )
    mask = np.zeros(n, dtype=np.bool_)
    mask[array.astype(np.intp)] = True
    return mask


def positive_int(name: str, value: object) -> int:
    """Return `value` if it is an integer >= 1, or raise; a bool is no integer here."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise InvalidTypeError(describe(name, value, "an integer >= 1"))
    if value < 1:
        raise InvalidValueError(describe(name, int(value), "an integer >= 1"))
    return int(value)


def _as_array(name: str, given: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:  # ragged nesting
        raise InvalidValueError(describe(name, given, "a one-dimensional array")) from error


def _positive(name: str, array: FloatArray) -> None:
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        at = int(bad.argmax())
        raise InvalidValueError(describe(f"{name}[{at}]", float(array[at]), "finite and above 0"))
