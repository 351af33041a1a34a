"""Lines of a binary file, with exact byte offsets and line numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from banditcore.errors import InvalidValueError, describe

__all__ = ["MAX_RECORD_BYTES", "LineReader", "Scanned", "Tail", "check_decodes", "undecodable"]

MAX_RECORD_BYTES = 1 << 20
"""The longest line that is read, in bytes; a longer one is rejected."""

Scanned = tuple[tuple[object, ...] | None, str, int, int]
"""One record: its wanted values (None if it is bad), why it is bad, its offset, its first line."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What stands unfinished at the end of a log and is left for the next run.

    Attributes
    ----------
    line : int
        Its first line, counted from 1.
    offset : int
        Where it begins, in bytes.
    reason : str
        Why it is left, and what to do.
    """

    line: int
    offset: int
    reason: str


class LineReader:
    """Reads a binary file line by line.

    Attributes
    ----------
    offset : int
        Where the next line begins, in bytes.
    line : int
        How many complete lines stand before it.
    tail : Tail or None
        Set by whoever meets an unfinished record at the end.
    """

    __slots__ = ("_file", "line", "offset", "tail")

    def __init__(self, file: BinaryIO, offset: int, line: int) -> None:
        self._file = file
        self.tail: Tail | None = None
        self.seek(offset, line)

    def seek(self, offset: int, line: int) -> None:
        """Go to `offset`, where line number `line` + 1 begins."""
        self._file.seek(offset)
        self.offset = offset
        self.line = line

    def read(self, most: int = MAX_RECORD_BYTES) -> bytes:
        """Return the next line with its newline; b"" at the end of the file.

        Without a newline it is the unfinished last line, or the first `most` + 1 bytes of a
        longer one.
        """
        raw = self._file.readline(most + 1)
        self.offset += len(raw)
        if raw[-1:] == b"\n":
            self.line += 1
        return raw

    def finish(self, raw: bytes) -> bool:
        """Skip the rest of a line that `read` returned without a newline.

        True if its newline was met: the line is complete, but too long. False if it ends with
        the file.
        """
        while raw and raw[-1:] != b"\n":
            raw = self.read()
        return bool(raw)

    def leave(self, offset: int, line: int, why: str, remedy: str) -> None:
        """Note that the record from `offset`, in line number `line`, is unfinished."""
        self.tail = Tail(line, offset, f"line {line} {why}: left for the next run; {remedy}")

    def leave_unended(self, offset: int, line: int) -> None:
        """Note that the last line, number `line`, has no newline yet."""
        remedy = "end the file with a newline if it is complete"
        self.leave(offset, line, "has no newline", remedy)


def check_decodes(encoding: str) -> None:
    """Raise InvalidValueError unless any line can be shown in `encoding`, bad bytes escaped."""
    try:
        b"a\xff".decode(encoding, errors="backslashreplace")
    except UnicodeError as error:  # idna, which is for names of hosts
        raise InvalidValueError(
            describe("encoding", encoding, "no encoding of files: utf-8, latin-1, cp1252, ...")
        ) from error


def undecodable(error: UnicodeError) -> str:
    """Return why a line is rejected that could not be decoded."""
    if isinstance(error, UnicodeDecodeError):
        return f"not {error.encoding}: {error.reason} at byte {error.start} of the line"
    return f"it cannot be decoded: {error}"
