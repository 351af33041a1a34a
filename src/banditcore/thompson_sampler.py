"""Thompson's top-k for a posterior that is asked often: tables once, then O(k) a decision.

The method is exact and called a race here; ``docs/race.md`` derives it. Streams are those of
`banditcore.sampling`, keyed by (seed, row), with purposes of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore import _race, _sampling
from banditcore.arrays import (
    any_array,
    arm_rows,
    arms_in_play,
    count,
    new_rows,
    parameters,
    weights,
)
from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.seeds import Seed, key_of
from banditcore.threads import thread_count

__all__ = ["ThompsonSampler"]

_LEAST_PARAMETER = 1e-4
_MOST_PARAMETER = 1e13
_MOST_ARMS = 100_000_000
_WORTH_THREADS_DRAWS = 50_000  # where all arms are drawn: as for `thompson_topk`
_WORTH_THREADS = 4_000  # rows: a millisecond of work, against some 50 us to wake a thread
_USEFUL_DEPTH = 0.6  # share of the tables' depth up to which a race is faster than drawing all arms
_FEW_ARMS = 64  # drawing as many as these is faster than racing past the others


class ThompsonSampler:
    """Draws exact Thompson top-k slates of one posterior, at a cost that does not grow with n.

    Immutable and safe to share between threads; calls release the GIL and take no lock.

    Parameters
    ----------
    alpha, beta : (n,) array_like of real numbers
        Parameters of the arms' posteriors, 1e-4 to 1e13; at least one arm.
    weight : (n,) array_like of real numbers, optional
        Value of a success of each arm, positive and finite: the ranking is by weight x rate.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        For arguments that cannot be used; both are a `BanditCoreError`.

    Notes
    -----
    The law is the one of `thompson_topk`; the same seed gives other draws of it. Building takes
    some microseconds an arm and `nbytes` some 200 bytes an arm: worth it from a few thousand
    decisions on. A decision costs O(k) while the posterior has more than about 1.5 k arms that
    compete; for k beyond that every arm is drawn. Under unequal weights arms with beta <= 1, whose
    value ends in a peak, are drawn at each decision too.
    """

    __slots__ = ("_alpha", "_beta", "_boosted", "_deepest", "_fresh", "_size", "_tables", "_weight")

    def __init__(
        self, alpha: ArrayLike, beta: ArrayLike, *, weight: ArrayLike | None = None
    ) -> None:
        a, b = parameters(alpha, beta, _LEAST_PARAMETER, _MOST_PARAMETER)
        n = len(a)
        if not 1 <= n <= _MOST_ARMS:
            raise InvalidValueError(
                describe("the shape of alpha", a.shape, f"1 to {_MOST_ARMS} arms to choose from")
            )
        value = None if weight is None else weights(weight, n)
        self._alpha, self._beta, self._weight = (_frozen(a), _frozen(b), _frozen(value))
        self._boosted = bool(min(a.min(), b.min()) < 1.0)
        self._tables = _race.Tables(self._alpha, self._beta, self._weight)
        figures = self._tables.figures
        # Time up to which no arm has to be drawn one by one; some points are of arms met before.
        all_heads = figures["heads"] == n
        self._deepest = _USEFUL_DEPTH * figures["end"]
        if all_heads:
            self._deepest = float("inf")
        if n <= _FEW_ARMS:
            self._deepest = 0.0
        self._size = n
        self._fresh = _race.Seeds()

    def __len__(self) -> int:
        """Return the number of arms."""
        return self._size

    def __repr__(self) -> str:
        return f"<ThompsonSampler of {len(self)} arms, {self.nbytes} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._alpha, self._beta, self._weight)

    @staticmethod
    def takes(alpha: NDArray[np.float64], beta: NDArray[np.float64]) -> bool:
        """Return whether the parameters of two (n,) float64 columns are in range."""
        low = min(alpha.min(initial=np.inf), beta.min(initial=np.inf))
        high = max(alpha.max(initial=0.0), beta.max(initial=0.0))
        return bool(low >= _LEAST_PARAMETER and high <= _MOST_PARAMETER)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes: tables, and the parameters they were built from."""
        columns = (self._alpha, self._beta, self._weight)
        return self._tables.nbytes + sum(int(c.nbytes) for c in columns if c is not None)

    def topk(
        self,
        k: int,
        *,
        size: int | None = None,
        exclude: ArrayLike | None = None,
        eligible: ArrayLike | None = None,
        out: NDArray[np.int32] | None = None,
        seed: Seed = None,
        threads: int | None = None,
    ) -> NDArray[np.int32]:
        """Draw the best k arms of one posterior sample, or of `size` independent ones.

        Parameters
        ----------
        k : int
            Arms to return, >= 1; may exceed n.
        size : int or None
            Decisions to draw, >= 0; None draws one, without an axis for it.
        exclude : (m,) or (size, m) array_like of int, optional
            Indices of arms never to return: of all rows, or row by row. In a row, -1 names no arm.
        eligible : (n,) array_like of bool, or (m,) array_like of int, optional
            The only arms that may be returned, as a mask or as indices. `exclude` still holds.
        out : (k,) or (size, k) int32 array, optional
            Where to write the answer; writable, C-contiguous.
        seed : int, numpy.random.SeedSequence, numpy.random.Generator or None
            As for `sample_beta`: row r depends on the seed, r and its own exclusions alone.
            None takes the next of a stream that the system's entropy keyed.
        threads : int or None
            As for `sample_beta`.

        Returns
        -------
        (k,) or (size, k) int32
            Distinct arm indices, best first; -1 in the places for which no arm is left. `out` if
            that was given.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            For arguments that cannot be used; both are a `BanditCoreError`.
        """
        plain = size is None and exclude is None and eligible is None and out is None
        if plain and type(k) is int and 1 <= k <= self._deepest and k <= 1024 and threads is None:
            key = self._fresh.next() if seed is None else key_of(seed)
            return self._tables.one(k, key)
        n = len(self)
        places = count("k", k, 1)
        rows = None if size is None else count("size", size, 0)
        bans = None
        if exclude is not None:
            given = any_array("exclude", exclude)
            if given.ndim == 2:
                bans, exclude = arm_rows("exclude", given, rows, n), None
        arms = None
        if exclude is not None or eligible is not None:
            arms = arms_in_play(eligible, exclude, n)
        left = n if arms is None else len(arms)
        # To meet k of `left` arms, about k n / left of all are met.
        deep = places * n > self._deepest * left or left <= _FEW_ARMS
        direct = deep and bans is None
        decisions = 1 if rows is None else rows
        workers = thread_count(
            threads,
            decisions * left if direct else decisions,
            _WORTH_THREADS_DRAWS if direct else _WORTH_THREADS,
        )
        answer = _target(out, places, rows)
        grid = answer.reshape(decisions, places)
        key = self._fresh.next() if seed is None else key_of(seed)
        if direct:
            columns = (self._alpha, self._beta, self._weight, arms)
            _sampling.topk(*columns, grid, key, workers, boosted=self._boosted)
        else:
            banned = None if arms is None else _bitmap(arms, n)
            self._tables.topk(grid, key, workers, None, banned, bans)
        return answer

    def decide(
        self, k: int, key: int, exclude: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Draw one decision in a microsecond. Nothing is checked: for callers that have done so.

        Parameters
        ----------
        k : int
            From 1 to the number of arms left.
        key : int
            64 random bits. The same ones give the same answer; `topk` gives another.
        exclude : (m,) int32, C-contiguous, optional
            Distinct indices of arms never to return.

        Returns
        -------
        (k,) int32
            Distinct arm indices, best first.
        """
        if self._races(k, exclude):
            return self._tables.one(k, key, exclude)
        drawn = np.empty((1, k), np.int32)
        arms = None if exclude is None else arms_in_play(None, exclude, len(self))
        columns = (self._alpha, self._beta, self._weight, arms)
        _sampling.topk(*columns, drawn, key, 1, boosted=self._boosted)
        return drawn.reshape(k)

    def decide_many(
        self, k: int, keys: NDArray[np.uint64], exclude: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Return `decide` of every key, (rows, k) int32."""
        if self._races(k, exclude):
            return self._tables.each(k, keys, exclude)
        rows = np.empty((len(keys), k), np.int32)
        for row, key in enumerate(keys.tolist()):
            rows[row] = self.decide(k, key, exclude)
        return rows

    def _races(self, k: int, exclude: NDArray[np.int32] | None) -> bool:
        n = self._size
        left = n if exclude is None else n - exclude.size
        return left > _FEW_ARMS and k * n <= self._deepest * left


def _rebuild(
    alpha: NDArray[np.float64], beta: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> ThompsonSampler:
    return ThompsonSampler(alpha, beta, weight=weight)


def _frozen(column: Any) -> Any:
    if column is None:
        return None
    kept = column.copy()
    kept.flags.writeable = False
    return kept


def _target(out: NDArray[np.int32] | None, places: int, size: int | None) -> NDArray[np.int32]:
    if out is None:
        return new_rows(np.int32, places, size)
    shape = (places,) if size is None else (size, places)
    if not isinstance(out, np.ndarray) or out.dtype != np.int32:
        kind = getattr(out, "dtype", type(out).__name__)
        raise InvalidTypeError(describe("out", kind, "an int32 array is needed"))
    if out.shape != shape or not out.flags.carray:
        raise InvalidValueError(
            describe("the shape of out", out.shape, f"writable, aligned, C-contiguous: {shape}")
        )
    return out


def _bitmap(arms: NDArray[np.int32], n: int) -> NDArray[np.uint64]:
    """Return a bit for each arm that is not among `arms`, 64 to a word."""
    banned = np.ones(-(-n // 64) * 64, dtype=np.bool_)
    banned[arms] = False
    return np.packbits(banned, bitorder="little").view("<u8").astype(np.uint64, copy=False)
