"""Recommenders with frequency caps."""

from __future__ import annotations

import gc
import multiprocessing
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import BanditCoreError, NotReadyError
from banditcore.maintenance import verify_store
from banditcore.serving import FrequencyCap, Recommender
from banditcore.serving.caps import check_caps
from banditcore.serving.seen import SeenItems, _look_up
from banditcore.serving.seen_memory import SeenMemory
from banditcore.serving.unsent_marks import Fate, UnsentMarks
from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.deadlines.resp import packed
from banditcore.store.seen_record import (
    LONGEST_BYTES,
    MOST_EXPOSURES,
    arm_hash,
    decode,
    exposure,
)
from banditcore.store.servers.transport import Command
from model_of_caps import CapModel
from published import NOW, Home, snapshot, warm
from servers import wait_until

# Faults have tests of their own.
pytestmark = pytest.mark.usefixtures("patient")

DAY = 86_400
ONCE_A_DAY = (FrequencyCap(),)


@pytest.fixture
def made(any_store: Store) -> Iterator[list[Recommender]]:
    """Two recommenders that share nothing but the store."""
    options = {"caps": ONCE_A_DAY, "budget": 10.0, "max_age": 1e9, "default": ["IN:1", "x"]}
    both = [warm(any_store, snapshot("IN"), **options) for _ in range(2)]
    yield both
    for each in both:
        each.close()


def test_what_was_marked_is_left_out_everywhere_for_a_day(made: list[Recommender]) -> None:
    here, there = made
    first = here.recommend("IN", 10, user="u", now=NOW)
    assert len(first.arms) == 10
    assert there.recommend("IN", 10, user="u", now=NOW).arms == first.arms  # nothing is marked
    assert here.mark_seen("u", first.arms, now=NOW)
    for recommender in made:
        for later in (0, DAY):
            answer = recommender.recommend("IN", 30, user="u", now=NOW + later)
            assert len(answer.arms) == 20
            assert set(first.arms).isdisjoint(answer.arms)
            assert answer.degraded == ()
        assert len(recommender.recommend("IN", 30, user="u", now=NOW + DAY + 1).arms) == 30
        assert len(recommender.recommend("IN", 30, user="v", now=NOW).arms) == 30
        assert len(recommender.recommend("IN", 30, now=NOW).arms) == 30
        assert recommender.seen_stats is not None
        assert recommender.seen_stats.failures == {}


def test_other_rungs_and_the_default_leave_it_out_too(store: Store) -> None:
    arms = [f"IN:{i}" for i in range(29)]
    with warm(
        store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9, default=["IN:1", "x"]
    ) as r:
        r.mark_seen("u", [*arms, "x"], now=NOW)
        assert r.recommend("IN/nowhere", user="u", now=NOW).arms == ("IN:29",)
        default = r.recommend("DE", user="u", now=NOW)
        assert (default.arms, default.degraded) == ((), ("default",))
        assert r.recommend("DE", user="v", now=NOW).arms == ("IN:1", "x")


def test_propensities_are_of_what_is_left(store: Store) -> None:
    with warm(store, snapshot("IN", depth=30), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        r.mark_seen("u", ["IN:1", "IN:2"], now=NOW)
        seen = r.recommend("IN", 5, user="u", now=NOW)
        plain = r.recommend("IN", 5, user="u", now=NOW, exclude=["IN:1", "IN:2", "IN:9"])
        both = r.recommend("IN", 5, user="u", now=NOW, exclude=["IN:9"])
        assert both.arms == plain.arms
        assert both.propensities.tolist() == plain.propensities.tolist()
        assert {"IN:1", "IN:2"}.isdisjoint(seen.arms)
        assert (seen.propensities > 0).all()


def test_several_caps_follow_the_model_through_the_store(one_server: Store) -> None:
    caps = (FrequencyCap(3, timedelta(seconds=60)), FrequencyCap(1, timedelta(seconds=5)))
    model = CapModel(caps)
    clock = [0, 0.5, 4, 6, 11.9, 12, 3, 70, 71, 65, 66.1, 130, 131, 200, 190]
    options = {"caps": caps, "budget": 10.0, "max_age": 1e9}
    with (
        warm(one_server, snapshot("IN", arms=6, depth=6), **options) as here,
        warm(one_server, snapshot("IN", arms=6, depth=6), **options) as there,
    ):
        for i, later in enumerate(clock):
            now = NOW + later
            wanted = {f"IN:{arm}" for arm in range(6)} - model.forbidden(now)
            for recommender in (here, there):
                assert set(recommender.recommend("IN", 6, user="u", now=now).arms) == wanted
            arms = [f"IN:{i % 6}", f"IN:{(i * i) % 6}", "IN:0"]
            assert (here, there)[i % 2].mark_seen("u", arms, now=now)
            assert (here, there)[i % 2].mark_seen("u", arms, now=now)  # again, to no effect
            for arm in arms:
                model.mark(arm, now)


@pytest.mark.parametrize("user", ["\ud800", "\0", "{x}", "u" * 10_000, "é"])
def test_any_user_has_a_memory(store: Store, user: str) -> None:
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        assert r.mark_seen(user, ["IN:3"], now=NOW)
        assert "IN:3" not in r.recommend("IN", 30, user=user, now=NOW).arms
        assert len(r.recommend("IN", 30, user="other", now=NOW).arms) == 30


@pytest.mark.parametrize("now", [0.0, -5.0, 1e300, 2.0**24])
def test_any_moment_is_taken(store: Store, now: float) -> None:
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        r.mark_seen("u", ["IN:3"], now=now)
        assert "IN:3" not in r.recommend("IN", 30, user="u", now=now).arms


def test_arguments_are_checked_and_change_nothing(store: Store) -> None:
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        wrong = [("", ["a"]), (3, ["a"]), ("u", "a"), ("u", [""]), ("u", [3]), ("u", 3)]
        for user, arms in wrong:
            with pytest.raises(BanditCoreError):
                r.mark_seen(user, arms, now=NOW)  # type: ignore[arg-type]
        with pytest.raises(BanditCoreError, match="now"):
            r.mark_seen("u", ["a"], now=float("nan"))
        assert r.mark_seen("u", [], now=NOW)
        assert not list(store.client.scan_iter("bc:*:u"))
    with pytest.raises(NotReadyError):
        r.mark_seen("u", ["a"])
    with (
        warm(store, snapshot("IN"), max_age=1e9) as plain,
        pytest.raises(BanditCoreError, match="caps"),
    ):
        plain.mark_seen("u", ["a"])
    assert plain.seen_stats is None


def test_verify_knows_records_and_finds_what_is_wrong_with_them(store: Store) -> None:
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        r.mark_seen("u", ["IN:3"], now=NOW)
        client, key = store.client, keys.seen("home", "u")
        records = [each for each in verify_store(store).findings if each.where == key]
        assert records == []
        for change, what in (
            (lambda: client.persist(key), "never expires"),
            (lambda: client.setrange(key, 5, "?"), "seen record"),
            (lambda: (client.delete(key), client.hset(key, "a", 1)), "is a hash"),
        ):
            change()
            found = [each.what for each in verify_store(store).findings if each.where == key]
            assert any(what in each for each in found), (what, found)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_leaves_nothing(store: Store) -> None:
    before, files = set(threading.enumerate()), _descriptors()
    for _ in range(3):
        recommender = warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9)
        recommender.mark_seen("u", ["IN:3"], now=NOW)
        recommender.recommend("IN", user="u", now=NOW)
        recommender.close()
        recommender.close()
    gc.collect()
    # What an earlier test has left may end too.
    wait_until(lambda: set(threading.enumerate()) <= before, "a thread is left")
    assert _descriptors() <= files + 1  # the store's own pool may have grown


def _in_a_child(recommender: Recommender, answers: multiprocessing.Queue[object]) -> None:
    seen = recommender._seen
    assert seen is not None
    assert not seen._client._lines  # none of its parent's
    arms = recommender.recommend("IN", 30, user="u", now=NOW)
    answers.put((recommender.mark_seen("child", ["IN:4"], now=NOW), arms.arms, arms.degraded))
    recommender.close()


def test_a_fork_shares_no_connection(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        r.mark_seen("u", ["IN:3"], now=NOW)
        answers: multiprocessing.Queue[object] = context.Queue()
        children = [context.Process(target=_in_a_child, args=(r, answers)) for _ in range(2)]
        for child in children:
            child.start()
        for _ in children:
            stored, arms, degraded = answers.get(timeout=60)  # type: ignore[misc]
            assert stored
            assert "IN:3" not in arms
            assert (len(arms), degraded) == (29, ())
        for child in children:
            child.join()
            assert child.exitcode == 0
        assert "IN:4" not in r.recommend("IN", 30, user="child", now=NOW).arms
        assert r.seen_stats is not None
        assert r.seen_stats.failures == {}


def test_many_users_are_looked_up_together(any_store: Store) -> None:
    caps = check_caps(ONCE_A_DAY)
    marking = SeenItems(any_store, "home", caps, budget=10.0)
    looking = SeenItems(any_store, "home", caps, budget=10.0)
    for items in (marking, looking):
        items.warm_up()
    arms = tuple(f"IN:{i}" for i in range(30))
    for i in range(200):
        assert marking.mark(f"u{i}", [arms[i % 30]], NOW)
    users = [f"u{i}" for i in range(200)] + [None, "u7", "never"]
    found = looking.look_up_many(users, NOW)
    assert found[200] is None
    for user, seen in zip(users, found, strict=True):
        if user is not None and seen is not None:
            wanted = {arms[int(user[1:]) % 30]} if user != "never" else set()
            assert seen.ok
            assert seen.among("IN", arms) == wanted
    assert list(looking.look_up_many([], NOW)) == []
    for items in (marking, looking):
        items.close()
    assert {seen.ok for seen in looking.look_up_many(["u1", "u2"], NOW) if seen} == {False}


@given(st.text())
def test_a_look_up_is_the_command_as_packed(user: str) -> None:
    key = keys.seen("home", user)
    assert _look_up(key) == (key, packed(("GETRANGE", key, 0, LONGEST_BYTES)))


def test_memory_is_bounded() -> None:
    memory = SeenMemory(most_users=3, most_exposures=10)
    for user in "abc":
        memory.mark(user, {1: 10, 2: 10})
    memory.mark("a", {3: 11, 1: 10})
    memory.mark("d", {4: 12})
    assert memory.marks("abcd", 10) == [[1, 2, 3], [], [1, 2], [4]]
    memory.mark("c", dict.fromkeys(range(100, 108), 12))
    assert [len(marks) for marks in memory.marks("acd", 10)] == [0, 10, 0]
    assert [len(marks) for marks in memory.marks("c", 11)] == [8]
    memory.mark("d", dict.fromkeys([5, 6], 12))  # there is room again: c has given two back
    assert [len(marks) for marks in memory.marks("cd", 10)] == [8, 2]
    whole = SeenMemory()
    whole.mark("a", dict.fromkeys(range(2 * MOST_EXPOSURES), 5))
    assert whole.marks("a", 5) == [list(range(MOST_EXPOSURES, 2 * MOST_EXPOSURES))]
    for i in range(20):
        whole.answer([("a", (f"arm-{i}",)), ("b", ("x", "y"))], 7 + i)
    lately = [exposure(arm_hash(f"arm-{i}"), 7 + i) for i in range(12, 20)]
    twice = [exposure(arm_hash(arm), 7 + i) for i in range(12, 20) for arm in "xy"]
    assert whole.answers("acb") == [lately, [], twice]
    small = SeenMemory(most_users=3, most_exposures=10)
    small.mark("b", {1: 5})
    small.answer([("a", ("x",)), *[("b", ("z",))] * 20], 7)
    assert [len(each) for each in small.answers("ab")] == [1, 8]  # with the mark, 10
    small.answer([("c", ("x",))], 7)
    assert [len(each) for each in small.answers("abc")] == [0, 8, 1]


def test_unsent_marks_are_bounded_and_sent_when_possible() -> None:
    works, sent = threading.Event(), {}

    def send(batch: list[tuple[str, dict[int, int]]]) -> list[Fate]:
        if not works.is_set():
            return [Fate.UNSENT] * len(batch)
        sent.update(batch)
        return [Fate.REFUSED if key == "never" else Fate.STORED for key, _ in batch]

    unsent = UnsentMarks(send, most=5)
    unsent.add("a", {1: 1, 2: 1})
    unsent.add("never", {1: 1})
    unsent.add("a", {2: 1, 3: 1})
    assert (len(unsent), unsent.dropped) == (4, 0)
    unsent.add("b", {4: 2, 5: 2, 6: 2})
    assert (len(unsent), unsent.dropped) == (5, 2)
    works.set()
    wait_until(lambda: len(unsent) == 0, "marks are not sent")
    assert sent["b"] == {4: 2, 5: 2, 6: 2}
    assert unsent.dropped == 2 + ("never" in sent)
    works.clear()
    unsent.add("c", {7: 3})
    unsent.close()
    assert (len(unsent), unsent.dropped) == (0, 3 + ("never" in sent))
    unsent.add("d", {8: 3})
    assert unsent.dropped == 4 + ("never" in sent)


def test_a_bandit_that_has_no_snapshot_yet(store: Store) -> None:
    with Recommender(Home(store), caps=ONCE_A_DAY, budget=10, default=["a", "b"]) as r:
        assert r.recommend("IN", user="u", now=NOW).arms == ("a", "b")
        r.mark_seen("u", ["a"], now=NOW)
        assert r.recommend("IN", user="u", now=NOW).arms == ("b",)


def test_of_one_user_no_more_waits_than_a_record_keeps(store: Store) -> None:
    arms = [f"x{i}" for i in range(3 * MOST_EXPOSURES)]
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=10, max_age=1e9) as r:
        assert r.mark_seen("u", [*arms, *arms], now=NOW)
        here = r._seen._marking("u", [*arms, *arms], NOW)  # type: ignore[union-attr]
        assert list(here[1].values()) == [int(NOW)] * MOST_EXPOSURES
        [stored] = store.replies([Command(here[0], ("GETRANGE", here[0], 0, -1))])
        wanted = {exposure(arm_hash(arm), int(NOW)) for arm in arms[-MOST_EXPOSURES:]}
        assert set(decode(stored).tolist()) == wanted  # type: ignore[arg-type]
    unsent = UnsentMarks(lambda batch: [Fate.UNSENT for _ in batch])
    unsent.add("a", dict.fromkeys(range(MOST_EXPOSURES), 1))
    unsent.add("a", dict.fromkeys(range(MOST_EXPOSURES - 1, MOST_EXPOSURES + 4), 1))
    assert (len(unsent), unsent.dropped) == (MOST_EXPOSURES, 4)
    unsent.close()


def test_a_system_that_gives_no_thread_costs_no_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warm(store, snapshot("IN"), caps=ONCE_A_DAY, budget=0.01, max_age=1e9) as r:
        monkeypatch.setattr("banditcore.serving.seen.LONGEST_ASK_S", 0.01)
        assert r._seen is not None
        [lines] = r._seen._client._lines.values()
        for idle in list(lines._idle):
            lines.retire(lines.take())  # type: ignore[arg-type]
            assert idle not in lines._idle
        with monkeypatch.context() as short:

            def refuse(_thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            short.setattr(threading.Thread, "start", refuse)
            assert r.recommend("IN", user="u", now=NOW).degraded == ("seen",)
            assert not r.mark_seen("u", ["IN:1"], now=NOW)
            assert r.seen_stats is not None
            assert r.seen_stats.unsent == 1
        monkeypatch.setattr("banditcore.serving.seen.LONGEST_ASK_S", 10.0)
        wait_until(lambda: r.recommend("IN", user="u", now=NOW).degraded == (), "it stays away")
        assert not r.mark_seen("v", ["IN:2"], now=NOW) or r.mark_seen("v", ["IN:3"], now=NOW)
