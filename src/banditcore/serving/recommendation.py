"""The answer to one request, and what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from banditcore.serving.rung import Rung

__all__ = ["DEFAULT_SOURCE", "Recommendation"]

DEFAULT_SOURCE = "default"
"""The `source` of an answer that came from the caller's own list."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Arms for one request.

    Attributes
    ----------
    arms : tuple of str
        Best first, distinct, none excluded. Shorter than asked for when arms ran out.
    source : str
        The segment whose snapshot answered, ``""`` for the global one; ``"default"`` with version
        None when the caller's own list did.
    version : int or None
        That snapshot's version: microseconds since 1970 of the counts behind it.
    age : float or None
        Seconds from then to the request, >= 0.
    degraded : tuple of str
        What is less than promised: ``"stale"``, no snapshot was fresh enough, because all are older
        than `max_age`, or came from a backup and the store has not confirmed them; ``"default"``,
        there was none at all. Empty when all is well.
    """

    arms: tuple[str, ...]
    source: str
    version: int | None
    age: float | None
    degraded: tuple[str, ...]
    _policy: tuple[Rung, int, frozenset[str]] | None = field(repr=False, compare=False)

    @property
    def propensities(self) -> NDArray[np.float64]:
        """(len(arms),) float64: for each position, the probability of this arm standing there.

        The policy in force is "uniform over the slate bank, filtered", so this is a count over
        the bank, and exact. From the first position that the filtered row of some slate does not
        reach, live sampling has a part in the choice and the value is NaN. The caller's default
        is certain: 1.0. Counted at each reading, in some hundred microseconds.
        """
        if self._policy is None:
            return np.ones(len(self.arms))
        rung, k, excluded = self._policy
        return rung.propensities(self.arms, k, excluded)
