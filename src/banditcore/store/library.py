"""Typed binding of library.lua: one function here for each function there.

The library's name carries a digest of its text. Loading never replaces anything, so clients of
different releases can work on one server, each with the functions it was built with.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import ResponseError

from banditcore.store.connect import translating
from banditcore.store.keys import SegmentKeys

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = [
    "Call",
    "Reply",
    "add_arms",
    "apply",
    "apply_batch",
    "apply_unique",
    "compact",
    "library_name",
    "library_source",
    "open",
    "publish",
    "read",
    "rescale",
    "run",
]

Reply = list[bytes]


class Call(NamedTuple):
    """One call of a server-side function, not yet sent."""

    function: str
    keys: tuple[str, ...]
    arguments: tuple[bytes | str | int, ...]
    writes: bool = True

    def command(self) -> tuple[bytes | str | int, ...]:
        """Return the words of the command."""
        verb = "FCALL" if self.writes else "FCALL_RO"
        function = f"{library_name()}_{self.function}"
        return (verb, function, len(self.keys), *self.keys, *self.arguments)


def read(
    keys: SegmentKeys, *, known_token: bytes, known_bytes: int, known_sha1: str, with_counts: bool
) -> Call:
    """Read version, registry tail and, if asked, all counts of one moment."""
    arguments = (known_token, known_bytes, known_sha1, int(with_counts))
    return Call("read", (keys.state, keys.arms), arguments, writes=False)


def open(keys: SegmentKeys, *, version: bytes) -> Call:  # noqa: A001 - named as in the library
    """Create the segment unless it exists, then read it without counts."""
    return Call("open", (keys.state, keys.arms), (version,))


def add_arms(
    keys: SegmentKeys, *, version: bytes, token: bytes, new_token: bytes, count: int, tail: bytes
) -> Call:
    """Append ids to the registry."""
    return Call("add_arms", (keys.state, keys.arms), (version, token, new_token, count, tail))


def apply(
    keys: SegmentKeys,
    *,
    version: bytes,
    token: bytes,
    mark: str,
    epoch: int,
    expected: str,
    new: str,
    deltas: bytes,
) -> Call:
    """Apply the deltas between two offsets of a partition, by compare-and-set on its mark."""
    return Call("apply", (keys.state,), (version, token, mark, epoch, expected, new, deltas))


def apply_batch(
    keys: SegmentKeys,
    *,
    version: bytes,
    token: bytes,
    window: float,
    length: float,
    oldest: float | None,
    now: float | None,
    digest: bytes,
    deltas: bytes,
) -> Call:
    """Apply all deltas under one digest, once within the window."""
    ages = _numbers(window, length, oldest, now)
    arguments: tuple[bytes | str, ...] = (version, token, *ages, digest, deltas)
    return Call("apply_batch", (keys.state, keys.even, keys.odd), arguments)


def apply_unique(
    keys: SegmentKeys,
    *,
    version: bytes,
    token: bytes,
    window: float,
    length: float,
    oldest: float | None,
    now: float | None,
    digests: bytes,
    deltas: bytes,
) -> Call:
    """Apply each delta under a digest of its own, once within the window."""
    ages = _numbers(window, length, oldest, now)
    arguments: tuple[bytes | str, ...] = (version, token, *ages, digests, deltas)
    return Call("apply_unique", (keys.state, keys.even, keys.odd), arguments)


def rescale(keys: SegmentKeys, *, version: bytes, new_version: bytes, factor: bytes) -> Call:
    """Multiply all counts and set another version."""
    return Call("rescale", (keys.state,), (version, new_version, factor))


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
    return Call("compact", (keys.state, keys.arms), arguments)


def publish(keys: SegmentKeys, *, version: int, body: bytes) -> Call:
    """Replace the published blob unless a newer one is there."""
    return Call("publish", (keys.blob,), (version, body))


def run(store: Store, calls: Sequence[Call]) -> list[Reply]:
    """Send calls in one round trip and return their replies in order.

    A server without the library (new, or flushed) is given it, and the calls it refused are sent
    again: a refused call has changed nothing.

    Raises
    ------
    StoreError
        When the server is out of reach (then each call may or may not have run), or for the
        first call that failed (the others have run).
    """
    replies: list[Reply | Exception] = _send(store, calls)
    missing = [i for i, reply in enumerate(replies) if _is_function_missing(reply)]
    if missing:
        _load(store)
        for i, reply in zip(missing, _send(store, [calls[i] for i in missing]), strict=True):
            replies[i] = reply
    answered: list[Reply] = []
    for reply in replies:
        if isinstance(reply, Exception):
            with translating(store):
                raise reply
        answered.append(reply)
    return answered


@cache
def library_name() -> str:
    """Return the name of this release's library on the server."""
    return "banditcore_" + sha256(_template().encode()).hexdigest()[:12]


def library_source() -> str:
    """Return the text of the library as it is loaded."""
    return _template().replace("@LIBRARY@", library_name())


@cache
def _template() -> str:
    return files("banditcore.store").joinpath("library.lua").read_text("utf-8")


def _numbers(*values: float | None) -> tuple[str, ...]:
    """Return numbers with all their digits; "" stands for None."""
    return tuple("" if value is None else repr(float(value)) for value in values)


def _send(store: Store, calls: Sequence[Call]) -> list[Reply | Exception]:
    with translating(store):
        pipeline = store.client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.command())
        replies: list[Reply | Exception] = pipeline.execute(raise_on_error=False)
    return replies


def _is_function_missing(reply: object) -> bool:
    return isinstance(reply, ResponseError) and "function not found" in str(reply).lower()


def _load(store: Store) -> None:
    with translating(store):
        try:
            store.client.execute_command("FUNCTION", "LOAD", library_source())
        except ResponseError as error:
            # Another client was faster. The name is a digest of the text: it is the same library.
            if "already exists" not in str(error):
                raise
