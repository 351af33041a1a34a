"""Finds a snapshot's arms by their hashes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banditcore._packed import PackedIds
from banditcore.store.seen_record import arm_hash

__all__ = ["ArmIndex"]

_NOTHING: frozenset[str] = frozenset()
_END = np.uint64(2**64 - 1)  # no hash: those end with zeros


class ArmIndex:
    """Which of some arms have which hashes. Immutable; 12 bytes an arm.

    Parameters
    ----------
    arms : sequence of str, or PackedIds
        Kept, not copied.
    before : ArmIndex, optional
        Of an older version: hashes of arms that it has are taken from there, which is faster.

    Attributes
    ----------
    arms : sequence of str
    """

    __slots__ = ("_has_twins", "_hashes", "_order", "arms")

    def __init__(self, arms: Sequence[str] | PackedIds, before: ArmIndex | None = None) -> None:
        self.arms = arms
        self._hashes: NDArray[np.uint64]
        self._order: NDArray[np.int32]
        self._has_twins: bool
        if before is not None and before.arms == arms:
            self._hashes, self._order = before._hashes, before._order
            self._has_twins = before._has_twins
            return
        known = {} if before is None else before._by_arm()
        hashes = np.fromiter(
            ((known.get(arm) or arm_hash(arm)) for arm in arms), np.uint64, len(arms)
        )
        self._order = np.argsort(hashes).astype(np.int32)
        self._hashes = np.append(hashes[self._order], _END)
        self._has_twins = bool((self._hashes[1:] == self._hashes[:-1]).any())

    def among(self, hashes: NDArray[np.uint64]) -> frozenset[str]:
        """Return the arms that have one of some hashes."""
        if not hashes.size:
            return _NOTHING
        at = self._hashes.searchsorted(hashes)
        at = at[self._hashes[at] == hashes]
        arms = self.arms
        found = [arms[i] for i in self._order[at].tolist()]
        while self._has_twins and at.size:  # side by side: all of them are meant
            at = at[self._hashes[at + 1] == self._hashes[at]] + 1
            found += [arms[i] for i in self._order[at].tolist()]
        return frozenset(found)

    def _by_arm(self) -> dict[str, int]:
        arms = (self.arms[i] for i in self._order.tolist())
        return dict(zip(arms, self._hashes[:-1].tolist(), strict=True))
