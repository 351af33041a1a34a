"""Checks what is stored of a bandit's streams: entries, offsets, dead letters, leases."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError
from banditcore.maintenance.segment_checks import Problem
from banditcore.store import keys, keyspace
from banditcore.store.event_streams import dead_letters, partitions, refusing
from banditcore.store.event_streams.dead_letters import letter_of
from banditcore.store.functions import calling, stream_library
from banditcore.store.keys import PartitionKeys
from banditcore.store.seals import unseal
from banditcore.store.servers.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["PARTITION_TYPES", "check_other_sources", "check_passing", "check_streams"]

PARTITION_TYPES = {"x": "stream", "o": "hash", "d": "zset", "l": "hash"}
"""The type of each key of a partition, by the end of its name."""

_ENTRIES = 256  # at once: the server walks over their bodies, and answers nobody else meanwhile
_LETTERS = 16  # at once: each may hold a whole body
_NUMBER = re.compile(rb"0|[1-9]\d{0,15}")
_ENTRY = re.compile(rb"([1-9]\d{0,15})-([1-9]\d{0,15})")
_APPENDED = re.compile(rb"[1-9]\d{0,15} [1-9]\d{0,15}")
_OFFSETS = ("end", "total", "bytes", "applied", "applied_total", "dead", "dead_bytes")
_PASSING_TYPES = {b":e:": "string", b":l:": "hash", b":n:": "zset"}

_STOP = "stop its producers and workers, forget the bandit or import an export of it"
_ADVANCE = "start a worker (`banditcore ingest --follow`): it lets new offsets begin beyond"
_LEARN = "have them known again: `banditcore dead-letters --bandit NAME --source group:KEY`"
_FREE = "remove the key when no worker runs"
_LEASE_FIELDS = {b"token", b"epoch", b"until"}


def check_streams(store: Store, bandit: str, marks: Mapping[int, int]) -> Iterator[Problem]:
    """Yield what is wrong with a bandit's streams. Producers and workers may go on.

    Parameters
    ----------
    store : Store
        Where.
    bandit : str
        Whose.
    marks : mapping of int to int
        Partition -> the highest mark of any segment. Read before this is called: offsets only grow.
    """
    key = keys.of_bandit(bandit).streams
    [kind] = keyspace.types(store, [key])
    number = 0
    if kind not in ("none", "hash"):
        yield Problem(key, f"is a {kind}, not a hash", "remove it; the next producer agrees anew")
        return
    try:
        number = partitions.load(store, bandit) or 0
    except CorruptDataError as error:
        yield Problem(key, str(error), f"HSET it to what producers were told, {partitions.DEFAULT}")
        return
    for partition in range(number):
        yield from _check_partition(
            store, keys.of_partition(bandit, partition), marks.get(partition, -1)
        )
    for partition, mark in sorted(marks.items()):
        if number and partition >= number:
            yield Problem(
                key,
                f"says {number} partitions, a segment has the mark {mark} of partition {partition}",
                "forget the segments that have it, or import an export",
            )


def check_other_sources(store: Store, bandit: str) -> Iterator[Problem]:
    """Yield what is wrong with dead letters of other sources. Workers may go on."""
    key = keys.of_bandit(bandit).refusing
    [kind] = keyspace.types(store, [key])
    if kind not in ("none", "set"):
        yield Problem(key, f"is a {kind}, not a set", f"remove it, then {_LEARN}")
        return
    for member in sorted(set(keyspace.members(store, key))):
        try:
            source, partition = refusing.parse(member)
        except CorruptDataError as error:
            yield Problem(key, f"has the member {member!r}: {error}", f"SREM it, then {_LEARN}")
            continue
        where = dead_letters.keys_of(bandit, partition, source)
        whose = f" of {source!r}, partition {partition},"
        named = f" --bandit {shlex.quote(bandit)} --source {shlex.quote(source)}"
        which = (whose, f"{named} --partitions {partition}")
        yield from _check_partition(store, where, -1, which)


def check_passing(store: Store, names: Sequence[bytes]) -> Iterator[Problem]:
    """Yield what is wrong with keys of producers, leases of jobs and presence of workers."""
    shown = [name.decode() for name in names]
    found = keyspace.types(store, shown)
    for name, kind in zip(shown, found, strict=True):
        wanted = next(wanted for mark, wanted in _PASSING_TYPES.items() if mark.decode() in name)
        if kind == "none":  # it was released, or expired
            continue
        if kind != wanted:
            yield Problem(name, f"is a {kind}, not a {wanted}", "remove it")
        elif kind == "hash":
            yield from _check_lease(name, keyspace.fields(store, name))
        elif kind == "string":
            yield from _check_producer(store, name)


def _check_partition(
    store: Store, where: PartitionKeys, mark: int, which: tuple[str, str] = ("", "")
) -> Iterator[Problem]:
    """Check one; `which` says whose letters it has, and by what options they are shown."""
    wrong_types = False
    found = keyspace.types(store, where)
    for name, kind, wanted in zip(where, found, PARTITION_TYPES.values(), strict=True):
        if kind not in ("none", wanted):
            wrong_types = True
            yield Problem(name, f"is a {kind}, not a {wanted}", f"remove the key; {_STOP}")
    if wrong_types:
        return
    walk = _Walk(store, where)
    yield from walk.problems()
    stored = keyspace.fields(store, where.offsets)  # after the entries: it only grows
    numbers = {}
    for field, raw in stored.items():
        shown = f"{where.offsets} {field.decode(errors='backslashreplace')}"
        if field.decode(errors="replace") not in _OFFSETS:
            yield Problem(shown, "is an unknown field", "HDEL it: this release writes no such")
        elif _NUMBER.fullmatch(raw) is None and raw != b"-1":
            yield Problem(shown, f"is {raw!r}, no whole number", _STOP)
            return
        else:
            numbers[field.decode()] = int(raw)
    end, total = numbers.get("end", 0), numbers.get("total", 0)
    if walk.last > end:
        yield Problem(
            f"{where.offsets} end", f"is {end}, the stream holds events up to {walk.last}", _ADVANCE
        )
    if walk.after > total:
        yield Problem(
            f"{where.offsets} total", f"is {total}, the stream holds event {walk.after}", _STOP
        )
    if numbers.get("applied_total", 0) > total:
        what = f"is {numbers['applied_total']} of {total} events"
        yield Problem(f"{where.offsets} applied_total", what, _STOP)
    applied = max(numbers.get("applied", -1), mark)
    if walk.last <= end < applied:
        what = f"is {end}, but events are applied up to {applied}: new ones would not count"
        yield Problem(f"{where.offsets} end", what, _ADVANCE)
    yield from _check_letters(store, where.dead, *which)
    yield from _check_lease(where.lease, keyspace.fields(store, where.lease))


class _Walk:
    """Walks over the entries of a stream, of which a page at a time is in memory.

    Attributes
    ----------
    last : int
        The last offset of the entries so far.
    after : int
        Events that were appended before the next entry, as the last one says; 0 before any.
    """

    def __init__(self, store: Store, where: PartitionKeys) -> None:
        self._store = store
        self._where = where
        self.last = 0
        self.after = 0

    def problems(self) -> Iterator[Problem]:
        name = b""
        while True:
            call = stream_library.survey(self._where, after=name, entries=_ENTRIES)
            [page] = calling.run(self._store, [call])
            for name, before, size in zip(page[::3], page[1::3], page[2::3], strict=True):
                yield from self._check_entry(name, before, size)
            if len(page) < 3 * _ENTRIES:
                return

    def _check_entry(self, name: bytes, before: bytes, size: bytes) -> Iterator[Problem]:
        where = f"{self._where.stream} {name.decode()}"
        match = _ENTRY.fullmatch(name)
        if match is None:
            yield Problem(where, "is no entry that a producer appended", "XDEL it")
            return
        first, count = int(match[1]), int(match[2])
        if first <= self.last:
            what = f"begins within the entry before it, which ends with {self.last}"
            yield Problem(where, what, f"XDEL one of them, or {_STOP}")
        self.last = max(self.last, first + count - 1)
        if not size:
            yield Problem(where, "holds no events", "XDEL it")
        if _NUMBER.fullmatch(before) is None:
            yield Problem(where, f"says that {before!r} events came before it", _STOP)
            return
        if int(before) < self.after:
            what = f"says that {int(before)} events came before it, there were {self.after}"
            yield Problem(where, what, _STOP)
        self.after = max(self.after, int(before) + count)


def _check_letters(store: Store, key: str, whose: str, options: str) -> Iterator[Problem]:
    after, number = b"-inf", 0
    while True:
        words = ("ZRANGEBYSCORE", key, after, "+inf", "WITHSCORES", "LIMIT", 0, _LETTERS)
        [page] = store.replies([Command(key, words)])
        for member, score in zip(page[::2], page[1::2], strict=True):
            number += 1
            try:
                offset = letter_of(member).offset
            except CorruptDataError:
                yield Problem(f"{key} {member[:40]!r}", "is no dead letter", "ZREM it")
                continue
            if offset != float(score):
                what = f"stands at {score.decode()}, and says that its offset is {offset}"
                yield Problem(f"{key} {offset}", what, "ZREM it")
        if len(page) < 2 * _LETTERS:
            break
        after = b"(" + page[-1]
    if number:
        what = f"keeps {number} events{whose} that could not be used"
        yield Problem(key, what, f"see why with `banditcore dead-letters{options}`", is_note=True)


def _check_lease(name: str, fields: Mapping[bytes, bytes]) -> Iterator[Problem]:
    if not fields:
        return
    if fields.keys() != _LEASE_FIELDS:
        what = f"has the fields {sorted(fields)}, not those of a lease"
        yield Problem(name, what, _FREE)
        return
    for field in (b"epoch", b"until"):
        if _NUMBER.fullmatch(fields[field]) is None:
            what = f"is {fields[field]!r}, no whole number"
            yield Problem(f"{name} {field.decode()}", what, _FREE)


def _check_producer(store: Store, name: str) -> Iterator[Problem]:
    expiry, value = store.replies(
        [Command(name, ("PEXPIRETIME", name)), Command(name, ("GET", name))]
    )
    if expiry == -1:
        yield Problem(name, "never expires", f"EXPIRE it in {24 * 3600} s")
    if value is not None and not _is_appended(value):
        what = f"is {value[:40]!r}: no sequence and offset"
        yield Problem(name, what, "remove it; its producer must start again")


def _is_appended(value: bytes) -> bool:
    try:
        return _APPENDED.fullmatch(unseal(value, "producer", "")) is not None
    except CorruptDataError:
        return False
