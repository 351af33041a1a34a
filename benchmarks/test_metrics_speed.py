"""What metrics cost a request: none, those that do nothing, and Prometheus.

With ``PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)`` the last row is for files that processes share.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

import banditcore as bc
from banditcore.metrics import BaseMetrics, Metrics
from banditcore.prometheus import PrometheusMetrics

ARMS = 1_000

KINDS: dict[str, Callable[[], Metrics | None]] = {
    "none": lambda: None,
    "nothing done": BaseMetrics,
    "prometheus": lambda: PrometheusMetrics(CollectorRegistry()),
}


@pytest.fixture
def bandit(store: bc.Store) -> bc.Bandit:
    made = bc.Bandit("bench", store, prior=bc.Prior(1, 30))
    made.add_arms("IN/mobile", [f"item-{i}" for i in range(ARMS)])
    assert not made.refresh().failed
    return made


@pytest.mark.benchmark(group="recommend 10 of 1,000 arms, with metrics")
class TestMetrics:
    @pytest.mark.parametrize("kind", KINDS)
    def test_own_segment(self, benchmark, bandit: bc.Bandit, kind: str) -> None:
        recommender = bc.Recommender(bandit, metrics=KINDS[kind]())
        recommender.warm_up()
        assert benchmark(recommender.recommend, "IN/mobile", 10).source == "IN/mobile"

    @pytest.mark.parametrize("kind", KINDS)
    def test_fallback(self, benchmark, bandit: bc.Bandit, kind: str) -> None:
        recommender = bc.Recommender(bandit, metrics=KINDS[kind]())
        recommender.warm_up()
        assert benchmark(recommender.recommend, "IN/mobile/new", 10).source == "IN/mobile"


@pytest.mark.benchmark(group="what is told of 10,000 snapshots after a look")
@pytest.mark.parametrize("news", [False, True])
def test_looking(benchmark, store: bc.Store, news: bool) -> None:
    made = bc.Bandit("bench", store, prior=bc.Prior(1, 30))
    made.record_batch(
        {"segment": [f"s{i}" for i in range(10_000)], "arm": ["a"] * 10_000, "reward": [0] * 10_000}
    )
    assert not made.refresh(slates=2, depth=1).failed
    recommender = bc.Recommender(made, metrics=PrometheusMetrics(CollectorRegistry()))
    recommender.warm_up()
    meter, rungs = recommender._meter, recommender._loader.rungs
    benchmark(meter.holds, rungs, changed=news)
