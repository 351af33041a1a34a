"""What others do with the same posteriors: libraries where they are installed, else algorithms.

Libraries that learn one event at a time are given their posterior directly: millions of events
would be replayed else, and none of that is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banditcore.benchmarking.workloads import Workload

__all__ = [
    "NOT_INSTALLED",
    "OBP",
    "mabwiser_predict",
    "mkl_beta",
    "numpy_topk",
    "obp_rank_probabilities",
    "obp_select_action",
    "river_pull",
]

NOT_INSTALLED = "not installed"
OBP = "algorithm of obp's BernoulliTS (Saito et al., 2021)"


def numpy_topk(
    rng: np.random.Generator, posterior: Workload, k: int, size: int
) -> NDArray[np.intp]:
    """Return (size, k) best arms, best first: draw all, set the best apart, sort those."""
    draws = rng.beta(posterior.alpha, posterior.beta, size=(size, len(posterior)))
    if k >= len(posterior):
        return np.argsort(-draws, axis=1)
    best = np.argpartition(draws, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(draws, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def obp_select_action(
    random: np.random.RandomState, posterior: Workload, k: int
) -> NDArray[np.intp]:
    """Return the k best arms, best first, as ``BernoulliTS.select_action`` of obp does.

    Saito et al., "Open Bandit Dataset and Pipeline", NeurIPS 2021.
    """
    predicted_rewards = random.beta(a=posterior.alpha, b=posterior.beta)
    best: NDArray[np.intp] = predicted_rewards.argsort()[::-1][:k]
    return best


def obp_rank_probabilities(
    random: np.random.RandomState, posterior: Workload, k: int, draws: int
) -> NDArray[np.float64]:
    """Return (n, k) frequencies, as ``BernoulliTS.compute_batch_action_dist`` of obp counts them.

    Saito et al., "Open Bandit Dataset and Pipeline", NeurIPS 2021.
    """
    counts = np.zeros((len(posterior), k))
    for _ in range(draws):
        selected = obp_select_action(random, posterior, k)
        for position in range(k):
            counts[selected[position], position] += 1
    return counts / draws


def mabwiser_predict(posterior: Workload, seed: int) -> Callable[[], int] | None:
    """Return MABWiser's ``predict``, which gives one arm; None if it is not installed."""
    try:
        from mabwiser.mab import MAB, LearningPolicy  # noqa: PLC0415 (optional, and slow to load)
    except ModuleNotFoundError as error:
        _only_if_missing(error, "mabwiser")
        return None
    arms = list(range(len(posterior)))
    bandit = MAB(arms, LearningPolicy.ThompsonSampling(), seed=seed)
    bandit.fit([0, 0], [0, 1])
    policy = bandit._imp
    policy.arm_to_success_count = dict(zip(arms, posterior.alpha.tolist(), strict=True))
    policy.arm_to_fail_count = dict(zip(arms, posterior.beta.tolist(), strict=True))
    predict: Callable[[], int] = bandit.predict
    return predict


def river_pull(posterior: Workload, seed: int) -> Callable[[], int] | None:
    """Return River's ``pull``, which gives one arm; None if it is not installed."""
    try:
        from river import bandit, proba  # noqa: PLC0415 (optional, and slow to load)
    except ModuleNotFoundError as error:
        _only_if_missing(error, "river")
        return None
    policy = bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=seed)
    arms = range(len(posterior))
    for arm, alpha, beta in zip(arms, posterior.alpha, posterior.beta, strict=True):
        policy._rewards[arm].alpha = float(alpha)
        policy._rewards[arm].beta = float(beta)
    return lambda: int(policy.pull(arms))


def mkl_beta(seed: int) -> Callable[[float, float, int], NDArray[np.float64]] | None:
    """Return ``mkl_random``'s Beta draws of one shared pair; None if it is not installed."""
    try:
        import mkl_random  # noqa: PLC0415 (optional, and slow to load)
    except ModuleNotFoundError as error:
        _only_if_missing(error, "mkl_random")
        return None
    random: Any = mkl_random.RandomState(seed)
    draw: Callable[[float, float, int], NDArray[np.float64]] = random.beta
    return draw


def _only_if_missing(error: ModuleNotFoundError, name: str) -> None:
    """Raise what was caught, unless the peer itself is what is missing."""
    if error.name is None or error.name.partition(".")[0] != name:
        raise error
