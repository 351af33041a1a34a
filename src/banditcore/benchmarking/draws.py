"""Tasks of single Beta variables: draws, quantiles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from banditcore.benchmarking.effort import Effort, draws_error
from banditcore.benchmarking.peers import NOT_INSTALLED, mkl_beta
from banditcore.benchmarking.timing import Contest, Error, Method
from banditcore.benchmarking.workloads import Workload, clicks
from banditcore.sampling import quantile, sample_beta

__all__ = ["many_parameters", "medians", "one_pair"]

_NUMPY = "numpy Generator.beta"


def many_parameters(effort: Effort, task: str, arms: int) -> Contest:
    """Compare draws with parameters of each arm's own."""
    from scipy import stats  # noqa: PLC0415 (slow to load, and every command would wait for it)

    posterior = clicks(arms, effort.seed)
    a, b = posterior.alpha, posterior.beta
    shape = (max(1, effort.cells // arms), arms)
    few = (max(1, effort.cells // 20 // arms), arms)  # of what takes a microsecond a draw
    rng, old = np.random.default_rng(effort.seed), np.random.RandomState(effort.seed)
    beta = stats.beta(a, b)

    def method(name: str, call: Callable[[], object], rows: int) -> Method:
        return Method(name, call, rows * arms, draws_error(posterior, call))

    return Contest(
        task,
        "ns",
        _NUMPY,
        (
            method("sample_beta", lambda: sample_beta(a, b, size=shape[0], threads=1), shape[0]),
            method(_NUMPY, lambda: rng.beta(a, b, size=shape), shape[0]),
            method("numpy RandomState.beta", lambda: old.beta(a, b, size=shape), shape[0]),
            method(
                "scipy stats.beta.rvs", lambda: beta.rvs(size=shape, random_state=old), shape[0]
            ),
            method("scipy stats.beta.ppf of uniforms", lambda: beta.ppf(rng.random(few)), few[0]),
            method(
                "scipy special.betaincinv of uniforms",
                lambda: special.betaincinv(a, b, rng.random(few)),
                few[0],
            ),
        ),
    )


def one_pair(effort: Effort, task: str) -> Contest:
    """Compare draws with one pair of parameters for all, which libraries may set up once."""
    size = effort.cells
    posterior = Workload(np.full(size, 2.0), np.full(size, 60.0))
    rng, mkl = np.random.default_rng(effort.seed), mkl_beta(effort.seed)
    calls: list[tuple[str, Callable[[], object] | None]] = [
        ("sample_beta", lambda: sample_beta(posterior.alpha, posterior.beta, threads=1)),
        (_NUMPY, lambda: rng.beta(2.0, 60.0, size)),
        ("mkl_random beta", None if mkl is None else lambda: mkl(2.0, 60.0, size)),
    ]
    return Contest(
        task,
        "ns",
        _NUMPY,
        tuple(
            Method(name, None, note=NOT_INSTALLED)
            if call is None
            else Method(name, call, size, draws_error(posterior, call))
            for name, call in calls
        ),
    )


def medians(effort: Effort, task: str) -> Contest:
    """Compare quantile functions."""
    posterior = clicks(10_000, effort.seed)
    a, b = posterior.alpha, posterior.beta

    def error(call: Callable[[], object]) -> Callable[[], Error]:
        return lambda: Error(
            float(np.abs(special.betainc(a, b, np.asarray(call())) - 0.5).max()), "abs"
        )

    calls: list[tuple[str, Callable[[], object]]] = [
        ("quantile", lambda: quantile(a, b, 0.5)),
        ("scipy special.betaincinv", lambda: special.betaincinv(a, b, 0.5)),
    ]
    methods = tuple(Method(name, call, 1, error(call)) for name, call in calls)
    return Contest(task, "ms", "scipy special.betaincinv", methods)
