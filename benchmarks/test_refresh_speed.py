"""Refreshing 1,000 segments of 1,000 arms: all of them, and when few or none have changed."""

from __future__ import annotations

import numpy as np
import pytest

import banditcore as bc

SEGMENTS, ARMS = 1_000, 1_000


def record(bandit: bc.Bandit, segments: range) -> None:
    """Impressions and clicks of all arms: rates Beta(1, 30), with a spread of its own a segment."""
    rng = np.random.default_rng(segments.start)
    rates = np.random.default_rng(1).beta(1, 30, ARMS)
    arms = [f"item-{i:05d}" for i in range(ARMS)]
    for number in segments:
        shown = rng.integers(0, 2_000, ARMS)
        own = np.clip(rates * rng.lognormal(0, 0.3, ARMS), 0, 1)
        bandit.record_batch(
            {
                "segment": [f"s{number:04d}"] * ARMS,
                "arm": arms,
                "trials": shown,
                "successes": rng.binomial(shown, own),
            }
        )


@pytest.fixture(params=["fixed", "empirical"])
def bandit(store: bc.Store, request: pytest.FixtureRequest) -> bc.Bandit:
    prior = bc.Prior(1, 30) if request.param == "fixed" else "empirical"
    made = bc.Bandit("bench", store, prior=prior)
    record(made, range(SEGMENTS))
    return made


@pytest.mark.benchmark(group="refresh, 1,000 segments of 1,000 arms")
def test_all(benchmark, bandit: bc.Bandit) -> None:
    report = benchmark.pedantic(bandit.refresh, rounds=2)
    assert len(report.published) == SEGMENTS + 1


@pytest.mark.benchmark(group="refresh, 1,000 segments of 1,000 arms")
@pytest.mark.parametrize("changed", [0, 10])
def test_few_changed(benchmark, bandit: bc.Bandit, changed: int) -> None:
    refresher = bc.Refresher(bandit)
    refresher.step()

    def change() -> None:
        for number in range(changed):
            bandit.record(f"s{number:04d}", "item-00017")

    report = benchmark.pedantic(refresher.step, setup=change, rounds=3)
    assert report.failed == {}
    assert len(report.published) + len(report.unchanged) == SEGMENTS + 1
