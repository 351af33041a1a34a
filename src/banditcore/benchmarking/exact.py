"""Tasks of exact probabilities, and of the banks that propensities are counted over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from banditcore.benchmarking.accuracy import Law, rank_probabilities_by_trapezoid
from banditcore.benchmarking.effort import Effort, slates_error
from banditcore.benchmarking.peers import OBP, numpy_topk, obp_rank_probabilities
from banditcore.benchmarking.timing import Contest, Error, Method
from banditcore.benchmarking.workloads import clicks
from banditcore.propensity import rank_probabilities, top_probabilities
from banditcore.sampling import thompson_topk
from banditcore.slate_format import encode
from banditcore.slates import DEFAULT_DEPTH, DEFAULT_SLATES, Snapshot, draw_bank

__all__ = ["bank", "ranks", "winners"]


def ranks(effort: Effort, task: str) -> Contest:
    """Compare exact probabilities of ranks with counted ones."""
    k, draws = 3, effort.simulated
    posterior = clicks(80, effort.seed)
    a, b, old = posterior.alpha, posterior.beta, np.random.RandomState(effort.seed)
    simulated = f"{OBP}, {draws:,} draws"

    def error(call: Callable[[], NDArray[np.float64]]) -> Callable[[], Error]:
        return lambda: Error(
            float(np.abs(call() - rank_probabilities_by_trapezoid(a, b, k)).max()), "abs"
        )

    calls: list[tuple[str, Callable[[], NDArray[np.float64]]]] = [
        ("rank_probabilities", lambda: rank_probabilities(a, b, k)),
        (simulated, lambda: obp_rank_probabilities(old, posterior, k, draws)),
    ]
    methods = tuple(Method(name, call, 1, error(call)) for name, call in calls)
    return Contest(task, "ms", simulated, methods)


def winners(effort: Effort, task: str) -> Contest:
    """Compare exact probabilities of being best with counted ones."""
    n, draws = 10_000, 100
    posterior = clicks(n, effort.seed)
    a, b, rng = posterior.alpha, posterior.beta, np.random.default_rng(effort.seed)
    simulated = f"numpy, {draws} decisions counted"

    def frequencies() -> NDArray[np.float64]:
        best = rng.beta(a, b, size=(draws, n)).argmax(axis=1)
        return np.bincount(best, minlength=n) / draws

    def by_draws() -> Error | None:
        """Compare with draws of the direct kernel, which know nothing of the quadrature."""
        law = Law(a, b, 1)
        return slates_error(effort, law, lambda: thompson_topk(a, b, 1, size=1_000), 1)()

    def by_quadrature() -> Error:
        return Error(float(np.abs(frequencies() - top_probabilities(a, b)).max()), "abs")

    return Contest(
        task,
        "ms",
        simulated,
        (
            Method("top_probabilities", lambda: top_probabilities(a, b), 1, by_draws),
            Method(simulated, frequencies, 1, by_quadrature),
        ),
    )


def bank(effort: Effort, task: str) -> Contest:
    """Compare drawing and encoding what a refresh publishes of a segment."""
    posterior = clicks(1_000, effort.seed)
    a, b, rng = posterior.alpha, posterior.beta, np.random.default_rng(effort.seed)
    numpys_name = "numpy beta + argpartition + tobytes"
    ids = [f"item-{arm}" for arm in range(len(posterior))]

    def ours() -> NDArray[np.integer]:
        bank = draw_bank(a, b, threads=1)
        encode(Snapshot("bench", "IN", 1, ids, a, b, bank))
        return bank.slates

    def numpys() -> NDArray[np.integer]:
        slates = numpy_topk(rng, posterior, DEFAULT_DEPTH, DEFAULT_SLATES)
        slates.astype(np.int32).tobytes()
        return slates

    calls: list[tuple[str, Callable[[], object], int]] = [
        ("draw_bank + encode", ours, 1),
        (numpys_name, numpys, 1),
    ]
    law = Law(a, b, DEFAULT_DEPTH)
    methods = tuple(
        Method(name, call, size, slates_error(effort, law, call, DEFAULT_DEPTH))
        for name, call, size in calls
    )
    return Contest(task, "ms", numpys_name, methods)
