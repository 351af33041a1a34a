"""Rows of a log to validated columns of events; bad rows by themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from banditcore.errors import BanditCoreError, InvalidValueError, describe
from banditcore.events import EventColumns
from banditcore.logs.columns import Source, is_decimal

__all__ = ["convert"]


def convert(
    rows: Sequence[tuple[object, ...]],
    names: Sequence[str],
    sources: Mapping[str, Source],
    now: float,
) -> tuple[EventColumns, list[int], dict[int, str]]:
    """Turn rows into events.

    Parameters
    ----------
    rows : sequence of tuple
        The values of each record, in the order of `names`; str from csv, any JSON value else.
    names : sequence of str
        The columns of a row.
    sources : mapping of str to Source
        What each field of an event is made of.
    now : float
        The clock, in seconds since 1970.

    Returns
    -------
    events : EventColumns
        The good rows.
    kept : list of int
        Which rows they are.
    bad : dict of int to str
        Why each of the other rows is refused.
    """
    columns = dict(zip(names, zip(*rows, strict=True), strict=False)) if rows else {}
    bad: dict[int, str] = {}
    fields: dict[str, list[Any]] = {}
    for name, source in sources.items():
        constant = source.constant
        if name in ("segment", "arm", "event_id"):
            fields[name] = _texts(source, columns, len(rows), bad)
            continue
        values: Sequence[object] = [constant] * len(rows)
        if constant is None:
            values = columns.get(source.columns[0], ())
        fields[name] = _parsed(name, values, _time if name == "time" else _number, bad)
    kept = [row for row in range(len(rows)) if row not in bad] if bad else list(range(len(rows)))
    try:
        return EventColumns.of(_take(fields, kept, len(rows)), now=now), kept, bad
    except BanditCoreError:
        _find_culprits(fields, kept, now, bad)
    kept = [row for row in kept if row not in bad]
    return EventColumns.of(_take(fields, kept, len(rows)), now=now), kept, bad


def _take(fields: Mapping[str, list[Any]], rows: list[int], n: int) -> dict[str, list[Any]]:
    if len(rows) == n:
        return dict(fields)
    return {name: [values[row] for row in rows] for name, values in fields.items()}


def _find_culprits(
    fields: Mapping[str, list[Any]], rows: list[int], now: float, bad: dict[int, str]
) -> None:
    """Note each row that `EventColumns.of` refuses, by halving: it alone knows the rules."""
    if not rows:
        return
    try:
        EventColumns.of(_take(fields, rows, -1), now=now)
    except BanditCoreError as error:
        if len(rows) == 1:
            name, verb, rest = str(error).removeprefix("row 0: ").partition(" is ")
            bad[rows[0]] = name.removesuffix("[0]") + verb + rest
            return
        middle = len(rows) // 2
        _find_culprits(fields, rows[:middle], now, bad)
        _find_culprits(fields, rows[middle:], now, bad)


def _texts(
    source: Source,
    columns: Mapping[str, Sequence[object]],
    n: int,
    bad: dict[int, str],
) -> list[str]:
    """Return the (n,) texts that `source` makes; "" in bad rows."""
    if source.constant is not None:
        return [source.constant] * n
    parts = [_column_of_text(column, columns.get(column, ()), bad) for column in source.columns]
    if source.plain:
        return parts[0]
    keys = list(zip(*parts, strict=True))
    rendered = {key: source.render(key) for key in set(keys)}  # segments are few
    return [rendered[key] for key in keys]


def _column_of_text(name: str, values: Sequence[object], bad: dict[int, str]) -> list[str]:
    if set(map(type, values)) <= {str}:
        return list(values)  # type: ignore[arg-type] # all are str, as just seen
    texts = []
    for row, value in enumerate(values):
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            texts.append(str(value))
        else:
            bad.setdefault(row, describe(name, value, "text or a whole number is needed"))
            texts.append("")
    return texts


def _parsed(
    name: str, values: Sequence[Any], parse: Callable[[Any], float], bad: dict[int, str]
) -> list[float]:
    """Return (n,) numbers, 0 in bad rows; all at once where every value is a plain number."""
    # What is a number must not depend on the neighbours: both ways take what `_number` takes.
    kinds = set(map(type, values))
    try:
        if kinds <= {int, float} or (kinds == {str} and is_decimal("".join(values))):
            return list(map(float, values))
    except (ValueError, OverflowError):
        pass  # times in ISO 8601, or a value that the loop below will name
    numbers = []
    for row, value in enumerate(values):
        try:
            numbers.append(parse(value))
        except (ValueError, OverflowError) as error:
            shown = describe(name, value, "a number is needed")
            bad.setdefault(row, str(error) if isinstance(error, InvalidValueError) else shown)
            numbers.append(0.0)
    return numbers


def _number(value: object) -> float:
    """Return a JSON number or truth value, or a decimal number in text; else raise ValueError."""
    if isinstance(value, str) and is_decimal(value):
        return float(value)
    if isinstance(value, (int, float)):
        return float(value)
    raise ValueError


def _time(value: object) -> float:
    """Return seconds since 1970 from a number or ISO 8601 with an offset; else raise ValueError."""
    try:
        return _number(None if isinstance(value, bool) else value)
    except ValueError:
        return _time_of_iso(value)


def _time_of_iso(value: object) -> float:
    remedy = "seconds since 1970, or ISO 8601 with an offset: 2026-11-21T10:04:00+00:00"
    try:
        moment = dt.datetime.fromisoformat(value)  # type: ignore[arg-type] # raises TypeError
    except (TypeError, ValueError):
        raise InvalidValueError(describe("time", value, remedy)) from None
    if moment.tzinfo is None:
        raise InvalidValueError(
            describe(
                "time", value, "it says no time zone: end it with Z or an offset such as +01:00"
            )
        )
    return moment.timestamp()
