"""What holds of every answer, whatever chooses it; in threads, and after a fork."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from banditcore._answer import Answer
from banditcore.serving import Recommendation
from banditcore.serving.rung import Rung
from banditcore.slate_format import encode, restamped, unpack
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.connect import Store
from published import NOW, rows, snapshot, warm

FALSE_ALARM = 1e-6
MODES = ["bank", "live"]


def rung(arms: int, slates: int, depth: int, *, live: bool) -> Rung:
    alpha, beta = np.linspace(2, 6, arms), np.full(arms, 20.0)
    ids = [f"a{i}" for i in range(arms)]
    bank = draw_bank(alpha, beta, slates=slates, depth=depth, seed=1)
    return Rung(unpack(encode(Snapshot("b", "IN", 1, ids, alpha, beta, bank))), live=live)


@settings(deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 5),
    st.integers(1, 20),
    st.integers(1, 130),
    st.sets(st.integers(0, 130)),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    st.booleans(),
)
def test_never_a_duplicate_nor_an_excluded_arm_and_short_only_when_arms_run_out(  # noqa: PLR0917
    arms: int, slates: int, depth: int, k: int, out: set[int], keys: list[int], live: bool
) -> None:
    policy = rung(arms, slates, depth, live=live).policy
    excluded = frozenset(f"a{i}" for i in out)
    left = {f"a{i}" for i in range(arms)} - excluded
    found = [policy.choose(k, excluded, key) for key in keys]
    for answer in found:
        assert len(set(answer)) == len(answer) == min(k, len(left))
        assert left.issuperset(answer)
    columns = np.array(keys, np.uint64)
    assert policy.choose_many(k, excluded, columns) == found
    assert policy.choose_many(k, [excluded] * len(keys), columns) == found


@pytest.mark.parametrize("mode", MODES)
def test_frequencies_of_answers_are_their_propensities(store: Store, mode: str) -> None:
    # 6,000 answers; a share of 0.2 that is off by 0.03 is seen.
    recommender = warm(store, snapshot("IN", arms=9, slates=64, depth=9), mode=mode)
    out = ["IN:8", "IN:2"]
    answers = [recommender.recommend("IN", 3, exclude=out, now=NOW) for _ in range(6_000)]
    for rank in range(3):
        share = {
            answer.arms[rank]: float(answer.propensities[rank])
            for answer in {each.arms[rank]: each for each in answers}.values()
        }
        seen = Counter(answer.arms[rank] for answer in answers)
        assert sum(share.values()) == pytest.approx(1.0, abs=1e-9)
        expected = np.array([share[arm] for arm in share])
        observed = np.array([seen[arm] for arm in share])
        pvalue = stats.chisquare(observed, expected / expected.sum() * 6_000).pvalue
        assert pvalue > FALSE_ALARM


def test_a_restamped_rung_answers_as_before_and_is_younger() -> None:
    old = rung(30, 8, 6, live=False)
    header = restamped(old.snapshot.header, 2_000_000)
    new = old.restamped(header)
    assert (new.version, new.as_of, new.checksum) == (2_000_000, 2.0, header.checksum)
    assert new.policy is old.policy
    assert new.users.key("u", 1) == old.users.key("u", 1)
    assert (old.version, old.checksum) == (1, old.snapshot.header.checksum)


def test_a_users_key_is_the_one_that_the_format_names(store: Store) -> None:
    # In docs/slate-format.md; another one would give every user another slate.
    recommender = warm(store, snapshot("IN", slates=256))
    key = recommender._loader.rungs["IN"].users.key("u42", 497_222)
    assert key == 18_014_861_584_508_829_912
    asked = recommender.recommend("IN", 12, user="u42", now=497_222 * 3600.0).arms
    assert asked == rows(snapshot("IN", slates=256))[key % 256]


@pytest.mark.parametrize("mode", MODES)
def test_threads_get_the_answers_of_one(store: Store, mode: str) -> None:
    recommender = warm(store, snapshot("IN", arms=500, slates=64, depth=20), mode=mode)
    users = [f"u{i}" for i in range(300)]
    out = {f"IN:{i}" for i in range(0, 500, 7)}
    alone = [recommender.recommend("IN", user=user, exclude=out, now=NOW).arms for user in users]

    def ask(turn: int) -> list[tuple[str, ...]]:
        if turn % 2:
            return recommender.recommend_many("IN", users, exclude=out, now=NOW).arms
        return [recommender.recommend("IN", user=user, exclude=out, now=NOW).arms for user in users]

    with ThreadPoolExecutor(4) as pool:
        assert all(found == alone for found in pool.map(ask, range(8)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_children_of_a_fork_draw_for_themselves(store: Store, mode: str) -> None:
    recommender = warm(store, snapshot("IN", arms=200, slates=256), mode=mode)
    sticky = recommender.recommend("IN", user="u", now=NOW).arms

    def ask() -> str:
        unknown = [recommender.recommend("IN", now=NOW).arms for _ in range(5)]
        unknown += recommender.recommend_many("IN", [None] * 5, now=NOW).arms
        assert recommender.recommend("IN", user="u", now=NOW).arms == sticky
        return repr(unknown)

    found = []
    for _ in range(2):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends a child that hangs
            try:
                os.write(writing, ask().encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            found.append(pipe.read())
        os.waitpid(child, 0)
    found.append(ask())
    assert all(found)
    assert len(set(found)) == 3


def test_an_answer_cannot_be_changed() -> None:
    answer = Recommendation(("a",), "IN", 5, 1.0, ("stale",), None)
    assert isinstance(answer, Answer)
    for name in ("arms", "source", "version", "age", "degraded", "_made", "more"):
        with pytest.raises(AttributeError):
            setattr(answer, name, None)
    same: Any = Recommendation(("a",), "IN", 5, 1.0, ("stale",), None)
    assert answer == same
    assert hash(answer) == hash(same)
    assert answer != Recommendation(("b",), "IN", 5, 1.0, ("stale",), None)
    assert answer != ("a",)
    assert repr(answer) == (
        "Recommendation(arms=('a',), source='IN', version=5, age=1.0, degraded=('stale',))"
    )


def test_a_bank_of_few_slates_is_followed_to_the_row(store: Store) -> None:
    held = snapshot("IN", slates=3)
    recommender = warm(store, held)
    found = recommender.recommend_many("IN", [None] * 100, 12, now=NOW).arms
    assert set(found) == set(rows(held))
