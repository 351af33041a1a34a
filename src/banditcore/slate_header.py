"""The first 32 bytes of a published snapshot (docs/slate-format.md)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NoReturn

from banditcore.crc import changed_before
from banditcore.errors import CorruptDataError, InvalidTypeError, describe

__all__ = [
    "CHECKED_BYTES",
    "HEADER_BYTES",
    "SCHEMA",
    "SlateHeader",
    "checked_part",
    "decode_header",
    "encode_header",
    "refuse",
    "restamped",
]

HEADER_BYTES = 32
SCHEMA = 1

_MAGIC = b"BCSL"
_HEADER = struct.Struct("<4sHHQQII")  # magic, schema, 0, version, length, 0, checksum

CHECKED_BYTES = _HEADER.size - 4
"""Bytes of a header that its checksum covers: all but its own place."""


@dataclass(frozen=True, slots=True)
class SlateHeader:
    """What the first 32 bytes of a blob say.

    Parameters
    ----------
    version : int
        Microseconds since 1970 (UTC) of the counts behind the snapshot.
    length : int
        Bytes of the whole blob, header included.
    checksum : int
        CRC-32 of all of it but the checksum itself.
    """

    version: int
    length: int
    checksum: int


def encode_header(header: SlateHeader) -> bytes:
    """Return the 32 bytes that say this."""
    return checked_part(header.version, header.length) + header.checksum.to_bytes(4, "little")


def restamped(header: SlateHeader, version: int) -> SlateHeader:
    """Return the header of the same blob with another version.

    Its checksum follows from the old one, so nobody has to read the blob: who holds a snapshot can
    tell that only its version is new, and who finds counts unchanged need not draw again.

    Parameters
    ----------
    header : SlateHeader
        What stands before the blob now.
    version : int
        What should, 0..2**64 - 1.
    """
    before, after = (
        zlib.crc32(checked_part(each, header.length)) for each in (header.version, version)
    )
    change = changed_before(before, after, header.length - HEADER_BYTES)
    return SlateHeader(version, header.length, header.checksum ^ change)


def checked_part(version: int, length: int) -> bytes:
    """Return the beginning of a header, as far as its checksum covers it."""
    return _HEADER.pack(_MAGIC, SCHEMA, 0, version, length, 0, 0)[:CHECKED_BYTES]


def decode_header(first: bytes | bytearray | memoryview) -> SlateHeader:
    """Return what a blob's header says, without a look at the rest.

    Parameters
    ----------
    first : bytes-like
        The first 32 bytes of a blob, or more of it.

    Raises
    ------
    CorruptDataError
        It is too short, not a slate blob, or of a schema this version does not read.
    """
    if not isinstance(first, (bytes, bytearray, memoryview)):
        raise InvalidTypeError(describe("header", first, "the first 32 bytes of a blob"))
    if len(first) < HEADER_BYTES:
        refuse("length", len(first), f"a header has {HEADER_BYTES} bytes")
    magic, schema, reserved_16, version, length, reserved_32, checksum = _HEADER.unpack_from(first)
    if magic != _MAGIC:
        refuse("magic", magic, f"a slate blob begins with {_MAGIC!r}")
    if schema != SCHEMA:
        refuse("schema", schema, f"this version of banditcore reads schema {SCHEMA}")
    if reserved_16 or reserved_32:
        refuse("reserved fields", (reserved_16, reserved_32), "they are 0 in schema 1")
    if length < HEADER_BYTES:
        refuse("length", length, f"a blob has at least {HEADER_BYTES} bytes")
    return SlateHeader(version, length, checksum)


def refuse(check: str, value: object, expected: str) -> NoReturn:
    """Raise what is said of a blob that fails a check."""
    raise CorruptDataError(f"slate blob refused, {describe(check + ' check', value, expected)}")
