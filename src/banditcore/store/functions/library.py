"""Typed binding of library.lua: one function here for each function there."""

from __future__ import annotations

from banditcore.store.functions.calling import Call
from banditcore.store.functions.words import number
from banditcore.store.keys import BanditKeys, SegmentKeys

__all__ = [
    "FILE",
    "agree",
    "compact",
    "open_segment",
    "publish",
    "read",
    "rescale",
    "restamp",
    "settle",
    "sign",
]

FILE = "library.lua"


def read(
    keys: SegmentKeys, *, known_token: bytes, known_bytes: int, known_sha1: str, with_counts: bool
) -> Call:
    """Read version, registry tail and, if asked, all counts of one moment."""
    arguments = (known_token, known_bytes, known_sha1, int(with_counts))
    return Call("read", (keys.state, keys.arms), arguments, file=FILE, writes=False)


def sign(keys: SegmentKeys) -> Call:
    """Return a digest of all that the segment's counts follow from."""
    return Call("sign", (keys.state,), (), file=FILE, writes=False)


def open_segment(keys: SegmentKeys, *, version: bytes) -> Call:
    """Create the segment unless it exists, then read it without counts."""
    return Call("open_segment", (keys.state, keys.arms), (version,), file=FILE)


def rescale(
    keys: SegmentKeys,
    *,
    version: bytes,
    new_version: bytes,
    landmark: float,
    now: float | None,
    factor: bytes,
) -> Call:
    """Multiply all counts and set another version."""
    arguments = (version, new_version, number(landmark), number(now), factor)
    return Call("rescale", (keys.state,), arguments, file=FILE)


def compact(
    keys: SegmentKeys,
    *,
    version: bytes,
    token: bytes,
    new_version: bytes,
    new_token: bytes,
    new_registry: bytes,
    kept: bytes,
) -> Call:
    """Keep the given slots only, renumbered, under a new epoch."""
    arguments = (version, token, new_version, new_token, new_registry, kept)
    return Call("compact", (keys.state, keys.arms), arguments, file=FILE)


def publish(keys: SegmentKeys, *, version: int, body: bytes) -> Call:
    """Replace the published blob unless a newer one is there."""
    return Call("publish", (keys.blob,), (version, body), file=FILE)


def restamp(keys: SegmentKeys, *, expected: bytes, header: bytes, body_sha1: str) -> Call:
    """Put another header before a published body, if both are still the expected ones."""
    return Call("restamp", (keys.blob,), (expected, header, body_sha1), file=FILE)


def agree(keys: BanditKeys, *, half_life_s: str, window_s: str) -> Call:
    """Settle what a bandit is kept with, unless that was done before; return what it is."""
    return Call("agree", (keys.settings,), (half_life_s, window_s), file=FILE)


def settle(keys: BanditKeys, *, half_life_s: str, window_s: str) -> Call:
    """Replace what a bandit is kept with, unless it is being imported."""
    return Call("settle", (keys.settings,), (half_life_s, window_s), file=FILE)
