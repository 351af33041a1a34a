"""Opens a log file, and refuses at once what can be no log."""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import BinaryIO

from banditcore.errors import InvalidValueError, describe

__all__ = ["UTF8_BOM", "check_encoding", "check_format", "check_head", "open_log"]

UTF8_BOM = codecs.BOM_UTF8

_FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_MAGIC = {
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "zstandard data",
    b"\xfd7zXZ": "xz data",
    b"BZh91AY&SY": "bzip2 data",
    b"PAR1\x15": "Parquet",
    b"Obj\x01": "Avro",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_ASCII = '\n\r,"{}[]:\\ aA0'


def open_log(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """Open a regular file for reading; the caller closes it.

    Raises
    ------
    InvalidValueError
        If it is missing, unreadable or no regular file.
    """
    try:
        # A pipe would block here until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidValueError(describe("log", str(path), f"it cannot be read: {why}")) from error
    file = os.fdopen(descriptor, "rb", buffering=1 << 18) if _is_regular(descriptor) else None
    if file is None:
        os.close(descriptor)
        raise InvalidValueError(
            describe("log", str(path), "a regular file is needed, no directory, pipe or device")
        )
    return file, os.fstat(descriptor)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def check_head(path: Path, head: bytes) -> None:
    """Raise if a file that begins with `head` is empty, compressed or binary."""
    if not head.removeprefix(UTF8_BOM):
        raise InvalidValueError(describe("log", str(path), "the file is empty"))
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise InvalidValueError(
                describe(
                    "log", str(path), f"it is {kind}: unpack or convert it to csv or JSON lines"
                )
            )
    if b"\0" in head:
        raise InvalidValueError(describe("log", str(path), "it holds NUL bytes: no text file"))


def check_format(path: Path, format: str | None) -> str:  # noqa: A002 # the usual word for it
    """Return the format given, or else the one that the suffix tells."""
    if format is None:
        try:
            return _FORMATS[path.suffix.lower()]
        except KeyError:
            raise InvalidValueError(
                describe(
                    "log",
                    str(path),
                    "the suffix does not tell its format: name it, csv or jsonl (--format)",
                )
            ) from None
    if format not in _FORMATS.values():
        raise InvalidValueError(describe("format", format, "csv or jsonl"))
    return format


def check_encoding(encoding: str) -> str:
    """Return the codec's name; raise unless it exists and writes ASCII as ASCII."""
    try:
        name = codecs.lookup(encoding).name
        as_ascii = _ASCII.encode(name) == _ASCII.encode("ascii")
    except (LookupError, ValueError, TypeError) as error:
        raise InvalidValueError(
            describe("encoding", encoding, "no such text encoding: utf-8, latin-1, cp1252, ...")
        ) from error
    if name == "utf-8-sig":
        return "utf-8"  # the byte order mark is skipped anyway
    if not as_ascii:
        raise InvalidValueError(
            describe("encoding", encoding, "lines cannot be told apart in it: convert to utf-8")
        )
    return name
