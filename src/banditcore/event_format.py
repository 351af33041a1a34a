"""The packed form of events on their way through a stream.

Little-endian. A header of 32 bytes: magic ``BCEV``; CRC-32 of everything behind it, u32; length of
the whole, u32; schema (1), u16; the kinds of the columns trials, successes, times, u8 each; 1 if
there are event ids, u8; 0, u16; how many events, segments and arms there are, u32 each. Then,
without gaps: ids of the segments, ids of the arms; the place of each event's segment among them,
and of its arm, u8 or, if they are over 256, u16; trials, successes, times; event ids. Ids are all
their lengths in bytes, u16, then their UTF-8. A column of numbers is of kind

=  ==================================================================
0  one f64, the same for all events
1  whole numbers, u8
2  ticks of 2**-22 (what float64 resolves today, as seconds since 1970)
   beyond a first value: that f64, then u32 each
3  f64 each
=  ==================================================================

the first that holds all its values exactly.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import (
    BanditCoreError,
    ConfigurationConflictError,
    CorruptDataError,
    InvalidValueError,
    describe,
)
from banditcore.event_sections import SectionReader, pack_ids, pack_numbers, pack_places
from banditcore.events import EventColumns, count_rules, time_rules
from banditcore.identifiers import check_arm, check_id, check_segment

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_EVENTS",
    "CodedEvents",
    "Decoded",
    "Reject",
    "decode_events",
    "encode_events",
    "event_as_json",
]

Codes = NDArray[np.intp]

MAX_BODY_BYTES = 512 << 10
"""The largest body."""

MAX_EVENTS = 50_000
"""The most events of a body."""

_HEADER = struct.Struct("<4sIIHBBBBHIII")
_MAGIC = b"BCEV"
_CHECKED = 8  # the checksum covers what comes behind it
_SCHEMA = 1


@dataclass(frozen=True, slots=True, eq=False)
class CodedEvents:
    """n events whose segments and arms are places in tables of ids, ready to be packed.

    Attributes
    ----------
    segments, arms : list of str
        Distinct ids.
    segment_of, arm_of : (n,) intp
        The places of each event's ids in them.
    events : EventColumns
        What they are made from.
    """

    segments: list[str]
    arms: list[str]
    segment_of: Codes
    arm_of: Codes
    events: EventColumns

    @classmethod
    def of(cls, events: EventColumns) -> CodedEvents:
        """Return validated events with their tables."""
        segments, segment_of = _coded(events.segments)
        arms, arm_of = _coded(events.arms)
        return cls(segments, arms, segment_of, arm_of, events)

    def bodies(self, rows: Codes) -> Iterator[tuple[int, bytes]]:
        """Pack the events of some rows, in this order, into few bodies.

        Yields
        ------
        (int, bytes)
            How many events, at most `MAX_EVENTS`; their body, at most `MAX_BODY_BYTES`.
        """
        waiting = [rows[at : at + MAX_EVENTS] for at in range(0, len(rows), MAX_EVENTS)][::-1]
        while waiting:
            some = waiting.pop()
            body = self.body(some)
            if len(body) <= MAX_BODY_BYTES:
                yield len(some), body
            else:  # no single event is so large
                parts = 1 + math.ceil(1.05 * len(body) / MAX_BODY_BYTES)
                waiting += [part for part in np.array_split(some, parts)[::-1] if len(part)]

    def body(self, rows: Codes) -> bytes:
        """Pack the events of m >= 1 rows, however long it gets."""
        events = self.events
        segments, segment_of = _used(self.segments, self.segment_of[rows])
        arms, arm_of = _used(self.arms, self.arm_of[rows])
        kinds, columns = [], []
        for column in (events.trials, events.successes, events.times):
            kind, packed = pack_numbers(column[rows])
            kinds.append(kind)
            columns.append(packed)
        parts = [
            pack_ids(segments),
            pack_ids(arms),
            pack_places(segment_of, len(segments)),
            pack_places(arm_of, len(arms)),
            *columns,
        ]
        if events.event_ids is not None:
            ids = events.event_ids
            parts.append(pack_ids([ids[row] for row in rows.tolist()]))
        length = _HEADER.size + sum(map(len, parts))
        numbers = (len(rows), len(segments), len(arms))
        has_ids = int(events.event_ids is not None)
        header = _HEADER.pack(_MAGIC, 0, length, _SCHEMA, *kinds, has_ids, 0, *numbers)
        rest = b"".join((header[_CHECKED:], *parts))
        return _MAGIC + zlib.crc32(rest).to_bytes(4, "little") + rest


@dataclass(frozen=True, slots=True)
class Reject:
    """An event of a sound body that is not valid.

    Attributes
    ----------
    index : int
        Its place in the body, from 0.
    reason : str
        What is wrong with it.
    raw : bytes
        The event as JSON, for the dead letters.
    """

    index: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a body holds.

    Attributes
    ----------
    events : EventColumns
        (n,) the valid events.
    index : (n,) int64
        Their places in the body, ascending: the offset of an event is ``entry.first + index``.
    rejects : list of Reject
        The others, by place.
    """

    events: EventColumns
    index: NDArray[np.int64]
    rejects: list[Reject]


def encode_events(events: EventColumns) -> bytes:
    """Pack validated events.

    Parameters
    ----------
    events : EventColumns
        1 to 50,000; see `CodedEvents.bodies` for more.

    Returns
    -------
    bytes
        At most `MAX_BODY_BYTES`. Every number and id comes back as it was.

    Raises
    ------
    InvalidValueError
        There are none, too many, or their body would be too large.
    """
    if not 1 <= len(events) <= MAX_EVENTS:
        raise InvalidValueError(describe("len(events)", len(events), f"1 to {MAX_EVENTS}"))
    body = CodedEvents.of(events).body(np.arange(len(events)))
    if len(body) > MAX_BODY_BYTES:
        remedy = f"{MAX_BODY_BYTES} bytes at most: pack fewer events"
        raise InvalidValueError(describe("the length of the body", len(body), remedy))
    return body


def decode_events(body: bytes, count: int | None = None) -> Decoded:
    """Unpack events and validate them anew, except that times may be ahead of any clock.

    Parameters
    ----------
    body : bytes
        As stored.
    count : int, optional
        How many events there must be.

    Raises
    ------
    CorruptDataError
        The body is damaged, or holds another number of events: a case for the dead letters.
    ConfigurationConflictError
        It is sound, but packed by a newer release: upgrade this one. Nothing for the dead letters.
    """
    number, segment_count, arm_count, kinds, has_ids = _checked_header(body, count)
    reader = SectionReader(body, _HEADER.size)
    segments, arms = reader.ids(segment_count), reader.ids(arm_count)
    segment_of, arm_of = reader.places(number, segment_count), reader.places(number, arm_count)
    trials, successes, times = (reader.numbers(kind, number) for kind in kinds)
    event_ids = reader.ids(number) if has_ids else None
    reader.end()
    events = EventColumns(
        list(map(segments.__getitem__, segment_of.tolist())),
        list(map(arms.__getitem__, arm_of.tolist())),
        trials,
        successes,
        times,
        event_ids,
    )
    reasons: dict[int, str] = {}
    _find_bad_ids(reasons, segments, check_segment, segment_of)
    _find_bad_ids(reasons, arms, check_arm, arm_of)
    if event_ids is not None:
        _find_bad_ids(reasons, event_ids, _check_event_id, np.arange(number))
    for rules in (count_rules(trials, successes), time_rules(times, np.inf)):
        for bad, name, column, remedy in rules:
            for row in np.flatnonzero(bad).tolist():
                reasons.setdefault(row, describe(name, float(column[row]), remedy))
    if not reasons:
        return Decoded(events, np.arange(number), [])
    rejects = [Reject(row, reasons[row], event_as_json(events, row)) for row in sorted(reasons)]
    kept = np.setdiff1d(np.arange(number), [reject.index for reject in rejects])
    return Decoded(events.rows(kept), kept, rejects)


def _checked_header(body: bytes, count: int | None) -> tuple[int, int, int, tuple[int, ...], bool]:
    """Return the numbers of events, segments and arms, the kinds, and whether there are ids."""

    def corrupt(name: str, value: object, remedy: str) -> CorruptDataError:
        return CorruptDataError(describe(name, value, f"{remedy}; the packed events are not used"))

    if not _HEADER.size < len(body) <= MAX_BODY_BYTES:
        raise corrupt("the length of the body", len(body), f"at most {MAX_BODY_BYTES} bytes")
    magic, crc, length, schema, *kinds, has_ids, zero, n, segments, arms = _HEADER.unpack_from(body)
    if magic != _MAGIC:
        raise corrupt("magic", magic, f"{_MAGIC!r} was expected")
    if length != len(body):
        raise corrupt("the length of the body", len(body), f"its header says {length}")
    if zlib.crc32(memoryview(body)[_CHECKED:]) != crc:
        raise corrupt("checksum", crc, "it does not fit, so bytes were changed")
    if schema != _SCHEMA:
        raise ConfigurationConflictError(
            describe("schema", schema, "events packed by a newer release: upgrade this one first")
        )
    if not 1 <= n <= MAX_EVENTS or count not in (None, n):
        expected = f"1 to {MAX_EVENTS}" if count is None else str(count)
        raise corrupt("the number of events", n, f"{expected} were expected")
    if not (1 <= segments <= n and 1 <= arms <= n and has_ids <= 1 and zero == 0):
        raise corrupt("header", body[: _HEADER.size], "impossible")
    return n, segments, arms, tuple(kinds), bool(has_ids)


def _coded(values: list[str]) -> tuple[list[str], Codes]:
    table = list(dict.fromkeys(values))
    place = {value: i for i, value in enumerate(table)}
    return table, np.fromiter(map(place.__getitem__, values), np.intp, len(values))


def _used(table: list[str], places: Codes) -> tuple[list[str], Codes]:
    """Return the part of a table that is used, and places in it."""
    used = np.flatnonzero(np.bincount(places, minlength=len(table)))
    if len(used) == len(table):
        return table, places
    renumbered = np.empty(len(table), np.intp)
    renumbered[used] = np.arange(len(used))
    return [table[place] for place in used.tolist()], renumbered[places]


def _find_bad_ids(
    reasons: dict[int, str], ids: list[str], check: Callable[[object], str], places: Codes
) -> None:
    for place, value in enumerate(ids):
        try:
            check(value)
        except BanditCoreError as error:
            for row in np.flatnonzero(places == place).tolist():
                reasons.setdefault(row, str(error))


def _check_event_id(value: object) -> str:
    return check_id("event_id", value)


def event_as_json(events: EventColumns, row: int) -> bytes:
    """Return one event as JSON, for the dead letters."""
    fields = {
        "segment": events.segments[row],
        "arm": events.arms[row],
        "trials": float(events.trials[row]),
        "successes": float(events.successes[row]),
        "time": float(events.times[row]),
    }
    if events.event_ids is not None:
        fields["event_id"] = events.event_ids[row]
    return json.dumps(fields).encode()
