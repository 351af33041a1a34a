"""From how many decisions on tables pay.

Run `python scripts/measuring/measure_crossover.py`: some 30 seconds.

Prints what `banditcore.method` has as constants: the time of one decision that draws every arm, of
one from tables, and of building them; and the number of decisions at which both ways cost the
same, as measured and by the rule. Processor time, one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from banditcore import _race, _sampling, active_kernel
from banditcore.method import race_pays
from banditcore.thompson_sampler import ThompsonSampler

Column = NDArray[np.float64]


def click_like(rng: np.random.Generator, n: int) -> tuple[Column, Column]:
    """Return posteriors of rates Beta(2, 60) after lognormal(6, 2) trials."""
    trials = np.ceil(rng.lognormal(6, 2, n))
    successes = rng.binomial(trials.astype(np.int64), rng.beta(2, 60, n))
    return 1.0 + successes, 30.0 + trials - successes


def close(rng: np.random.Generator, n: int) -> tuple[Column, Column]:
    """Return posteriors that all compete."""
    return rng.gamma(50, 1, n), 1500.0 + rng.gamma(50, 10, n)


def alike(_rng: np.random.Generator, n: int) -> tuple[Column, Column]:
    """Return arms without events."""
    return np.full(n, 1.0), np.full(n, 30.0)


def seconds(work: Callable[[], object], spend: float = 0.03) -> float:
    """Return the least processor time of a run."""
    best, start = np.inf, time.thread_time()
    while True:
        before = time.thread_time()
        work()
        after = time.thread_time()
        best = min(best, after - before)
        if after - start > spend:
            return best


def even(n: int, k: int) -> str:
    """Return the least number of decisions for which the rule builds tables."""
    low, high = 1, 1 << 40
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if race_pays(n, k, middle) else (middle + 1, high)
    return f"{low:8d}" if low < 1 << 40 else "   never"


def main() -> None:
    """Measure each posterior, number of arms, and depth."""
    print(f"kernel {active_kernel()}; us a decision, but building")
    print("posterior       n    k   every arm    tables  building   even at  by the rule")
    for shape in (click_like, close, alike):
        for n in (100, 300, 1_000, 3_000, 10_000, 100_000):
            a, b = shape(np.random.default_rng(1), n)
            built = seconds(lambda a=a, b=b: ThompsonSampler(a, b)) * 1e6
            tables = _race.Tables(a, b, None)
            for k in (1, 10, 16, 30, 50):
                if 4 * k > n:
                    continue
                few = np.empty((4 + 50_000 // n, k), dtype=np.int32)
                many = np.empty((500 if k <= 16 else 50, k), dtype=np.int32)

                def draw(few: NDArray[np.int32] = few, a: Column = a, b: Column = b) -> None:
                    _sampling.topk(a, b, None, None, few, 1, 1, boosted=False)

                def race(many: NDArray[np.int32] = many, t: _race.Tables = tables) -> None:
                    t.topk(many, 1, 1)

                drawn = seconds(draw) / len(few) * 1e6
                raced = seconds(race) / len(many) * 1e6
                found = f"{built / (drawn - raced):9.0f}" if drawn > raced else "    never"
                times = f"{drawn:11.2f} {raced:9.2f} {built:9.0f}"
                print(f"{shape.__name__:10s} {n:6d} {k:4d} {times} {found}     {even(n, k)}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0]).parse_args()
    main()
