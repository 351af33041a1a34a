"""What look-ups of seen items found, for one user and for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from banditcore._packed import PackedIds
from banditcore.serving.arm_index import ArmIndexes
from banditcore.serving.exclusions import ExcludedPlaces
from banditcore.serving.seen_memory import SeenMemory
from banditcore.store.seen_record import Forbidden

__all__ = ["DEFAULT_INDEX", "Seen", "SeenOfMany"]

DEFAULT_INDEX = "/default"
"""Of the caller's default arms; no segment is called so."""

_FIRST = np.zeros(1, np.int64)


class SeenOfMany(Sequence["Seen | None"]):
    """What each user of a batch may not be shown now: `Seen`, or None for an unknown user.

    Parameters
    ----------
    indexes : ArmIndexes
    memory : SeenMemory
    keys : list of str
        Of users' records. A user's number is its place here.
    users : list of int
        The number of the user at each place of the batch, -1 for an unknown one.
    second : int
        Now, since 1970.
    forbidden : Forbidden
        Of those users.
    ok : list of bool
        Of those users: False, the store did not tell, so only this process's memory is in it.

    Attributes
    ----------
    ok
    """

    __slots__ = ("_forbidden", "_indexes", "_keys", "_memory", "_second", "_users", "ok")

    def __init__(  # noqa: PLR0917  # one place makes them
        self,
        indexes: ArmIndexes,
        memory: SeenMemory,
        keys: list[str],
        users: list[int],
        second: int,
        forbidden: Forbidden,
        ok: list[bool],
    ) -> None:
        self._indexes = indexes
        self._memory = memory
        self._keys = keys
        self._users = users
        self._second = second
        self._forbidden = forbidden
        self.ok = ok

    def __len__(self) -> int:
        return len(self._users)

    @overload
    def __getitem__(self, place: int) -> Seen | None: ...
    @overload
    def __getitem__(self, place: slice) -> list[Seen | None]: ...
    def __getitem__(self, place: int | slice) -> Seen | list[Seen | None] | None:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        user = self._users[place]
        return None if user < 0 else self.of(user)

    def of(self, user: int) -> Seen:
        """Return what is known of one user, by his number."""
        return Seen(self, user)

    def told(self, places: Sequence[int]) -> list[bool]:
        """Return whether all that may be asked of the store about these places is known."""
        if all(self.ok):
            return [True] * len(places)
        users, ok = self._users, self.ok
        return [users[place] < 0 or ok[users[place]] for place in places]

    def among(self, segment: str, arms: PackedIds, places: Sequence[int]) -> ExcludedPlaces:
        """Return those of a segment's arms that users at some places are not to be shown."""
        known = self._users
        users = np.array([known[place] for place in places], np.int64)
        found = self._indexes.of(segment, arms).find(self._forbidden, users)
        return ExcludedPlaces(arms, *found)

    def answered(self, places: Sequence[int], arms: Sequence[tuple[str, ...]]) -> None:
        """Remember the answers to users at some places, for when the store is out of reach."""
        users, keys = self._users, self._keys
        self._memory.answer(
            [
                (keys[users[place]], chosen)
                for place, chosen in zip(places, arms, strict=True)
                if users[place] >= 0
            ],
            self._second,
        )

    def among_for(self, user: int, segment: str, arms: PackedIds | Sequence[str]) -> frozenset[str]:
        """Return those of a segment's arms that one user, by his number, is not to be shown."""
        _, places = self._indexes.of(segment, arms).find(
            self._forbidden, _FIRST if user == 0 else np.array([user])
        )
        if isinstance(arms, PackedIds):
            return frozenset(arms.named(places))
        return frozenset([arms[place] for place in places.tolist()])

    def answered_to(self, user: int, arms: tuple[str, ...]) -> None:
        """Remember the answer to one user, by his number."""
        self._memory.answer([(self._keys[user], arms)], self._second)


class Seen:
    """What one user may not be shown now.

    Parameters
    ----------
    of : SeenOfMany
    user : int
        His number there.

    Attributes
    ----------
    ok : bool
        False: the store did not tell, so only this process's memory is in it.
    """

    __slots__ = ("_of", "_user", "ok")

    def __init__(self, of: SeenOfMany, user: int) -> None:
        self._of = of
        self._user = user
        self.ok = of.ok[user]

    def among(self, segment: str, arms: PackedIds | Sequence[str]) -> frozenset[str]:
        """Return those of a segment's arms that are not to be shown."""
        return self._of.among_for(self._user, segment, arms)

    def among_default(self, arms: Sequence[str]) -> frozenset[str]:
        """Return those of the caller's default arms that are not to be shown."""
        return self.among(DEFAULT_INDEX, arms)

    def answered(self, arms: tuple[str, ...]) -> None:
        """Remember the answer, for when the store is out of reach."""
        self._of.answered_to(self._user, arms)
