"""Dead letters back into their streams, once what made them useless is mended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from banditcore.errors import BanditCoreError, CorruptDataError, InvalidValueError, describe
from banditcore.event_format import decode_events, encode_events
from banditcore.events import EventColumns
from banditcore.store.event_streams import dead_letters, streams
from banditcore.store.event_streams.dead_letters import STREAMS, DeadLetter

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Replayed", "every_letter", "replay", "times_of"]

_PAGE = 200
_LATEST_S = 1e300  # what no float holds, or is no number, is no time


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the dead letters of a partition.

    Attributes
    ----------
    letters, events : int
        That stand in the stream once more, to be applied like new ones.
    unusable : int
        Letters that cannot be read, or hold events that are still not valid.
    before : int
        Letters that were replayed before.
    """

    letters: int
    events: int
    unusable: int
    before: int


def every_letter(
    store: Store, bandit: str, partition: int, source: str = STREAMS
) -> Iterator[DeadLetter]:
    """Yield the dead letters of a partition of a source by offset, page by page."""
    read = partial(dead_letters.read, store, bandit, partition, source=source, limit=_PAGE)
    after = -1
    while page := read(after=after):
        yield from page
        after = page[-1].offset


def replay(
    store: Store,
    bandit: str,
    partition: int,
    *,
    on_unusable: Callable[[DeadLetter, str], None] | None = None,
) -> Replayed:
    """Append the events of a partition's dead letters to its stream, each once.

    In one step an event leaves its letter and stands in the stream: whatever dies or is sent again,
    it comes to stand there once, and workers count it once. An event that is refused again, because
    it is still ahead of the clock, say, becomes a new letter.

    Parameters
    ----------
    partition : int
        Of the bandit's own streams. What other sources refused cannot be replayed: their letters
        are not beside a stream.
    on_unusable : callable, optional
        Called with a letter that stays, and why.

    Raises
    ------
    StoreError
        Some may be replayed. Replaying again goes on with the others.
    """
    letters = events = unusable = before = 0
    for letter in every_letter(store, bandit, partition):
        if letter.is_replayed:
            before += 1
            continue
        try:
            count, body = _packed(letter.raw)
        except BanditCoreError as error:
            unusable += 1
            if on_unusable is not None:
                on_unusable(letter, str(error))
            continue
        appended = streams.replay(store, bandit, partition, letter.offset, count=count, body=body)
        if appended.word == "ALREADY":  # somebody else was faster, or the reply was lost
            before += 1
            continue
        letters += 1
        events += count
    return Replayed(letters, events, unusable, before)


def times_of(raw: bytes) -> tuple[float, float] | None:
    """Return the first and last time of a letter's events, seconds since 1970, if it tells any."""
    try:
        times: Sequence[Any] = decode_events(raw).events.times.tolist()
    except BanditCoreError:
        try:
            times = [_fields(raw)["time"]]
        except (CorruptDataError, KeyError):
            return None
    numbers = [
        float(time) for time in times if isinstance(time, int | float) and abs(time) <= _LATEST_S
    ]
    return (min(numbers), max(numbers)) if numbers else None


def _packed(raw: bytes) -> tuple[int, bytes]:
    """Return how many events a letter holds, and their body.

    Raises
    ------
    BanditCoreError
        It cannot be read, or its events are not valid.
    """
    try:
        decoded = decode_events(raw)
    except CorruptDataError:
        fields = _fields(raw)
        columns = EventColumns.of(
            {name: [value] for name, value in fields.items()}, now=float("inf")
        )
        return 1, encode_events(columns)
    if not len(decoded.events):
        raise InvalidValueError(decoded.rejects[0].reason)
    return len(decoded.events) + len(decoded.rejects), raw


def _fields(raw: bytes) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CorruptDataError(describe("dead letter", raw[:40], "no event in JSON")) from error
    if not isinstance(found, dict):
        raise CorruptDataError(describe("dead letter", raw[:40], "no event in JSON"))
    return found
