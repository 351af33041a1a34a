"""``banditcore bench``: this machine's speed, as ratios to numpy within one run."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from banditcore.cli.arguments import positive
from banditcore.cli.output import Output
from banditcore.sampling import active_kernel, sample_beta, thompson_topk

HELP = "compare sampling with numpy on this machine"

_K = 10
_ARMS = (100, 1_000, 10_000)
_DRAWS = 2_000_000  # arms x rows of one timed call


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="the best of so many counts"
    )
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the command."""
    rng = np.random.default_rng(arguments.seed)
    rows = []
    total = 2 * len(_ARMS)
    with output.progress("bench") as advance:
        for number, arms in enumerate(_ARMS):
            alpha, beta = _posteriors(rng, arms)
            size = max(1, _DRAWS // arms)
            threads = arguments.threads
            advance(2 * number, total, f"{arms} arms")
            rows.append(
                _row(
                    f"Beta draw, {arms:,} arms",
                    "ns",
                    1e9 / (size * arms),
                    lambda a=alpha, b=beta, m=size: sample_beta(a, b, size=m, threads=threads),
                    lambda a=alpha, b=beta, m=size: rng.beta(a, b, size=(m, len(a))),
                    arguments.repeats,
                )
            )
            advance(2 * number + 1, total, f"{arms} arms")
            rows.append(
                _row(
                    f"top-{_K} decision, {arms:,} arms",
                    "us",
                    1e6 / size,
                    lambda a=alpha, b=beta, m=size: thompson_topk(
                        a, b, _K, size=m, threads=threads
                    ),
                    lambda a=alpha, b=beta, m=size: _numpy_topk(rng, a, b, m),
                    arguments.repeats,
                )
            )
    machine = {
        "kernel": active_kernel(),
        "threads": arguments.threads,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    output.document({"machine": machine, "rows": rows})
    output.table(
        f"kernel {machine['kernel']}, {arguments.threads} thread(s); numpy {np.__version__}, one",
        ["what", "unit", "banditcore", "numpy", "times faster"],
        [tuple(row.values()) for row in rows],
    )
    return 0


def _posteriors(
    rng: np.random.Generator, arms: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return posteriors shaped like click data, under a Beta(1, 30) prior."""
    rates = rng.beta(2, 60, size=arms)
    trials = np.ceil(rng.lognormal(6, 2, size=arms))
    successes = rng.binomial(trials.astype(np.int64), rates)
    return 1.0 + successes, 30.0 + trials - successes


def _numpy_topk(
    rng: np.random.Generator, alpha: NDArray[np.float64], beta: NDArray[np.float64], size: int
) -> NDArray[np.intp]:
    """Return (size, k) best arms by drawing all and sorting the best k."""
    draws = rng.beta(alpha, beta, size=(size, len(alpha)))
    best = np.argpartition(draws, -_K, axis=1)[:, -_K:]
    order = np.argsort(-np.take_along_axis(draws, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def _row(
    what: str,
    unit: str,
    scale: float,
    ours: Callable[[], object],
    numpys: Callable[[], object],
    repeats: int,
) -> dict[str, object]:
    best = {"ours": float("inf"), "numpy": float("inf")}
    for _ in range(repeats):  # in turn, so that both see the same noise
        for name, call in (("ours", ours), ("numpy", numpys)):
            began = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - began)
    return {
        "what": what,
        "unit": unit,
        "banditcore": best["ours"] * scale,
        "numpy": best["numpy"] * scale,
        "ratio": best["numpy"] / best["ours"],
    }
