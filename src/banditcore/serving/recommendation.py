"""The answer to one request, and what it was made from."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banditcore._answer import Answer
from banditcore.serving.exclusions import ExcludedOfUser

__all__ = ["DEFAULT_SOURCE", "Made", "Recommendation"]

DEFAULT_SOURCE = "default"
"""The `source` of an answer that came from the caller's own list."""


class KnownPolicy:
    """The policy of an answer from elsewhere: its propensities alone.

    Parameters
    ----------
    known : (n,) float64
        Of the answer's arms.
    """

    __slots__ = ("_known",)

    def __init__(self, known: NDArray[np.float64]) -> None:
        self._known = known

    def propensities(
        self, _arms: tuple[str, ...], _k: int, _excluded: frozenset[str]
    ) -> NDArray[np.float64]:
        """Return them."""
        return self._known.copy()


class Explains(Protocol):
    """What tells of propensities."""

    def propensities(
        self, arms: tuple[str, ...], k: int, excluded: frozenset[str]
    ) -> NDArray[np.float64]:
        """Return the probability of each of `arms` at its position, NaN where it is not known."""


Made: TypeAlias = tuple[Explains, int, frozenset[str] | ExcludedOfUser]
"""What chose an answer, how many arms were asked for, and which were excluded."""


class Recommendation(Answer):
    """Arms for one request. Immutable.

    It can be pickled, propensities included: they are found for that, which with ``mode="live"``
    takes a quadrature.

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

    __slots__ = ()

    @property
    def propensities(self) -> NDArray[np.float64]:
        """(len(arms),) float64: for each position, the probability of this arm standing there.

        Exact for the policy in force and the arms that were excluded. With ``mode="bank"`` the
        policy is "uniform over the slate bank, filtered", so this is a count over the bank; from
        the first position that the filtered row of some slate does not reach, live sampling has a
        part in the choice and the value is NaN. With ``mode="live"`` it is a quadrature over the
        posteriors. The caller's default is certain: 1.0.

        Found at each reading: in some ten microseconds from a bank; by quadrature over 10,000 arms
        in 0.15 s, or at once if the one before was of the same snapshot and exclusions.
        """
        made: Made | None = self._made
        if made is None:
            return np.ones(len(self.arms))
        policy, k, excluded = made
        if isinstance(excluded, ExcludedOfUser):
            excluded = excluded.ids()
        return policy.propensities(self.arms, k, excluded)

    def _fields(self) -> tuple[Any, ...]:
        return self.arms, self.source, self.version, self.age, self.degraded

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recommendation):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __copy__(self) -> Recommendation:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Recommendation:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # What chose it is a whole snapshot, which stays here.
        known = None if self._made is None else self.propensities
        return _received, (*self._fields(), known)

    def __repr__(self) -> str:
        return (
            f"Recommendation(arms={self.arms!r}, source={self.source!r}, version={self.version!r}, "
            f"age={self.age!r}, degraded={self.degraded!r})"
        )


def _received(  # noqa: PLR0917
    arms: tuple[str, ...],
    source: str,
    version: int | None,
    age: float | None,
    degraded: tuple[str, ...],
    known: NDArray[np.float64] | None,
) -> Recommendation:
    """Return an answer that was made elsewhere."""
    made = None if known is None else (KnownPolicy(known), len(arms), frozenset[str]())
    return Recommendation(arms, source, version, age, degraded, made)
