"""Published blobs: whole, newest wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from banditcore.errors import CorruptDataError, describe
from banditcore.store import keys, library
from banditcore.store.connect import translating

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["HEADER_BYTES", "Published", "fetch", "fetch_one", "headers", "publish", "withdraw"]

Published = bytes | CorruptDataError
"""What is read of a segment's blob, or why nothing can be."""

HEADER_BYTES = 32


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
    [reply] = library.run(store, [call])
    return reply[0] == b"OK"


def withdraw(store: Store, bandit: str, segments: Sequence[str]) -> None:
    """Remove the blobs of segments, if they have any."""
    with translating(store):
        pipeline = store.client.pipeline(transaction=False)
        for segment in segments:
            pipeline.unlink(keys.of_segment(bandit, segment).blob)
        pipeline.execute()


def headers(store: Store, bandit: str, segments: Sequence[str]) -> list[Published]:
    """Return the first 32 bytes of each segment's blob, in one round trip; b"" where none is."""
    return _pipelined(store, bandit, segments, ("GETRANGE", 0, HEADER_BYTES - 1))


def fetch(
    store: Store, bandit: str, segments: Sequence[str], *, max_bytes: int = 64 * 2**20
) -> list[Published]:
    """Return each segment's blob, in one round trip; b"" where none is published.

    Read `headers` first: they tell the length, so that an oversized blob is not fetched. One that
    lies about it is cut after `max_bytes`, and then fails its checks.
    """
    return _pipelined(store, bandit, segments, ("GETRANGE", 0, max_bytes - 1))


def fetch_one(store: Store, bandit: str, segment: str) -> bytes:
    """Return a segment's blob; b"" if none is published.

    Raises
    ------
    CorruptDataError
        Its key holds something else.
    """
    [found] = fetch(store, bandit, [segment])
    if isinstance(found, CorruptDataError):
        raise found
    return found


def _pipelined(
    store: Store, bandit: str, segments: Sequence[str], command: tuple[str, int, int]
) -> list[Published]:
    verb, first, last = command
    with translating(store):
        pipeline = store.client.pipeline(transaction=False)
        for segment in segments:
            pipeline.execute_command(verb, keys.of_segment(bandit, segment).blob, first, last)
        replies: list[bytes | Exception] = pipeline.execute(raise_on_error=False)
        return [_published(*found) for found in zip(segments, replies, strict=True)]


def _published(segment: str, reply: bytes | Exception) -> Published:
    if not isinstance(reply, Exception):
        return reply
    if not str(reply).startswith("WRONGTYPE"):  # damage of one key must not hide the others
        raise reply
    return CorruptDataError(
        describe("blob", "no string", f"of segment {segment!r}: remove the key, then refresh")
    )
