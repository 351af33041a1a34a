"""Fading evidence: exact at any moment, in any order, and agreed on by all."""

from __future__ import annotations

import datetime as dt
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banditcore.bandit import Applied, Bandit
from banditcore.errors import ConfigurationConflictError, InvalidTypeError, InvalidValueError
from banditcore.events import Event
from banditcore.store.connect import Store
from bandits import NOW, Clock, everything, table

on_one_store = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_names = (f"bandit {i}" for i in itertools.count())  # a new one for each example


def batch(*rows: tuple, **columns) -> dict:
    segments, arms, successes = map(list, zip(*rows, strict=True))
    return {"segment": segments, "arm": arms, "successes": successes, **columns}


HALF_LIFE = dt.timedelta(days=7)
H = HALF_LIFE.total_seconds()
DAY = 86_400.0


def test_evidence_fades_by_half_a_half_life(any_store):
    clock = Clock()
    bandit = Bandit("home", any_store, half_life=HALF_LIFE, clock=clock)
    times = [NOW + 3600, NOW, NOW - 1, NOW - H, NOW - 30 * H, NOW - 0.37 * H]
    weights = [2 ** ((time - NOW) / H) for time in times]
    bandit.record_batch(batch(*[("IN", "a", 1)] * 6, trials=[2] * 6, time=times))
    for ahead in (0.0, 1.0, H, 11.3 * H, -2.5 * H):
        expected = sum(weights) * 2 ** (-ahead / H)
        clock.now = NOW + ahead
        for counts in (bandit.counts("IN"), bandit.counts("IN", as_of=NOW + ahead)):
            assert counts.as_of == NOW + ahead
            np.testing.assert_allclose(counts.trials, [2 * expected], rtol=1e-12)
            np.testing.assert_allclose(counts.successes, [expected], rtol=1e-12)


def test_evidence_fades_right_over_thousands_of_half_lives(store):
    clock = Clock()
    bandit = Bandit("home", store, half_life=dt.timedelta(hours=1), clock=clock)
    bandit.add_arms("IN", ["never"])
    for step in range(8):  # 300 half-lives each: the landmark has to move several times
        clock.now = NOW + step * 300 * 3600
        bandit.record_batch(
            batch(("IN", "a", 1), ("IN", "a", 0), time=[clock.now, clock.now - 3600])
        )
        counts = bandit.counts("IN")
        assert counts.arms == ("never", "a")
        np.testing.assert_allclose(counts.trials, [0, 1.5], rtol=1e-12)
        np.testing.assert_allclose(counts.successes, [0, 1], rtol=1e-12)


faded_events = st.lists(
    st.tuples(
        st.sampled_from(["", "IN"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([0.0, 1.0, 0.3]),
        st.floats(NOW - 700 * 3600, NOW + 3600),
        st.integers(0, 4),  # which batch it comes in
    ),
    min_size=1,
    max_size=30,
)


@on_one_store
@given(faded_events, st.permutations(range(5)), st.booleans())
def test_order_and_batches_do_not_matter(store, events, order, fades):
    half_life = dt.timedelta(hours=1) if fades else None
    found = []
    for sequence in (range(5), order):
        bandit = Bandit(next(_names), store, half_life=half_life, clock=Clock())
        for number in sequence:
            some = [Event(s, a, r, 1.0, t) for s, a, r, t, b in events if b == number]
            assert bandit.record_batch(some) == Applied(len(some))
        found.append({path: table(bandit.counts(path)) for path in bandit.segments()})
    expected: dict[str, dict[str, np.ndarray]] = {}
    for segment, arm, reward, time, _ in events:
        weight = 2 ** ((time - NOW) / 3600) if fades else 1.0
        arms = expected.setdefault(segment, {})
        arms[arm] = arms.get(arm, 0) + weight * np.array([1.0, reward])
    for counts in found:
        assert counts.keys() == expected.keys()
        for segment, arms in expected.items():
            assert counts[segment].keys() == arms.keys()
            for arm, sums in arms.items():
                np.testing.assert_allclose(counts[segment][arm], sums, rtol=1e-12)


def test_a_half_life_is_agreed_on_by_all(store):
    week = Bandit("home", store, half_life=HALF_LIFE, clock=Clock())
    assert week.half_life == HALF_LIFE
    week.record("IN", "a", time=NOW)
    silent = Bandit("home", store, clock=Clock(NOW + H))
    assert silent.half_life == HALF_LIFE
    np.testing.assert_allclose(silent.counts("IN").trials, [0.5], rtol=1e-12)
    silent.record("US", "a", time=NOW)
    np.testing.assert_allclose(silent.counts("US").trials, [0.5], rtol=1e-12)

    before = everything(store)
    day = Bandit("home", store, half_life=dt.timedelta(days=1))
    for write in (
        lambda: day.record("IN", "a"),
        lambda: day.add_arms("IN", ["x"]),
        lambda: day.retire("IN", ["a"]),
    ):
        with pytest.raises(
            ConfigurationConflictError, match=r"^half_life is .86400.0 s.: .*604800"
        ):
            write()
    with pytest.raises(ConfigurationConflictError, match=r"^window is .7200.0 s.: .*3600.0 s"):
        Bandit("home", store, window=dt.timedelta(hours=2)).record("IN", "a")
    assert everything(store) == before
    assert day.counts("IN").arms == ("a",)  # reading takes the half-life as it is

    Bandit("plain", store).record("IN", "a")
    with pytest.raises(ConfigurationConflictError, match=r"plain.*never fades"):
        Bandit("plain", store, half_life=HALF_LIFE).record("IN", "a")


@pytest.mark.parametrize("span", [dt.timedelta(0), dt.timedelta(seconds=-1), 7, "7d"])
def test_spans_are_positive_timedeltas(store, span):
    error = InvalidValueError if isinstance(span, dt.timedelta) else InvalidTypeError
    for name in ("half_life", "window"):
        with pytest.raises(error, match=rf"^{name} is"):
            Bandit("home", store, **{name: span})


def test_the_half_life_can_be_changed_without_a_jump(any_store):
    clock = Clock()
    bandit = Bandit("home", any_store, half_life=HALF_LIFE, clock=clock)
    other = Bandit("home", any_store, clock=clock)
    bandit.record_batch(batch(("IN", "a", 1), ("US", "a", 1), time=[NOW, NOW - H]))
    other.record("IN", "b", time=NOW)

    def trials(of: Bandit, segment: str) -> list[float]:
        return pytest.approx(of.counts(segment).trials.tolist(), rel=1e-12)

    clock.now += H
    bandit.change_half_life(dt.timedelta(days=1))
    assert other.half_life == bandit.half_life == dt.timedelta(days=1)
    for reader in (bandit, other, Bandit("home", any_store, clock=clock)):
        assert trials(reader, "IN") == [0.5, 0.5]
        assert trials(reader, "US") == [0.25]
    clock.now += 86400
    other.record("IN", "b", time=clock.now)  # it knew the old half-life
    other.record("new", "a", time=clock.now - 86400)
    for reader in (bandit, other):
        assert trials(reader, "IN") == [0.25, 1.25]
        assert trials(reader, "US") == [0.125]
        assert trials(reader, "new") == [0.5]
    other.change_half_life(None)
    assert bandit.half_life is None
    clock.now += 1e6
    assert trials(bandit, "IN") == [0.25, 1.25]
    with pytest.raises(InvalidTypeError, match=r"^half_life is 7"):
        bandit.change_half_life(7)


# --- several changes at once -------------------------------------------------------------------


class Hooked:
    """A clock that does something at its n-th reading, once."""

    def __init__(self, n: int, action: Callable[[], object]) -> None:
        self._left = n
        self._action = action

    def __call__(self) -> float:
        self._left -= 1
        if self._left == 0:
            self._action()
        return NOW


def half_lives(store: Store) -> dict[str, float | None]:
    bandit = Bandit("home", store)
    views = bandit.reader.look(bandit.segments())
    return {
        path: view.version.half_life_s
        for path, view in zip(bandit.segments(), views, strict=True)
        if view
    }


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_of_two_changes_the_later_setting_holds_everywhere(any_store, step):
    """The second call begins and ends within the first: before, between or after its segments."""
    second = Bandit("home", any_store, clock=Clock(NOW))
    for path in "ABC":
        second.record(path, "a", reward=1, time=NOW)
    done = []

    def overtake() -> None:
        def change() -> None:
            second.change_half_life(dt.timedelta(days=2))
            second.record("D", "a", reward=1, time=NOW)
            done.append(step)

        thread = threading.Thread(target=change)
        thread.start()
        thread.join()

    first = Bandit("home", any_store, clock=Hooked(step, overtake))
    first.change_half_life(dt.timedelta(days=1))
    assert done == [step]
    assert first.half_life == dt.timedelta(days=2)
    assert half_lives(any_store) == dict.fromkeys("ABCD", 2 * DAY)
    assert table(first.counts("A")) == {"a": (1, 1)}


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_change_that_waits_for_the_end_of_an_earlier_one_holds(store, step):
    """The first call goes on when the second has entered its setting, and ends before it."""
    entered, ended = threading.Event(), threading.Event()

    def wait_for_the_other() -> None:
        entered.set()
        assert ended.wait(60)

    second = Bandit("home", store, clock=Hooked(1, wait_for_the_other))
    thread = threading.Thread(target=second.change_half_life, args=(dt.timedelta(days=2),))

    def begin_the_other() -> None:
        thread.start()
        assert entered.wait(60)

    first = Bandit("home", store, clock=Hooked(step, begin_the_other))
    for path in "ABC":
        Bandit("home", store, clock=Clock(NOW)).record(path, "a", reward=1, time=NOW)
    first.change_half_life(dt.timedelta(days=1))
    assert half_lives(store) == dict.fromkeys("ABC", 2 * DAY)
    ended.set()
    thread.join()
    assert half_lives(store) == dict.fromkeys("ABC", 2 * DAY)


def test_threads_that_change_it_and_open_segments_end_agreed(store):
    bandits = [Bandit("home", store, clock=Clock(NOW)) for _ in range(3)]
    start = threading.Barrier(3)

    def work(i: int) -> None:
        start.wait(60)
        for turn in range(10):
            if i < 2:
                bandits[i].change_half_life(dt.timedelta(days=1 + i + 2 * (turn % 2)))
            bandits[i].record(f"{i} {turn}", "a", reward=1, time=NOW)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    setting = bandits[0].half_life
    assert setting is not None
    found = half_lives(store)
    assert len(found) == 30
    assert set(found.values()) == {setting.total_seconds()}
