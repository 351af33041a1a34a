"""Slate banks: independent posterior slates drawn ahead of time, and the snapshot they ship in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from banditcore.arrays import any_array, positive_int
from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.identifiers import MAX_ID_BYTES, check_arm, check_bandit, check_segment
from banditcore.sampling import MAX_PARAMETER, MIN_PARAMETER, thompson_topk

if TYPE_CHECKING:
    from banditcore.sampling import Seed

__all__ = [
    "DEFAULT_DEPTH",
    "DEFAULT_SLATES",
    "SlateBank",
    "Snapshot",
    "check_parameters",
    "draw_bank",
]

DEFAULT_SLATES = 256
"""Slates in a bank. A propensity counted over them is a multiple of 1/256."""

DEFAULT_DEPTH = 50
"""Arms in a slate: room to drop what a user must not see and still fill ten places."""

_NO_ARM = -1
_MAX_VERSION = 2**64 - 1
_MAX_UTF8_WIDTH = 4


@dataclass(frozen=True, slots=True, eq=False)
class SlateBank:
    """Many slates of one segment, one a row. Immutable.

    Parameters
    ----------
    slates : (m, depth) int32
        Arm indices >= 0, best first, distinct within a row. A row that has fewer arms than
        `depth` ends in -1s; -1 stands nowhere else. A copy is taken.

    Raises
    ------
    InvalidTypeError
        `slates` does not hold integers.
    InvalidValueError
        The shape is wrong, or a row breaks a rule above.
    """

    slates: NDArray[np.int32]

    def __init__(self, slates: ArrayLike) -> None:
        given = np.asarray(slates)
        if given.dtype.kind not in "iu":
            raise InvalidTypeError(describe("slates", given.dtype, "arm indices are integers"))
        if given.ndim != 2:
            raise InvalidValueError(
                describe("slates", given.shape, "one row a slate, so shape (m, depth)")
            )
        padded = bool(given.size) and _lowest(given) == _NO_ARM
        rows = np.array(given, dtype=np.int32, order="C")
        if padded:
            _check_padding(rows)
        _check_distinct(rows)
        rows.flags.writeable = False
        object.__setattr__(self, "slates", rows)

    def __len__(self) -> int:
        return int(self.slates.shape[0])

    @property
    def depth(self) -> int:
        """The length of a row, padding included."""
        return int(self.slates.shape[1])

    def __reduce__(self) -> tuple[Any, ...]:
        return SlateBank, (self.slates,)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What the batch job publishes of a segment, and a serving process holds. Immutable.

    Parameters
    ----------
    bandit, segment : str
        Whose snapshot this is.
    version : int
        Microseconds since 1970 (UTC) of the counts it was computed from, 0..2**64 - 1.
    arms : sequence of str
        (n,) distinct arm ids. A segment whose arms are all retired has none.
    alpha, beta : (n,) float64, 1e-100 to 1e100
        The posterior of each arm, within the sampler's range. Copies are taken.
    bank : SlateBank
        Slates over these arms, each index < n. At least one slate of at least one place; with no
        arms there are none, and the bank has shape (0, 0).

    Raises
    ------
    InvalidTypeError, InvalidValueError
        An argument breaks a rule above.
    """

    bandit: str
    segment: str
    version: int
    arms: tuple[str, ...]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    bank: SlateBank

    def __init__(  # noqa: PLR0917  # the order of the fields, as a dataclass has it
        self,
        bandit: str,
        segment: str,
        version: int,
        arms: Sequence[str],
        alpha: ArrayLike,
        beta: ArrayLike,
        bank: SlateBank,
    ) -> None:
        object.__setattr__(self, "bandit", check_bandit(bandit))
        object.__setattr__(self, "segment", check_segment(segment))
        object.__setattr__(self, "version", _check_version(version))
        checked = _check_arms(arms)
        object.__setattr__(self, "arms", checked)
        object.__setattr__(self, "alpha", check_parameters("alpha", alpha, len(checked)))
        object.__setattr__(self, "beta", check_parameters("beta", beta, len(checked)))
        _check_bank(bank, len(checked))
        object.__setattr__(self, "bank", bank)

    def __len__(self) -> int:
        return len(self.arms)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.bandit, self.segment, self.version, self.arms)
        return Snapshot, (*fields, self.alpha, self.beta, self.bank)


def draw_bank(
    alpha: ArrayLike,
    beta: ArrayLike,
    *,
    slates: int = DEFAULT_SLATES,
    depth: int = DEFAULT_DEPTH,
    seed: Seed = None,
    threads: int | None = None,
) -> SlateBank:
    """Draw independent Thompson slates from one posterior.

    Parameters
    ----------
    alpha, beta : (n,) float64, 1e-100 to 1e100
        The posterior of each arm.
    slates : int, >= 1
        How many.
    depth : int, >= 1
        Arms in each; cut to n.
    seed : int, numpy.random.SeedSequence, numpy.random.Generator or None
        The same seed gives the same bank for any number of threads.
    threads : int or None
        As in `thompson_topk`.

    Returns
    -------
    SlateBank
        Shape (slates, min(depth, n)); (0, 0) when there are no arms.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        An argument breaks a rule above.
    """
    count, places = positive_int("slates", slates), positive_int("depth", depth)
    alpha, beta = any_array("alpha", alpha), any_array("beta", beta)
    n_arms = alpha.size
    if n_arms == 0 and beta.size == 0:
        return SlateBank(np.empty((0, 0), dtype=np.int32))
    return SlateBank(
        thompson_topk(alpha, beta, min(places, n_arms), size=count, seed=seed, threads=threads)
    )


def _lowest(slates: NDArray[Any]) -> int:
    """Return the lowest of the indices, all of which are in range, or raise."""
    low, high = int(slates.min()), int(slates.max())
    if low < _NO_ARM or high > np.iinfo(np.int32).max:
        raise InvalidValueError(
            describe("slates", low if low < _NO_ARM else high, "an arm index, or -1 for no arm")
        )
    return low


def _check_padding(rows: NDArray[np.int32]) -> None:
    resumed = (rows[:, 1:] != _NO_ARM) & (rows[:, :-1] == _NO_ARM)
    if resumed.any():
        row = int(resumed.any(axis=1).argmax())
        raise InvalidValueError(
            describe(f"slates[{row}]", rows[row].tolist(), "-1 stands only at the end of a row")
        )


def _check_distinct(rows: NDArray[np.int32]) -> None:
    ordered = np.sort(rows, axis=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    if same.any() and (repeated := same & (ordered[:, 1:] != _NO_ARM)).any():
        row = int(repeated.any(axis=1).argmax())
        raise InvalidValueError(
            describe(f"slates[{row}]", rows[row].tolist(), "an arm stands once in a slate")
        )


def _check_version(version: object) -> int:
    if isinstance(version, bool) or not isinstance(version, (int, np.integer)):
        raise InvalidTypeError(
            describe("version", version, "an int of microseconds since 1970 (UTC)")
        )
    if not 0 <= version <= _MAX_VERSION:
        raise InvalidValueError(describe("version", version, f"0 to {_MAX_VERSION} microseconds"))
    return int(version)


def _check_arms(arms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(arms, (str, bytes)):
        raise InvalidTypeError(describe("arms", arms, "a sequence of arm ids, not one string"))
    ids = tuple(arms)
    # Ten thousand at a time, this often: look at each id alone only if the whole looks odd.
    try:
        "".join(ids).encode()
        sizes = set(map(len, ids))
        suspect = 0 in sizes or max(sizes, default=0) > _ALWAYS_FITS
    except (TypeError, UnicodeEncodeError):
        suspect = True
    if suspect:
        for arm in ids:
            check_arm(arm)
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(arm for arm in ids if arm in seen or seen.add(arm))  # type: ignore[func-returns-value]  # set.add is None, so the arm is kept
        raise InvalidValueError(describe("arms", twice, "each arm may stand here once"))
    return ids


_ALWAYS_FITS = MAX_ID_BYTES // _MAX_UTF8_WIDTH


def check_parameters(name: str, given: ArrayLike, n_arms: int) -> NDArray[np.float64]:
    """Return a copy of one side of a posterior that nobody can change, or raise."""
    column = np.array(given, dtype=np.float64)  # a copy: nobody else can change it
    if column.shape != (n_arms,):
        raise InvalidValueError(
            describe(name, column.shape, f"one number an arm, so shape ({n_arms},)")
        )
    # What the sampler takes: a snapshot that it refuses would fail in the middle of a request.
    bad = ~((column >= MIN_PARAMETER) & (column <= MAX_PARAMETER))
    if bad.any():
        worst = int(bad.argmax())
        raise InvalidValueError(
            describe(
                f"{name}[{worst}]", float(column[worst]), f"{MIN_PARAMETER} to {MAX_PARAMETER}"
            )
        )
    column.flags.writeable = False
    return column


def _check_bank(bank: object, n_arms: int) -> None:
    if not isinstance(bank, SlateBank):
        raise InvalidTypeError(describe("bank", bank, "a SlateBank"))
    shape = bank.slates.shape
    if n_arms == 0:
        if shape != (0, 0):
            raise InvalidValueError(describe("bank", shape, "no arms, no slates: shape (0, 0)"))
        return
    if 0 in shape or shape[1] > n_arms:
        raise InvalidValueError(
            describe("bank", shape, f"at least one slate, of 1 to {n_arms} places")
        )
    highest = int(bank.slates.max())
    if highest >= n_arms:
        raise InvalidValueError(describe("bank", highest, f"an arm index is below {n_arms} here"))
