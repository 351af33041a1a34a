"""How long this machine lets a process wait that only sleeps: one such process for each processor.

What it oversleeps is the machine's, whoever else uses it. `load_tally.Stall` is the other half:
what the machine does to a process of which one thread holds the interpreter's lock and is not let
run.
"""

from __future__ import annotations

import bisect
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_BEAT_S = 0.002
_LEAST_S = 0.003


def _sleep_for_ever(processor: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})
    while True:
        begun = time.perf_counter()
        time.sleep(_BEAT_S)
        ended = time.perf_counter()
        if ended - begun - _BEAT_S > _LEAST_S:
            print(begun + _BEAT_S, ended, flush=True)


class Hiccups:
    """Spans, by `time.perf_counter`, in which one processor or another did not do what was due."""

    def __init__(self, count: int) -> None:
        self._spans: list[list[tuple[float, float]]] = [[] for _ in range(count)]

    def listen(self, number: int, process: subprocess.Popen[str]) -> None:
        """Take what a process says until its end."""
        assert process.stdout is not None
        for line in process.stdout:
            begin, _, end = line.partition(" ")
            self._spans[number].append((float(begin), float(end)))

    def longest(self, begin: float, end: float) -> float:
        """Return the longest hiccup that ended between two moments."""
        found = (span for spans in self._spans for span in _overlapping(spans, begin, end))
        return max((b - a for a, b in found), default=0.0)

    def within(self, begin: float, end: float) -> float:
        """Return for how much of a span the worst processor kept others waiting."""
        return max(
            (
                sum(min(b, end) - max(a, begin) for a, b in _overlapping(spans, begin, end))
                for spans in self._spans
            ),
            default=0.0,
        )


def _overlapping(
    spans: list[tuple[float, float]], begin: float, end: float
) -> list[tuple[float, float]]:
    first = bisect.bisect_left(spans, begin, key=lambda span: span[1])
    return [span for span in spans[first:] if span[0] < end]


@contextmanager
def watched_machine() -> Iterator[Hiccups]:
    """Watch every processor that this process may use."""
    affinity = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    processors = sorted(affinity(0))
    hiccups = Hiccups(len(processors))
    idle, threads = [], []
    for number, processor in enumerate(processors):
        command = [sys.executable, __file__, str(processor)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
        thread = threading.Thread(target=hiccups.listen, args=(number, process), daemon=True)
        thread.start()
        idle.append(process)
        threads.append(thread)
    try:
        yield hiccups
    finally:
        for process in idle:
            process.kill()
            process.wait()
        for thread in threads:
            thread.join()
        for process in idle:
            assert process.stdout is not None
            process.stdout.close()


if __name__ == "__main__":
    _sleep_for_ever(int(sys.argv[1]))
