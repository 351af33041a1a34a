"""Posteriors of all kinds, small enough for exact probabilities: (alpha, beta, weight or None)."""

from __future__ import annotations

import numpy as np


def clicks(n, seed=0):
    """Posteriors shaped like click data."""
    g = np.random.default_rng(seed)
    rate, shown = g.beta(2, 60, n), np.floor(g.lognormal(6, 2, n))
    successes = g.binomial(shown.astype(np.int64), rate)
    return 1.0 + successes, 30.0 + shown - successes


def _shapes():
    g = np.random.default_rng(5)
    few = g.uniform(1, 5, 20)
    return {
        "one": ([2.0], [60.0], None),
        "three": ([2.0, 3, 4], [60.0, 60, 60], None),
        "equal": ([2.0] * 50, [60.0] * 50, None),
        "click data": (*clicks(100), None),
        "a < 1 and b < 1": ([0.3, 0.5, 0.9, 0.2, 0.7] * 4, [0.4, 3, 0.8, 2, 30] * 4, None),
        "tiny": ([1e-3, 2e-3, 1e-3, 0.5], [60.0, 30, 1e-3, 2], None),
        "rates near 1": ([1e6, 3e5, 5e3, 50, 1e6], [1, 2, 1, 1.5, 3], None),
        "narrow": ([1e12, 1e12, 1e12 + 1e6, 3], [1e12, 1e12 + 2e6, 1e12, 5], None),
        "3 trials beside 3e8": ([3, 3e7 + 1, 4, 2, 3e7], [30, 2.7e8, 30, 30, 2.7e8], None),
        "one dominates": ([900.0] + [2.0] * 30, [100.0] + [60.0] * 30, None),
        "clusters far apart": (
            [9e4, 9.01e4, 8.99e4] + [200.0] * 30 + list(few),
            [1e4] * 3 + [6e4] * 30 + [3e6] * 20,
            None,
        ),
        "weights": (*clicks(60), g.lognormal(0, 1, 60)),
        "weights, values that end in a peak": (
            [5.0, 2, 3, 1, 7],
            [1, 0.5, 1.2, 1, 2],
            [1, 1.5, 1.1, 2, 0.9],
        ),
        "equal weights": (*clicks(30), np.full(30, 3.0)),
    }


SHAPES = _shapes()
