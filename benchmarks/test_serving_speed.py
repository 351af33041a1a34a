"""From counts to slates, and from slates to answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import banditcore as bc
from banditcore.serving.rung import Rung
from banditcore.slate_format import encode, unpack
from banditcore.slates import Snapshot, draw_bank

ARMS = 10_000


@pytest.fixture
def bandit(store: bc.Store, posteriors) -> bc.Bandit:
    alpha, beta = posteriors(ARMS)
    made = bc.Bandit("bench", store, prior=bc.Prior(1, 30))
    made.record_batch(
        {
            "segment": ["IN/mobile"] * ARMS,
            "arm": [f"item-{i}" for i in range(ARMS)],
            "successes": alpha - 1,
            "trials": alpha + beta - 31,
        }
    )
    assert not made.refresh().failed
    return made


@pytest.fixture(params=["bank", "live"])
def recommender(request, bandit: bc.Bandit) -> bc.Recommender:
    made = bc.Recommender(bandit, mode=request.param)
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

    def test_propensities(self, benchmark, recommender: bc.Recommender) -> None:
        seen = [{f"item-{i}"} for i in range(50)]
        answers = iter(
            [recommender.recommend("IN/mobile", 10, exclude=seen[i % 50]) for i in range(500)]
        )
        benchmark.pedantic(lambda: next(answers).propensities, rounds=5)


@pytest.mark.benchmark(group="recommend_many, 1,000 users, 10,000 arms, k=10")
class TestRecommendMany:
    users = tuple(f"u{i}" for i in range(1_000))

    def test_one_segment(self, benchmark, recommender: bc.Recommender) -> None:
        assert len(benchmark(recommender.recommend_many, "IN/mobile", self.users)) == 1_000

    def test_50_exclusions_for_all(self, benchmark, recommender: bc.Recommender) -> None:
        seen = {f"item-{i}" for i in range(50)}
        benchmark(recommender.recommend_many, "IN/mobile", self.users, exclude=seen)

    def test_50_exclusions_for_each(self, benchmark, recommender: bc.Recommender) -> None:
        seen = [frozenset(f"item-{i + j}" for i in range(50)) for j in range(1_000)]
        benchmark(recommender.recommend_many, "IN/mobile", self.users, exclude=seen)

    def test_one_by_one(self, benchmark, recommender: bc.Recommender) -> None:
        recommend = recommender.recommend
        benchmark(lambda: [recommend("IN/mobile", 10, user=user) for user in self.users])


@pytest.mark.benchmark(group="one segment, 1,000 arms, 256 slates of 50")
class TestBank:  # load: 20 segments, each of other arms
    def test_draw(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(1_000)
        benchmark(draw_bank, alpha, beta, threads=1)

    def test_encode(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(1_000)
        ids = [f"item-{i}" for i in range(1_000)]
        bank = draw_bank(alpha, beta, seed=1)
        benchmark(encode, Snapshot("bench", "IN", 1, ids, alpha, beta, bank))

    def test_load(self, benchmark, posteriors) -> None:
        alpha, beta = posteriors(1_000)
        bank = draw_bank(alpha, beta, seed=1)
        blobs = [
            encode(
                Snapshot("bench", "IN", 1, [f"{j}-{i}" for i in range(1_000)], alpha, beta, bank)
            )
            for j in range(20)
        ]  # with the same arms, all but the first would share them
        benchmark(lambda: [Rung(unpack(blob)) for blob in blobs])


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
    def capped(self, bandit: bc.Bandit) -> Iterator[bc.Recommender]:
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


@pytest.mark.benchmark(group="recommend to 1,000 users who have seen 20 of 10,000 arms each, k=10")
class TestSeenByMany:
    users = tuple(f"u{i}" for i in range(1_000))

    @pytest.fixture(params=["bank", "live"])
    def capped(self, request, bandit: bc.Bandit) -> Iterator[bc.Recommender]:
        with bc.Recommender(bandit, caps=[bc.FrequencyCap()]) as marking:
            marking.warm_up()
            for i, user in enumerate(self.users):
                marking.mark_seen(user, [f"item-{i + j}" for j in range(20)])
        with bc.Recommender(bandit, caps=[bc.FrequencyCap()], mode=request.param) as made:
            made.warm_up()
            yield made

    def test_together(self, benchmark, capped: bc.Recommender) -> None:
        answers = benchmark(capped.recommend_many, "IN/mobile", self.users)
        assert {answer.degraded for answer in answers} == {()}

    def test_one_by_one(self, benchmark, capped: bc.Recommender) -> None:
        recommend = capped.recommend
        benchmark(lambda: [recommend("IN/mobile", 10, user=user) for user in self.users])
