"""Messages of Kafka as events.

The value of a message is one event as a JSON object: ``segment`` and ``arm``; ``reward`` or
``successes``; and, if they are not 1 and the message's own time, ``trials`` and ``time`` (seconds
since 1970, or ISO 8601 with an offset). Other keys are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from banditcore.ingest.sources.records import Row, columns_of, row_of
from banditcore.ingest.sources.source import SourceBatch, SourceReject

__all__ = ["as_batch"]

_FIELDS = ("segment", "arm", "successes", "trials", "time")
_OPTIONAL = ("trials", "time")


def as_batch(partition: int, messages: Sequence[Any], missing: int) -> SourceBatch:
    """Return messages of a partition, in order, as events and rejects; `missing` goes with them."""
    rows = [_row(message) for message in messages]
    events, places, reasons = columns_of(rows, _FIELDS)
    offsets = np.array([messages[place].offset() for place in places], dtype=np.int64)
    rejects = tuple(
        SourceReject(messages[place].offset(), messages[place].value() or b"", reasons[place])
        for place in sorted(reasons)
    )
    end = int(messages[-1].offset())
    return SourceBatch(partition, events, offsets, rejects, end, missing)


def _row(message: Any) -> Row | str:
    """Return the values of a message in the order of `_FIELDS`, or why there are none."""
    value = message.value()
    if value is None:
        return "the message has no value"
    try:
        record = json.loads(value, parse_constant=_refuse_constant)
    except RecursionError:
        return "no JSON that can be read: it nests too deeply"
    except ValueError as error:  # of UTF-8 too
        return f"no JSON: {error}"
    if not isinstance(record, dict):
        return f"a JSON object is needed, not {type(record).__name__}"
    kind, milliseconds = message.timestamp()
    if kind:
        record.setdefault("time", milliseconds / 1000)
    row = row_of(record, _FIELDS, _OPTIONAL, "key")
    if not isinstance(row, str) and "time" not in record:
        return "it has no key 'time', and the message no time of its own"
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
