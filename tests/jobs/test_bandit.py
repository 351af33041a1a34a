"""A bandit's events and counts: what is recorded is what is read."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banditcore.bandit import Applied, Bandit
from banditcore.errors import (
    BanditCoreError,
    ConfigurationConflictError,
    InvalidTypeError,
    InvalidValueError,
)
from banditcore.events import MAX_TRIALS, Event
from banditcore.posterior import Posterior, Prior
from banditcore.store.connect import Store
from bandits import NOW, Clock, everything, table

on_one_store = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_names = (f"bandit {i}" for i in itertools.count())  # a new one for each example


def batch(*rows: tuple, **columns) -> dict:
    segments, arms, successes = map(list, zip(*rows, strict=True))
    return {"segment": segments, "arm": arms, "successes": successes, **columns}


# --- recording ---------------------------------------------------------------------------------


def test_what_is_recorded_is_what_is_counted(any_store):
    bandit = Bandit("home", any_store)
    assert bandit.record("IN", "a", reward=0.25) == Applied(1)
    assert bandit.record("IN", "a") == Applied(1)
    assert bandit.record("IN", "b", reward=3, trials=5) == Applied(1)
    applied = bandit.record_batch(batch(("IN", "a", 1), ("IN/m", "c", 0), ("", "a", 1)))
    assert applied == Applied(applied=3, duplicate=0, refused=0)
    assert bandit.record_batch([Event("IN", "é\0", 1, 2)]) == Applied(1)
    frame = pd.DataFrame(batch(("IN", "a", 0), ("IN", "a", 1)))
    assert bandit.record_batch(frame) == Applied(2)
    assert table(bandit.counts("IN")) == {"a": (5, 2.25), "b": (5, 3), "é\0": (2, 1)}
    assert table(bandit.counts("IN/m")) == {"c": (1, 0)}
    assert table(bandit.counts("")) == {"a": (1, 1)}
    assert bandit.segments() == ["", "IN", "IN/m"]


def test_nothing_is_recorded_by_nothing(store):
    bandit = Bandit("home", store)
    before = everything(store)
    assert bandit.record_batch([]) == Applied(0, 0, 0)
    assert bandit.segments() == []
    assert table(bandit.counts("IN")) == table(bandit.counts("", descendants=True)) == {}
    assert len(bandit.posterior("IN")) == 0
    assert everything(store) == before


def test_counts_of_descendants_are_summed(store):
    bandit = Bandit("home", store)
    bandit.record_batch(
        batch(("", "a", 1), ("IN", "a", 1), ("IN/m", "b", 0), ("IN/m/x", "a", 0), ("INX", "a", 1))
    )
    summed = {path: table(bandit.counts(path, descendants=True)) for path in ("", "IN", "IN/m")}
    assert summed == {
        "": {"a": (4, 3), "b": (1, 0)},
        "IN": {"a": (2, 1), "b": (1, 0)},
        "IN/m": {"a": (1, 0), "b": (1, 0)},
    }
    assert table(bandit.counts("nowhere", descendants=True)) == {}
    assert table(bandit.counts("IN/m")) == {"b": (1, 0)}


def test_a_late_reward_may_come_first_and_is_clipped_until_then(store):
    bandit = Bandit("home", store, prior=Prior(1, 30))
    bandit.record("IN", "a", reward=1, trials=0)
    assert table(bandit.counts("IN")) == {"a": (0, 1)}
    early = bandit.posterior("IN")
    assert (early.alpha.tolist(), early.beta.tolist(), early.clipped) == ([2], [30], 1)
    bandit.record("IN", "a")
    late = bandit.posterior("IN")
    assert (late.alpha.tolist(), late.beta.tolist(), late.clipped) == ([2], [30], 0)


def test_a_posterior_is_the_prior_and_everything_below(store):
    bandit = Bandit("home", store, prior=Prior(2, 5))
    bandit.record_batch(batch(("IN", "a", 1), ("IN/m", "a", 0), ("IN/m", "b", 0.5), ("US", "a", 1)))
    found = bandit.posterior("IN")
    assert isinstance(found, Posterior)
    assert found.arms == ("a", "b")
    assert (found.alpha.tolist(), found.beta.tolist()) == ([3, 2.5], [6, 5.5])


def test_an_empirical_posterior_borrows_from_the_ancestors(store):
    rows = [(f"{country}/m", f"a{i}", i % 3 == 0) for country in ("IN", "US") for i in range(60)]
    bandit = Bandit("home", store, prior="empirical")
    bandit.record_batch(batch(*rows, trials=[50] * 120))
    found = bandit.posterior("IN/m")
    assert sorted(found.arms) == sorted(f"a{i}" for i in range(60))
    never = found.arms.index("a1")
    assert 0 < found.mean[never] < 1 / 50  # drawn to the others, and no further than they are
    with pytest.raises(InvalidTypeError, match=r"^prior is"):
        Bandit("home", store, prior="emprical")


def test_arms_without_events_are_candidates(any_store):
    bandit = Bandit("home", any_store)
    assert bandit.add_arms("IN", ["a", "b", "a"]) == 2
    assert bandit.add_arms("IN", ["b", "c"]) == 1
    assert bandit.add_arms("IN", []) == 0
    bandit.record("IN", "b", reward=1)
    assert table(bandit.counts("IN")) == {"a": (0, 0), "b": (1, 1), "c": (0, 0)}


def test_retired_arms_are_gone_and_may_return_without_a_past(any_store):
    bandit, other = Bandit("home", any_store), Bandit("home", any_store)
    many = [f"a{i}" for i in range(300)]
    bandit.record_batch(batch(*[("IN", arm, 1) for arm in many], ("US", "a0", 1)))
    assert len(other.counts("IN")) == 300  # it has seen the registry
    assert bandit.retire("IN", many[::2]) == 150
    assert bandit.retire("IN", many[::2]) == 0
    assert bandit.retire("nowhere", many) == 0
    assert table(bandit.counts("IN")) == dict.fromkeys(many[1::2], (1, 1))
    assert table(bandit.counts("US")) == {"a0": (1, 1)}
    other.record_batch(batch(("IN", "a0", 0), ("IN", "a299", 0), ("IN", "new", 1)))
    expected = dict.fromkeys(many[1::2], (1, 1)) | {"a299": (2, 1), "a0": (1, 0), "new": (1, 1)}
    assert table(other.counts("IN")) == table(bandit.counts("IN")) == expected
    assert bandit.retire("IN", [*many, "new"]) == 152
    assert table(other.counts("IN")) == {}


# --- fading ------------------------------------------------------------------------------------

HALF_LIFE = dt.timedelta(days=7)
H = HALF_LIFE.total_seconds()


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
        day.refresh,
    ):
        with pytest.raises(ConfigurationConflictError, match=r"^half_life is 86400.0: .*604800"):
            write()
    assert everything(store) == before

    Bandit("plain", store).record("IN", "a")
    with pytest.raises(ConfigurationConflictError, match=r"plain.*kept with None s"):
        Bandit("plain", store, half_life=HALF_LIFE).record("IN", "a")


@pytest.mark.parametrize("span", [dt.timedelta(0), dt.timedelta(seconds=-1), 7, "7d", None])
def test_spans_are_positive_timedeltas(store, span):
    error = InvalidValueError if isinstance(span, dt.timedelta) else InvalidTypeError
    for name in ("half_life", "window") if span is not None else ("window",):
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


# --- whose keys --------------------------------------------------------------------------------

odd_ids = st.one_of(
    st.sampled_from(["{", "}", ":", "\0", "\n", "s", "a", "é", "\r\n", "{}", "*", "x" * 256]),
    st.binary(min_size=1, max_size=64).map(lambda raw: raw.decode("latin-1")),
)
odd_paths = (
    st.lists(odd_ids.map(lambda t: t.replace("/", "")), max_size=2)
    .map("/".join)
    .filter(
        lambda path: (
            len(path.encode()) <= 256 and not path.startswith("/") and not path.endswith("/")
        )
    )
)


@on_one_store
@given(st.lists(st.tuples(odd_ids, odd_paths, odd_ids, st.sampled_from([0.0, 1.0]))))
def test_any_id_reaches_only_its_own_counts(store, rows):
    store.client.flushall()
    model: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for name, segment, arm, reward in rows:
        arms = model.setdefault(name, {}).setdefault(segment, {})
        trials, successes = arms.get(arm, (0.0, 0.0))
        arms[arm] = (trials + 1, successes + reward)
        Bandit(name, store).record(segment, arm, reward=reward)
    for name, segments in model.items():
        bandit = Bandit(name, store)
        assert bandit.segments() == sorted(segments)
        assert {path: table(bandit.counts(path)) for path in segments} == segments


# --- bad input ---------------------------------------------------------------------------------


@pytest.fixture(params=["first call", "later"])
def used(request, store: Store) -> Bandit:
    bandit = Bandit("home", store)
    if request.param == "later":
        bandit.record_batch(batch(("IN", "a", 1)), batch_id="1")
    return bandit


GOOD = Event("IN", "a", 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.record("IN", "a", reward=2),
        lambda b: b.record("IN/", "a"),
        lambda b: b.record("IN", ""),
        lambda b: b.record("IN", "a", time=dt.datetime(2026, 1, 1)),
        lambda b: b.record("IN", "a", trials=2 * MAX_TRIALS),
        lambda b: b.record("IN", "a", event_id="x" * 257),
        lambda b: b.record_batch([GOOD] * 9 + [Event("IN", "a", float("nan"))]),
        lambda b: b.record_batch([GOOD, Event("US", "a\ud800")]),
        lambda b: b.record_batch([GOOD], batch_id=""),
        lambda b: b.record_batch([GOOD], batch_id=7),
        lambda b: b.record_batch([Event("IN", "a", event_id="1")], batch_id="x"),
        lambda b: b.record_batch(GOOD),
        lambda b: b.record_batch({"segment": ["IN"], "arm": ["a"]}),
        lambda b: b.add_arms("IN", "abc"),
        lambda b: b.add_arms("IN", ["good", ""]),
        lambda b: b.add_arms("IN", 7),
        lambda b: b.add_arms("/", ["a"]),
        lambda b: b.retire("IN", "a"),
        lambda b: b.retire("IN", ["a", None]),
        lambda b: b.retire("IN//m", ["a"]),
        lambda b: b.change_half_life(dt.timedelta(0)),
        lambda b: b.change_half_life("1d"),
        lambda b: b.counts("IN/"),
        lambda b: b.counts("IN", as_of="now"),
        lambda b: b.counts("IN", as_of=float("nan")),
        lambda b: b.counts("IN", as_of=float("inf"), descendants=True),
        lambda b: b.posterior(None),
        lambda b: Bandit("", b.store),
        lambda b: Bandit(7, b.store),
    ],
)
def test_bad_input_changes_nothing(used, call):
    before = everything(used.store)
    with pytest.raises(BanditCoreError) as caught:
        call(used)
    assert isinstance(caught.value, (ValueError, TypeError))
    assert everything(used.store) == before
