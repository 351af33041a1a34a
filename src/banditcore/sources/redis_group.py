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
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import redis
from redis.exceptions import ResponseError

from banditcore.errors import InvalidValueError, StoreError, describe
from banditcore.identifiers import check_id
from banditcore.logs.columns import Source as Column
from banditcore.logs.convert import convert
from banditcore.sources.source import Delivery, SourceReject
from banditcore.store import dead_letters
from banditcore.store.dead_letters import DeadLetter
from banditcore.store.stream_reading import LONGEST_WAIT_S, patient_client
from banditcore.store.translation import translated, translating
from banditcore.store.transport import Command, Conversation, Failure, Word

if TYPE_CHECKING:
    from banditcore.ordered import CountingBandit

__all__ = ["DEFAULT_CLAIM_AFTER_S", "DEFAULT_GROUP", "RedisGroupSource"]

DEFAULT_GROUP = "banditcore"

DEFAULT_CLAIM_AFTER_S = 60.0
"""After how many seconds another worker takes what one was given and did not acknowledge."""

_FIELDS = ("segment", "arm", "successes", "trials", "time", "event_id")
_COLUMNS = {name: Column(("", ""), (name,), (None,)) for name in _FIELDS}
_REQUIRED = ("segment", "arm", "successes", "event_id")
_LOOKS = 4  # for what others left, in the time after which it may be taken
_MOST_AT_ONCE = 10_000  # entries: the server answers nobody else meanwhile
_MOST_WORDS = 1_000  # of one acknowledgement
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.4

_Entries = list[tuple[bytes, list[bytes]]]  # their ids, and fields and values in turn


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
        self._stream = check_id("stream", stream)
        if stream.startswith("bc:"):
            raise InvalidValueError(
                describe("stream", stream, "a key of banditcore's own: a bandit reads these anyway")
            )
        self._group = check_id("group", group)
        if not 0.001 <= claim_after_s <= 86_400:
            raise InvalidValueError(
                describe("claim_after_s", claim_after_s, "seconds, 0.001 to 86,400")
            )
        self.name = f"group:{stream}"
        self._store = bandit.store
        self._bandit = bandit.name
        self._claim_after_s = claim_after_s
        self._remove = remove
        self._consumer = f"worker-{os.urandom(8).hex()}"  # nobody else's: another one's is claimed
        self._next_claim = 0.0
        self._ahead: _Entries = []  # read while it waited
        self._waiting: redis.Redis | None = None
        self._pause_s = _FIRST_PAUSE_S

    def partitions(self) -> Sequence[int]:
        """Return the one that there is."""
        return (0,)

    def wait(self, after: Mapping[int, int], wait_s: float) -> bool:  # noqa: ARG002  # no order
        """Wait for an entry, or until it is time to look for what others left.

        What comes is seen at once; in a cluster every 0.05 s, down to every 0.4 s while nothing
        comes.
        """
        deadline = time.monotonic() + min(wait_s, LONGEST_WAIT_S)
        client = self._store.client
        while not self._ahead:
            now = time.monotonic()
            left_s = min(deadline, self._next_claim) - now
            if left_s <= 0:
                return now >= self._next_claim
            if isinstance(client, redis.RedisCluster):
                time.sleep(min(left_s, self._pause_s))
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
                self._ahead = self._read(1)
            else:
                if self._waiting is None:
                    self._waiting = patient_client(client)
                self._ahead = self._read(1, self._waiting, max(1, round(1000 * left_s)))
        self._pause_s = _FIRST_PAUSE_S
        return True

    def poll(self, partition: int, limit: int) -> Delivery | None:
        """Return entries that others left unacknowledged for too long, or else new ones."""
        if not self._ahead:
            self._ahead = self._claim(min(limit, _MOST_AT_ONCE))
        while len(self._ahead) < limit:  # there they stay when a later read fails
            more = self._read(min(limit - len(self._ahead), _MOST_AT_ONCE))
            if not more:
                break
            self._ahead += more
        entries, self._ahead = self._ahead, []
        return _delivery(partition, entries) if entries else None

    def refuse(self, partition: int, rejects: Sequence[SourceReject]) -> int:
        """Keep rejects as dead letters; return how many were new."""
        letters = [DeadLetter(reject.offset, reject.reason, reject.raw) for reject in rejects]
        where = dead_letters.place_of(self.name, partition)
        return dead_letters.keep(self._store, self._bandit, where, letters)

    def commit(self, delivery: Delivery) -> None:
        """Acknowledge the entries, and remove them if that is wanted."""
        names = delivery.receipt
        if not isinstance(names, tuple):
            raise InvalidValueError(describe("receipt", names, "not one of this source"))
        commands = []
        for at in range(0, len(names), _MOST_WORDS):
            some = names[at : at + _MOST_WORDS]
            if self._remove:  # what is removed, and not acknowledged, is cleared when it is claimed
                commands.append(self._command("XDEL", self._stream, *some))
            commands.append(self._command("XACK", self._stream, self._group, *some))
        self._replies(commands)

    def waiting(self, partition: int, offset: int) -> int | None:  # noqa: ARG002  # no order
        """Return how many entries are not acknowledged; None where the server does not know."""
        [groups] = self._replies([self._command("XINFO", "GROUPS", self._stream)])
        for group in groups:
            facts = dict(zip(group[::2], group[1::2], strict=True))
            if facts[b"name"] == self._group.encode():
                lag = facts.get(b"lag")
                return None if lag is None else int(lag) + int(facts[b"pending"])
        return None

    def end(self, partition: int) -> int | None:  # noqa: ARG002  # no order
        """Return None: there is no order."""
        return None

    def close(self) -> None:
        """Leave the group, unless something is to be claimed by others. May be called again."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        words = ("XPENDING", self._stream, self._group, "-", "+", 1, self._consumer)
        leave = ("XGROUP", "DELCONSUMER", self._stream, self._group, self._consumer)
        try:
            [pending] = self._store.replies([self._command(*words)])
            if not pending:  # removing it would lose them
                self._store.replies([self._command(*leave)])
        except StoreError:
            return  # what is left of it is a name

    def _read(self, limit: int, patient: redis.Redis | None = None, block_ms: int = 0) -> _Entries:
        """Return new entries; with a patient client it waits for the first."""
        words: list[Word] = ["XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", limit]
        if patient is not None:
            words += ["BLOCK", block_ms]
        words += ["STREAMS", self._stream, ">"]
        reply = self._replies([self._command(*words)], patient)[0]
        return [_entry(*entry) for entry in reply[0][1]] if reply else []

    def _claim(self, limit: int) -> _Entries:
        """Return entries that others were given and left."""
        now = time.monotonic()
        if now < self._next_claim:
            return []
        idle_ms = max(1, round(1000 * self._claim_after_s))
        where = (self._stream, self._group, self._consumer)
        found: _Entries = []
        cursor: Word = "0-0"
        while True:
            words = ("XAUTOCLAIM", *where, idle_ms, cursor, "COUNT", limit - len(found))
            [[cursor, entries, *_]] = self._replies([self._command(*words)])
            found += [_entry(*entry) for entry in entries]
            if cursor == b"0-0":
                self._next_claim = now + self._claim_after_s / _LOOKS
                return found
            if len(found) >= limit:
                return found  # there may be more: the next poll looks again

    def _command(self, *words: Word) -> Command:
        return Command(self._stream, words)

    def _replies(
        self, commands: Sequence[Command], patient: redis.Redis | None = None
    ) -> list[Any]:
        """Return replies; where the stream or the group is missing they are made first."""
        send = self._store.send if patient is None else partial(self._talk, patient)
        answers = send(commands)
        if any(_is_missing(answer) for answer in answers):
            # All there is comes again: the windows tell what was counted.
            words = ("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
            [made] = self._store.send([self._command(*words)])
            if isinstance(made, Failure) and "BUSYGROUP" not in str(made.error):
                raise translated(made.error, self._store, made.node) from made.error
            answers = send(commands)
        for answer in answers:
            if isinstance(answer, Failure):
                raise translated(answer.error, self._store, answer.node) from answer.error
        return answers

    def _talk(self, client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
        with translating(self._store), Conversation(client) as conversation:
            conversation.write(command.words for command in commands)
            return conversation.read()


def _entry(name: bytes, fields: list[bytes] | None) -> tuple[bytes, list[bytes]]:
    return name, fields or []


def _is_missing(answer: Any) -> bool:
    if not isinstance(answer, Failure) or not isinstance(answer.error, ResponseError):
        return False
    text = str(answer.error)
    return text.startswith("NOGROUP") or "no such key" in text.lower()


def _delivery(partition: int, entries: _Entries) -> Delivery:
    rows: list[tuple[object, ...]] = []
    places: list[int] = []
    reasons: dict[int, str] = {}
    for place, (name, fields) in enumerate(entries):
        row = _row(name, fields)
        if isinstance(row, str):
            reasons[place] = row
        else:
            rows.append(row)
            places.append(place)
    events, kept, bad = convert(rows, _FIELDS, _COLUMNS, float("inf"))
    reasons |= {places[row]: reason for row, reason in bad.items()}
    offsets = np.array([_offset(entries[places[row]][0]) for row in kept], dtype=np.int64)
    rejects = tuple(
        SourceReject(_offset(entries[place][0]), _as_json(*entries[place]), reasons[place])
        for place in sorted(reasons)
    )
    return Delivery(partition, events, offsets, rejects, tuple(name for name, _ in entries))


def _row(name: bytes, fields: list[bytes]) -> tuple[object, ...] | str:
    """Return the values of an entry in the order of `_FIELDS`, or why there are none."""
    try:
        texts = [field.decode() for field in fields]
    except UnicodeDecodeError as error:
        return f"it is no UTF-8: {error}"
    record: dict[str, object] = dict(zip(texts[::2], texts[1::2], strict=True))
    if "reward" in record:
        if "successes" in record:
            return "reward and successes mean the same: give one"
        record["successes"] = record.pop("reward")
    for needed in _REQUIRED:
        if needed not in record:
            return f"it has no field {needed!r}"
    record.setdefault("trials", 1)
    record.setdefault("time", int(name.partition(b"-")[0]) / 1000)
    return tuple(record[field] for field in _FIELDS)


def _offset(name: bytes) -> int:
    """Return a number below 2^53 for an entry's id: milliseconds and up to 4,095 in one of them.

    Entries that share a number share a dead letter, so of them the first is kept.
    """
    milliseconds, _, sequence = name.partition(b"-")
    return min(int(milliseconds), 2**41 - 1) * 4096 + min(int(sequence), 4095)


def _as_json(name: bytes, fields: list[bytes]) -> bytes:
    texts = [field.decode(errors="backslashreplace") for field in fields]
    shown = dict(zip(texts[::2], texts[1::2], strict=True))
    return json.dumps({"entry": name.decode(), **shown}).encode()
