"""Which rung answers, and when a recommender is ready."""

from __future__ import annotations

import pytest

from banditcore.errors import (
    NotReadyError,
)
from banditcore.serving import Recommender
from banditcore.slates import Snapshot, draw_bank
from banditcore.store.connect import Store
from banditcore.store.publish import publish
from published import NOW, Home, put, snapshot, warm


def test_the_nearest_fresh_rung_answers(store: Store) -> None:
    held = [snapshot(""), snapshot("IN"), snapshot("IN/mobile")]
    recommender = warm(store, *held, max_age=900)
    for asked, source in [
        ("IN/mobile", "IN/mobile"),
        ("IN/mobile/new", "IN/mobile"),
        ("IN/tv/new", "IN"),
        ("US", ""),
        ("", ""),
    ]:
        answer = recommender.recommend(asked, 3, now=NOW + 10)
        assert (answer.source, answer.degraded) == (source, ())
        assert (answer.version, answer.age) == (int(NOW * 1e6), 10.0)
        assert all(arm.startswith(f"{source or 'all'}:") for arm in answer.arms)


def test_fresh_rungs_come_first_then_the_nearest_stale_one(store: Store) -> None:
    held = [snapshot("", at=NOW + 200), snapshot("IN", at=NOW), snapshot("IN/mobile", at=NOW + 100)]
    recommender = warm(store, *held, max_age=900)
    for later, source, degraded in [
        (1000.0, "IN/mobile", ()),  # 900 s old is still fresh
        (1000.5, "", ()),
        (1100.5, "IN/mobile", ("stale",)),
    ]:
        answer = recommender.recommend("IN/mobile", 3, now=NOW + later)
        assert (answer.source, answer.degraded) == (source, degraded)
    assert recommender.recommend("IN", 3, now=NOW + 1100.5).source == "IN"
    # The limit is the same for a segment that has no snapshot of its own.
    assert recommender.recommend("IN/mobile/new", 3, now=NOW + 1000).source == "IN/mobile"
    assert recommender.recommend("IN/mobile/new", 3, now=NOW + 1000.5).source == ""


def test_a_version_ahead_of_our_clock_has_age_zero(store: Store) -> None:
    recommender = warm(store, snapshot("IN", at=NOW + 5))
    answer = recommender.recommend("IN", 3, now=NOW)
    assert (answer.age, answer.degraded) == (0.0, ())


def test_the_clock_is_read_when_no_moment_is_given(store: Store) -> None:
    recommender = warm(store, snapshot("IN", at=store.server_time() - 50))
    age = recommender.recommend("IN", 3).age
    assert age is not None
    assert 50 <= age < 110


def test_a_snapshot_without_arms_is_passed_by(store: Store) -> None:
    empty = Snapshot("home", "IN", int(NOW * 1e6), [], [], [], draw_bank([], []))
    recommender = warm(store, empty, snapshot(""))
    assert recommender.recommend("IN", 3, now=NOW).source == ""


def test_the_callers_default_is_the_last_rung(store: Store) -> None:
    recommender = warm(store, snapshot("IN"), default=["d1", "d2", "d3"])
    answer = recommender.recommend("US", 2, exclude={"d1"}, now=NOW)
    assert answer.arms == ("d2", "d3")
    assert (answer.source, answer.version, answer.age) == ("default", None, None)
    assert answer.degraded == ("default",)
    assert answer.propensities.tolist() == [1.0, 1.0]


def test_without_a_default_a_lost_segment_gets_an_empty_labelled_answer(store: Store) -> None:
    answer = warm(store, snapshot("IN")).recommend("US", now=NOW)
    assert (answer.arms, answer.degraded) == ((), ("default",))


def test_ready_after_warm_up_and_not_before(store: Store) -> None:
    put(store, snapshot("IN"))
    recommender = Recommender(Home(store))
    assert not recommender.ready
    with pytest.raises(NotReadyError, match="warm_up"):
        recommender.recommend("IN")
    recommender.warm_up()
    assert recommender.ready


def test_nothing_published_is_not_ready(store: Store) -> None:
    with pytest.raises(NotReadyError, match=r"'home'.*refresh.*default"):
        Recommender(Home(store)).warm_up()
    assert publish(store, "home", "IN", b"what is this" * 9, 1)
    with pytest.raises(NotReadyError, match=r"'IN'.*magic"):
        Recommender(Home(store)).warm_up()


def test_a_default_stands_in_until_something_is_published(store: Store) -> None:
    recommender = Recommender(Home(store), default=["d"], poll_s=None)
    recommender.warm_up()
    assert not recommender.ready
    assert recommender.recommend("IN", now=NOW).arms == ("d",)
    put(store, snapshot("IN"))
    recommender.reload()
    assert recommender.ready
    assert recommender.recommend("IN", now=NOW).source == "IN"


def test_closing_lets_go_and_leaves_the_store_open(store: Store) -> None:
    with warm(store, snapshot("IN"), default=["d"]) as recommender:
        assert recommender.ready
    recommender.close()
    assert not recommender.ready
    for call in (recommender.reload, recommender.warm_up, lambda: recommender.recommend("IN")):
        with pytest.raises(NotReadyError, match="closed"):
            call()
    assert store.client.ping()
