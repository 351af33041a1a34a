"""What users have seen: asked within a request's deadline, marked after it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from banditcore._packed import PackedIds
from banditcore.errors import CorruptDataError, StoreError
from banditcore.serving.arm_index import ArmIndex
from banditcore.serving.caps import FrequencyCap, forbidden, horizon_s
from banditcore.serving.rung import Rung
from banditcore.serving.seen_memory import SeenMemory
from banditcore.serving.unsent_marks import Fate, UnsentMarks
from banditcore.store import keys, library, seen_library
from banditcore.store.deadline_client import Answer, DeadlineClient, Unanswered
from banditcore.store.seen_record import (
    LONGEST_BYTES,
    MOST_EXPOSURES,
    arm_hash,
    decode,
    exposure,
    pack,
)
from banditcore.store.transport import Command

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["LONGEST_ASK_S", "Seen", "SeenItems", "SeenStats"]

LONGEST_ASK_S = 0.020
"""The longest that a request waits for what its user has seen, or for a mark, in seconds."""

_SEND_S = 1.0  # in the background, nobody waits
_NOBODY = ""  # no user is called so
_DEFAULT = "/default"  # no segment is called so

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


class Seen:
    """What one user may not be shown now.

    Attributes
    ----------
    ok : bool
        False: the store did not tell, so only this process's memory is in it.
    """

    __slots__ = ("_hashes", "_items", "key", "ok", "second")

    def __init__(
        self, items: SeenItems, key: str, second: int, hashes: NDArray[np.uint64], *, ok: bool
    ) -> None:
        self._items = items
        self._hashes = hashes
        self.key = key
        self.second = second
        self.ok = ok

    def among(self, segment: str, arms: Sequence[str] | PackedIds) -> frozenset[str]:
        """Return those of a segment's arms that are not to be shown."""
        return self._items.index(segment, arms).among(self._hashes)

    def among_default(self, arms: Sequence[str] | PackedIds) -> frozenset[str]:
        """Return those of the caller's default arms that are not to be shown."""
        return self.among(_DEFAULT, arms)

    def answered(self, arms: tuple[str, ...]) -> None:
        """Remember the answer, for when the store is out of reach."""
        self._items.memory.answer(self.key, self.second, arms)


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
        self._bandit = bandit
        self._caps = caps
        self._horizon_s = horizon_s(caps)
        self._ask_s = min(LONGEST_ASK_S, budget)
        self._told = told
        self.memory = SeenMemory()
        self._unsent = UnsentMarks(self._send)
        self._indexes: dict[str, ArmIndex] = {}
        self._failures: Counter[str] = Counter()
        self._counting = threading.Lock()
        nobody = keys.seen(bandit, _NOBODY)
        self._client = DeadlineClient(store, Command(nobody, ("GETRANGE", nobody, 0, 0)))
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
            library.load(self._store, seen_library.FILE)
        self._client.warm_up(time.monotonic() + _SEND_S)

    def prepare(self, rungs: Mapping[str, Rung]) -> None:
        """Index the arms of snapshots before a request needs it; let go of others."""
        for segment, rung in rungs.items():
            self.index(segment, rung.snapshot.arms)
        for segment in list(self._indexes):  # a copy: requests add to it meanwhile
            if segment not in rungs and segment != _DEFAULT:
                self._indexes.pop(segment, None)

    def index(self, segment: str, arms: Sequence[str] | PackedIds) -> ArmIndex:
        """Return the index of a segment's arms."""
        found = self._indexes.get(segment)
        if found is None or found.arms is not arms:
            # Two threads may both make it: the same.
            found = self._indexes[segment] = ArmIndex(arms, found)
        return found

    def look_up(self, user: str, moment: float) -> Seen:
        """Ask what a user has seen: one round trip, 20 ms at most. Never raises."""
        deadline = time.monotonic() + self._ask_s
        key = keys.seen(self._bandit, user)
        [answer] = self._client.ask([self._question(key)], deadline)
        seen = self._seen(key, moment, answer)
        self._tell(deadline, [seen])
        return seen

    def look_up_many(self, users: Sequence[str | None], moment: float) -> list[Seen | None]:
        """Ask for many users together: one round trip to each server. None for None."""
        deadline = time.monotonic() + self._ask_s
        wanted = {user: keys.seen(self._bandit, user) for user in users if user is not None}
        answers = self._client.ask([self._question(key) for key in wanted.values()], deadline)
        found = {
            user: self._seen(key, moment, answer)
            for (user, key), answer in zip(wanted.items(), answers, strict=True)
        }
        if found:
            self._tell(deadline, found.values())
        return [None if user is None else found[user] for user in users]

    async def look_up_async(self, user: str, moment: float) -> Seen:
        """Do what `look_up` does, without blocking the event loop."""
        deadline = time.monotonic() + self._ask_s
        key = keys.seen(self._bandit, user)
        [answer] = await self._client.ask_async([self._question(key)], deadline)
        seen = self._seen(key, moment, answer)
        self._tell(deadline, [seen])
        return seen

    def mark(self, user: str, arms: Iterable[str], moment: float) -> bool:
        """Note that a user was shown arms; 20 ms at most. See `Recommender.mark_seen`."""
        deadline = time.monotonic() + LONGEST_ASK_S
        key, exposures, command = self._marking(user, arms, moment)
        if not exposures:
            return True
        [answer] = self._client.ask([command], deadline)
        return self._kept(key, exposures, answer)

    async def mark_async(self, user: str, arms: Iterable[str], moment: float) -> bool:
        """Do what `mark` does, without blocking the event loop."""
        deadline = time.monotonic() + LONGEST_ASK_S
        key, exposures, command = self._marking(user, arms, moment)
        if not exposures:
            return True
        try:
            [answer] = await self._client.ask_async([command], deadline)
        except BaseException:  # cancelled: perhaps it arrived, so once more does no harm
            self._unsent.add(key, exposures)
            raise
        return self._kept(key, exposures, answer)

    def close(self) -> None:
        """Send what waits if that is possible at once; close connections; end threads."""
        self._unsent.close()
        self._client.close()
        self.memory.clear()
        self._indexes.clear()

    def after_fork(self) -> None:
        """Let go, in a child, of locks that are held for ever and of what its parent sends."""
        self._counting = threading.Lock()
        self.memory.after_fork()
        self._unsent.clear()

    def _tell(self, deadline: float, found: Iterable[Seen]) -> None:
        if self._told is not None:
            began = deadline - self._ask_s
            self._told(time.monotonic() - began, ok=all(seen.ok for seen in found))

    def _question(self, key: str) -> Command:
        # One byte more than a record may have: what is longer is known to be none.
        return Command(key, ("GETRANGE", key, 0, LONGEST_BYTES))

    def _seen(self, key: str, moment: float, answer: Answer) -> Seen:
        second = int(moment // 1)
        known = self.memory.marks(key, second - self._horizon_s)
        exposures = None
        if isinstance(answer, bytes):
            try:
                exposures = decode(answer)
            except CorruptDataError:
                self._failed("corrupt")
        else:
            self._failed(answer.why if isinstance(answer, Unanswered) else "garbled")
        ok = exposures is not None
        if not ok:
            known += self.memory.answers(key)
        if known:
            here = np.array(known, np.uint64)
            exposures = np.unique(here if exposures is None else np.append(exposures, here))
        if exposures is None:
            exposures = decode(b"")
        return Seen(self, key, second, forbidden(self._caps, exposures, second), ok=ok)

    def _failed(self, why: str) -> None:
        with self._counting:
            self._failures[why] += 1

    def _marking(
        self, user: str, arms: Iterable[str], moment: float
    ) -> tuple[str, dict[int, int], Command]:
        """Remember a mark here; return its record's key, its exposures, what sends them."""
        key, second = keys.seen(self._bandit, user), int(moment // 1)
        # No more than a record keeps: the server would be busy with the others for nothing.
        last = deque(dict.fromkeys(arms), maxlen=MOST_EXPOSURES)
        exposures = {exposure(arm_hash(arm), second): second for arm in last}
        if exposures:
            self.memory.mark(key, exposures)
        return key, exposures, self._command(key, exposures)

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
        commands = [self._command(key, exposures) for key, exposures in batch]
        answers = self._client.ask(commands, time.monotonic() + _SEND_S)
        if any(isinstance(each, Unanswered) and each.why == "NOFUNCTION" for each in answers):
            try:
                library.run(self._store, [self._call(*each) for each in batch])
            except StoreError:
                return [_fate(answer) for answer in answers]
            answers = self._client.ask(commands, time.monotonic() + _SEND_S)
        return [_fate(answer) for answer in answers]

    def _command(self, key: str, exposures: Mapping[int, int]) -> Command:
        return Command(key, self._call(key, exposures).command())

    def _call(self, key: str, exposures: Mapping[int, int]) -> library.Call:
        return seen_library.mark(
            key,
            now=max(exposures.values(), default=0),
            horizon=self._horizon_s,
            most=MOST_EXPOSURES,
            exposures=pack(exposures),
        )


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
