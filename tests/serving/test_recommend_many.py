"""A batch of users gets what each of them would get alone."""

from __future__ import annotations

import random
import weakref
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from banditcore._packed import PackedIds
from banditcore.errors import InvalidTypeError, InvalidValueError, NotReadyError
from banditcore.serving import FrequencyCap, Recommendation, Recommendations, Recommender
from banditcore.serving.exclusions import ExcludedPlaces
from banditcore.store.connect import Store
from published import NOW, Home, put, rows, snapshot, warm

FALSE_ALARM = 1e-6
MODES = ["bank", "live"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 5, 12, 40])
def test_every_user_gets_the_answer_of_a_single_request(store: Store, mode: str, k: int) -> None:
    held = [snapshot("IN", arms=100), snapshot("US"), snapshot("")]
    recommender = warm(store, *held, mode=mode)
    chance = random.Random(5)
    users = [f"u{i}" for i in range(50)] + ["\ud800", "é"]
    for segments in ("IN", "IN/new", [chance.choice(["IN", "US", "FR", ""]) for _ in users]):
        own = [chance.sample(held[0].arms, chance.randrange(40)) for _ in users]
        for exclude in (None, [], set(held[0].arms[3:40]), own, [None, *own[1:]]):
            found = recommender.recommend_many(segments, users, k, exclude=exclude, now=NOW)
            each = isinstance(exclude, list) and exclude
            alone = [
                recommender.recommend(
                    segments if isinstance(segments, str) else segments[i],
                    k,
                    user=user,
                    exclude=(exclude[i] or ()) if each else exclude or (),
                    now=NOW,
                )
                for i, user in enumerate(users)
            ]
            assert list(found) == alone
            assert found.arms == [answer.arms for answer in alone]
    for place in (1, -1):
        np.testing.assert_array_equal(found[place].propensities, alone[place].propensities)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("caps", [[FrequencyCap()], [FrequencyCap(2), FrequencyCap(9)]])
def test_a_batch_leaves_out_what_single_requests_would(
    store: Store, mode: str, caps: list[FrequencyCap]
) -> None:
    held = [snapshot("IN", arms=100, depth=40), snapshot("US", depth=30), snapshot("ES")]
    chance = random.Random(5)
    users = [f"u{i}" for i in range(40)] + ["\ud800", "never", "here", "u3", "u3"]
    options = {"mode": mode, "caps": caps, "budget": 10.0, "default": ["IN:1", "IN:2", "d"]}
    every = [*held[0].arms, *held[1].arms, "d"]
    with warm(store, *held, **options) as marking, warm(store, *held, **options) as asked:
        for user in users[:-4]:
            for ago in range(3):
                shown = chance.sample(every, chance.randrange(60))
                assert marking.mark_seen(user, shown, now=NOW - ago * 50_000)
        for here in ("here", "u7"):  # of which this process knows without asking
            assert asked.mark_seen(here, held[0].arms[:20], now=NOW)
            assert asked.mark_seen(here, held[0].arms[:20], now=NOW - 1)
        own = [chance.sample(held[0].arms, chance.randrange(9)) for _ in users]
        asking = ("IN", ["IN"] * 15 + ["US"] * 15 + ["DE"] * 10 + ["ES/new"] * 5)
        for segments, k in zip((*asking, *asking), (10, 10, 60, 30), strict=True):
            for exclude in (None, {"IN:3", "US:7", "x"}, own, [()] * len(users)):
                found = asked.recommend_many(segments, users, k, exclude=exclude, now=NOW)
                each = isinstance(exclude, list)
                alone = [
                    asked.recommend(
                        segments if isinstance(segments, str) else segments[i],
                        k,
                        user=user,
                        exclude=(exclude[i] if each else exclude) or (),
                        now=NOW,
                    )
                    for i, user in enumerate(users)
                ]
                assert list(found) == alone
                for place in (2, 20, -2) if exclude is own else ():
                    np.testing.assert_array_equal(
                        found[place].propensities, alone[place].propensities
                    )
        assert asked.seen_stats is not None
        assert asked.seen_stats.failures == {}
        unknown = asked.recommend_many("IN", ["u1", None, "u1"], 100, now=NOW).arms
        assert len(unknown[1]) == 100
        assert unknown[0] == unknown[2]
        assert len(unknown[0]) < 100


def test_what_one_user_must_not_be_shown_keeps_no_places_of_others() -> None:
    arms = PackedIds(np.array([1, 2, 3], np.uint32), b"abc", 256)
    sets = [frozenset("ab"), frozenset(), frozenset("cax")]
    batch = ExcludedPlaces.of_sets(arms, sets)
    assert [batch[user] for user in range(len(batch))] == [*sets[:2], frozenset("ca")]
    users, places = [batch.of_user(user) for user in range(3)], weakref.ref(batch.places)
    del batch
    assert places() is None
    assert [user.ids() for user in users] == [*sets[:2], frozenset("ca")]


def test_it_is_a_sequence(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    found = recommender.recommend_many("IN", ["a", "b", "c"], 4, now=NOW)
    assert isinstance(found, Recommendations)
    assert len(found) == 3
    assert found[-1] == found[2] == found[1:][1]
    assert isinstance(found[0], Recommendation)
    assert repr(found) == "<Recommendations for 3 users>"
    with pytest.raises(IndexError):
        found[3]
    assert len(recommender.recommend_many("IN", [], now=NOW)) == 0


@pytest.mark.parametrize("mode", MODES)
def test_unknown_users_get_slates_at_random(store: Store, mode: str) -> None:
    held = snapshot("IN", slates=8, arms=8, depth=3)
    recommender = warm(store, held, mode=mode)
    found = recommender.recommend_many("IN", ["u", *[None] * 4_000, "u"], 3, now=NOW).arms
    assert found[0] == found[-1] == recommender.recommend("IN", 3, user="u", now=NOW).arms
    seen = Counter(found[1:-1])
    if mode == "bank":
        every = [seen[row] for row in set(rows(held))]
        assert sum(every) == 4_000
        weights = Counter(rows(held))
        expected = [4_000 * weights[row] / 8 for row in set(rows(held))]
        assert stats.chisquare(every, expected).pvalue > FALSE_ALARM
    else:
        assert len(seen) > 200  # of 336


def test_stale_and_default_answers_are_labelled(store: Store) -> None:
    recommender = warm(store, snapshot("IN"), default=["d1", "d2", "d3"], max_age=900)
    found = recommender.recommend_many(
        ["IN", "US", "US"], ["a", "b", None], 2, exclude=[[], ["d1"], []], now=NOW + 1000
    )
    assert [answer.degraded for answer in found] == [("stale",), ("default",), ("default",)]
    assert [answer.source for answer in found] == ["IN", "default", "default"]
    assert found.arms[1:] == [("d2", "d3"), ("d1", "d2")]
    assert found[0].age == 1000.0
    assert found[1].propensities.tolist() == [1.0, 1.0]


def test_the_sets_of_the_caller_may_change_afterwards(store: Store) -> None:
    held = snapshot("IN", arms=14, slates=32, depth=10)
    recommender = warm(store, held)
    out = set(held.arms[8:11])
    [answer] = recommender.recommend_many("IN", ["u"], 5, exclude=[out], now=NOW)
    before = answer.propensities.tolist()
    out.update(answer.arms)
    assert answer.propensities.tolist() == before


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"segments": "IN/"}, InvalidValueError, "segment"),
        ({"segments": ["IN"]}, InvalidValueError, "length of segments is 1"),
        ({"segments": ["IN", 5]}, InvalidTypeError, "segment"),
        ({"segments": ["IN", ["x"]]}, InvalidTypeError, "segment"),
        ({"segments": 5}, InvalidTypeError, "segments"),
        ({"users": "ab"}, InvalidTypeError, "users"),
        ({"users": 5}, InvalidTypeError, "users"),
        ({"users": ["u", ""]}, InvalidValueError, "user"),
        ({"users": ["u", 3]}, InvalidTypeError, "user"),
        ({"k": 0}, InvalidValueError, "k is 0"),
        ({"exclude": "ab"}, InvalidTypeError, "exclude"),
        ({"exclude": 5}, InvalidTypeError, "exclude"),
        ({"exclude": [["a"]]}, InvalidValueError, "length of exclude is 1"),
        ({"exclude": [["a"], "b"]}, InvalidTypeError, "one string"),
        ({"exclude": [["a"], 5]}, InvalidTypeError, "exclude"),
        ({"exclude": [["a"], [5]]}, InvalidTypeError, "exclude"),
        ({"now": float("inf")}, InvalidValueError, "now"),
    ],
)
def test_a_batch_refuses(store: Store, arguments: Any, error: type[Exception], words: str) -> None:
    recommender = warm(store, snapshot("IN"))
    with pytest.raises(error, match=words):
        recommender.recommend_many(**{"segments": "IN", "users": ["u", "v"], **arguments})


def test_a_batch_needs_something_to_answer_with(store: Store) -> None:
    put(store, snapshot("IN"))
    recommender = Recommender(Home(store))
    with pytest.raises(NotReadyError, match="warm_up"):
        recommender.recommend_many("IN", ["u"])
    recommender.close()
    with pytest.raises(NotReadyError, match="closed"):
        recommender.recommend_many("IN", ["u"])
