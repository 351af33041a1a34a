"""The answer to one request, and what it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from banditcore.serving.rung import Policy

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
        What is less than promised: ``"stale"``, no snapshot was fresh enough; ``"default"``, there
        was none at all. Empty when all is well.
    """

    arms: tuple[str, ...]
    source: str
    version: int | None
    age: float | None
    degraded: tuple[str, ...]
    _made: tuple[Policy, int, frozenset[str]] | None = field(repr=False, compare=False)

    @property
    def propensities(self) -> NDArray[np.float64]:
        """(len(arms),) float64: for each position, the probability of this arm standing there.

        Exact for the policy in force and the arms that were excluded. With ``mode="bank"`` the
        policy is "uniform over the slate bank, filtered", so this is a count over the bank; from
        the first position that the filtered row of some slate does not reach, live sampling has a
        part in the choice and the value is NaN. With ``mode="live"`` it is a quadrature over the
        posteriors. The caller's default is certain: 1.0.

        Found at each reading: in some ten microseconds from a bank, in a tenth of a second by
        quadrature over 10,000 arms.
        """
        if self._made is None:
            return np.ones(len(self.arms))
        policy, k, excluded = self._made
        return policy.propensities(self.arms, k, excluded)
