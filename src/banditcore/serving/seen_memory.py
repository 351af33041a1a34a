"""What this process knows of users without asking: what it marked and answered lately."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import takewhile

from banditcore.store.seen_record import MOST_EXPOSURES, arm_hash, exposure

__all__ = ["MOST_EXPOSURES_HERE", "MOST_USERS", "SeenMemory"]

MOST_USERS = 10_000
MOST_EXPOSURES_HERE = 200_000
"""Of all users: at some hundred bytes each, about 25 MB."""

_MOST_ANSWERS = 8


class _User:
    __slots__ = ("answers", "marks")

    def __init__(self) -> None:
        self.marks: dict[int, int] = {}  # exposure -> its second, in the order of marking
        self.answers: deque[tuple[int, Sequence[str]]] = deque(maxlen=_MOST_ANSWERS)

    def __len__(self) -> int:
        return len(self.marks) + sum(len(arms) for _, arms in self.answers)


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
            before = len(user)
            user.marks.update(exposures)
            while len(user.marks) > MOST_EXPOSURES:
                del user.marks[next(iter(user.marks))]
            self._grown(len(user) - before)

    def answer(self, key: str, second: int, arms: Sequence[str]) -> None:
        """Remember what a user was answered; only the last 8 answers."""
        with self._lock:
            user = self._user(key)
            before = len(user)
            user.answers.append((second, arms))
            self._grown(len(user) - before)

    def marks(self, key: str, since: int) -> list[int]:
        """Return the exposures that were marked; forget the first of them before `since`."""
        if key not in self._users:  # the most usual case, without the lock
            return []
        with self._lock:
            user = self._users.get(key)
            if user is None:
                return []
            # Seconds are kept modulo 194 days: what is old must go before it seems new.
            for each in [*takewhile(lambda each: user.marks[each] < since, user.marks)]:
                del user.marks[each]
                self._size -= 1
            return list(user.marks)

    def answers(self, key: str) -> list[int]:
        """Return recent answers as if they had been marked."""
        with self._lock:
            user = self._users.get(key)
            answers = list(user.answers) if user else []
        return [exposure(arm_hash(arm), second) for second, arms in answers for arm in arms]

    def _user(self, key: str) -> _User:
        user = self._users.get(key)
        if user is None:
            user = self._users[key] = _User()
        else:
            self._users.move_to_end(key)
        return user

    def _grown(self, by: int) -> None:
        self._size += by
        while len(self._users) > self._most_users or (
            self._size > self._most_exposures and len(self._users) > 1
        ):
            _, gone = self._users.popitem(last=False)
            self._size -= len(gone)
