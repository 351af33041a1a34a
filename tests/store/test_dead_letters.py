"""Events that could not be used are kept once an offset, and can be replayed once."""

from __future__ import annotations

from banditcore.store.dead_letters import DeadLetter, keep, read
from banditcore.store.streams import states

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
