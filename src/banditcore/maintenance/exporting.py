"""Writes a bandit into one file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from banditcore.errors import CorruptDataError, InvalidValueError, describe
from banditcore.maintenance.export_format import CHECKPOINTS, HEAD, SEGMENT, RecordWriter
from banditcore.maintenance.segment_checks import KEY_TYPES
from banditcore.store import keys, keyspace
from banditcore.store.counts import index
from banditcore.store.counts.dump import SegmentDump, dump
from banditcore.store.event_streams import partitions

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["ExportReport", "ExportedBandit", "export_bandit"]


class ExportedBandit(Protocol):
    """What exporting needs of a bandit."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def store(self) -> Store:
        """Where it is."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    bandit : str
        Its name, as the file has it.
    segments : int
        In the file.
    bytes : int
        Of the file.
    """

    bandit: str
    segments: int
    bytes: int


def export_bandit(
    bandit: ExportedBandit,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> ExportReport:
    """Write counts, arms, marks, windows, settings and checkpoints of a bandit into a file.

    Writers may go on: each segment is read at one moment, with its marks, and checkpoints are read
    before all of them. So a source that is ingested into the imported bandit counts exactly
    what came after. Published slates are not part of it: `refresh` makes them again.

    Parameters
    ----------
    bandit : Bandit
        Which.
    path : path
        The file. It appears, or replaces an older one, when it is whole and on disk.
    progress : callable, optional
        Called with the segments done, those there are, and the segment.

    Raises
    ------
    InvalidValueError
        The store has no such bandit.
    CorruptDataError, StoreError
        The store cannot be read; there is no new file.
    OSError
        The file cannot be written.
    """
    store, name = bandit.store, bandit.name
    if name not in index.bandits(store):
        raise InvalidValueError(describe("bandit", name, "the store has no such bandit"))
    of_bandit = keys.of_bandit(name)
    target = Path(path)
    with _written_whole(target) as file:
        writer = RecordWriter(file)
        settings = _fields(store, of_bandit.settings)
        moment = b"%d" % int(store.server_time() * 1e6)
        streams = partitions.identity(store, name)
        writer.write(HEAD, [name.encode(), moment, streams, *settings])
        # Before the segments: a checkpoint must not be ahead of any counts in the file.
        writer.write(CHECKPOINTS, _fields(store, of_bandit.checkpoints))
        segments = index.segments(store, name)
        for done, segment in enumerate(segments, 1):
            # One at a time: the digests of a busy segment take megabytes.
            [dumped] = dump(store, name, [segment])
            _check_types(segment, dumped)
            writer.write(SEGMENT, _parts(segment, dumped))
            if progress is not None:
                progress(done, len(segments), segment)
        writer.end()
        size = file.tell()
    return ExportReport(name, len(segments), size)


def _fields(store: Store, key: str) -> list[bytes]:
    return [word for pair in keyspace.fields(store, key).items() for word in pair]


def _check_types(segment: str, dumped: SegmentDump) -> None:
    for found, wanted in zip(dumped.types, KEY_TYPES.values(), strict=True):
        if found not in ("none", wanted):
            raise CorruptDataError(
                describe("segment", segment, f"a key is a {found}, not a {wanted}: run verify")
            )


def _parts(segment: str, dumped: SegmentDump) -> list[bytes]:
    windows = zip(dumped.expiries, dumped.digests, strict=True)
    return [
        segment.encode(),
        dumped.registry,
        *(part for expiry, digests in windows for part in (b"%d" % expiry, digests)),
        *(word for pair in dumped.fields.items() for word in pair),
    ]


@contextmanager
def _written_whole(target: Path) -> Iterator[BinaryIO]:
    """Yield a new file that takes its name only once it is whole and on disk."""
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
