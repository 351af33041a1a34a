"""A bandit's events and counts: what is recorded is what is read."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from banditcore.bandit import Applied, Bandit
from banditcore.errors import (
    BanditCoreError,
    InvalidTypeError,
    InvalidValueError,
)
from banditcore.events import MAX_TRIALS, Event
from banditcore.posterior import Posterior, Prior
from banditcore.store.connect import Store
from bandits import everything, table

on_one_store = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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


def test_record_and_emit_refuse_a_reward_by_its_name(store):
    bandit = Bandit("home", store)
    why = r"^reward\[0\] is 2\.0: at most the trials of its event; a reward is in \[0, 1\]$"
    with pytest.raises(InvalidValueError, match=why):
        bandit.record("IN", "a", reward=2)
    with pytest.raises(InvalidValueError, match=why):
        bandit.emit({"segment": ["IN"], "arm": ["a"], "reward": [2]})
    assert bandit.segments() == []


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
@example([("a", "bc", "x", 1.0), ("ab", "c", "x", 0.0), ("a", "", "bcx", 1.0)])
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
