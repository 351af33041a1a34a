"""A blob's version may advance without it: only over the expected header, only forwards, whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1

import pytest

from banditcore.bandit import Bandit
from banditcore.errors import StoreError
from banditcore.slate_format import (
    HEADER_BYTES,
    decode,
    decode_header,
    encode,
    encode_header,
    restamped,
)
from banditcore.store import keys
from banditcore.store.connect import Store, connect
from banditcore.store.counts.reading import Sign
from banditcore.store.publish import Restamp, fetch_one, headers, publish, restamp
from banditcore.store.servers.transport import Command
from published import put, snapshot

BLOB = keys.of_segment("home", "IN").blob


def stamp(blob: bytes, by: int = 1, *, look: bool = True) -> Restamp:
    header = decode_header(blob)
    digest = sha1(blob[HEADER_BYTES:]).hexdigest() if look else ""
    after = encode_header(restamped(header, header.version + by))
    return Restamp("IN", blob[:HEADER_BYTES], after, digest)


def put_one(store: Store, **options) -> bytes:
    put(store, snapshot("IN", **options))
    return fetch_one(store, "home", "IN")


@pytest.mark.parametrize("look", [True, False])
def test_the_version_advances_and_nothing_else_changes(any_store, look):
    old = put_one(any_store)
    assert restamp(any_store, "home", [stamp(old, 7, look=look)]) == ["OK"]
    new = fetch_one(any_store, "home", "IN")
    assert new[HEADER_BYTES:] == old[HEADER_BYTES:]
    assert decode(new).version == decode(old).version + 7
    assert restamped(decode_header(old), decode_header(new).version) == decode_header(new)


@pytest.mark.parametrize("by", [0, -1, -(10**12)])
def test_a_version_never_goes_back(any_store, by):
    old = put_one(any_store)
    assert restamp(any_store, "home", [stamp(old, by)]) == ["SUPERSEDED"]
    assert fetch_one(any_store, "home", "IN") == old


@pytest.mark.parametrize(
    "words",
    [
        ("UNLINK", BLOB),
        ("SET", BLOB, b"x"),
        ("APPEND", BLOB, b"x"),
        ("SETRANGE", BLOB, 4, b"\2"),
        ("SETRANGE", BLOB, 31, b"\xff"),
    ],
)
def test_another_header_or_length_is_not_touched(any_store, words):
    old = put_one(any_store)
    any_store.replies([Command(BLOB, words)])
    there = fetch_one(any_store, "home", "IN")
    assert restamp(any_store, "home", [stamp(old, look=False)]) == ["OTHER"]
    assert fetch_one(any_store, "home", "IN") == there


def test_a_damaged_body_is_seen_by_who_looks(any_store):
    old = put_one(any_store)
    any_store.replies([Command(BLOB, ("SETRANGE", BLOB, 100, b"\xff\xfe\xfd"))])
    assert restamp(any_store, "home", [stamp(old)]) == ["OTHER"]
    assert restamp(any_store, "home", [stamp(old, look=False)]) == ["OK"]


def test_another_blob_of_the_same_version_is_not_stamped(any_store):
    old = put_one(any_store, seed=1)
    other = put_one(any_store, seed=2)
    assert decode(old).version == decode(other).version
    assert restamp(any_store, "home", [stamp(old, look=False)]) == ["OTHER"]
    assert fetch_one(any_store, "home", "IN") == other


def test_a_key_of_another_type_is_other(any_store):
    old = put_one(any_store)
    any_store.replies([Command(BLOB, ("UNLINK", BLOB))])
    any_store.replies([Command(BLOB, ("LPUSH", BLOB, b"x"))])
    assert restamp(any_store, "home", [stamp(old)]) == ["OTHER"]


def test_a_server_that_refuses_raises(store):
    old = put_one(store)
    name = "nostamps"
    rules = ["~bc:*", "+@all", "-setrange"]
    store.client.execute_command("ACL", "SETUSER", name, "on", ">p", *rules)
    scheme, _, place = store.url.partition("://")
    with connect(f"{scheme}://{name}:p@{place}") as limited, pytest.raises(StoreError):
        restamp(limited, "home", [stamp(old)])
    store.client.execute_command("ACL", "DELUSER", name)
    assert fetch_one(store, "home", "IN") == old


def test_publishers_and_stampers_race_and_every_blob_is_whole(any_store):
    """Two publish, two stamp what they find; a version belongs to its body and never goes back."""
    first = put_one(any_store)
    start = decode(first).version
    bodies = {}
    for by in range(2, 402):
        made = snapshot("IN", at=(start + by * 1000) / 1e6, seed=by)
        bodies[by] = encode(made)

    def publishing(which: int) -> None:
        for by in range(2 + which, 402, 2):
            blob = bodies[by]
            publish(any_store, "home", "IN", blob, decode_header(blob).version)

    def stamping(by: int) -> int:
        done = 0
        for _ in range(200):
            [header] = headers(any_store, "home", ["IN"])
            done += restamp(any_store, "home", [stamp(header, by, look=False)]) == ["OK"]
        return done

    def reading() -> int:
        last = 0
        for _ in range(200):
            held = decode(fetch_one(any_store, "home", "IN"))  # its checksum is right
            assert held.version >= last
            last = held.version
        return last

    with ThreadPoolExecutor(5) as pool:
        stampers = [pool.submit(stamping, by) for by in (1, 3)]
        others = [pool.submit(publishing, which) for which in (0, 1)]
        readers = [pool.submit(reading)]
        for run in (*others, *readers):
            run.result()
        assert sum(run.result() for run in stampers) > 0
    assert decode(fetch_one(any_store, "home", "IN")).version >= start + 401_000


# --- signs of change ---------------------------------------------------------------------------


def test_signs_tell_segments_that_do_not_exist_and_keys_that_are_none(any_store):
    bandit = Bandit("home", any_store)
    bandit.record("IN", "a")
    state = keys.of_segment("home", "odd").state
    any_store.replies([Command(state, ("SET", state, b"x"))])
    one, none, odd = bandit.reader.signs(["IN", "nowhere", "odd"])
    assert len(one.digest) == 40
    assert abs(one.version / 1e6 - any_store.server_time()) < 60
    assert none == Sign(b"", None)
    assert odd is None
    bandit.record("IN", "a")
    assert bandit.reader.signs(["IN"])[0].digest != one.digest


def test_bytes_that_move_from_one_chunk_to_the_next_change_the_sign(store):
    """256 arms in two chunks; the same bytes, cut elsewhere, are other counts."""
    bandit = Bandit("home", store)
    arms = [f"a{i}" for i in range(256)]
    bandit.record_batch({"segment": ["IN"] * 256, "arm": arms, "reward": [1] * 256})
    state = keys.of_segment("home", "IN").state
    before = bandit.reader.signs(["IN"])[0].digest
    first, second = store.client.hmget(state, "c:0", "c:1")
    store.client.hset(state, mapping={"c:0": first[:-16], "c:1": first[-16:] + second})
    assert bandit.reader.signs(["IN"])[0].digest != before
    store.client.hset(state, mapping={"c:0": first, "c:1": second})
    assert bandit.reader.signs(["IN"])[0].digest == before
