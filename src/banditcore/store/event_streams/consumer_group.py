"""A Redis stream as a consumer group reads it: entries are given out, acknowledged, claimed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from redis.exceptions import ResponseError

from banditcore.errors import StoreError, StoreUnavailableError, describe
from banditcore.store.event_streams.stream_reading import LONGEST_WAIT_S, patient_client
from banditcore.store.functions import calling, stream_library
from banditcore.store.servers.translation import translated, translating
from banditcore.store.servers.transport import Command, Conversation, Failure, Word

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["ConsumerGroup", "GroupEntry"]

_LOOKS = 4  # for what others left, in the time after which it may be taken
_MOST_AT_ONCE = 10_000  # entries: the server answers nobody else meanwhile
_MOST_WORDS = 1_000  # of one acknowledgement
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5  # between two looks at a cluster


class GroupEntry(NamedTuple):
    """An entry: its id, and its fields and values in turn; None when it is not there any more."""

    id: bytes
    fields: list[bytes] | None


class ConsumerGroup:
    """One consumer of a group, of a name that nobody else has. For one thread; close it.

    The group is made, from the beginning of the stream on, where it is missing.

    Parameters
    ----------
    store : Store
        Where.
    stream : str
        The key of the stream.
    group : str
        The group's name.
    claim_after_s : float
        Seconds after which what a consumer has not acknowledged is given to another.
    """

    def __init__(self, store: Store, stream: str, group: str, *, claim_after_s: float) -> None:
        self._store = store
        self._stream = stream
        self._group = group
        self._claim_after_s = claim_after_s
        self._consumer = f"worker-{os.urandom(8).hex()}"
        self._next_claim = 0.0
        self._ahead: list[GroupEntry] = []  # given to us, and not yet passed on
        self._waiting: redis.Redis | None = None
        self._pause_s = _FIRST_PAUSE_S

    def take(self, limit: int) -> list[GroupEntry]:
        """Return entries, at most `limit`: what others left for too long first, then new ones.

        Raises
        ------
        StoreError
            What was given to this consumer is returned by a later call, of this one or another.
        """
        if not self._ahead:
            self._ahead = self._claim(min(limit, _MOST_AT_ONCE))
        while len(self._ahead) < limit:  # there they stay when a later read fails
            more = self._read(min(limit - len(self._ahead), _MOST_AT_ONCE))
            if not more:
                break
            self._ahead += more
        entries, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return entries

    def wait(self, wait_s: float) -> bool:
        """Wait for an entry, or until it is time to look for what others left; False if neither.

        What comes is seen at once; in a cluster after 0.05 s, or up to 0.5 s while nothing came.
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

    def acknowledge(self, ids: Sequence[bytes], *, remove: bool) -> None:
        """Let no one be given these entries again; remove them from the stream if that is wanted.

        Raises
        ------
        StoreError
            Some may be acknowledged. Doing it again is harmless.
        """
        commands = []
        for at in range(0, len(ids), _MOST_WORDS):
            some = ids[at : at + _MOST_WORDS]
            if remove:  # what is removed, and not acknowledged, is cleared when it is claimed
                commands.append(self._command("XDEL", self._stream, *some))
            commands.append(self._command("XACK", self._stream, self._group, *some))
        if commands:
            self._replies(commands)

    def unacknowledged(self) -> int | None:
        """Return how many entries nobody has acknowledged; None where the server cannot tell."""
        [groups] = self._replies([self._command("XINFO", "GROUPS", self._stream)])
        for group in groups:
            facts = dict(zip(group[::2], group[1::2], strict=True))
            if facts[b"name"] == self._group.encode():
                lag = facts.get(b"lag")
                return None if lag is None else int(lag) + int(facts[b"pending"])
        return None

    def close(self) -> None:
        """Leave the group, unless others have to claim something first. May be called again."""
        if self._waiting is not None:
            self._waiting.close()
            self._waiting = None
        # What is left of this consumer otherwise is a name without a meaning.
        with suppress(StoreError):
            leave = stream_library.leave(self._stream, self._group, self._consumer)
            calling.run(self._store, [leave])

    def _read(
        self, limit: int, patient: redis.Redis | None = None, block_ms: int = 0
    ) -> list[GroupEntry]:
        """Return new entries; with a patient client it waits for the first."""
        words: list[Word] = ["XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", limit]
        if patient is not None:
            words += ["BLOCK", block_ms]
        words += ["STREAMS", self._stream, ">"]
        [reply] = self._replies([self._command(*words)], patient)
        return [GroupEntry(*entry) for entry in reply[0][1]] if reply else []

    def _claim(self, limit: int) -> list[GroupEntry]:
        """Return entries that others were given and left, those too that are gone meanwhile."""
        now = time.monotonic()
        if now < self._next_claim:
            return []
        idle_ms = max(1, round(1000 * self._claim_after_s))
        where = (self._stream, self._group, self._consumer)
        found: list[GroupEntry] = []
        cursor: Word = "0-0"
        while True:
            words = ("XAUTOCLAIM", *where, idle_ms, cursor, "COUNT", limit - len(found))
            [[cursor, entries, removed]] = self._replies([self._command(*words)])
            found += [GroupEntry(*entry) for entry in entries]
            found += [GroupEntry(name, None) for name in removed]  # this is the last word of them
            if cursor == b"0-0":
                self._next_claim = now + self._claim_after_s / _LOOKS
                return found
            if len(found) >= limit:
                return found  # there may be more: the next call looks again

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
            if _is_missing(answer):  # removed once more, while it was waited for entries
                raise StoreUnavailableError(
                    describe("group", self._group, f"of stream {self._stream!r} was removed again")
                )
            if isinstance(answer, Failure):
                raise translated(answer.error, self._store, answer.node) from answer.error
        return answers

    def _talk(self, client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
        with translating(self._store), Conversation(client) as conversation:
            conversation.write(command.words for command in commands)
            return conversation.read()


def _is_missing(answer: Any) -> bool:
    if not isinstance(answer, Failure) or not isinstance(answer.error, ResponseError):
        return False
    text = str(answer.error)
    return text.startswith("NOGROUP") or "no such key" in text.lower()
