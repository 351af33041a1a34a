"""Prints how far millions of decisions are from exact probabilities, for many kinds of posterior.

Each row is one posterior and one way to draw it; chi-square of the winner's frequencies, and of the
rank whose p-value is the least, against the quadrature of `rank_probabilities`. A right sampler
gives chi-square / df near 1, and over the whole table, of some 200 tests, a p-value below 1e-9
with probability 2e-7. Fails if one is.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from sampling import exactness  # shared with the tests
from sampling.race_shapes import SHAPES, clicks

LEAST_P = 1e-9
HEAD = ("posterior", "drawn by", "decisions", "k", "chi2", "df", "chi2/df", "p", "worst rank", "p")


def posteriors() -> dict[str, tuple[object, object, object, list[int] | None]]:
    """Return alpha, beta, weight and exclusions by name."""
    shapes = {name: (*shape, None) for name, shape in SHAPES.items()}
    a, b = clicks(120, seed=2)
    best = np.argsort(-a / (a + b))[:20].tolist()
    weight = np.random.default_rng(3).lognormal(0, 0.5, 120)
    shapes["click data, the 20 best excluded"] = (a, b, None, best)
    shapes["weights, the 20 best excluded"] = (a, b, weight, best)
    return shapes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--decisions", type=float, default=2e7, help="of the race (default: 2e7)")
    parser.add_argument("--direct", type=float, default=2e6, help="drawn directly (default: 2e6)")
    parser.add_argument("--only", default="", help="posteriors with this in their name")
    arguments = parser.parse_args()
    threads = os.cpu_count() or 1
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
    began, least = time.monotonic(), 1.0
    for name, (a, b, weight, exclude) in posteriors().items():
        n = len(a)
        if arguments.only not in name or n == 1:  # with one arm there is nothing to test
            continue
        k = min(10, n - 1)
        chances = exactness.exact_chances(a, b, weight, k, exclude)
        for drawn_by, way, decisions in (
            ("ThompsonSampler", exactness.race, int(arguments.decisions)),
            ("thompson_topk", exactness.direct, int(arguments.direct)),
        ):
            draw = way(a, b, weight, k, seed=20_26, threads=threads, exclude=exclude)
            found = exactness.judge(exactness.rank_counts(draw, n, k, decisions), chances)
            first = found.winner
            cells = (
                *(name, drawn_by, f"{decisions:,}", k, f"{first.statistic:.1f}", first.freedom),
                f"{first.statistic / first.freedom:.2f}" if first.freedom else "-",
                *(f"{first.p:.2g}", found.worst, f"{found.least_p:.2g}"),
            )
            print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
            least = min(least, found.least_p)
    print(f"\nleast p {least:.2g}; {time.monotonic() - began:.0f} s", flush=True)
    if least < LEAST_P:
        sys.exit("a p-value below 1e-9: these draws do not have their law")


if __name__ == "__main__":
    main()
