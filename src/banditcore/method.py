"""When a call of `thompson_topk` builds the tables of a race, and when it draws every arm.

Both ways have one law. The choice is made from the shape of a call alone, never from a clock, so
that a seed means one answer on every machine, for any number of threads and any kernel.
"""

from __future__ import annotations

__all__ = ["MAX_PLACES", "MAX_RACED", "MIN_RACED", "race_pays"]

MAX_PLACES = 32
"""Deeper slates draw every arm: how far down tables are quick is not seen from a call's shape."""

MIN_RACED, MAX_RACED = 1e-4, 1e7
"""Parameters for which tables are built unasked: one of 1e8 may take a millisecond
to lay out, instead of 20 us."""

_MIN_ARMS = 64  # a race of fewer draws them all
_MAX_ARMS = 1 << 20  # tables of some hundreds of megabytes

# Microseconds, by `python scripts/measuring/measure_crossover.py`; see docs/sampling.md.
_ROW = 0.3  # a decision that draws every arm,
_DRAW = 0.005  # for each arm of it
_RACE = 0.3  # a decision from tables
_BUILD_ANY = 300.0  # tables of any size,
_BUILD = 2.0  # and for each arm


def race_pays(arms: int, k: int, size: int) -> bool:
    """Return whether `size` decisions are cheaper by a race than by drawing every arm.

    Parameters
    ----------
    arms : int
        Arms that may be chosen.
    k : int
        Places of a slate.
    size : int
        Decisions of the call.
    """
    if not (_MIN_ARMS < arms <= _MAX_ARMS and 4 * k <= arms and k <= MAX_PLACES):
        return False
    build = _BUILD_ANY + _BUILD * arms
    return size * (_ROW + _DRAW * arms - _RACE) > build
