"""Writes docs/benchmarks.md from a file that `banditcore bench --out` wrote: numbers cannot drift.

scripts/measuring/benchmark_tables.py benchmarks/results/NAME.json > docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

HEAD = """\
# Benchmarks

Written by `scripts/measuring/benchmark_tables.py` from
[{name}](../benchmarks/results/{name}): do not edit.
`make results` measures again and writes both; `banditcore bench` shows the same on a terminal.

* Methods of a task are timed in turn, {rounds} rounds. A **time** is the median; **ratio** is the reference's time over
  the method's within a round, the median and in brackets the least and the greatest: above 1 is faster than the
  reference, whose ratio is 1. Trust ratios more than times: machines drift.
* **Error** shows a method that is fast and wrong. In *se* it is the root mean square deviation of frequencies (of being
  first, of being among the k; for single draws, of 200 equally probable bins) from the exact law, in standard errors:
  about 1 is what chance gives, whatever the number of decisions, which stands behind it; where there are few cells it
  scatters widely about 1. In *abs* it is the greatest absolute error. Rates and impressions are shaped like click data
  (`banditcore.benchmarking.workloads`).
* Exact laws are those of `top_probabilities`, except for that function's own row (draws of the direct kernel) and that
  of `rank_probabilities` (the trapezoidal rule over scipy's distribution functions).
* One thread, unless a row says more. Rows that banditcore loses are **bold**.
* Peers that learn one event at a time are handed their posterior. The package of obp cannot be installed beside
  numpy 2: its algorithm is written out in `banditcore.benchmarking.peers`. The extra `bench` installs MABWiser and
  River; `mkl_random` is measured where it is installed, but no extra of ours asks for it, because it brings MKL.

{machine}
"""

OURS = (
    "sample_beta",
    "thompson_topk",
    "ThompsonSampler",
    "quantile",
    "rank_probabilities",
    "top_probabilities",
    "draw_bank",
)


def number(value: float) -> str:
    """Return three digits, without an exponent where people would not use one."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def cells(row: dict[str, Any], *, pairs: bool) -> list[str]:
    """Return the cells of one row."""
    if row["time"] is None:
        return [row["method"], row["note"], "", *([""] if pairs else []), "", ""]
    span = ""
    if row["ratio_low"] != row["ratio_high"]:
        span = f" ({number(row['ratio_low'])} to {number(row['ratio_high'])})"
    error = ""
    if row["error"] is not None:
        of = f" of {row['error_of']:,}" if row["error_of"] is not None else ""
        error = f"{row['error']:.2g} {row['error_unit']}{of}"
    ratio = f"{number(row['ratio'])}{span}"
    if row["method"].startswith(OURS) and row["ratio"] < 1:
        ratio = f"**{ratio}**"
    answer = [row["method"], f"{number(row['time'])} {row['unit']}", ratio]
    if pairs:
        answer.append(f"{row['pairs_per_second'] / 1e6:.3g} million")
    return [*answer, error, row["note"]]


def line(parts: list[str]) -> str:
    """Return one line of a table."""
    return "| " + " | ".join(parts) + " |"


def main() -> None:
    """Write the page; the argument is the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("results", type=Path, help="what `banditcore bench --out` wrote")
    path = parser.parse_args().results
    document = json.loads(path.read_text("utf-8"))
    machine = document["machine"]
    packages = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in machine["packages"].items()
    )
    described = (
        f"Measured on {machine['date']}: {machine['cpu']}, {machine['cpus']} CPUs, "
        f"{machine['system']}, kernel `{machine['kernel']}`, Python {machine['python']}; {packages}."
    )
    page = [HEAD.format(name=path.name, rounds=document["options"]["rounds"], machine=described)]
    for task, group in groupby(document["rows"], key=lambda row: row["task"]):
        rows = list(group)
        pairs = any(row["pairs_per_second"] is not None for row in rows)
        head = ["method", "time", "ratio", *(["pairs a second"] if pairs else []), "error", ""]
        page.append(f"\n## {task[0].upper()}{task[1:]}\n")
        page.extend([line(head), line(["---"] * len(head))])
        page.extend(line(cells(row, pairs=pairs)) for row in rows)
    sys.stdout.write("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
