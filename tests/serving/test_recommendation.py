"""The propensities of an answer are those of the policy in force."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from banditcore.slates import SlateBank, Snapshot
from banditcore.store.connect import Store
from published import NOW, rows, snapshot, warm

FALSE_ALARM = 1e-6


def test_propensities_are_counts_over_the_filtered_bank(store: Store) -> None:
    held = snapshot("IN", arms=14, slates=32, depth=10)
    recommender = warm(store, held)
    for out in (frozenset(), set(held.arms[8:11])):
        kept = [[arm for arm in row if arm not in out] for row in rows(held)]
        for _ in range(20):
            answer = recommender.recommend("IN", 5, exclude=out, now=NOW)
            exact = [
                sum(row[place] == arm for row in kept) / len(kept)
                for place, arm in enumerate(answer.arms)
            ]
            assert answer.propensities.tolist() == exact
            assert min(exact) > 0


def test_propensities_are_the_frequencies_of_answers(store: Store) -> None:
    held = snapshot("IN", arms=6, slates=32, depth=4)
    recommender = warm(store, held)
    answers = [recommender.recommend("IN", 2, now=NOW) for _ in range(4_000)]
    second = Counter(answer.arms[1] for answer in answers)
    share = {answer.arms[1]: answer.propensities[1] for answer in answers}
    assert sum(share.values()) == 1.0
    expected = [4_000 * share[arm] for arm in share]
    assert stats.chisquare([second[arm] for arm in share], expected).pvalue > FALSE_ALARM


def test_propensities_do_not_follow_a_set_that_the_caller_changes(store: Store) -> None:
    held = snapshot("IN", arms=14, slates=32, depth=10)
    recommender = warm(store, held)
    out = set(held.arms[8:11])
    answer = recommender.recommend("IN", 5, exclude=out, now=NOW)
    before = answer.propensities.tolist()
    out.update(answer.arms)
    assert answer.propensities.tolist() == before


def test_propensities_are_nan_where_live_sampling_has_a_part(store: Store) -> None:
    bank = SlateBank([[0, 1, 2], [0, 3, -1]])
    held = Snapshot("home", "IN", int(NOW * 1e6), list("abcd"), np.ones(4), np.ones(4), bank)
    recommender = warm(store, held)
    for _ in range(20):
        answer = recommender.recommend("IN", 4, now=NOW)
        np.testing.assert_array_equal(answer.propensities, [1.0, 0.5, np.nan, np.nan])
    # Without c and d the second row is (a): its second place is filled live, with b for sure.
    answer = recommender.recommend("IN", 4, exclude=["c", "d"], now=NOW)
    assert answer.arms == ("a", "b")
    np.testing.assert_array_equal(answer.propensities, [1.0, np.nan])


def test_a_bank_as_deep_as_the_arms_has_exact_propensities_throughout(store: Store) -> None:
    recommender = warm(store, snapshot("IN", arms=5, depth=5))
    answer = recommender.recommend("IN", 9, exclude=["IN:0"], now=NOW)
    assert len(answer.arms) == 4
    assert np.isfinite(answer.propensities).all()


@pytest.mark.parametrize("mode", ["bank", "live"])
def test_answers_can_be_copied_and_pickled(store: Store, mode: str) -> None:
    recommender = warm(store, snapshot("IN"), mode=mode, default=["d"], max_age=1e9)
    answer = recommender.recommend("IN", 5, user="u", exclude=["IN:3"], now=NOW)
    assert copy.copy(answer) is answer
    assert copy.deepcopy([answer])[0] is answer
    many = recommender.recommend_many(["IN", "DE"], ["u", "v"], 5, exclude=["IN:3"], now=NOW)
    assert copy.copy(many) is many
    assert copy.deepcopy([many])[0] is many
    for given in ([answer], [recommender.recommend("DE", now=NOW)], many):
        once = pickle.loads(pickle.dumps(given))
        for got in (once, pickle.loads(pickle.dumps(once))):
            assert type(got) is type(given)
            assert list(got) == list(given)
            for mine, theirs in zip(got, given, strict=True):
                np.testing.assert_array_equal(mine.propensities, theirs.propensities)
