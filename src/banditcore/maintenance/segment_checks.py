"""Checks everything that is stored of one segment, but its slates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from banditcore.errors import BanditCoreError, CorruptDataError
from banditcore.events import MAX_AHEAD_S
from banditcore.identifiers import check_arm
from banditcore.store.counts.dump import SegmentDump
from banditcore.store.counts.registry import check_token, decode_ids, digest_of
from banditcore.store.counts.settings import Settings
from banditcore.store.counts.version import SegmentVersion
from banditcore.store.seals import unseal

__all__ = ["KEY_TYPES", "Problem", "check_segment_dump"]

KEY_TYPES = {"s": "hash", "a": "string", "w:0": "set", "w:1": "set", "b": "string"}
"""The type of each key of a segment, by the end of its name."""

_SLOTS_PER_CHUNK = 128
_SLOT_BYTES = 16
_CHUNK = re.compile(rb"c:(0|[1-9]\d{0,9})")
_MARK_FIELD = re.compile(r"m:(\d{1,4}):(.*)", re.DOTALL)
_MARK = re.compile(rb"\d+ \d+(?:-[0-9a-f]+)?")
_NUMBER = re.compile(rb"0|[1-9]\d{0,15}")
_ROUNDING = 1e-9  # relative; sums of the same events in another order

_FORGET = "forget this segment and ingest its logs anew, or restore an export"
_NOT_OURS = "remove it: this release writes no such thing"


class Problem(NamedTuple):
    """Something about one key or field of a segment."""

    where: str
    what: str
    remedy: str
    is_note: bool = False


def check_segment_dump(dumped: SegmentDump, settings: Settings | None) -> Iterator[Problem]:
    """Yield what is wrong with a segment that was dumped without its digests.

    Parameters
    ----------
    dumped : SegmentDump
        Read at one moment.
    settings : Settings or None
        The bandit's, to compare; None if they cannot be read.
    """
    wrong_types = False
    for (key, wanted), found in zip(KEY_TYPES.items(), dumped.types, strict=True):
        if found not in ("none", wanted):
            wrong_types = True
            yield Problem(key, f"is a {found}, not a {wanted}", f"remove the key; {_FORGET}")
    if wrong_types:
        return
    if not dumped.fields:
        for key, found in zip(("a", "w:0", "w:1"), dumped.types[1:4], strict=True):
            if found != "none":
                yield Problem(key, "exists without counts", _FORGET)
        return
    yield from _check_version(dumped, settings)
    arms, problems = _check_registry(dumped)
    yield from problems
    yield from _check_fields(dumped, arms)
    yield from _check_windows(dumped)


def _check_version(dumped: SegmentDump, settings: Settings | None) -> Iterator[Problem]:
    raw = dumped.fields.get(b"v")
    if raw is None:
        yield Problem("v", "is missing", _FORGET)
        return
    try:
        version = SegmentVersion.unpack(raw, "")
    except CorruptDataError:
        yield Problem("v", f"is {raw!r}: no version of this release", f"upgrade, or {_FORGET}")
        return
    half_life, window = version.half_life_s, version.window_s
    if not math.isfinite(version.landmark):
        yield Problem("v", f"has the landmark {version.landmark}", _FORGET)
    if half_life is not None and not (math.isfinite(half_life) and half_life > 0):
        yield Problem("v", f"has the half-life {half_life}", _FORGET)
    elif settings is not None and half_life != settings.half_life_s:
        yield Problem(
            "v",
            f"has the half-life {half_life}, its bandit {settings.half_life_s}",
            "call change_half_life once more",
            is_note=True,
        )
    if not (math.isfinite(window) and window > 0):
        yield Problem("v", f"has the window {window}", _FORGET)


def _check_registry(dumped: SegmentDump) -> tuple[int | None, list[Problem]]:
    """Return how many slots there are, None if that is unclear, and what is wrong."""
    problems = []
    raw = _unsealed(dumped.fields[b"n"]) if b"n" in dumped.fields else b"0"
    slots = int(raw) if raw is not None and _NUMBER.fullmatch(raw) else None
    if slots is None:
        problems.append(Problem("n", f"is {dumped.fields[b'n']!r}, no number of arms", _FORGET))
    try:
        arms = decode_ids(dumped.registry)
        for arm in arms:
            check_arm(arm)
    except BanditCoreError as error:
        problems.append(Problem("a", str(error), _FORGET))
        return slots, problems
    if len(set(arms)) != len(arms):
        problems.append(Problem("a", "names an arm twice", _FORGET))
    if slots is not None and len(arms) != slots:
        problems.append(Problem("a", f"names {len(arms)} arms, n says {slots}", _FORGET))
    if arms and not dumped.fields.get(b"t"):
        problems.append(Problem("t", "is missing beside arms", _FORGET))
    elif not problems:
        try:
            check_token(dumped.fields.get(b"t", b""), digest_of(dumped.registry), "of it")
        except CorruptDataError as error:
            problems.append(Problem("a", str(error), _FORGET))
    return slots, problems


def _check_fields(dumped: SegmentDump, arms: int | None) -> Iterator[Problem]:
    for field, value in dumped.fields.items():
        shown = field.decode(errors="backslashreplace")
        chunk = _CHUNK.fullmatch(field)
        if chunk is not None:
            if arms is not None:
                yield from _check_chunk(shown, int(chunk[1]), value, arms)
        elif field.startswith(b"m:"):
            if not _is_mark_field(field):
                yield Problem(shown, "is no name of a mark", _NOT_OURS)
            elif _MARK.fullmatch(_unsealed(value) or b"") is None:
                yield Problem(shown, f"is {value!r}: no epoch and offset", _FORGET)
        elif field not in (b"v", b"t", b"n", b"w:0", b"w:1"):
            yield Problem(shown, "is an unknown field", _NOT_OURS)


def _is_mark_field(field: bytes) -> bool:
    try:
        match = _MARK_FIELD.fullmatch(field.decode())
    except UnicodeDecodeError:
        return False
    return match is not None and match[2][int(match[1]) : int(match[1]) + 1] == ":"


def _unsealed(raw: bytes) -> bytes | None:
    try:
        return unseal(raw, "", "")
    except CorruptDataError:
        return None


def _check_chunk(shown: str, chunk: int, stored: bytes, arms: int) -> Iterator[Problem]:
    room = min(_SLOTS_PER_CHUNK, arms - chunk * _SLOTS_PER_CHUNK)
    if room <= 0:
        yield Problem(shown, f"stands beyond the {arms} arms", _FORGET)
        return
    raw = _unsealed(stored)
    if raw is None:
        yield Problem(shown, "is damaged: its checksum is wrong", _FORGET)
        return
    if len(raw) % _SLOT_BYTES or len(raw) > room * _SLOT_BYTES:
        yield Problem(
            shown, f"has {len(raw)} bytes, {_SLOT_BYTES} for each of {room} arms", _FORGET
        )
        return
    trials, successes = np.frombuffer(raw, dtype="<f8").reshape(-1, 2).T
    for name, column in (("trials", trials), ("successes", successes)):
        bad = ~(np.isfinite(column) & (column >= 0))
        if bad.any():
            slot = chunk * _SLOTS_PER_CHUNK + int(bad.argmax())
            yield Problem(shown, f"slot {slot} has {column[bad.argmax()]} {name}", _FORGET)
            return
    excess = int((successes > trials * (1 + _ROUNDING)).sum())
    if excess:
        yield Problem(
            shown,
            f"{excess} arms have more successes than trials",
            "none is needed while rewards come before their exposures; else look at the events",
            is_note=True,
        )


def _check_windows(dumped: SegmentDump) -> Iterator[Problem]:
    for parity in (0, 1):
        name = f"w:{parity}"
        raw = dumped.fields.get(name.encode())
        bucket = b"" if raw is None else _unsealed(raw) or b""
        if raw is not None and not (_NUMBER.fullmatch(bucket) and int(bucket) % 2 == parity):
            yield Problem(name, f"is {raw!r}, no window bucket of its parity", _FORGET)
        if dumped.types[2 + parity] == "none":
            continue  # expired, or nothing was recorded with ids
        if raw is None:
            yield Problem(name, "is a set of no window bucket", "remove the key")
        if dumped.expiries[parity] == -1:
            yield Problem(name, "never expires", f"EXPIRE it in {MAX_AHEAD_S * 4:.0f} s")
