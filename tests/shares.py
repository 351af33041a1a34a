"""Arms that show whether all they have is their own.

Of each trial of an arm the same share succeeds, another for each arm, and all sums are exact. So
counts that went to the wrong arm are seen at any time, whatever was retired or has faded meanwhile.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from banditcore.counts import ArmCounts


def share(arm: str) -> float:
    """Return which part of an arm's trials succeeds: a number of 1024ths, so sums are exact."""
    return (zlib.crc32(arm.encode()) % 1023 + 1) / 1024


def events(segment: str, arms: Sequence[str], trials: Sequence[int]) -> dict[str, list[object]]:
    """Return events of arms, successes by their shares."""
    return {
        "segment": [segment] * len(arms),
        "arm": list(arms),
        "trials": list(trials),
        "successes": [n * share(arm) for arm, n in zip(arms, trials, strict=True)],
    }


def strangers(counts: ArmCounts, tolerance: float = 0.0) -> list[str]:
    """Return the arms of which some counts are not their own; those named "arm ..." may be any."""
    table = zip(counts.arms, counts.trials.tolist(), counts.successes.tolist(), strict=True)
    return [
        f"{arm!r} has {successes!r} of {trials!r}"
        for arm, trials, successes in table
        # Faded so far, numbers have fewer digits; without fading none is that small.
        if not arm.startswith(("arm ", "life ")) and not 0 < trials < 1e-280
        if abs(successes - trials * share(arm)) > tolerance * trials
    ]
