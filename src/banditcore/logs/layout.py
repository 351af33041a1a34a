"""What the beginning of a log tells: where its records start, and which values are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from banditcore.errors import InvalidValueError, describe
from banditcore.logs.columns import ColumnMap, Source
from banditcore.logs.lines import LineReader
from banditcore.logs.opening import UTF8_BOM
from banditcore.logs.records_csv import read_header
from banditcore.logs.records_jsonl import scan_objects

__all__ = ["Layout", "read_layout"]

_LOOKAHEAD = 100  # records of JSON among which one must have all mapped keys


@dataclass(frozen=True, slots=True)
class Layout:
    """Where records start, and which of their values are read.

    Attributes
    ----------
    offset, line : int
        Where the first record begins, in bytes, and how many lines stand before it.
    names : tuple of str
        The columns that are read.
    columns : ColumnMap
        Which columns hold what, those of the outcome found.
    sources : dict of str to Source
        What each field of an event is made of, by `columns`.
    width : int
        csv: how many values a record has.
    wanted : tuple of int
        csv: where in a record the `names` stand; at least two.
    """

    offset: int
    line: int
    names: tuple[str, ...]
    columns: ColumnMap
    sources: dict[str, Source]
    width: int = 0
    wanted: tuple[int, ...] = ()


def read_layout(
    path: str, file: BinaryIO, columns: ColumnMap, format_: str, encoding: str
) -> Layout:
    """Read the header, or the first JSON objects.

    Raises
    ------
    InvalidValueError
        If a mapped column is missing or ambiguous, or the beginning cannot be parsed.
    """
    file.seek(0)
    begin = len(UTF8_BOM) if file.read(len(UTF8_BOM)) == UTF8_BOM else 0
    reader = LineReader(file, begin, 0)
    if format_ == "csv":
        return _layout_of_csv(path, reader, columns, encoding)
    return _layout_of_jsonl(path, reader, columns, encoding)


def _layout_of_csv(path: str, reader: LineReader, columns: ColumnMap, encoding: str) -> Layout:
    header = read_header(reader, encoding)
    if isinstance(header, str):
        raise InvalidValueError(describe("header of log", path, header))
    resolved = columns.resolve(header)
    wanted = (resolved or columns).columns()
    missing = [name for name in wanted if name not in header]
    if missing or resolved is None:
        remedy = _lacking(missing, header)
        if len(header) == 1 and any(mark in header[0] for mark in "\t;|"):
            remedy += ". Values are separated by commas"
        raise InvalidValueError(describe("header of log", path, remedy))
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise InvalidValueError(
            describe("header of log", path, f"it has the column {twice[0]!r} twice: rename one")
        )
    where = tuple(header.index(name) for name in wanted)
    padded = where + (0,) * (2 - len(where))
    return Layout(
        reader.offset,
        reader.line,
        tuple(wanted),
        resolved,
        resolved.sources(),
        len(header),
        padded,
    )


def _layout_of_jsonl(path: str, reader: LineReader, columns: ColumnMap, encoding: str) -> Layout:
    begin = reader.offset
    complaint = "no JSON object stands in its first lines; one object a line is needed"
    scanned = scan_objects(reader, encoding)
    for (record, _, _, _), _ in zip(scanned, range(_LOOKAHEAD), strict=False):
        if record is None:
            continue
        resolved = columns.resolve(record)
        wanted = (resolved or columns).columns()
        missing = [name for name in wanted if name not in record]
        if resolved is not None and not missing:
            return Layout(begin, 0, tuple(wanted), resolved, resolved.sources())
        complaint = "none of its first records has all that is mapped. The last one seen: "
        complaint += _lacking(missing, list(record))
    raise InvalidValueError(describe("log", path, complaint))


def _lacking(missing: list[str], present: list[str]) -> str:
    lacks = [f"no column {name!r}" for name in missing] or [
        "either reward or successes must be a column, or be mapped"
    ]
    shown = ", ".join(map(repr, present[:20])) + (", ..." if len(present) > 20 else "")
    return f"{'; '.join(lacks)}. It has {shown}. Map columns with FIELD=COLUMN (--map)"
