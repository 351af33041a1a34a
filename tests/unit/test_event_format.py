from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banditcore.errors import ConfigurationConflictError, CorruptDataError, InvalidValueError
from banditcore.event_format import (
    MAX_BODY_BYTES,
    MAX_EVENTS,
    CodedEvents,
    decode_events,
    encode_events,
)
from banditcore.events import EventColumns

NOW = 1_800_000_000.0
HEADER = 32
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
paths = st.lists(ids.filter(lambda part: "/" not in part), max_size=3).map("/".join)


def table(events: EventColumns) -> list[tuple[object, ...]]:
    """Return the events as rows."""
    numbers = (events.trials.tolist(), events.successes.tolist(), events.times.tolist())
    event_ids = events.event_ids or [None] * len(events)
    return list(zip(events.segments, events.arms, *numbers, event_ids, strict=True))


def columns(rows: list[tuple[object, ...]]) -> EventColumns:
    """Return rows as events, without any check."""
    segments, arms, trials, successes, times, event_ids = map(list, zip(*rows, strict=True))
    numbers = (np.array(column, float) for column in (trials, successes, times))
    return EventColumns(segments, arms, *numbers, None if event_ids[0] is None else event_ids)


def sealed(body: bytes) -> bytes:
    """Return a changed body with the checksum and the length that fit it."""
    body = body[:8] + struct.pack("<I", len(body)) + body[12:]
    return body[:4] + struct.pack("<I", zlib.crc32(body[8:])) + body[8:]


SMALL = columns(
    [
        ("IN/m", "a", 1.0, 0.0, NOW, "one"),
        ("", "\0{ä}", 2.0, 1.5, NOW + 0.25, "twö"),
        ("IN/m", "a", 0.0, 1.0, NOW + 1, "three"),
    ]
)


@st.composite
def batches(draw: st.DrawFn) -> EventColumns:
    n = draw(st.integers(1, 12))
    trials = draw(st.lists(st.floats(0, 2.0**53), min_size=n, max_size=n))
    shares = draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
    times = draw(st.lists(st.floats(NOW - 1e8, NOW), min_size=n, max_size=n))
    given_ids = draw(st.none() | st.lists(ids, min_size=n, max_size=n))
    return EventColumns.of(
        {
            "segment": draw(st.lists(paths, min_size=n, max_size=n)),
            "arm": draw(st.lists(ids, min_size=n, max_size=n)),
            "trials": trials,
            "successes": [t * s if t else s for t, s in zip(trials, shares, strict=True)],
            "time": times,
            **({} if given_ids is None else {"event_id": given_ids}),
        },
        now=NOW,
    )


@given(batches())
def test_everything_comes_back_as_it_was(events: EventColumns) -> None:
    decoded = decode_events(encode_events(events), len(events))
    assert table(decoded.events) == table(events)
    assert decoded.index.tolist() == list(range(len(events)))
    assert decoded.rejects == []


def test_the_layout_is_the_documented_one() -> None:
    """Written down by hand from the module's description."""
    tables = struct.pack("<2H", 4, 0) + b"IN/m" + struct.pack("<2H", 1, 5) + "a\0{ä}".encode()
    places = bytes([0, 1, 0, 0, 1, 0])
    numbers = bytes([1, 2, 0])
    successes = struct.pack("<d3I", 0.0, 0, 3 << 21, 1 << 22)
    times = struct.pack("<d3I", NOW, 0, 1 << 20, 1 << 22)
    event_ids = struct.pack("<3H", 3, 4, 5) + "onetwöthree".encode()
    rest = tables + places + numbers + successes + times + event_ids
    counts = struct.pack("<3I", 3, 2, 2)
    checked = struct.pack("<IHBBBBH", 32 + len(rest), 1, 1, 2, 2, 1, 0) + counts + rest
    assert encode_events(SMALL) == b"BCEV" + struct.pack("<I", zlib.crc32(checked)) + checked


def test_every_truncation_and_every_bit_flip_is_found() -> None:
    body = encode_events(SMALL)
    damaged = [body[:length] for length in range(len(body))] + [body + b"\0"]
    damaged += [
        body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]
        for at in range(len(body))
        for bit in range(8)
    ]
    assert len(damaged) == 9 * len(body) + 1
    for each in damaged:
        with pytest.raises(CorruptDataError):
            decode_events(each)


@given(st.data())
def test_a_sealed_body_that_makes_no_sense_is_refused_or_read(data: st.DataObject) -> None:
    """What a checksum cannot tell: it comes from a program with an error, or from an enemy."""
    body = bytearray(encode_events(SMALL))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(14, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(HEADER, len(body)))
    try:
        decoded = decode_events(sealed(bytes(body[:cut])))
    except CorruptDataError:
        return
    assert len(decoded.events) + len(decoded.rejects) <= MAX_EVENTS


def test_a_place_outside_its_table_is_refused() -> None:
    body = bytearray(encode_events(SMALL))
    at = bytes(body).index(bytes([0, 1, 0, 0, 1, 0]))
    body[at] = 2
    with pytest.raises(CorruptDataError, match="sections"):
        decode_events(sealed(bytes(body)))


def test_nothing_may_follow_the_last_section() -> None:
    with pytest.raises(CorruptDataError, match="sections"):
        decode_events(sealed(encode_events(SMALL) + b"\0"))


def test_the_length_is_checked_before_the_rest_is_read() -> None:
    body = encode_events(SMALL)
    for each in (body[:-1], body + b"\0", body[:20], b""):
        with pytest.raises(CorruptDataError, match="the length of the body"):
            decode_events(each)


def test_a_newer_schema_is_not_taken_for_damage() -> None:
    body = encode_events(SMALL)
    with pytest.raises(ConfigurationConflictError, match="upgrade"):
        decode_events(sealed(body[:12] + struct.pack("<H", 2) + body[14:]))


def test_another_number_of_events_is_refused() -> None:
    with pytest.raises(CorruptDataError, match="4 were expected"):
        decode_events(encode_events(SMALL), 4)


@pytest.mark.parametrize(
    ("values", "kind", "size"),
    [
        ([0.5, 0.5, 0.5], 0, 8),
        ([0.0, 255.0, 1.0], 1, 3),
        ([0.0, 256.0, 1.0], 2, 20),
        ([0.0, 2**-23, 1.0], 3, 24),
        ([NOW + 2**-22, NOW, NOW + 1023.75], 2, 20),
        ([NOW, NOW + 1024, NOW], 3, 24),
        ([0.1, 0.2, 0.3], 3, 24),
        ([0.0, 2.0**53, 1.0], 3, 24),
    ],
)
def test_a_column_takes_the_smallest_kind_that_holds_it(
    values: list[float], kind: int, size: int
) -> None:
    rows = [("s", "a", 2.0**53, value, NOW, None) for value in values]
    body = encode_events(columns(rows))
    assert body[15] == kind
    assert len(body) == HEADER + (2 + 1) * 2 + 3 + 3 + 8 + size + 8
    assert decode_events(body).events.successes.tolist() == values


def test_events_that_are_not_valid_are_told_one_by_one() -> None:
    good = ("IN", "a", 1.0, 1.0, NOW, "x")
    bad = [
        ("IN//m", "a", 1.0, 1.0, NOW, "x"),
        ("IN", "", 1.0, 1.0, NOW, "x"),
        ("IN", "a", 1.0, 2.0, NOW, "x"),
        ("IN", "a", -1.0, 0.0, NOW, "x"),
        ("IN", "a", float("nan"), 0.0, NOW, "x"),
        ("IN", "a", 1.0, float("inf"), NOW, "x"),
        ("IN", "a", 1.0, 1.0, 12.0, "x"),
        ("IN", "a", 1.0, 1.0, NOW, "ü" * 129),
    ]
    rows = [good, *[row for each in bad for row in (each, good)]]
    with np.errstate(all="raise"):
        decoded = decode_events(encode_events(columns(rows)))
    assert table(decoded.events) == [good] * (len(bad) + 1)
    assert decoded.index.tolist() == list(range(0, len(rows), 2))
    assert [reject.index for reject in decoded.rejects] == list(range(1, len(rows), 2))
    words = ["segment", "arm", "at most the trials", "trials", "trials", "succ", "time", "event_id"]
    for reject, word, row in zip(decoded.rejects, words, bad, strict=True):
        assert word in reject.reason
        raw = json.loads(reject.raw)
        assert (raw["segment"], raw["arm"], raw["event_id"]) == (row[0], row[1], row[5])


def test_the_time_may_be_ahead_of_any_clock() -> None:
    rows = [("", "a", 1.0, 1.0, NOW * 2, None)]
    assert decode_events(encode_events(columns(rows))).rejects == []


def test_bounds() -> None:
    row = ("s", "a", 1.0, 1.0, NOW, None)
    assert len(decode_events(encode_events(columns([row] * MAX_EVENTS))).events) == MAX_EVENTS
    with pytest.raises(InvalidValueError, match="1 to 50000"):
        encode_events(columns([row] * (MAX_EVENTS + 1)))
    with pytest.raises(InvalidValueError, match="1 to 50000"):
        encode_events(columns([row]).rows(slice(0, 0)))
    large = [("s" * 256, f"{i:0256}", 1.0, 1.0, NOW, None) for i in range(2100)]
    with pytest.raises(InvalidValueError, match="fewer"):
        encode_events(columns(large))
    with pytest.raises(CorruptDataError, match="length"):
        decode_events(b"BCEV" + bytes(MAX_BODY_BYTES))


@pytest.mark.parametrize("segments", [256, 257])
def test_many_ids_take_two_bytes_a_place(segments: int) -> None:
    rows = [(f"s{i % segments}", f"a{i % 7}", 1.0, 1.0, NOW, None) for i in range(3 * segments)]
    body = encode_events(columns(rows))
    assert table(decode_events(body).events) == rows
    others = HEADER + 2 * segments + len("".join({row[0] for row in rows})) + 7 * 4 + 3 * 8
    assert len(body) - others == 3 * segments * (2 if segments == 256 else 3)


def test_events_are_split_into_bodies_that_fit_in_order() -> None:
    rows = [("s", f"{i:0200}", 1.0, 1.0, NOW + i, f"{i:0100}") for i in range(20_000)]
    few = columns(rows)
    wanted = np.arange(len(rows))[::-1][: 3 * MAX_EVENTS // 10]
    found = list(CodedEvents.of(few).bodies(wanted))
    assert sum(count for count, _ in found) == len(wanted)
    assert all(len(body) <= MAX_BODY_BYTES for _, body in found)
    assert len(found) <= 1.5 * sum(len(body) for _, body in found) / MAX_BODY_BYTES
    back = [row for count, body in found for row in table(decode_events(body, count).events)]
    assert back == [rows[i] for i in wanted]
    many = columns([("s", "a", 1.0, 1.0, NOW, None)] * (2 * MAX_EVENTS + 1))
    counts = [count for count, _ in CodedEvents.of(many).bodies(np.arange(len(many)))]
    assert counts == [MAX_EVENTS, MAX_EVENTS, 1]
