"""Posteriors that speeds are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Workload", "clicks"]


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """One posterior: (n,) float64 parameters of its arms."""

    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.alpha.size)


def clicks(arms: int, seed: int) -> Workload:
    """Return a posterior shaped like click data, under a Beta(1, 30) prior.

    Rates are Beta(2, 60), impressions lognormal(6, 2): a few hundred typically, some millions at
    most.
    """
    rng = np.random.default_rng(seed)
    rates = rng.beta(2, 60, arms)
    trials = np.ceil(rng.lognormal(6, 2, arms))
    successes = rng.binomial(trials.astype(np.int64), rates)
    alpha = np.asarray(1.0 + successes, dtype=np.float64)
    return Workload(alpha, np.asarray(30.0 + trials - successes, dtype=np.float64))
