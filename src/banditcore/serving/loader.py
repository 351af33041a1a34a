"""Keeps a process's rungs in step with what the store publishes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from banditcore.errors import CorruptDataError, StoreUnavailableError, describe
from banditcore.events import MAX_AHEAD_S
from banditcore.segments import with_ancestors
from banditcore.serving.rung import Rung, climb
from banditcore.slate_format import SlateHeader, decode, decode_header
from banditcore.store import publish
from banditcore.store.publish import Published

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["PublishedBandit", "SnapshotLoader"]

_FETCHED_AT_ONCE_BYTES = 16 * 2**20


class PublishedBandit(Protocol):
    """What serving needs of a bandit."""

    @property
    def name(self) -> str:
        """The bandit's name."""

    @property
    def store(self) -> Store:
        """Where its snapshots are published."""

    def segments(self) -> list[str]:
        """Return every segment ever written to."""


class SnapshotLoader:
    """The last good snapshot of each watched segment. One thread reloads, any number read.

    Parameters
    ----------
    bandit : PublishedBandit
        Whose snapshots.
    watched : list of str or None
        Segments, ancestors included; None means all the bandit has, read at each `reload`.
    max_age : float
        Seconds until a snapshot no longer counts as fresh.
    max_blob_bytes : int
        A longer blob is rejected unread.

    Attributes
    ----------
    rungs : mapping of str to Rung
        Segment -> its snapshot. Never changed, only replaced: who reads the attribute once and
        keeps to what it got needs no lock.
    rejected : mapping of str to str
        Segment -> why its published blob was not used, as of the last `reload`: it is damaged, or
        the node of a cluster that has it does not answer.
    """

    def __init__(
        self,
        bandit: PublishedBandit,
        watched: list[str] | None,
        *,
        max_age: float,
        max_blob_bytes: int,
    ) -> None:
        self.rungs: Mapping[str, Rung] = {}
        self.rejected: Mapping[str, str] = MappingProxyType({})
        self._bandit = bandit
        self._watched = watched
        self._max_age = max_age
        self._max_blob_bytes = max_blob_bytes

    def reload(self) -> tuple[str, ...]:
        """Fetch what changed and return its segments.

        Raises
        ------
        StoreUnavailableError
            The store does not answer, or no node of it that has what is watched. What was loaded
            so far stays in use.
        """
        store, name = self._bandit.store, self._bandit.name
        watched = self._watched
        if watched is None:
            watched = with_ancestors(self._bandit.segments())
        first_bytes = dict(zip(watched, publish.headers(store, name, watched), strict=True))
        rejected: dict[str, str] = {}
        changed: list[str] = []
        for batch in _batches(self._changed(first_bytes, rejected)):
            blobs = publish.fetch(store, name, batch)
            loaded = self._build(dict(zip(batch, blobs, strict=True)), rejected)
            self.rungs = {**self.rungs, **loaded}
            changed += loaded
        # An error is no sign that nothing is published.
        self._let_go({segment for segment, first in first_bytes.items() if first != b""})
        self.rejected = MappingProxyType(rejected)
        return tuple(changed)

    def clear(self) -> None:
        """Let go of every snapshot."""
        self.rungs = {}

    def _changed(
        self, first_bytes: Mapping[str, Published], rejected: dict[str, str]
    ) -> dict[str, SlateHeader]:
        """Return the headers worth a fetch; put those that are wrong into `rejected`."""
        # What claims to be from the future would be served as fresh until then.
        latest = int((time.time() + MAX_AHEAD_S) * 1e6)
        changed: dict[str, SlateHeader] = {}
        for segment, first in first_bytes.items():
            if not first:
                continue
            try:
                header = decode_header(_usable(first))
            except (CorruptDataError, StoreUnavailableError) as error:
                rejected[segment] = str(error)
                continue
            if header.length > self._max_blob_bytes:
                rejected[segment] = describe(
                    "blob length", header.length, f"at most {self._max_blob_bytes} bytes are read"
                )
            elif header.version > latest:
                rejected[segment] = describe(
                    "version", header.version, "over an hour ahead of this clock: correct one"
                )
            elif self._is_news(segment, header):
                changed[segment] = header
        return changed

    def _is_news(self, segment: str, header: SlateHeader) -> bool:
        current = self.rungs.get(segment)
        if current is None or header.version > current.version:
            return True
        # An older one comes from a store that lost writes: ours is the better until it recovers.
        return header.version == current.version and header.checksum != current.checksum

    def _build(self, blobs: Mapping[str, Published], rejected: dict[str, str]) -> dict[str, Rung]:
        built: dict[str, Rung] = {}
        for segment, blob in blobs.items():
            if not blob:  # withdrawn since its header was read
                continue
            try:
                snapshot = decode(_usable(blob), max_bytes=self._max_blob_bytes)
                header = decode_header(_usable(blob))
            except (CorruptDataError, StoreUnavailableError) as error:
                rejected[segment] = str(error)
                continue
            whose = (snapshot.bandit, snapshot.segment)
            if whose != (self._bandit.name, segment):
                rejected[segment] = describe("blob's owner", whose, "another's blob is here")
            elif self._is_news(segment, header):
                built[segment] = Rung(snapshot, header.checksum)
        return built

    def _let_go(self, published: set[str]) -> None:
        """Drop what is neither published nor of use: a fresh ancestor answers in its place."""
        now = time.time()
        kept: dict[str, Rung] = {}
        for segment, rung in self.rungs.items():
            answering, stale = climb(self.rungs, segment, now, self._max_age)
            replaced = answering is not None and answering is not rung and not stale
            if segment in published or not replaced:
                kept[segment] = rung
        if len(kept) < len(self.rungs):
            self.rungs = kept


def _usable(found: Published) -> bytes:
    if isinstance(found, Exception):
        raise found
    return found


def _batches(changed: Mapping[str, SlateHeader]) -> Iterator[list[str]]:
    """Split what to fetch, so that blobs in memory stay few while thousands are loaded."""
    batch: list[str] = []
    size = 0
    for segment, header in changed.items():
        if batch and size + header.length > _FETCHED_AT_ONCE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(segment)
        size += header.length
    if batch:
        yield batch
