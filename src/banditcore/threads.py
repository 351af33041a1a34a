"""How many threads a call may use."""

from __future__ import annotations

import os

from banditcore.arrays import count
from banditcore.errors import InvalidValueError, describe

__all__ = ["MAX_THREADS", "thread_count", "usable_cpus"]

MAX_THREADS = 256
"""The most threads that a call may ask for."""


def thread_count(threads: int | None, work: int, worth: int) -> int:
    """Return how many threads share `work`, or raise.

    Parameters
    ----------
    threads : int or None
        As asked for, 1 to `MAX_THREADS`; None takes every usable CPU for `worth` or more, else one.
    work, worth : int
        In one unit.
    """
    if threads is None:
        return 1 if work < worth else min(usable_cpus(), MAX_THREADS)
    wanted = count("threads", threads, 1)
    if wanted > MAX_THREADS:
        raise InvalidValueError(describe("threads", threads, f"at most {MAX_THREADS}"))
    return wanted


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # what a container or taskset leaves; macOS has neither
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
