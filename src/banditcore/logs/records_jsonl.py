"""Records of a JSON lines log: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from banditcore.logs.lines import (
    MAX_RECORD_BYTES,
    LineReader,
    Scanned,
    check_decodes,
    undecodable,
)

__all__ = ["scan_jsonl", "scan_objects"]

_BLANK = frozenset({b"\n", b"\r\n"})


def scan_jsonl(reader: LineReader, encoding: str, wanted: tuple[str, ...]) -> Iterator[Scanned]:
    """Yield the records from where `reader` stands; afterwards `reader.tail` tells what is left.

    Parameters
    ----------
    wanted : tuple of str
        The keys whose values are returned.
    """
    for record, reason, start, line in scan_objects(reader, encoding):
        if record is None:
            yield None, reason, start, line
            continue
        try:
            yield tuple([record[key] for key in wanted]), "", start, line
        except KeyError as error:
            yield None, f"it has no key {error.args[0]!r}", start, line


def scan_objects(
    reader: LineReader, encoding: str
) -> Iterator[tuple[dict[str, Any] | None, str, int, int]]:
    """Yield (object or None, reason, offset, line) for each line that is not blank."""
    check_decodes(encoding)
    decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
    while True:
        start, line = reader.offset, reader.line + 1
        raw = reader.read()
        if raw in _BLANK:
            continue
        if raw[-1:] != b"\n":
            if reader.finish(raw):
                yield (
                    None,
                    f"a line has at most {MAX_RECORD_BYTES} bytes, this is longer",
                    start,
                    line,
                )
                continue
            if raw:
                reader.leave_unended(start, line)
            return
        try:
            record = decode(raw.decode(encoding))
        except UnicodeError as error:  # not only UnicodeDecodeError: punycode
            yield None, undecodable(error), start, line
        except ValueError as error:
            yield None, f"no JSON: {error}", start, line
        except RecursionError:
            yield None, "no JSON that can be read: it nests too deeply", start, line
        else:
            if isinstance(record, dict):
                yield record, "", start, line
            else:
                yield None, f"a JSON object is needed, not {type(record).__name__}", start, line


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
