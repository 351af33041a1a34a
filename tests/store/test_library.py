from __future__ import annotations

import dataclasses
import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from threading import Barrier

import pytest

from banditcore.errors import StoreError, StoreUnavailableError
from banditcore.events import MAX_AHEAD_S
from banditcore.store import Store, connect, keys, seals
from banditcore.store.counts import reading, registry, updates
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.functions import (
    calling,
    library,
    maintenance_library,
    texts,
    updates_library,
    words,
)
from banditcore.store.servers.translation import translated
from banditcore.store.servers.transport import Failure
from proxy import proxy_before

FILES = {module.FILE: module for module in (library, updates_library, maintenance_library)}
TEXT = {
    file: files("banditcore.store.functions").joinpath(file).read_text("utf-8")
    for file in (*FILES, "prelude.lua")
}
LUA = "".join(TEXT.values())
SIGNATURE = re.compile(r"^-- (\w+)\(keys: ([\w, ]+)(?:; args: ([\w, ]+))?\)", re.MULTILINE)
DOCUMENTED = {
    name: (key_names.split(", "), arguments.split(", ") if arguments else [])
    for name, key_names, arguments in SIGNATURE.findall(LUA)
}
FILE_OF = {name: file for file in FILES for name in re.findall(r"@LIBRARY@_(\w+)'", TEXT[file])}
KEYS = keys.of_segment("bandit", "segment")
VERSION = SegmentVersion(0, 1_700_000_000.0, None, 3600.0).pack()
ONE_ARM = updates_library.Held(VERSION, b"", b"t", 1, b"\0a")


def test_every_registered_function_is_documented_and_bound() -> None:
    assert set(DOCUMENTED) == set(FILE_OF)
    assert {name for name, file in FILE_OF.items() if name not in FILES[file].__all__} == set()


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_the_binding_has_the_arguments_that_the_library_documents(name: str) -> None:
    key_names, arguments = DOCUMENTED[name]
    binding = getattr(FILES[FILE_OF[name]], name)
    numbers = iter(range(1000, 2000))  # distinct values show the order in which they are sent
    values: dict[str, object] = {}
    sent: dict[str, object] = {}
    for parameter in list(inspect.signature(binding).parameters)[1:]:
        group = {"held": updates_library.Held, "window": updates_library.Window}.get(parameter)
        if group is None:
            values[parameter] = sent[parameter] = next(numbers)
        else:
            fields = {field.name: next(numbers) for field in dataclasses.fields(group)}
            values[parameter] = group(**fields)
            sent |= fields
    of = keys.of_bandit("bandit") if "settings" in key_names else KEYS
    call = binding(of, **values)
    assert list(sent) == arguments
    assert (call.function, call.file) == (name, FILE_OF[name])
    assert call.keys == tuple(getattr(of, key) for key in key_names)
    assert [float(value) for value in call.arguments] == list(sent.values())


def test_constants_are_the_same_on_both_sides() -> None:
    assert f"local SEAL_DIGITS = {seals.DIGITS}\n" in LUA
    assert f"local TOKEN_BYTES = {registry._RANDOM_BYTES} " in LUA
    assert f"local MOST_AHEAD_S = {MAX_AHEAD_S:.0f} " in LUA
    assert f"local DIGEST_BYTES = {len(keys.batch_digest('x'))}\n" in LUA
    assert f"local SLOTS_PER_CHUNK = {reading._SLOTS_PER_CHUNK}\n" in LUA
    assert f"local SLOT_BYTES = {reading._SLOT_BYTES}\n" in LUA
    assert f"local DELTA_BYTES = {updates._DELTA.itemsize} " in LUA


def test_settings_are_replaced_in_one_step_unless_an_import_has_begun(any_store: Store) -> None:
    of = keys.of_bandit("bandit")

    def replies(*calls: calling.Call) -> list[calling.Reply]:
        return calling.run(any_store, calls)

    settle = library.settle(of, half_life_s="7.0", window_s="9.0")
    assert replies(settle) == [[b"OK"]]
    assert any_store.client.hgetall(of.settings) == {b"h": b"7.0", b"w": b"9.0"}
    begin = maintenance_library.begin_import(
        of, token=b"t", paths=words.packed([b"IN"]), bandit=b"bandit"
    )
    assert replies(begin) == [[b"OK", b""]]
    assert replies(settle) == [[b"IMPORTING"]]
    other = maintenance_library.begin_import(
        of, token=b"u", paths=words.packed([b"US"]), bandit=b"bandit"
    )
    assert replies(other, other) == [[b"OK", words.packed([b"IN"])]] * 2
    assert any_store.client.hgetall(of.settings) == {
        b"h": b"importing",
        b"w": b"u",
        b"s": words.packed([b"US", b"IN"]),
        b"b": b"bandit",
    }


def test_a_list_that_is_cut_is_no_list() -> None:
    strings = [b"", b"abc", bytes(300)]
    packed = words.packed(strings)
    assert words.unpacked(packed) == strings
    whole = {len(words.packed(strings[:count])) for count in range(4)}
    for size in set(range(len(packed))) - whole:
        assert words.unpacked(packed[:size]) is None


def test_a_flushed_library_is_loaded_again(any_store: Store) -> None:
    call = library.open_segment(KEYS, version=VERSION)
    calling.run(any_store, [call])
    any_store.client.function_flush()
    assert [reply[0] for reply in calling.run(any_store, [call, call])] == [VERSION, VERSION]


def test_what_was_answered_stands_though_a_library_could_not_be_loaded(store: Store) -> None:
    """As when one node of a cluster answers, and another has no library and is slow."""
    there = library.open_segment(KEYS, version=VERSION)
    missing = maintenance_library.forget_segment(KEYS, keep_marks=False)
    calling.run(store, [there])
    path = Path(store.url.removeprefix("unix://"))
    with proxy_before(path) as proxy, connect(proxy.url, timeout_s=60) as unsafe:
        proxy.lose_next_reply(b"LOAD")
        answered, failed = calling.attempt(unsafe, [there, missing])
        assert proxy.lost == 1
        assert answered[0] == VERSION
        assert isinstance(failed, Failure)
        assert not failed.may_have_run
        with pytest.raises(StoreUnavailableError):
            raise translated(failed.error, unsafe)
        proxy.lose_next_reply(b"LOAD")
        assert not any(isinstance(each, Failure) for each in calling.attempt(unsafe, [missing]))
        assert proxy.lost == 1  # it was there


def test_many_clients_may_load_it_at_once(store: Store) -> None:
    barrier = Barrier(8)

    def load() -> bytes:
        with connect(store.url) as mine:
            barrier.wait()
            [reply] = calling.run(mine, [library.open_segment(KEYS, version=VERSION)])
            return reply[0]

    with ThreadPoolExecutor(8) as threads:
        assert [future.result() for future in [threads.submit(load) for _ in range(8)]] == (
            [VERSION] * 8
        )
    assert len(store.client.function_list()) == 1


def test_the_name_follows_the_text() -> None:
    assert re.fullmatch(r"banditcore_[0-9a-f]{12}", texts.library_name(library.FILE))
    for file in (*FILES, "streams.lua"):
        source = texts.library_source(file)
        assert source.splitlines()[0] == f"#!lua name={texts.library_name(file)}"
        assert "@PRELUDE@" not in source
        assert "@LIBRARY@" not in source
        assert source.count("local function sealed(") == 1
    assert len({texts.library_name(file) for file in (*FILES, "streams.lua")}) == 4


def test_a_key_of_another_type_is_an_error_and_changes_nothing(any_store: Store) -> None:
    any_store.client.set(KEYS.state, "not a hash")
    calls = [
        library.open_segment(KEYS, version=VERSION),
        updates_library.add_arms(KEYS, held=ONE_ARM),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            calling.run(any_store, [call])
    assert list(any_store.client.scan_iter()) == [KEYS.state.encode()]


def test_appending_arms_to_a_key_of_another_type_leaves_the_state_alone(any_store: Store) -> None:
    calling.run(any_store, [library.open_segment(KEYS, version=VERSION)])
    any_store.client.rpush(KEYS.arms, "not a string")
    before = any_store.client.hgetall(KEYS.state)
    call = updates_library.add_arms(KEYS, held=ONE_ARM)
    with pytest.raises(StoreError):
        calling.run(any_store, [call])
    assert any_store.client.hgetall(KEYS.state) == before


@pytest.mark.parametrize(
    ("first", "second", "stays"), [(5, 6, 6), (6, 5, 6), (7, 7, 7), (2**52, 2**52 + 1, 2**52 + 1)]
)
def test_the_newer_version_wins_a_publish(
    any_store: Store, first: int, second: int, stays: int
) -> None:
    def blob(version: int) -> bytes:
        return b"BCSL" + bytes(4) + version.to_bytes(8, "little") + bytes(16) + b"body"

    replies = calling.run(
        any_store,
        [library.publish(KEYS, version=version, body=blob(version)) for version in (first, second)],
    )
    assert replies[0] == [b"OK"]
    assert replies[1] == ([b"OK"] if second >= first else [b"SUPERSEDED", str(first).encode()])
    assert any_store.client.get(KEYS.blob) == blob(stays)


def test_a_stored_version_from_the_future_is_not_believed(any_store: Store) -> None:
    """A flipped bit, or a clock that was wrong, must not block a segment for ever."""
    version = int(any_store.server_time() * 1e6)
    damaged = b"BCSL" + bytes(4) + (version + 2**52).to_bytes(8, "little") + bytes(16)
    any_store.client.set(KEYS.blob, damaged)
    assert calling.run(any_store, [library.publish(KEYS, version=version, body=b"new")]) == [
        [b"OK"]
    ]
    assert any_store.client.get(KEYS.blob) == b"new"
