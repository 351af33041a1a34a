"""Lines to a server: opened behind requests, left alone while it is out of reach."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from banditcore.store.deadlines.breaker import FAILURES, LONGEST_PAUSE_S, Breaker
from banditcore.store.deadlines.line import Line
from banditcore.store.deadlines.lines import MOST_LINES, Lines, NoLineError
from servers import wait_until

FAR = 1e9  # by time.monotonic


class Other:
    """The other ends of lines, which are real sockets."""

    def __init__(self) -> None:
        self.ends: list[socket.socket] = []
        self.works = True
        self.tried = 0

    def open(self) -> Line:
        self.tried += 1
        if not self.works:
            raise ConnectionRefusedError("nobody there")
        mine, other = socket.socketpair()
        self.ends.append(other)

        class Connection:
            _sock: socket.socket | None = mine

        return Line(Connection())  # type: ignore[arg-type]

    def close(self) -> None:
        for end in self.ends:
            end.close()


def taken(lines: Lines) -> Line:
    found = lines.take()
    return found if isinstance(found, Line) else lines.wait(found, FAR)


def test_lines_are_used_again_until_they_fail() -> None:
    other = Other()
    lines = Lines(other.open, "test")
    first = taken(lines)
    second = taken(lines)
    assert first is not second
    lines.give_back(first)
    assert taken(lines) is first
    lines.give_back(first)
    lines.drop(second)  # first, which was idle, goes with it
    third = taken(lines)
    assert third not in {first, second}
    assert other.tried == 3
    lines.give_back(third)
    lines.close()
    other.close()


def test_a_line_on_which_something_came_unasked_is_not_used() -> None:
    other = Other()
    lines = Lines(other.open, "test")
    for act in (lambda end: end.sendall(b"late"), lambda end: end.close()):
        line = taken(lines)
        lines.give_back(line)
        act(other.ends[-1])
        fresh = taken(lines)
        assert fresh is not line
        lines.drop(fresh)
    lines.close()
    other.close()


def opens() -> bool:
    """Whether a thread still opens lines."""
    return any(thread.name == "test" for thread in threading.enumerate())


def test_nobody_there_is_told_at_once_and_found_again() -> None:
    other = Other()
    other.works = False
    lines = Lines(other.open, "test")
    with pytest.raises(NoLineError):
        taken(lines)
    tried = other.tried
    for _ in range(1000):
        with pytest.raises(NoLineError):
            lines.take()
    assert other.tried <= tried + 100  # probes, not requests: the more, the longer these took
    assert lines.trouble == "ConnectionRefusedError"
    other.works = True
    wait_until(lambda: lines.trouble is None, "it is not probed")
    lines.give_back(taken(lines))
    wait_until(lambda: not opens(), "the thread goes on")
    lines.close()
    other.close()


def test_three_failures_in_a_row_are_enough_and_two_are_not() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES - 1):
            breaker.failed()
        assert not breaker.is_open
        breaker.succeeded()
    for _ in range(FAILURES):
        breaker.failed()
    assert breaker.is_open
    pauses = [breaker.pause_s() for _ in range(20)]
    assert all(0.05 <= pause <= 1.5 * LONGEST_PAUSE_S for pause in pauses)
    assert pauses[0] <= 0.15
    assert min(pauses[-10:]) >= 0.5 * LONGEST_PAUSE_S
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.pause_s() <= 0.15


def test_who_gives_up_waiting_loses_no_line() -> None:
    other, gate = Other(), threading.Event()

    def slowly() -> Line:
        gate.wait(60)
        return other.open()

    lines = Lines(slowly, "test")
    for _ in range(3):
        promise = lines.take()
        assert not isinstance(promise, Line)
        with pytest.raises(TimeoutError):
            lines.wait(promise, time.monotonic())
    gate.set()
    late = lines.take()
    line = late if isinstance(late, Line) else lines.wait(late, FAR)
    lines.give_back(line)
    kept = lines.take()
    assert isinstance(kept, Line)
    lines.renounce(promise)  # again
    lines.give_back(kept)
    lines.close()
    other.close()


def test_many_threads_share_lines() -> None:
    other = Other()
    lines, used, lock = Lines(other.open, "test"), set(), threading.Lock()

    def work(_: int) -> None:
        for _ in range(50):
            line = taken(lines)
            with lock:
                assert line not in used
                used.add(line)
            with lock:
                used.remove(line)
            lines.give_back(line)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert other.tried <= 64
    lines.close()
    with pytest.raises(NoLineError):
        lines.take()
    other.close()


def test_lines_that_nobody_gave_back_leave_room_for_others() -> None:
    other = Other()
    lines = Lines(other.open, "test")
    for _ in range(2 * MOST_LINES):  # as of requests that were interrupted
        lost = taken(lines)
        lost.close()
        del lost
    assert other.tried == 2 * MOST_LINES
    lines.close()
    other.close()


def slow_starts(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Hold up whoever starts a thread that opens lines: told by the one event, until the other."""
    starting, gate = threading.Event(), threading.Event()
    start = threading.Thread.start

    def slowly(thread: threading.Thread) -> None:
        if thread.name == "test":
            starting.set()
            gate.wait(60)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slowly)
    return starting, gate


def test_requests_go_on_while_a_thread_is_slow_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Other()
    lines = Lines(other.open, "test")
    first, second = taken(lines), taken(lines)
    wait_until(lambda: not opens(), "the thread goes on")
    starting, gate = slow_starts(monkeypatch)
    with ThreadPoolExecutor(2) as pool:
        third = pool.submit(taken, lines)
        assert starting.wait(60)
        pool.submit(lines.give_back, first).result(60)
        assert third.done() is False
        gate.set()
        lines.give_back(third.result(60))
        assert third.result() is first  # it was waited for, and came sooner than a new one
    lines.give_back(second)
    lines.close()
    other.close()


def test_closing_does_not_mind_a_thread_that_has_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Other()
    lines = Lines(other.open, "test")
    starting, gate = slow_starts(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(taken, lines)
        assert starting.wait(60)
        try:
            lines.close()
        finally:
            gate.set()
        with pytest.raises(NoLineError):
            taking.result(60)
    wait_until(lambda: not opens(), "the thread goes on")
    assert other.tried == 0
    other.close()
