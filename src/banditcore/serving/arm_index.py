"""Finds arms of snapshots by their hashes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from banditcore._hash_index import HashIndex
from banditcore._packed import PackedIds
from banditcore.store.seen_record import Forbidden, arm_hashes

__all__ = ["ArmIndex", "ArmIndexes"]


class ArmIndex:
    """Which of some arms have which hashes. Immutable; 14 to 16 bytes an arm.

    Parameters
    ----------
    arms : PackedIds, or sequence of str
        Kept, not copied. `PackedIds` are hashed without the interpreter lock, 0.2 us each.

    Attributes
    ----------
    arms : PackedIds, or sequence of str
    """

    __slots__ = ("_index", "arms")

    def __init__(self, arms: PackedIds | Sequence[str]) -> None:
        self.arms = arms
        self._index = HashIndex(arm_hashes(arms))

    def find(
        self, forbidden: Forbidden, users: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return where the arms stand that users must not be shown.

        Parameters
        ----------
        forbidden : Forbidden
        users : (n,) int64
            Which of those it is of; -1 for one who may be shown everything.

        Returns
        -------
        starts : (n + 1,) int64
        places : (starts[n],) int32
            Distinct for each user. All arms that share a hash are meant by it.
        """
        return self._index.find_rows(*forbidden, users)


class ArmIndexes:
    """The indexes of what is served just now, by segment. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[str, ArmIndex] = {}

    def of(self, segment: str, arms: PackedIds | Sequence[str]) -> ArmIndex:
        """Return the index of a segment's arms."""
        found = self._held.get(segment)
        if found is None or found.arms is not arms:
            # Two threads may both make it: the same.
            found = self._held[segment] = ArmIndex(arms)
        return found

    def keep(self, segments: Collection[str]) -> None:
        """Let go of all others."""
        for segment in list(self._held):  # a copy: requests add to it meanwhile
            if segment not in segments:
                self._held.pop(segment, None)
