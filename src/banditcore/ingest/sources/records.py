"""Turns records of other programs into columns of events."""

from __future__ import annotations

from collections.abc import Sequence

from banditcore.events import EventColumns
from banditcore.logs.columns import Source as Column
from banditcore.logs.convert import convert

__all__ = ["Row", "columns_of", "row_of"]

Row = tuple[object, ...]
"""The values of a record, in the order of its source's fields; then the name that it gives its
successes."""

_OUTCOMES = ("reward", "successes")


def row_of(
    record: dict[str, object], fields: Sequence[str], optional: Sequence[str], word: str
) -> Row | str:
    """Return the values of a record, or why it has none.

    Parameters
    ----------
    record : dict of str to object
        With ``reward`` or ``successes``; changed: the former becomes the latter.
    fields : sequence of str
        What an event of this source is made of.
    optional : sequence of str
        Those that a record need not have: None where it does not.
    word : str
        What the source calls a field.
    """
    given = [name for name in _OUTCOMES if name in record]
    if len(given) > 1:
        return "reward and successes mean the same: give one"
    for outcome in given:
        record["successes"] = record.pop(outcome)
    for name in fields:
        if name not in record and name not in optional:
            called = "'reward' (or 'successes')" if name == "successes" else repr(name)
            return f"it has no {word} {called}"
    record.setdefault("trials", 1)
    return (*(record.get(name) for name in fields), *given)


def columns_of(
    rows: Sequence[Row | str], fields: Sequence[str]
) -> tuple[EventColumns, list[int], dict[int, str]]:
    """Convert rows of text or numbers.

    Parameters
    ----------
    rows : sequence of (Row or str)
        A text says why there is no row.
    fields : sequence of str
        What the values of a row are.

    Returns
    -------
    events : EventColumns
        Those that can be used; times may be ahead of any clock.
    places : list of int
        Where they stand among `rows`.
    reasons : dict of int to str
        Why the others cannot be used, by place.
    """
    reasons = {place: row for place, row in enumerate(rows) if isinstance(row, str)}
    places = [place for place in range(len(rows)) if place not in reasons]
    usable = [row for row in rows if not isinstance(row, str)]
    columns = {name: Column(("", ""), (name,), (None,)) for name in fields}
    events, kept, bad = convert(usable, fields, columns, float("inf"))
    reasons |= {places[row]: _as_given(reason, usable[row][-1]) for row, reason in bad.items()}
    return events, [places[row] for row in kept], reasons


def _as_given(reason: str, outcome: object) -> str:
    """Return a reason that calls the successes what the record does."""
    name, verb, rest = reason.partition(" is ")
    return f"{outcome}{verb}{rest}" if name == "successes" else reason
