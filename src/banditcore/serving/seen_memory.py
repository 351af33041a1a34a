"""What this process knows of users without asking: what it marked and answered lately."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence

from banditcore.store.seen_record import MOST_EXPOSURES, arm_hashes, exposure

__all__ = ["MOST_EXPOSURES_HERE", "MOST_USERS", "SeenMemory"]

MOST_USERS = 10_000
MOST_EXPOSURES_HERE = 200_000
"""Of all users: at some hundred bytes each, about 25 MB."""

_MOST_ANSWERS = 8


class _User:
    __slots__ = ("answers", "marks", "size")

    def __init__(self) -> None:
        self.marks: dict[int, int] = {}  # exposure -> its second, in the order of marking
        self.answers: deque[tuple[int, Sequence[str]]] = deque()
        self.size = 0  # exposures and arms


class SeenMemory:
    """Exposures of recent users. Thread-safe and bounded: who was here longest ago is forgotten.

    Parameters
    ----------
    most_users, most_exposures : int
        What is kept.
    """

    def __init__(
        self, *, most_users: int = MOST_USERS, most_exposures: int = MOST_EXPOSURES_HERE
    ) -> None:
        self._most_users = most_users
        self._most_exposures = most_exposures
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew in a child: the lock may be held there for ever."""
        self._lock = threading.Lock()
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._size = 0

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._users.clear()
            self._size = 0

    def mark(self, key: str, exposures: Mapping[int, int]) -> None:
        """Remember what a user, by the key of the record, was shown in which second."""
        with self._lock:
            user = self._user(key)
            before = len(user.marks)
            user.marks.update(exposures)
            while len(user.marks) > MOST_EXPOSURES:
                del user.marks[next(iter(user.marks))]
            self._grown(user, len(user.marks) - before)
            self._shrink()

    def answer(self, answers: Iterable[tuple[str, Sequence[str]]], second: int) -> None:
        """Remember what users were answered, each (key, arms); of each user the last 8 answers."""
        with self._lock:
            for key, arms in answers:
                user = self._user(key)
                grown = len(arms)
                if len(user.answers) == _MOST_ANSWERS:
                    grown -= len(user.answers.popleft()[1])
                user.answers.append((second, arms))
                self._grown(user, grown)
            self._shrink()

    def marks(self, keys: Sequence[str], since: int) -> list[list[int]]:
        """Return each user's exposures that were marked; forget the first, before `since`."""
        users = self._users
        if users.keys().isdisjoint(keys):  # the most usual case, without the lock
            return [[] for _ in keys]
        found: list[list[int]] = []
        with self._lock:
            for key in keys:
                user = users.get(key)
                if user is None or not user.marks:
                    found.append([])
                    continue
                # Seconds are kept modulo 194 days: what is old must go before it seems new.
                while user.marks:
                    first = next(iter(user.marks))
                    if user.marks[first] >= since:
                        break
                    del user.marks[first]
                    self._grown(user, -1)
                found.append(list(user.marks))
        return found

    def answers(self, keys: Sequence[str]) -> list[list[int]]:
        """Return each user's recent answers as if they had been marked."""
        with self._lock:
            held = [list(user.answers) if (user := self._users.get(key)) else [] for key in keys]
        arms = [arm for answers in held for _, shown in answers for arm in shown]
        hashes = iter(arm_hashes(arms).tolist())
        return [
            [exposure(next(hashes), second) for second, shown in answers for _ in shown]
            for answers in held
        ]

    def _user(self, key: str) -> _User:
        user = self._users.get(key)
        if user is None:
            user = self._users[key] = _User()
        else:
            self._users.move_to_end(key)
        return user

    def _grown(self, user: _User, by: int) -> None:
        user.size += by
        self._size += by

    def _shrink(self) -> None:
        while len(self._users) > self._most_users or (
            self._size > self._most_exposures and len(self._users) > 1
        ):
            _, gone = self._users.popitem(last=False)
            self._size -= gone.size
