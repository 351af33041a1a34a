"""A Redis stream that any program adds to, read by a consumer group: an unordered source.

An entry is one event: fields ``segment``, ``arm`` and ``event_id``; ``reward`` or ``successes``;
and, if they are not 1 and the time of the entry's id, ``trials`` and ``time`` (seconds since 1970,
or ISO 8601 with an offset). Other fields are ignored. From any language, without this library::

    XADD clicks * segment IN/mobile arm item-17 reward 1 event_id 8c1f...

An entry whose worker died comes to another one (XAUTOCLAIM), older than entries that are applied
already. So no mark can say how far the stream is applied, and events need ids: a producer that
sends an event again, after a lost reply, sends it with the same id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from banditcore.errors import InvalidTypeError, InvalidValueError, describe
from banditcore.identifiers import check_id
from banditcore.ingest.sources.records import Row, columns_of, row_of
from banditcore.ingest.sources.source import Delivery, SourceReject
from banditcore.store.event_streams import dead_letters
from banditcore.store.event_streams.consumer_group import ConsumerGroup, GroupEntry
from banditcore.store.event_streams.dead_letters import DeadLetter

if TYPE_CHECKING:
    from banditcore.ingest.ordered import CountingBandit

__all__ = ["DEFAULT_CLAIM_AFTER_S", "DEFAULT_GROUP", "RedisGroupSource"]

DEFAULT_GROUP = "banditcore"

DEFAULT_CLAIM_AFTER_S = 60.0
"""After how many seconds another worker takes what one was given and did not acknowledge."""

_FIELDS = ("segment", "arm", "successes", "trials", "time", "event_id")
_OPTIONAL = ("trials", "time")


class RedisGroupSource:
    """The entries of one stream of the store's server, shared by all workers of a group.

    For one thread. What a worker was given and did not acknowledge when it died comes to another.

    Parameters
    ----------
    bandit : Bandit
        Whose counts the events change.
    stream : str
        The key of the stream, on the store's server; of any name but those of banditcore's own.
    group : str
        The consumer group. It is made, from the beginning of the stream on, if it is not there.
    claim_after_s : float
        Seconds after which what a worker did not acknowledge goes to another. More than a batch
        takes: sooner it is applied for nothing, as a duplicate.
    remove : bool
        Remove entries from the stream once they are applied. Else it is for others to trim it, and
        not before this group has read it.
    """

    ordered: Literal[False] = False

    def __init__(
        self,
        bandit: CountingBandit,
        stream: str,
        *,
        group: str = DEFAULT_GROUP,
        claim_after_s: float = DEFAULT_CLAIM_AFTER_S,
        remove: bool = False,
    ) -> None:
        check_id("stream", stream)
        if stream.startswith("bc:"):
            raise InvalidValueError(
                describe("stream", stream, "a key of banditcore's own: a bandit reads these anyway")
            )
        check_id("group", group)
        if isinstance(claim_after_s, bool) or not isinstance(claim_after_s, int | float):
            raise InvalidTypeError(
                describe("claim_after_s", claim_after_s, "seconds, 0.001 to 86,400")
            )
        if not 0.001 <= claim_after_s <= 86_400:
            raise InvalidValueError(
                describe("claim_after_s", claim_after_s, "seconds, 0.001 to 86,400")
            )
        self.name = f"group:{stream}"
        self._store = bandit.store
        self._bandit = bandit.name
        self._remove = remove
        self._consumer = ConsumerGroup(bandit.store, stream, group, claim_after_s=claim_after_s)

    def partitions(self) -> Sequence[int]:
        """Return the one that there is."""
        return (0,)

    def wait(self, after: Mapping[int, int], wait_s: float) -> bool:  # noqa: ARG002  # no order
        """Wait for an entry, or until it is time to look for what others left."""
        return self._consumer.wait(wait_s)

    def poll(self, partition: int, limit: int) -> Delivery | None:
        """Return entries that others left unacknowledged for too long, and new ones."""
        entries = self._consumer.take(limit)
        if self._remove:  # what was applied is removed before it is acknowledged
            entries = [entry for entry in entries if entry.fields is not None]
        return _delivery(partition, entries) if entries else None

    def refuse(self, partition: int, rejects: Sequence[SourceReject]) -> int:
        """Keep rejects as dead letters; return how many were new."""
        letters = [DeadLetter(reject.offset, reject.reason, reject.raw) for reject in rejects]
        return dead_letters.keep(self._store, self._bandit, partition, letters, source=self.name)

    def commit(self, delivery: Delivery) -> None:
        """Acknowledge the entries, and remove them if that is wanted."""
        if not isinstance(delivery.receipt, tuple):
            raise InvalidTypeError(describe("receipt", delivery.receipt, "not one of this source"))
        self._consumer.acknowledge(delivery.receipt, remove=self._remove)

    def waiting(self, partition: int, offset: int) -> int | None:  # noqa: ARG002  # no order
        """Return how many entries are not acknowledged; None where the server does not know."""
        return self._consumer.unacknowledged()

    def end(self, partition: int) -> int | None:  # noqa: ARG002  # no order
        """Return None: there is no order."""
        return None

    def close(self) -> None:
        """Leave the group, unless something is to be claimed by others. May be called again."""
        self._consumer.close()


def _delivery(partition: int, entries: Sequence[GroupEntry]) -> Delivery:
    rows = [_row(*entry) for entry in entries]
    events, places, reasons = columns_of(rows, _FIELDS)
    offsets = np.array([_offset(entries[place][0]) for place in places], dtype=np.int64)
    rejects = tuple(
        SourceReject(_offset(entries[place][0]), _as_json(*entries[place]), reasons[place])
        for place in sorted(reasons)
    )
    return Delivery(partition, events, offsets, rejects, tuple(name for name, _ in entries))


def _row(name: bytes, fields: list[bytes] | None) -> Row | str:
    """Return the values of an entry in the order of `_FIELDS`, or why there are none."""
    if fields is None:
        return "it was removed from the stream before it was acknowledged: it may not be counted"
    try:
        texts = [field.decode() for field in fields]
    except UnicodeDecodeError as error:
        return f"it is no UTF-8: {error}"
    record: dict[str, object] = dict(zip(texts[::2], texts[1::2], strict=True))
    record.setdefault("time", int(name.partition(b"-")[0]) / 1000)
    return row_of(record, _FIELDS, _OPTIONAL, "field")


def _offset(name: bytes) -> int:
    """Return a number below 2^53 for an entry's id: milliseconds and up to 4,095 in one of them.

    Entries that share a number share a dead letter, so of them the first is kept.
    """
    milliseconds, _, sequence = name.partition(b"-")
    return min(int(milliseconds), 2**41 - 1) * 4096 + min(int(sequence), 4095)


def _as_json(name: bytes, fields: list[bytes] | None) -> bytes:
    texts = [field.decode(errors="backslashreplace") for field in fields or ()]
    shown = dict(zip(texts[::2], texts[1::2], strict=True))
    return json.dumps({"entry": name.decode(), **shown}).encode()
