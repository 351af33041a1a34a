"""Sampling beside numpy: compare the rows of a group, they ran in one process."""

from __future__ import annotations

import numpy as np
import pytest

import banditcore as bc

K = 10
ARMS = [100, 1_000, 10_000]


@pytest.mark.parametrize("n", ARMS)
@pytest.mark.benchmark(group="beta-draws")
class TestBetaDraws:
    def test_banditcore(self, benchmark, posteriors, n: int) -> None:
        alpha, beta = posteriors(n)
        benchmark(bc.sample_beta, alpha, beta, size=100_000 // n, seed=1, threads=1)

    def test_numpy(self, benchmark, posteriors, n: int) -> None:
        alpha, beta = posteriors(n)
        benchmark(np.random.default_rng(1).beta, alpha, beta, size=(100_000 // n, n))


def numpy_topk(rng: np.random.Generator, alpha, beta, size: int) -> np.ndarray:
    draws = rng.beta(alpha, beta, size=(size, len(alpha)))
    best = np.argpartition(draws, -K, axis=1)[:, -K:]
    order = np.argsort(-np.take_along_axis(draws, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("n", ARMS)
@pytest.mark.benchmark(group="top-10")
class TestTopK:
    def test_banditcore(self, benchmark, posteriors, n: int, size: int) -> None:
        alpha, beta = posteriors(n)
        benchmark(bc.thompson_topk, alpha, beta, K, size=size, threads=1)

    def test_numpy(self, benchmark, posteriors, n: int, size: int) -> None:
        alpha, beta = posteriors(n)
        benchmark(numpy_topk, np.random.default_rng(1), alpha, beta, size)


@pytest.mark.benchmark(group="exact-probabilities")
def test_rank_probabilities_of_80_arms(benchmark, posteriors) -> None:
    benchmark(bc.rank_probabilities, *posteriors(80), 3)


@pytest.mark.benchmark(group="exact-probabilities")
def test_top_probabilities_of_10_000_arms(benchmark, posteriors) -> None:
    benchmark.pedantic(bc.top_probabilities, posteriors(10_000), rounds=3)
