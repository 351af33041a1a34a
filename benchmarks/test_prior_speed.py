"""Fitting how closely a segment of 1,000 arms follows its parent: compiled sums beside numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from banditcore.empirical_bayes import fit_strength
from plain_strength import plain_strength

ARMS = 1_000

Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture
def columns() -> Columns:
    """Successes and failures of up to 2,000 trials an arm, and means: rates Beta(1, 30)."""
    rng = np.random.default_rng(1)
    mean = np.clip(rng.beta(1, 30, ARMS), 1e-9, 1.0)
    trials = rng.integers(0, 2_000, ARMS)
    successes = rng.binomial(trials, np.clip(mean * rng.lognormal(0, 0.3, ARMS), 0, 1))
    return successes.astype(np.float64), (trials - successes).astype(np.float64), mean


@pytest.mark.benchmark(group="fit of a strength to 1,000 arms")
@pytest.mark.parametrize("fit", [fit_strength, plain_strength])
def test_fit(benchmark, columns: Columns, fit: Callable[..., float]) -> None:
    fitted = benchmark(fit, *columns)
    assert fitted == pytest.approx(fit_strength(*columns), rel=1e-8)
