from __future__ import annotations

import gc
import logging
import math
import multiprocessing as mp
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from banditcore import (
    Bandit,
    BufferFullError,
    ConfigurationConflictError,
    Emitter,
    EmitterStats,
    Event,
    InvalidTypeError,
    InvalidValueError,
    NotAcknowledgedError,
    Store,
    StoreError,
    connect,
)
from banditcore.emitting import appending, outbox
from banditcore.emitting.appending import Appender, Sent
from banditcore.event_format import MAX_EVENTS, decode_events
from banditcore.events import EventColumns
from banditcore.ingest import IngestWorker
from banditcore.ingest.sources.redis_stream import RedisStreamSource
from banditcore.maintenance.forget import forget_bandit
from banditcore.store.event_streams import partitions
from banditcore.store.event_streams.stream_reading import StreamReader
from banditcore.store.event_streams.streams import START, advance, states, trim
from hanging import PATIENT_S, hanging
from proxy import proxy_before
from servers import RunningServer, running_server, wait_until

FOREVER_S = 3600.0
PATIENCE_S = 60.0


def events(segment: str, *arms: str | int) -> dict[str, list[str]]:
    return {
        "segment": [segment] * len(arms),
        "arm": [str(arm) for arm in arms],
        "reward": [0] * len(arms),
    }


def arrived(store: Store) -> dict[str, list[str]]:
    """Return segment -> arms, in the order of their offsets."""
    found: dict[str, list[str]] = {}
    with StreamReader(store, "home") as reader:
        number = partitions.load(store, "home") or 0
        for partition in range(number):
            offsets = [START]
            for entry in reader.read({partition: START}, limit=10**9).get(partition, []):
                decoded = decode_events(entry.body, entry.count)
                offsets += (entry.first + decoded.index).tolist()
                for segment, arm in zip(decoded.events.segments, decoded.events.arms, strict=True):
                    assert partitions.partition_of(segment, number) == partition
                    found.setdefault(segment, []).append(arm)
            assert offsets == sorted(set(offsets))
    return found


@contextmanager
def mortal() -> Iterator[tuple[RunningServer, Store]]:
    """A server of its own for a test that harms it."""
    with running_server() as server, connect(server.url, timeout_s=PATIENT_S) as store:
        yield server, store


def buffering(store: Store, **options: object) -> Emitter:
    """Return an emitter that sends nothing unless it is flushed or full."""
    return Emitter(Bandit("home", store), flush_every_s=FOREVER_S, **options)


def wait_until_told(emitter: Emitter, why: str, *, waiting: int) -> None:
    """Flush in vain until that says why, which the next attempt to send may find out."""

    def is_told() -> bool:
        with pytest.raises(NotAcknowledgedError) as caught:
            emitter.flush(0.1)
        assert (caught.value.waiting, caught.value.given_up) == (waiting, 0)
        return why in str(caught.value)

    wait_until(is_told, f"it does not say {why!r}")


def test_what_is_emitted_arrives_once_and_in_order(any_store):
    bandit = Bandit("home", any_store)
    for i in range(30):
        assert bandit.emit(events(f"s{i % 7}", *range(10 * i, 10 * i + 10))) == 10
    assert bandit.emit([Event("", "global", 1.0)]) == 1
    assert bandit.emit([]) == 0
    bandit.flush()
    found = arrived(any_store)
    assert found.pop("") == ["global"]
    assert found == {
        f"s{j}": [str(a) for i in range(j, 30, 7) for a in range(10 * i, 10 * i + 10)]
        for j in range(7)
    }
    assert bandit.emit(events("s0", "last")) == 1
    bandit.close()
    assert arrived(any_store)["s0"][-1] == "last"
    with pytest.raises(StoreError, match="closed"):
        bandit.emit(events("s0", "too late"))
    bandit.close()


def test_everything_about_an_event_arrives(store):
    with Emitter(Bandit("home", store, clock=lambda: 1.8e9), partitions=1) as emitter:
        emitter.emit([Event("IN", "a", 0.25, 0.0, 1.7e9 + 0.5, "id")])
        emitter.emit([Event("IN", "b", 2.0, 3.0)])
        emitter.emit([Event("IN", "c", 1.0, event_id="ü")])
    with StreamReader(store, "home") as reader:
        found = reader.read({0: START}, limit=9)[0]
    rows = []
    for entry in found:
        got = decode_events(entry.body, entry.count).events
        numbers = (got.trials.tolist(), got.successes.tolist(), got.times.tolist())
        rows += zip(got.arms, *numbers, got.event_ids or [None], strict=True)
    assert rows == [
        ("a", 0.0, 0.25, 1.7e9 + 0.5, "id"),
        ("b", 3.0, 2.0, 1.8e9, None),
        ("c", 1.0, 1.0, 1.8e9, "ü"),
    ]


def test_they_are_sent_without_being_flushed(store):
    emitter = Emitter(Bandit("home", store), flush_every_s=0.01)
    emitter.emit(events("IN", "a"))
    wait_until(lambda: emitter.stats.acknowledged == 1, "nothing is sent")
    assert arrived(store) == {"IN": ["a"]}
    many = buffering(store)
    many.emit(events("US", *range(MAX_EVENTS)))  # as many as an entry holds: no need to wait
    wait_until(lambda: many.stats.acknowledged == MAX_EVENTS, "nothing is sent")


def test_threads_share_an_emitter(store):
    with Emitter(Bandit("home", store), flush_every_s=0.001, max_events=64) as emitter:

        def work(thread: int) -> int:
            return sum(
                emitter.emit(events(f"s{i % 3}", *(f"{thread} {i} {j}" for j in range(20))))
                for i in range(60)
            )

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(work, range(4))) == [1200] * 4
        emitter.flush()
        assert emitter.stats == EmitterStats(4800, 4800, 0, 0, 0)
    found = arrived(store)
    assert sum(map(len, found.values())) == 4800
    for thread in range(4):
        for segment in range(3):
            own = [arm for arm in found[f"s{segment}"] if arm.startswith(f"{thread} ")]
            assert own == [f"{thread} {i} {j}" for i in range(segment, 60, 3) for j in range(20)]


def test_a_lost_reply_doubles_nothing(one_server):
    partitions.agree(one_server, "home", 2)
    path = Path(one_server.url.removeprefix("unix://"))
    with (
        proxy_before(path) as proxy,
        connect(proxy.url) as unsafe,
        Emitter(Bandit("home", unsafe), flush_every_s=0.001) as emitter,
    ):
        emitter.emit(events("s0", "first"))
        emitter.flush()
        for i in range(20):
            proxy.lose_next_reply(b"_append")
            emitter.emit([Event("s0", str(i)), Event("s1", str(i))])
            emitter.flush(PATIENCE_S)
        assert proxy.lost == 20
    numbers = [str(i) for i in range(20)]
    assert arrived(one_server) == {"s0": ["first", *numbers], "s1": numbers}


def test_a_server_that_hangs_gets_each_event_once_when_it_goes_on():
    with mortal() as (server, store):
        emitter = Emitter(Bandit("home", store))
        with hanging(server.process, store):
            assert emitter.emit(events("IN", *range(5))) == 5
            wait_until_told(emitter, "did not answer in time", waiting=5)
            assert emitter.stats == EmitterStats(5, 0, 0, 5, 0)
        emitter.flush(PATIENCE_S)
        with hanging(server.process, store):
            for arm in range(5, 300):
                emitter.emit(events("IN", arm))
            with pytest.raises(NotAcknowledgedError):
                emitter.flush(0.7)
        emitter.close(PATIENCE_S)
        assert emitter.stats == EmitterStats(300, 300, 0, 0, 0)
        assert arrived(store) == {"IN": [str(arm) for arm in range(300)]}
        # What waited meanwhile went together, as far as it was there when it was tried again.
        assert sum(state.entries for state in states(store, "home", range(4))) < 100


def test_what_fails_for_too_long_is_given_up_and_said(caplog):
    dropped = []
    with mortal() as (server, store):
        emitter = Emitter(
            Bandit("home", store),
            retry_for_s=0.0,
            on_drop=lambda count, reason: dropped.append((count, reason)),
        )
        emitter.emit(events("IN", "good"))
        emitter.flush(PATIENCE_S)
        server.process.kill()
        server.process.wait()
        emitter.emit(events("IN", 1, 2, 3))
        wait_until(lambda: emitter.stats.given_up == 3, "nothing is given up")
        assert emitter.stats == EmitterStats(4, 1, 3, 0, 0)
        with pytest.raises(NotAcknowledgedError, match="cannot be reached") as caught:
            emitter.flush(PATIENCE_S)
        assert (caught.value.waiting, caught.value.given_up) == (0, 3)
        assert isinstance(caught.value.__cause__, StoreError)
        emitter.flush(PATIENCE_S)  # said once
        emitter.emit(events("IN", 4))
        with pytest.raises(NotAcknowledgedError, match="not sent any more") as caught:
            emitter.close(PATIENCE_S)
        assert (caught.value.waiting, caught.value.given_up) == (0, 1)
    assert dropped == [(3, "the store failed for 0.0 s"), (1, "the store failed for 0.0 s")]
    assert [r.getMessage() for r in caplog.records] == [
        "bandit 'home': 3 events are lost: the store failed for 0.0 s"  # once a minute
    ]


def test_a_callback_that_fails_does_not_stop_the_emitter(caplog):
    def fail(count: int, reason: str) -> None:
        raise ZeroDivisionError

    with mortal() as (server, store):
        emitter = Emitter(Bandit("home", store), retry_for_s=0.0, on_drop=fail)
        emitter.emit(events("IN", 1))
        emitter.flush(PATIENCE_S)
        with hanging(server.process, store):
            emitter.emit(events("IN", 2))
            wait_until(lambda: emitter.stats.given_up == 1, "nothing is given up")
        emitter.emit(events("IN", 3))
        with pytest.raises(NotAcknowledgedError):
            emitter.close(PATIENCE_S)
        assert emitter.stats.acknowledged == 2
        assert arrived(store)["IN"] in (["1", "3"], ["1", "2", "3"])  # 2 may have arrived
    assert "ZeroDivisionError" in caplog.text


def test_closing_says_what_is_not_confirmed():
    with mortal() as (server, store), hanging(server.process, store):
        emitter = Emitter(Bandit("home", store))
        emitter.emit(events("IN", 1, 2, 3))
        with pytest.raises(NotAcknowledgedError, match="3 events of bandit 'home'") as caught:
            emitter.close(0.3)
        assert (caught.value.waiting, caught.value.given_up) == (3, 0)
        emitter.close()


def test_blocking_waits_for_room_then_says_how_many_were_accepted():
    with mortal() as (server, store):
        emitter = Emitter(Bandit("home", store), max_events=10, block_for_s=0.1)
        with hanging(server.process, store):
            with pytest.raises(BufferFullError, match="10 of 12 were accepted") as caught:
                emitter.emit(events("IN", *range(12)))
            assert caught.value.accepted == 10
            with pytest.raises(BufferFullError) as caught:
                emitter.emit(events("IN", "x"))
            assert caught.value.accepted == 0
        emitter.flush(PATIENCE_S)
        patient = Emitter(Bandit("home", store), max_events=10, block_for_s=PATIENCE_S)
        with ThreadPoolExecutor(1) as threads:
            with hanging(server.process, store):
                waiting = threads.submit(patient.emit, events("US", *range(35)))
                wait_until(lambda: patient.stats.accepted == 10, "nothing is accepted")
                assert not waiting.done()
            assert waiting.result(PATIENCE_S) == 35
        patient.close(PATIENCE_S)
        found = arrived(store)
        assert found == {"IN": [str(i) for i in range(10)], "US": [str(i) for i in range(35)]}


def test_waiting_for_room_makes_room(store):
    emitter = buffering(store, max_events=10, block_for_s=PATIENCE_S)
    assert emitter.emit(events("IN", *range(35))) == 35
    emitter.close()
    assert arrived(store) == {"IN": [str(i) for i in range(35)]}


def test_a_full_partition_is_left_alone_for_a_while(monkeypatch):
    monkeypatch.setattr(appending, "_AGREE_EVERY_S", 2 * FOREVER_S)
    with mortal() as (server, store):
        appender = Appender(store, "home", 1, most_unapplied=2, retry_for_s=FOREVER_S)
        assert appender.due_s() == math.inf
        for arm in ("a", "b"):
            appender.take(EventColumns.of(events("IN", arm, arm), now=1.8e9))
        assert appender.due_s() == 0
        with hanging(server.process, store):
            assert isinstance(appender.send().error, StoreError)
            assert appender.due_s() == 0
        [partition] = appender._partitions
        assert partition.packed[0].failing_since is not None
        # Both were taken before the first was packed, so they are one entry.
        assert appender.send() == Sent(acknowledged=4)
        partition.pause_s = FOREVER_S
        appender.take(EventColumns.of(events("IN", "c"), now=1.8e9))
        with hanging(server.process, store):
            assert isinstance(appender.send().error, StoreError)
        assert appender.send() == Sent(full=1)
        assert partition.packed[0].failing_since is None  # the store works
        assert FOREVER_S - PATIENCE_S < appender.due_s() <= FOREVER_S
        before = store.client.info("commandstats")["cmdstat_fcall"]["calls"]
        assert appender.send() == Sent()
        assert store.client.info("commandstats")["cmdstat_fcall"]["calls"] == before


def test_what_a_partition_cannot_take_is_given_up_alone(any_store, monkeypatch):
    monkeypatch.setattr(appending, "_AGREE_EVERY_S", FOREVER_S)
    advance(any_store, "home", 0, beyond=2**53 - 1)  # it has no offsets any more
    appender = Appender(any_store, "home", 2, most_unapplied=9, retry_for_s=0.0)
    by_place = {partitions.partition_of(segment, 2): segment for segment in ("s0", "s1")}
    for place, number in ((0, 3), (1, 4)):
        some = events(by_place[place], *range(number))
        appender.take(EventColumns.of(some, now=1.8e9))
    sent = appender.send()
    assert (sent.acknowledged, sent.given_up, sent.full) == (4, 3, 0)
    assert "no offsets are left" in str(sent.error)
    assert appender.due_s() > PATIENCE_S  # then it looks whether anybody knows of its partitions
    partitions.agree(any_store, "home", 2)
    assert arrived(any_store) == {by_place[1]: ["0", "1", "2", "3"]}


def test_raising_accepts_all_or_nothing(store):
    emitter = buffering(store, when_full="raise", max_events=10)
    assert emitter.emit(events("IN", *range(7))) == 7
    with pytest.raises(BufferFullError) as caught:
        emitter.emit(events("IN", *range(7, 11)))
    assert caught.value.accepted == 0
    assert emitter.emit(events("IN", *range(7, 10))) == 3
    emitter.close()
    assert arrived(store) == {"IN": [str(i) for i in range(10)]}
    assert emitter.stats.dropped == 0


def test_dropping_counts_and_warns_once_a_minute(store, caplog):
    dropped = []
    emitter = buffering(
        store, when_full="drop", max_events=3, on_drop=lambda n, why: dropped.append((n, why))
    )
    assert emitter.emit(events("IN", 1, 2)) == 2
    assert emitter.emit(events("IN", 3, 4, 5)) == 1
    assert emitter.emit(events("IN", 6)) == 0
    assert emitter.stats == EmitterStats(3, 0, 0, 3, 3)
    emitter.close()
    assert arrived(store) == {"IN": ["1", "2", "3"]}
    assert dropped == [(2, "the buffer was full"), (1, "the buffer was full")]
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "bandit 'home': 2 events are lost: the buffer was full"


def test_the_buffer_is_bounded_in_bytes(store):
    emitter = buffering(store, when_full="drop", max_bytes=1 << 20)
    arms = [f"{i:0200}" for i in range(10_000)]
    accepted = emitter.emit(events("IN", *arms))
    assert accepted == (1 << 20) // (80 + 2 + 200)
    emitter.flush()
    assert emitter.emit(events("US", *arms)) == accepted
    emitter.close()
    assert arrived(store) == {"IN": arms[:accepted], "US": arms[:accepted]}


def test_a_partition_that_is_full_does_not_hold_up_the_others(any_store):
    partitions.agree(any_store, "home", 2)
    full, other = sorted(["s0", "s1"], key=lambda segment: partitions.partition_of(segment, 2))
    assert partitions.partition_of(other, 2) == 1
    emitter = Emitter(Bandit("home", any_store), flush_every_s=0.001, most_unapplied=2)
    emitter.emit(events(full, 1, 2))
    emitter.flush(PATIENCE_S)
    emitter.emit(events(full, 3, 4))
    emitter.emit(events(other, 1))
    wait_until(lambda: emitter.stats.acknowledged == 3, "the other is held up")
    wait_until_told(emitter, "check their workers", waiting=2)
    assert arrived(any_store) == {full: ["1", "2"], other: ["1"]}
    [state] = states(any_store, "home", [0])
    trim(any_store, "home", 0, applied=state.end, retain_s=3600)
    emitter.flush(PATIENCE_S)
    assert arrived(any_store) == {full: ["1", "2", "3", "4"], other: ["1"]}
    emitter.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_has_a_buffer_of_its_own(store):
    bandit = Bandit("home", store)
    emitter = buffering(store)
    emitter.emit(events("IN", "parent 1"))
    bandit.emit(events("US", "parent"))
    bandit.flush()

    def child() -> None:
        assert emitter.stats == EmitterStats(0, 0, 0, 0, 0)
        emitter.emit(events("IN", "child"))
        emitter.close(PATIENCE_S)
        bandit.emit(events("US", "child"))
        bandit.close(PATIENCE_S)

    process = mp.get_context("fork").Process(target=child)
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert arrived(store) == {"IN": ["child"], "US": ["parent", "child"]}
    emitter.emit(events("IN", "parent 2"))
    emitter.close()
    assert arrived(store)["IN"] == ["child", "parent 1", "parent 2"]
    producers = list(store.client.scan_iter("bc:*:e:*"))
    assert len(producers) == len(set(producers)) == 4


SCRIPT = """
import sys
from banditcore import Bandit, connect
from banditcore.emitting import emitter as emitting
emitting._EXIT_S = float(sys.argv[3])
store = connect(sys.argv[1], timeout_s=60)
bandit = Bandit("home", store)
bandit.emit({"segment": ["IN"] * 3, "arm": ["a", "b", "c"], "reward": [0, 0, 0]})
if sys.argv[2] == "closed":
    store.close()
"""


def run_script(url: str, how: str, exit_s: float) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url, how, str(exit_s)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=True,
    )
    return done.stderr


def test_what_is_buffered_at_exit_is_sent(store):
    assert run_script(store.url, "open", PATIENCE_S) == ""
    assert arrived(store) == {"IN": ["a", "b", "c"]}


def test_what_cannot_be_sent_at_exit_is_said(store):
    said = run_script(store.url, "closed", 2.0)
    assert said.startswith("at exit: 3 events of bandit 'home' are not confirmed (the store")
    assert "is closed" in said
    assert arrived(store) == {}


def test_another_number_of_partitions_is_refused(store):
    with Emitter(Bandit("home", store), partitions=3) as emitter:
        emitter.emit(events("IN", *range(9)))
    assert partitions.load(store, "home") == 3
    emitter = buffering(store, partitions=5)
    emitter.emit(events("IN", "x"))
    for _ in range(2):
        with pytest.raises(ConfigurationConflictError, match="have 3"):
            emitter.flush()
        with pytest.raises(ConfigurationConflictError, match="have 3"):
            emitter.emit(events("IN", "y"))
    with pytest.raises(NotAcknowledgedError, match="have 3") as caught:
        emitter.close()
    assert caught.value.waiting == 1


def test_an_emitter_that_nobody_uses_goes_away(store, monkeypatch):
    monkeypatch.setattr(outbox, "_IDLE_S", 0.01)
    before = set(threading.enumerate())
    emitter = Emitter(Bandit("home", store), flush_every_s=0.001)
    for i in range(3):
        emitter.emit(events("IN", i))
        emitter.flush(PATIENCE_S)
        wait_until(lambda: set(threading.enumerate()) <= before, "the thread does not end")
    assert arrived(store) == {"IN": ["0", "1", "2"]}
    assert len(list(store.client.scan_iter("bc:*:e:*"))) == 1  # the same producer goes on
    gone = weakref.ref(emitter)
    del emitter
    gc.collect()
    assert gone() is None


def test_nothing_is_accepted_for_a_closed_store(store):
    other = connect(store.url)
    emitter = Emitter(Bandit("home", other))
    other.close()
    with pytest.raises(StoreError, match="closed"):
        emitter.emit(events("IN", "a"))
    assert emitter.stats == EmitterStats(0, 0, 0, 0, 0)


def test_an_event_that_is_not_valid_changes_nothing(store):
    emitter = buffering(store)
    with pytest.raises(InvalidValueError, match="arm"):
        emitter.emit(events("IN", "a", ""))
    with pytest.raises(InvalidValueError, match="ahead of the clock"):
        emitter.emit([Event("IN", "a", time=9e9)])
    assert emitter.stats == EmitterStats(0, 0, 0, 0, 0)
    emitter.close()
    assert store.client.keys() == []


@pytest.mark.parametrize(
    "options",
    [
        {"when_full": "wait"},
        {"block_for_s": -1},
        {"block_for_s": "1"},
        {"flush_every_s": 0},
        {"retry_for_s": 86_400},
        {"retry_for_s": float("nan")},
        {"max_events": 0},
        {"max_bytes": 1000},
        {"most_unapplied": 0},
        {"on_drop": 1},
        {"partitions": 0},
        {"partitions": 1025},
        {"partitions": True},
        {"partitions": "4"},
    ],
)
def test_options_that_cannot_be(store, options):
    with pytest.raises((InvalidValueError, InvalidTypeError), match=next(iter(options))):
        Emitter(Bandit("home", store), **options)


def test_a_flush_has_no_negative_time(store):
    emitter = Emitter(Bandit("home", store))
    for call in (emitter.flush, emitter.close):
        with pytest.raises(InvalidValueError, match="timeout_s"):
            call(-1)
    assert emitter.emit(events("IN", "a")) == 1  # it is still open
    emitter.close()


def test_many_events_of_one_call_stay_in_order(store):
    arms = [str(i) for i in range(2 * MAX_EVENTS + 1)]
    with Emitter(Bandit("home", store), partitions=1) as emitter:
        assert emitter.emit(events("IN", *arms)) == len(arms)
    assert arrived(store) == {"IN": arms}
    assert states(store, "home", [0])[0].entries >= 3


# --- a bandit that is forgotten -----------------------------------------------------------------


def drained(store: Store) -> dict[str, float]:
    """Apply all there is as a new worker; return the trials of each arm of segment A."""
    bandit = Bandit("home", store)
    worker = IngestWorker(bandit, RedisStreamSource(bandit))
    while worker.step():
        pass
    worker.release()
    counts = bandit.counts("A")
    return dict(zip(counts.arms, counts.trials.tolist(), strict=True))


def test_an_emitter_that_outlives_its_bandit_makes_its_events_known_again(any_store, monkeypatch):
    monkeypatch.setattr(appending, "_AGREE_EVERY_S", 0.0)
    with Emitter(Bandit("home", any_store), partitions=2) as emitter:
        emitter.emit(events("A", 1))
        emitter.flush()
        assert drained(any_store) == {"1": 1.0}
        forget_bandit(any_store, "home")
        emitter.emit(events("A", 2))
        emitter.flush()
        assert drained(any_store) == {"2": 1.0}
        assert partitions.load(any_store, "home") == 2
        emitter.emit(events("A", 2, 3))
        emitter.flush()
        assert drained(any_store) == {"2": 2.0, "3": 1.0}


def test_what_was_sent_last_is_made_known_though_nothing_follows(store):
    with Emitter(Bandit("home", store), partitions=1) as emitter:
        emitter.emit(events("A", 1))
        emitter.flush()
        forget_bandit(store, "home")
        emitter.emit(events("A", 2))
        emitter.flush()  # sooner than it looks again
        wait_until(lambda: partitions.load(store, "home") == 1, "nobody knows of the events")
    assert drained(store) == {"2": 1.0}


def test_fewer_partitions_than_it_sends_to_end_an_emitter(store, monkeypatch):
    monkeypatch.setattr(appending, "_AGREE_EVERY_S", 0.0)
    emitter = Emitter(Bandit("home", store), partitions=4)
    emitter.emit(events("A", 1))
    emitter.flush()
    forget_bandit(store, "home")
    partitions.agree(store, "home", 2)
    emitter.emit(events("A", 2))
    with pytest.raises(ConfigurationConflictError, match="make another emitter"):
        emitter.flush()
    with pytest.raises(ConfigurationConflictError):
        emitter.emit(events("A", 3))
    partitions.change(store, "home", 8)  # more do no harm
    with Emitter(Bandit("home", store)) as more:
        more.emit(events("A", 4))
