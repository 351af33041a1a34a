"""Records of a comma-separated log (RFC 4180, with a header).

A stray quote takes the lines below it into its value, up to the next quote. To lose no more of
them than that, a record may go on for at most 100 lines, which are 64 KiB, after its first one: if
a quote is open then, the first line alone is rejected and the next one begins a record.

NUL bytes are text like any other: an id may hold any character. (That a file with NUL bytes in its
first 1,024 is refused tells binary files from text, no more.)
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from operator import itemgetter

from banditcore.logs.lines import (
    MAX_RECORD_BYTES,
    LineReader,
    Scanned,
    check_decodes,
    undecodable,
)

__all__ = ["read_header", "scan_csv"]

MAX_MORE_LINES = 100
MAX_MORE_BYTES = 1 << 16
"""The most lines, and bytes in them, that a record has after its first line."""

_TOO_LONG = f"a line has at most {MAX_RECORD_BYTES} bytes, this is longer"
_STAYS_OPEN = (
    f"it opens a quote that is still open {MAX_MORE_LINES} lines or {MAX_MORE_BYTES} bytes on"
)


class _UnfinishedError(Exception):
    """The file ends inside quotes."""


class _StaysOpenError(Exception):
    """A quoted value goes on for more lines than a record may have."""


def read_header(reader: LineReader, encoding: str) -> list[str] | str:
    """Return the names of the columns, or why they cannot be read; skip blank lines."""
    check_decodes(encoding)
    for values, reason, _, _ in _records(reader, encoding):
        return reason if values is None else values
    return "it has no complete line; the first line names the columns and ends with a newline"


def scan_csv(
    reader: LineReader, encoding: str, width: int, wanted: tuple[int, ...]
) -> Iterator[Scanned]:
    """Yield the records from where `reader` stands; afterwards `reader.tail` tells what is left.

    Parameters
    ----------
    width : int
        How many values a record must have.
    wanted : tuple of int
        Which of them to return, at least two (`operator.itemgetter` unwraps a single one).
    """
    pick = itemgetter(*wanted)
    commas, last = width - 1, max(wanted) + 1
    while True:
        start, line = reader.offset, reader.line + 1
        raw = reader.read()
        # Without quotes a record is one line and its values are what stands between the commas.
        # This saves building the values that nobody wants: most of the time of a wide log.
        if b'"' not in raw and raw[-1:] == b"\n":
            body = raw[:-2] if raw[-2:-1] == b"\r" else raw[:-1]
            if not body:
                continue
            if b"\r" not in body:
                try:
                    text = body.decode(encoding)
                except UnicodeError as error:  # not only UnicodeDecodeError: punycode
                    yield None, undecodable(error), start, line
                    continue
                if text.count(",") == commas:
                    yield pick(text.split(",", last)), "", start, line
                else:
                    yield None, _miscounted(text.count(",") + 1, width), start, line
                continue
        reader.seek(start, line - 1)
        for values, reason, start, line in _records(reader, encoding):  # same record
            if values is None:
                yield None, reason, start, line
            elif len(values) != width:
                yield None, _miscounted(len(values), width), start, line
            else:
                yield pick(values), "", start, line
            break
        else:
            return


def _records(reader: LineReader, encoding: str) -> Iterator[tuple[list[str] | None, str, int, int]]:
    """Yield (values or None, reason, offset, first line) by way of the csv module."""
    while True:
        start, line = reader.offset, reader.line + 1
        raw = reader.read()
        if raw in (b"\n", b"\r\n"):
            continue
        if raw[-1:] != b"\n":
            if reader.finish(raw):
                yield None, _TOO_LONG, start, line
                continue
            if raw:
                reader.leave_unended(start, line)
            return
        after_first = reader.offset, reader.line
        errors: list[UnicodeError] = []
        try:
            values = next(csv.reader(_feed(reader, raw, encoding, errors), strict=True))
        except _UnfinishedError:
            remedy = (
                "the lines after it wait too. If nothing more comes, correct that line, or give "
                "it the quote that closes the value"
            )
            reader.leave(start, line, "opens a quote that the file does not close", remedy)
            return
        except (csv.Error, _StaysOpenError) as error:
            # A stray quote must not swallow the good lines below it: only its own line is bad.
            reader.seek(*after_first)
            yield None, str(error) if isinstance(error, csv.Error) else _STAYS_OPEN, start, line
            continue
        if errors:
            yield None, undecodable(errors[0]), start, line
        else:
            yield values, "", start, line


def _feed(
    reader: LineReader, raw: bytes, encoding: str, errors: list[UnicodeError]
) -> Iterator[str]:
    """Yield decoded lines, one by one as the csv module asks for them, from `raw` on."""
    left = MAX_MORE_BYTES
    for more in range(MAX_MORE_LINES + 1):
        if more:
            raw = reader.read(left)
            left -= len(raw)
            if left < 0:
                break
            if raw[-1:] != b"\n":
                raise _UnfinishedError
        try:
            text = raw.decode(encoding)
        except UnicodeError as error:
            errors.append(error)
            text = raw.decode(encoding, errors="replace")
        yield text
    raise _StaysOpenError


def _miscounted(found: int, width: int) -> str:
    return f"{found} values, but the header names {width} columns"
