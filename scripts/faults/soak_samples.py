"""Memory, open files and threads of processes over time, and whether they grow.

Growth is the difference of two medians: of the last quarter of the time after the warm-up and of
its first quarter. Resident memory goes up and down as snapshots are swapped and the allocator gives
pages back or not; a median does not mind a peak, where the slope of a fitted line hangs on what
happens to stand at the ends. What a process may grow by is stated: less than that is not told
from chance.
"""

from __future__ import annotations

import csv
import statistics
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

EVERY_S = 5.0
WARM_UP_S = 300.0
GROWTH_MB, GROWTH_PART = 4.0, 0.03
GROWTH_COUNT = 2  # files and threads: a connection is replaced by the next before it closes
_MB = 1 << 20


class Sample(NamedTuple):
    """What a process held at a moment."""

    seconds: float
    name: str
    memory_mb: float
    files: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """Medians of the first and the last quarter, for one process and one measure."""

    name: str
    what: str
    first: float
    last: float
    allowed: float

    @property
    def is_too_much(self) -> bool:
        """Whether it is more than allowed."""
        return self.last - self.first > self.allowed


class Sampler:
    """Looks at processes, by their names, every few seconds until it is stopped."""

    def __init__(self, processes: dict[str, int]) -> None:
        self.samples: list[Sample] = []
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._stop = threading.Event()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            for name, process in self._processes.items():
                try:
                    with process.oneshot():
                        memory = process.memory_info().rss / _MB
                        held = process.num_fds(), process.num_threads()
                except psutil.NoSuchProcess:  # whoever runs it will see to that
                    continue
                self.samples.append(Sample(time.monotonic() - self._begun, name, memory, *held))


def growths(samples: Iterable[Sample], warm_up_s: float) -> list[Growth]:
    """Return how much each process grew after the warm-up."""
    found = []
    later = [sample for sample in samples if sample.seconds >= warm_up_s]
    for name in dict.fromkeys(sample.name for sample in later):
        own = [sample for sample in later if sample.name == name]
        quarter = max(1, len(own) // 4)
        for what in ("memory_mb", "files", "threads"):
            values = [getattr(sample, what) for sample in own]
            first, last = map(statistics.median, (values[:quarter], values[-quarter:]))
            is_memory = what == "memory_mb"
            allowed = max(GROWTH_MB, GROWTH_PART * first) if is_memory else GROWTH_COUNT
            found.append(Growth(name, what, first, last, allowed))
    return found


def curve(samples: Iterable[Sample], rows: int = 16) -> list[str]:
    """Return the lines of a table: each process's median memory in MB over equal spans of time."""
    samples = list(samples)
    names = list(dict.fromkeys(sample.name for sample in samples))
    end = max(sample.seconds for sample in samples)
    widths = [max(8, len(name)) for name in names]
    head = " ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))
    lines = [f"{'minute':>7} {head}"]
    for row in range(rows):
        low, high = row * end / rows, (row + 1) * end / rows
        cells = []
        for name, width in zip(names, widths, strict=True):
            values = [s.memory_mb for s in samples if s.name == name and low < s.seconds <= high]
            cells.append(f"{statistics.median(values):{width}.1f}" if values else " " * width)
        lines.append(f"{high / 60:7.1f} {' '.join(cells)}")
    return lines


def write(samples: Iterable[Sample], path: Path) -> None:
    """Write all samples as csv."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Sample._fields)
        writer.writerows(samples)
