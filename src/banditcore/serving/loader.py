"""Brings what the store publishes, and what a backup kept, into what a process holds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from banditcore.errors import CorruptDataError, StoreUnavailableError, describe
from banditcore.segments import with_ancestors
from banditcore.serving import blobs
from banditcore.serving.backup import Backup
from banditcore.serving.holding import HeldSnapshots
from banditcore.serving.rung import Rung, climb
from banditcore.slate_format import HEADER_BYTES, SlateHeader, decode_header, encode_header
from banditcore.store import publish
from banditcore.store.publish import HeaderReader, Published

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["PublishedBandit", "SnapshotLoader"]

_LOG = logging.getLogger("banditcore.serving")
_FETCHED_AT_ONCE_BYTES = 16 * 2**20
_RESTORED_AT_ONCE = 256


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
    """Brings the last good snapshot of each watched segment into what is held. For one thread.

    Parameters
    ----------
    bandit : PublishedBandit
        Whose snapshots.
    held : HeldSnapshots
        Where they go.
    watched : list of str or None
        Segments, ancestors included; None means all the bandit has, read at each `reload`.
    max_age : float
        Seconds until a snapshot no longer counts as fresh.
    max_blob_bytes : int
        A longer blob is rejected unread.
    live : bool
        Whether requests will be drawn anew: rungs are then prepared for that.
    backup : Backup or None
        Where good blobs are kept for a process that starts without the store.

    Attributes
    ----------
    rejected : mapping of str to str
        Segment -> why its published blob was not used, as of the last `reload`: it is damaged, or
        the node of a cluster that has it does not answer. What the backup holds is named too, by
        its file if nobody can tell the segment.
    """

    def __init__(
        self,
        bandit: PublishedBandit,
        held: HeldSnapshots,
        watched: list[str] | None,
        *,
        max_age: float,
        max_blob_bytes: int,
        live: bool = False,
        backup: Backup | None = None,
    ) -> None:
        self.held = held
        self.rejected: Mapping[str, str] = MappingProxyType({})
        self._bandit = bandit
        self._watched = watched
        self._max_age = max_age
        self._max_blob_bytes = max_blob_bytes
        self._live = live
        self._backup = backup
        self._index: list[str] | None = None  # as last read, when it is read
        self._reader: HeaderReader | None = None
        self._unpublished: frozenset[str] = frozenset()  # as the store said last
        self._clock = 0.0

    @property
    def rungs(self) -> Mapping[str, Rung]:
        """What is held now."""
        return self.held.rungs

    def reload(self, is_stopped: Callable[[], bool] = lambda: False) -> tuple[str, ...]:
        """Fetch what changed and return its segments.

        Parameters
        ----------
        is_stopped : callable
            Asked between round trips; then nothing more is fetched.

        Raises
        ------
        StoreUnavailableError
            The store does not answer, or no node of it that has what is watched. What was loaded
            so far stays in use.
        """
        self._distrust_what_is_ahead()
        reader = self._watch()
        first_bytes = reader.read(self._bandit.store)
        rejected: dict[str, str] = {}
        changed: list[str] = []
        wanted = self._changed(reader.segments, first_bytes, rejected, changed)
        if self._backup is not None:
            self._backup.begin()
        for batch in blobs.batches(wanted, _FETCHED_AT_ONCE_BYTES):
            if is_stopped():
                return tuple(changed)
            found = dict(zip(batch, self._fetch(batch), strict=True))
            loaded = self._build(found, rejected)
            self.held.put(
                loaded, {segment: _usable(found[segment])[:HEADER_BYTES] for segment in loaded}
            )
            changed += loaded
            self._save(loaded, found)
        # An error is no sign that nothing is published.
        self._unpublished = frozenset(
            segment
            for segment, first in zip(reader.segments, first_bytes, strict=True)
            if first == b""
        )
        gone = self._let_go(reader.segments)
        if self._backup is not None:
            for segment in gone:
                self._backup.remove(segment)
            self._backup.end()
        self._reject(rejected)
        return tuple(changed)

    def restore(self, deadline: float) -> None:
        """Take from the backup what is not loaded, unless the store said that it is withdrawn.

        It is no rung that counts as fresh until the store has confirmed it.

        Parameters
        ----------
        deadline : float
            By `time.monotonic`; what is not read by then is left out, and `rejected` tells.
        """
        backup = self._backup
        if backup is None:
            return
        rejected: dict[str, str] = {}
        found: dict[str, tuple[Rung, bytes]] = {}
        for segment, name in self._restorable(backup, rejected):
            key = f"backup/{name}" if segment is None else segment
            if time.monotonic() >= deadline:
                rejected[key] = f"backup {name}: not read in time, allow more for warm_up"
                continue
            try:
                blob = backup.read(name, max_bytes=self._max_blob_bytes)
                if not blob:
                    continue
                rung = self._restored(blob, segment, name)
            except (CorruptDataError, OSError) as error:
                rejected[key] = f"backup {name}: {error}"
                continue
            found[rung.segment] = rung.unconfirmed(), blob[:HEADER_BYTES]
            if len(found) >= _RESTORED_AT_ONCE:
                self.held.put_missing(found, self._may_restore)
                found = {}
        self.held.put_missing(found, self._may_restore)
        if rejected:
            self._reject({**self.rejected, **rejected})

    def _watch(self) -> HeaderReader:
        """Return what reads the headers of all watched segments; made anew when these change."""
        if self._watched is None:
            index = self._bandit.segments()
            if index != self._index or self._reader is None:
                self._reader = HeaderReader(self._bandit.name, with_ancestors(index))
                self._index = index
                if self._backup is not None and index:
                    self._backup.prune({*self._reader.segments, *self.rungs})
        elif self._reader is None:
            self._reader = HeaderReader(self._bandit.name, self._watched)
        return self._reader

    def _changed(
        self,
        segments: Iterable[str],
        first_bytes: Iterable[Published],
        rejected: dict[str, str],
        changed: list[str],
    ) -> dict[str, SlateHeader]:
        """Return the headers worth a fetch; put those that are wrong into `rejected`.

        What is as it was, or only has another version, is dealt with here.
        """
        wanted: dict[str, SlateHeader] = {}
        rungs, headers = self.held.both()
        same: dict[str, Rung] = {}
        same_headers: dict[str, bytes] = {}
        for segment, first in zip(segments, first_bytes, strict=True):
            if not first:
                continue
            current = rungs.get(segment)
            if current is not None and current.confirmed and first == headers.get(segment):
                continue
            try:
                header = decode_header(_usable(first))
                blobs.check_header(header, self._max_blob_bytes)
            except (CorruptDataError, StoreUnavailableError) as error:
                rejected[segment] = str(error)
                continue
            if current is None:
                wanted[segment] = header
            elif blobs.is_restamp(headers[segment], header):
                same[segment] = current.restamped(header)
                same_headers[segment] = encode_header(header)
                if header.version != current.version:
                    changed.append(segment)
            elif blobs.is_news(current, header):
                wanted[segment] = header
        self.held.put(same, same_headers)
        return wanted

    def _fetch(self, segments: list[str]) -> list[Published]:
        bandit = self._bandit
        return publish.fetch(bandit.store, bandit.name, segments, max_bytes=self._max_blob_bytes)

    def _build(self, found: Mapping[str, Published], rejected: dict[str, str]) -> dict[str, Rung]:
        built: dict[str, Rung] = {}
        for segment, blob in found.items():
            if not blob:  # withdrawn since its header was read
                continue
            try:
                rung = self._rung(_usable(blob), segment)
            except (CorruptDataError, StoreUnavailableError) as error:
                rejected[segment] = str(error)
                continue
            current = self.rungs.get(segment)
            if current is None or blobs.is_news(current, decode_header(_usable(blob))):
                built[segment] = rung
        return built

    def _rung(self, blob: bytes, segment: str | None) -> Rung:
        return blobs.rung_of(
            blob, self._bandit.name, segment, self._max_blob_bytes, live=self._live
        )

    def _restored(self, blob: bytes, segment: str | None, name: str) -> Rung:
        rung = self._rung(blob, segment)
        if self._backup is None or self._backup.file_of(rung.segment) != name:
            raise CorruptDataError(describe("file", name, "it is another segment's"))
        return rung

    def _save(self, loaded: Iterable[str], found: Mapping[str, Published]) -> None:
        if self._backup is None:
            return
        for segment in loaded:
            blob = _usable(found[segment])
            self._backup.save(segment, blob, decode_header(blob).version)

    def _restorable(self, backup: Backup, rejected: dict[str, str]) -> list[tuple[str | None, str]]:
        """Return what may be in the backup: segments, if they are known, with their files."""
        watched = self._watched
        if watched is None and self._index is not None:
            watched = with_ancestors(self._index)
        if watched is not None:
            return [(path, backup.file_of(path)) for path in watched if self._may_restore(path)]
        try:
            return [(None, name) for name in backup.files()]
        except OSError as error:
            rejected["backup"] = f"backup: {error}"
            return []

    def _may_restore(self, segment: str) -> bool:
        # What a reload has brought meanwhile is the better.
        return segment not in self.rungs and segment not in self._unpublished

    def _let_go(self, watched: Collection[str]) -> list[str]:
        """Drop what is published no more, if a fresh ancestor that is can answer in its place.

        Where none is, the store may have lost its data.
        """
        if self.rungs.keys() <= set(watched) and not self.rungs.keys() & self._unpublished:
            return []
        rungs = self.rungs
        unpublished = (rungs.keys() - watched) | (rungs.keys() & self._unpublished)
        published = {path: rung for path, rung in rungs.items() if path not in unpublished}
        now = time.time()
        gone = []
        for segment in unpublished:
            answering, stale = climb(published, segment, now, self._max_age)
            if answering is not None and not stale:
                gone.append(segment)
        if gone:
            self.held.drop(set(gone))
        return gone

    def _distrust_what_is_ahead(self) -> None:
        """Take what is over an hour ahead for stale, after a clock that went back.

        Its age would be zero until then, however old it becomes.
        """
        before, self._clock = self._clock, time.time()
        if self._clock >= before:
            return
        latest = blobs.latest_version()
        ahead = {
            segment: rung.unconfirmed()
            for segment, rung in self.rungs.items()
            if rung.version > latest and rung.confirmed
        }
        self.held.put(ahead, {})

    def _reject(self, rejected: dict[str, str]) -> None:
        """Set what was rejected, and log it when it is of other segments than before."""
        before, self.rejected = self.rejected.keys(), MappingProxyType(rejected)
        if rejected and rejected.keys() != before:
            segment = next(iter(rejected))
            _LOG.warning(
                "bandit %r: blobs of %d segments are not used, of %r because: %s",
                self._bandit.name,
                len(rejected),
                segment,
                rejected[segment],
            )


def _usable(found: Published) -> bytes:
    if isinstance(found, Exception):
        raise found
    return found
