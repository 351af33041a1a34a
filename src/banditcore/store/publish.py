"""Published blobs: whole, newest wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from banditcore.errors import CorruptDataError, StoreUnavailableError, describe
from banditcore.store import keys
from banditcore.store.functions import calling, library
from banditcore.store.servers.translation import translated
from banditcore.store.servers.transport import Answer, Command, Failure

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = [
    "HEADER_BYTES",
    "HeaderReader",
    "Published",
    "Restamp",
    "fetch",
    "fetch_one",
    "headers",
    "publish",
    "restamp",
    "withdraw",
]

Published = bytes | CorruptDataError | StoreUnavailableError
"""What is read of a segment's blob, or why nothing can be: it is damaged, or its node is silent."""

HEADER_BYTES = 32

_WORDS: dict[bytes, Literal["OK", "OTHER", "SUPERSEDED"]] = {
    b"OK": "OK",
    b"OTHER": "OTHER",
    b"SUPERSEDED": "SUPERSEDED",
}
_MOST_AT_ONCE = 20_000  # commands in one round trip, some 2 MB


class HeaderReader:
    """Reads `headers` of the same segments again and again, in half the time.

    Parameters
    ----------
    bandit : str
        Their bandit.
    segments : sequence of str
        Which.
    """

    def __init__(self, bandit: str, segments: Sequence[str]) -> None:
        self.segments = tuple(segments)
        self._commands = _commands(bandit, segments, HEADER_BYTES)

    def read(self, store: Store) -> list[Published]:
        """Return what `headers` does, in a round trip for each 20,000 segments."""
        return _read(store, self.segments, self._commands)


def publish(store: Store, bandit: str, segment: str, blob: bytes, version: int) -> bool:
    """Make `blob` what readers of the segment see, unless a newer version is there.

    Parameters
    ----------
    version : int
        The version in the blob's header, microseconds since 1970.

    Returns
    -------
    bool
        False when a newer version stays in place.
    """
    call = library.publish(keys.of_segment(bandit, segment), version=version, body=blob)
    [reply] = calling.run(store, [call])
    return reply[0] == b"OK"


@dataclass(frozen=True, slots=True)
class Restamp:
    """Another header for a blob that stays as it is.

    Parameters
    ----------
    segment : str
        Whose.
    expected, header : bytes
        The 32 bytes that stand there, and those that shall; the latter with a later version.
    body_sha1 : str
        SHA-1, in hex, of what follows them; "" not to look at it. To look takes the server about as
        long as to publish; the header alone tells all but damage.
    """

    segment: str
    expected: bytes
    header: bytes
    body_sha1: str


def restamp(
    store: Store, bandit: str, stamps: Sequence[Restamp]
) -> list[Literal["OK", "OTHER", "SUPERSEDED"]]:
    """Let unchanged blobs have a later version, in one round trip to each server.

    Returns
    -------
    list of str
        "OK"; "OTHER" when the blob is not the expected one, or there is none: publish one;
        "SUPERSEDED" when its version is not earlier than the one it should get.

    Raises
    ------
    StoreError
        No server has answered, or one refused. Some blobs may have their new version.
    """
    calls = [
        library.restamp(
            keys.of_segment(bandit, stamp.segment),
            expected=stamp.expected,
            header=stamp.header,
            body_sha1=stamp.body_sha1,
        )
        for stamp in stamps
    ]
    words: list[Literal["OK", "OTHER", "SUPERSEDED"]] = []
    for answer in calling.attempt(store, calls):
        if not isinstance(answer, Failure):
            words.append(_WORDS[answer[0]])
        elif str(answer.error).startswith("WRONGTYPE"):
            words.append("OTHER")  # publishing says what is wrong with the key
        else:
            raise translated(answer.error, store, answer.node) from answer.error
    return words


def withdraw(store: Store, bandit: str, segments: Sequence[str]) -> None:
    """Remove the blobs of segments, if they have any."""
    blobs = [keys.of_segment(bandit, segment).blob for segment in segments]
    store.replies([Command(blob, ("UNLINK", blob)) for blob in blobs])


def headers(store: Store, bandit: str, segments: Sequence[str]) -> list[Published]:
    """Return the first 32 bytes of each segment's blob, in one round trip; b"" where none is.

    A cluster takes one round trip to each node, all at once.

    Raises
    ------
    StoreError
        No server has answered.
    """
    return HeaderReader(bandit, segments).read(store)


def fetch(
    store: Store, bandit: str, segments: Sequence[str], *, max_bytes: int = 64 * 2**20
) -> list[Published]:
    """Return each segment's blob, as `headers` does their beginnings.

    Read `headers` first: they tell the length, so that an oversized blob is not fetched. One that
    lies about it is cut after `max_bytes`, and then fails its checks.
    """
    return _read(store, segments, _commands(bandit, segments, max_bytes))


def fetch_one(store: Store, bandit: str, segment: str) -> bytes:
    """Return a segment's blob; b"" if none is published.

    Raises
    ------
    CorruptDataError
        Its key holds something else.
    """
    [found] = fetch(store, bandit, [segment])
    if isinstance(found, Exception):
        raise found
    return found


def _commands(bandit: str, segments: Sequence[str], size: int) -> list[Command]:
    blobs = [keys.of_segment(bandit, segment).blob for segment in segments]
    return [Command(blob, ("GETRANGE", blob, 0, size - 1)) for blob in blobs]


def _read(store: Store, segments: Sequence[str], commands: Sequence[Command]) -> list[Published]:
    found = [
        answer if isinstance(answer, bytes) else _published(store, segment, answer)
        for segment, answer in zip(segments, _answers(store, commands), strict=True)
    ]
    lost = [each for each in found if isinstance(each, StoreUnavailableError)]
    if lost and len(lost) == len(found):
        raise lost[0]
    return found


def _answers(store: Store, commands: Sequence[Command]) -> Iterator[Answer]:
    for first in range(0, len(commands), _MOST_AT_ONCE):
        yield from store.send(commands[first : first + _MOST_AT_ONCE])


def _published(store: Store, segment: str, answer: Answer) -> Published:
    if not isinstance(answer, Failure):
        blob: bytes = answer
        return blob
    if str(answer.error).startswith("WRONGTYPE"):  # damage of one key must not hide the others
        return CorruptDataError(
            describe("blob", "no string", f"of segment {segment!r}: remove the key, then refresh")
        )
    error = translated(answer.error, store, answer.node)
    if not isinstance(error, StoreUnavailableError):
        raise error from answer.error
    error.__cause__ = answer.error
    return error
