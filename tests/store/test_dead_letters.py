"""Events that could not be used are kept once an offset, and can be replayed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from banditcore.errors import StoreUnavailableError
from banditcore.maintenance.verify import verify_store
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.event_streams import partitions, streams
from banditcore.store.event_streams.dead_letters import DeadLetter, keep, read
from banditcore.store.event_streams.stream_reading import StreamReader
from banditcore.store.event_streams.streams import states
from proxy import proxy_before

MUCH = 10**9


def test_dead_letters_are_kept_once_an_offset_in_any_order(any_store):
    letters = [DeadLetter(i, f"why {i} ü", bytes([i % 256, 0, 255])) for i in (5, 2**52 + 1, 3)]
    assert keep(any_store, "home", 0, letters) == 3
    again = [DeadLetter(4, "new", b""), DeadLetter(5, "another", b"x"), DeadLetter(4, "", b"")]
    assert keep(any_store, "home", 0, again) == 1
    assert keep(any_store, "home", 0, []) == 0
    found = read(any_store, "home", 0)
    assert found == [letters[2], again[0], letters[0], letters[1]]
    assert read(any_store, "home", 0, after=4, limit=1) == [letters[0]]
    assert states(any_store, "home", [0])[0].dead == 4
    assert read(any_store, "home", 1) == []


def test_a_reason_may_hold_what_utf8_cannot(any_store):
    keep(any_store, "home", 0, [DeadLetter(1, "\ud800", b"")])
    assert read(any_store, "home", 0) == [DeadLetter(1, "\\ud800", b"")]


def test_the_oldest_of_many_dead_letters_go(any_store):
    letters = [DeadLetter(i, "", bytes(100)) for i in range(2500)]
    assert keep(any_store, "home", 0, letters, most=1200) == 2500
    kept = read(any_store, "home", 0, limit=MUCH)
    assert [letter.offset for letter in kept] == list(range(1300, 2500))
    keep(any_store, "home", 0, [DeadLetter(9999, "", bytes(100))], most_bytes=1120)
    kept = read(any_store, "home", 0, limit=MUCH)
    assert [letter.offset for letter in kept] == [*range(2491, 2500), 9999]  # 112 bytes each
    assert states(any_store, "home", [0])[0].dead == 2501
    large = DeadLetter(10_000, "", bytes(5000))
    keep(any_store, "home", 0, [large], most_bytes=1120)
    assert read(any_store, "home", 0, limit=MUCH) == [large]
    keep(any_store, "home", 0, [DeadLetter(10_001, "", b"")], most_bytes=1120)
    assert [letter.offset for letter in read(any_store, "home", 0)] == [10_001]


def test_an_event_is_replayed_once_and_its_letter_keeps_the_place(any_store):
    partitions.agree(any_store, "home", 1)
    keep(any_store, "home", 0, [DeadLetter(5, "why", b"raw" * 50), DeadLetter(6, "so", b"other")])
    before = dead_bytes(any_store)
    assert streams.replay(any_store, "home", 0, 4, count=1, body=b"x").word == "ALREADY"
    first = streams.replay(any_store, "home", 0, 5, count=2, body=b"body")
    assert first.word == "OK"
    assert streams.replay(any_store, "home", 0, 5, count=2, body=b"body").word == "ALREADY"
    with StreamReader(any_store, "home") as reader:
        [entry] = reader.read({0: streams.START}, limit=9)[0]
    assert (entry.first, entry.count, entry.body) == (first.first, 2, b"body")
    replayed, other = read(any_store, "home", 0)
    assert (replayed.offset, replayed.raw, replayed.is_replayed) == (5, b"", True)
    assert replayed.reason.endswith(f" {first.first}")
    assert not other.is_replayed
    # A worker that reads the stream once more keeps it again: not as an event to be replayed.
    assert keep(any_store, "home", 0, [DeadLetter(5, "why", b"raw" * 50)]) == 0
    shrunk = len("why") + 150 - len(replayed.reason)
    assert dead_bytes(any_store) == before - shrunk
    assert verify_store(any_store).is_clean


def test_a_reply_that_is_lost_replays_nothing_twice(one_server):
    keep(one_server, "home", 0, [DeadLetter(5, "why", b"raw")])
    path = Path(one_server.url.removeprefix("unix://"))
    streams.replay(one_server, "home", 0, 4, count=1, body=b"x")  # loads the functions
    with proxy_before(path) as proxy, connect(proxy.url) as unsafe:
        proxy.lose_next_reply(b"_replay")
        with pytest.raises(StoreUnavailableError):
            streams.replay(unsafe, "home", 0, 5, count=1, body=b"x")
        assert proxy.lost == 1
        assert streams.replay(unsafe, "home", 0, 5, count=1, body=b"x").word == "ALREADY"
    assert states(one_server, "home", [0])[0].entries == 1


def dead_bytes(store: Store) -> int:
    return int(store.client.hget(keys.of_partition("home", 0).offsets, "dead_bytes"))
