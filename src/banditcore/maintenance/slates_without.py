"""Takes an arm out of a snapshot."""

from __future__ import annotations

import numpy as np

from banditcore.slates import SlateBank, Snapshot

__all__ = ["without_arm"]


def without_arm(snapshot: Snapshot, arm: str) -> Snapshot:
    """Return a snapshot without one of its arms.

    Where it stood in a slate the others move up: the ranking of the remaining arms under the same
    draw of the posterior, so still a Thompson slate of theirs, in places one shorter.

    Parameters
    ----------
    snapshot : Snapshot
        Has the arm.
    arm : str
        Which.
    """
    slot = snapshot.arms.index(arm)
    kept = [i for i in range(len(snapshot.arms)) if i != slot]
    rows = snapshot.bank.slates
    if not kept:
        bank = SlateBank(np.empty((0, 0), dtype=np.int32))
    else:
        # Stable: places with the arm go to the end, the order of the others stays.
        order = np.argsort(rows == slot, axis=1, kind="stable")
        moved = np.take_along_axis(np.where(rows == slot, -1, rows), order, axis=1)
        moved = np.where(moved > slot, moved - 1, moved)
        depth = max(1, int((moved >= 0).any(axis=0).sum()))
        bank = SlateBank(moved[:, :depth])
    return Snapshot(
        snapshot.bandit,
        snapshot.segment,
        snapshot.version,
        [snapshot.arms[i] for i in kept],
        snapshot.alpha[kept],
        snapshot.beta[kept],
        bank,
    )
