"""Typed binding of maintenance.lua: one function here for each function there."""

from __future__ import annotations

from banditcore.store.functions.calling import Call
from banditcore.store.keys import BanditKeys, SegmentKeys

__all__ = [
    "FILE",
    "begin_import",
    "dump_segment",
    "end_import",
    "forget_bandit",
    "forget_segment",
    "restore_segment",
]

FILE = "maintenance.lua"


def dump_segment(keys: SegmentKeys, *, with_digests: bool) -> Call:
    """Read all of a segment but its blob, at one moment."""
    return Call("dump_segment", keys, (int(with_digests),), writes=False, file=FILE)


def restore_segment(
    keys: SegmentKeys,
    *,
    registry: bytes,
    even_expiry: int,
    even: bytes,
    odd_expiry: int,
    odd: bytes,
    fields: bytes,
) -> Call:
    """Put a dumped segment in the place of whatever is there. Expiries in ms since 1970, or -1."""
    arguments = (registry, even_expiry, even, odd_expiry, odd, fields)
    return Call("restore_segment", keys, arguments, file=FILE)


def forget_segment(keys: SegmentKeys, *, keep_marks: bool) -> Call:
    """Remove a segment, or all of it but marks and windows."""
    return Call("forget_segment", keys, (int(keep_marks),), file=FILE)


def begin_import(keys: BanditKeys, *, token: bytes, paths: bytes, bandit: bytes) -> Call:
    """Close a bandit without segments to all but one import; see `library.packed`."""
    return Call("begin_import", (keys.settings, keys.segments), (token, paths, bandit), file=FILE)


def end_import(keys: BanditKeys, *, token: bytes, kept: bytes, read: bytes, paths: bytes) -> Call:
    """Open it with settings, checkpoints and segments; see `library.packed`."""
    of = (keys.settings, keys.segments, keys.checkpoints)
    return Call("end_import", of, (token, kept, read, paths), file=FILE)


def forget_bandit(keys: BanditKeys) -> Call:
    """Remove what exists once a bandit, unless its index has segments."""
    of = (keys.settings, keys.segments, keys.checkpoints)
    return Call("forget_bandit", of, (), file=FILE)
