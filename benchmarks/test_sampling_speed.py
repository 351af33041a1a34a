"""Sampling beside numpy: compare the rows of a group, they ran in one process."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

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


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000, 1_000_000])
@pytest.mark.benchmark(group="prepared top-10")
class TestThompsonSampler:
    @pytest.mark.parametrize("threads", [1, 2])
    def test_10_000_decisions(self, benchmark, posteriors, n: int, threads: int) -> None:
        sampler = bc.ThompsonSampler(*posteriors(n))
        benchmark(sampler.topk, K, size=10_000, threads=threads)

    def test_one_decision(self, benchmark, posteriors, n: int) -> None:
        benchmark(bc.ThompsonSampler(*posteriors(n)).topk, K)

    def test_build(self, benchmark, posteriors, n: int) -> None:
        benchmark.pedantic(bc.ThompsonSampler, posteriors(n), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="3 million (user, item) pairs: 7,500 requests of 400")
class TestPairs:
    def test_direct(self, benchmark, posteriors) -> None:
        benchmark(bc.thompson_topk, *posteriors(400), K, size=7_500, threads=1)

    def test_prepared(self, benchmark, posteriors) -> None:
        benchmark(bc.ThompsonSampler(*posteriors(400)).topk, K, size=7_500, threads=1)

    def test_numpy(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(400)
        benchmark(numpy_topk, np.random.default_rng(1), alpha, beta, 7_500)


@pytest.mark.benchmark(group="medians of 10,000 posteriors")
class TestQuantile:
    def test_banditcore(self, benchmark, posteriors) -> None:
        benchmark(bc.quantile, *posteriors(10_000), 0.5)

    def test_scipy(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(10_000)
        benchmark(special.betaincinv, alpha, beta, 0.5)
