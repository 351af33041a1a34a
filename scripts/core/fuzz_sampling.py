"""Throws hostile arguments at the doors to the core: each call answers or raises its error.

Meant to run under sanitizers (`sanitize.sh`), where reading or writing beyond an array is seen. An
answer must be well formed, too: shape, dtype, range, no arm twice, padding at the end only.
"""

from __future__ import annotations

import array
import copy
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from banditcore import active_kernel
from banditcore.errors import BanditCoreError
from banditcore.propensity import rank_probabilities, top_probabilities
from banditcore.sampling import quantile, sample_beta, thompson_topk
from banditcore.slates import draw_bank
from banditcore.thompson_sampler import ThompsonSampler

SIZES = [0, 1, 2, 7, 8, 9, 15, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1030]
EXTREMES = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 5e-324, 1e-100, 1e100, 1e308, 1.0 - 2**-53]
ROUNDS = 4_000
LEAST = 10  # answers, and refusals, that each function must have given

Call = tuple[str, Callable[..., object], tuple[object, ...], dict[str, object]]


class Column(np.ndarray):
    """A subclass that would see it if an array were used by its methods."""

    def __array_finalize__(self, other: object) -> None:
        """Take part in views and copies."""


def odd(  # noqa: PLR0911, PLR0912 (a list of cases)
    rng: np.random.Generator, values: np.ndarray
) -> object:
    """Return `values` in a form that few callers use, or should use."""
    n = len(values)
    kind = rng.integers(14)
    if kind == 0:
        return values.astype(object)
    if kind == 1:
        return np.float64(values[0]) if n else np.array(1.0)  # no axis
    if kind == 2:
        return values.view(Column)
    if kind == 3:
        return memoryview(values)
    if kind == 4:
        return array.array("d", values.tolist())
    if kind == 5:
        return np.broadcast_to(np.float64(2.0), n)  # stride 0
    if kind == 6:
        return np.stack([values, -values], axis=1)[:, 0]
    if kind == 7:
        return np.asfortranarray(np.stack([values, values]))[1]
    if kind == 8:
        return values.astype(">f8") if rng.random() < 0.5 else values.astype(">f4")
    if kind == 9:
        return values.astype(np.complex128)
    if kind == 10:
        return np.zeros(n, dtype="M8[s]") if rng.random() < 0.5 else np.ones(n, dtype=np.bool_)
    if kind == 11:
        return np.zeros(n, dtype=[("a", "f8"), ("b", "f8")])["b"] + 1.0
    if kind == 12:
        return np.array(["1.0"] * n)
    return range(1, n + 1)


def column(rng: np.random.Generator, n: int) -> object:
    """Return a column, most often of length n and of usable numbers."""
    if rng.random() < 0.1:
        return odd(rng, 10 ** rng.uniform(-2, 6, n))
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


def topk_options(rng: np.random.Generator, n: int, size: object) -> dict[str, object]:
    """Return arguments that both kinds of top-k take."""
    options: dict[str, object] = {"size": size}
    if rng.random() < 0.2:
        options["exclude"] = indices(rng, n)
    if rng.random() < 0.2:
        options["eligible"] = indices(rng, n)
    if rng.random() < 0.7:
        options["seed"] = [None, 0, 2**70, np.random.default_rng(1), -1, "x"][rng.integers(6)]
        options["threads"] = [None, 1, 2, 3, 0][rng.integers(5)]
    return options


def sampler_options(rng: np.random.Generator, n: int, k: int, size: object) -> dict[str, object]:
    """Return arguments of `ThompsonSampler.topk`: exclusions row by row and `out` besides."""
    options = topk_options(rng, n, size)
    rows = size if isinstance(size, int) and 0 <= size < 100 else 1
    if rng.random() < 0.2:
        least = -2 if rng.random() < 0.2 else -1
        options["exclude"] = rng.integers(least, n + (rng.random() < 0.2), (rows, rng.integers(9)))
    if rng.random() < 0.2 and 0 < k < 1_000:
        shape = (k,) if size is None else (rows, k)
        out = np.empty(shape, dtype=[np.int32, np.int64][int(rng.random() < 0.2)])
        options["out"] = out[::-1] if rng.random() < 0.2 else out
    return options


def calls(rng: np.random.Generator) -> Iterator[Call]:
    """Yield one round of calls, each with the name it is counted under."""
    n = SIZES[rng.integers(len(SIZES))]
    a, b = column(rng, n), column(rng, n)
    size = [None, None, 0, 1, 3, 40, -1, 2**62][rng.integers(8)]
    k = [1, 2, 10, 13, 33, 600, 0, 2**60][rng.integers(8)]
    value: dict[str, object] = {"weight": column(rng, n)} if rng.random() < 0.3 else {}
    options = topk_options(rng, n, size)
    plain = {name: options[name] for name in ("size", "seed", "threads") if name in options}
    yield "sample_beta", sample_beta, (a, b), plain
    yield "thompson_topk", thompson_topk, (a, b, k), {**options, **value}
    yield "sample_beta, plain", sample_beta, (a, b), {}
    yield "thompson_topk, plain", thompson_topk, (a, b, k), {}
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):  # what its docstring asks for
        yield "draw_bank", draw_bank, (a, b), {"slates": [0, 1, 3, 9][rng.integers(4)], "depth": k}
    if n < 10:
        yield "quantile", quantile, (a, b, [rng.random(), column(rng, n)][rng.integers(2)]), {}
    if n < 300 and rng.random() < 0.1:
        if value and rng.random() < 0.7:  # and seldom weights a hundred orders of magnitude apart
            value = {"weight": 10 ** rng.uniform(-3, 3, n)}
        yield "ThompsonSampler", asked, (rng, n, k, size, a, b), value
    if n < 20 and rng.random() < 0.25:
        who = {"eligible": options["eligible"]} if "eligible" in options else {}
        yield "top_probabilities", top_probabilities, (a, b, k), {**value, **who}
        yield "rank_probabilities", rank_probabilities, (a, b, k), {**value, **who}


def asked(  # noqa: PLR0917 (it is called by place)
    rng: np.random.Generator, n: int, k: int, size: object, a: object, b: object, **value: object
) -> object:
    """Build a sampler, copy it, and ask both; they are one round's hardest work."""
    sampler = ThompsonSampler(a, b, **value)  # type: ignore[arg-type]  # hostile on purpose
    restored = pickle.loads(pickle.dumps(sampler))  # noqa: S301 (our own)
    for one in (sampler, restored, copy.deepcopy(sampler)):
        for _ in range(3):
            named = sampler_options(rng, n, k, size)
            try:
                check(one.topk(k, **named), k, named["size"])
            except (BanditCoreError, MemoryError):
                COUNTS["topk of a sampler", False] += 1
            else:
                COUNTS["topk of a sampler", True] += 1
    return sampler


def check(answer: object, k: int, size: object) -> None:
    """Refuse a top-k that is not well formed."""
    if not isinstance(answer, np.ndarray) or answer.dtype != np.int32:
        raise AssertionError(f"no int32 array: {answer!r}")
    if answer.shape != ((k,) if size is None else (size, k)):
        raise AssertionError(f"shape {answer.shape} for k={k}, size={size}")
    for row in answer.reshape(-1, k):
        met = row[row >= 0]
        if len(set(met.tolist())) < len(met) or (row[len(met) :] != -1).any():
            raise AssertionError(f"an arm twice, or padding in between: {row}")


COUNTS: Counter[tuple[str, bool]] = Counter()  # (name, answered)


def main() -> None:
    """Make the calls; the argument is a seed."""
    rng = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    for _ in range(ROUNDS):
        for name, call, positional, named in calls(rng):
            try:
                answer = call(*positional, **named)
            except (BanditCoreError, MemoryError):
                COUNTS[name, False] += 1
            else:
                COUNTS[name, True] += 1
                if name.startswith("thompson_topk"):
                    check(answer, positional[2], named.get("size"))
    names = sorted({name for name, _ in COUNTS})
    for name in names:
        sys.stdout.write(
            f"{active_kernel()}: {name}: {COUNTS[name, True]} answers, "
            f"{COUNTS[name, False]} refusals\n"
        )
    lost = [name for name in names if min(COUNTS[name, True], COUNTS[name, False]) < LEAST]
    if lost or len(names) != 10:  # then it no longer tries what it should
        sys.exit(f"too few answers or refusals: {lost}; functions called: {names}")


if __name__ == "__main__":
    main()
