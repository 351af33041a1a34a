from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from banditcore.errors import CorruptDataError, StoreError, StoreUnavailableError
from banditcore.maintenance.verify import verify_store
from banditcore.store import Store, connect, keys
from banditcore.store.event_streams import partitions
from banditcore.store.event_streams.stream_reading import LONGEST_WAIT_S, Entry, StreamReader
from banditcore.store.event_streams.streams import (
    START,
    Append,
    Appended,
    StreamState,
    advance,
    append,
    states,
    trim,
)
from proxy import proxy_before
from servers import patiently, running_server, wait_until

P = b"p" * 16
MUCH = 10**9


def put(store: Store, sequence: int, count: int = 1, body: bytes = b"", **changes: int) -> Appended:
    """Append one entry to partition 0."""
    entry = Append(changes.get("partition", 0), P, sequence, count, body)
    [appended] = append(store, "home", [entry], most_unapplied=changes.get("most", MUCH))
    if isinstance(appended, StoreError):
        raise appended
    return appended


def fill(store: Store, counts: list[int]) -> list[Entry]:
    """Append entries of so many events; return them as they can be read."""
    found = []
    for sequence, count in enumerate(counts, 1):
        body = b"%d" % sequence
        first = put(store, sequence, count, body).first
        assert first is not None
        found.append(Entry(first, count, body))
    return found


def entries(store: Store, after: int = START, limit: int = MUCH, partition: int = 0) -> list[Entry]:
    with StreamReader(store, "home") as reader:
        return reader.read({partition: after}, limit=limit).get(partition, [])


def test_offsets_are_times_that_only_grow(any_store):
    before = int(1e6 * any_store.server_time())
    found = fill(any_store, [3, 50_000, 1, 1])
    after = int(1e6 * any_store.server_time()) + 50_004
    assert before <= found[0].first
    for one, other in pairwise(found):
        assert one.last < other.first <= after
    assert found[2].first == found[1].last + 1  # the clock is still behind the 50,000
    assert entries(any_store) == found


def test_an_entry_that_is_sent_again_is_appended_once(any_store):
    first = put(any_store, 1, 2)
    assert first.word == "OK"
    assert put(any_store, 1, 2) == Appended("ALREADY", first.first)
    second = put(any_store, 2, 2)
    assert put(any_store, 1, 2) == Appended("ALREADY", None)  # too old to know where
    assert put(any_store, 2, 2) == Appended("ALREADY", second.first)
    assert put(any_store, 9).word == "OK"  # sequences may have gaps: what was given up
    assert [entry.first for entry in entries(any_store)][:2] == [first.first, second.first]
    assert len(entries(any_store)) == 3


def test_producers_and_partitions_do_not_know_of_each_other(any_store):
    others = [Append(0, b"q" * 16, 1, 1, b"q"), Append(1, P, 1, 1, b"1"), Append(2, P, 1, 1, b"2")]
    assert put(any_store, 1, body=b"p").word == "OK"
    assert [each.word for each in append(any_store, "home", others, most_unapplied=MUCH)] == (
        ["OK"] * 3
    )
    assert [entry.body for entry in entries(any_store)] == [b"p", b"q"]
    assert [entry.body for entry in entries(any_store, partition=2)] == [b"2"]
    with StreamReader(any_store, "away") as reader:
        assert reader.read({0: START}, limit=1) == {}


def test_a_producer_is_forgotten_after_a_day(any_store):
    put(any_store, 1)
    assert 86_000 < any_store.client.ttl(keys.producer("home", 0, P)) <= 86_400


def test_a_lost_reply_doubles_nothing(one_server):
    put(one_server, 1)
    path = Path(one_server.url.removeprefix("unix://"))
    with proxy_before(path) as proxy, connect(proxy.url) as unsafe:
        proxy.lose_next_reply(b"_append")
        with pytest.raises(StoreUnavailableError):
            put(unsafe, 2, 3, b"once")
        assert proxy.lost == 1
        [_, once] = entries(one_server)
        assert put(unsafe, 2, 3, b"once") == Appended("ALREADY", once.first)
    assert [entry.body for entry in entries(one_server)] == [b"", b"once"]


def test_a_partition_takes_no_more_than_it_should(any_store):
    assert put(any_store, 1, 9, most=10).word == "OK"
    assert put(any_store, 2, 9, most=10).word == "OK"  # the one that goes beyond
    assert put(any_store, 3, 9, most=10) == Appended("FULL", None, 18)
    assert put(any_store, 3, 9, most=10, partition=1).word == "OK"
    assert put(any_store, 1, 9, most=10).word == "ALREADY"  # known, full or not
    [one, _] = entries(any_store)
    trim(any_store, "home", 0, applied=one.first + 7, retain_s=3600)
    assert put(any_store, 3, 9, most=10) == Appended("FULL", None, 10)
    trim(any_store, "home", 0, applied=one.last, retain_s=3600)
    assert put(any_store, 3, 9, most=10).word == "OK"
    assert len(entries(any_store)) == 3


def test_reading_ends_with_the_entry_that_reaches_the_limit(any_store):
    found = fill(any_store, [2] * 20)
    for limit, wanted in ((1, 1), (2, 1), (3, 2), (16, 8), (17, 9), (32, 16), (39, 20), (99, 20)):
        assert entries(any_store, limit=limit) == found[:wanted]


def test_reading_goes_on_after_any_offset(any_store):
    found = fill(any_store, [1, 3, 1, 2])
    around = [entry.first + i for entry in found for i in range(-1, entry.count + 1)]
    for after in (START, *around):
        assert entries(any_store, after) == [entry for entry in found if entry.last > after]


def test_a_read_is_limited_in_entries_too(store):
    pipeline = store.client.pipeline()
    for i in range(1, 601):
        pipeline.xadd(keys.of_partition("home", 0).stream, {"b": "x"}, id=f"{i}-1")
    pipeline.execute()
    assert len(entries(store)) == 512
    assert entries(store, 512)[0] == Entry(513, 1, b"x")


def test_what_no_producer_has_appended_is_refused(store):
    store.client.xadd(keys.of_partition("home", 0).stream, {"b": "x"}, id="5-0")
    with pytest.raises(CorruptDataError, match="5-0"):
        entries(store)


def test_a_reader_waits_for_the_first_of_its_partitions(one_server):
    with StreamReader(one_server, "home") as reader:
        started = threading.Event()
        found, waits = [], []

        def read() -> None:
            reader.wait({0: START}, 0.001)  # opens the connection
            started.set()
            while not waits or not waits[-1]:
                waits.append(reader.wait({0: START, 1: START}, LONGEST_WAIT_S))
            found.append(reader.read({0: START, 1: START}, limit=5))

        thread = threading.Thread(target=read)
        thread.start()
        began = time.monotonic()
        assert started.wait(60)
        wait_until(lambda: one_server.client.info("clients")["blocked_clients"], "nobody waits")
        later = one_server.server_time() + 0.3
        wait_until(lambda: one_server.server_time() > later, "time stands still")
        put(one_server, 1, body=b"late", partition=1)
        thread.join(60)
        assert len(waits) <= 1 + (time.monotonic() - began) / LONGEST_WAIT_S  # each to its end
        [read_by_it] = found
        assert {p: [e.body for e in each] for p, each in read_by_it.items()} == {1: [b"late"]}


def test_a_reader_of_a_cluster_asks_again_as_long_as_it_waits(cluster_store):
    store = cluster_store

    def asked() -> int:
        infos = [server.info("commandstats") for server in store.servers().values()]
        return sum(info.get("cmdstat_fcall_ro", {"calls": 0})["calls"] for info in infos)

    with StreamReader(store, "home") as reader, ThreadPoolExecutor(1) as pool:
        reader.read({0: START, 1: START}, limit=1)  # loads the library
        before = asked()

        def wait() -> None:
            while not reader.wait({0: START, 1: START}, LONGEST_WAIT_S):
                pass

        waiting = pool.submit(wait)
        wait_until(lambda: asked() >= before + 6, "it does not ask again")
        assert not waiting.done()
        put(store, 1, body=b"late", partition=1)
        waiting.result(60)
        found = reader.read({0: START, 1: START}, limit=5)
    assert {p: [e.body for e in each] for p, each in found.items()} == {1: [b"late"]}


def test_an_entry_that_fails_does_not_concern_other_partitions(any_store):
    advance(any_store, "home", 0, beyond=2**53 - 1)
    both = [Append(partition, P, 1, 1, b"b") for partition in (0, 1)]
    failed, appended = append(any_store, "home", both, most_unapplied=MUCH)
    assert isinstance(failed, StoreError)
    assert "no offsets are left" in str(failed)
    assert appended.word == "OK"


def test_a_reader_may_wait_longer_than_the_store_for_a_reply(any_store):
    with (
        patiently(lambda: connect(any_store.url, timeout_s=0.1)) as hasty,
        StreamReader(hasty, "home") as reader,
    ):

        def comes(after: dict[int, int], wait_s: float) -> bool:
            return patiently(lambda: reader.wait(after, wait_s))

        assert not comes({0: START}, 0.4)
        end = put(any_store, 1).first
        assert not comes({0: end}, 0.2)
        assert comes({0: START}, 0.2)
        assert not comes({}, 1)
        assert not comes({0: START}, 0)


def test_a_server_that_hangs_ends_the_wait(store):
    with running_server() as server, connect(server.url) as other:
        reader = StreamReader(other, "home")
        reader.wait({0: START}, 0.001)
        server.process.kill()
        server.process.wait()
        with pytest.raises(StoreUnavailableError):
            reader.wait({0: START}, 1)
        reader.close()
        reader.close()


def test_what_is_applied_is_removed_when_it_is_old(any_store):
    found = fill(any_store, [2, 2, 2, 2])
    assert trim(any_store, "home", 0, applied=found[1].last, retain_s=3600) == 0
    assert states(any_store, "home", [0]) == [
        StreamState(found[3].last, found[1].last, 4, entries=4, dead=0)
    ]
    assert trim(any_store, "home", 0, applied=found[2].first, retain_s=0) == 2
    assert entries(any_store) == found[2:]  # half of it is still to be applied
    assert states(any_store, "home", [0])[0].unapplied == 3
    assert trim(any_store, "home", 0, applied=found[2].first, retain_s=0) == 0
    # Counts that went back in time have more to be applied, as far as it is kept.
    trim(any_store, "home", 0, applied=found[1].last, retain_s=0)
    assert states(any_store, "home", [0])[0].applied == found[1].last
    assert trim(any_store, "home", 0, applied=found[3].last + 99, retain_s=0) == 2
    assert entries(any_store) == []
    assert states(any_store, "home", [0])[0].unapplied == 0


def kept(store: Store) -> list[int]:
    """Return the sizes of the entries that a stream has."""
    return [len(entry.body) for entry in entries(store)]


def test_of_what_is_applied_no_more_bytes_stay_than_they_may(any_store):
    partitions.agree(any_store, "home", 1)
    found = []
    for sequence, size in enumerate([100, 30, 50, 20, 40], 1):
        first = put(any_store, sequence, 2, bytes(size)).first
        found.append(Entry(first, 2, b""))

    def trimmed(applied: int, most: int) -> int:
        return trim(any_store, "home", 0, applied=applied, retain_s=3600, retain_bytes=most)

    assert trimmed(START, 0) == 0
    assert trimmed(found[2].last, 180) == 0
    assert trimmed(found[2].last, 179) == 1
    assert kept(any_store) == [30, 50, 20, 40]
    assert trimmed(found[2].last, 80) == 0
    assert trimmed(found[3].first, 0) == 2  # half of the next one is still to be applied
    assert kept(any_store) == [20, 40]
    assert trimmed(found[4].last, 59) == 1
    assert trimmed(found[4].last, 0) == 1
    assert kept(any_store) == []
    put(any_store, 6, 1, bytes(70))
    assert trimmed(found[4].last, 0) == 0
    assert kept(any_store) == [70]
    assert verify_store(any_store).is_clean


def test_bytes_of_entries_that_an_earlier_version_appended_are_not_known_and_do_no_harm(store):
    where = keys.of_partition("home", 0)
    for first in (10, 20, 30):
        store.client.xadd(where.stream, {"t": f"{first // 10 - 1}", "b": "x" * 60}, id=f"{first}-1")
    store.client.hset(where.offsets, mapping={"end": "30", "total": "3"})
    trim(store, "home", 0, applied=30, retain_s=1e10, retain_bytes=60)
    assert kept(store) == [60, 60, 60]
    last = put(store, 1, 1, bytes(70)).first
    trim(store, "home", 0, applied=last, retain_s=1e10, retain_bytes=60)
    assert kept(store) == []


def test_what_an_earlier_version_appends_now_stays_until_it_is_applied(store):
    first = put(store, 1, 1, bytes(70)).first
    later = {"t": "1", "b": "x" * 60}
    store.client.xadd(keys.of_partition("home", 0).stream, later, id=f"{first + 1}-1")
    assert trim(store, "home", 0, applied=first, retain_s=1e10, retain_bytes=60) == 1
    assert kept(store) == [60]


def test_a_call_trims_for_bytes_only_so_many_entries(store):
    found = fill(store, [1] * 70)
    last = found[-1].last
    assert trim(store, "home", 0, applied=last, retain_s=3600, retain_bytes=0) == 64
    assert trim(store, "home", 0, applied=last, retain_s=3600, retain_bytes=0) == 6


def test_trimming_a_stream_that_does_not_exist(any_store):
    assert trim(any_store, "home", 0, applied=START, retain_s=0) == 0
    assert states(any_store, "home", [0, 1]) == [StreamState(0, 0, 0, 0, 0)] * 2


def test_new_offsets_are_larger_than_a_mark_that_is_ahead(any_store):
    [entry] = fill(any_store, [3])
    assert advance(any_store, "home", 0, beyond=entry.last - 1) == entry.last
    ahead = entry.last + 10**12
    assert advance(any_store, "home", 0, beyond=ahead) == ahead
    assert put(any_store, 2, 2).first == ahead + 1
    assert put(any_store, 3, 2).first == ahead + 3
    assert [each.first for each in entries(any_store, ahead)] == [ahead + 1, ahead + 3]


def test_offsets_end_where_numbers_of_the_server_do(any_store):
    last = 2**53 - 1
    with pytest.raises(StoreError, match="2\\^53"):
        advance(any_store, "home", 0, beyond=last + 1)
    assert advance(any_store, "home", 0, beyond=last - 4) == last - 4
    assert put(any_store, 1, 3).first == last - 3
    with pytest.raises(StoreError, match="no offsets are left"):
        put(any_store, 2, 1)
    assert [entry.last for entry in entries(any_store)] == [last - 1]
