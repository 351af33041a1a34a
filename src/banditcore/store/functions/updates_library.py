"""Typed binding of updates.lua: one function here for each function there."""

from __future__ import annotations

from dataclasses import dataclass

from banditcore.store.functions.calling import Call
from banditcore.store.functions.words import number
from banditcore.store.keys import SegmentKeys

__all__ = ["FILE", "Held", "Window", "add_arms", "apply", "apply_batch", "apply_unique"]

FILE = "updates.lua"


@dataclass(frozen=True, slots=True)
class Held:
    """What an update believes of a segment, and the arms that it registers in the same step.

    Parameters
    ----------
    version, token : bytes
        As last read; if the segment has others by now, the update is answered STALE.
    new_token : bytes
        Of the registry with the new arms.
    count : int
        How many arms are new; 0 leaves the registry as it is.
    tail : bytes
        The new ids in their stored form.
    """

    version: bytes
    token: bytes
    new_token: bytes = b""
    count: int = 0
    tail: bytes = b""

    def arguments(self) -> tuple[bytes | str | int, ...]:
        """Return the words in the order in which every update takes them."""
        return (self.version, self.token, self.new_token, self.count, self.tail)


@dataclass(frozen=True, slots=True)
class Window:
    """How an update is told from its duplicates; times in seconds since 1970.

    Parameters
    ----------
    window_s, bucket_s : float
        Seconds; see `updates`.
    oldest : float or None
        The time of the oldest event; None to take any age.
    newest : float
        The time of the newest event.
    now : float or None
        None for the server's clock.
    """

    window_s: float
    bucket_s: float
    oldest: float | None
    newest: float
    now: float | None

    def arguments(self) -> tuple[str, ...]:
        """Return the words in the order in which updates with a window take them."""
        return tuple(
            map(number, (self.window_s, self.bucket_s, self.oldest, self.newest, self.now))
        )


def add_arms(keys: SegmentKeys, *, held: Held) -> Call:
    """Append ids to the registry."""
    return Call("add_arms", (keys.state, keys.arms), held.arguments(), file=FILE)


def apply(
    keys: SegmentKeys,
    *,
    held: Held,
    mark: str,
    epoch: int,
    expected: str,
    new: str,
    newest: float | None,
    now: float | None,
    deltas: bytes,
) -> Call:
    """Apply the deltas between two offsets of a partition, by compare-and-set on its mark."""
    times = (number(newest), number(now))
    arguments = (*held.arguments(), mark, epoch, expected, new, *times, deltas)
    return Call("apply", (keys.state, keys.arms), arguments, file=FILE)


def apply_batch(
    keys: SegmentKeys, *, held: Held, window: Window, digest: bytes, deltas: bytes
) -> Call:
    """Apply all deltas under one digest, once within the window."""
    arguments = (*held.arguments(), *window.arguments(), digest, deltas)
    of = (keys.state, keys.arms, keys.even, keys.odd)
    return Call("apply_batch", of, arguments, file=FILE)


def apply_unique(
    keys: SegmentKeys,
    *,
    held: Held,
    window: Window,
    digests: bytes,
    deltas: bytes,
    attempt: bytes,
) -> Call:
    """Apply each delta under a digest of its own, once within the window."""
    arguments = (*held.arguments(), *window.arguments(), digests, deltas, attempt)
    of = (keys.state, keys.arms, keys.even, keys.odd)
    return Call("apply_unique", of, arguments, file=FILE)
