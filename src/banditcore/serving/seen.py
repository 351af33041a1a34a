"""What users have seen: asked within a request's deadline, marked after it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from banditcore.errors import CorruptDataError, StoreError
from banditcore.serving.arm_index import ArmIndexes
from banditcore.serving.caps import FrequencyCap, horizon_s
from banditcore.serving.lookups import DEFAULT_INDEX, Seen, SeenOfMany
from banditcore.serving.rung import Rung
from banditcore.serving.seen_memory import SeenMemory
from banditcore.serving.unsent_marks import Fate, UnsentMarks
from banditcore.store.deadlines.deadline_client import Answer, DeadlineClient, Question, Unanswered
from banditcore.store.deadlines.resp import packed
from banditcore.store.functions import calling, seen_library
from banditcore.store.keys import SeenKeys
from banditcore.store.seen_record import (
    LONGEST_BYTES,
    MOST_EXPOSURES,
    arm_hashes,
    check,
    exposure,
    forbidden,
    limits,
    pack,
)

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["LONGEST_ASK_S", "SeenItems", "SeenStats"]

LONGEST_ASK_S = 0.020
"""The longest that a request waits for what its user has seen, or for a mark, in seconds."""

_SEND_S = 1.0  # in the background, nobody waits
_NOBODY = ""  # no user is called so

# A look-up but for its key: batches have thousands. It asks for one byte more than a record may
# have, so that what is longer is known to be none.
_HEAD = packed(["GETRANGE"]).replace(b"*1", b"*4", 1)
_TAIL = packed([0, LONGEST_BYTES]).removeprefix(b"*2\r\n")

_ALL: weakref.WeakSet[SeenItems] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class SeenStats:
    """How it went since the recommender was made.

    Attributes
    ----------
    failures : mapping of str to int
        Look-ups without a usable answer, by why: ``"timeout"``, ``"connection"``, ``"garbled"``,
        ``"unreachable"`` (known to be, so not asked), ``"corrupt"``, or the first word of what
        the server said.
    unsent : int
        Marks, an arm each, that wait to be sent.
    dropped : int
        Marks that were given up: too many waited, the store refused them, or they were left at
        the end.
    trouble : str or None
        Why the store cannot be reached just now. No password is in it.
    """

    failures: Mapping[str, int]
    unsent: int
    dropped: int
    trouble: str | None


class Told(Protocol):
    """Hears of look-ups."""

    def __call__(self, seconds: float, *, ok: bool) -> None:
        """Take note of one."""


class SeenItems:
    """What users of one bandit have seen, by caps. Thread-safe; for any event loop too.

    Parameters
    ----------
    store : Store
        Where records are; asked on connections of its own.
    bandit : str
        Whose.
    caps : sequence of FrequencyCap
        At least one.
    budget : float
        Seconds a request has; a look-up takes this or 20 ms, whatever is less.
    told : callable or None
        Called after each look-up with the seconds it took, and ``ok=`` whether it succeeded.
    """

    def __init__(
        self,
        store: Store,
        bandit: str,
        caps: Sequence[FrequencyCap],
        *,
        budget: float,
        told: Told | None = None,
    ) -> None:
        self._store = store
        self._keys = SeenKeys(bandit)
        self._limits = limits((cap.times, cap.within_s) for cap in caps)
        self._horizon_s = horizon_s(caps)
        self._ask_s = min(LONGEST_ASK_S, budget)
        self._told = told
        self.memory = SeenMemory()
        self._unsent = UnsentMarks(self._send)
        self._indexes = ArmIndexes()
        self._failures: Counter[str] = Counter()
        self._counting = threading.Lock()
        probe = packed(("GETRANGE", self._keys.of(_NOBODY), 0, 0))
        self._client = DeadlineClient(store, probe)
        _ALL.add(self)

    @property
    def stats(self) -> SeenStats:
        """What did not go as it should."""
        with self._counting:
            failures = dict(self._failures)
        return SeenStats(failures, len(self._unsent), self._unsent.dropped, self._client.trouble)

    def warm_up(self) -> None:
        """Open a connection to each server and give it its functions; else both come later."""
        # Perhaps it may only read. The first mark meets the same, and tells.
        with suppress(StoreError):
            calling.load(self._store, seen_library.FILE)
        self._client.warm_up(time.monotonic() + _SEND_S)

    def prepare(self, rungs: Mapping[str, Rung]) -> None:
        """Index the arms of snapshots before a request needs it; let go of others."""
        for segment, rung in rungs.items():
            self._indexes.of(segment, rung.snapshot.arms)
        self._indexes.keep({*rungs, DEFAULT_INDEX})

    def look_up(self, user: str, moment: float) -> Seen:
        """Ask what a user has seen: one round trip, 20 ms at most. Never raises."""
        deadline = time.monotonic() + self._ask_s
        key = self._keys.of(user)
        answers = self._client.ask([_look_up(key)], deadline)
        return self._seen([key], [0], moment, answers, deadline).of(0)

    def look_up_many(self, users: Sequence[str | None], moment: float) -> SeenOfMany:
        """Ask for many users together: one round trip to each server."""
        deadline = time.monotonic() + self._ask_s
        wanted = dict.fromkeys(user for user in users if user is not None)
        keys = [*map(self._keys.of, wanted)]
        answers = self._client.ask([*map(_look_up, keys)], deadline)
        if len(wanted) == len(users):  # each of them known, and here once
            numbers = list(range(len(users)))
        else:
            number_of = dict(zip(wanted, range(len(wanted)), strict=True))
            numbers = [-1 if user is None else number_of[user] for user in users]
        return self._seen(keys, numbers, moment, answers, deadline)

    async def look_up_async(self, user: str, moment: float) -> Seen:
        """Do what `look_up` does, without blocking the event loop."""
        deadline = time.monotonic() + self._ask_s
        key = self._keys.of(user)
        answers = await self._client.ask_async([_look_up(key)], deadline)
        return self._seen([key], [0], moment, answers, deadline).of(0)

    def mark(self, user: str, arms: Iterable[str], moment: float) -> bool:
        """Note that a user was shown arms; 20 ms at most. See `Recommender.mark_seen`."""
        deadline = time.monotonic() + LONGEST_ASK_S
        key, exposures, question = self._marking(user, arms, moment)
        if not exposures:
            return True
        [answer] = self._client.ask([question], deadline)
        return self._kept(key, exposures, answer)

    async def mark_async(self, user: str, arms: Iterable[str], moment: float) -> bool:
        """Do what `mark` does, without blocking the event loop."""
        deadline = time.monotonic() + LONGEST_ASK_S
        key, exposures, question = self._marking(user, arms, moment)
        if not exposures:
            return True
        try:
            [answer] = await self._client.ask_async([question], deadline)
        except BaseException:  # cancelled: perhaps it arrived, so once more does no harm
            self._unsent.add(key, exposures)
            raise
        return self._kept(key, exposures, answer)

    def close(self) -> None:
        """Send what waits if that is possible at once; close connections; end threads."""
        self._unsent.close()
        self._client.close()
        self.memory.clear()
        self._indexes.keep(())

    def after_fork(self) -> None:
        """Let go, in a child, of locks that are held for ever and of what its parent sends."""
        self._counting = threading.Lock()
        self.memory.after_fork()
        self._unsent.clear()

    def _seen(
        self,
        keys: list[str],
        users: list[int],
        moment: float,
        answers: Sequence[Answer],
        deadline: float,
    ) -> SeenOfMany:
        """Return what the store and this process know of users; see `SeenOfMany`."""
        second = int(moment // 1)
        known = self.memory.marks(keys, second - self._horizon_s)
        records = [self._record(answer) for answer in answers]
        ok = [record is not None for record in records]
        if not all(ok):
            untold = [number for number, told in enumerate(ok) if not told]
            lately = self.memory.answers([keys[number] for number in untold])
            for number, shown in zip(untold, lately, strict=True):
                known[number] += shown
        found = forbidden(self._limits, [record or b"" for record in records], known, second)
        seen = SeenOfMany(self._indexes, self.memory, keys, users, second, found, ok)
        if self._told is not None and keys:
            self._told(time.monotonic() - (deadline - self._ask_s), ok=all(ok))
        return seen

    def _record(self, answer: Answer) -> bytes | None:
        """Return a user's record; None if there is no usable answer, which is counted."""
        if isinstance(answer, bytes):
            try:
                check(answer)
            except CorruptDataError:
                self._failed("corrupt")
                return None
            return answer
        self._failed(answer.why if isinstance(answer, Unanswered) else "garbled")
        return None

    def _failed(self, why: str) -> None:
        with self._counting:
            self._failures[why] += 1

    def _marking(
        self, user: str, arms: Iterable[str], moment: float
    ) -> tuple[str, dict[int, int], Question]:
        """Remember a mark here; return its record's key, its exposures, what sends them."""
        key, second = self._keys.of(user), int(moment // 1)
        # No more than a record keeps: the server would be busy with the others for nothing.
        last = list(dict.fromkeys(arms))[-MOST_EXPOSURES:]
        exposures = {exposure(each, second): second for each in arm_hashes(last).tolist()}
        if exposures:
            self.memory.mark(key, exposures)
        return key, exposures, self._question(key, exposures)

    def _kept(self, key: str, exposures: dict[int, int], answer: Answer) -> bool:
        """Tell whether marks are stored; keep those that can still be."""
        fate = _fate(answer)
        if fate is Fate.UNSENT:
            self._unsent.add(key, exposures)
        elif fate is Fate.REFUSED:
            self._unsent.refused(len(exposures))
        return fate is Fate.STORED

    def _send(self, batch: Sequence[tuple[str, dict[int, int]]]) -> list[Fate]:
        """Send marks in the background."""
        questions = [self._question(key, exposures) for key, exposures in batch]
        answers = self._client.ask(questions, time.monotonic() + _SEND_S)
        if any(isinstance(each, Unanswered) and each.why == "NOFUNCTION" for each in answers):
            try:
                calling.run(self._store, [self._call(*each) for each in batch])
            except StoreError:
                return [_fate(answer) for answer in answers]
            answers = self._client.ask(questions, time.monotonic() + _SEND_S)
        return [_fate(answer) for answer in answers]

    def _question(self, key: str, exposures: Mapping[int, int]) -> Question:
        return Question(key, packed(self._call(key, exposures).command()))

    def _call(self, key: str, exposures: Mapping[int, int]) -> calling.Call:
        return seen_library.mark(
            key,
            now=max(exposures.values(), default=0),
            horizon=self._horizon_s,
            most=MOST_EXPOSURES,
            exposures=pack(exposures),
        )


def _look_up(key: str) -> Question:
    encoded = key.encode()
    return Question(key, b"%b$%d\r\n%b\r\n%b" % (_HEAD, len(encoded), encoded, _TAIL))


def _fate(answer: Answer) -> Fate:
    if isinstance(answer, Unanswered):
        return Fate.REFUSED if answer.why == "WRONGTYPE" else Fate.UNSENT
    if isinstance(answer, list) and answer and answer[0] in (b"OK", b"RENEWED"):
        return Fate.STORED
    return Fate.REFUSED


def _after_fork() -> None:
    for items in list(_ALL):
        items.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
