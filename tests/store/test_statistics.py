"""Updates count once, commute, fade and never reach the wrong arm."""

from __future__ import annotations

import dataclasses
import threading
import time as wall
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from banditcore.errors import CorruptDataError, StoreUnfitError
from banditcore.events import EventColumns
from banditcore.grouping import SegmentEvents, by_segment
from banditcore.store import Store, connect, keys
from banditcore.store.counts import index, statistics
from banditcore.store.counts.statistics import Statistics
from banditcore.store.counts.updates import BatchUpdate, OrderedUpdate, UniqueUpdate
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.functions import calling
from proxy import proxy_before
from servers import running_server

NOW = 1_700_000_000.0
HOUR = 3600.0


def make(store: Store, half_life_s: float | None = None, landmark: float = NOW) -> Statistics:
    version = SegmentVersion(0, landmark, half_life_s, HOUR)
    return Statistics(store, "bandit", lambda: version, lambda: None)


def events(
    arms: Sequence[str], successes: Sequence[float] | float = 0.0, time: float = NOW
) -> SegmentEvents:
    n = len(arms)
    columns = EventColumns(
        ["s"] * n,
        list(arms),
        np.ones(n),
        np.broadcast_to(np.asarray(successes, float), n).copy(),
        np.full(n, time),
    )
    [group] = by_segment(columns)
    return group


def counts(from_: Statistics, at: float = NOW) -> dict[str, tuple[float, float]]:
    [read] = from_.reader.counts(["s"], at)
    c = read.counts
    return dict(zip(c.arms, zip(c.trials.tolist(), c.successes.tolist(), strict=True), strict=True))


def ordered(arms: Sequence[str], expected: str, new: str, epoch: int = 0) -> OrderedUpdate:
    return OrderedUpdate(events(arms, 1.0), keys.mark_field("src", "0"), epoch, expected, new)


# The compare-and-set of an ordered source.


def test_an_ordered_update_counts_once(any_store: Store) -> None:
    stats = make(any_store)
    [outcome] = stats.apply([ordered(["a", "b", "a"], "", "10")])
    assert (outcome.word, outcome.applied) == ("OK", 3)
    [outcome] = stats.apply([ordered(["a", "b", "a"], "", "10")])
    assert (outcome.word, outcome.applied, outcome.duplicate) == ("ALREADY", 0, 3)
    assert counts(stats) == {"a": (2, 2), "b": (1, 1)}
    assert index.segments(any_store, "bandit") == ["s"]
    assert index.bandits(any_store) == ["bandit"]
    assert stats.reader.marks(["s", "other"], keys.mark_field("src", "0")) == [(0, "10"), (0, "")]


def test_an_update_from_another_offset_conflicts_and_changes_nothing(any_store: Store) -> None:
    stats = make(any_store)
    stats.apply([ordered(["a"], "", "10")])
    [outcome] = stats.apply([ordered(["a"], "5", "12")])
    assert (outcome.word, outcome.detail) == ("CONFLICT", "10")
    [outcome] = stats.apply([ordered(["a"], "10", "12")])
    assert outcome.word == "OK"
    assert counts(stats) == {"a": (2, 2)}


def test_an_older_owner_is_fenced_off(any_store: Store) -> None:
    stats = make(any_store)
    stats.apply([ordered(["a"], "", "10", epoch=3)])
    [outcome] = stats.apply([ordered(["a"], "10", "11", epoch=2)])
    assert (outcome.word, outcome.detail) == ("FENCED", "3")
    [outcome] = stats.apply([ordered(["a"], "10", "11", epoch=4)])
    assert outcome.word == "OK"
    assert counts(stats) == {"a": (2, 2)}


# The windows of unordered sources.


def batch(name: str, arms: Sequence[str], now: float | None = NOW) -> BatchUpdate:
    return BatchUpdate(events(arms, 1.0), keys.batch_digest(name), now=now)


def unique(names: Sequence[str], now: float | None = NOW) -> UniqueUpdate:
    digests = [keys.event_digest(name) for name in names]
    time = wall.time() if now is None else now
    return UniqueUpdate(events(["a"] * len(names), 1.0, time), digests, now=now)


def test_duplicates_of_retired_arms_do_not_register_them_again(any_store: Store) -> None:
    stats = make(any_store)
    many = [f"arm {i}" for i in range(300)]

    def named(arms: list[str]) -> UniqueUpdate:
        digests = [keys.event_digest(f"of {arm}") for arm in arms]
        return UniqueUpdate(events(arms, 1.0), digests, now=NOW)

    assert stats.apply([named(["kept", *many])])[0].applied == 301
    stats.retire("s", many[:200])
    # New arms stand between retired ones, on both sides of a chunk's border.
    mixed = ["new 1", *many[:190], "new 2", *many[190:250], "new 3", "kept"]
    [outcome] = stats.apply([named(mixed)])
    assert (outcome.applied, outcome.duplicate, outcome.registered) == (3, 251, 3)
    kept = ["kept", *many[200:], "new 1", "new 2", "new 3"]
    assert counts(stats) == dict.fromkeys(kept, (1, 1))
    # Nobody goes on from a registry that was never there.
    assert stats.apply([batch("2", ["new 3", "late"])])[0].applied == 2
    expected = dict.fromkeys(kept, (1, 1)) | {"new 3": (2, 2), "late": (1, 1)}
    assert counts(stats) == counts(make(any_store)) == expected
    # None of the new arms, beside something new of a known one.
    more = [keys.event_digest("of arm 0"), keys.event_digest("else")]
    [outcome] = stats.apply([UniqueUpdate(events(["arm 0", "kept"], 1.0), more, now=NOW)])
    assert (outcome.applied, outcome.duplicate, outcome.registered) == (1, 1, 0)
    assert counts(stats) == expected | {"kept": (2, 2)}


def test_ids_count_once_within_a_call_and_between_calls(any_store: Store) -> None:
    stats = make(any_store)
    [outcome] = stats.apply([unique(["1", "2", "1"])])
    assert (outcome.applied, outcome.duplicate) == (2, 1)
    [outcome] = stats.apply([unique(["3", "2", "1"])])
    assert (outcome.applied, outcome.duplicate) == (1, 2)
    assert counts(stats) == {"a": (3, 3)}


@pytest.mark.parametrize("kind", ["batch", "unique"])
def test_an_id_is_known_for_the_window_and_forgotten_in_the_end(
    any_store: Store, kind: str
) -> None:
    # Buckets are window + one hour long, here two hours; an id is known in its own and the next.
    bucket = 2 * HOUR
    start = np.ceil(NOW / bucket) * bucket
    stats = make(any_store)
    expected = 0
    for now, fresh in [
        (start, True),
        (start + bucket - 1, False),
        (start + 2 * bucket - 1, False),
        (start + 2 * bucket, True),  # the same parity as the first bucket, whose ids are gone
        (start + 4 * bucket, True),
        (start + 4 * bucket - 1, False),  # the clock went back: what is known stays known
        (start + 9 * bucket, True),
    ]:
        update = batch("id", ["a"], now) if kind == "batch" else unique(["id"], now)
        [outcome] = stats.apply([update])
        expected += fresh
        assert (outcome.applied, outcome.duplicate) == ((1, 0) if fresh else (0, 1)), now - start
    assert counts(stats) == {"a": (expected, expected)}


def test_ids_of_a_bucket_before_last_are_forgotten_one_and_all(any_store: Store) -> None:
    bucket = 2 * HOUR
    start = np.ceil(NOW / bucket) * bucket
    stats = make(any_store)
    stats.apply([batch("old", ["a"], start)])
    stats.apply([batch("new", ["a"], start + 2 * bucket)])  # takes over the old one's set
    [outcome] = stats.apply([batch("old", ["a"], start + 2 * bucket)])
    assert outcome.applied == 1


def test_events_older_than_the_window_are_told_the_cutoff(any_store: Store) -> None:
    stats = make(any_store)
    old = NOW - HOUR
    for now, word in [(NOW, "OK"), (NOW + 1, "LATE")]:
        digest = keys.event_digest(f"{now}")
        [one] = stats.apply([BatchUpdate(events(["a"], 1.0, old), digest, oldest=old, now=now)])
        [two] = stats.apply([UniqueUpdate(events(["a"], 1.0, old), [digest[::-1]], now=now)])
        assert one.word == two.word == word
    assert float(one.detail) == float(two.detail) == NOW + 1 - HOUR
    # What cannot have been sent before may be of any age.
    [outcome] = stats.apply([BatchUpdate(events(["a"], 1.0, old), b"x" * 16, now=NOW + 9 * HOUR)])
    assert outcome.word == "OK"
    assert counts(stats) == {"a": (3, 3)}


def test_a_clock_that_went_back_does_not_reopen_the_window(any_store: Store) -> None:
    stats = make(any_store)
    stats.apply([batch("old", ["a"], NOW)])
    far = NOW + 20 * HOUR
    stats.apply([batch("far", ["a"], far)])  # the bucket of "old" is gone now
    old = BatchUpdate(events(["a"], 1.0), keys.batch_digest("old"), oldest=NOW, now=NOW)
    assert stats.apply([old])[0].word == "LATE"
    assert counts(stats) == {"a": (2, 2)}


@pytest.mark.parametrize("kind", ["ordered", "batch", "unique"])
def test_events_ahead_of_the_clock_are_told_the_limit(any_store: Store, kind: str) -> None:
    stats = make(any_store, half_life_s=100.0)
    stats.apply([batch("1", ["a"])])
    for ahead, word in [(HOUR + 1, "EARLY"), (1e6, "EARLY"), (HOUR, "OK")]:
        update = {
            "ordered": OrderedUpdate(events(["b"], 1.0, NOW + ahead), "m", 0, "", "1", NOW),
            "batch": BatchUpdate(events(["b"], 1.0, NOW + ahead), b"b" * 16, now=NOW),
            "unique": UniqueUpdate(events(["b"], 1.0, NOW + ahead), [b"u" * 16], now=NOW),
        }[kind]
        stats.now = lambda: NOW
        [outcome] = stats.apply([update])
        assert outcome.word == word
        if word == "EARLY":
            assert float(outcome.detail) == NOW + HOUR
    assert counts(stats)["a"] == (1, 1)
    assert counts(stats, NOW + HOUR)["b"] == (1, 1)


def test_without_a_clock_of_its_own_the_window_follows_the_server(any_store: Store) -> None:
    stats = make(any_store)
    assert [stats.apply([batch("id", ["a"], None)])[0].applied for _ in range(3)] == [1, 0, 0]
    windows = keys.of_segment("bandit", "s")
    found = [key for key in (windows.even, windows.odd) if any_store.client.exists(key)]
    assert len(found) == 1
    # Gone once neither this bucket nor the next can ask for it.
    assert 2 * HOUR < any_store.client.ttl(found[0]) <= 4 * HOUR


def test_ten_thousand_ids_in_one_call(any_store: Store) -> None:
    stats = make(any_store)
    names = [str(i) for i in range(10_000)]
    [outcome] = stats.apply([unique(names)])
    assert (outcome.applied, outcome.duplicate) == (10_000, 0)
    [outcome] = stats.apply([unique(names)])
    assert (outcome.applied, outcome.duplicate) == (0, 10_000)


# Many arms.


def test_more_arms_than_fit_into_one_command(any_store: Store) -> None:
    n = 70_000  # 547 chunks; a command takes 500
    stats = make(any_store)
    arms = [f"arm-{i}" for i in range(n)]
    stats.apply([batch("1", arms)])
    stats.apply([batch("2", arms[::2])])
    expected = {arm: (2.0, 2.0) if i % 2 == 0 else (1.0, 1.0) for i, arm in enumerate(arms)}
    assert counts(stats) == expected
    assert counts(make(any_store)) == expected
    assert stats.retire("s", arms[1::2]) == n // 2
    assert counts(stats) == dict.fromkeys(arms[::2], (2.0, 2.0))


@pytest.mark.parametrize("slots", [1, 127, 128, 129, 256])
def test_the_edges_of_chunks(any_store: Store, slots: int) -> None:
    stats = make(any_store)
    arms = [f"{i}" for i in range(slots)]
    stats.add_arms("s", arms)
    assert counts(stats) == dict.fromkeys(arms, (0, 0))
    for name, successes in (("lost", 0.0), ("won", 1.0)):
        update = BatchUpdate(events(arms[-1:], successes), keys.event_digest(name), now=NOW)
        stats.apply([update])
    assert counts(stats) == {**dict.fromkeys(arms, (0, 0)), arms[-1]: (2, 1)}
    assert stats.retire("s", arms[:-1]) == slots - 1
    assert counts(stats) == {arms[-1]: (2, 1)}
    assert stats.retire("s", arms[-1:]) == 1
    assert counts(stats) == {}
    assert stats.retire("s", arms) == 0


# Fading.


def test_an_event_counts_half_after_each_half_life(any_store: Store) -> None:
    stats = make(any_store, half_life_s=100.0)
    for age in (0, 100, 250):
        stats.apply(
            [BatchUpdate(events(["a"], 1.0, NOW - age), keys.event_digest(str(age)), now=NOW)]
        )
    now = 1 + 0.5 + 2**-2.5
    assert counts(stats)["a"] == pytest.approx((now, now), rel=1e-14)
    assert counts(stats, NOW + 50)["a"][0] == pytest.approx(now * 2**-0.5, rel=1e-14)


def test_the_landmark_moves_before_weights_overflow(any_store: Store) -> None:
    half_life = 10.0
    stats = make(any_store, half_life)
    late = make(any_store, half_life)
    times = [NOW, NOW + 4_990, NOW + 5_011, NOW + 20_000, NOW + 20_001, NOW + 4e6]
    for i, time in enumerate(times):
        writer = (stats, late)[i % 2]  # the other one holds the version from before the move
        update = BatchUpdate(events(["a", f"{i}"], 1.0, time), keys.batch_digest(f"{i}"), now=time)
        assert writer.apply([update])[0].applied == 2
        expected = sum(2 ** ((earlier - time) / half_life) for earlier in times[: i + 1])
        assert counts(writer, time)["a"][0] == pytest.approx(expected, rel=1e-12)
    # An event from long before the landmark is added with the weight it has by now: none.
    old = BatchUpdate(events(["a"], 1.0, NOW), keys.batch_digest("old"), now=times[-1])
    assert stats.apply([old])[0].applied == 1
    assert counts(stats, times[-1])["a"][0] == pytest.approx(1.0, rel=1e-12)


def test_a_writer_that_missed_a_landmark_move_uses_the_new_weights(any_store: Store) -> None:
    one, two = make(any_store, 10.0), make(any_store, 10.0)
    for i, writer in enumerate((one, two)):
        writer.apply([BatchUpdate(events(["a"], 1.0), keys.event_digest(f"{i}"), now=NOW)])
    later = NOW + 5_010
    one.apply([BatchUpdate(events(["a"], 1.0, later), keys.batch_digest("far"), now=later)])
    # By the landmark that it remembers, this event would weigh 2**500.
    two.apply([BatchUpdate(events(["a"], 1.0, later - 10), keys.batch_digest("too"), now=later)])
    assert counts(one, later)["a"][0] == pytest.approx(1.5, rel=1e-12)


def test_another_half_life_leaves_the_counts_of_that_moment(any_store: Store) -> None:
    stats = make(any_store, 100.0, landmark=NOW - 1000)
    stats.apply([BatchUpdate(events(["a"], 1.0, NOW - 100), keys.event_digest("1"), now=NOW)])
    other = make(any_store)
    other.change_half_life("s", 10.0, NOW)
    assert counts(stats)["a"][0] == pytest.approx(0.5, rel=1e-14)
    assert counts(stats, NOW + 10)["a"][0] == pytest.approx(0.25, rel=1e-14)
    stats.apply([BatchUpdate(events(["a"], 1.0, NOW + 10), keys.event_digest("2"), now=NOW)])
    assert counts(stats, NOW + 20)["a"][0] == pytest.approx(0.125 + 0.5, rel=1e-14)
    stats.change_half_life("s", None, NOW + 20)
    assert counts(stats, NOW + 1e6)["a"][0] == pytest.approx(0.625, rel=1e-14)


# What a process remembers of a segment is never trusted against the server.


def test_a_writer_that_missed_a_retirement_hits_the_right_arms(any_store: Store) -> None:
    one, two = make(any_store), make(any_store)
    one.apply([batch("1", ["a", "b", "c"])])
    two.apply([batch("2", ["c"])])
    one.retire("s", ["a"])
    two.apply([batch("3", ["b", "c", "c"])])  # slots 1 and 2 are those of c and nobody now
    assert counts(two) == counts(one) == {"b": (2, 2), "c": (4, 4)}


def test_a_writer_that_missed_a_server_losing_writes_hits_the_right_arms(
    any_store: Store,
) -> None:
    one, two = make(any_store), make(any_store)
    one.apply([batch("1", ["a"])])
    names = keys.of_segment("bandit", "s")
    before = {key: any_store.client.dump(key) for key in names if any_store.client.exists(key)}
    one.apply([batch("2", ["b", "c"])])
    any_store.client.flushall()  # as after a failover to a replica that lagged behind
    for key, value in before.items():
        any_store.client.restore(key, 0, value)
    two.apply([batch("3", ["z", "y"])])  # takes the slots that `one` believes to be b's and c's
    one.apply([batch("4", ["c", "a"])])
    assert counts(one) == {"a": (2, 2), "z": (1, 1), "y": (1, 1), "c": (1, 1)}


def test_an_old_view_beside_a_newer_one_hits_the_right_arms(any_store: Store) -> None:
    """A slow thread puts its older view back; then the server goes back to that very moment."""
    one, two = make(any_store), make(any_store)
    one.apply([batch("1", ["a"])])
    old = one.reader.known("s")
    assert old is not None
    names = keys.of_segment("bandit", "s")
    before = {key: any_store.client.dump(key) for key in names if any_store.client.exists(key)}
    one.apply([batch("2", ["x"])])
    one.reader.remember("s", old)
    any_store.client.flushall()
    for key, value in before.items():
        any_store.client.restore(key, 0, value)
    two.apply([batch("3", ["y"])])  # in the slot that x had
    one.apply([batch("4", ["x", "x"])])
    assert counts(one) == counts(two) == {"a": (1, 1), "y": (1, 1), "x": (2, 2)}


def test_a_server_that_lost_everything_is_written_to_anew(any_store: Store) -> None:
    stats = make(any_store)
    stats.apply([batch("1", ["a", "b"])])
    any_store.client.flushall()
    stats.apply([batch("2", ["b"])])
    assert counts(stats) == {"b": (1, 1)}


def test_threads_that_add_and_retire_arms_lose_no_count(any_store: Store) -> None:
    """Each writer owns its arms and retires only its own, so every count can be foretold."""
    shared = make(any_store)
    expected: Counter[str] = Counter()
    lock = threading.Lock()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        stats = shared if number % 2 else make(any_store)
        rng = np.random.default_rng(number)
        try:
            for step in range(25):
                arms = [f"{number}-{i}" for i in rng.integers(0, 40, 20)]
                [outcome] = stats.apply([batch(f"{number}/{step}", arms)])
                assert outcome.applied == 20
                gone = [f"{number}-{i}" for i in rng.integers(0, 40, 3)] if step % 3 == 0 else []
                with lock:
                    expected.update(arms)
                stats.retire("s", gone)
                with lock:
                    for arm in gone:
                        expected.pop(arm, None)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert counts(shared) == {arm: (n, n) for arm, n in expected.items()}


# Faults.


@pytest.mark.parametrize("function", [b"_apply", b"_apply_batch", b"_apply_unique"])
def test_a_lost_reply_is_not_a_second_count(function: bytes) -> None:
    with (
        running_server("valkey") as server,
        proxy_before(server.socket_path) as proxy,
        connect(proxy.url) as store,
    ):
        stats = make(store)
        update = {
            b"_apply": lambda i: ordered(["a", f"{i}"], "" if i == 0 else f"{i}", f"{i + 1}"),
            b"_apply_batch": lambda i: batch(f"{i}", ["a", f"{i}"]),
            b"_apply_unique": lambda i: unique([f"{i}", f"{i}!"]),
        }[function]
        for i in range(4):
            proxy.lose_next_reply(function)
            [outcome] = stats.apply([update(i)])
            assert (outcome.applied, outcome.duplicate) == (2, 0)
        assert proxy.lost == 4
        each = 8 if function == b"_apply_unique" else 4
        assert counts(stats)["a"] == (each, each)


def test_a_lost_reply_about_ids_is_given_again_to_the_same_attempt_only() -> None:
    with (
        running_server("valkey") as server,
        proxy_before(server.socket_path) as proxy,
        connect(proxy.url) as store,
    ):
        stats = make(store)
        stats.apply([unique(["1", "2"])])
        for names, applied in [
            (["1", "2", "3", "4", "3"], 2),  # some were known, one stands there twice
            (["1", "2"], 0),
            (["5"], 1),
            ([f"{i}!" for i in range(2000)], 2000),
        ]:
            update = unique(names)
            proxy.lose_next_reply(b"_apply_unique")
            [outcome] = stats.apply([update])
            assert (outcome.applied, outcome.duplicate) == (applied, len(names) - applied)
            [outcome] = stats.apply([update])
            assert (outcome.applied, outcome.duplicate) == (applied, len(names) - applied)
            [outcome] = stats.apply([unique(names)])
            assert (outcome.applied, outcome.duplicate) == (0, len(names))
        assert proxy.lost == 4
        assert counts(stats) == {"a": (2005, 2005)}
        # When the window has passed over the events meanwhile, the attempt still has its reply.
        update = unique(["late"])
        proxy.lose_next_reply(b"_apply_unique")
        [outcome] = stats.apply([update])
        later = dataclasses.replace(update, now=NOW + 1.5 * HOUR)
        [outcome] = stats.apply([later])
        assert (outcome.word, outcome.applied) == ("OK", 1)
        [outcome] = stats.apply([dataclasses.replace(later, attempt=bytes(12))])
        assert outcome.word == "LATE"


def test_a_full_server_applies_nothing_and_says_so() -> None:
    with running_server("valkey", {"maxmemory": "3mb"}) as server, connect(server.url) as store:
        stats = make(store)
        stats.apply([batch("first", ["a"])])
        store.client.set("ballast", b"x" * 600_000)
        with pytest.raises(StoreUnfitError, match="memory"):  # noqa: PT012 - one of many fails
            for i in range(1000):
                stats.apply([batch(f"{i}", [f"{i}-{j}" + "x" * 200 for j in range(50)])])
        before = counts(make(store))
        store.client.config_set("maxmemory", 1)  # in time it gives back what connections had
        with pytest.raises(StoreUnfitError):
            stats.apply([batch("while full", ["a"])])
        assert counts(make(store)) == before
        store.client.config_set("maxmemory", "3mb")
        store.client.delete("ballast")
        [outcome] = stats.apply([batch("while full", ["a"])])
        assert outcome.applied == 1
        assert counts(stats)["a"] == (2, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("c:0", b"x" * 15),
        ("c:0", b"x" * 16 * 129),
        ("c:0", np.array([np.nan, 0.0]).tobytes()),
        ("c:0", np.array([-1.0, 0.0]).tobytes()),
        ("v", b"short"),
        ("v", b"\x09" + bytes(31)),
        ("n", b"3"),
    ],
)
def test_damaged_statistics_are_refused(any_store: Store, field: str, value: bytes) -> None:
    stats = make(any_store)
    stats.apply([batch("1", ["a", "b"])])
    any_store.client.hset(keys.of_segment("bandit", "s").state, field, value)
    with pytest.raises(CorruptDataError, match="'s'"):
        counts(make(any_store))


def test_a_damaged_chunk_is_not_added_to(any_store: Store) -> None:
    stats = make(any_store)
    stats.apply([batch("1", ["a"])])
    state = keys.of_segment("bandit", "s").state
    any_store.client.hset(state, "c:0", b"short")
    with pytest.raises(CorruptDataError, match="c:0"):
        stats.apply([batch("2", ["a"])])
    assert any_store.client.hget(state, "c:0") == b"short"


def test_an_overflowing_count_is_refused_whole(any_store: Store) -> None:
    stats = make(any_store)
    huge = events(["a", "b"])
    huge.trials[0] = 1.7e308
    first, second = (BatchUpdate(huge, keys.event_digest(name), now=NOW) for name in ("1", "2"))
    stats.apply([first])
    with pytest.raises(statistics.StoreError, match="overflow"):
        stats.apply([second])
    assert counts(stats) == {"a": (1.7e308, 0), "b": (1, 0)}


def test_a_segment_that_changes_all_the_time_ends_in_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats, other = make(store), make(store)
    stats.apply([batch("1", ["a"])])
    send = calling.attempt

    def interfere(to: Store, calls: Sequence[calling.Call]) -> list[list[bytes]]:
        if any(call.function == "apply_batch" for call in calls):
            send(to, [])
            other.add_arms("s", [f"new-{next(numbers)}"])
        return send(to, calls)

    numbers = iter(range(10**6))
    monkeypatch.setattr(statistics, "_MAX_STALE", 5)
    monkeypatch.setattr(calling, "attempt", interfere)
    with pytest.raises(statistics.StoreError, match="5 times"):
        stats.apply([batch("2", ["a"])])
