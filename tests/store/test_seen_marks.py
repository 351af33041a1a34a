"""Marking what users were shown, on every kind of store."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.functions import calling, seen_library
from banditcore.store.seen_record import arm_hash, decode, encode, exposure, pack
from banditcore.store.servers.transport import Command

DAY = 86_400


def mark(store: Store, user: str, arms: list[str], at: int, most: int = 1000) -> list[bytes]:
    exposures = pack(exposure(arm_hash(arm), at) for arm in arms)
    record = keys.seen("home", user)
    call = seen_library.mark(record, now=at, horizon=DAY, most=most, exposures=exposures)
    return calling.run(store, [call])[0]


def stored(store: Store, user: str) -> list[int]:
    record = keys.seen("home", user)
    [raw] = store.replies([Command(record, ("GETRANGE", record, 0, -1))])
    return decode(raw).tolist()


def shown(*pairs: tuple[str, int]) -> list[int]:
    return [exposure(arm_hash(arm), at) for arm, at in pairs]


def test_what_is_marked_is_there_once(any_store: Store) -> None:
    now = int(time.time())
    assert mark(any_store, "u", ["a", "b"], now - 9) == [b"OK", b"0"]
    for _ in range(2):  # a reply was lost
        assert mark(any_store, "u", ["b", "a", "c"], now) == [b"OK", b"0"]
    wanted = shown(("a", now - 9), ("b", now - 9), ("b", now), ("a", now), ("c", now))
    assert stored(any_store, "u") == wanted
    assert stored(any_store, "v") == []
    key = keys.seen("home", "u")
    [left] = any_store.replies([Command(key, ("TTL", key))])
    assert DAY - 60 < left <= DAY + 1


def test_the_old_and_the_many_are_dropped(store: Store) -> None:
    now = int(time.time())
    mark(store, "u", ["a"], now - DAY - 1)
    mark(store, "u", ["b"], now - DAY)
    mark(store, "u", ["c"], now)
    assert stored(store, "u") == shown(("b", now - DAY), ("c", now))
    assert mark(store, "u", ["d", "e"], now, most=3) == [b"OK", b"1"]
    assert stored(store, "u") == shown(("c", now), ("d", now), ("e", now))


def test_a_clock_that_runs_ahead_removes_nothing(store: Store) -> None:
    now = int(time.time())
    mark(store, "u", ["a"], now)
    mark(store, "u", ["b"], now + 10 * DAY)
    assert stored(store, "u") == shown(("a", now), ("b", now + 10 * DAY))


def test_exposures_are_found_at_their_places_alone(store: Store) -> None:
    """The bytes of one may stand across two others."""
    now = int(time.time())
    record = keys.seen("home", "u")

    def add(*exposures: bytes) -> None:
        call = seen_library.mark(
            record, now=now, horizon=DAY, most=1000, exposures=b"".join(exposures)
        )
        calling.run(store, [call])

    time_now = (now % 2**24).to_bytes(3, "little")
    first, second = time_now + b"x" + time_now + b"a", b"bcde" + b"ffff"
    across = (first + second)[4:12]
    add(first, second)
    add(across)
    assert pack(stored(store, "u")) == first + second + across


def test_a_damaged_record_is_begun_anew_and_another_layout_left_alone(store: Store) -> None:
    now = int(time.time())
    client = store.client
    record = keys.seen("home", "u")
    whole = encode(shown(("a", now)))
    for damaged in (whole[:-1], whole[:-1] + b"\0", b"\x01", b"\x01" + b"z" * 9000):
        client.set(record, damaged)
        assert mark(store, "u", ["b"], now) == [b"RENEWED", b"0"]
        assert stored(store, "u") == shown(("b", now))
    client.set(record, b"\x02later")
    assert mark(store, "u", ["b"], now)[0] == b"INVALID"
    assert client.get(record) == b"\x02later"


def test_marks_at_once_lose_nothing(one_server: Store) -> None:
    now = int(time.time())

    def work(worker: int) -> None:
        with connect(one_server.url) as own:
            for i in range(25):
                mark(own, "u", [f"{worker}:{i}", f"all:{i}"], now)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    wanted = [(f"{worker}:{i}", now) for worker in range(8) for i in range(25)]
    wanted += [(f"all:{i}", now) for i in range(25)]
    assert sorted(stored(one_server, "u")) == sorted(shown(*wanted))


def test_any_user_has_a_key_of_its_own() -> None:
    odd = ["u", "u ", "{u}", "u}:u", "\0", "\n", "\ud800", "é", "e\u0301", "u" * 100_000, ""]
    found = {keys.seen(bandit, user) for user in odd for bandit in ("home", "home2")}
    assert len(found) == 2 * len(odd)
    assert all(len(key) == 39 for key in found)


@pytest.mark.parametrize("most", [1, 1000])
def test_nothing_to_mark_writes_nothing(store: Store, most: int) -> None:
    assert mark(store, "u", [], int(time.time()), most) == [b"OK", b"0"]
    assert store.client.dbsize() == 0
