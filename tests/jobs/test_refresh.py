"""The refresh job: what it publishes is the posterior of everything below, and slates from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from banditcore.bandit import Bandit
from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.posterior import Prior
from banditcore.propensity import rank_probabilities
from banditcore.refresh import RefreshReport
from banditcore.slate_format import decode
from banditcore.slates import Snapshot
from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.publish import fetch
from bandits import NOW, Clock, everything

EVENTS = {
    "segment": ["IN/m/x", "IN/m", "IN", "US/m", "US/m", ""],
    "arm": ["a", "a", "b", "a", "c", "d"],
    "trials": [10, 20, 5, 7, 1, 2],
    "successes": [1, 2, 5, 0.5, 0, 2],
}
SUMS = {
    "": {"a": (37, 3.5), "b": (5, 5), "c": (1, 0), "d": (2, 2)},
    "IN": {"a": (30, 3), "b": (5, 5)},
    "US": {"a": (7, 0.5), "c": (1, 0)},
    "IN/m": {"a": (30, 3)},
    "US/m": {"a": (7, 0.5), "c": (1, 0)},
    "IN/m/x": {"a": (10, 1)},
}


def recorded(store: Store, **options) -> Bandit:
    bandit = Bandit("home", store, **{"prior": Prior(1, 1), **options})
    bandit.record_batch(EVENTS)
    return bandit


def published(store: Store, segment: str) -> Snapshot | None:
    [blob] = fetch(store, "home", [segment])
    return decode(blob) if blob else None


def parameters(snapshot: Snapshot) -> dict[str, tuple[float, float]]:
    columns = (snapshot.arms, snapshot.alpha.tolist(), snapshot.beta.tolist())
    return {arm: (alpha, beta) for arm, alpha, beta in zip(*columns, strict=True)}


def expected(segment: str, prior: Prior) -> dict[str, tuple[float, float]]:
    return {
        arm: (prior.a + successes, prior.b + trials - successes)
        for arm, (trials, successes) in SUMS[segment].items()
    }


def outcome(report: RefreshReport) -> tuple[tuple[str, ...], Mapping[str, str], tuple[str, ...]]:
    assert report.seconds > 0
    return report.published, report.failed, report.superseded


# --- what is published -------------------------------------------------------------------------


def test_the_posterior_of_everything_below_is_published(any_store):
    prior = Prior(1, 30)
    bandit = recorded(any_store, prior=prior)
    before = any_store.server_time()
    report = bandit.refresh()
    after = any_store.server_time()
    assert outcome(report) == (("", "IN", "US", "IN/m", "US/m", "IN/m/x"), {}, ())
    for segment, sums in SUMS.items():
        snapshot = published(any_store, segment)
        assert (snapshot.bandit, snapshot.segment) == ("home", segment)
        assert parameters(snapshot) == expected(segment, prior)
        assert before * 1e6 - 1 <= snapshot.version <= after * 1e6 + 1
        assert snapshot.bank.slates.shape == (256, len(sums))  # there are no more arms
        assert (np.sort(snapshot.bank.slates) == np.arange(len(sums))).all()
        posterior = bandit.posterior(segment)
        assert dict(zip(posterior.arms, posterior.alpha.tolist(), strict=True)) == {
            arm: alpha for arm, (alpha, _) in parameters(snapshot).items()
        }


def test_slates_and_depth_are_those_asked_for(store):
    bandit = Bandit("home", store, prior=Prior(1, 1))
    bandit.add_arms("IN", [f"a{i}" for i in range(20)])
    bandit.refresh(slates=7, depth=3)
    for segment in ("", "IN"):
        assert published(store, segment).bank.slates.shape == (7, 3)
    before = everything(store)
    for options in ({"depth": 0}, {"slates": 0}, {"depth": 2.5}, {"slates": "7"}, {"depth": True}):
        with pytest.raises((InvalidValueError, InvalidTypeError), match=r"^(depth|slates) is"):
            bandit.refresh(**options)
    assert everything(store) == before


def test_evidence_is_faded_to_the_moment_of_the_refresh(store):
    clock = Clock()
    week = dt.timedelta(days=7)
    bandit = Bandit("home", store, half_life=week, clock=clock, prior=Prior(1, 1))
    now, earlier = NOW, NOW - week.total_seconds()
    bandit.record_batch(
        {"segment": ["IN", "IN/m"], "arm": ["a", "a"], "reward": [1, 0], "time": [now, earlier]}
    )
    clock.now += week.total_seconds()
    bandit.refresh()
    [(alpha, beta)] = parameters(published(store, "IN")).values()
    assert (alpha, beta) == pytest.approx((1.5, 1.25), rel=1e-12)


def test_ancestors_are_refreshed_too_and_others_are_not(store):
    bandit = recorded(store)
    assert outcome(bandit.refresh(["IN/m"])) == (("", "IN", "IN/m"), {}, ())
    assert [s for s in SUMS if published(store, s) is None] == ["US", "US/m", "IN/m/x"]
    for segment in ("", "IN", "IN/m"):
        assert parameters(published(store, segment)) == expected(segment, Prior(1, 1))
    # "US" was never written to itself, "US/m" was; an iterator is as good as a list.
    assert outcome(bandit.refresh(iter(["US", "US"]))) == (("", "US"), {}, ())
    assert parameters(published(store, "US")) == expected("US", Prior(1, 1))
    assert outcome(bandit.refresh([])) == ((), {}, ())


@pytest.mark.parametrize(
    ("segments", "error", "named"),
    [
        (["nowhere"], InvalidValueError, "segment is 'nowhere'"),
        (["IN", "IN/"], InvalidValueError, "segment is 'IN/'"),
        (["I"], InvalidValueError, "segment is 'I'"),
        ([None], InvalidTypeError, "segment is None"),
        ("IN", InvalidTypeError, "segments is 'IN'"),
        (7, InvalidTypeError, "segments is 7"),
    ],
)
def test_unknown_segments_are_refused(store, segments, error, named):
    bandit = recorded(store)
    before = everything(store)
    with pytest.raises(error, match=f"^{named}"):
        bandit.refresh(segments)
    assert everything(store) == before


def test_a_bandit_without_events_has_nothing_to_publish(store):
    bandit = Bandit("home", store, prior=Prior(1, 1))
    assert outcome(bandit.refresh()) == ((), {}, ())
    with pytest.raises(InvalidValueError, match=r"^segment is ''"):
        bandit.refresh([""])


def test_a_segment_without_arms_publishes_an_empty_snapshot(store):
    bandit = recorded(store)
    bandit.refresh()
    bandit.retire("IN/m/x", ["a"])
    assert bandit.refresh(["IN/m/x"]).failed == {}
    empty = published(store, "IN/m/x")
    assert (empty.arms, len(empty.alpha), empty.bank.slates.shape) == ((), 0, (0, 0))
    assert parameters(published(store, "IN/m")) == {"a": (3, 19)}


def test_more_successes_than_trials_are_clipped(store):
    bandit = Bandit("home", store, prior=Prior(2, 3))
    bandit.record("IN", "a", reward=1, trials=0)
    bandit.record("US", "a")
    bandit.refresh()
    assert parameters(published(store, "IN")) == {"a": (3, 3)}
    assert parameters(published(store, "")) == {"a": (3, 3)}  # 1 of 1, all below together


@pytest.mark.parametrize("segments", [None, ["US/m"]])
def test_empirical_priors_are_fitted_over_the_tree(store, segments):
    bandit = Bandit("home", store, prior="empirical")
    rows = [
        (country + part, f"a{i}", 200, i * (1 + (country == "US")))
        for country in ("IN", "US")
        for part in ("", "/m")
        for i in range(30)
    ]
    names = ("segment", "arm", "trials", "successes")
    bandit.record_batch(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    report = bandit.refresh(segments)
    assert report.failed == {}
    assert set(report.published) == {"", "US", "US/m"} | (set() if segments else {"IN", "IN/m"})
    for segment in report.published:
        snapshot, posterior = published(store, segment), bandit.posterior(segment)
        assert snapshot.arms == posterior.arms
        np.testing.assert_array_equal(snapshot.alpha, posterior.alpha)
        np.testing.assert_array_equal(snapshot.beta, posterior.beta)


# --- the law of the slates ---------------------------------------------------------------------


def test_first_places_are_taken_as_thompson_sampling_says(store):
    """Chi-square over 4,096 slates and two places; false alarms: 1e-6 a place."""
    bandit = Bandit("home", store, prior=Prior(1, 1))
    rates = {"a": (40, 4), "b": (60, 9), "c": (10, 1), "d": (200, 22), "e": (0, 0)}
    bandit.add_arms("IN", rates)
    trials, successes = zip(*rates.values(), strict=True)
    bandit.record_batch(
        {"segment": ["IN"] * 5, "arm": list(rates), "trials": trials, "successes": successes}
    )
    bandit.refresh(slates=4096, depth=2)
    snapshot = published(store, "IN")
    chances = rank_probabilities(snapshot.alpha, snapshot.beta, 2)
    for place in (0, 1):
        seen = np.bincount(snapshot.bank.slates[:, place], minlength=len(rates))
        assert stats.chisquare(seen, 4096 * chances[:, place]).pvalue > 1e-6
    # Slates are independent: neighbours agree as often as chance has it (6 sigma).
    first = snapshot.bank.slates[:, 0]
    agree = (chances[:, 0] ** 2).sum()
    sigma = np.sqrt(agree * (1 - agree) / 2048)
    assert abs((first[0::2] == first[1::2]).mean() - agree) < 6 * sigma


def test_each_refresh_draws_anew(store):
    bandit = Bandit("home", store, prior=Prior(1, 1))
    bandit.add_arms("IN", [f"a{i}" for i in range(50)])
    banks = []
    for _ in range(2):
        bandit.refresh()
        banks += [published(store, segment).bank.slates for segment in ("", "IN")]
    assert len({bank.tobytes() for bank in banks}) == 4


def test_a_segment_of_a_reading_batch_of_its_own(store):
    """More segments than one round trip reads."""
    bandit = Bandit("home", store, prior=Prior(1, 1))
    paths = [f"s{i}" for i in range(150)]
    bandit.record_batch({"segment": paths, "arm": ["a"] * 150, "reward": [1] * 150})
    assert len(bandit.refresh(slates=1, depth=1).published) == 151
    assert parameters(published(store, "")) == {"a": (151, 1)}
    assert parameters(published(store, "s149")) == {"a": (2, 1)}
    assert len(fetch(store, "home", paths)) == 150
    assert all(store.client.exists(keys.of_segment("home", path).blob) for path in paths)
