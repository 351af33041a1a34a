"""From counts to slates, and from slates to answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import banditcore as bc
from banditcore.slate_format import encode
from banditcore.slates import Snapshot, draw_bank

ARMS = 10_000


@pytest.fixture
def recommender(store: bc.Store, posteriors) -> bc.Recommender:
    alpha, beta = posteriors(ARMS)
    bandit = bc.Bandit("bench", store, prior=bc.Prior(1, 30))
    bandit.record_batch(
        {
            "segment": ["IN/mobile"] * ARMS,
            "arm": [f"item-{i}" for i in range(ARMS)],
            "successes": alpha - 1,
            "trials": alpha + beta - 31,
        }
    )
    assert not bandit.refresh().failed
    made = bc.Recommender(bandit)
    made.warm_up()
    return made


@pytest.mark.benchmark(group="recommend, 10,000 arms, k=10")
class TestRecommend:
    def test_anybody(self, benchmark, recommender: bc.Recommender) -> None:
        assert len(benchmark(recommender.recommend, "IN/mobile", 10).arms) == 10

    def test_50_exclusions(self, benchmark, recommender: bc.Recommender) -> None:
        seen = {f"item-{i}" for i in range(50)}
        answer = benchmark(recommender.recommend, "IN/mobile", 10, exclude=seen)
        assert seen.isdisjoint(answer.arms)

    def test_50_exclusions_and_a_user(self, benchmark, recommender: bc.Recommender) -> None:
        seen = {f"item-{i}" for i in range(50)}
        benchmark(recommender.recommend, "IN/mobile", 10, exclude=seen, user="u42")


@pytest.mark.benchmark(group="one segment, 1,000 arms, 256 slates of 50")
class TestBank:
    def test_draw(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(1_000)
        benchmark(draw_bank, alpha, beta, threads=1)

    def test_encode(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(1_000)
        ids = [f"item-{i}" for i in range(1_000)]
        bank = draw_bank(alpha, beta, seed=1)
        benchmark(encode, Snapshot("bench", "IN", 1, ids, alpha, beta, bank))


@pytest.mark.benchmark(group="refresh")
def test_refresh_100_segments_of_1_000_arms(benchmark, store: bc.Store) -> None:
    bandit = bc.Bandit("bench", store, prior=bc.Prior(1, 30))
    arms = [f"item-{i}" for i in range(1_000)]
    for i in range(100):
        bandit.add_arms(f"IN/{i}", arms)
    report = benchmark.pedantic(bandit.refresh, rounds=1)
    assert len(report.published) == 102


@pytest.mark.benchmark(group="recommend to a user who has seen 50 of 10,000 arms, k=10")
class TestSeen:
    @pytest.fixture
    def capped(self, store: bc.Store, recommender: bc.Recommender) -> Iterator[bc.Recommender]:
        assert recommender.ready  # there are slates
        bandit = bc.Bandit("bench", store, prior=bc.Prior(1, 30))
        with bc.Recommender(bandit, caps=[bc.FrequencyCap()]) as marking:
            marking.warm_up()
            marking.mark_seen("u42", [f"item-{i}" for i in range(50)])
        with bc.Recommender(bandit, caps=[bc.FrequencyCap()]) as made:  # has it from the store
            made.warm_up()
            yield made

    def test_told_by_the_caller(self, benchmark, recommender: bc.Recommender) -> None:
        seen = {f"item-{i}" for i in range(50)}
        benchmark(recommender.recommend, "IN/mobile", 10, exclude=seen, user="u42")

    def test_looked_up(self, benchmark, capped: bc.Recommender) -> None:
        answer = benchmark(capped.recommend, "IN/mobile", 10, user="u42")
        assert len(answer.arms) == 10

    def test_nobody_known(self, benchmark, capped: bc.Recommender) -> None:
        benchmark(capped.recommend, "IN/mobile", 10)

    def test_marked(self, benchmark, capped: bc.Recommender) -> None:
        benchmark(capped.mark_seen, "u43", ["item-1"])
