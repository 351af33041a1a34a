"""mode="live": every request is drawn anew from the posterior of the arms that may be shown."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from banditcore.errors import InvalidTypeError, InvalidValueError
from banditcore.propensity import rank_probabilities
from banditcore.serving import Recommender
from banditcore.slates import SlateBank, Snapshot, draw_bank
from banditcore.store.connect import Store
from published import NOW, Home, rows, snapshot, warm

FALSE_ALARM = 1e-6


def made(alpha: Any, beta: Any, *, depth: int = 2) -> Snapshot:
    bank = draw_bank(alpha, beta, slates=2, depth=depth, seed=1)
    ids = [f"a{i}" for i in range(len(alpha))]
    return Snapshot("home", "IN", int(NOW * 1e6), ids, alpha, beta, bank)


def test_answers_are_new_draws_and_no_rows(store: Store) -> None:
    held = snapshot("IN", slates=1, arms=80)
    recommender = warm(store, held, mode="live")
    answers = {recommender.recommend("IN", 12, now=NOW).arms for _ in range(100)}
    assert len(answers) == 100
    assert not answers & set(rows(held))


@pytest.mark.parametrize("arms", [6, 300])
def test_a_user_keeps_the_slate_for_its_time_bucket_only(store: Store, arms: int) -> None:
    recommender = warm(store, snapshot("IN", arms=arms), mode="live", max_age=1e9)
    start = NOW - NOW % 3600
    slate = recommender.recommend("IN", 5, user="u42", now=start).arms
    assert recommender.recommend("IN", 5, user="u42", now=start + 3599).arms == slate
    other = Recommender(Home(store, ["IN"]), mode="live")
    other.warm_up()
    assert other.recommend("IN", 5, user="u42", now=start + 1).arms == slate
    later = {
        recommender.recommend("IN", 5, user="u42", now=start + 3600 * i).arms for i in range(20)
    }
    assert len(later) > 10


def frequencies_agree(recommender: Recommender, arms: int, out: list[str], n: int) -> None:
    """Compare answers and propensities with the quadrature over the arms that are left."""
    held = recommender._loader.rungs["IN"].snapshot
    eligible = [arm not in out for arm in held.arms]
    exact = rank_probabilities(held.alpha, held.beta, arms, eligible=eligible)
    answers = [recommender.recommend("IN", arms, exclude=out, now=NOW) for _ in range(n)]
    for rank in range(arms):
        seen = Counter(answer.arms[rank] for answer in answers)
        expected = exact[:, rank] * n
        often = expected > 20
        counted = [seen[arm] for arm, much in zip(held.arms, often, strict=True) if much]
        wanted = expected[often].tolist()
        if n - sum(wanted) > 5:  # the others together
            counted.append(n - sum(counted))
            wanted.append(n - sum(wanted))
        wanted = [each * sum(counted) / sum(wanted) for each in wanted]
        assert stats.chisquare(counted, wanted).pvalue > FALSE_ALARM
    for answer in answers[:3]:
        indices = [held.arms.find(arm) for arm in answer.arms]
        np.testing.assert_array_equal(answer.propensities, exact[indices, range(arms)])


@pytest.mark.parametrize("n_arms", [5, 200])
@pytest.mark.parametrize("out", [[], ["a0", "a3", "nobody's"]])
def test_frequencies_are_those_of_the_quadrature(store: Store, n_arms: int, out: list[str]) -> None:
    # Few arms are drawn one by one, many are raced. 10,000 answers show a share off by 0.03.
    alpha, beta = np.linspace(30.0, 8.0, n_arms), np.full(n_arms, 60.0)
    frequencies_agree(warm(store, made(alpha, beta), mode="live"), 2, out, 10_000)


@pytest.mark.parametrize("least", [1e-100, 1e-6])
def test_parameters_that_no_sampler_takes_are_drawn_arm_by_arm(store: Store, least: float) -> None:
    alpha, beta = np.array([2.0, 3.0, least, 1e14]), np.array([2.0, 2.0, 1.0, 1e14])
    recommender = warm(store, made(alpha, beta), mode="live")
    answers = Counter(
        recommender.recommend("IN", 2, exclude=["a3"], now=NOW).arms for _ in range(2_000)
    )
    # a2 is practically 0.
    first = rank_probabilities([2.0, 3.0], [2.0, 2.0], 1)[1, 0]
    assert set(answers) == {("a0", "a1"), ("a1", "a0")}
    assert stats.binomtest(answers["a1", "a0"], 2_000, first).pvalue > FALSE_ALARM
    sticky = {recommender.recommend("IN", 3, user="u", now=NOW).arms for _ in range(5)}
    assert len(sticky) == 1
    many = recommender.recommend_many("IN", ["u", "v"], 3, now=NOW)
    assert many[0].arms in sticky
    propensities = many[0].propensities
    assert propensities.shape == (3,)
    assert np.isnan(propensities).all() == (least < 1e-10)


def test_slates_are_short_only_when_arms_run_out(store: Store) -> None:
    recommender = warm(store, made(np.full(5, 2.0), np.full(5, 2.0)), mode="live")
    assert sorted(recommender.recommend("IN", 9, now=NOW).arms) == ["a0", "a1", "a2", "a3", "a4"]
    assert recommender.recommend("IN", 2**70, exclude=["a1"], now=NOW).propensities.shape == (4,)
    none = recommender.recommend("IN", 3, exclude=["a0", "a1", "a2", "a3", "a4"], now=NOW)
    assert none.arms == ()
    assert none.propensities.shape == (0,)
    everybody = [f"a{i}" for i in range(5)]
    assert recommender.recommend_many("IN", ["u", None], exclude=everybody, now=NOW).arms == [
        (),
        (),
    ]


def test_a_quadrature_is_not_taken_for_another(store: Store) -> None:
    # The latest one is kept; every change of what it depends on must show.
    alpha, beta = np.array([9.0, 7.0, 5.0, 3.0]), np.full(4, 9.0)
    other = Snapshot(
        "home",
        "US",
        int(NOW * 1e6),
        ["a0", "a1", "a2", "a3"],
        beta,
        alpha,
        draw_bank(beta, alpha, seed=1),
    )
    recommender = warm(store, made(alpha, beta), other, mode="live")
    for segment, a, b in [("IN", alpha, beta), ("US", beta, alpha), ("IN", alpha, beta)]:
        for k, out in [(1, []), (3, []), (2, []), (2, [0]), (2, [1]), (4, []), (2, [1, 2])]:
            exact = rank_probabilities(a, b, k, eligible=[i not in out for i in range(4)])
            exclude = [f"a{i}" for i in out]
            answer = recommender.recommend(segment, k, exclude=exclude, now=NOW)
            indices = [int(arm[1:]) for arm in answer.arms]
            np.testing.assert_allclose(
                answer.propensities, exact[indices, range(len(indices))], rtol=1e-9
            )


def test_propensities_of_all_answers_sum_to_one(store: Store) -> None:
    alpha, beta = np.array([9.0, 7.0, 5.0, 3.0]), np.array([9.0, 9.0, 9.0, 9.0])
    recommender = warm(store, made(alpha, beta), mode="live")
    shares: dict[tuple[int, str], float] = {}
    for _ in range(400):
        answer = recommender.recommend("IN", 2, exclude=["a1"], now=NOW)
        shares |= {
            (rank, arm): share
            for rank, (arm, share) in enumerate(zip(answer.arms, answer.propensities, strict=True))
        }
    assert set(shares) == set(itertools.product(range(2), ["a0", "a2", "a3"]))
    for rank in range(2):
        assert sum(share for (at, _), share in shares.items() if at == rank) == pytest.approx(1.0)


def test_a_snapshot_without_arms_is_passed_by(store: Store) -> None:
    empty = Snapshot(
        "home", "IN", int(NOW * 1e6), [], [], [], SlateBank(np.empty((0, 0), np.int32))
    )
    recommender = warm(store, empty, snapshot(""), mode="live")
    assert recommender.recommend("IN", 3, now=NOW).source == ""


def test_samplers_are_built_before_requests_come(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender = warm(store, snapshot("IN", arms=300), mode="live")
    monkeypatch.setattr("banditcore.serving.draws.ThompsonSampler", None)
    assert len(recommender.recommend("IN", 5, now=NOW).arms) == 5


@pytest.mark.parametrize(("mode", "error"), [("Live", InvalidValueError), (None, InvalidTypeError)])
def test_another_mode_is_refused(store: Store, mode: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match='"bank" or "live"'):
        Recommender(Home(store), mode=mode)
