"""Pays what only a first call costs."""

from __future__ import annotations

import numpy as np

from banditcore.propensity import rank_probabilities
from banditcore.serving.rung import Rung

__all__ = ["exercise"]


def exercise(rung: Rung) -> None:
    """Go every way that a request may go, so that no request is the first.

    Parameters
    ----------
    rung : Rung
        A servable one.
    """
    first = frozenset(rung.snapshot.arms[:1])
    keys = np.zeros(2, np.uint64)
    for excluded in (frozenset[str](), first):
        rung.policy.choose(1, excluded, 0)
        rung.policy.choose_many(1, excluded, keys)
    rung.policy.choose_many(1, [first, first], keys)
    rung.draws.draw(1, first, 0)  # what fills up rows that are too short
    rung.snapshot.bank.shares(tuple(first), 1, first)
    rank_probabilities([1.0, 2.0], [30.0, 30.0], 2)  # scipy's functions; a few arms are enough
