"""Decisions by the million against exact probabilities, rank by rank: tests and a table use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from banditcore import _race
from banditcore.benchmarking.accuracy import ChiSquare, chi_square
from banditcore.propensity import rank_probabilities
from banditcore.sampling import thompson_topk
from banditcore.thompson_sampler import ThompsonSampler

BLOCK = 1_000_000  # decisions held at a time

Draw = Callable[[int, int], np.ndarray]
"""Called with rows and the number of the first: returns (rows, k) arms."""


def race(a, b, weight, k, *, seed, threads=2, exclude=None) -> Draw:
    """Draws by the race itself, however few the arms: the door would draw up to 64 directly."""
    if exclude is not None:  # through the door, which then needs more arms than that
        sampler = ThompsonSampler(a, b, weight=weight)
        return lambda rows, first: sampler.topk(
            k, size=rows, exclude=exclude, seed=seed + first, threads=threads
        )
    columns = [None if c is None else np.ascontiguousarray(c, float) for c in (a, b, weight)]
    tables = _race.Tables(*columns)

    def draw(rows: int, first: int) -> np.ndarray:
        out = np.empty((rows, k), dtype=np.int32)
        tables.topk(out, seed, threads, first_row=first)
        return out

    return draw


def direct(a, b, weight, k, *, seed, threads=2, exclude=None) -> Draw:
    """Draws by `thompson_topk`."""
    return lambda rows, first: thompson_topk(
        a, b, k, size=rows, weight=weight, exclude=exclude, seed=seed + first, threads=threads
    )


def rank_counts(draw: Draw, n: int, k: int, decisions: int) -> np.ndarray:
    """(n, k): how often each arm stood at each rank."""
    counts = np.zeros((n, k), dtype=np.int64)
    for first in range(0, decisions, BLOCK):
        slates = draw(min(BLOCK, decisions - first), first)
        assert slates.min() >= 0
        for rank in range(k):
            counts[:, rank] += np.bincount(slates[:, rank], minlength=n)
    return counts


def exact_chances(a, b, weight, k, exclude=None) -> np.ndarray:
    """(n, k): the probability of each arm at each rank."""
    eligible = np.ones(len(a), dtype=np.bool_)
    if exclude is not None:
        eligible[exclude] = False
    return rank_probabilities(a, b, k, weight=weight, eligible=eligible)


@dataclass(frozen=True)
class Verdict:
    """One test for each rank, the winner's first."""

    ranks: list[ChiSquare]

    @property
    def winner(self) -> ChiSquare:
        return self.ranks[0]

    @property
    def worst(self) -> int:
        """The rank whose p-value is the least, counted from 1."""
        return 1 + int(np.argmin([found.p for found in self.ranks]))

    @property
    def least_p(self) -> float:
        return self.ranks[self.worst - 1].p


def judge(counts: np.ndarray, chances: np.ndarray) -> Verdict:
    """Compare (n, k) counts with probabilities, rank by rank; arms that cannot be there are not."""
    decisions = counts.sum(axis=0)
    assert (counts[chances == 0] == 0).all()
    return Verdict(
        [
            chi_square(count[chance > 0], chance[chance > 0] * total)
            for count, chance, total in zip(counts.T, chances.T, decisions, strict=True)
        ]
    )
