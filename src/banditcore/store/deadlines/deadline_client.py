"""Asks a store small questions, each answered or given up by a deadline, sent once.

For requests that can do without an answer. Everything that may take long (connecting, looking
where keys went) happens in threads behind it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from banditcore.errors import StoreError
from banditcore.store.deadlines.line import LOST, Line, reason
from banditcore.store.deadlines.lines import OPEN_S, Lines, NoLineError
from banditcore.store.deadlines.places import Places
from banditcore.store.deadlines.resp import Refusal, Reply

if TYPE_CHECKING:
    from banditcore.store.connect import Store

__all__ = ["Answer", "DeadlineClient", "Question", "Unanswered"]

_THREAD = "banditcore-lines"
_RELEARN_S = 1.0  # between looks for who serves what
_MOVED = {"MOVED", "ASK", "CLUSTERDOWN", "READONLY", "MASTERDOWN"}
_KNOWN = {
    "ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH",
    "NOFUNCTION", "NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "WRONGPASS", "WRONGTYPE",
}  # fmt: skip
_NOT_SERVING = {
    "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOAUTH", "NOPERM", "WRONGPASS",
}  # fmt: skip

_CLIENTS: weakref.WeakSet[DeadlineClient] = weakref.WeakSet()


class Question(NamedTuple):
    """A command as it is sent.

    Attributes
    ----------
    key : str
        A key that it touches; all others must have the same hash tag.
    wire : bytes
        See `resp.packed`.
    """

    key: str
    wire: bytes


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Stands in the place of a reply.

    Attributes
    ----------
    why : str
        ``"timeout"``, ``"connection"``, ``"garbled"``; ``"unreachable"``: known to be, so it was
        not asked; or the first word of the server's refusal, such as ``"LOADING"``; ``"ERR"`` for
        any that is not among the known ones.
    """

    why: str


Answer = bytes | int | None | list[Reply] | Unanswered

_TIMEOUT = Unanswered("timeout")


class DeadlineClient:
    """A store's servers, on connections of their own. For threads and event loops; close it.

    Parameters
    ----------
    store : Store
        Where.
    probe : bytes
        A command, as it is sent, that must succeed on a fresh connection, whatever is stored.
    """

    def __init__(self, store: Store, probe: bytes) -> None:
        self._places = Places(store)
        self._probe = probe
        self._begin()
        _CLIENTS.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._lines: Mapping[str, Lines] = {}
        self._is_closed = False
        self._learner: threading.Thread | None = None
        self._learned = -_RELEARN_S
        self._unlearned: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why a server is out of reach; None while none is. No password is in it."""
        found = (each.trouble for each in self._lines.values() if each.trouble)
        return next(found, self._unlearned)

    def warm_up(self, deadline: float) -> None:
        """Open a first connection to each server, as far as that succeeds by `deadline`."""
        for node in self._places.nodes():
            lines = self._of(node)
            try:
                taken = lines.take()
                line = taken if isinstance(taken, Line) else lines.wait(taken, deadline)
            except LOST:
                continue  # requests meet the same, and tell
            lines.give_back(line)

    def ask(self, questions: Sequence[Question], deadline: float) -> list[Answer]:
        """Send questions, once and together to each server, and return the answers in order.

        Parameters
        ----------
        questions : sequence of Question
        deadline : float
            By `time.monotonic`. What is not answered by then is `Unanswered`, and its connection
            given up.
        """
        answers: list[Answer] = [_TIMEOUT] * len(questions)
        asked: list[tuple[Lines, Line, Sequence[int]]] = []
        try:
            for lines, members in self._groups(questions, deadline, answers):
                line = None
                try:
                    taken = lines.take()
                    line = taken if isinstance(taken, Line) else lines.wait(taken, deadline)
                    asked.append((lines, line, members))
                    line.send(_together(questions, members), deadline)
                except LOST as error:
                    if line is not None:
                        asked.pop()
                    self._lost(lines, line, error, members, answers)
            while asked:
                lines, line, members = asked[-1]
                try:
                    replies = line.receive(len(members), deadline)
                except LOST as error:
                    asked.pop()
                    self._lost(lines, line, error, members, answers)
                else:
                    asked.pop()
                    self._settle(lines, line, replies, members, answers)
        except BaseException:  # an interrupt: replies may be on their way
            for lines, line, _ in asked:
                lines.retire(line)
            raise
        return answers

    async def ask_async(self, questions: Sequence[Question], deadline: float) -> list[Answer]:
        """Do what `ask` does, without blocking the event loop. Cancelling gives connections up."""
        answers: list[Answer] = [_TIMEOUT] * len(questions)
        groups = self._groups(questions, deadline, answers)
        if len(groups) == 1:
            await self._ask_one(questions, *groups[0], deadline, answers)
        elif groups:
            await asyncio.gather(
                *(self._ask_one(questions, *group, deadline, answers) for group in groups)
            )
        return answers

    def close(self) -> None:
        """Close every connection, and end the threads. May be called again."""
        with self._lock:
            self._is_closed = True
            lines, learner = list(self._lines.values()), self._learner
        for each in lines:
            each.close()
        if learner is not None:
            learner.join(OPEN_S)

    def after_fork(self) -> None:
        """Forget in a child what is the parent's."""
        was_closed = self._is_closed
        for each in self._lines.values():
            each.after_fork()
        self._begin()
        self._is_closed = was_closed

    async def _ask_one(
        self,
        questions: Sequence[Question],
        lines: Lines,
        members: Sequence[int],
        deadline: float,
        answers: list[Answer],
    ) -> None:
        line = None
        try:
            taken = lines.take()
            line = taken if isinstance(taken, Line) else await _promised(lines, taken, deadline)
            replies = await line.ask(_together(questions, members), len(members), deadline)
        except LOST as error:
            self._lost(lines, line, error, members, answers)
        except BaseException:  # cancelled: the reply may be on its way
            if line is not None:
                lines.retire(line)
            raise
        else:
            self._settle(lines, line, replies, members, answers)

    def _groups(
        self, questions: Sequence[Question], deadline: float, answers: list[Answer]
    ) -> Sequence[tuple[Lines, Sequence[int]]]:
        """Return which questions go where; put the answers of those that go nowhere in."""
        if deadline <= time.monotonic() or not questions:
            return ()
        if not self._places.may_move:
            return [(self._of(self._places.of(questions[0].key)), range(len(questions)))]
        groups: dict[str, list[int]] = {}
        for i, question in enumerate(questions):
            try:
                groups.setdefault(self._places.of(question.key), []).append(i)
            except LookupError:
                answers[i] = Unanswered("unreachable")
                self._relearn()
        return [(self._of(node), members) for node, members in groups.items()]

    def _of(self, node: str) -> Lines:
        lines = self._lines.get(node)
        if lines is None:
            with self._lock:
                lines = self._lines.get(node)
                if lines is None:
                    lines = Lines(partial(self._open, node), _THREAD)
                    if self._is_closed:
                        lines.close()
                    self._lines = {**self._lines, node: lines}
        return lines

    def _open(self, node: str) -> Line:
        """Return a new line that has answered. Runs in a thread of its own."""
        line = Line(self._places.connect(node, OPEN_S))
        deadline = time.monotonic() + OPEN_S
        try:
            line.send(self._probe, deadline)
            [reply] = line.receive(1, deadline)
            _check_probe(reply)
        except BaseException:
            line.close()
            raise
        return line

    def _settle(
        self,
        lines: Lines,
        line: Line,
        replies: list[Reply],
        members: Sequence[int],
        answers: list[Answer],
    ) -> None:
        self._unlearned = None
        codes = {reply.code for reply in replies if isinstance(reply, Refusal)}
        if "READONLY" in codes:  # the primary is elsewhere by now
            lines.retire(line, idle=True)
        else:
            lines.give_back(line, refused=not codes.isdisjoint(_NOT_SERVING))
        if not codes.isdisjoint(_MOVED):
            self._relearn()
        for i, reply in zip(members, replies, strict=True):
            answers[i] = _unanswered(reply) if isinstance(reply, Refusal) else reply

    def _lost(
        self,
        lines: Lines,
        line: Line | None,
        error: BaseException,
        members: Sequence[int],
        answers: list[Answer],
    ) -> None:
        if isinstance(error, NoLineError):
            why = "unreachable"
        else:
            why = reason(error)
            lines.drop(line)
        for i in members:
            answers[i] = Unanswered(why)
        self._relearn()

    def _relearn(self) -> None:
        """Look in the background who serves what, once a second at most."""
        now = time.monotonic()
        with self._lock:
            if self._is_closed or self._learner or now - self._learned < _RELEARN_S:
                return
            if not self._places.may_move:
                return
            self._learned = now
            thread = threading.Thread(target=self._learn, name=_THREAD, daemon=True)
            with suppress(RuntimeError):  # the system gives no thread now; the next request asks
                thread.start()
                self._learner = thread

    def _learn(self) -> None:
        try:
            self._places.relearn()
        except StoreError as error:
            # Requests go on to say that they are unanswered, and to call for another look.
            self._unlearned = str(error)
        else:
            self._unlearned = None
        finally:
            known = set(self._places.nodes())
            with self._lock:
                self._learner = None
                gone = [lines for node, lines in self._lines.items() if node not in known]
                self._lines = {n: lines for n, lines in self._lines.items() if n in known}
            for lines in gone:
                lines.close()


async def _promised(lines: Lines, promise: Future[Line], deadline: float) -> Line:
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await asyncio.wrap_future(promise)
    except BaseException:
        lines.renounce(promise)
        raise


def _unanswered(refusal: Refusal) -> Unanswered:
    return Unanswered(refusal.code if refusal.code in _KNOWN else "ERR")


def _check_probe(reply: Reply) -> None:
    # A node of a cluster that sends the probe to where its key belongs does serve.
    if isinstance(reply, Refusal) and reply.code in _NOT_SERVING - {"CLUSTERDOWN"}:
        raise ConnectionError(reply.code)


def _together(questions: Sequence[Question], members: Sequence[int]) -> bytes:
    if len(members) == 1:
        return questions[members[0]].wire
    return b"".join([questions[i].wire for i in members])


def _after_fork() -> None:
    for client in list(_CLIENTS):
        client.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
