"""Thompson's top-k for a posterior that is asked often: tables once, then O(k) a decision.

The method is exact and called a race here; ``docs/race.md`` derives it. Streams are those of
`banditcore.sampling`, keyed by (seed, row), with purposes of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore import _race, sampling
from banditcore.errors import InvalidTypeError, InvalidValueError, describe

__all__ = ["ThompsonSampler"]

_MOST_PARAMETER = 1e13
_LEAST_PARAMETER = 1e-4
_MOST_ARMS = 100_000_000
_WORTH_THREADS = 4_000  # rows: a millisecond of work, against some 50 us to start a thread
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

    __slots__ = ("_alpha", "_beta", "_deepest", "_fresh", "_tables", "_weight")

    def __init__(
        self, alpha: ArrayLike, beta: ArrayLike, *, weight: ArrayLike | None = None
    ) -> None:
        a, b, *_ = sampling._parameters(alpha, beta)  # one door's checks for both
        n = len(a)
        if n == 0:
            raise InvalidValueError(describe("alpha", alpha, "a choice needs at least one arm"))
        if n > _MOST_ARMS:
            raise InvalidValueError(describe("alpha", a.shape, f"at most {_MOST_ARMS} arms"))
        for name, column in (("alpha", a), ("beta", b)):
            unfit = (column < _LEAST_PARAMETER) | (column > _MOST_PARAMETER)
            if unfit.any():
                bad = int(unfit.argmax())
                remedy = f"must be from {_LEAST_PARAMETER:g} to {_MOST_PARAMETER:g}"
                raise InvalidValueError(describe(f"{name}[{bad}]", float(column[bad]), remedy))
        value = None if weight is None else sampling._weight(weight, n)  # as above
        self._alpha, self._beta, self._weight = (_frozen(a), _frozen(b), _frozen(value))
        self._tables = _race.Tables(self._alpha, self._beta, self._weight)
        figures = self._tables.figures
        # Time up to which no arm has to be drawn one by one; some points are of arms met before.
        all_heads = figures["heads"] == n
        self._deepest = _USEFUL_DEPTH * figures["end"]
        if all_heads:
            self._deepest = float("inf")
        if n <= _FEW_ARMS:
            self._deepest = 0.0
        self._fresh = _race.Seeds()

    def __len__(self) -> int:
        """Return the number of arms."""
        return int(self._alpha.size)

    def __repr__(self) -> str:
        return f"<ThompsonSampler of {len(self)} arms, {self.nbytes} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._alpha, self._beta, self._weight)

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
        seed: sampling.Seed = None,
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
            key = self._fresh.next() if seed is None else _key(seed)
            return self._tables.one(k, key)
        n = len(self)
        places = sampling._count("k", k, 1)  # one door's checks for both
        rows = 1 if size is None else sampling._count("size", size, 0)
        bans = None
        if exclude is not None:
            given = sampling._array("exclude", exclude)
            if given.ndim == 2:
                bans, exclude = _bans_by_row(given, rows, size, n), None
        arms = None
        if exclude is not None or eligible is not None:
            arms = sampling._arms_in_play(exclude, eligible, n)
        answer = _target(out, rows, places, size)
        workers = _threads(threads, rows)
        grid = answer.reshape(rows, places)
        left = n if arms is None else len(arms)
        # To meet k of `left` arms, about k n / left of all are met.
        deep = places * n > self._deepest * left or left <= _FEW_ARMS
        if deep and bans is None:
            grid[:] = sampling.thompson_topk(
                self._alpha,
                self._beta,
                places,
                size=rows,
                weight=self._weight,
                eligible=arms,
                seed=seed,
                threads=workers,
            )
        else:
            key = self._fresh.next() if seed is None else _key(seed)
            banned = None if arms is None else _bitmap(arms, n)
            self._tables.topk(grid, key, workers, None, banned, bans)
        return answer


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


def _key(seed: object) -> int:
    return sampling._key(seed)  # seeds mean the same everywhere


def _threads(threads: int | None, rows: int) -> int:
    if threads is None and rows < _WORTH_THREADS:
        return 1
    return sampling._threads(threads, 1 << 40)


def _bans_by_row(given: NDArray[Any], rows: int, size: int | None, n: int) -> NDArray[np.int32]:
    if size is None or given.shape[0] != rows:
        raise InvalidValueError(
            describe("exclude", given.shape, f"shape (m,), or one row each: ({size}, m)")
        )
    if given.size == 0:
        return np.empty((rows, 0), dtype=np.int32)
    if given.dtype.kind not in "iu":
        raise InvalidTypeError(
            describe("exclude", given.dtype, "arm indices (integers) are needed")
        )
    bad = (given < -1) | (given >= n) if given.dtype.kind == "i" else given >= n
    if bad.any():
        row, place = (int(at) for at in np.unravel_index(int(bad.argmax()), bad.shape))
        raise InvalidValueError(
            describe(
                f"exclude[{row}, {place}]",
                int(given[row, place]),
                f"an arm index is 0..{n - 1}, or -1 for none",
            )
        )
    return np.ascontiguousarray(given, dtype=np.int32)


def _target(
    out: NDArray[np.int32] | None, rows: int, places: int, size: int | None
) -> NDArray[np.int32]:
    shape = (places,) if size is None else (rows, places)
    if out is None:
        if rows * places * 4 > 2**63 - 1:
            raise InvalidValueError(describe("k", places, "size x k indices do not fit in memory"))
        return np.empty(shape, dtype=np.int32)
    if not isinstance(out, np.ndarray) or out.dtype != np.int32:
        kind = getattr(out, "dtype", type(out).__name__)
        raise InvalidTypeError(describe("out", kind, "an int32 array is needed"))
    if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
        raise InvalidValueError(
            describe("out", out.shape, f"a writable, C-contiguous array of shape {shape} is needed")
        )
    return out


def _bitmap(arms: NDArray[np.int32], n: int) -> NDArray[np.uint64]:
    """Return a bit for each arm that is not among `arms`, 64 to a word."""
    banned = np.ones(-(-n // 64) * 64, dtype=np.bool_)
    banned[arms] = False
    return np.packbits(banned, bitorder="little").view("<u8").astype(np.uint64, copy=False)
