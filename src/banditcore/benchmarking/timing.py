"""Times methods of one task in turn, so that all see the same noise; ratios are within a round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Contest", "Error", "Method", "Row", "measure"]

_IN_A_SECOND = {"ns": 1e9, "us": 1e6, "ms": 1e3}


@dataclass(frozen=True, slots=True)
class Error:
    """How wrong answers are.

    `value` is in `unit`: ``"se"``, standard errors (about 1 by chance alone), or ``"abs"``, the
    greatest absolute error. `of` is the number of draws or decisions it was measured on, if any.
    """

    value: float
    unit: str
    of: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One way to do a task.

    `call` does `pieces` of it; None if what it needs is not installed, as `note` then says.
    `error` measures its error.
    """

    name: str
    call: Callable[[], object] | None
    pieces: int = 1
    error: Callable[[], Error | None] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Contest:
    """A task, and the methods that do it; the time of one piece is shown in `unit`.

    `reference` names the method whose time the ratios are made of. `pairs` is the number of arms
    a piece decides between, where (arm, decision) pairs a second are of interest.
    """

    task: str
    unit: str
    reference: str
    methods: Sequence[Method]
    pairs: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one method; times in `unit` for one piece, None if it was not run.

    `ratio` is the reference's time over this method's, the median over the rounds; `ratio_low`
    and `ratio_high` are the least and the greatest of a round.
    """

    task: str
    method: str
    unit: str
    time: float | None = None
    time_low: float | None = None
    time_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    pairs_per_second: float | None = None
    error: float | None = None
    error_unit: str = ""
    error_of: int | None = None
    note: str = ""


def measure(contest: Contest, *, rounds: int, least_s: float) -> list[Row]:
    """Time the methods of a contest.

    Parameters
    ----------
    contest : Contest
        The reference must be among those that can be run.
    rounds : int
        In each every method is timed once, >= 1; which comes first moves on.
    least_s : float
        Seconds that one timing takes at least: calls are repeated.

    Returns
    -------
    list of Row
        In the order of the methods.
    """
    able = [method for method in contest.methods if method.call is not None]
    repeats = {method.name: _repeats(method, least_s) for method in able}
    seconds: dict[str, list[float]] = {method.name: [] for method in able}
    for number in range(rounds):
        first = number % len(able)
        for method in able[first:] + able[:first]:
            seconds[method.name].append(_seconds(method, repeats[method.name]))
    reference = seconds[contest.reference]
    return [
        _row(contest, method, seconds[method.name], reference)
        if method.name in seconds
        else Row(contest.task, method.name, contest.unit, note=method.note)
        for method in contest.methods
    ]


def _row(contest: Contest, method: Method, seconds: list[float], reference: list[float]) -> Row:
    scale = _IN_A_SECOND[contest.unit]
    ratios = [theirs / ours for theirs, ours in zip(reference, seconds, strict=True)]
    error = None if method.error is None else method.error()
    return Row(
        contest.task,
        method.name,
        contest.unit,
        time=median(seconds) * scale,
        time_low=min(seconds) * scale,
        time_high=max(seconds) * scale,
        ratio=median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        pairs_per_second=None if contest.pairs is None else contest.pairs / median(seconds),
        error=None if error is None else error.value,
        error_unit="" if error is None else error.unit,
        error_of=None if error is None else error.of,
        note=method.note,
    )


def _repeats(method: Method, least_s: float) -> int:
    _seconds(method, 1)  # the first call may build what later ones reuse
    once = _seconds(method, 1) * method.pieces
    return max(1, math.ceil(least_s / max(once, 1e-7)))


def _seconds(method: Method, repeats: int) -> float:
    """Return the seconds that one piece took."""
    call = method.call
    assert call is not None  # noqa: S101 (the caller chose those that have one)
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / (repeats * method.pieces)
