"""The policy a recommender follows, and the arguments it takes."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from enum import Enum
from typing import Any

import numpy as np
import pytest
from scipy import stats

from banditcore.errors import (
    InvalidTypeError,
    InvalidValueError,
)
from banditcore.serving import Recommender
from banditcore.slates import SlateBank, Snapshot
from banditcore.store.connect import Store
from published import NOW, Home, rows, snapshot, warm

FALSE_ALARM = 1e-6


def test_without_a_user_every_row_is_as_likely(store: Store) -> None:
    held = snapshot("IN")
    recommender = warm(store, held)
    n = 8_000
    seen = Counter(recommender.recommend("IN", 12, now=NOW).arms for _ in range(n))
    assert set(seen) == set(rows(held))
    # Chi-square over 16 rows, false alarm 1e-6; sees a row whose share is off by a quarter.
    assert stats.chisquare([seen[row] for row in rows(held)]).pvalue > FALSE_ALARM


def test_users_spread_evenly_over_the_rows(store: Store) -> None:
    held = snapshot("IN")
    recommender = warm(store, held)
    seen = Counter(
        recommender.recommend("IN", 12, user=f"u{u}", now=NOW).arms for u in range(8_000)
    )
    assert stats.chisquare([seen[row] for row in rows(held)]).pvalue > FALSE_ALARM


def test_a_user_keeps_the_slate_for_its_time_bucket_only(store: Store) -> None:
    recommender = warm(store, snapshot("IN", slates=256), sticky_s=100.0, max_age=1e9)
    start = NOW - NOW % 100.0
    slate = recommender.recommend("IN", user="u42", now=start).arms
    assert all(
        recommender.recommend("IN", user="u42", now=start + later).arms == slate
        for later in (0.5, 50.0, 99.9)
    )
    later = {recommender.recommend("IN", user="u42", now=start + 100.0 * i).arms for i in range(20)}
    assert len(later) > 10  # 20 draws of 256 rows: fewer has a chance below 1e-12
    odd = {recommender.recommend("IN", user=user, now=start).arms for user in ("\ud800", "\0", "é")}
    assert len(odd) == 3  # this bucket's rows are fixed: no two of these collide


def test_next_buckets_do_not_depend_on_this_one(store: Store) -> None:
    # A linear hash, such as a CRC, keeps users who share a row together in every later bucket.
    recommender = warm(store, snapshot("IN", slates=4, depth=6), max_age=1e9)
    first, second = (
        [recommender.recommend("IN", 6, user=f"u{u}", now=now).arms for u in range(2_000)]
        for now in (NOW, NOW + 3600)
    )
    pairs = Counter(zip(first, second, strict=True))
    assert len(pairs) == 16
    assert stats.chisquare(list(pairs.values())).pvalue > FALSE_ALARM


def test_stickiness_holds_in_other_processes(store: Store) -> None:
    held = snapshot("IN", slates=256)
    recommender = warm(store, held)
    here = [recommender.recommend("IN", user=f"u{u}", now=NOW).arms for u in range(5)]
    script = (
        "import sys; from banditcore.serving import Recommender; from banditcore.store.connect "
        "import connect\n"
        "class B:\n name='home'; store=connect(sys.argv[1])\n"
        " def segments(self): return ['IN']\n"
        f"r=Recommender(B()); r.warm_up()\n"
        f"print(*[r.recommend('IN', user=f'u{{u}}', now={NOW}).arms for u in range(5)], sep='\\n')"
    )
    for salt in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", script, store.url],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert there.stdout.split("\n")[:-1] == [str(arms) for arms in here]


def test_seeding_the_global_generator_changes_nothing(store: Store) -> None:
    recommender = warm(store, snapshot("IN", slates=256))
    seen = set()
    for _ in range(20):
        random.seed(0)
        seen.add(recommender.recommend("IN", now=NOW).arms)
    assert len(seen) > 10


@pytest.mark.parametrize("kind", [set, frozenset, list, tuple, iter, np.array, dict.fromkeys])
def test_excluded_arms_are_replaced_from_deeper_in_the_row(store: Store, kind: Any) -> None:
    held = snapshot("IN", slates=1)
    [row] = rows(held)
    recommender = warm(store, held)
    assert recommender.recommend("IN", 3, now=NOW).arms == row[:3]
    answer = recommender.recommend("IN", 3, exclude=kind([row[0], row[2], "nobody's"]), now=NOW)
    assert answer.arms == (row[1], row[3], row[4])
    assert all(type(arm) is str for arm in answer.arms)


def test_a_short_row_is_filled_by_live_sampling(store: Store) -> None:
    held = snapshot("IN", slates=1, arms=6, depth=2)
    [row] = rows(held)
    recommender = warm(store, held)
    rest = [arm for arm in held.arms if arm not in row]
    out = rest.pop()
    answers = [recommender.recommend("IN", 4, exclude={out}, now=NOW).arms for _ in range(200)]
    assert {answer[:2] for answer in answers} == {row}
    assert {answer[2:] for answer in answers} == set(itertools.permutations(rest, 2))
    sticky = {recommender.recommend("IN", 4, user="u", now=NOW).arms for _ in range(20)}
    assert len(sticky) == 1


def test_live_filling_follows_the_posterior_of_the_arms_left(store: Store) -> None:
    # Left are x ~ Beta(2, 1) and y uniform: P(x first) = 2/3. Binomial at 1e-6: sees 0.04.
    bank = SlateBank([[0]])
    held = Snapshot("home", "IN", int(NOW * 1e6), ["a", "x", "y"], [9, 2, 1], [1, 1, 1], bank)
    recommender = warm(store, held)
    first = Counter(recommender.recommend("IN", 2, now=NOW).arms for _ in range(4_000))
    assert set(first) == {("a", "x"), ("a", "y")}
    assert stats.binomtest(first["a", "x"], 4_000, 2 / 3).pvalue > FALSE_ALARM


def test_slates_are_short_when_arms_run_out(store: Store) -> None:
    held = snapshot("IN", arms=5, depth=3)
    recommender = warm(store, snapshot(""), held)
    assert set(recommender.recommend("IN", 9, now=NOW).arms) == set(held.arms)
    left = recommender.recommend("IN", 9, exclude=held.arms[:4], now=NOW)
    assert (left.arms, left.source, left.degraded) == ((held.arms[4],), "IN", ())
    # All excluded: a segment's arms are its own, nothing comes from its parent.
    none = recommender.recommend("IN", 9, exclude=held.arms, now=NOW)
    assert (none.arms, none.source) == ((), "IN")
    assert none.propensities.shape == (0,)


def test_never_a_duplicate_nor_an_excluded_arm(store: Store) -> None:
    held = snapshot("IN", arms=20, depth=8)
    recommender = warm(store, held)
    chance = random.Random(3)
    for _ in range(500):
        out = set(chance.sample(held.arms, chance.randrange(21)))
        k = chance.randrange(1, 25)
        user = chance.choice([None, "u1", "u2"])
        arms = recommender.recommend("IN", k, user=user, exclude=out, now=NOW).arms
        assert len(set(arms)) == len(arms) == min(k, 20 - len(out))
        assert not out & set(arms)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"segment": "IN/"}, InvalidValueError, "segment"),
        ({"segment": 5}, InvalidTypeError, "segment"),
        ({"segment": None}, InvalidTypeError, "segment"),
        ({"segment": ["IN"]}, InvalidTypeError, "segment"),
        ({"k": 0}, InvalidValueError, "k is 0"),
        ({"k": True}, InvalidTypeError, "k is True"),
        ({"k": 2.0}, InvalidTypeError, "k is 2.0"),
        ({"user": 42}, InvalidTypeError, "user"),
        ({"user": ""}, InvalidValueError, "user"),
        ({"exclude": "IN:3"}, InvalidTypeError, "one string"),
        ({"exclude": ""}, InvalidTypeError, "one string"),
        ({"exclude": b"IN:3"}, InvalidTypeError, "one string"),
        ({"exclude": {3}}, InvalidTypeError, "exclude"),
        ({"exclude": frozenset({3, "a"})}, InvalidTypeError, "exclude"),
        ({"exclude": [["a"]]}, InvalidTypeError, "exclude"),
        ({"exclude": None}, InvalidTypeError, "exclude"),
        ({"exclude": 7}, InvalidTypeError, "exclude"),
        ({"now": float("nan")}, InvalidValueError, "now"),
        ({"now": "today"}, InvalidTypeError, "now"),
        ({"now": 10**400}, InvalidValueError, "now"),
        ({"now": -1.1e300}, InvalidValueError, "now"),
        ({"now": True}, InvalidTypeError, "now"),
    ],
)
def test_recommend_refuses(
    store: Store, arguments: Any, error: type[Exception], words: str
) -> None:
    recommender = warm(store, snapshot("IN"))
    with pytest.raises(error, match=words):
        recommender.recommend(**{"segment": "IN", **arguments})


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"budget": 0}, InvalidValueError),
        ({"budget": -0.1}, InvalidValueError),
        ({"budget": float("inf")}, InvalidValueError),
        ({"budget": "0.1"}, InvalidTypeError),
        ({"budget": True}, InvalidTypeError),
        ({"budget": 10**400}, InvalidValueError),
        ({"max_age": 10**400}, InvalidValueError),
        ({"sticky_s": 1e-300}, InvalidValueError),
        ({"poll_s": 1e301}, InvalidValueError),
        ({"backup": ""}, InvalidValueError),
        ({"backup": "a\0b"}, InvalidValueError),
        ({"max_age": 0}, InvalidValueError),
        ({"max_age": float("nan")}, InvalidValueError),
        ({"sticky_s": 0}, InvalidValueError),
        ({"sticky_s": float("inf")}, InvalidValueError),
        ({"max_blob_bytes": 0}, InvalidValueError),
        ({"default": "abc"}, InvalidTypeError),
        ({"default": ["a", "a"]}, InvalidValueError),
        ({"default": ["a", ""]}, InvalidValueError),
        ({"default": [1]}, InvalidTypeError),
        ({"default": 1}, InvalidTypeError),
        ({"segments": "IN"}, InvalidTypeError),
        ({"segments": ["IN/"]}, InvalidValueError),
        ({"segments": 3}, InvalidTypeError),
    ],
)
def test_a_recommender_refuses(store: Store, options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Recommender(Home(store), **options)


@pytest.mark.parametrize("given", ["api", None, Recommender, {"name": "api"}])
def test_a_recommender_needs_a_bandit(given: Any) -> None:
    with pytest.raises(
        InvalidTypeError, match=r"^bandit is .*Recommender\(Bandit\(name, store\)\)$"
    ):
        Recommender(given)


def test_an_endless_max_age_is_never_stale(store: Store) -> None:
    recommender = warm(store, snapshot("IN"), max_age=float("inf"))
    assert recommender.recommend("IN", now=NOW + 1e9).degraded == ()


def test_a_huge_k_is_all_there_is(store: Store) -> None:
    recommender = warm(store, snapshot("IN"))
    answer = recommender.recommend("IN", 2**63, exclude={"IN:0"}, now=NOW)
    assert sorted(answer.arms) == sorted(f"IN:{arm}" for arm in range(1, 30))


def test_a_user_of_a_kind_of_str_is_the_user_of_its_text(store: Store) -> None:
    class Kind(str, Enum):  # noqa: UP042  # str() of it is not its text
        U = "u"

    for mode in ("bank", "live"):
        recommender = warm(store, snapshot("IN"), mode=mode)
        plain = recommender.recommend("IN", 5, user="u", now=NOW)
        for user in (Kind.U, np.array(["u"])[0]):
            assert recommender.recommend("IN", 5, user=user, now=NOW) == plain
            assert recommender.recommend_many("IN", [user], 5, now=NOW)[0] == plain


def test_the_least_and_greatest_times_there_are(store: Store) -> None:
    with warm(store, snapshot("IN"), sticky_s=1e-6, poll_s=1e300, max_age=1e300) as recommender:
        for now in (-1e300, 0, 1e300):
            assert len(recommender.recommend("IN", 5, user="u", now=now).arms) == 5
        assert recommender.reload(timeout_s=1e300) == ()
        assert recommender.polling.error is None
