"""How much work a measurement is worth, and errors measured within it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.benchmarking.accuracy import Law, beta_deviation
from banditcore.benchmarking.timing import Error
from banditcore.benchmarking.workloads import Workload

__all__ = ["Effort", "draws_error", "slates_error"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work to put into a measurement.

    `arms` are those of the direct draws, `prepared` those of the sampler; `cells` is arms x rows
    of one batched call; errors are measured for `error_s` seconds a method, on `decisions` at
    most; `threads` is the greater number of threads that is tried.
    """

    arms: tuple[int, ...]
    prepared: tuple[int, ...]
    cells: int
    error_s: float
    decisions: int
    simulated: int
    threads: int
    seed: int


def slates_error(
    effort: Effort, law: Law, draw: Callable[[], object], k: int
) -> Callable[[], Error | None]:
    """Measure the deviation of slates that `draw` gives, one or many at a call."""

    def measured() -> Error | None:
        collected: list[NDArray[np.integer]] = []
        size, until = 0, time.perf_counter() + effort.error_s
        while size < effort.decisions and (not collected or time.perf_counter() < until):
            collected.append(np.asarray(draw()).reshape(-1, k))
            size += len(collected[-1])
        deviation = law.deviation(np.concatenate(collected))
        return Error(deviation, "se", size) if np.isfinite(deviation) else None

    return measured


def draws_error(posterior: Workload, draw: Callable[[], object]) -> Callable[[], Error]:
    """Measure the deviation of one call's draws."""

    def measured() -> Error:
        draws = np.asarray(draw()).reshape(-1, len(posterior))
        deviation = beta_deviation(posterior.alpha, posterior.beta, draws)
        return Error(deviation, "se", draws.size)

    return measured
