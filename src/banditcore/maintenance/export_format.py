"""The file that holds one exported bandit: records, each with a checksum, and one of the whole.

Layout, little-endian: magic ``BCEX``, schema u16, 0 u16; then records. A record is its kind u32,
the length of its content u64, the CRC-32 of both and of the content, and the content: a packed list
of strings, each with its length as u32 in front. The kinds are, in this order: one HEAD (the
bandit's name, the server's time in microseconds, the identity of its streams, names and values of
its settings), one CHECKPOINTS
(sources and values), any number of SEGMENT (path, registry, expiries and digests of the two
windows, fields and values of the state), one END (number of segments, SHA-256 of all bytes before
this record).
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from banditcore.errors import InvalidValueError, describe
from banditcore.store.functions.words import packed

__all__ = ["CHECKPOINTS", "END", "HEAD", "SCHEMA", "SEGMENT", "RecordReader", "RecordWriter"]

SCHEMA = 2
_UNSEALED = 1  # written when stored values carried no checksums: nothing would read them
HEAD, CHECKPOINTS, SEGMENT, END = 1, 2, 3, 4

_MAGIC = b"BCEX"
_START = struct.Struct("<4sHH")
_RECORD = struct.Struct("<IQI")
_CHECKED = _RECORD.size - 4
_LENGTH = struct.Struct("<I")


class RecordWriter:
    """Writes records one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._segments = 0
        self._write(_START.pack(_MAGIC, SCHEMA, 0))

    def write(self, kind: int, parts: Sequence[bytes]) -> None:
        """Append a record that holds `parts`."""
        content = packed(parts)
        start = _RECORD.pack(kind, len(content), 0)[:_CHECKED]
        checksum = zlib.crc32(content, zlib.crc32(start))
        self._segments += kind == SEGMENT
        self._write(start + checksum.to_bytes(4, "little"))
        self._write(content)

    def end(self) -> None:
        """Append the record that vouches for all the others."""
        self.write(END, [b"%d" % self._segments, self._digest.digest()])

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)


class RecordReader:
    """Reads a file of records; every bit of it is checked before it is used.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    path : Path
        As given.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the kind and the strings of each record but the last.

        Who uses a record before this has come to its end trusts a file that may be cut.

        Raises
        ------
        InvalidValueError
            The file is no export, of another schema, cut, or damaged anywhere.
        OSError
            It cannot be read.
        """
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256()
            start = file.read(_START.size)
            self._check_start(start)
            digest.update(start)
            segments, wanted = 0, HEAD
            while True:
                header = file.read(_RECORD.size)
                if len(header) < _RECORD.size:
                    raise self._damaged("end", file.tell(), "the file is cut")
                kind, length, checksum = _RECORD.unpack(header)
                if length > size - file.tell():  # before memory is taken for it
                    raise self._damaged("length", length, "the file is cut, or damaged there")
                content = file.read(length)
                if zlib.crc32(content, zlib.crc32(header[:_CHECKED])) != checksum:
                    raise self._damaged("checksum", checksum, f"before byte {file.tell()}")
                if kind not in ((wanted,) if wanted < SEGMENT else (SEGMENT, END)):
                    raise self._damaged("kind", kind, "not in this place")
                wanted = kind + 1
                parts = self._unpacked(content)
                if kind == END:
                    if parts != [b"%d" % segments, digest.digest()] or file.read(1):
                        raise self._damaged("end", parts[:1], "it does not fit what is before it")
                    return
                digest.update(header + content)
                segments += kind == SEGMENT
                yield kind, parts

    def _check_start(self, start: bytes) -> None:
        if len(start) < _START.size or start[:4] != _MAGIC:
            raise self._damaged("start", start, "no export of banditcore")
        _, schema, reserved = _START.unpack(start)
        if schema == _UNSEALED:
            remedy = f"of an older release, and this one reads {SCHEMA}: ingest its logs anew"
            raise self._damaged("schema", schema, remedy)
        if schema != SCHEMA or reserved:
            raise self._damaged("schema", schema, f"this release reads {SCHEMA}")

    def _unpacked(self, content: bytes) -> list[bytes]:
        parts, at = [], 0
        while at < len(content):
            if at + _LENGTH.size > len(content):
                raise self._damaged("record", content[at:], "a length is cut")
            (length,) = _LENGTH.unpack_from(content, at)
            at += _LENGTH.size + length
            if at > len(content):
                raise self._damaged("record", length, "a string is cut")
            parts.append(content[at - length : at])
        return parts

    def _damaged(self, name: str, value: object, what: str) -> InvalidValueError:
        why = describe(name, value, what)
        return InvalidValueError(f"{str(self.path)!r} cannot be imported: {why}")
