"""The blob: layout pinned, every damage refused."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banditcore.errors import CorruptDataError, InvalidTypeError, InvalidValueError
from banditcore.slate_format import (
    HEADER_BYTES,
    SlateHeader,
    decode,
    decode_header,
    encode,
    encode_header,
    restamped,
)
from banditcore.slates import SlateBank, Snapshot

DOC = Path(__file__).parents[2] / "docs" / "slate-format.md"
GOLDEN = bytes.fromhex(
    "4243534c0100000000401e18240a0600a80000000000000000000000b3d4658d"
    "4400000087a662616e646974a4686f6d65a77365676d656e74a2494ea461726d"
    "7302a6736c6174657303a5646570746802a869645f627974657303ab696e6465"
    "785f627974657302000000000000f03f00000000000004400000000000003e40"
    "0000000000803f40010000000300000061c3a90000000000010000000000ffff"
    "0000010000000000"
)


def small() -> Snapshot:
    bank = SlateBank([[1, 0], [0, -1], [0, 1]])
    return Snapshot("home", "IN", 1_700_000_000_000_000, ["a", "é"], [1.0, 2.5], [30.0, 31.5], bank)


def fields(snapshot: Snapshot) -> tuple[Any, ...]:
    return (
        snapshot.bandit,
        snapshot.segment,
        snapshot.version,
        snapshot.arms,
        snapshot.alpha.tolist(),
        snapshot.beta.tolist(),
        snapshot.bank.slates.shape,
        snapshot.bank.slates.tolist(),
    )


def read_by_the_doc(blob: bytes) -> dict[str, Any]:
    """A thin client: written from docs/slate-format.md alone."""

    def up8(offset: int) -> int:
        return (offset + 7) // 8 * 8

    magic, schema, zero_16, version, length, zero_32, checksum = struct.unpack(
        "<4sHHQQII", blob[:32]
    )
    assert (magic, schema, zero_16, zero_32) == (b"BCSL", 1, 0, 0)
    assert length == len(blob)
    assert checksum == zlib.crc32(blob[:28] + blob[32:])
    (size,) = struct.unpack("<I", blob[32:36])
    meta = msgpack.unpackb(blob[36 : 36 + size])
    n = meta["arms"]
    at_alpha = up8(36 + size)
    at_beta = at_alpha + 8 * n
    at_ends = at_beta + 8 * n
    at_ids = up8(at_ends + 4 * n)
    at_bank = up8(at_ids + meta["id_bytes"])
    ends = struct.unpack_from(f"<{n}I", blob, at_ends)
    starts = (0, *ends)[:n]
    places = meta["slates"] * meta["depth"]
    none = 65535 if meta["index_bytes"] == 2 else 4294967295
    flat = struct.unpack_from(f"<{places}{'H' if none == 65535 else 'I'}", blob, at_bank)
    assert up8(at_bank + places * meta["index_bytes"]) == len(blob)
    rows = [
        [-1 if index == none else index for index in flat[row : row + meta["depth"]]]
        for row in range(0, places, meta["depth"] or 1)
    ]
    return {
        "bandit": meta["bandit"],
        "segment": meta["segment"],
        "version": version,
        "arms": tuple(
            blob[at_ids + a : at_ids + b].decode() for a, b in zip(starts, ends, strict=True)
        ),
        "alpha": list(struct.unpack_from(f"<{n}d", blob, at_alpha)),
        "beta": list(struct.unpack_from(f"<{n}d", blob, at_beta)),
        "shape": (meta["slates"], meta["depth"]),
        "rows": rows,
    }


def sealed(blob: bytes) -> bytes:
    """Return `blob` with length and checksum put right, so that only its content is wrong."""
    start = blob[:16] + struct.pack("<Q", len(blob)) + blob[24:28]
    return start + struct.pack("<I", zlib.crc32(start + blob[32:])) + blob[32:]


def with_metadata(packed: bytes) -> bytes:
    head = struct.pack("<I", len(packed)) + packed
    return sealed(GOLDEN[:32] + head + bytes(-len(head) % 8) + GOLDEN[104:])


def metadata(**changes: Any) -> dict[str, Any]:
    given = {"bandit": "home", "segment": "IN", "arms": 2, "slates": 3, "depth": 2}
    return {**given, "id_bytes": 3, "index_bytes": 2, **changes}


arm_ids = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
    | st.sampled_from(["{", "}", "a{b}c", "\0", "\n", "/", "x" * 256, "é" * 128, "𝄞" * 64])
)  # fmt: skip
parameters = st.floats(1e-100, 1e100)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    arms = draw(st.lists(arm_ids, max_size=8, unique=True))
    n = len(arms)
    columns = [draw(st.lists(parameters, min_size=n, max_size=n)) for _ in "ab"]
    rows = np.empty((0, 0), dtype=np.int32)
    if n:
        depth = draw(st.integers(1, n))
        lengths = draw(st.lists(st.integers(0, depth), min_size=1, max_size=5))
        rows = np.full((len(lengths), depth), -1)
        for row, length in enumerate(lengths):
            rows[row, :length] = draw(st.permutations(range(n)))[:length]
    segment = draw(st.just("") | arm_ids.filter(lambda path: "" not in path.split("/")))
    version = draw(st.integers(0, 2**64 - 1))
    return Snapshot(draw(arm_ids), segment, version, arms, *columns, SlateBank(rows))


@given(snapshots())
@settings(max_examples=150, deadline=None)
def test_any_snapshot_comes_back_and_a_thin_client_reads_the_same(snapshot: Snapshot) -> None:
    blob = encode(snapshot)
    back = decode(blob)
    assert fields(back) == fields(snapshot)
    assert tuple(read_by_the_doc(blob).values()) == fields(snapshot)
    assert encode(back) == blob
    header = decode_header(blob[:HEADER_BYTES])
    assert header == SlateHeader(snapshot.version, len(blob), header.checksum)


@given(snapshots(), st.integers(0, 2**64 - 1))
def test_a_restamped_blob_is_the_same_snapshot_of_another_version(
    snapshot: Snapshot, version: int
) -> None:
    blob = encode(snapshot)
    assert encode_header(decode_header(blob)) == blob[:HEADER_BYTES]
    stamped = encode_header(restamped(decode_header(blob), version)) + blob[HEADER_BYTES:]
    assert stamped == encode(replace(snapshot, version=version))


def test_the_layout_does_not_drift() -> None:
    assert encode(small()) == GOLDEN
    assert fields(decode(GOLDEN)) == fields(small())


def test_the_doc_shows_the_golden_blob() -> None:
    lines = re.findall(r"^[0-9a-f]{8}  ((?:[0-9a-f]{2} {1,2})+) *\|", DOC.read_text(), re.MULTILINE)
    assert bytes.fromhex("".join(lines)) == GOLDEN


@pytest.mark.parametrize(("n_arms", "index_bytes"), [(65_534, 2), (65_535, 4)])
def test_indices_widen_when_all_ones_would_be_an_arm(n_arms: int, index_bytes: int) -> None:
    last = n_arms - 1
    ids = [str(arm) for arm in range(n_arms)]
    ones = np.ones(n_arms)
    given = Snapshot("b", "", 1, ids, ones, ones, SlateBank([[last, 0], [last, -1]]))
    blob = encode(given)
    assert fields(decode(blob)) == fields(given)
    assert read_by_the_doc(blob)["rows"] == [[last, 0], [last, -1]]
    assert bytes([index_bytes]) == blob[blob.index(b"index_bytes") + len("index_bytes") :][:1]


def test_every_truncation_is_refused() -> None:
    for size in range(len(GOLDEN)):
        with pytest.raises(CorruptDataError, match="length check"):
            decode(GOLDEN[:size])


def test_every_single_bit_flip_is_refused() -> None:
    checks = set()
    for bit in range(8 * len(GOLDEN)):
        flipped = bytearray(GOLDEN)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptDataError) as caught:
            decode(bytes(flipped))
        checks.add(re.search(r"refused, (.*?) check", str(caught.value)).group(1))  # type: ignore[union-attr]  # None fails the test
    # All before anything is parsed.
    assert checks == {"magic", "schema", "reserved fields", "length", "checksum"}


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(CorruptDataError, match="length check"):
        decode(GOLDEN + b"\0")
    with pytest.raises(CorruptDataError, match="end check"):
        decode(sealed(GOLDEN + bytes(8)))


def test_an_oversized_blob_is_refused_before_its_checksum() -> None:
    assert fields(decode(GOLDEN, max_bytes=len(GOLDEN))) == fields(small())
    with pytest.raises(CorruptDataError, match="size check"):
        decode(GOLDEN[:-1] + b"\1", max_bytes=len(GOLDEN) - 1)
    with pytest.raises(InvalidValueError, match="at most 167 bytes"):
        encode(small(), max_bytes=len(GOLDEN) - 1)


def test_what_is_not_bytes_is_a_callers_mistake() -> None:
    assert fields(decode(memoryview(GOLDEN))) == fields(decode(bytearray(GOLDEN)))
    with pytest.raises(InvalidTypeError):
        decode(GOLDEN.hex())  # type: ignore[arg-type]  # meant
    with pytest.raises(InvalidTypeError):
        decode_header("BCSL")  # type: ignore[arg-type]  # meant


def put(offset: int, new: bytes) -> Callable[[], bytes]:
    return lambda: sealed(GOLDEN[:offset] + new + GOLDEN[offset + len(new) :])


def meta(**changes: Any) -> Callable[[], bytes]:
    return lambda: with_metadata(msgpack.packb(metadata(**changes)))


def packed(raw: bytes) -> Callable[[], bytes]:
    return lambda: with_metadata(raw)


NAN, INF = struct.pack("<d", float("nan")), struct.pack("<d", float("inf"))
WRONG = {
    "newer schema": (put(4, b"\2"), "schema check"),
    "metadata longer than allowed": (put(32, struct.pack("<I", 1025)), "metadata length check"),
    "metadata past the end": (put(32, struct.pack("<I", 200)), "size of metadata check"),
    "metadata past the map": (put(32, struct.pack("<I", 70)), "metadata check"),
    "metadata short of the map": (put(32, struct.pack("<I", 60)), "metadata check"),
    "metadata not a map": (packed(b"\x93\1\2\3"), "metadata check"),
    "a number": (packed(b"\1"), "metadata check"),
    "an extension type": (packed(msgpack.packb(metadata(arms=msgpack.ExtType(5, b"x")))), "meta"),
    "an empty extension": (packed(msgpack.packb(metadata(arms=msgpack.ExtType(5, b"")))), "meta"),
    "a timestamp": (packed(msgpack.packb(metadata(arms=msgpack.Timestamp(1)))), "metadata check"),
    "a key twice": (packed(b"\x82\xa1a\1\xa1a\1"), "each stands once"),
    "a key that is a number": (packed(b"\x81\1\1"), "metadata check"),
    "an unknown key": (meta(more=1), "metadata check"),
    "a missing key": (packed(msgpack.packb({"bandit": "home"})), "metadata check"),
    "a list": (meta(arms=[2]), "metadata check"),
    "a map inside": (meta(arms={"n": 2}), "metadata arms check"),
    "a long string": (meta(bandit="x" * 257), "metadata check"),
    "bytes for text": (meta(bandit=b"home"), "metadata check"),
    "broken utf-8": (packed(msgpack.packb(metadata()).replace(b"home", b"\xff\xfe\0\0")), "meta"),
    "a surrogate": (packed(msgpack.packb(metadata()).replace(b"home", b"x\xed\xa0\x80")), "meta"),
    "deep nesting": (packed(b"\x81\xa1a" * 300), "metadata check"),
    "bandit a number": (meta(bandit=1), "metadata bandit check"),
    "bandit empty": (meta(bandit=""), "content check"),
    "segment with an empty part": (meta(segment="IN//x"), "content check"),
    "a bool for an int": (meta(arms=True), "metadata arms check"),
    "a float for an int": (meta(arms=2.0), "metadata arms check"),
    "a negative count": (meta(arms=-2), "metadata arms check"),
    "too many arms": (meta(arms=2**40, index_bytes=4), "size of alpha check"),
    "most arms of all": (meta(arms=2**64 - 1, index_bytes=4), "size of alpha check"),
    "too few arms": (meta(arms=1, depth=1), "check"),
    "no arms": (meta(arms=0), "bank shape check"),
    "no slates": (meta(slates=0), "bank shape check"),
    "slates of no places": (meta(slates=2**60, depth=0), "bank shape check"),
    "too many slates": (meta(slates=2**60), "size of bank check"),
    "too few slates": (meta(slates=1), "padding check"),
    "deeper than the arms": (meta(depth=3), "bank shape check"),
    "wide indices for few arms": (meta(index_bytes=4), "index_bytes check"),
    "id bytes past the end": (meta(id_bytes=100), "size of arm ids check"),
    "id bytes that the ends leave": (meta(id_bytes=4), "arm id check"),
    "alpha zero": (put(104, bytes(8)), "content check.*alpha"),
    "alpha not a number": (put(104, NAN), "content check.*alpha"),
    "alpha infinite": (put(104, INF), "content check.*alpha"),
    "alpha below the sampler's range": (put(104, struct.pack("<d", 1e-101)), "content.*alpha"),
    "beta negative": (put(128, struct.pack("<d", -1.0)), "content check.*beta"),
    "an end past the ids": (put(140, struct.pack("<I", 4)), "arm id check"),
    "an end that steps back": (put(136, struct.pack("<II", 5, 3)), "arm id check"),
    "an id of no bytes": (put(136, struct.pack("<II", 0, 3)), "arm id check"),
    "an id cut inside a character": (put(136, struct.pack("<I", 2)), "arm id check"),
    "padding not zeros": (put(147, b"\1"), "padding check"),
    "last padding not zeros": (put(167, b"\1"), "padding check"),
    "an index past the arms": (put(152, struct.pack("<H", 2)), "bank check.*beyond"),
    "an index just below all ones": (
        put(152, struct.pack("<H", 65534)),
        "bank check.*beyond",
    ),
    "an arm twice in a slate": (put(152, struct.pack("<HH", 1, 1)), "bank check.*twice"),
    "an arm after the padding": (put(152, struct.pack("<HH", 65535, 1)), "bank check.*goes on"),
}


@pytest.mark.parametrize("case", WRONG)
def test_content_that_lies_under_a_right_checksum_is_refused(case: str) -> None:
    make, check = WRONG[case]
    with pytest.raises(CorruptDataError, match=check):
        decode(make())


def test_the_recipes_above_change_only_what_they_say() -> None:
    assert sealed(GOLDEN) == GOLDEN
    assert with_metadata(msgpack.packb(metadata())) == GOLDEN


def test_an_id_twice_is_refused() -> None:
    given = Snapshot("b", "", 1, ["a", "b"], [1, 1], [1, 1], SlateBank([[0]]))
    blob = encode(given)
    at = blob.index(b"ab\0\0")
    with pytest.raises(CorruptDataError, match=r"arm id check.*twice"):
        decode(sealed(blob[:at] + b"aa" + blob[at + 2 :]))


def test_an_id_may_have_256_bytes_and_no_more() -> None:
    given = Snapshot("b", "", 1, ["x" * 256], [1], [1], SlateBank([[0]]))
    assert decode(encode(given)).arms == ("x" * 256,)
    blob = encode(given)
    at = blob.rindex(struct.pack("<II", 256, 0))
    longer = blob[:at] + struct.pack("<I", 257) + blob[at + 4 :]
    longer = longer.replace(b"\xcd\1\0", b"\xcd\1\1")  # id_bytes
    at = longer.index(b"x" * 256)
    longer = sealed(longer[:at] + b"x" * 257 + bytes(7) + longer[at + 256 :])
    with pytest.raises(CorruptDataError, match="arm id check"):
        decode(longer)


@given(st.lists(st.tuples(st.integers(4, len(GOLDEN) - 1), st.integers(0, 255)), max_size=4))
@settings(max_examples=400, deadline=None)
def test_any_content_under_a_right_checksum_is_read_or_refused_never_worse(
    changes: list[tuple[int, int]],
) -> None:
    blob = bytearray(GOLDEN)
    for offset, byte in changes:
        blob[offset] = byte
    try:
        read = decode(sealed(bytes(blob)))
    except CorruptDataError:
        return
    assert read_by_the_doc(sealed(bytes(blob)))["arms"] == read.arms
    assert read.bank.slates.max() < len(read.arms)
