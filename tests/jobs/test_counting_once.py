"""Events with ids, or in batches with one: each counts once, and every one is accounted for."""

from __future__ import annotations

import datetime as dt
import itertools
import time as wall

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banditcore.bandit import Applied, Bandit
from banditcore.errors import CorruptDataError, PartlyAppliedError
from banditcore.events import MAX_AHEAD_S, Event
from banditcore.store import keys
from banditcore.store.connect import Store
from banditcore.store.seals import unseal
from bandits import NOW, Clock, everything, table

WINDOW = dt.timedelta(minutes=10)
W = WINDOW.total_seconds()

TWO_SEGMENTS = {"segment": ["IN", "US", "US"], "arm": ["a", "a", "b"], "reward": [1, 0, 1]}


def bandit_at(clock: Clock, store: Store, name: str = "home") -> Bandit:
    return Bandit(name, store, window=WINDOW, clock=clock)


def damage(store: Store, segment: str) -> None:
    store.client.hset(keys.of_segment("home", segment).state, "c:0", b"\1\2\3")


def repair(store: Store, segment: str) -> None:
    store.client.hdel(keys.of_segment("home", segment).state, "c:0")


# --- batches -----------------------------------------------------------------------------------


def test_a_batch_counts_once(any_store):
    bandit = Bandit("home", any_store)
    assert bandit.record_batch(TWO_SEGMENTS, batch_id="1") == Applied(3, 0, 0)
    before = everything(any_store)
    assert bandit.record_batch(TWO_SEGMENTS, batch_id="1") == Applied(0, 3, 0)
    again = Bandit("home", any_store)
    assert again.record_batch(TWO_SEGMENTS, batch_id="1") == Applied(0, 3, 0)
    assert everything(any_store) == before
    assert again.record_batch(TWO_SEGMENTS, batch_id="2") == Applied(3, 0, 0)
    assert again.record_batch(TWO_SEGMENTS) == again.record_batch(TWO_SEGMENTS) == Applied(3)
    assert Bandit("other", any_store).record_batch(TWO_SEGMENTS, batch_id="1") == Applied(3)
    assert table(bandit.counts("US")) == {"a": (4, 0), "b": (4, 4)}


@pytest.mark.parametrize("past", [0, 1], ids=["new segments", "known segments"])
@pytest.mark.parametrize("batch_id", ["mine", None])
def test_a_batch_that_failed_half_way_can_be_sent_again(store, past, batch_id):
    bandit = Bandit("home", store)
    for _ in range(past):
        bandit.record_batch(TWO_SEGMENTS)
    damage(store, "US")
    with pytest.raises(PartlyAppliedError, match=r"c:0 is 'damaged'.*batch_id=") as caught:
        bandit.record_batch(TWO_SEGMENTS, batch_id=batch_id)
    assert isinstance(caught.value.__cause__, CorruptDataError)
    assert caught.value.batch_id == batch_id or batch_id is None
    assert table(bandit.counts("IN")) == {"a": (1 + past, 1 + past)}
    repair(store, "US")
    sent_again = caught.value.batch_id
    assert bandit.record_batch(TWO_SEGMENTS, batch_id=sent_again) == Applied(2, 1, 0)
    assert bandit.record_batch(TWO_SEGMENTS, batch_id=sent_again) == Applied(0, 3, 0)
    assert table(bandit.counts("IN")) == {"a": (1 + past, 1 + past)}
    assert table(bandit.counts("US")) == {"a": (1, 0), "b": (1, 1)}


def test_old_events_of_a_failed_batch_count_when_sent_again_in_time(store):
    clock = Clock()
    bandit = bandit_at(clock, store)
    old = {**TWO_SEGMENTS, "time": [NOW - 100 * W, NOW - 2 * W, NOW]}
    bandit.record_batch(TWO_SEGMENTS)
    damage(store, "US")
    with pytest.raises(PartlyAppliedError) as caught:
        bandit.record_batch(old)
    repair(store, "US")
    clock.now += W
    assert bandit.record_batch(old, batch_id=caught.value.batch_id) == Applied(2, 1, 0)
    clock.now += 2
    assert bandit.record_batch(old, batch_id=caught.value.batch_id) == Applied(0, 3, 0)
    clock.now += 3 * (W + MAX_AHEAD_S)  # whether it was applied cannot be told any more
    assert bandit.record_batch(old, batch_id=caught.value.batch_id) == Applied(0, 0, 3)
    assert table(bandit.counts("IN")) == {"a": (2, 2)}


def test_a_batch_and_an_event_of_one_name_are_two(any_store):
    bandit = Bandit("home", any_store)
    one = {"segment": ["IN"], "arm": ["a"], "reward": [1]}
    assert bandit.record_batch(one, batch_id="7") == Applied(1, 0, 0)
    assert bandit.record("IN", "a", reward=1, event_id="7") == Applied(1, 0, 0)
    assert table(bandit.counts("IN")) == {"a": (2, 2)}


@pytest.mark.parametrize("form", ["record", "batch", "ids"])
def test_a_machine_whose_clock_is_days_ahead_changes_nothing(any_store, form):
    """Its events would move the landmark so far that all evidence faded to nothing."""
    fading = {"half_life": dt.timedelta(seconds=60)}
    right = Bandit("home", any_store, **fading)
    right.record("IN", "a", reward=1)
    before = right.counts("IN", as_of=wall.time())
    wrong = Bandit("home", any_store, **fading)
    wrong.clock = lambda: wall.time() + 2 * 86400  # judged by the store's clock all the same
    columns = {"segment": ["IN", "IN"], "arm": ["a", "b"], "reward": [1, 1]}
    if form == "record":
        applied = wrong.record("IN", "a", reward=1)
    elif form == "batch":
        applied = wrong.record_batch(columns, batch_id="1")
    else:
        applied = wrong.record_batch({**columns, "event_id": ["1", "2"]})
    assert applied == Applied(0, 0, 1 if form == "record" else 2)
    after = right.counts("IN", as_of=before.as_of)
    assert after.arms == before.arms
    assert after.trials == pytest.approx(before.trials)
    # What is not ahead counts all the same.
    some = {**columns, "time": [wall.time(), wall.time() + 86400]}
    assert wrong.record_batch(some, batch_id="2") == Applied(1, 0, 1)


def test_events_with_ids_are_sent_again_as_they_are(store):
    bandit = Bandit("home", store)
    events = {**TWO_SEGMENTS, "event_id": ["1", "2", "3"]}
    bandit.record("US", "a")
    damage(store, "US")
    with pytest.raises(PartlyAppliedError, match=r"with their event ids$") as caught:
        bandit.record_batch(events)
    repair(store, "US")
    assert bandit.record_batch(events, batch_id=caught.value.batch_id) == Applied(2, 1, 0)


# --- events with ids ---------------------------------------------------------------------------


def test_an_event_counts_once(any_store):
    bandit = Bandit("home", any_store)
    assert bandit.record("IN", "a", reward=1, event_id="1") == Applied(1, 0, 0)
    assert bandit.record("IN", "a", reward=1, event_id="1") == Applied(0, 1, 0)
    within = [Event("IN", "a", 1, event_id=str(i)) for i in (1, 2, 3, 2, 2)]
    assert bandit.record_batch(within) == Applied(2, 3, 0)
    assert bandit.record_batch(reversed(within)) == Applied(0, 5, 0)
    assert table(bandit.counts("IN")) == {"a": (3, 3)}
    # Ids are told apart within a segment; an event of another segment is another event.
    assert bandit.record("US", "a", event_id="1") == Applied(1, 0, 0)


def test_of_one_id_the_first_event_counts(store):
    bandit = Bandit("home", store)
    events = [Event("IN", "a", 1, event_id="1"), Event("IN", "b", 0, event_id="1")]
    assert bandit.record_batch(events) == Applied(1, 1, 0)
    assert table(bandit.counts("IN")) == {"a": (1, 1)}


def test_thousands_of_ids_at_once(any_store):
    bandit = Bandit("home", any_store)
    n = 3000  # more than one command takes
    events = {"segment": ["IN"] * n, "arm": [f"a{i % 300}" for i in range(n)], "reward": [1] * n}
    assert bandit.record_batch({**events, "event_id": list(map(str, range(n)))}) == Applied(n)
    half = list(map(str, range(n // 2, n + n // 2)))
    assert bandit.record_batch({**events, "event_id": half}) == Applied(n // 2, n // 2, 0)
    assert bandit.counts("IN").trials.tolist() == [15.0] * 300


def test_old_events_are_refused_only_if_duplicates_are_to_be_told(store):
    bandit = bandit_at(Clock(), store)
    for time, refused in ((NOW - W, 0), (NOW - W - 0.01, 1), (NOW + MAX_AHEAD_S, 0)):
        events = {**TWO_SEGMENTS, "time": [NOW, time, NOW]}
        expected = Applied(3 - refused, 0, refused)
        assert bandit.record_batch(events, batch_id=f"batch {time}") == expected
        ids = [f"{i} {time}" for i in range(3)]
        assert bandit.record_batch({**events, "event_id": ids}) == expected
        assert bandit.record_batch(events) == Applied(3)
    assert table(bandit.counts("US")) == {"a": (7, 0), "b": (9, 9)}


def test_all_events_too_old_change_nothing(store):
    bandit = bandit_at(Clock(), store)
    bandit.record("IN", "a")
    bandit.record("US", "a")
    before = everything(store)
    times = [NOW - 2 * W] * 3
    assert bandit.record_batch({**TWO_SEGMENTS, "time": times}, batch_id="1") == Applied(0, 0, 3)
    assert bandit.record("new", "a", time=NOW - 2 * W, event_id="1") == Applied(0, 0, 1)
    assert everything(store) == before


SPAN = int(4 * (W + MAX_AHEAD_S))  # over four buckets of the window
_names = (f"bandit {i}" for i in itertools.count())

one_event = st.tuples(
    st.integers(0, SPAN),  # its time
    st.lists(
        st.one_of(
            st.integers(-int(MAX_AHEAD_S), SPAN),
            st.sampled_from([-int(MAX_AHEAD_S), 0, int(W) - 1, int(W), int(W) + 1]),
        ),
        min_size=1,
        max_size=5,
    ),  # when it is received, in seconds after its time
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(one_event, min_size=1, max_size=6), st.booleans())
def test_whenever_it_is_received_an_event_counts_at_most_once(store, events, batches):
    """Exactly once if it is received within the window at all."""
    clock = Clock()
    bandit = bandit_at(clock, store, next(_names))
    receipts = sorted(
        (NOW + time + delay, NOW + time, number)
        for number, (time, delays) in enumerate(events)
        for delay in delays
    )
    counted: set[int] = set()
    for clock.now, time, number in receipts:
        if batches:
            one = {"segment": ["IN"], "arm": [f"a{number}"], "reward": [1], "time": [time]}
            applied = bandit.record_batch(one, batch_id=str(number))
        else:
            applied = bandit.record("IN", f"a{number}", reward=1, time=time, event_id=str(number))
        if batches and number in counted:  # a batch that is still remembered may be of any age
            assert (applied.applied, applied.duplicate + applied.refused) == (0, 1)
            assert applied.duplicate == 1 or time < clock.now - W
        elif time < clock.now - W:
            assert applied == Applied(0, 0, 1)
        else:
            assert applied == (Applied(0, 1, 0) if number in counted else Applied(1, 0, 0))
            counted.add(number)
    in_time = {n for n, (_, delays) in enumerate(events) if min(delays) <= W}
    assert counted == in_time
    assert table(bandit.counts("IN")) == {f"a{number}": (1, 1) for number in in_time}


def test_without_a_clock_of_ones_own_the_servers_rules(store):
    length = W + MAX_AHEAD_S

    def buckets(segment: str) -> set[int]:
        state = store.client.hgetall(keys.of_segment("home", segment).state)
        return {
            int(unseal(value, "", "")) for field, value in state.items() if field.startswith(b"w:")
        }

    bandit_at(Clock(), store).record("US", "a", event_id="1")
    assert buckets("US") == {NOW // length}
    before = store.server_time() // length
    Bandit("home", store).record("IN", "a", event_id="1")
    assert buckets("IN") <= {before, store.server_time() // length}
    for key in keys.of_segment("home", "IN")[2:4]:  # what is remembered goes by itself
        assert store.client.ttl(key) in (-2, *range(1, int(2 * length) + 2))
