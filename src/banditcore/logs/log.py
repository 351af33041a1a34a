"""An event log file, read in order from any position on."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.events import EventColumns
from banditcore.logs.columns import ColumnMap
from banditcore.logs.convert import convert
from banditcore.logs.layout import read_layout
from banditcore.logs.lines import MAX_RECORD_BYTES, LineReader, Scanned, Tail
from banditcore.logs.opening import check_encoding, check_format, check_head, open_log
from banditcore.logs.records_csv import scan_csv
from banditcore.logs.records_jsonl import scan_jsonl

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["EventLog", "LogBatch", "Position", "Reject"]

MAX_BATCH_BYTES = 64 << 20
_SHOWN = 4000  # characters of a rejected record that are kept
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log was read; it always lies between two records.

    Attributes
    ----------
    offset : int
        Bytes before it.
    line : int
        Complete lines before it.
    digest : str
        SHA-256 of the bytes before it, in hex: tells whether a file still begins like the one
        that was read.
    """

    offset: int = 0
    line: int = 0
    digest: str = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot be used.

    Attributes
    ----------
    line : int
        Its first line, counted from 1.
    offset : int
        Where it begins, in bytes.
    reason : str
        What is wrong with it.
    raw : str
        Its text without the last newline, cut to 4,000 characters; undecodable bytes stand as
        backslash escapes.
    """

    line: int
    offset: int
    reason: str
    raw: str


@dataclass(frozen=True, slots=True, eq=False)
class LogBatch:
    """Consecutive records of a log.

    Attributes
    ----------
    events : EventColumns
        The n good ones.
    offsets : (n,) int64
        Where each of them ends, in bytes; ascending.
    end : Position
        After the last record of the batch, good or bad.
    rejects : list of Reject
        The bad ones, in order.
    """

    events: EventColumns
    offsets: NDArray[np.int64]
    end: Position
    rejects: list[Reject]


class _Record(NamedTuple):
    line: int
    offset: int
    end: int
    end_line: int
    reason: str


class EventLog:
    """A csv or JSON lines file as an ordered source of events.

    The file may grow between and during runs; what was read must stay as it is. A last line
    without a newline may be half written, so it is not read (see `tail`).

    Parameters
    ----------
    path : path
        A regular file. csv has a header and commas, quotes as in RFC 4180.
    columns : ColumnMap or mapping, optional
        Which columns hold what; a mapping has a ColumnMap's fields as keys.
    format : {"csv", "jsonl"}, optional
        By default told by the suffix: ``.csv``, ``.jsonl``, ``.ndjson``.
    encoding : str
        Any encoding that writes ASCII as ASCII. A byte order mark of UTF-8 is skipped.
    now : callable
        The clock: seconds since 1970. Events more than an hour ahead of it are rejected.

    Attributes
    ----------
    path : Path
    format : str
    size : int
        Bytes in the file when it was first opened.
    tail : Tail or None
        Once `batches` has come to the end: the unfinished last record, if there is one.

    Raises
    ------
    InvalidValueError
        If it is no such file, or lacks a mapped column. Bad records do not raise: they are
        reported as `Reject`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: ColumnMap | Mapping[str, str | None] | None = None,
        *,
        format: str | None = None,  # noqa: A002 # the usual word for it
        encoding: str = "utf-8",
        now: Callable[[], float] = time.time,
    ) -> None:
        try:
            self.path = Path(path)
        except TypeError as error:
            raise InvalidTypeError(describe("path", path, "a str or a Path is needed")) from error
        chosen = ColumnMap.of(columns)
        self.tail: Tail | None = None
        self._encoding = check_encoding(encoding)
        self._now = now
        self._verified: tuple[Position, _Hash] = Position(), hashlib.sha256()
        file, status = open_log(self.path)
        with file:
            self.size = status.st_size
            self._identity = status.st_dev, status.st_ino
            check_head(self.path, file.read(1024))
            self.format = check_format(self.path, format)
            self._layout = read_layout(str(path), file, chosen, self.format, self._encoding)

    def __repr__(self) -> str:
        return f"EventLog({str(self.path)!r}, format={self.format!r})"

    @property
    def reading(self) -> str:
        """How the file is read, as one line of text: format, encoding, columns."""
        return f"{self.format} {self._encoding} {self._layout.columns}"

    @cached_property
    def fingerprint(self) -> str:
        """What tells this log from others: SHA-256, in hex, of its header and first record.

        It does not depend on the path, and stays when the log grows. Only that of a csv log
        without any record changes, when the first one comes.
        """
        with self._open() as file:
            reader = LineReader(file, self._layout.offset, self._layout.line)
            for _ in self._scan(reader):
                end = min(reader.offset, self._layout.offset + MAX_RECORD_BYTES)
                break
            else:
                end = self._layout.offset
            digest = hashlib.sha256()
            _hash_range(digest, self.path, file, 0, end)
        return digest.hexdigest()

    def verify(self, position: Position) -> None:
        """Raise unless the file still begins with what was read up to `position`.

        Raises
        ------
        InvalidValueError
            If the file is shorter or begins otherwise.
        """
        digest = hashlib.sha256()
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            if 0 <= position.offset <= size:
                _hash_range(digest, self.path, file, 0, position.offset)
        if position.offset > size or digest.hexdigest() != position.digest:
            raise InvalidValueError(
                describe(
                    "log",
                    str(self.path),
                    f"it does not begin with the {position.offset} bytes ingested before: it was "
                    "changed, or is another log that begins alike. Another log needs a source "
                    "name of its own (--source NAME)",
                )
            )
        self._verified = position, digest

    def digests(self, offsets: Iterable[int]) -> Iterator[str]:
        """Yield the SHA-256, in hex, of the bytes before each of ascending offsets.

        "" stands for an offset beyond the end.
        """
        digest, done = hashlib.sha256(), 0
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            for offset in offsets:
                if offset > size:
                    yield ""
                    continue
                _hash_range(digest, self.path, file, done, offset)
                done = offset
                yield digest.hexdigest()

    def batches(self, start: Position | None = None, size: int = 50_000) -> Iterator[LogBatch]:
        """Yield the records after `start` in order.

        Parameters
        ----------
        start : Position, optional
            Where to go on; the beginning by default. It is verified.
        size : int
            The most records in a batch, > 0. A batch of long records ends at 64 MiB.

        Raises
        ------
        InvalidValueError
            If the file does not begin as it did when `start` was reached.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidValueError(describe("size", size, "a batch has one record or more"))
        start = Position() if start is None else start
        if self._verified[0] != start:
            self.verify(start)
        return self._read(start, self._verified[1].copy(), size)

    def _read(self, start: Position, digest: _Hash, size: int) -> Iterator[LogBatch]:
        self.tail = None
        first = max((start.offset, start.line), (self._layout.offset, self._layout.line))
        hashed = start.offset
        with self._open() as file:
            reader = LineReader(file, *first)
            scanner = self._scan(reader)
            exhausted = False
            while not exhausted:
                rows: list[tuple[object, ...]] = []
                good: list[_Record] = []
                bad: list[_Record] = []
                limit = reader.offset + MAX_BATCH_BYTES
                exhausted = True
                for values, reason, offset, line in scanner:
                    record = _Record(line, offset, reader.offset, reader.line, reason)
                    if values is None:
                        bad.append(record)
                    else:
                        rows.append(values)
                        good.append(record)
                    if len(good) + len(bad) >= size or record.end >= limit:
                        exhausted = False
                        break
                self.tail = reader.tail
                if not good and not bad:
                    return
                last = max((some[-1] for some in (good, bad) if some), key=lambda r: r.end)
                _hash_range(digest, self.path, file, hashed, last.end)
                hashed = last.end
                end = Position(last.end, last.end_line, digest.hexdigest())
                yield self._batch(file, rows, good, bad, end)

    def _batch(
        self,
        file: BinaryIO,
        rows: list[tuple[object, ...]],
        good: list[_Record],
        bad: list[_Record],
        end: Position,
    ) -> LogBatch:
        layout = self._layout
        events, kept, reasons = convert(rows, layout.names, layout.sources, self._now())
        refused = [(good[row], why) for row, why in reasons.items()]
        refused += [(record, record.reason) for record in bad]
        refused.sort(key=lambda pair: pair[0].offset)
        rejects = [
            Reject(record.line, record.offset, why, self._raw(file, record))
            for record, why in refused
        ]
        offsets = np.array([good[row].end for row in kept], dtype=np.int64)
        return LogBatch(events, offsets, end, rejects)

    def _raw(self, file: BinaryIO, record: _Record) -> str:
        most = 4 * _SHOWN  # no encoding takes more bytes a character
        raw = os.pread(file.fileno(), min(record.end - record.offset, most), record.offset)
        text = raw.decode(self._encoding, errors="backslashreplace").rstrip("\r\n")
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."

    def _scan(self, reader: LineReader) -> Iterator[Scanned]:
        layout = self._layout
        if self.format == "csv":
            return scan_csv(reader, self._encoding, layout.width, layout.wanted)
        return scan_jsonl(reader, self._encoding, layout.names)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        file, status = open_log(self.path)
        with file:
            if (status.st_dev, status.st_ino) != self._identity:
                raise InvalidValueError(
                    describe("log", str(self.path), "another file took its place: open it anew")
                )
            yield file


def _hash_range(digest: _Hash, path: Path, file: BinaryIO, begin: int, end: int) -> None:
    """Add the bytes [begin, end) of `file`, at `path`, to `digest`; its position stays."""
    while begin < end:
        block = os.pread(file.fileno(), min(_BLOCK, end - begin), begin)
        if not block:
            raise InvalidValueError(
                describe("log", str(path), f"it was cut below byte {end} while it was read")
            )
        digest.update(block)
        begin += len(block)
