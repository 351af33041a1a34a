"""Columns of (arm, trials, successes), how they merge, and how evidence fades.

Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical time decay
model for streaming systems", ICDE 2009): with half-life h and landmark L, an event at time t is
stored with weight 2**((t - L) / h), and a reader at time T divides every sum by
2**((T - L) / h). Stored sums only ever grow by addition, so late events and many writers need
nothing special.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import InvalidValueError, describe

__all__ = ["ArmCounts", "DistinctArms", "decay_exponent", "faded", "merge"]

FloatArray = NDArray[np.float64]


class DistinctArms(tuple[str, ...]):
    """A tuple of arm ids, none of which stands there twice: that is checked when it is made.

    Raises
    ------
    InvalidValueError
        If one does.
    """

    __slots__ = ()

    def __new__(cls, arms: Iterable[str]) -> DistinctArms:
        """Check the ids and keep them."""
        ids = super().__new__(cls, arms)
        if len(set(ids)) != len(ids):
            raise InvalidValueError(describe("arms", ids, "each arm may stand here once"))
        return ids


@dataclass(frozen=True, slots=True, eq=False)
class ArmCounts:
    """What is known of the arms of one segment at one moment.

    Parameters
    ----------
    arms : sequence of str
        (n,) distinct arm ids.
    trials, successes : (n,) float64, >= 0, finite
        Sums over events, each event faded to `as_of`. Without a half-life they are plain sums.
        A late reward counts as a success without a trial, so successes may exceed trials.
    as_of : float
        The moment the sums are faded to, in seconds since 1970 (UTC).
    """

    arms: tuple[str, ...]
    trials: FloatArray
    successes: FloatArray
    as_of: float

    def __init__(
        self, arms: Sequence[str], trials: FloatArray, successes: FloatArray, as_of: float
    ) -> None:
        columns = {"trials": trials, "successes": successes}
        for name, given in columns.items():
            column = np.array(given, dtype=np.float64)  # a copy: nobody else can change it
            if column.shape != (len(arms),):
                raise InvalidValueError(
                    describe(name, column.shape, f"one number an arm, so shape ({len(arms)},)")
                )
            bad = ~(np.isfinite(column) & (column >= 0))
            if bad.any():
                raise InvalidValueError(
                    describe(
                        f"{name}[{int(bad.argmax())}]",
                        float(column[bad.argmax()]),
                        "counts are finite and not negative",
                    )
                )
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        distinct = arms if type(arms) is DistinctArms else DistinctArms(arms)
        object.__setattr__(self, "arms", distinct)
        object.__setattr__(self, "as_of", float(as_of))

    def __len__(self) -> int:
        return len(self.arms)


def merge(parts: Sequence[ArmCounts], as_of: float) -> ArmCounts:
    """Return the sum of `parts` by arm; arms in order of first appearance.

    Parameters
    ----------
    parts : sequence of ArmCounts
        All faded to the same moment.
    as_of : float
        That moment, in seconds since 1970; also the answer's when `parts` is empty.
    """
    for part in parts:
        if part.as_of != as_of:
            raise InvalidValueError(
                describe("as_of", part.as_of, f"counts merge at one moment, here {as_of!r}")
            )
    if len(parts) == 1:
        return parts[0]
    first = parts[0].arms if parts else ()
    slot_of = {arm: slot for slot, arm in enumerate(first)}
    slots: list[slice | NDArray[np.intp]] = []
    for part in parts:
        if part.arms == first:  # segments that register their arms together: no look at each one
            slots.append(slice(len(first)))
        else:
            each = (slot_of.setdefault(arm, len(slot_of)) for arm in part.arms)
            slots.append(np.fromiter(each, np.intp, len(part)))
    trials = np.zeros(len(slot_of))
    successes = np.zeros(len(slot_of))
    with np.errstate(over="ignore"):  # `ArmCounts` says so
        for part, where in zip(parts, slots, strict=True):
            trials[where] += part.trials  # distinct within a part: plain indexing adds each once
            successes[where] += part.successes
    return ArmCounts(tuple(slot_of), trials, successes, as_of)


def faded(counts: ArmCounts, as_of: float, half_life_s: float | None) -> ArmCounts:
    """Return the counts faded on to a later moment.

    Parameters
    ----------
    counts : ArmCounts
        (n,) arms.
    as_of : float
        Seconds since 1970, not before `counts.as_of`.
    half_life_s : float or None
        Seconds, > 0; None when evidence does not fade.
    """
    if as_of < counts.as_of:
        raise InvalidValueError(
            describe("as_of", as_of, f"not before the counts' own moment, {counts.as_of!r}")
        )
    fade = np.exp2(-decay_exponent(as_of, counts.as_of, half_life_s))
    return ArmCounts(counts.arms, counts.trials * fade, counts.successes * fade, as_of)


def decay_exponent(
    time: FloatArray | float, landmark: float, half_life_s: float | None
) -> FloatArray:
    """Return (t - L) / h, the power of two an event at `time` is stored with; 0 without decay.

    Parameters
    ----------
    time : float or (n,) float64
        Seconds since 1970.
    landmark : float
        L, seconds since 1970.
    half_life_s : float or None
        h in seconds, > 0; None when evidence does not fade.
    """
    seconds = np.asarray(time, dtype=np.float64) - landmark
    return np.zeros_like(seconds) if half_life_s is None else seconds / half_life_s
