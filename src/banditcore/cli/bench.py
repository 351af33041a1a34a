"""``banditcore bench``: this machine's speed, as ratios to numpy within one run."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from banditcore.cli.arguments import positive
from banditcore.cli.output import Output, Shown
from banditcore.sampling import active_kernel, sample_beta, thompson_topk
from banditcore.thompson_sampler import ThompsonSampler

HELP = "compare sampling with numpy on this machine"

_UNITS = {"ns": 1e9, "us": 1e6}  # in a second
_K = 10
_ARMS = (100, 1_000, 10_000)
_DRAWS = 2_000_000  # arms x rows of one timed call
_DECISIONS = 50_000  # of a sampler in one timed call
_SINGLES = 200  # calls of one row that are timed together


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads of ours; numpy has one (default: 1)",
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        default=5,
        metavar="N",
        help="the best of so many counts (default: 5)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the posteriors and of numpy's draws (default: 0)"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    rng = np.random.default_rng(arguments.seed)
    contests = [
        contest for arms in _ARMS for contest in _contests(rng, arms, threads=arguments.threads)
    ]
    rows = []
    with output.progress("bench") as advance:
        for done, contest in enumerate(contests):
            advance(done, len(contests), contest.what)
            rows.append(_time(contest, arguments.repeats))
    machine = {
        "kernel": active_kernel(),
        "threads": arguments.threads,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    output.document({"machine": machine, "rows": [asdict(row) for row in rows]})
    output.table(
        f"kernel {machine['kernel']}, {arguments.threads} thread(s); numpy {np.__version__}, one",
        ["what", "unit", "banditcore", "numpy", "faster"],
        [
            (
                row.what,
                row.unit,
                Shown(row.banditcore, f"{row.banditcore:,.1f}"),
                Shown(row.numpy, f"{row.numpy:,.1f}"),
                Shown(row.ratio, f"{row.ratio:.1f} x"),
            )
            for row in rows
        ],
    )
    return 0


@dataclass(frozen=True, slots=True)
class _Contest:
    """One kind of work for both, and how many pieces of it a call of each does."""

    what: str
    unit: str
    ours: Callable[[], object]
    pieces: int
    numpys: Callable[[], object]
    numpys_pieces: int


def _contests(rng: np.random.Generator, arms: int, *, threads: int) -> Iterator[_Contest]:
    alpha, beta = _posteriors(rng, arms)
    size = max(1, _DRAWS // arms)
    yield _Contest(
        f"Beta draw, {arms:,} arms",
        "ns",
        lambda: sample_beta(alpha, beta, size=size, threads=threads),
        size * arms,
        lambda: rng.beta(alpha, beta, size=(size, arms)),
        size * arms,
    )
    yield _Contest(
        f"top-{_K} of {arms:,} arms, drawn directly",
        "us",
        lambda: thompson_topk(alpha, beta, _K, size=size, threads=threads),
        size,
        lambda: _numpy_topk(rng, alpha, beta, size),
        size,
    )
    yield _Contest(
        f"top-{_K} of {arms:,} arms, one at a time",
        "us",
        lambda: _repeat(lambda: thompson_topk(alpha, beta, _K, threads=threads)),
        _SINGLES,
        lambda: _repeat(lambda: _numpy_topk(rng, alpha, beta, 1)),
        _SINGLES,
    )
    sampler = ThompsonSampler(alpha, beta)
    yield _Contest(
        f"top-{_K} of {arms:,} arms, ThompsonSampler",
        "us",
        lambda: sampler.topk(_K, size=_DECISIONS, threads=threads),
        _DECISIONS,
        lambda: _numpy_topk(rng, alpha, beta, size),
        size,
    )


def _repeat(call: Callable[[], object]) -> None:
    for _ in range(_SINGLES):
        call()


def _posteriors(
    rng: np.random.Generator, arms: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return posteriors shaped like click data, under a Beta(1, 30) prior."""
    rates: NDArray[np.float64] = rng.beta(2, 60, size=arms)
    trials = np.ceil(rng.lognormal(6, 2, size=arms))
    successes = rng.binomial(trials.astype(np.int64), rates)
    alpha = np.asarray(1.0 + successes, dtype=np.float64)
    return alpha, np.asarray(30.0 + trials - successes, dtype=np.float64)


def _numpy_topk(
    rng: np.random.Generator, alpha: NDArray[np.float64], beta: NDArray[np.float64], size: int
) -> NDArray[np.intp]:
    """Return (size, k) best arms by drawing all and sorting the best k."""
    draws = rng.beta(alpha, beta, size=(size, len(alpha)))
    best = np.argpartition(draws, -_K, axis=1)[:, -_K:]
    order = np.argsort(-np.take_along_axis(draws, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


@dataclass(frozen=True, slots=True)
class _Row:
    """Best times of one contest, in `unit`; `ratio` is numpy's over ours."""

    what: str
    unit: str
    banditcore: float
    numpy: float
    ratio: float


def _time(contest: _Contest, repeats: int) -> _Row:
    best_of_ours = best_of_numpys = float("inf")
    for _ in range(repeats):  # in turn, so that both see the same noise
        best_of_ours = min(best_of_ours, _seconds(contest.ours))
        best_of_numpys = min(best_of_numpys, _seconds(contest.numpys))
    in_a_second = _UNITS[contest.unit]
    ours = best_of_ours * in_a_second / contest.pieces
    numpys = best_of_numpys * in_a_second / contest.numpys_pieces
    return _Row(contest.what, contest.unit, ours, numpys, numpys / ours)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
