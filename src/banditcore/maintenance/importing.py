"""Reads a bandit back from the file it was exported into."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from banditcore.errors import (
    BanditCoreError,
    ConfigurationConflictError,
    CorruptDataError,
    InvalidValueError,
    describe,
)
from banditcore.identifiers import check_bandit, check_segment
from banditcore.maintenance.export_format import CHECKPOINTS, HEAD, SEGMENT, RecordReader
from banditcore.maintenance.forget import forget_bandit
from banditcore.store import keys
from banditcore.store.counts import index
from banditcore.store.counts.dump import SegmentDump, forget, restore
from banditcore.store.event_streams import partitions
from banditcore.store.functions import calling, maintenance_library, words
from banditcore.store.functions.calling import Reply

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["ImportReport", "exported_name", "import_bandit"]

T = TypeVar("T")

_STREAM_MARKS = keys.mark_field("stream", "").encode()  # then the partition
_STREAM_SOURCES = b"stream:"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was read.

    Attributes
    ----------
    bandit : str
        Its name in the store.
    exported_as : str
        Its name in the file.
    exported_at : float
        The time of the store it came from, seconds since 1970.
    segments : int
        Written.
    """

    bandit: str
    exported_as: str
    exported_at: float
    segments: int


def import_bandit(
    store: Store,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    replace: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> ImportReport:
    """Bring a bandit back from an export, to the bit, without its published slates.

    Marks and checkpoints of streams come back only to the very streams that the export tells of:
    marks of others could take new events for old ones. With `replace` such streams stay, and what
    they retain beyond the export's marks counts again; others go with the bandit.

    The whole file is checked before anything is written. Segments are written whole, and come into
    sight together at the end; so nobody should write to the bandit meanwhile. After a failure
    run it again.

    Parameters
    ----------
    store : Store
        Where to.
    path : path
        A file of `export_bandit`.
    name : str, optional
        Of the bandit in this store. Default: as it was exported.
    replace : bool
        Forget a bandit of that name first, if there is one with segments.
    progress : callable, optional
        Called with the segments done, those there are, and the segment.

    Raises
    ------
    ConfigurationConflictError
        There is a bandit of that name; or another import of it has begun since.
    InvalidValueError
        The file is damaged, or no export. Nothing was changed.
    """
    reader = RecordReader(Path(path))
    head, found = _checked(reader)
    bandit = head.name if name is None else check_bandit(name)
    has_streams = bool(head.streams) and head.streams == partitions.identity(store, bandit)
    if replace and index.segments(store, bandit):
        forget_bandit(store, bandit, keep_streams=has_streams)
    of_bandit = keys.of_bandit(bandit)
    token = uuid.uuid4().hex.encode()
    written = words.packed(segment.encode() for segment in found)
    begin = maintenance_library.begin_import(
        of_bandit, token=token, paths=written, bandit=bandit.encode()
    )
    # Those of an import before, of another file, which nobody else would find.
    left = words.unpacked(_insist(begin, store, bandit)[1]) or []
    forget(store, bandit, [segment.decode() for segment in left])
    checkpoints: list[bytes] = []
    paths: list[str] = []
    for kind, parts in reader.records():
        if kind == CHECKPOINTS:
            checkpoints = parts if has_streams else _without(parts, _STREAM_SOURCES)
        elif kind == SEGMENT:
            segment, dumped = _segment(parts)
            if not has_streams:
                dumped = _without_stream_marks(dumped)
            restore(store, bandit, segment, dumped)
            paths.append(segment)
            if progress is not None:
                progress(len(paths), len(found), segment)
    ending = maintenance_library.end_import(
        of_bandit,
        token=token,
        kept=words.packed(head.settings),
        read=words.packed(checkpoints),
        paths=words.packed(segment.encode() for segment in paths),
    )
    # Comes before, as in `index.add`: whatever ends this here, no segments are out of sight.
    index.enter(store, bandit)
    _insist(ending, store, bandit)
    return ImportReport(bandit, head.name, head.moment, len(paths))


def exported_name(path: str | os.PathLike[str]) -> str:
    """Return the name of the bandit in an export, of which only the beginning is checked."""
    kind, parts = next(RecordReader(Path(path)).records())
    return _checked_record(Path(path), kind, partial(_head, parts)).name


class _Head(NamedTuple):
    name: str
    moment: float
    streams: bytes
    settings: list[bytes]


def _checked(reader: RecordReader) -> tuple[_Head, list[str]]:
    """Read the whole file; return what it begins with, and which segments it holds."""
    head = None
    found = []
    for kind, parts in reader.records():
        if kind == HEAD:
            head = _checked_record(reader.path, kind, partial(_head, parts))
        elif kind == SEGMENT:
            found.append(_checked_record(reader.path, kind, partial(_segment, parts))[0])
    if head is None:  # no reader of records lets that pass
        raise InvalidValueError(describe("export", str(reader.path), "it has no head"))
    return head, found


def _checked_record(path: Path, kind: int, read: Callable[[], T]) -> T:
    try:
        return read()
    except (BanditCoreError, ValueError) as error:
        raise InvalidValueError(
            f"{str(path)!r} cannot be imported: a record of kind {kind}: {error}"
        ) from error


def _head(parts: Sequence[bytes]) -> _Head:
    name, moment, streams, *settings = parts
    return _Head(check_bandit(name.decode()), int(moment) / 1e6, streams, settings)


def _segment(parts: Sequence[bytes]) -> tuple[str, SegmentDump]:
    path, registry, even_expiry, even, odd_expiry, odd, *words = parts
    return check_segment(path.decode()), SegmentDump(
        fields=dict(zip(words[::2], words[1::2], strict=True)),
        registry=registry,
        expiries=(int(even_expiry), int(odd_expiry)),
        digests=(even, odd),
        types=(),
        time_ms=0,
    )


def _without_stream_marks(dumped: SegmentDump) -> SegmentDump:
    words = [word for pair in dumped.fields.items() for word in pair]
    kept = _without(words, _STREAM_MARKS)
    return replaced(dumped, fields=dict(zip(kept[::2], kept[1::2], strict=True)))


def _without(words: Sequence[bytes], prefix: bytes) -> list[bytes]:
    """Return names and values in turn, but for names that begin with `prefix`."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for pair in pairs if not pair[0].startswith(prefix) for word in pair]


def _insist(call: calling.Call, store: Store, bandit: str) -> Reply:
    [reply] = calling.run(store, [call])
    word = reply[0]
    if word == b"EXISTS":
        remedy = "the store has it already: replace it, or import under another name"
        raise ConfigurationConflictError(describe("bandit", bandit, remedy))
    if word == b"LOST":
        remedy = "another import of it, or a forget, came between: run the import again"
        raise ConfigurationConflictError(describe("bandit", bandit, remedy))
    if word != b"OK":
        raise CorruptDataError(describe("reply", reply, f"bandit {bandit!r} was not imported"))
    return reply
