"""Records of a comma-separated log (RFC 4180, with a header)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from operator import itemgetter

from banditcore.logs.lines import MAX_RECORD_BYTES, LineReader, Scanned

__all__ = ["read_header", "scan_csv"]

_TOO_LONG = f"a record has at most {MAX_RECORD_BYTES} bytes, this is longer"


class _UnfinishedError(Exception):
    """The file ends inside quotes."""


class _TooLongError(Exception):
    """A quoted value runs on beyond the longest record."""


def read_header(reader: LineReader, encoding: str) -> list[str] | str:
    """Return the names of the columns, or why they cannot be read; skip blank lines."""
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
                except UnicodeDecodeError as error:
                    yield None, _undecodable(error), start, line
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
                reader.leave(start, line, "has no newline")
            return
        after_first = reader.offset, reader.line
        undecodable: list[UnicodeDecodeError] = []
        try:
            values = next(csv.reader(_feed(reader, raw, encoding, undecodable), strict=True))
        except _UnfinishedError:
            reader.leave(start, line, "opens a quote that is never closed")
            return
        except (csv.Error, _TooLongError) as error:
            # A stray quote must not swallow the good lines below it: only its own line is bad.
            reader.seek(*after_first)
            reason = str(error) if isinstance(error, csv.Error) else _TOO_LONG + " (a stray quote?)"
            yield None, reason, start, line
            continue
        if undecodable:
            yield None, _undecodable(undecodable[0]), start, line
        else:
            yield values, "", start, line


def _feed(
    reader: LineReader, raw: bytes, encoding: str, undecodable: list[UnicodeDecodeError]
) -> Iterator[str]:
    """Yield decoded lines, one by one as the csv module asks for them, from `raw` on."""
    size = len(raw)
    while True:
        try:
            yield raw.decode(encoding)
        except UnicodeDecodeError as error:
            undecodable.append(error)
            yield raw.decode(encoding, errors="replace")
        raw = reader.read()
        size += len(raw)
        if size > MAX_RECORD_BYTES:
            raise _TooLongError
        if raw[-1:] != b"\n":
            raise _UnfinishedError


def _undecodable(error: UnicodeDecodeError) -> str:
    return f"not {error.encoding}: {error.reason} at byte {error.start} of the line"


def _miscounted(found: int, width: int) -> str:
    return f"{found} values, but the header names {width} columns"
