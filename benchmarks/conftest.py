"""What the benchmarks share: posteriors shaped like click data, and a store of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from numpy.typing import NDArray

import banditcore as bc

Posteriors = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture
def posteriors() -> Callable[[int], Posteriors]:
    """Make (alpha, beta) of n arms: rates Beta(2, 60), impressions lognormal(6, 2)."""

    def make(n: int) -> Posteriors:
        rng = np.random.default_rng(1)
        trials = np.ceil(rng.lognormal(6, 2, n))
        successes = rng.binomial(trials.astype(np.int64), rng.beta(2, 60, n))
        return 1.0 + successes, 30.0 + trials - successes

    return make


@pytest.fixture
def store() -> Iterator[bc.Store]:
    """An embedded server with an append-only file, as a user has it."""
    with (
        TemporaryDirectory(prefix="bcb") as directory,
        bc.connect(f"embedded://{Path(directory)}") as opened,
    ):
        yield opened
