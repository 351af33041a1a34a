"""What users of a batch must not be shown, as places among the arms of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from banditcore._packed import PackedIds

__all__ = ["ExcludedOfGroups", "ExcludedOfUser", "ExcludedPlaces"]


class ExcludedOfUser:
    """Arms of one snapshot that one user must not be shown. Immutable.

    Parameters
    ----------
    arms : PackedIds
    places : (n,) int32
        Distinct.
    """

    __slots__ = ("_arms", "_places")

    def __init__(self, arms: PackedIds, places: NDArray[np.int32]) -> None:
        self._arms = arms
        self._places = places

    def ids(self) -> frozenset[str]:
        """Return the ids of the arms; the set is made anew."""
        return frozenset(self._arms.named(self._places))


class ExcludedPlaces:
    """For each of n users, arms of one snapshot. Immutable; a set is made when it is asked for.

    Parameters
    ----------
    arms : PackedIds
    starts : (n + 1,) int64
    places : (starts[n],) int32
        Of user i from `starts[i]` on, before `starts[i + 1]`; distinct.

    Attributes
    ----------
    arms, starts, places
    """

    __slots__ = ("arms", "places", "starts")

    def __init__(
        self, arms: PackedIds, starts: NDArray[np.int64], places: NDArray[np.int32]
    ) -> None:
        self.arms = arms
        self.starts = starts
        self.places = places

    @classmethod
    def of_sets(cls, arms: PackedIds, sets: Iterable[frozenset[str]]) -> ExcludedPlaces:
        """Return those of ids; what is none of the arms does no harm."""
        each = [arms.places(ids) for ids in sets]
        starts = np.zeros(len(each) + 1, np.int64)
        np.cumsum([found.size for found in each], out=starts[1:])
        return cls(arms, starts, np.concatenate(each) if each else np.empty(0, np.int32))

    def __len__(self) -> int:
        return self.starts.size - 1

    def __getitem__(self, user: int) -> frozenset[str]:
        return frozenset(self.arms.named(self.of(user)))

    def of_user(self, user: int) -> ExcludedOfUser:
        """Return those of one user, who keeps none of the others in memory."""
        return ExcludedOfUser(self.arms, self.of(user).copy())

    def of(self, user: int) -> NDArray[np.int32]:
        """Return the places of one user."""
        return self.places[self.starts[user] : self.starts[user + 1]]


class ExcludedOfGroups:
    """What users of a batch must not be shown who are answered by different snapshots."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: dict[int, tuple[ExcludedPlaces, int]] = {}

    def put(self, users: Iterable[int], part: ExcludedPlaces) -> None:
        """Say what a group of users, by their places in the batch, must not be shown."""
        for row, user in enumerate(users):
            self._parts[user] = part, row

    def of_user(self, user: int) -> ExcludedOfUser:
        """Return those of one user."""
        part, row = self._parts[user]
        return part.of_user(row)
