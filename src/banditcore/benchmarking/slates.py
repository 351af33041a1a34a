"""Tasks of Thompson's top-k."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from banditcore.benchmarking.accuracy import Law
from banditcore.benchmarking.effort import Effort, slates_error
from banditcore.benchmarking.peers import (
    NOT_INSTALLED,
    OBP,
    mabwiser_predict,
    numpy_topk,
    obp_select_action,
    river_pull,
)
from banditcore.benchmarking.timing import Contest, Method
from banditcore.benchmarking.workloads import Workload, clicks
from banditcore.sampling import thompson_topk
from banditcore.thompson_sampler import ThompsonSampler

__all__ = [
    "all_in_order",
    "best_of_three",
    "built",
    "in_batches",
    "prepared",
    "requests",
    "seen_once",
]

_NUMPY = "numpy beta + argpartition"
_K = 10
_MOST_ARMS_OF_LAW = 20_000  # beyond, the exact law of the top 10 takes a minute: the winner's alone


def _topk_methods(
    effort: Effort, posterior: Workload, k: int, calls: list[tuple[str, Callable[[], object], int]]
) -> tuple[Method, ...]:
    law = _law(posterior, k)
    return tuple(
        Method(name, call, size, slates_error(effort, law, call, k)) for name, call, size in calls
    )


def _law(posterior: Workload, k: int) -> Law:
    return Law(posterior.alpha, posterior.beta, k, first_only=len(posterior) > _MOST_ARMS_OF_LAW)


def seen_once(effort: Effort, task: str, arms: int) -> Contest:
    """Compare decisions on a posterior that is seen once."""
    posterior = clicks(arms, effort.seed)
    a, b = posterior.alpha, posterior.beta
    rng, old = np.random.default_rng(effort.seed), np.random.RandomState(effort.seed)
    law, best = _law(posterior, _K), _law(posterior, 1)
    calls: list[tuple[str, Callable[[], object] | None, int]] = [
        ("thompson_topk", lambda: thompson_topk(a, b, _K), _K),
        ("ThompsonSampler, built for it", lambda: ThompsonSampler(a, b).topk(_K), _K),
        (_NUMPY, lambda: numpy_topk(rng, posterior, _K, 1), _K),
        (OBP, lambda: obp_select_action(old, posterior, _K), _K),
        ("MABWiser predict (top 1)", mabwiser_predict(posterior, effort.seed), 1),
        ("River ThompsonSampling.pull (top 1)", river_pull(posterior, effort.seed), 1),
    ]
    return Contest(
        task,
        "us",
        _NUMPY,
        tuple(
            Method(name, None, note=NOT_INSTALLED)
            if call is None
            else Method(name, call, 1, slates_error(effort, law if k > 1 else best, call, k))
            for name, call, k in calls
        ),
    )


def in_batches(effort: Effort, task: str, arms: int) -> Contest:
    """Compare batches of decisions drawn directly."""
    posterior = clicks(arms, effort.seed)
    a, b = posterior.alpha, posterior.beta
    rng, size, many = (
        np.random.default_rng(effort.seed),
        max(1, effort.cells // arms),
        effort.threads,
    )
    calls: list[tuple[str, Callable[[], object], int]] = [
        ("thompson_topk, 1 thread", lambda: thompson_topk(a, b, _K, size=size, threads=1), size),
        (
            f"thompson_topk, {many} threads",
            lambda: thompson_topk(a, b, _K, size=size, threads=many),
            size,
        ),
        (_NUMPY, lambda: numpy_topk(rng, posterior, _K, size), size),
    ]
    return Contest(task, "us", _NUMPY, _topk_methods(effort, posterior, _K, calls))


def prepared(effort: Effort, task: str, arms: int) -> Contest:
    """Compare a sampler that is built once with drawing all arms."""
    posterior = clicks(arms, effort.seed)
    sampler = ThompsonSampler(posterior.alpha, posterior.beta)
    rng, many = np.random.default_rng(effort.seed), effort.threads
    size, rows = effort.cells // 20, max(1, effort.cells // arms)
    calls: list[tuple[str, Callable[[], object], int]] = [
        ("ThompsonSampler, 1 thread", lambda: sampler.topk(_K, size=size, threads=1), size),
        (
            f"ThompsonSampler, {many} threads",
            lambda: sampler.topk(_K, size=size, threads=many),
            size,
        ),
        ("ThompsonSampler, one decision a call", lambda: sampler.topk(_K), 1),
        (_NUMPY, lambda: numpy_topk(rng, posterior, _K, rows), rows),
    ]
    return Contest(task, "us", _NUMPY, _topk_methods(effort, posterior, _K, calls))


def built(effort: Effort, task: str, arms: int) -> Contest:
    """Compare the time to build a sampler with that of one decision."""
    posterior = clicks(arms, effort.seed)
    rng = np.random.default_rng(effort.seed)
    megabytes = ThompsonSampler(posterior.alpha, posterior.beta).nbytes / 1e6
    return Contest(
        task,
        "ms",
        f"{_NUMPY}, one decision",
        (
            Method(
                "ThompsonSampler",
                lambda: ThompsonSampler(posterior.alpha, posterior.beta),
                note=f"holds {megabytes:.1f} MB",
            ),
            Method(f"{_NUMPY}, one decision", lambda: numpy_topk(rng, posterior, _K, 1)),
        ),
    )


def best_of_three(effort: Effort, task: str) -> Contest:
    """Compare decisions between too few arms for any cleverness."""
    posterior = Workload(np.array([3.0, 5.0, 2.0]), np.array([90.0, 120.0, 40.0]))
    a, b, rng = posterior.alpha, posterior.beta, np.random.default_rng(effort.seed)
    sampler = ThompsonSampler(a, b)
    calls: list[tuple[str, Callable[[], object], int]] = [
        ("thompson_topk", lambda: thompson_topk(a, b, 1), 1),
        ("ThompsonSampler", lambda: sampler.topk(1), 1),
        ("numpy beta + argmax", lambda: rng.beta(a, b).argmax(), 1),
    ]
    methods = _topk_methods(effort, posterior, 1, calls)
    return Contest(task, "us", "numpy beta + argmax", methods)


def all_in_order(effort: Effort, task: str) -> Contest:
    """Compare whole rankings, where keeping only the best gains nothing."""
    n = 1_000
    posterior = clicks(n, effort.seed)
    a, b, rng = posterior.alpha, posterior.beta, np.random.default_rng(effort.seed)
    sampler, size = ThompsonSampler(a, b), max(1, effort.cells // n)
    calls: list[tuple[str, Callable[[], object], int]] = [
        ("thompson_topk", lambda: thompson_topk(a, b, n, size=size, threads=1), size),
        ("ThompsonSampler", lambda: sampler.topk(n, size=size, threads=1), size),
        ("numpy beta + argsort", lambda: numpy_topk(rng, posterior, n, size), size),
    ]
    law = _law(posterior, 1)

    def winners(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: np.asarray(call())[:, :1]

    return Contest(
        task,
        "us",
        "numpy beta + argsort",
        tuple(
            Method(name, call, pieces, slates_error(effort, law, winners(call), 1))
            for name, call, pieces in calls
        ),
    )


def requests(effort: Effort, task: str) -> Contest:
    """Compare requests that score 400 items for a user."""
    arms = 400
    posterior = clicks(arms, effort.seed)
    a, b, rng = posterior.alpha, posterior.beta, np.random.default_rng(effort.seed)
    sampler, size, many = ThompsonSampler(a, b), max(1, effort.cells // arms), effort.threads
    calls: list[tuple[str, Callable[[], object], int]] = [
        ("thompson_topk, one request a call", lambda: thompson_topk(a, b, _K), 1),
        (
            f"thompson_topk, in batches, {many} threads",
            lambda: thompson_topk(a, b, _K, size=size, threads=many),
            size,
        ),
        ("ThompsonSampler, one request a call", lambda: sampler.topk(_K), 1),
        (_NUMPY, lambda: numpy_topk(rng, posterior, _K, 1), 1),
    ]
    methods = _topk_methods(effort, posterior, _K, calls)
    return Contest(task, "us", _NUMPY, methods, pairs=arms)
