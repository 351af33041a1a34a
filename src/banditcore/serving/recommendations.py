"""The answers to a batch of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, overload

from banditcore.serving.arguments import NOTHING, Exclusions
from banditcore.serving.exclusions import ExcludedOfGroups, ExcludedOfUser
from banditcore.serving.recommendation import Explains, Recommendation

__all__ = ["Origin", "Recommendations"]


class Origin(NamedTuple):
    """Where answers came from: the fields of `Recommendation` that those of a rung share."""

    source: str
    version: int | None
    age: float | None
    degraded: tuple[str, ...]
    policy: Explains | None


class Recommendations(Sequence[Recommendation]):
    """One `Recommendation` a user, in the order of the request. Immutable.

    A `Recommendation` is made when it is asked for; `arms` has all slates at once. They can be
    pickled, propensities included, as a `Recommendation` can.

    Attributes
    ----------
    arms : list of tuples of str
        The arms of every answer.
    origins : list of Origin
        Where each came from; answers from one place share it.
    """

    __slots__ = ("_excluded", "_k", "arms", "origins")

    def __init__(
        self,
        arms: list[tuple[str, ...]],
        origins: list[Origin],
        k: int,
        excluded: Exclusions | ExcludedOfGroups,
    ) -> None:
        self.arms = arms
        self.origins = origins
        self._k = k
        self._excluded = excluded

    def __len__(self) -> int:
        return len(self.arms)

    @overload
    def __getitem__(self, place: int) -> Recommendation: ...
    @overload
    def __getitem__(self, place: slice) -> list[Recommendation]: ...
    def __getitem__(self, place: int | slice) -> Recommendation | list[Recommendation]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        source, version, age, degraded, policy = self.origins[place]
        made = None if policy is None else (policy, self._k, self._excluded_of(place))
        return Recommendation(self.arms[place], source, version, age, degraded, made)

    def __copy__(self) -> Recommendations:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Recommendations:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # What chose them are whole snapshots, which stay here.
        return _received, (list(self),)

    def __repr__(self) -> str:
        return f"<Recommendations for {len(self)} users>"

    def _excluded_of(self, place: int) -> frozenset[str] | ExcludedOfUser:
        every = self._excluded
        if isinstance(every, frozenset):
            return every
        if isinstance(every, list):
            return every[place]
        return every.of_user(range(len(self))[place])  # which knows no places from the end


def _received(answers: list[Recommendation]) -> Recommendations:
    """Return answers that were made elsewhere."""
    origins = []
    for answer in answers:
        policy = None if answer._made is None else answer._made[0]
        origins.append(Origin(answer.source, answer.version, answer.age, answer.degraded, policy))
    arms = [answer.arms for answer in answers]
    return Recommendations(arms, origins, max(map(len, arms), default=0), NOTHING)
