"""Throws hostile arguments at the door to the compiled core: each call answers or raises its error.

Meant to run under sanitizers (`sanitize.sh`), where reading or writing beyond an array is seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from banditcore import active_kernel
from banditcore.errors import BanditCoreError
from banditcore.sampling import quantile, sample_beta, thompson_topk

SIZES = [0, 1, 2, 7, 8, 9, 15, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1030]
EXTREMES = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 5e-324, 1e-100, 1e100, 1e308, 1.0 - 2**-53]


def column(rng: np.random.Generator, n: int) -> object:
    """Return a column, most often of length n and of usable numbers."""
    low, high = ((-3, 12), (0, 4), (-100, 100))[rng.integers(3)]
    values = 10 ** rng.uniform(low, high, n)
    shape = rng.integers(16)
    if shape == 0 and n:
        values[rng.integers(n)] = EXTREMES[rng.integers(len(EXTREMES))]
    elif shape == 1:
        values = np.repeat(values, 3)[::3]
    elif shape == 2:
        values = values[::-1]
    elif shape == 3:
        with np.errstate(all="ignore"):
            return values.astype(
                [np.float32, np.float16, np.int64, ">f8", np.longdouble][rng.integers(5)]
            )
    elif shape == 4:
        return values.tolist()
    elif shape == 5:
        values = values[: max(0, n - 1)]
    elif shape == 6:
        values = values.reshape(-1, 1)
    elif shape == 7:
        return [None, "x", 1.0, [[1.0], [1.0, 2.0]], np.ma.masked_array([1.0], [True])][
            rng.integers(5)
        ]
    elif shape == 8:  # not aligned
        raw = np.zeros(8 * n + 1, dtype=np.uint8)
        raw[1:] = values.view(np.uint8)
        return raw[1:].view(np.float64)
    elif shape == 9:
        values.flags.writeable = False
    return values


def indices(rng: np.random.Generator, n: int) -> object:
    """Return something like indices of arms."""
    kind = rng.integers(7)
    if kind == 0:
        return rng.random(n) < 0.3
    if kind == 1:
        return rng.integers(-2, n + 2, 4)
    if kind == 2:
        return np.array([2**31, 2**32, 2**63], dtype=np.uint64)[: rng.integers(4)]
    if kind == 3:
        return [0.5, "a", None][: rng.integers(1, 4)]
    return rng.integers(0, max(n, 1), rng.integers(0, 9)).tolist()


def main() -> None:
    """Make the calls; the argument is a seed."""
    rng = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    answers = refusals = 0
    for _ in range(4_000):
        n = SIZES[rng.integers(len(SIZES))]
        a, b = column(rng, n), column(rng, n)
        size = [None, None, 0, 1, 3, 40, -1, 2**62][rng.integers(8)]
        threads = [None, 1, 2, 3, 0][rng.integers(5)]
        seed = [None, 0, 2**70, np.random.default_rng(1), -1][rng.integers(5)]
        k = [1, 2, 10, 13, 33, 600, 0, 2**60][rng.integers(8)]
        options: dict[str, object] = {}
        if rng.random() < 0.3:
            options["weight"] = column(rng, n)
        if rng.random() < 0.2:
            options["exclude"] = indices(rng, n)
        if rng.random() < 0.2:
            options["eligible"] = indices(rng, n)
        calls: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object]]] = [
            (sample_beta, (a, b), {"size": size, "seed": seed, "threads": threads}),
            (thompson_topk, (a, b, k), {"size": size, "seed": seed, "threads": threads, **options}),
            (sample_beta, (a, b), {}),
            (thompson_topk, (a, b, k), {}),
        ]
        if n < 10:
            calls.append((quantile, (a, b, rng.random()), {}))
        for call, positional, named in calls:
            try:
                call(*positional, **named)
            except (BanditCoreError, MemoryError):
                refusals += 1
            else:
                answers += 1
    if answers < 4_000 or refusals < 2_000:  # then it no longer tries what it should
        sys.exit(f"{answers} answers, {refusals} refusals: too few of one kind")
    sys.stdout.write(f"{active_kernel()}: {answers} answers, {refusals} refusals\n")


if __name__ == "__main__":
    main()
