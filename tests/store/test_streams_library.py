"""What holds of streams.lua and its binding as of library.lua and its own."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files

import pytest

from banditcore.errors import StoreError, StoreUnfitError
from banditcore.store import Store, keys
from banditcore.store.event_streams import dead_letters, streams
from banditcore.store.functions import calling, library, stream_library, texts
from banditcore.store.functions.calling import Call

LUA = files("banditcore.store.functions").joinpath("streams.lua").read_text("utf-8")
SIGNATURE = re.compile(r"^-- (\w+)\(keys: ([\w, ]+); args: ([\w, .]+)\)", re.MULTILINE)
DOCUMENTED = {
    name: (key_names.split(", "), arguments.replace("letter, ...", "letters").split(", "))
    for name, key_names, arguments in SIGNATURE.findall(LUA)
}
KEYS = keys.of_partition("bandit", 0)
PRODUCER = keys.producer("bandit", 0, b"p" * 16)
CALLS = {
    "append": stream_library.append(
        KEYS, producer=PRODUCER, sequence=1, count=1, most=9, body=b"b"
    ),
    "read": stream_library.read(KEYS, after=0, events=1, entries=1),
    "survey": stream_library.survey(KEYS, after=b"", entries=1),
    "trim": stream_library.trim(KEYS, applied=1, retain_us=0, retain_bytes=0),
    "advance": stream_library.advance(KEYS, beyond=2**50),
    "replay": stream_library.replay(KEYS, offset=1, count=1, body=b""),
    "dead_letter": stream_library.dead_letter(
        KEYS, most=9, most_bytes=99, letters=[bytes(12) + b"raw"]
    ),
    "lease_acquire": stream_library.lease_acquire(KEYS.lease, token=b"t", ttl_ms=1000),
    "lease_renew": stream_library.lease_renew(KEYS.lease, token=b"t", ttl_ms=1000),
    "lease_release": stream_library.lease_release(KEYS.lease, token=b"t"),
    "leave": stream_library.leave(KEYS.stream, "group", "consumer"),
}


def everything(store: Store) -> dict[bytes, bytes]:
    return {key: store.client.dump(key) for key in store.client.scan_iter()}


def test_every_registered_function_is_documented_and_bound() -> None:
    registered = set(re.findall(r"@LIBRARY@_(\w+)'", LUA))
    assert set(DOCUMENTED) == registered == set(CALLS)
    assert set(stream_library.__all__) >= registered


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_the_binding_has_the_arguments_that_the_library_documents(name: str) -> None:
    key_names, arguments = DOCUMENTED[name]
    binding = getattr(stream_library, name)
    numbers = iter(range(1000, 2000))
    values: dict[str, object] = {"keys": KEYS, "lease": KEYS.lease, "stream": KEYS.stream}
    for parameter in inspect.signature(binding).parameters:
        values.setdefault(parameter, next(numbers))
    values |= {"producer": PRODUCER, "letters": [next(numbers)]}
    call = binding(**{key: values[key] for key in inspect.signature(binding).parameters})
    named = {**KEYS._asdict(), "producer": PRODUCER}
    assert call.function == name
    assert call.file == "streams.lua"
    assert call.keys == tuple(named[key] for key in key_names)
    flat = [values["letters"][0] if a == "letters" else values[a] for a in arguments]
    assert list(call.arguments) == flat


def test_both_libraries_are_loaded_by_one_round_trip_that_needs_them(one_server: Store) -> None:
    names = [texts.library_name(file) for file in (library.FILE, stream_library.FILE)]
    assert len(set(names)) == 2
    read = library.read(
        keys.of_segment("bandit", ""),
        known_token=b"",
        known_bytes=0,
        known_sha1="",
        with_counts=False,
    )
    for _ in range(2):
        assert calling.run(one_server, [read, CALLS["advance"]]) == [[], [b"OK", b"%d" % 2**50]]
        loaded = [
            dict(zip(each[::2], each[1::2], strict=True))[b"library_name"].decode()
            for each in one_server.client.execute_command("FUNCTION", "LIST")
        ]
        assert sorted(loaded) == sorted(names)
        one_server.client.function_flush()


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, call in CALLS.items() for key in call.keys]
)
def test_a_key_of_another_type_is_an_error_and_changes_nothing(
    any_store: Store, name: str, key: str
) -> None:
    if key == PRODUCER:
        any_store.client.rpush(key, "not a string")
    else:
        any_store.client.set(key, "none of the types that a partition has")
    before = any_store.client.dump(key)
    with pytest.raises(StoreError):
        calling.run(any_store, [CALLS[name]])
    assert list(any_store.client.scan_iter()) == [key.encode()]
    assert any_store.client.dump(key) == before


def test_a_stream_is_not_trimmed_when_that_cannot_be_noted(any_store: Store) -> None:
    calling.run(any_store, [CALLS["append"]])
    any_store.client.set(KEYS.offsets, "not a hash")
    before = everything(any_store)
    with pytest.raises(StoreError):
        calling.run(
            any_store, [stream_library.trim(KEYS, applied=2**52, retain_us=0, retain_bytes=0)]
        )
    assert everything(any_store) == before


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"read", "survey"}))
def test_a_full_server_refuses_each_write_whole(any_store: Store, name: str) -> None:
    entry = streams.Append(0, b"q" * 16, 1, 1, b"b")
    [appended] = streams.append(any_store, "bandit", [entry], most_unapplied=9)
    assert appended.word == "OK"
    calling.run(any_store, [CALLS["lease_acquire"]])
    before = everything(any_store)
    servers = any_store.servers().values()
    for server in servers:
        server.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnfitError, match="out of memory"):
            calling.run(any_store, [CALLS[name]])
    finally:
        for server in servers:
            server.config_set("maxmemory", "0")
    assert everything(any_store) == before


def test_constants_are_the_same_on_both_sides() -> None:
    assert dead_letters._LETTER.format == "<qI"  # the server reads the first 8 bytes
    assert "offset i64, length of the reason u32" in LUA


def test_calls_name_their_library() -> None:
    call = Call("read", (), (), writes=False, file="streams.lua")
    assert call.command()[:2] == ("FCALL_RO", f"{texts.library_name('streams.lua')}_read")
