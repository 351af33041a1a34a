"""Typed binding of library.lua and updates.lua: one function here for each function there.

A library's name carries a digest of its text, prelude included. Loading never replaces anything, so
clients of different releases can work on one server, each with the functions it was built with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import ResponseError

from banditcore.store.keys import BanditKeys, SegmentKeys
from banditcore.store.servers.translation import translated, translating
from banditcore.store.servers.transport import Command, Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = [
    "FILE",
    "UPDATES",
    "Call",
    "Held",
    "Reply",
    "Window",
    "add_arms",
    "agree",
    "apply",
    "apply_batch",
    "apply_unique",
    "attempt",
    "compact",
    "library_name",
    "library_source",
    "load",
    "open_segment",
    "packed",
    "publish",
    "read",
    "rescale",
    "restamp",
    "run",
    "settle",
    "sign",
    "unpacked",
]

Reply = list[bytes]

FILE = "library.lua"
UPDATES = "updates.lua"

_PRELUDE = "-- @PRELUDE@\n"

_RELOADS = 5
"""Times that a call loads the library when others flush it all the time."""


class Call(NamedTuple):
    """One call of a server-side function, not yet sent."""

    function: str
    keys: tuple[str, ...]
    arguments: tuple[bytes | str | int, ...]
    writes: bool = True
    file: str = FILE  # of the library that holds the function

    def command(self) -> tuple[bytes | str | int, ...]:
        """Return the words of the command."""
        verb = "FCALL" if self.writes else "FCALL_RO"
        function = f"{library_name(self.file)}_{self.function}"
        return (verb, function, len(self.keys), *self.keys, *self.arguments)


def read(
    keys: SegmentKeys, *, known_token: bytes, known_bytes: int, known_sha1: str, with_counts: bool
) -> Call:
    """Read version, registry tail and, if asked, all counts of one moment."""
    arguments = (known_token, known_bytes, known_sha1, int(with_counts))
    return Call("read", (keys.state, keys.arms), arguments, writes=False)


def sign(keys: SegmentKeys) -> Call:
    """Return a digest of all that the segment's counts follow from."""
    return Call("sign", (keys.state,), (), writes=False)


def open_segment(keys: SegmentKeys, *, version: bytes) -> Call:
    """Create the segment unless it exists, then read it without counts."""
    return Call("open_segment", (keys.state, keys.arms), (version,))


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
            map(_number, (self.window_s, self.bucket_s, self.oldest, self.newest, self.now))
        )


def add_arms(keys: SegmentKeys, *, held: Held) -> Call:
    """Append ids to the registry."""
    return Call("add_arms", (keys.state, keys.arms), held.arguments(), file=UPDATES)


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
    times = (_number(newest), _number(now))
    arguments = (*held.arguments(), mark, epoch, expected, new, *times, deltas)
    return Call("apply", (keys.state, keys.arms), arguments, file=UPDATES)


def apply_batch(
    keys: SegmentKeys, *, held: Held, window: Window, digest: bytes, deltas: bytes
) -> Call:
    """Apply all deltas under one digest, once within the window."""
    arguments = (*held.arguments(), *window.arguments(), digest, deltas)
    of = (keys.state, keys.arms, keys.even, keys.odd)
    return Call("apply_batch", of, arguments, file=UPDATES)


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
    return Call("apply_unique", of, arguments, file=UPDATES)


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
    arguments = (version, new_version, _number(landmark), _number(now), factor)
    return Call("rescale", (keys.state,), arguments)


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


def restamp(keys: SegmentKeys, *, expected: bytes, header: bytes, body_sha1: str) -> Call:
    """Put another header before a published body, if both are still the expected ones."""
    return Call("restamp", (keys.blob,), (expected, header, body_sha1))


def agree(keys: BanditKeys, *, half_life_s: str, window_s: str) -> Call:
    """Settle what a bandit is kept with, unless that was done before; return what it is."""
    return Call("agree", (keys.settings,), (half_life_s, window_s))


def settle(keys: BanditKeys, *, half_life_s: str, window_s: str) -> Call:
    """Replace what a bandit is kept with, unless it is being imported."""
    return Call("settle", (keys.settings,), (half_life_s, window_s))


def packed(strings: Iterable[bytes]) -> bytes:
    """Return a list of strings as one: for each its length as u32, then itself."""
    return b"".join(len(string).to_bytes(4, "little") + string for string in strings)


def unpacked(packed: bytes) -> list[bytes] | None:
    """Return the strings of a packed list; None when it is cut."""
    strings, at = [], 0
    while at < len(packed):
        start = at + 4
        at = start + int.from_bytes(packed[at:start], "little")
        if start > len(packed) or at > len(packed):
            return None
        strings.append(packed[start:at])
    return strings


def run(store: Store, calls: Sequence[Call]) -> list[Reply]:
    """Send calls in one round trip to each server and return their replies in order.

    A server without the library (new, or flushed) is given it, and the calls it refused are sent
    again: a refused call has changed nothing.

    Raises
    ------
    StoreError
        For the first call that failed. The others have run, or, where a server is out of reach,
        may or may not have run.
    """
    replies: list[Reply] = []
    for answer in attempt(store, calls):
        if isinstance(answer, Failure):
            raise translated(answer.error, store, answer.node) from answer.error
        replies.append(answer)
    return replies


def attempt(store: Store, calls: Sequence[Call]) -> list[Reply | Failure]:
    """Send calls as `run` does; return for each its reply or what kept it from having one."""
    commands = [Command(call.keys[0], call.command()) for call in calls]
    answers: list[Reply | Failure] = store.send(commands)
    for _ in range(_RELOADS):
        missing = {
            i: answer.node
            for i, answer in enumerate(answers)
            if isinstance(answer, Failure) and _is_function_missing(answer.error)
        }
        if not missing:
            break
        wanted = {(node, calls[i].file) for i, node in missing.items()}
        for node, file in sorted(wanted):
            _load(store, node, file)
        again = store.send([commands[i] for i in missing])
        for i, answer in zip(missing, again, strict=True):
            answers[i] = answer
    return answers


def load(store: Store, file: str) -> None:
    """Give every server a library before it is called; who has it keeps it.

    Raises
    ------
    StoreError
        A server cannot be reached, or does not permit it.
    """
    for node in store.servers():
        _load(store, node, file)


@cache
def library_name(file: str = FILE) -> str:
    """Return the name of this release's library on the server."""
    return "banditcore_" + sha256(_template(file).encode()).hexdigest()[:12]


def library_source(file: str = FILE) -> str:
    """Return the text of the library as it is loaded."""
    return _template(file).replace("@LIBRARY@", library_name(file))


@cache
def _template(file: str) -> str:
    text = files("banditcore.store.functions").joinpath(file).read_text("utf-8")
    if _PRELUDE in text:
        text = text.replace(_PRELUDE, _template("prelude.lua"))
    return text


def _number(value: float | None) -> str:
    """Return a number with all its digits; "" stands for None."""
    return "" if value is None else repr(float(value))


def _is_function_missing(error: Exception) -> bool:
    return isinstance(error, ResponseError) and "function not found" in str(error).lower()


def _load(store: Store, node: str, file: str) -> None:
    with translating(store, node):
        try:
            store.server(node).execute_command("FUNCTION", "LOAD", library_source(file))
        except ResponseError as error:
            # Another client was faster. The name is a digest of the text: it is the same library.
            if "already exists" not in str(error):
                raise
