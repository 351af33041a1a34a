"""Judges published blobs by their headers, and makes rungs of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from banditcore.errors import CorruptDataError, describe
from banditcore.events import MAX_AHEAD_S
from banditcore.serving.rung import Rung
from banditcore.slate_format import SlateHeader, decode_header, restamped, unpack

__all__ = ["batches", "check_header", "is_news", "is_restamp", "latest_version", "rung_of"]


def check_header(header: SlateHeader, max_bytes: int) -> None:
    """Raise CorruptDataError unless the blob may be read and its version be believed."""
    if header.length > max_bytes:
        raise CorruptDataError(
            describe("blob length", header.length, f"at most {max_bytes} bytes are read")
        )
    if header.version > latest_version():
        raise CorruptDataError(
            describe("version", header.version, "over an hour ahead of this clock: correct one")
        )


def latest_version() -> int:
    """Return the latest version to believe: what is of the future would be fresh until then."""
    return int((time.time() + MAX_AHEAD_S) * 1e6)


def is_restamp(held: bytes, header: SlateHeader) -> bool:
    """Tell whether a blob is the one whose first bytes are `held`, of this or a later version.

    Another blob of the same length passes for it once in four billion times.
    """
    mine = decode_header(held)
    if header.length != mine.length or header.version < mine.version:
        return False
    return header == restamped(mine, header.version)


def is_news(current: Rung, header: SlateHeader) -> bool:
    """Tell whether a blob should take the place of the one that `current` was made from."""
    # An older one comes from a store that lost writes: ours is the better until it recovers.
    if header.version == current.version:
        return header.checksum != current.checksum
    return header.version > current.version


def rung_of(
    blob: bytes, bandit: str, segment: str | None, max_bytes: int, *, live: bool = False
) -> Rung:
    """Return what a blob holds, if it is sound, the bandit's and the segment's.

    Parameters
    ----------
    segment : str or None
        None takes any.
    live : bool
        Whether requests will be drawn anew.

    Raises
    ------
    CorruptDataError
        A check fails.
    """
    snapshot = unpack(blob, max_bytes=max_bytes)
    check_header(snapshot.header, max_bytes)
    whose = (snapshot.bandit, snapshot.segment)
    if whose != (bandit, snapshot.segment if segment is None else segment):
        raise CorruptDataError(describe("blob's owner", whose, "another's blob is here"))
    return Rung(snapshot, live=live)


def batches(headers: Mapping[str, SlateHeader], size: int) -> Iterator[list[str]]:
    """Split what to fetch, so that blobs in memory stay few while thousands are loaded."""
    batch: list[str] = []
    total = 0
    for segment, header in headers.items():
        if batch and total + header.length > size:
            yield batch
            batch, total = [], 0
        batch.append(segment)
        total += header.length
    if batch:
        yield batch
